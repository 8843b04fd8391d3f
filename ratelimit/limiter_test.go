package ratelimit_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/ratelimit"
)

// clock is set by hand.
// clock may be read by a probe while the test sets it.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func mustRate(t testing.TB, s string) ratelimit.Rate {
	t.Helper()
	r, err := ratelimit.ParseRate(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// spend is written limit, client, rate, n.
func spend(t testing.TB, limit, client, rate string, n int) ratelimit.Spend {
	t.Helper()
	s := ratelimit.Spend{Key: ratelimit.Key{Limit: limit, Client: client}, N: n}
	if rate != "none" {
		s.Rate = mustRate(t, rate)
	}
	return s
}

func take(t testing.TB, l ratelimit.Limiter, s ...ratelimit.Spend) ratelimit.Result {
	t.Helper()
	r, err := l.Take(context.Background(), s...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// passes counts how many of n single events get through.
func passes(t testing.TB, l ratelimit.Limiter, n int, s ...ratelimit.Spend) (passed int) {
	t.Helper()
	for range n {
		if take(t, l, s...).OK {
			passed++
		}
	}
	return passed
}

// limiterTest is one promise of every Limiter.
type limiterTest struct {
	name string
	test func(*testing.T, ratelimit.Limiter, *clock)
}

// testLimiter is what every Limiter promises. newLimiter makes one with nothing
// spent, that holds some thousand keys and goes by the clock.
func testLimiter(t *testing.T, newLimiter func(now func() time.Time) ratelimit.Limiter) {
	for _, tt := range slices.Concat(takeTests(), paceTests(), holdTests(), listTests()) {
		t.Run(tt.name, func(t *testing.T) {
			c := newClock()
			tt.test(t, newLimiter(c.now), c)
		})
	}
}

// takeTests are what every Limiter promises of events.
func takeTests() []limiterTest {
	return []limiterTest{
		{"a burst at once, then one by one", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s := spend(t, "people", "user:ann", "1000/6h", 1)
			if got := passes(t, l, 1100, s); got != 1000 {
				t.Errorf("%d at once, want 1000", got)
			}
			c.add(21*time.Second + 600*time.Millisecond - 1*time.Millisecond)
			if got := passes(t, l, 10, s); got != 0 {
				t.Errorf("%d pass before the first is back", got)
			}
			c.add(1 * time.Millisecond)
			if got := passes(t, l, 10, s); got != 1 {
				t.Errorf("%d pass after 21.6 s, want 1", got)
			}
			c.add(6 * time.Hour)
			if got := passes(t, l, 1100, s); got != 1000 {
				t.Errorf("%d after six hours, want 1000", got)
			}
		}},
		{"every figure of a result", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s := spend(t, "anonymous", "ip:192.0.2.7", "5/50s", 1)
			for left := 4; left >= 0; left-- {
				want := ratelimit.Result{OK: true, Limit: 5, Remaining: left, Reset: time.Duration(5-left) * 10 * time.Second}
				if diff := cmp.Diff(want, take(t, l, s)); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
			}
			refused := ratelimit.Result{Limit: 5, RetryAfter: 10 * time.Second, Reset: 50 * time.Second}
			if diff := cmp.Diff(refused, take(t, l, s)); diff != "" {
				t.Errorf("refused: -want +got\n%s", diff)
			}
			c.add(4 * time.Second)
			refused.RetryAfter, refused.Reset = 6*time.Second, 46*time.Second
			if diff := cmp.Diff(refused, take(t, l, s)); diff != "" {
				t.Errorf("4 s later: -want +got\n%s", diff)
			}
			s.N = 3
			refused.RetryAfter = 26 * time.Second
			if diff := cmp.Diff(refused, take(t, l, s)); diff != "" {
				t.Errorf("three at once: -want +got\n%s", diff)
			}
			s.N = 6
			refused.RetryAfter = math.MaxInt64
			if diff := cmp.Diff(refused, take(t, l, s)); diff != "" {
				t.Errorf("more than there ever are: -want +got\n%s", diff)
			}
		}},
		{"who waits RetryAfter gets through", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			for _, rate := range []string{"3/7d", "7/s", "1000/6h", "13/17m", "1/366d", "1000000/s"} {
				s := spend(t, rate, "user:ann", rate, 1)
				s.Rate.Burst = 3
				for range 20 {
					for take(t, l, s).OK {
					}
					c.add(take(t, l, s).RetryAfter)
					if r := take(t, l, s); !r.OK {
						t.Errorf("%s: refused after the wait, for %v more", rate, r.RetryAfter)
					}
				}
			}
		}},
		{"the zero rate is no limit", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			none := spend(t, "free", "user:ann", "none", 1_000_000)
			for _, s := range [][]ratelimit.Spend{nil, {none}, {none, none}} {
				if diff := cmp.Diff(ratelimit.Result{OK: true, Index: -1}, take(t, l, s...)); diff != "" {
					t.Errorf("%d of them: -want +got\n%s", len(s), diff)
				}
			}
			r := take(t, l, none, spend(t, "people", "user:ann", "5/h", 1), none)
			if !r.OK || r.Index != 1 || r.Remaining != 4 {
				t.Errorf("beside a real one: got %+v, want Index 1 with 4 left", r)
			}
		}},
		{"burst is its own figure", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s := spend(t, "ci", "user:ci-bot", "40/s", 1)
			s.Rate.Burst = 4000
			if got := passes(t, l, 4100, s); got != 4000 {
				t.Errorf("%d at once, want 4000", got)
			}
			c.add(time.Second)
			if got := passes(t, l, 100, s); got != 40 {
				t.Errorf("%d in the next second, want 40", got)
			}
			s.Client, s.Rate.Burst = "user:other", 0
			if got := passes(t, l, 100, s); got != 40 {
				t.Errorf("burst unset: %d at once, want the count, 40", got)
			}
		}},
		{"S08: a refusal takes nothing, from none", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			a, b := spend(t, "a", "user:ann", "10/h", 1), spend(t, "b", "user:ann", "2/h", 1)
			for _, order := range [][]ratelimit.Spend{{a, b}, {b, a}} {
				passes(t, l, 50, order...)
			}
			if got := passes(t, l, 20, a); got != 8 {
				t.Errorf("%d left in a after 2 of 100 passed b, want 8", got)
			}
			r := take(t, l, b)
			if r.OK || r.RetryAfter != 30*time.Minute {
				t.Errorf("a hundred refusals made it %+v, want 30m to wait", r)
			}
		}},
		{"the first that refuses is told of, else the one with least left", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			a, b, d := spend(t, "a", "x", "9/h", 1), spend(t, "b", "x", "3/h", 1), spend(t, "d", "x", "3/h", 1)
			if r := take(t, l, a, b, d); !r.OK || r.Index != 1 || r.Limit != 3 || r.Remaining != 2 {
				t.Errorf("got %+v, want Index 1 with 2 of 3", r)
			}
			passes(t, l, 3, b)
			passes(t, l, 3, d)
			if r := take(t, l, a, d, b); r.OK || r.Index != 1 {
				t.Errorf("got %+v, want a refusal by Index 1", r)
			}
		}},
		{"N = 0 asks and takes nothing", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			ask, one := spend(t, "failed_logins", "ip:192.0.2.7", "2/h", 0), spend(t, "failed_logins", "ip:192.0.2.7", "2/h", 1)
			for range 10 {
				if diff := cmp.Diff(ratelimit.Result{OK: true, Limit: 2, Remaining: 2}, take(t, l, ask)); diff != "" {
					t.Fatalf("-want +got\n%s", diff)
				}
			}
			passes(t, l, 2, one)
			if r := take(t, l, ask); r.OK || r.RetryAfter != 30*time.Minute {
				t.Errorf("of an empty one: got %+v, want a refusal for 30m", r)
			}
			other := spend(t, "people", "user:ann", "5/h", 1)
			if take(t, l, other, ask).OK {
				t.Error("an empty bucket that is only asked lets the rest pass")
			}
			if r := take(t, l, other); r.Remaining != 4 {
				t.Errorf("%d left beside it, want 4", r.Remaining)
			}
		}},
		{"one bucket named twice is asked for the sum", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			two := spend(t, "people", "user:ann", "5/h", 2)
			if !take(t, l, two, two).OK {
				t.Error("4 of 5 refused")
			}
			if take(t, l, spend(t, "people", "user:ann", "5/h", 1), two).OK {
				t.Error("7 of 5 pass")
			}
			if r := take(t, l, spend(t, "people", "user:ann", "5/h", 0)); r.Remaining != 1 {
				t.Errorf("%d left, want 1", r.Remaining)
			}
		}},
		{"keys do not touch each other", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			long := fmt.Sprintf("repository:%0300d", 0)
			for _, k := range []ratelimit.Key{{"a", "b"}, {"a", ""}, {"", "ab"}, {"ab", ""}, {"", ""}, {"a", long + "x"}, {"a", long + "y"}} {
				if got := passes(t, l, 5, ratelimit.Spend{Key: k, Rate: mustRate(t, "3/h"), N: 1}); got != 3 {
					t.Errorf("%q: %d pass, want 3", k, got)
				}
			}
		}},
		{"5 of 5 used, raised to 50, leave 45 at once", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			passes(t, l, 5, spend(t, "people", "user:ann", "5/6h", 1))
			if got := passes(t, l, 60, spend(t, "people", "user:ann", "50/6h", 1)); got != 45 {
				t.Errorf("%d left, want 45", got)
			}
		}},
		{"lowered, what was spent is still spent", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			passes(t, l, 30, spend(t, "people", "user:ann", "50/50m", 1))
			if r := take(t, l, spend(t, "people", "user:ann", "40/40m", 0)); r.Remaining != 10 {
				t.Errorf("50 to 40: %d left, want 10", r.Remaining)
			}
			r := take(t, l, spend(t, "people", "user:ann", "5/50m", 1))
			if r.OK || r.RetryAfter != 10*time.Minute || r.Reset != 50*time.Minute {
				t.Errorf("40 to 5: got %+v, want 10m to the next and 50m to all: no more is owed than it holds", r)
			}
		}},
		{"a change keeps what came back in part", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			passes(t, l, 5, spend(t, "people", "user:ann", "5/50m", 1))
			c.add(4 * time.Minute) // 0.4 of an event is back
			r := take(t, l, spend(t, "people", "user:ann", "5/100m", 1))
			if got := r.RetryAfter.Round(time.Millisecond); r.OK || got != 12*time.Minute {
				t.Errorf("got %+v, want a refusal for 12m: 0.6 of 20m", r)
			}
			// Changed back and forth, nothing is gained and nothing is lost.
			for range 1000 {
				take(t, l, spend(t, "people", "user:ann", "5/50m", 0))
				take(t, l, spend(t, "people", "user:ann", "5/100m", 0))
			}
			if got := take(t, l, spend(t, "people", "user:ann", "5/100m", 1)).RetryAfter.Round(time.Second); got != 12*time.Minute {
				t.Errorf("after a thousand changes %v, want 12m", got)
			}
		}},
		{"limited, unlimited, limited again", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s := spend(t, "people", "user:ann", "5/h", 1)
			passes(t, l, 5, s)
			take(t, l, spend(t, "people", "user:ann", "none", 1))
			if take(t, l, s).OK {
				t.Error("taking the limit away for a moment forgave the debt")
			}
		}},
		{"what makes no sense is an error, not an answer", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			good := spend(t, "people", "user:ann", "5/h", 1)
			for name, s := range map[string]ratelimit.Spend{
				"negative N": {Key: good.Key, Rate: good.Rate, N: -1},
				"no period":  {Key: good.Key, Rate: ratelimit.Rate{Events: 5}, N: 1},
				"no events":  {Key: good.Key, Rate: ratelimit.Rate{Per: time.Hour}, N: 1},
				"only burst": {Key: good.Key, Rate: ratelimit.Rate{Burst: 5}, N: 1},
				"bad burst":  {Key: good.Key, Rate: ratelimit.Rate{Events: 5, Per: time.Hour, Burst: -5}, N: 1},
			} {
				if r, err := l.Take(context.Background(), good, s); err == nil || r.OK {
					t.Errorf("%s: got %+v, %v", name, r, err)
				}
			}
			if r := take(t, l, good); r.Remaining != 4 {
				t.Errorf("the errors took events: %d left, want 4", r.Remaining)
			}
		}},
		{"the bench's rates", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			for _, rate := range []string{"10000000/s", "100000000/h", "1000000000/s", "1000000000/366d"} {
				s := spend(t, rate, "all", rate, 1)
				for range 1000 {
					if !take(t, l, s).OK {
						t.Fatalf("%s refuses", rate)
					}
				}
				if r := take(t, l, s); r.Remaining != s.Rate.Events-1001 {
					t.Errorf("%s: %d left of %d after 1001", rate, r.Remaining, s.Rate.Events)
				}
			}
		}},
		{"a model that counts in whole numbers agrees", againstModel},
	}
}

// model is a Limiter told in the plainest way: what was spent, in events times
// nanoseconds, so that nothing is ever rounded.
type model struct {
	now    func() time.Time
	spent  map[ratelimit.Key]int64
	latest map[ratelimit.Key]time.Time
}

func (m *model) take(spends ...ratelimit.Spend) (ok bool, index, left int) {
	index = -1
	for i, s := range spends {
		capacity := int64(s.Rate.Burst) * int64(s.Rate.Per)
		back := int64(m.now().Sub(m.latest[s.Key])) // no rate of the test overflows within its steps
		m.spent[s.Key] = min(max(0, m.spent[s.Key]-back*int64(s.Rate.Events)), capacity)
		m.latest[s.Key] = m.now()
		if m.spent[s.Key]+int64(max(1, s.N))*int64(s.Rate.Per) > capacity {
			return false, i, int((capacity - m.spent[s.Key]) / int64(s.Rate.Per))
		}
	}
	for i, s := range spends {
		m.spent[s.Key] += int64(s.N) * int64(s.Rate.Per)
		n := int((int64(s.Rate.Burst)*int64(s.Rate.Per) - m.spent[s.Key]) / int64(s.Rate.Per))
		if index < 0 || n < left {
			index, left = i, n
		}
	}
	return true, index, left
}

func againstModel(t *testing.T, l ratelimit.Limiter, c *clock) {
	const steps = 20_000
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	m := &model{now: c.now, spent: map[ratelimit.Key]int64{}, latest: map[ratelimit.Key]time.Time{}}
	var limits []ratelimit.Spend
	for i, r := range []string{"100/6h", "3/7d", "7/s", "60/m", "13/17m", "1000/24h"} {
		s := spend(t, fmt.Sprint(i), "", r, 0)
		s.Rate.Burst = max(1, s.Rate.Burst>>(i%3))
		limits = append(limits, s)
		for client := range 3 {
			m.latest[ratelimit.Key{Limit: s.Limit, Client: fmt.Sprint(client)}] = c.now()
		}
	}
	var refused int
	for step := range steps {
		if rnd.IntN(10) < 4 {
			c.add(time.Duration(rnd.IntN(1<<rnd.IntN(18))) * time.Second)
		}
		rnd.Shuffle(len(limits), func(i, j int) { limits[i], limits[j] = limits[j], limits[i] })
		spends := append([]ratelimit.Spend(nil), limits[:1+rnd.IntN(3)]...)
		for i := range spends {
			spends[i].Client, spends[i].N = fmt.Sprint(rnd.IntN(3)), rnd.IntN(4)
		}
		r := take(t, l, spends...)
		ok, index, left := m.take(spends...)
		if r.OK != ok || r.Index != index || r.Remaining != left {
			t.Fatalf("seed %d, step %d, %v: got %+v, want OK %v, Index %d, Remaining %d", seed, step, spends, r, ok, index, left)
		}
		if !ok {
			refused++
		}
	}
	if refused < steps/20 || refused > steps*19/20 {
		t.Errorf("seed %d: %d of %d refused: this tries little", seed, refused, steps)
	}
}
