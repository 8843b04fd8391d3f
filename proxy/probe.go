package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Probe is what `validate --online` and /readyz want to know of an upstream.
type Probe struct {
	Open   bool   // /v2/ answers 200 without a login (M3)
	Login  string // why the account is not good; "" if it is, or there is none
	Wrong  string // what else is wrong, in words that anybody may read; "" if there are none
	Server string // the Server header of /v2/
}

// Probe asks the upstream without a login and, if there is an account, with it.
func (u *Upstream) Probe(ctx context.Context) (Probe, error) {
	p, err := u.probe(ctx)
	var refused errLogin
	var foreign *ForeignRealmError
	var realm *realmError
	var ours *httpError
	var secure *tlsError
	err = u.inWords(err)
	switch {
	case errors.As(err, &secure):
		p.Wrong = secure.words
	case errors.As(err, &refused):
		p.Login, err = refused.reason, nil
	case errors.As(err, &foreign):
		p.Wrong = foreign.Error()
	case errors.As(err, &realm):
		p.Wrong = realm.Error()
	case errors.As(err, &ours) && ours.status == http.StatusTooManyRequests:
		p.Wrong = "refuses for now: too many requests there (429)"
	}
	u.state.set(err == nil || !isFailure(err))
	return p, err
}

func (u *Upstream) probe(ctx context.Context) (Probe, error) {
	status, header, err := u.login.ping(ctx, "")
	if err != nil {
		return Probe{}, err
	}
	p := Probe{Open: status == http.StatusOK, Server: header.Get("Server")}
	u.noteServer(header)
	switch {
	case status == http.StatusOK && isPage(header) && header.Get("Docker-Distribution-Api-Version") == "": // Quay's true is called HTML too
		p.Open = false
		return p, errors.New("/v2/ answers with a page for a browser, text/html: is a registry there?")
	case status == http.StatusOK || status == http.StatusUnauthorized:
		return p, u.check(ctx)
	case status == http.StatusTooManyRequests:
		return p, u.limited(header, false)
	}
	return p, fmt.Errorf("/v2/ answers %d: is a registry there?", status)
}

// check asks /v2/ with our credential, for readiness: nil if the upstream is
// there and takes it.
func (u *Upstream) check(ctx context.Context) error {
	l := u.login
	if err := l.ready(ctx); err != nil {
		return err
	}
	w, err := l.find(ctx)
	if err != nil {
		return err
	}
	value, _, err := l.authorization(ctx, w, "")
	if errors.Is(err, errNoAccess) && l.basic == "" {
		return nil // it is there, and an anonymous token without a scope is no right
	}
	if err != nil {
		return err
	}
	status, header, body, err := l.get(ctx, u.at(u.prefix+"/v2/"), value)
	switch {
	case err != nil:
		return err
	case (status == http.StatusUnauthorized || status == http.StatusBadRequest) && l.basic != "":
		l.forget("", value)
		return l.down("/v2/", header).refuse()
	case status == http.StatusTooManyRequests:
		l.forget("", value)
		return l.tooMany(header, body)
	case status >= 500:
		return fmt.Errorf("/v2/ answers %d", status)
	}
	l.up()
	return nil
}

// condition is what answers tell of an upstream in passing.
type condition struct {
	budget budget
	health atomic.Int32 // 0: nothing is known
	nexus  atomic.Bool  // it said so, and shared_blobs is not spelled out
	asks   sometimes    // for shared_blobs
}

const (
	healthUp = iota + 1
	healthDown
)

func (c *condition) set(up bool) {
	health := int32(healthDown)
	if up {
		health = healthUp
	}
	if c.health.Load() != health {
		c.health.Store(health)
	}
}

// note keeps what the answer to a request, or its absence, says of the
// upstream. It is on the way of every request: nothing here takes a lock or,
// where nothing is new, memory.
func (u *Upstream) note(ctx context.Context, out *outgoing, resp *http.Response, err error) {
	if err != nil {
		if ctx.Err() == nil && isFailure(err) {
			u.state.set(false)
		}
		return
	}
	u.state.set(resp.StatusCode < http.StatusBadGateway || resp.StatusCode > http.StatusGatewayTimeout)
	if out.Credential == "" { // what it says to other people is not about us
		u.state.budget.note(u, out, resp.Header)
	}
	if u.settings.SharedBlobs == nil {
		u.noteServer(resp.Header)
	}
}

// isFailure reports whether an error is the upstream's and no refusal of it or
// of ours.
func isFailure(err error) bool {
	var ours *httpError
	var body errClientBody
	var large *http.MaxBytesError
	if errors.As(err, &ours) {
		var refused errLogin
		return (ours.status == http.StatusBadGateway || ours.status == http.StatusGatewayTimeout) && !errors.As(err, &refused)
	}
	return !errors.As(err, &body) && !errors.As(err, &large)
}

// noteServer asks for shared_blobs where the upstream turns out to be one that
// gives any layer under any image name.
func (u *Upstream) noteServer(h http.Header) {
	if u.settings.SharedBlobs != nil || !serverIsNexus(h) {
		return
	}
	u.state.nexus.Store(true)
	u.state.asks.every(u.Now(), time.Hour, func() {
		u.Log.Error("upstream "+needsSharedBlobs, zap.String("upstream", u.settings.Name), zap.String("server", short(first(h, "Server"))))
	})
}

const needsSharedBlobs = "is Nexus, which gives any layer under any image name: whoever may pull one image can fetch the layers of all by their digests. " +
	"Spell out `shared_blobs: true`, or `false` if that is meant"

// serverIsNexus knows Nexus by its Server field.
func serverIsNexus(h http.Header) bool { return strings.HasPrefix(first(h, "Server"), "Nexus") }

// State is what is known of an upstream without asking it.
type State struct {
	Known, Up bool     // whether it answered when it was last asked; not known before the first time
	Login     string   // why our own login is turned down; "" if it is not, or there is none
	Attention []string // what an operator should see to
	Budget    *Budget  // nil: none was told, or long ago
}

// State takes no time.
func (u *Upstream) State() State {
	health := u.state.health.Load()
	s := State{Known: health != 0, Up: health == healthUp, Login: u.Refused(), Budget: u.state.budget.current(u.Now())}
	if b := s.Budget; b != nil && b.level() == nearlyGone {
		s.Attention = append(s.Attention, b.words())
	}
	if u.state.nexus.Load() {
		s.Attention = append(s.Attention, needsSharedBlobs)
	}
	return s
}

// Behind are the upstreams of the snapshot, in the order of its settings.
func (s *Snapshot) Behind() []*Upstream {
	list := make([]*Upstream, len(s.backends))
	for i, b := range s.backends {
		list[i] = b.Upstream
	}
	return list
}

// Name is what records call the upstream.
func (u *Upstream) Name() string { return u.settings.Name }
