package proxy

import (
	"net/url"
	"strings"
	"testing"

	"github.com/regward/regward/auth"
)

// mirroring is a gate in front of two upstreams: one as Docker Hub is
// configured, and one for the rest.
func mirroring(t *testing.T, rules string) (g *gate, hub, rest *fakeUpstream) {
	t.Helper()
	rest = newFakeUpstream(t)
	g = newGate(t, rules, func(s *Settings) {
		base, err := url.Parse(rest.srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		other := s.Upstreams[0]
		other.Name, other.URL = "rest", base
		s.Upstreams[0].Name = "hub"
		s.Upstreams[0].Place = auth.Place{Prefix: "hub/", Default: "library", NS: []string{"docker.io", "registry-1.docker.io"}}
		s.Upstreams = append(s.Upstreams, other)
	})
	return g, g.up, rest
}

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

func TestM01_NamespaceLeadsToTheUpstreamThatAnswersToIt(t *testing.T) {
	g, hub, rest := mirroring(t, "allow everyone hub/** pull\nallow everyone library/** pull\nallow user:ann ** pull,push")
	pull := []option{g.as("", pulls("hub/library/alpine"), pulls("library/alpine"))}
	push := []option{g.as("ann", pushes("hub/library/alpine"))}
	for _, tt := range []struct {
		method, target string
		with           []option
		want           string // at the Hub; "" is at the rest
	}{
		{"GET", "/v2/library/alpine/manifests/latest?ns=docker.io", pull, "/v2/library/alpine/manifests/latest"},
		{"HEAD", "/v2/library/alpine/manifests/latest?ns=docker.io", pull, "/v2/library/alpine/manifests/latest"},
		{"GET", "/v2/library/alpine/manifests/latest?ns=registry-1.docker.io", pull, "/v2/library/alpine/manifests/latest"}, // regclient
		{"GET", "/v2/library/alpine/blobs/" + layerDigest + "?ns=docker.io", pull, "/v2/library/alpine/blobs/" + layerDigest},
		{"GET", "/v2/library/alpine/tags/list?ns=docker.io", pull, "/v2/library/alpine/tags/list"},
		{"GET", "/v2/library/alpine/tags/list?n=2&ns=docker.io", pull, "/v2/library/alpine/tags/list?n=2"},
		{"POST", "/v2/library/alpine/blobs/uploads/?ns=docker.io", push, "/v2/library/alpine/blobs/uploads/"},
		{"GET", "/v2/alpine/manifests/latest?ns=docker.io", pull, "/v2/library/alpine/manifests/latest"},             // the default namespace
		{"GET", "/v2/hub/library/alpine/manifests/latest?ns=docker.io", pull, "/v2/library/alpine/manifests/latest"}, // M05: both at once
		{"GET", "/v2/library/alpine/manifests/latest?ns=ghcr.io", pull, ""},
		{"GET", "/v2/library/alpine/manifests/latest", pull, ""},
	} {
		a := g.do(tt.method, tt.target, tt.with...)
		if a.StatusCode/100 != 2 {
			t.Errorf("%s %s: %d %s", tt.method, tt.target, a.StatusCode, a.body)
		}
		_, ns, _ := strings.Cut(tt.target, "ns=")
		up, idle, want := hub, rest, tt.want
		if tt.want == "" {
			up, idle, want, ns = rest, hub, "/v2/library/alpine/manifests/latest", ""
		}
		if got := up.one(t).Target; got != want {
			t.Errorf("%s: the upstream got %s, want %s", tt.target, got, want)
		}
		idle.none(t)
		if got := a.Header.Get("OCI-Namespace"); got != ns {
			t.Errorf("%s: OCI-Namespace %q, want %q", tt.target, got, ns)
		}
	}
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

func TestM02_TheSamePathWithANamespaceIsAnotherRepository(t *testing.T) {
	const alpine = "/v2/library/alpine/manifests/latest"
	g, hub, rest := mirroring(t, "allow everyone library/** pull") // of the rest, and of nobody else
	any := g.as("", pulls("library/alpine"), pulls("hub/library/alpine"))
	g.get(alpine, any).want(t, 200)
	rest.one(t)
	for _, target := range []string{alpine + "?ns=docker.io", "/v2/alpine/manifests/latest?ns=docker.io", "/v2/hub/alpine/manifests/latest", "/v2/hub/library/alpine/manifests/latest"} {
		g.get(target, any).refused(t, 401, "DENIED")
	}
	hub.none(t)

	g, hub, rest = mirroring(t, "allow everyone hub/library/** pull")
	any = g.as("", pulls("library/alpine"), pulls("hub/library/alpine"))
	g.get(alpine, any).refused(t, 401, "DENIED")
	rest.none(t)
	g.get(alpine+"?ns=docker.io", any).want(t, 200)
	hub.one(t)

	// A token for the one is none for the other.
	g, hub, rest = mirroring(t, "allow everyone hub/** pull\nallow everyone library/** pull")
	a := g.get(alpine+"?ns=docker.io", g.as("", pulls("library/alpine")))
	a.want(t, 401)
	if got := a.challenged(t)["scope"]; got != pulls("hub/library/alpine") {
		t.Errorf("challenged with scope %q", got)
	}
	g.get(alpine, g.as("", pulls("hub/library/alpine"))).want(t, 401)
	hub.none(t)
	rest.none(t)
}

func TestM04_LoginsForDockerHubAreUnknownAtItsMirror(t *testing.T) {
	g, hub, rest := mirroring(t, "allow everyone hub/library/** pull\nallow authenticated hub/** pull")
	ask := "/token?account=carla&client_id=docker&offline_token=true&service=" + gateHost + "&scope="
	// docker with its image store offers what it has for docker.io, and goes on
	// to Docker Hub when that is turned down: it must not look like a login.
	for range 2 {
		g.get(ask+pulls("hub/library/alpine"), basic("carla", "of-docker-hub")).refused(t, 401, "UNAUTHORIZED")
	}
	a := g.get("/v2/hub/library/alpine/manifests/latest", basic("carla", "of-docker-hub"))
	a.refused(t, 401, "UNAUTHORIZED")
	hub.none(t)
	rest.none(t)
	for _, log := range []*lines{g.log, g.access, g.audit} {
		if strings.Contains(log.String(), "of-docker-hub") {
			t.Error("the password is in a log")
		}
	}
	// containerd sends none: a mirror serves what everybody may have.
	none := g.as("", pulls("library/alpine"), pulls("hub/library/alpine"), pulls("hub/acme/app"))
	g.get("/v2/hub/library/alpine/manifests/latest", none).want(t, 200)
	g.get("/v2/hub/acme/app/manifests/latest", none).refused(t, 401, "DENIED")
}

func TestM05_ClientsWithAPathPrefixAskForTheNameWithoutIt(t *testing.T) {
	g, hub, rest := mirroring(t, "allow everyone hub/library/** pull")
	const target = "/v2/hub/library/alpine/manifests/latest"
	own := pulls("library/alpine") // all that containerd knows before it is challenged
	if got := g.get(target+"?ns=docker.io").want(t, 401).challenged(t)["scope"]; got != pulls("hub/library/alpine") {
		t.Errorf("challenged with scope %q", got)
	}
	a := g.get(target, g.as("", own))
	a.want(t, 401)
	if got := a.challenged(t); got["scope"] != pulls("hub/library/alpine") || got["error"] != "insufficient_scope" {
		t.Errorf("challenged with %v", got)
	}
	rest.none(t)
	g.get(target, g.as("", own, pulls("hub/library/alpine"))).want(t, 200) // both, as it then asks (T06)
	hub.one(t)
	// docker with a mirror that has a path pings below it: nothing is there.
	for ping, status := range map[string]int{"/hub/v2/": 404, "/hub/v2": 404, "/v2/hub/": 400} {
		g.get(ping).want(t, status)
	}
}

func TestM06_APrefixMayLookLikeAHostname(t *testing.T) {
	g := newGate(t, "allow everyone docker.io/** pull\nallow everyone quay.io/acme/** pull", func(s *Settings) {
		s.Upstreams[0].Place = auth.Place{Prefix: "docker.io/", Default: "library"}
		quay := s.Upstreams[0]
		quay.Name, quay.Place = "quay", auth.Place{Prefix: "quay.io/acme/"}
		s.Upstreams = append(s.Upstreams, quay)
	})
	any := g.as("", pulls("docker.io/library/alpine"), pulls("docker.io/alpine"), pulls("quay.io/acme/app"))
	for client, upstream := range map[string]string{
		"docker.io/library/alpine": "library/alpine",
		"docker.io/alpine":         "library/alpine",
		"quay.io/acme/app":         "app",
	} {
		g.get("/v2/"+client+"/manifests/latest", any).want(t, 200)
		if got := g.up.one(t).Target; got != "/v2/"+upstream+"/manifests/latest" {
			t.Errorf("%s: the upstream got %s", client, got)
		}
	}
	// With a port it is no name (P02), and a name that begins with none of the
	// prefixes is nowhere.
	g.get("/v2/docker.io:443/library/alpine/manifests/latest", any).refused(t, 400, "NAME_INVALID")
	g.get("/v2/library/alpine/manifests/latest", any).want(t, 401)
	g.get("/v2/quay.io/other/app/manifests/latest", any).want(t, 401)
	g.up.none(t)
}
