package proxy

import (
	"testing"
	"time"
)

func TestL01_HeadersOfPulls(t *testing.T) {
	g := newGate(t, usual+`
		limit people pulls 100/6h per=client
		limit fast   pulls 3/m per=client subjects=user:bob`)
	ann, bob := g.as("ann", pulls("coolteam/app")), g.as("bob", pulls("shared/base"))
	check := func(a reply, limit, remaining, source string) {
		t.Helper()
		for key, want := range map[string]string{"RateLimit-Limit": limit, "RateLimit-Remaining": remaining, "Docker-RateLimit-Source": source} {
			if got := a.Header.Values(key); want == "" && len(got) > 0 || want != "" && (len(got) != 1 || got[0] != want) {
				t.Errorf("%s %s (%d): %s %q, want %q", a.Request.Method, a.Request.URL.Path, a.StatusCode, key, got, want)
			}
		}
	}
	const app, base = "/v2/coolteam/app/manifests/latest", "/v2/shared/base/manifests/latest"
	check(g.do("HEAD", app, ann), "100;w=21600", "100;w=21600", "ann")
	check(g.get(app, ann), "100;w=21600", "99;w=21600", "ann")
	check(g.get(app, ann), "100;w=21600", "98;w=21600", "ann")
	check(g.get("/v2/coolteam/app/manifests/absent", ann), "100;w=21600", "97;w=21600", "ann")
	// Of several the one with least left, on a 429 the one that refused.
	check(g.get(base, bob), "3;w=60", "2;w=60", "bob")
	g.get(base, bob)
	g.get(base, bob)
	check(g.get(base, bob).want(t, 429), "3;w=60", "0;w=60", "bob")
	// Elsewhere there are none.
	for _, a := range []reply{
		g.get("/v2/", ann), g.get("/v2/coolteam/app/blobs/"+layerDigest, ann), g.get("/v2/coolteam/app/tags/list", ann), g.get("/token"),
		g.get(app, g.as("bob", pulls("coolteam/app"))),
	} {
		check(a, "", "", "")
	}
	anonymous := g.tokenFor(nil, pulls("library/alpine"))
	check(g.get("/v2/library/alpine/manifests/latest", bearer(anonymous), from("192.0.2.7")), "100;w=21600", "99;w=21600", "192.0.2.7")

	none := newGate(t, usual)
	check(none.get(app, none.as("ann", pulls("coolteam/app"))), "", "", "")
}

func TestL02_APullIsOneManifestGet(t *testing.T) {
	const repo = "/v2/coolteam/app/manifests/"
	for _, tt := range []struct {
		name  string
		steps []string // method and reference; "+5m" passes time
		cost  int
	}{
		{"one by tag", []string{"GET latest"}, 1},
		{"one by digest", []string{"GET " + imageDigest}, 1},
		{"heads are none", []string{"HEAD latest", "HEAD " + imageDigest, "HEAD multi"}, 0},
		{"two tags are two", []string{"GET latest", "GET 1.0"}, 2},
		{"a tag again is another", []string{"GET latest", "GET latest"}, 2},
		{"by tag, then by its digest", []string{"GET latest", "GET " + imageDigest, "GET " + imageDigest}, 1},
		{"an index and its children", []string{"HEAD multi", "GET multi", "GET " + indexDigest, "GET " + imageDigest}, 1},
		{"a child first", []string{"GET " + imageDigest, "GET " + indexDigest}, 2},
		{"absent counts", []string{"GET absent"}, 1},
		{"absent frees nothing", []string{"GET " + absentDigest, "GET " + absentDigest}, 2},
		{"for ten minutes", []string{"GET multi", "+9m59s", "GET " + imageDigest}, 1},
		{"and no longer", []string{"GET multi", "+10m1s", "GET " + imageDigest}, 2},
		{"nor shorten what a later pull gave", []string{"GET multi", "+5m", "GET latest", "+1m", "GET " + indexDigest, "+5m", "GET " + imageDigest}, 2},
		{"free pulls do not prolong it", []string{"GET multi", "+9m", "GET " + indexDigest, "+2m", "GET " + imageDigest}, 2},
	} {
		g := newGate(t, usual+"limit people pulls 100/6d\n")
		for _, step := range tt.steps {
			if step[0] == '+' {
				d, err := time.ParseDuration(step[1:])
				if err != nil {
					t.Fatal(err)
				}
				g.clock.pass(d)
				continue
			}
			var method, reference string
			for i := range step {
				if step[i] == ' ' {
					method, reference = step[:i], step[i+1:]
				}
			}
			g.do(method, repo+reference, g.as("ann", pulls("coolteam/app")))
		}
		if got := g.spent("people", "user:ann"); got != tt.cost {
			t.Errorf("%s: %d counted, want %d", tt.name, got, tt.cost)
		}
	}
}

func TestL02_FreeIsForTheSameClientAndRepository(t *testing.T) {
	g := newGate(t, "allow everyone ** pull\nlimit people pulls 1/6h")
	g.get("/v2/one/x/manifests/multi", g.as("ann", pulls("one/x"))).want(t, 200)
	g.get("/v2/one/x/manifests/"+imageDigest, g.as("ann", pulls("one/x"))).want(t, 200) // an admitted pull can finish
	g.get("/v2/two/x/manifests/"+imageDigest, g.as("ann", pulls("two/x"))).want(t, 429)
	g.get("/v2/one/x/manifests/"+absentDigest, g.as("ann", pulls("one/x"))).want(t, 429)
	g.get("/v2/one/x/manifests/"+imageDigest, g.as("bob", pulls("one/x"))).want(t, 200)
	if got := g.spent("people", "user:bob"); got != 1 {
		t.Errorf("bob's pull cost %d", got)
	}
}

func TestL03_UpstreamsOwnAreRemoved(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 1/6h subjects=user:ann")
	g.passing("RateLimit-Limit", "200;w=21600", "RateLimit-Remaining", "7;w=21600", "Docker-RateLimit-Source", "acmebot", "X-RateLimit-Limit", "9", "RateLimit-Reset", "1")
	ann, bob := g.as("ann", pulls("coolteam/app")), g.as("bob", pulls("shared/base"))
	a := g.get("/v2/coolteam/app/manifests/latest", ann).want(t, 200)
	if got := a.Header.Values("RateLimit-Limit"); len(got) != 1 || got[0] != "1;w=21600" {
		t.Errorf("RateLimit-Limit %q", got)
	}
	// They are on the 429 too.
	a = g.get("/v2/coolteam/app/manifests/latest", ann).want(t, 429)
	if a.Header.Get("RateLimit-Limit") != "1;w=21600" || a.Header.Get("RateLimit-Remaining") != "0;w=21600" || a.Header.Get("Docker-RateLimit-Source") != "ann" {
		t.Errorf("429: %v", a.Header)
	}
	a = g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	for _, key := range []string{"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Docker-RateLimit-Source", "X-RateLimit-Limit"} {
		if got := a.Header.Get(key); got != "" {
			t.Errorf("%s %q of the upstream passes", key, got)
		}
	}
}
