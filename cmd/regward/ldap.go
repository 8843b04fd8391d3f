package main

import (
	"fmt"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// buildLDAP is the directory of people, nil if there is none. It asks nothing yet:
// an instance starts while the directory is down. tokens may be nil where nothing
// is signed. The connections of the previous one go on if its settings are the same.
func buildLDAP(cfg *configs.Config, tokens *auth.Tokens, previous *auth.LDAP) (*auth.LDAP, error) {
	l := &cfg.Auth.LDAP
	if !l.Set() {
		return nil, nil
	}
	o := auth.LDAPOptions{
		Servers:        l.URL,
		StartTLS:       l.StartTLS,
		CA:             l.CA,
		UserBase:       l.UserBase,
		UserFilter:     l.UserFilter,
		UserName:       l.UserName,
		GroupBase:      l.GroupBase,
		GroupFilter:    l.GroupFilter,
		GroupName:      l.GroupName,
		GroupRecursive: l.GroupRecursive,
		CaseSensitive:  cfg.Auth.CaseSensitive,
		Timeout:        time.Duration(l.Timeout),
		Pool:           l.Pool,
	}
	if l.BindDN != "" {
		o.Bind = auth.NewBasic(l.BindDN, l.BindPassword.Reveal())
	}
	if tokens != nil {
		o.Key = tokens.Derive("ldap proof")[0] // the same on every instance
	}
	directory, err := auth.NewLDAP(o)
	if err != nil {
		return nil, fmt.Errorf("auth.ldap: %w", err)
	}
	directory.Adopt(previous)
	return directory, nil
}
