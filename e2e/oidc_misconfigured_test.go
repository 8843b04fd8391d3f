package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exits demands a command's status.
func (o outcome) exits(t testing.TB, status int) outcome {
	t.Helper()
	var failed *exec.ExitError
	if got := 0; errors.As(o.err, &failed) {
		if got = failed.ExitCode(); got != status {
			t.Errorf("%s: exits with %d, want %d\n%s", o.command, got, status, o.out)
		}
	} else if status != 0 || o.err != nil {
		t.Errorf("%s: %v, want status %d\n%s", o.command, o.err, status, o.out)
	}
	return o
}

// told is what was printed last about a key of the configuration, with its fix.
func (o outcome) told(key string) string {
	text := strings.ReplaceAll(o.out, `\"`, `"`)
	at := strings.LastIndex(text, key+": ")
	if at < 0 {
		return ""
	}
	lines := strings.SplitN(text[at:], "\n", 3)
	return strings.Join(lines[:min(2, len(lines))], " ")
}

// Each way to get an issuer wrong is named by `validate --online`, at its line and
// with the fix, and lets nobody in.
func TestOIDCMisconfigured(t *testing.T) {
	t.Parallel()
	elsewhere, gone := startIDIssuer(t), startIDIssuer(t)
	gone.url = fmt.Sprintf("https://localhost:%d", freePort(t))
	at := func(path string, h http.HandlerFunc) *idIssuer { return startIDIssuer(t).answers(path, h) }
	own := startIDIssuer(t)
	slash := newIDIssuer(t, own.url+"/")
	slash.caFile = own.caFile
	wrongPath := startIDIssuer(t)
	wrongPath.url += "/realms/acme"
	wrongCA := startIDIssuer(t)
	wrongCA.caFile = elsewhere.caFile
	curves := startIDIssuer(t)
	curves.publish(newIDKey(t, "ES256", "one"))
	jobs := []struct {
		i         *idIssuer
		more      string
		key, says string
		fix       string
	}{
		{startIDIssuer(t), "", "", "", ""},
		{wrongPath, "", "issuer", "answers 404", "write what its tokens have for iss"},
		{slash, "", "issuer", `describes the issuer "` + own.url + `" rather than "` + own.url + `/"`, "write issuer: " + own.url + ", letter by letter"},
		{wrongCA, "", "ca_file", "unknown authority", "name the CA that its certificate comes from"},
		{gone, "", "issuer", "connection refused", "is it running"},
		{at(idDiscovery, prints(404, "")), "", "issuer", "answers 404", "write what its tokens have for iss"},
		{at(idDiscovery, prints(403, "{}")), "", "issuer", "answers 403", "kubectl create clusterrolebinding"},
		{at(idDiscovery, prints(200, "<html>")), "", "issuer", "is no discovery document", ""},
		{at(idDiscovery, elsewhere.ServeHTTP), "", "issuer", "describes the issuer", "write issuer: " + elsewhere.url},
		{at(idDiscovery, stalls), "", "issuer", "does not answer within 5s", "may this host reach it"},
		{at(idDiscovery, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.url+idDiscovery, http.StatusFound)
		}), "", "issuer", "redirects to another host", "write the issuer"},
		{at(idKeys, prints(200, `{"keys":[]}`)), "", "issuer", "has no key that checks a signature", "jwks_uri"},
		{at(idKeys, prints(200, `{"keys":[{"kty":"R`)), "", "issuer", "is no set of keys", "jwks_uri"},
		{at(idKeys, prints(500, "")), "", "issuer", "answers 500", "try again later"},
		{at(idKeys, prints(404, "")), "", "issuer", "answers 404", "jwks_uri"},
		{curves, "algorithms: [RS256]", "algorithms", "has no key for RS256", "what its tokens have for alg"},
		{startIDIssuer(t), "algorithms: [PS384]", "algorithms", "says it signs with RS256, ES256", "write algorithms: [RS256, ES256]"},
		{startIDIssuer(t).ahead(time.Hour), "", "issuer", "this machine's clock is", "timedatectl set-ntp true"},
		{startIDIssuer(t).ahead(-time.Hour), "", "issuer", "ahead of that of", "timedatectl set-ntp true"},
	}
	var entries []string
	for n, job := range jobs {
		lines := []string{fmt.Sprintf("user: i%d/{sub}", n)}
		if job.more != "" {
			lines = append(lines, job.more)
		}
		entries = append(entries, job.i.entry(fmt.Sprintf("issuer-%d", n), lines...))
	}
	g := startAsking(t, oidcAuth(t, entries...), jobRules)
	checked := g.cli(t, "validate", "--online").exits(t, 1)
	for n, job := range jobs {
		key := fmt.Sprintf("auth.oidc[%d]", n)
		if job.key == "" {
			if strings.Contains(checked.out, key+".") {
				t.Errorf("%s: %s", key, checked.told(key))
			}
			continue
		}
		if told := checked.told(key + "." + job.key); !strings.Contains(told, job.says) || !strings.Contains(told, job.fix) {
			t.Errorf("%s.%s: %q, want …%s… fix: …%s…\n", key, job.key, told, job.says, job.fix)
		}
	}
	// What is wrong in the entry lets nobody in, whoever signed; a clock alone does
	// not, for ours is right.
	for n, job := range jobs {
		want := http.StatusServiceUnavailable
		switch {
		case job.key == "" || strings.Contains(job.fix, "timedatectl"):
			want = http.StatusOK
		case job.key == "algorithms":
			want = http.StatusUnauthorized
		}
		if got := g.logsIn(t, "oidc", job.i.token(job.i.claims(githubJob("acme/app"), "localhost"))); got.StatusCode != want {
			t.Errorf("issuer %d: %s %s", n, got.Status, got.body)
		}
	}
}

// What the file itself has wrong is told without asking anybody, and not loaded.
func TestOIDCWrongInTheFile(t *testing.T) {
	t.Parallel()
	i := startIDIssuer(t)
	g := startAsking(t, oidcAuth(t, i.entry("ci", "user: gha/{repository}")), jobRules)
	good := readFile(t, g.file)
	half := filepath.Join(t.TempDir(), "half.pem")
	ca := readFile(t, i.caFile)
	replaceFile(t, half, ca[:len(ca)/2])
	for _, tt := range []struct{ old, new, key, says string }{
		{"      audience: localhost\n", "", "auth.oidc[0]", "audience"},
		{"      audience: localhost\n", "      audience: [\"\"]\n", "auth.oidc[0].audience", ""},
		{"issuer: https:", "issuer: http:", "auth.oidc[0].issuer", "is not https"},
		{i.caFile, filepath.Join(t.TempDir(), "none.pem"), "auth.oidc[0].ca_file", "no such file"},
		{i.caFile, half, "auth.oidc[0].ca_file", "no certificate"},
		{"user: gha/{repository}", "user: gha/{repository", "auth.oidc[0].user", "brace is not closed"},
		{"user: gha/{repository}", "user: \"{repository}{sub}\"", "auth.oidc[0].user", "nothing between"},
		{"user: gha/{repository}", "algorithms: [HS256]", "auth.oidc[0].algorithms", "no signature by the issuer alone"},
		{"user: gha/{repository}", "algorithms: [none]", "auth.oidc[0].algorithms", "no signature by the issuer alone"},
		{"user: gha/{repository}", "require: {repository_owner: }", "auth.oidc[0].require", ""},
	} {
		replaceFile(t, g.file, strings.Replace(good, tt.old, tt.new, 1))
		if told := g.cli(t, "validate").exits(t, 1); !strings.Contains(told.out, tt.key) || !strings.Contains(told.out, tt.says) {
			t.Errorf("%s: %s", tt.new, told.out)
		}
	}
	// The one that runs goes on with what it has.
	g.reload(t)
	g.says(t, "require")
	g.logsIn(t, "oidc", i.token(i.claims(githubJob("acme/app"), "localhost"))).is(t, http.StatusOK)
	if err := os.Remove(half); err != nil {
		t.Fatal(err)
	}
	replaceFile(t, g.file, good) // it ends in peace
}
