package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// broken is a limiter that cannot be asked while it is down.
type brokenLimiter struct {
	ratelimit.Limiter
	down bool
}

func (b *brokenLimiter) err() error {
	if b.down {
		return fmt.Errorf("%w: connection refused", ratelimit.ErrUnavailable)
	}
	return nil
}

func (b *brokenLimiter) Take(ctx context.Context, s ...ratelimit.Spend) (ratelimit.Result, error) {
	if err := b.err(); err != nil {
		return ratelimit.Result{}, err
	}
	return b.Limiter.Take(ctx, s...)
}

func (b *brokenLimiter) Pace(ctx context.Context, s ...ratelimit.Spend) (time.Duration, error) {
	if err := b.err(); err != nil {
		return 0, err
	}
	return b.Limiter.Pace(ctx, s...)
}

func (b *brokenLimiter) Hold(ctx context.Context, h ...ratelimit.Holding) (func(), ratelimit.Result, error) {
	if err := b.err(); err != nil {
		return func() {}, ratelimit.Result{}, err
	}
	return b.Limiter.Hold(ctx, h...)
}

// redisGate is a gate whose limits are shared.
func redisGate(t *testing.T, mode OnError, text string) (*gate, *brokenLimiter) {
	g := newGate(t, text)
	old := g.Handler
	memory := func() ratelimit.Limiter { return ratelimit.NewMemory(1<<12, g.clock.Now) }
	shared := &brokenLimiter{Limiter: memory()}
	g.Handler = New(Options{Limiter: shared, OnError: mode, Local: memory(), Cache: auth.NewCache(100, g.clock.Now),
		Log: old.Log, Access: old.Access, Audit: old.Audit, Now: g.clock.Now})
	g.swap(g.settings)
	g.srv.Config.Handler = g.Handler
	return g, shared
}

func TestWhatHoldsWhileRedisIsDown(t *testing.T) {
	const text = usual + "limit people pulls 2/h per=user\nlimit blobs transfers 1 per=user\nlimit line bytes 100MB/s per=user"
	for _, tt := range []struct {
		mode   OnError
		pulls  []int // of bob's, while it is down
		blob   int
		logins []int // wrong passwords of carl's
	}{
		{OnErrorLocal, []int{200, 200, 429}, 200, []int{401, 401}},
		{OnErrorAllow, []int{200, 200, 200, 200}, 200, []int{401, 401}},
		{OnErrorDeny, []int{503, 503}, 503, []int{503, 503}},
	} {
		g, shared := redisGate(t, tt.mode, text)
		bob := g.as("bob", pulls("shared/base"))
		if got := g.metric(t, "regward_redis_up", ""); got != 1 {
			t.Errorf("%v: up is %v at first", tt.mode, got)
		}
		shared.down = true
		for i, want := range tt.pulls {
			a := g.get("/v2/shared/base/manifests/latest", bob)
			if a.StatusCode != want {
				t.Errorf("%v: pull %d: %d, want %d", tt.mode, i, a.StatusCode, want)
			}
			if want == 503 && (a.Header.Get("Retry-After") != "5" || !strings.Contains(string(a.body), "UNAVAILABLE")) {
				t.Errorf("%v: %v %s", tt.mode, a.Header, a.body)
			}
			if remaining := a.Header.Get("RateLimit-Remaining"); tt.mode == OnErrorAllow && remaining != "" {
				t.Errorf("nothing is limited, and %s are left", remaining)
			}
		}
		g.get("/v2/shared/base/blobs/"+layerDigest, bob).want(t, tt.blob)
		for i, want := range tt.logins {
			if got := g.get("/token", basic("carl", fmt.Sprint("wrong", i))).StatusCode; got != want {
				t.Errorf("%v: login %d: %d, want %d", tt.mode, i, got, want)
			}
		}
		if got := g.metric(t, "regward_redis_up", ""); got != 0 {
			t.Errorf("%v: up is %v", tt.mode, got)
		}
		if got := g.metric(t, "regward_limiter_fallback_total", tt.mode.String()); got < 3 {
			t.Errorf("%v: %v fallbacks", tt.mode, got)
		}
		if n := strings.Count(g.log.String(), "Redis cannot be asked"); n != 1 {
			t.Errorf("%v: told %d times in a minute", tt.mode, n)
		}
		shared.down = false
		g.clock.pass(10 * time.Second)
		g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
		if log := g.log.String(); g.metric(t, "regward_redis_up", "") != 1 || strings.Count(log, "shared again") != 1 {
			t.Errorf("%v: not back: %s", tt.mode, log)
		}
	}
}

func TestAQuestionNobodyWaitsForSaysNothingOfRedis(t *testing.T) {
	g, shared := redisGate(t, OnErrorLocal, usual)
	shared.down = true
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := g.Limiter.Take(ctx, ratelimit.Spend{Key: ratelimit.Key{Limit: "a", Client: "b"}, N: 1, Rate: ratelimit.Rate{Events: 1, Per: time.Hour}})
	if !errors.Is(err, ratelimit.ErrUnavailable) || g.shared.down.Load() {
		t.Errorf("%v, down: %v", err, g.shared.down.Load())
	}
}

// Every outage is told of when it begins, and so is its end, however soon it
// comes after the last; those of a Redis that flaps a pair in ten seconds, with
// how many were left out.
func TestEveryOutageIsTold(t *testing.T) {
	g, shared := redisGate(t, OnErrorLocal, usual+"limit people requests 1000/h")
	state := g.shared
	down := false
	state.outage = func() (ratelimit.Outage, bool) { return ratelimit.Outage{}, down }
	var later []func()
	state.later = func(_ time.Duration, f func()) { later = append(later, f) }
	is := func(yes bool) {
		down = yes
		g.LimiterIs(yes, errors.New("gone"))
	}
	wants := func(what string, gone, back int) {
		t.Helper()
		log := g.log.String()
		if a, b := strings.Count(log, "Redis cannot be asked"), strings.Count(log, "shared again"); a != gone || b != back {
			t.Fatalf("%s: %d lines of gone, %d of back, want %d and %d\n%s", what, a, b, gone, back, log)
		}
	}
	bob := g.as("bob", pulls("shared/base"))
	shared.down = true // one call fails, and then it is found out that all do
	g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	is(true)
	wants("the first", 1, 0)
	shared.down = false
	is(false)
	wants("it is over", 1, 1)
	g.clock.pass(15 * time.Second)
	is(true)
	wants("another, 15 seconds later", 2, 1)
	is(false)
	wants("that is over, too", 2, 2)
	for range 5 {
		g.clock.pass(time.Second)
		is(true)
		is(false)
	}
	wants("it flaps", 2, 2)
	g.clock.pass(time.Second)
	is(true)
	wants("it flaps still", 2, 2)
	g.clock.pass(4 * time.Second)
	for _, f := range later { // nobody asks, and no probe has news
		f()
	}
	wants("that lasts", 3, 2)
	if !strings.Contains(g.log.String(), `"outages_not_told":5`) {
		t.Errorf("five outages are not counted: %s", g.log.String())
	}
	g.clock.pass(30 * time.Second)
	shared.down = true
	g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	wants("half a minute on", 3, 2)
	g.clock.pass(31 * time.Second)
	g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	wants("it is said again after a minute", 4, 2)
	shared.down = false
	is(false)
	wants("all over", 4, 3)
	// A call that fails now and then is no outage.
	for range 10 {
		shared.down = true
		g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
		shared.down = false
		g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	}
	wants("single calls", 4, 3)
}
