package auth_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/regward/regward/auth"
)

// threeFailures locks a source out after three.
type threeFailures struct{ failures }

var errLocked = errors.New("locked out")

func (g *threeFailures) Admit(auth.Credential) error {
	if g.n >= 3 {
		return errLocked
	}
	return nil
}

// Old secrets and tokens count, and whoever shows more of them is locked out; one
// that is good is taken all the same, though nobody has seen it before.
func TestGoodKeysMeetNoLockOut(t *testing.T) {
	now := newClock()
	secret, hash := auth.NewRobotSecret()
	f, err := auth.ParseRobots("tokens.yaml", fmt.Appendf(nil, "robots:\n  - {name: ci, repositories: [\"team/**\"], allow: [pull], expires: 2027-02-20T15:00:00Z, hashes: [{sha256: %s}]}\n", hash))
	if err != nil {
		t.Fatal(err)
	}
	i := newIssuer(t, now.Now)
	key := newIssuerKey(t, "ES256", "one")
	i.publish(key)
	jobs := mustOIDC(t, auth.OIDCOptions{Issuers: []auth.IssuerOptions{i.options()}, Now: now.Now})
	stranger := newIssuerKey(t, "ES256", "one")
	file := mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})
	by := auth.NewChain(auth.NewRobots(f, auth.RobotOptions{Now: now.Now}), jobs, file)
	for name, tt := range map[string]struct {
		wrong func() auth.Credential
		good  auth.Credential
		taken bool
	}{
		"robot": {func() auth.Credential { other, _ := auth.NewRobotSecret(); return auth.NewBasic("robot-ci", other) }, auth.NewBasic("robot-ci", secret), true},
		"job": {func() auth.Credential { return auth.NewBasic("oidc", signToken(t, stranger, i.claims())) },
			auth.NewBasic("oidc", signToken(t, key, i.claims())), true},
		"person": {func() auth.Credential {
			other, _ := auth.NewRobotSecret()
			return auth.NewBasic("ann", "not "+other[:20])
		}, auth.NewBasic("ann", "pw"), false},
	} {
		k, g := auth.NewCache(100, now.Now), &threeFailures{}
		for n := range 5 {
			_, _, err := k.Login(context.Background(), by, tt.wrong(), times(), g)
			if n < 3 && !errors.Is(err, auth.ErrRejected) || n >= 3 && !errors.Is(err, errLocked) {
				t.Errorf("%s: wrong for the %dth time: %v", name, n+1, err)
			}
		}
		if g.n != 3 {
			t.Errorf("%s: %d failures are counted", name, g.n)
		}
		_, _, err := k.Login(context.Background(), by, tt.good, times(), g)
		if taken := err == nil; taken != tt.taken || !taken && !errors.Is(err, errLocked) {
			t.Errorf("%s: the good one: %v", name, err)
		}
	}
}

// What one provider of a chain keeps, the chain does.
func TestChainsKeepWhatTheirProvidersKeep(t *testing.T) {
	now := newClock()
	i := newIssuer(t, now.Now)
	key := newIssuerKey(t, "ES256", "one")
	i.publish(key)
	jobs := mustOIDC(t, auth.OIDCOptions{Issuers: []auth.IssuerOptions{i.options()}, Now: now.Now})
	secret, _ := auth.NewRobotSecret()
	token := signToken(t, key, i.claims())
	chain := auth.NewChain(auth.NewRobots(nil, auth.RobotOptions{Now: now.Now}), auth.NewChain(jobs, mustHtpasswd(t, line("ann", "pw"), auth.HtpasswdOptions{})))
	for _, tt := range []struct {
		c    auth.Credential
		want bool
	}{
		{auth.NewBasic("robot-ci", secret), true}, {auth.NewBasic("ann", secret), true},
		{auth.NewBasic(auth.OIDCUser, token), true}, {auth.NewBasic("ann", token), true},
		{auth.NewBasic("ann", "pw"), false}, {auth.NewBasic("eve", "pw"), false}, {auth.Credential{}, false},
	} {
		if got := chain.Keeps(tt.c); got != tt.want {
			t.Errorf("%v: %v", tt.c, got)
		}
	}
}
