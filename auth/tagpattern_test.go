package auth_test

import (
	"path"
	"strings"
	"testing"

	"github.com/regward/regward/auth"
)

func TestTagPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, tag string
		want         bool
	}{
		{"v*", "v1.0", true}, {"v*", "v", true}, {"v*", "1v", false}, {"*", "latest", true},
		{"latest", "latest", true}, {"latest", "latest1", false}, {"*-rc*", "v1-rc2", true}, {"*-rc*", "v1", false},
		{"v*.*.0", "v1.2.0", true}, {"v*.*.0", "v1.2.1", false}, {"a*a", "a", false}, {"a*a", "aa", true},
	} {
		p, err := auth.ParseTagPattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Matches(tt.tag); got != tt.want {
			t.Errorf("%s matches %s: %v", tt.pattern, tt.tag, got)
		}
	}
	for _, bad := range []string{"", "**", "v**", "-x", ".x", "a b", "sha256:abc", "a/b", strings.Repeat("a", 200), "ä"} {
		if _, err := auth.ParseTagPattern(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if (auth.TagPattern{}).Matches("latest") {
		t.Error("the zero pattern matches")
	}
}

// path.Match says the same of patterns without its other signs.
func FuzzTagPattern(f *testing.F) {
	f.Add("v*.*", "v1.2")
	f.Add("*a*b", "xaxb")
	f.Fuzz(func(t *testing.T, pattern, tag string) {
		p, err := auth.ParseTagPattern(pattern)
		if err != nil || strings.Contains(tag, "/") {
			return
		}
		want, err := path.Match(pattern, tag)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Matches(tag); got != want {
			t.Errorf("%q matches %q: %v", pattern, tag, got)
		}
	})
}
