package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
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
	maxPause        = 5 * time.Minute  // between attempts with a login that is turned down
	maxLockPause    = 16 * time.Minute // the same where the upstream counts attempts (429)
	loginProven     = 10 * time.Second // a login that /v2/ took is not tried again for so long
)

// way is how an upstream wants to be asked, as its own challenge says.
type way struct {
	basic   bool
	realm   *url.URL // not nil: Bearer
	service string
	refused error // a challenge that cannot be followed, for the log
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
	u      *Upstream
	basic  string // value of Authorization; "" without an account
	way    atomic.Pointer[way]
	tokens *lru.Cache[string, token]
	flight singleflight.Group

	mu     sync.Mutex
	reason string    // why the login is turned down; "" if it is not
	until  time.Time // it is not tried again before
	pause  time.Duration
	proven time.Time // when /v2/ last took it
}

// token is an upstream's, for one scope.
type token struct {
	value string
	renew time.Time // from then on a new one is fetched before use
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

// send asks the upstream with what it wants to see, and makes of a 401 or 403
// what S11 says. A request with a body goes out once, whatever happens: so
// its token is fetched before.
func (l *login) send(ctx context.Context, out *outgoing, req *hopRequest) (*http.Response, error) {
	if reason := l.waiting(); reason != "" {
		return nil, l.turnedDown(reason)
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
	resp, err := l.u.hop.roundTrip(ctx, req)
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
		again, _, err := l.authorization(ctx, next, out.Scope)
		if errors.Is(err, errNoAccess) {
			return nil, l.hidden(out, err)
		}
		if err != nil {
			return nil, err
		}
		if again != value {
			req.set("Authorization", again)
			resp, err = l.u.hop.roundTrip(ctx, req)
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

func turnedAway(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// hidden is what a client sees of a repository that the upstream does not show
// to us: nothing there, or nothing allowed (S11).
func (l *login) hidden(out *outgoing, cause error) *httpError {
	l.u.Log.Warn("upstream refuses what the rules allow",
		zap.String("upstream", l.u.settings.Name), zap.String("method", out.Method),
		zap.String("scope", out.Scope), zap.String("request_id", out.RequestID), zap.Error(cause))
	e := refuse(http.StatusForbidden, "DENIED", "the registry behind this one does not allow it")
	if out.Method == http.MethodGet || out.Method == http.MethodHead {
		e = refuse(http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	}
	return e.because(reasonUpstream).from(cause)
}

// find returns how the upstream wants to be asked, and asks it once.
func (l *login) find(ctx context.Context) (way, error) {
	if w := l.way.Load(); w != nil {
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
		case status == http.StatusTooManyRequests || status >= 500:
			return nil, fmt.Errorf("upstream answered %d to /v2/", status)
		default:
			// It lets anybody in, or hides the ping. The login goes along: with it there may be
			// more to see.
			w = way{basic: l.basic != ""}
		}
		if w.refused != nil {
			l.u.Log.Error("upstream's challenge cannot be followed",
				zap.String("upstream", l.u.settings.Name), zap.Error(w.refused))
		}
		if w.refused == nil {
			l.way.Store(&w)
		}
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
	return fmt.Sprintf("token realm %q is not on the upstream's host; is its host to be added to token_hosts?", e.Realm)
}

// realm checks where tokens are to come from (T34): the upstream's own host or one in
// token_hosts, over https; over http only where the upstream itself is reached
// so, at the same host and port.
func (u *Upstream) realm(s string) (*url.URL, error) {
	r, err := url.Parse(s)
	switch {
	case err != nil || r.Hostname() == "" || r.User != nil || r.Opaque != "":
		return nil, fmt.Errorf("token realm %q is not a URL", s)
	case r.Scheme == "http" && !u.sameOrigin(r):
		return nil, fmt.Errorf("token realm %q is not https", s)
	case r.Scheme != "http" && r.Scheme != "https":
		return nil, fmt.Errorf("token realm %q is not https", s)
	case !u.ownHost(r) && !hostIn(u.settings.TokenHosts, r):
		return nil, &ForeignRealmError{Realm: s, Host: r.Host}
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
		status, header, err := l.ping(ctx, l.basic)
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusUnauthorized, status == http.StatusTooManyRequests:
			return nil, l.turnedDown(l.down("/v2/", status, header))
		}
		l.up()
		return nil, nil
	})
	return err
}

// down notes that our login is turned down. It is tried again after a pause
// that grows: some registries lock an account for as long as it is tried.
func (l *login) down(where string, status int, header http.Header) (reason string) {
	longest := maxPause
	reason = fmt.Sprintf("%s refuses the login %q", where, l.u.settings.Username)
	if l.basic == "" {
		reason = where + " refuses anonymous callers"
	}
	if status == http.StatusTooManyRequests {
		longest = maxLockPause
		reason = where + " answers 429 to regward's login; the account may be locked"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pause = min(longest, max(30*time.Second, 2*l.pause))
	if secs, err := strconv.Atoi(header.Get("Retry-After")); err == nil && secs > 0 {
		l.pause = min(longest, max(l.pause, time.Duration(secs)*time.Second))
	}
	l.reason, l.until = reason, l.u.Now().Add(l.pause)
	l.u.Log.Error("upstream login refused", zap.String("upstream", l.u.settings.Name),
		zap.String("reason", reason), zap.Duration("next_try", l.pause))
	return reason
}

func (l *login) up() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason, l.pause, l.proven = "", 0, l.u.Now()
}

func (l *login) refused() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// waiting is the reason why nobody may ask now, or "".
func (l *login) waiting() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reason != "" && l.u.Now().Before(l.until) {
		return l.reason
	}
	return ""
}

// errLogin is our login turned down.
type errLogin struct{ reason string }

func (e errLogin) Error() string { return e.reason }

// turnedDown is what clients see while our login is turned down.
func (l *login) turnedDown(reason string) *httpError {
	return broken(errLogin{reason})
}
