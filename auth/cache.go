package auth

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// CacheTimes bound how long an outcome of a login is believed. Stale is how long
// after it was proven a login is good while nobody can say whether it still is;
// 0 for never.
type CacheTimes struct{ TTL, NegativeTTL, Stale time.Duration }

// Cache is the LRU of auth decisions. It belongs to the process and outlives
// reloads. Proven and rejected logins live apart, so that a flood of wrong
// passwords cannot push the good ones out.
type Cache struct {
	now  func() time.Time
	key  [32]byte // of this process: what the keys below are made with
	wait time.Duration

	proven   shards[proven]
	good     shards[proven] // when a login was last proven from a source: there it is not locked out
	rejected shards[rejection]
	tokens   shards[*Identity]
	forged   shards[struct{}] // tokens with a wrong signature

	revoked revoked

	hashing   *slots // a core for each
	asking    kinds  // of Remote providers, by their names
	followers atomic.Int64
	flights   flights

	hits, misses, stale atomic.Uint64
	checks              checks
	buffers             sync.Pool
}

// proven is a login that was good at a time.
type proven struct {
	id   Identity
	by   string // the provider that said so, as Named has it
	at   time.Time
	lost time.Time // when it was last asked about in vain
}

// rejection is a login that was wrong at a time.
type rejection struct {
	err error
	at  time.Time
}

// goodOf keeps of id no more than a revocation asks for.
func goodOf(id Identity, at time.Time) proven {
	return proven{id: Identity{Name: id.Name, Epoch: id.Epoch}, at: at}
}

// cacheKey is a keyed hash: what is in it cannot be read from it.
type cacheKey [sha256.Size]byte

// NewCache holds at most size proven logins, size rejected ones and size
// verified tokens, each rounded up to a multiple of the 16 parts they are kept
// in. now is the clock.
func NewCache(size int, now func() time.Time) *Cache {
	k := &Cache{
		now:      now,
		wait:     MaxLoginWait,
		proven:   newShards[proven](size),
		good:     newShards[proven](size),
		rejected: newShards[rejection](size),
		tokens:   newShards[*Identity](size),
		forged:   newShards[struct{}](MaxBadTokens),
		hashing:  newSlots(max(1, runtime.GOMAXPROCS(0)/2)),
		flights:  flights{under: map[cacheKey]*flight{}},
		buffers:  sync.Pool{New: func() any { return new([]byte) }},
	}
	k.revoked.now = now
	k.revoked.table.Store(&revocations{})
	_, _ = rand.Read(k.key[:]) // never fails
	return k
}

// Resize changes how much is kept; what is too much goes, the oldest first.
func (k *Cache) Resize(size int) {
	k.proven.resize(size)
	k.good.resize(size)
	k.rejected.resize(size)
	k.tokens.resize(size)
}

// Stats counts the answers that were known and those that had to be found, of
// logins and tokens together, and what is held.
func (k *Cache) Stats() (hits, misses uint64, proven, rejected, tokens int) {
	return k.hits.Load(), k.misses.Load(), k.proven.len(), k.rejected.len(), k.tokens.len()
}

// Stale counts the logins that were let in because nobody could say whether they
// were still good.
func (k *Cache) Stale() uint64 { return k.stale.Load() }

// Login asks by for c unless the answer is known: one flight per credential,
// at most half of the cores (one at least) hashing, at most MaxRemoteLogins
// questions of each Remote provider under way, a bounded queue before each
// (ErrBusy). hit says that the answer was known, or is that of a check which
// another one began.
//
// The guard is asked by whoever begins a check, once it is their turn, and its
// refusal is theirs alone: who waited for the same check asks for itself. It is
// asked for an answer that is known, too: else who is locked out could go on
// guessing until a guess is one that somebody else has proven, and faster than
// before. It is not asked for a login proven from the same source within
// GoodBefore. A check goes on when the one who began it is gone. Without by
// (nil) nobody can log in. What was proven before a revocation is asked again.
//
// When by cannot be asked (ErrUnavailable, ErrBusy, no time left), what it said
// last is good until Stale after it said so, groups included; not what was
// rejected or revoked since. It is not asked again about that login within
// NegativeTTL.
//
// An ErrRejected is a *Rejection, and what kept a provider from finding out is an
// *Unsaid.
func (k *Cache) Login(ctx context.Context, by Authenticator, c Credential, t CacheTimes, g Guard) (id Identity, hit bool, err error) {
	if c.Kind == None {
		return Identity{}, false, ErrNotMine
	}
	if by == nil {
		return Identity{}, false, ErrRejected
	}
	l := login{Cache: k, key: k.loginKey(by, c), by: by, c: c, times: t, guard: g}
	l.here = k.sourceKey(l.key, g)
	for {
		if id, err, known := l.known(); known {
			k.hits.Add(1)
			if err == nil {
				id, err = l.share(id)
			}
			return id, true, err
		}
		l.c.Known = l.spared()
		f, leads := k.flights.join(l.key)
		if leads {
			k.misses.Add(1)
			go l.fly(context.WithoutCancel(ctx), f)
		} else if k.followers.Add(1) > MaxLoginFollowers {
			k.followers.Add(-1)
			return Identity{}, false, ErrBusy
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if !leads {
			k.followers.Add(-1)
		}
		if err != nil {
			return Identity{}, false, err
		}
		switch {
		case f.err == nil && l.revoked.ended(&f.id):
			continue // revoked while it was checked, or while we waited: asked again
		case leads:
			return f.id, false, f.err
		case f.err == nil:
			id, err = l.share(f.id)
			return id, true, err
		case !f.refused && !l.mayDo(f):
			return Identity{}, true, f.err
		}
		// The leader was refused for its own sake. Ask for ours before trying.
		if err := l.admit(); err != nil {
			return Identity{}, false, err
		}
	}
}

// login is one question on its way.
type login struct {
	*Cache
	key   cacheKey
	here  cacheKey // key, from this source
	by    Authenticator
	c     Credential
	times CacheTimes
	guard Guard
}

// known is the answer that is remembered. The clock is read after the entry,
// so that one made this moment is not from the future.
func (l *login) known() (id Identity, err error, ok bool) {
	if p, ok := l.proven.get(l.key); ok {
		now := l.now()
		if fresh(p.at, now, l.times.TTL) && l.holds(&p.id, now) {
			return p.id, nil, true
		}
		if fresh(p.lost, now, l.times.NegativeTTL) && fresh(p.at, now, l.times.Stale) && l.holds(&p.id, now) {
			l.stale.Add(1)
			return p.id, nil, true
		}
	}
	if r, ok := l.rejected.get(l.key); ok && fresh(r.at, l.now(), l.times.NegativeTTL) {
		return Identity{}, r.err, true
	}
	return Identity{}, nil, false
}

// holds is false once id is over by itself or by a revocation.
func (l *login) holds(id *Identity, now time.Time) bool {
	return (id.Expires.IsZero() || now.Before(id.Expires)) && !l.revoked.ended(id)
}

// outage reports whether nobody could be asked, not whether somebody who was asked
// would not say.
func outage(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrBusy) || errors.Is(err, context.DeadlineExceeded)
}

// past is what was last proven, for want of anybody who could say what is now.
// Those who have passed the login on just now could: what one of them proved is
// over, whoever behind it is away.
func (l *login) past(passed []string) (id Identity, ok bool) {
	now := l.now()
	p, ok := l.proven.get(l.key)
	if !ok || !fresh(p.at, now, l.times.Stale) || !l.holds(&p.id, now) || p.by != "" && slices.Contains(passed, p.by) {
		return Identity{}, false
	}
	p.lost = now
	l.proven.add(l.key, p)
	l.stale.Add(1)
	return p.id, true
}

// fresh is false before at as well: a clock that was set back proves nothing.
func fresh(at, now time.Time, ttl time.Duration) bool {
	age := now.Sub(at)
	return 0 <= age && age < ttl
}

func (l *login) admit() error {
	if l.guard == nil || l.spared() || sure(links(l.by), l.c) {
		return nil
	}
	return l.guard.Admit(l.c)
}

// spared reports a login proven from the same source not long ago.
func (l *login) spared() bool {
	p, ok := l.good.get(l.here)
	return ok && fresh(p.at, l.now(), GoodBefore) && !l.revoked.ended(&p.id)
}

// mayDo reports whether we could find out what the leader of f could not: a
// provider may have asked nobody because that login came from a stranger.
func (l *login) mayDo(f *flight) bool {
	return l.c.Known && !f.known && !errors.Is(f.err, ErrRejected) && !errors.Is(f.err, ErrBusy)
}

// share gives out what another request has proven, to who is admitted.
func (l *login) share(id Identity) (Identity, error) {
	if err := l.admit(); err != nil {
		return Identity{}, err
	}
	if p, ok := l.good.get(l.here); !ok || l.revoked.ended(&p.id) {
		l.good.add(l.here, goodOf(id, l.now()))
	}
	return id, nil
}

// fly finds the answer for everybody who waits for it.
func (l *login) fly(ctx context.Context, f *flight) {
	defer l.flights.land(l.key, f)
	defer func() {
		// Not in a request's goroutine: nothing above would catch it, and one
		// login's trouble must not end everybody's transfers.
		if r := recover(); r != nil {
			f.id, f.err = Identity{}, errors.New("the check of a login panicked")
		}
	}()
	if id, err, known := l.known(); known { // between our look and our lead
		if f.id, f.err = id, err; err == nil {
			f.id, f.err = l.share(id)
			f.refused = f.err != nil
		}
		return
	}
	f.known = l.c.Known
	f.id, f.refused, f.err = l.ask(ctx)
}

// ask has the providers check, and remembers yes and no, but not "could not
// find out" nor what the guard says about this one (refused). Where they could
// not find out, what they said last counts for as long as it may, to who is
// admitted: the check may have ended before the guard was asked.
//
// The revocations are those from before the check: one that comes meanwhile
// ends what the check proves.
func (l *login) ask(ctx context.Context) (id Identity, refused bool, err error) {
	before := *l.revoked.table.Load()
	id, asked, refused, err := l.check(ctx)
	id.Epoch = before.of(id.Name)
	switch now := l.now(); {
	case refused:
		return Identity{}, true, err
	case err == nil:
		l.rejected.remove(l.key)
		l.proven.add(l.key, proven{id: id, by: asked[len(asked)-1], at: now})
		l.good.add(l.here, goodOf(id, now))
		return id, false, nil
	case errors.Is(err, ErrRejected), errors.Is(err, ErrNotMine), errors.Is(err, ErrMalformed):
		l.proven.remove(l.key)
		l.good.remove(l.here)
		if l.guard != nil && sure(links(l.by), l.c) { // it was not admitted before
			if err := l.guard.Admit(l.c); err != nil {
				return Identity{}, true, err
			}
		}
		wrong := (*Rejection)(nil)
		if !errors.As(err, &wrong) {
			wrong = unknown(l.c)
		}
		l.rejected.add(l.key, rejection{wrong, now})
		if l.guard != nil {
			l.guard.Failed(l.c)
		}
		return Identity{}, false, wrong
	}
	if outage(err) {
		if last, ok := l.past(asked[:max(0, len(asked)-1)]); ok {
			id, err := l.share(last)
			return id, err != nil, err
		}
	}
	return Identity{}, false, err
}

// check asks the providers one after the other, as a Chain does, but each with
// a slot of its own kind: who waits for the network must not keep a core.
// asked are their names, the last one's who had the word last.
func (l *login) check(ctx context.Context) (id Identity, asked []string, refused bool, err error) {
	all := concerned(nil, links(l.by), l.c)
	if len(all) == 0 {
		err := l.admit()
		return Identity{}, nil, err != nil, cmp.Or[error](err, ErrNotMine)
	}
	ctx, cancel := context.WithTimeout(ctx, timeFor(all))
	defer cancel()
	for _, one := range all {
		asked = append(asked, named(one))
		if id, refused, err = l.checkBy(ctx, one); refused || !errors.Is(err, ErrNotMine) {
			break
		}
	}
	return id, asked, refused, err
}

// timeFor is how long all of them may take together.
func timeFor(all []Authenticator) time.Duration {
	if slices.ContainsFunc(all, remote) {
		return MaxRemoteTime
	}
	return MaxLoginTime
}

func (l *login) checkBy(ctx context.Context, by Authenticator) (id Identity, refused bool, err error) {
	if kind := l.slotsOf(by); kind != nil {
		if err := kind.acquire(ctx, l.wait); err != nil {
			return Identity{}, false, err
		}
		defer kind.release()
	}
	if err := l.admit(); err != nil {
		return Identity{}, true, err
	}
	id, err = by.Authenticate(ctx, l.c)
	err = l.checks.note(named(by), err)
	return id, false, err
}

// slotsOf are those that a provider's checks wait for: nil for none. Each that is
// asked over the network has its own, lest one that is away holds up the others.
func (k *Cache) slotsOf(by Authenticator) *slots {
	switch {
	case quick(by):
		return nil
	case remote(by):
		return k.asking.of(named(by))
	}
	return k.hashing
}

// loginKey is an HMAC over fields with their lengths: a moved separator, or
// what proves the login changed, is another key.
func (k *Cache) loginKey(by Authenticator, c Credential) (key cacheKey) {
	mac := hmac.New(sha256.New, k.key[:])
	mac.Write([]byte{byte(c.Kind)})
	for _, field := range [][]byte{[]byte(c.User), []byte(c.Secret()), by.Proof(c)} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(field)))
		mac.Write(n[:])
		mac.Write(field)
	}
	mac.Sum(key[:0])
	return key
}

// sourceKey is a login's key from one source.
func (k *Cache) sourceKey(key cacheKey, g Guard) cacheKey {
	if g == nil {
		return key
	}
	source := g.Source()
	b := make([]byte, 0, 2*sha256.Size+64)
	b = append(append(append(b, k.key[:]...), key[:]...), source...)
	return sha256.Sum256(b)
}
