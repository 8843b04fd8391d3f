package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// address is where regward listens, as what is in front of it dials it.
func (f *fronted) address() string { return strings.Replace(f.host, "localhost", "127.0.0.1", 1) }

const behindPlainNginx = `trusted_proxies: 127.0.0.1
`

func nginxConf(t testing.TB, port, plain int, backend string) string {
	return deployed(t, "nginx.conf", "listen 443", fmt.Sprintf("listen 127.0.0.1:%d", port), "listen 80;", fmt.Sprintf("listen 127.0.0.1:%d;", plain),
		"registry.example.com", "localhost", "/etc/nginx/registry.crt", suite.certs.certFile, "/etc/nginx/registry.key", suite.certs.keyFile,
		"http://127.0.0.1:8080", backend)
}

func TestBehindNginxThatEndsTLS(t *testing.T) {
	t.Parallel()
	f := startFronted(t, `tls: {mode: "off"}`, behindPlainNginx)
	port, plain := freePort(t), freePort(t)
	f.listens(port, startFrontNginx(t, nginxConf(t, port, plain, "http://"+f.address())))
	f.works("docker", "crane")
	// A client passes by nginx: it is on this machine, so it is answered, and is
	// no proxy.
	r, err := http.NewRequest("GET", "http://"+f.address()+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Forwarded-Proto", "http")
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Www-Authenticate"); !strings.Contains(got, `realm="https://`) {
		t.Errorf("the realm is no https: %s", got)
	}
}

func TestBehindNginxOverAUnixSocket(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	for _, ref := range []string{"library/hello:1", "inside/app:1"} {
		u.has(t, ref, small(t))
	}
	g := newRegward(t, u.config)
	socket := filepath.Join(t.TempDir(), "s")
	_, at, _ := strings.Cut(g.host, ":")
	g.frame = strings.NewReplacer(
		fmt.Sprintf(`listen: "127.0.0.1:%s"`, at), fmt.Sprintf("listen: %q", "unix:"+socket),
		fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", suite.certs.certFile, suite.certs.keyFile), "tls: {mode: \"off\"}\n",
	).Replace(g.frame)
	g.configure(t, frontRules+behindPlainNginx)
	g.serve(t)
	command(t, nil, mustProgram(t, "curl"), "-sS", "-i", "--unix-socket", socket, "http://localhost/v2/").
		works(t).says(t, "401 Unauthorized", `realm="https://localhost/token"`)
	f := &fronted{regward: g, t: t}
	port, plain := freePort(t), freePort(t)
	f.listens(port, startFrontNginx(t, nginxConf(t, port, plain, "http://unix:"+socket)))
	f.works("crane")
}

// nginx leaves TLS to regward, and says in a PROXY header who connects.
func TestBehindNginxThatSendsAPROXYHeader(t *testing.T) {
	t.Parallel()
	f := startFronted(t, "", "proxy_protocol: {from: 127.0.0.1}\n")
	port := freePort(t)
	f.listens(port, startFrontNginx(t, deployed(t, "nginx-stream.conf", "listen 443", fmt.Sprintf("listen 127.0.0.1:%d", port),
		"10.0.0.11:8443", f.address(), "    server 10.0.0.12:8443 max_fails=1 fail_timeout=5s;\n", "")))
	f.works("docker", "crane")
}
