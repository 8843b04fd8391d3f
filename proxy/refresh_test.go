package proxy

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// refreshes is a store of refresh tokens in memory.
type refreshes struct {
	mu   sync.Mutex
	all  map[auth.RefreshHash]auth.RefreshToken
	gets int
	err  error // of every question
}

func (s *refreshes) do(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		f()
	}
	return s.err
}

func (s *refreshes) Get(_ context.Context, hash auth.RefreshHash) (t auth.RefreshToken, err error) {
	ok := false
	if err := s.do(func() { t, ok = s.all[hash]; s.gets++ }); err != nil {
		return t, err
	}
	if !ok {
		return t, auth.ErrRejected
	}
	return t, nil
}

func (s *refreshes) Add(_ context.Context, t auth.RefreshToken) error {
	return s.do(func() { s.all[t.Hash] = t })
}

func (s *refreshes) Use(_ context.Context, uses map[auth.RefreshHash]time.Time) error {
	return s.do(func() {
		for hash, at := range uses {
			t := s.all[hash]
			t.Used = at
			s.all[hash] = t
		}
	})
}

func (s *refreshes) Delete(_ context.Context, hashes ...auth.RefreshHash) (n int, err error) {
	return n, s.do(func() {
		for _, hash := range hashes {
			if _, ok := s.all[hash]; ok {
				delete(s.all, hash)
				n++
			}
		}
	})
}

func (s *refreshes) Of(_ context.Context, user string) (some []auth.RefreshToken, err error) {
	return some, s.do(func() {
		for _, t := range s.all {
			if user == "" || t.User == user {
				some = append(some, t)
			}
		}
	})
}

func (s *refreshes) Sweep(context.Context) (int, error) { return len(s.all), s.err }

// refreshing is a gate whose clients can get refresh tokens.
func refreshing(t *testing.T, change ...func(*Settings)) (*gate, *refreshes) {
	t.Helper()
	store := &refreshes{all: map[auth.RefreshHash]auth.RefreshToken{}}
	g := newGate(t, usual, func(s *Settings) {
		s.Hostnames = []string{gateHost, "mirror.acme.example"}
		s.Renew = auth.Renewers(s.Logins)
		s.Cache.Stale = 10 * time.Minute
		for _, c := range change {
			c(s)
		}
	})
	g.Handler.Refresh = auth.NewRefreshing(store, g.Handler.Cache, g.clock.Now)
	return g, store
}

// keepLogin is what docker login asks for.
func (g *gate) keepLogin(options ...option) (token, refresh string) {
	g.Helper()
	b := g.get("/token?account=ann&client_id=docker&offline_token=true&service="+gateHost, append([]option{who("ann")}, options...)...).want(g, 200).token(g)
	if b.RefreshToken == nil {
		g.Fatal("no refresh token")
	}
	return b.Token, *b.RefreshToken
}

// renewed is the refresh grant.
func (g *gate) renewed(refresh, scope string, options ...option) reply {
	g.Helper()
	v := url.Values{"grant_type": {"refresh_token"}, "service": {gateHost}, "client_id": {"docker"}, "scope": {scope}, "refresh_token": {refresh}}
	return g.do("POST", "/token", append(options, form(v.Encode()))...)
}

func TestRefreshEndsWithWhatProvedTheUser(t *testing.T) {
	g, _ := refreshing(t)
	_, refresh := g.keepLogin()
	g.renewed(refresh, "").want(t, 200)

	next := g.settings // somebody else's line changes: nothing happens
	setPasswords(t, &next, []byte(strings.Split(string(gatePasswords()), "\n")[0]+"\n"+htpasswdLine("bob", "another")))
	next.Renew = auth.Renewers(next.Logins)
	g.swap(next)
	g.renewed(refresh, "").want(t, 200)

	setPasswords(t, &next, []byte(htpasswdLine("ann", annPassword))) // the same password, another line
	next.Renew = auth.Renewers(next.Logins)
	g.swap(next)
	msg := g.renewed(refresh, "").refused(t, 401, "UNAUTHORIZED")
	if !strings.Contains(msg, "docker login "+gateHost) {
		t.Errorf("it does not say what to do: %s", msg)
	}

	setPasswords(t, &next, []byte(htpasswdLine("bob", bobPassword))) // gone
	next.Renew = auth.Renewers(next.Logins)
	g.swap(next)
	g.renewed(refresh, "").refused(t, 401, "UNAUTHORIZED")
}

func TestRefreshHasTheRulesAndGroupsOfNow(t *testing.T) {
	g, _ := refreshing(t)
	_, refresh := g.keepLogin()
	g.wantGranted(g.renewed(refresh, deletes("coolteam/app")).want(t, 200).token(t).Token, deletes("coolteam/app"))
	next := g.settings
	next.Groups = nil
	g.swap(next)
	g.wantGranted(g.renewed(refresh, deletes("coolteam/app")).want(t, 200).token(t).Token, "")
}

func TestRefreshEndsWithARevocation(t *testing.T) {
	g, store := refreshing(t)
	_, refresh := g.keepLogin()
	g.renewed(refresh, "").want(t, 200)
	g.clock.pass(time.Second)
	at := g.clock.Now()
	g.Handler.Cache.Revoke(auth.Revocation{User: "ann", At: at, Until: at.Add(25 * time.Hour)})
	g.renewed(refresh, "").refused(t, 401, "UNAUTHORIZED")
	if n, err := g.Handler.Refresh.EndBefore(t.Context(), map[string]time.Time{"ann": at, "bob": at}); n != 1 || err != nil {
		t.Errorf("%d tokens ended, %v", n, err)
	}
	_, again := g.keepLogin() // who still has the password may go on
	g.renewed(again, "").want(t, 200)
	if n, err := g.Handler.Refresh.EndBefore(t.Context(), map[string]time.Time{"": at}); n != 0 || err != nil || len(store.all) != 1 {
		t.Errorf("%d tokens from after the revocation ended, %v", n, err)
	}
	g.clock.pass(26 * time.Hour) // the revocation is forgotten, and what it ended is not back
	g.renewed(refresh, "").refused(t, 401, "UNAUTHORIZED")
	g.renewed(again, "").want(t, 200)

	if n, err := g.Handler.Refresh.End(t.Context(), auth.HashRefresh(again)); n != 1 || err != nil {
		t.Errorf("%d ended, %v", n, err)
	}
	g.renewed(again, "").refused(t, 401, "UNAUTHORIZED")
}

// A store that cannot be asked says nothing about anybody: 503, and who was seen
// not long ago goes on.
func TestRefreshWhenTheStoreCannotBeAsked(t *testing.T) {
	g, store := refreshing(t)
	_, known := g.keepLogin()
	_, unknown := g.keepLogin()
	g.renewed(known, "").want(t, 200)
	store.err = errors.Join(errors.New("connection refused"), auth.ErrUnavailable)
	a := g.renewed(unknown, "").want(t, 503)
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	waitFor(t, "it is remembered as the provider's", func() bool { // which is after the answer
		last := g.Refusals(RefusalQuery{})
		return len(last) > 0 && last[0].Reason == reasonProvider
	})
	g.clock.pass(2 * time.Minute) // past cache.ttl
	g.renewed(known, "").want(t, 200)
	g.clock.pass(10 * time.Minute) // past cache.stale
	g.renewed(known, "").want(t, 503)

	b := g.get("/token?offline_token=true", who("ann")).want(t, 200).token(t) // the client keeps the password
	if b.RefreshToken != nil {
		t.Error("a refresh token that is kept nowhere")
	}
	store.err = nil
	g.clock.pass(10 * time.Second)
	g.renewed(known, "").want(t, 200)
	g.renewed(unknown, "").want(t, 200)
}

func TestGuessesOfRefreshTokensAreLimited(t *testing.T) {
	g, store := refreshing(t, func(s *Settings) {
		_, s.Limits = parseText(t, "limit logins failed_logins 3/15m per=ip")
	})
	_, refresh := g.keepLogin()
	guess := func(i byte) string { return "rgr_" + strings.Repeat(string('a'+i), 49) } // whose checksum is wrong
	for i := range byte(3) {
		g.renewed(guess(i), "", from("192.0.2.7")).refused(t, 401, "UNAUTHORIZED")
	}
	g.renewed(guess(4), "", from("192.0.2.7")).refused(t, 429, "TOOMANYREQUESTS")
	if store.gets != 0 {
		t.Error("what has not the form of a token was looked for")
	}
	g.renewed(refresh, "", from("192.0.2.7")).want(t, 200) // who brings a good one is not locked out
	g.renewed(guess(5), "", from("192.0.2.8")).refused(t, 401, "UNAUTHORIZED")
}

// Many that were ended at once lock nobody out who logs in anew from there.
func TestEndedRefreshTokensAreNoGuesses(t *testing.T) {
	g, _ := refreshing(t, func(s *Settings) {
		_, s.Limits = parseText(t, "limit logins failed_logins 3/15m per=ip")
	})
	var all []string
	for range 5 {
		_, refresh := g.keepLogin()
		all = append(all, refresh)
	}
	at := g.clock.Now()
	g.Handler.Cache.Revoke(auth.Revocation{User: "ann", At: at, Until: at.Add(time.Hour)})
	for _, refresh := range all {
		g.renewed(refresh, "", from("192.0.2.7")).refused(t, 401, "UNAUTHORIZED")
	}
	g.get("/token", who("ann"), from("192.0.2.7")).want(t, 200)
}

func TestRefreshTokensAreInNoLog(t *testing.T) {
	g, _ := refreshing(t)
	_, refresh := g.keepLogin()
	g.renewed(refresh, pulls("coolteam/app")).want(t, 200)
	other := "rgr_" + strings.Repeat("x", 49)
	g.renewed(other, "").want(t, 401)
	g.get("/token", basic("<token>", refresh)).want(t, 401)
	// containerd does so where the refresh grant is refused.
	if msg := g.get("/token", basic("", refresh)).refused(t, 401, "UNAUTHORIZED"); !strings.Contains(msg, "docker login "+gateHost) {
		t.Errorf("it does not say what to do: %s", msg)
	}
	g.get("/v2/", bearer(refresh)).want(t, 401)
	for name, l := range map[string]*lines{"log": g.log, "access": g.access, "audit": g.audit} {
		if text := l.String(); strings.Contains(text, refresh) || strings.Contains(text, refresh[4:20]) || strings.Contains(text, other) {
			t.Errorf("a refresh token is in the %s", name)
		}
	}
	id := auth.HashRefresh(refresh).ID()
	found := 0
	for _, line := range g.audit.all(t) {
		if line["msg"] == "login" && line["refresh_token"] == id && line["user"] == "ann" {
			found++
		}
	}
	if found != 2 { // the login that made it, and its first use
		t.Errorf("%d lines of the audit name it, want 2:\n%s", found, g.audit.String())
	}
}

// A login that comes to nothing leaves no token behind, and is told all the same.
func TestRefreshOfLoginsThatComeToNothing(t *testing.T) {
	g, store := refreshing(t)
	g.get("/token?offline_token=true&account=bob", who("ann")).refused(t, 401, "UNAUTHORIZED")
	if n := strings.Count(g.audit.String(), `"msg":"login"`); n != 1 {
		t.Errorf("%d lines of the audit, want 1:\n%s", n, g.audit.String())
	}
	x := &exchange{h: g.Handler, s: g.Current(), r: g.request("GET", "/token"), offline: true}
	_, refresh := g.keepLogin()
	x.unkeep(tokenAsk{refresh: refresh})
	if len(store.all) != 0 {
		t.Errorf("%d are kept", len(store.all))
	}
}

func TestRefreshIsNotForPassthrough(t *testing.T) {
	g, _ := passing(t, passRules)
	g.Handler.Refresh = auth.NewRefreshing(&refreshes{all: map[auth.RefreshHash]auth.RefreshToken{}}, g.Handler.Cache, g.clock.Now)
	next := g.settings
	setPasswords(t, &next, gatePasswords())
	next.Renew = auth.Renewers(next.Logins)
	g.swap(next)
	for _, target := range []string{"/token?offline_token=true", "/token?offline_token=true&scope=" + pulls("team/app")} {
		if b := g.get(target, who("ann")).want(t, 200).token(t); b.RefreshToken != nil {
			t.Errorf("%s: a refresh token", target)
		}
	}
	g.renewed("rgr_"+strings.Repeat("x", 49), pulls("team/app")).refused(t, 401, "UNAUTHORIZED")
}
