package e2e

import (
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Every file of configs/examples is used as it stands: with its names, its
// ports and its paths, and nothing set but its secrets.

func TestEveryExampleIsUsed(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "configs", "examples", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples, %v", len(files), err)
	}
	var tests string
	own, _ := filepath.Glob("*_test.go") // the pattern is right
	for _, file := range own {
		tests += readFile(t, file)
	}
	for _, file := range files {
		if !strings.Contains(tests, fmt.Sprintf("w.example(t, %q", filepath.Base(file))) {
			t.Errorf("nothing uses %s", file)
		}
	}
}

func TestExampleMinimal(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		u.has(t, "coolteam/app:1", small(t))
		w.here(t, "127.0.0.1:5000", to(t, u.url)) // beside regward
		g := w.example(t, "minimal.yaml", "registry.example.com")
		for _, k := range []clientKind{kindNamed("crane"), kindNamed("podman")} {
			c := k.new(t, g.host)
			c.pull(t, g.host+"/library/hello:1").works(t)
			c.pull(t, g.host+"/coolteam/app:1").fails(t, "not logged in")
			c.login(t, "bob", passwords["bob"]).works(t)
			c.pull(t, g.host+"/coolteam/app:1").works(t)
			c.push(t, g.host+"/coolteam/from-"+k.name+":1", small(t)).works(t)
		}
	})
}

func TestExampleLimits(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		g := w.example(t, "limits.yaml", "registry.example.com")
		k := newCrane(t, g.host).(*crane)
		for range 100 {
			token := g.token(t, "", "repository:library/hello:pull")
			g.send(t, "GET", "/v2/library/hello/manifests/1", token, nil).is(t, 200)
			if t.Failed() {
				return
			}
		}
		k.run(t, "manifest", g.host+"/library/hello:1").fails(t, `limit "anonymous"`)
		k.login(t, "bob", passwords["bob"]).works(t)
		k.push(t, g.host+"/coolteam/app:1", small(t)).works(t)
	})
}

func TestExampleInternalTLS(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distributionBasic)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		g := w.example(t, "internal-tls.yaml", "registry.internal", "REGISTRY_PASSWORD="+upstreamPassword)
		// What its first lines say: clients have to trust what `regward ca` prints.
		w.trust(t, g.cli(t, "ca").works(t).out)
		for _, host := range []string{"registry.internal", "10.0.0.5"} {
			k := newSkopeo(t, host)
			k.pull(t, host+"/library/hello:1").works(t)
			k.push(t, host+"/coolteam/app:1", small(t)).fails(t, "not logged in")
			k.login(t, "ann", passwords["ann"]).works(t)
			k.push(t, host+"/coolteam/app:1", small(t)).works(t)
		}
	})
}

const (
	hubUser     = "acmebot"
	hubPassword = "hub-secret"
)

// knows tells a stand-in of people with logins.
func (s *standin) knows(users map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.users, users)
}

// has puts an image into a stand-in.
func (s *standin) has(t testing.TB, ref string, what remote.Taggable) {
	t.Helper()
	if err := s.store.has(ref, what); err != nil {
		t.Fatal(err)
	}
}

// login is the name and the password in a request, "" where there are none.
func (h heard) login() (user, password string) {
	user, password, _ = (&http.Request{Header: h.header}).BasicAuth()
	return user, password
}

func anonymously(h heard) bool { return h.scheme == "" }

// askedBy are the names that came to one of a stand-in's hosts with a
// password, sorted; "" came without.
func askedBy(s *standin, at string) []string {
	names := map[string]bool{}
	for _, h := range s.requests(at, nil) {
		user, _ := h.login()
		names[user] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// hub is Docker Hub under its real names.
func (w *world) hub(t testing.TB) *standin {
	t.Helper()
	w.puts(t, map[string]string{
		"registry": "registry-1.docker.io:443", "tokens": "auth.docker.io:443", "storage": "production.cloudflare.docker.com:443",
	})
	s := newHub(t, 100)
	s.knows(map[string]string{hubUser: hubPassword})
	return s
}

// publicHub is one that clients reach themselves, too: it has its blobs at hand,
// since clients tell storage more of themselves than regward does.
func (w *world) publicHub(t testing.TB) *standin {
	t.Helper()
	s := w.hub(t)
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.redirect = nil
	return s
}

// nexus is a Nexus with people's logins in it; its address in the examples is
// nexus:8081.
func (w *world) nexus(t testing.TB, at string, n nexus) *standin {
	t.Helper()
	w.puts(t, map[string]string{"registry": at})
	s := newNexus(t, n)
	s.knows(passwords)
	s.has(t, "library/hello:1", small(t))
	return s
}

// The two ways a Nexus asks for a login on its path route, and a third that
// some releases have.
func nexusShapes() map[string]nexus {
	return map[string]nexus{
		"Basic":               {release: "3.96.3-01", route: "path", lockout: newLockout()},
		"Bearer":              {release: "3.87.1-01", route: "path", bearer: true},
		"Bearer with a scope": {release: "3.71.0-06", route: "path", bearer: true, scoped: true},
	}
}

// The wish of the forum: library/ for everybody without a login, coolteam/ for
// its team, logins as they are in Nexus, and one hostname.
func TestExampleNexus(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		for name, shape := range nexusShapes() {
			t.Run(name, func(t *testing.T) {
				s := w.nexus(t, "nexus:8081", shape)
				secret := small(t)
				s.has(t, "coolteam/secret:1", secret)
				g := w.example(t, "nexus.yaml", "docker.acme.example", "NEXUS_PASSWORD="+upstreamPassword)
				for _, k := range []clientKind{kindNamed("docker"), kindNamed("podman"), kindNamed("crane")} {
					t.Run(k.name, func(t *testing.T) { forumStory(t, g, k) })
				}
				t.Run("a private layer is not given away", func(t *testing.T) {
					layer := layerDigest(t, secret)
					underFreeName := "/v2/library/hello/blobs/" + layer
					direct, err := http.NewRequest(http.MethodGet, s.url+underFreeName, nil)
					if err != nil {
						t.Fatal(err)
					}
					direct.SetBasicAuth(upstreamUser, upstreamPassword)
					r, err := http.DefaultClient.Do(direct)
					if err != nil {
						t.Fatal(err)
					}
					r.Body.Close()
					if r.StatusCode != http.StatusOK {
						t.Fatalf("Nexus would give it: it answers %s", r.Status)
					}
					anyone := g.token(t, "", "repository:library/hello:pull")
					g.send(t, http.MethodGet, underFreeName, anyone, nil).is(t, http.StatusNotFound)
					g.send(t, http.MethodHead, underFreeName, anyone, nil).is(t, http.StatusNotFound)
					bob := g.token(t, "bob", "repository:coolteam/secret:pull")
					g.send(t, http.MethodGet, "/v2/coolteam/secret/blobs/"+layer, bob, nil).is(t, http.StatusOK)
				})
				onlyTheAccountReached(t, s)
			})
		}
	})
}

// The same file with the other two ways to one repository of Nexus.
func TestExampleNexusByItsOtherRoutes(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		text := readFile(t, filepath.Join("..", "configs", "examples", "nexus.yaml"))
		const url = "http://nexus:8081/repository/docker-hosted"
		if !strings.Contains(text, url) {
			t.Fatalf("the example has another URL than %s", url)
		}
		t.Setenv("NEXUS_PASSWORD", upstreamPassword)
		for at, shape := range map[string]nexus{
			"nexus:8082":                            {release: "3.71.0-06", route: "port"},
			"docker-hosted.nexus.acme.example:8081": {release: "3.87.1-01", route: "subdomain", bearer: true},
		} {
			t.Run(shape.route, func(t *testing.T) {
				s := w.nexus(t, at, shape)
				s.has(t, "coolteam/secret:1", small(t))
				g := w.written(t, "docker.acme.example", strings.Replace(text, url, "http://"+at, 1))
				for _, k := range []clientKind{kindNamed("docker"), kindNamed("podman"), kindNamed("crane")} {
					t.Run(k.name, func(t *testing.T) { forumStory(t, g, k) })
				}
				onlyTheAccountReached(t, s)
			})
		}
	})
}

// forumStory is one client's day.
func forumStory(t *testing.T, g *regward, k clientKind) {
	c := k.new(t, g.host)
	ref := func(r string) string { return g.host + "/" + r }
	own := "coolteam/from-" + k.name + ":1"
	walk(t, []step{
		{"pulls library/ without a login", func(t *testing.T) { c.pull(t, ref("library/hello:1")).works(t) }},
		{"is refused coolteam/ without one", func(t *testing.T) { c.pull(t, ref("coolteam/secret:1")).fails(t, "not logged in") }},
		{"pushes nothing without one", func(t *testing.T) { c.push(t, ref(own), small(t)).fails(t) }},
		{"is told of a wrong password", func(t *testing.T) { c.login(t, "bob", "not bob's").fails(t) }},
		{"cannot guess at the account behind", func(t *testing.T) { c.login(t, upstreamUser, "a guess").fails(t) }},
		{"bob logs in as in Nexus", func(t *testing.T) { c.login(t, "bob", passwords["bob"]).works(t) }},
		{"bob pulls", func(t *testing.T) { c.pull(t, ref("coolteam/secret:1")).works(t) }},
		{"bob pushes", func(t *testing.T) { c.push(t, ref(own), small(t)).works(t) }},
		{"bob pulls what he pushed", func(t *testing.T) { c.pull(t, ref(own)).works(t) }},
		{"bob pulls library/", func(t *testing.T) { c.pull(t, ref("library/hello:1")).works(t) }},
		{"dave logs in too", func(t *testing.T) { c.login(t, "dave", passwords["dave"]).works(t) }},
		{"and is not in the team", func(t *testing.T) { c.pull(t, ref(own)).fails(t, "dave is logged in but may not pull") }},
		{"the team's images are gone after the logout", func(t *testing.T) {
			c.logout(t).works(t)
			c.pull(t, ref(own)).fails(t, "not logged in")
		}},
	})
}

// onlyTheAccountReached demands that Nexus was asked for anything but whether
// a login is good by regward's own account alone, and for logins seldom enough
// that nobody is locked out; of guesses at the account it heard nothing.
func onlyTheAccountReached(t *testing.T, s *standin) {
	t.Helper()
	pings := strings.TrimPrefix(s.url, "http://"+s.host) + "/v2/"
	wrong := map[string]int{}
	for _, h := range s.requests("registry", nil) {
		target, _, _ := strings.Cut(h.target, "?")
		user, password := h.login()
		switch {
		case user == upstreamUser && password == upstreamPassword:
		case strings.EqualFold(h.scheme, "Bearer"):
			g, known := s.tokens.find(strings.TrimSpace(h.header.Get("Authorization")[len("Bearer"):]))
			if known && g.user != upstreamUser {
				t.Errorf("a token of %q reached Nexus: %s", g.user, h)
			}
		case h.method != http.MethodGet || target != pings && target != pings+"token":
			t.Errorf("%q reached Nexus: %s", user, h)
		case user != "" && s.check(user, password) != http.StatusOK:
			wrong[user]++
		}
	}
	if wrong["bob"] != 1 {
		t.Errorf("the wrong password for bob, given by every client, was asked %d times", wrong["bob"])
	}
	if n := wrong[upstreamUser]; n != 0 {
		t.Errorf("%d guesses at regward's account reached Nexus", n)
	}
}

// Nexus goes on deciding: it sees everybody's own login, and of those without
// one the account that may only read.
func TestExampleNexusPassthrough(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		for name, shape := range nexusShapes() {
			t.Run(name, func(t *testing.T) {
				s := w.nexus(t, "nexus:8081", shape)
				s.mu.Lock()
				s.rights = func(user, repository, action string) bool {
					return strings.HasPrefix(repository, "library/") && user != "" && action == "pull" ||
						strings.HasPrefix(repository, "coolteam/") && (user == "ann" || user == "bob")
				}
				s.mu.Unlock()
				secret := small(t)
				s.has(t, "coolteam/secret:1", secret)
				g := w.example(t, "nexus-passthrough.yaml", "docker.acme.example", "NEXUS_PASSWORD="+upstreamPassword)
				for _, k := range []clientKind{kindNamed("docker"), kindNamed("podman"), kindNamed("crane")} {
					t.Run(k.name, func(t *testing.T) { passthroughStory(t, g, k) })
				}
				t.Run("a private layer is not given away", func(t *testing.T) {
					dave := g.token(t, "dave", "repository:library/hello:pull")
					g.send(t, http.MethodGet, "/v2/library/hello/manifests/1", dave, nil).is(t, http.StatusOK)
					g.send(t, http.MethodGet, "/v2/library/hello/blobs/"+layerDigest(t, secret), dave, nil).is(t, http.StatusNotFound)
				})
				everybodyCameAsThemselves(t, s)
				nothingIsInClear(t, "/var/lib/regward", passwords["bob"])
				nothingIsInClear(t, "/var/lib/regward", base64.StdEncoding.EncodeToString([]byte("bob:"+passwords["bob"])))
				if strings.Contains(g.proc.output(), passwords["bob"]) {
					t.Error("a password is in the log")
				}
			})
		}
	})
}

func passthroughStory(t *testing.T, g *regward, k clientKind) {
	c := k.new(t, g.host)
	ref := func(r string) string { return g.host + "/" + r }
	own := "coolteam/from-" + k.name + ":1"
	walk(t, []step{
		{"pulls library/ without a login", func(t *testing.T) { c.pull(t, ref("library/hello:1")).works(t) }},
		{"is refused coolteam/ without one", func(t *testing.T) { c.pull(t, ref("coolteam/secret:1")).fails(t, "not logged in") }},
		{"is told of a wrong password", func(t *testing.T) { c.login(t, "bob", "not bob's").fails(t) }},
		{"bob logs in as in Nexus", func(t *testing.T) { c.login(t, "bob", passwords["bob"]).works(t) }},
		{"bob pulls", func(t *testing.T) { c.pull(t, ref("coolteam/secret:1")).works(t) }},
		{"bob pushes", func(t *testing.T) { c.push(t, ref(own), small(t)).works(t) }},
		{"bob pulls what he pushed", func(t *testing.T) { c.pull(t, ref(own)).works(t) }},
		{"dave logs in", func(t *testing.T) { c.login(t, "dave", passwords["dave"]).works(t) }},
		{"Nexus refuses dave", func(t *testing.T) { c.pull(t, ref(own)).fails(t) }},
	})
}

// everybodyCameAsThemselves demands that Nexus was asked for coolteam/ by its
// team, or by those it refuses, and never by regward's account.
func everybodyCameAsThemselves(t *testing.T, s *standin) {
	t.Helper()
	came := map[string]bool{}
	for _, h := range s.requests("registry", nil) {
		user, _ := h.login()
		if strings.EqualFold(h.scheme, "Bearer") {
			g, _ := s.tokens.find(strings.TrimSpace(h.header.Get("Authorization")[len("Bearer"):]))
			user = g.user
		}
		if strings.Contains(h.target, "/coolteam/") {
			came[user] = true
		}
		if h.method != http.MethodGet && h.method != http.MethodHead && user == upstreamUser {
			t.Errorf("regward's account writes: %s", h)
		}
	}
	if !came["bob"] || came[upstreamUser] || came[""] {
		t.Errorf("asked for coolteam/: %v", slices.Sorted(maps.Keys(came)))
	}
}

// nothingIsInClear looks for a secret in every file below dir.
func nothingIsInClear(t *testing.T, dir, secret string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), secret) {
			t.Errorf("%s holds a password", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%s: %d files, %v", dir, files, err)
	}
}

func TestExampleHarbor(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		w.puts(t, map[string]string{"registry": "harbor.acme.example:8443"})
		s := newHarbor(t, false)
		s.has(t, "library/hello:1", small(t))
		g := w.example(t, "harbor.yaml", "registry.acme.example", "HARBOR_PASSWORD="+upstreamPassword)
		for _, k := range []clientKind{kindNamed("skopeo"), kindNamed("crane")} {
			c := k.new(t, g.host)
			c.pull(t, g.host+"/library/hello:1").works(t)
			c.pull(t, g.host+"/coolteam/app:1").fails(t, "not logged in")
			c.login(t, "bob", passwords["bob"]).works(t)
			c.push(t, g.host+"/coolteam/from-"+k.name+":1", small(t)).works(t)
			c.pull(t, g.host+"/coolteam/from-"+k.name+":1").works(t)
			c.push(t, g.host+"/library/from-"+k.name+":1", small(t)).works(t)
		}
		s.sawOnlyItsOwn(t)
	})
}

func TestExampleSeveral(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		hub := w.hub(t)
		hub.has(t, "library/alpine:1", small(t))
		hub.has(t, "grafana/grafana:1", small(t))
		w.puts(t, map[string]string{"registry": "ghcr.io:443", "storage": "pkg-containers.githubusercontent.com:443"})
		ghcr := newGHCR(t)
		ghcr.has(t, "library/tool:1", multiArch(t))
		nexus := w.nexus(t, "nexus:8081", nexusShapes()["Basic"])
		rest := startUpstream(t, distribution)
		rest.has(t, "acme/app:1", small(t))
		rest.has(t, "library/private:1", small(t))
		w.serve(t, "registry:5000", to(t, rest.url))
		const host, hosted = "registry.example.com", "hosted.example.com"
		w.example(t, "several.yaml", host, "HUB_TOKEN="+hubPassword, "NEXUS_PASSWORD="+upstreamPassword)

		c := newCrane(t, host).(*crane)
		manifest := func(ref string) outcome { return c.run(t, "manifest", ref) }
		for _, ref := range []string{"/hub/alpine:1", "/ghcr/library/tool:1", "/acme/app:1", "/library/private:1", "/library/hello:1"} {
			manifest(host+ref).fails(t, "not logged in")
		}
		c.pull(t, hosted+"/library/hello:1").works(t)
		manifest(hosted+"/coolteam/app:1").fails(t, "not logged in")
		for _, h := range []string{host, hosted} {
			commandWithInput(t, c.env, passwords["ann"], c.program, "auth", "login", "-u", "ann", "--password-stdin", h).works(t)
		}
		for _, ref := range []string{"/hub/alpine:1", "/hub/library/alpine:1", "/hub/grafana/grafana:1", "/ghcr/library/tool:1", "/acme/app:1"} {
			c.pull(t, host+ref).works(t)
		}
		manifest(host+"/library/private:1").fails(t, "may not pull library/private")
		c.push(t, host+"/acme/new:1", small(t)).works(t)
		c.push(t, host+"/hub/acme/new:1", small(t)).fails(t)
		c.push(t, hosted+"/coolteam/app:1", small(t)).works(t)
		nexus.holds(t, "coolteam/app:1")
		// What was pulled from one is uploaded in full to another.
		c.run(t, "copy", host+"/hub/alpine:1", host+"/acme/alpine:1").works(t)
		c.pull(t, host+"/acme/alpine:1").works(t)

		for list, want := range map[string][]string{
			host:   {"acme/alpine", "acme/app", "acme/new"},
			hosted: {"coolteam/app", "library/hello"},
		} {
			got := strings.Fields(c.run(t, "catalog", list).works(t).out)
			own := slices.DeleteFunc(slices.Clone(got), func(r string) bool { return !slices.Contains(want, r) })
			if !slices.Equal(own, want) || !slices.IsSorted(got) || slices.Contains(got, "library/private") {
				t.Errorf("%s lists %q", list, got)
			}
		}
		tags := c.run(t, "ls", host+"/hub/alpine").works(t)
		if strings.TrimSpace(tags.out) != "1" {
			t.Errorf("hub/alpine has the tags %q", tags.out)
		}
		if got := askedBy(hub, "tokens"); !slices.Equal(got, []string{hubUser}) {
			t.Errorf("Docker Hub's token service was asked by %q", got)
		}
		for _, s := range []*standin{hub, ghcr, nexus} {
			s.sawOnlyItsOwn(t)
		}
		for _, h := range slices.Concat(ghcr.requests("registry", nil), ghcr.requests("storage", nil)) {
			if user, _ := h.login(); user != "" {
				t.Errorf("a login of %q reached GHCR: %s", user, h)
			}
		}
	})
}
