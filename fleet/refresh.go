package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// RefreshOptions say how a Refresh is made.
type RefreshOptions struct {
	Client redis.UniversalClient
	Prefix string // of every key, as in Options

	// Ask makes one call to Redis: with a deadline, and not at all while Redis is
	// known to be down.
	Ask func(ctx context.Context, call func(context.Context) error) error

	Life     time.Duration // of one without a use
	Idle     time.Duration // without a use, after which it may make room
	Most     int           // of all
	MostUser int           // of one user
}

// Refresh keeps refresh tokens in Redis for all instances: what one has given,
// each takes, and what one has ended none does. What is kept is a text that it
// does not read. Times of use are by Redis' clock.
type Refresh struct {
	o    RefreshOptions
	keys []string
}

// RefreshRecord is a refresh token as it is kept.
type RefreshRecord struct {
	Hash string // of the token, 64 letters at most
	User string
	Text string        // all else
	Idle time.Duration // since the last use
}

// Errors of a Refresh; any other one says that Redis could not be asked.
var (
	ErrNoRefresh   = errors.New("there is no such refresh token")
	ErrRefreshFull = errors.New("there are as many refresh tokens as there may be")
)

const (
	maxRefreshText = 4 << 10 // bytes of a record
	refreshBatch   = 500     // records or hashes of one call
	maxIdle        = int64(math.MaxInt64 / time.Millisecond)
)

// NewRefresh asks nothing yet.
func NewRefresh(o RefreshOptions) *Refresh { return &Refresh{o, refreshKeys(o.Prefix)} }

func (r *Refresh) call(ctx context.Context, s *redis.Script, args ...any) (answer []string, err error) {
	err = r.o.Ask(ctx, func(ctx context.Context) (err error) {
		answer, err = run(ctx, r.o.Client, s, r.keys, args...)
		return err
	})
	return answer, err
}

// Get finds one by its hash.
func (r *Refresh) Get(ctx context.Context, hash string) (RefreshRecord, error) {
	answer, err := r.call(ctx, refreshGetScript, hash, r.o.Life.Milliseconds(), maxRefreshText)
	switch {
	case err != nil:
		return RefreshRecord{}, err
	case len(answer) == 0:
		return RefreshRecord{}, ErrNoRefresh
	case len(answer) != 3:
		return RefreshRecord{}, errNonsense
	}
	return record(hash, answer[0], answer[1], answer[2])
}

func record(hash, user, text, since string) (RefreshRecord, error) {
	ms, err := strconv.ParseInt(since, 10, 64)
	if err != nil || ms < 0 || ms > maxIdle {
		return RefreshRecord{}, errNonsense
	}
	return RefreshRecord{hash, user, text, time.Duration(ms) * time.Millisecond}, nil
}

// Add keeps one, as used now. ErrRefreshFull says that it is not kept.
func (r *Refresh) Add(ctx context.Context, t RefreshRecord) error {
	if !plain(t.User) || t.User == "" || len(t.User)+1+len(t.Text) > maxRefreshText {
		return fmt.Errorf("refresh token of %.32q: too long, or no name", t.User)
	}
	answer, err := r.call(ctx, refreshAddScript, t.Hash, t.User, t.Text,
		r.o.Life.Milliseconds(), r.o.Most, r.o.MostUser, r.o.Idle.Milliseconds())
	switch {
	case err != nil:
		return err
	case slices.Equal(answer, []string{"full"}):
		return ErrRefreshFull
	case !slices.Equal(answer, []string{"1"}):
		return errNonsense
	}
	return nil
}

// Use notes for how long some have not been used, by their hashes.
func (r *Refresh) Use(ctx context.Context, idle map[string]time.Duration) error {
	for some := range slices.Chunk(slices.Collect(maps.Keys(idle)), refreshBatch) {
		args := []any{r.o.Life.Milliseconds()}
		for _, hash := range some {
			args = append(args, hash, max(0, idle[hash].Milliseconds()))
		}
		if _, err := r.call(ctx, refreshUseScript, args...); err != nil {
			return err
		}
	}
	return nil
}

// Delete ends those there are and says how many that were.
func (r *Refresh) Delete(ctx context.Context, hashes ...string) (n int, err error) {
	for some := range slices.Chunk(hashes, refreshBatch) {
		args := make([]any, len(some))
		for i, hash := range some {
			args[i] = hash
		}
		answer, err := r.call(ctx, refreshDeleteScript, args...)
		if err != nil {
			return n, err
		}
		if len(answer) != 1 {
			return n, errNonsense
		}
		some, err := strconv.Atoi(answer[0])
		if err != nil {
			return n, errNonsense
		}
		n += some
	}
	return n, nil
}

// Of lists a user's, or all with "".
func (r *Refresh) Of(ctx context.Context, user string) ([]RefreshRecord, error) {
	if user != "" {
		if !plain(user) {
			return nil, nil
		}
		answer, err := r.call(ctx, refreshOfScript, user, 2*r.o.MostUser, maxRefreshText)
		if err != nil {
			return nil, err
		}
		return records(nil, answer)
	}
	there := map[string]RefreshRecord{}
	for at := "0"; ; {
		answer, err := r.call(ctx, refreshScanScript, at, refreshBatch, maxRefreshText)
		if err != nil {
			return nil, err
		}
		if len(answer) == 0 {
			return nil, errNonsense
		}
		some, err := records(nil, answer[1:])
		if err != nil {
			return nil, err
		}
		for _, one := range some {
			there[one.Hash] = one
		}
		if at = answer[0]; at == "0" || len(there) > 2*r.o.Most {
			return slices.Collect(maps.Values(there)), nil
		}
	}
}

func records(all []RefreshRecord, answer []string) ([]RefreshRecord, error) {
	if len(answer)%4 != 0 {
		return nil, errNonsense
	}
	for ; len(answer) > 0; answer = answer[4:] {
		one, err := record(answer[0], answer[1], answer[2], answer[3])
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// Sweep forgets those that are over and says how many are left.
func (r *Refresh) Sweep(ctx context.Context) (left int, err error) {
	for range 1 + r.o.Most/refreshBatch {
		answer, err := r.call(ctx, refreshSweepScript, r.o.Life.Milliseconds(), refreshBatch)
		if err != nil {
			return 0, err
		}
		if len(answer) != 2 {
			return 0, errNonsense
		}
		if left, err = strconv.Atoi(answer[1]); err != nil {
			return 0, errNonsense
		}
		if answer[0] != strconv.Itoa(refreshBatch) {
			break
		}
	}
	return left, nil
}
