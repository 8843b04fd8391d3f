package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// directoryRules: dev for who is in it, by core, too; each group and each person
// a namespace of their own.
const directoryRules = `
rules:
  - {subjects: everyone,      repositories: "library/**", allow: pull}
  - {subjects: group:dev,     repositories: "shared/**",  allow: [pull, push]}
  - {subjects: authenticated, repositories: "{group}/**", allow: [pull, push]}
  - {subjects: authenticated, repositories: "{user}/**",  allow: [pull, push]}
`

// startAsking starts regward in front of a registry, with logins as auth says.
func startAsking(t testing.TB, auth, policy string) *regward {
	t.Helper()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	g := newRegward(t, u.config)
	g.setLogins(t, auth)
	g.configure(t, policy)
	g.serve(t)
	return g
}

// logsIn asks for a token as docker does, once.
func (g *regward) logsIn(t testing.TB, user, password string, scopes ...string) answer {
	t.Helper()
	return g.send(t, "GET", "/token?"+url.Values{"service": {"localhost"}, "scope": scopes}.Encode(), "", nil, "Authorization", basicAuth(user, password))
}

// posts asks for a token as helm does.
func (g *regward) posts(t testing.TB, user, password, scope string) answer {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "service": {"localhost"}, "client_id": {"helm"}, "scope": {scope}, "username": {user}, "password": {password}}
	return g.send(t, "POST", "/token", "", strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// tokenIn is what was given out.
func (a answer) tokenIn(t testing.TB) string {
	t.Helper()
	var got struct{ Token string }
	if err := json.Unmarshal([]byte(a.is(t, http.StatusOK).body), &got); err != nil || got.Token == "" {
		t.Fatalf("no token: %v: %s", err, a.body)
	}
	return got.Token
}

// People and groups of a directory are those that rules speak of, for every
// client, with TLS from the start and with StartTLS.
func TestLDAPClients(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	for _, tt := range []struct {
		auth    string
		clients []string
	}{
		{s.auth("      group_recursive: true"), []string{"docker", "crane"}},
		{ldapAuth(s.ldap, "      starttls: true", "      group_recursive: true"), []string{"podman"}},
	} {
		g := startAsking(t, tt.auth, directoryRules)
		for _, name := range tt.clients {
			k := kindNamed(name)
			c := k.new(t, g.host)
			wrong := c.login(t, "ann", "not-"+passwords["ann"])
			if f, ok := c.(*crane); ok { // it does not ask at its login
				wrong = f.pull(t, g.host+"/shared/app:1")
			}
			wrong.fails(t, k.wrongLogin)
			c.login(t, "ANN", passwords["ann"]).works(t)
			c.pull(t, g.host+"/library/hello:1").works(t)
			for _, repository := range []string{"ann/from-", "core/from-", "dev/from-", "shared/from-"} {
				c.push(t, g.host+"/"+repository+name+":1", small(t)).works(t)
			}
			c.push(t, g.host+"/bob/from-"+name+":1", small(t)).fails(t)
			c.logout(t).works(t)
			c.login(t, "bob", passwords["bob"]).works(t)
			c.pull(t, g.host+"/shared/from-"+name+":1").works(t)
			c.pull(t, g.host+"/core/from-"+name+":1").fails(t, "bob is logged in but may not pull core/from-")
		}
		token := g.posts(t, "Ann", passwords["ann"], "repository:shared/from-"+tt.clients[0]+":pull").tokenIn(t)
		g.send(t, "GET", "/v2/shared/from-"+tt.clients[0]+"/manifests/1", token, nil).is(t, 200)
		g.posts(t, "Ann", "wrong", "repository:shared/app:pull").is(t, 401)
		if log := g.proc.output() + g.accessLog(t) + g.auditLog(t); strings.Contains(log, passwords["ann"]) || strings.Contains(log, ldapSecret) {
			t.Error("a password is in a log")
		}
	}
}

// Without group_recursive whoever is in core is not in dev.
func TestLDAPGroupsAreNotNestedByThemselves(t *testing.T) {
	t.Parallel()
	g := startAsking(t, startSlapd(t).auth(), directoryRules)
	for repository, status := range map[string]int{"core/app": 404, "dev/app": 401, "shared/app": 401} {
		token := g.logsIn(t, "ann", passwords["ann"], "repository:"+repository+":pull").tokenIn(t)
		g.send(t, "GET", "/v2/"+repository+"/manifests/1", token, nil).is(t, status)
	}
}

// What logins cost the directory: one bind for a wrong password, none for names
// that it does not have, whatever is in them, and no more than the limits allow.
func TestLDAPLoginsCost(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	g := startAsking(t, s.auth(), directoryRules+"cache: {ttl: 1ms, negative_ttl: 1s}\nlimits:\n  - {name: guesses, count: failed_logins, rate: 6/15m, per: client}\n")
	everybody := "BIND dn=\"uid="
	g.logsIn(t, "bob", passwords["bob"]).is(t, 200)
	before := s.asked(t, everybody)
	for _, user := range []string{"eve", "*", "a*", "ann)(uid=*", "ann)(|(uid=*", `ann\2a`, "uid=Ann", dnOf("Ann"), " ann", "ＡＮＮ"} {
		g.logsIn(t, user, passwords["ann"]).is(t, 401)
		if t.Failed() {
			break
		}
	}
	if n := s.asked(t, everybody) - before; n != 0 {
		t.Errorf("%d binds for names that nobody has", n)
	}
	for range 3 {
		g.logsIn(t, "dave", "wrong").is(t, 401)
	}
	if n := s.binds(t, dnOf("dave")); n < 1 || n > 3 { // the same one is known to be wrong for a second
		t.Errorf("%d binds for one wrong password", n)
	}
	turned := map[int]int{}
	for i := range 40 {
		turned[g.logsIn(t, "Ann", fmt.Sprint("guess ", i)).StatusCode]++
	}
	if n := s.binds(t, dnOf("Ann")); n == 0 || n > 6 || turned[429] < 30 {
		t.Errorf("a storm of wrong passwords: %d binds, answers %v", n, turned)
	}
	g.logsIn(t, "Ann", passwords["ann"]).is(t, 429)
	before = s.binds(t, dnOf("bob"))
	g.logsIn(t, "bob", passwords["bob"]).is(t, 200) // proven from here: not locked out
	if n := s.binds(t, dnOf("bob")) - before; n != 1 {
		t.Errorf("a login that was proven is asked about again by %d binds, want one", n)
	}
}

// What changes in the directory holds from the next look on, which comes within
// cache.ttl.
func TestLDAPChanges(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	g := startAsking(t, s.auth(), directoryRules+"cache: {ttl: 3s}\n")
	mayPull := func(repository string) int {
		token := g.logsIn(t, "bob", passwords["bob"], "repository:"+repository+":pull").tokenIn(t)
		return g.send(t, "GET", "/v2/"+repository+"/manifests/1", token, nil).StatusCode
	}
	if got := mayPull("shared/app"); got != 404 {
		t.Fatalf("bob is in dev: %d", got)
	}
	s.modify(t, fmt.Sprintf("dn: cn=dev,%s\nchangetype: modify\ndelete: member\nmember: %s\n", ldapGroups, dnOf("bob")))
	eventually(t, "bob is in dev no more", 30*time.Second, func() error {
		if got := mayPull("shared/app"); got != 401 {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
	s.modify(t, fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: userPassword\nuserPassword: another\n", dnOf("bob")))
	eventually(t, "the old password is wrong", 30*time.Second, func() error {
		if a := g.logsIn(t, "bob", passwords["bob"]); a.StatusCode != 401 {
			return fmt.Errorf("%s", a.Status)
		}
		return nil
	})
	g.logsIn(t, "bob", "another").is(t, 200)
	s.modify(t, fmt.Sprintf("dn: %s\nchangetype: delete\n", dnOf("bob")))
	eventually(t, "bob is gone", 30*time.Second, func() error {
		if a := g.logsIn(t, "bob", "another"); a.StatusCode != 401 {
			return fmt.Errorf("%s", a.Status)
		}
		return nil
	})
}

// A revocation has the directory looked at again at once, and so has a reload
// that asks it otherwise; both end tokens. Another reload does neither.
func TestLDAPRevocationAndReload(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	g := startAsking(t, s.auth(), directoryRules+"cache: {ttl: 10m}\n")
	login := func() string { return g.logsIn(t, "Ann", passwords["ann"], "repository:core/app:pull").tokenIn(t) }
	pulls := func(token, says string) {
		t.Helper()
		if a := g.send(t, "GET", "/v2/core/app/manifests/1", token, nil); !strings.Contains(a.body, says) {
			t.Errorf("got %s %s, want %q", a.Status, a.body, says)
		}
	}
	const (
		may, mayNot = "MANIFEST_UNKNOWN", "may not pull"
		over        = "has changed: log in again"
	)
	token := login()
	binds := s.binds(t, dnOf("Ann"))
	s.modify(t, fmt.Sprintf("dn: cn=core,%s\nchangetype: delete\n", ldapGroups))
	pulls(login(), may) // known for ten minutes
	if n := s.binds(t, dnOf("Ann")); n != binds {
		t.Errorf("the directory was asked again, %d times", n-binds)
	}
	command(t, nil, suite.regward, "--config", g.file, "revoke", "--user", "ann").works(t)
	pulls(token, over)
	pulls(login(), mayNot)

	// A reload that does not change the directory keeps logins, tokens and connections.
	token, binds = login(), s.binds(t, dnOf("Ann"))
	own := s.binds(t, ldapAccount)
	g.configure(t, directoryRules+"cache: {ttl: 9m}\n")
	command(t, nil, suite.regward, "--config", g.file, "reload").works(t)
	pulls(token, mayNot)
	pulls(login(), mayNot)
	g.logsIn(t, "dave", passwords["dave"]).is(t, 200)
	if n, m := s.binds(t, dnOf("Ann")), s.binds(t, ldapAccount); n != binds || m != own {
		t.Errorf("after a reload: %d more logins, %d more connections", n-binds, m-own)
	}
	// One that does ends them.
	g.frame = strings.Replace(g.frame, `"(member={dn})"`, `"(&(objectClass=groupOfNames)(member={dn}))"`, 1)
	g.configure(t, directoryRules+"cache: {ttl: 9m}\n")
	command(t, nil, suite.regward, "--config", g.file, "reload").works(t)
	pulls(token, over)
	pulls(login(), mayNot)
	if n := s.binds(t, dnOf("Ann")); n != binds+1 {
		t.Errorf("%d logins were asked, want one", n-binds)
	}
}
