package ratelimit_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regward/regward/ratelimit"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	testLimiter(t, func(now func() time.Time) ratelimit.Limiter { return ratelimit.NewMemory(5000, now) })
}

// An LRU that drops a debtor forgives a debt: with 100 keys, strangers could
// buy one client any number of bursts.
func TestNoDebtIsForgivenByStrangers(t *testing.T) {
	c := newClock()
	m := ratelimit.NewMemory(100, c.now)
	victim := spend(t, "people", "user:ann", "5/h", 1)
	passed := passes(t, m, 10, victim)
	for i := range 10_000 {
		take(t, m, spend(t, "people", fmt.Sprint("user:", i), "5/h", 1))
		if i%100 == 0 {
			passed += passes(t, m, 1, victim)
		}
	}
	if passed != 5 {
		t.Errorf("%d passed a burst of 5", passed)
	}
	if m.Len() != 100 {
		t.Errorf("%d keys held, want 100", m.Len())
	}
}

func TestG16_NewcomersShareOneBucketWhileAllPlacesAreOwed(t *testing.T) {
	c := newClock()
	m := ratelimit.NewMemory(10, c.now)
	for i := range 10 {
		take(t, m, spend(t, "anonymous", fmt.Sprint("ip:", i), "5/h", 1))
	}
	if m.Overflowed() != 0 {
		t.Fatalf("%d overflowed with room left", m.Overflowed())
	}
	var passed int
	for i := range 100 {
		passed += passes(t, m, 1, spend(t, "anonymous", fmt.Sprint("new:", i), "5/h", 1))
	}
	if passed != 5 {
		t.Errorf("%d newcomers passed one shared bucket of 5", passed)
	}
	if m.Overflowed() != 100 || m.Len() != 10 {
		t.Errorf("%d overflowed into %d keys, want 100 and 10", m.Overflowed(), m.Len())
	}
	if take(t, m, spend(t, "anonymous", "new:0", "5/h", 0)).OK {
		t.Error("a question does not see the shared bucket that a spend would meet")
	}
	if !take(t, m, spend(t, "people", "user:ann", "5/h", 1)).OK {
		t.Error("another limit shares the bucket as well")
	}
	c.add(12 * time.Minute) // one event is back everywhere: the ten are full
	if r := take(t, m, spend(t, "anonymous", "new:200", "5/h", 1)); !r.OK || r.Remaining != 4 {
		t.Errorf("with places free again a newcomer got %+v, want a bucket of its own", r)
	}
}

// Room is found behind debtors, if not by this newcomer then by a later one.
func TestADebtorDoesNotBlockTheQueue(t *testing.T) {
	c := newClock()
	m := ratelimit.NewMemory(100, c.now)
	for i := range 50 { // the oldest fifty owe for a long time
		take(t, m, spend(t, "slow", fmt.Sprint(i), "1/7d", 1))
	}
	for i := range 50 {
		take(t, m, spend(t, "fast", fmt.Sprint(i), "1/s", 1))
	}
	c.add(time.Minute)
	for i := range 50 {
		take(t, m, spend(t, "new", fmt.Sprint(i), "1/7d", 1))
	}
	if got := m.Overflowed(); got > 10 {
		t.Errorf("%d of 50 newcomers shared a bucket beside 50 free places", got)
	}
	for i := range 50 {
		if take(t, m, spend(t, "slow", fmt.Sprint(i), "1/7d", 1)).OK {
			t.Errorf("the debt of %d is forgiven", i)
		}
	}
}

// Buckets that one Take has just made are full, and must not make room for each
// other.
func TestOneTakeDoesNotEvictItsOwn(t *testing.T) {
	for _, keys := range []int{1, 2, 3, 8} {
		c := newClock()
		m := ratelimit.NewMemory(keys, c.now)
		var all []ratelimit.Spend
		for i := range 12 { // more than the array on the stack, too
			all = append(all, spend(t, fmt.Sprint("limit", i), "user:ann", "3/h", 1))
		}
		if got := passes(t, m, 10, all...); got != 3 {
			t.Errorf("%d keys: %d pass twelve buckets of 3", keys, got)
		}
		for i, s := range all {
			if take(t, m, s).OK {
				t.Errorf("%d keys: bucket %d was given up", keys, i)
			}
		}
		if m.Len() > keys {
			t.Errorf("%d keys held, want at most %d", m.Len(), keys)
		}
	}
}

func TestPlacesAreForgottenWithTheLastAndBounded(t *testing.T) {
	m := ratelimit.NewMemory(2, time.Now)
	var releases []func()
	for i := range 5 { // the third and later share
		release, _ := hold(t, m, true, holding("transfers", fmt.Sprint("ip:", i), 3))
		releases = append(releases, release)
	}
	hold(t, m, false, holding("transfers", "ip:9", 3))
	other, _ := hold(t, m, true, holding("others", "ip:9", 3))
	again, _ := hold(t, m, true, holding("transfers", "ip:0", 3)) // who has a place shares none
	if m.HeldKeys() != 4 {
		t.Errorf("%d keys, want two and one shared for each limit", m.HeldKeys())
	}
	for _, release := range append(releases[1:], other) {
		release()
	}
	for range 3 { // a place of its own again
		hold(t, m, true, holding("transfers", "ip:9", 3))
	}
	if m.HeldKeys() != 2 {
		t.Errorf("%d keys are known while two are held", m.HeldKeys())
	}
	releases[0]()
	again()
	if m.HeldKeys() != 1 {
		t.Errorf("%d keys are known while one is held", m.HeldKeys())
	}
}

func TestManyHoldAtOnceAndNoMoreThanThereAre(t *testing.T) {
	m := ratelimit.NewMemory(0, time.Now)
	var now, most atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				release, r, _ := m.Hold(context.Background(), holding("a", "user:ann", 3), holding("b", "all", 5))
				if r.OK {
					if n := now.Add(1); n > most.Load() {
						most.Store(n)
					}
					now.Add(-1)
				}
				release()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || m.HeldKeys() != 0 {
		t.Errorf("%d held at once, %d keys known after", most.Load(), m.HeldKeys())
	}
}

func TestTheSharedBucketIsListedAndReset(t *testing.T) {
	c := newClock()
	m := ratelimit.NewMemory(1, c.now)
	take(t, m, spend(t, "anonymous", "ip:0", "5/h", 1))
	passes(t, m, 5, spend(t, "anonymous", "ip:1", "5/h", 1))
	if got := list(t, m, "anonymous", 1); len(got) != 1 || !strings.HasPrefix(got[0], "anonymous * 5 of 5") {
		t.Errorf("got %q, want the shared bucket first", got)
	}
	if err := m.Reset(context.Background(), ratelimit.Key{Limit: "anonymous", Client: ratelimit.Shared}); err != nil {
		t.Error(err)
	}
	if got := passes(t, m, 7, spend(t, "anonymous", "ip:2", "5/h", 1)); got != 5 {
		t.Errorf("%d pass after a reset, want 5", got)
	}
}

func TestAQuestionNeedsNoMemory(t *testing.T) {
	c := newClock()
	m := ratelimit.NewMemory(0, c.now)
	for i := range 1000 {
		take(t, m, spend(t, "failed_logins", fmt.Sprint("ip:", i), "10/15m", 0))
	}
	if m.Len() != 0 {
		t.Errorf("%d keys held after nothing was spent", m.Len())
	}
}

func TestAClockSetBackGivesNothing(t *testing.T) {
	c := newClock()
	m := ratelimit.NewMemory(0, c.now)
	s := spend(t, "people", "user:ann", "50/10h", 1)
	passed := passes(t, m, 1, s)
	for range 100 { // back and forth, spending at both ends
		c.add(-24 * time.Hour)
		passed += passes(t, m, 1, s)
		c.add(24 * time.Hour)
		passed += passes(t, m, 1, s)
	}
	if passed != 50 {
		t.Errorf("%d passed a burst of 50", passed)
	}
	c.add(12 * time.Minute)
	if !take(t, m, s).OK {
		t.Error("time that really passed gives nothing back")
	}
	c.t = time.Time{}
	if take(t, m, s).OK {
		t.Error("the zero time gives credit")
	}
}

func TestG16_AMillionSourcesFitIn64MiB(t *testing.T) {
	for name, source := range map[string]func(int) string{
		"addresses": func(i int) string { return fmt.Sprintf("ip:2001:db8:%x:%x::/64", i>>16, i&0xffff) },
		"names of 4 KiB": func(i int) string {
			return fmt.Sprintf("user:%07d", i) + strings.Repeat("x", 4<<10)
		},
		"names of 128 bytes": func(i int) string { return fmt.Sprintf("user:%0123d", i) },
	} {
		c := newClock()
		m := ratelimit.NewMemory(ratelimit.DefaultKeys, c.now)
		s := spend(t, "anonymous", "", "100/6h", 1)
		sources := 1_000_000
		switch {
		case underRace:
			sources = ratelimit.DefaultKeys * 6 / 5
		case name != "addresses":
			sources = 200_000 // twice what is held tells as much, sooner
		}
		before := heap()
		for i := range sources {
			s.Client = source(i)
			if _, err := m.Take(context.Background(), s); err != nil { // not take: t.Helper costs more than a Take
				t.Fatal(err)
			}
		}
		if got := heap() - before; got > 64<<20 || got < 10<<20 {
			t.Errorf("%s: %d sources cost %.1f MiB, want at most 64 (and some)", name, sources, float64(got)/(1<<20))
		} else {
			t.Logf("%s: %d sources cost %.1f MiB", name, sources, float64(got)/(1<<20))
		}
		if m.Len() != ratelimit.DefaultKeys {
			t.Errorf("%s: %d keys held", name, m.Len())
		}
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int(s.HeapAlloc)
}

func TestG16_ManyAtOncePassTheBurstAndNoMore(t *testing.T) {
	c := newClock() // nobody moves it
	m := ratelimit.NewMemory(0, c.now)
	a, b := spend(t, "a", "user:ann", "500/h", 1), spend(t, "b", "user:ann", "300/h", 1)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				order := []ratelimit.Spend{a, b}
				if i%2 == 1 {
					order[0], order[1] = b, a
				}
				if r, err := m.Take(context.Background(), order...); err == nil && r.OK {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != 300 {
		t.Errorf("%d passed, want 300", passed.Load())
	}
	if r := take(t, m, a); r.Remaining != 199 {
		t.Errorf("%d left in the larger bucket, want 199", r.Remaining)
	}
}

func TestTakeDoesNotAllocate(t *testing.T) {
	m := ratelimit.NewMemory(0, time.Now)
	spends := []ratelimit.Spend{
		spend(t, "people", "user:ann", "1000/6h", 1),
		spend(t, "requests", "user:ann", "10000000/s", 1),
		spend(t, "free", "user:ann", "none", 1),
		spend(t, "failed_logins", "user:ann", "10/15m", 0),
	}
	ctx := context.Background()
	var l ratelimit.Limiter = m
	if n := testing.AllocsPerRun(2000, func() { _, _ = l.Take(ctx, spends...) }); n != 0 {
		t.Errorf("%v allocations for a Take, passed or refused", n)
	}
	if n := testing.AllocsPerRun(2000, func() { _, _ = l.Pace(ctx, spends...) }); n != 0 {
		t.Errorf("%v allocations for a Pace", n)
	}
}

func BenchmarkTake(b *testing.B) {
	for _, keys := range []int{1, 100, 10_000, 100_000} {
		b.Run(fmt.Sprint("keys=", keys), func(b *testing.B) {
			m := ratelimit.NewMemory(ratelimit.DefaultKeys, time.Now)
			spends := make([]ratelimit.Spend, keys)
			for i := range spends {
				spends[i] = spend(b, "people", fmt.Sprintf("user:%07d", i), "10000000/s", 1)
			}
			// The buckets lie in memory in another order than they are asked for in.
			for _, i := range rand.Perm(keys) {
				take(b, m, spends[i])
			}
			b.ReportAllocs()
			ctx := context.Background()
			i := 0
			for b.Loop() {
				_, _ = m.Take(ctx, spends[i%keys])
				i++
			}
		})
	}
	for name, rate := range map[string]string{"passed": "10000000/s", "refused": "1/366d"} {
		b.Run("parallel, one key, "+name, func(b *testing.B) {
			m := ratelimit.NewMemory(ratelimit.DefaultKeys, time.Now)
			s := spend(b, "people", "user:ann", rate, 1)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, _ = m.Take(context.Background(), s)
				}
			})
		})
	}
	b.Run("three limits", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.DefaultKeys, time.Now)
		spends := []ratelimit.Spend{
			spend(b, "people", "user:ann", "10000000/s", 1),
			spend(b, "requests", "user:ann", "100000000/h", 1),
			spend(b, "namespace", "coolteam", "10000000/s", 1),
		}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = m.Take(context.Background(), spends...)
		}
	})
	b.Run("parallel, 100000 keys", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.DefaultKeys, time.Now)
		spends := make([]ratelimit.Spend, 100_000)
		for i := range spends {
			spends[i] = spend(b, "people", fmt.Sprintf("user:%07d", i), "10000000/s", 1)
		}
		for _, i := range rand.Perm(len(spends)) { // newcomers are another question
			take(b, m, spends[i])
		}
		b.ReportAllocs()
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				_, _ = m.Take(context.Background(), spends[rand.IntN(len(spends))])
			}
		})
	})
	b.Run("pace", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.DefaultKeys, time.Now)
		s := ratelimit.Spend{Key: ratelimit.Key{Limit: "uplink", Client: "user:ann"}, Rate: mustByteRate(b, "20MB/s"), N: 32 << 10}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = m.Pace(context.Background(), s)
		}
	})
	b.Run("hold and release", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.DefaultKeys, time.Now)
		b.ReportAllocs()
		for b.Loop() {
			release, _, _ := m.Hold(context.Background(), holding("transfers", "user:ann", 100))
			release()
		}
	})
	b.Run("list ten of 100000", func(b *testing.B) {
		m := ratelimit.NewMemory(ratelimit.DefaultKeys, time.Now)
		for i := range 100_000 {
			_, _ = m.Take(context.Background(), spend(b, "people", fmt.Sprintf("user:%07d", i), "1000/6h", 1))
		}
		for b.Loop() {
			_, _ = m.List(context.Background(), "people", 10)
		}
	})
	b.Run("flood of newcomers, no place free", func(b *testing.B) {
		m := ratelimit.NewMemory(1000, time.Now)
		spends := make([]ratelimit.Spend, 10_000)
		for i := range spends {
			spends[i] = spend(b, "anonymous", fmt.Sprintf("ip:%07d", i), "100/6h", 1)
		}
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			_, _ = m.Take(context.Background(), spends[i%len(spends)])
			i++
		}
	})
}
