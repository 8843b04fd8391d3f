// Package redistest runs real redis-servers for tests: on loopback alone, with
// nothing kept on disk, ended with the test.
package redistest

import (
	"math/rand/v2"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a redis-server of a test's own.
type Server struct {
	Addr string // host:port

	t    testing.TB
	args []string
	cmd  *exec.Cmd
}

// Start starts one on a free port, with more arguments for it; "PORT" in them
// is that port, and then it is told of it by them alone.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	port := strconv.Itoa(FreePort(t))
	args = slices.Clone(args)
	named := false
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "PORT", port)
		named = named || args[i] != a
	}
	if !named {
		args = append(args, "--port", port)
	}
	args = append(args, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	return run(t, port, args)
}

// StartSentinel starts a sentinel by its configuration, a file that it writes to.
func StartSentinel(t testing.TB, file string) *Server {
	t.Helper()
	port := strconv.Itoa(FreePort(t))
	return run(t, port, []string{file, "--sentinel", "--port", port, "--bind", "127.0.0.1"})
}

func run(t testing.TB, port string, args []string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server is missing; install it with scripts/install-test-tools")
	}
	s := &Server{Addr: net.JoinHostPort("127.0.0.1", port), t: t, args: args}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// FreePort is one that is free, as its cluster port is, 10,000 above. Both are
// below those that the system gives out by itself: nobody's connection takes one
// before a server has it, or while the server is dead.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(12_000)
		if free(port) && free(port+10_000) {
			return port
		}
	}
	t.Fatal("no free port between 10000 and 22000")
	return 0
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// Start starts it again after Kill, at the same place and with nothing in it.
func (s *Server) Start() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.Dial("tcp", s.Addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("redis-server %v does not listen: %v", s.args, err)
		}
	}
}

// Kill ends it as kill -9 does. It may be called again.
func (s *Server) Kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// Pause stops the process, which keeps its connections and answers nothing.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume has it go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}
