package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// leaver is all that somebody may have under way at an instance.
type leaver struct {
	g              *regward
	token, refresh string
	upload         string // path of an upload under way
	docker, crane  client
}

func (g *regward) underWay(t *testing.T, user string) *leaver {
	t.Helper()
	l := &leaver{g: g, docker: newDocker(t, g.host), crane: newCrane(t, g.host)}
	l.token, l.refresh = g.offline(t, user)
	l.upload = g.upload(t, l.token)
	for _, c := range []client{l.docker, l.crane} {
		c.login(t, user, passwords[user]).works(t)
		c.pull(t, g.host+"/coolteam/app:1").works(t)
	}
	return l
}

// upload begins one and sends its first bytes.
func (g *regward) upload(t testing.TB, token string) (path string) {
	t.Helper()
	a := g.send(t, http.MethodPost, "/v2/coolteam/app/blobs/uploads/", token, nil).is(t, http.StatusAccepted)
	return g.goesOn(t, a.Header.Get("Location"), token).is(t, http.StatusAccepted).path(t)
}

func (g *regward) goesOn(t testing.TB, path, token string) answer {
	t.Helper()
	path = strings.TrimPrefix(path, "https://"+g.host)
	return g.send(t, http.MethodPatch, path, token, bytes.NewReader([]byte("bytes")), "Content-Type", "application/octet-stream")
}

// path is where an upload goes on.
func (a answer) path(t testing.TB) string {
	t.Helper()
	if a.Header.Get("Location") == "" {
		t.Fatalf("%s says not where it goes on", a.Request.URL)
	}
	return a.Header.Get("Location")
}

// isOut demands that nothing counts any more but a new login.
func (l *leaver) isOut(t *testing.T) {
	t.Helper()
	g := l.g
	eventually(t, "the token has ended at "+g.host, 30*time.Second, func() error {
		if a := g.send(t, "GET", "/v2/coolteam/app/manifests/1", l.token, nil); a.StatusCode != 401 || !strings.Contains(a.body, "log in again") {
			return fmt.Errorf("%s %s", a.Status, a.body)
		}
		return nil
	})
	if a := g.goesOn(t, l.upload, l.token).is(t, 401); !strings.Contains(a.body, "log in again") {
		t.Errorf("an upload under way: %s", a.body)
	}
	if a := g.renewed(t, l.refresh).is(t, 401); !strings.Contains(a.body, "has ended. Run: docker login") {
		t.Errorf("a refresh token: %s", a.body)
	}
	l.docker.pull(t, g.host+"/coolteam/app:1").fails(t, "has ended. Run: docker login localhost")
}

// noticesNothing demands that somebody else notices nothing.
func (l *leaver) noticesNothing(t *testing.T) {
	t.Helper()
	l.g.send(t, "GET", "/v2/coolteam/app/manifests/1", l.token, nil).is(t, 200)
	l.upload = l.g.goesOn(t, l.upload, l.token).is(t, 202).path(t)
	l.g.renewed(t, l.refresh).is(t, 200)
	l.docker.pull(t, l.g.host+"/coolteam/app:1").works(t)
}

// Who leaves is out everywhere at once, whatever is under way; nobody else is.
func TestLeaving(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d instances", n), func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, distribution)
			u.has(t, "coolteam/app:1", small(t))
			u.has(t, "library/hello:1", small(t))
			f := keeping(t, n, u, teamRules, nil)
			var bobs []*leaver
			for _, g := range f {
				bobs = append(bobs, g.underWay(t, "bob"))
			}
			ann := f[0].underWay(t, "ann")
			f[0].cli(t, "token", "list").works(t).says(t, "bob", "ann")

			f[0].cli(t, "revoke", "--user", "bob").works(t).says(t, "bob is put out")
			for _, b := range bobs {
				b.isOut(t)
				b.crane.pull(t, b.g.host+"/coolteam/app:1").works(t) // it has the password, which is still right
			}
			ann.noticesNothing(t)
			for _, g := range f {
				eventually(t, "no token of bob's is left", 30*time.Second, func() error {
					if o := g.cli(t, "token", "list").works(t); strings.Contains(o.out, "bob") {
						return errors.New(o.out)
					}
					return nil
				})
			}
			if n := strings.Count(f[0].auditLog(t), `"msg":"revocation"`); n != 1 {
				t.Errorf("%d lines about it in the audit log", n)
			}

			// The line of the file goes: so does all that it proved, without a word.
			bobs = nil
			for _, g := range f {
				bobs = append(bobs, g.underWay(t, "bob"))
			}
			f[0].dismiss(t, "bob")
			for _, b := range bobs {
				b.isOut(t)
				b.crane.pull(t, b.g.host+"/coolteam/app:1").fails(t, "no longer valid")
				b.g.guessed(t, "bob", passwords["bob"]).is(t, 401)
			}
			ann.noticesNothing(t)
			f[0].cli(t, "explain", "--user", "bob").works(t).says(t, "htpasswd has no user bob", "pull    library/**, coolteam/**", "push    coolteam/**", "delete  coolteam/**")
			f[0].cli(t, "explain", "--user", "reader").works(t).says(t, "pull    library/**, coolteam/**", "push    nothing")
			f[0].cli(t, "explain", "--repository", "coolteam/app", "--who").works(t).says(t, "pull    group coolteam (ann, bob), reader", "push    group coolteam (ann, bob)")
		})
	}
}

// dismiss takes a user's line out of the file that instances share.
func (g *regward) dismiss(t testing.TB, user string) {
	t.Helper()
	var left strings.Builder
	for line := range strings.Lines(readFile(t, g.passwd)) {
		if !strings.HasPrefix(line, user+":") {
			left.WriteString(line)
		}
	}
	replaceFile(t, g.passwd, left.String())
}

func (g *regward) guessed(t testing.TB, user, password string) answer {
	t.Helper()
	return g.send(t, http.MethodGet, "/token?service=localhost", "", nil, "Authorization", basicAuth(user, password))
}

// A remembered login is asked about anew, at each instance.
func TestLeavingEndsRememberedLogins(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var q struct{ User string }
		if body, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(body, &q) != nil || q.User != "eve" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.WriteString(w, `{"groups": ["coolteam"]}`)
	}))
	t.Cleanup(hook.Close)
	u := startUpstream(t, distribution)
	f := newFleet(t, 2, u, teamRules+startRedis(t).config("")+"cache: {ttl: 10m}\n", func(g *regward) {
		before, rest, _ := strings.Cut(g.frame, "auth: {")
		_, after, _ := strings.Cut(rest, "\n")
		g.frame = before + fmt.Sprintf("auth: {webhook: {url: %q, secret: \"shared with it alone\", timeout: 10s}}\n", hook.URL) + after
	})
	for range 3 {
		for _, g := range f {
			g.guessed(t, "eve", "pw").is(t, 200)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Fatalf("asked %d times, want once at each instance", n)
	}
	f[1].cli(t, "revoke", "--user", "Eve").works(t)
	f[1].guessed(t, "eve", "pw").is(t, 200)
	eventually(t, "both have asked again", 30*time.Second, func() error {
		f[0].guessed(t, "eve", "pw").is(t, 200)
		if n := asked.Load(); n != 4 {
			return fmt.Errorf("asked %d times", n)
		}
		return nil
	})
}
