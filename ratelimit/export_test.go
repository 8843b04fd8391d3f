package ratelimit

import "time"

// Bounds that tests hit.
const (
	MaxWait     = maxWait
	BreakAfter  = breakAfter
	CallsAtOnce = callsAtOnce
)

// SetPatience is how long who finds a line waits in it.
func (b *Breaker) SetPatience(d time.Duration) { b.patience = d }

// NewHastyBreaker is NewBreaker with a pace of its own.
func NewHastyBreaker(l Limiter, now func() time.Time, changed func(down bool, o Outage), every, idle time.Duration) *Breaker {
	b := newBreaker(l, now, changed, every, idle)
	b.start()
	return b
}

// SetClock makes r go by a clock set by hand, for which no key ends too early.
func (r *Redis) SetClock(now func() time.Time) { r.clock, r.now, r.margin = now, now, time.Hour }

// SetMostHeld makes the bound of places one that a test can hit.
func (r *Redis) SetMostHeld(n int) { r.mostHeld = n }

// StopRenewing makes r an instance that died, or was cut off: nobody renews.
func (r *Redis) StopRenewing() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keeping = true
}

// Renew is one round of renewals.
func (r *Redis) Renew() error { return r.renew() }

// Held is how many leases are renewed, and of how many keys.
func (r *Redis) Held() (leases, keys int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held, len(r.leases)
}

// HeldKeys is how many keys something is held of.
func (m *Memory) HeldKeys() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.held)
}
