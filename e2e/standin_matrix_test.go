package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
)

// imitation is a registry that regward stands in front of, as a stand-in.
type imitation struct {
	name string
	new  func(t testing.TB) *standin
}

var imitations = []imitation{
	{"Nexus by its connector port", func(t testing.TB) *standin {
		return newNexus(t, nexus{release: "3.71.0-06", route: "port"})
	}},
	{"Nexus by its path", func(t testing.TB) *standin {
		return newNexus(t, nexus{release: "3.96.3-01", route: "path", lockout: newLockout()})
	}},
	{"Nexus with tokens by its path", func(t testing.TB) *standin {
		return newNexus(t, nexus{release: "3.96.3-01", route: "path", bearer: true, scoped: true, lockout: newLockout()})
	}},
	{"Nexus with tokens by a subdomain", func(t testing.TB) *standin {
		return newNexus(t, nexus{release: "3.87.1-01", route: "subdomain", bearer: true})
	}},
	{"Harbor", func(t testing.TB) *standin { return newHarbor(t, true) }},
	{"GitLab", newGitLab},
	{"Quay", func(t testing.TB) *standin { return newQuay(t, 0) }},
	{"Artifactory", newArtifactory},
	{"Docker Hub", func(t testing.TB) *standin { return newHub(t, 100) }},
	{"GHCR", newGHCR},
	{"ECR", newECR},
	{"Artifact Registry", newArtifactRegistry},
	{"Gitea", newGitea},
}

// stocked is a stand-in with library/hello:1, library/multi:1 and
// coolteam/app:1 in it, which is app.
func stocked(t testing.TB, up func(testing.TB) *standin) (s *standin, app v1.Image) {
	t.Helper()
	s, app = up(t), small(t)
	for ref, what := range map[string]any{"library/hello:1": small(t), "library/multi:1": multiArch(t), "coolteam/app:1": app} {
		if err := s.store.has(ref, what); err != nil {
			t.Fatal(err)
		}
	}
	return s, app
}

// Whatever a registry's habits are, people notice nothing of them.
func TestClientsPullAndPushWhateverTheUpstreamsHabits(t *testing.T) {
	t.Parallel()
	for _, up := range imitations {
		for _, k := range []clientKind{kindNamed("docker"), kindNamed("skopeo"), kindNamed("crane")} {
			t.Run(k.name+" in front of "+up.name, func(t *testing.T) {
				t.Parallel()
				s, _ := stocked(t, up.new)
				g := s.front(t, teamRules)
				c := k.new(t, g.host)
				ref := func(r string) string { return g.host + "/" + r }
				walk(t, []step{
					{"pulls a public image without a login", func(t *testing.T) { c.pull(t, ref("library/hello:1")).works(t) }},
					{"pulls one of several platforms", func(t *testing.T) { c.pull(t, ref("library/multi:1")).works(t) }},
					{"is refused a private image", func(t *testing.T) { c.pull(t, ref("coolteam/app:1")).fails(t, "not logged in") }},
				})
				walk(t, s.annsDay(c, g.host))
				s.sawOnlyItsOwn(t)
			})
		}
	}
}

func (s *standin) holds(t testing.TB, ref string) {
	t.Helper()
	if s.store.digestOf(ref) == "" {
		t.Errorf("the upstream does not have %s", ref)
	}
}

func (s *standin) wasAskedToMount(t testing.TB, from string) {
	t.Helper()
	mounts := s.requests("registry", func(h heard) bool { return h.method == http.MethodPost && strings.Contains(h.target, "mount=") })
	if len(mounts) == 0 {
		t.Error("the upstream was never asked for a mount")
	}
	for _, m := range mounts {
		if !strings.Contains(strings.ReplaceAll(m.target, "%2F", "/"), "from="+from) {
			t.Errorf("the upstream was asked for %s", m)
		}
	}
}

// sawOnlyItsOwn demands that nothing of the clients reached the upstream: it
// was asked by its own name, with the account's credentials, and no header of
// a proxy that would change its URLs went along.
func (s *standin) sawOnlyItsOwn(t testing.TB) {
	t.Helper()
	for _, h := range s.requests("registry", nil) {
		if h.host != s.host {
			t.Errorf("asked by another name: %s", h)
		}
		for _, name := range []string{"Forwarded", "X-Forwarded-Host", "Cookie"} {
			if h.header.Get(name) != "" {
				t.Errorf("%s: %s went along", h, name)
			}
		}
		for user, password := range passwords {
			r := &http.Request{Header: h.header}
			if u, p, _ := r.BasicAuth(); u == user || p == password {
				t.Errorf("%s: the login of %s went along", h, user)
			}
		}
	}
	for _, h := range s.requests("tokens", nil) {
		if h.header.Get("X-Forwarded-For") != "" {
			t.Errorf("%s: the client's address went to another host", h)
		}
	}
}

// Whatever was asked, no answer names the upstream or holds what is its alone.
func TestNothingOfTheUpstreamReachesClients(t *testing.T) {
	t.Parallel()
	for _, up := range imitations {
		t.Run(up.name, func(t *testing.T) {
			t.Parallel()
			s, app := stocked(t, up.new)
			g := s.front(t, teamRules)
			pull := g.token(t, "ann", "repository:coolteam/app:pull,push")
			any := g.token(t, "", "repository:library/hello:pull")
			list := g.token(t, "ann", "registry:catalog:*")
			blob := "/v2/coolteam/app/blobs/" + layerDigest(t, app)
			for _, q := range []struct{ method, path, token, body string }{
				{http.MethodGet, "/v2/", "", ""},
				{http.MethodGet, "/v2/coolteam/app/manifests/1", "", ""},
				{http.MethodGet, "/v2/coolteam/app/manifests/1", any, ""},
				{http.MethodGet, "/v2/coolteam/app/manifests/1", pull, ""},
				{http.MethodHead, "/v2/coolteam/app/manifests/1", pull, ""},
				{http.MethodGet, "/v2/coolteam/app/manifests/none", pull, ""},
				{http.MethodGet, "/v2/library/none/tags/list", any, ""},
				{http.MethodGet, "/v2/library/none/manifests/1", any, ""},
				{http.MethodGet, blob, pull, ""},
				{http.MethodHead, blob, pull, ""},
				{http.MethodGet, strings.Replace(blob, "sha256:", "sha256:0000", 1)[:len(blob)], pull, ""},
				{http.MethodGet, "/v2/coolteam/app/tags/list", pull, ""},
				{http.MethodGet, "/v2/_catalog", list, ""},
				{http.MethodDelete, "/v2/coolteam/app/manifests/1", pull, ""},
				{http.MethodPut, "/v2/coolteam/app/manifests/2", pull, `{"schemaVersion":2,"config":{"digest":"sha256:00"}}`},
			} {
				a := g.send(t, q.method, q.path, q.token, strings.NewReader(q.body))
				s.isNotIn(t, g, a)
				if a.StatusCode >= 500 {
					t.Errorf("%s %s: %s\n%s", q.method, q.path, a.Status, a.body)
				}
			}
			s.uploadsNameUs(t, g, pull)
		})
	}
}

func (s *standin) uploadsNameUs(t testing.TB, g *regward, token string) {
	t.Helper()
	start := g.send(t, http.MethodPost, "/v2/coolteam/app/blobs/uploads/", token, nil).is(t, http.StatusAccepted)
	s.isNotIn(t, g, start)
	patch := g.send(t, http.MethodPatch, start.Header.Get("Location"), token, strings.NewReader("hello")).is(t, http.StatusAccepted)
	s.isNotIn(t, g, patch)
	put := g.send(t, http.MethodPut, withDigest(patch.Header.Get("Location"), "hello"), token, nil).is(t, http.StatusCreated)
	s.isNotIn(t, g, put)
	for _, a := range []answer{start, patch, put} {
		if at := a.Header.Get("Location"); !strings.HasPrefix(at, "/v2/coolteam/app/blobs/") {
			t.Errorf("%s %s: Location %s", a.Request.Method, a.Request.URL.Path, at)
		}
	}
}

// isNotIn demands that an answer is regward's own in all that a client could
// take for a place or a way to log in.
func (s *standin) isNotIn(t testing.TB, g *regward, a answer) {
	t.Helper()
	what := a.Request.Method + " " + a.Request.URL.Path
	for _, challenge := range a.Header["Www-Authenticate"] {
		if !strings.HasPrefix(challenge, `Bearer realm="https://`+g.host+`/token",service="localhost"`) || a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %d, challenge %s", what, a.StatusCode, challenge)
		}
	}
	for name, values := range a.Header {
		for _, value := range values {
			if strings.Contains(value, s.host) || strings.Contains(value, "127.0.0.1") || strings.Contains(value, nexusRepository) {
				t.Errorf("%s: %s: %s", what, name, value)
			}
		}
	}
	for _, name := range []string{"Set-Cookie", "Strict-Transport-Security"} {
		if a.Header.Get(name) != "" {
			t.Errorf("%s: %s: %s", what, name, a.Header.Get(name))
		}
	}
	for _, secret := range []string{s.host, s.user, s.password, "ProjectPath"} {
		if strings.Contains(a.body, secret) {
			t.Errorf("%s: the body has %q:\n%s", what, secret, a.body)
		}
	}
}

// annsDay is what somebody with the rights does.
func (s *standin) annsDay(c client, host string) []step {
	ref := func(r string) string { return host + "/" + r }
	return []step{
		{"logs in", func(t *testing.T) { c.login(t, "ann", passwords["ann"]).works(t) }},
		{"pulls a private image", func(t *testing.T) { c.pull(t, ref("coolteam/app:1")).works(t) }},
		{"pushes", func(t *testing.T) {
			c.push(t, ref("coolteam/new:1"), small(t)).works(t)
			s.holds(t, "coolteam/new:1")
		}},
		{"mounts from a repository it may pull", func(t *testing.T) {
			c.copy(t, ref("coolteam/app:1"), ref("coolteam/other:1")).works(t)
			s.holds(t, "coolteam/other:1")
			s.wasAskedToMount(t, "coolteam/app")
		}},
	}
}
