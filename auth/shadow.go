package auth

import "net/netip"

// Shadow is a rule that can never decide, and the rules because of which.
type Shadow struct {
	Rule int   // its place among the rules
	By   []int // those that cover it, in file order; none if it can match nobody
	Deny bool  // they deny what it allows; else they say the same before it does
}

// Shadows lists the rules that can never decide: an allow all of which is
// denied, or a rule all of which an earlier one of its kind says already. A dry
// run can never tell anything where a rule in force says the same, wherever in
// the file; and it keeps no other from deciding but a later dry run. An immutable
// rule decides about more than what it allows: only another such one says the
// same. Only what is certain is reported, so `validate` may call each a mistake.
func (p *Policy) Shadows() []Shadow {
	var found []Shadow
	for i := range p.rules {
		r := &p.rules[i]
		if r.Given {
			continue // what a robot was given is its own, whatever else it may
		}
		if !r.possible() {
			found = append(found, Shadow{Rule: i})
			continue
		}
		if r.Allow != 0 && !r.Immutable {
			if by, ok := p.covered(i, &p.deny, len(p.rules)); ok {
				found = append(found, Shadow{Rule: i, By: by, Deny: true})
				continue
			}
		}
		for _, same := range p.sameKind(i) {
			if by, ok := p.covered(i, same.rules, same.end); ok {
				found = append(found, Shadow{Rule: i, By: by})
				break
			}
		}
	}
	return found
}

// before is the rules of an index that stand before the place end.
type before struct {
	rules *index
	end   int
}

// sameKind are the rules that speak before rule i on the same side.
func (p *Policy) sameKind(i int) []before {
	firm := &p.allow
	if p.rules[i].Deny != 0 {
		firm = &p.deny
	}
	if !p.rules[i].DryRun {
		return []before{{firm, i}}
	}
	tried := &p.dry.allow
	if p.rules[i].Deny != 0 {
		tried = &p.dry.deny
	}
	return []before{{firm, len(p.rules)}, {tried, i}}
}

// possible is false for rules about nobody with a name that want one put in.
func (r *Rule) possible() bool {
	named := false
	for _, s := range r.Subjects {
		named = named || s.named()
	}
	for _, p := range r.Repositories {
		if named || !p.placeholders() {
			return true
		}
	}
	return false
}

// covered reports that each subject, repository and action of rule i is covered
// whole by one rule in x before the place end.
func (p *Policy) covered(i int, x *index, end int) (by []int, ok bool) {
	r := &p.rules[i]
	used := map[int]bool{}
	for _, q := range r.Repositories {
		for _, s := range r.Subjects {
			for a := Pull; a <= Delete; a++ {
				if !r.actions().Has(a) {
					continue
				}
				at := x.covers(r, q, s, a, end)
				if at < 0 {
					return nil, false
				}
				used[at] = true
			}
		}
	}
	for at := range p.rules {
		if used[at] {
			by = append(by, at)
		}
	}
	return by, true
}

// covers is the place of the first rule before end that covers all of it, or -1.
func (x *index) covers(r *Rule, q Pattern, s Subject, a Action, end int) int {
	best := -1
	// What holds all of q begins as q does, with fewer parts or as many.
	x.along(q.literal(), func(b *bucket) {
		for _, e := range b.all {
			if e.at >= end || best >= 0 && e.at >= best {
				return
			}
			if e.rule != r && !e.rule.Given && e.rule.actions().Has(a) && (!r.Immutable || e.rule.Immutable) && e.rule.tagsCover(r, a) && e.rule.fromCovers(r.From) && e.rule.subjectsCover(s) && e.pattern.Contains(q) {
				best = e.at
				return
			}
		}
	})
	return best
}

func (r *Rule) subjectsCover(s Subject) bool {
	for _, mine := range r.Subjects {
		if mine.Covers(s) {
			return true
		}
	}
	return false
}

// fromCovers reports whether the rule applies wherever one with these networks does.
func (r *Rule) fromCovers(from []netip.Prefix) bool {
	if len(r.From) == 0 {
		return true
	}
	for _, inner := range from {
		held := false
		for _, outer := range r.From {
			held = held || outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
		}
		if !held {
			return false
		}
	}
	return len(from) > 0
}
