package auth

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// flights are the checks of logins under way, one for each key.
type flights struct {
	mu    sync.Mutex
	under map[cacheKey]*flight
}

// flight is one of them. Its answer may be read once done is closed.
type flight struct {
	done    chan struct{}
	id      Identity
	err     error
	refused bool // err is the guard's, about the leader only
	known   bool // the leader's Credential.Known: a provider may refuse for the want of it
}

// join finds the flight for key, or begins it.
func (f *flights) join(key cacheKey) (one *flight, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.under[key]; one != nil {
		return one, false
	}
	one = &flight{done: make(chan struct{})}
	f.under[key] = one
	return one, true
}

// land gives the answer out.
func (f *flights) land(key cacheKey, one *flight) {
	f.mu.Lock()
	delete(f.under, key)
	f.mu.Unlock()
	close(one.done)
}

// slots are how many checks of a kind may be under way.
type slots struct {
	free   chan struct{}
	queued atomic.Int64
}

// kinds are the slots of Remote providers, by their names.
type kinds struct {
	mu sync.Mutex
	by map[string]*slots // as many as there are kinds of providers
}

func (k *kinds) of(name string) *slots {
	k.mu.Lock()
	defer k.mu.Unlock()
	one := k.by[name]
	if one == nil {
		one = newSlots(MaxRemoteLogins)
		if k.by == nil {
			k.by = map[string]*slots{}
		}
		k.by[name] = one
	}
	return one
}

func newSlots(n int) *slots { return &slots{free: make(chan struct{}, n)} }

// acquire waits for a slot, not for long and not with many others: else ErrBusy.
func (s *slots) acquire(ctx context.Context, most time.Duration) error {
	select {
	case s.free <- struct{}{}:
		return nil
	default:
	}
	defer s.queued.Add(-1)
	if s.queued.Add(1) > MaxLoginQueue {
		return ErrBusy
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case s.free <- struct{}{}:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return ErrBusy
}

func (s *slots) release() { <-s.free }
