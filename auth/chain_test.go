package auth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// next is a provider that passes on what it does not know.
type next struct {
	*provider
	name string
}

func (n next) Authenticate(ctx context.Context, c auth.Credential) (auth.Identity, error) {
	id, err := n.provider.Authenticate(ctx, c)
	if _, known := n.lines[c.User]; !known && errors.Is(err, auth.ErrRejected) {
		return id, auth.ErrNotMine
	}
	return id, err
}

func (n next) Named() string { return n.name }

func (n next) Remote() bool { return true }

func issuers(t *testing.T) *auth.OIDC {
	t.Helper()
	o, err := auth.NewOIDC(auth.OIDCOptions{Now: time.Now, Issuers: []auth.IssuerOptions{{Name: "ci", Issuer: "https://127.0.0.1:1", Audience: []string{"here"}}}})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Who is known by the look is held up by nobody else: not by a directory that is
// away, nor by the hashing of others.
func TestOthersOutagesHoldNobodyUp(t *testing.T) {
	robots := mustRobots(t, "robots: [{name: ci, allow: pull, repositories: a, hashes: [{sha256: HASH0}]}]")
	file := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})
	away, other := next{newProvider(), "ldap"}, next{newProvider("eve", "pw"), "webhook"}
	away.gate = make(chan struct{})
	chain := auth.NewChain(robots, issuers(t), file, auth.NewChain(away, other))
	k := auth.NewCache(100, newClock().Now)
	k.SetWait(time.Hour)
	var wg sync.WaitGroup
	login := func(user, password string) error {
		_, _, err := k.Login(context.Background(), chain, auth.NewBasic(user, password), times(), nil)
		return err
	}
	for i := range auth.MaxRemoteLogins + 4 {
		wg.Go(func() { _ = login(fmt.Sprint("u", i), "pw") })
	}
	until(t, "the directory has all it may", func() bool { return away.running.Load() == auth.MaxRemoteLogins })
	free := k.TakeSlots() // and all cores hash
	if err := login("robot-ci", robots.secrets[0]); err != nil {
		t.Errorf("a robot: %v", err)
	}
	if err := login("oidc", "no.to.ken"); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("a wrong token: %v", err)
	}
	free()
	if err := login("ann", "pw"); err != nil {
		t.Errorf("ann of the file: %v", err)
	}
	if _, _, err := k.Login(context.Background(), auth.NewChain(issuers(t), other), auth.NewBasic("eve", "pw"), times(), nil); err != nil {
		t.Errorf("another one that is asked: %v", err)
	}
	close(away.gate)
	wg.Wait()
}

// The first that does not pass a login on has the word, a wrong password and an
// outage included.
func TestTheOrderOfProviders(t *testing.T) {
	file := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})
	directory, last := next{newProvider("bob", "pw", "ann", "hers there"), "ldap"}, next{newProvider("eve", "pw", "bob", "his there"), "webhook"}
	chain := auth.NewChain(issuers(t), file, directory, last)
	for name, down := range map[string]error{"all there": nil, "no directory": fmt.Errorf("ldap: %w", auth.ErrUnavailable)} {
		directory.down = down
		for _, tt := range []struct {
			user, password, says string
			word                 auth.Word
			asked                bool // the directory
		}{
			{"ann", "pw", "", "", false},
			{"ann", "hers there", "htpasswd: wrong password", auth.WrongPassword, false},
			{"oidc", "pw", "oidc: the token is none", auth.WrongToken, false},
			{"bob", "pw", "", "", true},
			{"bob", "his there", "ldap: wrong password", auth.WrongPassword, true},
			{"eve", "pw", "", "", true},
			{"mia", "pw", "no provider knows the name", auth.UnknownUser, true},
			{"robot-mia", "rgw_cut", "no provider knows the name with such a password: a robot's secret begins with rgw_ and is whole", auth.UnknownUser, true},
		} {
			k := auth.NewCache(100, newClock().Now)
			var unsaid []string
			k.OnUnsaid(func(e *auth.Unsaid) { unsaid = append(unsaid, e.Via) })
			calls := last.calls.Load()
			_, _, err := k.Login(context.Background(), chain, auth.NewBasic(tt.user, tt.password), times(), nil)
			if tt.asked && down != nil {
				cannot := (*auth.Unsaid)(nil)
				if !errors.As(err, &cannot) || cannot.Via != "ldap" || errors.Is(err, auth.ErrRejected) || last.calls.Load() != calls || len(unsaid) != 1 {
					t.Errorf("%s: %s: %v, and %d asked behind it, told %q", name, tt.user, err, last.calls.Load()-calls, unsaid)
				}
				continue
			}
			wrong := (*auth.Rejection)(nil)
			switch {
			case tt.says == "" && err != nil:
				t.Errorf("%s: %s: %v", name, tt.user, err)
			case tt.says != "" && (!errors.As(err, &wrong) || !strings.HasPrefix(wrong.Error(), tt.says) || wrong.Word != tt.word):
				t.Errorf("%s: %s with %s: %v (%+v), want %s (%s)", name, tt.user, tt.password, err, wrong, tt.says, tt.word)
			}
			if tt.says != "" { // known now, with the reason
				if _, hit, err := k.Login(context.Background(), chain, auth.NewBasic(tt.user, tt.password), times(), nil); !hit || !errors.As(err, &wrong) || wrong.Word != tt.word {
					t.Errorf("%s again: %v, %v", tt.user, hit, err)
				}
			}
			if len(unsaid) > 0 {
				t.Errorf("%s: %s: told %q", name, tt.user, unsaid)
			}
			// The same from a Chain that is asked without a memory.
			if _, plain := chain.Authenticate(context.Background(), auth.NewBasic(tt.user, tt.password)); (plain == nil) != (err == nil) {
				t.Errorf("%s: the chain says %v, with a memory it is %v", tt.user, plain, err)
			}
		}
	}
	directory.down = nil
}

// What somebody is proven by ends with the provider that knows the name: another
// one's settings, or what it is told besides, unprove nobody.
func TestAProofEndsWhereTheNameIsKnown(t *testing.T) {
	file := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})
	hook := func(url string) *auth.Webhook {
		w, err := auth.NewWebhook(auth.WebhookOptions{URL: url, Secret: "0123456789abcdef", Timeout: time.Second, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	one, two := auth.NewChain(issuers(t), file, hook("https://a.example")), auth.NewChain(file, hook("https://b.example"))
	proof := func(chain *auth.Chain, user, addr string) []byte {
		c := auth.NewBasic(user, "pw")
		c.Addr = netip.MustParseAddr(addr)
		return chain.Proof(c)
	}
	if !bytes.Equal(proof(one, "ann", "10.0.0.1"), proof(two, "ann", "10.0.0.2")) {
		t.Error("ann's proof depends on the webhook")
	}
	if bytes.Equal(proof(one, "bob", "10.0.0.1"), proof(one, "bob", "10.0.0.2")) || bytes.Equal(proof(one, "bob", "10.0.0.1"), proof(two, "bob", "10.0.0.1")) {
		t.Error("bob's does not")
	}
	k := auth.NewCache(100, newClock().Now)
	for i, chain := range []*auth.Chain{one, two} {
		if _, hit, err := k.Login(context.Background(), chain, auth.NewBasic("ann", "pw"), times(), nil); err != nil || hit != (i > 0) {
			t.Errorf("reload %d: known: %v, %v", i, hit, err)
		}
	}
	if got := auth.NewChain().Proof(auth.NewBasic("ann", "pw")); got != nil {
		t.Errorf("of nobody: %x", got)
	}
}

// A chain of those who know theirs by the look asks the guard about all others.
func TestNobodysLoginIsGuarded(t *testing.T) {
	k, g := auth.NewCache(100, newClock().Now), &guard{}
	chain := auth.NewChain(issuers(t))
	_, _, err := k.Login(context.Background(), chain, auth.NewBasic("ann", "pw"), times(), g)
	if wrong := (*auth.Rejection)(nil); !errors.As(err, &wrong) || wrong.Word != auth.UnknownUser || g.admits.Load() != 1 || g.fails.Load() != 1 {
		t.Errorf("%v, asked %d times, told %d times", err, g.admits.Load(), g.fails.Load())
	}
	g.shut.Store(true)
	if _, _, err := k.Login(context.Background(), chain, auth.NewBasic("bob", "pw"), times(), g); errors.Is(err, auth.ErrRejected) || g.fails.Load() != 1 {
		t.Errorf("shut: %v, told %d times", err, g.fails.Load())
	}
}

func TestChecksAreCounted(t *testing.T) {
	file := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})
	directory := next{newProvider("bob", "pw"), "ldap"}
	chain, k := auth.NewChain(file, directory), auth.NewCache(100, newClock().Now)
	login := func(user, password string) {
		_, _, _ = k.Login(context.Background(), chain, auth.NewBasic(user, password), times(), nil)
	}
	login("ann", "pw")
	login("ann", "pw") // known
	login("ann", "wrong")
	login("bob", "pw")
	directory.down = auth.ErrUnavailable
	login("eve", "pw")
	directory.down = auth.ErrHeld
	login("mia", "pw")
	var got []string
	for _, c := range k.Checks() {
		if c.N > 0 {
			got = append(got, fmt.Sprintf("%s %s %d", c.Provider, c.Outcome, c.N))
		}
	}
	if want := "htpasswd right 1, htpasswd wrong 1, htpasswd not_mine 3, ldap right 1, ldap cannot_say 1, ldap held_back 1"; strings.Join(got, ", ") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, ", "), want)
	}
}

// What each login of a chain is kept under costs no list of its providers.
func TestChainsOfChainsCostNoMore(t *testing.T) {
	h := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})
	chain := auth.NewChain(auth.NewRobots(nil, auth.RobotOptions{Now: time.Now}), auth.NewChain(issuers(t), h))
	c := auth.NewBasic("ann", "pw")
	own := testing.AllocsPerRun(100, func() { h.Proof(c) })
	if n := testing.AllocsPerRun(100, func() { chain.Proof(c) }) - own; n > 2 { // lengths and proofs in a row
		t.Errorf("a chain allocates %v times more than its provider", n)
	}
}

// late is a Remote provider that tells how long it might take.
type late struct{ left chan time.Duration }

func (l late) Authenticate(ctx context.Context, _ auth.Credential) (auth.Identity, error) {
	end, _ := ctx.Deadline()
	l.left <- time.Until(end)
	return auth.Identity{}, auth.ErrRejected
}

func (late) Proof(auth.Credential) []byte { return nil }

func (late) Remote() bool { return true }

// Whoever explains a login waits no longer than its client would.
func TestAskTakesAsLongAsALogin(t *testing.T) {
	l, c := late{make(chan time.Duration, 2)}, auth.NewBasic("ann", "pw")
	auth.Ask(context.Background(), auth.NewChain(issuers(t), l), c)
	_, _, _ = auth.NewCache(10, time.Now).Login(context.Background(), auth.NewChain(issuers(t), l), c, auth.CacheTimes{}, nil)
	for range 2 {
		if left := <-l.left; left > auth.MaxRemoteTime || left < auth.MaxRemoteTime/2 {
			t.Errorf("it may take %v", left)
		}
	}
}
