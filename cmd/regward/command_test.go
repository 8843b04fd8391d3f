package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
)

// command runs one command line against the configuration of r.
func (r *running) command(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"--config", r.src.path}, args...), func(string) string { return "" }, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// sockets is a configuration whose running instance can be found again.
func sockets() string {
	return strings.NewReplacer(
		`admin: {listen: "127.0.0.1:0"}`, `admin: {listen: "unix:DIR/admin.sock"}`,
		`health: {listen: "127.0.0.1:0"}`, `health: {listen: "unix:DIR/health.sock"}`,
	).Replace(standard)
}

func TestReloadWaitsAndSaysWhatChanged(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	if code, out, errs := r.command("reload"); code != exitDone || !strings.Contains(out, "nothing changed") {
		t.Errorf("nothing changed: %d %q %q", code, out, errs)
	}
	// The file is broken: the instance is found all the same, and says why.
	r.edit("groups: {coolteam: [ann]}", "groups: {coolteam: [bob]}\nrulez: 1")
	code, out, errs := r.command("reload")
	if code != exitFailed || out != "" || !strings.Contains(errs, `unknown key "rulez"`) || !strings.Contains(errs, "stays in force") {
		t.Errorf("a broken file: %d %q %q", code, out, errs)
	}
	if code, out, errs := r.command("healthcheck"); code != exitDone || out != "ready\n" {
		t.Errorf("healthcheck with a broken file on disk: %d %q %q, want ready", code, out, errs)
	}
	if code, out, _ := r.command("reload", "--output", "json"); code != exitFailed || !strings.Contains(out, `"ok": false`) {
		t.Errorf("a broken file in JSON: %d %q", code, out)
	}
}

func TestHealthcheckFailsWithoutAnInstance(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	r.draining.Store(true)
	if code, out, _ := r.command("healthcheck"); code != exitFailed || out != "draining\n" {
		t.Errorf("while draining: %d %q, want %d and draining", code, out, exitFailed)
	}
	r.listeners.close()
	if code, _, errs := r.command("healthcheck"); code != exitFailed || !strings.Contains(errs, "no running instance") {
		t.Errorf("without an instance: %d %q", code, errs)
	}
}

// TestManyReloadsAndRequestsAtOnce is for the race detector: nothing is ever
// half-applied, and no request fails for a reload.
func TestManyReloadsAndRequestsAtOnce(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if got := r.pull("library/x"); got != 200 {
					t.Errorf("a pull during reloads is answered %d, want 200", got)
				}
			}
		})
		wg.Go(func() {
			for range 5 {
				if code, _, errs := r.command("reload"); code != exitDone {
					t.Errorf("reload: %s", errs)
				}
			}
		})
	}
	wg.Wait()
}

func TestExplainAsksTheRunningInstance(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	r.ask("GET", r.public()+"/v2/other/app/manifests/1.0", "ann", "ann-secret")
	r.ask("GET", r.public()+"/v2/other/app/manifests/1.0", "ann", "ann-secret")
	r.ask("GET", r.public()+"/v2/coolteam/app/manifests/1.0", "ann", "wrong")
	code, out, errs := r.command("explain", "--last", "--repository", "other/app", "--since", "1h")
	for _, want := range []string{"pull other/app:1.0", "x2 since", "user: ann (credential of user ann)", "no rule allows ann", "likely: ann is logged in and has no right", "still current"} {
		if !strings.Contains(out, want) {
			t.Errorf("explain --last does not say %q: %d\n%s%s", want, code, out, errs)
		}
	}
	if _, out, _ = r.command("explain", "--last", "--repository", "coolteam/app"); !strings.Contains(out, "user: ann (wrong password)") {
		t.Errorf("a wrong password is not told:\n%s", out)
	}
	refusals := r.handler.Refusals(proxy.RefusalQuery{Repository: "other/app"})
	if len(refusals) != 2 {
		t.Fatalf("%d refusals remembered, want 2", len(refusals))
	}
	if code, out, errs := r.command("explain", "--request-id", refusals[0].RequestID); code != exitDone || !strings.Contains(out, "other/app") {
		t.Errorf("explain --request-id: %d %q %q", code, out, errs)
	}
	if code, out, _ := r.command("explain", "--last", "--from", "10.0.0.0/8"); code != exitDone || out != "nothing was refused\n" {
		t.Errorf("explain --last --from elsewhere: %d %q", code, out)
	}
}

// TestOnlineAsksWhatTheOperatorCannotKnow: is the upstream open to all (M3),
// and does it take the account.
func TestOnlineAsksWhatTheOperatorCannotKnow(t *testing.T) {
	closed := func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="nexus"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	tokens := func(w http.ResponseWriter, r *http.Request) {
		_, password, _ := r.BasicAuth()
		switch {
		case r.URL.Path == "/token" && password == "right":
			io.WriteString(w, `{"token":"good"}`)
		case r.Header.Get("Authorization") != "Bearer good":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="harbor"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	open := func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Server", "Nexus/3.96") }
	for _, tt := range []struct {
		why      string
		upstream http.HandlerFunc
		password string
		want     string // "" is nothing to say
	}{
		{"closed, account taken", closed, "right", ""},
		{"closed, account not taken", closed, "wrong", `/v2/ refuses the login "regward"; check upstream.username and upstream.password`},
		{"tokens, account taken", tokens, "right", ""},
		{"tokens, account not taken", tokens, "wrong", `the token service refuses the login "regward"`},
		{"no registry", http.NotFound, "right", "does not answer like a registry: /v2/ answers 404"},
		{"open Nexus", open, "right", `serves /v2/ without a login: anybody who reaches it passes regward by. In Nexus turn off "Allow anonymous docker pull" and Anonymous Access, and let only this host reach port `},
	} {
		up := httptest.NewServer(tt.upstream)
		at, err := url.Parse(up.URL)
		if err != nil {
			t.Fatal(err)
		}
		var said []string
		settings := proxy.UpstreamSettings{URL: at, Username: "regward", Password: tt.password}
		u, err := proxy.NewUpstream(settings, proxy.UpstreamOptions{})
		if err != nil {
			t.Fatal(err)
		}
		checkOnline(t.Context(), u, settings, "upstream", func(_ configs.Severity, _, msg, fix string) { said = append(said, msg+fix) })
		u.Close()
		up.Close()
		if got := strings.Join(said, "\n"); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
			t.Errorf("%s: said %q, want %q", tt.why, got, tt.want)
		}
	}
}

func TestServeRefusesAnEmptyAdminToken(t *testing.T) {
	dir := t.TempDir()
	for text, ok := range map[string]bool{"": false, " \n": false, "x": true} {
		file := filepath.Join(dir, "token")
		write(t, file, text)
		if _, err := readAdminToken(file); (err == nil) != ok {
			t.Errorf("token file %q: %v", text, err)
		}
	}
}

func TestTheRedirectNamesOnlyWhatIsConfigured(t *testing.T) {
	for _, tt := range []struct {
		hostname, listen, asked, want string // want "" is refused
	}{
		{"registry.example.com", ":443", "registry.example.com", "registry.example.com"},
		{"registry.example.com", ":443", "REGISTRY.example.com:80", "registry.example.com"},
		{"registry.example.com", ":8443", "registry.example.com", "registry.example.com:8443"},
		{"registry.example.com:5000", ":8443", "registry.example.com", "registry.example.com:5000"},
		{"registry.example.com", "unix:/run/regward.sock", "registry.example.com", "registry.example.com"},
		{"::1", ":8443", "[::1]:80", "[::1]:8443"},
		{"registry.example.com", "systemd:https", "registry.example.com", "registry.example.com:8443"},
		{"registry.example.com", ":443", "evil.example", ""},
		{"registry.example.com", ":443", "", ""},
	} {
		got, ok := httpsHost(&configs.Config{Hostname: []string{tt.hostname}, Listen: []string{tt.listen}}, &net.TCPAddr{Port: 8443}, tt.asked)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s on %s asked for %q: got %q, want %q", tt.hostname, tt.listen, tt.asked, got, tt.want)
		}
	}
}

// Wrong use is told from failure, in words.
func TestWrongUse(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"hash-password secret", "never from an argument"},
		{"demo --listen 0.0.0.0:8443", "not on loopback"},
		{"demo --listen [::]:8443", "not on loopback"},
		{"demo --listen 8443", "no host:port"},
		{"version --output xml", "text or json"},
		{"completion tcsh", "choose bash"},
		{"config", "choose init"},
		{"validate --static --online x.yaml", "choose one"},
		{"token crate ci --repository a --allow pull", `there is no "crate"; choose create`},
		{"token create ci --repo a", "regward token create --help"},
		{"explain --user ann --repository r.example.com/team/app:v1 --action pull", "--repository r.example.com/team/app --tag v1"},
		{"explain --user ann --repository team/app@sha256:12 --action pull", "with a digest: write --repository team/app"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), strings.Fields(tt.line), func(string) string { return "" }, strings.NewReader(""), &out, &errs)
		if code != exitUsage || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("regward %s: %d %q, want %d and %q", tt.line, code, errs.String(), exitUsage, tt.want)
		}
	}
}

// What explain advises has to be able to help.
func TestLikely(t *testing.T) {
	for _, tt := range []struct {
		refusal proxy.Refusal
		want    string
	}{
		{proxy.Refusal{Reason: "not_allowed", Credential: "none", Host: "r.example.com"}, "docker login r.example.com"},
		{proxy.Refusal{Reason: "not_allowed", Credential: "token", User: "bob"}, "add a rule, or bob to a group"},
		{proxy.Refusal{Reason: "not_allowed", Credential: "token", User: "bob", Decision: "rules[5] at regward.yaml:14 denies pull of a/b to everyone"}, "make rules[5] at regward.yaml:14 narrower"},
		{proxy.Refusal{Reason: "not_allowed", Credential: "none", Decision: "rules[5] at regward.yaml:14 denies pull of a/b to everyone"}, "make rules[5] at regward.yaml:14 narrower"},
		{proxy.Refusal{Reason: "not_allowed", Credential: "none", Decision: "rules[5] at regward.yaml:14 denies pull of a/b to anonymous"}, "docker login"},
	} {
		if got := likely(&tt.refusal); !strings.Contains(got, tt.want) {
			t.Errorf("%q for %+v, want %q", got, tt.refusal, tt.want)
		}
	}
}

// Whoever asks why ann cannot log in asks with her name, proven or not.
func TestWrongPasswordsAreFoundByName(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	r.ask("GET", r.public()+"/v2/", "ann", "wrong")
	if code, out, errs := r.command("explain", "--last", "--user", "ann"); code != exitDone || !strings.Contains(out, "user: ann (wrong password)") {
		t.Errorf("explain --last --user ann: %d %q %q", code, out, errs)
	}
}

func TestAListenerThatCannotOpenSaysWhatToDo(t *testing.T) {
	for err, want := range map[error]string{
		&os.SyscallError{Syscall: "bind", Err: syscall.EACCES}:     "CAP_NET_BIND_SERVICE",
		&os.SyscallError{Syscall: "bind", Err: syscall.EADDRINUSE}: "ss -ltnp",
	} {
		if got := listenAdvice(err); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

// The rules are explained for whoever is named; that nobody can log in by the
// name is said beside it.
func TestExplainKnowsStrangers(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	for user, want := range map[string]bool{"ann": false, "Ann": false, "ghost": true} {
		for _, more := range []string{"", "--repository library/x --action pull"} {
			_, out, errs := r.command(append([]string{"explain", "--user", user}, strings.Fields(more)...)...)
			if got := strings.Contains(out, "htpasswd has no user "+user); got != want {
				t.Errorf("explain --user %s %s: %q %q", user, more, out, errs)
			}
		}
	}
}

// A change is mostly loaded by itself before anybody has typed `regward
// reload`, which then has to tell it all the same.
func TestReloadTellsWhatWasLoadedByItself(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	r.edit("groups: {coolteam: [ann]}", "groups: {coolteam: [bob]}")
	r.log.await(t, "configuration loaded", 1)
	code, out, errs := r.command("reload")
	if code != exitDone || !strings.Contains(out, "nothing changed") || !strings.Contains(out, "last changed at") || !strings.Contains(out, "regward.yaml):\n    user:ann leaves group:coolteam\n") {
		t.Errorf("reload: %d %q %q", code, out, errs)
	}
}

func TestOnlineNamesTheKeyForAnUnknownCA(t *testing.T) {
	up := httptest.NewTLSServer(http.NotFoundHandler())
	defer up.Close()
	at, err := url.Parse(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	settings := proxy.UpstreamSettings{URL: at}
	u, err := proxy.NewUpstream(settings, proxy.UpstreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	said := ""
	checkOnline(t.Context(), u, settings, "upstream", func(_ configs.Severity, _, msg, fix string) { said += msg + fix })
	if !strings.Contains(said, "upstream.ca_file") {
		t.Errorf("said %q, want upstream.ca_file in it", said)
	}
}

// Nobody is called anonymous whose login could not be checked.
func TestCredentialWords(t *testing.T) {
	for want, r := range map[string]proxy.Refusal{
		"user: not known (the login was not checked)": {Credential: "basic", Reason: "login_provider", Status: 503},
		"user: ann (credential of user ann)":          {Credential: "basic", User: "ann", Reason: "not_allowed"},
		"user: anonymous (refresh token)":             {Credential: "refresh token", Reason: "ended_login"},
	} {
		if got := credentialWords(&r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}
