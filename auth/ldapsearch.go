package auth

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// ldapSearch is a search below a base.
type ldapSearch struct {
	base, filter string
	attributes   []string
	most         int    // entries; more are errTooManyEntries
	key          string // the option that says where
}

var errTooManyEntries = errors.New("too many entries")

// search asks one question; with errTooManyEntries some entries come, too. All are
// read to the end of the answer, but for those beyond what is asked for. Referrals
// are not followed: they name servers that nobody configured.
func (p *ldapPool) search(ctx context.Context, s ldapSearch) (found []*ldap.Entry, server int, err error) {
	server, err = p.do(ctx, s.key, func(c *ldapConn) (err error) {
		found, err = s.on(c, p.timeout)
		return err
	})
	return found, server, err
}

func (s ldapSearch) on(c *ldapConn, timeout time.Duration) ([]*ldap.Entry, error) {
	result, err := c.Search(&ldap.SearchRequest{
		BaseDN: s.base, Scope: ldap.ScopeWholeSubtree, DerefAliases: ldap.NeverDerefAliases,
		SizeLimit: s.most + 1, EnforceSizeLimit: true, TimeLimit: int(math.Ceil(timeout.Seconds())),
		Filter: s.filter, Attributes: s.attributes,
	})
	switch {
	case result == nil:
		return nil, err
	case len(result.Entries) > s.most, ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded), errors.Is(err, ldap.ErrSizeLimitExceeded):
		return result.Entries[:min(len(result.Entries), s.most)], errTooManyEntries
	case err != nil:
		return nil, err
	}
	return result.Entries, nil
}
