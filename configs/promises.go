package configs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// promises runs tests: against the rules. A broken one is an error that names
// the rule which decided.
func (k *checker) promises() {
	if at := k.unknownRule(); at != "" {
		if len(k.Tests) > 0 {
			k.say(Note, "tests", "tests", "not run: "+at+" is not known here", "")
		}
		return
	}
	policy, err := auth.NewPolicy(k.PolicyRules())
	if err != nil {
		k.bad("rules", err.Error(), "")
		return
	}
	fixed := k.UserGroups()
	for i, t := range k.Tests {
		at := fmt.Sprintf("tests[%d]", i)
		if k.absentBelow(at) {
			continue
		}
		caller := t.caller(k.fold(t.As), fixed)
		if robot, ok := k.Auth.Robots.Identity(caller.Name); ok {
			caller.Identity = robot
		}
		action, want := t.May, true
		if t.MayNot != 0 {
			action, want = t.MayNot, false
		}
		access := k.Access(t.Repository, action)
		if want && !k.holds(t.Repository) {
			k.bad(at+".repository", fmt.Sprintf("no upstream holds %s: nobody may %s it", t.Repository, action), k.fixPlace())
			continue
		}
		d := policy.Decide(&caller, []auth.Access{access})
		if d.Allowed() == want {
			if d.WouldDeny != "" { // a promise is about what holds now
				k.maybe(at, "this promise would be broken: "+d.WouldDeny, "change the rule before it is more than a dry run, or this promise")
			}
			continue
		}
		verb, by := "may", "by "+d.Rule
		if !d.Allowed() {
			verb = "may not"
		}
		if d.Rule == "" {
			by = "as no rule allows it"
		}
		fix := "change the rule, or this promise"
		if d.WouldDeny != "" {
			fix = d.WouldDeny + ": take dry_run out there, or change this promise"
			if d.WouldDenyRule == d.Rule {
				fix = d.WouldDeny + ": leave that one out, or change this promise"
			}
		}
		k.bad(at, fmt.Sprintf("%s %s %s %s, %s", caller, verb, action, t.Repository, by), fix)
	}
}

// unknownRule is the first rule that rests on an unset variable, with Static.
func (k *checker) unknownRule() string {
	for i := range k.Rules {
		if at := fmt.Sprintf("rules[%d]", i); k.absentBelow(at) {
			return at
		}
	}
	return ""
}

// forgetUnknown drops the rules that rest on unset variables, so that what is
// left can be compiled.
func (k *checker) forgetUnknown() {
	var known []Rule
	for i, r := range k.Rules {
		if !k.absentBelow(fmt.Sprintf("rules[%d]", i)) {
			known = append(known, r)
		}
	}
	k.Rules = known
}

// caller is whom the test speaks of: with the groups of `groups:` and its own.
func (t Test) caller(name string, fixed map[string][]string) auth.Caller {
	c := auth.Caller{Addr: t.From}
	if t.As == "anonymous" {
		return c
	}
	c.Name = name
	c.Groups = append(slices.Clone(fixed[name]), t.Groups...)
	slices.Sort(c.Groups)
	c.Groups = slices.Compact(c.Groups)
	return c
}

// may says whether anybody whom subject means is allowed action on some of the
// repositories of pattern; deny rules are left out of the account.
func (c *Config) may(subject auth.Subject, pattern auth.Pattern, action auth.Action) bool {
	_, bare := c.unhosted(pattern) // a rule without a hostname is about all of them
	for _, r := range c.Rules {
		if r.Allow.Has(action) && slices.ContainsFunc(r.Subjects, func(s auth.Subject) bool { return c.meet(s, subject) }) &&
			slices.ContainsFunc(r.Repositories, func(p auth.Pattern) bool { return overlap(p, pattern) || overlap(p, bare) }) {
			return true
		}
	}
	return false
}

// meet reports whether one caller can be both.
func (c *Config) meet(a, b auth.Subject) bool {
	switch {
	case a.Covers(b), b.Covers(a):
		return true
	case a.Kind() == "user" && b.Kind() == "group":
		return c.member(a.Name(), b.Name())
	case a.Kind() == "group" && b.Kind() == "user":
		return c.member(b.Name(), a.Name())
	case a.Kind() == "group" && b.Kind() == "group":
		return slices.ContainsFunc(c.Groups[a.Name()], func(user string) bool { return c.member(user, b.Name()) })
	}
	return false
}

func (c *Config) member(user, group string) bool {
	return slices.ContainsFunc(c.Groups[group], func(u string) bool { return c.fold(u) == c.fold(user) })
}

// overlap reports whether some repository may match both patterns; {user} and
// {group} stand for any part.
func overlap(p, q auth.Pattern) bool {
	return !apart(p, q) && overlapParts(partsOf(p), partsOf(q))
}

// apart reports, at little cost, that two patterns begin with different names:
// with thousands of rules, nearly all pairs do.
func apart(p, q auth.Pattern) bool {
	a, _, _ := strings.Cut(p.String(), "/")
	b, _, _ := strings.Cut(q.String(), "/")
	return a != b && !strings.ContainsAny(a, "*{") && !strings.ContainsAny(b, "*{")
}

// partsOf are the parts of a pattern; a "**" at the end wants at least one.
func partsOf(p auth.Pattern) []string {
	parts := strings.Split(p.String(), "/")
	if last := len(parts) - 1; parts[last] == "**" {
		return append(parts[:last], "*", "**")
	}
	return parts
}

func overlapParts(p, q []string) bool {
	// last[j]: whether p[i+1:] and q[j:] overlap; from the ends backwards.
	last := make([]bool, len(q)+1)
	for i := len(p); i >= 0; i-- {
		row := make([]bool, len(q)+1)
		for j := len(q); j >= 0; j-- {
			switch {
			case i == len(p) && j == len(q):
				row[j] = true
			case i < len(p) && p[i] == "**":
				row[j] = last[j] || j < len(q) && row[j+1]
			case j < len(q) && q[j] == "**":
				row[j] = row[j+1] || i < len(p) && last[j]
			case i < len(p) && j < len(q):
				row[j] = last[j+1] && overlapPart(p[i], q[j])
			}
		}
		last = row
	}
	return last[0]
}

func overlapPart(a, b string) bool {
	wild := func(s string) bool { return strings.ContainsAny(s, "*{") }
	switch {
	case a == b, a == "*", b == "*", strings.HasPrefix(a, "{"), strings.HasPrefix(b, "{"):
		return true
	case wild(a) && wild(b):
		return true // app-* and *-test: some name fits both, near enough
	case wild(a):
		return globPart(a, b)
	case wild(b):
		return globPart(b, a)
	}
	return false
}

// globPart matches one part against a pattern with "*" in it.
func globPart(pattern, s string) bool {
	pieces := strings.Split(pattern, "*")
	if !strings.HasPrefix(s, pieces[0]) {
		return false
	}
	s = s[len(pieces[0]):]
	for _, piece := range pieces[1 : len(pieces)-1] {
		_, after, found := strings.Cut(s, piece)
		if !found {
			return false
		}
		s = after
	}
	return strings.HasSuffix(s, pieces[len(pieces)-1])
}
