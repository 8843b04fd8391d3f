package proxy

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// noise is an endless cheap stream, the same however it is read.
type noise struct{ at int }

func (z *noise) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(z.at) + byte(z.at>>8)*7
		z.at++
	}
	return len(p), nil
}

// heapDuring runs f and returns by how much the heap in use grew at most.
func heapDuring(f func()) uint64 {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	before := heap()
	var most atomic.Uint64
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if h := heap(); h > most.Load() {
					most.Store(h)
				}
			case <-stop:
				return
			}
		}
	}()
	f()
	close(stop)
	<-stopped
	if most.Load() < before {
		return 0
	}
	return most.Load() - before
}

func TestH01_BodiesAreStreamed(t *testing.T) {
	const size, bound = 256 << 20, 24 << 20
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		_, _ = io.CopyN(w, &noise{}, size)
		return true
	})
	g.both(func(c *http.Client, version string) {
		if grown := heapDuring(func() {
			resp, err := c.Do(g.request("GET", "/v2/coolteam/app/blobs/"+layerDigest, ann))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
				t.Errorf("%s: %d bytes, %v", version, n, err)
			}
		}); grown > bound {
			t.Errorf("%s: the heap grew by %d MiB for a download of %d", version, grown>>20, size>>20)
		}
		at := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
		g.up.seen()
		if grown := heapDuring(func() {
			g.with(c, "PATCH", at, ann, func(r *http.Request) {
				r.Body, r.ContentLength = io.NopCloser(io.LimitReader(&noise{}, size)), -1
			}).want(t, 202)
		}); grown > bound {
			t.Errorf("%s: the heap grew by %d MiB for an upload of %d", version, grown>>20, size>>20)
		}
		if got := g.up.one(t); got.Size != size || !got.Chunked {
			t.Errorf("%s: the upstream got %d bytes, chunked %v", version, got.Size, got.Chunked)
		}
	})
}

func TestH01_WhatIsSentArrivesBeforeTheRest(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	// Down: the client reads the first half while the upstream holds the second.
	goOn := make(chan bool)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			return false
		}
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(make([]byte, 50000))
		w.(http.Flusher).Flush()
		<-goOn
		_, _ = w.Write(make([]byte, 50000))
		return true
	})
	for _, c := range []*http.Client{g.h1, g.h2} {
		resp, err := c.Do(g.request("GET", "/v2/coolteam/app/blobs/"+layerDigest, ann))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, 40000)); err != nil {
			t.Errorf("%s: the first half: %v", resp.Proto, err)
		}
		goOn <- true
		if n, err := io.Copy(io.Discard, resp.Body); n != 60000 || err != nil {
			t.Errorf("%s: the rest: %d, %v", resp.Proto, n, err)
		}
		resp.Body.Close()
	}
}

func TestH04_BothVersionsOfHTTP(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	g.both(func(c *http.Client, version string) {
		a := g.with(c, "GET", "/v2/coolteam/app/manifests/latest", ann).want(t, 200)
		if a.Proto != version {
			t.Errorf("spoken: %s, want %s", a.Proto, version)
		}
		if string(a.body) != string(image) {
			t.Errorf("%s: body %q", version, a.body)
		}
		at := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
		g.up.seen()
		g.with(c, "PATCH", at, ann, chunked(layer)).want(t, 202)
		if got := g.up.one(t); got.Body != layerDigest {
			t.Errorf("%s: %d bytes arrived", version, got.Size)
		}
		if got := g.with(c, "GET", "/v2/").want(t, 401).challenged(t)["realm"]; got != "https://"+gateHost+"/token" {
			t.Errorf("%s: realm %q", version, got)
		}
	})
}

func TestH06_ConnectionCloseOnEveryRequest(t *testing.T) {
	g := newGate(t, usual+"limit r requests 1000/m")
	ann := g.as("ann", pulls("coolteam/app"))
	for range 30 {
		a := g.get("/v2/coolteam/app/manifests/latest", ann, func(r *http.Request) { r.Close = true }).want(t, 200)
		if !a.Close {
			t.Error("the connection is kept")
		}
	}
	for _, r := range g.up.seen() {
		if got := r.Header.Get("Connection"); got != "" {
			t.Errorf("the upstream's connection is told %q", got)
		}
	}
}

func TestH07_ContinueOnlyAfterAuthorisation(t *testing.T) {
	g := newGate(t, usual)
	say := func(credential option, target string) (status int, interim bool, conn *tls.Conn, in *bufio.Reader) {
		r := g.request("PUT", target, credential)
		conn, err := tls.Dial("tcp", g.srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", target, gateHost, r.Header.Get("Authorization"), len(image))
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		in = bufio.NewReader(conn)
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Sscanf(line, "HTTP/1.1 %d", &status)
		if err != nil {
			t.Fatal(err)
		}
		return status, status == 100, conn, in
	}
	const target = "/v2/coolteam/app/manifests/1"
	for _, credential := range []option{who(""), g.as("bob", pushes("coolteam/app"))} {
		began := time.Now()
		status, interim, conn, _ := say(credential, target)
		if interim || status != 401 {
			t.Errorf("without the right: %d", status)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the refusal took %v", took)
		}
		conn.Close()
	}
	g.up.none(t)
	status, interim, conn, in := say(g.as("ann", pushes("coolteam/app")), target)
	defer conn.Close()
	if !interim {
		t.Fatalf("with the right: %d, want 100", status)
	}
	_, _ = in.ReadString('\n')
	_, _ = conn.Write(image)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 201 {
		t.Fatalf("after the body: %v, %v", resp, err)
	}
	got := g.up.one(t)
	if got.Body != imageDigest || got.Header.Get("Expect") != "" {
		t.Errorf("the upstream got %d bytes, Expect %q", got.Size, got.Header.Get("Expect"))
	}
}

func TestH10_OnlyIdlingIsTimed(t *testing.T) {
	// Everything below takes longer than the idle timeout, but never idles for it.
	const idle = 750 * time.Millisecond
	g := newGate(t, usual, func(s *Settings) { s.IdleTimeout, s.Upstreams[0].IdleTimeout = idle, idle })
	ann := g.as("ann", pushes("coolteam/app"))
	slow := func(p *io.PipeWriter) {
		for range 5 {
			time.Sleep(idle / 4)
			_, _ = p.Write(layer)
		}
		_ = p.Close()
	}
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/blobs/sha256:"):
			for range 5 {
				time.Sleep(idle / 4)
				_, _ = w.Write(layer)
				w.(http.Flusher).Flush()
			}
		case r.Method == "PUT": // a registry that puts the blob together first
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(idle + idle/3)
			w.WriteHeader(201)
		default:
			return false
		}
		return true
	})
	g.both(func(c *http.Client, version string) {
		a := g.with(c, "GET", "/v2/coolteam/app/blobs/"+layerDigest, ann).want(t, 200)
		if a.err != nil || len(a.body) != 5*len(layer) {
			t.Errorf("%s: slow download: %d bytes, %v", version, len(a.body), a.err)
		}
		at := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
		in, out := io.Pipe()
		go slow(out)
		next := g.with(c, "PATCH", at, ann, func(r *http.Request) { r.Body, r.ContentLength = in, -1 }).want(t, 202).Header.Get("Location")
		g.with(c, "PUT", next+"?digest="+layerDigest, ann, body(layer)).want(t, 201)
		g.with(c, "PUT", next+"?digest="+layerDigest, ann).want(t, 201)
	})
}

func TestH10_AnIdleTransferEnds(t *testing.T) {
	const idle = 200 * time.Millisecond
	g := newGate(t, usual, func(s *Settings) { s.IdleTimeout, s.Upstreams[0].IdleTimeout = idle, idle })
	ann := g.as("ann", pushes("coolteam/app"))
	gone := make(chan bool, 4)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method == "PATCH":
			_, err := io.Copy(io.Discard, r.Body)
			gone <- err != nil
		case strings.Contains(r.URL.Path, "/blobs/sha256:"):
			w.Header().Set("Content-Length", "1000000")
			_, _ = w.Write(layer)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			return false
		}
		return true
	})
	// The upstream idles.
	if resp, err := g.h1.Do(g.request("GET", "/v2/coolteam/app/blobs/"+layerDigest, ann)); err == nil {
		if _, err = io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("half a blob looks like a whole one")
		}
		resp.Body.Close()
	}
	// The client does.
	at := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
	in, out := io.Pipe()
	defer out.Close()
	go func() { _, _ = out.Write(layer) }()
	r := g.request("PATCH", at, ann, func(r *http.Request) { r.Body, r.ContentLength = in, -1 })
	if resp, err := g.h1.Do(r); err == nil {
		resp.Body.Close()
		if resp.StatusCode/100 == 2 {
			t.Errorf("an upload that stopped is answered %d", resp.StatusCode)
		}
	}
	select {
	case broken := <-gone:
		if !broken {
			t.Error("the upstream saw a clean end")
		}
	case <-time.After(5 * time.Second):
		t.Error("the upstream still waits")
	}
}

func TestH12_ABrokenAnswerHasNoCleanEnd(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	for _, length := range []string{"known", "chunked"} {
		for _, cut := range []int{0, 1, 100, 5000, 70_000, 300_000} {
			g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/" {
					return false
				}
				if length == "known" {
					w.Header().Set("Content-Length", "400000")
				}
				w.Header().Set("Content-Type", imageType)
				_, _ = io.CopyN(w, &noise{}, int64(cut))
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			g.both(func(c *http.Client, version string) {
				for _, target := range []string{"/v2/coolteam/app/blobs/" + layerDigest, "/v2/coolteam/app/manifests/latest"} {
					resp, err := c.Do(g.request("GET", target, ann))
					if err != nil {
						continue // no answer at all is no clean end either
					}
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err == nil && resp.StatusCode/100 == 2 {
						t.Errorf("%s, length %s, cut at %d: %s ends cleanly", version, length, cut, target)
					}
				}
			})
		}
	}
}

func TestH12_AClientThatLeftEndsTheUpstreamsWork(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	left := make(chan bool, 1)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.Header().Set("Content-Length", "100000000")
		_, _ = io.CopyN(w, &noise{}, 100_000)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		left <- true
		return true
	})
	for _, c := range []*http.Client{g.h1, g.h2} {
		resp, err := c.Do(g.request("GET", "/v2/coolteam/app/blobs/"+layerDigest, ann))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = resp.Body.Read(make([]byte, 10))
		resp.Body.Close()
		select {
		case <-left:
		case <-time.After(5 * time.Second): // G8: one, and what a busy machine adds
			t.Errorf("%s: the upstream still works after a second", resp.Proto)
		}
	}
}

func TestH13_LongHeadersAndTargets(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	g.both(func(c *http.Client, version string) {
		var options []option
		for range 5 {
			options = append(options, header("Accept", strings.Repeat("application/vnd.example.some.type.v1+json, ", 90)+"x/y"))
		}
		g.with(c, "GET", "/v2/coolteam/app/manifests/latest", append(options, ann)...).want(t, 200)
		var tags []string
		for i := range 32 {
			tags = append(tags, fmt.Sprintf("tag=%03d%s", i, strings.Repeat("t", 125)))
		}
		g.with(c, "PUT", "/v2/coolteam/app/manifests/"+imageDigest+"?"+strings.Join(tags, "&"), ann, body(image)).want(t, 201)
		g.with(c, "GET", "/v2/coolteam/app/tags/list?unknown="+strings.Repeat("x", 8000), ann).want(t, 200)
	})
	// An upstream's own long state comes back as it was.
	state := strings.Repeat("s", 3000)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "POST" {
			return false
		}
		w.Header().Set("Location", "/v2/coolteam/app/blobs/uploads/u?_state="+state)
		w.WriteHeader(202)
		return true
	})
	at := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
	g.up.seen()
	g.do("PATCH", at, ann, body(layer)).want(t, 202)
	if got := g.up.one(t).Target; got != "/v2/coolteam/app/blobs/uploads/u?_state="+state {
		t.Errorf("%d bytes of target arrived", len(got))
	}
}

func TestBodiesArriveByteForByte(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	for _, size := range []int64{1, 4095, 16 << 10, 16<<10 + 1, 256 << 10, 256<<10 + 1, 1_000_003} {
		want := sha256.New()
		_, _ = io.CopyN(want, &noise{}, size)
		digest := "sha256:" + hex.EncodeToString(want.Sum(nil))
		for _, length := range []string{"known", "chunked"} {
			g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/blobs/sha256:") {
					return false
				}
				if length == "known" {
					w.Header().Set("Content-Length", fmt.Sprint(size))
				}
				_, _ = io.CopyN(w, &noise{}, size)
				return true
			})
			g.both(func(c *http.Client, version string) {
				a := g.with(c, "GET", "/v2/coolteam/app/blobs/"+layerDigest, ann).want(t, 200)
				if got := digestOf(a.body); got != digest || a.err != nil {
					t.Errorf("%s, %s, %d bytes down: %d came, %v", version, length, size, len(a.body), a.err)
				}
				at := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
				g.up.seen()
				g.with(c, "PATCH", at, ann, func(r *http.Request) {
					r.Body, r.ContentLength = io.NopCloser(io.LimitReader(&noise{}, size)), size
					if length == "chunked" {
						r.ContentLength = -1
					}
				}).want(t, 202)
				if got := g.up.one(t); got.Body != digest || got.Chunked != (length == "chunked") {
					t.Errorf("%s, %s, %d bytes up: %d came, chunked %v", version, length, size, got.Size, got.Chunked)
				}
			})
		}
	}
}

func TestH03_EmptyBodiesGoWithALength(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	g.both(func(c *http.Client, version string) {
		for name, send := range map[string]option{"none": func(*http.Request) {}, "empty": body(nil), "empty chunks": chunked(nil)} {
			at := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann, send).want(t, 202).Header.Get("Location")
			g.with(c, "PUT", at+"?digest="+layerDigest, ann, func(r *http.Request) {
				if name != "empty chunks" { // a PUT in chunks may well have a body: nobody knows before its end
					send(r)
				}
			}).want(t, 201)
			for _, got := range g.up.seen() {
				if got.Header.Get("Content-Length") != "0" && got.Length != 0 || got.Chunked || got.Size != 0 {
					t.Errorf("%s, %s: %s went with length %d, chunked %v", version, name, got.Method, got.Length, got.Chunked)
				}
			}
		}
	})
}
