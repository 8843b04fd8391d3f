package proxy

import (
	"strings"
	"testing"
)

func TestM01_NamespaceParameterIsIgnoredAndDropped(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	for _, ns := range []string{"docker.io", "registry-1.docker.io", "evil.example:5000"} {
		for _, tt := range []struct{ method, target string }{
			{"GET", "/v2/coolteam/app/manifests/latest"}, {"HEAD", "/v2/coolteam/app/manifests/latest"}, {"GET", "/v2/coolteam/app/blobs/" + layerDigest},
			{"GET", "/v2/coolteam/app/tags/list"}, {"GET", "/v2/coolteam/app/referrers/" + imageDigest}, {"PUT", "/v2/coolteam/app/manifests/1"}, {"POST", "/v2/coolteam/app/blobs/uploads/"},
		} {
			a := g.do(tt.method, tt.target+"?ns="+ns, ann)
			if a.StatusCode/100 != 2 {
				t.Errorf("%s %s: %d", tt.method, tt.target, a.StatusCode)
			}
			if got := g.up.one(t).Target; got != tt.target {
				t.Errorf("%s: the upstream got %s", tt.target, got)
			}
			if got := a.Header.Get("OCI-Namespace"); got != "" {
				t.Errorf("OCI-Namespace %q of a parameter that was not used", got)
			}
		}
		g.get("/v2/?ns="+ns, ann).want(t, 200)
	}
	g.get("/v2/coolteam/app/tags/list?ns=a&ns=b", ann).want(t, 400)
}

func TestM02_RulesApplyWhateverTheNamespace(t *testing.T) {
	g := newGate(t, usual)
	bob := g.as("bob", pulls("coolteam/app"), pulls("ops/secrets"))
	for _, ns := range []string{"", "?ns=docker.io", "?ns=" + gateHost} {
		g.get("/v2/coolteam/app/manifests/latest"+ns, bob).refused(t, 401, "DENIED")
		g.get("/v2/ops/secrets/manifests/latest"+ns, bob).refused(t, 401, "DENIED")
	}
	g.up.none(t)
}

func TestM03_ARefusalToAMirrorsClientIsARefusal(t *testing.T) {
	// Docker falls through to the Hub on any error: nothing here may look like an image.
	g := newGate(t, usual)
	for _, credential := range []option{who(""), g.as("", pulls("ops/secrets")), basic("hub-user", "hub-password")} {
		a := g.get("/v2/ops/secrets/manifests/latest?ns=docker.io", credential)
		if a.StatusCode != 401 || a.Header.Get("Docker-Content-Digest") != "" || strings.Contains(a.Header.Get("Content-Type"), "manifest") {
			t.Errorf("got %d, %v", a.StatusCode, a.Header)
		}
	}
	g.up.none(t)
}
