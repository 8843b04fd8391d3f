package ratelimit

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

const (
	// DefaultKeys is how many buckets a Memory holds unless told otherwise.
	DefaultKeys = 100_000

	// lookBack is how many of the oldest buckets a newcomer asks for their place.
	lookBack = 8

	// maxClient is the longest Client kept as it is; a longer one is hashed, so
	// that the memory of a bucket does not depend on what a client sends.
	maxClient = 128

	// slack, in events, is what floating point may lose between two looks at a
	// bucket. It is lent, never given: the bucket owes it afterwards.
	slack = 1e-6
)

// Memory is a Limiter for one process: one x/time/rate bucket per key, in an LRU.
//
// It holds at most `keys` buckets, some 300 bytes each with a key of usual
// length and 420 at most: with DefaultKeys about 30 MiB, 40 MiB at worst,
// however many sources there are (G16). A bucket is dropped only when it is full again,
// for a dropped bucket is a forgiven debt. When there is no such bucket among
// the oldest, newcomers share one bucket per limit until there is: stricter,
// never unlimited.
type Memory struct {
	now        func() time.Time
	keys       int
	overflowed atomic.Uint64

	mu       sync.Mutex // over lookup and spend: all of several spends, or none
	buckets  *simplelru.LRU[Key, *bucket]
	overflow map[string]*bucket // by limit, for who finds no place
	last     time.Time          // of the latest Take; time does not run backwards
	tidied   time.Time          // when overflow was last cleared of what is full
	turn     uint64             // counts Takes
}

var _ Limiter = (*Memory)(nil)

// bucket is what was spent at a rate. The rate.Limiter keeps count; whether N
// events pass is asked of it first, for all buckets of a Take, and then spent.
type bucket struct {
	rate Rate
	lim  *rate.Limiter
	turn uint64 // of the latest Take that used it
}

func newBucket(r Rate) *bucket {
	return &bucket{rate: r, lim: rate.NewLimiter(rate.Limit(r.perSecond()), r.Burst)}
}

// NewMemory gives a Memory of at most keys buckets, DefaultKeys if keys is not
// above zero. A clock that is set back stands still until it has caught up.
func NewMemory(keys int, now func() time.Time) *Memory {
	if keys <= 0 {
		keys = DefaultKeys
	}
	buckets, err := simplelru.NewLRU[Key, *bucket](keys, nil)
	if err != nil {
		panic(err) // only for a size that is not above zero
	}
	return &Memory{now: now, keys: keys, buckets: buckets, overflow: make(map[string]*bucket)}
}

// Len is the number of keys that have a bucket of their own.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.buckets.Len()
}

// Overflowed counts the spends that had to share a bucket because every place
// was taken by a debtor.
func (m *Memory) Overflowed() uint64 { return m.overflowed.Load() }

// asked is one Spend on its way through Take.
type asked struct {
	rate   Rate
	bucket *bucket // nil: none yet, so full; only where nothing is to be taken
	tokens float64 // what is in it
}

// Take implements Limiter; ctx is not looked at, nothing here waits.
func (m *Memory) Take(_ context.Context, spends ...Spend) (Result, error) {
	var few [8]asked // a request meets a handful of limits: no allocation for those
	all := few[:0]
	for _, s := range spends {
		r, err := s.Rate.checked()
		if err != nil {
			return Result{}, fmt.Errorf("limit %q: %w", s.Limit, err)
		}
		if s.N < 0 {
			return Result{}, fmt.Errorf("limit %q: ratelimit: cannot spend %d events", s.Limit, s.N)
		}
		all = append(all, asked{rate: r})
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock()
	m.tidy(now)
	m.turn++
	for i := range all {
		if all[i].rate != (Rate{}) {
			all[i].bucket = m.bucket(spends[i], all[i].rate, now)
		}
	}
	// Only now, with every bucket at its rate of today, look into them.
	for i := range all {
		a := &all[i]
		if a.rate == (Rate{}) {
			continue
		}
		a.tokens = float64(a.rate.Burst)
		if a.bucket != nil {
			a.tokens = a.bucket.lim.TokensAt(now)
		}
		// One bucket may be named twice; what the earlier spend will take is gone.
		for j := range i {
			if a.bucket != nil && all[j].bucket == a.bucket {
				a.tokens -= float64(spends[j].N)
			}
		}
		if need := max(1, spends[i].N); a.tokens+slack < float64(need) {
			return a.result(i, need, false), nil
		}
	}
	least := Result{OK: true, Index: -1}
	for i := range all {
		a := &all[i]
		if a.rate == (Rate{}) {
			continue
		}
		if n := spends[i].N; n > 0 {
			// Not AllowN: it judges anew, to the nanosecond, and could refuse this
			// one after the others were taken.
			a.bucket.lim.ReserveN(now, n)
			a.tokens -= float64(n)
		}
		if r := a.result(i, 0, true); least.Index < 0 || r.Remaining < least.Remaining {
			least = r
		}
	}
	return least, nil
}

// result tells of spend i; need is what it asked for if it is refused.
func (a *asked) result(i, need int, ok bool) Result {
	r := Result{
		OK:        ok,
		Index:     i,
		Limit:     a.rate.Burst,
		Remaining: int(max(0, math.Floor(a.tokens+slack))),
	}
	if missing := float64(a.rate.Burst) - a.tokens; missing > slack {
		r.Reset = a.rate.refill(missing)
	}
	switch {
	case ok:
	case need > a.rate.Burst:
		r.RetryAfter = math.MaxInt64
	default:
		r.RetryAfter = a.rate.refill(float64(need) - a.tokens)
	}
	return r
}

// clock is now, but never before an earlier now: x/time/rate would take the
// way back, walked again, for time that has passed.
func (m *Memory) clock() time.Time {
	if now := m.now(); now.After(m.last) {
		m.last = now
	}
	return m.last
}

// bucket finds the bucket of s, at rate r. It is nil if there is none, there is
// room for one, and s takes nothing: no memory is spent on a question.
func (m *Memory) bucket(s Spend, r Rate, now time.Time) *bucket {
	key := s.Key
	if len(key.Client) > maxClient {
		sum := sha256.Sum256([]byte(key.Client))
		key.Client = "sha256:" + string(sum[:])
	}
	b, ok := m.buckets.Get(key)
	switch {
	case ok:
	case !m.room(now):
		b = m.shared(s, r)
	case s.N == 0:
		return nil
	default:
		// The caller's string may be a slice of something larger, which would live
		// as long as the bucket.
		key.Client = strings.Clone(key.Client)
		b = newBucket(r)
		m.buckets.Add(key, b)
	}
	b.turn = m.turn
	b.at(r, now)
	return b
}

// room reports whether one more key fits, after dropping one of the oldest if
// it is full again and not in use by this Take. Others that it meets go to the
// end of the queue, so that the next newcomer asks elsewhere.
func (m *Memory) room(now time.Time) bool {
	if m.buckets.Len() < m.keys {
		return true
	}
	for range lookBack {
		key, b, _ := m.buckets.GetOldest()
		if b.turn != m.turn && b.full(now) {
			return m.buckets.Remove(key)
		}
		m.buckets.Get(key)
	}
	return false
}

// shared is the bucket of everybody who found no place in limit s.Limit.
func (m *Memory) shared(s Spend, r Rate) *bucket {
	if s.N > 0 {
		m.overflowed.Add(1)
	}
	b, ok := m.overflow[s.Limit]
	if !ok {
		b = newBucket(r)
		m.overflow[s.Limit] = b
	}
	return b
}

// tidy drops shared buckets that are full again, those of limits that are no
// more among them. It runs before a Take holds any, and seldom.
func (m *Memory) tidy(now time.Time) {
	if len(m.overflow) == 0 || now.Sub(m.tidied) < time.Minute {
		return
	}
	m.tidied = now
	for limit, b := range m.overflow {
		if b.full(now) {
			delete(m.overflow, limit)
		}
	}
}

func (b *bucket) full(now time.Time) bool {
	return b.lim.TokensAt(now) >= float64(b.rate.Burst)-slack
}

// at makes b a bucket of rate r and keeps what was spent, not what is left: 5 of
// 5 spent, raised to 50, leave 45. More than the new bucket holds is not owed.
//
// rate.Limiter.SetBurst keeps what is left, and only whole events can be spent.
// So the spent ones are spent again on a new Limiter, rounded up, as long ago
// as the part too much takes to come back.
func (b *bucket) at(r Rate, now time.Time) {
	if b.rate == r {
		return
	}
	spent := float64(b.rate.Burst) - b.lim.TokensAt(now)
	spent = min(max(0, spent), float64(r.Burst))
	again := math.Ceil(spent - slack)
	lim := rate.NewLimiter(rate.Limit(r.perSecond()), r.Burst)
	if again > 0 {
		lim.ReserveN(now.Add(-r.refill(again-spent)), int(again))
	}
	b.rate, b.lim = r, lim
}
