package proxy

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/regward/regward/auth"
)

// Refusal is one remembered refusal, for `regward explain --last`.
type Refusal struct {
	Time       time.Time  `json:"time"`
	RequestID  string     `json:"request_id"`
	Host       string     `json:"host"`
	User       string     `json:"user"`       // "" is anonymous
	Credential string     `json:"credential"` // "none", "basic", "token", "anonymous token", "wrong password: ann", "expired token", ...
	Addr       netip.Addr `json:"addr"`
	Repository string     `json:"repository,omitempty"`
	Reference  string     `json:"reference,omitempty"`
	Action     string     `json:"action,omitempty"`
	Status     int        `json:"status"`
	Code       string     `json:"code"`
	Reason     string     `json:"reason"`             // one of docs/logs.md's reasons
	Message    string     `json:"message"`            // what the client was told
	Decision   string     `json:"decision,omitempty"` // the policy's own sentence
	Detail     string     `json:"detail,omitempty"`   // what a provider has against a login
	Limit      string     `json:"limit,omitempty"`
	UserAgent  string     `json:"user_agent,omitempty"`
	Config     string     `json:"config"` // version that decided
}

// RefusalQuery chooses among the remembered refusals; zero fields choose all.
type RefusalQuery struct {
	RequestID  string
	Repository string
	User       string // proven, or claimed with a wrong password; "anonymous" for nobody in particular
	From       netip.Prefix
	Since      time.Time

	host string // of Repository, where an upstream has a hostname of its own; "" is any
}

func (q *RefusalQuery) chooses(r *Refusal) bool {
	return (q.RequestID == "" || q.RequestID == r.RequestID) &&
		(q.Repository == "" || q.Repository == r.Repository) &&
		(q.host == "" || q.host == hostOnly(r.Host)) &&
		(q.User == "" || q.User == r.User || strings.HasSuffix(r.Credential, ": "+q.User) || q.User == "anonymous" && r.User == "") &&
		(!q.From.IsValid() || q.From.Contains(r.Addr)) &&
		!r.Time.Before(q.Since)
}

// hostOnly is a hostname without its port.
func hostOnly(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// refusals is a ring of the last ones.
type refusals struct {
	mu   sync.Mutex
	ring []Refusal // grows up to most
	most int
	next int
}

func newRefusals(size int) *refusals { return &refusals{most: size} }

func (l *refusals) add(r Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < l.most {
		l.ring = append(l.ring, r)
		return
	}
	l.ring[l.next] = r
	l.next = (l.next + 1) % len(l.ring)
}

// Refusals are those remembered (10,000 at most) that q chooses, newest first.
// Requests that came without a credential are found by their id only. A
// repository may be written as a client or a rule names it.
func (h *Handler) Refusals(q RefusalQuery) []Refusal {
	if s := h.Current(); s != nil && q.Repository != "" {
		named := s.places.Access(q.Repository, auth.Pull)
		if host, _, _ := strings.Cut(named.Full, "/"); host != "" {
			q.host = host
		}
		q.Repository = named.Repository
	}
	found := h.refusals.find(q)
	if len(found) == 0 && q.RequestID != "" {
		found = h.challenged.find(q)
	}
	return found
}

func (l *refusals) find(q RefusalQuery) (out []Refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.ring {
		r := &l.ring[(l.next+len(l.ring)-1-i)%len(l.ring)]
		if q.chooses(r) {
			out = append(out, *r)
		}
	}
	return out
}

// remember keeps a refusal. The first request of most clients comes without a
// credential: those are kept apart, or they would push out the rest.
func (x *exchange) remember() {
	if x.site == nil {
		return
	}
	// Copies: a part of a string keeps all of it alive, here for thousands of requests.
	r := Refusal{
		Time: x.start, RequestID: x.id, Host: x.host(), User: x.who.Name, Credential: x.credential, Addr: x.addr,
		Repository: strings.Clone(x.repo.Repository), Reference: strings.Clone(x.req.Reference), Action: actionOf(&x.req),
		Status: x.status, Code: x.refusal.code, Reason: x.reason(), Message: x.refusal.msg, Limit: x.limitName,
		UserAgent: strings.Clone(short(x.r.UserAgent())), Config: x.s.Version,
	}
	if x.req.Kind == KindUpload {
		r.Reference = ""
	}
	if x.decided && !x.decision.Allowed() {
		r.Decision = x.decision.String()
	}
	if x.wrong != nil {
		r.Reason, r.Detail = string(x.wrong.Word), x.wrong.Error()
	}
	if x.refusal.reason == reasonNoCredential {
		x.h.challenged.add(r)
		return
	}
	x.h.refusals.add(r)
}
