package auth

import (
	"context"
	"encoding/binary"
	"errors"
)

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
