package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// The people of the tests. What they may do is in teamRules.
var passwords = map[string]string{
	"ann":    "ann-secret",
	"bob":    "bob-secret",
	"reader": "reader-secret",
	"dave":   "dave-secret",
}

// teamRules is the story of the README: library/ for everybody, coolteam/ for
// its team. reader may only look, dave may nothing, vault/ is ann's alone.
const teamRules = `
groups: {coolteam: [ann, bob]}
rules:
  - {subjects: everyone,       repositories: "library/**",  allow: pull}
  - {subjects: group:coolteam, repositories: "coolteam/**", allow: [pull, push, delete]}
  - {subjects: user:reader,    repositories: "coolteam/**", allow: pull}
  - {subjects: user:ann,       repositories: "vault/**",    allow: [pull, push]}
`

// regward is one running instance.
type regward struct {
	host   string // as clients type it
	health string // URL
	admin  string // URL
	dir    string
	file   string // its configuration
	passwd string // its htpasswd
	access string
	audit  string
	proc   *process
	client *http.Client

	program string // another one than suite.regward
	frame   string // what comes before the policy in the file
}

// startRegward starts the program in front of u; policy is the rest of the
// configuration.
func startRegward(t testing.TB, u *upstream, policy string) *regward {
	t.Helper()
	g := newRegward(t, u.config)
	g.configure(t, policy)
	g.serve(t)
	return g
}

// newRegward prepares the folder and the part of the configuration that no
// test is about.
func newRegward(t testing.TB, upstream string) *regward {
	t.Helper()
	dir := t.TempDir()
	port, adminPort, healthPort := freePort(t), freePort(t), freePort(t)
	g := &regward{
		host:   fmt.Sprintf("localhost:%d", port),
		admin:  fmt.Sprintf("http://127.0.0.1:%d", adminPort),
		health: fmt.Sprintf("http://127.0.0.1:%d", healthPort),
		dir:    dir,
		file:   filepath.Join(dir, "regward.yaml"),
		access: filepath.Join(dir, "access.log"),
		audit:  filepath.Join(dir, "audit.log"),
		client: &http.Client{Transport: newTransport(), CheckRedirect: noRedirects},
	}
	g.passwd = writeHtpasswd(t, filepath.Join(dir, "htpasswd"), passwords)
	key := "upstream"
	if strings.HasPrefix(upstream, "\n  - ") {
		key = "upstreams"
	}
	g.frame = fmt.Sprintf(`hostname: [localhost, 127.0.0.1]
contact: "ask #platform-help"
listen: "127.0.0.1:%d"
tls: {cert_file: %q, key_file: %q}
%s: %s
auth: {htpasswd: %q}
admin: {listen: "127.0.0.1:%d"}
health: {listen: "127.0.0.1:%d"}
log: {access: %q, audit: %q}
state_dir: %q
`, port, suite.certs.certFile, suite.certs.keyFile, key, upstream, g.passwd,
		adminPort, healthPort, g.access, g.audit, filepath.Join(dir, "state"))
	return g
}

// setLogins puts another line in the place of auth.htpasswd.
func (g *regward) setLogins(t testing.TB, line string) {
	t.Helper()
	own := fmt.Sprintf("auth: {htpasswd: %q}\n", g.passwd)
	if !strings.Contains(g.frame, own) {
		t.Fatalf("no such line: %s", own)
	}
	g.frame = strings.Replace(g.frame, own, line, 1)
}

// configure writes the configuration, at once as a rename does.
func (g *regward) configure(t testing.TB, policy string) {
	t.Helper()
	text := g.frame + policy
	if !strings.Contains(policy, "shutdown_delay:") {
		text += "\nshutdown_delay: 0s\n"
	}
	replaceFile(t, g.file, text)
}

func replaceFile(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// serve starts the program and waits until it is ready.
func (g *regward) serve(t testing.TB) {
	t.Helper()
	g.begin(t)
	eventually(t, "regward is ready", 30*time.Second, func() error {
		if err := g.proc.gone(); err != nil {
			return err
		}
		return g.ready()
	})
}

// begin starts the program. At the end it must go quietly, without a data race
// behind it.
func (g *regward) begin(t testing.TB) {
	t.Helper()
	t.Cleanup(func() { // after the process has ended: cleanups run backwards
		if g.proc == nil {
			return
		}
		if out := g.proc.output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
			t.Errorf("regward printed:\n%s", tail(out, 80))
		}
	})
	g.proc = start(t, filepath.Join(g.dir, "regward.log"), []string{"GORACE=halt_on_error=0"},
		cmp.Or(g.program, suite.regward), "--config", g.file, "serve")
}

// ready is nil while /readyz answers 200.
func (g *regward) ready() error {
	r, err := http.Get(g.health + "/readyz")
	if err != nil {
		return err
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz: %s", r.Status)
	}
	return nil
}

// metric is the value of a metric without labels.
func (g *regward) metric(name string) (string, error) {
	r, err := http.Get(g.health + "/metrics")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("no metric %s", name)
}

// reload sends SIGHUP.
func (g *regward) reload(t testing.TB) {
	t.Helper()
	g.proc.signal(t, syscall.SIGHUP)
}

// accessLog and auditLog are the lines written so far.
func (g *regward) accessLog(t testing.TB) string { return readFile(t, g.access) }
func (g *regward) auditLog(t testing.TB) string  { return readFile(t, g.audit) }

func readFile(t testing.TB, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var requestID = regexp.MustCompile(`\(request ([0-9A-Za-z_-]+)\)`)

// recordsWhatWasShown demands that the request id in a client's output leads
// to a line in the access log.
func (g *regward) recordsWhatWasShown(t testing.TB, o outcome) {
	t.Helper()
	m := requestID.FindStringSubmatch(o.out)
	if m == nil {
		t.Errorf("%s: shows no request id:\n%s", o.command, o.out)
		return
	}
	eventually(t, "request "+m[1]+" is in the access log", 5*time.Second, func() error {
		if strings.Contains(g.accessLog(t), m[1]) {
			return nil
		}
		return errors.New("it is not")
	})
}

// writeHtpasswd writes bcrypt lines, as cheap as they may be.
func writeHtpasswd(t testing.TB, file string, users map[string]string) string {
	t.Helper()
	var lines []string
	for user, password := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, user+":"+string(hash)+"\n")
	}
	sort.Strings(lines)
	replaceFile(t, file, strings.Join(lines, ""))
	return file
}

// newTransport trusts the test authority.
func newTransport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: suite.certs.pool}}
}

func noRedirects(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// answer is a whole answer of regward.
type answer struct {
	*http.Response
	body string
}

// send makes one request by hand; token may be empty. Path may hold a query.
func (g *regward) send(t testing.TB, method, path, token string, body io.Reader, header ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, "https://"+g.host+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := g.client.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{response, string(content)}
}

// is demands a status.
func (a answer) is(t testing.TB, status int) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: got %s, want %d\n%s", a.Request.Method, a.Request.URL, a.Status, status, a.body)
	}
	return a
}

// token logs in as a client does; without a user it is an anonymous token.
func (g *regward) token(t testing.TB, user string, scopes ...string) string {
	t.Helper()
	q := url.Values{"service": {"localhost"}, "scope": scopes}
	r, err := http.NewRequest(http.MethodGet, "https://"+g.host+"/token?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, passwords[user])
	}
	response, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	var got struct{ Token string }
	if err := json.NewDecoder(io.TeeReader(response.Body, &body)).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("token for %q: %s, %v: %s", user, response.Status, err, body.String())
	}
	return got.Token
}
