package e2e

import (
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// behindNginx is a registry with tokens behind an nginx as people set it up:
// right, until a test changes one line.
type behindNginx struct {
	program string // registry or docker-registry
	pair    [2]string
	realm   string            // scheme of the realm
	change  map[string]string // of the configuration: old line, new line
	port    int
}

// nginxConfig is right. DIR, PORT, CERT, KEY, REGISTRY and TOKENS are filled in.
const nginxConfig = `daemon off;
pid DIR/nginx.pid;
error_log DIR/error.log;
worker_processes 1;
USER
events {}
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
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0;
    location /v2/ {
      proxy_pass REGISTRY;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto https;
    }
    location /auth {
      proxy_pass TOKENS;
      proxy_set_header Host $http_host;
    }
  }
}
`

// start runs all of it and returns host:port.
func (b *behindNginx) start(t testing.TB) (host string) {
	t.Helper()
	dir := t.TempDir()
	b.port = freePort(t)
	host = fmt.Sprintf("localhost:%d", b.port)
	tokens := newIssuer(t, dir)
	service := httptest.NewServer(tokens)
	t.Cleanup(service.Close)
	if b.realm == "" {
		b.realm = "https"
	}
	if b.pair[0] == "" {
		b.pair = [2]string{suite.certs.certFile, suite.certs.keyFile}
	}
	u := &upstream{kind: kind{b.program, "token"}}
	registry := "http://" + runRegistry(t, u, dir, "http", fmt.Sprintf("auth: {token: {realm: %q, service: upstream, issuer: %q, rootcertbundle: %q}}\n",
		b.realm+"://"+host+"/auth", tokens.name, tokens.certFile))
	config := nginxConfig
	for from, to := range b.change {
		if !strings.Contains(config, from) {
			t.Fatalf("nginx's configuration has no line %q", from)
		}
		config = strings.ReplaceAll(config, from, to)
	}
	user := ""
	if os.Getuid() == 0 { // else it wants another user's right to DIR
		user = "user root;"
	}
	config = strings.NewReplacer("DIR", dir, "PORT", fmt.Sprint(b.port), "CERT", b.pair[0], "KEY", b.pair[1],
		"REGISTRY", registry, "TOKENS", service.URL, "USER", user).Replace(config)
	file := filepath.Join(dir, "nginx.conf")
	replaceFile(t, file, config)
	p := start(t, filepath.Join(dir, "nginx.log"), nil, mustProgram(t, "nginx"), "-p", dir, "-e", filepath.Join(dir, "error.log"), "-c", file)
	eventually(t, "nginx listens", 20*time.Second, func() error {
		if err := p.gone(); err != nil {
			return err
		}
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", b.port), time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
	return host
}

// One line is wrong, and doctor names it.
func TestDoctorFindsWhatIsWrongInNginx(t *testing.T) {
	t.Parallel()
	account := login{upstreamUser, upstreamPassword}
	// Another site in the same nginx, and what stands in for a registry that is
	// down.
	line := func(from, to string) map[string]string { return map[string]string{from: to} }
	const pass, host, proto = "proxy_pass REGISTRY;", "proxy_set_header Host $http_host;\n      proxy_set_header X", "proxy_set_header X-Forwarded-Proto https;"
	for _, tt := range []struct {
		name   string
		change map[string]string
		text   string
		want   []string
	}{
		{"nothing", nil, "nothing is stored", []string{}},
		{"X-Forwarded-Proto is missing", line(proto, ""), "proxy_set_header X-Forwarded-Proto https;", []string{"problem location"}},
		{"the port is lost", line(host, "proxy_set_header Host $host;\n      proxy_set_header X"), "proxy_set_header Host $http_host;", []string{"problem location"}},
		{"the name is lost", line(host, "proxy_set_header Host registry.internal;\n      proxy_set_header X"), "another host", []string{"problem location"}},
		{"bodies are limited", line("client_max_body_size 0;", "client_max_body_size 1m;"), "client_max_body_size 0;", []string{"problem body"}},
		{"bodies are stored first, and limited", map[string]string{"client_max_body_size 0;": "", "proxy_request_buffering off;": ""}, "client_max_body_size 0;", []string{"problem body"}},
		{"no chunked bodies", line(pass, "if ($http_transfer_encoding) { return 411; } proxy_pass REGISTRY;"), "Transfer-Encoding: chunked", []string{"problem body"}},
		{"Basic too", line(pass, `add_header WWW-Authenticate 'Basic realm="nginx"' always; proxy_pass REGISTRY;`), "Bearer and Basic at once", []string{"problem C02"}},
		{"challenge is hidden", line(pass, "proxy_hide_header WWW-Authenticate; proxy_pass REGISTRY;"), "401 without WWW-Authenticate", []string{"problem C01"}},
		{"Authorization is dropped", line(pass, `proxy_set_header Authorization ""; proxy_pass REGISTRY;`), "refuses the token", []string{"problem token"}},
		{"GET alone", line(pass, "limit_except GET { deny all; } proxy_pass REGISTRY;"), "limit_except", []string{"problem scope"}},
		{"no way to the realm", line("location /auth {", "location /elsewhere {"), "location /auth { proxy_pass", []string{"problem realm"}},
		{"a redirect", line(pass, "return 301 https://www.example$request_uri;"), "https://www.example/v2/", []string{"problem C16"}},
		{"the registry is down", line(pass, "proxy_pass http://127.0.0.1:1;"), "the registry behind it does not", []string{"problem answer"}},
		{"not for registries", line("location /v2/ {", "location /v3/ {"), "location /v2/ {", []string{"problem answer"}},
		{"a limit", line(pass, "return 429;"), "this is no login problem", []string{"problem rate"}},
		{"no TLS", map[string]string{" ssl;": ";", "ssl_certificate CERT;": "", "ssl_certificate_key KEY;": ""}, "speaks plain HTTP, not TLS", []string{"problem port"}},
		{"old TLS", line("ssl_protocols TLSv1.2 TLSv1.3;", "ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;"), "ssl_protocols TLSv1.2 TLSv1.3;", []string{"problem tls"}},
		{"no certificate for the name", line("ssl_certificate CERT;", "ssl_certificate CERT; ssl_reject_handshake on;"), "server_name localhost;", []string{"problem name"}},
		{"client certificates", line("ssl_protocols", "ssl_verify_client on; ssl_client_certificate CERT; ssl_protocols"), "insists on a client certificate", []string{"problem client-certificate"}},
		{"CORS is nobody's business", line(pass, "add_header Access-Control-Allow-Origin https://pages.example always; proxy_pass REGISTRY;"), "open to web pages", []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := &behindNginx{program: "registry", change: tt.change}
			doctor(t, b.start(t), account, "--ca-file", suite.certs.caFile, "--repository", "coolteam/app").is(t, tt.text, tt.want...)
		})
	}
}

// The older registry, which most people have, makes the same mistakes.
func TestDoctorBeforeTheOlderRegistry(t *testing.T) {
	t.Parallel()
	account := login{upstreamUser, upstreamPassword}
	args := []string{"--ca-file", suite.certs.caFile, "--repository", "coolteam/app"}
	right := &behindNginx{program: "docker-registry"}
	doctor(t, right.start(t), account, args...).is(t, "nothing is stored")
	astray := &behindNginx{program: "docker-registry", change: map[string]string{"proxy_set_header X-Forwarded-Proto https;": ""}}
	doctor(t, astray.start(t), account, args...).is(t, "X-Forwarded-Proto https", "problem location")
}

// A realm of distribution's own that is http gets no password.
func TestDoctorBeforeARealmThatIsHTTP(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"registry", "docker-registry"} {
		b := &behindNginx{program: program, realm: "http"}
		doctor(t, b.start(t), login{upstreamUser, upstreamPassword}, "--ca-file", suite.certs.caFile, "--repository", "coolteam/app").
			is(t, "the realm is no URL that a credential may be sent to", "problem C05")
	}
}

// Certificates are wrong in one way each.
func TestDoctorLooksAtCertificates(t *testing.T) {
	t.Parallel()
	account := login{upstreamUser, upstreamPassword}
	for _, tt := range []struct {
		name  string
		chain madeChain
		text  string
		want  []string
	}{
		{"right", madeChain{}, "nothing is stored", []string{}},
		{"expired", madeChain{ends: -time.Hour}, "expired on", []string{"problem expiry"}},
		{"soon", madeChain{ends: 50 * time.Hour}, "expires in 2 days", []string{"warning expiry"}},
		{"another name", madeChain{name: "other.example"}, "not for localhost", []string{"problem name"}},
		{"common name only", madeChain{name: "-"}, "only the common name", []string{"problem name"}},
		{"no intermediate", madeChain{send: []int{0}}, "an intermediate certificate is missing", []string{"problem chain"}},
		{"wrong order", madeChain{send: []int{0, 2, 1}}, "wrong order", []string{"warning chain"}},
		{"self-signed", madeChain{alone: true}, "self-signed", []string{"problem chain"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ca, pair := tt.chain.write(t)
			b := &behindNginx{program: "registry", pair: pair}
			host := b.start(t)
			doctor(t, host, account, "--ca-file", ca, "--repository", "coolteam/app").is(t, tt.text, tt.want...)
		})
	}
}
