package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Environment of a test that runs itself again inside.
const (
	insideEnv = "REGWARD_E2E_INSIDE" // the test's name
	builtEnv  = "REGWARD_E2E_BUILT"  // the program that is built already
)

// places are the machines inside: their addresses, none of which is anybody's
// (RFC 5737) or which are private, and their names. Those of 192.0.2.0/24 and
// 10.0.0.5 are regward's.
var places = []struct{ address, names string }{
	{"192.0.2.10", "docker.acme.example"},
	{"192.0.2.11", "registry.example.com"},
	{"192.0.2.12", "registry.internal"},
	{"192.0.2.13", "mirror.acme.example"},
	{"192.0.2.14", "hosted.example.com"},
	{"192.0.2.15", "registry.acme.example"},
	{"10.0.0.5", ""},
	{"198.51.100.11", "nexus docker-hosted.nexus.acme.example"},
	{"198.51.100.12", "harbor.acme.example"},
	{"198.51.100.13", "registry"},
	{"198.51.100.14", "registry-1.docker.io"},
	{"198.51.100.15", "auth.docker.io"},
	{"198.51.100.16", "ghcr.io"},
	{"198.51.100.17", "quay.io"},
	{"198.51.100.19", "redis"},
	{"198.51.100.20", "redis-0"},
	{"198.51.100.21", "redis-1"},
	{"198.51.100.22", "redis-2"},
	{"198.51.100.23", "ca.example.com"},
	{"198.51.100.24", "ns.example.com"},
	{"198.51.100.25", "acme-v02.api.letsencrypt.org"},
	{"198.51.100.26", "ldap1.example.com"},
	{"198.51.100.27", "ldap2.example.com"},
	{"198.51.100.18", "gitlab.example.com registry.gitlab.example.com"},
	{"198.51.100.28", "token.actions.githubusercontent.com"},
	{"198.51.100.29", "kubernetes.default.svc.cluster.local"},
	{"203.0.113.10", "storage.example.com"},
	{"203.0.113.11", "production.cloudflare.docker.com"},
	{"203.0.113.12", "pkg-containers.githubusercontent.com"},
	{"10.9.8.7", "minio inside.example.com"},
}

// placeNames are the names that the test run's certificate is for.
func placeNames() []string {
	var all []string
	for _, p := range places {
		all = append(all, strings.Fields(p.names)...)
	}
	return all
}

// world is a pair of networks with the names of places in them: this process,
// its clients and regward are in one, the registries behind are in the other.
// So both can have port 443, and nothing else is reachable. /etc and /var/lib
// are copies, or empty.
type world struct {
	behind chan func()       // runs in the network of the registries
	next   map[string]string // where the next stand-in's hosts go: "tokens" to "auth.docker.io:443"
}

// inside runs test in a world of its own: the test binary starts itself again
// in fresh namespaces. What the machine has outside of them is not touched.
func inside(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		test(t, newWorld(t))
		return
	}
	t.Parallel()
	args := []string{"-test.run=^" + t.Name() + "$", "-test.count=1"}
	if deadline, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout="+time.Until(deadline).String())
	}
	again := exec.Command("/proc/self/exe", args...)
	again.Env = append(os.Environ(), insideEnv+"="+t.Name(), builtEnv+"="+suite.regward)
	again.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, // mounts are made private with it
		Pdeathsig:    syscall.SIGTERM,
	}
	out, err := again.CombinedOutput()
	switch {
	case err != nil:
		t.Errorf("inside: %v\n%s", err, out)
	case strings.Contains(string(out), "no tests to run"):
		t.Errorf("inside there was no such test:\n%s", out)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	furnish(t)
	w := &world{behind: make(chan func())}
	suite.world = w
	thread := w.startBehind(t)
	front, back := networks()
	ip(t, "link set lo up")
	ip(t, fmt.Sprintf("link add front type veth peer name back netns %d", thread))
	ip(t, "link set front up")
	for _, p := range front {
		ip(t, "address add "+p+"/32 dev front")
	}
	w.do(func() {
		ip(t, "link set lo up")
		ip(t, "link set back up")
		for _, p := range back {
			ip(t, "address add "+p+"/32 dev back")
		}
		for _, p := range front {
			ip(t, "route add "+p+" dev back")
		}
	})
	for _, p := range back {
		ip(t, "route add "+p+" dev front")
	}
	for key, value := range map[string]string{"SSL_CERT_FILE": suite.certs.caFile, "HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "", "http_proxy": "", "https_proxy": "", "no_proxy": ""} {
		t.Setenv(key, value)
	}
	return w
}

// networks are the addresses on regward's side and on the other.
func networks() (front, back []string) {
	for _, p := range places {
		if strings.HasPrefix(p.address, "192.0.2.") || p.address == "10.0.0.5" {
			front = append(front, p.address)
		} else {
			back = append(back, p.address)
		}
	}
	return front, back
}

// furnish mounts an /etc with the names of places and what the examples look
// for, and an empty /var/lib.
func furnish(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	etc, lib := filepath.Join(dir, "etc"), filepath.Join(dir, "lib")
	must(t, "cp", "-a", "/etc", etc)
	for _, d := range []string{filepath.Join(etc, "regward"), lib} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hosts := "127.0.0.1 localhost\n"
	for _, p := range places {
		if p.names != "" {
			hosts += p.address + " " + p.names + "\n"
		}
	}
	for file, content := range map[string]string{
		"hosts": hosts, "resolv.conf": "", "nsswitch.conf": "hosts: files\n",
		"regward/tls.crt": readFile(t, suite.certs.certFile), "regward/tls.key": readFile(t, suite.certs.keyFile),
	} {
		_ = os.Remove(filepath.Join(etc, file)) // it may be a link
		if err := os.WriteFile(filepath.Join(etc, file), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	writeHtpasswd(t, filepath.Join(etc, "regward", "htpasswd"), passwords)
	must(t, "mount", "--bind", etc, "/etc")
	must(t, "mount", "--bind", lib, "/var/lib")
	t.Cleanup(func() {
		must(t, "umount", "--lazy", "/var/lib")
		must(t, "umount", "--lazy", "/etc")
	})
}

// startBehind starts the one thread that lives in the network of the
// registries, and says which. A socket stays in the network it was made in,
// whoever uses it later.
func (w *world) startBehind(t *testing.T) (thread int) {
	t.Helper()
	started := make(chan error)
	var live func()
	live = func() {
		runtime.LockOSThread() // and never unlocked: it ends with its goroutine
		if thread = syscall.Gettid(); thread == os.Getpid() {
			go live() // the first thread is what /proc/self is about
			select {}
		}
		started <- syscall.Unshare(syscall.CLONE_NEWNET)
		for job := range w.behind {
			job()
		}
	}
	go live()
	if err := <-started; err != nil {
		t.Fatalf("a network for the registries: %v", err)
	}
	return thread
}

// do runs job in the network of the registries.
func (w *world) do(job func()) {
	done := make(chan struct{})
	w.behind <- func() { defer close(done); job() }
	<-done
}

func ip(t *testing.T, words string) {
	t.Helper()
	must(t, append([]string{"ip"}, strings.Fields(words)...)...)
}

// must is a command that has to work. t.Fatal may not be called on another
// goroutine than the test's, so it is an error.
func must(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// listen opens a port of one of places, "nexus:8081".
func (w *world) listen(t testing.TB, at string) net.Listener {
	t.Helper()
	host, port, _ := strings.Cut(at, ":")
	address := ""
	for _, p := range places {
		if strings.Contains(" "+p.names+" ", " "+host+" ") {
			address = p.address
		}
	}
	var l net.Listener
	err := fmt.Errorf("there is no place %q", host)
	if address != "" {
		w.do(func() { l, err = net.Listen("tcp", net.JoinHostPort(address, port)) })
	}
	if err != nil {
		t.Fatalf("listen at %s: %v", at, err)
	}
	return l
}

// serve answers at a port of one of places until the test ends: with TLS where
// it ends in 443.
func (w *world) serve(t testing.TB, at string, h http.Handler) {
	t.Helper()
	l := w.listen(t, at)
	if strings.HasSuffix(at, "443") {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{suite.certs.pair}, NextProtos: []string{"http/1.1"}})
	}
	answerOn(t, l, h)
}

// here is serve for an address on regward's own machine, "127.0.0.1:5000".
func (w *world) here(t testing.TB, address string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	answerOn(t, l, h)
}

func answerOn(t testing.TB, l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	t.Cleanup(func() { _ = server.Close() })
}

// settle gives one of a stand-in's hosts the place that was meant for it, with
// the name that goes into its URLs.
func (w *world) settle(t testing.TB, at string, loopback net.Listener) (net.Listener, string) {
	t.Helper()
	place, ok := w.next[at]
	if !ok {
		return loopback, ""
	}
	_ = loopback.Close()
	delete(w.next, at)
	return w.listen(t, place), strings.TrimSuffix(place, ":443")
}

// puts says where the hosts of the next stand-in are.
func (w *world) puts(t testing.TB, hosts map[string]string) {
	t.Helper()
	w.next = hosts
	t.Cleanup(func() {
		if len(w.next) > 0 {
			t.Errorf("no stand-in asked for %v", w.next)
		}
	})
}

// to passes everything on to a server on loopback, "http://127.0.0.1:12345",
// host and all.
func to(t testing.TB, base string) http.Handler {
	t.Helper()
	target, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Transport: newTransport(),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.Out.Header["X-Forwarded-Proto"] = r.In.Header["X-Forwarded-Proto"]
		},
	}
}

// example starts regward with a file of configs/examples as it stands. host is
// the name in it; env are its secrets, "NAME=value".
func (w *world) example(t *testing.T, name, host string, env ...string) *regward {
	t.Helper()
	for _, e := range env {
		key, value, _ := strings.Cut(e, "=")
		t.Setenv(key, value)
	}
	file := filepath.Join("..", "configs", "examples", name)
	command(t, nil, suite.regward, "validate", "--strict", file).works(t)
	command(t, nil, suite.regward, "validate", "--online", file).works(t) // an upstream may be open, if nobody else reaches it
	return w.regward(t, file, host)
}

// written is example for a text of the test's own.
func (w *world) written(t *testing.T, host, text string) *regward {
	t.Helper()
	file := filepath.Join(t.TempDir(), "regward.yaml")
	replaceFile(t, file, text)
	return w.regward(t, file, host)
}

// regward starts regward with a file that leaves the ports and the folders as
// they are by default.
func (w *world) regward(t *testing.T, file, host string) *regward {
	t.Helper()
	dir := t.TempDir()
	g := &regward{
		host: host, dir: dir, file: file, passwd: "/etc/regward/htpasswd",
		admin: "http://127.0.0.1:9780", health: "http://127.0.0.1:9781",
		access: filepath.Join(dir, "regward.log"), audit: filepath.Join(dir, "regward.log"), // standard output
		client: &http.Client{Transport: newTransport(), CheckRedirect: noRedirects},
	}
	g.serve(t)
	return g
}

// trust makes the clients of this test trust one more CA, given as PEM.
func (w *world) trust(t *testing.T, ca string) {
	t.Helper()
	if !suite.certs.pool.AppendCertsFromPEM([]byte(ca)) {
		t.Fatalf("no certificate in %q", ca)
	}
	replaceFile(t, suite.certs.caFile, readFile(t, suite.certs.caFile)+ca)
}
