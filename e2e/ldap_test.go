package e2e

import (
	"encoding/json"
	"errors"
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

// The next server is asked when one is down, hangs, or is not whom it says.
func TestLDAPServersInOrder(t *testing.T) {
	t.Parallel()
	one, two := startSlapd(t), startSlapd(t)
	g := startAsking(t, ldapAuth(one.ldaps+", "+two.ldaps, "      timeout: 2s"), directoryRules+"cache: {ttl: 1ms}\n")
	asks := func(user string, from *slapd) error {
		before := from.asked(t, `filter="(uid=`+user+`)"`)
		g.logsIn(t, user, passwords[user]).is(t, 200)
		if from.asked(t, `filter="(uid=`+user+`)"`) == before {
			return errors.New("another server was asked, or none")
		}
		return nil
	}
	must := func(what, user string, from *slapd) {
		t.Helper()
		if err := asks(user, from); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	must("both up", "ann", one)
	one.kill()
	must("the first is gone", "bob", two)
	one.launch(t)
	eventually(t, "the first one is asked again", time.Minute, func() error { return asks("ann", one) })
	one.pause(t)
	must("the first hangs", "dave", two)
	one.resume(t)
	eventually(t, "the first one goes on", time.Minute, func() error { return asks("bob", one) })
}

// A directory that is down ends nobody's work for cache.stale, and is no reason
// to tell anybody that their password is wrong.
func TestLDAPOutage(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	g := startAsking(t, s.auth(), directoryRules+"cache: {ttl: 1ms, stale: 30s}\n")
	proven := time.Now()
	token := g.logsIn(t, "ann", passwords["ann"], "repository:core/app:pull").tokenIn(t)
	s.kill()

	for _, ask := range map[string]func(user, password string) answer{
		"GET":  func(user, password string) answer { return g.logsIn(t, user, password) },
		"POST": func(user, password string) answer { return g.posts(t, user, password, "repository:core/app:pull") },
		"Basic": func(user, password string) answer {
			return g.send(t, "GET", "/v2/library/hello/manifests/1", "", nil, "Authorization", basicAuth(user, password))
		},
		"ping": func(user, password string) answer {
			return g.send(t, "GET", "/v2/", "", nil, "Authorization", basicAuth(user, password))
		},
	} {
		for _, user := range []string{"bob", "eve"} {
			a := ask(user, passwords["bob"]).is(t, 503)
			if !strings.Contains(a.body, "cannot be") || a.Header.Get("Retry-After") == "" || a.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("%s %s: %v %s", a.Request.Method, a.Request.URL, a.Header, a.body)
			}
		}
		ask("ann", "not-"+passwords["ann"]).is(t, 503)
		if a := ask("ann", passwords["ann"]); time.Since(proven) < 25*time.Second {
			a.is(t, 200)
		}
	}
	if a := g.logsIn(t, "ann", passwords["ann"], "repository:core/app:pull"); time.Since(proven) < 25*time.Second {
		g.send(t, "GET", "/v2/core/app/manifests/1", a.tokenIn(t), nil).is(t, 404) // her groups are those of before
	}
	newCrane(t, g.host).pull(t, g.host+"/library/hello:1").works(t) // without a login
	c := newDocker(t, g.host)
	c.login(t, "bob", passwords["bob"]).fails(t, "503 Service Unavailable") // it shows no body of those

	eventually(t, "her login is too long ago", 2*time.Minute, func() error {
		if a := g.logsIn(t, "ann", passwords["ann"]); a.StatusCode != 503 {
			return fmt.Errorf("%s after %v", a.Status, time.Since(proven))
		}
		return nil
	})
	if took := time.Since(proven); took < 29*time.Second {
		t.Errorf("it ended after %v", took)
	}
	g.send(t, "GET", "/v2/core/app/manifests/1", token, nil).is(t, 404) // what she was given holds
	if g.ready() != nil {
		t.Error("an instance is not ready because the directory is down")
	}

	s.launch(t)
	eventually(t, "logins work again", 30*time.Second, func() error {
		if a := g.logsIn(t, "bob", passwords["bob"]); a.StatusCode != 200 {
			return fmt.Errorf("%s: %s", a.Status, a.body)
		}
		return nil
	})
	c.login(t, "bob", passwords["bob"]).works(t)
	if strings.Contains(g.auditLog(t), "wrong_password") {
		t.Errorf("somebody was told that a password is wrong:\n%s", g.auditLog(t))
	}
}

// A directory that answers nothing holds up nobody but who logs in by it, and
// those not for long.
func TestLDAPThatHangs(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	g := newRegward(t, u.config)
	g.setLogins(t, fmt.Sprintf("%s  htpasswd: %q\n", s.auth("      timeout: 3s", "      pool: 2"), writeHtpasswd(t, g.dir+"/local", map[string]string{"local": "local-secret"})))
	g.configure(t, directoryRules+"cache: {ttl: 1ms, stale: 0s}\n")
	g.serve(t)
	token := g.logsIn(t, "ann", passwords["ann"], "repository:library/hello:pull").tokenIn(t)
	s.pause(t)
	done := make(chan answer)
	const n = 40
	for i := range n {
		go func() { done <- g.logsIn(t, []string{"ann", "bob", "dave"}[i%3], fmt.Sprint("guess ", i)) }()
	}
	for range 10 {
		g.logsIn(t, "local", "local-secret").is(t, 200)
		g.send(t, "GET", "/v2/library/hello/manifests/1", token, nil).is(t, 200)
		g.token(t, "", "repository:library/hello:pull")
	}
	for range n {
		if a := <-done; a.StatusCode != 503 {
			t.Errorf("%s: %s", a.Status, a.body)
		}
	}
	s.resume(t)
	eventually(t, "logins work again", 30*time.Second, func() error {
		if a := g.logsIn(t, "ann", passwords["ann"]); a.StatusCode != 200 {
			return fmt.Errorf("%s: %s", a.Status, a.body)
		}
		return nil
	})
}

// What changes in the directory holds from the next look on, which comes within
// cache.ttl; a revocation brings it at once, and ends the tokens.
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
