package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

const (
	// partTime is how long idle connections are waited for when another process
	// serves already: by then net/http has closed them (newHTTPServer).
	partTime = 60 * time.Second
	// firstTime is how long those are waited for who have just connected.
	firstTime = time.Second
	// heedTime is how often files are looked at meanwhile.
	heedTime = time.Second
)

// drain lets running transfers end: not ready at once but still accepting for
// shutdown_delay, while balancers notice; then no new connections, and
// shutdown_timeout for what runs.
func (s *server) drain(signals <-chan os.Signal) error {
	s.draining.Store(true)
	s.notify(daemon.SdNotifyStopping, "STATUS=stopping: transfers may end")
	s.upgrade.giveUp()
	cfg := s.live.Load().cfg
	ctx, _, cancel := untilSignals(signals)
	defer cancel()
	s.leaving.Store(true)
	delay := time.NewTimer(time.Duration(cfg.ShutdownDelay))
	defer delay.Stop()
	select {
	case <-delay.C:
	case <-ctx.Done():
	}
	ctx, cancelTimeout := context.WithTimeout(ctx, time.Duration(cfg.ShutdownTimeout))
	defer cancelTimeout()
	return s.finish(ctx)
}

// handOver is the drain of a process after which another one serves already, on
// the same sockets. Clients that keep a connection open are told to open another;
// whoever is idle for long is closed.
func (s *server) handOver(signals <-chan os.Signal) error {
	s.leaving.Store(true)
	s.listeners.handOver()
	if s.shared.client == nil {
		s.shared.close() // what is kept in state_dir is the other one's to write
	}
	// A service that is stopped signals all of its processes: then nobody is
	// waited for who only might send something. Only the second signal cuts off.
	hurry, cut, cancel := untilSignals(signals)
	defer cancel()
	ctx, cancelTimeout := context.WithTimeout(cut, time.Duration(s.live.Load().cfg.ShutdownTimeout))
	defer cancelTimeout()
	idle, cancelIdle := context.WithTimeout(hurry, partTime)
	defer cancelIdle()
	stopIdle := context.AfterFunc(ctx, cancelIdle)
	defer stopIdle()
	go s.heedChanges(idle, cancelIdle)
	awaitUntil(idle, func() bool { return s.listeners.conns.Load() == 0 })
	_ = s.listeners.shutdown(idle, false)
	return s.finish(ctx)
}

// heedChanges ends the patience with idle connections when a file changes that
// this process goes by: it reads none any more, and whoever was taken out of one
// must not be let in on a connection from before (K4).
func (s *server) heedChanges(ctx context.Context, hurry func()) {
	own := []string{filepath.Join(s.first.StateDir, fleetFile)}
	before := hashFiles(own)
	tick := time.NewTicker(heedTime)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if len(s.watcher.changed()) > 0 || !maps.Equal(before, hashFiles(own)) {
			s.log.Info("files have changed since another process serves: idle connections are closed now")
			hurry()
			return
		}
	}
}

// awaitUntil looks again and again whether it is so, while ctx lasts. What is so has
// been for a moment when it returns.
func awaitUntil(ctx context.Context, so func() bool) {
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for before := false; ; {
		is := so()
		if is && before {
			return
		}
		before = is
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// finish ends what serves clients, until ctx ends in peace.
func (s *server) finish(ctx context.Context) error {
	if err := s.listeners.shutdown(ctx, true); err != nil {
		s.log.Warn("transfers cut off", zap.Error(err))
		return nil
	}
	s.log.Info("stopped")
	return nil
}

// untilSignals are contexts that end with the first signal to stop from now on,
// and with the second. They are fresh: what made us stop must not end the
// transfers too.
func untilSignals(signals <-chan os.Signal) (first, second context.Context, stop func()) {
	first, endFirst := context.WithCancel(context.Background())
	second, endSecond := context.WithCancel(context.Background())
	stop = func() { endFirst(); endSecond() }
	go func() {
		defer stop()
		for {
			select {
			case <-second.Done():
				return
			case sig := <-signals:
				switch {
				case sig == syscall.SIGHUP || slices.Contains(upgradeSignals(), sig):
				case first.Err() == nil:
					endFirst()
				default:
					return
				}
			}
		}
	}()
	return first, second, stop
}
