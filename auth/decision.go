package auth

import (
	"fmt"
	"net/netip"
)

// Verdict is the outcome of a decision. Deny is the zero Verdict.
type Verdict uint8

// The verdicts. Capped: the rules allow it, the token presented does not cover it.
const (
	Denied Verdict = iota
	Allowed
	Capped
)

// String is "denied", "allowed" or "capped".
func (v Verdict) String() string {
	switch v {
	case Allowed:
		return "allowed"
	case Capped:
		return "capped"
	}
	return "denied"
}

// Decision says what was decided and why; String is the sentence that the
// access record, the audit line and `regward explain` print.
type Decision struct {
	Verdict Verdict
	Access  Access // the want that settled it: the first refused, else the last
	Rule    string // Where of the rule that decided; "" if none did

	// Of what is allowed and would not be without dry runs: the sentence that
	// says why, and Where of the dry run. Like String, for the operator only.
	WouldDeny     string
	WouldDenyRule string

	pattern Pattern // of that rule, and whom it meant
	subject Subject
	policy  *Policy // if no rule decided: to find the nearest, when asked
	caller  *Caller

	by        *Rule // that Rule names
	immutable bool  // it is about an immutable tag
}

// Allowed reports whether the caller may.
func (d Decision) Allowed() bool { return d.Verdict == Allowed }

// String is THE sentence: which rule decided, or that none allows it and which
// comes nearest. It is built when asked for and names other people's groups, so
// it is for the operator and never for the client.
func (d Decision) String() string {
	action := d.Access.Action
	switch {
	case d.Verdict == Capped && action == List:
		return "the token presented does not cover the catalog"
	case d.Verdict == Capped:
		return fmt.Sprintf("the token presented does not cover %v of %s", action, d.Access.Repository)
	case d.Verdict == Allowed && action == List:
		return "everybody may ask for the catalog; it shows what the caller may pull"
	case d.Verdict == Allowed && d.Rule == "":
		return "no rule is needed"
	case d.Verdict == Allowed:
		return fmt.Sprintf("%s allows %s to %v %s%s", d.Rule, d.subject.words(), action, d.pattern, d.by.tagWords())
	case d.immutable:
		return d.immutableWords()
	case d.Rule != "":
		return fmt.Sprintf("%s denies %v of %s%s to %s", d.Rule, action, d.pattern, d.by.tagWords(), d.subject.words())
	case d.caller == nil: // the zero Decision
		return "nothing was decided"
	case !ValidRepository(d.Access.Repository):
		return fmt.Sprintf("%s is no repository name", shorten(d.Access.Repository))
	}
	what := d.Access.Repository
	if d.policy.tags && d.Access.Tag != "" {
		what += ":" + d.Access.Tag
	}
	s := fmt.Sprintf("no rule allows %s to %v %s", d.caller, action, what)
	if near := d.Nearest(); near != "" {
		s += "; nearest: " + near
	}
	return s
}

// wouldDeny notes a deny that is tried.
func (d *Decision) wouldDeny(r *Rule, p Pattern, s Subject) {
	d.WouldDenyRule = r.Where
	d.WouldDeny = fmt.Sprintf("%s, a dry run, would deny %v of %s%s to %s", r.Where, d.Access.Action, p, r.tagWords(), s.words())
}

// wouldMiss notes that only an allow which is tried allows it.
func (d *Decision) wouldMiss(r *Rule, c *Caller) {
	d.WouldDenyRule = r.Where
	d.WouldDeny = fmt.Sprintf("without %s, a dry run, no rule would allow %s to %v %s", r.Where, c, d.Access.Action, d.Access.Name())
}

// Nearest names, where no rule decided, the rule that would have if one thing
// were different, and that thing: "rules[4] at regward.yaml:31, for group ops".
// It is "" if there is none.
//
// Nearest is first a rule that allows just this to others, from elsewhere or
// under other tags, then one that allows the caller something else there, then
// one that allows the caller this somewhere else.
func (d Decision) Nearest() string {
	if d.policy == nil || d.caller == nil || !ValidRepository(d.Access.Repository) {
		return ""
	}
	if where, why := d.policy.nearest(d.caller, &d.Access); why != "" {
		return where + ", " + why
	}
	return ""
}

// nearest looks at the rules that are about the repository, and only where none
// of them comes near at all others. Of equally near ones the first counts.
func (p *Policy) nearest(c *Caller, want *Access) (where, why string) {
	const none = 4
	best, first := none, 0
	look := func(b *bucket) {
		for _, e := range b.all {
			if best == 1 && first < e.at {
				return
			}
			if !e.rule.concerns(c) {
				continue
			}
			if rank, text := e.rule.distance(c, want); rank < best || rank == best && e.at < first {
				best, first, where, why = rank, e.at, e.rule.Where, text
			}
		}
	}
	for _, x := range p.allows() {
		x.along(want.Repository, look)
		if want.Full != "" {
			x.along(want.Full, look)
		}
	}
	if best < 3 {
		return where, why
	}
	for i := range p.rules {
		r := &p.rules[i]
		if !r.Allow.Has(want.Action) || !r.concerns(c) || !r.means(c) {
			continue
		}
		if rank, text := r.distance(c, want); rank == 3 {
			return r.Where, text
		}
	}
	return where, why
}

// distance ranks an allow that did not apply, 1 the nearest, and says what kept
// it from applying.
func (r *Rule) distance(c *Caller, want *Access) (rank int, why string) {
	const far = 5
	if r.Allow == 0 {
		return far, ""
	}
	_, there := r.pattern(want, &c.Identity)
	who, means := r.subject(c)
	may, here := r.Allow.Has(want.Action), r.fromHolds(c)
	if !r.tagHolds(want) {
		if there && may && means && here {
			return 1, "only for tags " + join(r.Tags, TagPattern.String)
		}
		return far, ""
	}
	switch {
	case there && may && !means && here:
		return 1, "for " + join(r.Subjects, Subject.words)
	case there && may && !means:
		return 1, "for " + join(r.Subjects, Subject.words) + " from " + join(r.From, netip.Prefix.String)
	case there && may && !here:
		return 1, "only from " + join(r.From, netip.Prefix.String)
	case there && means && here:
		return 2, "which allows only " + r.Allow.String()
	case may && means && here && who.kind != everyone:
		return 3, "for " + join(r.Repositories, Pattern.String)
	}
	return far, ""
}
