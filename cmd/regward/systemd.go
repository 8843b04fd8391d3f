package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// fromSystemd is how an address begins that names a socket of systemd's.
const fromSystemd = "systemd:"

// openSockets are those that were open before this process began: systemd passed
// them, or the regward that this one takes over from.
type openSockets struct {
	open   map[string][]*os.File // by address, as the configuration has it
	names  []string              // that systemd passed, once each
	before *os.File              // the pipe to the regward that this one takes over from; nil: there is none
	ours   []*net.UnixListener   // whose files are ours to remove, once we serve
}

// systemdSockets are those that systemd passed. What it said of them is taken
// out of the environment.
func systemdSockets() *openSockets {
	s := &openSockets{open: map[string][]*os.File{}}
	for _, f := range activation.Files(true) {
		if !slices.Contains(s.names, f.Name()) {
			s.names = append(s.names, f.Name())
		}
		s.open[fromSystemd+f.Name()] = append(s.open[fromSystemd+f.Name()], f)
	}
	return s
}

// listen gives the listeners of one address: those that are open already, all
// of one name of systemd's, or a new one.
func (s *openSockets) listen(addr string, mode os.FileMode) ([]net.Listener, error) {
	files := s.take(addr)
	if len(files) == 0 {
		if strings.HasPrefix(addr, fromSystemd) {
			return nil, s.notPassed(addr)
		}
		l, err := openListener(addr, mode)
		return []net.Listener{l}, err
	}
	var all []net.Listener
	for _, f := range files {
		l, err := net.FileListener(f) // a copy
		f.Close()
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, fmt.Errorf("%s is no socket to accept connections on (%w): its unit wants ListenStream= and Accept=no", addr, err)
		}
		all = append(all, l)
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if err := os.Chmod(path, mode); err != nil {
			return nil, errors.Join(err, all[0].Close())
		}
		s.ours = append(s.ours, all[0].(*net.UnixListener))
	}
	return all, nil
}

// take gives what is open for addr: of an address of ours the first one, as two
// may be written alike ("127.0.0.1:0").
func (s *openSockets) take(addr string) []*os.File {
	files := s.open[addr]
	if !strings.HasPrefix(addr, fromSystemd) && len(files) > 1 {
		s.open[addr] = files[1:]
		return files[:1]
	}
	delete(s.open, addr)
	return files
}

func (s *openSockets) notPassed(addr string) error {
	name := strings.TrimPrefix(addr, fromSystemd)
	got := "systemd passed no sockets: regward.socket has to be enabled, and regward to be started by its unit"
	if len(s.names) > 0 {
		got = "systemd passed " + strings.Join(s.names, ", ")
	}
	return fmt.Errorf("%s: there is no socket of that name; %s. A socket's name is what its unit says: FileDescriptorName=%s", addr, got, name)
}

// served is called once all listeners serve: what nobody took is closed, and
// unix sockets that were handed over are ours now.
func (s *openSockets) served(log *zap.Logger) {
	for addr, files := range s.open {
		for _, f := range files {
			f.Close()
		}
		if strings.HasPrefix(addr, fromSystemd) {
			log.Warn(fmt.Sprintf("systemd passed the socket %s, and nothing in the configuration listens on it: write %s where it belongs (listen, tls.http_listen, health.listen, admin.listen), or take it out of its unit", strings.TrimPrefix(addr, fromSystemd), addr))
		}
	}
	clear(s.open)
	for _, l := range s.ours {
		l.SetUnlinkOnClose(true)
	}
	s.ours = nil
}

// close gives back what nobody took.
func (s *openSockets) close() {
	for _, files := range s.open {
		for _, f := range files {
			f.Close()
		}
	}
	clear(s.open)
}

// inherit takes what was open before this process began: handed over by another
// regward, as list says, or else by systemd.
func (s *server) inherit(list string) (err error) {
	s.notify = sdNotify
	if w := watchdog(); w != nil {
		s.watchdog = w.C
	}
	if list == "" {
		s.sockets = systemdSockets()
		return nil
	}
	if err := os.Unsetenv(takesOver); err != nil {
		return err
	}
	s.sockets, err = handedOver(list)
	return err
}

// serves tells whoever waits for it that this process serves.
func (s *server) serves() {
	before := s.sockets.before
	s.sockets.served(s.log)
	if before == nil {
		s.tellReady("")
		return
	}
	// The one before tells systemd whom to listen to from now on.
	_, err := before.WriteString(upgradeServes)
	if err = errors.Join(err, before.Close()); err != nil {
		s.log.Error("the process before this one was not told that this one serves", zap.Error(err))
	}
}

// cannotTakeOver tells the process before this one why nothing came of it.
func (s *server) cannotTakeOver(err error) {
	if s.sockets.before != nil {
		_, _ = s.sockets.before.WriteString(err.Error())
		_ = s.sockets.before.Close()
	}
}

// sdNotify tells systemd how the service is; without systemd it does nothing. A
// message that does not arrive is no reason to stop.
func sdNotify(lines ...string) {
	_, _ = daemon.SdNotify(false, strings.Join(lines, "\n"))
}

// tellReloading says that a reload has begun; READY=1 ends it.
func (s *server) tellReloading() {
	lines := []string{daemon.SdNotifyReloading}
	if usec, ok := monotonic(); ok { // Type=notify-reload wants to know
		lines = append(lines, fmt.Sprintf("MONOTONIC_USEC=%d", usec))
	}
	s.notify(lines...)
}

// tellReady says that what is in force serves.
func (s *server) tellReady(more string) {
	s.notify(daemon.SdNotifyReady, "STATUS="+s.statusLine()+more)
}

func (s *server) statusLine() string {
	return "serving, configuration " + s.live.Load().cfg.Version
}

// watchdog ticks at half of the time within which systemd wants to hear of us;
// nil: it does not. The loop that handles signals answers: while it is stuck,
// nothing else can make the process do anything.
func watchdog() *time.Ticker {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	return time.NewTicker(max(every/2, time.Millisecond))
}
