package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
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
	Used    time.Time // last, or when it was made; gone RefreshLife after it
	Client  string    // client_id or user agent it was made for, "" if it named none
	Addr    string    // from where
}

// RefreshStore keeps refresh tokens: in a file of one instance, or in the Redis
// of all. It survives restarts; what Add and Delete have returned for is kept.
// Errors that say that it cannot be asked are ErrUnavailable.
type RefreshStore interface {
	// Get is ErrRejected for one that is not there, or is gone for want of use;
	// all else is what kept it from finding out.
	Get(ctx context.Context, hash RefreshHash) (RefreshToken, error)
	// Add is ErrTooManyRefresh where there are as many as there may be, none of
	// which has been idle for RefreshIdle: else that one makes room.
	Add(ctx context.Context, t RefreshToken) error
	// Use notes when some were last used. Those that are gone stay so.
	Use(ctx context.Context, uses map[RefreshHash]time.Time) error
	// Delete ends those it has, for all instances, and says how many that were.
	Delete(ctx context.Context, hashes ...RefreshHash) (int, error)
	// Of lists a user's, or all with "", in no order.
	Of(ctx context.Context, user string) ([]RefreshToken, error)
	// Sweep forgets those that are gone and says how many are left.
	Sweep(ctx context.Context) (int, error)
}

// The bounds of refresh tokens.
const (
	RefreshLife = 90 * 24 * time.Hour // without being used
	RefreshIdle = 24 * time.Hour      // after which one may make room for another

	MaxRefreshTokens = 100_000 // beyond, clients keep the password instead
	MaxRefreshUser   = 1000    // of one user; a CI that logs in for every job makes many
	MaxRefreshClient = 64      // bytes of what is kept of a client's name
)

// ErrTooManyRefresh says that no refresh token is given.
var ErrTooManyRefresh = errors.New("there are as many refresh tokens as there may be")

const (
	refreshPrefix = "rgr_"
	refreshUser   = "<token>"
	refreshID     = 8 // bytes of a hash that name a token
)

// RefreshHash is the SHA-256 of a refresh token. Of 256 random bits nobody can try
// a part worth naming: see RobotHash.
type RefreshHash [sha256.Size]byte

// HashRefresh is that of a token.
func HashRefresh(token string) RefreshHash { return sha256.Sum256([]byte(token)) }

// String is the hash in hex.
func (h RefreshHash) String() string { return hex.EncodeToString(h[:]) }

// ID names a token to people and in the audit: the first 16 digits.
func (h RefreshHash) ID() string { return hex.EncodeToString(h[:refreshID]) }

// IsRefreshToken reports whether text has the form of one. It says nothing about
// whose it is.
func IsRefreshToken(text string) bool { return isSecret(refreshPrefix, text) }

// IsRefreshID reports whether text could be the ID of one.
func IsRefreshID(text string) bool {
	return len(text) == 2*refreshID && only(text, "0123456789abcdef")
}

// Over reports whether it is gone for want of use.
func (t *RefreshToken) Over(now time.Time) bool { return now.Sub(t.Used) >= RefreshLife }
