package auth

import (
	"context"
	"time"
)

// CacheTimes bound how long an outcome of a login is believed.
type CacheTimes struct{ TTL, NegativeTTL time.Duration }

// Cache is the LRU of auth decisions. It belongs to the process and outlives
// reloads. Proven and rejected logins live apart, so that a flood of wrong
// passwords cannot push the good ones out.
type Cache struct{}

// NewCache holds at most size proven logins, size rejected ones and size
// verified tokens. now is the clock.
func NewCache(size int, now func() time.Time) *Cache { panic("unwritten") }

// Login asks by for c unless the answer is known: one flight per credential,
// at most half of the cores (one at least) hashing, a bounded queue before
// that (ErrBusy). hit says that the answer was known.
func (k *Cache) Login(ctx context.Context, by Authenticator, c Credential, t CacheTimes, g Guard) (id Identity, hit bool, err error) {
	panic("unwritten")
}

// Bearer verifies a token of ours, or remembers that it did. The identity is
// shared and must not be changed. See Tokens.Verify for errors.
func (k *Cache) Bearer(t *Tokens, token, audience string) (*Identity, error) { panic("unwritten") }
