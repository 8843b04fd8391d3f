package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/regward/regward/ratelimit"
)

// OnError says what holds while a limiter that several instances share cannot
// be asked (redis.on_error).
type OnError uint8

// What may hold. The zero OnError is for a limiter of this process alone.
const (
	OnErrorLocal OnError = iota + 1 // each instance counts for itself
	OnErrorAllow                    // no limit is asked
	OnErrorDeny                     // what a limit would count is refused: 503, logins too
)

// String is the word in the configuration.
func (o OnError) String() string {
	switch o {
	case OnErrorLocal:
		return "local"
	case OnErrorAllow:
		return "allow"
	case OnErrorDeny:
		return "deny"
	}
	return "none"
}

// limiterPause is what a client is told to wait while the limiter is down.
const limiterPause = 5 * time.Second

const (
	// tellsAgain is how often it is said again that the limiter is down, and that a
	// call to one that is not failed.
	tellsAgain = time.Minute

	// tellsNext is the least time between two outages that are told of: the log of a
	// Redis that flaps is readable. One that lasts is told of a little later, one
	// that does not is counted in the next line.
	tellsNext = 10 * time.Second
)

// sharedState tells, and keeps telling, that the shared limiter is down.
type sharedState struct {
	mode      OnError
	log       *zap.Logger
	now       func() time.Time
	down      atomic.Bool
	fallbacks atomic.Int64 // decisions that were made without it

	outage func() (ratelimit.Outage, bool) // as the limiter itself knows it; nil if it does not
	later  func(time.Duration, func())     // time.AfterFunc

	mu     sync.Mutex
	told   time.Time // when something was, last
	saying bool      // it is told of, and its end shall be
	begun  bool      // there is an outage
	untold int       // outages that nothing was said of
}

// isUp reports whether the shared limiter answers.
func (s *sharedState) isUp() bool {
	if s.outage == nil {
		return !s.down.Load()
	}
	_, down := s.outage()
	return !down
}

func (s *sharedState) ok() {
	if !s.down.Load() || !s.down.Swap(false) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun && !s.saying {
		s.untold++
	}
	if s.saying {
		s.log.Info("limits are shared again: Redis answers")
	}
	s.saying, s.begun = false, false
}

func (s *sharedState) failed(err error) {
	s.fallbacks.Add(1)
	s.gone(err)
}

// gone is told of every call that failed, and of every outage. An outage is told
// of when it begins; calls that fail while there is none once in a while.
func (s *sharedState) gone(err error) {
	s.down.Store(true)
	now := s.now()
	truly := !s.isUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := tellsAgain
	if truly && !s.saying {
		wait = tellsNext
	}
	if since := now.Sub(s.told); since >= 0 && since < wait && !s.told.IsZero() {
		if truly && !s.begun && !s.saying {
			s.later(wait-since, func() { // else nobody might come by whom it is told
				if !s.isUp() {
					s.gone(err)
				}
			})
		}
		s.begun = s.begun || truly
		return
	}
	s.tell(now, err)
}

// tell writes that limits are not shared.
func (s *sharedState) tell(now time.Time, err error) {
	holds := map[OnError]string{
		OnErrorLocal: "each instance counts for itself",
		OnErrorAllow: "nothing is limited",
		OnErrorDeny:  "what limits count is refused",
	}[s.mode]
	f := []zap.Field{zap.Stringer("on_error", s.mode), zap.Error(err)}
	if s.untold > 0 {
		f = append(f, zap.Int("outages_not_told", s.untold))
	}
	s.told, s.saying, s.begun, s.untold = now, true, true, 0
	s.log.Error("limits are not shared: Redis cannot be asked; until then "+holds, f...)
}

// LimiterIs takes note that the shared limiter is down, or is back, whether or
// not a request has asked it. When it is back the other instances are told what
// they could not be: that must not wait until somebody asks this one.
func (h *Handler) LimiterIs(down bool, err error) {
	if down {
		h.shared.gone(err)
		return
	}
	h.shared.ok()
	if h.notes.kept() {
		go func() { _ = h.notes.settle(context.Background()) }() // else the next who asks does
	}
}

// fallback is a shared limiter and what holds in its place. An error that it
// returns is one of OnErrorDeny, of a caller who went away, or of List and Reset.
type fallback struct {
	ratelimit.Limiter
	local ratelimit.Limiter // of OnErrorLocal
	state *sharedState
}

// behind wraps l, unless mode is that of a limiter of this process alone.
func (s *sharedState) behind(l, local ratelimit.Limiter) ratelimit.Limiter {
	if s.mode == 0 {
		return l
	}
	if k, ok := l.(interface {
		Outage() (ratelimit.Outage, bool)
	}); ok {
		s.outage = k.Outage
	}
	if local == nil {
		local = ratelimit.NewMemory(0, s.now)
	}
	return &fallback{Limiter: l, local: local, state: s}
}

// asked takes note of how a call ended, and says whether its answer counts.
func (f *fallback) asked(ctx context.Context, err error) bool {
	switch {
	case err == nil:
		f.state.ok()
		return true
	case ctx.Err() != nil: // nobody waits for it any more
		return true
	case !errors.Is(err, ratelimit.ErrUnavailable): // a mistake in what was asked; Redis is not to blame
		return true
	}
	f.state.failed(err)
	return f.state.mode == OnErrorDeny
}

// Take implements ratelimit.Limiter.
func (f *fallback) Take(ctx context.Context, s ...ratelimit.Spend) (ratelimit.Result, error) {
	res, err := f.Limiter.Take(ctx, s...)
	switch {
	case f.asked(ctx, err):
		return res, err
	case f.state.mode == OnErrorAllow:
		return ratelimit.Result{OK: true, Index: -1}, nil
	}
	return f.local.Take(ctx, s...)
}

// Pace implements ratelimit.Limiter.
func (f *fallback) Pace(ctx context.Context, s ...ratelimit.Spend) (time.Duration, error) {
	wait, err := f.Limiter.Pace(ctx, s...)
	switch {
	case f.asked(ctx, err):
		return wait, err
	case f.state.mode == OnErrorAllow:
		return 0, nil
	}
	return f.local.Pace(ctx, s...)
}

// Hold implements ratelimit.Limiter.
func (f *fallback) Hold(ctx context.Context, h ...ratelimit.Holding) (func(), ratelimit.Result, error) {
	release, res, err := f.Limiter.Hold(ctx, h...)
	switch {
	case f.asked(ctx, err):
		return release, res, err
	case f.state.mode == OnErrorAllow:
		return func() {}, ratelimit.Result{OK: true, Index: -1}, nil
	}
	return f.local.Hold(ctx, h...)
}

// denies reports whether what limits count is refused while they cannot be asked.
func (h *Handler) denies() bool { return h.shared.mode == OnErrorDeny }

// sharedCollector tells how the shared limiter is; nothing where there is none.
type sharedCollector struct {
	state         *sharedState
	up, fallbacks *prometheus.Desc
}

func newSharedCollector(s *sharedState) *sharedCollector {
	return &sharedCollector{s,
		prometheus.NewDesc("regward_redis_up", "1 if Redis answers about limits in time, else 0; known within seconds, asked or not. Absent without Redis.", nil, nil),
		prometheus.NewDesc("regward_limiter_fallback_total", "Questions of limits that Redis did not answer, by redis.on_error: what held in its place. Absent without Redis.", []string{"mode"}, nil)}
}

func (c *sharedCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.up; ch <- c.fallbacks }

func (c *sharedCollector) Collect(ch chan<- prometheus.Metric) {
	if c.state.mode == 0 {
		return
	}
	ch <- prometheus.MustNewConstMetric(c.up, prometheus.GaugeValue, oneIf(c.state.isUp()))
	ch <- prometheus.MustNewConstMetric(c.fallbacks, prometheus.CounterValue, float64(c.state.fallbacks.Load()), c.state.mode.String())
}
