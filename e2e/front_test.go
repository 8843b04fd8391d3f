package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// frontRules tell clients apart by their addresses: inside/ is for one of them,
// and each may pull three times without a login.
const frontRules = teamRules + `
  - {subjects: everyone, repositories: "inside/**", allow: pull, from: 127.0.0.8}
limits: [{name: guests, subjects: anonymous, count: pulls, rate: 3/6h, per: ip}]
`

// fronted is a regward that something stands in front of.
type fronted struct {
	*regward
	t     testing.TB
	front string // host:port that clients type
	at    string // the same as one dials it
}

// startFronted starts regward as what is in front of it asks for: tls is its
// line, "" for its own certificate, and more follows the policy.
func startFronted(t testing.TB, tls, more string) *fronted {
	t.Helper()
	u := startUpstream(t, distribution)
	for _, ref := range []string{"library/hello:1", "inside/app:1"} {
		u.has(t, ref, small(t))
	}
	g := newRegward(t, u.config)
	own := fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", suite.certs.certFile, suite.certs.keyFile)
	if !strings.Contains(g.frame, own) {
		t.Fatalf("no such line: %s", own)
	}
	if tls != "" {
		g.frame = strings.Replace(g.frame, own, tls+"\n", 1)
	}
	g.configure(t, frontRules+more)
	g.serve(t)
	return &fronted{regward: g, t: t}
}

// listens waits until what is in front answers on port, and is what clients type.
func (f *fronted) listens(port int, p *process) {
	f.t.Helper()
	f.front, f.at = fmt.Sprintf("localhost:%d", port), fmt.Sprintf("127.0.0.1:%d", port)
	eventually(f.t, p.name+" answers", 30*time.Second, func() error {
		if err := p.gone(); err != nil {
			return err
		}
		status, _, err := f.ask("127.0.0.1", "GET", "/v2/", "")
		if err == nil && status != http.StatusUnauthorized {
			err = fmt.Errorf("it answers %d", status)
		}
		return err
	})
}

// dial connects from an address of this machine.
func (f *fronted) dial(from string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	return d.Dial("tcp", f.at)
}

// ask sends one request over a connection of its own, from an address of this
// machine. Headers are in pairs.
func (f *fronted) ask(from, method, path, token string, header ...string) (int, http.Header, error) {
	status, h, _, err := f.askAll(from, method, path, token, header...)
	return status, h, err
}

func (f *fronted) askAll(from, method, path, token string, header ...string) (int, http.Header, string, error) {
	raw, err := f.dial(from)
	if err != nil {
		return 0, nil, "", err
	}
	defer raw.Close()
	transport := newTransport()
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return raw, nil }
	client := http.Client{Transport: transport, CheckRedirect: noRedirects, Timeout: time.Minute}
	r, err := http.NewRequest(method, "https://"+f.front+path, nil)
	if err != nil {
		return 0, nil, "", err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(body), err
}

// pullsFrom is the status of a pull without a login, and of what came before it
// if that was refused.
func (f *fronted) pullsFrom(from, repository string, header ...string) int {
	f.t.Helper()
	q := url.Values{"service": {"localhost"}, "scope": {"repository:" + repository + ":pull"}}
	status, _, body, err := f.askAll(from, "GET", "/token?"+q.Encode(), "", header...)
	if err != nil {
		f.t.Fatal(err)
	}
	var got struct{ Token string }
	if status != 200 || json.Unmarshal([]byte(body), &got) != nil {
		return status
	}
	status, _, err = f.ask(from, "GET", "/v2/"+repository+"/manifests/1", got.Token, header...)
	if err != nil {
		f.t.Fatal(err)
	}
	return status
}

// logsFrom waits for a request that counts for an address.
func (f *fronted) logsFrom(agent, addr string) {
	f.t.Helper()
	eventually(f.t, agent+" counts as "+addr, 20*time.Second, func() error {
		for line := range strings.SplitSeq(f.accessLog(f.t), "\n") {
			if strings.Contains(line, `"user_agent":"`+agent+`"`) {
				if !strings.Contains(line, `"addr":"`+addr+`"`) {
					f.t.Fatalf("it counts as another:\n%s", line)
				}
				return nil
			}
		}
		return errors.New("not in the access log")
	})
}

// works looks at all that something in front may get wrong.
func (f *fronted) works(clients ...string) {
	t := f.t
	t.Helper()
	// What it says of itself: the realm, and where an upload goes on.
	forged := []string{"X-Forwarded-For", "127.0.0.8", "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "http",
		"Forwarded", "for=127.0.0.8;host=evil.example;proto=http", "X-Real-Ip", "127.0.0.8"}
	_, h, err := f.ask("127.0.0.5", "GET", "/v2/", "", append(forged, "User-Agent", "forger")...)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := h.Get("Www-Authenticate"), fmt.Sprintf(`realm="https://%s/token"`, f.front); !strings.Contains(got, want) {
		t.Errorf("the challenge is %s, want %s in it", got, want)
	}
	f.logsFrom("forger", "127.0.0.5")
	through := &regward{host: f.front, client: &http.Client{Transport: newTransport(), CheckRedirect: noRedirects}}
	token := through.token(t, "ann", "repository:coolteam/new:pull,push")
	a := through.send(t, "POST", "/v2/coolteam/new/blobs/uploads/", token, nil, forged...).is(t, 202)
	if to, err := url.Parse(a.Header.Get("Location")); err != nil || to.IsAbs() && (to.Scheme != "https" || to.Host != f.front) || !strings.HasPrefix(to.Path, "/v2/coolteam/new/") {
		t.Errorf("Location is %q (%v)", a.Header.Get("Location"), err)
	}
	// Limits per address, and rules for one.
	for i, want := range []int{200, 200, 200, 429, 429} {
		if got := f.pullsFrom("127.0.0.6", "library/hello", "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i)); got != want {
			t.Errorf("pull %d of one address, which says it is another: %d, want %d", i+1, got, want)
		}
	}
	if got := f.pullsFrom("127.0.0.7", "library/hello"); got != 200 {
		t.Errorf("a pull of another address: %d", got)
	}
	if got := f.pullsFrom("127.0.0.8", "inside/app"); got != 200 {
		t.Errorf("a pull of whom the rule is for: %d", got)
	}
	if got := f.pullsFrom("127.0.0.9", "inside/app", forged...); got != 401 {
		t.Errorf("a pull of who only says so: %d, want 401", got)
	}
	// A header that a client makes up in front of its TLS, or instead.
	for _, words := range []string{"PROXY TCP4 127.0.0.8 127.0.0.1 4000 443\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x08\x7f\x00\x00\x01\x0f\xa0\x01\xbb"} {
		c, err := f.dial("127.0.0.9")
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.WriteString(c, words)
		if err := tls.Client(c, &tls.Config{RootCAs: suite.certs.pool, ServerName: "localhost"}).Handshake(); err == nil {
			t.Error("a PROXY header that a client makes up is taken")
		}
		c.Close()
	}
	for _, name := range clients {
		c := kindNamed(name).new(t, f.front)
		ref := f.front + "/coolteam/" + name + ":1"
		c.login(t, "ann", passwords["ann"]).works(t)
		c.push(t, ref, image(t, 24<<20)).works(t)
		c.pull(t, ref).works(t)
	}
}

// deployed is a file of deploy/ with each old replaced by its new.
func deployed(t testing.TB, name string, pairs ...string) string {
	t.Helper()
	text := readFile(t, filepath.Join("..", "deploy", name))
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("deploy/%s has no %q any more", name, pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// bothPEM is a file with certificate and key, as haproxy wants it.
func bothPEM(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "both.pem")
	replaceFile(t, file, readFile(t, suite.certs.certFile)+readFile(t, suite.certs.keyFile))
	return file
}

func startFrontHaproxy(t testing.TB, config string) *process {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "haproxy.cfg")
	replaceFile(t, file, config)
	return start(t, filepath.Join(dir, "log"), nil, mustProgram(t, "haproxy"), "-db", "-f", file)
}

// startFrontNginx runs nginx with a configuration as Debian's, but for its
// folders.
func startFrontNginx(t testing.TB, config string) *process {
	t.Helper()
	dir := t.TempDir()
	user := ""
	if os.Getuid() == 0 { // else it wants another user's right to the folder
		user = "user root;\n"
	}
	folders := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		folders += fmt.Sprintf("  %s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	config = user + "daemon off;\npid " + filepath.Join(dir, "pid") + ";\n" + strings.Replace(config, "http {\n", "http {\n"+folders, 1)
	config = strings.Replace(config, "modules/ngx_stream_module.so", nginxModule(t), 1)
	file := filepath.Join(dir, "nginx.conf")
	replaceFile(t, file, config)
	return start(t, filepath.Join(dir, "log"), nil, mustProgram(t, "nginx"), "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file)
}

func nginxModule(t testing.TB) string {
	t.Helper()
	const module = "/usr/lib/nginx/modules/ngx_stream_module.so"
	if _, err := os.Stat(module); err != nil {
		t.Fatal("nginx's stream module is not installed; run: scripts/install-test-tools")
	}
	return module
}
