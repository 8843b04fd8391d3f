package configs_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

// An issuer of everybody needs a claim that is one's own; two issuers need names
// that differ.
func TestIssuersOfEverybody(t *testing.T) {
	for _, tt := range []struct{ entries, errs, warns string }{
		{"{name: a, issuer: https://token.actions.githubusercontent.com, audience: x, user: 'gha/{repository}'}", "auth.oidc[0] require is missing: https://token.actions.githubusercontent.com gives tokens to anybody, and each would be a login here write require: {repository_owner: acme}", ""},
		{"{name: a, issuer: https://GitLab.com, audience: x, user: 'gl/{project_path}'}", "auth.oidc[0] require is missing: https://GitLab.com gives", ""},
		{"{name: a, issuer: https://gitlab.com, audience: x, user: 'gl/{project_path}', require: {namespace_path: acme}}", "", ""},
		{"{name: a, issuer: https://gitlab.example.com, audience: x, user: 'gl/{project_path}'}", "", ""},
		{"{name: a, issuer: https://a.example.com, audience: x, user: 'ci/{sub}'}, {name: b, issuer: https://b.example.com, audience: x, user: 'CI/{sub}'}", "", "auth.oidc[1].user \"CI/{sub}\" is how auth.oidc[0] names people, too, and that is another issuer: each can name the other's begin it with something else: b/…"},
		{"{name: a, issuer: https://a.example.com, audience: x, user: 'ci/{sub}'}, {name: b, issuer: https://a.example.com, audience: y, user: 'ci/{sub}'}", "", ""},
	} {
		c, err := configs.Parse("regward.yaml", fmt.Appendf(nil, `hostname: a.example
tls: {mode: internal}
upstream: http://registry:5000
auth: {oidc: [%s]}
rules: [{subjects: authenticated, repositories: "**", allow: [pull, push]}]
`, tt.entries), configs.Options{Static: true})
		var all configs.Problems
		if !errors.As(err, &all) && c != nil {
			all = c.Warnings
		}
		told := map[configs.Severity]string{}
		for _, p := range all {
			told[p.Severity] += p.Path + " " + p.Msg + " " + p.Fix
		}
		if !strings.HasPrefix(told[configs.Error], tt.errs) || (told[configs.Error] == "") != (tt.errs == "") || told[configs.Warning] != tt.warns {
			t.Errorf("%s:\n%q\n%q", tt.entries, told[configs.Error], told[configs.Warning])
		}
	}
}
