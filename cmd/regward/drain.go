package main

import (
	"context"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// partTime is how long idle connections are waited for when another process
// serves already: by then net/http has closed them (newHTTPServer).
const partTime = 60 * time.Second

// drain lets running transfers end: not ready at once but still accepting for
// shutdown_delay, while balancers notice; then no new connections, and
// shutdown_timeout for what runs.
func (s *server) drain(signals <-chan os.Signal) error {
	s.draining.Store(true)
	s.notify(daemon.SdNotifyStopping, "STATUS=stopping: transfers may end")
	s.upgrade.giveUp()
	cfg := s.live.Load().cfg
	ctx, cancel := untilSignal(signals, 1)
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
	s.listeners.leave()
	s.leaving.Store(true)
	if s.shared.client == nil {
		s.shared.close() // what is kept in state_dir is the other one's to write
	}
	// A service that is stopped signals all of its processes: that is the first
	// signal to this one.
	ctx, cancel := untilSignal(signals, 2)
	defer cancel()
	ctx, cancelTimeout := context.WithTimeout(ctx, time.Duration(s.live.Load().cfg.ShutdownTimeout))
	defer cancelTimeout()
	probes, cancelProbes := context.WithTimeout(ctx, 10*time.Second)
	_ = s.listeners.shutdown(probes, false)
	cancelProbes()

	parted := time.NewTimer(partTime)
	defer parted.Stop()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for waiting := true; waiting && s.listeners.conns.Load() > 0; {
		select {
		case <-look.C:
		case <-parted.C:
			waiting = false
		case <-ctx.Done():
			waiting = false
		}
	}
	return s.finish(ctx)
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

// untilSignal is a context that ends with the n-th signal to stop. It is fresh:
// what made us stop must not end the transfers too.
func untilSignal(signals <-chan os.Signal, n int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for left := n; left > 0; {
			select {
			case <-ctx.Done():
				return
			case sig := <-signals:
				if sig != syscall.SIGHUP && !slices.Contains(upgradeSignals(), sig) {
					left--
				}
			}
		}
		cancel()
	}()
	return ctx, cancel
}
