package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
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
	Refresh  *auth.Refreshing // gives and takes refresh tokens; nil: none, whatever Settings.Renew
	// OnError is what holds while Limiter or Failures cannot be asked; zero where
	// they are this process's own. Local and LocalFailures decide instead where it
	// is OnErrorLocal; nil: ones of their own.
	OnError              OnError
	Local, LocalFailures ratelimit.Limiter

	Shared Shared // what instances tell each other besides; nil: there is one alone

	Log    *zap.Logger // the process's own log
	Access *zap.Logger // one line per request; nil is off
	Audit  *Audit      // nil is off
	Now    func() time.Time
}

// Handler is the gate.
type Handler struct {
	Options
	snapshot   atomic.Pointer[Snapshot]
	metrics    *Metrics
	refusals   *refusals
	challenged *refusals // requests without credential: the first step of most clients, no news
	free       *freePulls
	notes      *notes
	foreign    sometimes // tokens signed by keys that are not ours (M14)
	noRefresh  sometimes // refresh tokens that could not be given
	small      *buffers
	large      *buffers

	overrides overrides
	unsaid    unsaid
	shared    *sharedState
	talk      talk
	one       oneAddress
	tagLocks  tagLocks

	tagPatience time.Duration                              // for finding out where an immutable tag is
	pause       func(context.Context, time.Duration) error // of a paced body
}

// New makes a handler. It answers 503 until the first Swap.
func New(o Options) *Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Failures == nil {
		o.Failures, o.LocalFailures = o.Limiter, o.Local
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	shared := &sharedState{mode: o.OnError, log: o.Log, now: o.Now, later: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}
	o.Limiter, o.Failures = shared.behind(o.Limiter, o.Local), shared.behind(o.Failures, o.LocalFailures)
	h := &Handler{Options: o, shared: shared, talk: newTalk(), pause: sleep, tagPatience: tagPatience, refusals: newRefusals(maxRefusals), challenged: newRefusals(maxChallenged),
		free: newFreePulls(), notes: newNotes(o.Shared), small: newBuffers(smallBuffer), large: newBuffers(largeBuffer)}
	h.metrics = newMetrics(h)
	if o.Cache != nil {
		o.Cache.OnUnsaid(h.warnUnsaid)
	}
	return h
}

// Swap makes s decide from now on and returns the one that did. Requests under
// way keep theirs.
func (h *Handler) Swap(s *Snapshot) (old *Snapshot) {
	old = h.enforce(s)
	if old != nil {
		for _, b := range old.backends {
			if !s.uses(b.Upstream) {
				b.Close()
			}
		}
	}
	return old
}

// Current is the snapshot in force, nil before the first Swap.
func (h *Handler) Current() *Snapshot { return h.snapshot.Load() }

// Metrics are the collectors of the handler, to be registered once.
func (h *Handler) Metrics() *Metrics { return h.metrics }

// exchange is one request on its way through the gate and what is told about
// it afterwards.
type exchange struct {
	h     *Handler
	s     *Snapshot
	w     http.ResponseWriter
	r     *http.Request
	id    string
	start time.Time

	site *site
	port string
	addr netip.Addr

	req        Request
	up         *backend    // which upstream it is for; nil for what is no repository's, or at none
	failed     *backend    // where that is nil: of those that were asked, the one that failed
	name       string      // of the repository there
	from       string      // of the mount's source there
	repo       auth.Access // of the repository as rules know it
	nsUsed     bool        // ns= led to the upstream
	who        auth.Caller
	buckets    buckets         // of who
	credential string          // what came with the request, for records
	basic      auth.Credential // a login that came with the request itself, once proven
	fresh      bool            // the login was proven by a check and not from memory
	offline    bool            // what audits it is who gives a refresh token for it
	expired    bool            // the token has run out, and only a lease may forgive it
	shared     *sharing        // nil: the upstream keeps its repositories apart
	upload     *upload
	unlock     func()      // the immutable tags that are pushed; nil: none
	body       *clientBody // what goes on of the client's body; nil: nothing
	bodyRead   bool        // it was read here, to its end
	decision   auth.Decision
	decided    bool

	free          bool            // a pull that belongs to one counted before (L02)
	repeated      bool            // the same wrong password again: it counts as no failed login
	wrong         *auth.Rejection // what was said of a wrong login, for records
	limitName     string
	wouldThrottle []string
	places        []func() // of transfers, to be given back
	pace          *pacer   // of the body; nil: as fast as it goes
	slowedBy      string   // the limit of bytes that held it up most
	slowed        time.Duration

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
	w.Header()["X-Request-Id"] = []string{x.id}
	h.metrics.inFlight.Inc()
	defer h.metrics.inFlight.Dec()
	defer x.leave()
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
	if x.s.cors != nil && (api || path == tokenPath) {
		x.allowOrigin()
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
	case strings.HasPrefix(path, searchPrefix):
		return x.search()
	}
	return refuse(http.StatusNotFound, "NAME_UNKNOWN", "nothing is served under this path")
}

// gate is what regward is for.
func (x *exchange) gate() error {
	var err error
	if x.req, err = ParseRequest(x.r.Method, x.r.URL); err != nil { // what is asked
		return err
	}
	if err := x.find(); err != nil { // where it is
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
	x.addr = clientAddr(remote, x.r.Header["X-Forwarded-For"], x.s.Proxies)
	if x.s.OnlyProxy && !x.s.inFront(socketPeer(x.r, peer.Addr())) {
		return refuse(http.StatusForbidden, "DENIED", "this port is for the proxy in front only").because(reasonNotAllowed).
			from(fmt.Errorf("tls.mode is off, and %s is neither in trusted_proxies nor in proxy_protocol.from", socketPeer(x.r, peer.Addr())))
	}
	host, port, err := authority(x.r)
	if err != nil {
		return err
	}
	if x.site = x.s.site(host, port); x.site == nil {
		return refuse(http.StatusMisdirectedRequest, "DENIED", "this name is not served here").
			from(fmt.Errorf("host %q is not in hostname; a proxy in front has to pass on the one that clients ask for", host))
	}
	x.port = port
	return nil
}

func (x *exchange) host() string { return x.site.address(x.port) }

const tokenPath = "/token"

// statusClientGone is what records say of a client that went away before its
// answer; nginx's word for it.
const statusClientGone = 499

var (
	apiVersion = []string{"registry/2.0"}
	jsonType   = []string{"application/json"}
	errExpired = errors.New("token expired")
)
