package fleet_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/regward/regward/internal/redistest"
)

// server is a redis-server of the test's own.
type server struct{ *redistest.Server }

func newServer(t testing.TB, args ...string) *server {
	t.Helper()
	return &server{redistest.Start(t, args...)}
}

// client reaches it as the program does.
func (s *server) client(t testing.TB) redis.UniversalClient {
	return client(t, redis.UniversalOptions{Addrs: []string{s.Addr}})
}

func client(t testing.TB, o redis.UniversalOptions) redis.UniversalClient {
	o.ContextTimeoutEnabled, o.MaxRetries, o.DialerRetries = true, -1, 1
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewUniversalClient(&o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// kinds are the ways a Redis is run. All give a client.
func kinds() map[string]func(t *testing.T) func() redis.UniversalClient {
	return map[string]func(t *testing.T) func() redis.UniversalClient{
		"single": func(t *testing.T) func() redis.UniversalClient {
			s := newServer(t)
			return func() redis.UniversalClient { return s.client(t) }
		},
		"cluster": func(t *testing.T) func() redis.UniversalClient {
			s := newServer(t, "--cluster-enabled", "yes")
			c := redis.NewClient(&redis.Options{Addr: s.Addr})
			defer func() { _ = c.Close() }()
			if err := c.ClusterAddSlotsRange(context.Background(), 0, 16383).Err(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the cluster is one", func() bool { return c.Set(context.Background(), "x", 1, 0).Err() == nil })
			return func() redis.UniversalClient {
				return client(t, redis.UniversalOptions{Addrs: []string{s.Addr}, IsClusterMode: true})
			}
		},
		"sentinel": func(t *testing.T) func() redis.UniversalClient {
			s := newServer(t)
			host, port, _ := net.SplitHostPort(s.Addr)
			file := filepath.Join(t.TempDir(), "sentinel.conf")
			conf := fmt.Sprintf("sentinel monitor ours %s %s 1\n", host, port)
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			sentinel := redistest.StartSentinel(t, file)
			return func() redis.UniversalClient {
				return client(t, redis.UniversalOptions{Addrs: []string{sentinel.Addr}, MasterName: "ours"})
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
