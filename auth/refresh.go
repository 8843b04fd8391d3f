package auth

import (
	"context"
	"time"
)

// RefreshToken is a login that a client keeps in place of a password (T22-T24):
// what is known of it, and never the secret, of which Hash alone is kept. It is
// for one user at one hostname.
type RefreshToken struct {
	Hash    RefreshHash
	User    string   // as Identity.Name has it
	Host    string   // the hostname it is good for
	Via     string   // which provider proved the user, as Identity.Via
	Proof   [16]byte // what it was proven by, as Identity.Proof
	Epoch   Epoch    // the user's latest revocation when it was made
	Created time.Time
	Used    time.Time // last; gone RefreshLife after it
	Client  string    // client_id or user agent it was made for, "" if it named none
	Addr    string    // from where
}

// RefreshStore keeps refresh tokens: in a file of one instance, or in the Redis
// of all. It survives restarts; what Put and Delete have returned for is kept.
type RefreshStore interface {
	// Get is ErrRejected for one that is not there, or is gone for want of use;
	// all else is what kept it from finding out.
	Get(ctx context.Context, hash RefreshHash) (RefreshToken, error)
	// Put adds one, or notes a use of one.
	Put(ctx context.Context, t RefreshToken) error
	// Delete ends those it has, on all instances.
	Delete(ctx context.Context, hashes ...RefreshHash) error
	// All lists them, at most MaxRefreshTokens.
	All(ctx context.Context) ([]RefreshToken, error)
}

// Renewer is an Authenticator that can tell of somebody it once proved, without a
// password, who that is now: only its users get refresh tokens.
type Renewer interface {
	// Renew is the identity with the groups of now, ErrRejected if the user has
	// gone or what proved it has changed, or what kept it from finding out.
	Renew(ctx context.Context, id Identity) (Identity, error)
}

// RefreshHash is the SHA-256 of a refresh token.
type RefreshHash [32]byte

// RefreshLife is how long a refresh token lives without being used.
const RefreshLife = 90 * 24 * time.Hour

// MaxRefreshTokens is how many there may be; beyond that none is given, and
// clients keep the password instead.
const MaxRefreshTokens = 100_000
