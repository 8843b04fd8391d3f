package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regward/regward/proxy"
)

func TestExplainTag(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regward.yaml")
	write(t, file, `hostname: registry.example.com
tls: {mode: internal}
upstream: http://registry:5000
auth: {htpasswd: users}
groups: {ci: [ann, bob]}
rules:
  - {subjects: group:ci, repositories: "team/**", allow: [pull, push], tags: "v*"}
  - {subjects: user:ann, repositories: "team/**", allow: push, tags: "v1*", immutable: true}
  - {subjects: user:bob, repositories: "team/**", allow: push, immutable: true, dry_run: true}
`)
	explain := func(args ...string) (int, string, string) {
		var o, e bytes.Buffer
		code := run(context.Background(), append([]string{"--config", file, "explain"}, args...), func(string) string { return "" }, strings.NewReader(""), &o, &e)
		return code, o.String(), e.String()
	}
	for _, tt := range []struct {
		args string
		code int
		want []string
		not  string
	}{
		{"--user ann --repository team/app --action push --tag v1", exitDone, []string{
			"allowed: push team/app:v1 as ann (ci)",
			"rules[0] at regward.yaml:7 allows group ci to push team/** (tags v*)",
			"rules[1] at regward.yaml:8 makes the tag v1 of team/app immutable for user ann: once it is there, the same digest may be pushed to it, and no other",
			"allow push on team/** (tags v1*) to user ann, immutable",
			"team/app is in team/** and tag v1 in v*, for group ci",
		}, ""},
		{"--user ann --repository team/app --action push --tag v2", exitDone, []string{"allowed: push team/app:v2", "tag v2 is not in v1*"}, "once it is there"},
		{"--user ann --repository team/app --action push --tag latest", exitFailed, []string{"denied: push team/app:latest", "no rule allows ann (ci) to push team/app:latest; nearest: rules[0] at regward.yaml:7, only for tags v*"}, "once it is there"},
		{"--user ann --repository team/app --action push", exitDone, []string{"allowed: push team/app as", "team/app is in team/** and names no tag, for group ci"}, "once it is there"},
		{"--user bob --repository team/app --action push --tag v1", exitDone, []string{"rules[2] at regward.yaml:9, a dry run, makes the tag v1 of team/app immutable for user bob"}, "once it is there"},
		{"--user ann --repository team/app --action push --tag v1 --output json", exitDone, []string{`"tag": "v1"`, `"immutable": "rules[1] at`}, ""},
		{"--user ann", exitDone, []string{"pull    team/** (tags v*)", "except  rules[1] at regward.yaml:8: allow push on team/** (tags v1*) to user ann, immutable"}, ""},
		{"--repository team/app --who --tag v1", exitDone, []string{"team/app:v1\n", "pull    group ci (ann, bob)"}, ""},
		{"--repository team/app --who --tag latest", exitDone, []string{"pull    nobody"}, ""},
	} {
		code, out, errs := explain(strings.Fields(tt.args)...)
		if code != tt.code || tt.not != "" && strings.Contains(out, tt.not) {
			t.Errorf("explain %s: %d %s%s", tt.args, code, out, errs)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("explain %s does not say %q: %d\n%s%s", tt.args, want, code, out, errs)
			}
		}
	}
	for args, want := range map[string]string{
		"--user ann --tag v1": "--tag goes with --repository",
		"--user ann --repository team/app --action pull --tag sha256:abc": "is a digest: leave it out",
		"--user ann --repository team/app --action pull --tag a*b":        "can be no tag",
	} {
		if code, _, errs := explain(strings.Fields(args)...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("explain %s: %d %s", args, code, errs)
		}
	}
}

func TestLikelyOfTags(t *testing.T) {
	for decision, want := range map[string]string{
		"rules[1] at regward.yaml:8 makes the tag v1 of team/app immutable for user ann":                                      "push under a new one",
		"no rule allows ann (ci) to push team/app:latest; nearest: rules[0] at regward.yaml:7, only for tags v*":              "it is the tag",
		"rules[1] at regward.yaml:8 denies push of team/** (tags latest) to group ci":                                         "make rules[1] at regward.yaml:8 narrower",
		"rules[1] at regward.yaml:8 makes tags of a/** immutable for anonymous, and what is deleted by its digest may be one": "push under a new one",
	} {
		if got := likely(&proxy.Refusal{Reason: "not_allowed", Credential: "token", User: "ann", Decision: decision}); !strings.Contains(got, want) {
			t.Errorf("%s: %s", decision, got)
		}
	}
}
