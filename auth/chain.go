package auth

import (
	"context"
	"errors"
)

// Errors of Authenticate and ParseAuthorization, asked for with errors.Is.
// Any other error means "could not find out" and becomes 503, never a refusal.
var (
	ErrNotMine   = errors.New("not a credential of this provider") // ask the next one
	ErrRejected  = errors.New("credential rejected")               // it is wrong
	ErrMalformed = errors.New("malformed credential")
	ErrBusy      = errors.New("too many logins are being checked") // 503 + Retry-After
)

// Authenticator says whom a credential speaks for: htpasswd now; LDAP, OIDC,
// robots, webhook and upstream later. Chain is one of several.
type Authenticator interface {
	// Authenticate returns ErrNotMine, ErrRejected, or what kept it from finding out.
	Authenticate(ctx context.Context, c Credential) (Identity, error)
	// Proof is what an answer about c rests on (the htpasswd line, the
	// provider's settings). The cache keys on it, so that a change there
	// misses at once and a reload of anything else unproves nobody.
	Proof(c Credential) []byte
}

// Guard stands before costly checks of passwords: the failed-login limits.
type Guard interface {
	// Admit refuses (with the error that goes to the client) before any hash
	// is computed. It takes nothing.
	Admit(c Credential) error
	// Failed is told once for each check that proved c wrong.
	Failed(c Credential)
}
