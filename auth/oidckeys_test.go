package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/regward/regward/auth"
)

// saysNothing reports an error that is no refusal: 503.
func saysNothing(err error) bool {
	return err != nil && !errors.Is(err, auth.ErrRejected) && !errors.Is(err, auth.ErrNotMine)
}

// A new key is found when the first token names it, and whoever names keys that
// nobody has makes us ask once in ten seconds.
func TestAnIssuerRotatesItsKeys(t *testing.T) {
	i, old, n, now := newCI(t)
	fresh := newIssuerKey(t, "ES256", "two")
	login := func(token string) error { _, err := tokenLogin(n, token); return err }
	if err := login(signToken(t, old, i.claims())); err != nil {
		t.Fatal(err)
	}
	i.publish(fresh, old) // right after a fetch
	for range 3 {
		if err := login(signToken(t, fresh, i.claims())); err != nil || i.fetches() != 2 {
			t.Errorf("a new key: %v, %d fetches", err, i.fetches())
		}
		if err := login(signToken(t, old, i.claims())); err != nil {
			t.Errorf("the old one: %v", err)
		}
	}
	for range 2 {
		before := i.fetches()
		now.Advance(10 * time.Second)
		for kid := range 50 {
			if err := login(signToken(t, newIssuerKey(t, "ES256", fmt.Sprint("kid ", kid)), i.claims())); !errors.Is(err, auth.ErrRejected) {
				t.Errorf("a key that nobody has: %v", err)
			}
		}
		if n := i.fetches() - before; n != 1 {
			t.Errorf("%d fetches for keys that nobody has, want one", n)
		}
	}
	// A key that is withdrawn ends when it is no longer fresh.
	i.publish(fresh)
	if err := login(signToken(t, old, i.claims())); err != nil {
		t.Errorf("withdrawn this moment: %v", err)
	}
	now.Advance(10 * time.Minute)
	if err := login(signToken(t, old, i.claims())); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("withdrawn ten minutes ago: %v", err)
	}
}

// An issuer that cannot be asked is no reason to refuse: keys in hand are used
// for six hours, and without them nobody can say.
func TestAnIssuerThatIsDown(t *testing.T) {
	i, key, n, now := newCI(t)
	login := func(key string) error {
		_, err := tokenLogin(n, key)
		return err
	}
	down := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	i.answer(discoveryPath, down)
	for range 3 {
		err := login(signToken(t, key, i.claims()))
		broken := (*auth.IssuerError)(nil)
		if !saysNothing(err) || !errors.As(err, &broken) || broken.Status != http.StatusBadGateway {
			t.Errorf("down at the start: %v", err)
		}
	}
	if asked := i.askedFor(discoveryPath); asked != 1 {
		t.Errorf("asked %d times within ten seconds", asked)
	}
	if err := login(signToken(t, key, i.claims("exp", 1))); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("a token that is wrong by itself: %v", err)
	}
	i.answer(discoveryPath, nil)
	now.Advance(10 * time.Second)
	if err := login(signToken(t, key, i.claims())); err != nil {
		t.Fatalf("up again: %v", err)
	}
	i.answer(keysPath, down)
	for _, after := range []time.Duration{time.Minute, time.Hour, 4*time.Hour + 58*time.Minute} {
		now.Advance(after)
		if err := login(signToken(t, key, i.claims())); err != nil {
			t.Errorf("%v later: %v", after, err)
		}
		if err := login(signToken(t, newIssuerKey(t, "ES256", "new"), i.claims())); !saysNothing(err) {
			t.Errorf("a key that may be new, %v later: %v", after, err)
		}
	}
	now.Advance(2 * time.Minute)
	if err := login(signToken(t, key, i.claims())); !saysNothing(err) {
		t.Errorf("keys of more than six hours ago: %v", err)
	}
	i.answer(keysPath, nil)
	now.Advance(10 * time.Second)
	if err := login(signToken(t, key, i.claims())); err != nil {
		t.Errorf("up at last: %v", err)
	}
}

func (i *issuer) askedFor(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[path]
}

// Everybody who comes meanwhile waits for one fetch; who goes does not end it.
func TestKeysAreFetchedOnce(t *testing.T) {
	i, key, n, _ := newCI(t)
	gate := make(chan struct{})
	i.answer(discoveryPath, func(w http.ResponseWriter, r *http.Request) {
		<-gate
		i.answer(discoveryPath, nil)
		i.ServeHTTP(w, r)
	})
	token := signToken(t, key, i.claims())
	gone, leave := context.WithCancel(context.Background())
	left := make(chan error)
	go func() {
		_, err := n.Authenticate(gone, auth.NewBasic("oidc", token))
		left <- err
	}()
	until(t, "somebody asks", func() bool { return i.askedFor(discoveryPath) == 1 })
	leave()
	if err := <-left; !saysNothing(err) || !errors.Is(err, context.Canceled) {
		t.Errorf("who went: %v", err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := tokenLogin(n, token); err != nil {
				t.Error(err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if i.fetches() != 1 || i.askedFor(discoveryPath) != 2 { // 2: the handler hands on
		t.Errorf("%d fetches, %d discoveries", i.fetches(), i.askedFor(discoveryPath))
	}
}

// Keys that are there are not waited for longer than a moment, and they outlive a
// reload.
func TestKeysInHandAndASlowIssuer(t *testing.T) {
	i, key, n, now := newCI(t)
	if _, err := tokenLogin(n, signToken(t, key, i.claims())); err != nil {
		t.Fatal(err)
	}
	gate := make(chan struct{})
	defer close(gate)
	i.answer(keysPath, func(http.ResponseWriter, *http.Request) { <-gate })
	now.Advance(time.Hour)
	reloaded := mustOIDC(t, auth.OIDCOptions{Issuers: []auth.IssuerOptions{i.options()}, Now: now.Now, Previous: n})
	reloaded.Hurry(time.Hour) // the fetch does not end: who waited for it would never come back
	if _, err := tokenLogin(reloaded, signToken(t, key, i.claims())); err != nil {
		t.Error(err)
	}
	if _, err := tokenLogin(mustOIDC(t, auth.OIDCOptions{Issuers: []auth.IssuerOptions{i.options()}, Now: now.Now}).Hurry(50*time.Millisecond), signToken(t, key, i.claims())); !saysNothing(err) || !strings.Contains(err.Error(), "does not answer within") {
		t.Errorf("without keys: %v", err)
	}
}

// What an issuer, or somebody in its place, may answer: it cannot be used, and
// that is never a refusal.
func TestIssuersThatAnswerNonsense(t *testing.T) {
	elsewhere := newIssuer(t, time.Now)
	document := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, strings.NewReplacer("HERE", "https://"+r.Host, "ELSEWHERE", elsewhere.URL).Replace(text))
		}
	}
	huge := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[`)
		for range 100 {
			if _, err := io.WriteString(w, strings.Repeat(" ", auth.MaxKeySet/64)); err != nil {
				return
			}
		}
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	for name, tt := range map[string]struct {
		path   string
		answer http.HandlerFunc
		says   string
	}{
		"no document":            {discoveryPath, http.NotFound, "answers 404"},
		"a page":                 {discoveryPath, document("<html>"), "no discovery document"},
		"another form":           {discoveryPath, document(`{"issuer":1}`), "no discovery document"},
		"another issuer":         {discoveryPath, document(`{"issuer":"https://evil.example.com","jwks_uri":"HERE/keys"}`), "describes the issuer \"https://evil.example.com\" rather than"},
		"issuer with a slash":    {discoveryPath, document(`{"issuer":"HERE/","jwks_uri":"HERE/keys"}`), "rather than"},
		"no keys named":          {discoveryPath, document(`{"issuer":"HERE"}`), "no place of keys"},
		"keys without TLS":       {discoveryPath, document(`{"issuer":"HERE","jwks_uri":"http://127.0.0.1:1/keys"}`), "no place of keys"},
		"keys in a file":         {discoveryPath, document(`{"issuer":"HERE","jwks_uri":"file:///etc/passwd"}`), "no place of keys"},
		"huge document":          {discoveryPath, huge, "is longer than"},
		"huge keys":              {keysPath, huge, "is longer than"},
		"redirected elsewhere":   {discoveryPath, redirect(elsewhere.URL + discoveryPath), "redirects to another host"},
		"redirected to http":     {keysPath, redirect("http://127.0.0.1:1/"), "redirects to another host"},
		"redirected for ever":    {keysPath, redirect(keysPath), "redirects more than"},
		"keys are no JSON":       {keysPath, document(`<html>`), "no set of keys"},
		"keys are a list":        {keysPath, document(`[]`), "no set of keys"},
		"no keys":                {keysPath, document(`{"keys":[]}`), "has no key"},
		"keys of other kinds":    {keysPath, document(`{"keys":[{"kty":"oct","k":"eA"},{"kty":"RSA"},7,null]}`), "has no key"},
		"keys broken off":        {keysPath, broken, "cannot be read"},
		"document broken off":    {discoveryPath, broken, "cannot be read"},
		"an error of the issuer": {keysPath, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "answers 500"},
	} {
		i, key, n, _ := newCI(t)
		i.answer(tt.path, tt.answer)
		_, err := tokenLogin(n, signToken(t, key, i.claims()))
		if broken := (*auth.IssuerError)(nil); !saysNothing(err) || !errors.As(err, &broken) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v\nwant …%s…", name, err, tt.says)
		}
		if _, probed := n.Probe(t.Context(), 0); probed == nil || !strings.Contains(probed.Error(), tt.says) {
			t.Errorf("%s, probed: %v", name, probed)
		}
	}
	if elsewhere.askedFor(discoveryPath) != 0 {
		t.Error("another host was asked")
	}
	// On the same host a redirect is followed.
	i, key, n, _ := newCI(t)
	i.answer(keysPath, func(w http.ResponseWriter, r *http.Request) {
		i.answer(keysPath, nil)
		http.Redirect(w, r, "./keys", http.StatusSeeOther)
	})
	if _, err := tokenLogin(n, signToken(t, key, i.claims())); err != nil {
		t.Error(err)
	}
}

// broken announces more than it sends.
func broken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, "{")
}

// Through the cache: a token is believed no longer than it says itself.
func TestATokenInTheCache(t *testing.T) {
	i, key, n, now := newCI(t)
	k := auth.NewCache(100, now.Now)
	c := auth.NewBasic("oidc", signToken(t, key, i.claims("exp", now.Now().Unix()+30)))
	login := func() (bool, error) {
		_, hit, err := k.Login(context.Background(), n, c, auth.CacheTimes{TTL: time.Hour, Stale: time.Hour, NegativeTTL: time.Second}, nil)
		return hit, err
	}
	if hit, err := login(); hit || err != nil {
		t.Errorf("first: %v %v", hit, err)
	}
	if hit, err := login(); !hit || err != nil {
		t.Errorf("second: %v %v", hit, err)
	}
	now.Advance(89 * time.Second) // within the leeway
	if hit, err := login(); hit || err != nil {
		t.Errorf("expired a moment ago: %v %v", hit, err)
	}
	now.Advance(time.Second)
	if hit, err := login(); hit || !errors.Is(err, auth.ErrRejected) {
		t.Errorf("expired: %v %v", hit, err)
	}
}

// A CA that the issuer's certificate is not from.
func TestAnIssuerWithAnotherCA(t *testing.T) {
	for name, ca := range map[string][]byte{"the system's": nil, "another": otherCA(t)} {
		i, key, n, _ := newCI(t, func(o *auth.IssuerOptions) { o.CA = ca })
		if _, err := tokenLogin(n, signToken(t, key, i.claims())); !saysNothing(err) || !strings.Contains(err.Error(), "unknown authority") || i.askedFor(discoveryPath) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// otherCA is a CA that nobody has a certificate from, in PEM.
func otherCA(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

// Where a login comes from is nobody's business but the webhook's.
func TestWhereALoginComesFromIsInNoKey(t *testing.T) {
	_, _, n, _ := newCI(t)
	k := auth.NewCache(100, time.Now)
	here, there := loginFrom("192.0.2.7", registry, "oidc", "x"), loginFrom("192.0.2.8", "other.example.com", "oidc", "x")
	if !here.Equal(there) || k.LoginKey(n, here) != k.LoginKey(n, there) {
		t.Error("two addresses make two logins")
	}
}

// Strangers name keys that nobody has while the issuer hangs: who needs none of
// them is not held up, and only so many are waited for.
func TestWhoWaitsForKeysHoldsNobodyUp(t *testing.T) {
	i, key, n, now := newCI(t)
	k := auth.NewCache(100, now.Now)
	login := func(key jose.JSONWebKey, id int) error {
		_, _, err := k.Login(context.Background(), auth.NewChain(n, newProvider()), auth.NewBasic("oidc", signToken(t, key, i.claims("jti", id))), times(), nil)
		return err
	}
	if err := login(key, 0); err != nil {
		t.Fatal(err)
	}
	hangs := make(chan struct{})
	i.answer(keysPath, func(http.ResponseWriter, *http.Request) { <-hangs })
	now.Advance(10 * time.Second)
	made := newIssuerKey(t, "ES256", "made up")
	var wg sync.WaitGroup
	var busy atomic.Int64
	const more = 20
	for id := range auth.MaxKeyWaiters + more {
		wg.Go(func() {
			if err := login(made, id); errors.Is(err, auth.ErrBusy) {
				busy.Add(1)
			} else if err == nil || errors.Is(err, auth.ErrRejected) {
				t.Errorf("a key that may be one: %v", err)
			}
		})
	}
	until(t, "as many wait as may", func() bool { return busy.Load() == more })
	if err := login(key, 1); err != nil || busy.Load() != more {
		t.Errorf("a key in hand: %v, and %d were turned away", err, busy.Load())
	}
	close(hangs)
	wg.Wait()
	if busy.Load() != more {
		t.Errorf("%d were turned away, want %d", busy.Load(), more)
	}
}
