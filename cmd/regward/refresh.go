package main

import (
	"context"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/fleet"
)

const (
	refreshName = "refresh.json" // in state_dir, without Redis
	refreshTick = time.Minute    // between writings of last uses: a crash forgets no more
)

// serverRefresh is what outlives reloads.
type serverRefresh struct {
	tokens *auth.Refreshing
	count  atomic.Int64 // when last swept

	mu    sync.Mutex
	ended map[string]time.Time // revocations that the tokens' store has not been told: user to the time
	poke  chan struct{}
}

// openRefresh reads nothing yet: token.refresh may be off.
func (s *server) openRefresh(cfg *configs.Config) {
	var store auth.RefreshStore = newRefreshFile(filepath.Join(cfg.StateDir, refreshName), s.now, s.log)
	if s.shared.client != nil {
		store = newRefreshRedis(s.shared.client, s.shared.breaker, &cfg.Redis, s.now)
	}
	s.refresh.tokens = auth.NewRefreshing(store, s.cache, s.now)
	s.refresh.ended, s.refresh.poke = map[string]time.Time{}, make(chan struct{}, 1)
}

// buildRenewer is who tells of people that have refresh tokens who they are now;
// nil where there are none.
func buildRenewer(cfg *configs.Config, people *logins) auth.Renewer {
	if !cfg.Token.Refresh || len(people.all) == 0 {
		return nil
	}
	return auth.Renewers(people.chain)
}

// endRefresh has the refresh tokens of who was put out ended for good. Until that
// is done they are not taken for the revocation's sake.
func (s *server) endRefresh(list []fleet.Revocation) {
	r := &s.refresh
	r.mu.Lock()
	for _, one := range list {
		user := one.User
		if _, ok := r.ended[user]; !ok && len(r.ended) >= fleet.MaxRevocations {
			user = ""
		}
		if r.ended[user].Before(one.At) {
			r.ended[user] = one.At
		}
	}
	r.mu.Unlock()
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

// watchRefresh keeps last uses, forgets tokens that nobody uses and ends those of
// who was put out, until ctx ends.
func (s *server) watchRefresh(ctx context.Context) {
	tick := time.NewTicker(refreshTick)
	defer tick.Stop()
	for {
		s.tendRefresh(ctx)
		select {
		case <-ctx.Done():
			s.noteRefresh(context.Background())
			return
		case <-s.refresh.poke:
		case <-tick.C:
		}
	}
}

func (s *server) tendRefresh(ctx context.Context) {
	s.settleRefresh(ctx)
	s.noteRefresh(ctx)
	if !s.live.Load().cfg.Token.Refresh {
		return
	}
	left, err := s.refresh.tokens.Sweep(ctx)
	if err != nil {
		s.log.Warn("refresh tokens not swept", zap.Error(err))
		return
	}
	s.refresh.count.Store(int64(left))
}

func (s *server) noteRefresh(ctx context.Context) {
	if err := s.refresh.tokens.Note(ctx); err != nil {
		s.log.Warn("last uses of refresh tokens not kept", zap.Error(err))
	}
}

// settleRefresh tells the store of revocations; what it cannot be told waits.
func (s *server) settleRefresh(ctx context.Context) {
	r := &s.refresh
	r.mu.Lock()
	todo := r.ended
	r.ended = map[string]time.Time{}
	r.mu.Unlock()
	if len(todo) == 0 {
		return
	}
	n, err := r.tokens.EndBefore(ctx, todo)
	if err == nil {
		if n > 0 {
			s.log.Info("refresh tokens ended by revocations", zap.Int("tokens", n))
		}
		return
	}
	s.log.Warn("refresh tokens from before a revocation are not taken, but not ended for good yet", zap.Error(err))
	r.mu.Lock()
	defer r.mu.Unlock()
	for user, at := range todo {
		if r.ended[user].Before(at) {
			r.ended[user] = at
		}
	}
}

// refreshCollector tells how many there are.
type refreshCollector struct {
	server *server
	desc   *prometheus.Desc
}

func newRefreshCollector(s *server) *refreshCollector {
	return &refreshCollector{s, prometheus.NewDesc("regward_refresh_tokens", "Refresh tokens that clients keep in place of a password, as last counted within a minute.", nil, nil)}
}

func (c *refreshCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *refreshCollector) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(c.server.refresh.count.Load()))
}
