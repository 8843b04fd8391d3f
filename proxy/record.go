package proxy

import (
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
)

// Audit writes who did what.
type Audit struct {
	Log    *zap.Logger
	Events map[string]bool // as log.audit_events chose; nil: all
}

// AuditEvents are the kinds of audit lines.
var AuditEvents = [...]string{"login", "login_failed", "denied", "throttled", "pull", "push", "delete", "reload", "override", "reset", "revocation"}

// Write adds a line if the event was chosen.
func (a *Audit) Write(event string, fields ...zap.Field) {
	if a == nil || a.Log == nil || (a.Events != nil && !a.Events[event]) {
		return
	}
	a.Log.Info(event, fields...)
}

// newRequestID is ten characters nobody mistakes for each other when read aloud.
func newRequestID() string {
	const letters = "abcdefghjkmnpqrstuvwxyz023456789" // 32
	var id [10]byte
	n := rand.Uint64()
	for i := range id {
		id[i] = letters[n&31]
		n >>= 5
	}
	return string(id[:])
}

// noteEvent says what the audit log will tell about an answer.
func (x *exchange) noteEvent(status int) {
	switch q := &x.req; {
	case q.Kind == KindManifest && q.Method == "GET" && status == 200:
		x.event = "pull"
	case q.Kind == KindManifest && q.Method == "PUT" && status == 201:
		x.event = "push"
	case q.Method == "DELETE" && (q.Kind == KindManifest || q.Kind == KindBlob) && status/100 == 2:
		x.event = "delete"
	}
}

// record tells what became of the request: one access line, one audit line if
// it matters, the counters, and the memory of refusals. It runs once.
func (x *exchange) record() {
	took := x.h.Now().Sub(x.start)
	x.h.metrics.observe(x, took)
	if x.refusal != nil {
		x.h.metrics.refuse(x.reason())
		x.remember()
		if (x.status >= 500 || x.aborted) && !x.clientGone && x.refusal.reason != reasonProvider { // of those see unsaid
			f := []zap.Field{zap.String("request_id", x.id)}
			if b := x.behind(); b != nil {
				f = append(f, zap.String("upstream", b.settings.Name))
			}
			x.h.Log.Warn("request failed", append(f, zap.Int("status", x.status), zap.String("reason", x.reason()), zap.Error(x.refusal.cause))...)
		}
	}
	if on(x.h.Access) {
		x.access(took)
	}
	if x.h.Audit != nil && on(x.h.Audit.Log) {
		x.audit()
	}
}

// on reports whether anybody reads l: a log that is off may be switched on by
// a reload, so it is never nil, and its lines must cost nothing meanwhile.
func on(l *zap.Logger) bool { return l != nil && l.Core().Enabled(zap.InfoLevel) }

func (x *exchange) reason() string {
	if x.clientGone {
		return reasonClientGone
	}
	if x.refusal == nil || x.refusal.reason == "" {
		return "other"
	}
	return x.refusal.reason
}

// access writes the access line. The names of the fields are a promise:
// docs/logs.md lists them and a test compares.
func (x *exchange) access(took time.Duration) {
	var room [32]zap.Field
	f := append(room[:0], zap.String("request_id", x.id))
	if x.site != nil {
		f = append(f, zap.String("host", x.site.name))
	}
	f = append(f,
		zap.String("method", short(x.r.Method)),
		zap.String("path", short(x.r.URL.EscapedPath())),
		zap.String("route", x.route()),
		zap.String("user", x.user()),
		zap.String("credential", x.credential),
		zap.String("addr", x.addr.String()),
	)
	f = x.what(f)
	if x.decided && x.s.countsPulls && x.req.pulls() {
		f = append(f, zap.Bool("free_pull", x.free)) // for replay: no log could tell it otherwise
	}
	if x.slowedBy != "" {
		f = append(f, zap.String("slowed_by", x.slowedBy), zap.Float64("slowed_ms", millis(x.slowed)))
	}
	if x.repeated {
		f = append(f, zap.Bool("repeated", true))
	}
	f = append(f,
		zap.Int("status", x.status),
		zap.Int64("bytes_in", x.in),
		zap.Int64("bytes_out", x.out),
		zap.Float64("duration_ms", millis(took)),
	)
	if x.upstream != 0 {
		f = append(f, zap.Int("upstream_status", x.upstream), zap.Float64("upstream_ms", millis(x.upstreamTime)))
	}
	if x.refusal != nil {
		f = append(f, zap.String("reason", x.reason()))
		if x.refusal.cause != nil {
			f = append(f, zap.String("error", x.refusal.cause.Error()))
		}
	}
	if x.aborted {
		f = append(f, zap.Bool("cut_off", true))
	}
	if trace := traceID(x.r.Header.Get("Traceparent")); trace != "" {
		f = append(f, zap.String("trace_id", trace))
	}
	f = append(f, zap.String("user_agent", short(x.r.UserAgent())))
	x.h.Access.Info("request", f...)
}

// behind is the upstream that records name, where there are several.
func (x *exchange) behind() *backend {
	switch {
	case x.s == nil || len(x.s.backends) < 2:
		return nil
	case x.up != nil:
		return x.up
	}
	return x.failed
}

// what adds upstream, repository, action, rule and limit.
func (x *exchange) what(f []zap.Field) []zap.Field {
	if x.loginVia != "" {
		f = append(f, zap.String("via", x.loginVia))
	}
	if b := x.behind(); b != nil {
		f = append(f, zap.String("upstream", b.settings.Name))
	}
	if x.repo.Repository != "" {
		f = append(f, zap.String("repository", x.repo.Repository))
	}
	if action := actionOf(&x.req); action != "" {
		f = append(f, zap.String("action", action))
	}
	if x.req.Reference != "" && x.req.Kind != KindUpload {
		f = append(f, zap.String("reference", x.req.Reference))
	}
	if x.grantedScopes != "" {
		f = append(f, zap.String("granted", x.grantedScopes))
	}
	if x.decided {
		f = append(f, zap.String("rule", x.decision.Rule))
		if !x.decision.Allowed() {
			f = append(f, zap.String("decision", x.decision.String()))
		}
	}
	if x.limitName != "" {
		f = append(f, zap.String("limit", x.limitName))
	}
	if x.decided && x.decision.WouldDeny != "" {
		f = append(f, zap.String("would_deny", x.decision.WouldDeny))
	}
	if len(x.wouldThrottle) > 0 {
		f = append(f, zap.Strings("would_throttle", x.wouldThrottle))
	}
	return f
}

// audit writes the audit line of a pull, a push, a delete or a refusal that
// somebody was meant to get.
func (x *exchange) audit() {
	event := x.event
	if x.refusal != nil {
		switch x.refusal.reason {
		case reasonNotAllowed, reasonNotCovered, reasonReadOnly:
			event = "denied"
		case reasonLimit, reasonLockedOut:
			event = "throttled"
		default:
			return
		}
	}
	if event == "" {
		return
	}
	f := []zap.Field{zap.String("request_id", x.id), zap.String("user", x.user()), zap.String("credential", x.credential), zap.String("addr", x.addr.String())}
	if x.site != nil {
		f = append(f, zap.String("host", x.site.name))
	}
	f = x.what(f)
	if tag := tagOf(&x.req); tag != "" {
		f = append(f, zap.String("tag", tag))
	}
	if x.digest != "" {
		f = append(f, zap.String("digest", x.digest))
	} else if x.req.Kind == KindManifest && isDigest(x.req.Reference) {
		f = append(f, zap.String("digest", x.req.Reference))
	}
	f = append(f, zap.Int("status", x.status), zap.String("user_agent", short(x.r.UserAgent())))
	x.h.Audit.Write(event, f...)
}

func (x *exchange) auditLogin(id auth.Identity, more ...zap.Field) {
	f := []zap.Field{zap.String("request_id", x.id), zap.String("user", id.Name), zap.String("via", id.Via), zap.String("addr", x.addr.String()), zap.String("user_agent", short(x.r.UserAgent()))}
	x.h.Audit.Write("login", append(f, more...)...)
}

// auditWrongLogin tells of a login that x.wrong is said of.
func (x *exchange) auditWrongLogin(user string) {
	name := typed(user, x.wrong.Word != auth.UnknownUser)
	x.auditFailedLogin(name, string(x.wrong.Word), x.wrong.Via, x.wrong.Reason)
}

func (x *exchange) auditRobot(user string, e *auth.RobotError) {
	x.auditFailedLogin(user, robotReason(e), "robot", e.Words())
}

func (x *exchange) auditFailedLogin(user, reason, via, why string) {
	f := []zap.Field{zap.String("request_id", x.id), zap.String("user", short(user)), zap.String("reason", reason)}
	if via != "" {
		f = append(f, zap.String("via", via))
	}
	if why != "" {
		f = append(f, zap.String("detail", short(why)))
	}
	f = append(f, zap.String("addr", x.addr.String()), zap.String("user_agent", short(x.r.UserAgent())))
	x.h.Audit.Write("login_failed", f...)
}

func (x *exchange) user() string {
	if x.who.Anonymous() {
		return "anonymous"
	}
	return x.who.Name
}

// short bounds what a stranger writes into our logs, and what it does to the
// terminal of who reads them: JSON lets control characters beyond ASCII pass, and
// those that turn the way of writing round.
func short(s string) string {
	s = s[:min(len(s), maxLogged)]
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return strings.Map(func(r rune) rune {
				if !unicode.IsPrint(r) {
					return '?'
				}
				return r
			}, s)
		}
	}
	return s
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// traceID is the trace id of a traceparent field, "" if there is none.
func traceID(traceparent string) string {
	parts := strings.Split(traceparent, "-")
	if len(traceparent) > 128 || len(parts) < 4 || len(parts[1]) != 32 || !lowerHex(parts[1]) {
		return ""
	}
	return parts[1]
}

// sometimes does a thing at most once in a while.
type sometimes struct{ next atomic.Int64 }

// do is for once a minute.
func (s *sometimes) do(now time.Time, f func()) { s.every(now, time.Minute, f) }

func (s *sometimes) every(now time.Time, while time.Duration, f func()) {
	next, after := s.next.Load(), now.Add(while).Unix()
	if (now.Unix() >= next || next > after) && s.next.CompareAndSwap(next, after) { // next > after: the clock was set back
		f()
	}
}
