package e2e

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// secured is a registry that takes requests from holders of a certificate alone.
type secured struct {
	url    string
	server idCard // its own pair, by ca
	reload func() // after server's files have changed
}

// securedDistribution asks for certificates in the handshake.
func securedDistribution(t testing.TB, ca, clients *idCards, storage string) *secured {
	t.Helper()
	s := &secured{server: ca.give("registry")}
	u := &upstream{kind: distribution}
	begin := func() string {
		dir := t.TempDir()
		file := filepath.Join(dir, "registry.yml")
		port := freePort(t)
		if s.url != "" {
			_, text, _ := strings.Cut(strings.TrimPrefix(s.url, "https://"), ":")
			_, _ = fmt.Sscan(text, &port)
		}
		replaceFile(t, file, fmt.Sprintf(`version: 0.1
log: {level: info, formatter: json, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: "127.0.0.1:%d", secret: end-to-end, tls: {certificate: %q, key: %q, clientcas: [%q]}}
`, storage, port, s.server.cert, s.server.key, clients.caFile))
		u.proc = start(t, filepath.Join(dir, "registry.log"), []string{"OTEL_TRACES_EXPORTER=none"}, mustProgram(t, "registry"), "serve", file)
		listens(t, u.proc, port)
		return fmt.Sprintf("https://localhost:%d", port)
	}
	s.url = begin()
	s.reload = func() {
		if err := u.proc.stop(); err != nil {
			t.Fatal(err)
		}
		begin()
	}
	return s
}

// securedNginx lets any handshake pass and answers with a page.
func securedNginx(t testing.TB, ca, clients *idCards, registry string) *secured {
	t.Helper()
	s := &secured{server: ca.give("registry")}
	dir, port := t.TempDir(), freePort(t)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	file := filepath.Join(dir, "nginx.conf")
	replaceFile(t, file, strings.NewReplacer("USER", user, "DIR", dir, "PORT", fmt.Sprint(port), "CERT", s.server.cert, "KEY", s.server.key,
		"CLIENTS", clients.caFile, "REGISTRY", registry).Replace(`
USER
daemon off;
worker_processes 1;
pid DIR/nginx.pid;
error_log DIR/error.log;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  server {
    listen 127.0.0.1:PORT ssl;
    server_name localhost;
    ssl_certificate CERT;
    ssl_certificate_key KEY;
    ssl_client_certificate CLIENTS;
    ssl_verify_client on;
    client_max_body_size 0;
    location / {
      proxy_pass REGISTRY;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto https;
    }
  }
}
`))
	argv := []string{mustProgram(t, "nginx"), "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file}
	p := start(t, filepath.Join(dir, "nginx.log"), nil, argv...)
	listens(t, p, port)
	s.url = fmt.Sprintf("https://localhost:%d", port)
	s.reload = func() { command(t, nil, append(argv, "-s", "reload")...).works(t) }
	return s
}

func listens(t testing.TB, p *process, port int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s listens", p.name), 20*time.Second, func() error {
		if err := p.gone(); err != nil {
			return err
		}
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
}

// An upstream behind a private CA that wants a certificate: the right pair
// works, and whatever is wrong is said in words that name the key to set.
func TestUpstreamsThatWantACertificate(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T, ca, clients *idCards) *secured{
		"distribution": func(t *testing.T, ca, clients *idCards) *secured {
			u := startUpstream(t, distribution)
			u.has(t, "library/hello:1", small(t))
			return securedDistribution(t, ca, clients, filepath.Join(filepath.Dir(u.proc.log), "storage"))
		},
		"nginx": func(t *testing.T, ca, clients *idCards) *secured {
			u := startUpstream(t, distribution)
			u.has(t, "library/hello:1", small(t))
			return securedNginx(t, ca, clients, u.url)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, clients := newIDCards(t, "registry CA"), newIDCards(t, "clients CA")
			s := start(t, ca, clients)
			theirs, ours := clients.give("regward"), filepath.Join(t.TempDir(), "ca.crt")
			replaceFile(t, ours, readFile(t, ca.caFile))
			pair := fmt.Sprintf("\n  client_cert_file: %q\n  client_key_file: %q", theirs.cert, theirs.key)
			with := "\n  url: " + s.url + fmt.Sprintf("\n  ca_file: %q", ours)
			g := newRegward(t, with+pair)
			g.configure(t, teamRules)
			g.serve(t)
			asked := func(status int, words string) {
				t.Helper()
				eventually(t, fmt.Sprintf("%d %s", status, words), 60*time.Second, func() error {
					a := g.send(t, "GET", "/v2/library/hello/manifests/1", g.token(t, "", "repository:library/hello:pull"), nil)
					if a.StatusCode != status {
						return errors.New(a.Status + " " + a.body)
					}
					if words == "" {
						return nil
					}
					// The client hears nothing of keys and CAs; who runs it does.
					if strings.Contains(a.body, "certificate") {
						return errors.New(a.body)
					}
					if !strings.Contains(g.proc.output(), words) {
						return errors.New("the log does not say so: " + tail(g.proc.output(), 4))
					}
					return g.tells(words)
				})
			}
			asked(200, "")
			g.cli(t, "validate", "--online").works(t)

			// The file of the CA is another's, and right again: no line of the configuration changes.
			replaceFile(t, ours, readFile(t, newIDCards(t, "another CA").caFile))
			asked(502, "its certificate is by a CA that is not trusted here: name that CA in ca_file")
			replaceFile(t, ours, readFile(t, ca.caFile))
			asked(200, "")

			// Our pair is another CA's; then there is none.
			wrong := newIDCards(t, "somebody else").give("regward")
			right := [2]string{readFile(t, theirs.cert), readFile(t, theirs.key)}
			replaceFile(t, theirs.key, readFile(t, wrong.key))
			replaceFile(t, theirs.cert, readFile(t, wrong.cert))
			asked(502, "it does not take the certificate in client_cert_file: is it by the CA that is wanted there, and still good?")
			replaceFile(t, theirs.key, right[1])
			replaceFile(t, theirs.cert, right[0])
			asked(200, "")
			whole := g.frame
			g.frame = strings.Replace(whole, pair, "", 1)
			g.configure(t, teamRules)
			asked(502, "it wants a client certificate: set client_cert_file and client_key_file")
			g.cli(t, "validate", "--online").says(t, "it wants a client certificate: set client_cert_file and client_key_file")
			g.frame = whole
			g.configure(t, teamRules)
			asked(200, "")

			// The upstream's own has expired.
			old := ca.give("registry", expired)
			replaceFile(t, s.server.key, readFile(t, old.key))
			replaceFile(t, s.server.cert, readFile(t, old.cert))
			s.reload()
			asked(502, "its certificate expired on "+old.leaf.NotAfter.UTC().Format("2006-01-02 15:04")+" UTC: renew it there")
			elsewhere := ca.give("registry", func(c *x509.Certificate) { c.DNSNames = []string{"elsewhere.example"} })
			replaceFile(t, s.server.key, readFile(t, elsewhere.key))
			replaceFile(t, s.server.cert, readFile(t, elsewhere.cert))
			s.reload()
			asked(502, "its certificate is not for the name in url")
		})
	}
}

// tells is nil if /readyz says words of the upstream.
func (g *regward) tells(words string) error {
	r, err := http.Get(g.health + "/readyz")
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && !strings.Contains(string(body), words) {
		err = errors.New("/readyz: " + string(body))
	}
	return err
}
