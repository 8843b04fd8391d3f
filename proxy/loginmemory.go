package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/regward/regward/auth"
)

const (
	madeUpTTL    = 20 * time.Minute // how long it is believed that a made-up login is turned down
	madeUpRecent = 10 * time.Second // the same where it has to explain an answer
	madeUpPause  = 5 * time.Second  // before a made-up login is tried again that was not turned down
)

// loginMemory is what an upstream said about logins. Names and passwords are in
// it as keyed hashes only, and it is looked up by those.
type loginMemory struct {
	u *Upstream
	*guesses
	answers *lru.Cache[loginKey, loginAnswer]
	flight  singleflight.Group

	mu     sync.Mutex
	last   turnedDown // zero: nothing is believed
	err    error      // why not, when it was last tried
	failed time.Time
	warned time.Time
}

// guesses are what is known of names. Upstreams on one host share them: they
// may be parts of one registry, which counts wrong passwords together.
type guesses struct {
	secret [32]byte // of this process
	names  *lru.Cache[loginKey, loginName]
	turns  turns
}

func newGuesses() *guesses {
	g := &guesses{turns: turns{under: map[loginKey]*turn{}}}
	_, _ = rand.Read(g.secret[:])                            // never fails
	g.names, _ = lru.New[loginKey, loginName](maxAskedNames) // fails for sizes below one only
	return g
}

// shareGuesses has u count with another upstream on the same host, if there is
// one. u must not have been asked anything.
func (u *Upstream) shareGuesses(with []*backend) bool {
	for _, b := range with {
		if b.hostname == u.hostname && b.port == u.port {
			u.asked.guesses = b.asked.guesses
			return true
		}
	}
	return false
}

type loginKey [sha256.Size]byte

// loginAnswer is why a login is not asked about again for some time.
type loginAnswer struct {
	at   time.Time
	span time.Duration
	err  error
}

// loginName is what is known of a name.
type loginName struct {
	wrong  [maxWrong]time.Time // when its last passwords were turned down, the latest last
	locked time.Time
	span   time.Duration
}

// turnedDown is a made-up login that the upstream did not take.
type turnedDown struct {
	at     time.Time
	way    way
	status int  // 401 or 403
	nexus  bool // it was Nexus that said so
}

func newLoginMemory(u *Upstream) *loginMemory {
	m := &loginMemory{u: u, guesses: newGuesses()}
	m.answers, _ = lru.New[loginKey, loginAnswer](maxAskedLogins) // fails for sizes below one only
	return m
}

// key is an HMAC over a name and a password with the length of the first, or
// over a name.
func (m *guesses) key(name, password string) (key loginKey) {
	mac := hmac.New(sha256.New, m.secret[:])
	_ = binary.Write(mac, binary.BigEndian, uint32(len(name)))
	mac.Write([]byte(name))
	mac.Write([]byte(password))
	mac.Sum(key[:0])
	return key
}

// foldName folds as loosely as any upstream might.
func foldName(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// within is false before at as well: a clock that was set back proves nothing.
func within(at, now time.Time, d time.Duration) bool {
	age := now.Sub(at)
	return !at.IsZero() && 0 <= age && age < d
}

// turnsDown makes sure that the upstream turns a made-up login down: if it
// takes any, or cannot be asked, no answer of it means anything. What was found
// out is believed for a time, "no" for a short one; all who want to know share
// one question.
func (m *loginMemory) turnsDown(ctx context.Context, believed time.Duration) (turnedDown, error) {
	if t, err, ok := m.lately(believed); ok {
		return t, err
	}
	done := m.flight.DoChan(believed.String(), func() (any, error) {
		if t, err, ok := m.lately(believed); ok { // between our look and our turn
			return t, err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), authTimeout)
		defer cancel()
		t, err := m.madeUp(ctx)
		m.note(t, err)
		return t, err
	})
	select {
	case r := <-done:
		t, _ := r.Val.(turnedDown)
		return t, r.Err
	case <-ctx.Done():
		return turnedDown{}, unreachable(ctx.Err())
	}
}

func (m *loginMemory) lately(believed time.Duration) (t turnedDown, err error, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.u.Now()
	if within(m.last.at, now, believed) {
		return m.last, nil, true
	}
	if m.err != nil && within(m.failed, now, madeUpPause) {
		return turnedDown{}, m.err, true
	}
	return turnedDown{}, nil, false
}

func (m *loginMemory) note(t turnedDown, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last, m.err, m.failed = t, err, m.u.Now()
	if errors.Is(err, errTakesAny) && !within(m.warned, m.failed, time.Minute) {
		m.warned = m.failed
		m.u.Log.Error("logins cannot be checked: the upstream takes any login; until it turns a made-up one down nobody can log in",
			zap.String("upstream", m.u.settings.Name))
	}
}

// lost is a question that found no answer. The next one, whoever it is about,
// first makes sure that the upstream is there and is asked the right way.
func (m *loginMemory) lost(cause error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !within(m.last.at, m.u.Now(), madeUpRecent) {
		m.last = turnedDown{}
	}
	return unreachable(cause)
}

func unreachable(cause error) *cannotSay {
	return &cannotSay{"logins cannot be checked: the registry that knows them cannot be reached or answers wrongly; try again later", loginPause, cause, auth.ErrUnavailable}
}

var errTakesAny = errors.New("it takes a login that cannot exist")

// madeUp tries a login that nobody has.
func (m *loginMemory) madeUp(ctx context.Context) (turnedDown, error) {
	w, err := m.way(ctx)
	if err != nil {
		return turnedDown{}, err
	}
	status, header, err := m.question(ctx, w, "regward-check-"+strings.ToLower(rand.Text()), rand.Text())
	switch {
	case err != nil:
		return turnedDown{}, unreachable(err)
	case status == http.StatusOK:
		return turnedDown{}, &cannotSay{"logins cannot be checked: the upstream takes any login", madeUpPause, errTakesAny, nil}
	case !turnedAway(status):
		return turnedDown{}, unreachable(fmt.Errorf("it answers %d to a made-up login", status))
	}
	return turnedDown{m.u.Now(), w, status, isNexus(w, header)}, nil
}

// way asks for the challenge anew: it may have changed since requests began to
// use it.
func (m *loginMemory) way(ctx context.Context) (way, error) {
	status, header, err := m.u.login.ping(ctx, "")
	if err != nil {
		return way{}, unreachable(err)
	}
	if status == http.StatusTooManyRequests || status >= 500 {
		return way{}, unreachable(fmt.Errorf("it answers %d to /v2/", status))
	}
	var w way
	if status == http.StatusUnauthorized {
		w = m.u.login.read(header)
	}
	if w.refused != nil && !w.basic {
		return way{}, &cannotSay{"logins cannot be checked: the upstream sends them where they must not go", madeUpPause, w.refused, nil}
	}
	return w, nil
}

// question asks whether a login is good: of the token service that the
// upstream's own challenge names (T34), for a token without a scope, or else
// of /v2/. Redirects are not followed.
func (m *loginMemory) question(ctx context.Context, w way, user, password string) (status int, header http.Header, err error) {
	at := m.u.at(m.u.prefix + "/v2/")
	if w.realm != nil {
		service := *w.realm
		query := service.Query()
		query.Del("scope")
		query.Set("account", user)
		if w.service != "" {
			query.Set("service", w.service)
		}
		service.RawQuery = query.Encode()
		at = &service
	}
	status, header, body, err := m.u.login.get(ctx, at, "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	switch {
	case err != nil || status != http.StatusOK:
	case w.realm != nil:
		_, err = readToken(body, m.u.Now())
	case !fromRegistry(header):
		err = errors.New("it answers 200 to /v2/ with a page: something else stands there")
	}
	return status, header, err
}

// fromRegistry reports whether a 200 to /v2/ can be a registry's: of whoever
// answers in its place while it is away, any login is good.
func fromRegistry(h http.Header) bool {
	return first(h, "Docker-Distribution-Api-Version") != "" || first(h, "Content-Type") == "" || isJSON(h)
}

// isNexus knows Nexus by its name, by its realm, or by a token service that is
// its own service.
func isNexus(w way, header http.Header) bool {
	if strings.HasPrefix(header.Get("Server"), "Nexus/") {
		return true
	}
	for _, c := range parseChallenges(header["Www-Authenticate"]) {
		if strings.HasPrefix(c.Realm, "Sonatype Nexus Repository") {
			return true
		}
	}
	return w.realm != nil && strings.HasSuffix(w.realm.Path, "/v2/token") && w.service == w.realm.String()
}

// ProbeLogins tries a made-up login, for `validate --online`: nil if the
// upstream turns it down, else why it cannot be asked about logins.
func (u *Upstream) ProbeLogins(ctx context.Context) error {
	_, err := u.asked.madeUp(ctx)
	return err
}

// turns lets one question about a name go at a time.
type turns struct {
	mu    sync.Mutex
	under map[loginKey]*turn
}

type turn struct {
	free chan struct{} // holds one
	n    int           // who has it or waits
}

// wait returns when it is our turn; done ends it.
func (t *turns) wait(ctx context.Context, name loginKey) (done func(), err error) {
	t.mu.Lock()
	one := t.under[name]
	if one == nil {
		one = &turn{free: make(chan struct{}, 1)}
		t.under[name] = one
	}
	one.n++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.n--; one.n == 0 {
			delete(t.under, name)
		}
	}
	select {
	case one.free <- struct{}{}:
		return func() { <-one.free; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
