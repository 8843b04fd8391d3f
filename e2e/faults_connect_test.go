package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deaf is an address that takes no connection and refuses none: packets to it
// are dropped, since its queue is full.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
	for { // until one more waits
		c, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
}

// acceptor does one thing to every connection.
func acceptor(t *testing.T, do func(net.Conn)) string {
	t.Helper()
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
			go do(c)
		}
	}()
	return l.Addr().String()
}

// What goes wrong before a request is sent: each is told as what it is, within
// connect_timeout, and one upstream's trouble is not another's.
func TestAnUpstreamThatCannotBeReachedIsTold(t *testing.T) {
	t.Parallel()
	slow := act{slow: true, say: answers()["chunks"], then: closes}
	good := startSaboteur(t, &tls.Config{Certificates: []tls.Certificate{suite.certs.pair}}, []act{slow})
	strange := httptest.NewTLSServer(http.NotFoundHandler()) // its certificate is nobody's
	t.Cleanup(strange.Close)
	hold := func(c net.Conn) { hangs.happen(c); c.Close() }
	names := []struct {
		name, url string
		status    int
		hangs     bool
	}{
		{"refused", fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), 502, false},
		{"deaf", "http://" + deaf(t), 504, true},
		{"no such name", "http://nowhere.invalid", 502, false},
		{"silent handshake", "https://" + acceptor(t, hold), 504, true},
		{"reset handshake", "https://" + acceptor(t, func(c net.Conn) { resets.happen(c); c.Close() }), 502, false},
		{"half a handshake", "https://" + acceptor(t, func(c net.Conn) { _, _ = c.Write([]byte("\x16\x03\x03\x00\x7a\x02\x00")); hold(c) }), 504, true},
		{"not encrypted", "https://" + acceptor(t, func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); c.Close() }), 502, false},
		{"strange certificate", strange.URL, 502, false},
		{"sabotage", good.url, 200, false},
	}
	upstreams := ""
	for _, n := range names {
		patience := "1m"
		if n.hangs {
			patience = upstreamPatience.String()
		}
		upstreams += fmt.Sprintf("\n  - {prefix: %s/, keep_prefix: true, url: %q, connect_timeout: %[3]s, header_timeout: %[3]s", strings.ReplaceAll(n.name, " ", "-"), n.url, patience)
		if strings.HasPrefix(n.url, "https:") {
			upstreams += fmt.Sprintf(", ca_file: %q", suite.certs.caFile)
		}
		upstreams += "}"
	}
	g := newRegward(t, upstreams)
	g.configure(t, faultRules)
	g.serve(t)
	ann := basicAuth("ann", passwords["ann"])
	var jobs []func()
	for _, c := range callersOf(g) {
		for _, n := range names {
			jobs = append(jobs, func() {
				began := time.Now()
				a, err := c.do(t.Context(), http.MethodGet, "/v2/"+strings.ReplaceAll(n.name, " ", "-")+"/0/manifests/latest", ann, nil)
				took := time.Since(began)
				if err != nil || a.status != n.status {
					t.Errorf("%s, %s: %d, %v: %s", n.name, c.name, a.status, err, a.text)
				}
				if n.status != 200 && !strings.Contains(a.text, `"UNAVAILABLE"`) {
					t.Errorf("%s, %s: no code of the specification: %s", n.name, c.name, a.text)
				}
				if n.status == 200 && a.digest != faultDigest {
					t.Errorf("%s: %d bytes of %s", c.name, a.size, a.digest)
				}
				if n.hangs && (took > upstreamPatience+faultSlack || took < upstreamPatience/2) {
					t.Errorf("%s, %s: given up after %v", n.name, c.name, took)
				}
			})
		}
	}
	atMost(len(jobs), jobs)

	// It goes away and comes back.
	c := newCaller(g, "HTTP/1.1", false)
	address := good.l.Addr().String()
	good.close()
	if a, err := c.do(t.Context(), http.MethodGet, "/v2/sabotage/0/manifests/latest", ann, nil); err != nil || a.status != 502 {
		t.Errorf("an upstream that has gone: %d, %v: %s", a.status, err, a.text)
	}
	good.open(t, address)
	if _, err := c.must(t.Context(), http.MethodGet, "/v2/sabotage/0/manifests/latest", ann, nil, 200); err != nil {
		t.Errorf("an upstream that is back: %v", err)
	}
}
