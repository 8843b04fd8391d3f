package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ECR answers 400, and not 401, to a password that is out of date. A 400 that
// is about the request stays one.
func TestS11_BadRequestMayBeAboutTheLogin(t *testing.T) {
	stale := false
	f := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") == "":
			challenged(w, `Basic realm="https://ecr.example/",service="ecr.amazonaws.com"`)
		case stale, strings.Contains(r.URL.Path, "odd"):
			w.WriteHeader(http.StatusBadRequest)
		default:
			_, _ = io.WriteString(w, "ok")
		}
	})
	u := testUpstream(t, f.URL, account)
	if got := outcome(u.do(t.Context(), pull("odd"))); got != "400" {
		t.Errorf("an odd request: got %s", got)
	}
	if u.Refused() != "" {
		t.Errorf("refused: %q", u.Refused())
	}
	stale = true
	u = testUpstream(t, f.URL, account)
	if got := outcome(u.do(t.Context(), pull("a"))); got != "502 UNAVAILABLE" || !strings.Contains(u.Refused(), "regward") {
		t.Errorf("a password out of date: got %s, refused %q", got, u.Refused())
	}
	if p, err := testUpstream(t, f.URL, account).Probe(t.Context()); err != nil || p.Login == "" {
		t.Errorf("probe: %+v, %v", p, err)
	}
}

// Nexus gives a user the same token whenever it is asked, and knows it from
// then on.
func TestS11_TheSameTokenAgainMayBeKnownByNow(t *testing.T) {
	known := false
	f := newFakeRegistry(t, func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			known = true
			_, _ = io.WriteString(w, `{"token":"DockerToken.same"}`)
		case r.Header.Get("Authorization") != "Bearer DockerToken.same" || !known:
			challenged(w, fmt.Sprintf(`Bearer realm="%s/token",service="%[1]s/token"`, f.URL))
		}
	})
	u := testUpstream(t, f.URL, account)
	for range 3 {
		if got := outcome(u.do(t.Context(), pull("a"))); got != "200" {
			t.Errorf("got %s", got)
		}
		known = false
	}
}

// Quay's token service reads push, pull and * of repositories, nothing else.
func TestScopesThatATokenServiceDoesNotRead(t *testing.T) {
	f := newFakeRegistry(t, func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		scope := r.URL.Query().Get("scope")
		switch {
		case r.URL.Path == "/token" && (strings.HasPrefix(scope, "registry:") || strings.HasSuffix(scope, "delete") || strings.Contains(scope, "strange")):
			w.WriteHeader(http.StatusBadRequest)
		case r.URL.Path == "/token":
			_, _ = io.WriteString(w, `{"token":"t"}`)
		case r.Header.Get("Authorization") == "":
			challenged(w, `Bearer realm="`+f.URL+`/token"`)
		}
	})
	u := testUpstream(t, f.URL, account)
	for _, tt := range []struct{ scope, want string }{
		{"repository:a:delete", "200"},
		{"repository:b:pull,push,delete", "200"},
		{"registry:catalog:*", "200"},
		{"repository:strange:pull", "404 NAME_UNKNOWN"},
		{"repository:strange:delete", "404 NAME_UNKNOWN"},
	} {
		out := pull("a")
		out.Scope = tt.scope
		if got := outcome(u.do(t.Context(), out)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.scope, got, tt.want)
		}
	}
	want := []string{
		"GET /v2/",
		"GET /token?account=regward&scope=repository%3Aa%3Adelete " + basicAccount,
		"GET /token?account=regward&scope=repository%3Aa%3Apull%2Cpush " + basicAccount,
		"GET /v2/a/manifests/latest Bearer t",
		"GET /token?account=regward&scope=repository%3Ab%3Apull%2Cpush%2Cdelete " + basicAccount,
		"GET /token?account=regward&scope=repository%3Ab%3Apull%2Cpush " + basicAccount,
		"GET /v2/a/manifests/latest Bearer t",
		"GET /token?account=regward&scope=registry%3Acatalog%3A%2A " + basicAccount,
		"GET /token?account=regward " + basicAccount,
		"GET /v2/a/manifests/latest Bearer t",
	}
	if d := cmp.Diff(want, f.seen()[:len(want)]); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
