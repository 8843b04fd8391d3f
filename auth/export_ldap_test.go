package auth

import (
	"time"

	"github.com/go-ldap/ldap/v3"
)

// LDAPPause is how long a server that does not answer is left alone.
const LDAPPause = ldapPause

// Fill is a filter with a user and a DN in it.
func Fill(filter, user, dn string) string { return fill(filter, user, dn) }

// SetIdle sets how long a connection that nobody uses is kept.
func (l *LDAP) SetIdle(d time.Duration) { l.pool.idle = d }

// Idle is how many connections nobody uses.
func (l *LDAP) Idle() int {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	return len(l.pool.free)
}

// LDAPRefusal is what the answer to a person's bind means.
func LDAPRefusal(code uint16, text string, controls ...ldap.Control) error {
	var err error
	if code != 0 {
		err = ldap.NewError(code, errorText(text))
	}
	return new(ldapServer).refusal(&ldap.SimpleBindResult{Controls: controls}, err)
}

type errorText string

func (e errorText) Error() string { return string(e) }
