package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"
)

// LDAPOptions say where a directory is, and what of it are people and groups.
type LDAPOptions struct {
	Servers  []string // ldaps://HOST[:PORT], or ldap:// with StartTLS; asked in this order
	StartTLS bool
	CA       []byte     // PEM; none: those of the system
	Bind     Credential // DN and password that searches are made with; None: anonymous ones

	UserBase   string
	UserFilter string // {user}
	UserName   string // attribute: the name as the directory spells it

	GroupBase      string // "": nobody has groups
	GroupFilter    string // {dn} and {user} as the directory spells it
	GroupName      string // attribute
	GroupRecursive bool   // groups of groups count, too

	CaseSensitive bool
	Timeout       time.Duration // of one question, and of making a connection
	Pool          int           // connections for searches

	// Key keys the proofs that tokens carry. It must be the same over restarts
	// and on all instances: Tokens.Derive("ldap proof")[0].
	Key ProofKey

	Now func() time.Time // nil: time.Now
}

// LDAP is an Authenticator and Prover that asks a directory: it searches for the
// one entry a name stands for, binds as that entry with the password, on a
// connection of its own, and searches for its groups.
//
// An LDAP needs no Close: connections that are not used end by themselves.
type LDAP struct {
	o     LDAPOptions
	proof [16]byte
	pool  *ldapPool
}

// NewLDAP asks nothing yet. An error is one of the options.
func NewLDAP(o LDAPOptions) (*LDAP, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Timeout <= 0 || o.Pool <= 0 || len(o.Servers) == 0 {
		return nil, errors.New("ldap: a timeout, connections and a server are needed")
	}
	for _, filter := range []string{o.UserFilter, o.GroupFilter} {
		if filter == "" {
			continue
		}
		if _, err := ldap.CompileFilter(fill(filter, "x", "cn=x")); err != nil {
			return nil, fmt.Errorf("ldap: %q is no filter: %w", filter, errors.Unwrap(err))
		}
	}
	pool, err := newLDAPPool(&o)
	if err != nil {
		return nil, err
	}
	l := &LDAP{o: o, pool: pool}
	l.proof = l.prove()
	l.o.Key = ProofKey{} // what prints l asks no field of it how
	return l, nil
}

// Adopt takes over the connections of old, if it asks the same servers in the
// same way. It must be called before l is asked anything.
func (l *LDAP) Adopt(old *LDAP) {
	if old != nil && l.pool.same(old.pool) {
		l.pool = old.pool
	}
}

// prove is over all that says who somebody is, and not over how the directory is
// reached in time or what regward logs in with: a new password of its own
// unproves nobody.
func (l *LDAP) prove() [16]byte {
	o := &l.o
	text, _ := json.Marshal([]any{ // fails for no string
		o.Servers, o.StartTLS, o.CA, o.UserBase, o.UserFilter, o.UserName,
		o.GroupBase, o.GroupFilter, o.GroupName, o.GroupRecursive, o.CaseSensitive,
	})
	mac := hmac.New(sha256.New, o.Key[:])
	mac.Write([]byte(viaLDAP + "\n"))
	mac.Write(text)
	return [16]byte(mac.Sum(nil))
}

// Authenticate asks for a user name and password. A name the directory does not
// have is ErrNotMine; a *Rejection says why a password that may be right is not
// enough. Errors with ErrUnavailable are of servers that cannot be asked, all
// others of a directory that does not fit the options.
//
// A wrong password costs one bind, an unknown name none.
func (l *LDAP) Authenticate(ctx context.Context, c Credential) (Identity, error) {
	if c.Kind != Basic {
		return Identity{}, ErrNotMine
	}
	if neverInLDAP(c) {
		return Identity{}, fmt.Errorf("ldap: not asked about user %s: %w", shorten(c.User), ErrRejected)
	}
	ctx, cancel := context.WithTimeout(ctx, MaxRemoteTime)
	defer cancel()
	who, err := l.find(ctx, c.User)
	if err != nil {
		return Identity{}, err
	}
	if who.barred != "" {
		return Identity{}, &Rejection{viaLDAP, who.barred, Barred}
	}
	if err := l.pool.login(ctx, who.server, who.dn, c.Secret()); err != nil {
		return Identity{}, err
	}
	groups, err := l.groups(ctx, who)
	if err != nil {
		return Identity{}, err
	}
	return Identity{Name: l.nameOf(who), Groups: groups, Via: viaLDAP, Proof: l.proof}, nil
}

// nameOf is the name that rules know somebody by.
func (l *LDAP) nameOf(who ldapUser) string {
	if l.o.CaseSensitive {
		return who.name
	}
	return strings.ToLower(who.name)
}

// neverInLDAP reports what no directory is asked about: a bind without a password
// succeeds for anybody (RFC 4513, 5.1.2), and names with spaces around, control
// characters or in disguise are others to the directory than to the rules.
func neverInLDAP(c Credential) bool {
	return c.Secret() == "" || len(c.Secret()) > MaxPassword || hasControl(c.Secret()) || !nameable(c.User)
}

// nameable reports whether a user can have a name.
func nameable(name string) bool {
	return name != "" && len(name) <= MaxUser && utf8.ValidString(name) && !hasControl(name) && !strings.Contains(name, ":") &&
		name != "<token>" && !strings.EqualFold(name, "anonymous") && strings.TrimSpace(name) == name && !Disguised(name)
}

// Remote: it waits, and computes nothing.
func (l *LDAP) Remote() bool { return true }

// Proof is the directory's, or nothing for what it is not asked about.
func (l *LDAP) Proof(c Credential) []byte {
	if c.Kind != Basic || neverInLDAP(c) {
		return nil
	}
	return l.proof[:]
}

// Current reports whether the directory that proved id is still the one to ask,
// in the same way. It does not allocate.
func (l *LDAP) Current(id *Identity) bool {
	return id.Via == viaLDAP && subtle.ConstantTimeCompare(l.proof[:], id.Proof[:]) == 1
}

// ldapUser is an entry that a name stands for.
type ldapUser struct {
	dn     string
	name   string // as the directory spells it
	barred string // why it may not log in
	server int    // that told of it
}

// find searches for the one entry that user stands for at a login.
func (l *LDAP) find(ctx context.Context, user string) (ldapUser, error) {
	return l.findBy(ctx, fill(l.o.UserFilter, user, ""), user)
}

// findAgain searches for whom a login gave a name to. That may have been by
// another one: user_filter may compare addresses, and user_name be uid.
func (l *LDAP) findAgain(ctx context.Context, name string) (ldapUser, error) {
	if strings.Contains(l.o.UserFilter, ":=") { // what such a rule compares with cannot be left open
		return l.find(ctx, name)
	}
	return l.findBy(ctx, "(&"+anything(l.o.UserFilter)+"("+l.o.UserName+"="+ldap.EscapeFilter(name)+"))", name)
}

func (l *LDAP) findBy(ctx context.Context, filter, user string) (ldapUser, error) {
	found, server, err := l.pool.search(ctx, ldapSearch{
		base: l.o.UserBase, filter: filter, most: 1, key: "user_base",
		attributes: []string{l.o.UserName, "userAccountControl", "accountExpires", "nsAccountLock", "pwdAccountLockedTime"},
	})
	switch {
	case errors.Is(err, errTooManyEntries):
		return ldapUser{}, fmt.Errorf("ldap: user_filter %s finds more than one entry for user %s below %s", l.o.UserFilter, shorten(user), l.o.UserBase)
	case err != nil:
		return ldapUser{}, err
	case len(found) == 0:
		return ldapUser{}, fmt.Errorf("ldap: user %s: %w", shorten(user), ErrNotMine)
	}
	e := found[0]
	name, err := l.spelled(e, user)
	if err != nil {
		return ldapUser{}, err
	}
	if e.DN == "" {
		return ldapUser{}, fmt.Errorf("ldap: the entry of user %s has no name to log in with", shorten(user))
	}
	return ldapUser{dn: e.DN, name: name, barred: barred(e, l.o.Now()), server: server}, nil
}

// spelled is the name of an entry. Of several, one must be that which was typed.
func (l *LDAP) spelled(e *ldap.Entry, typed string) (string, error) {
	values := e.GetEqualFoldAttributeValues(l.o.UserName)
	name := ""
	if len(values) == 1 {
		name = values[0]
	}
	for _, v := range values {
		if strings.EqualFold(v, typed) {
			name = v
		}
	}
	switch {
	case len(values) == 0:
		return "", fmt.Errorf("ldap: the entry of user %s has no attribute %s; set user_name to one that all people have", shorten(typed), l.o.UserName)
	case name == "":
		return "", fmt.Errorf("ldap: the entry of user %s has %d values of %s, none of them this; set user_name to an attribute with one", shorten(typed), len(values), l.o.UserName)
	case !nameable(name):
		return "", fmt.Errorf("ldap: %s of user %s is %s, which no user can be named", l.o.UserName, shorten(typed), shorten(name))
	}
	return name, nil
}

// barred is why an entry may not log in, as Active Directory, 389 Directory Server
// and OpenLDAP have it. Their binds would say so, too; but who has a refresh token
// makes none.
func barred(e *ldap.Entry, now time.Time) string {
	const accountDisable = 2
	flags, _ := strconv.ParseInt(e.GetEqualFoldAttributeValue("userAccountControl"), 10, 64)
	switch {
	case flags&accountDisable != 0, strings.EqualFold(e.GetEqualFoldAttributeValue("nsAccountLock"), "true"):
		return "the account is disabled"
	case e.GetEqualFoldAttributeValue("pwdAccountLockedTime") == "000001010000Z": // for good; else it is a pause after wrong passwords
		return "the account is locked"
	case accountExpired(e.GetEqualFoldAttributeValue("accountExpires"), now):
		return "the account has expired"
	}
	return ""
}

// accountExpired reads Active Directory's time: tenths of microseconds since 1601.
func accountExpired(text string, now time.Time) bool {
	const to1970 = 11_644_473_600
	ticks, err := strconv.ParseInt(text, 10, 64)
	return err == nil && ticks > 0 && ticks != math.MaxInt64 && !now.Before(time.Unix(ticks/10_000_000-to1970, 0))
}

// fill puts user and dn into a filter, escaped (RFC 4515, 3): whatever they are,
// the filter keeps its shape. It is done in one pass, so that neither can bring
// in the other.
func fill(filter, user, dn string) string {
	return strings.NewReplacer("{user}", ldap.EscapeFilter(user), "{dn}", ldap.EscapeFilter(dn)).Replace(filter)
}
