package ratelimit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"time"
)

const (
	// maxClient is the longest Client kept as it is; a longer one is hashed, so
	// that the memory of a bucket does not depend on what a client sends.
	maxClient = 128

	// maxWait is the longest wait of a Pace, and so the deepest debt: what is over
	// it is not owed. Whoever gives up a thousand downloads at once shall not
	// bring those who share the bucket to a standstill.
	maxWait = time.Minute

	// slack, in events, is what floating point may lose between two looks at a
	// bucket. It is lent, never given: the bucket owes it afterwards.
	slack = 1e-6
)

// bucket is what was spent at a rate, not what is left: a rate that changes
// finds it again. gcra.lua counts in the same way, step by step.
type bucket struct {
	rate  Rate
	spent float64       // events, as of at
	at    time.Duration // of the last change, on the clock of whoever keeps the bucket
	turn  uint64        // of the latest call that used it
}

// spentAt is what is not back yet.
func (b *bucket) spentAt(now time.Duration) float64 {
	return max(0, b.spent-(now-b.at).Seconds()*b.rate.perSecond())
}

func (b *bucket) full(now time.Duration) bool { return b.spentAt(now) <= slack }

// spend takes n events that were found to be there.
func (b *bucket) spend(n int, now time.Duration) {
	b.spent, b.at = b.spentAt(now)+float64(n), now
}

// owe takes n events whether they are there or not, and says how long it takes
// until they are.
func (b *bucket) owe(n int, now time.Duration) time.Duration {
	b.spend(n, now)
	b.spent = min(b.spent, b.rate.mostOwed())
	return b.rate.refill(b.spent - float64(b.rate.Burst))
}

// change makes b a bucket of rate r and keeps what was spent: 5 of 5 spent,
// raised to 50, leave 45. More than the new bucket holds is not owed.
func (b *bucket) change(r Rate, now time.Duration) {
	if b.rate != r {
		b.spent, b.at, b.rate = min(b.spentAt(now), float64(r.Burst)), now, r
	}
}

// mostOwed is what a bucket of rate r may have spent after a Pace.
func (r Rate) mostOwed() float64 { return float64(r.Burst) + maxWait.Seconds()*r.perSecond() }

// usage tells of a bucket of rate r from which spent is not back.
func (r Rate) usage(k Key, spent float64) Usage {
	return Usage{
		Key:        k,
		Rate:       r,
		Size:       r.Burst,
		Used:       int(math.Ceil(spent - slack)),
		RetryAfter: r.refill(spent + 1 - slack - float64(r.Burst)),
		Reset:      r.refill(spent),
	}
}

// At is u as the next Spend with rate r will find it: what is used stays used,
// as far as the new bucket holds it. Places have no rate and stay as they are.
func (u Usage) At(r Rate) Usage {
	if u.Rate.Events == 0 || r.Events == 0 || u.Rate == r {
		return u
	}
	return r.usage(u.Key, min(float64(u.Used), float64(r.Burst)))
}

// result tells of spend i of a bucket with so many tokens; need is what was
// asked for if it is refused.
func (r Rate) result(tokens float64, i, need int, ok bool) Result {
	res := Result{
		OK:        ok,
		Index:     i,
		Limit:     r.Burst,
		Remaining: int(max(0, math.Floor(tokens+slack))),
	}
	if missing := float64(r.Burst) - tokens; missing > slack {
		res.Reset = r.refill(missing)
	}
	switch {
	case ok:
	case need > r.Burst:
		res.RetryAfter = math.MaxInt64
	default:
		res.RetryAfter = r.refill(float64(need) - tokens)
	}
	return res
}

// checked gives the rate of s with its Burst filled in, zero for no limit.
func (s *Spend) checked() (Rate, error) {
	r, err := s.Rate.checked()
	if err != nil {
		return Rate{}, fmt.Errorf("limit %q: %w", s.Limit, err)
	}
	if s.N < 0 || s.N > MaxBytes {
		return Rate{}, fmt.Errorf("limit %q: ratelimit: cannot spend %d events", s.Limit, s.N)
	}
	return r, nil
}

// checked is an error if there can be no such holding.
func (h *Holding) checked() error {
	if h.Most < 0 {
		return fmt.Errorf("limit %q: ratelimit: cannot hold %d at most", h.Limit, h.Most)
	}
	return nil
}

// stored is k as it is kept: with a long Client hashed.
func (k Key) stored() Key {
	if len(k.Client) > maxClient {
		sum := sha256.Sum256([]byte(k.Client))
		k.Client = "sha256:" + hex.EncodeToString(sum[:])
	}
	return k
}
