package configs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// warnTags is about what tags and immutable do not do.
func (k *checker) warnTags(i int, at string, r Rule) {
	if len(r.Tags) > 0 {
		k.warnNoSecret(i, at, r)
	}
	if !r.Immutable {
		return
	}
	if r.Allow.Has(auth.Delete) && !r.DryRun {
		k.maybe(at+".allow", "delete is never allowed by this rule: what is immutable cannot be deleted, nor by its digest", "leave delete out")
	}
	if len(r.Tags) == 0 || slices.ContainsFunc(r.Tags, func(p auth.TagPattern) bool { return p.Matches(fallbackTag) }) {
		k.maybe(at+".immutable", "keeps tags like sha256-2c26... too, in which clients list signatures where the registry has no referrers API: the second one for an image is refused", `name the tags that are to stay: tags: "v*"`)
	}
	if by := k.noPush(i, r); by != "" {
		k.maybe(at+".immutable", "nobody can push what this keeps from being moved: "+by+" denies it", "leave one of the two out")
	}
	if r.DryRun {
		k.maybe(at+".immutable", "keeps nothing yet: of a dry run it is only told what would be refused", "take dry_run out once the log has no would_deny that is not meant")
	}
}

// fallbackTag is one that clients move to add to what is said of an image.
const fallbackTag = "sha256-2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"

// warnNoSecret: a digest names what a tag does, and rules do not see which. It
// is said once of pulls and once of deletions.
func (k *checker) warnNoSecret(i int, at string, r Rule) {
	first := func(like func(Rule) bool) bool {
		return like(r) && !slices.ContainsFunc(k.Rules[:i], func(o Rule) bool { return len(o.Tags) > 0 && like(o) })
	}
	if first(func(o Rule) bool { return (o.Allow | o.Deny).Has(auth.Pull) && !(o.Allow | o.Deny).Has(auth.Push) }) {
		k.maybe(at+".tags", "tags keep no secret: who may pull here pulls any image by its digest, whatever its tag", "give what is secret a repository of its own, unless this is only meant to guide")
	}
	if first(func(o Rule) bool { return o.Allow.Has(auth.Delete) && !o.Immutable && !k.digestsStay(o) }) {
		k.maybe(at+".tags", "what is deleted by its digest has no tag: this rule lets any image be deleted so, with all tags that name it", "add a deny of delete for the tags to be kept: then nothing is deleted by digest")
	}
}

// digestsStay reports whether nothing that r is about can be deleted by digest.
func (k *checker) digestsStay(r Rule) bool {
	for _, s := range r.Subjects {
		for _, p := range r.Repositories {
			if !slices.ContainsFunc(k.Rules, func(o Rule) bool {
				return (o.Immutable || o.Deny.Has(auth.Delete)) && !o.DryRun && (len(o.From) == 0 || slices.Equal(o.From, r.From)) &&
					covers(o.Subjects, s) && k.contains(o.Repositories, p)
			}) {
				return false
			}
		}
	}
	return true
}

// noPush names the rule that denies each push an immutable rule is about, ""
// if there is none.
func (k *checker) noPush(i int, r Rule) (by string) {
	for _, s := range r.Subjects {
		for _, p := range r.Repositories {
			j := slices.IndexFunc(k.Rules, func(o Rule) bool {
				return o.Deny.Has(auth.Push) && !o.DryRun && auth.TagsCover(o.Tags, r.Tags) &&
					(len(o.From) == 0 || slices.Equal(o.From, r.From)) && covers(o.Subjects, s) && k.contains(o.Repositories, p)
			})
			if j < 0 {
				return ""
			}
			if by == "" {
				by = k.Rules[j].Where
			}
		}
	}
	return by
}

// tagsSettle reports whether o speaks of a wherever r would, as far as tags go:
// an allow covers what names none too, a deny does not, but of delete. What
// makes tags immutable is more than an allow.
func tagsSettle(o, r Rule, a auth.Action) bool {
	switch {
	case r.Immutable && !o.Immutable:
		return false
	case o.Deny != 0 && r.Deny == 0 && len(o.Tags) > 0 && a != auth.Delete:
		return false
	}
	return auth.TagsCover(o.Tags, r.Tags)
}

// tagged is a pattern with the tags of its rule behind: "team/** (tags v*)".
func tagged(p auth.Pattern, tags []auth.TagPattern) string {
	if len(tags) == 0 {
		return p.String()
	}
	return fmt.Sprintf("%s (tags %s)", p, strings.Join(texts(tags), ", "))
}
