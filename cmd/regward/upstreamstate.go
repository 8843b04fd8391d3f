package main

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/proxy"
)

// How the upstream is asked for /readyz: only when somebody wants to know, at
// most once in askAgain, and never for longer than askFor. Who asks does not
// wait longer than askWait, as a kubelet gives up after a second.
const (
	askAgain = 5 * time.Second
	askFor   = 10 * time.Second
	askWait  = 500 * time.Millisecond
)

// upstreamState remembers how the upstream was when last asked.
type upstreamState struct {
	mu    sync.Mutex
	of    *proxy.Snapshot // whose upstream it is about
	at    time.Time
	what  string        // what is wrong; "" is nothing
	asked chan struct{} // closed when the question under way is answered; nil if none is
}

// upstream says what is wrong with the upstream, "" if nothing is known to be.
func (s *server) upstream(ctx context.Context) string {
	snapshot := s.current()
	if snapshot == nil {
		return ""
	}
	u := &s.upstreamState
	u.mu.Lock()
	if u.asked == nil && (u.of != snapshot || s.now().Sub(u.at) >= askAgain) {
		u.asked = make(chan struct{})
		go s.askUpstream(snapshot)
	}
	asked := u.asked
	u.mu.Unlock()
	if asked != nil {
		wait := time.NewTimer(askWait)
		defer wait.Stop()
		select {
		case <-asked:
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.what
}

// askUpstream asks once, and logs what changed since the last time. The cause
// stays in the log: /readyz may be open to the network.
func (s *server) askUpstream(snapshot *proxy.Snapshot) {
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	name := snapshot.Behind()[0].Name()
	probe, err := snapshot.Behind()[0].Probe(ctx)
	what := probe.Login
	if err != nil {
		what = "cannot be reached or answers wrongly"
	}
	u := &s.upstreamState
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case what == u.what:
	case what == "":
		s.log.Info("upstream is well again", zap.String("upstream", name))
	case err != nil: // a login refused has been told already
		s.log.Warn("upstream "+what, zap.String("upstream", name), zap.Error(err))
	}
	u.of, u.at, u.what = snapshot, s.now(), what
	close(u.asked)
	u.asked = nil
}
