package proxy

import (
	"net/http"
	"strings"

	"github.com/regward/regward/auth"
)

// decide asks the policy. The sentence it gives goes to the records; the
// client gets one without other people's groups (S02).
func (x *exchange) decide() error {
	q := &x.req
	switch q.Kind {
	case KindPing:
		return nil
	case KindUnknown: // only now: no existence oracle before authentication (C21, P20)
		return refuse(http.StatusNotFound, "NAME_UNKNOWN", "nothing is served under this path")
	}
	x.decision, x.decided = x.s.Policy.Decide(&x.who, q.Wants), true
	if !x.decision.Allowed() {
		return x.denied(x.decision)
	}
	if err := x.servable(); err != nil {
		x.decision.WouldDeny, x.decision.WouldDenyRule = "", "" // it is refused already
		return err
	}
	x.countWouldDeny()
	return nil
}

func (x *exchange) countWouldDeny() {
	if where := x.decision.WouldDenyRule; where != "" {
		rule, _, _ := strings.Cut(where, " ") // "rules[3] at regward.yaml:31"
		x.h.metrics.wouldDeny(rule)
	}
}

// noteWouldDeny adds what only the upstream could tell of a dry run, unless
// another one has spoken.
func (x *exchange) noteWouldDeny(d auth.Decision) {
	if x.decision.WouldDeny == "" {
		x.decision.WouldDeny, x.decision.WouldDenyRule = d.WouldDeny, d.WouldDenyRule
		x.countWouldDeny()
	}
}

// servable reports what else may stand against a request that the rules allow.
func (x *exchange) servable() error {
	q := &x.req
	if x.expired && !x.leased() {
		return x.badToken(errExpired)
	}
	if q.Kind == KindCatalog {
		return nil
	}
	if x.up == nil { // told only to who may pull it (S04)
		return refuse(http.StatusNotFound, "NAME_UNKNOWN", "no registry behind this one holds "+q.Repository)
	}
	x.dropMount()
	if text := x.up.settings.ReadOnly; text != "" && writes(q.Method) {
		return refuse(http.StatusForbidden, "DENIED", text).because(reasonReadOnly)
	}
	return nil
}

func writes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// dropMount turns a mount from a repository the caller may not pull, or that
// another upstream holds, into a plain upload start: 202 is the only refusal
// that all clients survive (P14).
func (x *exchange) dropMount() {
	q := &x.req
	if q.Mount == "" {
		return
	}
	f, ok := x.s.places.Find(x.site.name, q.Query.NS, q.From)
	if ok && f.Index == x.up.at && x.s.Policy.Decide(&x.who, []auth.Access{f.Access(auth.Pull)}).Allowed() {
		x.from = f.Name
		return
	}
	q.Mount, q.From = "", ""
}

// denied is the answer to a caller without the right: 401, since clients
// re-scope only on that (S02), in words for whoever reads them (M7, M9). Where
// only the tag is in the way of somebody who has logged in, no other token
// helps, and it is 403 (S03).
func (x *exchange) denied(d auth.Decision) error {
	if d.Immutable() {
		return x.immutable(d, map[bool]string{
			false: "cannot be deleted",
			true:  "what is deleted by its digest may be one of theirs",
		}[d.Access.Tag == ""])
	}
	if words := x.tagWords(d); words != "" {
		return refuse(http.StatusForbidden, "DENIED", words).because(reasonNotAllowed)
	}
	e := unauthorized("DENIED", x.deniedWords(d), scopeOf(x.req.Wants), "").because(reasonNotAllowed)
	if x.who.Capped { // it came by a token
		e.authErr = "insufficient_scope"
	}
	if d.Verdict == auth.Capped {
		e.reason = reasonNotCovered
	}
	return e
}

// tagWords is what a caller hears who may do what is asked, but not to that tag;
// "" if the tag is not the reason, or a login might help.
func (x *exchange) tagWords(d auth.Decision) string {
	if d.Verdict != auth.Denied || x.who.Anonymous() || !x.s.Policy.Tags() {
		return ""
	}
	who := x.who
	who.Capped = false // what a token with more in it could do
	if !x.s.Policy.Grants(&who, d.Access) {
		return ""
	}
	repo := d.Access.Repository
	if d.Access.Tag == "" {
		return x.who.Name + " may not delete by digest in " + repo + ": a tag that " + x.who.Name + " may not delete could name it"
	}
	what := "the tag " + d.Access.Tag + " of " + repo
	switch d.Access.Action {
	case auth.Push:
		return x.who.Name + " may not push " + what + x.ownPatterns()
	case auth.Delete:
		return x.who.Name + " may not delete " + what
	}
	return x.who.Name + " may not pull " + what + ", or it does not exist"
}

// ownPatterns says where the caller may push, "" if nowhere.
func (x *exchange) ownPatterns() string {
	own := x.s.Policy.Patterns(&x.who, auth.Push)
	if len(own) == 0 {
		return ""
	}
	return "; " + x.who.Name + " may push to " + strings.Join(own[:min(3, len(own))], " and ")
}

func (x *exchange) deniedWords(d auth.Decision) string {
	repo := d.Access.Repository
	switch {
	case d.Access.Action == auth.List:
		return "the token presented does not cover the catalog"
	case d.Verdict == auth.Capped:
		return "the token presented does not cover " + d.Access.Action.String() + " of " + repo
	case x.who.Anonymous():
		return "you are not logged in: docker login " + x.host()
	}
	// Writes want pull as well: who may not pull is told about the push.
	action := d.Access.Action
	for _, want := range x.req.Wants {
		if want.Action == auth.Push {
			action = auth.Push
		}
	}
	switch action {
	case auth.Push:
		return x.who.Name + " may not push to " + repo + x.ownPatterns()
	case auth.Delete:
		return x.who.Name + " may not delete in " + repo + ", or it does not exist"
	}
	return x.who.Name + " is logged in but may not pull " + repo + ", or it does not exist"
}
