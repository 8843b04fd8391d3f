package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/slapdtest"
)

func keptRefresh(n int, user string) auth.RefreshToken {
	at := time.Date(2026, 5, 4, 10, 0, n, 0, time.UTC)
	return auth.RefreshToken{
		Hash: auth.HashRefresh(fmt.Sprint(n)), User: user, Host: "registry.example.com", Via: "htpasswd", Proof: [16]byte{1, 2},
		Epoch: auth.Epoch(n), Created: at, Used: at.Add(time.Hour), Client: "docker", Addr: "192.0.2.7",
	}
}

func TestRefreshFileIsReadAsWritten(t *testing.T) {
	for _, all := range [][]auth.RefreshToken{{}, {keptRefresh(1, "ann")}, {keptRefresh(1, "ann"), keptRefresh(0, "zoë"), keptRefresh(3, `b"<&>ob`)}} {
		text := auth.FormatRefreshFile(all)
		got, err := auth.ParseRefreshFile(text)
		if d := cmp.Diff(all, got); err != nil || d != "" {
			t.Errorf("%v\n%s\n%s", err, d, text)
		}
	}
	a, b := keptRefresh(1, "ann"), keptRefresh(2, "ann")
	if !bytes.Equal(auth.FormatRefreshFile([]auth.RefreshToken{a, b}), auth.FormatRefreshFile([]auth.RefreshToken{b, a})) {
		t.Error("equal tokens make different files")
	}
}

func TestRefreshFileThatIsNone(t *testing.T) {
	good := string(auth.FormatRefreshFile([]auth.RefreshToken{keptRefresh(1, "ann"), keptRefresh(2, "bob")}))
	line := strings.TrimSuffix(strings.Split(good, "\n")[1], ",")
	for name, text := range map[string]string{
		"empty": "", "null": "null", "a list": "[]", "no list": "{}", "another list": `{"tokens": {}}`, "half": good[:len(good)/2], "more behind": good + "x",
		"twice":     `{"tokens": [` + line + "," + line + `]}`,
		"no hash":   strings.Replace(good, `"hash":"`, `"hash":"x`, 1),
		"no user":   strings.Replace(good, `"user":"ann"`, `"user":""`, 1),
		"line end":  strings.Replace(good, `"user":"ann"`, `"user":"a\nnn"`, 1),
		"no host":   strings.Replace(good, `"host":"registry.example.com"`, `"host":""`, 1),
		"no proof":  strings.Replace(good, `"proof":"`, `"proof":"=`, 1),
		"epoch":     strings.Replace(good, `"epoch":1`, `"epoch":-1`, 1),
		"no time":   regexp.MustCompile(`"used":"[^"]*"`).ReplaceAllString(good, `"used":""`),
		"far time":  regexp.MustCompile(`"used":"[^"]*"`).ReplaceAllString(good, `"used":"9999-12-31T23:59:59-23:59"`),
		"long host": strings.Replace(good, `"host":"registry.example.com"`, `"host":"`+strings.Repeat("x", 300)+`"`, 1),
		"client":    strings.Replace(good, `"client":"docker"`, `"client":"`+strings.Repeat("x", 65)+`"`, 1),
		"too many":  `{"tokens": [` + strings.Repeat(line+",", auth.MaxRefreshTokens) + line + `]}`,
	} {
		if text == good {
			t.Fatalf("%s is no case", name)
		}
		if _, err := auth.ParseRefreshFile([]byte(text)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := auth.ParseRefreshFile(make([]byte, auth.MaxRefreshFile+1)); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("too long: %v", err)
	}
}

func FuzzParseRefreshFile(f *testing.F) {
	f.Add(auth.FormatRefreshFile([]auth.RefreshToken{keptRefresh(1, "ann"), keptRefresh(2, "bob")}))
	f.Add([]byte(`{"tokens": []}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := auth.ParseRefreshFile(text)
		if err != nil {
			return
		}
		again, err := auth.ParseRefreshFile(auth.FormatRefreshFile(all)) // which sorts all
		if d := cmp.Diff(all, again); err != nil || d != "" {
			t.Errorf("%v\n%s", err, d)
		}
		for _, one := range all {
			if one.User == "" || one.Host == "" || one.Via == "" {
				t.Errorf("taken: %+v", one)
			}
		}
	})
}

// kept is a store of refresh tokens in memory.
type kept struct {
	mu   sync.Mutex
	all  map[auth.RefreshHash]auth.RefreshToken
	used map[auth.RefreshHash]time.Time
	err  error
}

func (k *kept) Get(_ context.Context, hash auth.RefreshHash) (auth.RefreshToken, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if one, ok := k.all[hash]; ok || k.err != nil {
		return one, k.err
	}
	return auth.RefreshToken{}, auth.ErrRejected
}

func (k *kept) Add(_ context.Context, one auth.RefreshToken) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.all[one.Hash] = one
	}
	return k.err
}

func (k *kept) Use(_ context.Context, uses map[auth.RefreshHash]time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.used = uses
	}
	return k.err
}

func (k *kept) Delete(_ context.Context, hashes ...auth.RefreshHash) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range hashes {
		delete(k.all, h)
	}
	return len(hashes), k.err
}

func (k *kept) Of(_ context.Context, user string) (some []auth.RefreshToken, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, one := range k.all {
		if user == "" || one.User == user {
			some = append(some, one)
		}
	}
	return some, k.err
}

func (k *kept) Sweep(context.Context) (int, error) { return 0, k.err }

// renewing gives refresh tokens to users of an htpasswd file with ann in it.
func renewing(t testing.TB, now func() time.Time) (*auth.Refreshing, *kept, *auth.Cache, auth.Renewer, auth.Identity) {
	t.Helper()
	store := &kept{all: map[auth.RefreshHash]auth.RefreshToken{}}
	cache := auth.NewCache(100, now)
	hash, err := bcrypt.GenerateFromPassword([]byte("ann's own"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file, err := auth.ParseHtpasswd("f", []byte("ann:"+string(hash)+"\n"), auth.HtpasswdOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := file.Authenticate(t.Context(), auth.NewBasic("ann", "ann's own"))
	if err != nil {
		t.Fatal(err)
	}
	return auth.NewRefreshing(store, cache, now), store, cache, auth.Renewers(file), id
}

// A login that began before a revocation leaves no token behind it, whoever is
// faster.
func TestRefreshGivenWhileRevoked(t *testing.T) {
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for range 50 {
		r, store, cache, by, id := renewing(t, func() time.Time { return at })
		var all sync.WaitGroup
		all.Go(func() { _, _, _ = r.Give(t.Context(), by, &id, auth.RefreshToken{Host: "h"}) })
		all.Go(func() {
			cache.Revoke(auth.Revocation{User: "ann", At: at, Until: at.Add(time.Hour)})
			if _, err := r.EndBefore(t.Context(), map[string]time.Time{"ann": at}); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		if len(store.all) > 0 {
			t.Fatalf("a token from before the revocation is kept: %+v", store.all)
		}
	}
}

func TestRefreshUsesAreNotedLater(t *testing.T) {
	now := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	r, store, _, by, id := renewing(t, func() time.Time { return now })
	secret, hash, err := r.Give(t.Context(), by, &id, auth.RefreshToken{Host: "h", Client: strings.Repeat("c", 100)})
	if err != nil || len(store.all[hash].Client) != auth.MaxRefreshClient {
		t.Fatal(err, store.all)
	}
	login := func() error {
		c := auth.NewRefresh(secret)
		c.Host = "h"
		_, _, err := r.Login(t.Context(), by, c, auth.CacheTimes{TTL: time.Minute}, nil)
		return err
	}
	if err := login(); err != nil || store.used != nil {
		t.Fatal(err, store.used)
	}
	store.err = auth.ErrUnavailable
	if err := r.Note(t.Context()); !errors.Is(err, auth.ErrUnavailable) {
		t.Error(err)
	}
	now = now.Add(time.Second)
	if err := login(); err != nil { // remembered
		t.Error(err)
	}
	store.err = nil
	if err := r.Note(t.Context()); err != nil || !store.used[hash].Equal(now) {
		t.Errorf("%v, noted %v, want %v", err, store.used, now)
	}
	store.used = nil
	if err := r.Note(t.Context()); err != nil || store.used != nil {
		t.Error("noted again", err, store.used)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, []any{auth.NewRefresh(secret), store.all[hash], &hash, r}); strings.Contains(text, secret) {
			t.Errorf("%s prints the secret", verb)
		}
	}
}

// What would not be read again is not kept: the whole file would not be.
func TestRefreshThatCannotBeKept(t *testing.T) {
	r, store, _, by, id := renewing(t, time.Now)
	if _, _, err := r.Give(t.Context(), by, &id, auth.RefreshToken{Host: "h", Addr: strings.Repeat("x", 100)}); err == nil || len(store.all) > 0 {
		t.Errorf("%v, kept %v", err, store.all)
	}
}

// Only who can be asked about gets a token, and the one who proved it is asked.
func TestRenewersAreAskedByWhoProved(t *testing.T) {
	_, _, _, file, id := renewing(t, time.Now)
	if auth.Renewers(auth.NewChain(&scripted{}, &scripted{})) != nil || auth.Renewers(&scripted{}) != nil {
		t.Error("who cannot tell is a Renewer")
	}
	both := auth.Renewers(auth.NewChain(&scripted{}, file.(auth.Authenticator)))
	if got, err := both.Renew(t.Context(), id); err != nil || cmp.Diff(id, got) != "" {
		t.Errorf("%+v, %v", got, err)
	}
	for what, change := range map[string]func(*auth.Identity){
		"another provider": func(id *auth.Identity) { id.Via = "ldap" },
		"another user":     func(id *auth.Identity) { id.Name = "bob" },
		"another line":     func(id *auth.Identity) { id.Proof[0]++ },
	} {
		other := id
		change(&other)
		if _, err := both.Renew(t.Context(), other); !errors.Is(err, auth.ErrRejected) || both.Current(&other) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLDAPRenewsWhoIsStillThere(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	l := mustLDAP(t, ldapOptions(s))
	id, err := ldapLogin(l, "ann", "Ann's own")
	if err != nil {
		t.Fatal(err)
	}
	renew := func() (auth.Identity, error) { return l.Renew(t.Context(), id) }
	if got, err := renew(); err != nil || cmp.Diff(id, got) != "" {
		t.Errorf("%+v, %v; want %+v", got, err, id)
	}
	s.Modify("dn: cn=dev," + teams + "\nchangetype: modify\ndelete: member\nmember: uid=Ann," + people + "\n")
	if got, err := renew(); err != nil || cmp.Diff([]string{"ops (night)"}, got.Groups) != "" {
		t.Errorf("groups of now: %+v, %v", got, err)
	}
	other := ldapOptions(s)
	other.UserFilter = "(&(uid={user})(objectClass=person))"
	if _, err := mustLDAP(t, other).Renew(t.Context(), id); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("by other settings: %v", err)
	}
	s.Modify("dn: uid=Ann," + people + "\nchangetype: delete\n")
	if _, err := renew(); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("gone: %v", err)
	}
	s.Kill()
	if _, err := renew(); !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrRejected) {
		t.Errorf("down: %v", err)
	}
}

// Directories say in ways of their own who may not log in any more.
func TestLDAPRenewsNobodyWhoIsBarred(t *testing.T) {
	now := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	ticks := func(at time.Time) string { return strconv.FormatInt((at.Unix()+11_644_473_600)*10_000_000, 10) }
	for what, tt := range map[string]struct {
		name, value string
		barred      bool
	}{
		"disabled in AD":     {"userAccountControl", "514", true},
		"enabled in AD":      {"userAccountControl", "512", false},
		"expired in AD":      {"accountExpires", ticks(now), true},
		"expires tomorrow":   {"accountExpires", ticks(now.Add(24 * time.Hour)), false},
		"never, as 0":        {"accountExpires", "0", false},
		"never":              {"accountExpires", "9223372036854775807", false},
		"disabled in 389":    {"nsAccountLock", "TRUE", true},
		"locked in OpenLDAP": {"pwdAccountLockedTime", "000001010000Z", true},
		"locked for a pause": {"pwdAccountLockedTime", "20260504095900Z", false},
		"nonsense":           {"accountExpires", "soon", false},
	} {
		url, ca := slapdtest.Fake(t, func(q slapdtest.Question) ([]slapdtest.Entry, int) {
			if q.Op == ldap.ApplicationBindRequest {
				return nil, 0
			}
			return []slapdtest.Entry{{DN: "uid=ann," + people, Attributes: map[string][]string{"uid": {"ann"}, tt.name: {tt.value}}}}, 0
		})
		o := ldapOptions()
		o.Servers, o.CA, o.GroupBase = []string{url}, ca, ""
		o.Now = func() time.Time { return now }
		l := mustLDAP(t, o)
		id, err := ldapLogin(l, "ann", "x")
		if (err != nil) != tt.barred {
			t.Errorf("%s: a login: %v", what, err)
		}
		if err != nil {
			id = auth.Identity{Name: "ann", Via: "ldap"}
			copy(id.Proof[:], l.Proof(auth.NewBasic("ann", "x")))
		}
		if _, err := l.Renew(t.Context(), id); errors.Is(err, auth.ErrRejected) != tt.barred {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestRefreshTokensOfManyRevokedUsers(t *testing.T) {
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for _, many := range []int{1, 10, 30} {
		r, store, _, _, _ := renewing(t, time.Now)
		revoked := map[string]time.Time{}
		for i := range 40 {
			old, late := keptRefresh(i, fmt.Sprint("user", i)), keptRefresh(100+i, fmt.Sprint("user", i))
			late.Epoch = auth.Epoch(at.UnixMilli()) // from after it
			store.all[old.Hash], store.all[late.Hash] = old, late
			if i < many {
				revoked[old.User] = at
			}
		}
		if n, err := r.EndBefore(t.Context(), revoked); n != many || err != nil || len(store.all) != 80-many {
			t.Errorf("%d users: %d ended, %d left, %v", many, n, len(store.all), err)
		}
	}
}

// One that cannot be read again would take all others with it.
func TestRefreshTokensThatAreGivenCanBeRead(t *testing.T) {
	r, store, _, by, id := renewing(t, time.Now)
	for _, client := range []string{"", "docker", "a" + strings.Repeat("é", 40), "ab" + strings.Repeat("\U0001f433", 20), strings.Repeat("\xff", 64)} {
		if _, hash, err := r.Give(t.Context(), by, &id, auth.RefreshToken{Host: "h", Client: client, Addr: "192.0.2.7"}); err != nil {
			t.Errorf("%q: %v", client, err)
		} else if _, err := auth.ParseRefresh(auth.FormatRefresh(store.all[hash])); err != nil {
			t.Errorf("%q: %v", client, err)
		}
	}
	n := len(store.all)
	if _, _, err := r.Give(t.Context(), by, &id, auth.RefreshToken{Host: "h", Addr: strings.Repeat("1", 65)}); err == nil || len(store.all) > n {
		t.Errorf("kept, and nobody can read it: %v", err)
	}
}
