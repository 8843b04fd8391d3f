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
	var steps []Step
	for i := range wants {
		if d, steps = p.explain(c, &wants[i]); d.Verdict != Allowed {
			return d, steps
		}
	}
	capped := capAt(c, wants, d)
	if capped.Access != d.Access {
		_, steps = p.explain(c, &capped.Access)
	}
	return capped, steps
}

func (p *Policy) explain(c *Caller, want *Access) (Decision, []Step) {
	if want.Action == List {
		return Decision{Verdict: Allowed, Access: *want}, nil
	}
	who := *c
	d := Decision{Verdict: Denied, Access: *want, policy: p, caller: &who}
	steps := make([]Step, len(p.rules))
	settled, denied := -1, -1
	for i := range p.rules {
		r := &p.rules[i]
		pattern, subject, why := r.applies(c, want)
		steps[i] = Step{Rule: r.Where, Text: r.String(), Applies: pattern != Pattern{}, Why: why}
		if !steps[i].Applies {
			continue
		}
		if r.Deny != 0 && denied < 0 {
			denied, settled = i, i
			d = Decision{Verdict: Denied, Access: *want, Rule: r.Where, pattern: pattern, subject: subject}
		} else if settled < 0 {
			settled = i
			d = Decision{Verdict: Allowed, Access: *want, Rule: r.Where, pattern: pattern, subject: subject}
		}
	}
	if denied >= 0 {
		for i := range steps {
			if steps[i].Applies && p.rules[i].Deny == 0 {
				steps[i].Why += ", but " + p.rules[denied].Where + " denies it"
			}
		}
	}
	return d, steps
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
// whole. A deny within one of them is not told.
func (p *Policy) Patterns(c *Caller, a Action) []string {
	if a < Pull || a > Delete {
		return nil
	}
	var denied []Pattern
	for i := range p.rules {
		if r := &p.rules[i]; r.Deny.Has(a) && r.means(c) {
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
