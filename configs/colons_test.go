package configs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

// A colon in a name is a slip of the pen, but in names that are made of claims or
// stand in certificates.
func TestColonsInNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"k8s/system:serviceaccount:ci:builder": true, "system:serviceaccount:ci:builder": true, "gl/acme/app:main": true, "spiffe://example.com/ci/runner-1": true,
		"ann:bob": false, "ann:": false, ":ann": false, "user:ann": false, "token:ci": false, "token:ci/x": false, "a:b://c": false,
	} {
		_, err := configs.Parse("regward.yaml", fmt.Appendf(nil, `hostname: a.example
tls: {mode: internal}
upstream: {url: http://registry:5000, username: u, password: p}
groups: {team: [%q]}
rules: [{subjects: group:team, repositories: "**", allow: [pull, push]}]
tests: [{as: %q, may: pull, repository: a/b}]
`, name, name), configs.Options{Static: true})
		if told := fmt.Sprint(err); (err == nil) != ok || !ok && (!strings.Contains(told, "groups.team[0]") || !strings.Contains(told, "tests[0].as")) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
