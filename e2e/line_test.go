package e2e

import (
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"testing"
	"time"
)

// line is a way to a program on loopback that a test can cut and mend. What
// goes through is not looked at.
type line struct {
	at string // host:port

	mu     sync.Mutex
	target string
	door   net.Listener // nil while it is cut
	open   map[net.Conn]bool
	taken  int // connections so far
}

func startLine(t testing.TB, target string) *line {
	t.Helper()
	l := &line{at: fmt.Sprintf("127.0.0.1:%d", freePort(t)), target: target, open: map[net.Conn]bool{}}
	l.mend(t)
	t.Cleanup(l.cut)
	return l
}

// port is where somebody comes who is told a port alone.
func (l *line) port(t testing.TB) (port int) {
	t.Helper()
	if _, err := fmt.Sscanf(l.at, "127.0.0.1:%d", &port); err != nil {
		t.Fatal(err)
	}
	return port
}

func (l *line) mend(t testing.TB) {
	t.Helper()
	door, err := net.Listen("tcp", l.at)
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	l.door = door
	l.mu.Unlock()
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return // cut
			}
			go l.carry(c)
		}
	}()
}

// cut ends what is under way, and refuses whoever comes.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.door == nil {
		return
	}
	l.door.Close()
	l.door = nil
	for c := range maps.Keys(l.open) {
		c.Close()
	}
	clear(l.open)
}

// connections is how many came.
func (l *line) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken
}

// carry waits for a program that does not listen yet as long as whoever came.
func (l *line) carry(c net.Conn) {
	defer c.Close()
	if !l.keep(c) {
		return
	}
	defer l.drop(c)
	var server net.Conn
	err := poll(time.Minute, func() (err error) {
		server, err = net.Dial("tcp", l.target)
		return err
	})
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer c.Close()
		_, _ = io.Copy(c, server)
	}()
	_, _ = io.Copy(server, c)
}

func (l *line) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.door == nil {
		return false
	}
	l.taken++
	l.open[c] = true
	return true
}

func (l *line) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}
