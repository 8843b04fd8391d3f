package auth_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

var errDown = fmt.Errorf("directory: %w", auth.ErrUnavailable)

// outage has one provider, a cache that takes its word for ten minutes, and a
// clock.
type outage struct {
	*testing.T
	*provider
	now *clock
	k   *auth.Cache
	g   *guard
}

func newOutage(t *testing.T) *outage {
	now := newClock()
	return &outage{t, newProvider("ann", "pw"), now, auth.NewCache(100, now.Now), &guard{from: "ip:192.0.2.7"}}
}

func (o *outage) fails(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = err
}

func (o *outage) login(password string) (bool, error) {
	t := times()
	t.Stale = 10 * time.Minute
	id, hit, err := o.k.Login(context.Background(), far{o.provider}, auth.NewBasic("ann", password), t, o.g)
	if err == nil && id.Name != "ann" {
		o.Errorf("got %q", id.Name)
	}
	return hit, err
}

func (o *outage) good(what string) {
	o.Helper()
	if _, err := o.login("pw"); err != nil {
		o.Errorf("%s: %v", what, err)
	}
}

func (o *outage) bad(what string, want error) {
	o.Helper()
	if _, err := o.login("pw"); !errors.Is(err, want) {
		o.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func TestProvenLoginsGoOnWhileNobodyCanBeAsked(t *testing.T) {
	o := newOutage(t)
	o.fails(errDown)
	o.bad("never proven", auth.ErrUnavailable)
	o.fails(nil)
	o.good("proven")
	o.fails(errDown)
	o.now.Advance(2 * time.Minute)
	o.good("beyond the TTL")
	if _, err := o.login("guess"); !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrRejected) {
		t.Errorf("another password: got %v", err)
	}
	if o.g.fails.Load() != 0 {
		t.Errorf("%d failed logins", o.g.fails.Load())
	}
	calls := o.calls.Load()
	o.now.Advance(4 * time.Second)
	if hit, err := o.login("pw"); !hit || err != nil || o.calls.Load() != calls {
		t.Errorf("asked again at once: hit %v, %v", hit, err)
	}
	o.now.Advance(time.Second)
	o.good("asked again in vain")
	if o.calls.Load() != calls+1 {
		t.Errorf("%d calls, want %d", o.calls.Load(), calls+1)
	}
	if o.k.Stale() != 3 {
		t.Errorf("%d stale ones are counted", o.k.Stale())
	}
	o.now.Advance(10*time.Minute - 2*time.Minute - 5*time.Second - 1)
	o.good("the last moment: using it does not make it longer")
	o.now.Advance(1)
	o.bad("over", auth.ErrUnavailable)
	o.fails(nil)
	o.good("back")
	o.fails(errDown)
	o.now.Advance(9 * time.Minute)
	o.good("proven anew")
	o.now.Advance(-time.Hour)
	o.bad("a clock set back proves nothing", auth.ErrUnavailable)
}

func TestWhatIsNoOutageIsNotStale(t *testing.T) {
	for what, err := range map[string]error{
		"two entries":             errors.New("the filter finds two entries"),
		"a suspended name":        errStranger,
		"whoever asked went away": context.Canceled,
	} {
		o := newOutage(t)
		o.good("proven")
		o.fails(err)
		o.now.Advance(2 * time.Minute)
		o.bad(what, err)
	}
	for what, err := range map[string]error{
		"busy": auth.ErrBusy,
		"late": fmt.Errorf("asking: %w", context.DeadlineExceeded),
	} {
		o := newOutage(t)
		o.good("proven")
		o.fails(err)
		o.now.Advance(2 * time.Minute)
		o.good(what)
	}
}

func TestNothingIsStaleAfterARejection(t *testing.T) {
	o := newOutage(t)
	o.good("proven")
	o.now.Advance(2 * time.Minute)
	o.fails(&auth.Rejection{Via: "test", Reason: "the account is disabled"})
	for range 2 { // from the provider, and as it is remembered
		_, err := o.login("pw")
		if why := (*auth.Rejection)(nil); !errors.As(err, &why) || why.Reason != "the account is disabled" || !errors.Is(err, auth.ErrRejected) {
			t.Errorf("got %v", err)
		}
	}
	o.fails(errDown)
	o.now.Advance(time.Minute)
	o.bad("rejected since", auth.ErrUnavailable)
}

func TestNothingIsStaleAfterARevocation(t *testing.T) {
	o := newOutage(t)
	o.good("proven")
	o.fails(errDown)
	o.now.Advance(2 * time.Minute)
	o.good("stale")
	o.k.Revoke(auth.Revocation{User: "ann", At: o.now.Now(), Until: o.now.Now().Add(time.Hour)})
	o.bad("revoked", auth.ErrUnavailable)
	o.fails(nil)
	o.good("proven anew")
	o.now.Advance(2 * time.Minute)
	o.fails(errDown)
	o.good("stale again")
}

// Revoked while the provider is being asked in vain.
func TestARevocationDuringAnOutage(t *testing.T) {
	o := newOutage(t)
	o.good("proven")
	o.fails(errDown)
	o.now.Advance(2 * time.Minute)
	o.gate = make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { o.bad("revoked meanwhile", auth.ErrUnavailable) })
	until(t, "it is asked", func() bool { return o.running.Load() == 1 })
	o.k.Revoke(auth.Revocation{User: "ann", At: o.now.Now(), Until: o.now.Now().Add(time.Hour)})
	close(o.gate)
	wg.Wait()
}

func TestNothingIsStaleBeyondItsOwnEnd(t *testing.T) {
	now := newClock()
	k := auth.NewCache(100, now.Now)
	by := &scripted{id: auth.Identity{Name: "ann", Groups: []string{"dev"}, Expires: now.Now().Add(5 * time.Minute)}}
	ask := func() (auth.Identity, error) {
		id, _, err := k.Login(context.Background(), by, auth.NewBasic("ann", "pw"), auth.CacheTimes{TTL: time.Minute, Stale: 10 * time.Minute}, nil)
		return id, err
	}
	if _, err := ask(); err != nil {
		t.Fatal(err)
	}
	by.err = errDown
	now.Advance(4 * time.Minute)
	if id, err := ask(); err != nil || !cmp.Equal(id.Groups, []string{"dev"}) {
		t.Errorf("groups go on, too: got %q, %v", id.Groups, err)
	}
	now.Advance(time.Minute)
	if _, err := ask(); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

type scripted struct {
	id  auth.Identity
	err error
}

func (s *scripted) Authenticate(context.Context, auth.Credential) (auth.Identity, error) {
	return s.id, s.err
}
func (*scripted) Proof(auth.Credential) []byte { return nil }
func (*scripted) Remote() bool                 { return true }

// Who is locked out learns nothing from what is known of others, in an outage
// neither, even where no provider's turn comes.
func TestAnOutageHelpsNoGuesser(t *testing.T) {
	o := newOutage(t)
	o.good("proven")
	o.now.Advance(2 * time.Minute)
	home := o.g
	o.g = &guard{from: "ip:203.0.113.9"}
	o.g.shut.Store(true)
	o.fails(errDown)
	o.bad("locked out", errLimit)
	o.k.SetWait(time.Microsecond)
	o.gate = make(chan struct{})
	var wg sync.WaitGroup
	for i := range auth.MaxRemoteLogins {
		wg.Go(func() {
			_, _, _ = o.k.Login(context.Background(), far{o.provider}, auth.NewBasic(fmt.Sprint("u", i), "pw"), times(), nil)
		})
	}
	until(t, "all slots are taken", func() bool { return o.running.Load() == auth.MaxRemoteLogins })
	o.bad("locked out, and too busy to ask", errLimit)
	o.g = home
	o.g.shut.Store(true)
	o.good("proven from here, and too busy to ask")
	close(o.gate)
	wg.Wait()
}

func TestWithoutStaleAnOutageIsOne(t *testing.T) {
	now, p := newClock(), newProvider("ann", "pw")
	k := auth.NewCache(100, now.Now)
	if _, _, err := k.Login(context.Background(), p, auth.NewBasic("ann", "pw"), times(), nil); err != nil {
		t.Fatal(err)
	}
	p.down = errDown
	now.Advance(time.Minute)
	if _, _, err := k.Login(context.Background(), p, auth.NewBasic("ann", "pw"), times(), nil); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}
