package e2e

import (
	"net/http"
	"sync"
	"time"
)

// lockout is that of Nexus 3.96: more than three wrong logins, and for fifteen
// quiet minutes nobody of that name comes in. nil locks nobody out.
type lockout struct {
	now func() time.Time

	mu    sync.Mutex
	wrong map[string]int
	last  map[string]time.Time
}

func newLockout() *lockout {
	return &lockout{now: time.Now, wrong: map[string]int{}, last: map[string]time.Time{}}
}

func (l *lockout) judge(user string, status int) int {
	if l == nil {
		return status
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); l.wrong[user] > 3 {
		quiet := now.Sub(l.last[user])
		if l.last[user] = now; quiet < 15*time.Minute {
			return http.StatusTooManyRequests
		}
		l.wrong[user] = 0
	}
	if status == http.StatusOK {
		l.wrong[user] = 0
		return status
	}
	l.wrong[user]++
	l.last[user] = l.now()
	return status
}

// shortLock keeps a name out for 1.5 s after a wrong login.
type shortLock struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (l *shortLock) judge(user string, status int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.until[user]) {
		return http.StatusUnauthorized
	}
	if status != http.StatusOK {
		l.until[user] = time.Now().Add(1500 * time.Millisecond)
	}
	return status
}
