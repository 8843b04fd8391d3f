package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/proxy"
)

// makeRobot runs token create, or rotate, and returns the secret.
func (r *running) makeRobot(args ...string) string {
	r.t.Helper()
	code, out, errs := r.command(append(append([]string{"token"}, args...), "--output", "json")...)
	if code != exitDone {
		r.t.Fatalf("token %s: %d %s", args, code, errs)
	}
	var made tokenMade
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		r.t.Fatal(err)
	}
	return made.Secret
}

// bearer asks for a token with a login, and returns it.
func (r *running) bearer(user, password, scope string) string {
	r.t.Helper()
	status, body := r.ask("GET", r.public()+"/token?service=127.0.0.1&scope="+scope, user, password)
	var answer struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
		r.t.Fatalf("token: %d %s", status, body)
	}
	return answer.Token
}

func (r *running) withToken(path, token string) int {
	r.t.Helper()
	req, err := http.NewRequest("GET", r.public()+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := r.client.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

const manifest = "/v2/coolteam/app/manifests/latest"

// A running instance takes every change before the command is done, tokens
// already given out included.
func TestRobotsOfARunningInstance(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	first := r.makeRobot("create", "ci", "--repository", "coolteam/**", "--allow", "pull")
	status := func(secret string) int {
		t.Helper()
		got, _ := r.ask("GET", r.public()+manifest, "robot-ci", secret)
		return got
	}
	if got := status(first); got != 200 {
		t.Fatalf("a new robot is answered %d, want 200", got)
	}
	if got, _ := r.ask("GET", r.public()+"/v2/library/x/manifests/latest", "robot-ci", first); got != 200 {
		t.Errorf("what everyone may: %d, want 200", got)
	}
	if got, _ := r.ask("GET", r.public()+"/v2/other/x/manifests/latest", "robot-ci", first); got != 401 {
		t.Errorf("what it was not given: %d, want 401", got)
	}
	token := r.bearer("robot-ci", first, "repository:coolteam/app:pull")
	if got := r.withToken(manifest, token); got != 200 {
		t.Fatalf("its token is answered %d, want 200", got)
	}
	if _, out, _ := r.command("token", "list"); !strings.Contains(out, "less than a minute ago") {
		t.Errorf("the last use is not shown: %s", out)
	}

	second := r.makeRobot("rotate", "ci", "--overlap", "1h")
	if a, b, c := status(first), status(second), r.withToken(manifest, token); a != 200 || b != 200 || c != 200 {
		t.Errorf("during the overlap: old %d, new %d, old token %d, want 200", a, b, c)
	}
	third := r.makeRobot("rotate", "ci", "--overlap", "0")
	if a, b, c, d := status(first), status(second), status(third), r.withToken(manifest, token); a != 401 || b != 401 || c != 200 || d != 401 {
		t.Errorf("after it: the first %d, second %d, its token %d, want 401; the third %d, want 200", a, b, d, c)
	}

	token = r.bearer("robot-ci", third, "repository:coolteam/app:pull")
	tokens := filepath.Join(r.dir, "state", "tokens.yaml")
	whole, err := os.ReadFile(tokens)
	if err != nil {
		t.Fatal(err)
	}
	write(t, tokens, string(whole[:len(whole)-10]))
	r.log.await(t, "configuration not loaded", 1)
	if got := r.withToken(manifest, token); got != 200 {
		t.Errorf("a half-written file ends a token: %d", got)
	}
	write(t, tokens, string(whole))
	if code, out, errs := r.command("reload"); code != exitDone {
		t.Fatalf("reload: %s %s", out, errs)
	}

	if code, out, errs := r.command("token", "revoke", "robot-ci"); code != exitDone {
		t.Fatalf("revoke: %d %s %s", code, out, errs)
	}
	if a, b := status(third), r.withToken(manifest, token); a != 401 || b != 401 {
		t.Errorf("revoked: login %d, token %d, want 401", a, b)
	}
	if text := r.log.String(); strings.Contains(text, "rgw_") {
		t.Error("a secret is in the log")
	}
}

// putRobot changes the file as somebody else would.
func (r *running) putRobot(change func(*auth.Robot)) string {
	r.t.Helper()
	path := filepath.Join(r.dir, "state", "tokens.yaml")
	secret, hash := auth.NewRobotSecret()
	robot, err := (&robotAsked{repositories: []string{"coolteam/**"}, allow: []string{"pull"}, expires: "never"}).robot("ci", time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	robot.Secrets = []auth.RobotSecret{{Hash: hash}}
	change(&robot)
	text, err := auth.SetRobot(path, nil, robot)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := replaceFile(path, text); err != nil {
		r.t.Fatal(err)
	}
	if code, _, errs := r.command("reload"); code != exitDone {
		r.t.Fatal(errs)
	}
	return secret
}

// Four repairs are four sentences: expired is not wrong, nor is elsewhere.
func TestARobotThatIsTurnedDownIsToldWhy(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	for _, tt := range []struct {
		why                string
		change             func(*auth.Robot)
		body, record, word string
	}{
		{"expired", func(x *auth.Robot) { x.Expires = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }, "robot ci has expired on 2026-01-02 03:04 UTC", "expired robot ci", "expired_robot"},
		{"elsewhere", func(x *auth.Robot) { x.From = append(x.From, mustNetwork(t, "192.0.2.0/24")) }, "robot ci may not log in from 127.0.0.1", "robot ci from elsewhere", "robot_elsewhere"},
	} {
		secret := r.putRobot(tt.change)
		for range 12 { // more than locks out who guesses
			status, body := r.ask("GET", r.public()+manifest, "robot-ci", secret)
			if status != 401 || !strings.Contains(body, tt.body) {
				t.Fatalf("%s: %d %s, want 401 with %q", tt.why, status, body, tt.body)
			}
		}
		last := r.handler.Refusals(proxy.RefusalQuery{})[0]
		if last.Credential != tt.record || last.Reason != tt.word {
			t.Errorf("%s: recorded as %q, %q", tt.why, last.Credential, last.Reason)
		}
	}
	r.log.await(t, "robot ci has expired, on 2026-01-02 03:04 UTC: regward token rotate ci --expires 90d", 1)
	// A token is turned down from the moment its robot is elsewhere.
	secret := r.putRobot(func(*auth.Robot) {})
	token := r.bearer("robot-ci", secret, "repository:coolteam/app:pull")
	if got := r.withToken(manifest, token); got != 200 {
		t.Fatalf("a token: %d", got)
	}
	path := filepath.Join(r.dir, "state", "tokens.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Replace(string(text), "    hashes:", "    from: [192.0.2.0/24]\n    hashes:", 1))
	if code, _, errs := r.command("reload"); code != exitDone {
		t.Fatal(errs)
	}
	if got := r.withToken(manifest, token); got != 401 {
		t.Errorf("a token from elsewhere: %d, want 401", got)
	}
}

func TestRobotsAreWarnedOfBeforeTheyExpire(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	end := time.Now().Add(6*24*time.Hour + time.Hour).UTC().Truncate(time.Second)
	r.putRobot(func(x *auth.Robot) { x.Expires, x.Owner = end, "coolteam" })
	r.log.await(t, "robot ci expires in 6d, on "+end.Format(clockUTC)+": regward token rotate ci --expires 90d", 1)
	all, err := r.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var told []float64
	for _, family := range all {
		if family.GetName() == "regward_robot_expiry_timestamp_seconds" {
			for _, m := range family.GetMetric() {
				told = append(told, m.GetGauge().GetValue())
			}
		}
	}
	if len(told) != 1 || told[0] != float64(end.Unix()) {
		t.Errorf("the metric tells %v, want %d", told, end.Unix())
	}
	r.warnRobots()
	if n := strings.Count(r.log.String(), "robot ci expires in"); n != 1 {
		t.Errorf("warned %d times, want once", n)
	}
	for left, want := range map[time.Duration]int{15 * day: 0, 14 * day: 1, 7 * day: 2, day: 3, 0: 4} {
		if got := robotStage(end, end.Add(-left)); got != want {
			t.Errorf("%v before: stage %d, want %d", left, got, want)
		}
	}
}

// What was used is still known after a restart, and in no file that is in git.
func TestLastUsesOutliveAStop(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	secret := r.makeRobot("create", "ci", "--repository", "coolteam/**", "--allow", "pull")
	if got, _ := r.ask("GET", r.public()+manifest, "robot-ci", secret); got != 200 {
		t.Fatalf("answered %d", got)
	}
	r.saveUses()
	data, err := os.ReadFile(filepath.Join(r.dir, "state", usesFile))
	if err != nil || !strings.Contains(string(data), `"ci/`) {
		t.Fatalf("%v %s", err, data)
	}
	r.listeners.close() // now the list reads the file
	if _, out, errs := r.command("token", "list"); !strings.Contains(out, "less than a minute ago") {
		t.Errorf("%s %s", out, errs)
	}
}

func TestCommandsChangeRobotsOneAfterTheOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "tokens.yaml")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			_, hash := auth.NewRobotSecret()
			r, err := (&robotAsked{repositories: []string{"a/**"}, allow: []string{"pull"}, expires: "90d"}).robot(fmt.Sprintf("r%d", i), time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			r.Secrets = []auth.RobotSecret{{Hash: hash}}
			if _, err := editRobots(t.Context(), path, func(data []byte, _ *auth.RobotFile) ([]byte, error) { return auth.SetRobot(path, data, r) }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	_, f, err := readRobots(path)
	if err != nil || len(f.Robots) != 8 {
		t.Fatalf("%v, %d robots, want 8", err, len(f.Robots))
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	// What a killed command left is taken away; what an editor is at is not.
	dir := filepath.Dir(path)
	editors := filepath.Join(dir, ".tokens.yaml.swp")
	write(t, editors, "vim's")
	write(t, filepath.Join(dir, ".tokens.yaml.123.new"), "half")
	if _, err := editRobots(t.Context(), path, func(data []byte, _ *auth.RobotFile) ([]byte, error) { return data, nil }); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 1 || left[0] != editors {
		t.Errorf("left: %v", left)
	}
	// The folder's owner gets nothing of root's by a link in the place of the lock.
	lock, others := path+".lock", filepath.Join(dir, "others")
	write(t, others, "root's")
	if err := errors.Join(os.Remove(lock), os.Symlink(others, lock)); err != nil {
		t.Fatal(err)
	}
	if _, err := editRobots(t.Context(), path, func(data []byte, _ *auth.RobotFile) ([]byte, error) { return data, nil }); err == nil {
		t.Error("a link was locked")
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	// A file that is a link stays one.
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := editRobots(t.Context(), link, func(data []byte, _ *auth.RobotFile) ([]byte, error) { return auth.RemoveRobot(link, data, "r0") }); err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(link); err != nil || to != path {
		t.Errorf("the link was replaced: %v", err)
	}
	if _, f, _ := readRobots(path); f.Find("r0") != nil {
		t.Error("what the link leads to is as before")
	}
}

// Killed at any moment, a command leaves the old file or the new one, and what
// it said is done.
func TestKilledCommandsLoseNothing(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "regward") // by that name the test is the program
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "regward.yaml"), "hostname: a.example\ntls: {mode: internal}\nupstream: http://registry:5000\nadmin: {listen: off}\nstate_dir: state\n")
	create := func(name string, kill time.Duration) bool {
		t.Helper()
		c := exec.Command(program, "token", "create", name, "--repository", "a/**", "--allow", "pull")
		c.Dir = dir
		out := &strings.Builder{}
		c.Stdout, c.Stderr = out, out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if kill > 0 {
			time.AfterFunc(kill, func() { _ = c.Process.Kill() })
		}
		err := c.Wait()
		if err != nil && kill == 0 {
			t.Fatalf("%v\n%s", err, out)
		}
		return strings.Contains(out.String(), "secret   rgw_")
	}
	began := time.Now()
	create("r0", 0)
	usual := time.Since(began)
	said, killed := []string{"r0"}, 0
	for i := 1; i <= 25; i++ {
		name := fmt.Sprintf("r%d", i)
		if create(name, usual/4+rand.N(usual+time.Millisecond)) {
			said = append(said, name)
		} else {
			killed++
		}
		_, f, err := readRobots(filepath.Join(dir, "state", "tokens.yaml"))
		if err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		for _, name := range said {
			if f.Find(name) == nil {
				t.Fatalf("robot %s is lost", name)
			}
		}
	}
	create("last", 0) // no lock is left behind
	t.Logf("%d of 25 were killed before they were done", killed)
}

// An entry to paste is alone on standard output, which may go into a file that
// is in git.
func TestAnEntryIsPrintedApartFromItsSecret(t *testing.T) {
	var o, e strings.Builder
	code := run(t.Context(), []string{"token", "create", "ci", "--repository", "a/**", "--allow", "pull", "--print"}, func(string) string { return "" }, strings.NewReader(""), &o, &e)
	out, errs := o.String(), e.String()
	if code != exitDone || strings.Contains(out, "rgw_") || !strings.Contains(errs, "secret   rgw_") {
		t.Fatalf("%d %s %s", code, out, errs)
	}
	f, err := auth.ParseRobots("tokens.yaml", []byte("robots:\n"+out))
	if err != nil || f.Find("ci") == nil {
		t.Errorf("%v in %s", err, out)
	}
}

func mustNetwork(t *testing.T, text string) netip.Prefix {
	t.Helper()
	p, err := auth.ParseNetwork(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
