package main

import (
	"fmt"
	"strings"

	"github.com/regward/regward/auth"
)

// checkTag looks at --tag, which goes with one repository.
func (q *question) checkTag() error {
	name := q.repository[strings.LastIndexByte(q.repository, '/')+1:]
	switch at := strings.IndexAny(name, ":@"); {
	case at > 0 && name[at] == ':':
		return usageError(fmt.Sprintf("explain: --repository %s is with a tag: write --repository %s --tag %s", q.repository, strings.TrimSuffix(q.repository, name[at:]), name[at+1:]))
	case at > 0:
		return usageError(fmt.Sprintf("explain: --repository %s is with a digest: write --repository %s", q.repository, strings.TrimSuffix(q.repository, name[at:])))
	case q.tag == "":
		return nil
	case q.repository == "":
		return usageError("explain: --tag goes with --repository")
	case strings.Contains(q.tag, ":"):
		return usageError(fmt.Sprintf("explain: --tag %q is a digest: leave it out, rules see no tag there", q.tag))
	case !auth.ValidTag(q.tag):
		return usageError(fmt.Sprintf("explain: --tag %q can be no tag: tags have letters, digits and . _ -", q.tag))
	}
	return nil
}

// kept says what an immutable rule does to a push that is allowed: "" where
// there is none. Whether the tag is there, only the registry knows.
func (x *explainer) kept(want auth.Access) string {
	if want.Action != auth.Push || want.Tag == "" {
		return ""
	}
	d, is := x.settings.Policy.Immutable(&x.caller, &want)
	switch {
	case !is:
		return ""
	case d.Allowed():
		return d.WouldDeny
	}
	return d.String() + ": once it is there, the same digest may be pushed to it, and no other"
}
