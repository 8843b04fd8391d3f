package configs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/configs"
)

func TestDiffOfTags(t *testing.T) {
	rules := func(lines ...string) *configs.Config {
		text := small + "rules:\n  - {subjects: everyone, repositories: \"base/**\", allow: pull}\n"
		for _, l := range lines {
			text += "  - {" + l + "}\n"
		}
		return static(t, text)
	}
	const (
		allow = `subjects: group:dev, repositories: "team/**", allow: [pull, push]`
		deny  = `subjects: user:bob, repositories: "team/**", deny: push`
		push  = `subjects: group:dev, repositories: "team/**", allow: push`
		v     = `, tags: "v*"`
	)
	for _, tt := range []struct {
		why      string
		from, to *configs.Config
		want     []string
	}{
		{"given", rules(), rules(allow + v), []string{"group:dev gains pull, push on team/** (tags v*)"}},
		{"narrowed", rules(allow), rules(allow + v), []string{"group:dev loses pull, push on team/**"}},
		{"widened", rules(allow + v), rules(allow), []string{"group:dev gains pull, push on team/**"}},
		{"other tags", rules(allow + v), rules(allow + `, tags: ["v*", dev]`), []string{"group:dev gains pull, push on team/** (tags v*, dev)"}},
		{"denied", rules(allow), rules(allow, deny+v), []string{"user:bob is now denied push on team/** (tags v*)"}},
		{"a deny of tags hides nothing given", rules(deny + v), rules(deny+v, `subjects: user:bob, repositories: "team/**", allow: push`), []string{"user:bob gains push on team/**"}},
		{"immutable", rules(push + v), rules(push + v + ", immutable: true"), []string{"group:dev can no longer move or delete tags of team/** (tags v*)"}},
		{"and no more", rules(push + v + ", immutable: true"), rules(push + v), []string{"group:dev can move and delete tags of team/** (tags v*) again, where a rule allows it"}},
	} {
		if d := cmp.Diff(tt.want, configs.Diff(tt.from, tt.to)); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.why, d)
		}
		if tt.from.Version == tt.to.Version {
			t.Errorf("%s: the version is the same", tt.why)
		}
	}
}

// Signatures are added by moving a tag, where there is no referrers API.
func TestImmutableTagsWarnOfSignatures(t *testing.T) {
	for tags, want := range map[string]bool{"": true, `, tags: "*"`: true, `, tags: ["v*", "sha*"]`: true, `, tags: "v*"`: false} {
		c := static(t, small+"rules:\n  - {subjects: group:dev, repositories: \"team/**\", allow: [pull, push], immutable: true"+tags+"}\n")
		if got := slices.ContainsFunc(c.Warnings, func(p configs.Problem) bool {
			return strings.Contains(p.String(), "rules[0].immutable: keeps tags like sha256-2c26...")
		}); got != want {
			t.Errorf("%q: warned %v, want %v", tags, got, want)
		}
	}
}
