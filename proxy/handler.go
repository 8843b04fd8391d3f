package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// Options are the parts of a Handler that belong to the process and outlive
// every reload.
type Options struct {
	Limiter  ratelimit.Limiter
	Failures ratelimit.Limiter // of failed logins: who fills the other one shall not share theirs; nil: Limiter
	Cache    *auth.Cache
	Log      *zap.Logger // the process's own log
	Access   *zap.Logger // one line per request; nil is off
	Audit    *Audit      // nil is off
	Now      func() time.Time
}

// Handler is the gate.
type Handler struct {
	Options
	snapshot   atomic.Pointer[Snapshot]
	metrics    *Metrics
	refusals   *refusals
	challenged *refusals // requests without credential: the first step of most clients, no news
	free       *freePulls
	foreign    sometimes // tokens signed by keys that are not ours (M14)
	small      *buffers
	large      *buffers
}

// New makes a handler. It answers 503 until the first Swap.
func New(o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Failures == nil {
		o.Failures = o.Limiter
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return &Handler{Options: o, metrics: newMetrics(), refusals: newRefusals(maxRefusals), challenged: newRefusals(maxChallenged),
		free: newFreePulls(), small: newBuffers(smallBuffer), large: newBuffers(largeBuffer)}
}

// Prepare builds a whole snapshot, or fails and changes nothing. Connections
// and tokens of an upstream whose settings did not change are kept.
func (h *Handler) Prepare(settings Settings) (*Snapshot, error) {
	s := &Snapshot{Settings: settings, sites: map[string]*site{}}
	for _, name := range settings.Hostnames {
		at := newSite(name)
		if s.sites[at.name] == nil {
			s.sites[at.name] = at
		}
		s.names = append(s.names, at.name)
	}
	s.limits = slices.Clone(settings.Limits)
	for i := range s.limits {
		s.limits[i].allowed = h.metrics.limits.WithLabelValues(s.limits[i].Name, "allowed")
		s.countsPulls = s.countsPulls || s.limits[i].Count == Pulls
	}
	s.sealer = newSealer(settings.Tokens.Derive("upload id"), settings.Upstream.URL.String())
	s.catalogSealer = newSealer(settings.Tokens.Derive("catalog cursor"), settings.Upstream.URL.String())
	if old := h.snapshot.Load(); old != nil && reflect.DeepEqual(old.Settings.Upstream, settings.Upstream) && reflect.DeepEqual(old.names, s.names) {
		s.upstream = old.upstream
		return s, nil
	}
	u, err := NewUpstream(settings.Upstream, UpstreamOptions{Log: h.Log, Now: h.Now})
	if err != nil {
		return nil, err
	}
	s.upstream = u
	return s, nil
}

// Swap makes s decide from now on and returns the one that did. Requests under
// way keep theirs.
func (h *Handler) Swap(s *Snapshot) (old *Snapshot) {
	old = h.snapshot.Swap(s)
	if old != nil && old.upstream != s.upstream {
		old.upstream.Close()
	}
	return old
}

// Current is the snapshot in force, nil before the first Swap.
func (h *Handler) Current() *Snapshot { return h.snapshot.Load() }

// Metrics are the collectors of the handler, to be registered once.
func (h *Handler) Metrics() *Metrics { return h.metrics }

// Snapshot is what decides: immutable, made by Prepare, replaced whole.
type Snapshot struct {
	Settings
	sites         map[string]*site
	names         []string
	limits        []Limit // with their counters
	countsPulls   bool
	sealer        *sealer
	catalogSealer *sealer
	upstream      *Upstream
}

// fold is how user names are compared.
func (s *Settings) fold(user string) string {
	if s.CaseSensitive {
		return user
	}
	return strings.ToLower(user)
}

// site is one hostname.
type site struct {
	name string // without port; service and audience
	port string // as configured; "" is that of the request
}

func newSite(host string) *site {
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return &site{name: ap.Addr().String(), port: strconv.Itoa(int(ap.Port()))}
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return &site{name: a.String()}
	}
	name, port, _ := strings.Cut(strings.ToLower(host), ":")
	return &site{name: name, port: port}
}

// address is what clients dial: the name, with the configured port or else
// that of the request.
func (t *site) address(port string) string {
	if t.port != "" {
		port = t.port
	}
	name := t.name
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if port == "" || port == "443" {
		return name
	}
	return name + ":" + port
}

// exchange is one request on its way through the gate and what is told about
// it afterwards.
type exchange struct {
	h     *Handler
	s     *Snapshot
	w     http.ResponseWriter
	r     *http.Request
	id    string
	start time.Time
	now   time.Time

	site *site
	port string
	peer netip.AddrPort
	addr netip.Addr

	req        Request
	who        auth.Caller
	buckets    buckets // of who
	credential string  // what came with the request, for records
	expired    bool    // the token has run out, and only a lease may forgive it
	upload     *upload
	body       *clientBody // what goes on of the client's body; nil: nothing
	bodyRead   bool        // it was read here, to its end
	decision   auth.Decision
	decided    bool

	limitName     string
	wouldThrottle []string

	status        int
	refusal       *httpError
	in, out       int64
	digest        string
	upstream      int // its status
	upstreamTime  time.Duration
	loginVia      string
	grantedScopes string
	event         string // what the audit log tells on success
	aborted       bool   // the answer broke off
	clientGone    bool
	patient       bool // the answer has no deadline yet
}

// ServeHTTP answers one request: it is the only writer of refusals, records
// and counters.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{h: h, s: h.snapshot.Load(), w: w, r: r, id: newRequestID(), start: h.Now()}
	x.now = x.start
	w.Header()["X-Request-Id"] = []string{x.id}
	h.metrics.inFlight.Inc()
	defer h.metrics.inFlight.Dec()
	if err := x.serve(); err != nil {
		x.refuse(err)
	}
	if x.clientGone && x.refusal != nil {
		x.status = statusClientGone
	}
	x.record()
	if x.r.ProtoMajor == 1 && x.unread() { // net/http reads on for a while, without an end in time
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTime))
	}
	if x.aborted {
		panic(http.ErrAbortHandler) // no clean end: clients resume with Range (H12)
	}
}

// serve tells the routes apart.
func (x *exchange) serve() error {
	path := x.r.URL.Path
	api := path == "/v2" || strings.HasPrefix(path, "/v2/")
	if api {
		x.w.Header()["Docker-Distribution-Api-Version"] = apiVersion // C15
	}
	if x.s == nil {
		return refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "starting up").with("Retry-After", "1").because(reasonBusy)
	}
	if err := x.arrive(); err != nil {
		return err
	}
	switch {
	case api:
		if x.r.Method == http.MethodOptions {
			return x.options("GET, HEAD, POST, PUT, PATCH, DELETE")
		}
		return x.gate()
	case path == tokenPath:
		return x.token()
	case path == "/":
		return x.page()
	}
	return refuse(http.StatusNotFound, "NAME_UNKNOWN", "nothing is served under this path")
}

// gate is what regward is for.
func (x *exchange) gate() error {
	var err error
	if x.req, err = ParseRequest(x.r.Method, x.r.URL); err != nil { // what is asked
		return err
	}
	if err := x.identify(); err != nil { // who asks
		return err
	}
	if err := x.decide(); err != nil { // may they
		return err
	}
	if err := x.limit(); err != nil { // how often
		return err
	}
	return x.forward() // pass it on
}

// arrive finds out which hostname was dialled, and from where (P11, H14).
func (x *exchange) arrive() error {
	remote := x.r.RemoteAddr
	peer, err := netip.ParseAddrPort(remote)
	if err != nil { // a unix socket: who can open it is on this machine
		remote = "127.0.0.1:0"
		peer = netip.MustParseAddrPort(remote)
	}
	x.peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	x.addr = clientAddr(remote, x.r.Header["X-Forwarded-For"], x.s.Proxies)
	if x.s.OnlyProxy && !inside(x.s.Proxies, x.peer.Addr()) && !x.peer.Addr().IsLoopback() {
		return refuse(http.StatusForbidden, "DENIED", "this port is for the proxy in front only").because(reasonNotAllowed)
	}
	host, port, err := authority(x.r)
	if err != nil {
		return err
	}
	if x.site = x.s.sites[host]; x.site == nil {
		return refuse(http.StatusMisdirectedRequest, "DENIED", "this name is not served here")
	}
	x.port = port
	return nil
}

func (x *exchange) host() string { return x.site.address(x.port) }

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
	if x.expired && !x.leased() {
		return x.badToken(errExpired)
	}
	x.dropMount()
	if x.s.Settings.Upstream.ReadOnly != "" && writes(q.Method) {
		return refuse(http.StatusForbidden, "DENIED", x.s.Settings.Upstream.ReadOnly).because(reasonReadOnly)
	}
	return nil
}

func writes(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// dropMount turns a mount from a repository the caller may not pull into a
// plain upload start: 202 is the only refusal that all clients survive (P14).
func (x *exchange) dropMount() {
	if x.req.Mount == "" {
		return
	}
	if d := x.s.Policy.Decide(&x.who, []auth.Access{x.req.Source()}); !d.Allowed() {
		x.req.Mount, x.req.From = "", ""
	}
}

// denied is the answer to a caller without the right: 401, since clients
// re-scope only on that (S02), in words for whoever reads them (M7, M9).
func (x *exchange) denied(d auth.Decision) error {
	e := unauthorized("DENIED", x.deniedWords(d), scopeOf(x.req.Wants), "").because(reasonNotAllowed)
	if x.who.Capped { // it came by a token
		e.authErr = "insufficient_scope"
	}
	if d.Verdict == auth.Capped {
		e.reason = reasonNotCovered
	}
	return e
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
		msg := x.who.Name + " may not push to " + repo
		if own := x.s.Policy.Patterns(&x.who, auth.Push); len(own) > 0 {
			msg += "; " + x.who.Name + " may push to " + strings.Join(own[:min(3, len(own))], " and ")
		}
		return msg
	case auth.Delete:
		return x.who.Name + " may not delete in " + repo + ", or it does not exist"
	}
	return x.who.Name + " is logged in but may not pull " + repo + ", or it does not exist"
}

// options answers locally, never the upstream (P21).
func (x *exchange) options(allow string) error {
	x.w.Header()["Allow"] = []string{allow}
	x.respond(http.StatusNoContent, nil)
	return nil
}

// respond writes a whole answer of our own.
func (x *exchange) respond(status int, body []byte) {
	x.status = status
	if body != nil {
		x.w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.begin(status)
	if body != nil && x.r.Method != http.MethodHead {
		n, _ := x.w.Write(body)
		x.out += int64(n)
	}
}

// begin writes the head of the answer.
//
// A client of HTTP/1 whose body was not read to its end loses its connection:
// what still comes must not be taken for a request, and the answer not wait
// for it.
func (x *exchange) begin(status int) {
	if x.r.ProtoMajor == 1 {
		if x.unread() {
			x.w.Header()["Connection"] = []string{"close"}
		}
	} else if x.s != nil && (x.patient || x.body != nil || x.writeTimeout() == 0) {
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(x.s.idle()))
	}
	x.w.WriteHeader(status)
}

// writeTimeout is how long the server gives an answer from its request on. In
// HTTP/2 that is what ends a stream whose client opens no window; a deadline of
// our own for each would cost more than the rest of a small request. In HTTP/1
// the listener sees to it.
func (x *exchange) writeTimeout() time.Duration {
	server, _ := x.r.Context().Value(http.ServerContextKey).(*http.Server)
	if server == nil {
		return 0
	}
	return server.WriteTimeout
}

// wait takes the deadline of the answer away where the upstream may take
// longer than that.
func (x *exchange) wait(out *outgoing) {
	if x.r.ProtoMajor == 1 {
		return
	}
	if most := x.writeTimeout(); most > 0 && (out.Final || x.body != nil || x.s.Settings.Upstream.HeaderTimeout+x.s.idle() > most) {
		x.patient = true
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
	}
}

// unread reports whether some of the client's body was not read, as far as is known.
func (x *exchange) unread() bool {
	return x.r.ContentLength != 0 && !x.bodyRead && (x.body == nil || !x.body.all())
}

// refuse writes a refusal (S01).
func (x *exchange) refuse(err error) {
	var e *httpError
	if !errors.As(err, &e) {
		e = refuse(http.StatusInternalServerError, "UNKNOWN", "something went wrong here").from(err)
	}
	x.refusal, x.limitName = e, e.limit
	if errors.Is(err, context.Canceled) && x.r.Context().Err() != nil {
		x.clientGone = true
	}
	contact := ""
	if x.s != nil {
		contact = x.s.Contact
	}
	msg := sentence(e.msg, contact, x.id)
	h := x.w.Header()
	for k, v := range e.header {
		h[k] = v
	}
	h["Content-Type"] = jsonType
	if e.status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{x.challenge(e, msg)}
	}
	if x.r.Body != nil && x.r.Body != http.NoBody && x.r.ContentLength != 0 {
		x.refuseEarly(e.status, errorBody(e.code, msg))
		return
	}
	x.respond(e.status, errorBody(e.code, msg))
}

func (x *exchange) challenge(e *httpError, msg string) string {
	if e.authErr == "" {
		msg = "" // C11
	}
	return challenge("https://"+x.host()+tokenPath, x.site.name, e.scope, e.authErr, msg)
}

// refuseEarly answers a client that is still sending: at once, then a bounded
// amount of what it sends is taken, or it would see only a reset (S12).
func (x *exchange) refuseEarly(status int, body []byte) {
	rc := http.NewResponseController(x.w)
	_ = rc.EnableFullDuplex() // HTTP/1: do not read the body before answering
	x.respond(status, body)
	if x.r.ProtoMajor > 1 { // the stream ends with the answer and what still comes is dropped; clients wait for that end
		return
	}
	_ = rc.Flush()
	_ = rc.SetReadDeadline(time.Now().Add(drainTime))
	drain(x.r.Body)
}

const tokenPath = "/token"

// statusClientGone is what records say of a client that went away before its
// answer; nginx's word for it.
const statusClientGone = 499

var (
	apiVersion = []string{"registry/2.0"}
	jsonType   = []string{"application/json"}
	errExpired = errors.New("token expired")
)

// Fresh reports whether the handler can answer: it has a snapshot.
func (h *Handler) Fresh() bool { return h.snapshot.Load() != nil }
