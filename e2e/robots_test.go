package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// robotMade is what token create and rotate print as JSON.
type robotMade struct {
	Name     string
	Secret   string
	Expires  *time.Time
	OldUntil *time.Time `json:"old_until"`
}

// robot runs token create, or rotate.
func (g *regward) robot(t *testing.T, args ...string) (made robotMade) {
	t.Helper()
	o := g.cli(t, append(append([]string{"token"}, args...), "--output", "json")...).works(t)
	if err := json.Unmarshal([]byte(o.out), &made); err != nil {
		t.Fatalf("%s: %v\n%s", o.command, err, o.out)
	}
	return made
}

// grant asks for a token as helm does, with a password in a form.
func (g *regward) grant(t testing.TB, user, password string, scopes ...string) answer {
	t.Helper()
	form := url.Values{"grant_type": {"password"}, "service": {"localhost"}, "client_id": {"helm"},
		"username": {user}, "password": {password}, "scope": {strings.Join(scopes, " ")}}
	return g.send(t, http.MethodPost, "/token", "", strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

// granted is grant where it must work: the token and what is in it.
func (g *regward) granted(t testing.TB, user, password string, scopes ...string) (token, scope string) {
	t.Helper()
	var got struct {
		Token string `json:"access_token"`
		Scope string
	}
	a := g.grant(t, user, password, scopes...).is(t, http.StatusOK)
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.Token == "" {
		t.Fatalf("token for %s: %v: %s", user, err, a.body)
	}
	return got.Token, got.Scope
}

// robotShown is a robot as token list prints it.
type robotShown struct {
	Name    string
	Secrets []struct {
		ID          string
		Until, Used *time.Time
	}
}

func (g *regward) robots(t *testing.T) map[string]robotShown {
	t.Helper()
	var list []robotShown
	o := g.cli(t, "token", "list", "--output", "json").works(t)
	if err := json.Unmarshal([]byte(o.out), &list); err != nil {
		t.Fatalf("%v\n%s", err, o.out)
	}
	all := map[string]robotShown{}
	for _, r := range list {
		all[r.Name] = r
	}
	return all
}

// keepsNoSecret demands that no file below the instance's folder has a secret
// in it, logs included.
func (g *regward) keepsNoSecret(t *testing.T, secrets ...string) {
	t.Helper()
	err := filepath.Walk(g.dir, func(file string, info os.FileInfo, err error) error {
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(file)
		for _, s := range secrets {
			if strings.Contains(string(data), s) {
				t.Errorf("a secret is in %s", file)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

const robotRules = `
groups: {coolteam: [ann, bob]}
rules:
  - {subjects: everyone,       repositories: "library/**",         allow: pull}
  - {subjects: group:coolteam, repositories: "coolteam/**",        allow: [pull, push, delete]}
  - {subjects: authenticated,  repositories: "people/**",          allow: pull}
  - {subjects: "token:ci",     repositories: "base/**",            allow: pull}
  - {subjects: "token:ci",     repositories: "coolteam/secret/**", deny: "*"}
`

// A robot is made, used by real clients at once, and taken away, while regward
// serves.
func TestRobotsWithRealClients(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	for _, ref := range []string{"library/hello:1", "coolteam/app:1", "coolteam/secret/app:1", "base/app:1", "people/app:1"} {
		u.has(t, ref, small(t))
	}
	g := startRegward(t, u, robotRules)
	o := g.cli(t, "token", "create", "ci", "--repository", "coolteam/**", "--allow", "pull", "--allow", "push", "--expires", "90d", "--output", "json").works(t)
	var fields map[string]string
	if err := json.Unmarshal([]byte(o.out), &fields); err != nil || !slices.Equal(slices.Sorted(maps.Keys(fields)), []string{"expires", "name", "secret"}) {
		t.Fatalf("create prints %v, %v, want name, secret and expires", slices.Sorted(maps.Keys(fields)), err)
	}
	name, secret := fields["name"], fields["secret"]
	expires, err := time.Parse(time.RFC3339, fields["expires"])
	if left := time.Until(expires); name != "robot-ci" || err != nil || left > 90*24*time.Hour || left < 89*24*time.Hour {
		t.Errorf("made %s until %s, want robot-ci for 90 days", name, fields["expires"])
	}
	g.robot(t, "create", "idle", "--repository", "idle", "--allow", "pull")

	used := map[string]client{}
	for _, kind := range []string{"docker", "podman", "crane"} {
		k := kindNamed(kind)
		c := k.new(t, g.host)
		used[kind] = c
		ref := func(r string) string { return g.host + "/" + r }
		c.login(t, name, secret).works(t)
		c.pull(t, ref("coolteam/app:1")).works(t)
		c.push(t, ref("coolteam/from-"+kind+":1"), small(t)).works(t)
		c.pull(t, ref("library/hello:1")).works(t)
		c.pull(t, ref("base/app:1")).works(t)
		c.push(t, ref("base/from-"+kind+":1"), small(t)).fails(t, "robot-ci may not push to base/from-"+kind)
		for _, not := range []string{"coolteam/secret/app", "people/app", "nowhere/app"} {
			c.pull(t, ref(not+":1")).fails(t, "robot-ci is logged in but may not pull "+not)
		}
	}
	all := "repository:coolteam/app:pull,push,delete repository:coolteam/secret/app:pull,push repository:base/app:pull,push repository:people/app:pull"
	token, scope := g.granted(t, name, secret, all)
	if want := "repository:coolteam/app:pull,push repository:base/app:pull"; scope != want {
		t.Errorf("granted %q, want %q", scope, want)
	}
	if shown := g.robots(t); shown["robot-ci"].Secrets[0].Used == nil || shown["robot-idle"].Secrets[0].Used != nil {
		t.Errorf("last uses: %+v", shown)
	}
	g.cli(t, "token", "list").says(t, "robot-ci", "pull, push on coolteam/**", "less than a minute ago", "never")
	g.cli(t, "explain", "--user", "robot-ci", "--repository", "coolteam/app", "--action", "push").works(t).says(t, "robot ci in tokens.yaml")
	g.cli(t, "explain", "--user", "robot-ci", "--repository", "coolteam/secret/app", "--action", "pull").fails(t, "denies")

	// Both secrets while it is rotated; then the new one alone.
	second := g.robot(t, "rotate", "robot-ci", "--overlap", "24h")
	if second.OldUntil == nil || second.Expires == nil || !second.Expires.Equal(expires) {
		t.Errorf("rotated: until %v, expires %v", second.OldUntil, second.Expires)
	}
	g.granted(t, name, secret)
	if s := g.robots(t)["robot-ci"].Secrets; len(s) != 2 || s[0].Used != nil || s[1].Used == nil {
		t.Errorf("before the new secret is used: %+v", s)
	}
	g.granted(t, name, second.Secret)
	if s := g.robots(t)["robot-ci"].Secrets; s[0].Used == nil {
		t.Errorf("after it was used: %+v", s)
	}
	g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusOK)
	third := g.robot(t, "rotate", "ci", "--overlap", "0")
	g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusUnauthorized)
	g.grant(t, name, secret).is(t, http.StatusUnauthorized)
	g.grant(t, name, second.Secret).is(t, http.StatusUnauthorized)
	token, _ = g.granted(t, name, third.Secret, all)

	// Taken away: logins, tokens, clients that kept it.
	g.cli(t, "token", "revoke", "ci").works(t)
	g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusUnauthorized)
	g.grant(t, name, third.Secret).is(t, http.StatusUnauthorized)
	for kind, c := range used {
		c.pull(t, g.host+"/coolteam/app:1").fails(t)
		if kind == "docker" {
			c.login(t, name, third.Secret).fails(t, "wrong user name or password")
		}
	}
	g.cli(t, "token", "revoke", "ci").fails(t, "there is no robot ci")
	g.keepsNoSecret(t, secret, second.Secret, third.Secret)
}

// Expired, elsewhere and wrong are three repairs, and read so: by who logs in,
// in explain and in the audit log.
func TestRobotsThatAreTurnedDownAreToldApart(t *testing.T) {
	t.Parallel()
	g := startRegward(t, startUpstream(t, distribution), robotRules)
	old := g.robot(t, "create", "old", "--repository", "coolteam/**", "--allow", "pull", "--expires", "1s", "--owner", "coolteam")
	away := g.robot(t, "create", "away", "--repository", "coolteam/**", "--allow", "pull", "--from", "192.0.2.0/24")
	eventually(t, "the robot has expired", 30*time.Second, func() error {
		if a := g.grant(t, old.Name, old.Secret); a.StatusCode != http.StatusUnauthorized {
			return errors.New(a.Status)
		}
		return nil
	})
	c := newDocker(t, g.host)
	day := old.Expires.Format("2006-01-02 15:04 UTC")
	c.login(t, old.Name, old.Secret).fails(t, "robot old has expired on "+day)
	c.login(t, away.Name, away.Secret).fails(t, "robot away may not log in from 127.0.0.1")
	c.login(t, old.Name, away.Secret).fails(t, "wrong user name or password")
	g.grant(t, away.Name, away.Secret).is(t, http.StatusUnauthorized)
	g.cli(t, "explain", "--last", "--since", "5m").says(t, "expired robot old", "robot away from elsewhere", "wrong password")
	eventually(t, "the audit log tells them apart", 10*time.Second, func() error {
		for _, word := range []string{"expired_robot", "robot_elsewhere", "wrong_password"} {
			if !strings.Contains(g.auditLog(t), word) {
				return errors.New("no " + word)
			}
		}
		return nil
	})
	// It was warned of, and alerts can be made of the metric.
	if said := g.proc.output(); !strings.Contains(said, "robot old expires in less than a minute, on "+day+": regward token rotate old --expires 90d") || !strings.Contains(said, `"owner":"coolteam"`) {
		t.Errorf("not warned of: %s", tail(said, 10))
	}
	if _, err := g.metric(`regward_robot_expiry_timestamp_seconds{robot="old"}`); err != nil {
		t.Error(err)
	}
	g.cli(t, "token", "rotate", "old").fails(t, "robot old has expired on", "--expires 90d")
	again := g.robot(t, "rotate", "old", "--expires", "90d")
	g.granted(t, again.Name, again.Secret)
	g.keepsNoSecret(t, old.Secret, away.Secret, again.Secret)
}

// One robot for several upstreams, and a person of the same login, who has
// nothing of it.
func TestRobotsOfSeveralUpstreams(t *testing.T) {
	t.Parallel()
	one, two := startUpstream(t, distribution), startUpstream(t, dockerRegistryBasic)
	one.has(t, "coolteam/app:1", small(t))
	two.has(t, "coolteam/app:1", small(t))
	nested := func(u *upstream) string { return strings.ReplaceAll(u.config, "\n", "\n  ") }
	g := newRegward(t, "\n  - prefix: old/"+nested(two)+"\n  - prefix: \"\""+nested(one))
	people := maps.Clone(passwords)
	people["robot-ci"] = "a person's password"
	writeHtpasswd(t, g.passwd, people)
	g.configure(t, robotRules)
	g.serve(t)
	made := g.robot(t, "create", "ci", "--repository", "coolteam/**", "--repository", "old/coolteam/**", "--allow", "pull", "--allow", "push")
	c := newCrane(t, g.host).(*crane)
	c.tries(g.host + "/coolteam/app:1")
	c.login(t, made.Name, made.Secret).works(t)
	c.pull(t, g.host+"/old/coolteam/app:1").works(t)
	c.push(t, g.host+"/old/coolteam/new:1", small(t)).works(t)
	c.push(t, g.host+"/old/other/new:1", small(t)).fails(t)
	const scopes = "repository:coolteam/app:pull repository:people/app:pull repository:base/app:pull"
	if _, scope := g.granted(t, made.Name, made.Secret, scopes); scope != "repository:coolteam/app:pull repository:base/app:pull" {
		t.Errorf("the robot is granted %q", scope)
	}
	if _, scope := g.granted(t, "robot-ci", people["robot-ci"], scopes); scope != "repository:people/app:pull" {
		t.Errorf("the person is granted %q", scope)
	}
	g.cli(t, "validate").works(t).says(t, "user robot-ci has the login of a robot")
}

// Several instances read one file, which one of them may have written, or git.
func TestInstancesWithOneFileOfRobots(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "coolteam/app:1", small(t))
	file := filepath.Join(t.TempDir(), "tokens.yaml")
	var f fleet
	for range 2 {
		g := newRegward(t, u.config)
		g.setLogins(t, fmt.Sprintf("auth: {htpasswd: %q, tokens_file: %q}\n", g.passwd, file))
		g.configure(t, robotRules+sharedKey())
		f = append(f, g)
	}
	f[0].cli(t, "serve").fails(t, "auth.tokens_file", "tokens.yaml", "no such file")
	made := f[0].robot(t, "create", "ci", "--repository", "coolteam/**", "--allow", "pull")
	for _, g := range f {
		g.serve(t)
	}
	second := f[1].robot(t, "create", "other", "--repository", "coolteam/**", "--allow", "pull")
	knows := func(g *regward, user, secret string, want int) {
		t.Helper()
		eventually(t, user+" at the other instance", 30*time.Second, func() error {
			if a := g.grant(t, user, secret); a.StatusCode != want {
				return errors.New(a.Status)
			}
			return nil
		})
	}
	knows(f[0], second.Name, second.Secret, http.StatusOK)
	token, _ := f[1].granted(t, made.Name, made.Secret, "repository:coolteam/app:pull")
	f[0].send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusOK)

	// A file that is being written is not loaded, and says so; nobody is out.
	whole := readFile(t, file)
	if err := os.WriteFile(file, []byte(whole[:len(whole)-20]), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, g := range f {
		eventually(t, "half a file is refused", 60*time.Second, func() error {
			if !strings.Contains(g.proc.output(), "configuration not loaded; the one in force stays") {
				return errors.New("not said")
			}
			return nil
		})
		g.granted(t, made.Name, made.Secret)
		g.cli(t, "reload").fails(t, "tokens.yaml:", "stays in force")
		g.cli(t, "token", "revoke", "ci").fails(t, "tokens.yaml:")
	}
	if err := os.WriteFile(file, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	knows(f[1], made.Name, made.Secret, http.StatusOK)

	f[1].cli(t, "token", "revoke", "ci").works(t)
	for _, g := range f {
		knows(g, made.Name, made.Secret, http.StatusUnauthorized)
		g.send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusUnauthorized)
		g.granted(t, second.Name, second.Secret)
	}
}

// Whatever dies at whatever moment: what a command said is done, and the file
// can be read.
func TestRobotsSurviveKills(t *testing.T) {
	t.Parallel()
	g := startRegward(t, startUpstream(t, distribution), robotRules)
	secretOf := func(p *process) string {
		_, after, _ := strings.Cut(p.output(), "secret   ")
		secret, _, whole := strings.Cut(after, "\n")
		if !whole {
			return ""
		}
		return secret
	}
	begin := func(name string) *process {
		t.Helper()
		p, err := launch(filepath.Join(t.TempDir(), "out"), nil, suite.regward, "--config", g.file, "token", "create", name, "--repository", "a/**", "--allow", "pull")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	create := func(name string, kill time.Duration) string {
		t.Helper()
		p := begin(name)
		if kill > 0 {
			select {
			case <-p.done:
			case <-time.After(kill):
				p.kill()
			}
		}
		<-p.done
		return secretOf(p)
	}
	began, first := time.Now(), begin("r0")
	eventually(t, "a secret is told", 30*time.Second, func() error {
		if secretOf(first) == "" {
			return errors.New("not yet")
		}
		return nil
	})
	usual := time.Since(began) // and then it waits for serve to load the file
	<-first.done
	said := map[string]string{"r0": secretOf(first)}
	const kills = 20
	for i := 1; i <= kills; i++ {
		name, at := fmt.Sprintf("r%d", i), usual/2+rand.N(usual)
		if i%4 == 0 { // serve goes while the command runs, or just after it
			var dead sync.WaitGroup
			dead.Go(func() {
				time.Sleep(at)
				g.proc.kill()
			})
			if secret := create(name, 0); secret != "" {
				said[name] = secret
			}
			dead.Wait()
			g.serve(t)
		} else if secret := create(name, at); secret != "" {
			said[name] = secret
		}
		all := readFile(t, filepath.Join(g.dir, "state", "tokens.yaml")) // the next command reads it, too
		for name := range said {
			if !strings.Contains(all, "name: "+name+"\n") {
				t.Fatalf("after kill %d robot %s is lost", i, name)
			}
		}
	}
	t.Logf("%d of %d robots were made before the kill", len(said)-1, kills)
	// Nobody is in the way of those who come after, many at once included.
	var all sync.WaitGroup
	var mu sync.Mutex
	for i := range 4 {
		all.Go(func() {
			name := fmt.Sprintf("last%d", i)
			secret := create(name, 0)
			mu.Lock()
			defer mu.Unlock()
			said[name] = secret
		})
	}
	all.Wait()
	g.robots(t)
	for name, secret := range said {
		g.granted(t, "robot-"+name, secret)
	}
}

func TestExampleRobots(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		for _, ref := range []string{"library/hello:1", "base/app:1", "coolteam/vault/keys:1"} {
			u.has(t, ref, small(t))
		}
		w.serve(t, "registry:5000", to(t, u.url))
		g := w.example(t, "robots.yaml", "registry.example.com")
		made := g.robot(t, "create", "ci", "--repository", "coolteam/**", "--allow", "pull", "--allow", "push", "--expires", "90d")
		command(t, nil, suite.regward, "validate", "--strict", g.file).works(t)
		for _, k := range []clientKind{kindNamed("podman"), kindNamed("crane")} {
			c := k.new(t, g.host)
			ref := func(r string) string { return g.host + "/" + r }
			c.login(t, made.Name, made.Secret).works(t)
			c.pull(t, ref("library/hello:1")).works(t)
			c.pull(t, ref("base/app:1")).works(t)
			c.pull(t, ref("coolteam/vault/keys:1")).fails(t, "may not pull coolteam/vault/keys")
			first := small(t)
			c.push(t, ref("coolteam/"+k.name+":v1"), first).works(t)
			c.push(t, ref("coolteam/"+k.name+":v1"), first).works(t)
			c.push(t, ref("coolteam/"+k.name+":v1"), small(t)).fails(t, "the tag v1 of coolteam/"+k.name+" is immutable")
			c.push(t, ref("coolteam/"+k.name+":latest"), small(t)).works(t)
			c.push(t, ref("coolteam/"+k.name+":latest"), small(t)).works(t)
		}
		// The file may be read-only, as from git or a Secret.
		file := "/var/lib/regward/tokens.yaml"
		must(t, "mount", "--bind", file, file)
		g.cli(t, "token", "create", "more", "--repository", "x", "--allow", "pull").fails(t, file, "token create --print")
		must(t, "umount", "--lazy", file)
		must(t, "mount", "--bind", "-o", "ro", "/var/lib/regward", "/var/lib/regward")
		g.cli(t, "token", "revoke", "ci").fails(t, file, "token create --print")
		g.cli(t, "token", "list").works(t).says(t, "robot-ci")
		must(t, "umount", "--lazy", "/var/lib/regward")
		g.cli(t, "token", "revoke", "ci").works(t)
		g.grant(t, made.Name, made.Secret).is(t, http.StatusUnauthorized)
	})
}
