package auth

import "net/netip"

// Rule is one entry of `rules`. Exactly one of Allow and Deny is not empty.
type Rule struct {
	Subjects     []Subject
	Repositories []Pattern
	Allow, Deny  Actions
	From         []netip.Prefix // none: any
	Where        string         // "rules[1] at regward.yaml:12"
}

// Subject is whom a rule or a limit is about: everyone, anonymous,
// authenticated, user:N, group:N, token:N.
type Subject struct{ kind, name string }

// Pattern matches repository names: "*" within one part, "**" any number of
// parts (at the end at least one), {user} and {group} one part put in literally.
type Pattern struct{ text string }

// Verdict is the outcome of a decision. Deny is the zero Verdict.
type Verdict uint8

// The verdicts. Capped: the rules allow it, the token presented does not cover it.
const (
	Denied Verdict = iota
	Allowed
	Capped
)

// Policy is a compiled set of rules. It is immutable.
type Policy struct{}

// NewPolicy compiles rules; it fails naming the rule's Where.
func NewPolicy(rules []Rule) (*Policy, error) { panic("unwritten") }

// Decision says what was decided and why; String is the sentence that the
// access record, the audit line and `regward explain` print.
type Decision struct {
	Verdict Verdict
	Access  Access // the want that settled it: the first refused, else the last
	Rule    string // Where of the rule that decided; "" if none did
}

// Allowed reports whether the caller may.
func (d Decision) Allowed() bool { return d.Verdict == Allowed }

// Decide reports whether c may do all that it wants. A deny that matches beats
// every allow, and what nothing allows is denied; Rule names the first rule in
// the file that settled it. With several wants the first refusal is returned.
// List is allowed to everybody (P18). What the rules allow but the ceiling of
// c's token does not cover is Capped.
//
// Decide reads no clock and does no I/O; the allowed path does not allocate.
func (p *Policy) Decide(c *Caller, wants []Access) Decision { panic("unwritten") }

// Step is one rule looked at by Explain.
type Step struct {
	Rule    string // its Where
	Text    string // the rule in words
	Applies bool
	Why     string // why it does, or does not, apply
}

// Explain is Decide keeping why each rule did or did not apply.
func (p *Policy) Explain(c *Caller, wants []Access) (Decision, []Step) { panic("unwritten") }

// Patterns lists the repository patterns under which c may do a, with {user}
// and {group} filled in, in file order, without those a deny covers whole.
func (p *Policy) Patterns(c *Caller, a Action) []string { panic("unwritten") }
