package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// docker keeps a refresh token and no password, and goes on with it whatever
// becomes of regward, until it is revoked; then it is told what to do.
func TestDockerKeepsNoPassword(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "coolteam/app:1", small(t))
	u.has(t, "library/hello:1", small(t)) // crane tries its login with it
	g := keeping(t, 1, u, teamRules, nil)[0]
	d := newDocker(t, g.host).(*docker)
	d.login(t, "bob", passwords["bob"]).works(t)
	saved := d.saved(t)[g.host]
	auth, err := base64.StdEncoding.DecodeString(saved.Auth)
	if err != nil || saved.IdentityToken == "" || strings.Contains(string(auth), passwords["bob"]) {
		t.Fatalf("docker keeps %q and %d letters of a token: %v", auth, len(saved.IdentityToken), err)
	}
	use := func() {
		t.Helper()
		d.pull(t, g.host+"/coolteam/app:1").works(t)
		d.push(t, g.host+"/coolteam/mine:1", small(t)).works(t)
	}
	use()
	g.proc.kill()
	g.serve(t)
	use()
	if err := g.proc.stop(); err != nil {
		t.Fatal(err)
	}
	g.serve(t)
	use()
	id := g.keptLogins(t)["bob"]
	g.cli(t, "token", "list").works(t).says(t, id, "bob", "localhost")
	g.cli(t, "token", "revoke", id).works(t)
	d.pull(t, g.host+"/coolteam/app:1").fails(t, "the login saved for localhost", "Run: docker login localhost")
	d.login(t, "bob", passwords["bob"]).works(t)
	use()
	g.keepsNoSecret(t, saved.IdentityToken, d.saved(t)[g.host].IdentityToken)

	// Where nobody asks for one, all is as before.
	for _, name := range []string{"podman", "skopeo", "crane"} {
		c := kindNamed(name).new(t, g.host)
		c.login(t, "ann", passwords["ann"]).works(t)
		c.pull(t, g.host+"/coolteam/app:1").works(t)
	}
}

// keptLogins are the ids of refresh tokens by their users; each has one.
func (g *regward) keptLogins(t *testing.T) map[string]string {
	t.Helper()
	o := g.cli(t, "token", "list", "--output", "json").works(t)
	ids := map[string]string{}
	var list []map[string]any
	if err := json.Unmarshal([]byte(o.out), &list); err != nil {
		t.Fatalf("%v\n%s", err, o.out)
	}
	for _, one := range list {
		user, _ := one["user"].(string)
		id, _ := one["id"].(string)
		if user != "" && ids[user] != "" {
			t.Fatalf("two of %s:\n%s", user, o.out)
		}
		ids[user] = id
	}
	return ids
}

// A login kept at one instance is good at the others, for its hostname alone, and
// for as long as they have it in common.
func TestRefreshTokensOfSeveralInstances(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "coolteam/app:1", small(t))
	f := keeping(t, 2, u, teamRules, nil)
	_, refresh := f[0].offline(t, "bob")
	pulls := func(g *regward) {
		t.Helper()
		token, again := g.renewed(t, refresh).is(t, 200).kept(t)
		if again != "" && again != refresh {
			t.Error("each use gives another one")
		}
		g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, 200)
	}
	pulls(f[1])
	f[0].proc.kill()
	pulls(f[1])
	f[0].serve(t)
	pulls(f[0])
	// The same instance has another name, and what is kept for one is not good there.
	other := *f[0]
	other.host = strings.Replace(other.host, "localhost", "127.0.0.1", 1)
	other.renewed(t, refresh).is(t, 401)
	pulls(f[0])
	id := f[1].keptLogins(t)["bob"]
	f[1].cli(t, "token", "revoke", id).works(t)
	f[1].renewed(t, refresh).is(t, 401)
	eventually(t, "it has ended everywhere", 90*time.Second, func() error {
		if a := f[0].renewed(t, refresh); a.StatusCode != 401 {
			return errors.New(a.Status)
		}
		return nil
	})
}

// Without token.refresh nobody gets one, whatever is asked for.
func TestRefreshTokensAreOffByThemselves(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "coolteam/app:1", small(t))
	g := startRegward(t, u, teamRules)
	if _, refresh := g.offline(t, "bob"); refresh != "" {
		t.Error("a POST gets one")
	}
	q := url.Values{"service": {"localhost"}, "offline_token": {"true"}, "client_id": {"docker"}}
	a := g.send(t, http.MethodGet, "/token?"+q.Encode(), "", nil, "Authorization", basicAuth("bob", passwords["bob"])).is(t, 200)
	if strings.Contains(a.body, "refresh") {
		t.Errorf("a GET gets one: %s", a.body)
	}
	if a := g.renewed(t, "made up").is(t, 400); !strings.Contains(a.body, "log in with user name and password") {
		t.Errorf("one is refused with %s", a.body)
	}
	d := newDocker(t, g.host).(*docker)
	d.login(t, "bob", passwords["bob"]).works(t)
	if saved := d.saved(t)[g.host]; saved.IdentityToken != "" || saved.Auth == "" {
		t.Errorf("docker keeps %+v", saved)
	}
	d.pull(t, g.host+"/coolteam/app:1").works(t)
}
