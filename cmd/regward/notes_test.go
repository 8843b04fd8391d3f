package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/configs"
	"github.com/regward/regward/internal/redistest"
	"github.com/regward/regward/proxy"
	"github.com/regward/regward/ratelimit"
)

// notesAt are the notes in a Redis as serve has them.
func notesAt(t *testing.T, more string, s *redistest.Server) (proxy.Shared, redis.UniversalClient) {
	t.Helper()
	r := redisOf(t, t.TempDir(), "{addresses: "+s.Addr+", timeout: 1s"+more+"}")
	var srv server
	srv.now = time.Now
	if err := srv.openShared(&configs.Config{Redis: *r}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.shared.close)
	return srv.shared.notes, srv.shared.client
}

func TestNotesInRedis(t *testing.T) {
	notes, client := notesAt(t, "", redistest.Start(t))
	for _, step := range []struct {
		what string
		note proxy.Note
		done bool
		want proxy.Note
	}{
		{"nothing to replace", proxy.Note{Key: "a", Text: "1", Left: time.Hour, If: proxy.IfPresent}, false, proxy.Note{}},
		{"a new one", proxy.Note{Key: "a", Left: time.Hour, If: proxy.IfAbsent}, true, proxy.Note{Key: "a", Left: time.Hour}},
		{"there is one", proxy.Note{Key: "a", Text: "3", Left: time.Hour, If: proxy.IfAbsent}, false, proxy.Note{Key: "a", Left: time.Hour}},
		{"in its place", proxy.Note{Key: "a", Text: "4", Left: time.Minute, If: proxy.IfPresent}, true, proxy.Note{Key: "a", Text: "4", Left: time.Minute}},
		{"whatever there is", proxy.Note{Key: "a", Text: "5", Left: 2 * time.Hour}, true, proxy.Note{Key: "a", Text: "5", Left: 2 * time.Hour}},
		{"away", proxy.Note{Key: "a"}, true, proxy.Note{}},
	} {
		done, err := notes.Write(t.Context(), step.note)
		if err != nil || len(done) != 1 || done[0] != step.done {
			t.Fatalf("%s: written %v, %v", step.what, done, err)
		}
		got, err := notes.Read(t.Context(), "none", "a", "none")
		near := cmp.Comparer(func(a, b time.Duration) bool { return (a - b).Abs() < 30*time.Second })
		if diff := cmp.Diff([]proxy.Note{{}, step.want, {}}, got, near); err != nil || diff != "" {
			t.Errorf("%s: read (-want +got):\n%s%v", step.what, diff, err)
		}
	}
	// What is no note of ours is none.
	for key, value := range map[string]string{"forever": "", "long": strings.Repeat("x", proxy.MaxNote+1)} {
		ttl := time.Hour
		if key == "forever" {
			ttl = 0
		}
		if err := client.Set(t.Context(), "regward:n:"+key, value, ttl).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := notes.Read(t.Context(), key); err == nil {
			t.Errorf("%s: read %v", key, got)
		}
	}
	if err := client.LPush(t.Context(), "regward:n:list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := notes.Read(t.Context(), "list"); err == nil || errors.Is(err, ratelimit.ErrUnavailable) {
		t.Errorf("a list: read %v, %v: Redis is not down", got, err)
	}
}

// Notes and limits learn of a dead Redis from each other, and neither waits for it.
func TestNotesOfARedisThatIsGone(t *testing.T) {
	s := redistest.Start(t)
	notes, _ := notesAt(t, "", s)
	if _, err := notes.Write(t.Context(), proxy.Note{Key: "a", Left: time.Hour}); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	for range 10 {
		if got, err := notes.Read(t.Context(), "a"); !errors.Is(err, ratelimit.ErrUnavailable) {
			t.Errorf("read %v, %v", got, err)
		}
	}
	soon(t, "the limits know as well", func() bool {
		_, down := notes.(*redisNotes).breaker.Outage()
		return down
	})
}
