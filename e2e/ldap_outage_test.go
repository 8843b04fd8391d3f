package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The next server is asked when one is down or hangs.
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
	done := make(chan error)
	const n = 40
	for i := range n {
		go func() {
			c := newCaller(g, "HTTP/1.1", true)
			_, err := c.must(context.Background(), "GET", "/token?service=localhost", basicAuth([]string{"ann", "bob", "dave"}[i%3], fmt.Sprint("guess ", i)), nil, 503)
			done <- err
		}()
	}
	for range 10 {
		g.logsIn(t, "local", "local-secret").is(t, 200)
		g.send(t, "GET", "/v2/library/hello/manifests/1", token, nil).is(t, 200)
		g.token(t, "", "repository:library/hello:pull")
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
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
