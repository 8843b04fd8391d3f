package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// header is a PROXY header that names client, "" for nobody.
func header(t *testing.T, version byte, client string) string {
	t.Helper()
	h := &proxyproto.Header{Version: version, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	if client != "" {
		h = proxyproto.HeaderProxyFromAddrs(version, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client)), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443})
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fronting is a regward whose access log tells whom a request counted for.
func fronting(t *testing.T, more string) *running {
	t.Helper()
	return begin(t, strings.Replace(standard, `access: "off"`, "access: DIR/access.log", 1)+more, nil, nil)
}

// from asks over TLS from a local address, after the words before.
func (r *running) from(local, before string, header ...string) (*http.Response, error) {
	r.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: patience}
	raw, err := d.Dial("tcp", r.listeners.first.String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(raw, before); err != nil {
		return nil, err
	}
	c := raw
	if r.first.TLS.Mode != "off" {
		c = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	}
	req, err := http.NewRequest("GET", "https://localhost/v2/", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	if err := req.Write(c); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(c), req)
}

// counted is the address in the last line of the access log, once it has n.
func (r *running) counted(n int) string {
	r.t.Helper()
	var text string
	soon(r.t, fmt.Sprintf("%d requests are in the access log", n), func() bool {
		_ = r.logs.reopen() // writes what waits
		b, _ := os.ReadFile(filepath.Join(r.dir, "access.log"))
		text = string(b)
		return strings.Count(text, "\n") >= n
	})
	_, addr, _ := strings.Cut(text[strings.LastIndex(text, `"addr":"`):], `"addr":"`)
	addr, _, _ = strings.Cut(addr, `"`)
	return addr
}

func TestAPROXYHeaderNamesTheClient(t *testing.T) {
	r := fronting(t, "proxy_protocol: {from: 127.0.0.2}\ntrusted_proxies: [127.0.0.2, 10.0.0.7]\n")
	const forged = "192.0.2.66"
	for i, tt := range []struct {
		name, from, header string
		forwarded          []string
		want               string
	}{
		{"v1", "127.0.0.2", header(t, 1, "203.0.113.9:4000"), nil, "203.0.113.9"},
		{"v2", "127.0.0.2", header(t, 2, "203.0.113.9:4000"), nil, "203.0.113.9"},
		{"v2, IPv6", "127.0.0.2", "\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24" + strings.Repeat("\x20\x01\x0d\xb8\x00\x00\x00\x00", 4) + "\x01\xbb\x01\xbb", nil, "2001:db8::2001:db8:0:0"},
		{"v2, LOCAL", "127.0.0.2", header(t, 2, ""), nil, "127.0.0.2"},
		{"v1, UNKNOWN", "127.0.0.2", "PROXY UNKNOWN\r\n", nil, "127.0.0.2"},
		{"v2, a path on the proxy's machine", "127.0.0.2", "\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + strings.Repeat("/", 216), nil, "127.0.0.2"},
		{"v2 with more in it than anybody reads", "127.0.0.2", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x08\x0c\xcb\x00\x71\x09\x7f\x00\x00\x01\x0f\xa0\x01\xbb" + strings.Repeat("\x04\x02\x00", 1) + strings.Repeat("\x00", 2048-3), nil, "203.0.113.9"},
		{"somebody else", "127.0.0.1", "", nil, "127.0.0.1"},
		{"a client behind it forges", "127.0.0.2", header(t, 2, "203.0.113.9:4000"), []string{"X-Forwarded-For", forged}, "203.0.113.9"},
		{"somebody else forges", "127.0.0.1", "", []string{"X-Forwarded-For", forged}, "127.0.0.1"},
		{"a trusted proxy behind it", "127.0.0.2", header(t, 2, "10.0.0.7:4000"), []string{"X-Forwarded-For", forged + ", 198.51.100.4"}, "198.51.100.4"},
		{"it is one itself", "127.0.0.2", header(t, 2, ""), []string{"X-Forwarded-For", "198.51.100.4"}, "198.51.100.4"},
	} {
		res, err := r.from(tt.from, tt.header, tt.forwarded...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", tt.name, err, r.log)
		}
		if res.StatusCode != 401 {
			t.Errorf("%s: %s", tt.name, res.Status)
		}
		if got := r.counted(i + 1); got != tt.want {
			t.Errorf("%s: counts as %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestAPROXYHeaderIsAskedForAndRefused(t *testing.T) {
	r := fronting(t, "proxy_protocol: {from: 127.0.0.2}\n")
	for _, tt := range []struct{ name, from, header, words string }{
		{"none", "127.0.0.2", "", "no PROXY header came from 127.0.0.2, which is in proxy_protocol.from: connection closed"},
		{"a broken one", "127.0.0.2", "PROXY TCP4 here there 1 2\r\n", "the PROXY header from 127.0.0.2 (proxy_protocol.from) cannot be read"},
		{"a stranger's, v1", "127.0.0.1", header(t, 1, "203.0.113.9:4000"), "a PROXY header came from 127.0.0.1, which is not in proxy_protocol.from: connection closed"},
		{"a stranger's, v2", "127.0.0.1", header(t, 2, "203.0.113.9:4000"), "a PROXY header came from 127.0.0.1"},
		{"a stranger's, again", "127.0.0.1", header(t, 2, ""), "a PROXY header came from 127.0.0.1"},
	} {
		if res, err := r.from(tt.from, tt.header); err == nil {
			t.Errorf("%s: answered %s", tt.name, res.Status)
		}
		r.log.await(t, tt.words, 1)
	}
	if n := strings.Count(r.log.String(), "PROXY header"); n != 3 {
		t.Errorf("%d lines, want one of each kind:\n%s", n, r.log)
	}
	if res, err := r.from("127.0.0.1", ""); err != nil || res.StatusCode != 401 {
		t.Errorf("a stranger without a header: %v, %v", res, err)
	}
	// Other networks hold at once for new connections.
	r.edit("127.0.0.2", "127.0.0.1")
	if status, _ := r.reload(); status != 200 {
		t.Fatal(status)
	}
	if res, err := r.from("127.0.0.1", header(t, 2, "203.0.113.9:4000")); err != nil || res.StatusCode != 401 {
		t.Errorf("after the reload: %v, %v", res, err)
	}
	if res, err := r.from("127.0.0.2", ""); err != nil || res.StatusCode != 401 {
		t.Errorf("who need send none any more: %v, %v", res, err)
	}
	// What was said of others hides nobody's mistake.
	if res, err := r.from("127.0.0.2", header(t, 2, "203.0.113.9:4000")); err == nil {
		t.Errorf("a balancer that is not named any more: answered %s", res.Status)
	}
	r.log.await(t, "a PROXY header came from 127.0.0.2", 1)
}

func TestMistakesAroundPROXYHeadersDoNotFillTheLog(t *testing.T) {
	core, logged := observer.New(zap.WarnLevel)
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	w := &headerWords{log: zap.New(core), now: func() time.Time { return now }}
	at := &net.TCPAddr{Port: 443}
	peer := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
	for n := range 1000 {
		w.stranger(peer(n), at)
	}
	if n := logged.Len(); n != maxTold || len(w.told) != maxTold {
		t.Errorf("%d lines of %d peers, want %d", n, len(w.told), maxTold)
	}
	now = now.Add(headerTalk)
	logged.TakeAll()
	w.stranger(peer(2000), at)
	entries := logged.All()
	if len(entries) != 1 || entries[0].ContextMap()["more_since_last"] != int64(1000-maxTold) {
		t.Errorf("later: got %v", entries)
	}
	if len(w.told) != 1 {
		t.Errorf("%d peers are remembered, want 1", len(w.told))
	}
}

// Whoever connects through a unix socket is this machine, to proxy_protocol.from
// as well.
func TestAPROXYHeaderOverAUnixSocket(t *testing.T) {
	config := strings.Replace(standard, `listen: "127.0.0.1:0"`, "listen: unix:DIR/s", 1)
	config = strings.Replace(config, `access: "off"`, "access: DIR/access.log", 1)
	config = strings.Replace(config, "{mode: internal}", `{mode: "off"}`, 1)
	r := begin(t, config+"proxy_protocol: {from: 127.0.0.0/8}\n", nil, nil)
	for before, want := range map[string]string{header(t, 2, "203.0.113.9:4000"): "HTTP/1.0 401 Unauthorized", "": ""} {
		c, err := net.Dial("unix", filepath.Join(r.dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, before+"GET /v2/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
		answer, _ := io.ReadAll(c)
		c.Close()
		if line, _, _ := bytes.Cut(answer, []byte("\r\n")); string(line) != want {
			t.Errorf("after %q: %q, want %q", before, line, want)
		}
	}
	if got := r.counted(1); got != "203.0.113.9" {
		t.Errorf("counts as %s", got)
	}
}

// Who connects and says nothing, or says it slowly, keeps nobody else waiting
// and is cut off.
func TestASlowPROXYHeaderIsCutOff(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	from := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	l := &fronted{inner, func() []netip.Prefix { return from }, false, 300 * time.Millisecond, &headerWords{log: zap.NewNop(), now: time.Now}}
	dial := func() (client, server net.Conn) {
		t.Helper()
		client, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		server, err = l.Accept() // never waits: nothing has been sent
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		return client, server
	}
	_, silent := dial()
	slow, drip := dial()
	quick, good := dial()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for _, b := range []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c............") {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				if _, err := slow.Write([]byte{b}); err != nil {
					return
				}
			}
		}
	}()
	if _, err := io.WriteString(quick, header(t, 2, "203.0.113.9:4000")+"hello"); err != nil {
		t.Fatal(err)
	}
	if got := good.RemoteAddr().String(); got != "203.0.113.9:4000" {
		t.Errorf("the quick one is %s", got)
	}
	rest := make([]byte, 3)
	for _, want := range []string{"hel", "lo"} {
		if n, err := good.Read(rest); err != nil || string(rest[:n]) != want {
			t.Errorf("read %q, %v, want %q", rest[:n], err, want)
		}
	}
	for name, c := range map[string]net.Conn{"silent": silent, "slow": drip} {
		if _, err := c.Read(rest); err == nil {
			t.Errorf("the %s one is heard", name)
		}
		if _, err := c.Write(rest); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the %s one is not closed: %v", name, err)
		}
	}
}

// The plain listener takes the header that a balancer may send there, and does
// without.
func TestThePlainListenerTakesAPROXYHeader(t *testing.T) {
	config := strings.Replace(standard, "tls: {mode: internal}", `tls: {mode: internal, http_listen: "127.0.0.1:0"}`, 1)
	r := begin(t, config+"proxy_protocol: {from: 127.0.0.2}\n", nil, nil)
	plain := r.listeners.all[1].Addr().String()
	for _, tt := range []struct{ from, before, want string }{
		{"127.0.0.2", header(t, 1, "203.0.113.9:4000"), " 308 "},
		{"127.0.0.2", "", " 308 "},
		{"127.0.0.1", "", " 308 "},
		{"127.0.0.1", header(t, 1, "203.0.113.9:4000"), ""},
	} {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(tt.from)}}
		c, err := d.Dial("tcp", plain)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, tt.before+"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
		answer, _ := io.ReadAll(c)
		c.Close()
		line, _, _ := bytes.Cut(answer, []byte("\r\n"))
		if !strings.Contains(string(line), tt.want) || tt.want == "" && len(answer) > 0 {
			t.Errorf("%+v: %q", tt, line)
		}
	}
}

// What is below a PROXY header is looked at still: a client that leaves in the
// middle of a slow upload ends it, and one that takes nothing is given up.
func TestBehindAPROXYHeaderALeftClientIsNoticed(t *testing.T) {
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == "POST" {
			w.Header().Set("Location", "/v2/library/app/blobs/uploads/1")
		}
		w.WriteHeader(http.StatusAccepted)
	})
	config := standard + "proxy_protocol: {from: 127.0.0.2}\nlimits: [{name: line, count: bytes, rate: 1kB/s, per: ip}]\n"
	r := begin(t, config, upstream, nil)
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	raw, err := d.Dial("tcp", r.listeners.first.String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_, _ = io.WriteString(raw, header(t, 2, "203.0.113.9:4000"))
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	answers := bufio.NewReader(c)
	const login = "Host: localhost\r\nAuthorization: Basic YW5uOmFubi1zZWNyZXQ=\r\n"
	fmt.Fprint(c, "POST /v2/library/app/blobs/uploads/ HTTP/1.1\r\n"+login+"Content-Length: 0\r\n\r\n")
	started, err := http.ReadResponse(answers, nil)
	if err != nil || started.StatusCode != http.StatusAccepted {
		t.Fatalf("%v, %v", started, err)
	}
	to := started.Header.Get("Location")
	to = to[strings.Index(to, "/v2/"):]
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\n%sContent-Length: 400000\r\n\r\n%s", to, login, strings.Repeat("x", 60_000)) // a minute's worth
	soon(t, "the upload is on its way", func() bool { return r.metric("regward_requests_in_flight 1") })
	raw.Close()
	soon(t, "it is over", func() bool { return r.metric("regward_requests_in_flight 0") })
}
