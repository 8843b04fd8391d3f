package tls

import (
	"context"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// lockPoll is how often somebody who waits for a lock looks whether it is free.
const lockPoll = 250 * time.Millisecond

// held are the locks that are held through one storage.
type held[T any] struct {
	mu sync.Mutex
	by map[string]T
}

func (h *held[T]) put(name string, what T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil {
		h.by = map[string]T{}
	}
	h.by[name] = what
}

func (h *held[T]) take(name string) (what T, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	what, ok = h.by[name]
	delete(h.by, name)
	return what, ok
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// below is a storage whose keys all start with a folder of their own.
type below struct {
	certmagic.Storage
	folder string // with its slash
}

func (b below) Store(ctx context.Context, key string, value []byte) error {
	return b.Storage.Store(ctx, b.folder+key, value)
}

func (b below) Load(ctx context.Context, key string) ([]byte, error) {
	return b.Storage.Load(ctx, b.folder+key)
}

func (b below) Delete(ctx context.Context, key string) error {
	return b.Storage.Delete(ctx, b.folder+key)
}

func (b below) Exists(ctx context.Context, key string) bool {
	return b.Storage.Exists(ctx, b.folder+key)
}

func (b below) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	keys, err := b.Storage.List(ctx, b.folder+prefix, recursive)
	for i, key := range keys {
		keys[i] = key[len(b.folder):]
	}
	return keys, err
}

func (b below) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	info, err := b.Storage.Stat(ctx, b.folder+key)
	info.Key = key
	return info, err
}

var (
	_ certmagic.Storage = (*Folder)(nil)
	_ certmagic.Storage = (*Redis)(nil)
	_ certmagic.Storage = below{}
)
