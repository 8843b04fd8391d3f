package auth

import "time"

// Tokens signs and verifies regward's own bearer tokens: ES256, one header
// spelling, keys by kid from its own set only.
type Tokens struct{}

// LoadTokens reads the PEM file (P-256 keys: the first signs, all are
// accepted) and makes it on first start if create is set (0600, written
// aside, synced, renamed).
func LoadTokens(path string, create bool) (*Tokens, error) { panic("unwritten") }

// Issue signs a token for id, capped at scope, for one audience (a hostname).
func (t *Tokens) Issue(id Identity, audience string, scope []Access, now time.Time, ttl time.Duration) (string, error) {
	panic("unwritten")
}

// Verify checks a token for one audience. An expired one still yields its
// Identity, Expires in the past: callers look at it. Anything wrong with it
// wraps ErrRejected; signed by a key that is not ours, it is a *ForeignKey (M14).
func (t *Tokens) Verify(token, audience string) (Identity, error) { panic("unwritten") }

// Derive makes a 32 byte key for label, the same on every instance with the
// same first key. All derives from every key, the first first (for opening
// what an older key sealed).
func (t *Tokens) Derive(label string) (all [][32]byte) { panic("unwritten") }
