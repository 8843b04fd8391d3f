package proxy

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Audit writes who did what. Events chosen by log.audit_events.
type Audit struct {
	Log    *zap.Logger
	Events map[string]bool // nil: all of AuditEvents
}

// AuditEvents are the kinds of audit lines.
var AuditEvents = [...]string{"login", "login_failed", "denied", "throttled", "pull", "push", "delete", "reload"}

// Refusal is one remembered refusal, for `regward explain --last`.
type Refusal struct {
	Time       time.Time  `json:"time"`
	RequestID  string     `json:"request_id"`
	Host       string     `json:"host"`
	User       string     `json:"user"`       // "" is anonymous
	Credential string     `json:"credential"` // none, basic, bearer, anonymous token, wrong password, expired token, ...
	Addr       netip.Addr `json:"addr"`
	Repository string     `json:"repository,omitempty"`
	Reference  string     `json:"reference,omitempty"`
	Action     string     `json:"action,omitempty"`
	Status     int        `json:"status"`
	Code       string     `json:"code"`
	Reason     string     `json:"reason"`
	Decision   string     `json:"decision,omitempty"` // the sentence
	Limit      string     `json:"limit,omitempty"`
	UserAgent  string     `json:"user_agent,omitempty"`
	Config     string     `json:"config"` // version that decided
}

// RefusalQuery chooses among the remembered refusals; zero fields choose all.
type RefusalQuery struct {
	RequestID  string
	Repository string
	User       string // "anonymous" for nobody in particular
	From       netip.Prefix
	Since      time.Time
}

// Refusals are those remembered (10,000 at most) that q chooses, newest first.
func (h *Handler) Refusals(q RefusalQuery) []Refusal { panic("unwritten") }
