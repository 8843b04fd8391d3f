package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// jobRules: what jobs may by the groups of their entry, by those in their
// tokens, and by name. A job's name has several parts, so {user} matches none.
// No test shall meet the limits of failed logins.
const jobRules = `
rules:
  - {subjects: everyone,      repositories: "library/**",  allow: pull}
  - {subjects: group:ci,      repositories: "acme/**",     allow: [pull, push]}
  - {subjects: group:builders, repositories: "builds/**",  allow: [pull, push]}
  - {subjects: "group:acme/platform", repositories: "platform/**", allow: [pull, push]}
  - {subjects: "user:gha/acme/app", repositories: "releases/app/**", allow: [pull, push]}
  - {subjects: "user:k8s/system:serviceaccount:ci:builder", repositories: "cluster/**", allow: [pull, push]}
  - {subjects: authenticated, repositories: ["{user}/**", "own/{user}/**", "gha/**/{user}"], allow: [pull, push, delete]}
limits:
  - {name: wrong-passwords, count: failed_logins, rate: 10000/s, per: ip}
`

// keyless is regward in front of a registry, believing three issuers.
type keyless struct {
	*regward
	github, gitlab, kubernetes *idIssuer
}

func startKeyless(t testing.TB) *keyless {
	t.Helper()
	k := &keyless{github: startIDIssuer(t), gitlab: startIDIssuer(t), kubernetes: startIDIssuer(t)}
	k.regward = startAsking(t, oidcAuth(t,
		k.github.entry("github", "require: {repository_owner: acme}", "user: gha/{repository}", "groups: [ci]"),
		k.gitlab.entry("gitlab", "require: {namespace_path: acme, ref_protected: true}", "user: gl/{project_path}", "groups_claim: groups_direct"),
		k.kubernetes.entry("kubernetes", "user: k8s/{sub}", "algorithms: [RS256]"),
	), jobRules)
	return k
}

// leaves demands that nothing of a token is in a log, nor in what was printed.
func (g *regward) leavesOut(t testing.TB, token string) {
	t.Helper()
	parts := strings.Split(token, ".")
	for what, text := range map[string]string{"access log": g.accessLog(t), "audit log": g.auditLog(t), "output": g.proc.output()} {
		for _, part := range parts[1:] {
			if strings.Contains(text, part[:min(len(part), 40)]) {
				t.Errorf("the %s holds a token", what)
			}
		}
	}
}

// Jobs of GitHub Actions, GitLab CI and Kubernetes log in with their tokens: each
// kind of client with each kind of token.
func TestOIDCClients(t *testing.T) {
	t.Parallel()
	k := startKeyless(t)
	jobs := []struct {
		name, token, own, foreign string
	}{
		{"GitHub", k.github.token(k.github.claims(githubJob("acme/app"), "localhost"), "x5t", "eBhkK1s2K2N3dEZBY3JDUUNnZmc0bnRGZ3Z3"), "acme/app", "builds/app"},
		{"GitLab", k.gitlab.token(k.gitlab.claims(gitlabJob("acme/app"), "localhost")), "builds/app", "acme/app"},
		{"Kubernetes", k.kubernetes.token(k.kubernetes.claims(serviceAccount("ci", "builder"), []string{"localhost", "https://kubernetes.default.svc"}), "typ", nil), "cluster/app", "acme/app"},
	}
	for n, name := range []string{"docker", "podman", "crane"} {
		c := kindNamed(name).new(t, k.host)
		job := jobs[n]
		c.login(t, "oidc", job.token).works(t)
		ref := k.host + "/" + job.own + ":" + name
		c.push(t, ref, small(t)).works(t)
		c.pull(t, ref).works(t)
		c.push(t, k.host+"/"+job.foreign+":1", small(t)).fails(t)
		c.login(t, "oidc", job.token[:len(job.token)-12]+"AAAAAAAAAAAA").fails(t)
	}
	// As helm logs in, and by name, group and claim.
	for _, tt := range []struct {
		job      int
		scope    string
		pushes   bool
		what     string
		password string
	}{
		{0, "repository:acme/chart:pull,push", true, "a group of the entry", ""},
		{0, "repository:releases/app/x:pull,push", true, "by name", ""},
		{0, "repository:gha/acme/app/x:pull,push", false, "a name of several parts is no namespace", ""},
		{0, "repository:own/gha/acme/app/x:pull,push", false, "nor a part of one", ""},
		{1, "repository:platform/x:pull,push", true, "a group with a slash", ""},
		{1, "repository:acme/x:pull,push", false, "a group that it does not have", ""},
		{2, "repository:cluster/x:pull,push", true, "a name with colons", ""},
		{2, "repository:builds/x:pull,push", false, "another's", ""},
	} {
		for form, ask := range map[string]func() answer{
			"GET":  func() answer { return k.logsIn(t, "oidc", jobs[tt.job].token, tt.scope) },
			"POST": func() answer { return k.posts(t, "OIDC", jobs[tt.job].token, tt.scope) },
		} {
			token := ask().tokenIn(t)
			repository := strings.Split(tt.scope, ":")[1]
			got := k.send(t, "POST", "/v2/"+repository+"/blobs/uploads/", token, nil)
			if (got.StatusCode == http.StatusAccepted) != tt.pushes {
				t.Errorf("%s, %s (%s): %s %s", jobs[tt.job].name, tt.what, form, got.Status, got.body)
			}
		}
	}
	// An issuer's token is no bearer token here, and no password of another name.
	k.send(t, "GET", "/v2/acme/app/tags/list", jobs[0].token, nil).is(t, http.StatusUnauthorized)
	k.logsIn(t, "ann", jobs[0].token).is(t, http.StatusUnauthorized)
	k.logsIn(t, "gha/acme/app", jobs[0].token).is(t, http.StatusUnauthorized)
	for _, job := range jobs {
		k.leavesOut(t, job.token)
	}
	if log := k.auditLog(t); !strings.Contains(log, `"gha/acme/app"`) || !strings.Contains(log, `oidc:github`) {
		t.Errorf("the audit log does not say who logged in:\n%s", tail(log, 10))
	}
}

// Tokens are long: GitHub's 2 KiB, others with groups in them more.
func TestOIDCLongTokens(t *testing.T) {
	t.Parallel()
	k := startKeyless(t)
	for _, tt := range []struct {
		bytes  int
		status int
	}{{4 << 10, 200}, {8<<10 - 100, 200}, {8<<10 + 200, 401}, {20 << 10, 401}, {40 << 10, 431}} {
		job := githubJob("acme/app")
		job["roles"] = strings.Repeat("x", tt.bytes*3/4-len(k.github.token(k.github.claims(job, "localhost")))*3/4)
		token := k.github.token(k.github.claims(job, "localhost"))
		if got := k.logsIn(t, "oidc", token, "repository:acme/app:pull,push"); got.StatusCode != tt.status {
			t.Errorf("%d bytes: %s %s", len(token), got.Status, got.body)
		}
		post := k.posts(t, "oidc", token, "repository:acme/app:pull,push")
		if want := min(tt.status, 401); post.StatusCode != want {
			t.Errorf("%d bytes in a form: %s %s", len(token), post.Status, post.body)
		}
	}
}

// What we give out ends with the token, a minute at least.
func TestOIDCTokensEndWithTheirs(t *testing.T) {
	t.Parallel()
	k := startKeyless(t)
	for _, tt := range []struct{ left, least, most int64 }{{3600, 300, 300}, {200, 120, 201}, {5, 60, 60}} {
		token := k.github.token(k.github.claims(githubJob("acme/app"), "localhost", "exp", time.Now().Unix()+tt.left))
		var got struct {
			Expires int64 `json:"expires_in"`
		}
		body := k.logsIn(t, "oidc", token, "repository:acme/app:pull,push").is(t, http.StatusOK).body
		if err := json.Unmarshal([]byte(body), &got); err != nil || got.Expires < tt.least || got.Expires > tt.most {
			t.Errorf("%d s left: %d s, %v", tt.left, got.Expires, err)
		}
	}
}

// Several entries of one issuer tell its jobs apart, the first that fits counts.
func TestOIDCSeveralEntries(t *testing.T) {
	t.Parallel()
	i := startIDIssuer(t)
	g := startAsking(t, oidcAuth(t,
		i.entry("releases", "require: {repository_owner: acme, environment: production, ref_protected: true}", "user: rel/{repository}", "groups: [ci]"),
		i.entry("rest", "require: {repository_owner: acme}", "user: gha/{repository}"),
	), jobRules)
	push := func(change ...any) int {
		token := g.logsIn(t, "oidc", i.token(i.claims(githubJob("acme/app"), "localhost", change...)), "repository:acme/app:pull,push").tokenIn(t)
		return g.send(t, "POST", "/v2/acme/app/blobs/uploads/", token, nil).StatusCode
	}
	if got := push(); got != http.StatusAccepted {
		t.Errorf("a release: %d", got)
	}
	for _, change := range [][]any{{"environment", nil}, {"environment", "staging"}, {"ref_protected", "false"}} {
		if got := push(change...); got != http.StatusForbidden && got != http.StatusUnauthorized {
			t.Errorf("%v: %d", change, got)
		}
	}
	g.logsIn(t, "oidc", i.token(i.claims(githubJob("evil/app"), "localhost"))).is(t, http.StatusUnauthorized)
}

// A new key is known when the first token names it, and while the issuer is away
// those in hand are good; what they cannot say is 503, never 401.
func TestOIDCRotationAndOutage(t *testing.T) {
	t.Parallel()
	i := startIDIssuer(t)
	way := startLine(t, strings.TrimPrefix(i.url, "https://"))
	i.url = strings.Replace("https://"+way.at, "127.0.0.1", "localhost", 1)
	g := startAsking(t, oidcAuth(t, i.entry("ci", "user: gha/{repository}", "groups: [ci]")), jobRules)
	login := func() answer {
		return g.logsIn(t, "oidc", i.token(i.claims(githubJob("acme/app"), "localhost")), "repository:acme/app:pull,push")
	}
	becomes := func(what string, status int) {
		t.Helper()
		eventually(t, what, 60*time.Second, func() error {
			if got := login(); got.StatusCode != status {
				return errors.New(got.Status)
			}
			return nil
		})
	}
	login().is(t, http.StatusOK)
	old := i.key
	i.key = newIDKey(t, "ES256", "key-2")
	i.publish(old, i.key)
	becomes("a new key is known", http.StatusOK)
	if n := i.fetched(); n > 5 {
		t.Errorf("keys were fetched %d times", n)
	}

	way.cut()
	login().is(t, http.StatusOK)
	i.key = newIDKey(t, "ES256", "key-3")
	becomes("a key that may be new", http.StatusServiceUnavailable) // a moment ago the issuer said that it is none
	got := login().is(t, http.StatusServiceUnavailable)
	if !strings.Contains(got.body, "logins cannot be checked at the moment") || got.Header.Get("Retry-After") == "" {
		t.Errorf("in these words: %s %v", got.body, got.Header)
	}
	g.logsIn(t, "ann", passwords["ann"]).is(t, http.StatusOK) // others are not touched
	g.posts(t, "ann", passwords["ann"], "").is(t, http.StatusOK)

	g.proc.kill() // without keys in hand
	g.serve(t)
	i.key = old
	for range 3 {
		login().is(t, http.StatusServiceUnavailable)
	}
	g.logsIn(t, "oidc", i.token(i.claims(githubJob("acme/app"), "another.example.com"))).is(t, http.StatusUnauthorized) // wrong by itself
	way.mend(t)
	becomes("the issuer is back", http.StatusOK)
	if text := g.proc.output() + g.accessLog(t); !strings.Contains(text, "cannot be read") {
		t.Errorf("nothing says why:\n%s", tail(text, 10))
	}
}

// Issuers that answer nonsense are no reason to refuse, and hold nobody up who
// comes with another's token.
func TestOIDCIssuersThatMisbehave(t *testing.T) {
	t.Parallel()
	good, elsewhere := startIDIssuer(t), startIDIssuer(t)
	bad := map[string]*idIssuer{
		"slow":      startIDIssuer(t).answers(idDiscovery, stalls),
		"slow-keys": startIDIssuer(t).answers(idKeys, stalls),
		"missing":   startIDIssuer(t).answers(idDiscovery, http.NotFound),
		"page":      startIDIssuer(t).answers(idDiscovery, prints(200, "<html>")),
		"huge":      startIDIssuer(t).answers(idKeys, prints(200, `{"keys":[`+strings.Repeat(" ", 2<<20))),
		"half":      startIDIssuer(t).answers(idKeys, prints(200, `{"keys":[{"kty":"RSA",`)),
		"empty":     startIDIssuer(t).answers(idKeys, prints(200, `{"keys":[]}`)),
		"moved": startIDIssuer(t).answers(idDiscovery, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.url+idDiscovery, http.StatusFound)
		}),
		"another": startIDIssuer(t).answers(idDiscovery, elsewhere.ServeHTTP),
		"http":    startIDIssuer(t),
	}
	bad["http"].answers(idDiscovery, prints(200, fmt.Sprintf(`{"issuer":%q,"jwks_uri":"http://127.0.0.1:1/keys"}`, bad["http"].url)))
	entries := []string{good.entry("good", "user: gha/{repository}", "groups: [ci]")}
	for name, i := range bad {
		entries = append(entries, i.entry(name, "user: "+name+"/{sub}"))
	}
	g := startAsking(t, oidcAuth(t, entries...), jobRules)
	for name, i := range bad {
		got := g.logsIn(t, "oidc", i.token(i.claims(githubJob("acme/app"), "localhost")))
		if got.StatusCode != http.StatusServiceUnavailable || !strings.Contains(got.body, "logins cannot be checked") {
			t.Errorf("%s: %s %s", name, got.Status, got.body)
		}
		g.logsIn(t, "oidc", good.token(good.claims(githubJob("acme/app"), "localhost"))).is(t, http.StatusOK)
	}
	if elsewhere.fetched() != 0 {
		t.Error("another host was asked for keys")
	}
}
