package e2e

import (
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Let's Encrypt, under its own name, is a pebble: it connects to the ports that
// the world's CA connects to, and its directory is where theirs is.
func (w *world) letsEncrypt(t *testing.T, at, directory string, o caOptions) *pebble {
	t.Helper()
	ca := startPebble(t, o)
	target, err := url.Parse("https://" + ca.line.at)
	if err != nil {
		t.Fatal(err)
	}
	w.serve(t, at, &httputil.ReverseProxy{
		Transport: newTransport(),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // its URLs begin with it
			if r.In.URL.Path == directory {
				r.Out.URL.Path = "/dir"
			}
		},
	})
	root, err := ca.root()
	if err != nil {
		t.Fatal(err)
	}
	w.trust(t, root)
	return ca
}

func TestExampleACME(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		ca := w.letsEncrypt(t, "acme-v02.api.letsencrypt.org:443", "/directory", caOptions{http: 80, tls: 443, place: "192.0.2.11"})
		g := w.example(t, "acme.yaml", "registry.example.com")
		everybodyPullsAndPeoplePush(t, g)
		if err := g.proc.stop(); err != nil {
			t.Fatal(err)
		}
		ca.line.cut() // what is stored is enough
		g.serve(t)
		everybodyPullsAndPeoplePush(t, g)
		if n := ca.orders(); n != 1 {
			t.Errorf("%d orders for one certificate", n)
		}
	})
}

// The CA of a company, and its name server: neither connects to regward.
func TestExampleACMEDNS(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		const names = "198.51.100.24:53"
		w.do(func() { startNamedFor(t, "example.com", names) })
		w.letsEncrypt(t, "ca.example.com:443", "/directory", caOptions{dns: names})
		replaceFile(t, "/etc/regward/ca.pem", readFile(t, suite.certs.caFile))
		g := w.example(t, "acme-dns.yaml", "registry.example.com", "TSIG_SECRET="+tsig)
		everybodyPullsAndPeoplePush(t, g)
	})
}

func TestExampleClientCertificates(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		runners := newIDCards(t, "runners")
		replaceFile(t, "/etc/regward/clients-ca.pem", readFile(t, runners.caFile))
		replaceFile(t, "/etc/regward/clients.crl", runners.list())
		g := w.example(t, "client-certificates.yaml", "registry.example.com")
		everybodyPullsAndPeoplePush(t, g)
		named := func(path string) func(*x509.Certificate) {
			return func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "example.com", Path: path}} }
		}
		one, other := runners.give("", named("/ci/runner-1")), runners.give("", named("/ci/runner-9"))
		const start = "/v2/build/app/blobs/uploads/"
		g.shows(t, one)
		g.send(t, http.MethodPost, start, "", nil).is(t, http.StatusAccepted)
		token := g.token(t, "", "repository:build/app:pull,push")
		g.send(t, http.MethodPost, start, token, nil).is(t, http.StatusAccepted)
		g.shows(t, other) // of the same CA, and in no group
		g.send(t, http.MethodPost, start, "", nil).is(t, http.StatusUnauthorized)
		replaceFile(t, "/etc/regward/clients.crl", runners.list(one))
		g.cli(t, "reload").works(t)
		g.shows(t, one)
		g.send(t, http.MethodPost, start, token, nil).is(t, http.StatusUnauthorized)
	})
}

// With deploy/nginx.conf in front: nginx is what is trusted, and whoever passes
// it by is refused.
func TestExampleBehindNginx(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		g := w.example(t, "behind-nginx.yaml", "registry.example.com")
		p := startFrontNginx(t, deployed(t, "nginx.conf", "/etc/nginx/registry.crt", suite.certs.certFile, "/etc/nginx/registry.key", suite.certs.keyFile,
			"http://127.0.0.1:8080", "http://192.0.2.11:8080"))
		eventually(t, "nginx answers", 30*time.Second, func() error {
			if err := p.gone(); err != nil {
				return err
			}
			return dials("192.0.2.11:443")
		})
		everybodyPullsAndPeoplePush(t, g)
		from := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5)}}).DialContext}
		r, err := http.NewRequest(http.MethodGet, "http://registry.example.com:8080/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", "192.0.2.77")
		res, err := from.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("who passes nginx by is answered %s", res.Status)
		}
	})
}

// everybodyPullsAndPeoplePush is what most of the examples are for.
func everybodyPullsAndPeoplePush(t *testing.T, g *regward) {
	t.Helper()
	for _, kind := range []string{"docker", "crane"} {
		k := kindNamed(kind).new(t, g.host)
		own := g.host + "/team/from-" + kind + ":1"
		k.pull(t, g.host+"/library/hello:1").works(t)
		k.pull(t, own).fails(t, "not logged in")
		k.login(t, "bob", passwords["bob"]).works(t)
		k.push(t, own, small(t)).works(t)
		k.pull(t, own).works(t)
	}
	if said := g.proc.output(); strings.Contains(said, "panic") {
		t.Error(tail(said, 40))
	}
}
