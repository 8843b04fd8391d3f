package tls

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/regward/regward/internal/filelock"
)

const (
	// maxStored bounds one value: a key and a chain have a few KiB.
	maxStored = 256 << 10
	// unfinished is how the name of a file begins that is still being written.
	unfinished = ".new-"
	// locksDir holds one empty file for each lock. They stay: removing one that
	// somebody waits for would make two of it.
	locksDir = "locks"
)

// Folder keeps what belongs to ACME in files below a folder that nobody else may
// read. certmagic's own would do but for two things: it does not sync the folder
// that a file is renamed in, and a lock that a killed process held blocks for ten
// seconds. Here the kernel holds the lock, and lets go when the process ends.
type Folder struct {
	dir   string
	locks held[*os.File]
}

// NewFolder makes dir if it is not there, and removes what a process left
// unfinished when it was killed.
func NewFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(filepath.Join(dir, locksDir), 0o700); err != nil {
		return nil, fmt.Errorf("no place for certificates: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("no place for certificates: %w", err)
	}
	f := &Folder{dir: dir}
	f.tidy(time.Now().Add(-time.Hour))
	return f, nil
}

// tidy removes unfinished files from before old: newer ones may be of another
// process that writes right now.
func (f *Folder) tidy(old time.Time) {
	_ = filepath.WalkDir(f.dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasPrefix(entry.Name(), unfinished) {
			return nil
		}
		if info, err := entry.Info(); err == nil && info.ModTime().Before(old) {
			_ = os.Remove(name)
		}
		return nil
	})
}

// file is where key is kept. certmagic makes keys of names it has cleaned; one
// that would lead out of the folder is refused all the same.
func (f *Folder) file(key string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(key)) {
		return "", fmt.Errorf("%q is no key", key)
	}
	return filepath.Join(f.dir, filepath.FromSlash(key)), nil
}

// Store writes the whole value or, if the process or the machine ends first,
// nothing: the old value is there then.
func (f *Folder) Store(_ context.Context, key string, value []byte) error {
	if len(value) > maxStored {
		return fmt.Errorf("%s: %d bytes are more than the %d that are kept", key, len(value), maxStored)
	}
	name, err := f.file(key)
	if err != nil {
		return err
	}
	dir := filepath.Dir(name)
	if err := f.makeDirs(dir); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, unfinished) // 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails once renamed
	_, err = tmp.Write(value)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), name); err != nil {
		return err
	}
	return syncDir(dir)
}

// makeDirs makes dir and syncs each folder that one was made in.
func (f *Folder) makeDirs(dir string) error {
	if _, err := os.Stat(dir); err == nil || dir == f.dir {
		return os.MkdirAll(dir, 0o700)
	}
	if err := f.makeDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// Load is fs.ErrNotExist for what is not there.
func (f *Folder) Load(_ context.Context, key string) ([]byte, error) {
	name, err := f.file(key)
	if err != nil {
		return nil, err
	}
	value, _, err := readFile(name)
	return value, err
}

// Delete removes key and all that is below it.
func (f *Folder) Delete(_ context.Context, key string) error {
	name, err := f.file(key)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(name); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Exists reports whether key, or something below it, is there.
func (f *Folder) Exists(ctx context.Context, key string) bool {
	_, err := f.Stat(ctx, key)
	return err == nil
}

// List is what is directly below prefix or, recursively, all of it.
func (f *Folder) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	name, err := f.file(prefix)
	if err != nil {
		return nil, err
	}
	var keys []string
	err = filepath.WalkDir(name, func(at string, entry fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if at == name || strings.HasPrefix(entry.Name(), unfinished) {
			return nil
		}
		below, err := filepath.Rel(name, at)
		if err != nil {
			return err
		}
		keys = append(keys, path.Join(prefix, filepath.ToSlash(below)))
		if entry.IsDir() && !recursive {
			return fs.SkipDir
		}
		return nil
	})
	return keys, err
}

// Stat tells of key.
func (f *Folder) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	name, err := f.file(key)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key, Modified: info.ModTime(), Size: info.Size(), IsTerminal: !info.IsDir()}, nil
}

// Lock waits until nobody else, in this process or another, holds name, or until
// ctx ends.
func (f *Folder) Lock(ctx context.Context, name string) error {
	at := filepath.Join(f.dir, locksDir, certmagic.StorageKeys.Safe(name))
	file, err := os.OpenFile(at, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	for {
		held, err := filelock.Try(file)
		if held {
			f.locks.put(name, file)
			return nil
		}
		if err != nil {
			file.Close()
			return fmt.Errorf("lock %s: %w", at, err)
		}
		if err := pause(ctx, lockPoll); err != nil {
			file.Close()
			return err
		}
	}
}

// Unlock gives name back.
func (f *Folder) Unlock(_ context.Context, name string) error {
	file, ok := f.locks.take(name)
	if !ok {
		return fmt.Errorf("lock %s is not held", name)
	}
	return file.Close() // and with it the lock
}
