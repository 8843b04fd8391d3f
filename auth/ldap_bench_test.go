package auth_test

import (
	"context"
	"testing"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/slapdtest"
)

// A login that is known, and what the directory takes for one that is not: over
// TLS on loopback, two searches and a bind on a connection of its own.
func BenchmarkLDAPLogin(b *testing.B) {
	s := slapdtest.Start(b, slapdtest.Options{LDIF: entries()})
	nested := ldapOptions(s)
	nested.GroupRecursive = true
	for _, bench := range []struct {
		name           string
		o              auth.LDAPOptions
		ttl            time.Duration
		user, password string
		good           bool
	}{
		{"cached", ldapOptions(s), time.Hour, "ann", "Ann's own", true},
		{"uncached", ldapOptions(s), 0, "ann", "Ann's own", true},
		{"uncached, groups in groups", nested, 0, "ann", "Ann's own", true},
		{"wrong password", ldapOptions(s), 0, "ann", "no", false},
		{"unknown name", ldapOptions(s), 0, "eve", "no", false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			chain := auth.NewChain(mustLDAP(b, bench.o))
			k := auth.NewCache(10_000, time.Now)
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := k.Login(context.Background(), chain, auth.NewBasic(bench.user, bench.password), auth.CacheTimes{TTL: bench.ttl}, nil)
				if (err == nil) != bench.good {
					b.Fatal(err)
				}
			}
		})
	}
}
