package auth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// revocation of a user at a time, kept for a day.
func revocation(user string, at time.Time) auth.Revocation {
	return auth.Revocation{User: user, At: at, Until: at.Add(25 * time.Hour)}
}

func TestARevocationEndsTokensFromBefore(t *testing.T) {
	tokens, now := newTokens(t), newClock()
	at := now.Now()
	epoch := auth.Epoch(at.UnixMilli())
	type row struct {
		what   string
		id     auth.Identity
		issued time.Time
		ended  bool
	}
	k := auth.NewCache(100, now.Now)
	ask := func(tt row) error {
		token, err := tokens.Issue(tt.id, host, nil, tt.issued, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		id, err := k.Bearer(tokens, token, host)
		if (id == nil) != (err != nil) {
			t.Errorf("%s: got both or neither", tt.what)
		}
		return err
	}
	now.Advance(time.Hour)
	k.Revoke(revocation("ann", at))
	for _, tt := range []row{
		{"from before", auth.Identity{Name: "ann"}, at.Add(-time.Second), true},
		{"by who has not heard of it", auth.Identity{Name: "ann"}, at.Add(time.Second), true},
		{"by such a one whose clock is a minute ahead", auth.Identity{Name: "ann"}, at.Add(time.Minute), true},
		{"by such a one, but proven anew since", auth.Identity{Name: "ann"}, at.Add(auth.RevokedGrace + time.Second), false},
		{"from after", auth.Identity{Name: "ann", Epoch: epoch}, at.Add(time.Second), false},
		{"from after, by a clock a minute behind", auth.Identity{Name: "ann", Epoch: epoch}, at.Add(-time.Minute), false},
		{"after an earlier one", auth.Identity{Name: "ann", Epoch: epoch - 1}, at, true},
		{"after one that we have not heard of", auth.Identity{Name: "ann", Epoch: epoch + 5}, at, false},
		{"somebody else's", auth.Identity{Name: "bob"}, at.Add(-time.Second), false},
		{"in other letters", auth.Identity{Name: "Ann"}, at.Add(-time.Second), false}, // names are folded before
		{"nobody's", auth.Identity{}, at.Add(-time.Second), false},
	} {
		for range 2 { // read, and remembered
			if err := ask(tt); errors.Is(err, auth.ErrRevoked) != tt.ended || !tt.ended && err != nil {
				t.Errorf("a token %s: %v", tt.what, err)
			}
		}
	}
	k.Revoke(revocation("", at))
	for _, tt := range []row{
		{"of bob's from before", auth.Identity{Name: "bob"}, at.Add(-time.Second), true},
		{"of bob's from after", auth.Identity{Name: "bob", Epoch: epoch}, at.Add(-time.Second), false},
		{"of nobody's", auth.Identity{}, at.Add(-time.Second), false},
	} {
		if err := ask(tt); errors.Is(err, auth.ErrRevoked) != tt.ended {
			t.Errorf("everybody is out, a token %s: %v", tt.what, err)
		}
	}
	if !errors.Is(auth.ErrRevoked, auth.ErrRejected) {
		t.Error("a token that was revoked is not rejected")
	}
}

func TestARevocationEndsALogin(t *testing.T) {
	p, now := newProvider("ann", "1", "bob", "2"), newClock()
	k := auth.NewCache(100, now.Now)
	login := func(c auth.Credential, g auth.Guard) (auth.Identity, bool) {
		t.Helper()
		id, hit, err := k.Login(context.Background(), p, c, times(), g)
		if err != nil {
			t.Fatal(err)
		}
		return id, hit
	}
	ann, bob := auth.NewBasic("ann", "1"), auth.NewBasic("bob", "2")
	g := &guard{}
	login(ann, g)
	login(bob, g)
	first := revocation("ann", now.Now())
	k.Revoke(first)
	asked := g.admits.Load()
	if id, hit := login(ann, g); hit || id.Epoch != auth.Epoch(first.At.UnixMilli()) {
		t.Errorf("known: %v, epoch %d", hit, id.Epoch)
	}
	if g.admits.Load() == asked {
		t.Error("still spared the limits of failed logins")
	}
	if _, hit := login(ann, g); !hit {
		t.Error("proven anew, and asked again all the same")
	}
	if _, hit := login(bob, g); !hit {
		t.Error("somebody else is asked again")
	}
	k.Revoke(first) // heard of twice
	if _, hit := login(ann, g); !hit {
		t.Error("one revocation ends what came after it")
	}
	k.Revoke(revocation("ann", first.At.Add(time.Millisecond)))
	if _, hit := login(ann, g); hit {
		t.Error("the second revocation ends nothing")
	}
}

// A check takes long enough for a revocation to come in between.
func TestACheckUnderWayIsAskedAgain(t *testing.T) {
	p, now := newProvider("ann", "1"), newClock()
	p.gate = make(chan struct{})
	k := auth.NewCache(100, now.Now)
	type answer struct {
		id  auth.Identity
		err error
	}
	got := make(chan answer)
	for range 2 { // who began it, and who waits for it
		go func() {
			id, _, err := k.Login(context.Background(), p, auth.NewBasic("ann", "1"), times(), nil)
			got <- answer{id, err}
		}()
	}
	eventually(t, func() bool { return p.running.Load() == 1 && k.Waiting() == 1 })
	one := revocation("ann", now.Now())
	k.Revoke(one)
	p.gate <- struct{}{}                                      // the first check ends
	eventually(t, func() bool { return p.calls.Load() == 2 }) // and there is a second
	close(p.gate)
	for range 2 {
		if a := <-got; a.err != nil || a.id.Epoch != auth.Epoch(one.At.UnixMilli()) {
			t.Errorf("got %+v, %v", a.id, a.err)
		}
	}
}

// G9: 1000 revocations, each while others ask. None is let in by what was
// proven before once the revocation has returned.
func TestNoStaleAllowInRevokeAskRaces(t *testing.T) {
	tokens, now := newTokens(t), newClock()
	k := auth.NewCache(10_000, now.Now)
	var stale, allowed, refused atomic.Int64
	for i := range 1000 {
		user := fmt.Sprintf("user%d", i)
		p, c := newProvider(user, "1"), auth.NewBasic(user, "1")
		old := issue(t, tokens, auth.Identity{Name: user})
		var over atomic.Bool
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for late := 0; late < 3; {
					was := over.Load() // before we ask
					_, err := k.Bearer(tokens, old, host)
					id, _, loginErr := k.Login(context.Background(), p, c, times(), nil)
					bought := ""
					if loginErr == nil {
						bought, _ = tokens.Issue(id, host, nil, now.Now(), time.Hour)
					}
					if !was {
						allowed.Add(1)
						if over.Load() && bought != "" {
							// Proven before or after: only what was proven after may live.
							if _, err := k.Bearer(tokens, bought, host); err == nil && id.Epoch == 0 {
								stale.Add(1)
							}
						}
						continue
					}
					late++
					refused.Add(1)
					if err == nil || loginErr == nil {
						stale.Add(1)
					}
				}
			})
		}
		if i%2 == 0 {
			eventually(t, func() bool { return p.calls.Load() > 0 })
		}
		p.mu.Lock()
		delete(p.lines, user) // disabled where logins are kept
		p.mu.Unlock()
		k.Revoke(revocation(user, now.Now()))
		over.Store(true)
		wg.Wait()
	}
	if stale.Load() != 0 || allowed.Load() == 0 || refused.Load() < 6000 {
		t.Errorf("%d stale allows; asked %d times before, %d after", stale.Load(), allowed.Load(), refused.Load())
	}
}

func TestRevocationsAreBounded(t *testing.T) {
	tokens, now := newTokens(t), newClock()
	k := auth.NewCache(100, now.Now)
	var list []auth.Revocation
	for i := range auth.MaxRevoked {
		list = append(list, revocation(fmt.Sprint(i), now.Now()))
	}
	k.Revoke(list...)
	token := issue(t, tokens, auth.Identity{Name: "bob"})
	if _, err := k.Bearer(tokens, token, host); err != nil || k.Revoked() != auth.MaxRevoked {
		t.Fatalf("%d are kept, %v", k.Revoked(), err)
	}
	k.Revoke(revocation("one more", now.Now()), revocation("and more", now.Now().Add(time.Second)))
	if _, err := k.Bearer(tokens, token, host); !errors.Is(err, auth.ErrRevoked) || k.Revoked() != auth.MaxRevoked+1 {
		t.Errorf("%d are kept, and who is not among them is not out: %v", k.Revoked(), err)
	}
	k.Revoke(revocation("7", now.Now().Add(time.Minute)))
	seven := issue(t, tokens, auth.Identity{Name: "7", Epoch: auth.Epoch(now.Now().Add(30 * time.Second).UnixMilli())})
	if _, err := k.Bearer(tokens, seven, host); !errors.Is(err, auth.ErrRevoked) {
		t.Errorf("who is among them cannot be revoked once more: %v", err)
	}
	now.Advance(26 * time.Hour)
	k.Revoke()
	if k.Revoked() != 0 {
		t.Errorf("%d are kept for ever", k.Revoked())
	}
}

func TestWhatIsNoRevocation(t *testing.T) {
	now := newClock()
	k := auth.NewCache(100, now.Now)
	k.Revoke(
		auth.Revocation{User: "ann"},
		auth.Revocation{User: "ann", At: now.Now(), Until: now.Now()},                 // over
		auth.Revocation{User: "ann", At: time.Unix(-5, 0), Until: now.Now().Add(1e9)}, // never
	)
	if k.Revoked() != 0 {
		t.Errorf("%d are kept", k.Revoked())
	}
}

func TestAskingAboutRevocationsIsFree(t *testing.T) {
	tokens, now := newTokens(t), newClock()
	k := auth.NewCache(100, now.Now)
	token := issue(t, tokens, auth.Identity{Name: "ann"})
	_, _ = k.Bearer(tokens, token, host)
	k.Revoke(revocation("bob", now.Now()), revocation("zoe", now.Now()))
	if n := testing.AllocsPerRun(100, func() { _, _ = k.Bearer(tokens, token, host) }); n > 1 { // as without any
		t.Errorf("allocates %v times", n)
	}
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("never came to pass")
		}
		time.Sleep(100 * time.Microsecond)
	}
}
