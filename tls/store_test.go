package tls_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/internal/redistest"
	regtls "github.com/regward/regward/tls"
)

var background = context.Background()

// storages are several instances' views of one storage, of each kind.
func storages(t *testing.T, n int) map[string][]certmagic.Storage {
	t.Helper()
	dir, addr, key := t.TempDir(), redistest.Start(t).Addr, randomKey()
	all := map[string][]certmagic.Storage{}
	for range n {
		f, err := regtls.NewFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		all["folder"] = append(all["folder"], f)
		all["Redis"] = append(all["Redis"], inRedis(t, addr, key))
	}
	return all
}

func randomKey() (key [32]byte) {
	rand.Read(key[:])
	return key
}

func inRedis(t *testing.T, addr string, keys ...[32]byte) *regtls.Redis {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1})
	t.Cleanup(func() { client.Close() })
	r, err := regtls.NewRedis(client, "test", keys)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAStorageKeepsWhatItIsGiven(t *testing.T) {
	for name, s := range storages(t, 2) {
		t.Run(name, func(t *testing.T) {
			a, b := s[0], s[1] // what one writes the other reads
			for _, key := range []string{"a/b/one.pem", "a/b/two.pem", "a/three", "ab/four"} {
				if err := a.Store(background, key, []byte("of "+key)); err != nil {
					t.Fatal(err)
				}
			}
			if err := a.Store(background, "a/three", []byte("again")); err != nil {
				t.Fatal(err)
			}
			for key, want := range map[string]string{"a/b/one.pem": "of a/b/one.pem", "a/three": "again"} {
				if got, err := b.Load(background, key); err != nil || string(got) != want {
					t.Errorf("load %s: got %q, %v; want %q", key, got, err, want)
				}
			}
			for prefix, want := range map[string][2][]string{
				"a":   {{"a/b", "a/three"}, {"a/b", "a/b/one.pem", "a/b/two.pem", "a/three"}},
				"a/b": {{"a/b/one.pem", "a/b/two.pem"}, {"a/b/one.pem", "a/b/two.pem"}},
			} {
				for i, recursive := range []bool{false, true} {
					if got, err := b.List(background, prefix, recursive); err != nil || !cmp.Equal(got, want[i]) {
						t.Errorf("list %s, recursive %v: got %q, %v; want %q", prefix, recursive, got, err, want[i])
					}
				}
			}
			for key, want := range map[string][2]bool{"a": {true, false}, "a/three": {true, true}, "a/b/none": {}, "b": {}} {
				info, err := b.Stat(background, key)
				if b.Exists(background, key) != want[0] || (err == nil) != want[0] || info.IsTerminal != want[1] {
					t.Errorf("%s: exists %v, stat %+v, %v", key, b.Exists(background, key), info, err)
				}
				if !want[0] && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: got %v, want that it does not exist", key, err)
				}
			}
			if info, err := b.Stat(background, "a/three"); err != nil || info.Size != 5 || info.Key != "a/three" {
				t.Errorf("stat: got %+v, %v", info, err)
			}
			for _, key := range []string{"a/b", "a/three", "never/there"} {
				if err := a.Delete(background, key); err != nil {
					t.Errorf("delete %s: %v", key, err)
				}
			}
			for _, key := range []string{"a/b/one.pem", "a/three"} {
				if _, err := b.Load(background, key); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is deleted: got %v", key, err)
				}
			}
			if _, err := b.Load(background, "ab/four"); err != nil {
				t.Errorf("ab/four is not below a: %v", err)
			}
			if err := a.Store(background, "big", make([]byte, regtls.MaxStored)); err != nil {
				t.Errorf("the largest value: %v", err)
			}
			if err := a.Store(background, "big", make([]byte, regtls.MaxStored+1)); err == nil {
				t.Error("a larger value is kept")
			}
		})
	}
}

func TestOneAloneHoldsALock(t *testing.T) {
	const holders, turns = 6, 5
	for name, all := range storages(t, holders) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var inside, most atomic.Int32
			var work sync.WaitGroup
			for _, s := range all {
				work.Go(func() {
					for range turns {
						if err := s.Lock(background, "issue_cert_a.example"); err != nil {
							t.Error(err)
							return
						}
						most.Store(max(most.Load(), inside.Add(1)))
						time.Sleep(time.Millisecond) // so that others are there meanwhile
						inside.Add(-1)
						if err := s.Unlock(background, "issue_cert_a.example"); err != nil {
							t.Error(err)
						}
					}
				})
			}
			work.Wait()
			if most.Load() != 1 {
				t.Errorf("%d held it at once", most.Load())
			}
			if err := all[0].Lock(background, "x"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
			defer cancel()
			for _, s := range all[:2] { // also for who holds it
				if err := s.Lock(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a second holder: got %v", err)
				}
			}
			if err := all[1].Lock(background, "y"); err != nil {
				t.Errorf("another lock: %v", err)
			}
			if err := all[2].Unlock(background, "x"); err == nil {
				t.Error("somebody else gave it back")
			}
			if err := all[0].Unlock(ctx, "x"); err != nil { // ctx has ended
				t.Errorf("unlock: %v", err)
			}
			if err := all[1].Lock(background, "x"); err != nil {
				t.Errorf("after it was given back: %v", err)
			}
		})
	}
}

func TestALockOutlivesItsLeaseWhileItIsHeldAndNoLonger(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second // a busy machine renews late
	addr, key := redistest.Start(t).Addr, randomKey()
	a, b := inRedis(t, addr, key), inRedis(t, addr, key)
	a.SetLease(lease)
	b.SetLease(lease)
	if err := a.Lock(background, "x"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(background, 3*lease/2)
	defer cancel()
	if err := b.Lock(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("while it is renewed: got %v", err)
	}
	a.HoldsUnrenewed("x")
	ctx, cancel = context.WithTimeout(background, time.Minute)
	defer cancel()
	if err := b.Lock(ctx, "x"); err != nil {
		t.Fatalf("after it ran out: %v", err)
	}
	if err := a.Unlock(background, "x"); err == nil || !strings.Contains(err.Error(), "was lost") {
		t.Errorf("the one who lost it gives it back: got %v", err)
	}
	if err := b.Unlock(background, "x"); err != nil {
		t.Errorf("it is still the other's: %v", err)
	}
}

func TestWhatIsInRedisIsSealed(t *testing.T) {
	server, old, now := redistest.Start(t), randomKey(), randomKey()
	secret := []byte("-----BEGIN PRIVATE KEY-----")
	if err := inRedis(t, server.Addr, old).Store(background, "k", secret); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	raw := func() string { return client.HGet(background, "test:{fleet}:acme", "k").Val() }
	first := raw()
	if first == "" || strings.Contains(first, "PRIVATE") {
		t.Fatalf("Redis holds %q", first)
	}
	if _, err := inRedis(t, server.Addr, now).Load(background, "k"); !errors.Is(err, regtls.ErrSealed) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with another key: got %v", err)
	}
	if got, err := inRedis(t, server.Addr, now, old).Load(background, "k"); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("with the old key beside the new: got %q, %v", got, err)
	}
	if raw() == first {
		t.Error("it was not sealed by the new key")
	}
	if got, err := inRedis(t, server.Addr, now).Load(background, "k"); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("the old key is gone: got %q, %v", got, err)
	}
	client.HSet(background, "test:{fleet}:acme", "other", raw(), "short", "x")
	for _, key := range []string{"other", "short"} {
		if _, err := inRedis(t, server.Addr, now).Load(background, key); !errors.Is(err, regtls.ErrSealed) {
			t.Errorf("%s, which was put there by somebody else: got %v", key, err)
		}
	}
	if _, err := regtls.NewRedis(client, "test", nil); err == nil {
		t.Error("a storage without a key")
	}
}

func TestRedisHoldsNoMoreThanItShould(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	fields := make([]any, 0, 2*regtls.MaxKeys)
	for i := range regtls.MaxKeys {
		fields = append(fields, fmt.Sprint("k", i), "x")
	}
	if err := client.HSet(background, "test:{fleet}:acme", fields...).Err(); err != nil {
		t.Fatal(err)
	}
	r := inRedis(t, server.Addr, randomKey())
	if err := r.Store(background, "one more", nil); err == nil {
		t.Error("one more is kept")
	}
	if err := r.Store(background, "k1", nil); err != nil {
		t.Errorf("one in place of another: %v", err)
	}
}

func TestRedisThatIsAwayIsNotOneThatIsEmpty(t *testing.T) {
	server := redistest.Start(t)
	r := inRedis(t, server.Addr, randomKey())
	server.Kill()
	_, loaded := r.Load(background, "k")
	_, listed := r.List(background, "k", true)
	_, told := r.Stat(background, "k")
	for what, err := range map[string]error{
		"load": loaded, "list": listed, "stat": told, "store": r.Store(background, "k", nil),
		"delete": r.Delete(background, "k"), "lock": r.Lock(background, "k"),
	} {
		if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "Redis cannot be asked") {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestAFolderIsReadByItsOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := regtls.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Store(background, "a/b/c", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := f.Lock(background, "l"); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := entry.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, key := range []string{"../out", "/etc/passwd", "a/../../out", ""} {
		if err := f.Store(background, key, nil); err == nil {
			t.Errorf("%q leads out of it", key)
		}
	}
}
