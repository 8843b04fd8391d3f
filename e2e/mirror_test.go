package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Mirrors of Docker Hub, with the daemons that use them: both ask for
// docker.io/library/hello and nothing in their commands says regward.

const mirrorHost = "mirror.acme.example"

// mirrorHead is a mirror of the Hub without rules.
const mirrorHead = `hostname: mirror.acme.example
tls: {cert_file: /etc/regward/tls.crt, key_file: /etc/regward/tls.key}
upstream:
  url: https://registry-1.docker.io
  username: acmebot
  password: hub-secret
  token_hosts: [auth.docker.io]
auth: {htpasswd: /etc/regward/htpasswd}
`

// logged is what a line of the access log says.
type logged struct {
	Msg, Host, Route, Repository, User, Credential, Method, Path, Reason string

	Status    int
	UserAgent string `json:"user_agent"`
}

// answered are the requests of the access log that pass.
func (g *regward) answered(t testing.TB, pass func(l logged) bool) []logged {
	t.Helper()
	var found []logged
	for line := range strings.SplitSeq(g.accessLog(t), "\n") {
		var l logged
		if json.Unmarshal([]byte(line), &l) == nil && l.Msg == "request" && pass(l) {
			found = append(found, l)
		}
	}
	return found
}

// saw waits until as many requests as there should be are in the access log,
// which is written after the answers.
func (g *regward) saw(t testing.TB, what string, want int, pass func(l logged) bool) {
	t.Helper()
	eventually(t, what, 5*time.Second, func() error {
		if got := g.answered(t, pass); len(got) < want {
			return fmt.Errorf("%d requests of %d:\n%s", len(got), want, tail(g.accessLog(t), 30))
		}
		return nil
	})
}

// servedAll demands that a pull of an image with two layers went through
// regward as a whole, under the name repository.
func (g *regward) servedAll(t testing.TB, repository string) {
	t.Helper()
	g.saw(t, "regward served all of "+repository, 3, func(l logged) bool { // two layers and the configuration
		return l.Repository == repository && l.Route == "blob" && l.Method == "GET" && l.Status == 200
	})
}

// mirroringDocker is a docker whose daemon asks regward before Docker Hub.
func mirroringDocker(t *testing.T) *docker {
	t.Helper()
	daemon, err := startDockerWith("mirroring", shown(t, "json", "registry-mirrors"))
	if err != nil {
		t.Fatal(err)
	}
	return dockerAt(t, daemon, mirrorHost)
}

// mirroringCtr is containerd's client with a hosts.toml for docker.io.
func mirroringCtr(t *testing.T, hosts string) *ctr {
	t.Helper()
	c := newCtr(t, mirrorHost).(*ctr)
	dir := filepath.Join(c.hosts, "docker.io")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	replaceFile(t, filepath.Join(dir, "hosts.toml"), hosts)
	return c
}

// shown is the piece of docs/upstreams.md in a language that has a word in it:
// what the page tells to paste is what is tried.
func shown(t *testing.T, language, word string) string {
	t.Helper()
	blocks := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(readFile(t, filepath.Join("..", "docs", "upstreams.md")), -1)
	for _, b := range blocks {
		if strings.Contains(b[1], word) {
			return b[1]
		}
	}
	t.Fatalf("the page shows no %s with %q", language, word)
	return ""
}

func plainMirror(t *testing.T) string {
	return shown(t, "toml", "[host.\"https://mirror.acme.example\"]")
}

func TestExampleHubMirror(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		hub := w.hub(t)
		hub.has(t, "library/hello:1", small(t))
		hub.has(t, "library/hullo:1", small(t))
		hub.has(t, "grafana/grafana:1", small(t))
		g := w.example(t, "hub-mirror.yaml", mirrorHost, "HUB_TOKEN="+hubPassword)

		d := mirroringDocker(t)
		d.run(t, "pull", "hello:1").works(t)
		g.servedAll(t, "library/hello")
		c := mirroringCtr(t, plainMirror(t))
		c.pull(t, "docker.io/library/hullo:1").works(t)
		g.servedAll(t, "library/hullo")
		// By name, without being a mirror: a one-part name is an official image.
		k := newCrane(t, mirrorHost).(*crane)
		k.run(t, "manifest", mirrorHost+"/hello:1").works(t)
		k.run(t, "manifest", mirrorHost+"/grafana/grafana:1").works(t)
		k.push(t, mirrorHost+"/library/mine:1", small(t)).fails(t, "DENIED")
		if got := askedBy(hub, "tokens"); !slices.Equal(got, []string{hubUser}) {
			t.Errorf("Docker Hub's token service was asked by %q", got)
		}
		hubRunsOut(t, g, k)
	})
}

// hubRunsOut uses up what Docker Hub gives the account. People are told whose
// limit that is, and the operator before it comes to that.
func hubRunsOut(t *testing.T, g *regward, k *crane) {
	t.Helper()
	pull := func() answer {
		return g.send(t, http.MethodGet, "/v2/library/hullo/manifests/1", g.token(t, "", "repository:library/hullo:pull"), nil)
	}
	for range 100 {
		if pull().StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	pull().is(t, http.StatusTooManyRequests)
	k.run(t, "pull", mirrorHost+"/library/hullo:1", filepath.Join(k.dir, "none.tar")).
		fails(t, "Docker Hub, not this registry, refuses: account acmebot has used its 100 pulls in 6h")
	const remaining = `regward_upstream_pulls_remaining{upstream="registry-1.docker.io"}`
	if left, err := g.metric(remaining); err != nil || left != "0" {
		t.Errorf("%s is %s, %v", remaining, left, err)
	}
	for _, words := range []string{"20 of 100 pulls in 6h left", "19 of 100 pulls in 6h left"} {
		if strings.Contains(g.proc.output(), "upstream gives few pulls more: "+words) {
			return
		}
	}
	t.Errorf("the log did not warn in time:\n%s", tail(g.proc.output(), 20))
}

// containerd says which registry it means, and is led there although the same
// name is somewhere else without that.
func TestM01_ContainerdIsLedToTheRegistryItMeans(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		hub := w.hub(t)
		theirs := small(t)
		hub.has(t, "library/hello:1", theirs)
		own := startUpstream(t, distribution)
		own.has(t, "library/hello:1", small(t))
		before := len(own.requests())
		prefixed := strings.Replace(mirrorHead, "upstream:\n", "upstreams:\n- prefix: hub/\n  ns: [docker.io, registry-1.docker.io]\n", 1)
		prefixed = strings.Replace(prefixed, "auth: {", "- url: "+own.url+"\nauth: {", 1)
		g := w.written(t, mirrorHost, prefixed+"rules: [{subjects: everyone, repositories: [hub/library/**, library/**], allow: pull}]\n")
		c := mirroringCtr(t, plainMirror(t))
		c.pull(t, "docker.io/library/hello:1").works(t)
		c.run(t, "images", "list").works(t).says(t, descriptor(t, theirs).Digest.String())
		g.servedAll(t, "hub/library/hello")
		for _, r := range own.requests()[before:] {
			if strings.Contains(r, "library/hello") {
				t.Errorf("the other registry was asked: %s", r)
			}
		}
		newCrane(t, mirrorHost).(*crane).run(t, "digest", mirrorHost+"/hub/library/hello:1").works(t).says(t, descriptor(t, theirs).Digest.String())
	})
}

// A prefix in front of the names: the daemon asks for library/hello, is told
// that it wants hub/library/hello, and goes on.
func TestM05_ContainerdPutsAPrefixInFront(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		hub := w.hub(t)
		hub.has(t, "library/hello:1", small(t))
		prefixed := strings.Replace(mirrorHead, "upstream:\n", "upstreams:\n- prefix: hub/\n", 1)
		g := w.written(t, mirrorHost, prefixed+"rules: [{subjects: everyone, repositories: hub/library/**, allow: pull}]\n")
		c := mirroringCtr(t, shown(t, "toml", "override_path"))
		c.pull(t, "docker.io/library/hello:1").works(t)
		g.servedAll(t, "hub/library/hello")
		if got := askedBy(hub, "tokens"); !slices.Equal(got, []string{hubUser}) {
			t.Errorf("Docker Hub's token service was asked by %q", got)
		}
	})
}

// A mirror cannot keep anybody from an image: a daemon that is refused asks
// Docker Hub itself.
func TestM03_ARefusalSendsTheDaemonsToDockerHub(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		hub := w.publicHub(t)
		for _, name := range []string{"denied", "throttled", "spent"} {
			hub.has(t, "library/"+name+":1", small(t))
		}
		g := w.written(t, mirrorHost, mirrorHead+`
rules:
  - {subjects: everyone, repositories: "library/**", allow: pull}
  - {subjects: everyone, repositories: library/denied, deny: pull}
limits:
  - {name: none, count: pulls, rate: 1/7d, per: all, repositories: [library/spent, library/throttled]}
`)
		newCrane(t, mirrorHost).(*crane).run(t, "manifest", mirrorHost+"/library/spent:1").works(t) // and it is over
		d, c := mirroringDocker(t), mirroringCtr(t, plainMirror(t))
		for _, tt := range []struct {
			image  string
			status int
		}{{"denied", 401}, {"throttled", 429}} {
			before := len(hub.requests("tokens", anonymously))
			d.run(t, "pull", "library/"+tt.image+":1").works(t)
			c.pull(t, "docker.io/library/"+tt.image+":1").works(t)
			for _, agent := range []string{"docker/", "containerd/"} {
				g.saw(t, agent+" was refused "+tt.image, 1, func(l logged) bool {
					return l.Repository == "library/"+tt.image && l.Status == tt.status && strings.HasPrefix(l.UserAgent, agent)
				})
			}
			if len(hub.requests("tokens", anonymously)) < before+2 {
				t.Errorf("%s: Docker Hub was asked by %q only", tt.image, askedBy(hub, "tokens"))
			}
		}
	})
}

// docker tries people's logins for docker.io at the mirror. They are unknown
// there, and docker goes on to Docker Hub; containerd sends a mirror nothing.
func TestM04_ALoginForDockerHubIsNoneForItsMirror(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		hub := w.publicHub(t)
		hub.has(t, "library/hello:1", small(t))
		hub.knows(map[string]string{"carla": "of-docker-hub"})
		g := w.written(t, mirrorHost, mirrorHead+`
rules: [{subjects: authenticated, repositories: "**", allow: pull}]
`)
		d := mirroringDocker(t)
		saved := base64.StdEncoding.EncodeToString([]byte("carla:of-docker-hub"))
		_, config, _ := strings.Cut(d.env[slices.IndexFunc(d.env, func(e string) bool { return strings.HasPrefix(e, "DOCKER_CONFIG=") })], "=")
		replaceFile(t, filepath.Join(config, "config.json"), fmt.Sprintf(`{"auths": {"https://index.docker.io/v1/": {"auth": %q}}}`, saved))
		d.run(t, "pull", "hello:1").works(t)
		offered := func(l logged) bool {
			return l.Route == "token" && l.Credential == "wrong password: carla" && l.Status == 401
		}
		g.saw(t, "docker offers the login", 1, offered)
		if strings.Contains(g.accessLog(t), "of-docker-hub") {
			t.Error("the password is in the log")
		}
		// With a login for the mirror saved under the mirror's own name, docker
		// still offers the other: a mirror has to let everybody in.
		d.login(t, "ann", passwords["ann"]).works(t)
		d.run(t, "rmi", "hello:1").works(t)
		d.run(t, "pull", "hello:1").works(t)
		g.saw(t, "docker offers the login again", 2, offered)
		if got := g.answered(t, func(l logged) bool { return l.Repository != "" && l.Status == 200 }); len(got) != 0 {
			t.Errorf("the mirror served %v", got)
		}
	})
}
