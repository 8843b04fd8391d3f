package trust

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func hostOf(t testing.TB, rawURL string) Host {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return mustHost(t, u.Host)
}

func startTLS(t testing.TB, c *tls.Config, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = c
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// Whatever a host answers afterwards, it has shown its certificates.
func TestFetchShowsTheChain(t *testing.T) {
	for name, c := range map[string]*tls.Config{
		"any": {}, "client certificate wanted": {ClientAuth: tls.RequireAnyClientCert}, "only TLS 1.2": {MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert},
	} {
		s := startTLS(t, c, http.NotFound)
		got, err := Fetch(t.Context(), hostOf(t, s.URL), nil)
		if err != nil || len(got.Chain) != 1 || !got.Chain[0].Equal(s.Certificate()) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestFetchBoundsTheChain(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	root := makeCA(t, "root", nil)
	leaf := makeLeaf(t, root, "127.0.0.1")
	pair := tls.Certificate{PrivateKey: leaf.key, Certificate: [][]byte{leaf.Raw}}
	for range 2 * maxChain {
		pair.Certificate = append(pair.Certificate, root.Raw)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.StartTLS()
	defer s.Close()
	got, err := Fetch(t.Context(), hostOf(t, s.URL), nil)
	if err != nil || len(got.Chain) != maxChain {
		t.Errorf("%v; %d certificates, want %d", err, len(got.Chain), maxChain)
	}
}

func TestFetchSaysWhyThereAreNone(t *testing.T) {
	plainHTTP := httptest.NewServer(http.NotFoundHandler())
	defer plainHTTP.Close()
	listen := func(each func(net.Conn)) Host {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				each(c)
			}
		}()
		return mustHost(t, l.Addr().String())
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	silent := listen(func(c net.Conn) { t.Cleanup(func() { c.Close() }) })
	ssh := listen(func(c net.Conn) { io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n"); t.Cleanup(func() { c.Close() }) })
	shut := listen(func(c net.Conn) { c.Close() })
	picky := startTLS(t, &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, errors.New("not with you")
	}}, http.NotFound)

	for _, tt := range []struct {
		host Host
		want string
	}{
		{hostOf(t, plainHTTP.URL), "plain HTTP"},
		{mustHost(t, closed.Addr().String()), "nobody listens"},
		{mustHost(t, "no-such-host.invalid"), "no-such-host.invalid"},
		{silent, "in time"},
		{ssh, "does not speak TLS"},
		{shut, "no certificate"},
		{hostOf(t, picky.URL), "refuses the connection"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		_, err := Fetch(ctx, tt.host, nil)
		cancel()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.host, err, tt.want)
		}
	}
	if _, err := Fetch(t.Context(), hostOf(t, plainHTTP.URL), nil); !errors.Is(err, ErrPlainHTTP) {
		t.Errorf("%v is not ErrPlainHTTP", err)
	}
}

// A registry behind a proxy is asked through it, and the proxy's password stays
// where it is.
func TestFetchGoesThroughTheProxy(t *testing.T) {
	registry := startTLS(t, &tls.Config{}, http.NotFound)
	var asked string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Host
		if r.Method != http.MethodConnect {
			http.Error(w, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		there, err := net.Dial("tcp", registry.Listener.Addr().String())
		if err != nil {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { defer there.Close(); io.Copy(there, here) }()
		go func() { defer here.Close(); io.Copy(here, there) }()
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword("me", "proxy-secret")
	got, err := Fetch(t.Context(), mustHost(t, "registry.example.com"), http.ProxyURL(at))
	if err != nil || !got.Chain[0].Equal(registry.Certificate()) || got.Proxy != at.Host || asked != "registry.example.com:443" {
		t.Errorf("%+v, %v, asked for %q", got, err, asked)
	}
	proxy.Close()
	if _, err := Fetch(t.Context(), mustHost(t, "registry.example.com"), http.ProxyURL(at)); err == nil ||
		!strings.Contains(err.Error(), at.Host) || strings.Contains(err.Error(), "proxy-secret") {
		t.Errorf("%v", err)
	}
}
