package auth

import (
	"crypto/ecdsa"
	"errors"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// SetWait sets how long a login waits for its turn.
func (k *Cache) SetWait(d time.Duration) { k.wait = d }

// Slots is how many checks may run at once.
func (k *Cache) Slots() int { return cap(k.hashing.free) }

// Waiting is how many requests wait for a check that another one began.
func (k *Cache) Waiting() int { return int(k.followers.Load()) }

// Queued is how many checks wait for a slot.
func (k *Cache) Queued() int { return int(k.hashing.queued.Load()) }

// Asking is how many checks wait for an answer from elsewhere.
func (k *Cache) Asking() int { return len(k.asking.of("").free) }

// AskingQueued is how many checks wait for their turn to do so.
func (k *Cache) AskingQueued() int { return int(k.asking.of("").queued.Load()) }

// GoodLen is how many logins are spared the limits.
func (k *Cache) GoodLen() int { return k.good.len() }

// ForgedLen is how many wrong tokens are remembered.
func (k *Cache) ForgedLen() int { return k.forged.len() }

// LoginKey is the key an answer about c is kept under.
func (k *Cache) LoginKey(by Authenticator, c Credential) [32]byte { return k.loginKey(by, c) }

// DummyCost is the kind and price of the check an unknown name costs.
func (h *Htpasswd) DummyCost() string { return h.dummy.cost() }

// DummyWorks reports whether the dummy, if it is bcrypt, is a hash that bcrypt
// computes in full rather than turning it down as malformed.
func (h *Htpasswd) DummyWorks() bool {
	b, ok := h.dummy.(*bcryptHash)
	return !ok || errors.Is(bcrypt.CompareHashAndPassword(b.text, []byte("x")), bcrypt.ErrMismatchedHashAndPassword)
}

// SignRaw signs any payload with the first key.
func (t *Tokens) SignRaw(payload string) (string, error) { return t.keys[0].sign([]byte(payload)) }

// PrivateKey is the first key.
func (t *Tokens) PrivateKey() *ecdsa.PrivateKey { return t.keys[0].private }

// Kid is the first key's name.
func (t *Tokens) Kid() string { return t.keys[0].kid }

// Hurry bounds fetches of keys.
func (n *OIDC) Hurry(most time.Duration) *OIDC {
	for _, i := range n.issuers {
		i.keys.client.most = most
	}
	return n
}

// ReadIssuer is the issuer that a token says it has.
func ReadIssuer(token string) (string, error) {
	t, err := readToken(token)
	if err != nil {
		return "", err
	}
	return t.issuer, nil
}

// NameBy makes a user name of claims by a template.
func NameBy(template, claims string, caseSensitive bool) (name string, bad, err error) {
	u, err := parseUserTemplate(template, caseSensitive)
	if err != nil {
		return "", err, nil
	}
	t := &idToken{}
	if t.claims, err = readObject([]byte(claims)); err != nil {
		return "", nil, err
	}
	name, err = u.name(t)
	return name, nil, err
}

// ReadAnswer reads what a webhook says.
func ReadAnswer(body []byte, asked string) (user string, groups []string, ttl time.Duration, err error) {
	a, err := readAnswer(body, asked, false)
	return a.user, a.groups, a.ttl, err
}

// NearestOfAll is Nearest, looking at each rule.
func (d Decision) NearestOfAll() string {
	if d.policy == nil || d.caller == nil || !ValidRepository(d.Access.Repository) {
		return ""
	}
	best, text := 4, ""
	for i := range d.policy.rules {
		r := &d.policy.rules[i]
		if !r.concerns(d.caller) {
			continue
		}
		if rank, why := r.distance(d.caller, &d.Access); rank < best {
			best, text = rank, r.Where+", "+why
		}
	}
	return text
}

// TakeSlots has all cores hash until it is told otherwise.
func (k *Cache) TakeSlots() (free func()) {
	for range cap(k.hashing.free) {
		k.hashing.free <- struct{}{}
	}
	return func() {
		for range cap(k.hashing.free) {
			<-k.hashing.free
		}
	}
}
