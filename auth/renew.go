package auth

import (
	"context"
	"errors"
	"fmt"
)

// Renewer is an Authenticator that can tell of somebody it once proved, without a
// password, who that is now: only its users get refresh tokens. The others' logins
// end by themselves, or nobody could tell that a user has gone.
type Renewer interface {
	Prover
	// Renew is the identity with the groups of now, ErrRejected or ErrNotMine if
	// the user has gone or what proved it has changed, or what kept it from
	// finding out.
	Renew(ctx context.Context, id Identity) (Identity, error)
}

// Renew asks the provider that proved id, unless the name is one's before it now.
func (n *Chain) Renew(ctx context.Context, id Identity) (Identity, error) {
	for _, p := range n.providers {
		if r, ok := p.(Renewer); ok && r.Current(&id) {
			return r.Renew(ctx, id)
		}
		if owns(p, id.Name) {
			break
		}
	}
	return Identity{}, changed(&id)
}

// Renewers are the providers of a that are Renewers, nil if none is.
func Renewers(a Authenticator) Renewer {
	var some []Authenticator
	for _, one := range links(a) {
		if _, ok := one.(Renewer); ok {
			some = append(some, one)
		}
	}
	if len(some) == 0 {
		return nil
	}
	return NewChain(some...)
}

// Renew is the user of a line that is still the one that proved it.
func (h *Htpasswd) Renew(_ context.Context, id Identity) (Identity, error) {
	if !h.Current(&id) {
		return Identity{}, changed(&id)
	}
	return Identity{Name: id.Name, Via: viaHtpasswd, Proof: id.Proof}, nil
}

// Renew looks the user up again.
func (l *LDAP) Renew(ctx context.Context, id Identity) (Identity, error) {
	if !l.Current(&id) {
		return Identity{}, changed(&id)
	}
	ctx, cancel := context.WithTimeout(ctx, MaxRemoteTime)
	defer cancel()
	who, err := l.findAgain(ctx, id.Name)
	switch {
	case errors.Is(err, ErrNotMine):
		return Identity{}, &Rejection{Via: viaLDAP, Reason: "the user is not there any more", Word: UnknownUser}
	case err != nil:
		return Identity{}, err
	case who.barred != "":
		return Identity{}, &Rejection{Via: viaLDAP, Reason: who.barred, Word: Barred}
	case l.nameOf(who) != id.Name:
		return Identity{}, changed(&id)
	}
	groups, err := l.groups(ctx, who)
	if err != nil {
		return Identity{}, err
	}
	return Identity{Name: id.Name, Groups: groups, Via: viaLDAP, Proof: l.proof}, nil
}

// changed is of somebody whom what is there now does not prove.
func changed(id *Identity) *Rejection {
	return &Rejection{Via: id.Via, Reason: fmt.Sprintf("the login of %s has changed or is gone", shorten(id.Name)), Word: UnknownUser}
}
