package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A client that is slow to say what it wants, or says nothing, is let go: 10
// seconds for a handshake and a header, 60 for a connection without a request.
func TestSilentClientsAreLetGo(t *testing.T) {
	t.Parallel()
	g := startRegward(t, startSaboteurUpstream(t), faultRules)
	drip := func(c net.Conn, piece string) {
		for {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
			time.Sleep(300 * time.Millisecond)
		}
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", g.host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	var all sync.WaitGroup
	defer all.Wait()
	for _, tt := range []struct {
		name  string
		after time.Duration
		c     net.Conn
		begin func(net.Conn)
	}{
		{"no byte", 10 * time.Second, dial(), func(net.Conn) {}},
		{"half a handshake", 10 * time.Second, dial(), func(c net.Conn) { _, _ = c.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")) }},
		{"a handshake byte by byte", 10 * time.Second, dial(), func(c net.Conn) {
			_, _ = c.Write([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"))
			drip(c, "\x00")
		}},
		{"no request", 10 * time.Second, g.dialTLS(t, "http/1.1"), func(net.Conn) {}},
		{"half a request", 10 * time.Second, g.dialTLS(t, "http/1.1"), func(c net.Conn) { _, _ = io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\n") }},
		{"a header line by line", 10 * time.Second, g.dialTLS(t, "http/1.1"), func(c net.Conn) {
			_, _ = io.WriteString(c, "GET /v2/ HTTP/1.1\r\n")
			drip(c, "X-A: b\r\n")
		}},
		{"no preface", 10 * time.Second, g.dialTLS(t, "h2"), func(net.Conn) {}},
		{"half a preface", 10 * time.Second, g.dialTLS(t, "h2"), func(c net.Conn) { drip(c, "P") }},
		{"idle after a request", 60 * time.Second, g.dialTLS(t, "http/1.1"), func(c net.Conn) { _, _ = io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: "+g.host+"\r\n\r\n") }},
		{"no stream", 60 * time.Second, g.dialH2(t), func(net.Conn) {}},
		{"pings alone", 60 * time.Second, g.dialH2(t), func(c net.Conn) { drip(c, string(frame(framePing, 0, 0, make([]byte, 8)))) }},
		{"a header list byte by byte", 60 * time.Second, g.dialH2(t), func(c net.Conn) {
			block := requestFields(g.host, "/v2/", "")
			_, _ = c.Write(frame(frameHeaders, flagEndStream, 1, block))
			drip(c, string(frame(frameContinuation, 0, 1, field("a", "b"))))
		}},
	} {
		go tt.begin(tt.c)
		all.Go(func() {
			took, closed := closedWithin(tt.c, tt.after+20*time.Second)
			if !closed {
				t.Errorf("%s: still there after %v, want %v", tt.name, took, tt.after)
			}
			t.Logf("%s: let go after %v", tt.name, took.Round(100*time.Millisecond))
			tt.c.Close()
		})
	}
}

// startSaboteurUpstream is an upstream that behaves.
func startSaboteurUpstream(t *testing.T) *upstream {
	t.Helper()
	return &upstream{kind: distribution, config: patientUpstream(startSaboteur(t, nil, nil).url)}
}

// idle_timeout: a body that stops is given up, whoever stops it; one that
// comes slowly is not.
func TestTransfersThatStandStillAreGivenUp(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	layer := u.hasBlob(t, "library/big", noise(32<<20))
	g := startRegward(t, u, teamRules+"idle_timeout: 3s\n")
	for _, c := range []*caller{newCaller(g, "HTTP/1.1", false), newCaller(g, "HTTP/2", false)} {
		t.Run("sends nothing more, "+c.name, func(t *testing.T) {
			t.Parallel()
			status, took := c.upload(t, "coolteam/silent", []byte("hello"), 100, time.Minute)
			if status/100 == 2 || took > 20*time.Second || took < 2*time.Second {
				t.Errorf("ended with %d after %v, want idle_timeout: 3s", status, took)
			}
		})
		t.Run("sends slowly, "+c.name, func(t *testing.T) {
			t.Parallel()
			content := []byte("a slow one")
			if status, took := c.upload(t, "coolteam/slow", content, len(content), 500*time.Millisecond); status != http.StatusAccepted {
				t.Errorf("ended with %d after %v", status, took)
			}
		})
		t.Run("takes nothing more, "+c.name, func(t *testing.T) {
			t.Parallel()
			pull := startSlowPullBy(t, c, layer)
			if c.name == "HTTP/2" { // the connection is good for others meanwhile
				if _, err := c.token(t.Context(), "ann", "repository:coolteam/app:pull"); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(10 * time.Second) // of what buffers hold nothing can be seen
			if err := pull.rest(); err == nil {
				t.Error("it was waited for longer than idle_timeout")
			}
		})
	}
}

// upload sends content piece by piece, of a body that is said to have length
// bytes, and returns the answer's status, 0 for none.
func (c *caller) upload(t *testing.T, repository string, content []byte, length int, pause time.Duration) (status int, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	token, err := c.token(ctx, "ann", "repository:"+repository+":pull,push")
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.must(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", token, nil, http.StatusAccepted)
	if err != nil {
		t.Fatal(err)
	}
	body, in := io.Pipe()
	go func() {
		if pause >= time.Minute {
			_, _ = in.Write(content)
			<-ctx.Done()
		} else {
			for i := range content {
				time.Sleep(pause)
				_, _ = in.Write(content[i : i+1])
			}
		}
		in.Close()
	}()
	target := a.header.Get("Location")
	if strings.HasPrefix(target, "/") {
		target = "https://" + c.g.host + target
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPatch, target, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", token)
	r.ContentLength = int64(length)
	began := time.Now()
	response, err := c.http.Do(r)
	if err != nil {
		return 0, time.Since(began)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode, time.Since(began)
}

// S12: a client that still sends reads why it is refused.
func TestS12_ARefusalReachesAClientThatStillSends(t *testing.T) {
	t.Parallel()
	g := startRegward(t, startSaboteurUpstream(t), faultRules)
	const target = "/v2/vault/secret/blobs/uploads/1"
	for _, c := range []*caller{newCaller(g, "HTTP/1.1", false), newCaller(g, "HTTP/2", false)} {
		for name, body := range map[string]io.Reader{
			"at once": io.MultiReader(strings.NewReader(strings.Repeat("x", 20<<20))),
			"slowly":  &slowly{make([]byte, 1<<20), 50 * time.Millisecond},
		} {
			a, err := c.do(t.Context(), http.MethodPatch, target, "", body)
			if err != nil || a.status != http.StatusUnauthorized || !strings.Contains(a.text, `"UNAUTHORIZED"`) {
				t.Errorf("%s, %s: %d, %v: %s", c.name, name, a.status, err, a.text)
			}
		}
	}
	// The ones that read only when all is sent.
	c, err := tls.Dial("tcp", g.host, &tls.Config{RootCAs: suite.certs.pool})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", target, g.host, 3<<20)
	if _, err := c.Write(make([]byte, 3<<20)); err != nil {
		t.Errorf("the rest of the body: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text := readAll(t, response.Body); response.StatusCode != http.StatusUnauthorized || !strings.Contains(text, `"UNAUTHORIZED"`) {
		t.Errorf("%s: %s", response.Status, text)
	}
}
