package auth_test

import (
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// BenchmarkRefreshLogin is a refresh token of a user in a file, looked up in a
// store in memory, and one remembered.
func BenchmarkRefreshLogin(b *testing.B) {
	now := newClock()
	r, _, _, by, id := renewing(b, now.Now)
	secret, _, err := r.Give(b.Context(), by, &id, auth.RefreshToken{Host: "h"})
	if err != nil {
		b.Fatal(err)
	}
	c := auth.NewRefresh(secret)
	c.Host = "h"
	const ttl = time.Millisecond // by the clock that this moves: 90 days are far away
	for name, wait := range map[string]time.Duration{"uncached": 2 * ttl, "cached": 0} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				now.Advance(wait)
				if _, _, err := r.Login(b.Context(), by, c, auth.CacheTimes{TTL: ttl}, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
