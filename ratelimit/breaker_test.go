package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regward/regward/ratelimit"
)

// flaky is a Limiter that fails while err says so, and counts who asks.
type flaky struct {
	ratelimit.Limiter
	err   error
	asked atomic.Int64
}

func (f *flaky) Take(ctx context.Context, s ...ratelimit.Spend) (ratelimit.Result, error) {
	f.asked.Add(1)
	if f.err != nil {
		return ratelimit.Result{}, f.err
	}
	return f.Limiter.Take(ctx, s...)
}

func TestBreaker(t *testing.T) {
	testLimiter(t, func(now func() time.Time) ratelimit.Limiter {
		return ratelimit.NewBreaker(ratelimit.NewMemory(5000, now), now, nil)
	})
}

func TestADeadLimiterCostsNobodyItsTimeout(t *testing.T) {
	c := newClock()
	f := &flaky{Limiter: ratelimit.NewMemory(0, c.now)}
	var told []string
	b := ratelimit.NewBreaker(f, c.now, func(down bool, o ratelimit.Outage) {
		told = append(told, fmt.Sprint(down, " since ", o.Since.Format(time.TimeOnly), ": ", o.Err))
	})
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
	if b.Missed() != 100 {
		t.Errorf("%d calls missed an answer, want 100", b.Missed())
	}
	for range 3 { // one call tries again each second
		c.add(ratelimit.BreakFor)
		f.asked.Store(0)
		for range 10 {
			_ = ask()
		}
		if got := f.asked.Load(); got != 1 {
			t.Errorf("asked %d times in another second, want once", got)
		}
	}
	// Neither a caller who went away nor a senseless question ends it, or bars
	// the next who would try.
	f.err = context.Canceled
	c.add(ratelimit.BreakFor)
	_ = ask()
	if _, down := b.Outage(); !down {
		t.Error("a caller who went away ended the outage")
	}
	f.err = nil
	if err := ask(); err != nil {
		t.Errorf("back, but %v", err)
	}
	if _, down := b.Outage(); down {
		t.Error("still down after an answer")
	}
	want := []string{"true since 12:00:00: " + dead.Error(), "false since 12:00:00: " + dead.Error()}
	if fmt.Sprint(told) != fmt.Sprint(want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestFourFailuresInARowAreNoOutage(t *testing.T) {
	c := newClock()
	f := &flaky{Limiter: ratelimit.NewMemory(0, c.now)}
	b := ratelimit.NewBreaker(f, c.now, nil)
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

// A paused Redis behind it costs what its first five calls wait for.
func TestBreakerInFrontOfAPausedRedis(t *testing.T) {
	srv := startServer(t)
	r := newRedis(t, srv.client(), ratelimit.RedisOptions{Timeout: 50 * time.Millisecond})
	b := ratelimit.NewBreaker(r, time.Now, nil)
	s := spend(t, "people", "user:ann", "5000/h", 1)
	srv.pause()
	begin := time.Now()
	for range 10_000 {
		_, _ = b.Take(context.Background(), s)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("10,000 calls took %v", took)
	}
	srv.resume()
	await(t, "the outage is over", func() bool {
		_, _ = b.Take(context.Background(), s)
		_, down := b.Outage()
		return !down
	})
}
