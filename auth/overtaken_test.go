package auth_test

import (
	"errors"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// A name that comes into the file is nobody's behind it any more: what the
// directory proved of it would be somebody else's account.
func TestANameThatTheFileTakesOver(t *testing.T) {
	directory, err := auth.NewLDAP(auth.LDAPOptions{
		Servers: []string{"ldaps://127.0.0.1:1"}, UserBase: "dc=x", UserFilter: "(uid={user})", UserName: "uid", Timeout: time.Second, Pool: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	proof := [16]byte(directory.Proof(auth.NewBasic("ann", "pw")))
	id := auth.Identity{Name: "ann", Via: "ldap", Proof: proof}
	gone := func(chain *auth.Chain, id auth.Identity) bool {
		_, err := chain.Renew(t.Context(), id)
		return errors.Is(err, auth.ErrRejected) && !chain.Current(&id)
	}
	ann, bob := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{}), mustHtpasswd(t, line("bob", "pw"), auth.HtpasswdOptions{})
	if chain := auth.NewChain(bob, directory); !chain.Current(&id) || gone(chain, id) {
		t.Error("the directory's ann is not known")
	}
	if chain := auth.NewChain(directory, ann); !chain.Current(&id) || gone(chain, id) {
		t.Error("the file stands behind the directory, and the name is not its own")
	}
	for name, chain := range map[string]*auth.Chain{
		"one chain": auth.NewChain(issuers(t), ann, directory), "a chain in it": auth.NewChain(auth.NewChain(bob, ann), directory),
	} {
		if !gone(chain, id) {
			t.Errorf("%s: the directory's ann is the file's", name)
		}
		if n := testing.AllocsPerRun(10, func() { chain.Current(&id) }); n > 0 {
			t.Errorf("%s: Current allocates %v times", name, n)
		}
	}
	mine, err := ann.Authenticate(t.Context(), auth.NewBasic("ann", "pw"))
	if err != nil {
		t.Fatal(err)
	}
	if chain := auth.NewChain(ann, directory); gone(chain, mine) {
		t.Error("the file's own ann is not known")
	}
}

// Whatever name a refresh token comes with as a password, it is shown to nobody.
func TestARefreshTokenIsNobodysPassword(t *testing.T) {
	r, _, _, by, id := renewing(t, time.Now)
	secret, _, err := r.Give(t.Context(), by, &id, auth.RefreshToken{Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"", "<token>", "ann", "oidc", "robot-ci"} {
		if _, err := auth.CheckBasic(user, secret); !errors.Is(err, auth.ErrRefreshAsPassword) || !errors.Is(err, auth.ErrMalformed) {
			t.Errorf("%q: %v", user, err)
		}
	}
	if _, err := auth.CheckBasic("ann", secret[:len(secret)-1]); err != nil {
		t.Errorf("what only looks like one: %v", err)
	}
}
