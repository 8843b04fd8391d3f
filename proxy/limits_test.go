package proxy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/ratelimit"
)

// left asks a limit how much a client has left, taking nothing.
func (g *gate) left(name, client string) int {
	g.Helper()
	for i := range g.Current().limits {
		l := &g.Current().limits[i]
		if l.Name != name {
			continue
		}
		res, err := g.Limiter.Take(context.Background(), ratelimit.Spend{Key: ratelimit.Key{Limit: name, Client: client}, Rate: l.Rate})
		if err != nil {
			g.Fatal(err)
		}
		return res.Remaining
	}
	g.Fatalf("no limit %q", name)
	return 0
}

// spent is what a client has used of a limit.
func (g *gate) spent(name, client string) int {
	g.Helper()
	for _, l := range g.Current().limits {
		if l.Name == name {
			return l.Rate.Burst - g.left(name, client)
		}
	}
	g.Fatalf("no limit %q", name)
	return 0
}

func TestReloadForgivesNothing(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 5/24h")
	bob := g.as("bob", pulls("shared/base"))
	pull := func() reply { return g.get("/v2/shared/base/manifests/latest", bob) }
	for range 5 {
		pull().want(t, 200)
	}
	pull().want(t, 429)

	next := g.settings
	_, next.Limits = parseText(t, "limit people pulls 50/24h")
	g.swap(next)
	if got := g.left("people", "user:bob"); got != 45 {
		t.Errorf("5 of 5 used, raised to 50: %d left, want 45", got)
	}
	if got := pull().want(t, 200).Header.Get("RateLimit-Remaining"); got != "44;w=86400" {
		t.Errorf("RateLimit-Remaining %q", got)
	}

	// A reload of anything else changes nothing, lowering does not give back.
	next.Version = "other"
	g.swap(next)
	_, next.Limits = parseText(t, "limit people pulls 6/24h")
	g.swap(next)
	pull().want(t, 429)
}

func TestPerOfLimits(t *testing.T) {
	type ask struct {
		user, repository, addr string
	}
	for _, tt := range []struct {
		per  string
		same [][2]ask // fall into one bucket
		not  [][2]ask // do not
		free []ask    // are not counted
	}{
		{per: "client",
			same: [][2]ask{{{"bob", "library/a", "192.0.2.1"}, {"bob", "library/b", "192.0.2.2"}}, {{"", "library/a", "192.0.2.1"}, {"", "library/a", "192.0.2.1"}}},
			not:  [][2]ask{{{"bob", "library/a", "192.0.2.1"}, {"ann", "library/a", "192.0.2.1"}}, {{"", "library/a", "192.0.2.1"}, {"", "library/a", "192.0.2.2"}}, {{"", "library/a", "192.0.2.1"}, {"bob", "library/a", "192.0.2.1"}}}},
		{per: "user",
			same: [][2]ask{{{"bob", "library/a", "192.0.2.1"}, {"bob", "library/b", "192.0.2.2"}}},
			not:  [][2]ask{{{"bob", "library/a", "192.0.2.1"}, {"ann", "library/a", "192.0.2.1"}}},
			free: []ask{{"", "library/a", "192.0.2.1"}}},
		{per: "ip",
			same: [][2]ask{{{"bob", "library/a", "192.0.2.1"}, {"ann", "library/a", "192.0.2.1"}}, {{"", "library/a", "2001:db8::1"}, {"", "library/a", "2001:db8::2:3"}}},
			not:  [][2]ask{{{"bob", "library/a", "192.0.2.1"}, {"bob", "library/a", "192.0.2.2"}}, {{"", "library/a", "2001:db8::1"}, {"", "library/a", "2001:db8:1::1"}}}},
		{per: "group",
			same: [][2]ask{{{"ann", "library/a", "192.0.2.1"}, {"dan", "library/b", "192.0.2.2"}}},
			not:  [][2]ask{{{"ann", "library/a", "192.0.2.1"}, {"carl", "library/a", "192.0.2.1"}}},
			free: []ask{{"bob", "library/a", "192.0.2.1"}, {"", "library/a", "192.0.2.1"}}},
		{per: "namespace",
			same: [][2]ask{{{"ann", "library/a", "192.0.2.1"}, {"bob", "library/b/c", "192.0.2.2"}}},
			not:  [][2]ask{{{"ann", "library/a", "192.0.2.1"}, {"ann", "shared/a", "192.0.2.1"}}}},
		{per: "repository",
			same: [][2]ask{{{"ann", "library/a", "192.0.2.1"}, {"", "library/a", "192.0.2.2"}}},
			not:  [][2]ask{{{"ann", "library/a", "192.0.2.1"}, {"ann", "library/b", "192.0.2.1"}}}},
		{per: "all",
			same: [][2]ask{{{"ann", "library/a", "192.0.2.1"}, {"", "shared/b", "2001:db8::1"}}}},
	} {
		t.Run(tt.per, func(t *testing.T) {
			try := func(g *gate, a ask) int {
				options := []option{from(a.addr)}
				switch a.user {
				case "dan":
					options = append(options, basic("dan", "dans"))
				default:
					options = append(options, who(a.user))
				}
				token := g.tokenFor(options, pulls(a.repository))
				return g.get("/v2/"+a.repository+"/tags/list", bearer(token), from(a.addr)).StatusCode
			}
			fresh := func() *gate {
				return newGate(t, "allow everyone ** pull\nlimit it requests 1/h per="+tt.per, func(s *Settings) {
					setPasswords(t, s, append(gatePasswords(), []byte(htpasswdLine("dan", "dans"))...))
					s.Groups = map[string][]string{"ann": {"coolteam"}, "dan": {"coolteam"}, "carl": {"ci"}}
				})
			}
			for _, pair := range tt.same {
				g := fresh()
				if a, b := try(g, pair[0]), try(g, pair[1]); a != 200 || b != 429 {
					t.Errorf("%v: %d, %d; want 200, 429", pair, a, b)
				}
			}
			for _, pair := range tt.not {
				g := fresh()
				if a, b, c := try(g, pair[0]), try(g, pair[1]), try(g, pair[0]); a != 200 || b != 200 || c != 429 {
					t.Errorf("%v: %d, %d, %d; want 200, 200, 429", pair, a, b, c)
				}
			}
			for _, a := range tt.free {
				g := fresh()
				if one, two := try(g, a), try(g, a); one != 200 || two != 200 {
					t.Errorf("%v: %d, %d; want 200 twice", a, one, two)
				}
			}
		})
	}
}

func TestWhomALimitCounts(t *testing.T) {
	g := newGate(t, "allow everyone ** pull,push,delete\n"+`
		limit subjects requests 1/h per=all subjects=user:bob repositories=one/**
		limit from     requests 1/h per=all from=192.0.2.0/24 repositories=two/**
		limit exempt   requests 1/h per=all exempt=group:ci,198.51.100.0/24 repositories=three/**
		limit group    requests 1/h per=group subjects=group:ci repositories=four/**`)
	for _, tt := range []struct {
		user, repository, addr string
		counted                bool
	}{
		{"bob", "one/x", "192.0.2.1", true},
		{"ann", "one/x", "192.0.2.1", false},
		{"", "one/x", "192.0.2.1", false},
		{"bob", "uno/x", "192.0.2.1", false},
		{"bob", "two/x", "192.0.2.1", true},
		{"bob", "two/x", "192.0.3.1", false},
		{"bob", "three/x", "192.0.2.1", true},
		{"carl", "three/x", "192.0.2.1", false},
		{"bob", "three/x", "198.51.100.9", false},
		{"carl", "four/x", "192.0.2.1", true},
		{"ann", "four/x", "192.0.2.1", false},
	} {
		g.clock.pass(2 * time.Hour)
		token := g.tokenFor([]option{who(tt.user)}, pulls(tt.repository))
		var got []int
		for range 2 {
			got = append(got, g.get("/v2/"+tt.repository+"/tags/list", bearer(token), from(tt.addr)).StatusCode)
		}
		want := []int{200, 200}
		if tt.counted {
			want[1] = 429
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q on %s from %s: %v, want %v", tt.user, tt.repository, tt.addr, got, want)
		}
	}
}

func TestWhatLimitsCount(t *testing.T) {
	g := newGate(t, "allow everyone ** *\nlimit r requests 1000/h\nlimit p pulls 1000/h\nlimit s pushes 1000/h")
	ann := g.as("ann", deletes("a/b"))
	at := g.do("POST", "/v2/a/b/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
	for _, tt := range []struct {
		method, target            string
		options                   []option
		requests, pulls_, pushes_ int
	}{
		{"GET", "/v2/", nil, 0, 0, 0},
		{"GET", "/v2/a/b/manifests/latest", nil, 1, 1, 0},
		{"HEAD", "/v2/a/b/manifests/latest", nil, 1, 0, 0},
		{"GET", "/v2/a/b/manifests/absent", nil, 1, 1, 0},
		{"GET", "/v2/a/b/blobs/" + layerDigest, nil, 1, 0, 0},
		{"HEAD", "/v2/a/b/blobs/" + layerDigest, nil, 1, 0, 0},
		{"GET", "/v2/a/b/tags/list", nil, 1, 0, 0},
		{"PUT", "/v2/a/b/manifests/1", []option{body(image)}, 1, 0, 1},
		{"PUT", "/v2/a/b/manifests/" + imageDigest, []option{body(image)}, 1, 0, 0},
		{"POST", "/v2/a/b/blobs/uploads/", nil, 1, 0, 0},
		{"PATCH", at, []option{body(layer)}, 0, 0, 0},
		{"PUT", at + "?digest=" + layerDigest, nil, 0, 0, 0},
		{"GET", at, nil, 0, 0, 0},
		{"DELETE", at, nil, 0, 0, 0},
		{"DELETE", "/v2/a/b/manifests/" + imageDigest, nil, 1, 0, 0},
		{"GET", "/v2/nothing", nil, 0, 0, 0},
	} {
		before := [3]int{g.spent("r", "user:ann"), g.spent("p", "user:ann"), g.spent("s", "user:ann")}
		g.do(tt.method, tt.target, append(tt.options, ann)...)
		got := [3]int{g.spent("r", "user:ann") - before[0], g.spent("p", "user:ann") - before[1], g.spent("s", "user:ann") - before[2]}
		if want := [3]int{tt.requests, tt.pulls_, tt.pushes_}; got != want {
			t.Errorf("%s %s: counted %v, want %v", tt.method, tt.target, got, want)
		}
	}
	// What is refused by the rules costs nothing.
	before := g.spent("r", "user:ann")
	g.get("/v2/other/x/manifests/1", ann).want(t, 401)
	if got := g.spent("r", "user:ann"); got != before {
		t.Error("a refusal was counted")
	}
}

func TestDryRunCountsAndLetsThrough(t *testing.T) {
	g := newGate(t, usual+"limit trial pulls 1/h dry_run")
	bob := g.as("bob", pulls("shared/base"))
	for range 3 {
		a := g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
		if got := a.Header.Get("RateLimit-Limit"); got != "" {
			t.Errorf("RateLimit-Limit %q of a dry run", got)
		}
	}
	var would int
	for _, line := range g.access.all(t) {
		if fmt.Sprint(line["would_throttle"]) == "[trial]" {
			would++
		}
	}
	if would != 2 {
		t.Errorf("%d lines say would_throttle, want 2", would)
	}
}

func TestFailedLogins(t *testing.T) {
	login := func(g *gate, user, password, addr string) int {
		return g.get("/token", basic(user, password), from(addr)).StatusCode
	}
	t.Run("per address and name, built in", func(t *testing.T) {
		g := newGate(t, usual)
		for i := range 10 {
			if got := login(g, "ann", fmt.Sprint("guess", i), "192.0.2.7"); got != 401 {
				t.Fatalf("guess %d: %d", i, got)
			}
		}
		if got := login(g, "ann", "guess", "192.0.2.7"); got != 429 {
			t.Errorf("the eleventh: %d, want 429", got)
		}
		if got := login(g, "ann", annPassword, "192.0.2.7"); got != 429 {
			t.Errorf("the right one from there: %d, want 429", got)
		}
		if got := login(g, "bob", bobPassword, "192.0.2.7"); got != 200 {
			t.Errorf("another user there: %d, want 200", got)
		}
		if got := login(g, "ann", annPassword, "192.0.2.8"); got != 200 {
			t.Errorf("ann from elsewhere: %d, want 200", got)
		}
		g.clock.pass(91 * time.Second)
		if got := login(g, "ann", "guess", "192.0.2.7"); got != 401 {
			t.Errorf("a while later: %d, want 401", got)
		}
	})
	t.Run("per address, built in", func(t *testing.T) {
		g := newGate(t, usual)
		for i := range 100 {
			if got := login(g, fmt.Sprint("user", i), "guess", "192.0.2.7"); got != 401 {
				t.Fatalf("guess %d: %d", i, got)
			}
		}
		if got := login(g, "bob", bobPassword, "192.0.2.7"); got != 429 {
			t.Errorf("after 100: %d, want 429", got)
		}
		if got := login(g, "bob", bobPassword, "192.0.2.8"); got != 200 {
			t.Errorf("from elsewhere: %d, want 200", got)
		}
	})
	t.Run("a proven login is never locked out", func(t *testing.T) {
		g := newGate(t, usual)
		if got := login(g, "ann", annPassword, "192.0.2.7"); got != 200 {
			t.Fatal(got)
		}
		for i := range 20 {
			login(g, "ann", fmt.Sprint("guess", i), "192.0.2.7")
		}
		g.clock.pass(2 * time.Minute) // the cached answer has run out, the memory of it has not
		for i := range 20 {
			login(g, "ann", fmt.Sprint("more", i), "192.0.2.7")
		}
		if got := login(g, "ann", annPassword, "192.0.2.7"); got != 200 {
			t.Errorf("the saved login: %d, want 200", got)
		}
		if got := login(g, "ann", "one more", "192.0.2.7"); got != 429 {
			t.Errorf("a guess: %d, want 429", got)
		}
	})
	t.Run("the same wrong password counts once", func(t *testing.T) {
		g := newGate(t, usual+"limit l failed_logins 2/15m per=ip+user")
		for range 10 {
			if got := login(g, "ann", "stale", "192.0.2.7"); got != 401 {
				t.Fatalf("a stale login asked again and again: %d, want 401", got)
			}
		}
		if got := g.spent("l", "ip:192.0.2.7 user:ann"); got != 1 {
			t.Errorf("%d counted, want 1", got)
		}
		g.clock.pass(6 * time.Second) // negative_ttl
		login(g, "ann", "stale", "192.0.2.7")
		if got := g.spent("l", "ip:192.0.2.7 user:ann"); got != 2 {
			t.Errorf("%d counted after negative_ttl, want 2", got)
		}
	})
	t.Run("also by Basic on the API, and the upstream sees none of it", func(t *testing.T) {
		g := newGate(t, usual+"limit l failed_logins 2/15m per=ip+user")
		for i, want := range []int{401, 401, 429} {
			a := g.get("/v2/library/alpine/manifests/latest", basic("ann", fmt.Sprint("guess", i)))
			if a.StatusCode != want {
				t.Errorf("guess %d: %d, want %d", i, a.StatusCode, want)
			}
			if want == 429 && a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
		}
		g.up.none(t)
	})
	t.Run("names differing in case are one", func(t *testing.T) {
		g := newGate(t, usual+"limit l failed_logins 2/15m per=ip+user")
		for i, user := range []string{"ann", "ANN"} {
			if got := login(g, user, fmt.Sprint("guess", i), "192.0.2.7"); got != 401 {
				t.Errorf("%s: %d", user, got)
			}
		}
		if got := login(g, "Ann", "guess", "192.0.2.7"); got != 429 {
			t.Errorf("a third spelling: %d, want 429", got)
		}
	})
	t.Run("exempt networks", func(t *testing.T) {
		g := newGate(t, usual+"limit l failed_logins 1/15m per=ip exempt=192.0.2.0/24")
		for i := range 5 {
			if got := login(g, "ann", fmt.Sprint("guess", i), "192.0.2.7"); got != 401 {
				t.Errorf("guess %d: %d", i, got)
			}
		}
	})
}

func TestLimitMessageTellsTheWholeWait(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 2/12h")
	bob := g.as("bob", pulls("shared/base"))
	for range 2 {
		g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	}
	msg := g.get("/v2/shared/base/manifests/latest", bob).refused(t, 429, "TOOMANYREQUESTS")
	if !strings.HasPrefix(msg, `limit "people": 2 pulls in 12h are used up for user bob; next pull possible at 21:37 UTC (in 6h). `) {
		t.Errorf("%q", msg)
	}
}

// spendOne is one event of l.
func spendOne(l *Limit, client string) ratelimit.Spend {
	return ratelimit.Spend{Key: ratelimit.Key{Limit: l.Name, Client: client}, Rate: l.Rate, N: 1}
}
