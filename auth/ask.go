package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
)

// Said is what one provider says about a login.
type Said struct {
	Via string // as Named has it, or as Identity.Via where there are several of a kind: oidc:github
	ID  Identity
	Err error
}

// Ask asks the providers of a about c one after the other, as a Cache does and in
// the same time, but with no memory and no limits: for whoever explains. It ends
// with the first that does not pass c on.
func Ask(ctx context.Context, a Authenticator, c Credential) (said []Said) {
	all := links(a)
	ctx, cancel := context.WithTimeout(ctx, timeFor(concerned(nil, all, c)))
	defer cancel()
	for _, one := range all {
		if n, ok := one.(*OIDC); ok {
			said = append(said, n.askEach(ctx, c)...)
		} else {
			id, err := one.Authenticate(ctx, c)
			said = append(said, Said{named(one), id, err})
		}
		if len(said) > 0 && OutcomeOf(said[len(said)-1].Err) != SaidNotMine {
			break
		}
	}
	return said
}

// askEach has every issuer in question speak for itself, and then the word of all
// of them together, if it is another one.
func (n *OIDC) askEach(ctx context.Context, c Credential) (all []Said) {
	id, err := n.Authenticate(ctx, c)
	t, unreadable := readToken(c.Secret())
	if n.mine(c) && (unreadable != nil || !n.asUser(c)) {
		return []Said{{n.Named(), id, err}}
	}
	for _, i := range n.issuers {
		switch {
		case !n.mine(c):
			all = append(all, Said{i.via, Identity{}, ErrNotMine})
		case i.Issuer != t.issuer:
			all = append(all, Said{i.via, Identity{}, fmt.Errorf("the token is by %s: %w", shorten(t.issuer), ErrNotMine)})
		default:
			one, err := i.identify(ctx, t, n.now())
			if wrong, ok := err.(*wrongToken); ok {
				err = wrong.rejection()
			}
			all = append(all, Said{i.via, one, err})
			if err == nil {
				return all
			}
		}
	}
	if n.mine(c) && OutcomeOf(all[len(all)-1].Err) != OutcomeOf(err) {
		all = append(all, Said{n.Named(), id, err})
	}
	return all
}

// TokensForNow makes a key that nobody keeps, for what is only looked at: nothing
// that it signs or derives is good anywhere else.
func TokensForNow() (*Tokens, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return newTokens([]*ecdsa.PrivateKey{key})
}
