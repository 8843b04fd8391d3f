package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Step is one rule looked at by Explain.
type Step struct {
	Rule    string // its Where
	Text    string // the rule in words
	Applies bool
	Why     string // why it does, or does not, apply
}

// Explain is Decide keeping why each rule did or did not apply: one step for
// each rule but those given to other robots, in file order, about the want that
// settled it (Decision.Access). It walks the rules one by one and so checks the index that Decide uses.
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
type settled struct{ deny, keep, allow, dryDeny, dryKeep, dryAllow int }

// note takes rule i down. keeps is that it makes what is to be deleted
// immutable; then it may allow the deletion all the same.
func (s *settled) note(i int, r *Rule, keeps bool, a Action) {
	switch {
	case keeps && !r.DryRun && s.keep < 0:
		s.keep = i
	case keeps && r.DryRun && s.dryKeep < 0:
		s.dryKeep = i
	}
	if keeps && !r.Allow.Has(a) {
		return
	}
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
	by := settled{-1, -1, -1, -1, -1, -1}
	for i := range p.rules {
		r := &p.rules[i]
		pattern, subject, why := r.applies(c, want)
		keeps := false
		if r.Immutable && want.Action == Delete {
			if q, s, whom := r.keeps(c, want); q != (Pattern{}) {
				pattern, subject, why, keeps = q, s, whom, true
			}
		}
		steps[i] = Step{Rule: r.Where, Text: r.String(), Applies: pattern != Pattern{}, Why: why}
		if steps[i].Applies {
			patterns[i], subjects[i] = pattern, subject
			by.note(i, r, keeps, want.Action)
		}
	}
	if by.allow < 0 && by.dryAllow < 0 { // what nothing allows is denied without it
		by.keep, by.dryKeep = -1, -1
	}
	decided := by.deny
	if decided < 0 {
		decided = by.keep
	}
	if decided < 0 {
		decided = by.allow
	}
	if decided < 0 {
		decided = by.dryAllow
	}
	if decided < 0 {
		return p.unallowed(c, want), p.ofInterest(c, steps)
	}
	d := Decision{Verdict: Allowed, Access: *want, Rule: p.rules[decided].Where, pattern: patterns[decided], subject: subjects[decided], by: &p.rules[decided]}
	switch {
	case by.deny >= 0:
		d.Verdict = Denied
	case by.keep >= 0:
		d = kept(want, &p.rules[decided], patterns[decided], subjects[decided])
	case by.dryDeny >= 0:
		d.wouldDeny(&p.rules[by.dryDeny], patterns[by.dryDeny], subjects[by.dryDeny])
	case by.dryKeep >= 0:
		d.wouldKeep(&p.rules[by.dryKeep], subjects[by.dryKeep])
	case by.allow < 0:
		d.wouldMiss(&p.rules[by.dryAllow], c)
	}
	for i := range steps {
		if steps[i].Applies {
			steps[i].Why += p.but(&p.rules[i], by, p.rules[i].Immutable && want.Action == Delete)
		}
	}
	return d, p.ofInterest(c, steps)
}

// ofInterest leaves out what other robots were given: thousands may be.
func (p *Policy) ofInterest(c *Caller, steps []Step) []Step {
	some := steps[:0]
	for i := range steps {
		if p.rules[i].concerns(c) {
			some = append(some, steps[i])
		}
	}
	return some
}

// concerns reports whether the rule may be told to c.
func (r *Rule) concerns(c *Caller) bool { return !r.Given || r.Subjects[0].Matches(c) }

// but says what keeps a rule that applies from having its way; keeps is that it
// makes immutable what is to be deleted.
func (p *Policy) but(r *Rule, by settled, keeps bool) string {
	switch {
	case r.Deny != 0 && r.DryRun:
		return ", but it is a dry run and denies nothing yet"
	case r.Deny == 0 && by.deny >= 0:
		return ", but " + p.rules[by.deny].Where + " denies it"
	case by.keep >= 0 && !r.Immutable:
		return ", but " + p.rules[by.keep].Where + " makes its tags immutable"
	case keeps && r.DryRun:
		return ", but it is a dry run and keeps nothing yet"
	case keeps:
		return ""
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
	if !r.tagHolds(want) {
		if want.Tag == "" {
			return Pattern{}, Subject{}, fmt.Sprintf("it is about tags %s, and this names none", join(r.Tags, TagPattern.String))
		}
		return Pattern{}, Subject{}, fmt.Sprintf("tag %s is not in %s", want.Tag, join(r.Tags, TagPattern.String))
	}
	tag := ""
	switch {
	case len(r.Tags) == 0:
	case want.Tag == "":
		tag = " and names no tag"
	default:
		tag = fmt.Sprintf(" and tag %s in %s", want.Tag, join(r.Tags, TagPattern.String))
	}
	return pattern, subject, fmt.Sprintf("%s is in %s%s, for %s", want.Repository, pattern, tag, subject.words())
}

// keeps says which pattern and subject of an immutable rule mean what c wants
// to delete.
func (r *Rule) keeps(c *Caller, want *Access) (Pattern, Subject, string) {
	push := *want
	push.Action = Push
	p, s, why := r.applies(c, &push)
	if want.Tag == "" {
		return p, s, why + ": its tags are immutable, and a digest may be one of theirs"
	}
	return p, s, why + ": its tags are immutable, and cannot be deleted"
}

// stranger says why the rule does not mean c.
func (r *Rule) stranger(c *Caller) string {
	if len(r.Subjects) == 1 && r.Subjects[0].kind == group && !c.Anonymous() && !c.robot() {
		return fmt.Sprintf("%s is not in group %s", Caller{Identity: Identity{Name: c.Name}}, r.Subjects[0].name)
	}
	if c.robot() && slices.Contains(r.Subjects, Subject{user, c.Name}) {
		return fmt.Sprintf("%s is a robot, and no user: token:%s means it", c, strings.TrimPrefix(c.Name, RobotPrefix))
	}
	return fmt.Sprintf("%s is not %s", c, join(r.Subjects, Subject.words))
}

// Patterns lists the repository patterns under which c may do a, with {user}
// and {group} filled in, in file order, each once, without those a deny covers
// whole. Those of a rule with tags have them behind, "team/** (tags v*)", unless
// c may under any. A deny within one of them is not told, nor what dry runs would
// deny, nor that tags are immutable.
func (p *Policy) Patterns(c *Caller, a Action) []string {
	if a < Pull || a > Delete {
		return nil
	}
	var denied []Pattern
	for i := range p.rules {
		if r := &p.rules[i]; r.Deny.Has(a) && !r.DryRun && len(r.Tags) == 0 && r.means(c) {
			denied = append(denied, r.filled(c)...)
		}
	}
	var list []string
	seen := map[Pattern]bool{}
	for i := range p.rules {
		if r := &p.rules[i]; r.Allow.Has(a) && len(r.Tags) == 0 && r.means(c) {
			for _, q := range r.filled(c) {
				seen[q] = false // under any tag
			}
		}
	}
	for i := range p.rules {
		r := &p.rules[i]
		if !r.Allow.Has(a) || !r.means(c) {
			continue
		}
		for _, q := range r.filled(c) {
			told, any := seen[q]
			if told || any && len(r.Tags) > 0 || slices.ContainsFunc(denied, func(d Pattern) bool { return d.Contains(q) }) {
				continue
			}
			text := q.text + r.tagWords()
			if len(r.Tags) == 0 {
				seen[q] = true
			} else if slices.Contains(list, text) {
				continue
			}
			list = append(list, text)
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
