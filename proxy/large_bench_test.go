package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkManyRules is what is asked of the rules most at once, among 5,000 of
// them in one namespace: a token, a refusal with its words for the audit log, and
// a catalog of 10,000 names of which the caller may see one.
func BenchmarkManyRules(b *testing.B) {
	var text strings.Builder
	for n := range 5_000 {
		fmt.Fprintf(&text, "allow group:g%d coolteam/team%d/** pull,push\n", n, n)
	}
	g := newGate(b, text.String()+"allow group:coolteam coolteam/app/** pull,push\n")
	g.Access, g.Audit = nil, nil
	names := []string{"coolteam/app/x"}
	for n := range 10_000 {
		names = append(names, fmt.Sprintf("coolteam/team%05d/app", n))
	}
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/_catalog" {
			return false
		}
		at, seen := slices.BinarySearch(names, r.URL.Query().Get("last"))
		if seen {
			at++
		}
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		page := names[at:min(at+n, len(names))]
		if at+n < len(names) {
			w.Header().Set("Link", fmt.Sprintf(`</v2/_catalog?last=%s&n=%d>; rel="next"`, url.QueryEscape(page[n-1]), n))
		}
		w.Header()["Content-Type"] = []string{"application/json"}
		_ = json.NewEncoder(w).Encode(map[string][]string{"repositories": page})
		return true
	})
	token := g.token("ann", pulls("coolteam/app/x"), "registry:catalog:*")
	ask := func(name, target string, status int, header ...string) {
		r := httptest.NewRequest("GET", "https://"+gateHost+target, nil)
		r.URL.Scheme, r.URL.Host, r.RemoteAddr = "", "", "127.0.0.1:4000"
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := &recorder{header: make(http.Header, 16)}
				g.ServeHTTP(w, r)
				if w.status != status {
					b.Fatal(w.status)
				}
			}
			b.StopTimer()
			g.up.seen()
		})
	}
	one := url.Values{"service": {gateHost}, "scope": {pushes("coolteam/app/x")}}.Encode()
	many := url.Values{"service": {gateHost}}
	for n := range 64 {
		many.Add("scope", pulls(fmt.Sprintf("coolteam/team%d/app", n*70)))
	}
	ann := httptest.NewRequest("GET", "/", nil)
	ann.SetBasicAuth("ann", annPassword)
	login := ann.Header.Get("Authorization")
	ask("token", "/token?"+one, 200, "Authorization", login)
	ask("token-of-64-scopes", "/token?"+many.Encode(), 200, "Authorization", login)
	ask("refusal", "/v2/coolteam/team7/app/manifests/latest", 401, "Authorization", "Bearer "+token)
	ask("catalog", "/v2/_catalog?n=10000", 200, "Authorization", "Bearer "+token)
}
