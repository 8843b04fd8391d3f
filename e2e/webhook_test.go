package e2e

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hookRules: dev is a group that the program gives.
const hookRules = `
rules:
  - {subjects: everyone,      repositories: "library/**", allow: pull}
  - {subjects: group:dev,     repositories: "shared/**",  allow: [pull, push]}
  - {subjects: authenticated, repositories: "{user}/**",  allow: [pull, push]}
cache: {ttl: 10m, negative_ttl: 10m}
`

// pushes reports whether a token for the login lets it push.
func (g *regward) pushes(t testing.TB, user, password, repository string) bool {
	t.Helper()
	token := g.logsIn(t, user, password, "repository:"+repository+":pull,push").tokenIn(t)
	return g.send(t, "POST", "/v2/"+repository+"/blobs/uploads/", token, nil).StatusCode == http.StatusAccepted
}

// A program says who somebody is, for every client and by POST; it hears where
// from and for which hostname, and its secret is in no log.
func TestWebhookClients(t *testing.T) {
	t.Parallel()
	p := startLoginProgram(t).says("bob", `{"user": "Robert", "groups": ["dev"], "ttl": 3600}`).says("ann", `{"groups": ["dev", "ops"]}`)
	g := startAsking(t, p.auth(), hookRules)
	for _, name := range []string{"docker", "podman", "crane"} {
		k := kindNamed(name)
		c := k.new(t, g.host)
		wrong := c.login(t, "ann", "not-"+passwords["ann"])
		if f, ok := c.(*crane); ok { // it does not ask at its login
			wrong = f.pull(t, g.host+"/shared/app:1")
		}
		wrong.fails(t, k.wrongLogin)
		c.login(t, "ann", passwords["ann"]).works(t)
		ref := g.host + "/shared/from-" + name + ":1"
		c.push(t, ref, small(t)).works(t)
		c.pull(t, ref).works(t)
		c.push(t, g.host+"/bob/from-"+name+":1", small(t)).fails(t)
	}
	g.posts(t, "reader", passwords["reader"], "repository:reader/x:push").is(t, http.StatusOK)
	g.posts(t, "reader", "not-reader's", "").is(t, http.StatusUnauthorized)
	g.posts(t, "nobody", "pw", "").is(t, http.StatusUnauthorized)
	// bob is Robert to it, and that is who he is.
	for repository, may := range map[string]bool{"robert/x": true, "bob/x": false, "shared/x": true} {
		if g.pushes(t, "bob", passwords["bob"], repository) != may {
			t.Errorf("bob who is robert pushes to %s: %v", repository, !may)
		}
	}
	for user, questions := range map[string]int{"ann": 2, "reader": 2, "nobody": 1, "bob": 1} { // wrong and right, each once
		all := p.heard(user)
		if len(all) != questions {
			t.Errorf("asked %d times about %s, want %d", len(all), user, questions)
		}
		for _, q := range all {
			if q.Addr != "127.0.0.1" || q.Hostname != "localhost" {
				t.Errorf("asked about %+v", q)
			}
		}
	}
	for what, text := range map[string]string{"access log": g.accessLog(t), "audit log": g.auditLog(t), "output": g.proc.output()} {
		for _, secret := range []string{hookSecret, passwords["ann"], passwords["bob"], "X-Regward", "v1="} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s holds %q", what, secret)
			}
		}
	}
	eventually(t, "the audit log says who said so", 30*time.Second, func() error {
		if log := g.auditLog(t); !strings.Contains(log, `"robert"`) || !strings.Contains(log, `"via":"webhook"`) {
			return errors.New(tail(log, 5))
		}
		return nil
	})
}

// The client's own address and the hostname it asked for, whoever is in between.
func TestWebhookHearsWhereFrom(t *testing.T) {
	t.Parallel()
	p := startLoginProgram(t)
	g := startAsking(t, p.auth(), "trusted_proxies: 127.0.0.1\n"+hookRules)
	at := func(host string, header ...string) {
		t.Helper()
		r, err := http.NewRequest("GET", "https://"+g.host+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		r.SetBasicAuth("ann", passwords["ann"])
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		res, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s %v: %s", host, header, res.Status)
		}
	}
	at("localhost:5000")
	at("127.0.0.1")
	at("localhost", "X-Forwarded-For", "203.0.113.9, 192.0.2.7")
	at("localhost", "X-Forwarded-For", "203.0.113.9, 192.0.2.7") // remembered
	at("localhost", "X-Forwarded-For", "2001:db8::7")
	want := []hookQuestion{{Addr: "127.0.0.1", Hostname: "localhost"}, {Addr: "127.0.0.1", Hostname: "127.0.0.1"}, {Addr: "192.0.2.7", Hostname: "localhost"}, {Addr: "2001:db8::7", Hostname: "localhost"}}
	got := p.heard("ann")
	for i := range got {
		got[i].User, got[i].Password = "", ""
		if i >= len(want) || got[i] != want[i] {
			t.Errorf("%d: asked about %+v", i, got[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("asked %d times, want %d", len(got), len(want))
	}
}

// ttl bounds what is remembered and the tokens that are given out for it; nothing
// makes them last longer than the configuration says.
func TestWebhookTTL(t *testing.T) {
	t.Parallel()
	p := startLoginProgram(t).says("ann", `{"ttl": 0}`).says("bob", `{"ttl": 120}`).says("reader", `{"ttl": 1e18}`).says("dave", `{}`)
	g := startAsking(t, p.auth(), hookRules)
	for user, want := range map[string]struct{ asked, least, most int64 }{"ann": {3, 60, 60}, "bob": {1, 60, 120}, "reader": {1, 300, 300}, "dave": {1, 300, 300}} {
		for range 3 {
			var got struct {
				Expires int64 `json:"expires_in"`
			}
			body := g.logsIn(t, user, passwords[user]).is(t, http.StatusOK).body
			if err := json.Unmarshal([]byte(body), &got); err != nil || got.Expires < want.least || got.Expires > want.most {
				t.Errorf("%s: %d s, %v", user, got.Expires, err)
			}
		}
		if n := int64(len(p.heard(user))); n != want.asked {
			t.Errorf("%s: asked %d times", user, n)
		}
	}
}

// What a program may do wrong is 503 in words for who was not seen yet; who was
// goes on while it is down, and not while it talks nonsense. Nobody gets in.
func TestWebhookThatMisbehaves(t *testing.T) {
	t.Parallel()
	p := startLoginProgram(t)
	way := startLine(t, strings.TrimSuffix(strings.TrimPrefix(p.url, "https://"), "/regward"))
	p.url = "https://" + strings.Replace(way.at, "127.0.0.1", "localhost", 1) + "/regward"
	rules := strings.Replace(hookRules, "ttl: 10m, negative_ttl: 10m", "ttl: 1s, negative_ttl: 1s, stale: 10m", 1)
	g := startAsking(t, p.auth("timeout: 1s"), rules)
	g.logsIn(t, "ann", passwords["ann"]).is(t, http.StatusOK)
	seen := func(status int) {
		t.Helper()
		eventually(t, "what is remembered is old", 30*time.Second, func() error {
			if got := g.logsIn(t, "ann", passwords["ann"]); got.StatusCode != status {
				return errors.New(got.Status)
			}
			return nil
		})
	}
	for _, tt := range []struct {
		name  string
		h     http.HandlerFunc
		seen  int
		fresh int
	}{
		{"500", prints(500, "oops"), 200, 503},
		{"503 of a proxy", prints(503, "<html>"), 200, 503},
		{"slow", stalls, 200, 503},
		{"breaks off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 200, 503},
		{"a page", prints(200, "<html>"), 503, 503},
		{"huge", prints(200, `{"user":"`+strings.Repeat("x", 1<<20)), 503, 503},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, 503, 503},
		{"another status", prints(418, "{}"), 503, 503},
		{"somebody nobody can be", prints(200, `{"user": "anonymous"}`), 503, 503},
		{"a robot", prints(200, `{"user": "robot-ci"}`), 503, 503},
		{"one that knows nobody", prints(404, ""), 401, 401},
		{"one that takes nobody", prints(403, ""), 401, 401},
	} {
		p.misbehaves(tt.h)
		got := g.logsIn(t, "dave", passwords["dave"])
		if got.StatusCode != tt.fresh || tt.fresh == 503 && (got.Header.Get("Retry-After") == "" || !strings.Contains(got.body, "cannot be checked")) {
			t.Errorf("%s: %s %s", tt.name, got.Status, got.body)
		}
		seen(tt.seen)
		if tt.seen != 200 {
			p.misbehaves(nil)
			seen(200)
		}
	}
	p.misbehaves(nil)
	way.cut()
	g.logsIn(t, "dave", passwords["dave"]).is(t, 503)
	g.logsIn(t, "ann", passwords["ann"]).is(t, 200)
	g.logsIn(t, "ann", "not-"+passwords["ann"]).is(t, 503)
	way.mend(t)
	g.logsIn(t, "dave", passwords["dave"]).is(t, 200)
}
