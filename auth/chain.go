package auth

import (
	"context"
	"encoding/binary"
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

// Chain asks several Authenticators, the first one first. What it says is what
// the first of them says that does not pass it on (ErrNotMine): a name that one
// provider knows is nobody else's, and a wrong password for it is not tried on
// the next. One that cannot say ends it as well: the name may be its own, and
// somebody of that name at the next provider is somebody else.
type Chain struct {
	providers []Authenticator
	links     []Authenticator // the same, those of chains among them one by one: found once, not at every login
}

// NewChain is a chain of providers. Without any it rejects everybody.
func NewChain(providers ...Authenticator) *Chain {
	n := &Chain{providers: providers}
	for _, p := range providers {
		n.links = append(n.links, links(p)...)
	}
	return n
}

// Authenticate is the answer of the first provider whose credential c is, and
// ErrRejected if it is nobody's.
func (n *Chain) Authenticate(ctx context.Context, c Credential) (Identity, error) {
	for _, p := range n.providers {
		id, err := p.Authenticate(ctx, c)
		if errors.Is(err, ErrNotMine) {
			continue
		}
		if err != nil {
			return Identity{}, err
		}
		return id, nil
	}
	return Identity{}, unknown(c)
}

// links are the providers an Authenticator asks one after the other: those of a
// Chain, or itself.
func links(a Authenticator) []Authenticator {
	if n, ok := a.(*Chain); ok && len(n.links) > 0 {
		return n.links
	}
	return []Authenticator{a}
}

func remote(a Authenticator) bool {
	r, ok := a.(Remote)
	return ok && r.Remote()
}

func quick(a Authenticator) bool {
	q, ok := a.(Quick)
	return ok && q.Quick()
}

// sure reports whether c is settled by a provider whose credentials nobody guesses.
func sure(all []Authenticator, c Credential) bool {
	var few [fewLinks]Authenticator
	some := concerned(few[:0], all, c)
	if len(some) != 1 {
		return false
	}
	u, ok := some[0].(Unguessable)
	return ok && u.Unguessable()
}

// named is what a provider is called, "" if it does not say.
func named(a Authenticator) string {
	if n, ok := a.(Named); ok {
		return n.Named()
	}
	return ""
}

// concerned are those of a Chain's providers that c may be a matter of: none
// that is sure to pass it on, and none after one that is sure to settle it. They
// are appended to some.
func concerned(some, all []Authenticator, c Credential) []Authenticator {
	for _, a := range all {
		claim := Unsure
		if one, ok := a.(Claimer); ok {
			claim = one.Claim(c)
		}
		if claim != Others {
			some = append(some, a)
		}
		if claim == Own {
			break
		}
	}
	return some
}

// fewLinks is as many providers as there are kinds: a list of so many needs no heap.
const fewLinks = 8

// Proof is that of all providers that c may be a matter of, for any of them may
// come to know it.
func (n *Chain) Proof(c Credential) []byte {
	var all []byte
	if len(n.providers) == 0 {
		return nil
	}
	var few [fewLinks]Authenticator
	for _, p := range concerned(few[:0], n.links, c) {
		one := p.Proof(c)
		all = binary.BigEndian.AppendUint32(all, uint32(len(one)))
		all = append(all, one...)
	}
	return all
}

// Current reports whether a provider still vouches for id, and none before it has
// come to own the name. Without providers that could tell, nothing speaks against
// it.
func (n *Chain) Current(id *Identity) bool {
	asked := false
	for _, p := range n.providers {
		if prover, ok := p.(Prover); ok {
			if prover.Current(id) {
				return true
			}
			asked = true
		}
		if owns(p, id.Name) {
			return false
		}
	}
	return !asked
}

// Owns reports whether one of them does.
func (n *Chain) Owns(name string) bool {
	for _, p := range n.providers {
		if owns(p, name) {
			return true
		}
	}
	return false
}

func owns(a Authenticator, name string) bool {
	o, ok := a.(Owner)
	return ok && o.Owns(name)
}
