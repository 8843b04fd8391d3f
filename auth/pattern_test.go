package auth_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/regward/regward/auth"
)

func mustPattern(text string) auth.Pattern {
	p, err := auth.ParsePattern(text)
	if err != nil {
		panic(text + ": " + err.Error())
	}
	return p
}

func TestPatternMatch(t *testing.T) {
	bob := &auth.Identity{Name: "bob", Groups: []string{"x/y", "Dev", "dev", "a@b", "ops"}}
	odd := &auth.Identity{Name: "a@b"}
	for _, tt := range []struct {
		pattern, repo string
		id            *auth.Identity
		want          bool
	}{
		{"library/alpine", "library/alpine", bob, true},
		{"library/alpine", "library/alpine2", bob, false},
		{"team/**", "team/a", bob, true},
		{"team/**", "team/a/b/c", bob, true},
		{"team/**", "team", bob, false}, // at the end at least one
		{"team/**", "teams/a", bob, false},
		{"team/*", "team/a", bob, true},
		{"team/*", "team/a/b", bob, false},
		{"team/*", "team", bob, false},
		{"**", "a", bob, true},
		{"**", "a/b/c", bob, true},
		{"*", "a", bob, true},
		{"*", "a/b", bob, false},
		{"app-*", "app-x", bob, true},
		{"app-*", "app-x/y", bob, false},
		{"app-*", "apps", bob, false},
		{"app-*/**", "app-x/y", bob, true},
		{"*-ci", "x-ci", bob, true},
		{"a*b*c", "axbxc", bob, true},
		{"a*b*c", "axcxb", bob, false},
		{"a*a", "a", bob, false},
		{"**/cache", "cache", bob, true},
		{"**/cache", "a/cache", bob, true},
		{"**/cache", "a/b/cache", bob, true},
		{"**/cache", "a/b/cachex", bob, false},
		{"a/**/z", "a/z", bob, true},
		{"a/**/z", "a/b/c/z", bob, true},
		{"a/**/z", "a/b/c/z/y", bob, false},
		{"a/**/b/**", "a/b", bob, false},
		{"a/**/b/**", "a/b/c", bob, true},
		{"a/**/b/**", "a/x/b/c", bob, true},
		{"a/**/b/**", "a/b/b", bob, true},
		{"**/a/**/b", "x/a/a/b", bob, true},
		{"{user}/**", "bob/x", bob, true},
		{"{user}/**", "bob", bob, false},
		{"{user}/**", "bobs/x", bob, false},
		{"{user}/**", "ann/x", bob, false},
		{"{user}/**", "a@b/x", odd, false},
		{"{user}/**", "a/x", &auth.Identity{}, false},
		{"{user}", "x", &auth.Identity{Name: "*"}, false}, // literally, never as a pattern
		{"{user}/**", "x/y/z", &auth.Identity{Name: "x/y"}, false},
		{"{user}/**", "Ann/x", &auth.Identity{Name: "Ann"}, false},
		{"{group}/**", "dev/x", bob, true},
		{"{group}/**", "ops/x", bob, true},
		{"{group}/**", "Dev/x", bob, false},
		{"{group}/**", "x/y/z", bob, false},
		{"{group}/**", "a@b/z", bob, false},
		{"{group}/**", "none/x", bob, false},
		{"{group}/{user}/*", "dev/bob/x", bob, true},
		{"{group}/{user}/*", "dev/ann/x", bob, false},
		{"{group}/{group}", "dev/dev", bob, true},
		{"{group}/{group}", "dev/ops", bob, false}, // one group at a time
		{"x/**/{group}", "x/a/dev", bob, true},
		{"**", "", bob, false},
		{"*", "", bob, false},
	} {
		if got := mustPattern(tt.pattern).Match(tt.repo, tt.id); got != tt.want {
			t.Errorf("%q on %q for %q: got %v, want %v", tt.pattern, tt.repo, tt.id.Name, got, tt.want)
		}
	}
	if (auth.Pattern{}).Match("a", bob) || (auth.Pattern{}).Match("", bob) {
		t.Error("the zero pattern matches")
	}
}

func TestPatternErrors(t *testing.T) {
	for _, tt := range []struct{ in, msg, fix string }{
		{"", "a pattern is empty", `write "**" for all repositories`},
		{"team/*/", `pattern "team/*/" ends in a slash and can match nothing`, `write "team/*" for one level, "team/**" for all below`},
		{"team/", `pattern "team/" ends in a slash and can match nothing`, `write "team/*" for one level, "team/**" for all below`},
		{"/team", `pattern "/team" starts with a slash and can match nothing`, `write "team"`},
		{"a//b", `pattern "a//b" has an empty part and can match nothing`, ""},
		{"Team/**", `pattern "Team/**" has upper case letters and can match nothing`, `write "team" for this part`},
		{"team**", `pattern "team**" has "team**": ** stands for whole parts`, `write "team*" for this part, or "**" on its own`},
		{"a/**/**", `pattern "a/**/**" has ** twice in a row`, `write "**" once`},
		{"{owner}/**", `pattern "{owner}/**" has "{owner}"`, "only {user} and {group} are put in; list several patterns for several names"},
		{"{a,b}/x", `pattern "{a,b}/x" has "{a,b}"`, "only {user} and {group} are put in; list several patterns for several names"},
		{"{user}-x/**", `pattern "{user}-x/**" has "{user}-x": a name is put in for a whole part only`, "write {user} or {group} between slashes"},
		{"a/.*", `pattern "a/.*" `, ""},
		{"^a$", `pattern "^a$" has "^a$", which no repository name holds`, "only * and ** are wild here; this is no regular expression"},
		{"a:latest", `pattern "a:latest" holds a colon; no repository name does`, "write the repository alone, without host, port or tag"},
		{"a@sha256:00", `pattern "a@sha256:00" holds a digest; rules are about repositories`, `write "a"`},
		{"a..b", `pattern "a..b" has "a..b", which is no part of a repository name, and can match nothing`, ""},
		{"a b", `pattern "a b" has "a b", which is no part of a repository name, and can match nothing`, ""},
	} {
		p, err := auth.ParsePattern(tt.in)
		if tt.in == "a/.*" { // reads as a glob; allowed, if useless
			if err != nil || p.String() != tt.in {
				t.Errorf("%q: %v", tt.in, err)
			}
			continue
		}
		var syntax *auth.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%q: got %v, want a *SyntaxError", tt.in, err)
			continue
		}
		if syntax.Msg != tt.msg || syntax.Fix != tt.fix {
			t.Errorf("%q:\n got %s | %s\nwant %s | %s", tt.in, syntax.Msg, syntax.Fix, tt.msg, tt.fix)
		}
	}
	if _, err := auth.ParsePattern(strings.Repeat("a", auth.MaxPattern+1)); err == nil {
		t.Error("a pattern beyond the bound is taken")
	}
}

// oracle is doublestar, but for its reading of a "**" at the end.
func oracle(pattern, name string) bool {
	if head, ok := strings.CutSuffix(pattern, "**"); ok {
		pattern = head + "**/*"
	}
	return doublestar.MatchUnvalidated(pattern, name)
}

func FuzzPatternMatch(f *testing.F) {
	for _, s := range [][2]string{
		{"a/**", "a/b"}, {"**/a", "b/a"}, {"*-x/**/b*", "a-x/c/d/bz"}, {"a/**/b/**/c", "a/b/b/c/c"}, {"**", "x"}, {"a*a*a", "aaaa"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := auth.ParsePattern(text)
		if err != nil || strings.Contains(text, "{") || !auth.ValidRepository(name) {
			return
		}
		if got, want := p.Match(name, &auth.Identity{}), oracle(text, name); got != want {
			t.Fatalf("%q on %q: got %v, want %v", text, name, got, want)
		}
		again, err := auth.ParsePattern(p.String())
		if err != nil || again != p {
			t.Fatalf("%q does not come back: %v", text, err)
		}
	})
}

var patternParts = []string{"a", "b", "ab", "*", "**", "a*", "*b", "*a*", "{user}", "{group}"}

func randomPattern(r *rand.Rand, placeholders bool) auth.Pattern {
	for {
		n := len(patternParts)
		if !placeholders {
			n -= 2
		}
		parts := make([]string, 1+r.IntN(4))
		for i := range parts {
			parts[i] = patternParts[r.IntN(n)]
		}
		if p, err := auth.ParsePattern(strings.Join(parts, "/")); err == nil {
			return p
		}
	}
}

func randomName(r *rand.Rand) string {
	parts := make([]string, 1+r.IntN(5))
	for i := range parts {
		parts[i] = []string{"a", "b", "ab", "ba", "c", "aab"}[r.IntN(6)]
	}
	return strings.Join(parts, "/")
}

func TestPatternMatchesAsDoublestarDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		p, name := randomPattern(r, false), randomName(r)
		if got, want := p.Match(name, &auth.Identity{}), oracle(p.String(), name); got != want {
			t.Fatalf("%q on %q: got %v, want %v", p, name, got, want)
		}
	}
}

func TestPatternContains(t *testing.T) {
	for _, tt := range []struct {
		p, q string
		want bool
	}{
		{"**", "a/b", true}, {"**", "{user}/**", true}, {"**", "**", true},
		{"a/**", "a/b", true}, {"a/**", "a/*", true}, {"a/**", "a/b/**", true}, {"a/**", "a", false}, {"a/**", "a/**/c", true},
		{"a/*", "a/b", true}, {"a/*", "a/**", false}, {"a/*", "a/{user}", true}, {"*/**", "**", false}, {"**", "*/**", true},
		{"app-*", "app-x", true}, {"app-*", "app-x*", true}, {"app-*", "app*", false},
		{"{user}/**", "{user}/x", true}, {"{user}/**", "{group}/x", false}, {"{user}/**", "bob/x", false},
		{"**/x", "a/x", true}, {"**/x", "**/y/x", true}, {"**/x", "**/y", false}, {"a", "b", false},
	} {
		if got := mustPattern(tt.p).Contains(mustPattern(tt.q)); got != tt.want {
			t.Errorf("%q contains %q: got %v, want %v", tt.p, tt.q, got, tt.want)
		}
	}
}

func TestPatternContainsIsNeverWrong(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	yes := 0
	for range 20_000 {
		p, q := randomPattern(r, true), randomPattern(r, true)
		if !p.Contains(q) {
			continue
		}
		yes++
		for range 50 {
			name := randomName(r)
			id := &auth.Identity{Name: []string{"", "a", "ab", "X"}[r.IntN(4)], Groups: [][]string{nil, {"a"}, {"b", "c"}}[r.IntN(3)]}
			if q.Match(name, id) && !p.Match(name, id) {
				t.Fatalf("%q is said to contain %q, but only the latter matches %q for %+v", p, q, name, id)
			}
		}
	}
	if yes < 500 {
		t.Fatalf("only %d pairs: nothing was tried", yes)
	}
}
