package auth_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// settled is a provider whose proof is that of its settings, as a directory's is.
type settled struct{ next }

func (settled) Proof(auth.Credential) []byte { return []byte("settings") }

// Who is gone from the directory does not go on because somebody behind it is
// away; who is known to the one that is away does.
func TestWhoIsGoneIsNotStale(t *testing.T) {
	now := newClock()
	k := auth.NewCache(100, now.Now)
	directory, hook := settled{next{newProvider("ann", "pw"), "ldap"}}, settled{next{newProvider("eve", "pw"), "webhook"}}
	chain := auth.NewChain(directory, hook)
	login := func(user string) error {
		_, _, err := k.Login(context.Background(), chain, auth.NewBasic(user, "pw"), auth.CacheTimes{TTL: time.Minute, NegativeTTL: 5 * time.Second, Stale: 10 * time.Minute}, nil)
		return err
	}
	for _, user := range []string{"ann", "eve"} {
		if err := login(user); err != nil {
			t.Fatal(err)
		}
	}
	now.Advance(time.Minute)
	delete(directory.lines, "ann")
	for _, down := range []error{fmt.Errorf("webhook: %w", auth.ErrUnavailable), auth.ErrBusy} {
		hook.down = down
		for range 2 {
			if err := login("ann"); err == nil || errors.Is(err, auth.ErrRejected) {
				t.Errorf("%v: ann, who is gone: %v", down, err)
			}
			if err := login("eve"); err != nil {
				t.Errorf("%v: eve: %v", down, err)
			}
		}
	}
	hook.down, directory.down = nil, auth.ErrUnavailable
	if err := login("eve"); err != nil {
		t.Errorf("eve, and the directory is away: %v", err)
	}
}
