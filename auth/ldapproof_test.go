package auth_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/slapdtest"
)

// Who logged in by one name is found again by the other, with the groups of now.
func TestLDAPRenewal(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	o := ldapOptions(s)
	for _, filter := range []string{"(uid={user})", "(cn={user})", "(&(objectClass=person)(|(sn={user})(uid={user})))", "(uid:caseIgnoreMatch:={user})"} {
		o.UserFilter = filter
		l := mustLDAP(t, o)
		id, err := ldapLogin(l, "jane", "jane's own")
		if filter == "(cn={user})" {
			id, err = ldapLogin(l, "Doe, Jane (night)", "jane's own")
		}
		if err != nil || id.Name != "jane" {
			t.Errorf("%s: %+v, %v", filter, id, err)
			continue
		}
		if again, err := l.Renew(context.Background(), id); err != nil || !cmp.Equal(again, id) {
			t.Errorf("%s: got %+v, %v, want %+v", filter, again, err, id)
		}
		for _, name := range []string{"eve", "*", "jane)(uid=*", "twin"} {
			other := id
			other.Name = name
			if _, err := l.Renew(context.Background(), other); err == nil || (name != "twin") != errors.Is(err, auth.ErrRejected) {
				t.Errorf("%s: %s: got %v", filter, name, err)
			}
		}
	}
}

func TestLDAPProofs(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	o := ldapOptions(s)
	l := mustLDAP(t, o)
	id, err := ldapLogin(l, "ann", "Ann's own")
	if err != nil || !l.Current(&id) || string(l.Proof(auth.NewBasic("ann", "x"))) != string(id.Proof[:]) {
		t.Fatalf("%+v, %v", id, err)
	}
	for what, tt := range map[string]struct {
		change func(*auth.LDAPOptions)
		holds  bool
	}{
		"nothing":         {func(*auth.LDAPOptions) {}, true},
		"our password":    {func(o *auth.LDAPOptions) { o.Bind = auth.NewBasic(slapdtest.RootDN, "new") }, true},
		"patience":        {func(o *auth.LDAPOptions) { o.Timeout, o.Pool = time.Second, 1 }, true},
		"another server":  {func(o *auth.LDAPOptions) { o.Servers = []string{"ldaps://elsewhere.example.com"} }, false},
		"another base":    {func(o *auth.LDAPOptions) { o.UserBase = "ou=x" }, false},
		"another filter":  {func(o *auth.LDAPOptions) { o.UserFilter = "(mail={user})" }, false},
		"no groups":       {func(o *auth.LDAPOptions) { o.GroupBase = "" }, false},
		"another key":     {func(o *auth.LDAPOptions) { o.Key[0]++ }, false},
		"believes others": {func(o *auth.LDAPOptions) { o.CA = append(slices.Clone(o.CA), o.CA...) }, false},
	} {
		changed := o
		tt.change(&changed)
		if got := mustLDAP(t, changed).Current(&id); got != tt.holds {
			t.Errorf("%s: holds %v", what, got)
		}
	}
	next := mustLDAP(t, o)
	next.Adopt(l)
	binds := s.Asked(`BIND dn="` + slapdtest.RootDN + `" method`)
	if _, err := ldapLogin(next, "ann", "Ann's own"); err != nil || s.Asked(`BIND dn="`+slapdtest.RootDN+`" method`) != binds {
		t.Errorf("after a reload that changed nothing: %v, or a new connection", err)
	}
	if n := testing.AllocsPerRun(100, func() { l.Current(&id) }); n != 0 {
		t.Errorf("Current allocates %v times", n)
	}
	if text := fmt.Sprintf("%+v", o); strings.Contains(text, slapdtest.Password) {
		t.Errorf("the password is in %s", text)
	}
	other := auth.Identity{Via: "htpasswd", Proof: id.Proof}
	if l.Current(&other) {
		t.Error("vouches for somebody else's")
	}
}
