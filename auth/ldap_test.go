package auth_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/slapdtest"
)

const (
	people = "ou=people," + slapdtest.Base
	teams  = "ou=teams," + slapdtest.Base
)

// entries are a small company: ann is in dev, bob and all of dev are in all, and
// all is in itself by way of loop.
func entries() string {
	var b strings.Builder
	fmt.Fprintf(&b, "dn: %s\nobjectClass: organizationalUnit\nou: people\n\ndn: %s\nobjectClass: organizationalUnit\nou: teams\n\n", people, teams)
	for _, name := range []string{"Ann", "bob", "o (brien*", "twin"} {
		b.WriteString(person("uid="+name+","+people, name, name+"'s own"))
	}
	b.WriteString(person("cn=other twin,"+people, "twin", "x"))
	fmt.Fprintf(&b, "dn: cn=nopassword,%s\nobjectClass: inetOrgPerson\ncn: nopassword\nsn: x\nuid: nopassword\n\n", people)
	group := func(name string, members ...string) {
		fmt.Fprintf(&b, "dn: cn=%s,%s\nobjectClass: groupOfNames\ncn: %s\n", name, teams, name)
		for _, m := range members {
			fmt.Fprintf(&b, "member: %s\n", m)
		}
		b.WriteString("\n")
	}
	jane := `cn=Doe\, Jane (night),` + people
	fmt.Fprintf(&b, "dn: %s\nobjectClass: inetOrgPerson\ncn: Doe, Jane (night)\nsn: Doe\nuid: jane\nuserPassword: jane's own\n\n", jane)
	group("dev", jane, "uid=Ann,"+people, "uid=o (brien*,"+people)
	group("ops (night)", "uid=Ann,"+people)
	group("all", "cn=dev,"+teams, "uid=bob,"+people, "cn=loop,"+teams)
	group("loop", "cn=all,"+teams)
	fmt.Fprintf(&b, "dn: cn=unix,%s\nobjectClass: posixGroup\ncn: unix\ngidNumber: 7\nmemberUid: Ann\n\n", teams)
	return b.String()
}

func person(dn, uid, password string) string {
	return fmt.Sprintf("dn: %s\nobjectClass: inetOrgPerson\ncn: %s\nsn: x\nuid: %s\nuserPassword: %s\n\n", dn, strings.SplitN(strings.SplitN(dn, ",", 2)[0], "=", 2)[1], uid, password)
}

// ldapOptions are those for a server with entries.
func ldapOptions(servers ...*slapdtest.Server) auth.LDAPOptions {
	o := auth.LDAPOptions{
		Bind:     auth.NewBasic(slapdtest.RootDN, slapdtest.Password),
		UserBase: people, UserFilter: "(uid={user})", UserName: "uid",
		GroupBase: teams, GroupFilter: "(member={dn})", GroupName: "cn",
		Timeout: 20 * time.Second, Pool: 4, Key: [32]byte{1},
	}
	for _, s := range servers {
		o.Servers, o.CA = append(o.Servers, s.LDAPS), append(o.CA, s.CA...)
	}
	return o
}

func mustLDAP(t testing.TB, o auth.LDAPOptions) *auth.LDAP {
	t.Helper()
	l, err := auth.NewLDAP(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func ldapLogin(l *auth.LDAP, user, password string) (auth.Identity, error) {
	return l.Authenticate(context.Background(), auth.NewBasic(user, password))
}

func TestLDAPLogins(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	plain := ldapOptions(s)
	starttls := ldapOptions(s)
	starttls.Servers, starttls.StartTLS = []string{s.LDAP}, true
	unix := ldapOptions(s)
	unix.GroupFilter, unix.CaseSensitive = "(|(member={dn})(memberUid={user}))", true
	nested := ldapOptions(s)
	nested.GroupRecursive = true
	without := ldapOptions(s)
	without.GroupBase = ""
	for _, tt := range []struct {
		what           string
		o              auth.LDAPOptions
		user, password string
		name           string
		groups         []string
		err            error
	}{
		{"ldaps", plain, "ann", "Ann's own", "ann", []string{"dev", "ops (night)"}, nil},
		{"StartTLS", starttls, "ANN", "Ann's own", "ann", []string{"dev", "ops (night)"}, nil},
		{"as the directory spells it", unix, "ann", "Ann's own", "Ann", []string{"dev", "ops (night)", "unix"}, nil},
		{"groups in groups, and a loop", nested, "ann", "Ann's own", "ann", []string{"all", "dev", "loop", "ops (night)"}, nil},
		{"no groups", plain, "bob", "bob's own", "bob", []string{"all"}, nil},
		{"groups are not looked up", without, "ann", "Ann's own", "ann", nil, nil},
		{"a name with a filter's own letters", plain, "o (brien*", "o (brien*'s own", "o (brien*", []string{"dev"}, nil},
		{"a DN with a filter's own letters", nested, "jane", "jane's own", "jane", []string{"all", "dev", "loop"}, nil},
		{"wrong", plain, "ann", "no", "", nil, auth.ErrRejected},
		{"another's", plain, "ann", "bob's own", "", nil, auth.ErrRejected},
		{"without a password", plain, "ann", "", "", nil, auth.ErrRejected},
		{"nobody", plain, "eve", "x", "", nil, auth.ErrNotMine},
		{"anybody", plain, "*", "Ann's own", "", nil, auth.ErrNotMine},
		{"a filter", plain, "ann)(uid=*", "Ann's own", "", nil, auth.ErrNotMine},
		{"a part of a name", plain, "a*", "Ann's own", "", nil, auth.ErrNotMine},
		{"spaces around", plain, " ann", "Ann's own", "", nil, auth.ErrRejected},
		{"disguised", plain, "ＡＮＮ", "Ann's own", "", nil, auth.ErrRejected},
		{"control character", plain, "ann\x00", "Ann's own", "", nil, auth.ErrRejected},
		{"nobody in particular", plain, "anonymous", "x", "", nil, auth.ErrRejected},
		{"no password in the directory", plain, "nopassword", "x", "", nil, auth.ErrRejected},
	} {
		id, err := ldapLogin(mustLDAP(t, tt.o), tt.user, tt.password)
		if !errors.Is(err, tt.err) || id.Name != tt.name || !cmp.Equal(id.Groups, tt.groups) {
			t.Errorf("%s: got %q %q, %v, want %q %q, %v", tt.what, id.Name, id.Groups, err, tt.name, tt.groups, tt.err)
		}
		if err != nil && tt.password != "" && strings.Contains(fmt.Sprintf("%+v", err), tt.password) && len(tt.password) > 2 {
			t.Errorf("%s: the password is in %v", tt.what, err)
		}
	}
	if _, err := ldapLogin(mustLDAP(t, plain), "twin", "x"); err == nil || errors.Is(err, auth.ErrRejected) || errors.Is(err, auth.ErrUnavailable) || !strings.Contains(err.Error(), "(uid={user})") {
		t.Errorf("two entries: got %v, want an error that names the filter", err)
	}
}

// What a login costs the directory; no connection of the pool is ever a person's.
func TestWhatALoginAsksTheDirectory(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	o := ldapOptions(s)
	l := mustLDAP(t, o)
	asked := func() [4]int {
		return [4]int{s.Asked("ACCEPT from"), s.Asked(`BIND dn="` + slapdtest.RootDN + `" method`), s.Asked(`BIND dn="uid=Ann`), s.Asked(" SRCH base")}
	}
	until(t, "the log has how the test saw that it is up", func() bool { return s.Asked("ACCEPT from") == 1 })
	base, end := asked(), time.Now().Add(20*time.Second)
	for _, tt := range []struct {
		what, user, password string
		want                 [4]int // connections, our binds, her binds, searches
	}{
		{"the first", "ann", "Ann's own", [4]int{2, 1, 2, 2}}, // a bind is two lines: the request, and what it was taken for
		{"the next one", "ann", "Ann's own", [4]int{1, 0, 2, 2}},
		{"a wrong password", "ann", "no", [4]int{1, 0, 1, 1}},
		{"an unknown name", "eve", "no", [4]int{0, 0, 0, 1}},
		{"no password", "ann", "", [4]int{}},
	} {
		_, _ = ldapLogin(l, tt.user, tt.password)
		var got [4]int
		for got = asked(); ; got = asked() { // the log may be late
			for i := range got {
				got[i] -= base[i]
			}
			if got == tt.want || time.Now().After(end) {
				break
			}
		}
		if got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
		base = asked()
	}
}

func TestLDAPServersThatAreDown(t *testing.T) {
	now := newClock()
	one, two := slapdtest.Start(t, slapdtest.Options{LDIF: entries()}), slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	o := ldapOptions(one, two)
	o.Now = now.Now
	l := mustLDAP(t, o)
	login := func(what string) {
		t.Helper()
		if id, err := ldapLogin(l, "ann", "Ann's own"); err != nil || id.Name != "ann" || len(id.Groups) != 2 {
			t.Errorf("%s: got %+v, %v", what, id, err)
		}
	}
	searches := func() [2]int { return [2]int{one.Asked(" SRCH base"), two.Asked(" SRCH base")} }
	login("both up")
	if got := searches(); got != [2]int{2, 0} {
		t.Errorf("searches: %v", got)
	}
	one.Kill()
	login("with a dead connection in the pool")
	if got := searches(); got != [2]int{2, 2} {
		t.Errorf("searches: %v", got)
	}
	one.Start()
	login("while the first is left alone")
	if got := searches(); got != [2]int{2, 4} {
		t.Errorf("searches: %v", got)
	}
	now.Advance(auth.LDAPPause)
	login("the first is asked again")
	if got := searches(); got != [2]int{4, 4} {
		t.Errorf("searches: %v", got)
	}
	one.Kill()
	one.Start() // between two questions
	login("a connection that died while nobody used it")
	if got := searches(); got != [2]int{6, 4} {
		t.Errorf("searches: %v", got)
	}
	one.Kill()
	two.Kill()
	for range 2 {
		if _, err := ldapLogin(l, "ann", "Ann's own"); !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrRejected) {
			t.Errorf("none up: got %v", err)
		}
	}
	two.Start()
	now.Advance(auth.LDAPPause)
	login("the second is back")
}

func TestLDAPServerThatHangs(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	o := ldapOptions(s)
	now := newClock()
	o.Now, o.Timeout = now.Now, 2*time.Second
	l := mustLDAP(t, o)
	if _, err := ldapLogin(l, "ann", "Ann's own"); err != nil {
		t.Fatal(err)
	}
	s.Pause()
	began := time.Now()
	if _, err := ldapLogin(l, "ann", "Ann's own"); !errors.Is(err, auth.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took < o.Timeout {
		t.Errorf("given up after %v", took)
	}
	began = time.Now()
	if _, err := ldapLogin(l, "ann", "Ann's own"); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took >= o.Timeout {
		t.Errorf("asked again at once, for %v", took)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	now.Advance(auth.LDAPPause)
	for range 10 { // whether it waits for a slot or for the server
		if _, err := l.Authenticate(ctx, auth.NewBasic("ann", "Ann's own")); !errors.Is(err, context.Canceled) {
			t.Errorf("whoever asked is gone: got %v", err)
		}
	}
	s.Resume()
	if _, err := ldapLogin(l, "ann", "Ann's own"); err != nil {
		t.Errorf("back: %v", err)
	}
}

func TestLDAPConnectionsThatNobodyUsesEnd(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	l := mustLDAP(t, ldapOptions(s))
	l.SetIdle(time.Millisecond)
	if _, err := ldapLogin(l, "ann", "Ann's own"); err != nil {
		t.Fatal(err)
	}
	until(t, "it is closed", func() bool { return l.Idle() == 0 })
	until(t, "the server knows", func() bool { return s.Asked(" closed") >= 2 })
	if _, err := ldapLogin(l, "ann", "Ann's own"); err != nil {
		t.Error(err)
	}
}

func TestLDAPPoolIsBounded(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	l := mustLDAP(t, ldapOptions(s))
	done := make(chan error)
	const n = 32
	for range n {
		go func() {
			_, err := ldapLogin(l, "ann", "Ann's own")
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := s.Asked(`BIND dn="` + slapdtest.RootDN + `" method`); got > 4 || l.Idle() > 4 {
		t.Errorf("%d connections for searches, %d are kept, want 4 at most", got, l.Idle())
	}
}
