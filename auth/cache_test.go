package auth_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// clock is turned by hand.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(1_800_000_000_000_000_000)
	return c
}
func (c *clock) Now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) Advance(d time.Duration) { c.ns.Add(int64(d)) }

// provider counts how often it is asked, and waits for its gate if it has one.
type provider struct {
	calls   atomic.Int64
	running atomic.Int64
	most    atomic.Int64
	gate    chan struct{}

	mu    sync.Mutex
	lines map[string]string // user to password
	down  error
}

func newProvider(lines ...string) *provider {
	p := &provider{lines: map[string]string{}}
	for i := 0; i < len(lines); i += 2 {
		p.lines[lines[i]] = lines[i+1]
	}
	return p
}

func (p *provider) Authenticate(_ context.Context, c auth.Credential) (auth.Identity, error) {
	p.calls.Add(1)
	if n := p.running.Add(1); n > p.most.Load() {
		p.most.Store(n)
	}
	defer p.running.Add(-1)
	if p.gate != nil {
		<-p.gate
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down != nil {
		return auth.Identity{}, p.down
	}
	if want, ok := p.lines[c.User]; !ok || want != c.Secret() {
		return auth.Identity{}, auth.ErrRejected
	}
	return auth.Identity{Name: c.User, Via: "test"}, nil
}

func (p *provider) Proof(c auth.Credential) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []byte(p.lines[c.User])
}

// guard counts, and refuses while it is shut.
type guard struct {
	admits, fails atomic.Int64
	shut          atomic.Bool
	from          string
}

var errLimit = errors.New("too many failed logins")

func (g *guard) Admit(auth.Credential) error {
	g.admits.Add(1)
	if g.shut.Load() {
		return errLimit
	}
	return nil
}
func (g *guard) Failed(auth.Credential) { g.fails.Add(1) }
func (g *guard) Source() string         { return g.from }

func times() auth.CacheTimes {
	return auth.CacheTimes{TTL: time.Minute, NegativeTTL: 5 * time.Second}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestLoginIsRememberedForItsTime(t *testing.T) {
	now, p, g := newClock(), newProvider("ann", "pw"), &guard{}
	k := auth.NewCache(100, now.Now)
	ask := func(user, password string) (string, bool, error) {
		id, hit, err := k.Login(context.Background(), p, auth.NewBasic(user, password), times(), g)
		return id.Name, hit, err
	}
	for _, tt := range []struct {
		what, user, password string
		after                time.Duration
		name                 string
		hit                  bool
		calls, fails         int64
	}{
		{"first", "ann", "pw", 0, "ann", false, 1, 0},
		{"again", "ann", "pw", 59 * time.Second, "ann", true, 1, 0},
		{"TTL over", "ann", "pw", time.Second, "ann", false, 2, 0},
		{"wrong", "ann", "no", 0, "", false, 3, 1},
		{"the same wrong one", "ann", "no", 4 * time.Second, "", true, 3, 1}, // counts once
		{"negative TTL over", "ann", "no", time.Second, "", false, 4, 2},
		{"another wrong one", "ann", "np", 0, "", false, 5, 3},
		{"unknown", "eve", "pw", 0, "", false, 6, 4},
		{"the good one still", "ann", "pw", 0, "ann", true, 6, 4},
	} {
		now.Advance(tt.after)
		name, hit, err := ask(tt.user, tt.password)
		if name != tt.name || hit != tt.hit || (err == nil) != (tt.name != "") {
			t.Errorf("%s: got %q, hit %v, %v", tt.what, name, hit, err)
		}
		if err != nil && !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: got %v, want ErrRejected", tt.what, err)
		}
		if p.calls.Load() != tt.calls || g.fails.Load() != tt.fails {
			t.Errorf("%s: %d checks, %d failures, want %d, %d", tt.what, p.calls.Load(), g.fails.Load(), tt.calls, tt.fails)
		}
	}
	hits, misses, proven, rejected, tokens := k.Stats()
	if hits != 3 || misses != 6 || proven != 1 || rejected != 3 || tokens != 0 {
		t.Errorf("stats: %d %d %d %d %d", hits, misses, proven, rejected, tokens)
	}
	now.Advance(-time.Hour) // a clock set back proves nothing
	if _, hit, _ := ask("ann", "pw"); hit {
		t.Error("believed an entry from the future")
	}
}

func TestWhatProvedALoginChanged(t *testing.T) {
	p := newProvider("ann", "pw")
	k := auth.NewCache(100, newClock().Now)
	c := auth.NewBasic("ann", "pw")
	if _, _, err := k.Login(context.Background(), p, c, times(), nil); err != nil {
		t.Fatal(err)
	}
	p.lines["ann"] = "new"
	if _, hit, err := k.Login(context.Background(), p, c, times(), nil); hit || !errors.Is(err, auth.ErrRejected) {
		t.Errorf("after the change: hit %v, %v", hit, err)
	}
	p.lines["ann"] = "pw" // and back: what was rejected is not rejected now
	if _, _, err := k.Login(context.Background(), p, c, times(), nil); err != nil {
		t.Errorf("after the change back: %v", err)
	}
}

func TestNotKnowingIsNeverRemembered(t *testing.T) {
	p, g := newProvider("ann", "pw"), &guard{}
	k := auth.NewCache(100, newClock().Now)
	p.down = errors.New("directory is down")
	for range 2 {
		_, hit, err := k.Login(context.Background(), p, auth.NewBasic("ann", "pw"), times(), g)
		if hit || !errors.Is(err, p.down) || errors.Is(err, auth.ErrRejected) {
			t.Errorf("got hit %v, %v", hit, err)
		}
	}
	if p.calls.Load() != 2 || g.fails.Load() != 0 {
		t.Errorf("%d checks, %d failures", p.calls.Load(), g.fails.Load())
	}
}

func TestNobodyToAsk(t *testing.T) {
	k := auth.NewCache(100, newClock().Now)
	if _, _, err := k.Login(context.Background(), nil, auth.NewBasic("ann", "pw"), times(), nil); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("without a provider: %v", err)
	}
	if _, _, err := k.Login(context.Background(), newProvider(), auth.Credential{}, times(), nil); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("without a credential: %v", err)
	}
	pass := fixed{err: auth.ErrNotMine} // a provider on its own, not in a chain
	if _, _, err := k.Login(context.Background(), pass, auth.NewBasic("ann", "pw"), times(), nil); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("nobody's credential: %v", err)
	}
}

func TestALoginProvenGoodIsNeverLockedOut(t *testing.T) {
	now, p, g := newClock(), newProvider("ann", "pw"), &guard{}
	k := auth.NewCache(100, now.Now)
	ask := func(password string) error {
		_, _, err := k.Login(context.Background(), p, auth.NewBasic("ann", password), times(), g)
		return err
	}
	if err := ask("pw"); err != nil || g.admits.Load() != 1 {
		t.Fatalf("%v, %d", err, g.admits.Load())
	}
	g.shut.Store(true)
	now.Advance(time.Hour) // the entry is over, but not that it was good
	if err := ask("pw"); err != nil {
		t.Errorf("locked out: %v", err)
	}
	if err := ask("guess"); !errors.Is(err, errLimit) {
		t.Errorf("a guess: got %v", err)
	}
	if g.fails.Load() != 0 || p.calls.Load() != 2 {
		t.Errorf("%d failures, %d checks: a refused guess was hashed", g.fails.Load(), p.calls.Load())
	}
	now.Advance(auth.GoodBefore)
	if err := ask("pw"); !errors.Is(err, errLimit) {
		t.Errorf("a day later: got %v", err)
	}
	// A login that turned bad is spared no longer.
	g.shut.Store(false)
	p.down = auth.ErrRejected
	now.Advance(2*time.Minute - auth.GoodBefore)
	if err := ask("pw"); !errors.Is(err, auth.ErrRejected) || k.GoodLen() != 0 {
		t.Errorf("%v, %d good", err, k.GoodLen())
	}
}

// Who is locked out learns nothing from what others have proven elsewhere.
func TestALockedOutGuesserGainsNothingFromOthers(t *testing.T) {
	now, p := newClock(), newProvider("ann", "pw")
	k := auth.NewCache(100, now.Now)
	ask := func(g *guard) error {
		_, _, err := k.Login(context.Background(), p, auth.NewBasic("ann", "pw"), times(), g)
		return err
	}
	home, attacker := &guard{from: "ip:192.0.2.7"}, &guard{from: "ip:203.0.113.9"}
	attacker.shut.Store(true)
	if err := ask(home); err != nil {
		t.Fatal(err)
	}
	if err := ask(attacker); !errors.Is(err, errLimit) {
		t.Errorf("while the login is remembered: got %v", err)
	}
	now.Advance(time.Hour)
	if err := ask(attacker); !errors.Is(err, errLimit) {
		t.Errorf("when it was good before: got %v", err)
	}
	// Nor from a check that is under way.
	p.gate = make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ask(home); err != nil {
			t.Error(err)
		}
	})
	until(t, "the check has begun", func() bool { return p.calls.Load() == 2 })
	wg.Go(func() {
		if err := ask(attacker); !errors.Is(err, errLimit) {
			t.Errorf("as a follower: got %v", err)
		}
	})
	until(t, "the guesser waits", func() bool { return k.Waiting() == 1 })
	close(p.gate)
	wg.Wait()
	home.shut.Store(true)
	if err := ask(home); err != nil {
		t.Errorf("at home: got %v", err)
	}
}

// "sixteen simultaneous first checks of one password one bcrypt"
func TestSixteenAtOnceAreOneCheck(t *testing.T) {
	for _, password := range []string{"pw", "wrong"} {
		p, g := newProvider("ann", "pw"), &guard{}
		p.gate = make(chan struct{})
		k := auth.NewCache(100, newClock().Now)
		var good, bad atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if _, _, err := k.Login(context.Background(), p, auth.NewBasic("ann", password), times(), g); err == nil {
					good.Add(1)
				} else if errors.Is(err, auth.ErrRejected) {
					bad.Add(1)
				}
			})
		}
		until(t, "fifteen wait for one", func() bool { return k.Waiting() == 15 })
		close(p.gate)
		wg.Wait()
		want := map[string][2]int64{"pw": {16, 0}, "wrong": {0, 16}}[password]
		if p.calls.Load() != 1 || g.admits.Load() != 1 || [2]int64{good.Load(), bad.Load()} != want || g.fails.Load() != want[1]/16 {
			t.Errorf("%s: %d checks, %d admits, %d good, %d bad, %d failures", password, p.calls.Load(), g.admits.Load(), good.Load(), bad.Load(), g.fails.Load())
		}
	}
}

func TestTheLeaderMayGo(t *testing.T) {
	p := newProvider("ann", "pw")
	p.gate = make(chan struct{})
	k := auth.NewCache(100, newClock().Now)
	c := auth.NewBasic("ann", "pw")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := k.Login(ctx, p, c, times(), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("the leader: %v", err)
		}
	})
	until(t, "the check has begun", func() bool { return p.calls.Load() == 1 })
	wg.Go(func() {
		if id, _, err := k.Login(context.Background(), p, c, times(), nil); err != nil || id.Name != "ann" {
			t.Errorf("the follower: %v", err)
		}
	})
	until(t, "the follower waits", func() bool { return k.Waiting() == 1 })
	cancel()
	close(p.gate)
	wg.Wait()
	if p.calls.Load() != 1 {
		t.Errorf("%d checks", p.calls.Load())
	}
}

// onlyOthers refuses the one it is for, after a while.
type onlyOthers struct {
	refuse bool
	entered,
	gate chan struct{}
	guard
}

func (g *onlyOthers) Admit(c auth.Credential) error {
	if g.refuse {
		close(g.entered)
		<-g.gate
		return errLimit
	}
	return g.guard.Admit(c)
}

func TestARefusedLeaderRefusesNobodyElse(t *testing.T) {
	p := newProvider("ann", "pw")
	k := auth.NewCache(100, newClock().Now)
	c := auth.NewBasic("ann", "pw")
	leader := &onlyOthers{refuse: true, entered: make(chan struct{}), gate: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := k.Login(context.Background(), p, c, times(), leader); !errors.Is(err, errLimit) {
			t.Errorf("the leader: %v", err)
		}
	})
	<-leader.entered
	other := &guard{}
	wg.Go(func() {
		if _, _, err := k.Login(context.Background(), p, c, times(), other); err != nil {
			t.Errorf("the follower: %v", err)
		}
	})
	until(t, "it waits", func() bool { return k.Waiting() == 1 })
	close(leader.gate)
	wg.Wait()
	if p.calls.Load() != 1 {
		t.Errorf("%d checks", p.calls.Load())
	}
}

func TestHashingTakesNoMoreThanHalfOfTheCores(t *testing.T) {
	p := newProvider()
	p.gate = make(chan struct{})
	k := auth.NewCache(100, newClock().Now)
	k.SetWait(time.Hour)
	if want := max(1, runtime.GOMAXPROCS(0)/2); k.Slots() != want {
		t.Fatalf("%d slots, want %d", k.Slots(), want)
	}
	n := k.Slots() + auth.MaxLoginQueue
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, _, err := k.Login(context.Background(), p, auth.NewBasic(fmt.Sprint("u", i), "pw"), times(), nil)
			if !errors.Is(err, auth.ErrRejected) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	until(t, "the queue is full", func() bool { return k.Queued() == auth.MaxLoginQueue && p.running.Load() == int64(k.Slots()) })
	if _, _, err := k.Login(context.Background(), p, auth.NewBasic("one more", "pw"), times(), nil); !errors.Is(err, auth.ErrBusy) {
		t.Errorf("beyond the queue: got %v, want ErrBusy", err)
	}
	close(p.gate)
	wg.Wait()
	if p.most.Load() > int64(k.Slots()) || p.calls.Load() != int64(n) {
		t.Errorf("%d at once of %d, %d in all", p.most.Load(), k.Slots(), p.calls.Load())
	}
}

func TestTheWaitForASlotEnds(t *testing.T) {
	p := newProvider()
	p.gate = make(chan struct{})
	k := auth.NewCache(100, newClock().Now)
	k.SetWait(time.Microsecond)
	var wg sync.WaitGroup
	for i := range k.Slots() {
		wg.Go(func() {
			_, _, _ = k.Login(context.Background(), p, auth.NewBasic(fmt.Sprint("u", i), "pw"), times(), nil)
		})
	}
	until(t, "all slots are taken", func() bool { return p.running.Load() == int64(k.Slots()) })
	if _, _, err := k.Login(context.Background(), p, auth.NewBasic("x", "pw"), times(), nil); !errors.Is(err, auth.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	close(p.gate)
	wg.Wait()
}

type panics struct{}

func (panics) Authenticate(context.Context, auth.Credential) (auth.Identity, error) { panic("oh") }
func (panics) Proof(auth.Credential) []byte                                         { return nil }

func TestAPanickingProviderIsNoRefusal(t *testing.T) {
	k := auth.NewCache(100, newClock().Now)
	for range k.Slots() + 1 { // slots are given back
		_, hit, err := k.Login(context.Background(), panics{}, auth.NewBasic("ann", "pw"), times(), nil)
		if err == nil || hit || errors.Is(err, auth.ErrRejected) || errors.Is(err, auth.ErrBusy) {
			t.Fatalf("got %v, %v", hit, err)
		}
	}
}

// "2,000 logins, a reload of the rules: no new hash"
func TestAReloadUnprovesNobody(t *testing.T) {
	var file strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&file, "user%d:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", i)
	}
	o := auth.HtpasswdOptions{AllowWeak: true, Key: [32]byte{7}}
	k := auth.NewCache(10_000, newClock().Now)
	all := func(h *auth.Htpasswd) (calls int64) {
		counted := &counting{Authenticator: auth.NewChain(h)}
		for i := range 2000 {
			if _, _, err := k.Login(context.Background(), counted, auth.NewBasic(fmt.Sprint("User", i), "password"), times(), nil); err != nil {
				t.Fatal(err)
			}
		}
		return counted.calls.Load()
	}
	if n := all(mustHtpasswd(t, file.String(), o)); n != 2000 {
		t.Fatalf("%d checks at first", n)
	}
	if n := all(mustHtpasswd(t, file.String(), o)); n != 0 {
		t.Errorf("%d new checks after a reload of the same file", n)
	}
	changed := strings.Replace(file.String(), "user7:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "user7:$apr1$"+strings.SplitN(strings.TrimSpace(apr1), "$apr1$", 2)[1], 1)
	if n := all(mustHtpasswd(t, changed, o)); n != 1 {
		t.Errorf("%d new checks after one line changed", n)
	}
}

type counting struct {
	auth.Authenticator
	calls atomic.Int64
}

func (c *counting) Authenticate(ctx context.Context, cr auth.Credential) (auth.Identity, error) {
	c.calls.Add(1)
	return c.Authenticator.Authenticate(ctx, cr)
}

func TestAFloodOfWrongPasswordsEvictsNoGoodOne(t *testing.T) {
	p := newProvider("ann", "pw")
	k := auth.NewCache(1000, newClock().Now)
	c := auth.NewBasic("ann", "pw")
	if _, _, err := k.Login(context.Background(), p, c, times(), nil); err != nil {
		t.Fatal(err)
	}
	for i := range 100_000 {
		_, _, _ = k.Login(context.Background(), p, auth.NewBasic("ann", fmt.Sprint(i)), times(), nil)
	}
	if _, hit, err := k.Login(context.Background(), p, c, times(), nil); !hit || err != nil {
		t.Errorf("got hit %v, %v", hit, err)
	}
	if _, _, _, rejected, _ := k.Stats(); rejected > 1008 {
		t.Errorf("%d rejected are kept", rejected)
	}
}

func TestResize(t *testing.T) {
	p := newProvider()
	k := auth.NewCache(1600, newClock().Now)
	for i := range 1600 {
		p.lines[fmt.Sprint(i)] = "pw"
		_, _, _ = k.Login(context.Background(), p, auth.NewBasic(fmt.Sprint(i), "pw"), times(), nil)
	}
	k.Resize(160)
	if _, _, proven, _, _ := k.Stats(); proven > 160 || proven < 100 {
		t.Errorf("%d proven are kept", proven)
	}
	k.Resize(0)
	if _, _, proven, _, _ := k.Stats(); proven > 16 {
		t.Errorf("%d proven are kept", proven)
	}
}

// G12: keys with moved separators.
func TestLoginKeysDiffer(t *testing.T) {
	k := auth.NewCache(16, newClock().Now)
	seen := map[[32]byte]string{}
	for _, user := range []string{"", "a", "ab", "a\x00", "\x00", "aa"} {
		for _, password := range []string{"", "a", "ba", "\x00a", "b"} {
			for _, proof := range []string{"", "a", "b", "ba"} {
				for _, c := range []auth.Credential{auth.NewBasic(user, password), auth.NewBearer(user + password)} {
					name := fmt.Sprintf("%d %q %q %q", c.Kind, c.User, c.Secret(), proof)
					key := k.LoginKey(fixed{id: auth.Identity{Name: proof}}, c)
					if other, ok := seen[key]; ok && other != name {
						t.Errorf("%s and %s share a key", name, other)
					}
					seen[key] = name
				}
			}
		}
	}
	c := auth.NewBasic("a", "b")
	if k.LoginKey(fixed{}, c) == auth.NewCache(16, newClock().Now).LoginKey(fixed{}, c) {
		t.Error("two processes make the same keys")
	}
}

// G12: never an allow after the TTL or after the line changed.
func TestCacheNeverAllowsTooLong(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	now, p := newClock(), newProvider()
	k := auth.NewCache(32, now.Now) // small: entries are pushed out as well
	names, words := []string{"a", "b", "c", "d", "e"}, []string{"1", "2", "3"}
	type pair struct{ user, password string }
	checked := map[pair]time.Time{} // when the provider last said yes to it
	hits, allows := 0, 0
	for range 100_000 {
		c := pair{names[r.IntN(len(names))], words[r.IntN(len(words))]}
		switch r.IntN(8) {
		case 0:
			p.lines[c.user] = c.password
		case 1:
			delete(p.lines, c.user)
		case 2:
			now.Advance(time.Duration(r.IntN(20)) * time.Second)
		case 3:
			k.Resize(16 + r.IntN(64))
		default:
			before := p.calls.Load()
			id, hit, err := k.Login(context.Background(), p, auth.NewBasic(c.user, c.password), times(), nil)
			if hit != (p.calls.Load() == before) {
				t.Fatalf("hit is %v after %d checks", hit, p.calls.Load()-before)
			}
			if err != nil {
				if p.lines[c.user] == c.password {
					t.Fatalf("%v is rejected, but right", c)
				}
				continue
			}
			allows++
			if p.lines[c.user] != c.password || id.Name != c.user {
				t.Fatalf("%v is allowed as %q, but the line is %q", c, id.Name, p.lines[c.user])
			}
			if !hit {
				checked[c] = now.Now()
				continue
			}
			hits++
			if age := now.Now().Sub(checked[c]); age >= time.Minute {
				t.Fatalf("%v is allowed %v after its check", c, age)
			}
		}
	}
	if hits < 1000 || allows-hits < 1000 {
		t.Fatalf("%d allows, %d hits: nothing was tried", allows, hits)
	}
}

func TestLoginsAllAtOnce(t *testing.T) { // for -race
	p := newProvider("a", "1", "b", "2")
	now := newClock()
	k := auth.NewCache(64, now.Now)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 500 {
				user, word := []string{"a", "b", "c"}[r.IntN(3)], []string{"1", "2"}[r.IntN(2)]
				id, _, err := k.Login(context.Background(), p, auth.NewBasic(user, word), times(), &guard{})
				good := user == "a" && word == "1" || user == "b" && word == "2"
				if good != (err == nil) || good && id.Name != user {
					t.Errorf("%s %s: got %q, %v", user, word, id.Name, err)
				}
				if r.IntN(20) == 0 {
					now.Advance(10 * time.Second)
					k.Resize(16 + r.IntN(100))
				}
				k.Stats()
			}
		})
	}
	wg.Wait()
}

func TestBearer(t *testing.T) {
	tokens, other := newTokens(t), newTokens(t)
	now := newClock()
	k := auth.NewCache(100, now.Now)
	token := issue(t, tokens, auth.Identity{Name: "ann"}, one(auth.Pull, "a")...)
	first, err := k.Bearer(tokens, token, host)
	if err != nil || first.Name != "ann" {
		t.Fatalf("got %+v, %v", first, err)
	}
	if again, err := k.Bearer(tokens, token, host); err != nil || again != first {
		t.Errorf("not remembered: %v", err)
	}
	now.Advance(time.Hour)
	if late, err := k.Bearer(tokens, token, host); err != nil || !late.Expires.Before(now.Now()) {
		t.Errorf("an expired token does not yield its identity: %v", err) // S13: callers look
	}
	if _, err := k.Bearer(tokens, token, "other.example.com"); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("another hostname: %v", err)
	}
	if _, err := k.Bearer(other, token, host); !errors.As(err, new(*auth.ForeignKey)) {
		t.Errorf("after a reload with other keys: %v", err)
	}
	if _, err := k.Bearer(tokens, token+strings.Repeat("A", auth.MaxToken), host); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("too long: %v", err)
	}
	forged := token[:len(token)-4] + "AAAA"
	for range 3 {
		if _, err := k.Bearer(tokens, forged, host); !errors.Is(err, auth.ErrRejected) {
			t.Errorf("forged: %v", err)
		}
	}
	for i := range 2 * auth.MaxBadTokens {
		_, _ = k.Bearer(tokens, token[:len(token)-86]+fmt.Sprintf("%085dA", i), host)
	}
	if n := k.ForgedLen(); n == 0 || n > auth.MaxBadTokens {
		t.Errorf("%d forged ones are kept", n)
	}
	ahead, err := tokens.Issue(auth.Identity{Name: "ann"}, host, nil, now.Now().Add(2*auth.TokenLeeway), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Bearer(tokens, ahead, host); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("not valid yet: %v", err)
	}
	now.Advance(auth.TokenLeeway)
	if _, err := k.Bearer(tokens, ahead, host); err != nil {
		t.Errorf("within the leeway: %v", err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = k.Bearer(tokens, token, host) }); n > 1 {
		t.Errorf("a known token allocates %v times", n)
	}
}

func BenchmarkBearerHit(b *testing.B) {
	tokens := newTokens(b)
	k := auth.NewCache(10_000, newClock().Now)
	token := issue(b, tokens, auth.Identity{Name: "ann", Via: "htpasswd", Proof: [16]byte{1}}, one(auth.Pull, "library/alpine")...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Bearer(tokens, token, host); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoginHit(b *testing.B) {
	h := mustHtpasswd(b, line("ann", "pw"), auth.HtpasswdOptions{})
	k := auth.NewCache(10_000, time.Now)
	chain, c := auth.NewChain(h), auth.NewBasic("ann", "pw")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := k.Login(context.Background(), chain, c, auth.CacheTimes{TTL: time.Hour}, nil); err != nil {
			b.Fatal(err)
		}
	}
}
