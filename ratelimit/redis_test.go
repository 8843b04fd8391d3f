package ratelimit_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"golang.org/x/time/rate"

	"github.com/regward/regward/internal/redistest"
	"github.com/regward/regward/ratelimit"
)

// patient is what a test waits for a call that it expects to succeed: the
// machine may be busy with other tests.
const patient = 10 * time.Second

func newRedis(t testing.TB, client redis.UniversalClient, o ratelimit.RedisOptions) *ratelimit.Redis {
	t.Helper()
	r, err := ratelimit.NewRedis(client, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// byClock makes Redis limiters that share nothing and go by a clock set by hand.
func byClock(t testing.TB, client redis.UniversalClient) func(func() time.Time) ratelimit.Limiter {
	n := 0
	return func(now func() time.Time) ratelimit.Limiter {
		n++
		r := newRedis(t, client, ratelimit.RedisOptions{Prefix: fmt.Sprintf("test*%d", n), Timeout: patient, Lease: 1000 * time.Hour})
		r.SetClock(now)
		return r
	}
}

// The client's log tells what every error tells as well.
func TestMain(m *testing.M) {
	logging.Disable()
	os.Exit(m.Run())
}

// What waits for another process, and measures no time, does so beside others.

func TestRedis(t *testing.T) {
	t.Parallel()
	testLimiter(t, byClock(t, startServer(t).client(t)))
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	testLimiter(t, byClock(t, startCluster(t)))
}

// near lets times differ by what floating point loses between two languages.
var near = cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() <= 2*time.Microsecond })

func TestRedisDecidesAsMemoryDoes(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]redis.UniversalClient{"single": startServer(t).client(t), "cluster": startCluster(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			compareWithMemory(t, byClock(t, client)(c.now), c)
		})
	}
}

// compareWithMemory does the same things at random to both: limits of every
// size, changed all the time, several at once, in a clock that runs and jumps.
func compareWithMemory(t *testing.T, shared ratelimit.Limiter, c *clock) {
	const steps = 4000
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	ctx := context.Background()
	memory := ratelimit.NewMemory(0, c.now)
	rates := []string{"100/6h", "3/7d", "7/s", "60/m", "13/17m", "1000/24h", "1/s", "none", "5/50s", "1/366d"}
	var releases []func()
	var refused, passed, kept int
	for step := range steps {
		if rnd.IntN(10) < 4 {
			c.add(time.Duration(rnd.IntN(1<<rnd.IntN(36))) * time.Microsecond)
		}
		var spends []ratelimit.Spend
		var holdings []ratelimit.Holding
		atRate := map[string]ratelimit.Rate{} // one limit has one rate at a time
		for range 1 + rnd.IntN(4) {
			s := spend(t, fmt.Sprint("limit", rnd.IntN(3)), fmt.Sprint("user:", rnd.IntN(3)), rates[rnd.IntN(len(rates))], rnd.IntN(4))
			if s.Rate != (ratelimit.Rate{}) && rnd.IntN(3) == 0 {
				s.Rate.Burst = 1 + rnd.IntN(20)
			}
			if r, ok := atRate[s.Limit]; ok {
				s.Rate = r
			}
			atRate[s.Limit] = s.Rate
			spends = append(spends, s)
			holdings = append(holdings, ratelimit.Holding{Key: s.Key, Most: rnd.IntN(8)})
		}
		var got, want any
		switch kind := rnd.IntN(20); {
		case kind == 0:
			// Which of the two still keeps a bucket that is full does not matter.
			for _, err := range []error{shared.Reset(ctx, spends[0].Key), memory.Reset(ctx, spends[0].Key)} {
				if err != nil && !errors.Is(err, ratelimit.ErrNoBucket) {
					t.Fatal(err)
				}
			}
		case kind < 5:
			r1, res1, err1 := shared.Hold(ctx, holdings...)
			r2, res2, err2 := memory.Hold(ctx, holdings...)
			got, want = []any{res1, err1}, []any{res2, err2}
			releases = append(releases, func() { r1(); r2() })
			if len(releases) > 5 {
				releases[0]()
				releases = releases[1:]
			}
			kept++
		default:
			res1, err1 := shared.Take(ctx, spends...)
			res2, err2 := memory.Take(ctx, spends...)
			got, want = []any{res1, err1}, []any{res2, err2}
			if res2.OK {
				passed++
			} else {
				refused++
			}
		}
		if diff := cmp.Diff(want, got, near, cmpopts.EquateErrors()); diff != "" {
			t.Fatalf("seed %d, step %d, %v: -memory +redis\n%s", seed, step, spends, diff)
		}
	}
	if passed < steps/10 || refused < steps/10 || kept < steps/10 {
		t.Errorf("seed %d: %d passed, %d refused, %d holds: this tries little", seed, passed, refused, kept)
	}
	for _, release := range releases {
		release()
	}
}

// A rate.Limiter is what a bucket means to be.
func TestBothDecideAsATokenBucketDoes(t *testing.T) {
	t.Parallel()
	client := startServer(t).client(t)
	for _, text := range []string{"100/6h", "7/s", "60/m", "13/17m", "3/7d"} {
		c := newClock()
		s := spend(t, text, "user:ann", text, 0)
		oracle := rate.NewLimiter(rate.Limit(float64(s.Rate.Events)/s.Rate.Per.Seconds()), s.Rate.Burst)
		shared, memory := byClock(t, client)(c.now), ratelimit.NewMemory(0, c.now)
		for i := range 300 {
			c.add(time.Duration(rand.Int64N(int64(s.Rate.Per) / int64(s.Rate.Events))))
			s.N = 1 + i%2
			want := oracle.AllowN(c.now(), s.N)
			if a, b := take(t, shared, s).OK, take(t, memory, s).OK; a != want || b != want {
				t.Errorf("%s: call %d: redis %v, memory %v, rate.Limiter %v", text, i, a, b, want)
			}
		}
	}
}

// By the server's own clock, with two instances that share it.
func TestRedisGoesByTheServersClock(t *testing.T) {
	s := startServer(t)
	one, two := newRedis(t, s.client(t), ratelimit.RedisOptions{Timeout: patient}), newRedis(t, s.client(t), ratelimit.RedisOptions{Timeout: patient})
	ask := spend(t, "people", "user:ann", "200/s", 1)
	ask.Rate.Burst = 20
	passed := 0
	begin := time.Now()
	await(t, "more than the burst has passed", func() bool {
		for range 20 { // faster than they are refilled
			passed += passes(t, one, 1, ask) + passes(t, two, 1, ask)
		}
		return passed >= 20+40
	})
	if most := 21 + int(200*time.Since(begin).Seconds()); passed > most {
		t.Errorf("%d passed, want %d at most", passed, most)
	}
	var ttl time.Duration
	client := s.client(t)
	await(t, "the key is there", func() bool {
		take(t, one, ask)
		ttl = client.PTTL(context.Background(), "regward:b:{user:ann}:people").Val()
		return ttl > 0
	})
	if ttl > 1200*time.Millisecond {
		t.Errorf("the key ends in %v, want when it is full again (0.1 s) and a second later at most", ttl)
	}
}

func TestEveryRateHasAKeyThatEnds(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	r := newRedis(t, s.client(t), ratelimit.RedisOptions{Timeout: patient})
	for _, rate := range []ratelimit.Rate{
		{Events: 1, Per: 366 * 24 * time.Hour, Burst: ratelimit.MaxBytes}, // as if for ever
		{Events: ratelimit.MaxBytes, Per: time.Second},
		{Events: 1, Per: time.Second},
	} {
		spent := ratelimit.Spend{Key: ratelimit.Key{Limit: rate.String(), Client: "all"}, Rate: rate, N: 1}
		if !take(t, r, spent).OK {
			t.Errorf("%v refuses", rate)
		}
		if _, err := r.Pace(context.Background(), ratelimit.Spend{Key: spent.Key, Rate: rate, N: ratelimit.MaxBytes}); err != nil {
			t.Errorf("%v: %v", rate, err)
		}
		if ttl := s.client(t).PTTL(context.Background(), "regward:b:{all}:"+rate.String()).Val(); ttl <= 0 {
			t.Errorf("%v: the key lives for %v", rate, ttl)
		}
	}
}

// A server's clock that is set back makes nobody wait longer than the bucket
// takes to fill, and gives nothing.
func TestAServersClockThatJumps(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := byClock(t, startServer(t).client(t))(c.now)
	s := spend(t, "people", "user:ann", "6/h", 1)
	passes(t, r, 6, s)
	c.add(-5 * time.Minute)
	if take(t, r, s).OK {
		t.Error("five minutes back gave an event")
	}
	c.add(14 * time.Minute)
	if take(t, r, s).OK {
		t.Error("nine minutes after all, and the ten of an event are over")
	}
	c.add(1 * time.Minute)
	if !take(t, r, s).OK {
		t.Error("after ten minutes of both ways nothing is back")
	}
	c.add(-10 * 365 * 24 * time.Hour)
	if take(t, r, s).OK {
		t.Error("ten years back gave an event")
	}
	passes(t, r, 1, spend(t, "people", "user:ann", "6/h", 0))
	c.add(time.Hour)
	if got := passes(t, r, 10, s); got != 0 && got != 6 {
		t.Errorf("an hour later %d pass", got)
	}
}

func TestNothingIsTakenWhenAnotherSlotRefuses(t *testing.T) {
	t.Parallel()
	c := newClock()
	r := byClock(t, startCluster(t))(c.now)
	for i := range 50 { // so many clients are on every server
		a, b := spend(t, "people", fmt.Sprint("user:a", i), "10/h", 2), spend(t, "namespace", fmt.Sprint("namespace:b", i), "1/h", 1)
		take(t, r, b)
		for range 20 {
			if res := take(t, r, a, b); res.OK || res.Index != 1 {
				t.Fatalf("got %+v, want a refusal by the second", res)
			}
		}
		if res := take(t, r, spend(t, "people", a.Client, "10/h", 0)); res.Remaining != 10 {
			t.Errorf("%d left of 10 after twenty refusals", res.Remaining)
		}
		// The first that refuses is told of, whichever slot was asked first.
		if res := take(t, r, a, b, ratelimit.Spend{Key: ratelimit.Key{Limit: "other", Client: a.Client}, Rate: mustRate(t, "5/h"), N: 6}); res.Index != 1 {
			t.Errorf("got %+v, want a refusal by the second", res)
		}
	}
}

func TestADeadInstancesPlacesAreFreeAgain(t *testing.T) {
	t.Parallel()
	c := newClock()
	client := startServer(t).client(t)
	newInstance := func() *ratelimit.Redis {
		r := newRedis(t, client, ratelimit.RedisOptions{Timeout: patient, Lease: 15 * time.Second})
		r.SetClock(c.now)
		r.StopRenewing() // the test does it
		return r
	}
	alive, dead := newInstance(), newInstance()
	for range 2 {
		hold(t, alive, true, holding("transfers", "user:ann", 5))
		hold(t, dead, true, holding("transfers", "user:ann", 5))
	}
	third, _ := hold(t, alive, true, holding("transfers", "user:ann", 5))
	hold(t, alive, false, holding("transfers", "user:ann", 5))
	for range 3 {
		c.add(5 * time.Second)
		if err := alive.Renew(); err != nil {
			t.Fatal(err)
		}
		if c.t.Sub(newClock().t) < 15*time.Second {
			hold(t, alive, false, holding("transfers", "user:ann", 5))
		}
	}
	hold(t, alive, true, holding("transfers", "user:ann", 5))
	hold(t, alive, true, holding("transfers", "user:ann", 5))
	hold(t, alive, false, holding("transfers", "user:ann", 5)) // those of the living still count
	third()
	if err := alive.Renew(); err != nil {
		t.Fatal(err)
	}
	hold(t, alive, true, holding("transfers", "user:ann", 5)) // a renewal brought nothing back

	// Redis forgets all; the next renewal tells it again.
	client.FlushAll(context.Background())
	if err := alive.Renew(); err != nil {
		t.Fatal(err)
	}
	hold(t, alive, false, holding("transfers", "user:ann", 5))
	// A clock set back by years makes no lease eternal.
	c.add(-10 * 365 * 24 * time.Hour)
	hold(t, dead, true, holding("transfers", "user:ann", 5))
}

func TestPlacesAreRenewedByThemselves(t *testing.T) {
	s := startServer(t)
	r := newRedis(t, s.client(t), ratelimit.RedisOptions{Timeout: patient, Lease: 300 * time.Millisecond})
	release, _ := hold(t, r, true, holding("transfers", "user:ann", 1))
	first := s.client(t).ZRangeWithScores(context.Background(), "regward:h:{user:ann}:transfers", 0, -1).Val()
	await(t, "the lease was renewed four times", func() bool {
		now := s.client(t).ZRangeWithScores(context.Background(), "regward:h:{user:ann}:transfers", 0, -1).Val()
		return len(now) == 1 && now[0].Score > first[0].Score+0.4
	})
	release()
	if n := s.client(t).Exists(context.Background(), "regward:h:{user:ann}:transfers").Val(); n != 0 {
		t.Error("something is held after release")
	}
	if leases, keys := r.Held(); leases != 0 || keys != 0 {
		t.Errorf("%d leases of %d keys are known after release", leases, keys)
	}
}

func TestPlacesOfOneInstanceAreBounded(t *testing.T) {
	t.Parallel()
	r := newRedis(t, startServer(t).client(t), ratelimit.RedisOptions{Timeout: patient})
	r.SetMostHeld(10)
	var last func()
	for i := range 10 {
		last, _ = hold(t, r, true, holding("transfers", fmt.Sprint("ip:", i), 5))
	}
	if _, _, err := r.Hold(context.Background(), holding("transfers", "ip:10", 5)); !errors.Is(err, ratelimit.ErrBusy) { // not ErrUnavailable: then nothing would be limited with on_error: allow
		t.Errorf("an eleventh: %v", err)
	}
	last()
	hold(t, r, true, holding("transfers", "ip:10", 5))
}

// Ten calls a second, however fast the stream and however small its writes.
func TestAStreamCostsFewCalls(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := startServer(t)
	r := newRedis(t, s.client(t), ratelimit.RedisOptions{Timeout: patient})
	r.SetClock(c.now)
	rate := mustByteRate(t, "1GB/s")
	key := ratelimit.Key{Limit: "uplink", Client: "ip:192.0.2.7"}
	begin := c.now()
	var sent, chunks int
	for sent < 3_000_000_000 { // one second's worth at once, then two seconds
		wait, err := r.Pace(context.Background(), ratelimit.Spend{Key: key, Rate: rate, N: 256 << 10})
		if err != nil {
			t.Fatal(err)
		}
		c.add(wait)
		sent += 256 << 10
		chunks++
	}
	if took := c.now().Sub(begin); took < 1900*time.Millisecond || took > 2100*time.Millisecond {
		t.Errorf("3 GB took %v, want 2 s after a burst of one", took)
	}
	info := s.client(t).Info(context.Background(), "commandstats").Val()
	calls := 0
	for line := range strings.Lines(info) {
		var n int
		if _, err := fmt.Sscanf(line, "cmdstat_evalsha:calls=%d,", &n); err == nil {
			calls = n
		}
	}
	if calls == 0 || calls > 40 {
		t.Errorf("%d calls for %d chunks in two seconds, want some thirty", calls, chunks)
	}
}

func TestAClientThatCannotBeHeldToATimeoutIsRefused(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	defer c.Close()
	if _, err := ratelimit.NewRedis(c, ratelimit.RedisOptions{}); err == nil {
		t.Error("no error")
	}
	if _, err := ratelimit.NewRedis(clientOf(t, "127.0.0.1:1"), ratelimit.RedisOptions{Prefix: "a{b}"}); err == nil {
		t.Error("no error for braces in the prefix")
	}
}

// everyCall is every way to ask a limiter.
func everyCall(l ratelimit.Limiter, s ratelimit.Spend) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Take": func(ctx context.Context) error {
			r, err := l.Take(ctx, s)
			return errors.Join(err, answered(r.OK))
		},
		"Pace": func(ctx context.Context) error { _, err := l.Pace(ctx, s); return err },
		"Pace of none": func(ctx context.Context) error {
			_, err := l.Pace(ctx, ratelimit.Spend{Key: s.Key, Rate: s.Rate})
			return err
		},
		"Hold": func(ctx context.Context) error {
			release, r, err := l.Hold(ctx, ratelimit.Holding{Key: s.Key, Most: 3})
			release()
			return errors.Join(err, answered(r.OK))
		},
		"List":  func(ctx context.Context) error { _, err := l.List(ctx, "", 10); return err },
		"Reset": func(ctx context.Context) error { return l.Reset(ctx, s.Key) },
	}
}

var errAnswered = errors.New("OK")

func answered(ok bool) error {
	if ok {
		return errAnswered
	}
	return nil
}

// wantUnavailable asks in every way and wants to hear, soon, that there is no
// answer.
func wantUnavailable(t *testing.T, l ratelimit.Limiter, why string, soon time.Duration) {
	t.Helper()
	for name, call := range everyCall(l, spend(t, "people", "user:ann", "5/h", 1)) {
		if name == "List" || name == "Reset" {
			soon = max(soon, 1500*time.Millisecond)
		}
		begin := time.Now()
		err := call(context.Background())
		if !errors.Is(err, ratelimit.ErrUnavailable) || errors.Is(err, errAnswered) {
			t.Errorf("%s: %s: got %v, want ErrUnavailable", why, name, err)
		}
		if took := time.Since(begin); took > soon {
			t.Errorf("%s: %s took %v", why, name, took)
		}
		if err != nil && len(err.Error()) > 500 {
			t.Errorf("%s: %s: an error of %d bytes", why, name, len(err.Error()))
		}
	}
}

func TestRedisKilledAndPausedAndBack(t *testing.T) {
	const timeout = 100 * time.Millisecond
	s := startServer(t)
	r := newRedis(t, s.client(t), ratelimit.RedisOptions{Timeout: timeout})
	ask := spend(t, "people", "user:ann", "1000000/s", 1)
	works := func() bool { res, err := r.Take(context.Background(), ask); return err == nil && res.OK }
	await(t, "it works at first", works)

	s.Pause()
	wantUnavailable(t, r, "paused", 10*timeout)
	s.Resume()
	await(t, "it works after a pause", works)

	s.client(t).ScriptFlush(context.Background())
	await(t, "it works without the script", works)

	s.Kill()
	wantUnavailable(t, r, "killed", 10*timeout)
	s.Start()
	await(t, "it works after a restart", works)

	s.client(t).ConfigSet(context.Background(), "maxmemory", "1")
	if _, err := r.Take(context.Background(), ask); !errors.Is(err, ratelimit.ErrUnavailable) {
		t.Errorf("out of memory: %v", err)
	}
	s.client(t).ConfigSet(context.Background(), "maxmemory", "0")
	await(t, "it works with memory again", works)
}

// What somebody else put under a key is no bucket and no set of leases: it is
// written over by who counts, and its limit holds.
func TestWhatIsNotOursIsWrittenOver(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := startServer(t)
	c := s.client(t)
	r := newRedis(t, c, ratelimit.RedisOptions{Timeout: patient})
	for who, put := range map[string]func(key string) error{
		"text":           func(key string) error { return c.Set(ctx, key, "not ours", 0).Err() },
		"a list":         func(key string) error { return c.LPush(ctx, key, "not ours").Err() },
		"a hash":         func(key string) error { return c.HSet(ctx, key, "not", "ours").Err() },
		"no number":      func(key string) error { return c.Set(ctx, key, "nan 1 1 1 1 1/1", 0).Err() },
		"endless":        func(key string) error { return c.Set(ctx, key, "inf 1 1 1 1 1/1", 0).Err() },
		"owed for ever":  func(key string) error { return c.Set(ctx, key, "1e200 1 1 1 5 5/3600000000000", 0).Err() },
		"text of 1 MB":   func(key string) error { return c.Set(ctx, key, strings.Repeat("1 ", 1<<19), 0).Err() },
		"nothing at all": func(key string) error { return c.Set(ctx, key, "", 0).Err() },
	} {
		ask := spend(t, "people", who, "5/h", 1)
		key := "regward:b:{" + strings.ReplaceAll(who, " ", "%20") + "}:people"
		if err := put(key); err != nil {
			t.Fatal(err)
		}
		asked := ask
		asked.N = 0
		if res, err := r.Take(ctx, asked); err != nil || !res.OK || res.Remaining != 5 {
			t.Errorf("%s: before: %+v, %v", who, res, err)
		}
		if got := passes(t, r, 8, ask); got != 5 {
			t.Errorf("%s: %d of 8 pass a burst of 5", who, got)
		}
		if list, err := r.List(ctx, "people", 100); err != nil || !slices.ContainsFunc(list, func(u ratelimit.Usage) bool { return u.Client == who && u.Used == 5 }) {
			t.Errorf("%s: listed %v, %v", who, list, err)
		}
		if err := put(key); err != nil { // over a bucket in use
			_ = c.Del(ctx, key)
			_ = put(key)
		}
		if _, err := r.Pace(ctx, ratelimit.Spend{Key: ask.Key, Rate: ask.Rate, N: 3}); err != nil {
			t.Errorf("%s: paced: %v", who, err)
		}
		h := holding("blobs", who, 2)
		key = strings.Replace(strings.Replace(key, ":b:", ":h:", 1), "people", "blobs", 1)
		if err := put(key); err != nil {
			t.Fatal(err)
		}
		first, _ := hold(t, r, true, h)
		hold(t, r, true, h)
		hold(t, r, false, h)
		_ = c.Del(ctx, key)
		_ = put(key)
		if err := r.Renew(); err != nil {
			t.Errorf("%s: renewed: %v", who, err)
		}
		hold(t, r, false, h) // both are counted again
		first()
	}
}

// A Redis that cannot be written to, or where no further connection could log
// in, is known to be down where nobody asks it, or asks it mere questions.
func TestAProbeDoesWhatRequestsDo(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(c *redis.Client) error{
		"a replica":        func(c *redis.Client) error { return c.Do(context.Background(), "REPLICAOF", "127.0.0.1", "1").Err() },
		"another password": func(c *redis.Client) error { return c.ConfigSet(context.Background(), "requirepass", "another").Err() },
		"may not write any more": func(c *redis.Client) error {
			return c.Do(context.Background(), "ACL", "SETUSER", "default", "-set").Err()
		},
		"out of memory": func(c *redis.Client) error { return c.ConfigSet(context.Background(), "maxmemory", "1").Err() },
		"as busy as it is paused": func(c *redis.Client) error {
			return c.Do(context.Background(), "CLIENT", "PAUSE", "60000", "ALL").Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			c := s.client(t)
			if err := c.ConfigSet(context.Background(), "requirepass", "secret").Err(); err != nil {
				t.Fatal(err)
			}
			o := &redis.Options{Addr: s.Addr, Password: "secret", ContextTimeoutEnabled: true, MaxRetries: -1}
			shared := redis.NewClient(o)
			t.Cleanup(func() { _ = shared.Close() })
			r := newRedis(t, shared, ratelimit.RedisOptions{Timeout: time.Second})
			await(t, "it works at first", func() bool { return r.Probe(context.Background()) == nil })
			b := ratelimit.NewHastyBreaker(r, time.Now, nil, time.Millisecond, 20*time.Millisecond)
			t.Cleanup(b.Close)
			if err := spoil(c); err != nil {
				t.Fatal(err)
			}
			question := spend(t, "people", "user:ann", "5/h", 0)
			await(t, "it is known to be down", func() bool {
				_, _ = b.Take(context.Background(), question)
				_, down := b.Outage()
				return down
			})
			for range 20 { // and stays so, whatever is asked
				_, _ = b.Take(context.Background(), question)
				if _, down := b.Outage(); !down {
					t.Fatal("it is up, and cannot be asked")
				}
			}
		})
	}
}

func TestACallersOwnEndIsNoFailureOfRedis(t *testing.T) {
	s := startServer(t)
	r := newRedis(t, s.client(t), ratelimit.RedisOptions{Timeout: patient})
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	for name, call := range everyCall(r, spend(t, "people", "user:ann", "5/h", 1)) {
		for _, ctx := range []context.Context{gone, late} {
			if err := call(ctx); !errors.Is(err, ctx.Err()) || errors.Is(err, ratelimit.ErrUnavailable) {
				t.Errorf("%s: got %v, want %v", name, err, ctx.Err())
			}
		}
	}
}

// replying answers every command of the handshake as Redis would, and every
// other one with text.
func replying(text string) func(net.Conn) {
	return func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			var n int
			if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
				return
			}
			var words []string
			for range n {
				var size int
				if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
					return
				}
				word := make([]byte, size+2)
				if _, err := io.ReadFull(in, word); err != nil {
					return
				}
				words = append(words, strings.ToLower(string(bytes.TrimSpace(word))))
			}
			reply := text
			switch words[0] {
			case "hello":
				reply = "-ERR unknown command\r\n"
			case "client", "ping", "select":
				reply = "+OK\r\n"
			}
			if _, err := io.WriteString(c, reply); err != nil {
				return
			}
		}
	}
}

func TestNonsenseIsNeitherAYesNorARefusal(t *testing.T) {
	// What no Redis says at all, whatever it is asked.
	nonsensical := map[string]bool{"HTTP": true, "a banner": true, "no line that ends": true, "a list of 16 GB": true, "streamed text": true, "an attribute": true}
	bulk := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	for name, text := range map[string]string{
		"OK":                         "+OK\r\n",
		"a number":                   ":1\r\n",
		"nothing":                    "$-1\r\n",
		"no list":                    "*-1\r\n",
		"an empty list":              "*0\r\n",
		"too short":                  "*1\r\n:-1\r\n",
		"too long":                   "*3\r\n:-1\r\n" + bulk("1") + bulk("1"),
		"text for a number":          "*2\r\n" + bulk("-1") + bulk("4"),
		"another index":              "*2\r\n:1\r\n" + bulk("0"),
		"below the index":            "*2\r\n:-2\r\n" + bulk("4"),
		"not a number":               "*2\r\n:-1\r\n" + bulk("nan"),
		"endless":                    "*2\r\n:-1\r\n" + bulk("inf"),
		"more than there is":         "*2\r\n:-1\r\n" + bulk("6"),
		"a debt that cannot be":      "*2\r\n:-1\r\n" + bulk("-1e9"),
		"words":                      "*2\r\n:-1\r\n" + bulk("four"),
		"an integer of -9":           "*2\r\n:-1\r\n:-9\r\n",
		"a refusal with enough left": "*2\r\n:0\r\n" + bulk("5"),
		"a list of lists":            "*2\r\n*1\r\n:1\r\n*1\r\n:1\r\n",
		"an error":                   "-ERR no\r\n",
		"an error of 100 kB":         "-ERR " + strings.Repeat("no\x1b ", 33_000) + "\r\n",
		"moved":                      "-MOVED 1 127.0.0.1:1\r\n",
		"loading":                    "-LOADING Redis is loading the dataset in memory\r\n",
		"a password":                 "-NOAUTH Authentication required.\r\n",
		"HTTP":                       "HTTP/1.1 400 Bad Request\r\n\r\n",
		"half an answer":             "*2\r\n:-1\r\n$1",
		"a list of 16 GB":            "*1000000000\r\n",
		"a list beyond all memory":   "*9000000000000000000\r\n",
		"text of 9 GB":               "$9000000000\r\n",
		"text beyond all memory":     "$9223372036854775806\r\n",
		"a number that overflows":    "*99999999999999999999999999\r\n",
		"a map of 16 GB":             "%600000\r\n",
		"lists without end":          strings.Repeat("*1\r\n", 100_000),
		"many wide lists":            strings.Repeat("*1000000\r\n", 100),
		"a line of 1 MB":             "+" + strings.Repeat("x", 1<<20) + "\r\n",
		"an attribute":               "|1\r\n+a\r\n+b\r\n:1\r\n",
		"streamed text":              "$?\r\n;4\r\nfour\r\n;0\r\n",
		"no line that ends":          "xyz",
		"a banner":                   "SSH-2.0-OpenSSH_9.6\r\n",
		"hung up":                    "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // some are waited for
			answer := replying(text)
			if name == "hung up" {
				answer = func(net.Conn) {}
			}
			r := newRedis(t, clientOf(t, redistest.Fake(t, answer)), ratelimit.RedisOptions{Timeout: 200 * time.Millisecond})
			for call, ask := range everyCall(r, spend(t, "people", "user:ann", "5/h", 1)) {
				if call == "Reset" && strings.HasPrefix(text, ":1") {
					continue // that is an answer
				}
				if err := ask(context.Background()); !errors.Is(err, ratelimit.ErrUnavailable) || errors.Is(err, errAnswered) {
					t.Errorf("%s: got %v, want ErrUnavailable", call, err)
				} else if wrong := nonsensical[name]; wrong && !strings.Contains(err.Error(), "it answers, but not as Redis does") {
					t.Errorf("%s: %v, want that something answers there", call, err)
				} else if len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\x1b\r\n") {
					t.Errorf("%s: %q is not fit for a log", call, err)
				}
			}
		})
	}
}

func TestASlowRedisIsGivenUp(t *testing.T) {
	for name, answer := range map[string]func(net.Conn){
		"silent": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"dripping": func(c net.Conn) { // a byte now and then keeps nobody waiting
			for range 100 {
				if _, err := c.Write([]byte("+")); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantUnavailable(t, newRedis(t, clientOf(t, redistest.Fake(t, answer)), ratelimit.RedisOptions{Timeout: 50 * time.Millisecond}), name, time.Second)
		})
	}
}

// A part of a million: each client takes the same.
func TestG16_WhatAMillionClientsTakeInRedis(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := s.client(t)
	r := newRedis(t, client, ratelimit.RedisOptions{Timeout: patient})
	before := usedMemory(t, client)
	clients := 50_000
	if underRace {
		clients = 25_000 // of which each costs as much
	}
	ask := spend(t, "anonymous", "", "100/6h", 1)
	for i := range clients {
		ask.Client = fmt.Sprintf("ip:2001:db8:%x:%x::/64", i>>16, i&0xffff)
		if _, err := r.Take(context.Background(), ask); err != nil {
			t.Fatal(err)
		}
	}
	each := (usedMemory(t, client) - before) / clients
	t.Logf("%d bytes for each of %d clients: %d MB for a million", each, clients, each)
	if each > 300 {
		t.Errorf("a client takes %d bytes in Redis, want at most 300", each)
	}
	usages, err := r.List(context.Background(), "anonymous", 10)
	if err != nil || len(usages) != 10 {
		t.Errorf("List among them: %d usages, %v", len(usages), err)
	}
}

func BenchmarkTakeRedis(b *testing.B) {
	s := startServer(b)
	ctx := context.Background()
	for _, keys := range []int{1, 100, 10_000, 100_000} {
		b.Run(fmt.Sprint("keys=", keys), func(b *testing.B) {
			r := newRedis(b, s.client(b), ratelimit.RedisOptions{Timeout: patient})
			spends := make([]ratelimit.Spend, keys)
			for i := range spends {
				spends[i] = spend(b, "people", fmt.Sprintf("user:%07d", i), "10000000/s", 1)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_, _ = r.Take(ctx, spends[i%keys])
				i++
			}
		})
	}
	r := newRedis(b, s.client(b), ratelimit.RedisOptions{Timeout: patient})
	for name, rate := range map[string]string{"passed": "10000000/s", "refused": "1/366d"} {
		b.Run("parallel, one key, "+name, func(b *testing.B) {
			ask := spend(b, "people", "user:"+name, rate, 1)
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, _ = r.Take(ctx, ask)
				}
			})
		})
	}
	b.Run("three limits of one client", func(b *testing.B) {
		spends := []ratelimit.Spend{spend(b, "a", "user:ann", "10000000/s", 1), spend(b, "b", "user:ann", "100000000/h", 1), spend(b, "c", "user:ann", "10000000/s", 1)}
		for b.Loop() {
			_, _ = r.Take(ctx, spends...)
		}
	})
	b.Run("hold and release", func(b *testing.B) {
		for b.Loop() {
			release, _, _ := r.Hold(ctx, holding("transfers", "user:ann", 100))
			release()
		}
	})
	b.Run("pace 256 KiB at 10 GB/s", func(b *testing.B) {
		ask := ratelimit.Spend{Key: ratelimit.Key{Limit: "uplink", Client: "all"}, Rate: mustByteRate(b, "10GB/s"), N: 256 << 10}
		for b.Loop() {
			_, _ = r.Pace(ctx, ask)
		}
	})
}
