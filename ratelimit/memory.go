package ratelimit

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// DefaultKeys is how many buckets a Memory holds unless told otherwise.
	DefaultKeys = 100_000

	// lookBack is how many of the oldest buckets a newcomer asks for their place.
	lookBack = 8
)

// Memory is a Limiter for one process: one bucket per key, in an LRU.
//
// It holds at most `keys` buckets, some 230 bytes each with a key of usual
// length and 340 at most: with DefaultKeys about 22 MiB, 33 MiB at worst,
// however many sources there are (G16). A bucket is dropped only when it is full again,
// for a dropped bucket is a forgiven debt. When there is no such bucket among
// the oldest, newcomers share one bucket per limit until there is: stricter,
// never unlimited.
type Memory struct {
	now        func() time.Time
	start      time.Time // what bucket.at counts from
	keys       int
	overflowed atomic.Uint64

	mu       sync.Mutex // over lookup and spend: all of several spends, or none
	buckets  *simplelru.LRU[Key, *bucket]
	overflow map[string]*bucket // by limit, for who finds no place
	held     map[Key]places     // what is in flight
	last     time.Duration      // of the latest call; time does not run backwards
	tidied   time.Duration      // when overflow was last cleared of what is full
	turn     uint64             // counts calls
}

var _ Limiter = (*Memory)(nil)

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
	return &Memory{
		now: now, start: now(), keys: keys,
		buckets: buckets, overflow: make(map[string]*bucket), held: make(map[Key]places),
	}
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

// begin locks m for one call and tells the time, which is never before that of
// an earlier call: the way back, walked again, is no time that has passed.
func (m *Memory) begin() time.Duration {
	now := m.now() // not under the lock that everybody waits for
	m.mu.Lock()
	m.last = max(m.last, now.Sub(m.start))
	m.tidy(m.last)
	m.turn++
	return m.last
}

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
	for i := range spends {
		r, err := spends[i].checked()
		if err != nil {
			return Result{}, err
		}
		all = append(all, asked{rate: r})
	}

	now := m.begin()
	defer m.mu.Unlock()
	for i := range all {
		if all[i].rate != (Rate{}) {
			all[i].bucket = m.bucket(&spends[i], all[i].rate, now)
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
			a.tokens -= a.bucket.spentAt(now)
		}
		// One bucket may be named twice; what the earlier spend will take is gone.
		for j := range i {
			if a.bucket != nil && all[j].bucket == a.bucket {
				a.tokens -= float64(spends[j].N)
			}
		}
		if need := max(1, spends[i].N); a.tokens+slack < float64(need) {
			return a.rate.result(a.tokens, i, need, false), nil
		}
	}
	least := Result{OK: true, Index: -1}
	for i := range all {
		a := &all[i]
		if a.rate == (Rate{}) {
			continue
		}
		if n := spends[i].N; n > 0 {
			a.bucket.spend(n, now)
			a.tokens -= float64(n)
		}
		if r := a.rate.result(a.tokens, i, 0, true); least.Index < 0 || r.Remaining < least.Remaining {
			least = r
		}
	}
	return least, nil
}

// Pace implements Limiter; ctx is not looked at, the caller does the waiting.
func (m *Memory) Pace(_ context.Context, spends ...Spend) (wait time.Duration, err error) {
	for i := range spends {
		if _, err := spends[i].checked(); err != nil {
			return 0, err
		}
	}
	now := m.begin()
	defer m.mu.Unlock()
	for i := range spends {
		r, _ := spends[i].checked()
		if r == (Rate{}) {
			continue
		}
		if b := m.bucket(&spends[i], r, now); b != nil {
			wait = max(wait, b.owe(spends[i].N, now))
		}
	}
	return wait, nil
}

// bucket finds the bucket of s, at rate r. It is nil if there is none, there is
// room for one, and s takes nothing: no memory is spent on a question.
func (m *Memory) bucket(s *Spend, r Rate, now time.Duration) *bucket {
	key := s.stored()
	b, ok := m.buckets.Get(key)
	switch {
	case ok:
	case !m.room(now):
		b = m.shared(s, r, now)
	case s.N == 0:
		return nil
	default:
		// The caller's string may be a slice of something larger, which would live
		// as long as the bucket.
		key.Client = strings.Clone(key.Client)
		b = &bucket{rate: r, at: now}
		m.buckets.Add(key, b)
	}
	b.turn = m.turn
	b.change(r, now)
	return b
}

// room reports whether one more key fits, after dropping one of the oldest if
// it is full again and not in use by this call. Others that it meets go to the
// end of the queue, so that the next newcomer asks elsewhere.
func (m *Memory) room(now time.Duration) bool {
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
func (m *Memory) shared(s *Spend, r Rate, now time.Duration) *bucket {
	if s.N > 0 {
		m.overflowed.Add(1)
	}
	b, ok := m.overflow[s.Limit]
	if !ok {
		b = &bucket{rate: r, at: now}
		m.overflow[s.Limit] = b
	}
	return b
}

// tidy drops shared buckets that are full again, those of limits that are no
// more among them. It runs before a call holds any, and seldom.
func (m *Memory) tidy(now time.Duration) {
	if len(m.overflow) == 0 || now-m.tidied < time.Minute {
		return
	}
	m.tidied = now
	for limit, b := range m.overflow {
		if b.full(now) {
			delete(m.overflow, limit)
		}
	}
}
