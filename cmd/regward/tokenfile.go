package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/internal/filelock"
)

// lockWait is how long is waited for somebody else who changes a file: each holds
// it for a moment.
const lockWait = 10 * time.Second

// tokensFile is the name of the file of robots.
func (a *app) tokensFile() (string, error) {
	cfg, err := a.tokensConfig()
	if err != nil {
		return "", err
	}
	return cfg.Auth.TokensFile, nil
}

// tokensConfig has to be right as a whole: else a running instance would not load
// a change of robots.
func (a *app) tokensConfig() (*configs.Config, error) {
	src, err := a.source("")
	if err != nil {
		return nil, err
	}
	return src.load(true)
}

// readRobots is the file's content, empty where there is none yet.
func readRobots(path string) ([]byte, *auth.RobotFile, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		file, err := auth.ParseRobots(path, nil)
		return nil, file, err
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, nil, fmt.Errorf("robots cannot be read: %w: run this as who runs regward serve", err)
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, auth.MaxTokensFile+1))
	if err != nil {
		return nil, nil, err
	}
	file, err := auth.ParseRobots(path, data)
	return data, file, err
}

// editRobots changes the file: change gets its content and returns the new one.
// One command at a time does so. Whenever the process or the machine dies, the
// file is the old one or the new one, and what was said to be done is done.
func editRobots(ctx context.Context, path string, change func(data []byte, f *auth.RobotFile) ([]byte, error)) (*auth.RobotFile, error) {
	// The file that is meant, not a link to it, is replaced.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(ctx, path)
	if err != nil {
		return nil, cannotChange(path, err)
	}
	defer lock.Close() // which unlocks it
	data, file, err := readRobots(path)
	if err != nil {
		return nil, err
	}
	text, err := change(data, file)
	if err != nil {
		return nil, err
	}
	if err := replaceFile(path, text); err != nil {
		return nil, cannotChange(path, err)
	}
	return auth.ParseRobots(path, text)
}

// cannotChange says what to do with a file that is read only, or somebody else's.
func cannotChange(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s cannot be changed by this user: %w; run this as who runs regward serve, or, if the file comes from elsewhere, change it there: `regward token create --print` writes an entry to paste", path, err)
	}
	if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EBUSY) { // the last: mounted by itself, as containers have single files
		return fmt.Errorf("%s cannot be changed here: %w; change it where it comes from: `regward token create --print` writes an entry to paste", path, err)
	}
	return err
}

// openLock opens a lock, and makes it where there is none. No link is followed,
// and only what was made here is given away: the folder may be somebody else's
// than root's, who must not get a file of root's by it.
func openLock(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.OpenFile(name, os.O_RDWR|noFollow, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(filepath.Dir(name)); err == nil {
		_ = giveTo(f, info) // else only root can change it from now on, and is told so
	}
	return f, nil
}

// lockFile lets one process at a time change a file. The lock is on one of its
// own, PATH.lock, as the file itself is replaced. What somebody left who was
// killed while writing is removed.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := openLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		held, err := filelock.Try(f)
		if held {
			left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".*.new"))
			for _, name := range left {
				_ = os.Remove(name)
			}
			return f, nil
		}
		if err == nil {
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = fmt.Errorf("%s: somebody else has been changing it for %v", path, lockWait)
			}
		}
		_ = f.Close()
		return nil, err
	}
}

// replaceFile puts text in place of a file, or makes it: written aside, synced,
// renamed, and the folder synced. It keeps mode and owner of what was there; a
// new file is 0600 and belongs to whom the folder belongs to.
func replaceFile(path string, text []byte) error {
	dir := filepath.Dir(path)
	like, err := os.Stat(path)
	mode := fs.FileMode(0o600)
	if err == nil {
		mode = like.Mode().Perm()
	} else if like, err = os.Stat(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.new") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once renamed
	_, err = f.Write(text)
	if err = errors.Join(err, giveTo(f, like), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
