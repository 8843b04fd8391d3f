package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestNexusIsNeverMadeToDoubleItsPort(t *testing.T) {
	t.Parallel()
	n := nexus{release: "3.87.1-01", route: "path", bearer: true}
	s, _ := stocked(t, func(t testing.TB) *standin { return newNexus(t, n) })
	g := s.front(t, teamRules)
	// What it would do, so that what follows means something.
	direct, err := http.NewRequest(http.MethodGet, s.url+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	direct.Header.Set("X-Forwarded-Host", "docker.example.com:5002")
	r, err := http.DefaultClient.Do(direct)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if got := r.Header.Get("Www-Authenticate"); !strings.Contains(got, "docker.example.com:5002:5002/") || r.ContentLength != 113 {
		t.Fatalf("the stand-in is none: %s, %d bytes", got, r.ContentLength)
	}
	before := len(s.requests("registry", nil))
	g.send(t, http.MethodGet, "/v2/library/hello/manifests/1", g.token(t, "", "repository:library/hello:pull"), nil,
		"X-Forwarded-Host", "docker.example.com:5002", "Forwarded", "host=evil.example").is(t, http.StatusOK)
	for _, h := range s.requests("registry", nil)[before:] {
		if h.header.Get("X-Forwarded-Host")+h.header.Get("Forwarded") != "" || h.header.Get("X-Forwarded-Proto") != "http" {
			t.Errorf("%s: %v", h, h.header)
		}
	}
}

// An account whose password is out of date is tried seldom enough that Nexus
// does not lock it, and what clients ask for meanwhile is not asked there.
func TestNexusIsNotMadeToLockRegwardsAccount(t *testing.T) {
	t.Parallel()
	for _, bearer := range []bool{false, true} {
		t.Run(fmt.Sprint("bearer ", bearer), func(t *testing.T) {
			t.Parallel()
			locks := newLockout()
			s, _ := stocked(t, func(t testing.TB) *standin {
				return newNexus(t, nexus{release: "3.96.3-01", route: "path", bearer: bearer, lockout: locks})
			})
			s.users[upstreamUser] = "another one"
			g := s.front(t, teamRules)
			token := g.token(t, "ann", "repository:coolteam/app:pull")
			for range 10 {
				g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusBadGateway)
			}
			locks.mu.Lock()
			defer locks.mu.Unlock()
			if n := locks.wrong[upstreamUser]; n > 3 {
				t.Errorf("tried %d times: Nexus locks the account", n)
			}
		})
	}
}

// Whose account is locked is told apart from limits of regward's (M16).
func TestNexusLockOfRegwardsAccountIsNoLimitOfRegward(t *testing.T) {
	t.Parallel()
	locks := newLockout()
	s, _ := stocked(t, func(t testing.TB) *standin {
		return newNexus(t, nexus{release: "3.96.3-01", route: "port", lockout: locks})
	})
	g := s.front(t, teamRules)
	for range 5 {
		locks.judge(upstreamUser, http.StatusUnauthorized) // by somebody else
	}
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	for range 5 {
		a := g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil)
		if a.StatusCode == http.StatusOK || a.StatusCode == http.StatusTooManyRequests && strings.Contains(a.body, "rate limit reached") {
			t.Errorf("%s: %s", a.Status, a.body)
		}
	}
	if n := len(s.requests("registry", func(h heard) bool { return h.scheme != "" })); n > 2 {
		t.Errorf("Nexus was asked %d times with a locked account: each makes it longer", n)
	}
}

// A Nexus that takes any login proves nothing about people: nobody comes in by
// asking it, and what needs no login goes on.
func TestANexusThatTakesAnyLoginIsNotAskedAboutPeople(t *testing.T) {
	t.Parallel()
	s, _ := stocked(t, func(t testing.TB) *standin {
		return newNexus(t, nexus{release: "3.96.3-01", route: "path", bearer: true, anybody: true})
	})
	g := newRegward(t, s.settings())
	g.setLogins(t, "auth: {upstream: true}\n")
	g.configure(t, teamRules)
	g.serve(t)
	for range 2 {
		r, err := http.NewRequest(http.MethodGet, "https://"+g.host+"/token?service=localhost", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ann", "not ann's")
		response, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("got %s", response.Status)
		}
	}
	g.send(t, http.MethodGet, "/v2/library/hello/manifests/1", g.token(t, "", "repository:library/hello:pull"), nil).is(t, http.StatusOK)
	for _, h := range s.requests("registry", nil) {
		if user, _, _ := (&http.Request{Header: h.header}).BasicAuth(); user == "ann" {
			t.Errorf("ann's password was sent: %s", h)
		}
	}
}

// Since 3.83 the first part of an image's name may be the repository: it is
// what regward keeps of a prefix.
func TestNexusWithItsRepositoriesInImageNames(t *testing.T) {
	t.Parallel()
	for _, bearer := range []bool{false, true} {
		t.Run(fmt.Sprint("bearer ", bearer), func(t *testing.T) {
			t.Parallel()
			s, _ := stocked(t, func(t testing.TB) *standin {
				return newNexus(t, nexus{release: "3.96.3-01", route: "name", bearer: bearer})
			})
			g := newRegward(t, "\n  - prefix: "+nexusRepository+"/\n    keep_prefix: true"+strings.ReplaceAll(s.settings(), "\n", "\n  "))
			g.configure(t, strings.ReplaceAll(teamRules, `repositories: "`, `repositories: "`+nexusRepository+"/"))
			g.serve(t)
			for _, name := range []string{"docker", "skopeo", "crane"} {
				c := kindNamed(name).new(t, g.host)
				ref := func(r string) string { return g.host + "/" + nexusRepository + "/" + r }
				c.pull(t, ref("library/hello:1")).works(t)
				c.login(t, "ann", passwords["ann"])
				c.pull(t, ref("coolteam/app:1")).works(t)
				c.push(t, ref("coolteam/from-"+name+":1"), small(t)).works(t)
				s.holds(t, "coolteam/from-"+name+":1")
			}
		})
	}
}

func TestNexusBelievesWhoRegwardSaysIsAsking(t *testing.T) {
	t.Parallel()
	s := newNexus(t, nexus{release: "3.96.3-01", route: "port", rut: true})
	s.user = ""
	s.extra += "\n  assert_user: X-Forwarded-User"
	if err := s.store.has("coolteam/app:1", small(t)); err != nil {
		t.Fatal(err)
	}
	g := s.front(t, teamRules)
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil, "X-Forwarded-User", "admin").is(t, http.StatusOK)
	for _, h := range s.requests("registry", func(h heard) bool { return strings.Contains(h.target, "coolteam") }) {
		if got := h.header["X-Forwarded-User"]; !slices.Equal(got, []string{"ann"}) {
			t.Errorf("%s: X-Forwarded-User %q", h, got)
		}
	}
}
