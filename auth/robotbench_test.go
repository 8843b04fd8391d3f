package auth_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// What a load costs with 5,000 robots: it is done whenever one is made.
func BenchmarkLoadRobots(b *testing.B) {
	var text strings.Builder
	text.WriteString("robots:\n")
	for i := range 5000 {
		fmt.Fprintf(&text, "  - name: r%d\n    owner: team%d\n    repositories: [\"team%d/**\"]\n    allow: [pull, push]\n    expires: 2027-02-20T15:00:00Z\n    hashes:\n      - {sha256: %064x}\n", i, i%100, i%100, i)
	}
	b.ReportAllocs()
	for b.Loop() {
		f, err := auth.ParseRobots("tokens.yaml", []byte(text.String()))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := auth.NewPolicy(f.Rules()); err != nil {
			b.Fatal(err)
		}
		auth.NewRobots(f, auth.RobotOptions{Now: time.Now})
	}
}
