package main

import (
	"context"
	"crypto/sha256"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// rehash is how often files are looked at even if nothing was heard of them:
// NFS sends nothing.
const rehash = 30 * time.Second

// fileHashes is the content of files by name; the zero hash is no such file.
type fileHashes map[string][sha256.Size]byte

// hashFiles reads the files; one that cannot be read has the zero hash.
func hashFiles(names []string) fileHashes {
	h := make(fileHashes, len(names))
	for _, name := range names {
		data, err := readBounded(name)
		if err != nil {
			h[name] = [sha256.Size]byte{}
			continue
		}
		h[name] = sha256.Sum256(data)
	}
	return h
}

// watcher notices when the content of files changes. It watches their folders,
// not the files: a watch on a file below a Kubernetes ConfigMap mount dies at
// the first swap. What it hears is only a reason to look; hashes decide.
type watcher struct {
	log    *zap.Logger
	notify *fsnotify.Watcher // nil where the system has none left: then only the clock helps

	mu      sync.Mutex
	hashes  fileHashes
	folders map[string]bool
}

func newWatcher(log *zap.Logger) *watcher {
	w := &watcher{log: log, folders: map[string]bool{}}
	n, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("files are looked at every 30 s only", zap.Error(err))
		return w
	}
	w.notify = n
	return w
}

// set makes w watch names, whose content is hashes.
func (w *watcher) set(names []string, hashes fileHashes) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hashes = hashes
	if w.notify == nil {
		return
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[filepath.Dir(absolute(name))] = true
	}
	for folder := range w.folders {
		if !wanted[folder] {
			_ = w.notify.Remove(folder)
			delete(w.folders, folder)
		}
	}
	w.follow(slices.Sorted(maps.Keys(wanted)))
}

// follow adds folders; one that is not there yet is tried again at every look.
func (w *watcher) follow(folders []string) {
	for _, folder := range folders {
		w.folders[folder] = w.notify.Add(folder) == nil
	}
}

// note takes h as what is known, so that it is no news any more.
func (w *watcher) note(h fileHashes) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hashes = h
}

// changed names the files whose content is not what was last known. It changes
// nothing: a load that follows takes note.
func (w *watcher) changed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify != nil {
		w.follow(slices.Sorted(maps.Keys(w.folders)))
	}
	var names []string
	now := hashFiles(slices.Sorted(maps.Keys(w.hashes)))
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if now[name] != w.hashes[name] {
			names = append(names, name)
		}
	}
	return names
}

// concerns reports whether an event may mean that a watched file changed.
// Writes to neighbours do not: a log may live in the same folder.
func (w *watcher) concerns(e fsnotify.Event) bool {
	if e.Has(fsnotify.Create) || e.Has(fsnotify.Rename) || e.Has(fsnotify.Remove) {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.hashes {
		if absolute(name) == absolute(e.Name) {
			return true
		}
	}
	return false
}

// absolute spells a file or folder in one way: a folder watched as "." and by
// its whole name is one to the kernel, which then tells of it by either.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return filepath.Clean(name)
}

func (w *watcher) close() {
	if w.notify != nil {
		_ = w.notify.Close()
	}
}

// watch loads the configuration when a file it rests on has changed, until ctx
// ends. A look comes a moment after the first event, so that a file written in
// pieces is read once.
func (s *server) watch(ctx context.Context) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	if s.watcher.notify != nil {
		events, errs = s.watcher.notify.Events, s.watcher.notify.Errors
	}
	tick := time.NewTicker(rehash)
	defer tick.Stop()
	var soon <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				events = nil
			} else if soon == nil && s.watcher.concerns(e) {
				soon = time.After(s.debounce)
			}
		case _, ok := <-errs: // an overflow: something was missed
			if !ok {
				errs = nil
			} else if soon == nil {
				soon = time.After(s.debounce)
			}
		case <-soon:
			soon = nil
			s.look()
		case <-tick.C:
			s.look()
		}
	}
}

// look loads what changed: everything, or the certificate if it was only that.
func (s *server) look() {
	changed := s.watcher.changed()
	if len(changed) == 0 {
		return
	}
	cfg := s.live.Load().cfg
	for _, name := range changed {
		if name != cfg.TLS.CertFile && name != cfg.TLS.KeyFile {
			s.load("change of "+name, "")
			return
		}
	}
	s.watcher.refresh(changed)
	s.reloadCertificate()
}

// refresh takes the content of names as known.
func (w *watcher) refresh(names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.hashes, hashFiles(names))
}
