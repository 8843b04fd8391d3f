package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Refreshing gives refresh tokens and takes them. It belongs to the process and
// outlives reloads.
type Refreshing struct {
	store RefreshStore
	cache *Cache
	now   func() time.Time
	ended *lru.Cache[RefreshHash, struct{}] // here, lately: what the cache remembers of them counts no more

	mu   sync.Mutex
	uses map[RefreshHash]time.Time // not noted yet
}

// NewRefreshing keeps them in store. What they stand for is remembered in cache.
func NewRefreshing(store RefreshStore, cache *Cache, now func() time.Time) *Refreshing {
	r := &Refreshing{store: store, cache: cache, now: now, uses: map[RefreshHash]time.Time{}}
	r.ended, _ = lru.New[RefreshHash, struct{}](MaxRefreshTokens / 10) // fails for sizes below one only
	return r
}

// Give makes a token for id, whose login has just been proven, to be used at t.Host
// by t.Client; from where it was asked for is t.Addr. When it returns the token is
// kept. The secret is to be given to that client alone and kept nowhere. Nobody
// gets one whom by cannot tell of now: it would be good for nothing.
func (r *Refreshing) Give(ctx context.Context, by Renewer, id *Identity, t RefreshToken) (secret string, hash RefreshHash, err error) {
	short, cancel := context.WithTimeout(ctx, maxRefreshTry)
	defer cancel()
	if _, err := by.Renew(short, *id); err != nil {
		return "", hash, err
	}
	secret = newSecret(refreshPrefix)
	t.Hash = HashRefresh(secret)
	t.User, t.Via, t.Proof, t.Epoch = id.Name, id.Via, id.Proof, id.Epoch
	t.Created = r.now().UTC().Truncate(time.Second)
	t.Used = t.Created
	t.Client = strings.ToValidUTF8(t.Client[:min(len(t.Client), MaxRefreshClient)], "") // half a letter would be written as more bytes than it has
	if _, err := ParseRefresh(FormatRefresh(t)); err != nil {
		return "", hash, fmt.Errorf("it could not be read again: %w", err) // and with it nobody's
	}
	if err := r.store.Add(ctx, t); err != nil {
		return "", hash, err
	}
	// Whoever ends all of a user's may have looked just before.
	if r.cache.Epoch(t.User) > t.Epoch {
		_, err := r.End(ctx, t.Hash)
		return "", hash, errors.Join(ErrRevoked, err)
	}
	return secret, t.Hash, nil
}

// Login is whom a refresh token stands for at c.Host: as Cache.Login, but that
// nobody's password is asked for, and by says who the user is now. A token that
// was ended here counts no more at once, another instance's within t.TTL.
func (r *Refreshing) Login(ctx context.Context, by Renewer, c Credential, t CacheTimes, g Guard) (id Identity, hit bool, err error) {
	id, hit, err = r.cache.Login(ctx, &renewal{r, by}, c, t, g)
	if err != nil {
		return Identity{}, hit, err
	}
	hash := HashRefresh(c.Secret())
	if r.ended.Contains(hash) {
		return Identity{}, hit, noRefresh("it was revoked")
	}
	if !by.Current(&id) { // remembered, and changed since
		return Identity{}, hit, changed(&id)
	}
	r.used(hash)
	return id, hit, nil
}

// used is noted later: a use costs nobody a write.
func (r *Refreshing) used(hash RefreshHash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.uses[hash]; ok || len(r.uses) < MaxRefreshTokens {
		r.uses[hash] = r.now()
	}
}

// Note has the store know of all uses until now.
func (r *Refreshing) Note(ctx context.Context) error {
	r.mu.Lock()
	uses := r.uses
	r.uses = map[RefreshHash]time.Time{}
	r.mu.Unlock()
	if len(uses) == 0 {
		return nil
	}
	err := r.store.Use(ctx, uses)
	if err != nil { // those that came meanwhile are later
		r.mu.Lock()
		defer r.mu.Unlock()
		maps.Copy(uses, r.uses)
		r.uses = uses
	}
	return err
}

// Of lists a user's, or all with "".
func (r *Refreshing) Of(ctx context.Context, user string) ([]RefreshToken, error) {
	noted := r.Note(ctx)
	all, err := r.store.Of(ctx, user)
	return all, errors.Join(err, noted)
}

// Sweep forgets those that are gone for want of use and says how many are left.
func (r *Refreshing) Sweep(ctx context.Context) (int, error) { return r.store.Sweep(ctx) }

// End ends some and says how many that were.
func (r *Refreshing) End(ctx context.Context, hashes ...RefreshHash) (int, error) {
	for _, h := range hashes {
		r.ended.Add(h, struct{}{})
	}
	return r.store.Delete(ctx, hashes...)
}

// EndBefore ends those that revocations have ended, of users before a time, "" of
// everybody: they are not taken any more as it is, but a revocation is forgotten.
func (r *Refreshing) EndBefore(ctx context.Context, revoked map[string]time.Time) (int, error) {
	users := slices.Collect(maps.Keys(revoked))
	if _, everybody := revoked[""]; everybody || len(users) > 10 { // one long list costs less then
		users = []string{""}
	}
	var some []RefreshHash
	for _, user := range users {
		all, err := r.store.Of(ctx, user)
		if err != nil {
			return 0, err
		}
		for i := range all {
			if endedAt(revoked, all[i].User) > all[i].Epoch {
				some = append(some, all[i].Hash)
			}
		}
	}
	if len(some) == 0 {
		return 0, nil
	}
	return r.End(ctx, some...)
}

// endedAt is the epoch that ended what was proven of a user, 0 for none.
func endedAt(revoked map[string]time.Time, user string) (epoch Epoch) {
	for _, name := range []string{user, ""} {
		if at, ok := revoked[name]; ok {
			epoch = max(epoch, Epoch(at.UnixMilli()))
		}
	}
	return epoch
}

// maxRefreshTry bounds what a login waits for besides: who gets no token keeps the
// password.
const maxRefreshTry = 3 * time.Second

// renewal is the Authenticator that a refresh token is asked of.
type renewal struct {
	*Refreshing
	by Renewer
}

// Authenticate finds the token and has its user looked up.
func (n *renewal) Authenticate(ctx context.Context, c Credential) (Identity, error) {
	if c.Kind != Refresh {
		return Identity{}, ErrNotMine
	}
	if !IsRefreshToken(c.Secret()) {
		return Identity{}, noRefresh("it has not the form of one")
	}
	t, err := n.store.Get(ctx, HashRefresh(c.Secret()))
	switch {
	case errors.Is(err, ErrRejected):
		return Identity{}, noRefresh("there is none such: it was revoked, or not used for a long time, or never given")
	case err != nil:
		return Identity{}, fmt.Errorf("refresh tokens: %w", err)
	case t.Host != c.Host:
		return Identity{}, noRefresh("it is for " + t.Host)
	case n.cache.Epoch(t.User) > t.Epoch:
		return Identity{}, noRefresh("a revocation of " + shorten(t.User) + " has ended it")
	case t.Over(n.now()):
		return Identity{}, noRefresh("it was not used for a long time")
	}
	id, err := n.by.Renew(ctx, Identity{Name: t.User, Via: t.Via, Proof: t.Proof})
	if errors.Is(err, ErrNotMine) {
		return Identity{}, changed(&Identity{Name: t.User, Via: t.Via})
	}
	return id, err
}

// Proof is the hostname: a token asked about at two is two questions.
func (n *renewal) Proof(c Credential) []byte { return []byte(c.Host) }

// Remote: it waits, and computes nothing.
func (n *renewal) Remote() bool { return true }

// Named is for logs and metrics.
func (n *renewal) Named() string { return viaRefresh }

const viaRefresh = "refresh"

func noRefresh(reason string) *Rejection {
	return &Rejection{Via: viaRefresh, Reason: reason, Word: WrongToken}
}
