package proxy

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// guard is the failed-login limits, before any password is checked at a cost.
// A check may outlive the request that began it, so nothing here is the
// exchange's own: what dry runs found is fetched from it.
type guard struct {
	h    *Handler
	s    *Snapshot
	addr netip.Addr

	mu    sync.Mutex
	would []string // dry runs that would have refused, each once
}

// Admit refuses without taking anything (M15).
func (g *guard) Admit(c auth.Credential) error {
	return g.each(c, func(l *Limit, s ratelimit.Spend) error {
		s.N = 0
		res, err := g.h.Failures.Take(context.Background(), s)
		if err != nil || res.OK {
			return err
		}
		if l.DryRun {
			g.tried(l)
			return nil
		}
		g.h.metrics.limit(l.Name, "throttled")
		return g.lockedOut(l, c, res)
	})
}

// tried notes that a dry run would have refused. One login may be asked about
// several times: by each provider, and again where somebody else began its check.
func (g *guard) tried(l *Limit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Contains(g.would, l.Name) {
		g.would = append(g.would, l.Name)
		g.h.metrics.limit(l.Name, "would_throttle")
	}
}

// found are the dry runs that would have refused, as far as the check has come.
func (g *guard) found() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.would)
}

// Source is the address, as far as limits tell addresses apart.
func (g *guard) Source() string { return g.s.addrKey(g.addr) }

// Failed counts one wrong password, in each limit for itself: one that is used
// up must not keep the others from counting.
func (g *guard) Failed(c auth.Credential) {
	_ = g.each(c, func(_ *Limit, s ratelimit.Spend) error {
		s.N = 1
		_, _ = g.h.Failures.Take(context.Background(), s)
		return nil
	})
}

func (g *guard) each(c auth.Credential, do func(*Limit, ratelimit.Spend) error) error {
	claimed := auth.Caller{Identity: auth.Identity{Name: g.s.fold(c.User)}, Addr: g.addr}
	whose := buckets{s: g.s, c: &claimed}
	limits := g.s.limitsAt(g.h.Now())
	for i := range limits {
		l := &limits[i]
		if l.Count != FailedLogins || !l.counts(&claimed, &auth.Access{}) {
			continue
		}
		for _, client := range whose.of(l, &auth.Access{}, nil) {
			if err := do(l, ratelimit.Spend{Key: ratelimit.Key{Limit: l.Name, Client: client}, Rate: l.Rate}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *guard) lockedOut(l *Limit, c auth.Credential, res ratelimit.Result) *httpError {
	who, rest := "", ""
	if l.Per == PerIPUser || l.Per == PerUser || l.Per == PerClient {
		who = " for " + short(g.s.fold(c.User))
	}
	if l.Per == PerIPUser {
		rest = ". Others at this address are not affected"
	}
	e := refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS",
		fmt.Sprintf("too many wrong passwords%s from %s; try again in %s%s", who, g.addr, untilNext(res.RetryAfter), rest)).because(reasonLockedOut)
	e.limit = l.Name
	return e.with("Retry-After", retryAfter(res.RetryAfter))
}

// untilNext is a wait as Retry-After tells it, in words: seconds up to a minute,
// which is the most that it says, and whole minutes beyond.
func untilNext(d time.Duration) string {
	switch n := int(math.Ceil(d.Seconds())); {
	case n <= 1:
		return "a second"
	case n < 60:
		return strconv.Itoa(n) + " seconds"
	case n == 60:
		return "a minute"
	}
	return strconv.Itoa(int(math.Ceil(d.Minutes()))) + " minutes"
}
