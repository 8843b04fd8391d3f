package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/regward/regward/ratelimit"
)

// pauses stands in for the waits of paced bodies: the clock moves, nobody waits.
type pauses struct {
	mu    sync.Mutex
	total time.Duration
	most  time.Duration
	n     int
}

func (g *gate) pauses() *pauses {
	p := &pauses{}
	g.pause = func(ctx context.Context, d time.Duration) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.total, p.most, p.n = p.total+d, max(p.most, d), p.n+1
		g.clock.pass(d)
		return ctx.Err()
	}
	return p
}

func (p *pauses) take() (total, most time.Duration, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	total, most, n = p.total, p.most, p.n
	p.total, p.most, p.n = 0, 0, 0
	return total, most, n
}

// blobOf gives the upstream a blob of n bytes.
func (g *gate) blobOf(n int) (content []byte, digest string) {
	content = bytes.Repeat([]byte("0123456789abcdef"), n/16)
	digest = digestOf(content)
	g.up.blobs[digest] = content
	return content, digest
}

func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if d := got - want; d < -want/20 || d > want/20 {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

func TestBytesAreShapedToTheRate(t *testing.T) {
	for _, tt := range []struct {
		name, limits string
		seconds      float64 // that 1,600,000 bytes take, beyond the burst of one second
	}{
		{"one limit", "limit line bytes 100kB/s per=user", 15},
		{"several: the slowest", "limit line bytes 100kB/s per=user\nlimit slow bytes 50kB/s per=all\nlimit quick bytes 10MB/s per=all", 31},
		{"of others", "limit line bytes 1kB/s per=user subjects=user:bob", 0},
		{"an exempt user", "limit line bytes 1kB/s per=user exempt=user:ann", 0},
	} {
		g := newGate(t, usual+tt.limits)
		p := g.pauses()
		content, digest := g.blobOf(1_600_000)
		ann := g.as("ann", pushes("coolteam/app"))
		want := time.Duration(tt.seconds * float64(time.Second))
		g.both(func(c *http.Client, version string) {
			g.clock.pass(time.Minute)
			ann = g.as("ann", pushes("coolteam/app"))
			a := g.with(c, "GET", "/v2/coolteam/app/blobs/"+digest, ann).want(t, 200)
			if a.err != nil || !bytes.Equal(a.body, content) {
				t.Fatalf("%s: %d bytes, %v", version, len(a.body), a.err)
			}
			total, most, n := p.take()
			near(t, tt.name+", download, "+version, total, want)
			if n > 0 && most > 4*paceTime {
				t.Errorf("%s: a wait of %v is not smooth", tt.name, most)
			}

			g.clock.pass(time.Minute)
			ann = g.as("ann", pushes("coolteam/app"))
			start := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202)
			g.up.seen()
			for _, b := range []option{body(content), chunked(content)} {
				g.clock.pass(time.Minute)
				ann = g.as("ann", pushes("coolteam/app"))
				g.with(c, "PATCH", start.Header.Get("Location"), ann, b).want(t, 202)
				if got := g.up.one(t); got.Body != digest {
					t.Fatalf("%s: the upstream got %d bytes", version, got.Size)
				}
				total, _, _ = p.take()
				near(t, tt.name+", upload, "+version, total, want)
			}
		})
	}
}

func TestBytesOfManifestsCount(t *testing.T) {
	g := newGate(t, usual+"limit line bytes 1kB/s per=user")
	p := g.pauses()
	ann := g.as("ann", pushes("coolteam/app"))
	for range 40 {
		g.get("/v2/coolteam/app/manifests/latest", ann).want(t, 200)
	}
	total, _, _ := p.take()
	near(t, "40 manifests", total, time.Duration(40*len(image)-1000)*time.Millisecond)
	g.do("PUT", "/v2/coolteam/app/manifests/1", ann, body(image)).want(t, 201)
	total, _, _ = p.take()
	near(t, "one pushed", total, time.Duration(len(image))*time.Millisecond)
	g.do("HEAD", "/v2/coolteam/app/manifests/latest", ann).want(t, 200)
	g.get("/v2/coolteam/app/tags/list", ann).want(t, 200)
	if total, _, n := p.take(); n > 0 {
		t.Errorf("a HEAD and a list waited %v", total)
	}
}

// A stream that waits is not idle: neither side of it is given up.
func TestWaitsLongerThanIdle(t *testing.T) {
	g := newGate(t, usual+"limit line bytes 64KiB/s per=user", func(s *Settings) {
		s.IdleTimeout, s.Upstreams[0].IdleTimeout = 400*time.Millisecond, 400*time.Millisecond
	})
	waits := 0
	g.pause = func(context.Context, time.Duration) error { // really, and as long as deadlines allow for
		if waits++; waits%8 == 1 {
			time.Sleep(600 * time.Millisecond)
		}
		g.clock.pass(time.Second)
		return nil
	}
	content, digest := g.blobOf(160_000)
	ann := g.as("ann", pushes("coolteam/app"))
	g.both(func(c *http.Client, version string) {
		// The wait that is told is a second at most here; the deadline has room for that.
		if a := g.with(c, "GET", "/v2/coolteam/app/blobs/"+digest, ann).want(t, 200); len(a.body) != len(content) || a.err != nil {
			t.Errorf("%s: %d of %d bytes, %v", version, len(a.body), len(content), a.err)
		}
		g.up.seen()
		start := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202)
		g.with(c, "PATCH", start.Header.Get("Location"), ann, body(content)).want(t, 202)
	})
}

func TestClientGoneEndsTheWait(t *testing.T) {
	g := newGate(t, usual+"limit line bytes 1kB/s per=user")
	waiting := make(chan struct{}, 100)
	ended := make(chan error, 100)
	g.pause = func(ctx context.Context, _ time.Duration) error {
		waiting <- struct{}{}
		err := sleep(ctx, time.Hour)
		ended <- err
		return err
	}
	_, digest := g.blobOf(160_000)
	ann := g.as("ann", pushes("coolteam/app"))
	g.both(func(c *http.Client, version string) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		resp, err := c.Do(g.request("GET", "/v2/coolteam/app/blobs/"+digest, ann).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, resp.Body) }()
		<-waiting
		cancel()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", version, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: it waits on", version)
		}
	})
	if log := g.access.String(); strings.Count(log, `"reason":"client_gone"`)+strings.Count(log, `"cut_off":true`) < 2 {
		t.Errorf("the log does not say that the clients left: %s", log)
	}
}

func TestBytesInDryRunAndInRecords(t *testing.T) {
	g := newGate(t, usual+"limit line bytes 100kB/s per=user subjects=user:bob\nlimit trial bytes 100kB/s per=user dry_run")
	p := g.pauses()
	_, digest := g.blobOf(800_000)
	g.get("/v2/coolteam/app/blobs/"+digest, g.as("ann", pulls("coolteam/app"))).want(t, 200)
	if total, _, n := p.take(); n > 0 {
		t.Errorf("a dry run waited %v", total)
	}
	lines := g.access.all(t)
	if got, _ := lines[len(lines)-1]["would_throttle"].([]any); len(got) != 1 || got[0] != "trial" {
		t.Errorf("would_throttle: %v", got)
	}
	g.get("/v2/shared/base/blobs/"+digest, g.as("bob", pulls("shared/base"))).want(t, 200)
	_ = g.access.String()
	lines = g.access.all(t)
	last := lines[len(lines)-1]
	if last["slowed_by"] != "line" || last["slowed_ms"].(float64) < 6500 || last["would_throttle"] == nil {
		t.Errorf("the record: %v", last)
	}
	for result, want := range map[string]float64{"allowed": 1, "slowed": 1} {
		if got := testutil.ToFloat64(g.metrics.limits.WithLabelValues("line", result)); got != want {
			t.Errorf("line %s: %v", result, got)
		}
	}
	if got := testutil.ToFloat64(g.metrics.waited.WithLabelValues("line")); got < 6.5 || got > 7.5 {
		t.Errorf("%v s of waits", got)
	}
}

// What a reload or an override says holds for what is under way.
func TestRateOfNowHoldsForWhatIsUnderWay(t *testing.T) {
	g := newGate(t, usual+"limit line bytes 10kB/s per=user")
	_, digest := g.blobOf(1_000_000)
	n := 0
	var total time.Duration
	g.pause = func(_ context.Context, d time.Duration) error {
		if n++; n == 10 {
			if err := g.Override(Override{Limit: "line", Rate: "1MB/s", Until: g.clock.Now().Add(time.Hour)}); err != nil {
				t.Error(err)
			}
		}
		total += d
		g.clock.pass(d)
		return nil
	}
	g.get("/v2/coolteam/app/blobs/"+digest, g.as("ann", pulls("coolteam/app"))).want(t, 200)
	if total > 5*time.Second {
		t.Errorf("it took %v: the override did not reach it", total)
	}
}

// A limit that comes with a reload holds for what ran without one.
func TestLimitOfAReloadHoldsForWhatIsUnderWay(t *testing.T) {
	const size = 4 << 20
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for _, limits := range []string{"", "limit other bytes 1kB/s per=user subjects=user:bob"} {
		g := newGate(t, usual+limits)
		p := g.pauses()
		free := g.settings
		slow := g.base(usual + "limit line bytes 100kB/s per=user")
		half := make(chan struct{})
		g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != "GET" || !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			w.Header().Set("Content-Length", strconv.Itoa(size))
			_, _ = w.Write(content[:size/2])
			_ = http.NewResponseController(w).Flush()
			select {
			case <-half:
			case <-r.Context().Done():
			}
			_, _ = w.Write(content[size/2:])
			return true
		})
		ann := g.as("ann", pushes("coolteam/app"))
		want := time.Duration(float64(size/2-100_000) / 100_000 * float64(time.Second))
		g.both(func(c *http.Client, version string) {
			g.swap(free)
			g.clock.pass(time.Minute)
			ann = g.as("ann", pushes("coolteam/app"))
			resp, err := c.Do(g.request("GET", "/v2/coolteam/app/blobs/"+layerDigest, ann))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got := make([]byte, size)
			if _, err := io.ReadFull(resp.Body, got[:size/4]); err != nil { // what is behind may lie in a buffer
				t.Fatal(err)
			}
			if _, _, n := p.take(); n > 0 {
				t.Fatalf("%s: it waits before there is a limit", version)
			}
			g.swap(slow)
			half <- struct{}{}
			if _, err := io.ReadFull(resp.Body, got[size/4:]); err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%s: %v", version, err)
			}
			total, _, _ := p.take()
			roughly(t, "the second half of a download, "+version, total, want)

			g.swap(free)
			g.clock.pass(time.Minute)
			ann = g.as("ann", pushes("coolteam/app"))
			start := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202)
			g.up.seen()
			rest := &swapping{Reader: bytes.NewReader(content), at: size / 2, do: func() { g.swap(slow) }}
			g.with(c, "PATCH", start.Header.Get("Location"), ann, func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(rest), size }).want(t, 202)
			if got := g.up.one(t); got.Size != size {
				t.Fatalf("%s: the upstream got %d bytes", version, got.Size)
			}
			total, _, _ = p.take()
			roughly(t, "the second half of an upload, "+version, total, want)
		})
		if lines := g.access.String(); strings.Count(lines, `"slowed_by":"line"`) != 4 {
			t.Errorf("the log does not say what slowed them down: %s", lines)
		}
	}
}

// roughly is near for the half of something, where some of the other half may be
// in buffers when the limit comes.
func roughly(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want/2 || got > want*2+2*time.Second {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

// swapping does a thing when it was read to a place.
type swapping struct {
	io.Reader
	at int
	do func()
}

func (s *swapping) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p[:min(len(p), 16<<10)])
	if s.at > 0 && s.at <= n {
		s.do()
	}
	s.at -= n
	return n, err
}

// Nobody waits for a client that has closed its connection, in HTTP/1 neither,
// where it is not heard of while its body is not read.
func TestUploadOfWhoHasGoneEndsItsWait(t *testing.T) {
	g := newGate(t, usual+"limit line bytes 1kB/s per=user\nlimit blobs transfers 9 per=user")
	waiting := make(chan struct{}, 1000)
	g.pause = func(ctx context.Context, d time.Duration) error {
		waiting <- struct{}{}
		return sleep(ctx, d)
	}
	ann := g.as("ann", pushes("coolteam/app"))
	spend := ratelimit.Spend{Key: ratelimit.Key{Limit: "line", Client: "user:ann"}, Rate: g.Limits()[0].Rate, N: 1000}
	g.both(func(c *http.Client, version string) {
		start := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202)
		for range 1000 { // as many others wait for the same
			if _, err := g.Limiter.Pace(t.Context(), spend); err != nil {
				t.Fatal(err)
			}
		}
		for _, length := range []int64{400_000, -1} {
			ctx, cancel := context.WithCancel(t.Context())
			b := func(r *http.Request) {
				some := io.LimitReader(&noise{}, 30_000) // more than is read here, less than the kernel keeps
				r.Body, r.ContentLength = io.NopCloser(io.MultiReader(some, until{ctx})), length
			}
			failed := make(chan error)
			go func() {
				resp, err := c.Do(g.request("PATCH", start.Header.Get("Location"), ann, b).WithContext(ctx))
				if err == nil {
					_ = resp.Body.Close()
				}
				failed <- err
			}()
			<-waiting
			if list, err := g.Limiter.List(t.Context(), "blobs", 1); err != nil || len(list) != 1 {
				t.Errorf("%s: it holds no place: %v", version, err)
			}
			cancel()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: %v", version, err)
			}
			for end := time.Now().Add(20 * time.Second); testutil.ToFloat64(g.metrics.inFlight) > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s: it waits on", version)
				}
			}
			for len(waiting) > 0 {
				<-waiting
			}
			if n := g.held("blobs"); n != 0 {
				t.Errorf("%s: %d places are held by nobody", version, n)
			}
		}
	})
	if log := g.access.String(); strings.Count(log, `"reason":"client_gone"`) != 4 {
		t.Errorf("the log does not say that the clients left: %s", log)
	}
}

// until is a body of which nothing more comes.
type until struct{ context.Context }

func (u until) Read([]byte) (int, error) {
	<-u.Done()
	return 0, u.Err()
}
