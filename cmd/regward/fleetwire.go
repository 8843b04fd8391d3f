package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/fleet"
	"github.com/regward/regward/proxy"
	"github.com/regward/regward/ratelimit"
)

// fleetFile is the name, in state_dir, of what the fleet keeps over a restart.
const fleetFile = "fleet.json"

// shared is what several instances have in common; with one alone it is that
// one's own. It is made once: Redis changes by a restart only.
type shared struct {
	client   redis.UniversalClient // nil: one instance alone
	breaker  *ratelimit.Breaker    // in front of Redis; nil without
	limits   ratelimit.Limiter     // Redis behind its breaker, or Memory
	failures ratelimit.Limiter     // of failed logins
	notes    proxy.Shared          // nil without Redis

	onError              proxy.OnError     // zero without Redis
	local, localFailures ratelimit.Limiter // decide while Redis is down, with OnErrorLocal

	fleet atomic.Pointer[fleet.Fleet]   // nil until a configuration is in force
	tells atomic.Pointer[proxy.Handler] // that Redis is gone and back; nil until then, too
}

// openShared makes the limiters. It asks Redis nothing: an instance starts while
// Redis is down.
func (s *server) openShared(cfg *configs.Config) error {
	client, err := newRedis(&cfg.Redis)
	if err != nil {
		return err
	}
	if client == nil {
		s.shared.limits = ratelimit.NewMemory(limitKeys, s.now)
		s.shared.failures = ratelimit.NewMemory(failureKeys, s.now)
		return nil
	}
	s.shared.client = client
	limiter, err := ratelimit.NewRedis(client, ratelimit.RedisOptions{Prefix: cfg.Redis.KeyPrefix, Timeout: time.Duration(cfg.Redis.Timeout)})
	if err != nil {
		return err
	}
	s.shared.breaker = ratelimit.NewBreaker(limiter, s.now, s.redisChanged)
	s.shared.notes = &redisNotes{client, s.shared.breaker, cfg.Redis.KeyPrefix, time.Duration(cfg.Redis.Timeout)}
	// One for both: limits have different names, and Redis has room.
	s.shared.limits, s.shared.failures = s.shared.breaker, s.shared.breaker
	switch cfg.Redis.OnError {
	case configs.RedisAllow:
		s.shared.onError = proxy.OnErrorAllow
	case configs.RedisDeny:
		s.shared.onError = proxy.OnErrorDeny
	default:
		s.shared.onError = proxy.OnErrorLocal
		s.shared.local = ratelimit.NewMemory(limitKeys, s.now)
		s.shared.localFailures = ratelimit.NewMemory(failureKeys, s.now)
	}
	return nil
}

// redisChanged has the handler tell of an outage, and the fleet look at once what
// it has missed when one is over: all that is known of Redis changes together.
func (s *server) redisChanged(down bool, o ratelimit.Outage) {
	if h := s.shared.tells.Load(); h != nil {
		h.LimiterIs(down, o.Err)
	}
	if f := s.shared.fleet.Load(); f != nil {
		f.Look()
	}
}

// joinFleet reads what the others share, before anybody is let in: who was put
// out while this instance was away stays out. The limiter makes its connections
// first, so that nobody's first pull waits for handshakes: for a second or two
// at most, and then without Redis.
func (s *server) joinFleet(cfg *configs.Config) {
	s.shared.tells.Store(s.handler)
	if s.shared.breaker != nil {
		_ = s.shared.breaker.Probe(context.Background()) // Outage tells
	}
	s.shared.fleet.Store(fleet.New(fleet.Options{
		Client:      s.shared.client,
		Prefix:      cfg.Redis.KeyPrefix,
		Keep:        max(fleet.DefaultKeep, time.Duration(cfg.Token.TTL)+time.Duration(cfg.Uploads.Lease)+time.Hour),
		File:        filepath.Join(cfg.StateDir, fleetFile),
		Self:        s.self,
		Log:         s.log,
		Now:         s.now,
		OnRevoked:   s.revoked,
		OnOverrides: s.overridden,
		OnReload:    s.reloadAsked,
	}))
}

// close leaves the fleet and gives Redis up, after the last request.
func (c *shared) close() {
	if f := c.fleet.Load(); f != nil {
		f.Close()
	}
	if c.breaker != nil {
		c.breaker.Close()
	}
	if c.client != nil {
		_ = c.client.Close()
	}
}

// onErrorWords says what holds while Redis is down.
func onErrorWords(onError string) string {
	switch onError {
	case configs.RedisAllow:
		return "nothing is limited until it can (redis.on_error: allow)"
	case configs.RedisDeny:
		return "what a limit counts is refused until it can (redis.on_error: deny)"
	}
	return "each instance counts for itself until it can (redis.on_error: local)"
}

// redisWrong is what is wrong with Redis and since when; "" is nothing, or no
// Redis.
func (s *server) redisWrong() (what string, since time.Time) {
	if s.shared.breaker != nil {
		if o, down := s.shared.breaker.Outage(); down {
			what, since = "limits cannot be asked: "+onErrorWords(s.first.Redis.OnError), o.Since
		}
	}
	if f := s.shared.fleet.Load(); f != nil {
		if state := f.State(); !state.Sharing() {
			if what != "" {
				what += "; "
			}
			what += "revocations, overrides and reloads are not shared"
			if since.IsZero() || state.Since.Before(since) {
				since = state.Since
			}
		}
	}
	return what, since
}

// revoked ends what was proven of some users, whoever asked for it.
func (s *server) revoked(list []fleet.Revocation) {
	ended := make([]auth.Revocation, 0, len(list))
	for _, r := range list {
		ended = append(ended, auth.Revocation{User: r.User, At: r.At, Until: r.Until})
	}
	s.cache.Revoke(ended...)
	s.endRefresh(list)
	if len(list) <= 10 { // more come at a start, or after a cut
		for _, r := range list {
			s.log.Info("revoked", zap.String("user", everybody(r.User)), zap.Time("before", r.At))
		}
		return
	}
	s.log.Info("revoked", zap.Int("users", len(list)))
}

// overridden puts in force what limits are changed to for a while, and says
// what that is.
func (s *server) overridden(list []fleet.Override) {
	before := s.handler.Overrides()
	now := make([]proxy.Override, 0, len(list))
	for _, o := range list {
		one := proxy.Override{Limit: o.Limit, Rate: o.Rate, DryRun: o.DryRun, Until: o.Until}
		now = append(now, one)
		if !slices.Contains(before, one) {
			s.log.Warn("limit overridden", zap.String("limit", allWord(o.Limit)), zap.String("rate", o.Rate),
				zap.Bool("dry_run", o.DryRun), zap.Time("until", o.Until), zap.String("by", o.By))
		}
	}
	s.handler.SetOverrides(now)
	for _, o := range before {
		if !slices.ContainsFunc(now, func(p proxy.Override) bool { return p.Limit == o.Limit }) {
			s.log.Warn("override ended: the limit is as configured again", zap.String("limit", allWord(o.Limit)))
		}
	}
}

// everybody names whom a revocation puts out.
func everybody(user string) string {
	if user == "" {
		return "everybody"
	}
	return user
}

// reloadAsked is a reload that another instance was asked for.
func (s *server) reloadAsked(r fleet.Reload) {
	s.load("reload asked by "+cmp.Or(r.By, r.From), r.By)
}

// hostname is how this instance is called among the others: a pod's name.
func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}

// askOthers has the other instances load their files too, and tells them by whom
// it was asked. The words are for whoever asked; "" is nobody there.
func (s *server) askOthers(ctx context.Context, by string) string {
	f := s.shared.fleet.Load()
	if f == nil || f.State().Alone {
		return ""
	}
	if err := f.Reload(ctx, cmp.Or(by, hostname())); err != nil {
		if errors.Is(err, fleet.ErrNotShared) {
			return "the other instances could not be asked to load theirs: Redis is away; they will when it is back"
		}
		return "the other instances could not be asked to load theirs: " + err.Error()
	}
	return "the other instances are asked to load theirs"
}
