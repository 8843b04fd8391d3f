package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

// basic is an upstream that wants the one login, or takes any if right is "".
func basic(right, server string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", server)
		user, password, sent := r.BasicAuth()
		if !sent || right != "" && user+":"+password != right {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}

func foreignTokens(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="https://auth.example.com/token",service="registry"`)
	w.WriteHeader(http.StatusUnauthorized)
}

// online is what `validate --online` says of a configuration with these upstreams.
func online(t *testing.T, more string, upstreams map[string]http.HandlerFunc) configs.Problems {
	t.Helper()
	text := more
	for name, handler := range upstreams {
		s := httptest.NewServer(handler)
		t.Cleanup(s.Close)
		text = strings.ReplaceAll(text, "URL_"+name, s.URL)
	}
	path := filepath.Join(t.TempDir(), "regward.yaml")
	write(t, path, "hostname: registry.example.com\ntls: {mode: internal}\n"+text)
	env := func(string) string { return "secret" }
	problems, err := check(t.Context(), configSource{path: path, getenv: env}, false, true)
	if err != nil {
		t.Fatal(err)
	}
	var out configs.Problems
	for _, p := range problems {
		if strings.Contains(p.Msg, "upstream ") || p.Severity == configs.Error {
			out = append(out, p)
		}
	}
	return out
}

// Each upstream is asked, and what is said of it stands at its own line.
func TestOnlineAsksEachUpstream(t *testing.T) {
	got := online(t, `upstreams:
  - {prefix: good, url: "URL_good", username: regward, password: "${P}"}
  - {prefix: open, url: "URL_open"}
  - {prefix: wrong, url: "URL_wrong", username: regward, password: "${P}"}
  - {prefix: foreign, url: "URL_foreign", token_hosts: other.example.com}
  - {prefix: nexus, url: "URL_nexus", username: regward, password: "${P}"}
  - {prefix: decided, url: "URL_nexus", username: regward, password: "${P}", shared_blobs: false}
  - {prefix: locked, url: "URL_wrong"}
`, map[string]http.HandlerFunc{
		"good":    basic("regward:secret", ""),
		"open":    func(http.ResponseWriter, *http.Request) {},
		"wrong":   basic("somebody:else", ""),
		"foreign": foreignTokens,
		"nexus":   basic("regward:secret", "Nexus/3.96.0-01 (COMMUNITY)"),
	})
	want := []struct {
		line      int
		path, say string
	}{
		{5, "upstreams[1]", "serves /v2/ without a login: anybody who reaches it passes regward by. Let only this host reach it."},
		{6, "upstreams[2].username", `/v2/ refuses the login "regward"; check upstreams[2].username and upstreams[2].password`},
		{7, "upstreams[3].token_hosts", "gives its tokens at auth.example.com, and nothing is sent to a host that is not named"},
		{8, "upstreams[4].shared_blobs", "is Nexus (Server: Nexus/3.96.0-01 (COMMUNITY)), which gives any layer under any image name"},
		{10, "upstreams[6]", "asks for a login, and none is configured"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(got), len(want), got.Error())
	}
	for i, w := range want {
		if p := got[i]; p.Line != w.line || p.Path != w.path || !strings.Contains(p.Msg, w.say) {
			t.Errorf("got  %v\nwant line %d, %s: %s", p, w.line, w.path, w.say)
		}
	}
	for i, fix := range map[int]string{2: "write token_hosts: [other.example.com, auth.example.com]", 3: "write shared_blobs: true", 4: "set upstreams[6].username"} {
		if !strings.Contains(got[i].Fix, fix) {
			t.Errorf("fix of %v: want %q", got[i], fix)
		}
	}
}

// An upstream that takes a made-up login cannot be asked about real ones.
func TestOnlineTriesAMadeUpLogin(t *testing.T) {
	for _, tt := range []struct{ why, upstream, auth, right, path string }{
		{"asked, tells", `{url: "URL_up", username: regward, password: "${P}"}`, "{upstream: true}", "regward:secret", ""},
		{"asked, takes any", `{url: "URL_up", username: regward, password: "${P}"}`, "{upstream: true}", "", "auth.upstream"},
		{"passed through, tells", `{url: "URL_up", credentials: passthrough}`, "{}", "ann:any", ""},
		{"passed through, takes any", `{url: "URL_up", credentials: passthrough}`, "{}", "", "upstream.credentials"},
		{"not asked, takes any", `{url: "URL_up", username: regward, password: "${P}"}`, "{}", "", ""},
	} {
		got := online(t, fmt.Sprintf("upstream: %s\nauth: %s\n", tt.upstream, tt.auth), map[string]http.HandlerFunc{"up": basic(tt.right, "")})
		var paths []string
		for _, p := range got {
			paths = append(paths, p.Path)
		}
		if text := strings.Join(paths, " "); text != tt.path {
			t.Errorf("%s: problems at %q, want %q:\n%v", tt.why, text, tt.path, got.Error())
		}
	}
}

// With passthrough, who has no login has only what the upstream gives anybody.
func TestOnlineMindsCallersWithoutALogin(t *testing.T) {
	for _, tt := range []struct {
		upstream, subjects string
		want               bool
	}{
		{`{url: "URL_up", credentials: passthrough}`, "everyone", true},
		{`{url: "URL_up", credentials: passthrough}`, "authenticated", false},
		{`{url: "URL_up", credentials: passthrough, username: regward, password: "${P}"}`, "everyone", false},
	} {
		got := online(t, fmt.Sprintf("upstream: %s\nrules: [{subjects: %s, repositories: \"library/**\", allow: pull}]\n", tt.upstream, tt.subjects),
			map[string]http.HandlerFunc{"up": basic("regward:secret", "")})
		if said := strings.Contains(got.Error(), "asks for a login, and callers without one have none"); said != tt.want {
			t.Errorf("%s, %s: %v", tt.upstream, tt.subjects, got.Error())
		}
	}
}

// explain --password-stdin asks the upstream that is asked in earnest.
func TestExplainAsksTheUpstream(t *testing.T) {
	for _, tt := range []struct{ user, right, want string }{
		{"ann", "ann:open sesame", "upstream nexus says the password of ann is right"},
		{"ann", "ann:other", "upstream nexus says: wrong password: clients get 401"},
		{"ann", "", "upstream nexus cannot say whether the login is good: logins cannot be checked: the upstream takes any login"},
		{"regward", "regward:open sesame", "regward is a login of regward's own"},
	} {
		s := httptest.NewServer(basic(tt.right, ""))
		path := filepath.Join(t.TempDir(), "regward.yaml")
		write(t, path, fmt.Sprintf(`hostname: registry.example.com
tls: {mode: internal}
upstream: {name: nexus, url: "%s", username: regward, password: "${P}"}
auth: {upstream: true}
rules: [{subjects: authenticated, repositories: "**", allow: [pull, push]}]
`, s.URL))
		var out, errs strings.Builder
		code := run(t.Context(), []string{"--config", path, "explain", "--user", tt.user, "--password-stdin", "--repository", "team/app", "--action", "pull"},
			func(string) string { return "secret" }, strings.NewReader("open sesame\n"), &out, &errs)
		s.Close()
		if said := out.String() + errs.String(); !strings.Contains(said, tt.want) || (code == exitDone) != strings.HasSuffix(tt.want, "is right") {
			t.Errorf("%s with %q: %d %s, want %q", tt.user, tt.right, code, said, tt.want)
		}
	}
}
