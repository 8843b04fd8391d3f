package auth

import (
	"context"
	"crypto/rand"
	"errors"
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
		if slices.Contains(IssuerAlgorithms(), alg) {
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

// WebhookProbe is what the program answers to a login that nobody has.
type WebhookProbe struct {
	Status int       // 0 without an answer
	Forged int       // to the same, signed with another secret; 0 where that was not asked
	Date   time.Time // its clock; zero if it does not tell
}

// Probe asks about a login that nobody has, for `validate --online`. The error is
// ErrRejected or ErrNotMine if all is well, nil if the program takes any login.
func (w *Webhook) Probe(ctx context.Context, hostname string) (p WebhookProbe, err error) {
	c := NewBasic("regward-validate-"+rand.Text(), rand.Text())
	c.Host = hostname
	said, err := w.ask(ctx, c)
	if err != nil {
		return p, err
	}
	p.Status, p.Date = said.status, said.date
	if _, err = w.judge(c, said); err == nil || !errors.Is(err, ErrRejected) && !errors.Is(err, ErrNotMine) {
		return p, err
	}
	stranger := *w
	stranger.secret = []byte(rand.Text())
	forged, _ := stranger.ask(ctx, c)
	p.Forged = forged.status
	return p, err
}
