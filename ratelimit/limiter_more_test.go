package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/ratelimit"
)

func mustByteRate(t testing.TB, s string) ratelimit.Rate {
	t.Helper()
	r, err := ratelimit.ParseByteRate(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// paced is n bytes written limit, client, rate.
func paced(t testing.TB, limit, client, rate string, n int) ratelimit.Spend {
	t.Helper()
	return ratelimit.Spend{Key: ratelimit.Key{Limit: limit, Client: client}, Rate: mustByteRate(t, rate), N: n}
}

func pace(t testing.TB, l ratelimit.Limiter, s ...ratelimit.Spend) time.Duration {
	t.Helper()
	wait, err := l.Pace(context.Background(), s...)
	if err != nil {
		t.Fatal(err)
	}
	return wait
}

// stream sends size bytes in the chunks of s, waiting as it is told, and gives
// the time that took and the longest wait.
func stream(t testing.TB, l ratelimit.Limiter, c *clock, size int, s ...ratelimit.Spend) (took, longest time.Duration) {
	t.Helper()
	begin := c.now()
	for sent := 0; sent < size; sent += s[0].N {
		wait := pace(t, l, s...)
		longest = max(longest, wait)
		c.add(wait)
	}
	return c.now().Sub(begin), longest
}

func holding(limit, client string, most int) ratelimit.Holding {
	return ratelimit.Holding{Key: ratelimit.Key{Limit: limit, Client: client}, Most: most}
}

// hold wants h to be held, or not.
func hold(t testing.TB, l ratelimit.Limiter, want bool, h ...ratelimit.Holding) (func(), ratelimit.Result) {
	t.Helper()
	release, r, err := l.Hold(context.Background(), h...)
	if err != nil {
		t.Fatal(err)
	}
	if r.OK != want {
		t.Errorf("%v: got %+v, want OK %v", h, r, want)
	}
	return release, r
}

func list(t testing.TB, l ratelimit.Limiter, limit string, most int) []string {
	t.Helper()
	usages, err := l.List(context.Background(), limit, most)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, u := range usages {
		lines = append(lines, fmt.Sprintf("%s %s %d of %d, %v, next %v, all %v", u.Key.Limit, u.Client, u.Used, u.Size, u.Rate, u.RetryAfter.Round(time.Second), u.Reset.Round(time.Second)))
	}
	return lines
}

// between is for times that a slice of 100 ms makes inexact.
func between(t testing.TB, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %v, want %v to %v", what, got, low, high)
	}
}

// paceTests are what every Limiter promises of bytes.
func paceTests() []limiterTest {
	const kib, mib = 1 << 10, 1 << 20
	return []limiterTest{
		{"a stream runs at its rate, smoothly", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			for _, rate := range []string{"20MiB/s", "1MiB/s", "1000MiB/s", "1200MiB/m"} {
				s := paced(t, rate, "ip:192.0.2.7", rate, 32*kib)
				perSecond := s.Rate.Burst
				if took, _ := stream(t, l, c, perSecond-perSecond/8, s); took > 0 {
					t.Errorf("%s: the first second's worth took %v, want no time", rate, took)
				}
				stream(t, l, c, perSecond/4, s)
				took, longest := stream(t, l, c, 10*perSecond, s)
				between(t, rate+": ten seconds' worth", took, 9800*time.Millisecond, 10200*time.Millisecond)
				if longest > 110*time.Millisecond {
					t.Errorf("%s: waited %v between two writes", rate, longest)
				}
			}
		}},
		{"streams of one client share the rate", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			const streams = 50
			s := paced(t, "uplink", "ip:192.0.2.7", "10MiB/s", 16*kib)
			var next [streams]time.Time
			var sent [streams]int
			stream(t, l, c, 11*mib, s) // beyond the burst
			begin, end := c.now(), c.now().Add(10*time.Second)
			for {
				first := 0
				for i := range next {
					if next[i].Before(next[first]) {
						first = i
					}
				}
				if next[first].After(end) {
					break
				}
				if next[first].After(c.t) {
					c.t = next[first]
				}
				sent[first] += s.N
				next[first] = c.now().Add(pace(t, l, s))
			}
			var all int
			for i, n := range sent {
				all += n
				if n < 19*mib/10 || n > 21*mib/10 {
					t.Errorf("stream %d sent %.2f MiB of 100, want 2", i, float64(n)/mib)
				}
			}
			if rate := float64(all) / c.now().Sub(begin).Seconds() / mib; rate < 9.7 || rate > 10.3 {
				t.Errorf("%.2f MiB/s, want 10", rate)
			}
		}},
		{"a rate lowered or raised holds at once", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			at := func(rate string) ratelimit.Spend { return paced(t, "uplink", "ip:192.0.2.7", rate, 16*kib) }
			stream(t, l, c, 30*mib, at("10MiB/s"))
			took, _ := stream(t, l, c, 2*mib, at("1MiB/s"))
			between(t, "2 MiB at 1 MiB/s", took, 1900*time.Millisecond, 2300*time.Millisecond)
			stream(t, l, c, 120*mib, at("100MiB/s")) // more than the burst that a new rate brings
			took, _ = stream(t, l, c, 100*mib, at("100MiB/s"))
			between(t, "100 MiB at 100 MiB/s", took, 900*time.Millisecond, 1100*time.Millisecond)
		}},
		{"of several limits the slowest", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			a, b := paced(t, "client", "user:ann", "50MiB/s", 64*kib), paced(t, "all", "all", "5MiB/s", 64*kib)
			none := ratelimit.Spend{Key: ratelimit.Key{Limit: "none", Client: "all"}, N: 64 * kib}
			stream(t, l, c, 6*mib, none, a, b)
			took, _ := stream(t, l, c, 10*mib, none, a, b)
			between(t, "10 MiB", took, 1900*time.Millisecond, 2100*time.Millisecond)
			if pace(t, l, none) != 0 {
				t.Error("no limit makes wait")
			}
		}},
		{"a chunk larger than the bucket only waits longer", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s := paced(t, "uplink", "user:ann", "10kB/s", 60_000)
			between(t, "the first", pace(t, l, s), 5*time.Second, 5100*time.Millisecond)
			c.add(5 * time.Second)
			between(t, "the second", pace(t, l, s), 6*time.Second, 6100*time.Millisecond)
		}},
		{"who gives up a thousand streams makes others wait a minute at most", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s := paced(t, "uplink", "all", "100kB/s", 1_000_000)
			for range 1000 {
				if wait := pace(t, l, s); wait > ratelimit.MaxWait {
					t.Fatalf("waits %v", wait)
				}
			}
			c.add(ratelimit.MaxWait + time.Second)
			s.N = 1000
			between(t, "a minute later", pace(t, l, s), 0, 100*time.Millisecond)
		}},
		{"no bytes ask how long it would take, and take none", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s, ask := paced(t, "uplink", "user:ann", "10kB/s", 15_000), paced(t, "uplink", "user:ann", "10kB/s", 0)
			if wait := pace(t, l, ask); wait != 0 || len(list(t, l, "", 10)) != 0 {
				t.Errorf("of a full one: %v", wait)
			}
			pace(t, l, s)
			for range 10 {
				between(t, "of one in debt", pace(t, l, ask), 490*time.Millisecond, 510*time.Millisecond)
			}
		}},
		{"an hour without a byte brings one burst", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s := paced(t, "uplink", "user:ann", "10MiB/s", 16*kib)
			stream(t, l, c, 15*mib, s)
			c.add(time.Hour)
			took, _ := stream(t, l, c, 20*mib, s)
			between(t, "20 MiB", took, 900*time.Millisecond, 1100*time.Millisecond)
		}},
		{"bytes without sense are an error", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			good := paced(t, "uplink", "user:ann", "10MiB/s", 1)
			for name, s := range map[string]ratelimit.Spend{
				"negative":   {Key: good.Key, Rate: good.Rate, N: -1},
				"endless":    {Key: good.Key, Rate: good.Rate, N: ratelimit.MaxBytes + 1},
				"no period":  {Key: good.Key, Rate: ratelimit.Rate{Events: 5}, N: 1},
				"absurd":     {Key: good.Key, Rate: ratelimit.Rate{Events: ratelimit.MaxBytes + 1, Per: time.Second}, N: 1},
				"an instant": {Key: good.Key, Rate: ratelimit.Rate{Events: 5, Per: 1}, N: 1},
				"a century":  {Key: good.Key, Rate: ratelimit.Rate{Events: 5, Per: 100 * 366 * 24 * time.Hour}, N: 1},
			} {
				if _, err := l.Pace(context.Background(), good, s); err == nil || errors.Is(err, ratelimit.ErrUnavailable) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if got := list(t, l, "", 10); len(got) != 0 {
				t.Errorf("the errors took bytes: %q", got)
			}
		}},
	}
}

// holdTests are what every Limiter promises of places.
func holdTests() []limiterTest {
	return []limiterTest{
		{"places are taken and given back", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			h := holding("transfers", "user:ann", 3)
			var releases []func()
			for left := 2; left >= 0; left-- {
				release, r := hold(t, l, true, h)
				if diff := cmp.Diff(ratelimit.Result{OK: true, Limit: 3, Remaining: left}, r); diff != "" {
					t.Errorf("-want +got\n%s", diff)
				}
				releases = append(releases, release)
			}
			_, r := hold(t, l, false, h)
			if diff := cmp.Diff(ratelimit.Result{Limit: 3}, r); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			hold(t, l, true, holding("transfers", "user:bob", 3))
			hold(t, l, true, holding("others", "user:ann", 3))
			for range 3 { // the same one again and again
				releases[0]()
			}
			hold(t, l, true, h)
			hold(t, l, false, h)
			releases[0]()
			hold(t, l, false, h)
		}},
		{"all places or none", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			a, b := holding("a", "user:ann", 5), holding("b", "namespace:coolteam", 1)
			release, r := hold(t, l, true, a, b)
			if r.Index != 1 || r.Remaining != 0 {
				t.Errorf("got %+v, want the second with none left", r)
			}
			for range 10 {
				if _, r := hold(t, l, false, a, b); r.Index != 1 || r.Limit != 1 {
					t.Errorf("got %+v, want a refusal by the second", r)
				}
			}
			if _, r := hold(t, l, true, a); r.Remaining != 3 {
				t.Errorf("%d left after ten refusals, want 3", r.Remaining)
			}
			release()
			hold(t, l, true, a, b)
		}},
		{"one key named twice takes two places", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			h := holding("transfers", "user:ann", 3)
			release, r := hold(t, l, true, h, h)
			if r.Remaining != 1 {
				t.Errorf("%d left of three, want 1", r.Remaining)
			}
			hold(t, l, false, h, h)
			release()
			hold(t, l, true, h, h, h)
		}},
		{"zero places at most is no limit", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			for range 100 {
				release, r := hold(t, l, true, holding("transfers", "user:ann", 0))
				if diff := cmp.Diff(ratelimit.Result{OK: true, Index: -1}, r); diff != "" {
					t.Fatalf("-want +got\n%s", diff)
				}
				release()
			}
			release, r, err := l.Hold(context.Background(), holding("transfers", "user:ann", -1))
			if err == nil || r.OK || errors.Is(err, ratelimit.ErrUnavailable) {
				t.Errorf("-1: got %+v, %v", r, err)
			}
			release()
		}},
		{"fewer at most than are held refuse until enough went", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			var releases []func()
			for range 5 {
				release, _ := hold(t, l, true, holding("transfers", "user:ann", 5))
				releases = append(releases, release)
			}
			for range 4 {
				hold(t, l, false, holding("transfers", "user:ann", 2))
				releases[0]()
				releases = releases[1:]
			}
			hold(t, l, true, holding("transfers", "user:ann", 2))
		}},
		{"any place is taken beyond what there is", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			hold(t, l, true, holding("transfers", "user:ann", 2))
			hold(t, l, true, holding("transfers", "user:ann", 2))
			release, _ := hold(t, l, true, holding("transfers", "user:ann", ratelimit.AnyPlace))
			hold(t, l, false, holding("transfers", "user:ann", 3))
			if diff := cmp.Diff([]string{"transfers user:ann 3 of 2, none, next 0s, all 0s"}, list(t, l, "transfers", 10)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			release()
			hold(t, l, true, holding("transfers", "user:ann", 3))
		}},
		{"what is held is listed, and nothing after", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			ann, _ := hold(t, l, true, holding("transfers", "user:ann", 4))
			bob, _ := hold(t, l, true, holding("transfers", "user:bob", 4), holding("transfers", "user:bob", 4))
			want := []string{"transfers user:bob 2 of 4, none, next 0s, all 0s", "transfers user:ann 1 of 4, none, next 0s, all 0s"}
			if diff := cmp.Diff(want, list(t, l, "transfers", 10)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if err := l.Reset(context.Background(), ratelimit.Key{Limit: "transfers", Client: "user:ann"}); !errors.Is(err, ratelimit.ErrNoBucket) {
				t.Errorf("a reset of places: %v", err)
			}
			ann()
			bob()
			if got := list(t, l, "", 10); len(got) != 0 {
				t.Errorf("%q after all were given back", got)
			}
		}},
	}
}

// listTests are what every Limiter promises of List and Reset.
func listTests() []limiterTest {
	return []limiterTest{
		{"the fullest is listed first", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			passes(t, l, 5, spend(t, "people", "user:ann", "10/100m", 1))
			c.add(time.Millisecond)
			passes(t, l, 10, spend(t, "people", "user:bob", "10/100m", 1))
			c.add(time.Millisecond)
			passes(t, l, 2, spend(t, "people", "user:cyd", "4/40m", 1)) // half, like ann, and later
			passes(t, l, 1, spend(t, "ci", "user:bot", "40/s", 1))
			take(t, l, spend(t, "people", "user:dan", "10/100m", 0))
			want := []string{
				"people user:bob 10 of 10, 10/100m, next 10m0s, all 1h40m0s",
				"people user:cyd 2 of 4, 4/40m, next 0s, all 20m0s",
				"people user:ann 5 of 10, 10/100m, next 0s, all 50m0s",
			}
			if diff := cmp.Diff(want, list(t, l, "people", 10)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if diff := cmp.Diff(want[:2], list(t, l, "people", 2)); diff != "" {
				t.Errorf("two at most: -want +got\n%s", diff)
			}
			if got := list(t, l, "", 10); len(got) != 4 {
				t.Errorf("of all limits %q, want four", got)
			}
			if got := list(t, l, "peopl", 10); len(got) != 0 {
				t.Errorf("of a limit that is not: %q", got)
			}
			c.add(25 * time.Minute)
			want = []string{"people user:bob 8 of 10, 10/100m, next 0s, all 1h15m0s", "people user:ann 3 of 10, 10/100m, next 0s, all 25m0s"}
			if diff := cmp.Diff(want, list(t, l, "", 10)); diff != "" {
				t.Errorf("25 minutes later: -want +got\n%s", diff)
			}
			if got := list(t, l, "", 0); len(got) != 0 {
				t.Errorf("none at most: %q", got)
			}
		}},
		{"few of many are listed", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			for i := range 1500 {
				take(t, l, spend(t, "anonymous", fmt.Sprint("ip:", i), "2000/h", 1+(i*7)%1500))
			}
			got := list(t, l, "anonymous", 3)
			for i, line := range got {
				if want := fmt.Sprintf(" %d of 2000", 1500-i); !strings.Contains(line, want) {
					t.Errorf("place %d: %q, want%s", i, line, want)
				}
			}
			if len(got) != 3 {
				t.Errorf("%d listed, want 3", len(got))
			}
		}},
		{"a reset forgives, by any name", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			long := "repository:" + strings.Repeat("a/", 200)
			for _, client := range []string{"user:ann", "", "ip:2001:db8::/64", "user:a}b{c", "user:100%", "user:% 20\x00\n", "user:Jörg", "*", "all", long, strings.Repeat("x", 128), strings.Repeat("x", 129)} {
				for _, limit := range []string{"people", "a:b", "", "lim*t?[x]\\", "with}: inside"} {
					s := spend(t, limit, client, "5/h", 1)
					passes(t, l, 5, s)
					if client == "user:ann" { // another limit of the same shape is another limit
						other := strings.NewReplacer("*", "i", "?", "", "[x]", "x").Replace(limit)
						if other != limit && len(list(t, l, other, 10)) != 0 {
							t.Errorf("%q is listed as %q", limit, other)
						}
					}
					usages, err := l.List(context.Background(), limit, 10)
					if err != nil || limit != "" && len(usages) != 1 {
						t.Fatalf("%q %q: %v, %v, want one", limit, client, usages, err)
					}
					for _, k := range []ratelimit.Key{s.Key, usages[0].Key} {
						passes(t, l, 5, s)
						if err := l.Reset(context.Background(), k); err != nil {
							t.Fatalf("%q: %v", k, err)
						}
						if got := passes(t, l, 7, s); got != 5 {
							t.Errorf("%q: %d pass after a reset, want 5", k, got)
						}
					}
					if err := l.Reset(context.Background(), s.Key); err != nil {
						t.Fatal(err)
					}
					if err := l.Reset(context.Background(), s.Key); !errors.Is(err, ratelimit.ErrNoBucket) {
						t.Errorf("%q again: %v, want ErrNoBucket", s.Key, err)
					}
				}
			}
		}},
		{"a reset of bytes lets the next pass at once", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			s := paced(t, "uplink", "user:ann", "10kB/s", 100_000)
			pace(t, l, s)
			if err := l.Reset(context.Background(), s.Key); err != nil {
				t.Fatal(err)
			}
			s.N = 5000
			if wait := pace(t, l, s); wait != 0 {
				t.Errorf("waits %v", wait)
			}
		}},
		{"a list ends with its context", func(t *testing.T, l ratelimit.Limiter, c *clock) {
			take(t, l, spend(t, "people", "user:ann", "5/h", 1))
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if _, err := l.List(ctx, "", 10); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}},
	}
}
