package main

import (
	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// logins are those who check passwords, in the order they are asked. Issuers
// come first: a token shall not be shown to a directory. The upstream that
// knows logins, if one does, comes last and is added where upstreams are.
type logins struct {
	oidc  *auth.OIDC
	ldap  *auth.LDAP
	all   []auth.Authenticator
	chain *auth.Chain // of all
}

// buildLogins makes them; before are those of the configuration in force, whose
// keys and connections go on, or nil. It asks nobody.
func buildLogins(cfg *configs.Config, tokens *auth.Tokens, before *logins) (*logins, error) {
	if before == nil {
		before = &logins{}
	}
	l := &logins{}
	var err error
	if l.oidc, err = buildOIDC(cfg, tokens, before.oidc); err != nil {
		return nil, err
	}
	file, err := buildHtpasswd(cfg, tokens)
	if err != nil {
		return nil, err
	}
	if l.ldap, err = buildLDAP(cfg, tokens, before.ldap); err != nil {
		return nil, err
	}
	hook, err := buildWebhook(cfg, tokens)
	if err != nil {
		return nil, err
	}
	if l.oidc != nil {
		l.all = append(l.all, l.oidc)
	}
	if file != nil {
		l.all = append(l.all, file)
	}
	if l.ldap != nil {
		l.all = append(l.all, l.ldap)
	}
	if hook != nil {
		l.all = append(l.all, hook)
	}
	l.chain = auth.NewChain(l.all...)
	return l, nil
}

// authenticator is all of them as one, nil if there is none.
func (l *logins) authenticator() auth.Authenticator {
	switch len(l.all) {
	case 0:
		return nil
	case 1:
		return l.all[0]
	}
	return l.chain
}

// vouch reports whether one of them proved id, and what proved it still stands.
func (l *logins) vouch(id *auth.Identity) bool { return l.chain.Current(id) }
