package main

import (
	"maps"
	"slices"
	"time"

	"github.com/regward/regward/auth"
)

// refreshSet is all refresh tokens, within their bounds.
type refreshSet struct {
	tokens map[auth.RefreshHash]auth.RefreshToken
	users  map[string]int // how many each has
}

func newRefreshSet(all []auth.RefreshToken) refreshSet {
	s := refreshSet{tokens: make(map[auth.RefreshHash]auth.RefreshToken, len(all)), users: map[string]int{}}
	for _, t := range all {
		s.tokens[t.Hash] = t
		s.users[t.User]++
	}
	return s
}

// add makes room where there is none: what has been idle for longest goes, if it
// has been for long enough.
func (s *refreshSet) add(t auth.RefreshToken, now time.Time) error {
	if s.users[t.User] >= auth.MaxRefreshUser && !s.drop(t.User, now) || len(s.tokens) >= auth.MaxRefreshTokens && !s.drop("", now) {
		return auth.ErrTooManyRefresh
	}
	s.tokens[t.Hash] = t
	s.users[t.User]++
	return nil
}

func (s *refreshSet) drop(user string, now time.Time) bool {
	var longest auth.RefreshToken
	for _, t := range s.tokens {
		if (user == "" || t.User == user) && (longest.User == "" || t.Used.Before(longest.Used)) {
			longest = t
		}
	}
	return now.Sub(longest.Used) >= auth.RefreshIdle && s.remove([]auth.RefreshHash{longest.Hash}) > 0
}

func (s *refreshSet) use(uses map[auth.RefreshHash]time.Time) error {
	changed := false
	for hash, at := range uses {
		if t, ok := s.tokens[hash]; ok && at.After(t.Used) {
			t.Used, changed = at.UTC().Truncate(time.Second), true
			s.tokens[hash] = t
		}
	}
	return unless(changed)
}

func (s *refreshSet) remove(hashes []auth.RefreshHash) (n int) {
	for _, hash := range hashes {
		t, ok := s.tokens[hash]
		if !ok {
			continue
		}
		n++
		delete(s.tokens, hash)
		if s.users[t.User]--; s.users[t.User] == 0 {
			delete(s.users, t.User)
		}
	}
	return n
}

// list is a user's, or all with "".
func (s *refreshSet) list(user string) []auth.RefreshToken {
	if user == "" {
		return slices.Collect(maps.Values(s.tokens))
	}
	var some []auth.RefreshToken
	for _, t := range s.tokens {
		if t.User == user {
			some = append(some, t)
		}
	}
	return some
}

func (s *refreshSet) over(now time.Time) (some []auth.RefreshHash) {
	for hash, t := range s.tokens {
		if t.Over(now) {
			some = append(some, hash)
		}
	}
	return some
}
