package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// takesOver holds the addresses of the sockets that a new regward is handed,
	// as a JSON list. They follow standard error, and the pipe follows them.
	takesOver = "REGWARD_TAKES_OVER"

	upgradeTime   = time.Minute // for the new program to serve
	upgradeWords  = 4 << 10     // of what it says why it does not
	upgradeServes = "serving"   // what it says when it does
)

// upgrade replaces the running program by the one that is on disk now: the new
// one is handed the sockets, and when it serves the old one accepts no more and
// lets its transfers end. No connection is refused, as there is a process that
// accepts at any time. A new one that does not come up changes nothing.
type upgrade struct {
	program string // as it was started: a link leads to what it names by then
	wrong   error  // why program is not known

	running atomic.Bool
	ended   chan upgraded
	cancel  context.CancelFunc
	within  time.Duration
}

// upgraded is how an upgrade ended: pid serves, or nothing has changed.
type upgraded struct {
	process *os.Process
	err     error
}

// newUpgrade finds the program out while its name still means the one that runs.
func newUpgrade() *upgrade {
	u := &upgrade{ended: make(chan upgraded, 1), within: upgradeTime}
	if u.program, u.wrong = exec.LookPath(os.Args[0]); u.wrong == nil {
		u.program, u.wrong = filepath.Abs(u.program)
	}
	if u.wrong != nil {
		u.program, u.wrong = os.Executable()
	}
	return u
}

// begin starts the new program; how it ended comes by u.ended.
func (s *server) beginUpgrade() {
	u := s.upgrade
	switch {
	case os.Getpid() == 1:
		s.log.Error("upgrade refused: regward is the first process here, a container's, and the container ends with it: start another container in its place")
		return
	case u.wrong != nil:
		s.log.Error("upgrade refused: which file regward was started from is not known", zap.Error(u.wrong))
		return
	case !u.running.CompareAndSwap(false, true):
		s.log.Error("upgrade refused: one is under way; it serves, or is given up, within " + u.within.String())
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), u.within)
	u.cancel = cancel
	addrs, files, err := s.listeners.copies()
	if err != nil {
		cancel()
		u.ended <- upgraded{err: err}
		return
	}
	s.log.Info("upgrade: starting the program anew", zap.String("program", u.program))
	go func() {
		defer cancel()
		process, err := startSuccessor(ctx, u.program, addrs, files)
		u.ended <- upgraded{process, err}
	}()
}

// endUpgrade reports whether another process serves now.
func (s *server) endUpgrade(end upgraded) bool {
	if end.err != nil {
		s.upgrade.running.Store(false)
		s.log.Error("upgrade failed: this process goes on as before", zap.String("program", s.upgrade.program), zap.Error(end.err))
		return false
	}
	s.log.Info("upgraded: another process serves now, this one lets its transfers end", zap.Int("pid", end.process.Pid))
	s.notify(fmt.Sprintf("MAINPID=%d", end.process.Pid), "STATUS=serving; a process before it lets its transfers end")
	return true
}

// startSuccessor starts program with the sockets and waits until it serves; it
// then goes on by itself. files are closed.
func startSuccessor(ctx context.Context, program string, addrs []string, files []*os.File) (*os.Process, error) {
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	list, err := json.Marshal(addrs)
	if err != nil {
		return nil, err
	}
	says, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer says.Close()
	c := exec.Command(program, os.Args[1:]...)
	c.Env = append(successorEnv(os.Environ()), takesOver+"="+string(list))
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.ExtraFiles = append(files[:len(files):len(files)], tell)
	err = c.Start()
	tell.Close()
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }() // also of one that serves: so that it leaves nothing behind
	stop := context.AfterFunc(ctx, func() { _ = says.SetReadDeadline(time.Now()) })
	defer stop()
	words, err := io.ReadAll(io.LimitReader(says, upgradeWords))
	if string(words) == upgradeServes {
		return c.Process, nil
	}
	_ = c.Process.Kill() // it may be there still, and must not serve later
	how := <-ended
	switch {
	case len(words) > 0:
		return nil, errors.New("the new program says: " + strings.TrimSpace(string(words)))
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("the new program did not serve in time and was ended: %w", ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("the new program was ended: %w", err)
	}
	if how == nil {
		how = errors.New("without an error")
	}
	return nil, fmt.Errorf("the new program ended before it served: %w", how)
}

// giveUp ends an upgrade that is under way: this process is told to stop, and
// with it the one that it has started.
func (u *upgrade) giveUp() {
	if !u.running.Load() {
		return
	}
	if u.cancel != nil {
		u.cancel()
	}
	if end := <-u.ended; end.err == nil {
		_ = end.process.Signal(os.Interrupt)
	}
}

// successorEnv is the environment less what systemd said to this process alone.
func successorEnv(env []string) []string {
	var out []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case takesOver, "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES":
		default:
			out = append(out, e)
		}
	}
	return out
}

// handedOver are the sockets of the regward that this one takes over from.
func handedOver(list string) (*openSockets, error) {
	var addrs []string
	if err := json.Unmarshal([]byte(list), &addrs); err != nil {
		return nil, fmt.Errorf("%s: %w: it is not to be set by hand", takesOver, err)
	}
	s := &openSockets{open: map[string][]*os.File{}}
	for i, addr := range addrs {
		s.open[addr] = append(s.open[addr], inheritedFile(3+i, addr))
		if name, ok := strings.CutPrefix(addr, fromSystemd); ok && !slices.Contains(s.names, name) {
			s.names = append(s.names, name)
		}
	}
	s.before = inheritedFile(3+len(addrs), takesOver)
	return s, nil
}

// copies are the open sockets with their addresses, for another process.
func (ls *listeners) copies() (addrs []string, files []*os.File, err error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.all {
		f, err := copySocket(l.socket)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, nil, fmt.Errorf("%s: %w", l.name, err)
		}
		addrs, files = append(addrs, l.name), append(files, f)
	}
	return addrs, files, nil
}

// handOver stops accepting: another process does. Sockets' files are that one's.
func (ls *listeners) handOver() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range ls.all {
		if u, ok := l.socket.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
	}
	ls.leave(true)
	ls.leave(false)
}

// whileUpgrading refuses what changes what is kept: the new process may have
// read that already, and would not know.
func (s *server) whileUpgrading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.upgrade != nil && s.upgrade.running.Load() && r.Method != http.MethodGet && r.URL.Path != "/api/v1/reload" {
			plain(w, http.StatusServiceUnavailable, "the program is being replaced by another: try again in a few seconds")
			return
		}
		next.ServeHTTP(w, r)
	})
}
