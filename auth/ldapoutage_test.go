package auth_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/slapdtest"
)

// A directory that is down costs nobody who was in their work, and is no reason
// to turn anybody else down.
func TestLDAPIsDown(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	now := newClock()
	o := ldapOptions(s)
	o.Now = now.Now
	chain := auth.NewChain(mustLDAP(t, o))
	k := auth.NewCache(100, now.Now)
	login := func(user, password string) ([]string, error) {
		id, _, err := k.Login(context.Background(), chain, auth.NewBasic(user, password), auth.CacheTimes{TTL: time.Minute, NegativeTTL: 5 * time.Second, Stale: 10 * time.Minute}, nil)
		return id.Groups, err
	}
	if groups, err := login("ann", "Ann's own"); err != nil || len(groups) != 2 {
		t.Fatalf("%q, %v", groups, err)
	}
	s.Kill()
	now.Advance(9 * time.Minute)
	if groups, err := login("ann", "Ann's own"); err != nil || len(groups) != 2 {
		t.Errorf("proven: got %q, %v", groups, err)
	}
	for _, c := range [][2]string{{"ann", "wrong"}, {"bob", "bob's own"}} {
		if _, err := login(c[0], c[1]); !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: got %v", c, err)
		}
	}
	now.Advance(time.Minute)
	if _, err := login("ann", "Ann's own"); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("after ten minutes: got %v", err)
	}
	s.Modify("dn: uid=Ann," + people + "\nchangetype: modify\nreplace: userPassword\nuserPassword: new\n")
	now.Advance(auth.LDAPPause)
	if _, err := login("ann", "Ann's own"); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("back, with another password: got %v", err)
	}
	if _, err := login("ann", "new"); err != nil {
		t.Errorf("the new one: %v", err)
	}
}

// Two servers that are down are two causes in one line: logs and answers have one.
func TestLDAPServersThatAreDownAreOneLine(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	s.Kill()
	_, err := mustLDAP(t, ldapOptions(s, s)).Authenticate(t.Context(), auth.NewBasic("ann", "Ann's own"))
	if err == nil || !errors.Is(err, auth.ErrUnavailable) || strings.Count(err.Error(), s.LDAPS+" cannot be reached") != 2 || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

// What OpenLDAP's password policy has against a right password.
func TestLDAPPasswordPolicy(t *testing.T) {
	policy := "dn: cn=policy," + slapdtest.Base + "\nobjectClass: device\nobjectClass: pwdPolicy\ncn: policy\npwdAttribute: userPassword\npwdLockout: TRUE\npwdMustChange: TRUE\npwdMaxAge: 8640000\n\n"
	more := func(entry, line string) string { return entry[:len(entry)-1] + line + "\n\n" }
	s := slapdtest.Start(t, slapdtest.Options{
		Modules: "moduleload ppolicy",
		Config:  "overlay ppolicy\nppolicy_default cn=policy," + slapdtest.Base + "\nppolicy_use_lockout\n",
		LDIF: entries() + policy +
			more(person("uid=locked,"+people, "locked", "pw"), "pwdAccountLockedTime: 000001010000Z") +
			more(person("uid=reset,"+people, "reset", "pw"), "pwdReset: TRUE") +
			more(person("uid=old,"+people, "old", "pw"), "pwdChangedTime: 20200101000000Z"),
	})
	l := mustLDAP(t, ldapOptions(s))
	for user, want := range map[string]string{
		"locked": "the account is locked",
		"reset":  "the password has to be changed first",
		"old":    "the password has expired",
	} {
		_, err := ldapLogin(l, user, "pw")
		if why := (*auth.Rejection)(nil); !errors.As(err, &why) || why.Reason != want || !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: got %v, want %q", user, err, want)
		}
	}
	if _, err := ldapLogin(l, "ann", "Ann's own"); err != nil {
		t.Errorf("ann: %v", err)
	}
}

func TestLDAPOptionsThatCannotBe(t *testing.T) {
	for what, change := range map[string]func(*auth.LDAPOptions){
		"in the clear":    func(o *auth.LDAPOptions) { o.Servers = []string{"ldap://ldap.example.com"} },
		"no directory":    func(o *auth.LDAPOptions) { o.Servers = []string{"https://ldap.example.com"} },
		"no server":       func(o *auth.LDAPOptions) { o.Servers = nil },
		"no CA":           func(o *auth.LDAPOptions) { o.CA = []byte("no PEM") },
		"no filter":       func(o *auth.LDAPOptions) { o.UserFilter = "(uid={user}" },
		"no group filter": func(o *auth.LDAPOptions) { o.GroupFilter = "(&(member={dn})" },
		"no time":         func(o *auth.LDAPOptions) { o.Timeout = 0 },
		"no connections":  func(o *auth.LDAPOptions) { o.Pool = 0 },
	} {
		o := ldapOptions()
		o.Servers = []string{"ldaps://ldap.example.com"}
		change(&o)
		if _, err := auth.NewLDAP(o); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}
