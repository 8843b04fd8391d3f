package auth

import (
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// ErrRevoked is a token that a revocation of its user has ended. It is an
// ErrRejected.
var ErrRevoked = fmt.Errorf("token: ended by a revocation of its user: %w", ErrRejected)

// Revocation ends what was proven of a user before it: cached logins, tokens,
// and with them leases. Whoever can still log in may do so again at once.
type Revocation struct {
	User  string    // as Identity.Name has it; "" is everybody
	At    time.Time // to the millisecond; the latest one of a user is what counts
	Until time.Time // when no token from before is alive, so that it may be forgotten
}

// Epoch names the latest revocation of a user that was known when an identity
// was proven: its time in milliseconds, 0 for none. Tokens carry it. What
// carries an older one is ended, whatever the clocks of two instances say, and
// however long a check that began before the revocation took.
type Epoch int64

// revoked are the revocations in force. Every request with a token asks, hardly
// ever is there one: so it is read without a lock.
type revoked struct {
	now    func() time.Time
	change sync.Mutex
	table  atomic.Pointer[revocations] // never nil; what it points to is never changed
}

// revocations are by user; "" is everybody.
type revocations map[string]revocation

type revocation struct {
	at    Epoch
	until time.Time
}

// of is the epoch of who is proven now. Nobody in particular has none.
func (r revocations) of(user string) Epoch {
	if len(r) == 0 || user == "" {
		return 0
	}
	return max(r[user].at, r[""].at)
}

// Revoke ends what was proven of users before, at once: a request that comes
// after its return is answered by it. A revocation that is older than one that
// is known changes nothing. Of more than MaxRevoked users the newcomers end what
// was proven of everybody: too strict for a moment, never too lax.
func (k *Cache) Revoke(list ...Revocation) {
	r := &k.revoked
	r.change.Lock()
	defer r.change.Unlock()
	next, now := maps.Clone(*r.table.Load()), r.now()
	if next == nil {
		next = revocations{}
	}
	maps.DeleteFunc(next, func(_ string, one revocation) bool { return !now.Before(one.until) })
	for _, one := range list {
		user, at := one.User, Epoch(one.At.UnixMilli())
		if at <= 0 || !now.Before(one.Until) {
			continue
		}
		had, ok := next[user]
		if !ok && len(next) >= MaxRevoked {
			user = ""
			had = next[user]
		}
		if one.Until.Before(had.until) {
			one.Until = had.until
		}
		next[user] = revocation{max(at, had.at), one.Until}
	}
	r.table.Store(&next)
}

// Epoch is that of who is proven now by something that is in no cache.
func (k *Cache) Epoch(user string) Epoch { return k.revoked.table.Load().of(user) }

// Revoked is how many revocations are in force; the one of everybody counts as
// one.
func (k *Cache) Revoked() int { return len(*k.revoked.table.Load()) }

// ended reports whether a revocation came after id was proven. It does not
// allocate.
//
// A token of an instance that has not heard of the revocation carries no epoch.
// It is taken again from RevokedGrace after it: until then that instance has
// asked anew who the user is.
func (r *revoked) ended(id *Identity) bool {
	table := *r.table.Load()
	if len(table) == 0 {
		return false
	}
	at := table.of(id.Name)
	if at <= id.Epoch {
		return false
	}
	return id.Issued.IsZero() || id.Issued.UnixMilli() <= int64(at)+RevokedGrace.Milliseconds()
}
