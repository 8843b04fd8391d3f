package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

func searching(s *Settings) { s.Search = true }

// find searches as docker does and returns the names found.
func (g *gate) find(query string, options ...option) []string {
	g.Helper()
	a := g.get("/v1/search?"+query, append([]option{header("X-Docker-Token", "true")}, options...)...).want(g, 200)
	var found struct {
		Num     *int `json:"num_results"`
		Query   *string
		Results []map[string]any
	}
	if err := json.Unmarshal(a.body, &found); err != nil || found.Num == nil || found.Query == nil || found.Results == nil || *found.Num != len(found.Results) {
		g.Fatalf("search answers %s (%v)", a.body, err)
	}
	names := []string{}
	for _, r := range found.Results {
		want := map[string]any{"name": r["name"], "description": "", "star_count": 0.0, "is_official": false, "is_automated": false, "is_trusted": false}
		if diff := cmp.Diff(want, r); diff != "" {
			g.Errorf("a result: %s", diff)
		}
		names = append(names, r["name"].(string))
	}
	return names
}

func TestP19_SearchFindsWhatTheCallerMayPull(t *testing.T) {
	g, ups := several(t, usual+"allow everyone hub/library/** pull\nallow user:ann hub/acme/** pull",
		[]auth.Place{{}, {Prefix: "hub/", Default: "library"}}, searching)
	ups[1].lists("numbered pages", "acme/alpine-tools", "library/alpine", "library/postgres", "private/alpine")
	ann := who("ann")
	for _, tt := range []struct {
		query string
		as    option
		want  []string
	}{
		{"q=alpine", who(""), []string{"hub/library/alpine", "library/alpine"}},
		{"q=alpine&n=25", ann, []string{"hub/acme/alpine-tools", "hub/library/alpine", "library/alpine"}},
		{"q=alpine", g.as("ann"), []string{"hub/acme/alpine-tools", "hub/library/alpine", "library/alpine"}}, // whatever the token covers
		{"q=alpine", g.as("bob", pulls("shared/base")), []string{"hub/library/alpine", "library/alpine"}},
		{"q=alpine", g.as(""), []string{"hub/library/alpine", "library/alpine"}},
		{"q=library%2Falpine", who(""), []string{"hub/library/alpine", "library/alpine"}},
		{"q=hub%2Falpine", who(""), []string{"hub/library/alpine"}}, // as it can be pulled
		{"q=ALPine", who(""), []string{"hub/library/alpine", "library/alpine"}},
		{"q=secrets", ann, []string{}},
		{"q=vault", ann, []string{}},
		{"q=app", ann, []string{"coolteam/app"}},
		{"q=app", who("bob"), []string{}},
		{"q=a&n=1", who(""), []string{"hub/library/alpine"}},
		{"q=", who(""), []string{"hub/library/alpine", "hub/library/postgres", "library/alpine", "library/busybox"}},
		{"", who(""), []string{"hub/library/alpine", "hub/library/postgres", "library/alpine", "library/busybox"}},
		{"q=alpine", header("Authorization", "Basic Og=="), []string{"hub/library/alpine", "library/alpine"}}, // C20
		{"q=alpine", header("Authorization", "Token signature=x"), []string{"hub/library/alpine", "library/alpine"}},
	} {
		if diff := cmp.Diff(tt.want, g.find(tt.query, tt.as)); diff != "" {
			t.Errorf("%s: %s", tt.query, diff)
		}
	}
	if line := g.access.all(t); line[len(line)-1]["route"] != "search" {
		t.Errorf("recorded as %v", line[len(line)-1])
	}
	ups[1].srv.Close() // a fault is no answer
	g.get("/v1/search?q=alpine").refused(t, 502, "UNAVAILABLE")
}

func TestP19_SearchIsBounded(t *testing.T) {
	g := newGate(t, "allow everyone ** pull", searching)
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprintf("a/%03d", i))
	}
	g.up.lists("all at once", names...)
	for n, want := range map[string]int{"": 25, "0": 25, "1": 1, "99": 99, "100": 100, "101": 100, "1000000000000": 100} {
		if got := g.find("q=a&n=" + n); len(got) != want {
			t.Errorf("n=%s: %d results, want %d", n, len(got), want)
		}
	}
	g.up.seen()
	for _, query := range []string{"n=-1", "n=x", "n=1&n=2", "q=a&q=b", "q=%00", "q=%ff", "q=%zz", "q=a;n=1", "q=" + strings.Repeat("a", maxParam+1)} {
		g.get("/v1/search?"+query).refused(t, 400, "UNSUPPORTED")
	}
	g.get("/v1/search?q="+strings.Repeat("a", maxQuery)).refused(t, 414, "UNSUPPORTED")
	g.up.none(t)
	g.up.lists("as the spec has it", names...) // three a page
	if got := g.find("q=a/2"); len(got) != 0 {
		t.Errorf("found %d beyond what one request may read", len(got))
	}
	if asked := len(g.up.seen()); asked != maxCatalogPages {
		t.Errorf("%d pages were read, want %d", asked, maxCatalogPages)
	}
}

func TestP19_ACatalogWithoutEndHidesNoOther(t *testing.T) {
	for _, places := range [][]auth.Place{{{Prefix: "x/"}, {}}, {{}, {Prefix: "x/"}}} {
		g, ups := several(t, "allow everyone ** pull", places, searching)
		asked := 0
		ups[0].answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v2/_catalog" {
				return false
			}
			asked++
			w.Header().Set("Link", fmt.Sprintf("<?page=%d>; rel=next", asked))
			_, _ = fmt.Fprintf(w, `{"repositories":["b/%d"]}`, asked)
			return true
		})
		ups[1].lists("as the spec has it", "alpine")
		want := []string{places[1].Prefix + "alpine"}
		if diff := cmp.Diff(want, g.find("q=alpine")); diff != "" {
			t.Errorf("endless at %q: %s", places[0].Prefix, diff)
		}
		if asked != maxCatalogPages {
			t.Errorf("%d pages were read of it, want %d", asked, maxCatalogPages)
		}
	}
}

func TestP19_SearchPing(t *testing.T) {
	g := newGate(t, usual+"limit all requests 1/h per=all", searching)
	for range 3 { // never limited (C18)
		for _, credential := range []option{who(""), who("ann"), basic("ann", "wrong")} {
			a := g.get("/v1/_ping", credential).want(t, 200)
			if string(a.body) != `{"standalone":true}` || a.Header.Get("X-Docker-Registry-Standalone") != "true" {
				t.Errorf("ping: %s %v", a.body, a.Header)
			}
		}
	}
	g.up.none(t)
}

func TestP19_SearchKnowsItsCallers(t *testing.T) {
	g := newGate(t, usual+"limit people requests 3/h subjects=user:ann", searching)
	docker := header("X-Docker-Token", "true")
	for name, as := range map[string]option{
		"wrong password":  basic("bob", "wrong"),
		"unknown user":    basic("nobody", "x"),
		"made-up token":   bearer("made.up.token"),
		"no password":     basic("bob", ""),
		"no base64":       header("Authorization", "Basic ???"),
		"two credentials": func(r *http.Request) { who("ann")(r); header("Authorization", "Bearer x")(r) },
	} {
		a := g.get("/v1/search?q=alpine", docker, as)
		a.refused(t, 401, "UNAUTHORIZED")
		if c := a.challenged(t); c["scope"] != "" {
			t.Errorf("%s: challenged for %q", name, c["scope"])
		}
	}
	old := g.as("bob")
	g.clock.pass(time.Hour)
	g.get("/v1/search?q=alpine", old).refused(t, 401, "UNAUTHORIZED")
	g.up.none(t)

	// It is a request like others for the limits.
	for range 3 {
		g.find("q=alpine", who("ann"))
	}
	g.up.seen()
	if said := g.get("/v1/search?q=alpine", who("ann")).refused(t, 429, "TOOMANYREQUESTS"); !strings.Contains(said, `limit "people"`) {
		t.Error(said)
	}
	g.up.none(t)
	for i := range 12 {
		g.get("/v1/search?q=alpine", basic("carl", fmt.Sprint("guess", i)))
	}
	g.get("/v1/search?q=alpine", basic("carl", "guess")).refused(t, 429, "TOOMANYREQUESTS")
}

// c/image asks without its login and goes on to the catalog only if it is
// refused; there it finds what is its user's.
func TestP19_PodmanIsSentToTheCatalog(t *testing.T) {
	g := newGate(t, usual, searching)
	podman := header("Docker-Distribution-Api-Version", "registry/2.0")
	g.get("/v1/search?q=app&n=25", podman).refused(t, 404, "UNSUPPORTED")
	g.up.none(t)
	if diff := cmp.Diff([]string{"coolteam/app"}, g.find("q=app", podman, who("ann"))); diff != "" {
		t.Error(diff)
	}
}

func TestP19_NothingElseBelowV1(t *testing.T) {
	for name, g := range map[string]*gate{
		"on":          newGate(t, usual, searching),
		"off":         newGate(t, usual),
		"catalog off": newGate(t, usual, searching, func(s *Settings) { s.Catalog = false }),
	} {
		for _, target := range []string{"/v1/", "/v1/users/", "/v1/search/", "/v1/searchx", "/v1/_ping/", "/v1//search", "/v1/%73earch?q=a", "/v1/repositories/library/alpine/tags", "/v1/../v2/_catalog"} {
			for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
				g.do(method, target, who("ann")).refused(t, 404, "NAME_UNKNOWN")
			}
		}
		for _, target := range []string{"/v1/search?q=a", "/v1/_ping"} {
			for _, method := range []string{"POST", "HEAD", "PUT"} {
				want := 404
				if name == "on" {
					want = 405
				}
				if a := g.do(method, target); a.StatusCode != want {
					t.Errorf("%s: %s %s: %d, want %d", name, method, target, a.StatusCode, want)
				}
			}
			if name != "on" {
				g.get(target).refused(t, 404, "NAME_UNKNOWN")
			}
		}
		g.up.none(t)
		if name == "on" {
			g.do("OPTIONS", "/v1/search").want(t, 204)
		}
		g.get("/v1/search?q=a", at("evil.example")).want(t, 421)
	}
}

func TestP18_CatalogOfSeveralNeedsItsScope(t *testing.T) {
	g, ups := several(t, usual, []auth.Place{{}, {Prefix: "hub/"}})
	for _, user := range []string{"", "bob"} {
		c := g.get("/v2/_catalog", g.as(user, pulls("hub/x"))).want(t, 401).challenged(t)
		if c["scope"] != allCatalog || c["error"] != "insufficient_scope" {
			t.Errorf("challenge %v", c)
		}
		for _, u := range ups {
			u.none(t)
		}
		g.get("/v2/_catalog", g.as(user, c["scope"])).want(t, 200)
		for _, u := range ups {
			for _, r := range u.seen() {
				if q, _ := url.ParseQuery(strings.TrimPrefix(r.Target, "/v2/_catalog?")); q.Get("n") != fullPage {
					t.Errorf("asked %s", r.Target)
				}
			}
		}
	}
}

func FuzzSearchQuery(f *testing.F) {
	f.Add("q=alpine&n=25")
	f.Add("q=%2F&n=")
	f.Fuzz(func(t *testing.T, raw string) {
		term, most, err := searchQuery(raw)
		if err == nil && (most < 1 || most > maxFound || len(term) > maxParam || !printable(term)) {
			t.Errorf("%q: %q, %d", raw, term, most)
		}
	})
}
