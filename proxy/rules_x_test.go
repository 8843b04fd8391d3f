package proxy

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestX05_NobodyIsRefusedForLackOfACertificate(t *testing.T) {
	// One that is missing is no reason, and never a broken handshake.
	g := newCertGate(t, usual, newIDCard(t, "people").believes)
	g.both(func(c *http.Client, version string) {
		a := g.with(c, "GET", "/v2/coolteam/app/manifests/latest", g.as("ann", pulls("coolteam/app"))).want(t, 200)
		if a.TLS == nil || len(a.TLS.PeerCertificates) == 0 {
			t.Errorf("%s: no TLS", version)
		}
	})
}

func TestX06_AnotherAuthorityIsMisdirected(t *testing.T) {
	g := newGate(t, "allow everyone ** *", func(s *Settings) { s.Hostnames = []string{gateHost, "mirror.acme.example"} })
	g.both(func(c *http.Client, version string) {
		for host, status := range map[string]int{gateHost: 401, "mirror.acme.example": 401, "example.com": 421, "127.0.0.1": 421, "localhost": 421, "evil.docker.acme.example": 421} {
			for _, target := range []string{"/v2/", "/v2/library/alpine/manifests/latest"} {
				a := g.with(c, "GET", target, func(r *http.Request) { r.Host = host }).want(t, status)
				if status == 421 && a.Header.Get("WWW-Authenticate") != "" {
					t.Errorf("%s %s: a challenge for a name that is not ours", version, host)
				}
			}
			if status == 421 {
				for _, target := range []string{"/token", "/"} {
					g.with(c, "GET", target, func(r *http.Request) { r.Host = host }, who("ann")).want(t, 421)
				}
			}
		}
	})
	g.up.none(t)
	if log, want := g.access.String(), `host \"evil.docker.acme.example\" is not in hostname`; !strings.Contains(log, want) {
		t.Errorf("the log does not say %s", want)
	}
}

func TestX07_BehindAProxyThatEndedTLS(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	g := newGate(t, usual, func(s *Settings) { s.OnlyProxy, s.Proxies = true, proxies })
	plain := func(remote string, options ...option) *recorder {
		r := g.request("GET", "/v2/", options...)
		r.Host, r.RequestURI, r.RemoteAddr = gateHost, "/v2/", remote
		r.URL.Scheme, r.URL.Host = "", ""
		w := &recorder{header: http.Header{}}
		g.ServeHTTP(w, r)
		return w
	}
	for remote, status := range map[string]int{"10.1.2.3:4000": 401, "127.0.0.1:4000": 401, "192.0.2.7:4000": 403, "[2001:db8::1]:4000": 403} {
		w := plain(remote)
		if w.status != status {
			t.Errorf("from %s: %d, want %d", remote, w.status, status)
		}
		if want := "neither in trusted_proxies nor in proxy_protocol.from"; status == 403 && !strings.Contains(g.access.String(), want) {
			t.Errorf("the log does not say %s", want)
		}
		if status == 401 {
			// The realm stays https whatever the proxy speaks to us.
			a := reply{Response: &http.Response{Header: w.header, Request: g.request("GET", "/v2/")}}
			if got := a.challenged(t)["realm"]; got != "https://"+gateHost+"/token" {
				t.Errorf("realm %q", got)
			}
		}
	}
	// With a PROXY header the request counts for whom that names; who may speak
	// without TLS, the socket says, and no word of a stranger's.
	g.settings.Senders = []netip.Prefix{netip.MustParsePrefix("198.51.100.5/32")}
	g.swap(g.settings)
	for _, tt := range []struct {
		peer, named string
		status      int
	}{
		{"198.51.100.5:9", "192.0.2.7:4000", 401},
		{"192.0.2.7:9", "127.0.0.1:4000", 403},
		{"192.0.2.7:9", "10.1.2.3:4000", 403},
		{"192.0.2.7:9", "198.51.100.5:4000", 403},
		{"[::ffff:10.1.2.3]:9", "192.0.2.7:4000", 401},
	} {
		w := plain(tt.named, func(r *http.Request) {
			*r = *r.WithContext(WithConn(r.Context(), wrapped{peerConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tt.peer))}}))
		})
		if w.status != tt.status {
			t.Errorf("%s, which says it speaks for %s: %d, want %d", tt.peer, tt.named, w.status, tt.status)
		}
	}
	if w := plain("@", func(r *http.Request) {
		*r = *r.WithContext(WithConn(r.Context(), peerConn{addr: &net.UnixAddr{Net: "unix", Name: "@"}}))
	}); w.status != 401 {
		t.Errorf("over a unix socket: %d", w.status)
	}
	// A stranger's password is not even looked at.
	if w := plain("192.0.2.7:4000", who("ann")); w.status != 403 {
		t.Errorf("with a password: %d", w.status)
	}
}

// peerConn is a connection of which only the other end is known, and wrapped one
// with something on it.
type peerConn struct {
	net.Conn
	addr net.Addr
}

func (c peerConn) RemoteAddr() net.Addr { return c.addr }

type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

// recorder is a ResponseWriter that keeps status and header.
type recorder struct {
	header http.Header
	status int
	n      int
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) Write(p []byte) (int, error) { w.n += len(p); return len(p), nil }
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}
