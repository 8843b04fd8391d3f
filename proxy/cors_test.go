package proxy

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

const page = "https://ui.acme.example"

func newPageGate(t testing.TB, text string, change ...func(*Settings)) *gate {
	t.Helper()
	return newGate(t, text, append(change, func(s *Settings) { s.Origins = []string{page, "http://localhost:8000"} })...)
}

// corsOf is what of a is for browsers.
func corsOf(a reply) (fields []string) {
	for key, values := range a.Header {
		if strings.HasPrefix(key, "Access-Control-") {
			for _, v := range values {
				fields = append(fields, key+": "+v)
			}
		}
	}
	slices.Sort(fields)
	return fields
}

// readable fails unless the page may read a, and read what clients need of it.
func (g *gate) readable(a reply, origin string) {
	g.Helper()
	h := a.Header
	if got := h["Access-Control-Allow-Origin"]; len(got) != 1 || got[0] != origin || h.Get("Access-Control-Allow-Credentials") != "true" || !slices.Contains(h["Vary"], "Origin") {
		g.Errorf("%s %s: %d: %v, Vary %v", a.Request.Method, a.Request.URL.Path, a.StatusCode, corsOf(a), h["Vary"])
	}
	exposed := strings.Split(strings.ToLower(h.Get("Access-Control-Expose-Headers")), ", ")
	for _, name := range []string{"WWW-Authenticate", "Link", "Location", "Range", "Docker-Content-Digest", "Docker-Upload-UUID", "OCI-Subject", "OCI-Filters-Applied",
		"RateLimit-Limit", "RateLimit-Remaining", "Docker-RateLimit-Source", "Retry-After", "X-Request-Id"} {
		if !slices.Contains(exposed, strings.ToLower(name)) {
			g.Errorf("%s %s: %s is hidden", a.Request.Method, a.Request.URL.Path, name)
		}
	}
}

func TestR22_APreflightIsAnsweredBeforeAnybodyIsAsked(t *testing.T) {
	g := newPageGate(t, usual)
	g.both(func(c *http.Client, version string) {
		for _, target := range []string{"/v2/", "/v2", "/token", "/v2/coolteam/app/tags/list", "/v2/coolteam/app/blobs/uploads/x", "/v2/Nonsense/%2e"} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
				a := g.with(c, "OPTIONS", target, header("Origin", page), header("Access-Control-Request-Method", method),
					header("Access-Control-Request-Headers", "accept,authorization,content-range,content-type,range"), header("Access-Control-Request-Private-Network", "true"))
				a.want(t, 204)
				want := []string{
					"Access-Control-Allow-Credentials: true",
					"Access-Control-Allow-Headers: accept,authorization,content-range,content-type,range",
					"Access-Control-Allow-Methods: " + method,
					"Access-Control-Allow-Origin: " + page,
					"Access-Control-Allow-Private-Network: true",
					"Access-Control-Max-Age: 600",
				}
				if got := corsOf(a); !slices.Equal(got, want) || len(a.Header["Vary"]) == 0 || a.Header.Get("WWW-Authenticate") != "" {
					t.Errorf("%s %s %s: %v", version, method, target, a.Header)
				}
			}
		}
	})
	g.up.none(t)
	for _, bad := range [][]option{
		{header("Origin", "https://evil.example")},
		{header("Origin", "null")},
		{header("Origin", "https://ui.acme.example.evil.example")},
		{header("Origin", "http://ui.acme.example")},
		{header("Origin", "https://ui.acme.example:8443")},
		{header("Origin", "HTTPS://ui.acme.example")},
		{header("Origin", page), header("Origin", "https://evil.example")},
		{header("Origin", "https://evil.example"), header("Origin", page)},
		{},
	} {
		a := g.do("OPTIONS", "/v2/", append(bad, header("Access-Control-Request-Method", "GET"))...).want(t, 204)
		if got := corsOf(a); len(got) > 0 || a.Header.Get("Allow") == "" {
			t.Errorf("%v: %v", a.Request.Header, got)
		}
	}
	for _, bad := range [][]option{
		{header("Access-Control-Request-Method", "TRACE")},
		{header("Access-Control-Request-Method", "GET"), header("Access-Control-Request-Headers", "x-forwarded-for")},
	} {
		if got := corsOf(g.do("OPTIONS", "/v2/", append(bad, header("Origin", page))...).want(t, 204)); len(got) > 0 {
			t.Errorf("%v", got)
		}
	}
}

func TestR22_APageMayReadWhateverTheAnswerIs(t *testing.T) {
	g := newPageGate(t, usual+"\nlimit people pulls 1/h subjects=user:bob")
	g.passing("Access-Control-Allow-Origin", "*", "Access-Control-Allow-Credentials", "true", "Access-Control-Expose-Headers", "Link", "Vary", "X-Theirs")
	origin := header("Origin", page)
	ann := g.as("ann", pushes("coolteam/app"), pulls("library/alpine"))
	bob := g.as("bob", pulls("shared/base"))
	for _, a := range []reply{
		g.get("/v2/", origin).want(t, 401),
		g.get("/v2/", origin, ann).want(t, 200),
		g.get("/token", origin, who("ann")).want(t, 200),
		g.get("/token", origin, basic("ann", "wrong")).want(t, 401),
		g.get("/v2/coolteam/app/tags/list", origin, ann).want(t, 200),
		g.get("/v2/coolteam/app/manifests/latest", origin, ann).want(t, 200),
		g.get("/v2/coolteam/app/blobs/"+layerDigest, origin, ann).want(t, 200),
		g.do("POST", "/v2/coolteam/app/blobs/uploads/", origin, ann).want(t, 202),
		g.get("/v2/library/alpine/manifests/latest", origin, bob).want(t, 401),
		g.get("/v2/shared/base/manifests/latest", origin, bob).want(t, 200),
		g.get("/v2/shared/base/manifests/1.0", origin, bob).want(t, 429),
		g.get("/v2/", origin, func(r *http.Request) { r.Host = "other.example" }).want(t, 421),
	} {
		g.readable(a, page)
	}
	g.up.answer(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true })
	g.readable(g.get("/v2/coolteam/app/manifests/latest", origin, ann).want(t, 503), page)
	g.up.answer(nil)
	g.readable(g.get("/v2/", header("Origin", "http://localhost:8000")).want(t, 401), "http://localhost:8000")
	// Others are served as ever, and their pages read nothing.
	for _, who := range []option{header("Origin", "https://evil.example"), func(*http.Request) {}} {
		a := g.get("/v2/coolteam/app/manifests/latest", who, ann).want(t, 200)
		if got := corsOf(a); len(got) > 0 || !slices.Contains(a.Header["Vary"], "Origin") {
			t.Errorf("%v %v", got, a.Header["Vary"])
		}
	}
	// No other path speaks to pages.
	for _, target := range []string{"/", "/nothing", "/v1/search"} {
		if got := corsOf(g.get(target, origin)); len(got) > 0 {
			t.Errorf("%s: %v", target, got)
		}
	}
}

func TestAReloadChangesOrigins(t *testing.T) {
	g := newPageGate(t, usual)
	origin := header("Origin", page)
	g.readable(g.get("/v2/", origin), page)
	s := g.settings
	s.Origins = []string{"https://other.acme.example"}
	g.swap(s)
	if got := corsOf(g.get("/v2/", origin)); len(got) > 0 {
		t.Error(got)
	}
	g.readable(g.get("/v2/", header("Origin", "https://other.acme.example")), "https://other.acme.example")
	s.Origins = nil
	g.swap(s)
	a := g.get("/v2/", header("Origin", "https://other.acme.example"))
	if got := corsOf(a); len(got) > 0 || len(a.Header["Vary"]) > 0 {
		t.Error(got, a.Header["Vary"])
	}
}
