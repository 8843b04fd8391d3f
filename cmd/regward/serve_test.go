package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

const day = 24 * time.Hour

// lines is a writer that lets a test wait for a line.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newLines() *lines { return &lines{more: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits until what was written holds text, n times.
func (l *lines) await(t *testing.T, text string, n int) {
	t.Helper()
	limit := time.After(patience)
	for strings.Count(l.String(), text) < n {
		select {
		case <-l.more:
		case <-limit:
			t.Fatalf("log has not %d times %q:\n%s", n, text, l.String())
		}
	}
}

// running is a regward that a test started.
type running struct {
	*server
	t       *testing.T
	dir     string
	log     *lines
	signals chan os.Signal
	done    chan error
	client  *http.Transport
}

// standard is a configuration that most tests start from; DIR and UPSTREAM
// are filled in.
const standard = `hostname: [localhost, 127.0.0.1]
listen: "127.0.0.1:0"
tls: {mode: internal}
upstream: "UPSTREAM"
auth: {htpasswd: DIR/users}
groups: {coolteam: [ann]}
rules:
  - {subjects: everyone, repositories: "library/**", allow: [pull, push]}
  - {subjects: group:coolteam, repositories: "coolteam/**", allow: [pull, push]}
log: {format: json, access: "off", audit: "off"}
admin: {listen: "127.0.0.1:0"}
health: {listen: "127.0.0.1:0"}
state_dir: DIR/state
shutdown_delay: 0s
shutdown_timeout: 20s
`

// begin starts regward with config in front of upstream; path is the file the
// configuration is read from, "" for DIR/regward.yaml.
func begin(t *testing.T, config string, upstream http.Handler, path func(dir, text string) string) *running {
	t.Helper()
	if upstream == nil {
		upstream = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{}")
		})
	}
	up := httptest.NewServer(upstream)
	t.Cleanup(up.Close)
	r := &running{t: t, dir: t.TempDir(), log: newLines(), signals: make(chan os.Signal, 4), done: make(chan error, 1)}
	writeUsers(t, filepath.Join(r.dir, "users"), "ann", "ann-secret")
	text := strings.NewReplacer("DIR", r.dir, "UPSTREAM", up.URL).Replace(config)
	file := filepath.Join(r.dir, "regward.yaml")
	if path != nil {
		file = path(r.dir, text)
	} else {
		write(t, file, text)
	}
	getenv := func(string) string { return "" }
	r.server = newServer(&app{getenv: getenv, stdout: r.log, stderr: r.log}, configSource{path: file, getenv: getenv})
	r.server.debounce = time.Millisecond
	if err := r.server.start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { r.done <- r.server.run(ctx, r.signals) }()
	r.client = &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		cancel()
		r.signals <- syscall.SIGTERM // the second one: at once
		select {
		case <-r.done:
		case <-time.After(patience):
			t.Error("regward does not end")
		}
	})
	return r
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeUsers(t *testing.T, file, user, password string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, user+":"+string(hash)+"\n")
}

// edit changes the configuration file in one step, as editors and ConfigMaps do.
func (r *running) edit(old, new string) {
	r.t.Helper()
	text, err := os.ReadFile(r.src.path)
	if err != nil {
		r.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		r.t.Fatalf("the configuration has no %q", old)
	}
	write(r.t, r.src.path+".new", strings.Replace(string(text), old, new, 1))
	if err := os.Rename(r.src.path+".new", r.src.path); err != nil {
		r.t.Fatal(err)
	}
}

// ask sends one request; user "" sends no credential.
func (r *running) ask(method, url, user, password string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	res, err := r.client.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func (r *running) public() string { return "https://" + r.listeners.first.String() }
func (r *running) admin() string  { return "http://" + r.listeners.admin[0].String() }
func (r *running) probe() string  { return "http://" + r.listeners.probe[0].String() }

// pull is the status of ann's GET of a manifest.
func (r *running) pull(repository string) int {
	status, _ := r.ask("GET", r.public()+"/v2/"+repository+"/manifests/latest", "ann", "ann-secret")
	return status
}

// reload asks the admin API.
func (r *running) reload() (int, outcome) {
	r.t.Helper()
	status, body := r.ask("POST", r.admin()+"/api/v1/reload", "", "")
	var o outcome
	if err := json.Unmarshal([]byte(body), &o); err != nil {
		r.t.Fatalf("%s: %v", body, err)
	}
	return status, o
}

func (r *running) metric(line string) bool {
	_, body := r.ask("GET", r.probe()+"/metrics", "", "")
	return strings.Contains("\n"+body, "\n"+line+"\n")
}

func TestReloadIsAllOrNothing(t *testing.T) {
	r := begin(t, standard, nil, nil)
	if got := r.pull("coolteam/app"); got != 200 {
		t.Fatalf("ann is answered %d before the reload, want 200", got)
	}
	// The first change is good, the other two are not: nothing of it may hold.
	r.edit("groups: {coolteam: [ann]}", "groups: {coolteam: [bob]}\nrulez: 1\ntokn: 2")
	status, o := r.reload()
	if status != 422 || o.OK || len(o.Problems) != 2 {
		t.Errorf("a file with two errors: %d %+v, want 422 with both", status, o)
	}
	for _, p := range o.Problems {
		r.log.await(t, fmt.Sprintf(":%d:%d: unknown key", p.Line, p.Col), 1)
	}
	if !r.metric("regward_config_last_reload_successful 0") {
		t.Error("regward_config_last_reload_successful is not 0 after a failed reload")
	}
	if got := r.pull("coolteam/app"); got != 200 {
		t.Errorf("ann is answered %d after a failed reload, want 200: half of it was applied", got)
	}
	r.edit("\nrulez: 1\ntokn: 2", "")
	status, o = r.reload()
	if o.Last != nil { // the watcher was faster
		o.Changes = o.Last.Changes
	}
	if status != 200 || !o.OK || len(o.Changes) == 0 {
		t.Errorf("a good file: %d %+v, want 200 with what changed", status, o)
	}
	if !r.metric("regward_config_last_reload_successful 1") {
		t.Error("regward_config_last_reload_successful is not 1 after a good reload")
	}
	if got := r.pull("coolteam/app"); got == 200 {
		t.Error("ann was taken out of the group and is still let in")
	}
}

func TestAChangedFileIsLoadedByItself(t *testing.T) {
	r := begin(t, standard, nil, nil)
	r.edit("groups: {coolteam: [ann]}", "groups: {coolteam: [bob]}")
	r.log.await(t, "configuration loaded", 1)
	if got := r.pull("coolteam/app"); got == 200 {
		t.Error("the change did not count")
	}
	// A file that it names: who has a new password is out.
	writeUsers(t, filepath.Join(r.dir, "users"), "ann", "another")
	r.log.await(t, "configuration loaded", 2)
	if status, _ := r.ask("GET", r.public()+"/v2/library/x/manifests/latest", "ann", "ann-secret"); status != 401 {
		t.Errorf("the old password is answered %d, want 401", status)
	}
}

// TestAConfigMapSwapIsNoticed does what the kubelet does: the file is a link
// into ..data, which is a link that is replaced. Twice, since a watch on the
// file dies at the first.
func TestAConfigMapSwapIsNoticed(t *testing.T) {
	mount := filepath.Join(t.TempDir(), "mount")
	version := func(n int, text string) {
		t.Helper()
		dir := filepath.Join(mount, fmt.Sprintf("..v%d", n))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "regward.yaml"), text)
		if err := os.Symlink(filepath.Base(dir), filepath.Join(mount, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(mount, "..tmp"), filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	var first string
	r := begin(t, standard, nil, func(_, text string) string {
		first = text
		version(1, text)
		file := filepath.Join(mount, "regward.yaml")
		if err := os.Symlink("..data/regward.yaml", file); err != nil {
			t.Fatal(err)
		}
		return file
	})
	version(2, strings.Replace(first, "coolteam: [ann]", "coolteam: [bob]", 1))
	r.log.await(t, "configuration loaded", 1)
	if got := r.pull("coolteam/app"); got == 200 {
		t.Error("the first swap did not count")
	}
	version(3, first)
	r.log.await(t, "configuration loaded", 2)
	if got := r.pull("coolteam/app"); got != 200 {
		t.Errorf("after the second swap ann is answered %d, want 200", got)
	}
}

func TestSIGHUPReloadsAndReopensLogs(t *testing.T) {
	config := strings.Replace(standard, `access: "off"`, "access: DIR/access.log", 1)
	r := begin(t, config, nil, nil)
	access := filepath.Join(r.dir, "access.log")
	r.pull("library/before")
	if err := os.Rename(access, access+".1"); err != nil {
		t.Fatal(err)
	}
	r.signals <- syscall.SIGHUP
	r.log.await(t, `"trigger":"SIGHUP"`, 1)
	r.pull("library/after")
	r.signals <- syscall.SIGTERM
	select {
	case err := <-r.done:
		r.done <- err
	case <-time.After(patience):
		t.Fatal("SIGTERM did not end it")
	}
	for file, want := range map[string][2]string{access + ".1": {"library/before", "library/after"}, access: {"library/after", "library/before"}} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want[0]) || strings.Contains(string(text), want[1]) {
			t.Errorf("%s must have %s and not %s:\n%s", filepath.Base(file), want[0], want[1], text)
		}
	}
}

// pair writes a certificate for localhost that ends at end.
func pair(t *testing.T, dir string, end time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(end.Unix()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

// shown is the end of the certificate that a client sees.
func (r *running) shown() time.Time {
	r.t.Helper()
	conn, err := tls.Dial("tcp", r.listeners.first.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].NotAfter
}

func TestABrokenPairKeepsTheOneInUse(t *testing.T) {
	dir := t.TempDir()
	first := time.Now().Add(5 * day).Truncate(time.Second)
	pair(t, dir, first)
	config := strings.Replace(standard, "{mode: internal}", fmt.Sprintf("{cert_file: %s/tls.crt, key_file: %[1]s/tls.key}", dir), 1)
	r := begin(t, config, nil, nil)
	r.log.await(t, "expires in 5 days", 1) // M4
	write(t, filepath.Join(dir, "tls.crt"), "half a fi")
	r.log.await(t, "still serving the certificate that expires "+first.UTC().Format(time.DateOnly), 1) // M5
	if got := r.shown(); !got.Equal(first) {
		t.Errorf("the certificate shown ends %v, want the first, %v", got, first)
	}
	second := first.Add(60 * day)
	pair(t, dir, second)
	r.log.await(t, "certificate reloaded", 1)
	if got := r.shown(); !got.Equal(second) {
		t.Errorf("the certificate shown ends %v, want the new one, %v", got, second)
	}
	if strings.Contains(r.log.String(), "configuration loaded") {
		t.Error("a change of the pair alone loaded the whole configuration")
	}
	// One that fits is taken, whatever is wrong with it, and not in silence.
	pair(t, dir, time.Now().Add(-2*day))
	r.log.await(t, "clients refuse it", 1)
}

// TestDrain: not ready at once, still accepting, and what runs may finish.
func TestDrain(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "slow") {
			close(arrived)
			<-finish
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, "{}")
	})
	r := begin(t, strings.Replace(standard, "shutdown_delay: 0s", "shutdown_delay: 2s", 1), upstream, nil)
	if status, body := r.ask("GET", r.probe()+"/readyz", "", ""); status != 200 {
		t.Fatalf("/readyz is %d %q before the end, want 200", status, body)
	}
	slow := make(chan int)
	go func() { slow <- r.pull("library/slow") }()
	<-arrived
	r.signals <- syscall.SIGTERM
	r.log.await(t, "stopping", 1)
	limit := time.Now().Add(patience)
	for status := 200; status != 503; status, _ = r.ask("GET", r.probe()+"/readyz", "", "") {
		if time.Now().After(limit) {
			t.Fatal("/readyz never says 503")
		}
	}
	r.client.CloseIdleConnections()
	if got := r.pull("library/late"); got != 200 {
		t.Errorf("a new connection within shutdown_delay is answered %d, want 200", got)
	}
	close(finish)
	if got := <-slow; got != 200 {
		t.Errorf("the running request ended with %d, want 200", got)
	}
	select {
	case err := <-r.done:
		r.done <- nil
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	arrived, finish := make(chan struct{}), make(chan struct{})
	defer close(finish)
	upstream := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		select {
		case <-finish:
		case <-r.Context().Done():
		}
	})
	config := strings.NewReplacer("shutdown_delay: 0s", "shutdown_delay: 1h", "shutdown_timeout: 20s", "shutdown_timeout: 1h").Replace(standard)
	r := begin(t, config, upstream, nil)
	go func() {
		req, _ := http.NewRequest("GET", r.public()+"/v2/library/slow/manifests/latest", nil)
		req.SetBasicAuth("ann", "ann-secret")
		if res, err := r.client.RoundTrip(req); err == nil {
			res.Body.Close()
		}
	}()
	<-arrived
	r.signals <- syscall.SIGTERM
	r.signals <- syscall.SIGTERM
	select {
	case err := <-r.done:
		r.done <- err
	case <-time.After(patience):
		t.Fatal("it waits on after the second signal")
	}
}

func TestWhatWorkedLastIsKeptAndNamed(t *testing.T) {
	r := begin(t, standard, nil, nil)
	file := filepath.Join(r.dir, "state", lastGood)
	want, err := os.ReadFile(r.src.path)
	if err != nil {
		t.Fatal(err)
	}
	want = append([]byte(goodFrom+r.dir+"\n"), want...)
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s is not what was read (%v):\n%s", lastGood, err, got)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v (%v), want 0600", lastGood, info.Mode(), err)
	}
	r.edit("hostname:", "hostnam:")
	if status, _ := r.reload(); status != 422 {
		t.Errorf("a broken file is answered %d, want 422", status)
	}
	if got, _ := os.ReadFile(file); !bytes.Equal(got, want) {
		t.Error("a broken file replaced the last that worked")
	}
	// M18: a start with the broken file names it and does not use it.
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"--config", r.src.path, "serve"}, func(string) string { return "" }, strings.NewReader(""), &out, &errs)
	end := fmt.Sprintf("…1 error above. The last configuration that worked (%s) is kept: regward serve --config %s\n",
		info.ModTime().UTC().Format("2006-01-02 15:04"), file)
	if code != exitFailed || !strings.HasSuffix(errs.String(), end) {
		t.Errorf("exit code %d, stderr:\n%s\nwant %d and at its end\n%s", code, errs.String(), exitFailed, end)
	}
	errs.Reset()
	if code := run(context.Background(), []string{"--config", file, "validate"}, func(string) string { return "" }, strings.NewReader(""), &out, &errs); code != 0 {
		t.Errorf("what was kept does not load from where it is kept: exit code %d\n%s", code, errs.String())
	}
}

func TestHealthListenerServesThreePages(t *testing.T) {
	r := begin(t, standard, nil, nil)
	for path, want := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200,
		"/": 404, "/api/v1/status": 404, "/api/v1/refusals": 404, "/debug/pprof/": 404, "/v2/": 404,
	} {
		if got, _ := r.ask("GET", r.probe()+path, "", ""); got != want {
			t.Errorf("GET %s on health.listen is %d, want %d", path, got, want)
		}
	}
	if got, _ := r.ask("POST", r.probe()+"/api/v1/reload", "", ""); got != 404 {
		t.Errorf("a reload on health.listen is %d, want 404", got)
	}
	if got, _ := r.ask("GET", r.admin()+"/debug/pprof/", "", ""); got != 404 {
		t.Errorf("pprof without admin.pprof is %d, want 404", got)
	}
}

// TestAdminLetsInOnlyWhoSitsHere tries the guard with every way in from
// elsewhere: the network, a web page, a rebound name, a proxy on this machine.
func TestAdminLetsInOnlyWhoSitsHere(t *testing.T) {
	s := &server{}
	s.live.Store(&live{admin: "the-token"})
	h := s.guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	unix := &net.UnixAddr{Name: "/run/regward.sock", Net: "unix"}
	for _, tt := range []struct {
		why, peer, host string
		local           net.Addr
		header          http.Header
		want            int
	}{
		{"this machine", "127.0.0.1:1234", "127.0.0.1:9780", nil, nil, 204},
		{"this machine by name", "[::1]:1234", "localhost:9780", nil, nil, 204},
		{"a unix socket", "@", "localhost", unix, nil, 204},
		{"the network", "192.0.2.7:1234", "10.0.0.1:9780", nil, nil, 403},
		{"the network with the token", "192.0.2.7:1234", "regward:9780", nil, http.Header{"Authorization": {"Bearer the-token"}}, 204},
		{"the network with a wrong token", "192.0.2.7:1234", "regward:9780", nil, http.Header{"Authorization": {"Bearer the-toke"}}, 403},
		{"the network with an empty token", "192.0.2.7:1234", "regward:9780", nil, http.Header{"Authorization": {"Bearer "}}, 403},
		{"a web page", "127.0.0.1:1234", "127.0.0.1:9780", nil, http.Header{"Origin": {"https://evil.example"}}, 403},
		{"a web page with the token", "127.0.0.1:1234", "127.0.0.1:9780", nil, http.Header{"Origin": {"null"}, "Authorization": {"Bearer the-token"}}, 403},
		{"a rebound name", "127.0.0.1:1234", "evil.example:9780", nil, nil, 403},
		{"a name below localhost", "127.0.0.1:1234", "localhost.evil.example", nil, nil, 403},
		{"a proxy on this machine", "127.0.0.1:1234", "127.0.0.1:9780", nil, http.Header{"X-Forwarded-For": {"192.0.2.7"}}, 403},
		{"a mapped address of the network", "[::ffff:192.0.2.7]:1234", "localhost", nil, nil, 403},
	} {
		req := httptest.NewRequest("POST", "/api/v1/reload", nil)
		req.RemoteAddr, req.Host = tt.peer, tt.host
		for k, v := range tt.header {
			req.Header[k] = v
		}
		if tt.local != nil {
			req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, tt.local))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != tt.want {
			t.Errorf("%s: got %d, want %d", tt.why, w.Code, tt.want)
		}
	}
	// Without admin.token_file no token is right, the empty one least of all.
	s.live.Store(&live{})
	req := httptest.NewRequest("GET", "/metrics", nil)
	req.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, req); w.Code != 403 {
		t.Errorf("no token configured, empty one sent: got %d, want 403", w.Code)
	}
}

func TestX07_PlainListenerRedirectsAndTakesNoCredential(t *testing.T) {
	config := strings.Replace(standard, "{mode: internal}", `{mode: internal, http_listen: "127.0.0.1:0"}`, 1)
	reached := false
	r := begin(t, config, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }), nil)
	var plain string
	for _, l := range r.listeners.all {
		if l.public && !l.tls {
			plain = l.Addr().String()
		}
	}
	for _, tt := range []struct {
		method, host, user string
		want               int
		location           string
	}{
		{"GET", "localhost", "", 308, "https://localhost:"},
		{"HEAD", "127.0.0.1", "", 308, "https://127.0.0.1:"},
		{"GET", "evil.example", "", 421, ""},
		{"POST", "localhost", "", 405, ""},
		{"PUT", "localhost", "ann", 405, ""},
		{"GET", "localhost", "ann", 403, ""},
	} {
		req, err := http.NewRequest(tt.method, "http://"+plain+"/v2/library/x/manifests/latest?n=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = tt.host
		if tt.user != "" {
			req.SetBasicAuth(tt.user, "ann-secret")
		}
		res, err := r.client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Location"); res.StatusCode != tt.want || !strings.HasPrefix(got, tt.location) || tt.location == "" && got != "" {
			t.Errorf("%s %s as %q: %d to %q, want %d to %q", tt.method, tt.host, tt.user, res.StatusCode, got, tt.want, tt.location)
		}
		if res.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s %s: a plain listener asks for a password", tt.method, tt.host)
		}
	}
	if reached {
		t.Error("a plain request reached the upstream")
	}
}

func TestAListenerThatIsTakenDoesNotStopTheStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	config := strings.Replace(standard, "{mode: internal}", fmt.Sprintf("{mode: internal, http_listen: %q}", taken.Addr()), 1)
	r := begin(t, config, nil, nil)
	r.log.await(t, fmt.Sprintf("tls.http_listen: cannot listen on %s (address already in use)", taken.Addr()), 1) // M1
	if got := r.pull("library/x"); got != 200 {
		t.Errorf("a pull is answered %d, want 200", got)
	}
}

func TestALeftOverSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := openListener("unix:"+path, adminSocket); err == nil {
		l.Close()
		t.Error("a socket in use was taken over")
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	l, err := openListener("unix:"+path, adminSocket)
	if err != nil {
		t.Fatalf("a left over socket: %v", err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != adminSocket {
		t.Errorf("mode %v (%v), want %o", info.Mode(), err, adminSocket)
	}
}

func TestTheDemoKeepsItsPromises(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"demo", "--check"}, os.Getenv, strings.NewReader(""), &out, &errs); code != exitDone {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
}
