package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/regward/regward/auth"
)

// refreshClock is where the times of these tests begin.
func refreshClock() time.Time { return time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC) }

func refreshToken(n int, user string) auth.RefreshToken {
	return auth.RefreshToken{
		Hash: auth.HashRefresh(fmt.Sprint(n)), User: user, Host: "registry.example.com", Via: "htpasswd", Proof: [16]byte{1, 2, 3},
		Created: refreshClock(), Used: refreshClock(), Client: "docker", Addr: "192.0.2.7",
	}
}

// refreshIn is a store over a file at a time of the test's.
func refreshIn(path string, now *time.Time) *refreshFile {
	return newRefreshFile(path, func() time.Time { return *now }, zap.NewNop())
}

func TestRefreshFileKeepsWhatItSaid(t *testing.T) {
	ctx, now := t.Context(), refreshClock()
	path := filepath.Join(t.TempDir(), "state", refreshName)
	f := refreshIn(path, &now)
	if _, err := f.Get(ctx, auth.HashRefresh("1")); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("without a file: %v", err)
	}
	if left, err := f.Sweep(ctx); left != 0 || err != nil {
		t.Errorf("%d, %v", left, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("a question made a folder")
	}
	one, two := refreshToken(1, "ann"), refreshToken(2, "bob")
	two.Epoch = 1777888999000
	for _, tok := range []auth.RefreshToken{one, two} {
		if err := f.Add(ctx, tok); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	now = now.Add(time.Hour)
	if err := f.Use(ctx, map[auth.RefreshHash]time.Time{one.Hash: now, auth.HashRefresh("gone"): now, two.Hash: now.Add(-2 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	one.Used = now

	f = refreshIn(path, &now) // a restart
	for _, want := range []auth.RefreshToken{one, two} {
		got, err := f.Get(ctx, want.Hash)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%v\n%s", err, d)
		}
	}
	if all, err := f.Of(ctx, "bob"); len(all) != 1 || err != nil || all[0].Hash != two.Hash {
		t.Errorf("%v, %v", all, err)
	}
	if n, err := f.Delete(ctx, one.Hash, auth.HashRefresh("gone")); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	f = refreshIn(path, &now)
	if _, err := f.Get(ctx, one.Hash); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("ended, and there after a restart: %v", err)
	}

	now = two.Used.Add(auth.RefreshLife)
	if _, err := f.Get(ctx, two.Hash); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("90 days without a use: %v", err)
	}
	if left, err := f.Sweep(ctx); left != 0 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), "bob") {
		t.Errorf("swept, and in the file: %s %v", text, err)
	}
}

// Logins that come while a write is under way share the next one.
func TestRefreshFileSharesWrites(t *testing.T) {
	now := refreshClock()
	path := filepath.Join(t.TempDir(), refreshName)
	f := refreshIn(path, &now)
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Add(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	const many = 100
	f.disk.Lock() // a write is under way
	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			if err := f.Add(t.Context(), refreshToken(i, "ann")); err != nil {
				t.Error(err)
			}
		})
	}
	soon(t, "all wait", func() bool {
		f.mu.RLock()
		defer f.mu.RUnlock()
		return len(f.waiting) == many
	})
	f.disk.Unlock()
	all.Wait()
	if left, err := refreshIn(path, &now).Sweep(t.Context()); left != many || err != nil {
		t.Errorf("%d are on disk, %v", left, err)
	}
	if err := os.WriteFile(path+".end", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	writes := 0
	for e := range w.Events {
		if e.Name == path+".end" {
			break
		}
		if e.Name == path && e.Has(fsnotify.Create) {
			writes++
		}
	}
	if writes != 1 {
		t.Errorf("%d logins made %d writes, want one", many, writes)
	}
}

// A folder that hangs holds nobody up for longer than they wait: a login goes on
// without a token, and none is kept that nobody has.
func TestRefreshFileThatHangs(t *testing.T) {
	now := refreshClock()
	path := filepath.Join(t.TempDir(), refreshName)
	f := refreshIn(path, &now)
	f.disk.Lock() // as long as somebody's write takes
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	for i := range 3 {
		go func() { ended <- f.Add(ctx, refreshToken(i, "ann")) }()
	}
	waiting := func() int {
		f.mu.RLock()
		defer f.mu.RUnlock()
		return len(f.waiting)
	}
	soon(t, "all wait", func() bool { return waiting() == 3 })
	cancel()
	for range 3 {
		if err := <-ended; !errors.Is(err, auth.ErrUnavailable) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d still wait", n)
	}
	f.disk.Unlock()
	if err := f.Add(t.Context(), refreshToken(7, "bob")); err != nil {
		t.Fatal(err)
	}
	if all, err := refreshIn(path, &now).Of(t.Context(), ""); err != nil || len(all) != 1 || all[0].User != "bob" {
		t.Errorf("kept: %+v, %v", all, err)
	}
	soon(t, "nobody is left to write", func() bool {
		f.mu.RLock()
		defer f.mu.RUnlock()
		return !f.writing
	})
}

// Two processes, as in an upgrade, lose nothing of each other's.
func TestRefreshFileOfTwoProcesses(t *testing.T) {
	now, ctx := refreshClock(), t.Context()
	path := filepath.Join(t.TempDir(), refreshName)
	stores := []*refreshFile{refreshIn(path, &now), refreshIn(path, &now)}
	var all sync.WaitGroup
	for s, f := range stores {
		for w := range 4 {
			all.Go(func() {
				for i := range 10 {
					tok := refreshToken(s*1000+w*100+i, fmt.Sprint("user", i%3))
					if err := f.Add(ctx, tok); err != nil {
						t.Error(err)
					}
					if i%2 == 0 {
						if n, err := f.Delete(ctx, tok.Hash); n != 1 || err != nil {
							t.Errorf("%d, %v", n, err)
						}
					} else if err := f.Use(ctx, map[auth.RefreshHash]time.Time{tok.Hash: now.Add(time.Minute)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	all.Wait()
	first, err1 := stores[0].Of(ctx, "")
	second, err2 := stores[1].Of(ctx, "")
	if len(first) != 40 || len(second) != 40 || err1 != nil || err2 != nil {
		t.Fatalf("%d and %d, %v %v; want 40", len(first), len(second), err1, err2)
	}
	for _, tok := range first {
		if !tok.Used.Equal(now.Add(time.Minute)) {
			t.Errorf("a use is lost: %+v", tok)
		}
	}
	if n, err := stores[0].Delete(ctx, first[0].Hash); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := stores[1].Get(ctx, first[0].Hash); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("ended by the other process: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Killed between writing and renaming, a process leaves the old file, and what it
// wrote aside goes with the next change.
func TestRefreshFileAfterAKillWhileWriting(t *testing.T) {
	now, ctx := refreshClock(), t.Context()
	path := filepath.Join(t.TempDir(), refreshName)
	if err := refreshIn(path, &now).Add(ctx, refreshToken(1, "ann")); err != nil {
		t.Fatal(err)
	}
	aside := filepath.Join(filepath.Dir(path), "."+refreshName+".12345.new")
	write(t, aside, `{"tokens": [{"hash":`)
	f := refreshIn(path, &now)
	if _, err := f.Get(ctx, auth.HashRefresh("1")); err != nil {
		t.Errorf("the old file is not taken: %v", err)
	}
	if err := f.Add(ctx, refreshToken(2, "ann")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(aside); err == nil {
		t.Error("what was written aside is left")
	}
}

// A file that cannot be read is no empty one: nobody's login is turned down, and
// nothing is written over it.
func TestRefreshFileThatIsBroken(t *testing.T) {
	ctx, now := t.Context(), refreshClock()
	path := filepath.Join(t.TempDir(), refreshName)
	if err := refreshIn(path, &now).Add(ctx, refreshToken(1, "ann")); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	log := newLines()
	for name, text := range map[string]string{
		"half":    string(good[:len(good)/2]),
		"empty":   "",
		"nothing": "{}",
		"twice":   strings.Replace(string(good), "[", "["+strings.Trim(strings.Split(string(good), "\n")[1], ",")+",", 1),
	} {
		write(t, path, text)
		f := newRefreshFile(path, func() time.Time { return now }, zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(log), zap.InfoLevel)))
		_, get := f.Get(ctx, auth.HashRefresh("1"))
		_, del := f.Delete(ctx, auth.HashRefresh("1"))
		_, of := f.Of(ctx, "ann")
		_, sweep := f.Sweep(ctx)
		for i, err := range []error{get, del, of, sweep, f.Add(ctx, refreshToken(2, "ann")), f.Use(ctx, map[auth.RefreshHash]time.Time{})} {
			if !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrRejected) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %d: %v", name, i, err)
			}
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%s: the file was changed: %s", name, now)
		}
		write(t, path, string(good)+"\n") // put right: another size
		if _, err := f.Get(ctx, auth.HashRefresh("1")); err != nil {
			t.Errorf("%s: put right, and: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Get(ctx, auth.HashRefresh("1")); !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: removed, and: %v", name, err)
		}
	}
	log.await(t, "refresh tokens are neither taken nor given", 4)
	log.await(t, "the file of refresh tokens is gone: who has one logs in again", 4)
	if n := strings.Count(log.String(), "neither taken nor given"); n != 4 {
		t.Errorf("said %d times, want once for each", n)
	}
}

// What cannot be written is not given out, and what was there is there.
func TestRefreshFileThatCannotBeWritten(t *testing.T) {
	ctx, now := t.Context(), refreshClock()
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, refreshName)
	f := refreshIn(path, &now)
	if err := f.Add(ctx, refreshToken(1, "ann")); err != nil {
		t.Fatal(err)
	}
	// A folder in the place of the file: nothing can be renamed there.
	if err := errors.Join(os.Rename(path, path+".kept"), os.MkdirAll(filepath.Join(path, "x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(ctx, refreshToken(2, "ann")); err == nil || errors.Is(err, auth.ErrTooManyRefresh) {
		t.Errorf("not written, and: %v", err)
	}
	if err := errors.Join(os.RemoveAll(path), os.Rename(path+".kept", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get(ctx, auth.HashRefresh("1")); err != nil {
		t.Error(err)
	}
	if _, err := f.Get(ctx, auth.HashRefresh("2")); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("not on disk, and taken: %v", err)
	}
}

func TestRefreshTokensAreBounded(t *testing.T) {
	now := refreshClock()
	s := newRefreshSet(nil)
	add := func(n int, user string) error {
		tok := refreshToken(n, user)
		tok.Used = now
		return s.add(tok, now)
	}
	for i := range auth.MaxRefreshUser {
		if err := add(i, "ann"); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(auth.RefreshIdle - time.Second)
	if err := add(-1, "ann"); !errors.Is(err, auth.ErrTooManyRefresh) {
		t.Errorf("one more than a user may have: %v", err)
	}
	_ = s.use(map[auth.RefreshHash]time.Time{auth.HashRefresh("0"): now})
	now = now.Add(time.Second)
	if err := add(-1, "ann"); err != nil || s.users["ann"] != auth.MaxRefreshUser || s.tokens[auth.HashRefresh("0")].User == "" {
		t.Errorf("one that was idle for a day does not make room: %v", err)
	}

	all := make([]auth.RefreshToken, auth.MaxRefreshTokens)
	for i := range all {
		all[i] = refreshToken(i, fmt.Sprint("user", i%1000))
		all[i].Used = now
	}
	path := filepath.Join(t.TempDir(), refreshName)
	text := auth.FormatRefreshFile(all)
	if len(text) > auth.MaxRefreshFile/3 {
		t.Errorf("usual tokens take %d bytes", len(text))
	}
	write(t, path, string(text))
	f := refreshIn(path, &now)
	if err := f.Add(t.Context(), refreshToken(-1, "ann")); !errors.Is(err, auth.ErrTooManyRefresh) {
		t.Errorf("one more than there may be: %v", err)
	}
	began := time.Now()
	now = now.Add(auth.RefreshIdle)
	if err := f.Add(t.Context(), refreshToken(-1, "ann")); err != nil {
		t.Error(err)
	}
	t.Logf("a login among %d tokens took %v", auth.MaxRefreshTokens, time.Since(began))
	if left, err := f.Sweep(t.Context()); left != auth.MaxRefreshTokens || err != nil {
		t.Errorf("%d, %v", left, err)
	}
}
