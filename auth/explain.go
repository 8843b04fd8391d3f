package auth

import (
	"fmt"
	"net/netip"
	"slices"
)

// Step is one rule looked at by Explain.
type Step struct {
	Rule    string // its Where
	Text    string // the rule in words
	Applies bool
	Why     string // why it does, or does not, apply
}

// Explain is Decide keeping why each rule did or did not apply: one step for
// each rule, in file order, about the want that settled it (Decision.Access).
// It walks the rules one by one and so checks the index that Decide uses.
func (p *Policy) Explain(c *Caller, wants []Access) (Decision, []Step) {
	if len(wants) == 0 {
		return Decision{Verdict: Allowed}, nil
	}
	var d Decision
	var steps, first []Step // first: of the first want that would be denied
	var would, rule string
	for i := range wants {
		if d, steps = p.explain(c, &wants[i]); d.Verdict != Allowed {
			return d, steps
		}
		if would == "" && d.WouldDeny != "" {
			would, rule, first = d.WouldDeny, d.WouldDenyRule, steps
		}
	}
	d.WouldDeny, d.WouldDenyRule = would, rule
	capped := capAt(c, wants, d)
	switch {
	case capped.Access != d.Access:
		_, steps = p.explain(c, &capped.Access)
	case capped.Allowed() && first != nil:
		steps = first
	}
	return capped, steps
}

// settled are the first rules that apply, of each kind; -1 for none.
type settled struct{ deny, allow, dryDeny, dryAllow int }

func (s *settled) note(i int, r *Rule) {
	kind := &s.allow
	switch {
	case r.DryRun && r.Deny != 0:
		kind = &s.dryDeny
	case r.DryRun:
		kind = &s.dryAllow
	case r.Deny != 0:
		kind = &s.deny
	}
	if *kind < 0 {
		*kind = i
	}
}

func (p *Policy) explain(c *Caller, want *Access) (Decision, []Step) {
	if want.Action == List {
		return Decision{Verdict: Allowed, Access: *want}, nil
	}
	steps := make([]Step, len(p.rules))
	patterns, subjects := make([]Pattern, len(p.rules)), make([]Subject, len(p.rules))
	by := settled{-1, -1, -1, -1}
	for i := range p.rules {
		r := &p.rules[i]
		pattern, subject, why := r.applies(c, want)
		steps[i] = Step{Rule: r.Where, Text: r.String(), Applies: pattern != Pattern{}, Why: why}
		if steps[i].Applies {
			patterns[i], subjects[i] = pattern, subject
			by.note(i, r)
		}
	}
	decided := by.deny
	if decided < 0 {
		decided = by.allow
	}
	if decided < 0 {
		decided = by.dryAllow
	}
	if decided < 0 {
		return p.unallowed(c, want), steps
	}
	d := Decision{Verdict: Allowed, Access: *want, Rule: p.rules[decided].Where, pattern: patterns[decided], subject: subjects[decided]}
	switch {
	case by.deny >= 0:
		d.Verdict = Denied
	case by.dryDeny >= 0:
		d.wouldDeny(&p.rules[by.dryDeny], patterns[by.dryDeny], subjects[by.dryDeny])
	case by.allow < 0:
		d.wouldMiss(&p.rules[by.dryAllow], c)
	}
	for i := range steps {
		if steps[i].Applies {
			steps[i].Why += p.but(&p.rules[i], by)
		}
	}
	return d, steps
}

// but says what keeps a rule that applies from having its way.
func (p *Policy) but(r *Rule, by settled) string {
	switch {
	case r.Deny != 0 && r.DryRun:
		return ", but it is a dry run and denies nothing yet"
	case r.Deny == 0 && by.deny >= 0:
		return ", but " + p.rules[by.deny].Where + " denies it"
	case r.DryRun && by.allow >= 0:
		return ", a dry run; without it " + p.rules[by.allow].Where + " allows the same"
	case r.DryRun:
		return ", a dry run: it allows until it is gone"
	}
	return ""
}

// applies says which pattern and subject of the rule mean c and what it wants;
// no pattern if none, and then why not.
func (r *Rule) applies(c *Caller, want *Access) (Pattern, Subject, string) {
	if want.Action < Pull || want.Action > Delete || !ValidRepository(want.Repository) {
		return Pattern{}, Subject{}, fmt.Sprintf("%s is no repository name", shorten(want.Repository))
	}
	pattern, ok := r.pattern(want, &c.Identity)
	if !ok {
		return Pattern{}, Subject{}, fmt.Sprintf("%s is not in %s", want.Repository, join(r.Repositories, Pattern.String))
	}
	subject, ok := r.subject(c)
	if !ok {
		return Pattern{}, Subject{}, r.stranger(c)
	}
	if !r.actions().Has(want.Action) {
		return Pattern{}, Subject{}, fmt.Sprintf("it is about %v, not %v", r.actions(), want.Action)
	}
	if !r.fromHolds(c) {
		from := "an unknown address"
		if c.Addr.IsValid() {
			from = c.Addr.String()
		}
		return Pattern{}, Subject{}, fmt.Sprintf("%s is not in %s", from, join(r.From, netip.Prefix.String))
	}
	return pattern, subject, fmt.Sprintf("%s is in %s, for %s", want.Repository, pattern, subject.words())
}

// stranger says why the rule does not mean c.
func (r *Rule) stranger(c *Caller) string {
	if len(r.Subjects) == 1 && r.Subjects[0].kind == group && !c.Anonymous() && !c.robot() {
		return fmt.Sprintf("%s is not in group %s", Caller{Identity: Identity{Name: c.Name}}, r.Subjects[0].name)
	}
	return fmt.Sprintf("%s is not %s", c, join(r.Subjects, Subject.words))
}

// Patterns lists the repository patterns under which c may do a, with {user}
// and {group} filled in, in file order, each once, without those a deny covers
// whole. A deny within one of them is not told, nor what dry runs would deny.
func (p *Policy) Patterns(c *Caller, a Action) []string {
	if a < Pull || a > Delete {
		return nil
	}
	var denied []Pattern
	for i := range p.rules {
		if r := &p.rules[i]; r.Deny.Has(a) && !r.DryRun && r.means(c) {
			denied = append(denied, r.filled(c)...)
		}
	}
	var list []string
	seen := map[Pattern]bool{}
	for i := range p.rules {
		r := &p.rules[i]
		if !r.Allow.Has(a) || !r.means(c) {
			continue
		}
		for _, q := range r.filled(c) {
			if seen[q] || slices.ContainsFunc(denied, func(d Pattern) bool { return d.Contains(q) }) {
				continue
			}
			seen[q] = true
			list = append(list, q.text)
		}
	}
	return list
}

// means reports whether the rule is about c, wherever.
func (r *Rule) means(c *Caller) bool {
	_, ok := r.subject(c)
	return ok && r.fromHolds(c)
}

func (r *Rule) filled(c *Caller) []Pattern {
	var all []Pattern
	for _, p := range r.Repositories {
		all = append(all, p.fill(&c.Identity)...)
	}
	return all
}
