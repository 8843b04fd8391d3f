package auth_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// BenchmarkTokenLogin is a login with an issuer's token whose keys are in hand:
// checked, and remembered.
func BenchmarkTokenLogin(b *testing.B) {
	for _, alg := range []string{"RS256", "ES256"} {
		now := newClock()
		i := newIssuer(b, now.Now)
		key := newIssuerKey(b, alg, "one")
		i.publish(key)
		n := mustOIDC(b, auth.OIDCOptions{Issuers: []auth.IssuerOptions{i.options()}, Now: now.Now})
		c := auth.NewBasic("oidc", signToken(b, key, i.claims()))
		b.Run(alg+"/uncached", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := n.Authenticate(context.Background(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
		benchCached(b, alg+"/cached", now, n, c)
	}
}

func benchCached(b *testing.B, name string, now *clock, by auth.Authenticator, c auth.Credential) {
	k := auth.NewCache(100, now.Now)
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := k.Login(context.Background(), by, c, times(), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkForgedToken is what a stranger makes us do.
func BenchmarkForgedToken(b *testing.B) {
	i, key, n, _ := newCI(b)
	_, _ = tokenLogin(n, signToken(b, key, i.claims()))
	c := auth.NewBasic("oidc", signToken(b, newIssuerKey(b, "ES256", "one"), i.claims()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := n.Authenticate(context.Background(), c); !errors.Is(err, auth.ErrRejected) {
			b.Fatal(err)
		}
	}
}

// BenchmarkWebhookLogin is a login over TLS on loopback, and one remembered.
func BenchmarkWebhookLogin(b *testing.B) {
	now := newClock()
	w := webhook(b, now, says(200, `{"groups":["dev"]}`), func(o *auth.WebhookOptions) { o.Timeout = time.Minute })
	c := loginFrom("192.0.2.7", registry, "ann", "pw")
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Authenticate(context.Background(), c); err != nil {
				b.Fatal(err)
			}
		}
	})
	benchCached(b, "cached", now, w, c)
}
