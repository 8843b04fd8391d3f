// Package ratelimit answers one question: how often?
//
// A Limiter knows keys and rates and nothing of requests, users or rules.
package ratelimit

import (
	"context"
	"time"
)

// Key names one bucket: {"people", "user:alice"}, {"anonymous", "ip:2001:db8::/64"}.
type Key struct{ Limit, Client string }

// Spend asks for N events from the bucket of Key. A Rate other than the one the
// bucket had before changes the bucket and keeps what was spent from it.
type Spend struct {
	Key
	Rate Rate
	N    int // 0 asks whether one event would be let through, and takes nothing
}

// Result is the state of one bucket: of the first that refused, else of the one
// with least left. If every Rate asked for was zero there is no bucket to tell
// of: Result{OK: true, Index: -1}.
type Result struct {
	OK         bool
	Index      int           // which Spend it is about; -1 for none
	Limit      int           // the bucket's size
	Remaining  int           // whole events left
	RetryAfter time.Duration // until N events would pass; 0 if OK; the largest Duration if N is more than Limit
	Reset      time.Duration // until the bucket is full again
}

// Limiter spends from buckets. A refusal takes nothing, from none of them, and
// makes nobody wait longer (S08).
type Limiter interface {
	// Take spends all of s, or nothing. An error says that the limiter could not
	// find out, or that s makes no sense (a negative N, a Rate that is not zero
	// and not legal); it is neither a yes nor a refusal.
	Take(ctx context.Context, s ...Spend) (Result, error)
}
