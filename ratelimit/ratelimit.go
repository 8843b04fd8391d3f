// Package ratelimit answers one question: how often?
//
// A Limiter knows keys and rates and nothing of requests, users or rules.
package ratelimit

import (
	"context"
	"time"
)

// Rate is a bucket: Events in Per, Burst at once. It is written "100/6h". The
// zero Rate is no limit, everywhere.
type Rate struct {
	Events int
	Per    time.Duration
	Burst  int // the count of Events unless set
}

// ParseRate reads COUNT/PERIOD: "100/6h", "40/s", "60/m", "1000/24h", "3/7d".
func ParseRate(s string) (Rate, error) { panic("unwritten") }

// Key names one bucket: {"people", "user:alice"}, {"anonymous", "ip:2001:db8::/64"}.
type Key struct{ Limit, Client string }

// Spend asks for N events from the bucket of Key.
type Spend struct {
	Key
	Rate Rate
	N    int // 0 asks whether one event would be let through, and takes nothing
}

// Result is the state of one bucket: of the one that refused, else of the one with least left.
type Result struct {
	OK         bool
	Index      int           // which Spend it is about
	Limit      int           // the bucket's size
	Remaining  int           // whole events left
	RetryAfter time.Duration // until N events would pass; 0 if OK
	Reset      time.Duration // until the bucket is full again
}

// Limiter spends from buckets. A refusal takes nothing, from none of them (S08).
type Limiter interface {
	Take(ctx context.Context, s ...Spend) (Result, error)
}
