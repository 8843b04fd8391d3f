package auth_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/regward/regward/auth"
)

// Of a large company: as many rules and users as one configuration is made for.
const (
	manyRules = 5_000
	manyUsers = 10_000
)

// layouts are the ways in which people write thousands of rules; each is the
// nth rule and a repository that it alone means.
var layouts = []struct {
	name string
	rule func(subject string, n int) string
	repo func(n int) string
}{
	{"namespaces", // each its own
		func(who string, n int) string { return fmt.Sprintf("allow %s team%d/** pull,push", who, n) },
		func(n int) string { return fmt.Sprintf("team%d/some/app", n) }},
	{"below-one", // all within that of the company
		func(who string, n int) string { return fmt.Sprintf("allow %s acme/team%d/** pull,push", who, n) },
		func(n int) string { return fmt.Sprintf("acme/team%d/app", n) }},
	{"names", // of single repositories
		func(who string, n int) string { return fmt.Sprintf("allow %s acme/app%d pull,push", who, n) },
		func(n int) string { return fmt.Sprintf("acme/app%d", n) }},
	{"behind-a-star",
		func(who string, n int) string { return fmt.Sprintf("allow %s */team%d/** pull,push", who, n) },
		func(n int) string { return fmt.Sprintf("acme/team%d/app", n) }},
	{"tags",
		func(who string, n int) string {
			return fmt.Sprintf("allow %s acme/team%d/** pull,push tags=v*,release-*", who, n)
		},
		func(n int) string { return fmt.Sprintf("acme/team%d/app", n) }},
	{"everywhere", // each to somebody else
		func(who string, n int) string { return fmt.Sprintf("allow %s ** pull,push", who) },
		func(n int) string { return "acme/app" }},
}

// member is who the nth of the rules is about, and the subject it says so by.
func member(kind string, n int) (*auth.Caller, string) {
	switch kind {
	case "group":
		return caller("alice", "all", "dev", "eu", "linux", "ops", "qa", "staff", "web", "x", fmt.Sprintf("g%d", n)), fmt.Sprintf("group:g%d", n)
	case "token":
		c := caller(fmt.Sprintf("robot-ci%d", n))
		c.Via = "robot"
		return c, fmt.Sprintf("token:ci%d", n)
	}
	return caller(fmt.Sprintf("u%d", n)), fmt.Sprintf("user:u%d", n)
}

func manyOf(layout int, kind string) *auth.Policy {
	lines := []string{"allow everyone library/** pull", "allow authenticated {user}/** *", "allow group:dev {group}/** pull,push", "deny group:dev vault/** *"}
	for n := len(lines); n < manyRules; n++ {
		_, who := member(kind, n)
		lines = append(lines, layouts[layout].rule(who, n))
	}
	return mustPolicy(lines...)
}

// BenchmarkManyRules is one decision among 5,000 rules: made by an early one, by
// the last one, and by none.
func BenchmarkManyRules(b *testing.B) {
	for l, layout := range layouts {
		for _, kind := range []string{"user", "group", "token"} {
			p := manyOf(l, kind)
			for _, at := range []struct {
				name string
				n    int
				want bool
			}{{"early", 10, true}, {"last", manyRules - 1, true}, {"denied", manyRules, false}} {
				c, _ := member(kind, at.n)
				wants := one(auth.Pull, layout.repo(at.n))
				if layout.name == "tags" {
					wants[0].Tag = "release-7"
				}
				b.Run(layout.name+"/"+kind+"/"+at.name, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if p.Decide(c, wants).Allowed() != at.want {
							b.Fatal(p.Decide(c, wants))
						}
					}
				})
			}
		}
	}
}

// BenchmarkManyCompile is what a load of 5,000 rules costs once they are read.
func BenchmarkManyCompile(b *testing.B) {
	var lines []string
	for n := range manyRules {
		_, who := member("group", n)
		lines = append(lines, layouts[1].rule(who, n))
	}
	rules := rulesOf(lines...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := auth.NewPolicy(rules); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkManyExplain is all that one user may, and why one repository is
// refused.
func BenchmarkManyExplain(b *testing.B) {
	p := manyOf(1, "group")
	c, _ := member("group", manyRules-1)
	b.Run("patterns", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if len(p.Patterns(c, auth.Push)) < 2 {
				b.Fatal("too few")
			}
		}
	})
	b.Run("refusal", func(b *testing.B) { // its words, for the audit log and the client
		b.ReportAllocs()
		for b.Loop() {
			if p.Decide(c, one(auth.Push, "acme/team7/app")).String() == "" {
				b.Fatal("no words")
			}
		}
	})
}

// BenchmarkManyUsers is what a load of 10,000 lines of htpasswd costs; it is
// done whenever one is changed.
func BenchmarkManyUsers(b *testing.B) {
	var text strings.Builder
	hash := mustBcrypt(b, "pw", bcrypt.MinCost)
	for n := range manyUsers {
		fmt.Fprintf(&text, "u%d:%s\n", n, hash)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := auth.ParseHtpasswd("htpasswd", []byte(text.String()), auth.HtpasswdOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPasswordLogin is a login by htpasswd, with the cost that htpasswd -B
// takes by itself and the one that is advised, and one remembered.
func BenchmarkPasswordLogin(b *testing.B) {
	for _, cost := range []int{5, 10} {
		h := mustHtpasswd(b, "ann:"+mustBcrypt(b, "pw", cost)+"\n", auth.HtpasswdOptions{})
		c := auth.NewBasic("ann", "pw")
		b.Run(fmt.Sprintf("cost-%d/uncached", cost), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.Authenticate(context.Background(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
		benchCached(b, fmt.Sprintf("cost-%d/cached", cost), newClock(), h, c)
	}
}

// BenchmarkRobotLogin is a robot's, among 5,000.
func BenchmarkRobotLogin(b *testing.B) {
	secret, hash := auth.NewRobotSecret()
	text := strings.Builder{}
	text.WriteString("robots:\n")
	for n := range manyRules {
		fmt.Fprintf(&text, "  - {name: r%d, repositories: [\"team%d/**\"], allow: [pull], expires: 2027-02-20T15:00:00Z, hashes: [{sha256: %064x}]}\n", n, n, n)
	}
	fmt.Fprintf(&text, "  - {name: ci, repositories: [\"team/**\"], allow: [pull], expires: 2027-02-20T15:00:00Z, hashes: [{sha256: %s}]}\n", hash)
	f, err := auth.ParseRobots("tokens.yaml", []byte(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	now := newClock()
	x, c := auth.NewRobots(f, auth.RobotOptions{Now: now.Now}), auth.NewBasic("robot-ci", secret)
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x.Authenticate(context.Background(), c); err != nil {
				b.Fatal(err)
			}
		}
	})
	benchCached(b, "cached", now, x, c)
}

func mustBcrypt(t testing.TB, password string, cost int) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}
