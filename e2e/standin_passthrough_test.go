package e2e

import (
	"maps"
	"net/http"
	"testing"
)

// People keep the logins they have at the registry, whatever its way to ask
// for them: clients see regward's own.
func TestClientsKeepTheirLoginsWhateverTheUpstreamsHabits(t *testing.T) {
	t.Parallel()
	for _, up := range imitations {
		for _, k := range []clientKind{kindNamed("docker"), kindNamed("crane")} {
			t.Run(k.name+" in front of "+up.name, func(t *testing.T) {
				t.Parallel()
				s, _ := stocked(t, up.new)
				maps.Copy(s.users, passwords)
				s.extra += "\n  credentials: passthrough"
				g := newRegward(t, s.settings())
				g.setLogins(t, "")
				g.configure(t, teamRules)
				g.serve(t)
				c := k.new(t, g.host)
				ref := func(r string) string { return g.host + "/" + r }
				walk(t, []step{
					{"pulls a public image without a login", func(t *testing.T) { c.pull(t, ref("library/hello:1")).works(t) }},
					{"is refused a private image", func(t *testing.T) { c.pull(t, ref("coolteam/app:1")).fails(t, "not logged in") }},
				})
				walk(t, s.annsDay(c, g.host))
				s.tookAnnForAnn(t)
			})
		}
	}
}

// tookAnnForAnn demands that what ann did was done with ann's login at the
// upstream, and not with that of regward's account.
func (s *standin) tookAnnForAnn(t testing.TB) {
	t.Helper()
	writes := s.requests("registry", func(h heard) bool { return h.method != http.MethodGet && h.method != http.MethodHead })
	if len(writes) == 0 {
		t.Error("nothing was written")
	}
	for _, h := range writes {
		r := &http.Request{Header: h.header}
		user, _, basic := r.BasicAuth()
		if !basic {
			g, _ := s.tokens.find(h.token())
			user = g.user
		}
		if user != "ann" {
			t.Errorf("%s: done by %q", h, user)
		}
	}
}
