package fleet_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// server is a redis-server of the test's own.
type server struct {
	t    testing.TB
	addr string
	args []string
	cmd  *exec.Cmd
}

// newServer starts one on a free port of the loopback, keeping nothing on disk.
func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server is missing; install it with scripts/install-test-tools")
	}
	port := freePort(t)
	s := &server{t: t, addr: "127.0.0.1:" + port}
	s.args = append(args, "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "", "--appendonly", "no")
	s.start()
	t.Cleanup(s.kill)
	return s
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// start starts it, or starts it again, with nothing in it.
func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Addr: s.addr})
	defer func() { _ = c.Close() }()
	eventually(s.t, "redis-server answers", func() bool { return c.Ping(context.Background()).Err() == nil })
}

func (s *server) kill() {
	if s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) pause()  { s.signal(syscall.SIGSTOP) }
func (s *server) resume() { s.signal(syscall.SIGCONT) }

// client reaches it as the program does.
func (s *server) client() redis.UniversalClient {
	return client(s.t, redis.UniversalOptions{Addrs: []string{s.addr}})
}

func client(t testing.TB, o redis.UniversalOptions) redis.UniversalClient {
	o.ContextTimeoutEnabled = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewUniversalClient(&o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// kinds are the ways a Redis is run. All give a client.
func kinds() map[string]func(t *testing.T) func() redis.UniversalClient {
	return map[string]func(t *testing.T) func() redis.UniversalClient{
		"single": func(t *testing.T) func() redis.UniversalClient { return newServer(t).client },
		"cluster": func(t *testing.T) func() redis.UniversalClient {
			s := newServer(t, "--cluster-enabled", "yes", "--cluster-port", freePort(t))
			c := redis.NewClient(&redis.Options{Addr: s.addr})
			defer func() { _ = c.Close() }()
			if err := c.ClusterAddSlotsRange(context.Background(), 0, 16383).Err(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the cluster is one", func() bool { return c.Set(context.Background(), "x", 1, 0).Err() == nil })
			return func() redis.UniversalClient {
				return client(t, redis.UniversalOptions{Addrs: []string{s.addr}, IsClusterMode: true})
			}
		},
		"sentinel": func(t *testing.T) func() redis.UniversalClient {
			s := newServer(t)
			host, port, _ := net.SplitHostPort(s.addr)
			file := filepath.Join(t.TempDir(), "sentinel.conf")
			conf := fmt.Sprintf("sentinel monitor ours %s %s 1\n", host, port)
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			sentinel := &server{t: t, addr: "127.0.0.1:" + freePort(t)}
			_, port, _ = net.SplitHostPort(sentinel.addr)
			sentinel.args = []string{file, "--sentinel", "--port", port, "--bind", "127.0.0.1"}
			sentinel.start()
			t.Cleanup(sentinel.kill)
			return func() redis.UniversalClient {
				return client(t, redis.UniversalOptions{Addrs: []string{sentinel.addr}, MasterName: "ours"})
			}
		},
	}
}

// clock is turned by hand.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) Advance(d time.Duration) { c.ahead.Add(int64(d)) }

// eventually waits for what others are about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came to pass: %s", what)
		}
	}
}
