package proxy

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/ratelimit"
)

// slowToLeave is a limiter whose places are free only some time after they were
// given back: the way to Redis is long.
type slowToLeave struct {
	ratelimit.Limiter
	way time.Duration
}

func (l slowToLeave) Hold(ctx context.Context, h ...ratelimit.Holding) (func(), ratelimit.Result, error) {
	release, res, err := l.Limiter.Hold(ctx, h...)
	return func() {
		time.Sleep(l.way)
		release()
	}, res, err
}

// Who has all of one blob asks for the next one at once, and has a place.
func TestOneTransferAfterTheOther(t *testing.T) {
	for _, tt := range []struct {
		name    string
		limiter func(g *gate) ratelimit.Limiter
		rounds  int
	}{
		{"memory", func(g *gate) ratelimit.Limiter { return g.Limiter }, 500},
		{"a long way", func(g *gate) ratelimit.Limiter { return slowToLeave{g.Limiter, 20 * time.Millisecond} }, 10},
		{"redis", func(g *gate) ratelimit.Limiter { return redisLimiter(t) }, 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, usual+"limit blobs transfers 1 per=user")
			g.Limiter = tt.limiter(g)
			ann := g.as("ann", pushes("coolteam/app"))
			small, smallDigest := g.blobOf(32)
			large, largeDigest := g.blobOf(40_000)
			for _, h2 := range []bool{false, true} {
				one, two := g.client(h2), g.client(h2) // on one connection HTTP/1 has an order of its own
				defer one.CloseIdleConnections()
				defer two.CloseIdleConnections()
				for i := range tt.rounds {
					g.takes(one, "GET", "/v2/coolteam/app/blobs/"+smallDigest, ann, 200, small)
					g.takes(two, "GET", "/v2/coolteam/app/blobs/"+largeDigest, ann, 200, large)
					g.takes(one, "GET", "/v2/coolteam/app/blobs/"+digestOf([]byte("none")), ann, 404, nil)
					if i%10 > 0 {
						continue
					}
					start := g.takes(two, "POST", "/v2/coolteam/app/blobs/uploads/", ann, 202, nil)
					next := g.takes(one, "PATCH", start.Get("Location"), ann, 202, nil, body(layer))
					g.takes(two, "PUT", next.Get("Location")+"?digest="+layerDigest, ann, 201, nil)
				}
			}
			if n := g.held("blobs"); n != 0 {
				t.Errorf("%d places are held by nobody", n)
			}
		})
	}
}

// takes sends a request and reads the answer as far as its length says: what
// else the server does until its end nobody waits for.
func (g *gate) takes(c *http.Client, method, target string, who option, status int, content []byte, more ...option) http.Header {
	g.Helper()
	resp, err := c.Do(g.request(method, target, append(more, who)...))
	if err != nil {
		g.Fatal(err)
	}
	g.Cleanup(func() { _ = resp.Body.Close() })
	got := make([]byte, max(0, resp.ContentLength))
	if _, err := io.ReadFull(resp.Body, got); err != nil || resp.StatusCode != status || content != nil && !bytes.Equal(got, content) {
		g.Fatalf("%s %s %s: %d, %d bytes, %v", resp.Proto, method, target, resp.StatusCode, len(got), err)
	}
	return resp.Header
}

// The place is free when the last byte goes out, not before: who takes its blob
// slowly has one.
func TestPlaceIsHeldUntilTheLastByte(t *testing.T) {
	g := newGate(t, usual+"limit blobs transfers 1 per=user")
	w := &countingWriter{}
	x := &exchange{h: g.Handler, w: w, req: Request{Kind: KindBlob, Method: "GET"}}
	left := -1
	x.places = []func(){func() { left = w.Len() }}
	if err := x.write([]byte("some"), false); err != nil || left >= 0 {
		t.Fatalf("gave its place back after %d bytes, %v", left, err)
	}
	if err := x.write([]byte(" more"), true); err != nil || left != len("some mor") || w.String() != "some more" || x.out != 9 {
		t.Errorf("gave its place back after %d bytes; wrote %q, counted %d, %v", left, &w.Buffer, x.out, err)
	}
}

type countingWriter struct{ bytes.Buffer }

func (*countingWriter) Header() http.Header { return http.Header{} }
func (*countingWriter) WriteHeader(int)     {}

// redisLimiter counts in a redis-server of the test's own.
func redisLimiter(t *testing.T) ratelimit.Limiter {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("no redis-server here: run scripts/install-test-tools")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", dir, "--loglevel", "warning")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() {
		_ = client.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(10 * time.Second); client.Ping(t.Context()).Err() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("redis-server does not answer")
		}
	}
	l, err := ratelimit.NewRedis(client, ratelimit.RedisOptions{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
