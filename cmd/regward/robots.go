package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

const (
	usesFile = "tokens-used.json" // in state_dir: when each secret of a robot was last used here
	usesTick = time.Minute

	maxRobotSeries = 200                 // robots with a metric: those that expire next
	robotHorizon   = 30 * 24 * time.Hour // and no later than this
	maxRobotLines  = 20                  // warnings at once
)

// serverRobots is what outlives reloads.
type serverRobots struct {
	uses *auth.RobotUses

	mu    sync.Mutex
	saved string         // what is in the file
	told  map[string]int // robots to the stage that was warned of
}

// openRobots reads last uses. That they cannot be read keeps nobody from
// serving.
func (s *server) openRobots(stateDir string) {
	data, err := readBounded(filepath.Join(stateDir, usesFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	uses, broken := auth.NewRobotUses(data)
	if err = errors.Join(err, broken); err != nil {
		s.log.Warn("last uses of robots are not known", zap.String("file", usesFile), zap.Error(err))
	}
	s.robots.uses, s.robots.told = uses, map[string]int{}
}

// buildRobots is the provider of robots. The clock and the uses are nil where
// nobody serves.
func buildRobots(cfg *configs.Config, tokens *auth.Tokens, uses *auth.RobotUses, now func() time.Time) *auth.Robots {
	o := auth.RobotOptions{CaseSensitive: cfg.Auth.CaseSensitive, Now: now, Uses: uses}
	if now == nil {
		o.Now = time.Now
	}
	if tokens != nil {
		// As for htpasswd: any instance must be able to compare it.
		o.Key = tokens.Derive("robot proof")[0]
	}
	return auth.NewRobots(cfg.Auth.Robots, o)
}

// saveUses writes last uses down if there are new ones.
func (s *server) saveUses() {
	now := s.live.Load()
	if now == nil || s.robots.uses == nil {
		return
	}
	s.robots.mu.Lock()
	defer s.robots.mu.Unlock()
	text := string(s.robots.uses.Save(now.cfg.Auth.Robots))
	if text == s.robots.saved || s.robots.saved == "" && now.cfg.Auth.Robots == nil {
		return
	}
	if err := replaceFile(filepath.Join(s.first.StateDir, usesFile), []byte(text)); err != nil {
		s.log.Warn("last uses of robots not kept", zap.Error(err))
		return
	}
	s.robots.saved = text
}

// watchRobots keeps last uses, and warns of robots that expire, until ctx ends.
func (s *server) watchRobots(ctx context.Context) {
	tick := time.NewTicker(usesTick)
	defer tick.Stop()
	for {
		s.warnRobots()
		select {
		case <-ctx.Done():
			s.saveUses()
			return
		case <-tick.C:
			s.saveUses()
		}
	}
}

// robotStage is how near an end is: 0 far, then 14, 7 and 1 day before, 4 when
// it has come.
func robotStage(end, now time.Time) int {
	left := end.Sub(now)
	switch {
	case left <= 0:
		return 4
	case left <= 24*time.Hour:
		return 3
	case left <= 7*24*time.Hour:
		return 2
	case left <= 14*24*time.Hour:
		return 1
	}
	return 0
}

// warnRobots says which robots expire in 14, 7 and 1 day, and which have, each
// once: a build that breaks at night could have been told of by day.
func (s *server) warnRobots() {
	cfg := s.live.Load().cfg
	s.robots.mu.Lock()
	defer s.robots.mu.Unlock()
	stages, more := map[string]int{}, 0
	for _, r := range expiring(cfg.Auth.Robots, s.now()) {
		stage := robotStage(r.Expires, s.now())
		stages[r.Name] = stage
		if stage <= s.robots.told[r.Name] || stage == 0 {
			continue
		}
		if more++; more > maxRobotLines {
			continue
		}
		what := "robot " + r.Name + " expires in " + roughly(r.Expires.Sub(s.now()))
		if stage == 4 {
			what = "robot " + r.Name + " has expired"
		}
		fields := []zap.Field{zap.String("login", r.Login()), zap.Time("expires", r.Expires)}
		if r.Owner != "" {
			fields = append(fields, zap.String("owner", r.Owner))
		}
		s.log.Warn(fmt.Sprintf("%s, on %s: regward token rotate %s --expires 90d", what, r.Expires.Format(clockUTC), r.Name), fields...)
	}
	if more > maxRobotLines {
		s.log.Warn(fmt.Sprintf("%d more robots expire or have expired: regward token list", more-maxRobotLines))
	}
	s.robots.told = stages
}

// expiring are the robots that expire within the horizon, the next first, and
// those that have.
func expiring(f *auth.RobotFile, now time.Time) []*auth.Robot {
	if f == nil {
		return nil
	}
	var some []*auth.Robot
	for i := range f.Robots {
		if r := &f.Robots[i]; !r.Expires.IsZero() && r.Expires.Sub(now) <= robotHorizon {
			some = append(some, r)
		}
	}
	slices.SortStableFunc(some, func(a, b *auth.Robot) int { return a.Expires.Compare(b.Expires) })
	return some
}

// listRobots answers GET /api/v1/robots.
func (s *server) listRobots(w http.ResponseWriter, _ *http.Request) {
	cfg := s.live.Load().cfg
	answer := robotsAnswer{File: cfg.Auth.TokensFile, Sum: sumOf(cfg.Auth.Robots), Used: map[string]time.Time{}}
	if f := cfg.Auth.Robots; f != nil {
		for i := range f.Robots {
			for _, secret := range f.Robots[i].Secrets {
				if at := s.robots.uses.Last(f.Robots[i].Name, secret.Hash); !at.IsZero() {
					answer.Used[f.Robots[i].Name+"/"+secret.Hash.ID()] = at
				}
			}
		}
	}
	writeJSON(w, http.StatusOK, answer)
}

// robotCollector tells when robots expire, as it is at each scrape.
type robotCollector struct {
	server *server
	desc   *prometheus.Desc
}

func newRobotCollector(s *server) *robotCollector {
	return &robotCollector{s, prometheus.NewDesc("regward_robot_expiry_timestamp_seconds",
		"When a robot expires, in seconds since 1970, for those that do within 30 days or have since they were last rotated; 200 at most.", []string{"robot"}, nil)}
}

func (c *robotCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *robotCollector) Collect(ch chan<- prometheus.Metric) {
	live := c.server.live.Load()
	if live == nil {
		return
	}
	now := c.server.now()
	some := expiring(live.cfg.Auth.Robots, now)
	// What is to come matters more than what expired long ago.
	next, _ := slices.BinarySearchFunc(some, now, func(r *auth.Robot, t time.Time) int { return r.Expires.Compare(t) })
	first := max(0, min(next-maxRobotSeries/4, len(some)-maxRobotSeries))
	for _, r := range some[first:min(len(some), first+maxRobotSeries)] {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(r.Expires.Unix()), r.Name)
	}
}
