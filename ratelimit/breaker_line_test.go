package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regward/regward/ratelimit"
)

// counter is a Limiter whose answers wait for leave to come.
type counter struct {
	ratelimit.Limiter
	answer chan error

	now, most, all atomic.Int64
}

func (c *counter) Take(context.Context, ...ratelimit.Spend) (ratelimit.Result, error) {
	c.all.Add(1)
	for n, most := c.now.Add(1), c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	defer c.now.Add(-1)
	err := <-c.answer
	return ratelimit.Result{OK: err == nil}, err
}

func (c *counter) Probe(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// crowd has n ask at once, and gives their errors when all have been answered.
func crowd(t *testing.T, b *ratelimit.Breaker, n int) (ended func() []error) {
	t.Helper()
	s := spend(t, "people", "user:ann", "5000/h", 1)
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { _, errs[i] = b.Take(context.Background(), s) })
	}
	return func() []error { all.Wait(); return errs }
}

// A thousand requests of one client stand in line: none of them makes a server
// look dead that answers each in time.
func TestManyAtOnceStandInLine(t *testing.T) {
	c := &counter{answer: make(chan error)}
	b := ratelimit.NewHastyBreaker(c, time.Now, nil, time.Hour, time.Hour)
	defer b.Close()
	b.SetPatience(time.Hour)
	ended := crowd(t, b, 1000)
	for range 1000 {
		c.answer <- nil
	}
	if err := errors.Join(ended()...); err != nil {
		t.Error(err)
	}
	if got := c.most.Load(); got > ratelimit.CallsAtOnce {
		t.Errorf("%d asked at once, want %d at most", got, ratelimit.CallsAtOnce)
	}
}

// full is a Breaker with all asking that may.
func full(t *testing.T) (b *ratelimit.Breaker, c *counter, ended func() []error) {
	t.Helper()
	c = &counter{answer: make(chan error)}
	b = ratelimit.NewHastyBreaker(c, time.Now, nil, time.Hour, time.Hour)
	t.Cleanup(b.Close)
	ended = crowd(t, b, ratelimit.CallsAtOnce)
	for c.all.Load() < ratelimit.CallsAtOnce {
		time.Sleep(time.Millisecond)
	}
	return b, c, ended
}

// Who stands in line when the server is found dead does not ask it as well.
func TestNobodyInLineAsksADeadServer(t *testing.T) {
	b, c, ended := full(t)
	b.SetPatience(time.Hour)
	lined := crowd(t, b, 1000)
	for range ratelimit.CallsAtOnce {
		c.answer <- fmt.Errorf("%w: %w", ratelimit.ErrUnavailable, context.DeadlineExceeded)
	}
	for _, err := range append(ended(), lined()...) {
		if !errors.Is(err, ratelimit.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if got := c.all.Load(); got != ratelimit.CallsAtOnce {
		t.Errorf("%d asked, want those %d who were at it", got, ratelimit.CallsAtOnce)
	}
}

// The line is bounded in time. Who finds it too long is told that too much is
// asked here, and not that the server is dead: that would let everybody through
// where on_error is allow.
func TestTheLineIsBounded(t *testing.T) {
	b, c, ended := full(t)
	b.SetPatience(time.Millisecond)
	for range 2 * ratelimit.BreakAfter {
		_, err := b.Take(context.Background(), spend(t, "people", "user:ann", "5000/h", 1))
		if !errors.Is(err, ratelimit.ErrBusy) || errors.Is(err, ratelimit.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if o, down := b.Outage(); down || o.Err != nil {
		t.Errorf("a line is taken for an outage: %v", o)
	}
	for range ratelimit.CallsAtOnce {
		c.answer <- nil
	}
	if err := errors.Join(ended()...); err != nil {
		t.Error(err)
	}
}
