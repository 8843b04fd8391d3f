package ratelimit

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// listStep is how many buckets a List of a Memory looks at before it lets
// others in: a tenth of a millisecond.
const listStep = 512

// fullest keeps the most used of what it is told, twice `most` at once.
type fullest struct {
	most int
	all  []ranked
}

// ranked is a Usage and when it came to be: the larger the later.
type ranked struct {
	Usage
	at float64
}

func (f *fullest) add(u Usage, at float64) {
	if f.most <= 0 || u.Used <= 0 {
		return
	}
	if f.all = append(f.all, ranked{u, at}); len(f.all) >= 2*f.most {
		f.cut()
	}
}

func (f *fullest) cut() {
	slices.SortFunc(f.all, func(a, b ranked) int {
		return cmp.Or(
			cmp.Compare(b.share(), a.share()),
			cmp.Compare(b.at, a.at),
			cmp.Compare(a.Limit, b.Limit),
			cmp.Compare(a.Client, b.Client),
		)
	})
	f.all = f.all[:min(len(f.all), f.most)]
}

// share is how much of the bucket is used; 1 is all of it.
func (u *Usage) share() float64 { return float64(u.Used) / float64(max(1, u.Size)) }

// list is what was kept, in order.
func (f *fullest) list() []Usage {
	f.cut()
	usages := make([]Usage, len(f.all))
	for i := range f.all {
		usages[i] = f.all[i].Usage
	}
	return usages
}

// List implements Limiter. The lock is not held for all of it: a decision waits
// a tenth of a millisecond at most, but for the copy of the keys at the start
// (some milliseconds if there are 100,000).
func (m *Memory) List(ctx context.Context, limit string, most int) ([]Usage, error) {
	f := fullest{most: most}
	now := m.begin()
	keys := m.buckets.Keys()
	for k, p := range m.held {
		if limit == "" || k.Limit == limit {
			f.add(Usage{Key: k, Size: p.most, Used: p.taken}, 0)
		}
	}
	for of, b := range m.overflow {
		if limit == "" || of == limit {
			f.add(b.rate.usage(Key{of, Shared}, b.spentAt(now)), b.at.Seconds())
		}
	}
	m.mu.Unlock()
	for some := range slices.Chunk(keys, listStep) {
		if err := ctx.Err(); err != nil {
			return f.list(), err
		}
		m.look(&f, some, limit, now)
	}
	return f.list(), nil
}

// look tells f of the buckets of keys, without using them.
func (m *Memory) look(f *fullest, keys []Key, limit string, now time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if limit != "" && k.Limit != limit {
			continue
		}
		if b, ok := m.buckets.Peek(k); ok {
			f.add(b.rate.usage(k, b.spentAt(max(now, b.at))), b.at.Seconds())
		}
	}
}

// Reset implements Limiter.
func (m *Memory) Reset(_ context.Context, k Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := m.buckets.Remove(k.stored())
	if _, ok := m.overflow[k.Limit]; ok && k.Client == Shared {
		delete(m.overflow, k.Limit)
		found = true
	}
	if !found {
		return ErrNoBucket
	}
	return nil
}
