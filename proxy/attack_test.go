package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/regward/regward/auth"
)

// dial is a bare connection to the gate, TLS done.
func (g *gate) dial(protocol string) *tls.Conn {
	g.Helper()
	c, err := tls.Dial("tcp", g.srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// panicky stands for a response whose handler has returned: net/http's own
// panics then, in HTTP/2.
type panicky struct{ http.ResponseWriter }

func (panicky) SetReadDeadline(time.Time) error { panic("the request is over") }

// The upstream may answer while the client still sends: what becomes of the
// body after that must touch nothing of the request that is over.
func TestNoDeadlineOfARequestThatIsOver(t *testing.T) {
	r, w := io.Pipe()
	req, _ := http.NewRequest("PUT", "https://x/", r)
	x := &exchange{h: &Handler{}, r: req, s: &Snapshot{}, w: panicky{}}
	x.h.snapshot.Store(x.s)
	body := newClientBody(x)
	body.next = time.Now().Add(time.Hour)
	go func() { _, _ = w.Write([]byte("begun")) }()
	if _, err := io.ReadFull(body, make([]byte, len("begun"))); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := body.Read(make([]byte, 1))
		done <- err
	}()
	body.end()
	w.Close()
	if err := <-done; err == nil || err == io.EOF {
		t.Errorf("a body that ends too late: got %v", err)
	}
	if _, err := body.Read(make([]byte, 1)); err == nil {
		t.Error("a body of a request that is over can be read")
	}
	if x.in != int64(len("begun")) {
		t.Errorf("%d bytes counted", x.in)
	}
}

// A body that no route takes must not hold the answer back, nor the
// connection: nobody waits for its bytes.
func TestNobodyWaitsForABodyThatIsNotTaken(t *testing.T) {
	g := newGate(t, usual)
	token := g.token("", pulls("library/alpine"))
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, head := range []string{
		"OPTIONS /v2/ HTTP/1.1\r\nHost: " + gateHost,
		"OPTIONS /token HTTP/1.1\r\nHost: " + gateHost,
		"GET / HTTP/1.1\r\nHost: " + gateHost,
		"GET /token HTTP/1.1\r\nHost: " + gateHost,
		"GET /v2/ HTTP/1.1\r\nHost: " + gateHost + "\r\nAuthorization: Bearer " + token,
		"GET /v2/library/alpine/manifests/latest HTTP/1.1\r\nHost: " + gateHost + "\r\nAuthorization: Bearer " + token,
	} {
		for _, framing := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
			c := g.dial("http/1.1")
			wg.Go(func() { nobodyWaits(t, c, head, framing) })
		}
	}
}

func nobodyWaits(t *testing.T, c net.Conn, head, framing string) {
	_ = c.SetDeadline(time.Now().Add(3 * drainTime))
	fmt.Fprintf(c, "%s\r\n%s\r\n\r\n", head, framing)
	began := time.Now()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("%.30q, %s: no answer: %v", head, framing, err)
		return
	}
	if took := time.Since(began); took > drainTime/2 {
		t.Errorf("%.30q, %s: answered after %v", head, framing, took)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("%.30q, %s: the connection stays: %v", head, framing, err)
	}
}

// A client of HTTP/2 that opens no window is given up, however small the answer.
func TestAWindowThatNeverOpens(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.IdleTimeout = 300 * time.Millisecond })
	c := g.dial("h2")
	_, _ = io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", gateHost}, {":path", "/v2/"}} {
		_ = enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("the stream is still open: %v", err)
		}
		switch fr := frame.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.RSTStreamFrame:
			return
		}
	}
}

// What is remembered of a refusal must not keep alive what it was cut from.
func TestARememberedRefusalKeepsNoMoreThanItSays(t *testing.T) {
	agent := strings.Repeat("a", 40<<10)
	req, _ := http.NewRequest("GET", "https://x/", nil)
	req.Header.Set("User-Agent", agent)
	target := "/v2/library/alpine/manifests/latest?x=" + strings.Repeat("q", 4<<10)
	repository, reference := target[4:18], target[29:35]
	h := New(Options{})
	x := &exchange{h: h, r: req, s: &Snapshot{}, site: &site{name: gateHost}, refusal: refuse(401, "DENIED", "no"),
		req: Request{Kind: KindManifest, Repository: repository, Reference: reference}, repo: auth.Access{Repository: repository}}
	x.remember()
	r := h.Refusals(RefusalQuery{})[0]
	for what, pair := range map[string][2]string{
		"user agent": {r.UserAgent, agent}, "repository": {r.Repository, repository}, "reference": {r.Reference, reference},
	} {
		if !strings.HasPrefix(pair[1], pair[0]) || pair[0] == "" {
			t.Errorf("%s: %q", what, pair[0])
		}
		if unsafe.StringData(pair[0]) == unsafe.StringData(pair[1]) {
			t.Errorf("%s: it is a part of what the client sent, and keeps all of that", what)
		}
	}
}

// An escaped percent sign is one, not half an escape of the next reader's.
func TestNothingIsUnescapedTwice(t *testing.T) {
	g := newGate(t, usual)
	token := g.as("", pulls("library/alpine"))
	for _, path := range []string{
		"/v2/library/alpine/manifests/" + strings.Replace(imageDigest, ":", "%253A", 1),
		"/v2/library/alpine/blobs/" + strings.Replace(layerDigest, ":", "%253a", 1),
	} {
		g.get(path, token).want(t, 400)
	}
	g.up.none(t)
}

// However long the names are that a catalog hides, its next page can be asked for.
func TestACatalogGoesOnBehindLongNames(t *testing.T) {
	g := newGate(t, usual)
	g.up.mu.Lock()
	g.up.repositories = nil
	for i := range 3 * maxCatalogPages {
		g.up.repositories = append(g.up.repositories, fmt.Sprintf("a%02d", i)+strings.Repeat("x", 250))
	}
	g.up.repositories = append(g.up.repositories, "library/alpine")
	g.up.mu.Unlock()
	token := g.as("", "registry:catalog:*")
	first := g.get("/v2/_catalog", token).want(t, 200)
	next, _, ok := strings.Cut(strings.TrimPrefix(first.Header.Get("Link"), "<"), ">")
	if !ok {
		t.Fatalf("no next page: %s", first.body)
	}
	second := g.get(next, token).want(t, 200)
	if !strings.Contains(string(second.body), "library/alpine") {
		t.Errorf("got %s", second.body)
	}
}
