package proxy

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// issuer stands for an issuer of tokens: it knows its own by the user name.
type issuer struct{}

func (issuer) Authenticate(_ context.Context, c auth.Credential) (auth.Identity, error) {
	if c.User != "oidc" {
		return auth.Identity{}, auth.ErrNotMine
	}
	return auth.Identity{Name: "gha/app", Via: "oidc:test"}, nil
}
func (issuer) Proof(auth.Credential) []byte   { return []byte("issuer") }
func (issuer) Current(id *auth.Identity) bool { return id.Via == "oidc:test" }
func (issuer) Keeps(c auth.Credential) bool   { return c.User == "oidc" }

// A robot's secret and an issuer's token are shown to no upstream, though people's
// passwords go on to it. Who has one logs in, and is nobody there.
func TestT34_SecretsOfOursAreShownToNoUpstream(t *testing.T) {
	secret, hash := auth.NewRobotSecret()
	file, err := auth.ParseRobots("tokens.yaml", []byte("robots:\n  - name: ci\n    repositories: [\"**\"]\n    allow: [pull, push]\n    hashes: [{sha256: "+hash.String()+"}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	const idToken = "eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl"
	for _, robots := range []bool{true, false} { // without robots a secret is one of yesterday's
		rules := `
			allow authenticated ** pull,push
			allow token:ci ** pull,push`
		second := newFakeUpstream(t)
		var seen strings.Builder
		g := newGate(t, rules, func(s *Settings) {
			s.Logins, s.Current = issuer{}, issuer{}.Current
			s.Upstreams[0].Passthrough = true
			b := s.Upstreams[0]
			b.Name, b.Place, b.Passthrough = "own", auth.Place{Prefix: "own/"}, false
			b.URL, _ = url.Parse(second.srv.URL)
			s.Upstreams = append(s.Upstreams, b)
			if robots {
				s.Robots = auth.NewRobots(file, auth.RobotOptions{Now: time.Now})
			}
		})
		p := addUsers(g.up, func(p *users) { p.passwords["robot-ci"], p.passwords["oidc"] = secret, idToken })
		g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
			content, _ := io.ReadAll(r.Body)
			user, password, _ := r.BasicAuth()
			if all := user + " " + password + " " + string(content); strings.Contains(all, secret) || strings.Contains(all, url.QueryEscape(idToken)) {
				seen.WriteString(r.Method + " " + r.URL.Path + "; ")
			}
			r.Body = io.NopCloser(strings.NewReader(string(content)))
			return p.answer(w, r)
		})
		for user, password := range map[string]string{"robot-ci": secret, "oidc": idToken, "ann": secret} {
			good := user == "oidc" || user == "robot-ci" && robots
			want := map[bool]int{true: 200, false: 401}[good]
			for _, scopes := range []string{"", pulls("team/app"), pulls("own/team/app"), pushes("team/app") + " " + pulls("own/team/app")} {
				q := url.Values{"service": {gateHost}, "client_id": {"t"}}
				if scopes != "" {
					q.Set("scope", scopes)
				}
				a := g.get("/token?"+q.Encode(), basic(user, password))
				if a.StatusCode != want {
					t.Errorf("%s, robots %v, %q: GET answers %d, want %d", user, robots, scopes, a.StatusCode, want)
				}
				q.Set("grant_type", "password")
				q.Set("username", user)
				q.Set("password", password)
				a = g.do("POST", "/token", form(q.Encode()))
				if a.StatusCode != want {
					t.Errorf("%s, robots %v, %q: POST answers %d, want %d", user, robots, scopes, a.StatusCode, want)
				}
				if a.StatusCode != 200 {
					continue
				}
				granted := ""
				if strings.Contains(scopes, "own/") {
					granted = pulls("own/team/app")
				}
				b := a.token(t)
				if *b.Scope != granted {
					t.Errorf("%s, %q: granted %q, want %q", user, scopes, *b.Scope, granted)
				}
				g.get("/v2/team/app/manifests/latest", bearer(b.Token)).refused(t, 401, "DENIED")
				if granted != "" {
					g.get("/v2/own/team/app/manifests/latest", bearer(b.Token)).want(t, 200)
				}
			}
			g.get("/v2/", basic(user, password)).want(t, want)
			g.get("/v2/team/app/manifests/latest", basic(user, password)).refused(t, 401, map[bool]string{true: "DENIED", false: "UNAUTHORIZED"}[good])
			if good {
				g.get("/v2/own/team/app/manifests/latest", basic(user, password)).want(t, 200)
			}
		}
		if seen.Len() > 0 {
			t.Errorf("robots %v: the upstream was shown them: %s", robots, seen.String())
		}
	}
}
