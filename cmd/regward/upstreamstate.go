package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/proxy"
)

// How upstreams are asked for /readyz: only when somebody wants to know, each
// on its own, at most once in askAgain, and never for longer than askFor. Who
// asks does not wait longer than askWait, as a kubelet gives up after a second.
const (
	askAgain = 5 * time.Second
	askFor   = 10 * time.Second
	askWait  = 500 * time.Millisecond
)

// upstreamState remembers how the upstreams were when last asked.
type upstreamState struct {
	mu sync.Mutex
	of map[*proxy.Upstream]*asked
}

// asked is what one upstream answered.
type asked struct {
	at   time.Time
	what string        // what is wrong; "" is nothing
	done chan struct{} // closed when the question under way is answered; nil if none is
}

// upstreamNow is how an upstream is.
type upstreamNow struct {
	name   string
	known  bool     // it has answered, or failed to
	wrong  []string // for operators; none is well
	budget *proxy.Budget
}

// upstreams tells how those of the snapshot in force are. One that is slow to
// answer is as it was.
func (s *server) upstreams(ctx context.Context) []upstreamNow {
	snapshot := s.current()
	if snapshot == nil {
		return nil
	}
	all := snapshot.Behind()
	wait := time.NewTimer(askWait)
	defer wait.Stop()
	for _, done := range s.ask(all) {
		select {
		case <-done:
			continue
		case <-wait.C:
		case <-ctx.Done():
		}
		break
	}
	return s.upstreamsAs(all)
}

// upstreamsKnown tells how they were when last asked, and asks nobody.
func (s *server) upstreamsKnown() []upstreamNow {
	snapshot := s.current()
	if snapshot == nil {
		return nil
	}
	return s.upstreamsAs(snapshot.Behind())
}

func (s *server) upstreamsAs(all []*proxy.Upstream) (list []upstreamNow) {
	for _, u := range all {
		now := upstreamNow{name: u.Name()}
		s.upstreamState.mu.Lock()
		if a := s.upstreamState.of[u]; a != nil {
			now.known = !a.at.IsZero()
			if a.what != "" {
				now.wrong = append(now.wrong, a.what)
			}
		}
		s.upstreamState.mu.Unlock()
		state := u.State()
		now.known, now.budget = now.known || state.Known, state.Budget
		for _, one := range append([]string{state.Login}, state.Attention...) {
			if one != "" && !slices.Contains(now.wrong, one) {
				now.wrong = append(now.wrong, one)
			}
		}
		list = append(list, now)
	}
	return list
}

// words is ok, what is wrong, or unknown while nobody has had an answer.
func (u *upstreamNow) words() string {
	switch {
	case len(u.wrong) > 0:
		return strings.Join(u.wrong, "; ")
	case !u.known:
		return "unknown"
	}
	return "ok"
}

// ask begins the questions that are due, forgets upstreams that are gone, and
// returns what ends when those under way are answered.
func (s *server) ask(all []*proxy.Upstream) (under []<-chan struct{}) {
	state := &s.upstreamState
	state.mu.Lock()
	defer state.mu.Unlock()
	known := state.of
	state.of = make(map[*proxy.Upstream]*asked, len(all))
	for _, u := range all {
		a := known[u]
		if a == nil {
			a = &asked{}
		}
		state.of[u] = a
		if a.done == nil && (a.at.IsZero() || s.now().Sub(a.at) >= askAgain) {
			a.done = make(chan struct{})
			go s.askUpstream(u, a)
		}
		if a.done != nil {
			under = append(under, a.done)
		}
	}
	return under
}

// askUpstream asks once, and logs what changed since the last time. The cause
// stays in the log: /readyz may be open to the network.
func (s *server) askUpstream(u *proxy.Upstream, a *asked) {
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	probe, err := u.Probe(ctx)
	what := probe.Login
	if err != nil {
		if what = probe.Wrong; what == "" {
			what = "cannot be reached or answers wrongly"
		}
	}
	s.upstreamState.mu.Lock()
	defer s.upstreamState.mu.Unlock()
	switch {
	case what == a.what:
	case what == "":
		s.log.Info("upstream is well again", zap.String("upstream", u.Name()))
	case err != nil: // a login refused has been told already
		s.log.Warn("upstream is not well: "+what, zap.String("upstream", u.Name()), zap.Error(err))
	}
	a.at, a.what = s.now(), what
	close(a.done)
	a.done = nil
}
