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

// Authenticator says whom a credential speaks for: robots, issuers, the htpasswd
// file, a directory, a webhook, an upstream. Chain is one of several.
type Authenticator interface {
	// Authenticate returns ErrNotMine, ErrRejected, or what kept it from finding out.
	Authenticate(ctx context.Context, c Credential) (Identity, error)
	// Proof is what an answer about c rests on (the htpasswd line, the
	// provider's settings). The cache keys on it, so that a change there
	// misses at once and a reload of anything else unproves nobody.
	Proof(c Credential) []byte
}

// Prover is an Authenticator that knows what its identities were proven by.
type Prover interface {
	// Current reports whether what proved id (Identity.Proof) is still there. It
	// is asked on every request with a bearer token and does not allocate.
	Current(id *Identity) bool
}

// Owner is an Authenticator that knows its users by name. What a provider behind
// it proved of such a name before is proven no longer: a login would not get there.
type Owner interface {
	// Owns does not allocate. name is as Identity has it.
	Owns(name string) bool
}

// Remote is an Authenticator that waits for somebody else's answer and computes
// nothing: its checks take none of the cores that hashing may have.
type Remote interface {
	Authenticator
	Remote() bool
}

// Named is an Authenticator with a name for logs and metrics, of few: robot,
// oidc, htpasswd, ldap, webhook, upstream.
type Named interface{ Named() string }

// Claim is what a provider says of a credential without asking anybody and
// without computing anything.
type Claim uint8

// The claims.
const (
	Unsure Claim = iota // it has to be asked
	Others              // it would be ErrNotMine
	Own                 // it settles this, and no later provider is asked, whatever it says
)

// Claimer is an Authenticator that knows some credentials by their look: an own
// one is not held up, nor unproven, by what becomes of the providers behind it.
type Claimer interface{ Claim(c Credential) Claim }

// Quick is an Authenticator whose checks cost next to nothing, and bound by
// themselves how many wait for somebody: none of them waits for a turn.
type Quick interface{ Quick() bool }

// Unguessable is an Authenticator whose credentials nobody guesses, and that finds
// out at little cost, and by itself, that one is wrong. One that is good never
// meets the limits of who guesses: behind one address there may be all the jobs of
// a company, and they log in by one name.
type Unguessable interface{ Unguessable() bool }

// Keeper is an Authenticator whose credentials are shown to nobody else, not even
// to an upstream that people's own logins go on to.
type Keeper interface{ Keeps(c Credential) bool }

// Guard stands before costly checks of passwords: the failed-login limits. Its
// methods may run after the request that brought it is over: others wait for
// the same check.
type Guard interface {
	// Admit refuses (with the error that goes to the client) before any hash
	// is computed. It takes nothing.
	Admit(c Credential) error
	// Failed is told once for each check that proved c wrong.
	Failed(c Credential)
	// Source names where c came from, as the limits see it. A login proven good
	// from there is spared the limits there, and nowhere else.
	Source() string
}
