package main

import (
	"errors"
	"slices"
	"strconv"
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
	r := redisOf(t, t.TempDir(), "{addresses: "+s.Addr+", timeout: 5s"+more+"}")
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

// In a cluster the notes of one call lie on several masters. Where one of them is
// gone or silent a call says so, in time: what could not be read is never told to
// be absent, nor what could not be written to be written.
func TestNotesInACluster(t *testing.T) {
	masters := redistest.StartCluster(t, "--cluster-require-full-coverage", "no") // so that the others go on
	const timeout = 1500 * time.Millisecond                                       // of 500 notes on a busy machine
	r := redisOf(t, t.TempDir(), "{addresses: ["+masters[0].Addr+", "+masters[1].Addr+", "+masters[2].Addr+"], mode: cluster, timeout: 1500ms}")
	srv := server{now: time.Now}
	if err := srv.openShared(&configs.Config{Redis: *r}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.shared.close)
	notes := srv.shared.notes
	var list []proxy.Note
	var keys []string
	for i := range 500 {
		keys = append(keys, "note-"+strconv.Itoa(i))
		list = append(list, proxy.Note{Key: keys[i], Text: strconv.Itoa(i), Left: time.Hour, If: proxy.IfAbsent})
	}
	for i, want := range []bool{true, false} {
		soon(t, "the cluster is found", func() bool { return srv.shared.breaker.Probe(t.Context()) == nil })
		done, err := notes.Write(t.Context(), list...)
		if err != nil || len(done) != len(list) || slices.Contains(done, !want) {
			t.Fatalf("write %d: %v, %v", i, done, err)
		}
	}
	whole := func() bool {
		got, err := notes.Read(t.Context(), keys...)
		if err != nil {
			return false
		}
		for i, n := range got {
			if n.Key != keys[i] || n.Text != strconv.Itoa(i) || n.Left <= 0 {
				t.Fatalf("note %d is %+v", i, n)
			}
		}
		return true
	}
	soon(t, "what was written can be read", whole)

	fails := func(what string) {
		t.Helper()
		asked := 0
		for i := range 2 {
			began := time.Now()
			got, err := notes.Read(t.Context(), keys...)
			if err == nil {
				t.Fatalf("%s: read %d of %d notes", what, len(got), len(keys))
			}
			if !strings.Contains(err.Error(), "not asked again") {
				asked++
			}
			if done, err := notes.Write(t.Context(), list...); err == nil {
				t.Fatalf("%s: wrote %v", what, done)
			}
			if took := time.Since(began); took > 2*timeout+patience/10 {
				t.Errorf("%s: calls %d took %v", what, i, took)
			}
			_ = srv.shared.breaker.Probe(t.Context()) // by a master that is well it lets calls through
		}
		if asked == 0 {
			t.Errorf("%s: nobody was asked", what)
		}
	}
	masters[1].Pause()
	fails("paused")
	masters[1].Resume()
	soon(t, "all notes are back", whole)
	masters[2].Kill()
	fails("killed")
}
