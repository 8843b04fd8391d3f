package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// breakAfter is how many failures in a row say that a Limiter is down. One that
	// somebody had to wait for is enough to ask no more until a probe has.
	breakAfter = 5

	// probeEvery is the time between two probes of a Limiter that is down, and
	// idleEvery how long it is believed to be well without an answer.
	probeEvery = 250 * time.Millisecond
	idleEvery  = 5 * time.Second

	// callsAtOnce is how many callers ask at once; the others wait in line for
	// longestLine at most. The server's time to answer begins when it is asked: one
	// client with a thousand requests in flight must not make it look dead, for
	// then limits would not be shared, or not hold at all. Eight of the connections
	// to it stay for who is not in line.
	callsAtOnce = 24
	longestLine = time.Second
)

// Outage tells of a Limiter that is down.
type Outage struct {
	Since time.Time // of the first failure in a row
	Err   error     // the latest
}

// Breaker is a Limiter in front of one that may be down, and knows whether it
// is. After a call that was not answered in time, or five in a row that failed
// otherwise with ErrUnavailable, it does not ask any more but answers the same at
// once: what is dead costs a request its timeout once.
//
// Behind the back of all callers it finds out when that is over: by a probe at
// once, and then every 250 ms. So it does when for five seconds nobody was let in
// by it: an answer to a mere question, or a refusal, says little of one that
// cannot be written to.
type Breaker struct {
	behind  Limiter
	probe   func(context.Context) error
	now     func() time.Time
	changed func(down bool, o Outage)

	line        chan struct{} // holds one for each who asks
	patience    time.Duration // of who waits there
	every, idle time.Duration // between probes
	wake        chan struct{}
	cancel      context.CancelFunc
	watching    sync.WaitGroup
	telling     sync.Mutex // one changed after the other
	told        health
	spent       atomic.Bool // something was, since the last look

	mu     sync.Mutex
	health health
	open   bool // nobody asks
	row    int  // of failures
	outage Outage
}

// health is what is believed of a Limiter.
type health uint8

const (
	well     health = iota
	doubtful        // it failed, and may be well again
	down
)

// prober is a Limiter that finds out whether it would answer in time, and may
// take longer over that than a request would wait: it has to connect, perhaps.
type prober interface{ Probe(context.Context) error }

// leaver is a Limiter that is asked when a place is released, too.
type leaver interface {
	askThrough(ask func(call func() error) error)
}

var _ Limiter = (*Breaker)(nil)

// NewBreaker stands in front of l, and probes it until Close. changed, if it is
// not nil, is called when an outage begins, and with false when it, or less than
// that, is over; it must not call back.
func NewBreaker(l Limiter, now func() time.Time, changed func(down bool, o Outage)) *Breaker {
	b := newBreaker(l, now, changed, probeEvery, idleEvery)
	b.start()
	return b
}

func newBreaker(l Limiter, now func() time.Time, changed func(down bool, o Outage), every, idle time.Duration) *Breaker {
	if changed == nil {
		changed = func(bool, Outage) {}
	}
	b := &Breaker{behind: l, now: now, changed: changed, every: every, idle: idle, wake: make(chan struct{}, 1),
		line: make(chan struct{}, callsAtOnce), patience: longestLine}
	b.probe = func(ctx context.Context) error {
		_, err := l.Take(ctx, Spend{Key: Key{Limit: "probe", Client: "probe"}, Rate: Rate{Events: 1, Per: time.Second, Burst: 1}})
		return err
	}
	if p, ok := l.(prober); ok {
		b.probe = p.Probe
	}
	if p, ok := l.(leaver); ok {
		p.askThrough(b.Ask)
	}
	return b
}

func (b *Breaker) start() {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.watching.Go(func() { b.watch(ctx) })
}

// Close ends the probes.
func (b *Breaker) Close() {
	b.cancel()
	b.watching.Wait()
}

// Outage is what is wrong, and false if nothing is.
func (b *Breaker) Outage() (Outage, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage, b.health == down
}

// watch probes while something is wrong, or nothing was heard.
func (b *Breaker) watch(ctx context.Context) {
	for {
		wait := b.idle
		if b.isDoubtful() {
			wait = b.every
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-b.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
		if b.unheard() {
			_ = b.Probe(ctx) // Outage tells
		}
	}
}

func (b *Breaker) isDoubtful() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.health != well
}

// unheard reports whether there is a reason to probe.
func (b *Breaker) unheard() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.spent.Swap(false) || b.health != well
}

// Probe finds out now how the Limiter is. It may take longer than a call.
func (b *Breaker) Probe(ctx context.Context) error {
	err := b.probe(ctx)
	b.learn(err, true)
	return err
}

// Ask calls what asks the same server as the Limiter behind, or does not. An
// error that says so of the server is ErrUnavailable; ErrBusy is none of its.
func (b *Breaker) Ask(call func() error) error {
	if err := b.admit(); err != nil {
		return err
	}
	if err := b.queue(); err != nil {
		return err
	}
	defer func() { <-b.line }()
	if err := b.admit(); err != nil { // it was found out meanwhile
		return err
	}
	err := call()
	b.learn(err, false)
	return err
}

// queue waits until it is the caller's turn.
func (b *Breaker) queue() error {
	select {
	case b.line <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(b.patience)
	defer timer.Stop()
	select {
	case b.line <- struct{}{}:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w: no turn within %v", ErrBusy, b.patience)
	}
}

// brokenError is what callers get during an outage.
type brokenError struct{ cause error }

func (e *brokenError) Error() string   { return "not asked again yet: " + e.cause.Error() }
func (e *brokenError) Unwrap() []error { return []error{ErrUnavailable, e.cause} }

func (b *Breaker) admit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return &brokenError{b.outage.Err}
	}
	return nil
}

// learn takes note of how a call ended. Neither a question without sense nor a
// caller who went away says anything of the Limiter.
func (b *Breaker) learn(err error, probe bool) {
	b.mu.Lock()
	switch {
	case err == nil || errors.Is(err, ErrNoBucket) || errors.Is(err, ErrIncomplete):
		if b.open && !probe {
			break // it was asked before; what was found out since counts more
		}
		b.health, b.open, b.row = well, false, 0
	case errors.Is(err, ErrUnavailable):
		if b.row++; b.row == 1 {
			b.outage.Since = b.now()
		}
		b.outage.Err = err
		switch {
		case b.row >= breakAfter, probe && b.open: // one probe may be unlucky, as a call may
			b.health = down
		case b.health == well:
			b.health = doubtful
			if !probe { // which comes again by itself
				b.poke()
			}
		}
		b.open = b.open || probe || b.health == down || waitedFor(err)
	}
	b.mu.Unlock()
	b.tell()
}

// poke has watch probe at once.
func (b *Breaker) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// tell calls changed if there is news.
func (b *Breaker) tell() {
	b.telling.Lock()
	defer b.telling.Unlock()
	b.mu.Lock()
	now, o := b.health, b.outage
	b.mu.Unlock()
	before := b.told
	b.told = now
	if now != before && now != doubtful {
		b.changed(now == down, o)
	}
}

// waitedFor reports whether err came late.
func waitedFor(err error) bool {
	var slow slowError
	var timeout net.Error
	return errors.As(err, &slow) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// Take implements Limiter.
func (b *Breaker) Take(ctx context.Context, s ...Spend) (r Result, err error) {
	err = b.Ask(func() error { r, err = b.behind.Take(ctx, s...); return err })
	if err == nil && r.OK && r.Index >= 0 && slices.ContainsFunc(s, func(s Spend) bool { return s.N > 0 }) {
		b.spent.Store(true)
	}
	return r, err
}

// Pace implements Limiter.
func (b *Breaker) Pace(ctx context.Context, s ...Spend) (wait time.Duration, err error) {
	err = b.Ask(func() error { wait, err = b.behind.Pace(ctx, s...); return err })
	return wait, err
}

// Hold implements Limiter.
func (b *Breaker) Hold(ctx context.Context, h ...Holding) (release func(), r Result, err error) {
	release = nothing
	err = b.Ask(func() error { release, r, err = b.behind.Hold(ctx, h...); return err })
	return release, r, err
}

// List implements Limiter.
func (b *Breaker) List(ctx context.Context, limit string, most int) (u []Usage, err error) {
	err = b.Ask(func() error { u, err = b.behind.List(ctx, limit, most); return err })
	return u, err
}

// Reset implements Limiter.
func (b *Breaker) Reset(ctx context.Context, k Key) error {
	return b.Ask(func() error { return b.behind.Reset(ctx, k) })
}
