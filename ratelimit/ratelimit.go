// Package ratelimit answers one question: how often, how much, how many at once?
//
// A Limiter knows keys and rates and nothing of requests, users or rules.
package ratelimit

import (
	"context"
	"errors"
	"time"
)

// ErrUnavailable reports that a Limiter could not find out: it is down, slow, or
// answered nonsense. An error that is not this one says that the question made
// no sense, or that the context ended.
var ErrUnavailable = errors.New("ratelimit: limiter cannot be asked")

// ErrBusy reports that more is asked, or held, at once than one process may: too
// much work here, which says nothing of the Limiter.
var ErrBusy = errors.New("ratelimit: too much is asked at once")

// ErrNoBucket reports a Reset of what nothing was spent from.
var ErrNoBucket = errors.New("ratelimit: nothing is used up there")

// ErrIncomplete reports a List that gave up before it had seen every bucket;
// what it had seen comes with it.
var ErrIncomplete = errors.New("ratelimit: not every bucket was looked at")

// Shared is the Client of the bucket of those for whom there was no place.
const Shared = "*"

// Key names one bucket: {"people", "user:alice"}, {"anonymous", "ip:2001:db8::/64"}.
type Key struct{ Limit, Client string }

// Spend asks for N events from the bucket of Key. A Rate other than the one the
// bucket had before changes the bucket and keeps what was spent from it.
type Spend struct {
	Key
	Rate Rate
	N    int // 0 asks whether one event would be let through, and takes nothing
}

// AnyPlace, as the Most of a Holding, takes a place however many are taken. List
// goes on to tell of how many the others were asked for.
const AnyPlace = 1<<31 - 1

// Holding asks for one place among Most. Most 0 is no limit.
type Holding struct {
	Key
	Most int
}

// Result is the state of one bucket: of the first that refused, else of the one
// with least left. If every Rate (every Most) asked for was zero there is no
// bucket to tell of: Result{OK: true, Index: -1}.
type Result struct {
	OK         bool
	Index      int           // which Spend or Holding it is about; -1 for none
	Limit      int           // the bucket's size
	Remaining  int           // whole events, or places, left
	RetryAfter time.Duration // until N events would pass; 0 if OK; the largest Duration if N is more than Limit
	Reset      time.Duration // until the bucket is full again
}

// Usage is what is used up of one bucket.
type Usage struct {
	Key                      // a long Client as "sha256:..."
	Rate       Rate          // as last asked with; zero where places are held
	Size       int           // of the bucket; of places, as last asked with
	Used       int           // events not back yet, rounded up, or places held; of bytes it may be more than Size
	RetryAfter time.Duration // until one event passes; 0 if one does now, and for places: nobody knows
	Reset      time.Duration // until nothing is used; 0 for places
}

// Limiter spends from buckets. A refusal takes nothing, from none of them, and
// makes nobody wait longer (S08).
//
// An error is neither a yes nor a refusal. Of events that were asked for when
// it came some may be taken.
type Limiter interface {
	// Take spends all of s, or nothing. An error says that the limiter could not
	// find out (ErrUnavailable), or that s makes no sense (a negative N, a Rate
	// that is not zero and not legal).
	Take(ctx context.Context, s ...Spend) (Result, error)

	// Pace spends all of s whatever is left and says how long to wait before what
	// it is for is done: the longest wait of the buckets, a minute at most. Whoever
	// asks again after each wait is held to the rate, and a rate that changed
	// between two calls holds from the second. A wait that is cut short gives
	// nothing back. N is a chunk, small beside the rate: ask often.
	Pace(ctx context.Context, s ...Spend) (wait time.Duration, err error)

	// Hold takes a place of each of h, or none, until release is called. release
	// is never nil, may be called again and from any goroutine, and does nothing
	// where nothing is held. RetryAfter and Reset of the Result are 0.
	Hold(ctx context.Context, h ...Holding) (release func(), r Result, err error)

	// List tells what is used up of a limit, or of all if limit is empty: the
	// fullest first, of equals the latest used, most entries at most. With
	// ErrIncomplete comes a part.
	List(ctx context.Context, limit string, most int) ([]Usage, error)

	// Reset forgives what was spent from k, a Key as it was spent from or as List
	// tells it. Places that are held stay held. ErrNoBucket if nothing was spent.
	Reset(ctx context.Context, k Key) error
}
