package auth

import "sync"

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
