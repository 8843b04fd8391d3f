package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keeping starts n instances that give refresh tokens, with one token key; more
// than one share a Redis. change is for what comes before the policy.
func keeping(t testing.TB, n int, u *upstream, policy string, change func(g *regward)) (f fleet) {
	t.Helper()
	policy += fmt.Sprintf("token: {key_file: %q, refresh: true}\n", suite.certs.keyFile)
	if n > 1 {
		policy += startRedis(t).config("")
	}
	for range n {
		g := newRegward(t, u.config)
		if len(f) > 0 {
			g.setLogins(t, fmt.Sprintf("auth: {htpasswd: %q}\n", f[0].passwd))
		}
		if change != nil {
			change(g)
		}
		g.configure(t, policy)
		g.serve(t)
		f = append(f, g)
	}
	return f
}

// tokenForm asks for a token by POST; the fields come in pairs.
func (g *regward) tokenForm(t testing.TB, fields ...string) answer {
	t.Helper()
	form := url.Values{"service": {"localhost"}, "client_id": {"containerd-client"}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return g.send(t, http.MethodPost, "/token", "", strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// offline logs in as containerd and buildkit do, to keep what is given for it.
func (g *regward) offline(t testing.TB, user string) (token, refresh string) {
	t.Helper()
	a := g.tokenForm(t, "grant_type", "password", "username", user, "password", passwords[user], "access_type", "offline",
		"scope", "repository:coolteam/app:pull,push").is(t, http.StatusOK)
	return a.kept(t)
}

// renewed logs in with what was kept.
func (g *regward) renewed(t testing.TB, refresh string) answer {
	t.Helper()
	return g.tokenForm(t, "grant_type", "refresh_token", "refresh_token", refresh, "scope", "repository:coolteam/app:pull,push")
}

// kept is what a token answer has; refresh is "" if there is none.
func (a answer) kept(t testing.TB) (token, refresh string) {
	t.Helper()
	var got struct {
		Token   string
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Token+got.Access == "" {
		t.Fatalf("%s: no token: %v", a.Request.URL, err)
	}
	return got.Access, got.Refresh
}

// saved is what docker has in its file for a host.
type savedLogin struct {
	Auth          string
	IdentityToken string
}

func (d *docker) saved(t testing.TB) (all map[string]savedLogin) {
	t.Helper()
	for _, e := range d.env {
		if dir, ok := strings.CutPrefix(e, "DOCKER_CONFIG="); ok {
			data, err := os.ReadFile(filepath.Join(dir, "config.json"))
			if err != nil {
				t.Fatal(err)
			}
			var file struct{ Auths map[string]savedLogin }
			if err := json.Unmarshal(data, &file); err != nil {
				t.Fatal(err)
			}
			return file.Auths
		}
	}
	t.Fatal("docker has no folder")
	return nil
}
