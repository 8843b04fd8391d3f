package ratelimit_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/ratelimit"
)

// server is a redis-server that a test started.
type server struct {
	t    testing.TB
	cmd  *exec.Cmd
	args []string
	addr string
}

// startServer starts a redis-server that keeps nothing on disk and listens on
// loopback alone.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("no redis-server here: run scripts/install-test-tools")
	}
	port := freePort(t)
	s := &server{t: t, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), args: append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir(), "--loglevel", "warning",
	}, args...)}
	s.start()
	t.Cleanup(s.kill)
	return s
}

// freePort is one whose cluster port, 10,000 above, exists as well.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		_ = l.Close()
		if port < 55_000 {
			return port
		}
	}
	t.Fatal("no free port below 55000")
	return 0
}

func (s *server) start() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(s.t.TempDir(), "redis.log"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	_ = log.Close()
	s.t.Cleanup(s.kill)
	c := s.client()
	defer c.Close()
	await(s.t, "redis-server answers", func() bool { return c.Ping(context.Background()).Err() == nil })
}

func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// pause stops the process, which keeps its connections and answers nothing.
func (s *server) pause()  { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }
func (s *server) resume() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// client is one as the program makes it.
func (s *server) client() *redis.Client { return clientOf(s.t, s.addr) }

func clientOf(t testing.TB, addr string) *redis.Client {
	o := &redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, DialTimeout: time.Second, DialerRetries: 1}
	o.Dialer = ratelimit.BoundedReplies(redis.NewDialer(o))
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// await waits for what another process does.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// startCluster starts three masters that share the slots.
func startCluster(t testing.TB) *redis.ClusterClient {
	t.Helper()
	ctx := context.Background()
	var addrs []string
	for i := range 3 {
		s := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		addrs = append(addrs, s.addr)
		first, last := i*16384/3, (i+1)*16384/3-1
		if err := s.client().ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(addrs[0])
		if err := s.client().ClusterMeet(ctx, host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range addrs {
		c := clientOf(t, addr)
		await(t, "the cluster agrees", func() bool {
			info := c.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") && strings.Contains(info, "cluster_slots_assigned:16384")
		})
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, ContextTimeoutEnabled: true, MaxRetries: -1,
		Dialer: ratelimit.BoundedReplies((&net.Dialer{Timeout: time.Second}).DialContext),
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fakeServer accepts connections and answers each with what a test says.
func fakeServer(t testing.TB, answer func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(c)
			}()
		}
	}()
	return l.Addr().String()
}

// usedMemory is what a server says it takes, in bytes.
func usedMemory(t testing.TB, c *redis.Client) int {
	t.Helper()
	for line := range strings.Lines(c.Info(context.Background(), "memory").Val()) {
		if n, ok := strings.CutPrefix(line, "used_memory:"); ok {
			bytes, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				t.Fatal(err)
			}
			return bytes
		}
	}
	t.Fatal(fmt.Errorf("no used_memory"))
	return 0
}
