package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// What catches a naive proxy (clients.md, section 4) and no client would do
// by itself: requests by hand, a real registry behind.

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// asBob is a registry with vault/secret, which bob must not reach, and bob's
// token for his own repository.
func asBob(t *testing.T) (u *upstream, g *regward, token, secretLayer string) {
	t.Helper()
	u = startUpstream(t, distribution)
	secret := small(t)
	u.has(t, "vault/secret:1", secret)
	u.has(t, "library/hello:1", small(t))
	g = startRegward(t, u, teamRules)
	return u, g, g.token(t, "bob", "repository:coolteam/mine:push,pull", "repository:vault/secret:pull"), layerDigest(t, secret)
}

func TestAMountCannotBeSmuggledIn(t *testing.T) {
	t.Parallel()
	u, g, token, layer := asBob(t)
	form := url.Values{"mount": {layer}, "from": {"vault/secret"}}
	var parts bytes.Buffer
	w := multipart.NewWriter(&parts)
	_ = w.WriteField("mount", layer)
	_ = w.WriteField("from", "vault/secret")
	w.Close()
	const uploads = "/v2/coolteam/mine/blobs/uploads/"
	for _, way := range []struct{ name, target, contentType, body string }{
		{"in the query", uploads + "?" + form.Encode(), "", ""},
		{"in a form", uploads, "application/x-www-form-urlencoded", form.Encode()},
		{"in a form with parts", uploads, w.FormDataContentType(), parts.String()},
		{"half in the query, half in the form", uploads + "?mount=" + url.QueryEscape(layer), "application/x-www-form-urlencoded", "from=vault%2Fsecret"},
		{"without a source", uploads + "?mount=" + url.QueryEscape(layer), "", ""},
	} {
		t.Run(way.name, func(t *testing.T) {
			header := []string{}
			if way.contentType != "" {
				header = append(header, "Content-Type", way.contentType)
			}
			g.send(t, http.MethodPost, way.target, token, strings.NewReader(way.body), header...).is(t, http.StatusAccepted)
			if m := u.mounts(); len(m) > 0 {
				t.Errorf("the upstream was asked for %v", m)
			}
			g.send(t, http.MethodHead, "/v2/coolteam/mine/blobs/"+layer, token, nil).is(t, http.StatusNotFound)
		})
	}
}

func TestNoSpellingOfAPathLeadsToAForbiddenRepository(t *testing.T) {
	t.Parallel()
	u, g, token, layer := asBob(t)
	for _, target := range []string{
		"/v2/vault/secret/manifests/1",
		"/v2/coolteam/mine%2F..%2F..%2Fvault/secret/manifests/1",
		"/v2/%76ault/secret/manifests/1",
		"/v2/coolteam/mine/../../vault/secret/manifests/1",
		"/v2/coolteam/mine/%2e%2e/%2e%2e/vault/secret/manifests/1",
		"/v2//vault/secret/manifests/1",
		"/v2/vault//secret/manifests/1",
		"/v2/./vault/secret/manifests/1",
		"/v2/vault/secret/manifests/1/",
		"/v2/vault/secret;x/manifests/1",
		"/v2/VAULT/secret/manifests/1",
		"/V2/vault/secret/manifests/1",
		"/v2/vault/secret/blobs/" + layer,
		"/v2/coolteam/mine/blobs/uploads/../../../vault/secret/manifests/1",
		"/v2/coolteam/mine/manifests/../../../vault/secret/manifests/1",
		"/v2/vault/secret/tags/list",
		"/v2/vault/secret/tags/list?n=1&n=2",
		"/v2/vault/secret/referrers/" + layer,
		"https://" + g.host + "/v2/vault/secret/manifests/1",
		"https://elsewhere.example/v2/vault/secret/manifests/1",
		"/v2/" + strings.Repeat("a", 300) + "/manifests/1",
	} {
		status, header := g.raw(t, target, token)
		if status < 400 || status >= 500 {
			t.Errorf("GET %s: got %d %v", target, status, header)
		}
	}
	for _, r := range u.requests() {
		if strings.HasPrefix(r, "GET ") && strings.Contains(strings.ToLower(r), "secret") {
			t.Errorf("the upstream was asked: %s", r)
		}
	}
}

// raw sends a GET with exactly this target, as no client library would.
func (g *regward) raw(t *testing.T, target, token string) (int, http.Header) {
	t.Helper()
	c, err := tls.Dial("tcp", g.host, &tls.Config{RootCAs: suite.certs.pool, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", target, g.host, token)
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("GET %s: %v", target, err)
	}
	r.Body.Close()
	return r.StatusCode, r.Header
}

func TestTheCatalogShowsOnlyWhatTheCallerMayPull(t *testing.T) {
	t.Parallel()
	u, g, _, _ := asBob(t)
	u.has(t, "coolteam/app:1", small(t))
	for _, tt := range []struct {
		user     string
		see, not []string
	}{
		{"bob", []string{"coolteam/app", "library/hello"}, []string{"vault"}},
		{"ann", []string{"coolteam/app", "library/hello", "vault/secret"}, nil},
		{"dave", []string{"library/hello"}, []string{"vault", "coolteam"}},
	} {
		c := newCrane(t, g.host).(*crane)
		c.login(t, tt.user, passwords[tt.user]).works(t)
		shown := c.run(t, "catalog", g.host).works(t).says(t, tt.see...)
		r := newRegctl(t, g.host).(*regctl)
		r.login(t, tt.user, passwords[tt.user]).works(t)
		alsoShown := r.run(t, "repo", "ls", g.host).works(t).says(t, tt.see...)
		for _, secret := range tt.not {
			if strings.Contains(shown.out+alsoShown.out, secret) {
				t.Errorf("%s sees %q:\n%s%s", tt.user, secret, shown.out, alsoShown.out)
			}
		}
	}
}

func TestReferrersPassFromAnUpstreamThatHasThem(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(
		registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	u := &upstream{kind: distribution, url: server.URL, config: server.URL}
	app := small(t)
	note := artifact(t, descriptor(t, app))
	u.has(t, "library/hello:1", small(t))
	u.has(t, "coolteam/app:1", app)
	u.has(t, "coolteam/app@"+descriptor(t, note).Digest.String(), note)
	g := startRegward(t, u, teamRules)
	c := newRegctl(t, g.host).(*regctl)
	ref := g.host + "/coolteam/app@" + descriptor(t, app).Digest.String()
	c.referrers(t, ref).fails(t)
	c.login(t, "reader", passwords["reader"]).works(t)
	c.referrers(t, ref).works(t).says(t, descriptor(t, note).Digest.String())
}

func TestAnUpstreamWithTokensCanBeAskedWithoutAnAccount(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distributionToken)
	u.has(t, "library/hello:1", small(t))
	u.has(t, "coolteam/app:1", small(t))
	u.config = u.url
	g := startRegward(t, u, teamRules)
	c := newCrane(t, g.host)
	c.pull(t, g.host+"/library/hello:1").works(t)
	c.login(t, "ann", passwords["ann"]).works(t)
	c.pull(t, g.host+"/coolteam/app:1").fails(t) // the upstream does not let regward in
}

// S11: the client must never see the upstream's 401, which it would take for
// its own.
func TestAWrongUpstreamAccountIsTheOperatorsProblem(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{distributionBasic, distributionToken} {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, k)
			u.has(t, "library/hello:1", small(t))
			u.config = strings.Replace(u.config, upstreamPassword, "wrong", 1)
			g := startRegward(t, u, teamRules)
			token := g.token(t, "", "repository:library/hello:pull")
			g.send(t, http.MethodGet, "/v2/library/hello/manifests/1", token, nil).is(t, http.StatusBadGateway)
			r, err := http.Get(g.health + "/readyz")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			if body := readAll(t, r.Body); !strings.Contains(body, "upstream") {
				t.Errorf("/readyz says nothing of the upstream: %s", body)
			}
		})
	}
}

// H01: what passes through is not kept.
func TestAPushOfALargeLayerTakesNoMemory(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	g := startRegward(t, u, teamRules)
	c := newCrane(t, g.host)
	c.login(t, "ann", passwords["ann"]).works(t)
	before := g.memory(t)
	c.push(t, g.host+"/coolteam/big:1", image(t, 128<<20)).works(t)
	if grown := g.memory(t) - before; grown > 100<<20 {
		t.Errorf("the process grew by %d MiB", grown>>20)
	}
}

// memory is the most the process has ever held, in bytes.
func (g *regward) memory(t *testing.T) int64 {
	t.Helper()
	status := readFile(t, filepath.Join("/proc", strconv.Itoa(g.proc.cmd.Process.Pid), "status"))
	for line := range strings.SplitSeq(status, "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatalf("no VmHWM in\n%s", status)
	return 0
}

func TestTheMinimalExampleServesOnceTheNamesAreChanged(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	u.has(t, "team/app:1", small(t))
	g := newRegward(t, u.url)
	example, err := os.ReadFile(filepath.Join("..", "configs", "examples", "minimal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(
		"registry.example.com", "localhost",
		"/etc/regward/tls.crt", suite.certs.certFile,
		"/etc/regward/tls.key", suite.certs.keyFile,
		"http://127.0.0.1:5000", u.url,
		"/etc/regward/htpasswd", g.passwd,
	).Replace(string(example))
	_, port, _ := strings.Cut(g.host, ":")
	text += fmt.Sprintf("\nlisten: \"127.0.0.1:%s\"\nadmin: {listen: off}\nhealth: {listen: %q}\nstate_dir: %q\nlog: {access: %q, audit: %q}\nshutdown_delay: 0s\n",
		port, strings.TrimPrefix(g.health, "http://"), filepath.Join(g.dir, "state"), g.access, g.audit)
	replaceFile(t, g.file, text)
	g.serve(t)

	c := newDocker(t, g.host)
	c.pull(t, g.host+"/library/hello:1").works(t)
	c.pull(t, g.host+"/team/app:1").fails(t, "not logged in")
	c.login(t, "ann", passwords["ann"]).works(t)
	c.pull(t, g.host+"/team/app:1").works(t)
	c.push(t, g.host+"/team/new:1", small(t)).works(t)
}
