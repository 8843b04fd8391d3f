package redistest

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// StartCluster starts three masters that share the slots evenly, in their order,
// with more arguments for each.
func StartCluster(t testing.TB, args ...string) []*Server {
	t.Helper()
	var all []*Server
	for i := range 3 {
		s := Start(t, append(slices.Clone(args), "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")...)
		all = append(all, s)
		first, last := i*16384/3, (i+1)*16384/3-1
		s.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
		host, port, _ := net.SplitHostPort(all[0].Addr)
		s.ask("CLUSTER", "MEET", host, port)
	}
	for _, s := range all {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			info := s.ask("CLUSTER", "INFO")
			if strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3") && strings.Contains(info, "cluster_slots_assigned:16384") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the cluster does not agree: %s", info)
			}
		}
	}
	return all
}

// ask is the answer to a command.
func (s *Server) ask(args ...any) string {
	s.t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, DisableIdentity: true})
	defer c.Close()
	text, err := c.Do(context.Background(), args...).Text()
	if err != nil {
		s.t.Fatalf("redis-server: %v: %v", args, err)
	}
	return text
}
