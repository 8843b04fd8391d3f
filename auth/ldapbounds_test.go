package auth_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/slapdtest"
)

// pretend is a directory that has ann, whoever is asked for, and no more than
// that unless answer says so.
func pretend(t testing.TB, answer func(slapdtest.Question) ([]slapdtest.Entry, int)) auth.LDAPOptions {
	t.Helper()
	url, ca := slapdtest.Fake(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
		if entries, code := answer(q); entries != nil || code != 0 {
			return entries, code
		}
		if q.Op == ldap.ApplicationSearchRequest && q.Base == people {
			return []slapdtest.Entry{{DN: "uid=ann," + people, Attributes: map[string][]string{"uid": {"ann"}}}}, 0
		}
		return nil, 0
	})
	o := ldapOptions()
	o.Servers, o.CA = []string{url}, ca
	return o
}

func group(name string) slapdtest.Entry {
	return slapdtest.Entry{DN: "cn=" + name + "," + teams, Attributes: map[string][]string{"cn": {name}}}
}

// No answer is too much to hold, and none that is cut short is taken for all.
func TestLDAPAnswersAreBounded(t *testing.T) {
	var long []slapdtest.Entry
	for i := range auth.MaxGroupBytes/250 + 1 {
		long = append(long, group(fmt.Sprintf("%0250d", i)))
	}
	for what, tt := range map[string]struct {
		groups []slapdtest.Entry
		long   bool
	}{
		"as many groups as may be":     {slices.Repeat([]slapdtest.Entry{group("g")}, auth.MaxLDAPGroups), false},
		"one more":                     {slices.Repeat([]slapdtest.Entry{group("g")}, auth.MaxLDAPGroups+1), true},
		"a long name":                  {[]slapdtest.Entry{group(strings.Repeat("g", auth.MaxLDAPAnswer))}, true},
		"names that are long together": {long, true},
		"many names of one":            {[]slapdtest.Entry{{DN: "cn=a", Attributes: map[string][]string{"cn": slices.Repeat([]string{"g"}, auth.MaxLDAPGroups+1)}}}, true},
	} {
		o := pretend(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
			if q.Base == teams {
				return tt.groups, 0
			}
			return nil, 0
		})
		l := mustLDAP(t, o)
		for range 2 { // and the server is not left alone for what one person has
			id, err := ldapLogin(l, "ann", "pw")
			if (err != nil) != tt.long || errors.Is(err, auth.ErrRejected) || errors.Is(err, auth.ErrUnavailable) {
				t.Errorf("%s: %d groups, %v", what, len(id.Groups), err)
			}
		}
	}
}

func TestLDAPGroupsInGroupsEnd(t *testing.T) {
	var mu sync.Mutex
	asked := 0
	o := pretend(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
		if q.Base != teams {
			return nil, 0
		}
		mu.Lock()
		defer mu.Unlock()
		asked++
		return []slapdtest.Entry{group(fmt.Sprint("g", asked))}, 0
	})
	o.GroupRecursive = true
	_, err := ldapLogin(mustLDAP(t, o), "ann", "pw")
	if err == nil || errors.Is(err, auth.ErrRejected) || !strings.Contains(err.Error(), "nested deeper") || asked > 20 {
		t.Errorf("%v after %d questions", err, asked)
	}
}

// A directory that gives less than is asked for at most says so only of those who
// have more.
func TestLDAPLimitsOfTheDirectory(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries(), Config: "limits users size.soft=20 size.hard=20 time.soft=5 time.hard=10\n"})
	o := ldapOptions(s)
	o.Bind = auth.NewBasic("uid=bob,"+people, "bob's own")
	o.GroupRecursive = true
	id, err := ldapLogin(mustLDAP(t, o), "ann", "Ann's own")
	if want := []string{"all", "dev", "loop", "ops (night)"}; err != nil || !cmp.Equal(id.Groups, want) {
		t.Errorf("got %q, %v, want %q", id.Groups, err, want)
	}
}

// One question for each level, of a hundred groups at most.
func TestLDAPGroupsOfManyGroups(t *testing.T) {
	var mu sync.Mutex
	var asked []int
	o := pretend(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
		if q.Base != teams {
			return nil, 0
		}
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, strings.Count(q.Filter, "(member="))
		if len(asked) > 1 {
			return []slapdtest.Entry{group("g1")}, 0
		}
		var all []slapdtest.Entry
		for i := range 250 {
			all = append(all, group(fmt.Sprint("g", i)))
		}
		return all, 0
	})
	o.GroupRecursive = true
	id, err := ldapLogin(mustLDAP(t, o), "ann", "pw")
	if err != nil || len(id.Groups) != 250 || !cmp.Equal(asked, []int{1, 100, 100, 50}) {
		t.Errorf("%d groups, %v, asked %v", len(id.Groups), err, asked)
	}
}

// Active Directory follows groups in groups by itself.
func TestLDAPGroupsOfActiveDirectory(t *testing.T) {
	var mu sync.Mutex
	var filters []string
	o := pretend(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
		switch {
		case q.Op == ldap.ApplicationSearchRequest && q.Base == "":
			return []slapdtest.Entry{{Attributes: map[string][]string{"supportedCapabilities": {"1.2.840.113556.1.4.1670", "1.2.840.113556.1.4.800"}}}}, 0
		case q.Base == teams:
			mu.Lock()
			defer mu.Unlock()
			filters = append(filters, q.Filter)
			return []slapdtest.Entry{group("dev")}, 0
		}
		return nil, 0
	})
	o.GroupRecursive, o.GroupFilter = true, "(&(objectClass=group)(member={dn}))"
	if id, err := ldapLogin(mustLDAP(t, o), "ann", "pw"); err != nil || !cmp.Equal(id.Groups, []string{"dev"}) {
		t.Errorf("%q, %v", id.Groups, err)
	}
	if want := []string{"(&(objectClass=group)(member:1.2.840.113556.1.4.1941:=uid=ann," + people + "))"}; !cmp.Equal(filters, want) {
		t.Errorf("asked %q, want %q", filters, want)
	}
}

func TestLDAPResultCodes(t *testing.T) {
	for _, tt := range []struct {
		what        string
		op          int
		base        string
		code        int
		rejected    bool
		unavailable bool
	}{
		{"busy", ldap.ApplicationSearchRequest, people, ldap.LDAPResultBusy, false, true},
		{"unavailable", ldap.ApplicationSearchRequest, people, ldap.LDAPResultUnavailable, false, true},
		{"late", ldap.ApplicationSearchRequest, people, ldap.LDAPResultTimeLimitExceeded, false, true},
		{"the base of people is not there", ldap.ApplicationSearchRequest, people, ldap.LDAPResultNoSuchObject, false, true},
		{"the base of groups is not there", ldap.ApplicationSearchRequest, teams, ldap.LDAPResultNoSuchObject, false, true},
		{"elsewhere", ldap.ApplicationSearchRequest, people, ldap.LDAPResultReferral, false, true},
		{"more than the server tells", ldap.ApplicationSearchRequest, people, ldap.LDAPResultSizeLimitExceeded, false, false},
		{"a bind is too much", ldap.ApplicationBindRequest, "", ldap.LDAPResultBusy, false, true},
	} {
		o := pretend(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
			if q.Op == tt.op && q.Base == tt.base {
				return nil, tt.code
			}
			return nil, 0
		})
		_, err := ldapLogin(mustLDAP(t, o), "ann", "pw")
		if err == nil || errors.Is(err, auth.ErrRejected) != tt.rejected || errors.Is(err, auth.ErrUnavailable) != tt.unavailable {
			t.Errorf("%s: got %v", tt.what, err)
		}
	}
}

// A wrong password of our own is not tried with every login: it would be locked.
func TestLDAPOurOwnBindIsRefused(t *testing.T) {
	now, binds := newClock(), 0
	var mu sync.Mutex
	o := pretend(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
		if q.Op == ldap.ApplicationBindRequest {
			mu.Lock()
			defer mu.Unlock()
			binds++
			return nil, ldap.LDAPResultInvalidCredentials
		}
		return nil, 0
	})
	o.Now = now.Now
	l := mustLDAP(t, o)
	for range 3 {
		if _, err := ldapLogin(l, "ann", "pw"); !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrRejected) {
			t.Errorf("got %v", err)
		}
	}
	if binds != 1 {
		t.Errorf("tried %d times", binds)
	}
	now.Advance(time.Minute)
	_, _ = ldapLogin(l, "ann", "pw")
	if binds != 2 {
		t.Errorf("tried %d times", binds)
	}
}

func TestLDAPReasons(t *testing.T) {
	windows := func(code string) string {
		return "80090308: LdapErr: DSID-0C090569, comment: AcceptSecurityContext error, data " + code + ", v4563"
	}
	policy := func(e int8) ldap.Control { return &ldap.ControlBeheraPasswordPolicy{Error: e} }
	for _, tt := range []struct {
		code   uint16
		text   string
		more   []ldap.Control
		reason string // "": a wrong password
		say    bool
	}{
		{49, "", nil, "", true},
		{49, windows("52e"), nil, "", true},
		{49, windows("525"), nil, "", true},
		{49, windows("532"), nil, "the password has expired", true},
		{49, windows("533"), nil, "the account is disabled", true},
		{49, windows("701"), nil, "the account has expired", true},
		{49, windows("773"), nil, "the password has to be changed first", true},
		{49, windows("775"), nil, "the account is locked", true},
		{49, "", []ldap.Control{policy(-1)}, "", true},
		{49, "", []ldap.Control{policy(0)}, "the password has expired", true},
		{49, "", []ldap.Control{policy(1)}, "the account is locked", true},
		{0, "", []ldap.Control{policy(2)}, "the password has to be changed first", true},
		{0, "", []ldap.Control{&ldap.ControlVChuPasswordMustChange{MustChange: true}}, "the password has to be changed first", true},
		{48, "", nil, "the account has no password", true},
		{32, "", nil, "the account is gone", true},
		{19, "Exceed password retry limit. Please try later.", nil, "the account is locked", true},
		{53, "Account inactivated. Contact system administrator.", nil, "the account is disabled", true},
		{53, "unauthenticated bind (DN with no password) disallowed", nil, "", false},
		{51, "", nil, "", false},
		{8, "", nil, "", false},
	} {
		err := auth.LDAPRefusal(tt.code, tt.text, tt.more...)
		var why *auth.Rejection
		_ = errors.As(err, &why)
		switch {
		case err == nil || errors.Is(err, auth.ErrRejected) != tt.say:
			t.Errorf("%d %s: got %v", tt.code, tt.text, err)
		case (why == nil) != (tt.reason == "") || why != nil && why.Reason != tt.reason:
			t.Errorf("%d %s: got %v, want %q", tt.code, tt.text, err, tt.reason)
		}
	}
	if err := auth.LDAPRefusal(0, "", policy(-1)); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func TestLDAPAccountsThatAreOff(t *testing.T) {
	for _, attributes := range []map[string][]string{
		{"uid": {"ann"}, "userAccountControl": {"514"}},
		{"uid": {"ann"}, "nsaccountlock": {"TRUE"}},
	} {
		o := pretend(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
			if q.Base == people {
				return []slapdtest.Entry{{DN: "uid=ann", Attributes: attributes}}, 0
			}
			return nil, 0
		})
		_, err := ldapLogin(mustLDAP(t, o), "ann", "pw")
		if why := (*auth.Rejection)(nil); !errors.As(err, &why) || why.Reason != "the account is disabled" || !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%v: got %v", attributes, err)
		}
	}
}

// Names the directory gives are looked at as those that people give.
func TestLDAPNamesOfTheDirectory(t *testing.T) {
	for _, tt := range []struct {
		dn   string
		uid  []string
		want string
	}{
		{"uid=ann", []string{"Ann"}, "ann"},
		{"uid=ann", []string{"amueller", "ANN"}, "ann"},
		{"uid=ann", []string{"amueller", "anna"}, ""},
		{"uid=ann", nil, ""},
		{"uid=ann", []string{"a:b"}, ""},
		{"uid=ann", []string{"a\x1b[2J"}, ""},
		{"uid=ann", []string{"Anonymous"}, ""},
		{"uid=ann", []string{strings.Repeat("a", auth.MaxUser+1)}, ""},
		{"", []string{"ann"}, ""},
	} {
		o := pretend(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
			if q.Base == people {
				return []slapdtest.Entry{{DN: tt.dn, Attributes: map[string][]string{"UID": tt.uid}}}, 0
			}
			return nil, 0
		})
		id, err := ldapLogin(mustLDAP(t, o), "ann", "pw")
		if id.Name != tt.want || (err == nil) != (tt.want != "") || errors.Is(err, auth.ErrRejected) {
			t.Errorf("%q %q: got %q, %v", tt.dn, tt.uid, id.Name, err)
		}
	}
}
