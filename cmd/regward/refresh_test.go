package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/redistest"
)

// keepLogin is docker login: the refresh token that it stores.
func (r *running) keepLogin() string {
	r.t.Helper()
	status, body := r.ask("GET", r.public()+"/token?account=ann&client_id=docker&offline_token=true", "ann", "ann-secret")
	var answer struct {
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 || answer.Refresh == "" {
		r.t.Fatalf("no refresh token: %d %s", status, body)
	}
	return answer.Refresh
}

// renew is the refresh grant: the status, and the token or what is said instead.
func (r *running) renew(refresh string) (status int, text string) {
	r.t.Helper()
	status, text = renewAt(r.t, r.client, r.public(), refresh)
	return status, text
}

func renewAt(t *testing.T, c http.RoundTripper, at, refresh string) (status int, text string) {
	t.Helper()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "scope": {"repository:coolteam/app:pull"}}
	req, err := http.NewRequest("POST", at+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := c.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Token   string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if res.StatusCode == 200 {
		if err := json.Unmarshal(body, &answer); err != nil || answer.Refresh != refresh {
			t.Fatalf("%v: %s", err, body)
		}
		return 200, answer.Token
	}
	return res.StatusCode, string(body)
}

func (r *running) wantRenew(refresh string, want int) string {
	r.t.Helper()
	status, text := r.renew(refresh)
	if status != want {
		r.t.Fatalf("the refresh grant is answered %d %s, want %d", status, text, want)
	}
	return text
}

const refreshed = "token: {refresh: true}\n"

func TestRefreshTokensOfARunningInstance(t *testing.T) {
	r := begin(t, strings.Replace(sockets(), `audit: "off"`, "audit: stdout", 1)+refreshed, nil, nil)
	token := r.keepLogin()
	access := r.wantRenew(token, 200)
	if got := r.withToken(manifest, access); got != 200 {
		t.Errorf("its token is answered %d", got)
	}
	id := auth.HashRefresh(token).ID()
	out := r.says(t, "token list", exitDone, "no robots", "ann ", "docker", "127.0.0.1", "ago", id)
	r.makeRobot("create", "ci", "--repository", "coolteam/**", "--allow", "pull")
	_, text, _ := r.command("token", "list", "--output", "json")
	var all []map[string]any
	if err := json.Unmarshal([]byte(text), &all); err != nil || len(all) != 2 || all[0]["kind"] != "robot" || all[1]["kind"] != "refresh" || all[1]["id"] != id || all[1]["user"] != "ann" {
		t.Errorf("%v: %s", err, text)
	}

	for _, other := range []string{"", "by whom"} { // a token that was never used, and one that was
		second := r.keepLogin()
		if other != "" {
			r.wantRenew(second, 200)
		}
		r.says(t, "token revoke "+auth.HashRefresh(second).ID(), exitDone, "of ann is revoked", "regward revoke --user ann")
		r.wantRenew(second, 401)
	}
	r.wantRenew(token, 200)
	r.log.await(t, `"msg":"revocation","user":"ann","refresh_token":"`, 2)
	r.says(t, "token revoke 0123456789abcdef", exitFailed, "there is no refresh token 0123456789abcdef")
	r.says(t, "token revoke --user bob", exitFailed, `"bob" has no refresh token`)
	r.says(t, "token revoke", exitUsage, "which?")
	r.says(t, "token revoke x --user ann", exitUsage, "one of the two")
	third := r.keepLogin()
	r.says(t, "token revoke --user ANN", exitDone, id, auth.HashRefresh(third).ID())
	r.wantRenew(token, 401)
	r.wantRenew(third, 401)

	last := r.keepLogin()
	r.wantRenew(last, 200)
	r.says(t, "revoke --user ann", exitDone)
	if text := r.wantRenew(last, 401); !strings.Contains(text, "docker login") {
		t.Errorf("it does not say what to do: %s", text)
	}
	soon(t, "they are gone for good", func() bool {
		_, out, _ := r.command("token", "list")
		return !strings.Contains(out, "REFRESH")
	})
	all4 := []string{token, third, last, access}
	for _, place := range []string{out, r.log.String()} {
		for _, secret := range all4 {
			if strings.Contains(place, secret) {
				t.Error("a secret is shown")
			}
		}
	}

	// Switched off, who has one is told to log in again, and none is given.
	kept := r.keepLogin()
	r.edit("refresh: true", "refresh: false")
	r.says(t, "reload", exitDone)
	if text := r.wantRenew(kept, 401); !strings.Contains(text, "docker login") {
		t.Error(text)
	}
	if _, body := r.ask("GET", r.public()+"/token?offline_token=true", "ann", "ann-secret"); strings.Contains(body, "refresh") {
		t.Error(body)
	}
	r.edit("refresh: false", "refresh: true")
	r.says(t, "reload", exitDone)
	r.wantRenew(kept, 200)
	r.tendRefresh(t.Context())
	if got := testutil.ToFloat64(newRefreshCollector(r.server)); got != 1 {
		t.Errorf("the metric tells of %v, want 1", got)
	}
}

// The commands work while nothing runs, on the file.
func TestRefreshTokensWithoutAnInstance(t *testing.T) {
	r := begin(t, sockets()+refreshed, nil, nil)
	first, second := r.keepLogin(), r.keepLogin()
	r.listeners.close()
	r.says(t, "token list", exitDone, auth.HashRefresh(first).ID(), auth.HashRefresh(second).ID())
	r.says(t, "token revoke "+auth.HashRefresh(first).ID(), exitDone, "is revoked")
	if out := r.says(t, "token list", exitDone, auth.HashRefresh(second).ID()); strings.Contains(out, auth.HashRefresh(first).ID()) {
		t.Error(out)
	}
	r.says(t, "token revoke --user ann", exitDone, auth.HashRefresh(second).ID())
	write(t, filepath.Join(r.dir, "state", refreshName), "{")
	r.says(t, "token list", exitFailed, "no robots", refreshName+" cannot be read")
}

// A file that was broken is said to be, keeps nobody from logging in, and is
// taken again when it is put right.
func TestRefreshFileBreaksUnderAnInstance(t *testing.T) {
	r := begin(t, sockets()+refreshed, nil, nil)
	token := r.keepLogin()
	path := filepath.Join(r.dir, "state", refreshName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(good[:len(good)-10]))
	r.wantRenew(token, 503)
	status, body := r.ask("GET", r.public()+"/token?offline_token=true", "ann", "ann-secret")
	if status != 200 || strings.Contains(body, "refresh") {
		t.Errorf("a login: %d %s", status, body)
	}
	r.log.await(t, "refresh tokens are neither taken nor given", 1)
	r.log.await(t, "no refresh token was given: the client keeps the password", 1)
	write(t, path, string(good))
	r.wantRenew(token, 200)
}

// Two instances with one Redis: what one gives both take, and what one ends ends
// on both.
func TestRefreshTokensOfTwoInstances(t *testing.T) {
	redis := redistest.Start(t)
	key := filepath.Join(t.TempDir(), "token.pem")
	if _, err := auth.LoadTokens(key, true); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "users")
	writeUsers(t, users, "ann", "ann-secret") // the same file for both
	config := strings.Replace(sockets(), "DIR/users", users, 1) + "redis: {addresses: \"" + redis.Addr + "\", timeout: 5s}\ntoken: {refresh: true, key_file: " + key + "}\n"
	one, two := begin(t, config, nil, nil), begin(t, config, nil, nil)

	token, other, third := one.keepLogin(), two.keepLogin(), one.keepLogin()
	for _, r := range []*running{one, two} {
		r.wantRenew(token, 200)
		r.says(t, "token list", exitDone, auth.HashRefresh(token).ID(), auth.HashRefresh(other).ID())
		if _, err := os.Stat(filepath.Join(r.dir, "state", refreshName)); err == nil {
			t.Error("there is a file, too")
		}
	}
	two.says(t, "token revoke "+auth.HashRefresh(third).ID(), exitDone)
	one.wantRenew(third, 401)

	one.says(t, "revoke --user ann", exitDone)
	one.wantRenew(token, 401)
	soon(t, "the revocation reaches the other instance", func() bool { return two.cache.Revoked() == 1 })
	two.wantRenew(token, 401)
	two.wantRenew(other, 401)
	soon(t, "and for good", func() bool {
		all, err := two.server.refresh.tokens.Of(t.Context(), "")
		return err == nil && len(all) == 0
	})
	two.wantRenew(two.keepLogin(), 200)

	// Redis dies: who was seen goes on, of the others nobody can tell.
	seen, unseen := one.keepLogin(), one.keepLogin()
	one.wantRenew(seen, 200)
	redis.Kill()
	one.wantRenew(seen, 200)
	if text := one.wantRenew(unseen, 503); !strings.Contains(text, "cannot be found out") {
		t.Error(text)
	}
	two.wantRenew(seen, 503)
	if status, body := one.ask("GET", one.public()+"/token?offline_token=true", "ann", "ann-secret"); status != 200 || strings.Contains(body, "refresh") {
		t.Errorf("a login: %d %s", status, body)
	}
	one.says(t, "token list", exitFailed, "no robots", "redis")
	one.says(t, "token revoke "+auth.HashRefresh(seen).ID(), exitFailed, "redis")
}

// killable is a regward of its own process.
type killable struct {
	t       *testing.T
	program string
	dir, at string
	cmd     *exec.Cmd
	out     *bytes.Buffer
}

func (k *killable) start() {
	k.t.Helper()
	k.out = &bytes.Buffer{}
	k.cmd = exec.Command(k.program, "serve", "--config", filepath.Join(k.dir, "regward.yaml"))
	k.cmd.Dir, k.cmd.Stdout, k.cmd.Stderr = k.dir, k.out, k.out
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	soon(k.t, "it serves", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(k.at, "http://"))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (k *killable) kill() {
	if k.cmd != nil {
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait()
		k.cmd = nil
	}
}

// Killed at any moment, an instance has every refresh token that a client got.
func TestRefreshTokensOutliveKills(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	k := &killable{t: t, dir: t.TempDir(), at: fmt.Sprintf("http://127.0.0.1:%d", redistest.FreePort(t))}
	k.program = filepath.Join(k.dir, "regward") // by that name the test is the program
	if err := os.Symlink(self, k.program); err != nil {
		t.Fatal(err)
	}
	writeUsers(t, filepath.Join(k.dir, "users"), "ann", "ann-secret")
	write(t, filepath.Join(k.dir, "regward.yaml"), "hostname: 127.0.0.1\nlisten: \""+strings.TrimPrefix(k.at, "http://")+`"
tls: {mode: "off"}
upstream: http://127.0.0.1:9
auth: {htpasswd: users}
rules: [{subjects: authenticated, repositories: "**", allow: pull}]
log: {access: "off", audit: "off"}
admin: {listen: "off"}
health: {listen: "off"}
state_dir: state
`+refreshed)
	t.Cleanup(k.kill)
	client := &http.Transport{}
	t.Cleanup(client.CloseIdleConnections)
	var mu sync.Mutex
	var got []string
	login := func() bool {
		req, _ := http.NewRequest("GET", k.at+"/token?offline_token=true", nil)
		req.SetBasicAuth("ann", "ann-secret")
		res, err := client.RoundTrip(req)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		var answer struct {
			Refresh string `json:"refresh_token"`
		}
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		if answer.Refresh == "" {
			t.Error("a login without a refresh token")
			return false
		}
		got = append(got, answer.Refresh)
		return true
	}
	for range 6 {
		k.start()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 50 {
					if !login() {
						return
					}
				}
			})
		}
		time.Sleep(rand.N(150 * time.Millisecond)) // the moment of the kill is anybody's
		k.kill()
		all.Wait()
		if t.Failed() {
			t.Fatal(k.out.String())
		}
	}
	k.start()
	for _, refresh := range got {
		if status, text := renewAt(t, client, k.at, refresh); status != 200 {
			t.Fatalf("a refresh token that was given is lost: %d %s", status, text)
		}
	}
	if len(got) == 0 {
		t.Error("nobody got one")
	}
	t.Logf("%d logins over 6 kills", len(got))
}
