package ratelimit

import (
	"context"
	"time"
)

const (
	// sliceTime is how much of a rate an instance asks for at once: a stream of
	// any speed costs some ten calls a second, and so do a thousand of one client.
	sliceTime = 100 * time.Millisecond

	// loanTime is how long a slice is good for after it was due. What nobody
	// wanted by then is lost.
	loanTime = time.Second

	// maxLoans bounds the slices that an instance holds; the oldest is lost.
	maxLoans = 10_000
)

// loan is the rest of a slice that was spent in Redis and not here.
type loan struct {
	rate   Rate
	left   int
	due    time.Time // when the last of it may be used
	asking bool      // somebody is on the way for the next slice
}

// wait is how long to wait for what has just been used.
func (l *loan) wait(now time.Time) time.Duration {
	return max(0, l.due.Sub(now)-l.rate.refill(float64(l.left)))
}

// slice is what to ask for at once at rate r.
func (r Rate) slice() int {
	return int(min(r.perSecond()*sliceTime.Seconds(), float64(r.Burst)))
}

// ask is one Spend of a Pace that Redis is asked for, with a slice or without.
type ask struct {
	placed
	extra int   // more than the caller wants
	to    *loan // who gets the extra; nil for nobody
}

// Pace implements Limiter. It asks Redis for slices worth 100 ms, so that what
// an instance that dies had asked for and not used is no more than that.
func (r *Redis) Pace(ctx context.Context, spends ...Spend) (wait time.Duration, err error) {
	all, err := checkedSpends(spends)
	if err != nil {
		return 0, err
	}
	asks, wait := r.borrow(all)
	if len(asks) == 0 {
		return wait, nil
	}
	ctx, done := within(ctx, r.timeout)
	defer done()
	defer r.asked(asks)
	for _, group := range r.groups(len(asks), func(i int) Key { return asks[i].Key }) {
		some := make([]placed, len(group))
		for i, j := range group {
			some[i] = asks[j].placed
		}
		_, left, err := r.count(ctx, "pace", some)
		if err != nil {
			return 0, err
		}
		for i, j := range group {
			wait = max(wait, r.lend(&asks[j], asks[j].Rate.refill(-left[i])))
		}
	}
	return wait, nil
}

// borrow takes from the loans what they have, says how long to wait for that,
// and what else has to be asked for.
func (r *Redis) borrow(all []placed) (asks []ask, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	for _, s := range all {
		l, ok := r.loans.Get(s.Key)
		if !ok {
			l = &loan{}
			r.loans.Add(s.Key, l)
		}
		if l.rate != s.Rate || now.Sub(l.due) > loanTime {
			l.rate, l.left = s.Rate, 0
		}
		if l.left > 0 && l.left >= s.N {
			l.left -= s.N
			wait = max(wait, l.wait(now))
			continue
		}
		a := ask{placed: s}
		if !l.asking && s.N > 0 {
			l.asking = true
			a.N -= l.left
			a.extra, a.to, l.left = max(0, s.Rate.slice()-a.N), l, 0
			a.N += a.extra
		}
		asks = append(asks, a)
	}
	return asks, wait
}

// lend puts what a asked for beyond its need where others find it; all of it is
// due after wait. It says how long to wait for the need alone.
func (r *Redis) lend(a *ask, wait time.Duration) time.Duration {
	if a.to != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if l := a.to; l.rate == a.Rate {
			l.left, l.due = a.extra, r.now().Add(wait)
		}
	}
	return max(0, wait-a.Rate.refill(float64(a.extra)))
}

// asked lets others ask for the next slice.
func (r *Redis) asked(asks []ask) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range asks {
		if a.to != nil {
			a.to.asking = false
		}
	}
}
