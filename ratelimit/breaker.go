package ratelimit

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// breakAfter is how many failures in a row say that a Limiter is down.
	breakAfter = 5

	// breakFor is how long nobody asks it then, before one call tries again.
	breakFor = time.Second
)

// Outage tells of a Limiter that is down.
type Outage struct {
	Since time.Time // of the first failure in a row
	Err   error     // the latest
}

// Breaker is a Limiter in front of one that may be down. After five calls in a
// row that failed with ErrUnavailable it does not ask any more but answers the
// same at once; each second one call tries, and the first that succeeds ends it.
// So what is dead costs nobody its timeout.
type Breaker struct {
	behind  Limiter
	now     func() time.Time
	changed func(down bool, o Outage)

	mu     sync.Mutex
	row    int // of failures
	outage Outage
	down   bool
	next   time.Time // when one may try
	trying bool
	missed uint64 // calls that were not asked, or failed
}

var _ Limiter = (*Breaker)(nil)

// NewBreaker stands in front of l. changed, if it is not nil, is called when an
// outage begins and when it ends; it must not call back.
func NewBreaker(l Limiter, now func() time.Time, changed func(down bool, o Outage)) *Breaker {
	if changed == nil {
		changed = func(bool, Outage) {}
	}
	return &Breaker{behind: l, now: now, changed: changed}
}

// Outage is what is wrong, and false if nothing is.
func (b *Breaker) Outage() (Outage, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage, b.down
}

// Missed counts the calls that got no answer.
func (b *Breaker) Missed() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.missed
}

// ask calls the Limiter behind, or does not.
func (b *Breaker) ask(call func() error) error {
	if err := b.admit(); err != nil {
		return err
	}
	err := errors.New("ratelimit: a call did not come back")
	defer func() { b.learn(err) }() // after a panic as well: or nobody would try again
	err = call()
	return err
}

// brokenError is what callers get during an outage.
type brokenError struct{ cause error }

func (e *brokenError) Error() string   { return "not asked again yet: " + e.cause.Error() }
func (e *brokenError) Unwrap() []error { return []error{ErrUnavailable, e.cause} }

func (b *Breaker) admit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.down {
		return nil
	}
	if b.trying || b.now().Before(b.next) {
		b.missed++
		return &brokenError{b.outage.Err}
	}
	b.trying = true
	return nil
}

// learn takes note of how a call ended. Neither a question without sense nor a
// caller who went away says anything of the Limiter.
func (b *Breaker) learn(err error) {
	b.mu.Lock()
	was := b.down
	switch {
	case err == nil || errors.Is(err, ErrNoBucket) || errors.Is(err, ErrIncomplete):
		b.row, b.down, b.trying = 0, false, false
	case errors.Is(err, ErrUnavailable):
		now := b.now()
		if b.row++; b.row == 1 {
			b.outage.Since = now
		}
		b.outage.Err = err
		b.missed++
		if b.row >= breakAfter {
			b.down, b.trying, b.next = true, false, now.Add(breakFor)
		}
	default:
		b.trying = false
	}
	down, o := b.down, b.outage
	b.mu.Unlock()
	if down != was {
		b.changed(down, o)
	}
}

// Take implements Limiter.
func (b *Breaker) Take(ctx context.Context, s ...Spend) (r Result, err error) {
	err = b.ask(func() error { r, err = b.behind.Take(ctx, s...); return err })
	return r, err
}

// Pace implements Limiter.
func (b *Breaker) Pace(ctx context.Context, s ...Spend) (wait time.Duration, err error) {
	err = b.ask(func() error { wait, err = b.behind.Pace(ctx, s...); return err })
	return wait, err
}

// Hold implements Limiter.
func (b *Breaker) Hold(ctx context.Context, h ...Holding) (release func(), r Result, err error) {
	release = nothing
	err = b.ask(func() error { release, r, err = b.behind.Hold(ctx, h...); return err })
	return release, r, err
}

// List implements Limiter.
func (b *Breaker) List(ctx context.Context, limit string, most int) (u []Usage, err error) {
	err = b.ask(func() error { u, err = b.behind.List(ctx, limit, most); return err })
	return u, err
}

// Reset implements Limiter.
func (b *Breaker) Reset(ctx context.Context, k Key) error {
	return b.ask(func() error { return b.behind.Reset(ctx, k) })
}
