package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
)

// uploadWindow is what a client of HTTP/2 may send ahead: with net/http's 1 MiB
// a push crawls on a long link (H05). More would be a stranger's to fill.
const uploadWindow = 4 << 20

// How many buckets are held at once: together less than 64 MiB, however many
// clients come (G16). Those of failed logins are apart, so that whoever fills
// the others does not make people share theirs.
const (
	limitKeys   = 100_000
	failureKeys = 50_000
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Args:  nothingBut("serve: --config %s?"),
		RunE: do(func(ctx context.Context, _ []string) error {
			src, err := a.source("")
			if err != nil {
				return err
			}
			a.tuneRuntime(ctx)
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, append(upgradeSignals(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)...)
			defer signal.Stop(signals)
			s := newServer(a, src)
			if err := s.inherit(a.getenv(takesOver)); err != nil {
				return err
			}
			if err := s.start(); err != nil {
				s.cannotTakeOver(err)
				s.stop()
				return a.startFailed(src, err)
			}
			return s.run(ctx, signals)
		}),
	}
}

// tuneRuntime sets the collector up, unless the environment says otherwise.
func (a *app) tuneRuntime(ctx context.Context) {
	if a.getenv("GOGC") == "" {
		go tendMemory(ctx)
	}
	if a.getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// startFailed prints what is wrong with the configuration and, if one worked
// before, where it is kept (M18). It is never used without being asked for.
func (a *app) startFailed(src configSource, err error) error {
	var problems configs.Problems
	if !errors.As(err, &problems) {
		return err
	}
	text, _ := src.read()
	path := filepath.Join(src.inFolder(glance(text).StateDir), lastGood)
	info, statErr := os.Stat(path)
	if statErr != nil {
		return err
	}
	fmt.Fprintln(a.stderr, problems.Error())
	fmt.Fprintf(a.stderr, "…%s above. The last configuration that worked (%s) is kept: regward serve --config %s\n",
		plural(len(problems.Only(configs.Error)), "error"), info.ModTime().UTC().Format("2006-01-02 15:04"), path)
	return errTold
}

// server is a running regward: all that belongs to the process and outlives
// every reload.
type server struct {
	app      *app
	src      configSource
	now      func() time.Time
	started  time.Time
	debounce time.Duration // between a change of a file and a look at it

	logs    *logs
	log     *zap.Logger
	cache   *auth.Cache
	handler *proxy.Handler
	certs   certificates
	metrics *serverMetrics

	first     *configs.Config // what the listeners were opened with
	sockets   *openSockets    // those that were open before
	listeners listeners
	watcher   *watcher
	notify    func(lines ...string) // systemd
	watchdog  <-chan time.Time      // when it wants to hear of us; nil: never
	upgrade   *upgrade

	shared        shared
	upstreamState upstreamState
	robots        serverRobots
	refresh       serverRefresh

	reloading sync.Mutex // one reload after the other
	live      atomic.Pointer[live]
	draining  atomic.Bool
	leaving   atomic.Bool // clients are told to come back on another connection
}

// live is the configuration in force.
type live struct {
	cfg    *configs.Config
	tokens *auth.Tokens
	people *logins
	admin  string // bearer token of the admin listener; "" is none
	at     time.Time
	last   *change // the last load that changed something, nil before the first; guarded by server.reloading
}

func newServer(a *app, src configSource) *server {
	s := &server{app: a, src: src, now: time.Now, started: time.Now(), debounce: 200 * time.Millisecond}
	s.sockets, s.notify, s.upgrade = &openSockets{}, func(...string) {}, newUpgrade()
	s.logs = newLogs(a.stdout)
	s.log = s.logs.main
	s.metrics = newServerMetrics(s)
	return s
}

// start loads the configuration and opens every listener. On an error the
// caller stops what had been started.
func (s *server) start() error {
	text, err := s.src.read()
	if err != nil {
		return err
	}
	cfg, err := s.src.parse(text, false)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w; make that folder for the user regward runs as, or name another one", err)
	}
	s.first = cfg
	s.cache = auth.NewCache(cfg.Cache.Size, s.now)
	s.openRobots(cfg.StateDir)
	if err := s.openShared(cfg); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	s.openRefresh(cfg)
	s.handler = proxy.New(proxy.Options{
		Limiter:       s.shared.limits,
		Failures:      s.shared.failures,
		OnError:       s.shared.onError,
		Local:         s.shared.local,
		LocalFailures: s.shared.localFailures,
		Shared:        s.shared.notes,
		Cache:         s.cache,
		Refresh:       s.refresh.tokens,
		Log:           s.log,
		Access:        s.logs.access,
		Audit:         &proxy.Audit{Log: s.logs.audit}, // the log itself chooses by log.audit_events
		Now:           s.now,
	})
	if err := s.metrics.register(); err != nil {
		return err
	}
	s.watcher = newWatcher(s.log)
	if o := s.load("start", ""); o.err != nil {
		return o.err
	}
	s.joinFleet(cfg)
	if err := s.listen(); err != nil {
		return err
	}
	return s.startCertificates(s.listeners.plain)
}

// run serves until ctx ends or a signal says so, then drains. A second signal
// ends it at once.
func (s *server) run(ctx context.Context, signals <-chan os.Signal) error {
	defer s.stop()
	background, cancel := context.WithCancel(context.Background())
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { s.watch(background) })
	work.Go(func() { s.watchExpiry(background) })
	work.Go(func() { s.watchRevocations(background) })
	work.Go(func() { s.watchRobots(background) })
	work.Go(func() { s.watchRefresh(background) })
	defer work.Wait()
	defer cancel()

	failed := s.listeners.serve()
	s.log.Info("serving", zap.Strings("listen", s.first.Listen), zap.String("config", s.live.Load().cfg.Version))
	s.serves()
	for {
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return s.drain(signals)
		case <-s.watchdog:
			s.notify(daemon.SdNotifyWatchdog)
		case end := <-s.upgrade.ended:
			if s.endUpgrade(end) {
				cancel()
				return s.handOver(signals)
			}
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				if err := s.logs.reopen(); err != nil {
					s.log.Error("log file not reopened", zap.Error(err))
				}
				s.load("SIGHUP", "")
			case slices.Contains(upgradeSignals(), sig):
				s.beginUpgrade()
			default:
				s.log.Info("stopping", zap.Stringer("signal", sig))
				return s.drain(signals)
			}
		}
	}
}

// stop gives back everything; it may be called after a start that failed.
func (s *server) stop() {
	s.listeners.close()
	s.sockets.close()
	if s.watcher != nil {
		s.watcher.close()
	}
	s.certs.close()
	s.shared.close()
	s.logs.close()
}

// newHTTPServer has the bounds that every listener needs (K5, H13, H05).
func (s *server) newHTTPServer(h http.Handler) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:                      s.parting(h),
		ConnState:                    s.listeners.count,
		DisableGeneralOptionsHandler: true, // OPTIONS * is the handler's to refuse
		ReadHeaderTimeout:            10 * time.Second,
		IdleTimeout:                  60 * time.Second,
		MaxHeaderBytes:               32 << 10,
		Protocols:                    &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReceiveBufferPerStream:     uploadWindow,
			MaxReceiveBufferPerConnection: uploadWindow,
			MaxReadFrameSize:              64 << 10,
		},
		// What a stranger can cause at will is no news for the operator.
		ErrorLog: s.stdLog(),
	}
}
