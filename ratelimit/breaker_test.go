package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regward/regward/ratelimit"
)

// flaky is a Limiter that fails while err says so, and counts who asks. A probe
// waits for what the test answers.
type flaky struct {
	ratelimit.Limiter
	err    error
	asked  atomic.Int64
	probes chan error
}

func (f *flaky) Take(ctx context.Context, s ...ratelimit.Spend) (ratelimit.Result, error) {
	f.asked.Add(1)
	if f.err != nil {
		return ratelimit.Result{}, f.err
	}
	return f.Limiter.Take(ctx, s...)
}

func (f *flaky) Probe(ctx context.Context) error {
	select {
	case err := <-f.probes:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// told keeps what a Breaker tells.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (l *told) changed(down bool, o ratelimit.Outage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprint(down, " since ", o.Since.Format(time.TimeOnly), ": ", o.Err))
}

func (l *told) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// flakyBreaker probes a flaky Limiter as soon as there is a reason.
func flakyBreaker(t *testing.T, idle time.Duration) (*ratelimit.Breaker, *flaky, *told, *clock) {
	t.Helper()
	c, l := newClock(), &told{}
	f := &flaky{Limiter: ratelimit.NewMemory(0, c.now), probes: make(chan error)}
	b := ratelimit.NewHastyBreaker(f, c.now, l.changed, time.Millisecond, idle)
	t.Cleanup(b.Close)
	return b, f, l, c
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	testLimiter(t, func(now func() time.Time) ratelimit.Limiter {
		b := ratelimit.NewBreaker(ratelimit.NewMemory(5000, now), now, nil)
		t.Cleanup(b.Close)
		return b
	})
}

func TestADeadLimiterIsNotAsked(t *testing.T) {
	b, f, l, c := flakyBreaker(t, time.Hour)
	s := spend(t, "people", "user:ann", "5000/h", 1)
	ask := func() error { _, err := b.Take(context.Background(), s); return err }
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	dead := fmt.Errorf("%w: hung up", ratelimit.ErrUnavailable)
	f.err = dead
	f.asked.Store(0)
	for i := range 100 {
		if i == 3 {
			c.add(time.Minute) // the outage counts from the first failure
		}
		if err := ask(); !errors.Is(err, ratelimit.ErrUnavailable) {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if got := f.asked.Load(); got != ratelimit.BreakAfter {
		t.Errorf("asked %d times while it failed, want %d", got, ratelimit.BreakAfter)
	}
	if o, down := b.Outage(); !down || !o.Since.Equal(newClock().t) || !errors.Is(o.Err, dead) {
		t.Errorf("got %v, %v, want an outage since noon", o, down)
	}
	for range 3 {
		f.probes <- dead
		if err := ask(); !errors.Is(err, ratelimit.ErrUnavailable) {
			t.Error(err)
		}
	}
	if got := f.asked.Load(); got != ratelimit.BreakAfter {
		t.Errorf("asked %d times", got)
	}
	// Without any caller, a probe finds out that it is back.
	f.err = nil
	f.probes <- nil
	await(t, "the outage is over", func() bool { _, down := b.Outage(); return !down })
	if err := ask(); err != nil {
		t.Errorf("back, but %v", err)
	}
	want := []string{"true since 12:00:00: " + dead.Error(), "false since 12:00:00: " + dead.Error()}
	if got := l.all(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestFourQuickFailuresInARowAreNoOutage(t *testing.T) {
	b, f, _, _ := flakyBreaker(t, time.Hour)
	s := spend(t, "people", "user:ann", "5000/h", 1)
	for range 100 {
		f.err = ratelimit.ErrUnavailable
		for range ratelimit.BreakAfter - 1 {
			_, _ = b.Take(context.Background(), s)
		}
		f.err = nil
		take(t, b, s)
	}
	if _, down := b.Outage(); down {
		t.Error("four of five fail, never five in a row: down")
	}
	f.err = context.Canceled
	for range 100 {
		_, _ = b.Take(context.Background(), s)
	}
	if _, down := b.Outage(); down {
		t.Error("callers who went away: down")
	}
}

// One call that had to be waited for is enough to ask no more; it is no outage
// unless the probe that follows says so.
func TestOneSlowCallIsEnough(t *testing.T) {
	b, f, l, _ := flakyBreaker(t, time.Hour)
	s := spend(t, "people", "user:ann", "5000/h", 1)
	slow := fmt.Errorf("%w: redis: %w", ratelimit.ErrUnavailable, context.DeadlineExceeded)
	for _, after := range []error{nil, slow} {
		f.err = slow
		f.asked.Store(0)
		for range 10 {
			if _, err := b.Take(context.Background(), s); !errors.Is(err, ratelimit.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if got := f.asked.Load(); got != 1 {
			t.Errorf("%d calls waited", got)
		}
		if _, down := b.Outage(); down {
			t.Error("one slow call is an outage")
		}
		f.probes <- after
		await(t, "the probe counts", func() bool {
			if _, down := b.Outage(); down {
				return after != nil
			}
			_, err := b.Take(context.Background(), s)
			return after == nil && f.asked.Load() == 2 && errors.Is(err, ratelimit.ErrUnavailable) // and so it is doubtful again
		})
		f.err = nil
		f.probes <- nil
		await(t, "it is asked again", func() bool { _, err := b.Take(context.Background(), s); return err == nil })
	}
	if got := l.all(); len(got) < 3 || got[len(got)-2][:4] != "true" || got[len(got)-1][:5] != "false" {
		t.Errorf("told %q", got)
	}
}

// Where nobody asks, it is known all the same how it stands.
func TestNobodyAsksAndAnOutageIsKnown(t *testing.T) {
	b, f, l, _ := flakyBreaker(t, time.Millisecond)
	dead := fmt.Errorf("%w: hung up", ratelimit.ErrUnavailable)
	f.probes <- nil
	f.probes <- dead
	if _, down := b.Outage(); down {
		t.Error("one probe is unlucky: down")
	}
	f.probes <- dead
	await(t, "it is down", func() bool { _, down := b.Outage(); return down })
	f.probes <- dead
	f.probes <- nil
	await(t, "it is up", func() bool { _, down := b.Outage(); return !down })
	if got := l.all(); len(got) != 2 || f.asked.Load() != 0 {
		t.Errorf("told %q, asked %d times", got, f.asked.Load())
	}
}

// request is what a request asks, one after the other.
func request(t testing.TB, l ratelimit.Limiter, who string) (took time.Duration, failed bool) {
	begin := time.Now()
	s := spend(t, "people", who, "1000000/s", 1)
	_, err1 := l.Take(context.Background(), s)
	release, _, err2 := l.Hold(context.Background(), ratelimit.Holding{Key: s.Key, Most: 1000})
	_, err3 := l.Pace(context.Background(), s)
	_, err4 := l.Take(context.Background(), s)
	release()
	return time.Since(begin), errors.Join(err1, err2, err3, err4) != nil
}

// While Redis is paused no request waits longer than for one call, whenever it
// came, and however many come at once; soon after it goes on it counts again.
func TestBreakerInFrontOfAPausedRedis(t *testing.T) {
	const timeout, clients = 1500 * time.Millisecond, 50
	srv := startServer(t)
	o := ratelimit.RedisOptions{Timeout: timeout}
	b := ratelimit.NewBreaker(newRedis(t, srv.client(t), o), time.Now, nil)
	t.Cleanup(b.Close)
	await(t, "it works at first", func() bool { _, failed := request(t, b, "user:ann"); return !failed })

	var mu sync.Mutex
	var slowest time.Duration
	var all sync.WaitGroup
	var end atomic.Bool
	for i := range clients {
		all.Go(func() {
			for !end.Load() {
				took, _ := request(t, b, fmt.Sprint("user:", i))
				mu.Lock()
				slowest = max(slowest, took)
				mu.Unlock()
				time.Sleep(5 * time.Millisecond) // of what else a client does
			}
		})
	}
	time.Sleep(300 * time.Millisecond) // of load
	srv.Pause()
	await(t, "it is known to be down", func() bool { _, down := b.Outage(); return down })
	srv.Resume()
	resumed := time.Now()
	await(t, "it is known to be back", func() bool { _, down := b.Outage(); return !down })
	took := time.Since(resumed)
	end.Store(true)
	all.Wait()
	t.Logf("timeout %v, %d clients: the slowest request took %v, and limits were shared %v after the pause", timeout, clients, slowest, took)
	if slowest > 2*timeout { // a request that pays for two calls takes so long at least
		t.Errorf("a request of four calls waited %v", slowest)
	}
	if took > 5*time.Second {
		t.Errorf("%v until it was known", took)
	}
}

// A place that is released while Redis does not answer keeps nobody waiting.
func TestAPlaceIsReleasedWhileRedisIsPaused(t *testing.T) {
	const timeout = 1500 * time.Millisecond
	srv := startServer(t)
	r := newRedis(t, srv.client(t), ratelimit.RedisOptions{Timeout: timeout})
	b := ratelimit.NewBreaker(r, time.Now, nil)
	t.Cleanup(b.Close)
	s := spend(t, "people", "user:ann", "5/h", 1)
	var releases []func()
	for range 10 {
		release, _, err := b.Hold(context.Background(), ratelimit.Holding{Key: s.Key, Most: 100})
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	srv.Pause()
	defer srv.Resume()
	begin := time.Now()
	for _, release := range releases {
		release()
	}
	if took := time.Since(begin); took > 2*timeout {
		t.Errorf("ten releases took %v", took)
	}
	if n, _ := r.Held(); n != 0 {
		t.Errorf("%d are renewed still", n)
	}
}

// Cold connections, all of which a cluster needs, are no reason for an outage.
func TestAProbeFindsACluster(t *testing.T) {
	t.Parallel()
	r := newRedis(t, startCluster(t), ratelimit.RedisOptions{Timeout: patient})
	for range 10 {
		if err := r.Probe(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	list, err := r.List(context.Background(), "", 100)
	if err != nil || len(list) != 0 {
		t.Errorf("a probe is listed: %v, %v", list, err)
	}
}
