package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
)

// refreshFile is the auth.RefreshStore of an instance without Redis: a file in
// state_dir. What it has is what is in the file: other processes, such as the
// one that takes over in an upgrade, may change it, too, each under its lock.
// Changes that come at once share one write.
type refreshFile struct {
	path string
	now  func() time.Time
	log  *zap.Logger

	disk sync.Mutex // one write after the other

	mu      sync.RWMutex
	all     refreshSet
	stamp   os.FileInfo // of the file that all is; nil: there was none
	read    bool        // all has been read
	broken  error       // why it cannot be read
	waiting []*refreshChange
	writing bool // somebody sees to those that wait
}

// refreshChange is one that waits for its write.
type refreshChange struct {
	apply func(*refreshSet) error // nil: the set was changed
	done  chan struct{}           // closed once err is what became of it
	err   error
}

var (
	errUnchanged = errors.New("nothing is changed") // asks for no write
	errTooLong   = fmt.Errorf("they would take more than %d bytes, which is not read again", auth.MaxRefreshFile)
)

// newRefreshFile reads nothing before it is asked. A file that cannot be read
// keeps nobody from serving: it is an error of each question.
func newRefreshFile(path string, now func() time.Time, log *zap.Logger) *refreshFile {
	return &refreshFile{path: path, now: now, log: log, all: newRefreshSet(nil)}
}

// look reads the file again if somebody else has changed it.
func (f *refreshFile) look() error {
	stamp, err := stampOf(f.path)
	f.mu.RLock()
	known, broken := f.read && err == nil && sameStamp(stamp, f.stamp), f.broken
	f.mu.RUnlock()
	if known {
		return broken
	}
	f.disk.Lock()
	defer f.disk.Unlock()
	return f.reread()
}

// reread reads what is there, unless it is known. The caller has disk.
func (f *refreshFile) reread() error {
	stamp, err := stampOf(f.path)
	f.mu.RLock()
	known, broken, before := f.read && err == nil && sameStamp(stamp, f.stamp), f.broken, len(f.all.tokens)
	f.mu.RUnlock()
	if known {
		return broken
	}
	var all []auth.RefreshToken
	switch {
	case err != nil || stamp == nil:
	case !stamp.Mode().IsRegular(): // to open a pipe would hold up everybody for good
		err = errors.New("it is no file")
	default:
		all, err = readRefreshFile(f.path)
	}
	if err != nil {
		err = fmt.Errorf("refresh tokens %w: %s cannot be read: %w: put the file right, or remove it, then everybody who has a refresh token logs in again", auth.ErrUnavailable, f.path, err)
		f.log.Error("refresh tokens are neither taken nor given", zap.Error(err))
	} else if stamp == nil && before > 0 {
		f.log.Warn("the file of refresh tokens is gone: who has one logs in again", zap.String("file", f.path), zap.Int("tokens", before))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stamp, f.read, f.broken = stamp, true, err
	f.all = newRefreshSet(all)
	return err
}

// readRefreshFile is what a file has; one that is not there has none.
func readRefreshFile(path string) ([]auth.RefreshToken, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, auth.MaxRefreshFile+1))
	if err != nil {
		return nil, err
	}
	return auth.ParseRefreshFile(text)
}

// stampOf tells one content of a file from the next: each is a file of its own.
func stampOf(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return info, err
}

func sameStamp(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// change has apply change the set, and returns when that is on disk. Who comes
// while a write is under way waits for the next one, together with all others. Who
// waits no longer is taken off the list; what is being written then is written all
// the same, and nobody may look at what apply found.
func (f *refreshFile) change(ctx context.Context, apply func(*refreshSet) error) error {
	one := &refreshChange{apply: apply, done: make(chan struct{})}
	f.mu.Lock()
	f.waiting = append(f.waiting, one)
	if !f.writing {
		f.writing = true
		go f.settle()
	}
	f.mu.Unlock()
	select {
	case <-one.done:
	case <-ctx.Done():
		f.mu.Lock()
		f.waiting = slices.DeleteFunc(f.waiting, func(c *refreshChange) bool { return c == one })
		f.mu.Unlock()
		return fmt.Errorf("%s is not written yet: %w: %w", f.path, context.Cause(ctx), auth.ErrUnavailable)
	}
	if errors.Is(one.err, errUnchanged) {
		return nil
	}
	return one.err
}

// settle writes for all who wait, until nobody does.
func (f *refreshFile) settle() {
	for {
		f.disk.Lock()
		f.mu.Lock()
		all := f.waiting
		f.waiting = nil
		f.writing = len(all) > 0
		f.mu.Unlock()
		if len(all) == 0 {
			f.disk.Unlock()
			return
		}
		err := f.write(context.Background(), all) // bounded by the wait for the lock: none of them speaks for the others
		f.disk.Unlock()
		for _, c := range all {
			if err != nil {
				c.err = err
			}
			close(c.done)
		}
	}
}

// write applies changes to what is in the file now.
func (f *refreshFile) write(ctx context.Context, all []*refreshChange) error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return err
	}
	lock, err := lockFile(ctx, f.path)
	if err != nil {
		return err
	}
	defer lock.Close() // which unlocks it
	if err := f.reread(); err != nil {
		return err
	}
	changed := false
	f.mu.Lock()
	for _, c := range all {
		c.err = c.apply(&f.all)
		changed = changed || c.err == nil
	}
	list := f.all.list("")
	f.mu.Unlock()
	if !changed {
		return nil
	}
	text := auth.FormatRefreshFile(list)
	if err = errTooLong; len(text) <= auth.MaxRefreshFile {
		err = replaceFile(f.path, text)
	}
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.stamp, err = stampOf(f.path)
		return err
	}
	f.mu.Lock()
	f.read = false // what is on disk is what counts
	f.mu.Unlock()
	return errors.Join(fmt.Errorf("refresh tokens cannot be kept: %w", err), f.reread())
}

// Get implements auth.RefreshStore.
func (f *refreshFile) Get(_ context.Context, hash auth.RefreshHash) (auth.RefreshToken, error) {
	if err := f.look(); err != nil {
		return auth.RefreshToken{}, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	t, ok := f.all.tokens[hash]
	if !ok || t.Over(f.now()) {
		return auth.RefreshToken{}, auth.ErrRejected
	}
	return t, nil
}

// Add implements auth.RefreshStore.
func (f *refreshFile) Add(ctx context.Context, t auth.RefreshToken) error {
	return f.change(ctx, func(s *refreshSet) error { return s.add(t, f.now()) })
}

// Use implements auth.RefreshStore.
func (f *refreshFile) Use(ctx context.Context, uses map[auth.RefreshHash]time.Time) error {
	return f.change(ctx, func(s *refreshSet) error { return s.use(uses) })
}

// Delete implements auth.RefreshStore.
func (f *refreshFile) Delete(ctx context.Context, hashes ...auth.RefreshHash) (int, error) {
	n := 0
	if err := f.change(ctx, func(s *refreshSet) error { n = s.remove(hashes); return unless(n > 0) }); err != nil {
		return 0, err
	}
	return n, nil
}

// Of implements auth.RefreshStore.
func (f *refreshFile) Of(_ context.Context, user string) ([]auth.RefreshToken, error) {
	if err := f.look(); err != nil {
		return nil, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.all.list(user), nil
}

// Sweep implements auth.RefreshStore.
func (f *refreshFile) Sweep(ctx context.Context) (left int, err error) {
	if err := f.look(); err != nil {
		return 0, err
	}
	f.mu.RLock()
	over := f.all.over(f.now())
	left = len(f.all.tokens) - len(over)
	f.mu.RUnlock()
	if len(over) == 0 {
		return left, nil
	}
	_, err = f.Delete(ctx, over...)
	return left, err
}

func unless(changed bool) error {
	if changed {
		return nil
	}
	return errUnchanged
}
