package ratelimit_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/internal/redistest"
	"github.com/regward/regward/ratelimit"
)

// server is a redis-server of a test's own.
type server struct{ *redistest.Server }

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	return &server{redistest.Start(t, append(args, "--loglevel", "warning")...)}
}

// client is one as the program makes it.
func (s *server) client(t testing.TB) *redis.Client { return clientOf(t, s.Addr) }

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

// startCluster is a client of three masters that share the slots.
func startCluster(t testing.TB) *redis.ClusterClient {
	t.Helper()
	var addrs []string
	for _, s := range redistest.StartCluster(t) {
		addrs = append(addrs, s.Addr)
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, ContextTimeoutEnabled: true, MaxRetries: -1,
		Dialer: ratelimit.BoundedReplies((&net.Dialer{Timeout: time.Second}).DialContext),
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
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
