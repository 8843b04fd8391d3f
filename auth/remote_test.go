package auth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// far is a provider that waits for the network.
type far struct{ *provider }

func (far) Remote() bool { return true }

func TestWhoWaitsForTheNetworkTakesNoCore(t *testing.T) {
	slow, quick := far{newProvider("ann", "pw")}, newProvider("bob", "pw")
	slow.gate = make(chan struct{})
	k := auth.NewCache(100, newClock().Now)
	k.SetWait(time.Hour)
	n := auth.MaxRemoteLogins + auth.MaxLoginQueue
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, _, err := k.Login(context.Background(), slow, auth.NewBasic(fmt.Sprint("u", i), "pw"), times(), nil); !errors.Is(err, auth.ErrRejected) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	until(t, "all may wait that may", func() bool {
		return k.AskingQueued() == auth.MaxLoginQueue && slow.running.Load() == auth.MaxRemoteLogins
	})
	if _, _, err := k.Login(context.Background(), slow, auth.NewBasic("one more", "pw"), times(), nil); !errors.Is(err, auth.ErrBusy) {
		t.Errorf("beyond the queue: got %v, want ErrBusy", err)
	}
	if _, _, err := k.Login(context.Background(), quick, auth.NewBasic("bob", "pw"), times(), nil); err != nil {
		t.Errorf("a hash meanwhile: %v", err)
	}
	close(slow.gate)
	wg.Wait()
	if slow.most.Load() > auth.MaxRemoteLogins || slow.calls.Load() != int64(n) || k.Asking() != 0 {
		t.Errorf("%d at once, %d in all, %d left", slow.most.Load(), slow.calls.Load(), k.Asking())
	}
}

// A file first, then somebody to ask: no core is kept while waiting for them.
func TestAChainKeepsNoCoreWhileItWaits(t *testing.T) {
	file := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})
	asked := far{newProvider("bob", "pw", "ann", "hers elsewhere")}
	asked.gate = make(chan struct{})
	chain := auth.NewChain(file, asked)
	k := auth.NewCache(100, newClock().Now)
	k.SetWait(time.Hour)
	login := func(user, password string) (string, error) {
		id, _, err := k.Login(context.Background(), chain, auth.NewBasic(user, password), times(), nil)
		return id.Name, err
	}
	var wg sync.WaitGroup
	n := k.Slots() + 1 // more than there are cores to hash with
	for i := range n {
		wg.Go(func() {
			if _, err := login("bob", fmt.Sprint("wrong ", i)); !errors.Is(err, auth.ErrRejected) {
				t.Errorf("bob: %v", err)
			}
		})
	}
	until(t, "all wait", func() bool { return asked.running.Load() == int64(n) })
	if name, err := login("ann", "pw"); err != nil || name != "ann" {
		t.Errorf("ann meanwhile: %q, %v", name, err)
	}
	close(asked.gate)
	wg.Wait()

	// Who is in the file is nobody else's: neither their password nor a guess at it goes on.
	before := asked.calls.Load()
	if _, err := login("ann", "hers elsewhere"); !errors.Is(err, auth.ErrRejected) || asked.calls.Load() != before {
		t.Errorf("ann with another password: %v, asked %d times", err, asked.calls.Load()-before)
	}
	if name, err := login("bob", "pw"); err != nil || name != "bob" {
		t.Errorf("bob: %q, %v", name, err)
	}
	if _, err := login("eve", "pw"); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("eve: %v", err)
	}
}

// deadline notes how long it was given.
type deadline struct{ given time.Duration }

func (d *deadline) Authenticate(ctx context.Context, _ auth.Credential) (auth.Identity, error) {
	end, _ := ctx.Deadline()
	d.given = time.Until(end)
	return auth.Identity{}, auth.ErrNotMine
}
func (*deadline) Proof(auth.Credential) []byte { return nil }

type farDeadline struct{ deadline }

func (*farDeadline) Remote() bool { return true }

// Clients give up after 15 s.
func TestT29_TimeForALogin(t *testing.T) {
	here, there := new(deadline), new(farDeadline)
	for _, tt := range []struct {
		by   auth.Authenticator
		most time.Duration
	}{
		{here, auth.MaxLoginTime},
		{there, auth.MaxRemoteTime},
		{auth.NewChain(here, auth.NewChain(there)), auth.MaxRemoteTime},
	} {
		k := auth.NewCache(100, newClock().Now)
		here.given, there.given = 0, 0
		_, _, _ = k.Login(context.Background(), tt.by, auth.NewBasic("ann", "pw"), times(), nil)
		if got := max(here.given, there.given); got <= tt.most/2 || got > tt.most {
			t.Errorf("%T: %v, want at most %v", tt.by, got, tt.most)
		}
	}
}

// wary asks nobody about strangers.
type wary struct {
	*provider
	entered chan bool
}

var errStranger = errors.New("asked about too often")

func (w wary) Authenticate(ctx context.Context, c auth.Credential) (auth.Identity, error) {
	w.entered <- c.Known
	if w.gate != nil {
		<-w.gate
	}
	if !c.Known {
		return auth.Identity{}, errStranger
	}
	return auth.Identity{Name: c.User}, nil
}

func TestAProviderIsToldWhoIsKnown(t *testing.T) {
	now, p := newClock(), newProvider("ann", "pw")
	k := auth.NewCache(100, now.Now)
	home, abroad := &guard{from: "ip:192.0.2.7"}, &guard{from: "ip:203.0.113.9"}
	ask := func(by auth.Authenticator, g *guard) error {
		_, _, err := k.Login(context.Background(), by, auth.NewBasic("ann", "pw"), times(), g)
		return err
	}
	if err := ask(p, home); err != nil {
		t.Fatal(err)
	}
	now.Advance(time.Hour)
	w := wary{p, make(chan bool, 4)}
	if err := ask(w, abroad); !errors.Is(err, errStranger) || <-w.entered {
		t.Errorf("from elsewhere: %v", err)
	}
	if err := ask(w, home); err != nil || !<-w.entered {
		t.Errorf("from home: %v", err)
	}

	// Whoever is known does not share what a stranger is told.
	now.Advance(time.Hour)
	w.gate = make(chan struct{})
	p.gate = w.gate
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := ask(w, abroad); !errors.Is(err, errStranger) {
			t.Errorf("the stranger: %v", err)
		}
	})
	if <-w.entered {
		t.Error("a stranger is known")
	}
	wg.Go(func() {
		if err := ask(w, home); err != nil {
			t.Errorf("behind a stranger: %v", err)
		}
	})
	until(t, "one waits for the other", func() bool { return k.Waiting() == 1 })
	close(w.gate)
	wg.Wait()

	now.Advance(time.Hour + auth.GoodBefore)
	if err := ask(w, home); !errors.Is(err, errStranger) {
		t.Errorf("a day later: %v", err)
	}
	if auth.NewBasic("a", "b").Known {
		t.Error("known from the beginning")
	}
}

func TestChainCurrent(t *testing.T) {
	a := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{Key: [32]byte{1}})
	b := mustHtpasswd(t, line("bob", "pw"), auth.HtpasswdOptions{Key: [32]byte{2}})
	ann, err := a.Authenticate(context.Background(), auth.NewBasic("ann", "pw"))
	if err != nil {
		t.Fatal(err)
	}
	if !auth.NewChain(b, a).Current(&ann) || auth.NewChain(b).Current(&ann) {
		t.Error("any of its providers may vouch, and nobody else")
	}
}
