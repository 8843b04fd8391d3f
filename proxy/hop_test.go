package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// netHop is net/http's Transport as a hop: what the wire is measured against.
type netHop struct {
	scheme, addr string
	transport    *http.Transport
}

func (h netHop) close() { h.transport.CloseIdleConnections() }

func (h netHop) roundTrip(ctx context.Context, r *hopRequest) (*http.Response, error) {
	u, err := url.ParseRequestURI(r.target)
	if err != nil {
		return nil, err
	}
	u.Scheme, u.Host = h.scheme, h.addr
	header := r.header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	for _, f := range r.own[:r.owned] {
		if f.value != "" {
			header[f.name] = []string{f.value}
		}
	}
	if _, has := header["User-Agent"]; !has {
		header["User-Agent"] = []string{""}
	}
	q := (&http.Request{Method: r.method, URL: u, Host: r.host, Header: header, ContentLength: r.length}).WithContext(ctx)
	if r.body == nil {
		q.Body = http.NoBody
	} else {
		q.Body = io.NopCloser(sourceReader{r.body})
	}
	resp, err := h.transport.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	resp.Request = nil
	return resp, nil
}

// hops are both hops to one upstream.
func hops(t testing.TB, u *Upstream) map[string]hop {
	t.Helper()
	config := u.own.TLSClientConfig
	h := map[string]hop{"wire": newWire(u, config), "net/http": netHop{u.scheme, u.host, u.transport(config.Clone(), u.connect)}}
	t.Cleanup(func() {
		for _, h := range h {
			h.close()
		}
	})
	return h
}

// testUpstream is an Upstream at a URL, with short patience.
func testUpstream(t testing.TB, at string, change ...func(*UpstreamSettings, *UpstreamOptions)) *Upstream {
	t.Helper()
	base, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	s := UpstreamSettings{Name: "test", URL: base, Follow: true,
		ConnectTimeout: 5 * time.Second, HeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second}
	var o UpstreamOptions
	for _, f := range change {
		f(&s, &o)
	}
	u, err := NewUpstream(s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// rawUpstream answers each request by a function that has the connection. The
// request's body has not been read.
func rawUpstream(t testing.TB, serve func(c net.Conn, r *http.Request)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = c.Close() }()
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				br := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					serve(c, r)
					if _, err := c.Write(nil); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); cancel(); all.Wait() })
	return "http://" + l.Addr().String()
}

func say(c net.Conn, s string) { _, _ = io.WriteString(c, s) }

// hangUp ends a connection without a word, reset cuts it, hang keeps it open
// until the other side has had enough.
func hangUp(c net.Conn) { _ = c.Close() }
func reset(c net.Conn)  { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() }
func hang(c net.Conn)   { _, _ = io.Copy(io.Discard, c) }

func get(target string) *hopRequest {
	return &hopRequest{method: "GET", target: target, host: "registry.test", headerTimeout: time.Second}
}

func TestHopBringsAnswersWhole(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 1<<16)
	type seen struct {
		Method, Target, Host, Length, Body string
		Encoding                           []string
		Header                             http.Header
	}
	var mu sync.Mutex
	var last seen
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h := r.Header.Clone()
		length := h.Get("Content-Length")
		h.Del("Content-Length")
		mu.Lock()
		last = seen{r.Method, r.RequestURI, r.Host, length, string(body), r.TransferEncoding, h}
		mu.Unlock()
		switch r.URL.Path {
		case "/big":
			w.Header().Set("Content-Length", fmt.Sprint(len(big)))
			_, _ = io.WriteString(w, big)
		case "/chunks":
			for i := 0; i < len(big); i += 50_000 {
				_, _ = io.WriteString(w, big[i:min(len(big), i+50_000)])
				w.(http.Flusher).Flush()
			}
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/same":
			w.WriteHeader(http.StatusNotModified)
		case "/interim":
			w.Header().Set("Link", "</x>")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "late")
		default:
			w.Header().Set("X-Path", r.URL.Path)
			_, _ = io.WriteString(w, "small")
		}
	}))
	t.Cleanup(s.Close)

	accept := http.Header{"Accept": {"b", "a, c"}, "Range": {"bytes=1-"}}
	tests := []struct {
		name string
		r    hopRequest
		body string
		want seen
	}{
		{"small", hopRequest{method: "GET", target: "/v2/a/manifests/b?x=%3A", header: accept}, "small",
			seen{Method: "GET", Target: "/v2/a/manifests/b?x=%3A", Header: accept}},
		{"head", hopRequest{method: "HEAD", target: "/big"}, "", seen{Method: "HEAD", Target: "/big"}},
		{"large", hopRequest{method: "GET", target: "/big"}, big, seen{Method: "GET", Target: "/big"}},
		{"chunked", hopRequest{method: "GET", target: "/chunks"}, big, seen{Method: "GET", Target: "/chunks"}},
		{"204", hopRequest{method: "DELETE", target: "/none"}, "", seen{Method: "DELETE", Target: "/none"}},
		{"304", hopRequest{method: "GET", target: "/same"}, "", seen{Method: "GET", Target: "/same"}},
		{"103 first", hopRequest{method: "GET", target: "/interim"}, "late", seen{Method: "GET", Target: "/interim"}},
		{"H03 empty POST", hopRequest{method: "POST", target: "/p"}, "small", seen{Method: "POST", Target: "/p", Length: "0"}},
		{"H02 known length", hopRequest{method: "PUT", target: "/p", body: strings.NewReader(big), length: int64(len(big))}, "small",
			seen{Method: "PUT", Target: "/p", Length: fmt.Sprint(len(big)), Body: big}},
		{"H02 chunks stay chunks", hopRequest{method: "PATCH", target: "/p", body: strings.NewReader(big), length: -1}, "small",
			seen{Method: "PATCH", Target: "/p", Body: big, Encoding: []string{"chunked"}}},
		{"empty chunks", hopRequest{method: "PATCH", target: "/p", body: strings.NewReader(""), length: -1}, "small",
			seen{Method: "PATCH", Target: "/p", Encoding: []string{"chunked"}}},
	}
	for name, h := range hops(t, testUpstream(t, s.URL)) {
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				for range 2 { // the second time on the same connection
					r := tt.r
					r.host, r.headerTimeout = "registry.test:5000", 5*time.Second
					r.set("Authorization", "Basic x")
					if seeker, ok := r.body.(io.Seeker); ok {
						_, _ = seeker.Seek(0, io.SeekStart)
					}
					resp, err := h.roundTrip(t.Context(), &r)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if err != nil || string(body) != tt.body {
						t.Fatalf("body of %d bytes, %v; want %d", len(body), err, len(tt.body))
					}
					if err := resp.Body.Close(); err != nil {
						t.Fatal(err)
					}
					want := tt.want
					want.Host = "registry.test:5000"
					want.Header = want.Header.Clone()
					if want.Header == nil {
						want.Header = http.Header{}
					}
					want.Header.Set("Authorization", "Basic x")
					mu.Lock()
					got := last
					mu.Unlock()
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("upstream saw (-want +got):\n%s", d)
					}
				}
				if w, ok := h.(*wire); ok && len(w.idle) != 1 {
					t.Errorf("%d idle connections, want the one that was used twice", len(w.idle))
				}
			})
		}
	}
}

// Faults of an upstream: what it says to a GET before it does something bad.
var faults = []struct {
	name string
	say  string
	then func(net.Conn)
}{
	{"nothing, closed", "", hangUp},
	{"nothing, reset", "", reset},
	{"nothing, hung", "", hang},
	{"half a status line", "HTTP/1.1 2", hangUp},
	{"half a status line, hung", "HTTP/1.1 2", hang},
	{"status line only", "HTTP/1.1 200 OK\r\n", hangUp},
	{"half a header", "HTTP/1.1 200 OK\r\nContent-Le", hangUp},
	{"half a header, reset", "HTTP/1.1 200 OK\r\nContent-Le", reset},
	{"half a header, hung", "HTTP/1.1 200 OK\r\nContent-Le", hang},
	{"header without an end, hung", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", hang},
	{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 100) + "\r\n", hang},
	{"endless line", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("b", 100_000), hang},
	{"no HTTP", "SSH-2.0-OpenSSH_9.8\r\n\r\n", hang},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", hang},
	{"HTTP/3 status line", "HTTP/3.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", hang},
	{"status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello", hang},
	{"status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello", hang},
	{"status of letters", "HTTP/1.1 abc OK\r\nContent-Length: 5\r\n\r\nhello", hang},
	{"negative status", "HTTP/1.1 -20 OK\r\nContent-Length: 5\r\n\r\nhello", hang},
	{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello", hang},
	{"endless 100", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20), hang},
	{"line without colon", "HTTP/1.1 200 OK\r\nhello\r\nContent-Length: 5\r\n\r\nhello", hang},
	{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", hang},
	{"empty name", "HTTP/1.1 200 OK\r\n: x\r\nContent-Length: 5\r\n\r\nhello", hang},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\nhello", hang},
	{"two lengths in a line", "HTTP/1.1 200 OK\r\nContent-Length: 5, 3\r\n\r\nhello", hang},
	{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n", hang},
	{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", hang},
	{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nhello", hang},
	{"hex length", "HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nhello", hang},
	{"empty length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nhello", hangUp},
	{"length beyond numbers", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello", hang},
	{"no length at all", "HTTP/1.1 200 OK\r\n\r\nhel", hangUp},
	{"no length, HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhel", hangUp},
	{"unknown encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", hang},
	{"two encodings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", hang},
	{"two encoding lines", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n", hang},
	{"chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n", hangUp},
	{"short body, closed", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", hangUp},
	{"short body, reset", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", reset},
	{"short body, hung", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", hang},
	{"no body, closed", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", hangUp},
	{"chunks without an end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", hangUp},
	{"chunks without an end, hung", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", hang},
	{"chunks without the last line", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n", hangUp},
	{"half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", hangUp},
	{"half a chunk, reset", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", reset},
	{"size that is no number", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", hang},
	{"size beyond numbers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n", hang},
	{"chunk longer than it says", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", hang},
	{"chunk line ends in LF", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nhel\r\n0\r\n\r\n", hang},
	{"endless trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n" + strings.Repeat("A: b\r\n", 5000), hang},
}

// The promise of G6: whatever the upstream does, half an answer never looks
// like a whole one.
func TestG6_NoFaultLooksLikeSuccess(t *testing.T) {
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			at := rawUpstream(t, func(c net.Conn, _ *http.Request) {
				say(c, tt.say)
				tt.then(c)
				_ = c.Close()
			})
			wait := 10 * time.Second // for what comes at once, however busy the machine is
			if strings.Contains(tt.name, "hung") {
				wait = 100 * time.Millisecond
			}
			u := testUpstream(t, at, func(s *UpstreamSettings, _ *UpstreamOptions) {
				s.HeaderTimeout, s.IdleTimeout = wait, wait
			})
			u.login.way.Store(new(way)) // /v2/ is not asked

			start := time.Now()
			resp, err := u.do(t.Context(), &outgoing{Method: "GET", Path: "/v2/a/blobs/sha256:x", Blob: true})
			var refused *httpError
			if err != nil {
				if !errors.As(err, &refused) || refused.status != 502 && refused.status != 504 {
					t.Fatalf("error %v, want a 502 or 504", err)
				}
				if hung := strings.Contains(tt.name, "hung"); hung != (refused.status == 504) {
					t.Errorf("status %d (%v)", refused.status, err)
				}
			} else {
				body, err := io.ReadAll(resp.Body)
				if err == nil {
					t.Errorf("%s with a body %q that ends well", resp.Status, body)
				}
				if errors.Is(err, io.EOF) {
					t.Errorf("body ends in %v", err)
				}
				_ = resp.Body.Close()
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("took %v (G7)", took)
			}
		})
	}
	if len(faults) < 45 {
		t.Errorf("%d kinds of faults, want 45", len(faults))
	}
}

// A response cut anywhere is an error, and a whole one is not.
func TestG6_EveryCut(t *testing.T) {
	for name, whole := range map[string]string{
		"length": "HTTP/1.1 200 OK\r\nDocker-Content-Digest: sha256:x\r\nContent-Length: 11\r\n\r\nhello world",
		"chunks": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello \r\n5;x=y\r\nworld\r\n0\r\nA: b\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var cut int
			var mu sync.Mutex
			at := rawUpstream(t, func(c net.Conn, _ *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				say(c, whole[:cut])
				_ = c.Close()
			})
			h := newWire(testUpstream(t, at), nil)
			defer h.close()
			for i := range len(whole) + 1 {
				mu.Lock()
				cut = i
				mu.Unlock()
				resp, err := h.roundTrip(t.Context(), get("/"))
				var body []byte
				if err == nil {
					body, err = io.ReadAll(resp.Body)
				}
				if good := i == len(whole); good != (err == nil) || good && string(body) != "hello world" {
					t.Errorf("cut at %d: %q, %v", i, body, err)
				}
			}
		})
	}
}

func TestH11_DeadIdleConnectionIsRetriedOnce(t *testing.T) {
	for _, tt := range []struct {
		name    string
		r       *hopRequest
		dies    bool // the second connection, too
		wantErr bool
		conns   int
	}{
		{"GET", get("/"), false, false, 2},
		{"GET, twice dead", get("/"), true, true, 2},
		{"DELETE", &hopRequest{method: "DELETE", target: "/", headerTimeout: time.Second}, false, false, 2},
		{"POST without body", &hopRequest{method: "POST", target: "/", headerTimeout: time.Second}, false, true, 1},
		{"PUT", &hopRequest{method: "PUT", target: "/", body: strings.NewReader("x"), length: 1, headerTimeout: time.Second}, false, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var mu sync.Mutex
			conns := map[net.Conn]int{}
			at := rawUpstream(t, func(c net.Conn, _ *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				conns[c]++
				// Dies of its second request, so nothing shows beforehand.
				if conns[c] == 2 || tt.dies && len(conns) == 2 {
					_ = c.Close()
					return
				}
				say(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			})
			h := newWire(testUpstream(t, at), nil)
			defer h.close()
			if _, err := h.roundTrip(t.Context(), get("/first")); err != nil {
				t.Fatal(err)
			}
			_, err := h.roundTrip(t.Context(), tt.r)
			mu.Lock()
			defer mu.Unlock()
			if (err != nil) != tt.wantErr || len(conns) != tt.conns {
				t.Errorf("error %v over %d connections, want %d", err, len(conns), tt.conns)
			}
		})
	}
}

func TestH11_NothingIsRetriedOnceAnAnswerBegan(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	at := rawUpstream(t, func(c net.Conn, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if asked == 1 {
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			return
		}
		say(c, "HTTP/1.1")
		_ = c.Close()
	})
	h := newWire(testUpstream(t, at), nil)
	defer h.close()
	_, _ = h.roundTrip(t.Context(), get("/"))
	if _, err := h.roundTrip(t.Context(), get("/")); err == nil || asked != 2 {
		t.Errorf("error %v after %d requests, want one after 2", err, asked)
	}
}

// An idle connection that the upstream has closed is not used for an upload.
func TestH11_ClosedIdleConnectionIsSeen(t *testing.T) {
	closed := make(chan struct{}, 1)
	at := rawUpstream(t, func(c net.Conn, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		say(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
		_ = c.Close()
		closed <- struct{}{}
	})
	h := newWire(testUpstream(t, at), nil)
	defer h.close()
	for range 3 {
		r := &hopRequest{method: "PUT", target: "/", body: strings.NewReader("x"), length: 1, headerTimeout: time.Second}
		if _, err := h.roundTrip(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		<-closed
	}
}

func TestH12_ClientGoneCancelsUpstream(t *testing.T) {
	for _, where := range []string{"before the answer", "within the body"} {
		t.Run(where, func(t *testing.T) {
			gone := make(chan struct{})
			begun := make(chan struct{})
			at := rawUpstream(t, func(c net.Conn, _ *http.Request) {
				if where == "within the body" {
					say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
				}
				close(begun)
				hang(c)
				close(gone)
			})
			for range 1 {
				h := newWire(testUpstream(t, at), nil)
				defer h.close()
				ctx, cancel := context.WithCancel(t.Context())
				go func() { <-begun; cancel() }()
				resp, err := h.roundTrip(ctx, get("/"))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("error %v, want that the client is gone", err)
				}
				select {
				case <-gone:
				case <-time.After(5 * time.Second): // one, and what a busy machine adds
					t.Error("upstream has not noticed within a second (G8)")
				}
			}
		})
	}
}

// Pulls that are given up leave nothing behind.
func TestG8_AbortedPullsLeaveNoGoroutines(t *testing.T) {
	at := rawUpstream(t, func(c net.Conn, _ *http.Request) {
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello")
		hang(c)
	})
	u := testUpstream(t, at)
	u.login.way.Store(new(way))
	before := runtime.NumGoroutine()
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := u.do(ctx, &outgoing{Method: "GET", Path: "/v2/a/blobs/sha256:x", Blob: true})
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			cancel()
		}
		_ = resp.Body.Close()
		cancel()
	}
	for deadline := time.Now().Add(time.Second); runtime.NumGoroutine() > before+5; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// The client breaks off: the upstream must not see an end that looks right.
func TestH12_BrokenUploadIsNeverWhole(t *testing.T) {
	for _, length := range []int64{-1, 10} {
		got := make(chan error, 1)
		at := rawUpstream(t, func(c net.Conn, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			got <- err
		})
		u := testUpstream(t, at)
		u.login.way.Store(new(way))
		body := io.MultiReader(strings.NewReader("hello"), brokenBody{})
		_, err := u.do(t.Context(), &outgoing{Method: "PATCH", Path: "/v2/a/blobs/uploads/1", Body: body, Length: length})
		var refused *httpError
		if !errors.As(err, &refused) || refused.status != 400 || !errors.Is(err, errBroken) {
			t.Errorf("length %d: error %v, want the client's", length, err)
		}
		if err := <-got; err == nil {
			t.Errorf("length %d: upstream takes a broken upload for whole", length)
		}
	}
}

var errBroken = errors.New("client broke off")

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errBroken }

// Whoever hands over a body is told that it was read to its end.
func TestH02_BodiesAreReadToTheirEnd(t *testing.T) {
	at := rawUpstream(t, func(c net.Conn, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		say(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
	})
	h := newWire(testUpstream(t, at), nil)
	defer h.close()
	for _, length := range []int64{-1, 5} {
		body := &endSeen{Reader: strings.NewReader("hello")}
		if _, err := h.roundTrip(t.Context(), &hopRequest{method: "PUT", target: "/", body: body, length: length, headerTimeout: time.Second}); err != nil {
			t.Fatal(err)
		}
		if !body.seen {
			t.Errorf("length %d: the end was not read", length)
		}
	}
}

type endSeen struct {
	io.Reader
	seen bool
}

func (e *endSeen) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	e.seen = e.seen || err == io.EOF
	return n, err
}

// An answer that comes before the body is sent reaches the client, and the
// connection is not used again.
func TestHopEarlyAnswer(t *testing.T) {
	at := rawUpstream(t, func(c net.Conn, _ *http.Request) {
		say(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
		hang(c)
	})
	h := newWire(testUpstream(t, at), nil)
	defer h.close()
	pr, pw := io.Pipe()
	defer func() { _ = pw.Close() }()
	r := &hopRequest{method: "PATCH", target: "/", body: pr, length: -1, headerTimeout: time.Second}
	resp, err := h.roundTrip(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 413 || string(body) != "big" {
		t.Errorf("%d %q %v", resp.StatusCode, body, err)
	}
	if len(h.idle) != 0 {
		t.Error("the connection is kept")
	}
}

// H10: no limit on all of a transfer, only on standing still.
func TestH10_SlowIsNotIdle(t *testing.T) {
	at := rawUpstream(t, func(c net.Conn, _ *http.Request) {
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
		for range 20 {
			<-time.After(60 * time.Millisecond)
			say(c, "x")
		}
	})
	h := newWire(testUpstream(t, at, func(s *UpstreamSettings, _ *UpstreamOptions) { s.IdleTimeout = time.Second }), nil)
	defer h.close()
	r := get("/")
	r.headerTimeout = time.Second
	resp, err := h.roundTrip(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 20 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestG7_HungRequestsDelayNobody(t *testing.T) {
	at := rawUpstream(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/hang" {
			hang(c)
			return
		}
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	h := newWire(testUpstream(t, at), nil)
	defer h.close()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() { _, _ = h.roundTrip(ctx, get("/hang")) })
	}
	start := time.Now()
	if _, err := h.roundTrip(t.Context(), get("/")); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 2*time.Second { // the others hang for as long as they are let
		t.Errorf("the 41st took %v", took)
	}
	cancel()
	all.Wait()
}

// A line break in what is sent would be a second request.
func TestHopSendsNoLineBreaks(t *testing.T) {
	asked := make(chan string, 10)
	at := rawUpstream(t, func(c net.Conn, r *http.Request) {
		asked <- r.URL.Path
		say(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	h := newWire(testUpstream(t, at), nil)
	defer h.close()
	for _, r := range []*hopRequest{
		get("/a b"), get("/a\r\nX: y"), get("/\x7f"), get(""), get("http://x/"), get("/ä"),
		{method: "GET", target: "/", header: http.Header{"Accept": {"a\r\nX: y"}}},
		{method: "GET", target: "/", header: http.Header{"Accept": {"a", "b\x00"}}},
		{method: "GET", target: "/", own: [8]field{{"X-User", "a\nb"}}, owned: 1},
	} {
		if _, err := h.roundTrip(t.Context(), r); err == nil {
			t.Errorf("%q %v was sent", r.target, r.header)
		}
	}
	if len(asked) > 0 {
		t.Errorf("upstream was asked for %s", <-asked)
	}
}

func TestHopTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Proto)
	}))
	t.Cleanup(s.Close)
	u := testUpstream(t, s.URL)
	for name, trust := range map[string]bool{"trusted": true, "unknown CA": false} {
		config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
		if trust {
			config.RootCAs = s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
		}
		h := newWire(u, config)
		for range 2 {
			resp, err := h.roundTrip(t.Context(), get("/"))
			if (err == nil) != trust {
				t.Fatalf("%s: %v", name, err)
			}
			if err == nil {
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "HTTP/1.1" {
					t.Errorf("%s: %q %v", name, body, err)
				}
				if len(h.idle) != 1 {
					t.Errorf("%s: %d idle connections", name, len(h.idle))
				}
			}
		}
		h.close()
	}
}

// FuzzAnswer: what the upstream says never panics, never grows, and whatever
// is accepted whole is what net/http accepts too.
func FuzzAnswer(f *testing.F) {
	for _, tt := range faults {
		f.Add([]byte(tt.say), "GET")
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "GET")
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "GET")
	f.Add([]byte("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nhello"), "HEAD")
	f.Fuzz(func(t *testing.T, said []byte, method string) {
		if method != "GET" && method != "HEAD" {
			method = "GET"
		}
		here, there := net.Pipe()
		go func() {
			defer func() { _ = there.Close() }()
			if _, err := http.ReadRequest(bufio.NewReader(there)); err == nil {
				_, _ = there.Write(said)
			}
		}()
		w := &wire{addr: "x:1", idleTimeout: time.Second, connect: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
		defer w.close()
		defer func() { _ = here.Close() }()
		resp, err := w.roundTrip(t.Context(), &hopRequest{method: method, target: "/", host: "x", headerTimeout: time.Second})
		if err != nil {
			return
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		rest := bufio.NewReader(bytes.NewReader(said))
		for {
			oracle, err := http.ReadResponse(rest, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("%q was taken: %v, but net/http says %v", said, resp.Status, err)
			}
			if oracle.StatusCode < 200 {
				continue
			}
			want, err := io.ReadAll(oracle.Body)
			if err != nil || !bytes.Equal(want, body) || oracle.StatusCode != resp.StatusCode {
				t.Fatalf("%q: %d %q; net/http: %d %q, %v", said, resp.StatusCode, body, oracle.StatusCode, want, err)
			}
			return
		}
	})
}

func BenchmarkHop(b *testing.B) {
	manifest := strings.Repeat("m", 1500)
	at := rawUpstream(b, func(c net.Conn, _ *http.Request) {
		say(c, "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nDocker-Content-Digest: sha256:0123\r\n"+
			"Docker-Distribution-Api-Version: registry/2.0\r\nEtag: \"x\"\r\nDate: Sun, 22 Nov 2026 01:00:00 GMT\r\nContent-Length: 1500\r\n\r\n"+manifest)
	})
	header := http.Header{"Accept": {"application/vnd.oci.image.manifest.v1+json", "*/*"}, "User-Agent": {"docker"}, "X-Forwarded-For": {"10.0.0.1"}}
	for name, h := range hops(b, testUpstream(b, at)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			buf := make([]byte, 4096)
			for b.Loop() {
				r := &hopRequest{method: "GET", target: "/v2/library/alpine/manifests/latest", host: "registry.test", header: header, headerTimeout: time.Minute}
				r.set("Authorization", "Basic cmVnd2FyZDpzZWNyZXQ=")
				resp, err := h.roundTrip(ctx, r)
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = resp.Body.Read(buf)
				}
				_ = resp.Body.Close()
			}
		})
	}
}
