package e2e

import (
	"slices"
	"strings"
	"testing"
)

// Every registry that people put behind a proxy is looked at, and each gets
// the answer that its habits deserve.
func TestDoctorLooksAtEachRegistry(t *testing.T) {
	t.Parallel()
	basic, path := []string{"warning C02"}, "warning url"
	want := map[string][]string{
		"Nexus by its connector port":      basic,
		"Nexus by its path":                {path, "warning C02"},
		"Nexus with tokens by its path":    {path, "warning C09"},
		"Nexus with tokens by a subdomain": {},
		"Harbor":                           {},
		"GitLab":                           {"warning C06"},
		"Quay":                             {},
		"Artifactory":                      {path, "warning C02"},
		"Docker Hub":                       {"warning C06"},
		"GHCR":                             {"warning C09"},
		"ECR":                              basic,
		"Artifact Registry":                {"warning C08", "warning location"},
		"Gitea":                            {"problem C02", "warning C09"},
	}
	for _, up := range imitations {
		t.Run(up.name, func(t *testing.T) {
			t.Parallel()
			s, _ := stocked(t, up.new)
			args := []string{"--ca-file", suite.certs.caFile, "--repository", "coolteam/app"}
			d := doctor(t, s.url, login{s.user, s.password}, args...)
			d.inOrder(t, "ping", "login")
			if up.name == "Docker Hub" {
				d.says(t, "limit 100;w=21600, remaining 100;w=21600, counted for 203.0.113.9")
			}
			if got := d.wrong(); !slices.Equal(got, want[up.name]) {
				t.Errorf("got %q, want %q:\n%s", got, want[up.name], d.all)
			}
			anybody := doctor(t, s.url, login{}, args...)
			if strings.Contains(anybody.all, s.password) {
				t.Errorf("a password out of nowhere:\n%s", anybody.all)
			}
		})
	}
}
