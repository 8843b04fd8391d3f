package auth

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	keysFresh    = 10 * time.Minute // until an issuer is asked whether they still are its keys
	keysKept     = 6 * time.Hour    // while it cannot be asked
	keysPace     = 10 * time.Second // between two fetches
	keysPatience = time.Second      // for newer ones, where one is there that may do
)

// errNoSuchKey is a key that the issuer does not have. It is not ErrRejected by
// itself: the token is.
var errNoSuchKey = errors.New("no such key")

// issuerKeys are the keys of one issuer: fetched when they are first wanted, when
// they are no longer fresh, and when a token names one that is not among them.
type issuerKeys struct {
	issuer string
	client *issuerClient
	now    func() time.Time

	mu    sync.Mutex
	keys  []publicKey
	at    time.Time     // when they were fetched
	tried time.Time     // when the last fetch began
	named time.Time     // when the last fetch for a key that is not there began
	err   error         // its end
	under chan struct{} // closed at the end of a fetch under way; nil without one
	held  int           // logins that wait for it
}

// find is every key that a token with this header may be signed with: of several
// with one name any will do, and without a name there has to be one alone. The
// error is errNoSuchKey, or why the issuer cannot be asked; ErrBusy if
// MaxKeyWaiters wait for that already.
func (k *issuerKeys) find(ctx context.Context, alg, kid string) ([]crypto.PublicKey, error) {
	for asked := false; ; asked = true {
		k.mu.Lock()
		now := k.now()
		var found []crypto.PublicKey
		if fresh(k.at, now, keysKept) {
			found = pick(k.keys, alg, kid)
		}
		if found != nil && (asked || fresh(k.at, now, keysFresh)) {
			k.mu.Unlock()
			return found, nil
		}
		if !asked && k.under == nil && k.due(found != nil, now) {
			k.under = make(chan struct{})
			go k.fetch(context.WithoutCancel(ctx), k.under)
		}
		under, err := k.under, k.err
		waits := under != nil && !asked
		full := waits && k.held >= MaxKeyWaiters
		if waits && !full {
			k.held++
		}
		k.mu.Unlock()
		switch {
		case full && found == nil:
			return nil, fmt.Errorf("issuer %s: its keys are being fetched: %w", k.issuer, ErrBusy)
		case waits && !full:
			there := wait(ctx, under, found != nil)
			k.mu.Lock()
			k.held--
			k.mu.Unlock()
			if !there && found == nil {
				return nil, fmt.Errorf("issuer %s: its keys are being fetched: %w", k.issuer, context.Cause(ctx))
			}
		case found != nil:
			return found, nil
		case err != nil:
			return nil, fmt.Errorf("issuer %s: %w", k.issuer, err)
		default:
			return nil, errNoSuchKey
		}
	}
}

// due reports whether the issuer is asked again, and notes that it is. A key that
// is not there may be one that was made since the last fetch, whenever that was;
// who makes up names of keys makes us ask once in keysPace. A clock that was set
// back is no reason to wait for it to come again.
func (k *issuerKeys) due(found bool, now time.Time) bool {
	last := &k.tried
	if !found && k.err == nil && !k.at.IsZero() {
		last = &k.named
	}
	if fresh(*last, now, keysPace) {
		return false
	}
	k.tried, *last = now, now
	return true
}

// wait reports whether done was closed in time.
func wait(ctx context.Context, done <-chan struct{}, brief bool) bool {
	var late <-chan time.Time
	if brief {
		timer := time.NewTimer(keysPatience)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-done:
		return true
	case <-late:
	case <-ctx.Done():
	}
	return false
}

func pick(keys []publicKey, alg, kid string) (found []crypto.PublicKey) {
	for i := range keys {
		if (kid == "" || keys[i].kid == kid) && keys[i].fits(alg) {
			found = append(found, keys[i].key)
		}
	}
	if kid == "" && len(found) > 1 {
		return nil
	}
	return found
}

// fetch asks the issuer for everybody who waits. What it cannot say leaves the
// keys in hand as they are.
func (k *issuerKeys) fetch(ctx context.Context, under chan struct{}) {
	var p published
	err := errors.New("reading its keys panicked")
	defer func() {
		_ = recover() // not in a request's goroutine: nothing above would catch it
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.err = err; err == nil {
			k.keys, k.at = p.keys, k.now()
		}
		k.under = nil
		close(under)
	}()
	p, err = k.client.fetch(ctx, k.issuer)
}
