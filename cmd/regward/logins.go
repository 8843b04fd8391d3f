package main

import (
	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// logins are those who check passwords, in the order they are asked. Issuers
// come first: a token shall not be shown to a directory. The upstream that
// knows logins, if one does, comes last and is added where upstreams are.
type logins struct {
	oidc    *auth.OIDC
	ldap    *auth.LDAP
	all     []auth.Authenticator
	current []func(*auth.Identity) bool
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
		l.add(l.oidc, l.oidc.Current)
	}
	if file != nil {
		l.add(file, file.Current)
	}
	if l.ldap != nil {
		l.add(l.ldap, l.ldap.Current)
	}
	if hook != nil {
		l.add(hook, hook.Current)
	}
	return l, nil
}

func (l *logins) add(a auth.Authenticator, current func(*auth.Identity) bool) {
	l.all, l.current = append(l.all, a), append(l.current, current)
}

// authenticator is all of them as one, nil if there is none.
func (l *logins) authenticator() auth.Authenticator {
	switch len(l.all) {
	case 0:
		return nil
	case 1:
		return l.all[0]
	}
	return auth.NewChain(l.all...)
}

// vouch reports whether one of them proved id, and what proved it still stands.
func (l *logins) vouch(id *auth.Identity) bool {
	for _, current := range l.current {
		if current(id) {
			return true
		}
	}
	return false
}
