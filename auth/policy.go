package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Rule is one entry of `rules`. Exactly one of Allow and Deny is not empty.
type Rule struct {
	Subjects     []Subject
	Repositories []Pattern
	Allow, Deny  Actions
	From         []netip.Prefix // none: any
	Tags         []TagPattern   // none: any, and what names none; an allow covers what names no tag, see tagHolds
	Immutable    bool           // of a rule that allows push: a tag that is there cannot be moved, see Policy.Immutable
	DryRun       bool           // see Decision.WouldDeny
	Given        bool           // to one robot, by the file of robots: of no interest to others
	Where        string         // "rules[1] at regward.yaml:12"
}

// String is the rule in words: "allow pull, push on team/** to group dev",
// "allow push on team/** (tags v*) to group dev, immutable".
func (r Rule) String() string {
	var b strings.Builder
	if r.Deny != 0 {
		b.WriteString("deny " + r.Deny.String())
	} else {
		b.WriteString("allow " + r.Allow.String())
	}
	b.WriteString(" on " + join(r.Repositories, Pattern.String) + r.tagWords())
	b.WriteString(" to " + join(r.Subjects, Subject.words))
	if len(r.From) > 0 {
		b.WriteString(" from " + join(r.From, netip.Prefix.String))
	}
	if r.Immutable {
		b.WriteString(", immutable")
	}
	if r.DryRun {
		b.WriteString(", dry run")
	}
	return b.String()
}

func join[T any](list []T, text func(T) string) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = text(v)
	}
	return strings.Join(words, ", ")
}

// actions is what the rule is about, allowing or denying it.
func (r *Rule) actions() Actions { return r.Allow | r.Deny }

// subject is the first one that means c.
func (r *Rule) subject(c *Caller) (Subject, bool) {
	for _, s := range r.Subjects {
		if s.Matches(c) {
			return s, true
		}
	}
	return Subject{}, false
}

// fromHolds reports whether c is at an address the rule is for. A zone does not
// take an address out of a network.
func (r *Rule) fromHolds(c *Caller) bool {
	if len(r.From) == 0 {
		return true
	}
	addr := c.Addr.Unmap().WithZone("")
	for _, net := range r.From {
		if net.Contains(addr) {
			return true
		}
	}
	return false
}

// pattern is the first one that means the repository.
func (r *Rule) pattern(want *Access, id *Identity) (Pattern, bool) {
	for _, p := range r.Repositories {
		if p.Means(want, id) {
			return p, true
		}
	}
	return Pattern{}, false
}

// Policy is a compiled set of rules. It is immutable.
type Policy struct {
	rules []Rule
	deny  index
	allow index
	dry   *dryRules   // nil: none is tried
	fixed *immutables // nil: no tag is immutable
	tags  bool        // some rule is about tags
}

// dryRules are those that are tried: the denies refuse nobody yet, and the
// allows still allow.
type dryRules struct{ deny, allow index }

// NewPolicy compiles rules; it fails naming the rule's Where.
func NewPolicy(rules []Rule) (*Policy, error) {
	p := &Policy{rules: slices.Clone(rules), deny: newIndex(), allow: newIndex()}
	for i := range p.rules {
		r := &p.rules[i]
		if r.Where == "" {
			r.Where = fmt.Sprintf("rules[%d]", i)
		}
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", r.Where, err)
		}
		if r.DryRun && p.dry == nil {
			p.dry = &dryRules{deny: newIndex(), allow: newIndex()}
		}
		if r.Immutable && p.fixed == nil {
			p.fixed = &immutables{firm: newIndex(), tried: newIndex()}
		}
		switch {
		case r.Immutable && r.DryRun:
			p.fixed.tried.add(r, i)
		case r.Immutable:
			p.fixed.firm.add(r, i)
		}
		p.tags = p.tags || len(r.Tags) > 0
		switch {
		case r.DryRun && r.Deny != 0:
			p.dry.deny.add(r, i)
		case r.DryRun:
			p.dry.allow.add(r, i)
		case r.Deny != 0:
			p.deny.add(r, i)
		default:
			p.allow.add(r, i)
		}
	}
	for _, x := range p.indexes() {
		x.split()
	}
	return p, nil
}

func (p *Policy) indexes() []*index {
	all := append(p.allows(), &p.deny)
	if p.dry != nil {
		all = append(all, &p.dry.deny)
	}
	if p.fixed != nil {
		all = append(all, &p.fixed.firm, &p.fixed.tried)
	}
	return all
}

// allows are those of the rules that allow, tried or not.
func (p *Policy) allows() []*index {
	if p.dry != nil {
		return []*index{&p.allow, &p.dry.allow}
	}
	return []*index{&p.allow}
}

func (r *Rule) check() error {
	switch {
	case r.Allow != 0 && r.Deny != 0:
		return &SyntaxError{Msg: "has both allow and deny", Fix: "make it two rules"}
	case r.actions() == 0:
		return &SyntaxError{Msg: "has neither allow nor deny", Fix: "write what it allows: pull, push, delete"}
	case r.actions()&^Everything != 0:
		return &SyntaxError{Msg: "is about an action no rule can give", Fix: "write pull, push, delete"}
	case len(r.Subjects) == 0 || slices.Contains(r.Subjects, Subject{}):
		return &SyntaxError{Msg: "names no subjects", Fix: "write whom it is about: everyone, authenticated, user:NAME, group:NAME"}
	case r.Immutable && !r.Allow.Has(Push):
		return &SyntaxError{Msg: "is immutable and allows no push", Fix: "write immutable where push is allowed"}
	case slices.Contains(r.Tags, TagPattern{}):
		return &SyntaxError{Msg: "has a tag pattern that is empty", Fix: `write which tags: "v*"`}
	case r.Given && (len(r.Subjects) != 1 || r.Subjects[0].kind != token):
		return &SyntaxError{Msg: "is given to more than one robot"}
	case len(r.Repositories) == 0 || slices.Contains(r.Repositories, Pattern{}):
		return &SyntaxError{Msg: "names no repositories", Fix: `write which: "**" for all`}
	}
	for i, net := range r.From {
		if !net.IsValid() {
			return &SyntaxError{Msg: fmt.Sprintf("from[%d] is no network", i), Fix: "write one like 10.0.0.0/8"}
		}
	}
	return nil
}

// Decide reports whether c may do all that it wants. A deny that matches beats
// every allow, and what nothing allows is denied; Rule names the first rule in
// the file that settled it. With several wants the first refusal is returned;
// what the rules refuse comes before what the token does not cover. List is
// allowed to everybody (P18), and so is wanting nothing. What is no repository
// name is denied. What the rules allow but the ceiling of c's token does not
// cover is Capped. A rule with tags is about those tags: an allow covers what
// names no tag as well, a deny does not, but for what is deleted by its digest.
// What Immutable keeps from being moved is not deleted either, nor anything
// there by its digest.
//
// A rule that is a dry run changes no verdict: its deny denies nothing, and its
// allow allows. Where it would have been another one with every dry run made
// good - its denies in force, its allows gone - WouldDeny says so. What is
// refused has none: it is refused already.
//
// Decide reads no clock and does no I/O; the allowed path does not allocate,
// unless a dry run would deny it.
func (p *Policy) Decide(c *Caller, wants []Access) Decision {
	d := Decision{Verdict: Allowed}
	var would, rule string // of the first want that would be denied
	for i := range wants {
		if d = p.decide(c, &wants[i]); d.Verdict != Allowed {
			return d
		}
		if would == "" {
			would, rule = d.WouldDeny, d.WouldDenyRule
		}
	}
	d.WouldDeny, d.WouldDenyRule = would, rule
	return capAt(c, wants, d)
}

// capAt turns an allowed decision into Capped where the ceiling is too low.
func capAt(c *Caller, wants []Access, d Decision) Decision {
	for i := range wants {
		if !c.covers(&wants[i]) {
			return Decision{Verdict: Capped, Access: wants[i]}
		}
	}
	return d
}

func (p *Policy) decide(c *Caller, want *Access) Decision {
	if want.Action == List {
		return Decision{Verdict: Allowed, Access: *want}
	}
	if want.Action >= Pull && want.Action <= Delete && ValidRepository(want.Repository) {
		if e, who := p.deny.find(c, want); e != nil {
			return Decision{Verdict: Denied, Access: *want, Rule: e.rule.Where, pattern: e.pattern, subject: who, by: e.rule}
		}
		e, who := p.allow.find(c, want)
		if p.dry != nil {
			return p.tried(c, want, e, who)
		}
		if e != nil {
			if want.Action == Delete && p.fixed != nil {
				if no, whose := p.keeps(c, want, false); no != nil {
					return kept(want, no.rule, no.pattern, whose)
				}
			}
			return Decision{Verdict: Allowed, Access: *want, Rule: e.rule.Where, pattern: e.pattern, subject: who, by: e.rule}
		}
	}
	return p.unallowed(c, want)
}

// unallowed is the decision that no rule made.
func (p *Policy) unallowed(c *Caller, want *Access) Decision {
	who := *c // kept: the decision may be printed after the request is over
	return Decision{Verdict: Denied, Access: *want, policy: p, caller: &who}
}

// tried is decide for a policy with dry runs, where no deny is in force; e is
// the allow that is, nil if there is none.
func (p *Policy) tried(c *Caller, want *Access, e *entry, who Subject) Decision {
	only := e == nil
	if only {
		if e, who = p.dry.allow.find(c, want); e == nil {
			return p.unallowed(c, want)
		}
	}
	if want.Action == Delete && p.fixed != nil {
		if no, whose := p.keeps(c, want, false); no != nil {
			return kept(want, no.rule, no.pattern, whose)
		}
	}
	d := Decision{Verdict: Allowed, Access: *want, Rule: e.rule.Where, pattern: e.pattern, subject: who, by: e.rule}
	if no, whose := p.dry.deny.find(c, want); no != nil {
		d.wouldDeny(no.rule, no.pattern, whose)
		return d
	}
	if want.Action == Delete {
		if no, whose := p.keeps(c, want, true); no != nil {
			d.wouldKeep(no.rule, whose)
			return d
		}
	}
	if only {
		d.wouldMiss(e.rule, c)
	}
	return d
}
