package auth

import (
	"context"
	"crypto/rand"
	"slices"
	"time"
)

// IssuerProbe is what an issuer says of itself, for `validate --online`.
type IssuerProbe struct {
	Signs  []string  // algorithms it says it signs with; it may say nothing
	Known  []string  // those of them that an entry can name
	Usable []string  // algorithms of the entry that it has a key for
	Date   time.Time // its clock; zero if it does not tell
}

// Probe asks the issuer of one entry, past what is known of it. The error is an
// *IssuerError; Date may be known all the same.
func (n *OIDC) Probe(ctx context.Context, entry int) (IssuerProbe, error) {
	i := n.issuers[entry]
	p, err := i.keys.client.fetch(ctx, i.Issuer)
	probe := IssuerProbe{Signs: p.algorithms, Date: p.date}
	for _, alg := range p.algorithms {
		if slices.Contains(signatures(), alg) {
			probe.Known = append(probe.Known, alg)
		}
	}
	for _, alg := range i.Algorithms {
		if slices.ContainsFunc(p.keys, func(k publicKey) bool { return k.fits(alg) }) {
			probe.Usable = append(probe.Usable, alg)
		}
	}
	return probe, err
}

// Probe asks about a login that nobody has, for `validate --online`. It is
// ErrRejected or ErrNotMine if all is well, nil if the program takes any login.
func (w *Webhook) Probe(ctx context.Context, hostname string) error {
	c := NewBasic("regward-validate-"+rand.Text(), rand.Text())
	c.Host = hostname
	_, err := w.Authenticate(ctx, c)
	return err
}
