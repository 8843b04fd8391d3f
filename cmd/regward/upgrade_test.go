package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
)

// A program that never says that it serves is ended, and says why not.
func TestASuccessorThatDoesNotServeIsEnded(t *testing.T) {
	script := filepath.Join(t.TempDir(), "program")
	for _, tt := range []struct{ script, want string }{
		{"exec sleep 1000", "did not serve in time and was ended"},
		{"echo 'no more words' >&3; exit 1", "the new program says: no more words"},
		{"yes many words >&3", "the new program says: many words"}, // no more of them than a line or two hold
		{"exit 7", "ended before it served: exit status 7"},
		{"exit 0", "ended before it served: without an error"},
	} {
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		limit := patience
		if strings.Contains(tt.script, "sleep") {
			limit = 500 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := startSuccessor(ctx, script, nil, nil)
		cancel()
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > upgradeWords+100 {
			t.Errorf("%s: %v, want %s", tt.script, err, tt.want)
		}
	}
}

// What is handed over is the same socket, and nobody's Accept blocks for it.
func TestACopyOfASocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := copySocket(l)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, _, failed := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_GETFL, 0) // Fd as os/exec calls it
	if failed != 0 || flags&syscall.O_NONBLOCK == 0 {
		t.Errorf("it blocks (%v)", failed)
	}
	same, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer same.Close()
	l.Close()
	c, err := net.Dial("tcp", same.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestASuccessorIsNotToldWhatSystemdTellsOneProcess(t *testing.T) {
	got := successorEnv([]string{"A=1", "LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=x", "WATCHDOG_PID=1", "WATCHDOG_USEC=5", "NOTIFY_SOCKET=/s", takesOver + "=[]"})
	if diff := cmp.Diff([]string{"A=1", "WATCHDOG_USEC=5", "NOTIFY_SOCKET=/s"}, got); diff != "" {
		t.Error(diff)
	}
}

// Sockets are found by their addresses: one by one, and of a name all.
func TestOpenSocketsAreTakenByAddress(t *testing.T) {
	file := func() *os.File {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := copySocket(l)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	s := &openSockets{names: []string{"https", "spare"}, open: map[string][]*os.File{
		"127.0.0.1:0": {file(), file()}, "systemd:https": {file(), file()}, "systemd:spare": {file()},
	}}
	for _, tt := range []struct {
		addr string
		want int
	}{{"127.0.0.1:0", 1}, {"127.0.0.1:0", 1}, {"systemd:https", 2}} {
		all, err := s.listen(tt.addr, publicSocket)
		if err != nil || len(all) != tt.want {
			t.Errorf("%s: %d (%v), want %d", tt.addr, len(all), err, tt.want)
		}
		for _, l := range all {
			l.Close()
		}
	}
	const want = "systemd:https: there is no socket of that name; systemd passed https, spare."
	if _, err := s.listen("systemd:https", publicSocket); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("again: %v, want %s", err, want)
	}
	// No socket to accept on is told, with what its unit lacks.
	datagrams, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	f, err := datagrams.File()
	if err != nil {
		t.Fatal(err)
	}
	s.open["systemd:http"] = []*os.File{f}
	if _, err := s.listen("systemd:http", publicSocket); err == nil || !strings.Contains(err.Error(), "its unit wants ListenStream= and Accept=no") {
		t.Errorf("a socket of datagrams: %v", err)
	}
	s.served(zap.NewNop())
	if len(s.open) != 0 {
		t.Errorf("left open: %v", s.open)
	}
}
