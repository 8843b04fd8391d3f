package proxy

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

const (
	maxTokens       = 4096             // upstream tokens kept, one a scope
	maxTokenReply   = 64 << 10         // bytes of a token service's answer
	maxTokenLength  = 16 << 10         // bytes of one token
	authTimeout     = 15 * time.Second // for a token or a ping (T29)
	defaultTokenTTL = time.Minute      // where expires_in is absent
	maxTokenTTL     = 24 * time.Hour
	firstPause      = 30 * time.Second // between attempts with a login that is turned down
	maxPause        = 5 * time.Minute  // the same after many
	lockPause       = 16 * time.Minute // after Nexus locked the account: it wants 15 quiet minutes, and each request begins them anew
	maxLockWords    = 4 << 10          // bytes of a 429 that are read to know a lock-out
	loginProven     = 10 * time.Second // a login that /v2/ took is not tried again for so long
	askRefusedAgain = 30 * time.Second // a challenge that cannot be followed is believed for so long
)

// way is how an upstream wants to be asked, as its own challenge says.
type way struct {
	basic   bool
	realm   *url.URL // not nil: Bearer
	service string
	refused error     // a challenge that cannot be followed, for operators
	until   time.Time // the way is looked for again from then on; zero: when it is turned down
}

func (w way) same(v way) bool {
	if w.basic != v.basic || w.service != v.service || (w.realm == nil) != (v.realm == nil) {
		return false
	}
	return (w.refused == nil) == (v.refused == nil) && (w.realm == nil || w.realm.String() == v.realm.String())
}

// login is regward's own login at the upstream: how to use it, the tokens it
// gave, and whether it is taken at all.
type login struct {
	u       *Upstream
	basic   string // value of Authorization; "" without an account
	way     atomic.Pointer[way]
	tokens  *lru.Cache[string, token]
	flight  singleflight.Group
	trouble atomic.Pointer[trouble] // nil while the login is taken

	mu     sync.Mutex
	pause  time.Duration
	proven time.Time // when /v2/ last took it
	held   time.Time // the token service is not asked before: it had too many requests
}

// trouble is our login turned down.
type trouble struct {
	reason string    // for the log, /readyz and the status
	told   string    // for clients, who need not know the account's name
	until  time.Time // it is not tried again before
	locked bool      // by Nexus: whoever asks prolongs it
}

// token is an upstream's, for one scope.
type token struct {
	value   string
	renew   time.Time // from then on a new one is fetched before use
	expires time.Time
}

// errNoAccess is a token service that knows our login, but gives nothing for
// the scope.
var errNoAccess = errors.New("upstream gives no token for this scope")

func newLogin(u *Upstream) *login {
	l := &login{u: u}
	if u.settings.Username != "" {
		l.basic = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.settings.Username+":"+u.settings.Password))
	}
	l.tokens, _ = lru.New[string, token](maxTokens) // fails for sizes below one only
	return l
}

// send asks the upstream with our own login, and notes how it does.
func (l *login) send(ctx context.Context, out *outgoing, req *hopRequest) (*http.Response, error) {
	resp, err := l.ask(ctx, out, req)
	l.u.note(ctx, out, resp, err)
	return resp, err
}

// ask sends what the upstream wants to see, and makes of a 401 or 403 what S11
// says. A request with a body goes out once, whatever happens: so its token is
// fetched before.
func (l *login) ask(ctx context.Context, out *outgoing, req *hopRequest) (*http.Response, error) {
	if err := l.ready(ctx); err != nil {
		return nil, err
	}
	w, err := l.find(ctx)
	if err != nil {
		return nil, err
	}
	value, fresh, err := l.authorization(ctx, w, out.Scope)
	if errors.Is(err, errNoAccess) {
		return nil, l.hidden(out, err)
	}
	if err != nil {
		return nil, err
	}
	req.set("Authorization", value)
	resp, err := l.roundTrip(ctx, out.Scope, value, req)
	if err == nil && resp.StatusCode == http.StatusBadRequest && value != "" && value == l.basic {
		// ECR says so of a password that is out of date. If it is not that, the client is told.
		if err := l.prove(ctx); err != nil {
			drop(resp)
			return nil, err
		}
	}
	if err != nil || !turnedAway(resp.StatusCode) {
		return resp, err
	}

	// Our own credential is turned down. The challenge may be news.
	status := resp.StatusCode
	next := w
	if status == http.StatusUnauthorized {
		if now := l.read(resp.Header); now.basic || now.realm != nil || now.refused != nil {
			next = now
		}
	}
	drop(resp)
	changed := !next.same(w)
	if changed && next.refused == nil {
		l.way.Store(&next)
	}
	if w.realm != nil {
		l.forget(out.Scope, value)
	}
	if out.bodyless() && (changed || next.realm != nil && !fresh) {
		again, renewed, err := l.authorization(ctx, next, out.Scope)
		if errors.Is(err, errNoAccess) {
			return nil, l.hidden(out, err)
		}
		if err != nil {
			return nil, err
		}
		if again != value || renewed { // Nexus gives a user the same token again, and knows it then
			req.set("Authorization", again)
			resp, err = l.roundTrip(ctx, out.Scope, again, req)
			if err != nil || !turnedAway(resp.StatusCode) {
				return resp, err
			}
			status = resp.StatusCode
			drop(resp)
		}
	}
	if status == http.StatusUnauthorized && next.basic && l.basic != "" {
		if err := l.prove(ctx); err != nil {
			return nil, err
		}
	}
	return nil, l.hidden(out, fmt.Errorf("upstream answered %d to %s %s", status, out.Method, out.Scope))
}

// roundTrip sends our credential and looks whether it is still one.
func (l *login) roundTrip(ctx context.Context, scope, value string, req *hopRequest) (*http.Response, error) {
	resp, err := l.u.hop.roundTrip(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := l.u.refusedCertificate(resp); err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests && value != "" && lockedOut(resp.Header, resp.Body):
		drop(resp)
		l.forget(scope, value)
		return nil, l.lock(resp.Header).refuse()
	case resp.StatusCode < 300 && value != "" && l.trouble.Load() != nil:
		l.up()
	}
	return resp, nil
}

func turnedAway(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// hidden is what a client sees of a repository that the upstream does not show
// to us: nothing there, or nothing allowed (S11).
func (l *login) hidden(out *outgoing, cause error) *httpError {
	if out.Scope != catalogScope { // that many have no catalog for us is no fault, and told once in a while
		l.u.Log.Warn("upstream refuses what the rules allow",
			zap.String("upstream", l.u.settings.Name), zap.String("method", out.Method),
			zap.String("scope", out.Scope), zap.String("request_id", out.RequestID), zap.Error(cause))
	}
	e := refuse(http.StatusForbidden, "DENIED", "the registry behind this one does not allow it")
	if out.Method == http.MethodGet || out.Method == http.MethodHead {
		e = refuse(http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	}
	e.hidden = true
	return e.because(reasonUpstream).from(cause)
}

// find returns how the upstream wants to be asked, and asks it once.
func (l *login) find(ctx context.Context) (way, error) {
	if w := l.way.Load(); w != nil && (w.until.IsZero() || l.u.Now().Before(w.until)) {
		return *w, nil
	}
	w, err := l.once(ctx, "way", func(ctx context.Context) (any, error) {
		status, header, err := l.ping(ctx, "")
		if err != nil {
			return nil, err
		}
		var w way
		switch {
		case status == http.StatusUnauthorized:
			w = l.read(header)
		case status == http.StatusTooManyRequests:
			return nil, l.u.limited(header, false)
		case status >= 500:
			return nil, fmt.Errorf("upstream answered %d to /v2/", status)
		default:
			// It lets anybody in, or hides the ping. The login goes along: with it there may be
			// more to see.
			w = way{basic: l.basic != ""}
		}
		if w.refused != nil {
			l.u.Log.Error("upstream's challenge cannot be followed",
				zap.String("upstream", l.u.settings.Name), zap.Error(w.refused))
			w.until = l.u.Now().Add(askRefusedAgain)
		}
		l.way.Store(&w)
		return w, nil
	})
	if err != nil {
		return way{}, err
	}
	return w.(way), nil
}

// read makes a way of an answer's challenges. Bearer comes before Basic, which
// may be without the rights that a token has; a realm that may not be asked is
// no way.
func (l *login) read(header http.Header) (w way) {
	for _, c := range parseChallenges(header["Www-Authenticate"]) {
		switch c.Scheme {
		case "basic":
			w.basic = true
		case "bearer":
			if w.realm != nil {
				continue
			}
			realm, err := l.u.realm(c.Realm)
			if err != nil {
				w.refused = err
				continue
			}
			w.realm, w.service = realm, c.Service
		}
	}
	if w.realm != nil {
		w.basic, w.refused = false, nil
	}
	return w
}

// ForeignRealmError is an upstream that sends for tokens to a host which is
// neither its own nor in token_hosts.
type ForeignRealmError struct{ Realm, Host string }

func (e *ForeignRealmError) Error() string {
	host := e.Host
	if strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" { // a port, or worse
		host = strconv.Quote(host)
	}
	return fmt.Sprintf("its tokens come from %q, which is not the upstream's host; if that is right, add it: token_hosts: [%s]", short(e.Realm), host)
}

// realmError is any other realm that is not asked.
type realmError struct{ realm, why string }

func (e *realmError) Error() string {
	return fmt.Sprintf("its tokens come from %q, which is not %s", short(e.realm), e.why)
}

// realm checks where tokens are to come from (T34): the upstream's own host or one in
// token_hosts, over https; over http only where the upstream itself is reached
// so, at the same host and port.
func (u *Upstream) realm(s string) (*url.URL, error) {
	r, err := url.Parse(s)
	switch {
	case err != nil || r.Hostname() == "" || r.User != nil || r.Opaque != "":
		return nil, &realmError{s, "a URL"}
	case r.Scheme == "http" && !u.sameOrigin(r):
		return nil, &realmError{s, "https; set it to https there: over http, logins go to the host and port of url alone"}
	case r.Scheme != "http" && r.Scheme != "https":
		return nil, &realmError{s, "https"}
	case !u.ownHost(r) && !hostIn(u.settings.TokenHosts, r):
		return nil, &ForeignRealmError{Realm: s, Host: strings.ToLower(r.Host)}
	}
	r.Fragment = ""
	return r, nil
}

// prove asks /v2/ with our login and returns the refusal if it is turned down.
// A login proven a moment ago is not tried again.
func (l *login) prove(ctx context.Context) error {
	l.mu.Lock()
	recent := !l.proven.IsZero() && l.u.Now().Sub(l.proven) < loginProven
	l.mu.Unlock()
	if recent {
		return nil
	}
	_, err := l.once(ctx, "prove", func(ctx context.Context) (any, error) {
		if t := l.trouble.Load(); t != nil && t.locked && l.u.Now().Before(t.until) { // somebody asked just before
			return nil, t.refuse()
		}
		status, header, body, err := l.get(ctx, l.u.at(l.u.prefix+"/v2/"), l.basic)
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusUnauthorized, status == http.StatusBadRequest:
			return nil, l.down("/v2/", header).refuse()
		case status == http.StatusTooManyRequests:
			return nil, l.tooMany(header, body)
		}
		l.up()
		return nil, nil
	})
	return err
}

// ready is nil if our login may be tried. After a lock-out one question for
// all finds out whether it is over.
func (l *login) ready(ctx context.Context) error {
	t := l.trouble.Load()
	switch {
	case t == nil:
		return nil
	case l.u.Now().Before(t.until):
		return t.refuse()
	case t.locked:
		return l.prove(ctx)
	}
	return nil
}

// down notes that our login is turned down. It is tried again after a pause
// that grows.
func (l *login) down(where string, header http.Header) *trouble {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.u.Now()
	l.pause = min(maxPause, max(firstPause, 2*l.pause))
	if wait, told := readRetryAfter(header, now); told {
		l.pause = min(maxPause, max(l.pause, wait))
	}
	t := &trouble{
		reason: fmt.Sprintf("%s refuses the login %q", where, l.u.settings.Username),
		told:   "the registry behind this one does not take the account that this registry has there; nobody's own login is wrong",
		until:  now.Add(l.pause),
	}
	l.trouble.Store(t)
	l.u.Log.Error("upstream login refused", zap.String("upstream", l.u.settings.Name),
		zap.String("reason", t.reason), zap.Duration("next_try", l.pause))
	return t
}

// lock notes that Nexus has locked our account (M16): nobody asks until the
// quiet time it wants is over.
func (l *login) lock(header http.Header) *trouble {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.u.Now()
	if t := l.trouble.Load(); t != nil && t.locked && now.Before(t.until) { // told already; this request was under way
		return t
	}
	until := now.Add(lockPause)
	about, what := until.UTC().Format("15:04 MST"), "pull"
	if l.u.settings.Passthrough {
		what = "anonymous pull"
	}
	t := &trouble{
		reason: fmt.Sprintf("Nexus has locked the account %q of this proxy (429, until about %s); no %s can work until then. Not a limit of regward.",
			l.u.settings.Username, about, what),
		told:   "the registry behind this one has locked the account that this registry has there, until about " + about + "; it is no limit of this registry, and nobody's own login is wrong",
		until:  until,
		locked: true,
	}
	l.trouble.Store(t)
	l.u.Log.Error(t.reason, zap.String("upstream", l.u.settings.Name), zap.String("retry_after", short(first(header, "Retry-After"))))
	return t
}

// lockedOut reports whether a 429 is Nexus' answer to all that an account
// sends which it has locked: told by its name, or by its words where a proxy
// stands in front. A limit of pulls is none, and neither is any other 429: that
// must not stop everybody. The body is read, maxLockWords of it at most.
func lockedOut(h http.Header, body io.Reader) bool {
	if first(h, "Ratelimit-Limit") != "" || first(h, "Ratelimit-Remaining") != "" {
		return false
	}
	if serverIsNexus(h) {
		return true
	}
	words, _ := io.ReadAll(io.LimitReader(body, maxLockWords))
	return strings.Contains(strings.ToLower(string(words)), "too many authentication attempts")
}

// tooMany is a 429 to a small request of our own with our login.
func (l *login) tooMany(header http.Header, body []byte) *httpError {
	if l.basic != "" && lockedOut(header, bytes.NewReader(body)) {
		return l.lock(header).refuse()
	}
	return l.u.limited(header, false)
}

// up notes that our login is taken.
func (l *login) up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trouble.Swap(nil) != nil {
		l.u.Log.Info("upstream takes the login again", zap.String("upstream", l.u.settings.Name))
	}
	l.pause, l.proven = 0, l.u.Now()
}

func (l *login) refused() string {
	if t := l.trouble.Load(); t != nil {
		return t.reason
	}
	return ""
}

// errLogin is our login turned down.
type errLogin struct{ reason string }

func (e errLogin) Error() string { return e.reason }

// refuse is what clients see while our login is turned down (S11).
func (t *trouble) refuse() *httpError {
	return refuse(http.StatusBadGateway, "UNAVAILABLE", t.told).from(errLogin{t.reason})
}
