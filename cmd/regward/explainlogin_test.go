package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

// hook is a program that knows logins, as auth.webhook asks it.
func hook(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ User, Password, Addr, Hostname string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Hostname != "registry.example.com" {
			t.Errorf("asked %+v, %v", q, err)
		}
		switch {
		case q.User == "eve" && q.Password == "eve-secret":
			fmt.Fprint(w, `{"groups": ["dev", "ops"]}`)
		case q.User == "eve":
			w.WriteHeader(http.StatusUnauthorized)
		case q.User == "late":
			w.WriteHeader(http.StatusBadGateway)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// asker runs explain over a configuration with every kind of provider.
type asker struct {
	t       *testing.T
	file    string
	secrets []string // of the robots ci and old
}

func newAsker(t *testing.T, up string) *asker {
	dir := t.TempDir()
	a := &asker{t: t, file: filepath.Join(dir, "regward.yaml")}
	writeUsers(t, filepath.Join(dir, "users"), "ann", "ann-secret")
	robots := "robots:\n"
	for _, one := range []string{"ci", "old, expires: 2020-01-01T00:00:00Z", "near, from: [10.0.0.0/8]"} {
		name, _, _ := strings.Cut(one, ",")
		secret, hash := auth.NewRobotSecret()
		robots += fmt.Sprintf("  - {name: %s, repositories: \"team/**\", allow: [pull, push], hashes: [{sha256: %s}]}\n", one, hash)
		a.secrets = append(a.secrets, name+"="+secret)
	}
	write(t, filepath.Join(dir, "tokens.yaml"), robots)
	write(t, a.file, fmt.Sprintf(`hostname: registry.example.com
tls: {mode: internal}
upstream: {name: nexus, url: "%s", username: regward, password: "open sesame"}
auth:
  htpasswd: users
  tokens_file: tokens.yaml
  upstream: true
  oidc:
    - {name: gh, issuer: "https://127.0.0.1:1/gh", audience: registry.example.com, user: "gh/{sub}", groups: [builders]}
    - {name: gl, issuer: "https://127.0.0.1:1/gl", audience: registry.example.com, user: "gl/{sub}"}
  webhook: {url: "%s", secret: "0123456789abcdef"}
groups: {dev: [ann, eve]}
rules:
  - {subjects: ["group:dev", "group:builders"], repositories: "team/**", allow: [pull, push]}
  - {subjects: ["token:ci", "group:ops"], repositories: "open/**", allow: pull}
`, up, hook(t).URL))
	return a
}

func (a *asker) secret(robot string) string {
	for _, s := range a.secrets {
		if secret, ok := strings.CutPrefix(s, robot+"="); ok {
			return secret
		}
	}
	a.t.Fatalf("no robot %s", robot)
	return ""
}

func (a *asker) run(password string, args ...string) (code int, out, errs string) {
	var o, e strings.Builder
	code = run(context.Background(), append([]string{"--config", a.file, "explain"}, args...), func(string) string { return "" }, strings.NewReader(password+"\n"), &o, &e)
	return code, o.String(), e.String()
}

// What each provider says, in order, and what that leads to.
func TestExplainLogsIn(t *testing.T) {
	up := httptest.NewServer(basic("bob:bob-secret", ""))
	defer up.Close()
	x := newAsker(t, up.URL)
	token := func(issuer string) string {
		return "eyJhbGciOiJSUzI1NiJ9." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iss":%q,"sub":"x","aud":"elsewhere","exp":4000000000}`, issuer)) + ".c2ln"
	}
	port := regexp.MustCompile(`:\d{4,5} `)
	none := []string{"robot not_mine the password is no robot's secret", "oidc:gh not_mine tokens come with the user name oidc", "oidc:gl not_mine tokens come with the user name oidc"}
	for _, tt := range []struct {
		user, password string
		code           int
		logins         []string
		login, caller  string
		errs           string
	}{
		{"ann", "ann-secret", exitDone, append(none, "htpasswd right"), "htpasswd says the password of ann is right", "ann (dev)", ""},
		{"Ann", "wrong-one", exitFailed, append(none, "htpasswd wrong wrong password"), "htpasswd says: wrong password: clients get 401", "ann (dev)", ""},
		{"eve", "eve-secret", exitDone, append(none, "htpasswd not_mine it does not know eve", "webhook right dev,ops"), "webhook says the password of eve is right", "eve (dev, ops)", ""},
		{"eve", "wrong-one", exitFailed, append(none, "htpasswd not_mine it does not know eve", "webhook wrong it answers 401"), "webhook says: it answers 401: clients get 401", "eve (dev)", ""},
		{"late", "wrong-one", exitFailed, append(none, "htpasswd not_mine it does not know late", "webhook cannot_say webhook 127.0.0.1 answers 502"),
			"webhook cannot say: clients get 503, but for logins proven within cache.stale where nothing answers", "late", "webhook cannot say whether the login is good: webhook 127.0.0.1 answers 502; regward validate --online says what is wrong"},
		{"bob", "bob-secret", exitDone, append(none, "htpasswd not_mine it does not know bob", "webhook not_mine it does not know bob", "upstream nexus right"), "upstream nexus says the password of bob is right", "bob", ""},
		{"bob", "wrong-one", exitFailed, append(none, "htpasswd not_mine it does not know bob", "webhook not_mine it does not know bob", "upstream nexus wrong wrong password"), "upstream nexus says: wrong password: clients get 401", "bob", ""},
		{"regward", "open sesame", exitFailed, append(none, "htpasswd not_mine it does not know regward", "webhook not_mine it does not know regward", "upstream nexus wrong regward is a login of regward's own: it is refused, and no upstream is asked"),
			"upstream nexus says: regward is a login of regward's own: it is refused, and no upstream is asked: clients get 401", "regward", ""},
		{"robot-ci", x.secret("ci"), exitDone, []string{"robot right"}, "robot says the password of robot-ci is right", "robot-ci", ""},
		{"robot-ci", x.secret("old"), exitFailed, []string{"robot wrong a secret that robot ci does not have, or has no more"}, "robot says: a secret that robot ci does not have, or has no more: clients get 401", "robot-ci", ""},
		{"robot-old", x.secret("old"), exitFailed, []string{"robot wrong robot old has expired on 2020-01-01 00:00 UTC"}, "robot says: robot old has expired on 2020-01-01 00:00 UTC: clients get 401", "robot-old", ""},
		{"oidc", "no token", exitFailed, []string{"robot not_mine the password is no robot's secret", "oidc wrong the token is no JSON Web Token"}, "", "oidc", ""},
		{"oidc", token("https://127.0.0.1:1/gl"), exitFailed, []string{"robot not_mine the password is no robot's secret", `oidc:gh not_mine the token is by "https://127.0.0.1:1/gl"`,
			`oidc:gl wrong the token is for "elsewhere", and "registry.example.com" is wanted: ask the issuer for one with that audience`}, "", "oidc", ""},
		{"oidc", token("https://127.0.0.1:1/x"), exitFailed, []string{"robot not_mine the password is no robot's secret", `oidc:gh not_mine the token is by "https://127.0.0.1:1/x"`, `oidc:gl not_mine the token is by "https://127.0.0.1:1/x"`,
			`oidc wrong the token is by "https://127.0.0.1:1/x", which is no issuer here`}, "", "oidc", ""},
	} {
		code, out, errs := x.run(tt.password, "--user", tt.user, "--password-stdin", "--output", "json")
		var r rights
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%s: %v: %s%s", tt.user, err, out, errs)
		}
		var got []string
		for _, l := range r.Logins {
			got = append(got, port.ReplaceAllString(strings.TrimSpace(fmt.Sprintf("%s %s %s%s", l.Provider, l.Said, l.Why, strings.Join(l.Groups, ","))), " "))
		}
		if tt.user == "oidc" && strings.HasPrefix(tt.logins[len(tt.logins)-1], "oidc wrong the token is no JSON") {
			got[len(got)-1], tt.logins[len(tt.logins)-1] = "", "" // its words are the reader's
		}
		if d := cmp.Diff(tt.logins, got); d != "" || code != tt.code || tt.login != "" && r.Login != tt.login || r.Caller != tt.caller || !strings.Contains(port.ReplaceAllString(errs, " "), tt.errs) {
			t.Errorf("%s: %d, %q, %q, %q: -want +got\n%s", tt.user, code, r.Login, r.Caller, errs, d)
		}
		if may := map[bool]int{true: 1}[code == exitDone && tt.user != "bob"]; min(len(r.Pull), 1) != may {
			t.Errorf("%s: %d and may pull %q", tt.user, code, r.Pull)
		}
		_, text, errs := x.run(tt.password, "--user", tt.user, "--password-stdin")
		if strings.Contains(out+text+errs, tt.password) {
			t.Errorf("%s: the password is in\n%s%s", tt.user, text, errs)
		}
	}
	_, text, _ := x.run("eve-secret", "--user", "eve", "--password-stdin", "--repository", "team/app", "--action", "push")
	for _, want := range []string{"allowed: push team/app as eve (dev, ops)", "login:\n  webhook says the password of eve is right", "asked:\n  robot     not mine: the password is no robot's secret", "  webhook   right: eve, groups dev, ops\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
	code, text, errs := x.run("wrong-one", "--user", "late", "--password-stdin", "--repository", "team/app", "--action", "push", "--output", "json")
	if code != exitFailed || !strings.Contains(text, `"verdict": "unknown"`) || !strings.Contains(errs, "cannot say whether") {
		t.Errorf("%d %s%s", code, text, errs)
	}
}

// In passthrough the upstream alone is asked, and robots are not known there.
func TestExplainLogsInThroughPassthrough(t *testing.T) {
	up := httptest.NewServer(basic("ann:open sesame", ""))
	defer up.Close()
	file := filepath.Join(t.TempDir(), "regward.yaml")
	write(t, file, fmt.Sprintf("hostname: registry.example.com\ntls: {mode: internal}\nupstream: {name: nexus, url: %q, credentials: passthrough}\nrules: [{subjects: authenticated, repositories: \"**\", allow: pull}]\n", up.URL))
	x := &asker{t: t, file: file}
	for password, want := range map[string]string{"open sesame": "  upstream nexus  right: ann\n", "wrong": "  upstream nexus  wrong: wrong password\n"} {
		code, out, errs := x.run(password, "--user", "ann", "--password-stdin", "--repository", "team/app", "--action", "pull")
		if (code == exitDone) != (password == "open sesame") || !strings.Contains(out, "asked:\n"+want) {
			t.Errorf("%s: %d\n%s%s", password, code, out, errs)
		}
	}
}

func TestExplainKnowsRobots(t *testing.T) {
	x := newAsker(t, "http://127.0.0.1:1")
	for args, want := range map[string]string{
		"--repository team/app --who":                                           "  pull    group builders (all tokens of gh), group dev (ann, eve), robot-ci; not robot-old (robot old has expired on 2020-01-01 00:00 UTC)",
		"--repository open/app --who --action pull":                             "  pull    group ops, robot-ci\n",
		"--repository team/app --who --action pull --from 10.1.2.3":             "robot-ci, robot-near",
		"--user robot-ci":                                                       "  pull    ",
		"--user robot-ci --repository open/app --action pull":                   "allowed: pull open/app as robot-ci",
		"--user robot-old":                                                      "robot old has expired on 2020-01-01 00:00 UTC",
		"--user robot-old --repository team/app --action pull":                  "denied: pull team/app as robot-old\n  robot old has expired",
		"--user robot-near --from 192.0.2.1":                                    "robot near may not log in from 192.0.2.1",
		"--user robot-near --from 10.1.2.3 --repository team/app --action pull": "allowed",
		"--user eve": "logins that htpasswd, webhook does not know are asked of upstream nexus",
	} {
		_, out, errs := x.run("", strings.Fields(args)...)
		if !strings.Contains(out, want) {
			t.Errorf("explain %s does not say %q:\n%s%s", args, want, out, errs)
		}
	}
}

// Who {group} and {user} stand for in a name is among those who may, and what the
// file cannot know is said to be not known.
func TestExplainSaysWhatTheFileDoesNotKnow(t *testing.T) {
	dir := t.TempDir()
	x := &asker{t: t, file: filepath.Join(dir, "regward.yaml")}
	write(t, x.file, `hostname: registry.example.com
tls: {mode: internal}
upstream: http://127.0.0.1:1
auth:
  tokens_file: tokens.yaml
  ldap: {url: "ldaps://127.0.0.1:1", user_base: "ou=people", user_filter: "(uid={user})", group_base: "ou=groups", group_filter: "(member={dn})"}
  oidc: [{name: gh, issuer: "https://127.0.0.1:1/gh", audience: registry.example.com, user: "gh/{sub}", groups: [ci]}]
rules:
  - {subjects: authenticated, repositories: "teams/{group}/**", allow: [pull, push]}
  - {subjects: authenticated, repositories: "people/{user}/**", allow: pull}
  - {subjects: group:boss, repositories: "teams/**", allow: pull}
`)
	says := func(line string, code int, wants ...string) {
		t.Helper()
		got, out, errs := x.run("", strings.Fields(line)...)
		for _, want := range wants {
			if got != code || !strings.Contains(out+errs, want) {
				t.Errorf("explain %s: %d, does not say %q:\n%s%s", line, got, want, out, errs)
			}
		}
	}
	write(t, filepath.Join(dir, "tokens.yaml"), "robots:\n")
	says("--repository teams/dev/app --who", exitDone, "pull    group boss, group dev\n", "push    group dev\n")
	says("--repository people/eve/app --who", exitDone, "pull    eve\n", "push    nobody\n")
	says("--user eve", exitDone, "groups that ldap or oidc:gh may give eve are not among these: add --group", "pull    people/eve/**")
	says("--user robot-gone", exitDone, "there is no robot gone: this is what a person of that name may")
	if _, out, _ := x.run("", "--user", "eve", "--group", "dev"); strings.Contains(out, "ldap") {
		t.Errorf("with its groups:\n%s", out)
	}
	write(t, filepath.Join(dir, "tokens.yaml"), "- name: ci\n")
	says("--user robot-ci", exitFailed, "nobody knows here what robots may", "pull    nothing", "write robots: above the first entry")
	says("--user robot-ci --repository teams/dev/app --action pull", exitFailed, "unknown: pull", "write robots: above the first entry")
	says("--repository teams/dev/app --who", exitDone, "robots are not among these: ")
	if _, out, _ := x.run("", "--user", "robot-ci", "--output", "json"); strings.Contains(out, "null") {
		t.Errorf("a list that is none:\n%s", out)
	}
}

// What was said of a failed login is told afterwards, from an audit log as well.
func TestExplainTellsWhatWasSaidOfALogin(t *testing.T) {
	log := `{"time":"2026-11-20T09:12:00Z","msg":"login_failed","request_id":"a","user":"eve","reason":"account_barred","via":"ldap","detail":"the account is disabled","addr":"10.0.0.1","user_agent":"docker/27"}
{"time":"2026-11-20T09:13:00Z","msg":"login_failed","request_id":"b","user":"oidc","reason":"wrong_audience","via":"oidc:gh","detail":"the token is for x","addr":"10.0.0.1","user_agent":"docker/27"}
{"time":"2026-11-20T09:14:00Z","msg":"login_failed","request_id":"c","user":"robot-ci","reason":"expired_robot","via":"robot","detail":"robot ci has expired","addr":"10.0.0.1","user_agent":"docker/27"}
{"time":"2026-11-20T09:15:00Z","msg":"login_failed","request_id":"d","user":"(hidden)","reason":"unknown_user","detail":"no provider knows the name","addr":"10.0.0.1","user_agent":"docker/27"}
`
	x := &asker{t: t, file: filepath.Join(t.TempDir(), "none.yaml")}
	_, out, errs := x.run(log, "--last", "--audit", "-")
	for _, want := range []string{
		"user: eve (account barred)", "ldap: the account is disabled\n", "whoever looks after the directory",
		"user: oidc (wrong audience)", "oidc:gh: the token is for x\n", "with the audience in auth.oidc",
		"(expired robot)", "robot: robot ci has expired\n", "regward token rotate",
		"user: (hidden) (wrong password)", "no provider knows the name\n", "nobody has that name",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q:\n%s%s", want, out, errs)
		}
	}
}
