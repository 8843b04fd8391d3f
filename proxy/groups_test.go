package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/regward/regward/auth"
)

// crowd is a provider that puts everybody into many groups.
type crowd struct{ groups []string }

func (c crowd) Authenticate(_ context.Context, cr auth.Credential) (auth.Identity, error) {
	return auth.Identity{Name: cr.User, Groups: c.groups, Via: "crowd"}, nil
}
func (crowd) Proof(auth.Credential) []byte { return nil }

// Whoever is in 2,000 groups logs in, and may what they let. A reload of rules
// that ask about other groups takes no token that may lack them.
func TestUsersInManyGroups(t *testing.T) {
	c := crowd{[]string{"people"}}
	for i := range 2000 {
		c.groups = append(c.groups, fmt.Sprintf("g%04d", i))
	}
	with := func(s *Settings) {
		s.Logins, s.Current = c, func(id *auth.Identity) bool { return id.Via == "crowd" }
	}
	const (
		before  = "\n\tallow group:people team/** pull,push\n"
		after   = before + "\tdeny group:g0007 team/** pull\n"
		anybody = "\n\tallow authenticated {group}/** pull\n"
	)
	g := newGate(t, before, with)
	now := func(text string) {
		s := g.base(text)
		with(&s)
		g.swap(s)
	}
	says := func(who option, want string) bool {
		return strings.Contains(string(g.get("/v2/team/app/tags/list", who).body), want)
	}
	eve := basic("eve", "pw")
	token := bearer(g.tokenFor([]option{eve}, pushes("team/app")))
	if says(token, "may not") || says(token, "log in") {
		t.Error("a token of 2,001 groups is not taken")
	}
	now(after)
	if !says(token, "the login this token was given to has changed") {
		t.Error("a token is taken that may lack the group")
	}
	for _, who := range []option{bearer(g.tokenFor([]option{eve}, pushes("team/app"))), eve} {
		if !says(who, "eve is logged in but may not pull team/app") {
			t.Error("in the group that is denied, and let in")
		}
	}
	now(anybody)
	got := g.get("/token?service="+gateHost, eve)
	if got.StatusCode != http.StatusForbidden || !strings.Contains(string(got.body), "eve is in 2001 groups that rules or limits ask about, more than a login can carry") {
		t.Errorf("where all may count: %d %s", got.StatusCode, got.body)
	}
	if lines := g.access.all(t); lines[len(lines)-1]["reason"] != reasonGroups {
		t.Errorf("%v", lines[len(lines)-1])
	}
}
