package fleet

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ErrNotShared is a change that holds here, and that the other instances could
// not be told. They are told as soon as Redis is back.
var ErrNotShared = errors.New("holds here, but the other instances could not be told yet")

// Revocation ends what was proven of one user before At.
type Revocation struct {
	User  string // "" is everybody
	At    time.Time
	Until time.Time // when it may be forgotten
}

// revocation is one of a user that we know of.
type revocation struct {
	at     int64 // Unix milliseconds; the latest counts
	until  time.Time
	unsent bool
}

// maxEpoch is the latest time that JSON, Lua and Go write alike.
const maxEpoch = 1<<53 - 1

// Revoke ends what was proven of user until at: here at once, whatever Redis
// says, and on every other instance as soon as it can be told. "" is everybody.
// The zero time is now; the time is moved behind an earlier revocation of the
// same user, so that each ends what came since. ErrNotShared says that others do
// not know yet.
func (f *Fleet) Revoke(ctx context.Context, user string, at time.Time) error {
	if !plain(user) {
		return fmt.Errorf("revocation of %.32q: no plain text of at most %d bytes", user, MaxText)
	}
	now := f.o.Now()
	if at.IsZero() {
		at = now
	}
	f.mu.Lock()
	ms := at.UnixMilli()
	if had, ok := f.revoked[f.place(user)]; ok {
		ms = max(ms, had.at+1)
	}
	if ms <= 0 || ms > maxEpoch {
		f.mu.Unlock()
		return fmt.Errorf("revocation of %q: %v is no time to revoke at", user, at)
	}
	one, _ := f.raise(user, revocation{ms, now.Add(f.o.Keep), f.o.Client != nil})
	f.mu.Unlock()
	f.tellRevoked([]Revocation{one})
	kept := f.save()
	err := f.pass(ctx)
	f.mu.Lock()
	unsent := f.revoked[one.User].unsent
	f.mu.Unlock()
	switch {
	case unsent:
		return fmt.Errorf("revocation of %q: %w: %s", user, ErrNotShared, words(err))
	case kept != nil:
		return fmt.Errorf("revocation of %q: a restart would forget it: %w", user, kept)
	}
	return nil
}

// Revocations are those in force, in no order.
func (f *Fleet) Revocations() []Revocation {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Revocation
	for user, r := range f.revoked {
		list = append(list, r.told(user))
	}
	return list
}

func (r revocation) told(user string) Revocation {
	return Revocation{user, time.UnixMilli(r.at), r.until}
}

// place is whom a revocation of user is kept for: with no more room, everybody.
// f.mu is held.
func (f *Fleet) place(user string) string {
	if _, ok := f.revoked[user]; !ok && len(f.revoked) >= MaxRevocations {
		return ""
	}
	return user
}

// raise keeps a revocation unless a later one is known. f.mu is held.
func (f *Fleet) raise(user string, r revocation) (told Revocation, raised bool) {
	user = f.place(user)
	had := f.revoked[user]
	if r.at <= had.at {
		return had.told(user), false
	}
	if r.until.Before(had.until) {
		r.until = had.until
	}
	r.unsent = r.unsent || had.unsent
	f.revoked[user] = r
	return r.told(user), true
}

func (f *Fleet) tellRevoked(list []Revocation) {
	if len(list) > 0 && f.o.OnRevoked != nil {
		f.o.OnRevoked(list)
	}
}

// batch is how many revocations one call sends or reads.
const batch = 200

// sendRevocations tells the others of some users. anew moves each behind what
// they know: a revocation that was made while they could not be asked ends what
// they have proven meanwhile. Otherwise it is put back as it was.
func (f *Fleet) sendRevocations(ctx context.Context, users []string, anew bool) error {
	for len(users) > 0 {
		some := users[:min(batch, len(users))]
		users = users[len(some):]
		args := []any{f.keys.channel, MaxRevocations, flag(anew)}
		now := f.o.Now()
		var sent []string
		var ats []int64
		f.mu.Lock()
		for _, user := range some {
			if r := f.revoked[user]; now.Before(r.until) {
				args = append(args, user, r.at, r.until.Sub(now).Milliseconds()+1)
				sent, ats = append(sent, user), append(ats, r.at)
			}
		}
		f.mu.Unlock()
		if len(sent) == 0 {
			continue
		}
		answer, err := f.call(ctx, revokeScript, f.keys.revocations(), args...)
		if err != nil {
			return err
		}
		if len(answer) != 1+len(sent) {
			return errNonsense
		}
		if err := f.tookRevocations(sent, ats, answer); err != nil {
			return err
		}
	}
	return nil
}

// tookRevocations reads at which times they were taken.
func (f *Fleet) tookRevocations(sent []string, ats []int64, answer []string) error {
	var raised []Revocation
	defer func() { f.tellRevoked(raised) }()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, user := range sent {
		at, err := strconv.ParseInt(answer[1+i], 10, 64)
		if err != nil || at <= 0 || at > maxEpoch {
			return errNonsense
		}
		r := f.revoked[user]
		if r.at == ats[i] { // else there is one more to be sent
			r.unsent = false
		}
		if at > r.at {
			r.at = at
			raised = append(raised, r.told(user))
		}
		f.revoked[user] = r
	}
	f.head.sequence(answer[0])
	return nil
}

// unsentRevocations are those the others have not been told.
func (f *Fleet) unsentRevocations() (users []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for user, r := range f.revoked {
		if r.unsent {
			users = append(users, user)
		}
	}
	return users
}

// readRevocations takes over those of the others, and puts back those that only
// we know of: Redis has lost them.
func (f *Fleet) readRevocations(ctx context.Context) (learned int, err error) {
	there := map[string]bool{}
	for start := 0; start <= 2*MaxRevocations; start += batch {
		answer, err := f.call(ctx, revokedScript, f.keys.revocations(), start, start+batch-1, MaxText)
		if err != nil {
			return learned, err
		}
		if len(answer)%3 != 1 {
			return learned, errNonsense
		}
		learned += f.takeRevocations(answer[1:], there)
		if answer[0] != strconv.Itoa(batch) {
			break
		}
	}
	var lost []string
	f.mu.Lock()
	for user, r := range f.revoked {
		if !there[user] && !r.unsent {
			lost = append(lost, user)
		}
	}
	f.mu.Unlock()
	return learned, f.sendRevocations(ctx, lost, false)
}

// takeRevocations takes user, time and what is left of each, in milliseconds.
func (f *Fleet) takeRevocations(triples []string, there map[string]bool) int {
	var raised []Revocation
	now, unread := f.o.Now(), 0
	f.mu.Lock()
	for ; len(triples) > 0; triples = triples[3:] {
		user := triples[0]
		at, err := strconv.ParseInt(triples[1], 10, 64)
		left, leftErr := milliseconds(triples[2], 10*f.o.Keep)
		if err != nil || leftErr != nil || at <= 0 || at > maxEpoch || !plain(user) {
			unread++
			continue
		}
		there[user] = true
		if one, ok := f.raise(user, revocation{at: at, until: now.Add(left)}); ok {
			raised = append(raised, one)
		}
	}
	f.mu.Unlock()
	f.nonsense(unread, "revocations that cannot be read")
	f.tellRevoked(raised)
	return len(raised)
}
