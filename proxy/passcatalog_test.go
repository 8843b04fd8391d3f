package proxy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// below puts a prefix before names.
func below(prefix string, names []string) (out []string) {
	for _, name := range names {
		out = append(out, prefix+name)
	}
	return out
}

func TestT36_CatalogsAreReadWithTheCallersOwnLogin(t *testing.T) {
	g, second := two(t, passRules, func(a, b *UpstreamSettings) { a.Passthrough, b.Passthrough = true, true })
	p := addUsers(g.up)
	addUsers(second, func(p *users) { p.passwords["ann"] = "hers at the other" })
	mine := slices.DeleteFunc(slices.Clone(g.up.repositories), func(name string) bool { return strings.HasPrefix(name, "coolteam/vault/") })
	for name, tt := range map[string]struct {
		login  option
		scopes []string
		want   []string
		asked  *fakeUpstream
	}{
		// What another upstream's login has not proven is not listed for it.
		"the default one's": {who("ann"), []string{allCatalog}, mine, g.up},
		"the other's":       {basic("ann", "hers at the other"), []string{pulls("other/x"), allCatalog}, below("other/", second.repositories), second},
	} {
		token := bearer(g.tokenFor([]option{tt.login}, tt.scopes...))
		g.up.seen()
		second.seen()
		for _, n := range []string{"2", ""} {
			got, _ := g.list(token, n)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s, n=%s: %s", name, n, diff)
			}
		}
		for _, u := range []*fakeUpstream{g.up, second} {
			for _, r := range u.seen() {
				if u != tt.asked {
					t.Errorf("%s: another upstream was asked for %s", name, r.Target)
				}
				if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer upstreamtoken.of-ann.") {
					t.Errorf("%s: %s was asked for with %q", name, r.Target, r.Header.Get("Authorization"))
				}
			}
		}
	}
	// A login that has run out there is to be made again, not an empty list.
	token := g.as("ann", allCatalog)
	p.locked(func() { p.spent = true })
	if c := g.get("/v2/_catalog", token).want(t, 401).challenged(t); c["error"] != "invalid_token" {
		t.Errorf("challenge %v", c)
	}
}

func TestT36_SearchIsDoneWithTheCallersOwnLogin(t *testing.T) {
	g, _ := passing(t, passRules)
	next := g.settings
	next.Search = true
	g.swap(next)
	if diff := cmp.Diff([]string{"coolteam/app"}, g.find("q=app", who("ann"))); diff != "" {
		t.Error(diff)
	}
	for _, r := range g.up.seen() {
		if strings.HasPrefix(r.Target, "/v2/_catalog") && !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer upstreamtoken.of-ann.") {
			t.Errorf("asked with %q", r.Header.Get("Authorization"))
		}
	}
	g.get("/v1/search?q=app", basic("ann", "wrong")).refused(t, 401, "UNAUTHORIZED")
	// Nobody in particular goes the way of regward's own account, which is none here.
	if a := g.get("/v1/search?q=alpine"); a.StatusCode == 200 && strings.Contains(string(a.body), "coolteam") {
		t.Errorf("anonymous finds %s", a.body)
	}
}
