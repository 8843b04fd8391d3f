package proxy

import (
	"strings"
	"testing"
	"time"
)

// said is what a refusal tells the client; for a 401 the challenge has to say
// the same, as far as it can, or docker shows nothing of it (C11).
func (g *gate) said(a reply, status int, code string) string {
	g.Helper()
	return strings.ReplaceAll(a.refused(g, status, code), a.Header.Get("X-Request-Id"), "ID")
}

func TestMessagesAreTheOnesPromised(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 1000/6h per=user")

	m6 := g.said(g.get("/token", basic("ann", "wrong")), 401, "UNAUTHORIZED")
	m7 := g.said(g.get("/v2/coolteam/app/manifests/1.0", g.as("bob", pulls("coolteam/app"))), 401, "DENIED")
	m8 := g.said(g.get("/token?scope="+pulls("library/alpine"), basic("ann", "monday's")), 401, "UNAUTHORIZED")
	m9 := g.said(g.do("PUT", "/v2/library/mytool/manifests/1", g.as("ann", pushes("library/mytool")), body(image)), 401, "DENIED")

	ann := g.as("ann", pulls("coolteam/app"))
	for range 1000 {
		if err := g.drainOne("people", "user:ann"); err != nil {
			t.Fatal(err)
		}
	}
	a := g.get("/v2/coolteam/app/manifests/1.0", ann)
	m10 := g.said(a, 429, "TOOMANYREQUESTS")
	for range 12 {
		g.get("/token", basic("ann", "guess "+time.Now().String()), from("192.0.2.7"))
	}
	m15 := g.said(g.get("/token", basic("ann", "guess"), from("192.0.2.7")), 429, "TOOMANYREQUESTS")
	none := g.said(g.get("/v2/coolteam/app/manifests/1.0", g.as("", pulls("coolteam/app"))), 401, "DENIED")

	for name, tt := range map[string][2]string{
		"M6":            {m6, `wrong user name or password for docker.acme.example. Ask #platform-help (request ID)`},
		"M7":            {m7, `bob is logged in but may not pull coolteam/app, or it does not exist. Ask #platform-help (request ID)`},
		"M8":            {m8, `the login saved for docker.acme.example (user ann) is no longer valid. Run: docker login docker.acme.example - or docker logout docker.acme.example: public images need no login. Ask #platform-help (request ID)`},
		"M9":            {m9, `ann may not push to library/mytool; ann may push to coolteam/**. Ask #platform-help (request ID)`},
		"M10":           {m10, `limit "people": 1000 pulls in 6h are used up for user ann; next pull possible at 15:38 UTC (in 22s). Ask #platform-help (request ID)`},
		"M15":           {m15, `too many wrong passwords for ann from 192.0.2.7; try again in 2 minutes. Others at this address are not affected. Ask #platform-help (request ID)`},
		"not logged in": {none, `you are not logged in: docker login docker.acme.example. Ask #platform-help (request ID)`},
	} {
		if tt[0] != tt[1] {
			t.Errorf("%s:\ngot  %s\nwant %s", name, tt[0], tt[1])
		}
	}

	// Not logged in, no right, wrong password, stale login, limit used up: five sentences.
	seen := map[string]string{}
	for name, msg := range map[string]string{"not logged in": none, "no right": m7, "wrong password": m6, "stale": m8, "limit": m10} {
		msg = strings.NewReplacer("ann", "U", "bob", "U").Replace(msg)
		if other, twice := seen[msg]; twice {
			t.Errorf("%s and %s are one sentence: %s", name, other, msg)
		}
		seen[msg] = name
	}
}

// drainOne takes one event of a limit aside from any request.
func (g *gate) drainOne(name, client string) error {
	for i := range g.Current().limits {
		if l := &g.Current().limits[i]; l.Name == name {
			_, err := g.Limiter.Take(g.Context(), spendOne(l, client))
			return err
		}
	}
	g.Fatalf("no limit %q", name)
	return nil
}

func TestMessagesWithoutContact(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Contact = "" })
	for msg, want := range map[string]string{
		g.said(g.get("/token", basic("ann", "wrong")), 401, "UNAUTHORIZED"):                              `wrong user name or password for docker.acme.example. (request ID)`,
		g.said(g.get("/token?scope="+pulls("a"), basic("ann", "wrong 2")), 401, "UNAUTHORIZED"):          `the login saved for docker.acme.example (user ann) is no longer valid. Run: docker login docker.acme.example - or docker logout docker.acme.example: public images need no login. (request ID)`,
		g.said(g.get("/v2/coolteam/app/manifests/1", g.as("bob", pulls("coolteam/app"))), 401, "DENIED"): `bob is logged in but may not pull coolteam/app, or it does not exist. (request ID)`,
	} {
		if msg != want {
			t.Errorf("got  %s\nwant %s", msg, want)
		}
	}
}

func TestM9NamesAtMostThreePatternsAndOnlyOnesOwn(t *testing.T) {
	g := newGate(t, `
		allow everyone      library/**  pull
		allow user:bob      one/**,two/**,three/**,four/** pull,push
		allow group:ci      secret/**   pull,push`)
	push := func(user string) string {
		return g.said(g.do("POST", "/v2/library/x/blobs/uploads/", g.as(user, pushes("library/x"))), 401, "DENIED")
	}
	if got := push("bob"); !strings.HasPrefix(got, "bob may not push to library/x; bob may push to one/** and two/** and three/**. ") {
		t.Error(got)
	}
	if got := push("ann"); !strings.HasPrefix(got, "ann may not push to library/x. ") {
		t.Error(got)
	}
	for _, user := range []string{"ann", "bob", ""} {
		if got := push(user); strings.Contains(got, "secret") || strings.Contains(got, "four") {
			t.Error(got)
		}
	}
	// It fits a challenge (C11).
	a := g.do("POST", "/v2/library/x/blobs/uploads/", g.as("bob", pushes("library/x")))
	if got := a.challenged(t)["error_description"]; !strings.HasSuffix(got, "(request "+a.Header.Get("X-Request-Id")+")") || len(got) > 200 {
		t.Errorf("error_description %q", got)
	}
}
