package auth_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/regward/regward/auth"
)

// line is a cheap bcrypt line: tests check what is done, not how dearly.
func line(user, password string) string {
	sum, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return user + ":" + string(sum) + "\n"
}

func argonLine(user, password string) string {
	salt := []byte("saltsalt")
	sum := argon2.IDKey([]byte(password), salt, 1, 64, 1, 32)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("%s:$argon2id$v=19$m=64,t=1,p=1$%s$%s\n", user, b64(salt), b64(sum))
}

func mustHtpasswd(t testing.TB, data string, o auth.HtpasswdOptions) *auth.Htpasswd {
	t.Helper()
	h, err := auth.ParseHtpasswd("htpasswd", []byte(data), o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func login(h auth.Authenticator, user, password string) (auth.Identity, error) {
	return h.Authenticate(context.Background(), auth.NewBasic(user, password))
}

const (
	apr1 = "weak1:$apr1$saltsalt$yAAkm4libquA.ZWLHbSBq/\n" // "password"
	sha  = "weak2:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"     // "password"
)

func TestHtpasswd(t *testing.T) {
	long := strings.Repeat("x", 72)
	h := mustHtpasswd(t, "\ufeff# people\n\n"+line("Ann", "secret")+line("bob", "p:w")+"  \r\n"+argonLine("carl", strings.Repeat("y", 200))+
		strings.TrimSuffix(line("long", long), "\n")+"\r\n"+strings.Replace(line("dan", "pw"), "$2a$", "$2y$", 1), auth.HtpasswdOptions{})
	if d := cmp.Diff([]string{"ann", "bob", "carl", "dan", "long"}, h.Names()); d != "" || h.Len() != 5 {
		t.Errorf("names: %s", d)
	}
	for _, tt := range []struct {
		user, password, name string
		err                  error
	}{
		{"ann", "secret", "ann", nil},
		{"ANN", "secret", "ann", nil}, // names are lower-cased
		{"bob", "p:w", "bob", nil},
		{"carl", strings.Repeat("y", 200), "carl", nil}, // argon2id takes them all
		{"dan", "pw", "dan", nil},
		{"long", long, "long", nil},
		{"long", long + "z", "", auth.ErrRejected}, // bcrypt would not look at the z
		{"ann", "Secret", "", auth.ErrRejected},
		{"ann", "", "", auth.ErrRejected},
		{"ann", "secret\x00", "", auth.ErrRejected},
		{"carl", strings.Repeat("y", 199), "", auth.ErrRejected},
		{"eve", "secret", "", auth.ErrNotMine},
		{"", "secret", "", auth.ErrNotMine},
		{"# people", "", "", auth.ErrNotMine},
	} {
		id, err := login(h, tt.user, tt.password)
		if !errors.Is(err, tt.err) || id.Name != tt.name {
			t.Errorf("%s: got %q, %v, want %q, %v", tt.user, id.Name, err, tt.name, tt.err)
		}
		if err == nil && (id.Via != "htpasswd" || id.Proof == [16]byte{} || !h.Current(&id)) {
			t.Errorf("%s: %+v is not proven", tt.user, id)
		}
		if err != nil && tt.password != "" && strings.Contains(err.Error(), tt.password) {
			t.Errorf("%s: the error holds the password", tt.user)
		}
	}
	for _, c := range []auth.Credential{{}, auth.NewBearer("ann")} {
		if _, err := h.Authenticate(context.Background(), c); !errors.Is(err, auth.ErrNotMine) {
			t.Errorf("%v: got %v, want ErrNotMine", c, err)
		}
	}
	kept := mustHtpasswd(t, line("Ann", "a")+line("ann", "b"), auth.HtpasswdOptions{CaseSensitive: true})
	if id, err := login(kept, "Ann", "a"); err != nil || id.Name != "Ann" {
		t.Errorf("case sensitive: got %q, %v", id.Name, err)
	}
	if _, err := login(kept, "ANN", "a"); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("case sensitive: got %v", err)
	}
}

func TestHtpasswdWeakHashes(t *testing.T) {
	h := mustHtpasswd(t, apr1+sha, auth.HtpasswdOptions{AllowWeak: true})
	for _, user := range []string{"weak1", "weak2"} {
		if _, err := login(h, user, "password"); err != nil {
			t.Errorf("%s: %v", user, err)
		}
		if _, err := login(h, user, "passwore"); !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: got %v, want ErrRejected", user, err)
		}
	}
	_, err := auth.ParseHtpasswd("users", []byte("\n"+apr1), auth.HtpasswdOptions{})
	want := "users:2: user \"weak1\" has a weak hash (apr1); write a new one with `regward hash-password`, or set auth.allow_weak_hashes: true"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestHtpasswdReportsAllBadLines(t *testing.T) {
	hash := strings.SplitN(strings.TrimSpace(line("x", "pw")), ":", 2)[1]
	bad := []string{
		"", "no colon here", ":" + hash, "a\x01b:" + hash, "<token>:" + hash, "plain:secret-password", "none:",
		"cut:" + hash[:40], "dear:" + strings.Replace(hash, "$04$", "$16$", 1), "low:" + strings.Replace(hash, "$04$", "$03$", 1),
		"x1:$2x$" + hash[4:], "i:$argon2i$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"m:$argon2id$v=19$m=262145,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"t:$argon2id$v=19$m=64,t=11,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"p:$argon2id$v=19$m=640,t=1,p=9$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"v:$argon2id$v=16$m=64,t=1,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"z:$argon2id$v=19$m=64,t=0,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"s:$argon2id$v=19$m=64,t=1,p=1$c2Fs$AAAAAAAAAAAAAAAAAAAAAA",
		"h:$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$AAAA",
		"w:{SHA}short", "w2:$apr1$toolongsalt$abc", "w3:{SSHA}AAAA", "Anonymous:" + hash,
		"twin:" + hash, "Twin:" + hash, "twin:" + hash, strings.Repeat("u", auth.MaxUser+1) + ":" + hash,
	}
	_, err := auth.ParseHtpasswd("users", []byte(strings.Join(bad, "\n")), auth.HtpasswdOptions{AllowWeak: true})
	var lines auth.LineErrors
	if !errors.As(err, &lines) {
		t.Fatalf("got %v", err)
	}
	at := map[int]string{}
	for _, e := range lines {
		at[e.Line] = e.Msg
		for _, secret := range []string{hash[10:], "secret-password", "AAAAAAAAAAAA"} {
			if strings.Contains(e.Error(), secret) {
				t.Errorf("an error holds a hash: %v", e)
			}
		}
	}
	for i := range bad {
		ok := bad[i] == "" || i == len(bad)-4 // the first twin
		if (at[i+1] == "") != ok {
			t.Errorf("line %d (%.20s): got %q", i+1, bad[i], at[i+1])
		}
	}
	if want := `user "twin" is in line 24 already`; at[25] != want {
		t.Errorf("got %q, want %q", at[25], want)
	}
	_, err = auth.ParseHtpasswd("users", []byte(strings.Repeat("x\n", 1000)), auth.HtpasswdOptions{})
	if !errors.As(err, &lines) || len(lines) != auth.MaxLineErrors {
		t.Errorf("%d errors of one file", len(lines))
	}
	if _, err = auth.ParseHtpasswd("users", make([]byte, auth.MaxHtpasswd+1), auth.HtpasswdOptions{}); err == nil {
		t.Error("a file beyond the bound is read")
	}
}

// G20: a name the file does not have costs what most names cost.
func TestUnknownUsersCostTheSame(t *testing.T) {
	high := strings.Replace(line("h", "x"), "$04$", "$05$", 1)
	for _, tt := range []struct{ data, want string }{
		{"", "bcrypt 10"},
		{line("a", "x"), "bcrypt 4"},
		{line("a", "x") + high + line("b", "x"), "bcrypt 4"},
		{argonLine("a", "x") + argonLine("b", "x") + line("c", "x"), "argon2id 64 1 1"},
		{apr1 + line("c", "x") + line("d", "x"), "bcrypt 4"},
		{sha, "{SHA}"},
	} {
		h := mustHtpasswd(t, tt.data, auth.HtpasswdOptions{AllowWeak: true})
		if h.DummyCost() != tt.want || !h.DummyWorks() {
			t.Errorf("%.20q: got %s (works: %v), want %s", tt.data, h.DummyCost(), h.DummyWorks(), tt.want)
		}
		for _, password := range []string{"", "x", "password", strings.Repeat("x", 100)} {
			if _, err := login(h, "nobody", password); !errors.Is(err, auth.ErrNotMine) {
				t.Errorf("%.20q: got %v", tt.data, err)
			}
		}
	}
}

func TestProofsFollowTheLine(t *testing.T) {
	key := auth.HtpasswdOptions{Key: [32]byte{1}}
	ann, bob := line("ann", "pw"), line("bob", "pw")
	h := mustHtpasswd(t, ann+bob, key)
	id, err := login(h, "Ann", "pw")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, data string
		o          auth.HtpasswdOptions
		want       bool
	}{
		{"the same file, after a restart", ann + bob, key, true},
		{"another line changed", "# new\n" + ann + line("bob", "new"), key, true},
		{"the line changed", line("ann", "pw") + bob, key, false}, // another salt
		{"the line is gone", bob, key, false},
		{"another key", ann + bob, auth.HtpasswdOptions{Key: [32]byte{2}}, false},
		{"the hash under another name", strings.Replace(ann, "ann", "eve", 1), key, false},
	} {
		if got := mustHtpasswd(t, tt.data, tt.o).Current(&id); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.what, got, tt.want)
		}
	}
	other := id
	other.Via = "ldap"
	if h.Current(&other) || h.Current(&auth.Identity{}) {
		t.Error("vouches for what it did not prove")
	}
	if n := testing.AllocsPerRun(100, func() { h.Current(&id) }); n != 0 {
		t.Errorf("Current allocates %v times", n)
	}
}

func TestHashPassword(t *testing.T) {
	hash, err := auth.HashPassword("correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if cost, _ := bcrypt.Cost([]byte(hash)); cost != 10 {
		t.Errorf("cost %d", cost)
	}
	if _, err := login(mustHtpasswd(t, "ann:"+hash, auth.HtpasswdOptions{}), "ann", "correct horse"); err != nil {
		t.Error(err)
	}
	for _, password := range []string{"", strings.Repeat("x", 73), "a\nb"} {
		if _, err := auth.HashPassword(password); err == nil || password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("%q: got %v", password, err)
		}
	}
}

func FuzzParseHtpasswd(f *testing.F) {
	for _, s := range []string{line("ann", "x"), argonLine("b", "x"), apr1 + sha, "a:{SSHA}AAAA", "#\n\n:", "a:$argon2id$v=19$m=,t=,p=$$"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		h, err := auth.ParseHtpasswd("f", []byte(data), auth.HtpasswdOptions{AllowWeak: true})
		if (h == nil) == (err == nil) {
			t.Fatalf("%v, %v", h, err)
		}
		if h != nil && h.Len() != len(h.Names()) {
			t.Fatal("names and length differ")
		}
	})
}

// fixed answers the same to everybody.
type fixed struct {
	id  auth.Identity
	err error
}

func (f fixed) Authenticate(context.Context, auth.Credential) (auth.Identity, error) {
	return f.id, f.err
}
func (f fixed) Proof(auth.Credential) []byte { return []byte(f.id.Name) }

func TestChain(t *testing.T) {
	down := errors.New("directory is down")
	ann, bob := fixed{id: auth.Identity{Name: "ann"}}, fixed{id: auth.Identity{Name: "bob"}}
	pass, no, fail := fixed{err: auth.ErrNotMine}, fixed{err: auth.ErrRejected}, fixed{err: down}
	for name, tt := range map[string]struct {
		chain []auth.Authenticator
		name  string
		err   error
	}{
		"none":               {nil, "", auth.ErrRejected},
		"nobody's":           {[]auth.Authenticator{pass, pass}, "", auth.ErrRejected},
		"the next":           {[]auth.Authenticator{pass, bob, ann}, "bob", nil},
		"a refusal stops":    {[]auth.Authenticator{no, ann}, "", auth.ErrRejected},
		"not knowing stops":  {[]auth.Authenticator{pass, fail, ann}, "", down},
		"wrapped counts too": {[]auth.Authenticator{fixed{err: fmt.Errorf("x: %w", auth.ErrNotMine)}, ann}, "ann", nil},
	} {
		id, err := login(auth.NewChain(tt.chain...), "ann", "pw")
		if id.Name != tt.name || !errors.Is(err, tt.err) {
			t.Errorf("%s: got %q, %v", name, id.Name, err)
		}
		if tt.err == down && errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: not knowing became a refusal", name)
		}
	}
	c := auth.NewBasic("x", "y")
	proof := func(names ...string) string {
		var all []auth.Authenticator
		for _, n := range names {
			all = append(all, fixed{id: auth.Identity{Name: n}})
		}
		return string(auth.NewChain(all...).Proof(c))
	}
	if proof("ab", "c") == proof("a", "bc") || proof("a", "") == proof("", "a") || proof("a") == proof("a", "") {
		t.Error("a moved boundary is the same proof")
	}

	h := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})
	id, _ := login(h, "ann", "pw")
	gone := mustHtpasswd(t, line("bob", "pw"), auth.HtpasswdOptions{})
	if !auth.NewChain(ann, h).Current(&id) || auth.NewChain(gone, ann).Current(&id) || !auth.NewChain(ann).Current(&id) {
		t.Error("Current does not ask who can tell")
	}
}
