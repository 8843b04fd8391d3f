package configs_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
)

// contract are the examples of the contract that name several upstreams or one
// in front of Nexus; they load as they stand.
var contract = map[string]string{
	"Nexus": `
hostname: docker.acme.example
tls: {cert_file: /etc/regward/tls.crt, key_file: /etc/regward/tls.key}
upstream:
  url: http://nexus:8081/repository/docker-hosted   # Nexus' path-based route: no connector port to open
  username: regward
  password: ${NEXUS_PASSWORD}                       # or NEXUS_PASSWORD_FILE=/run/secrets/nexus
  shared_blobs: true                                # Nexus gives any layer under any image name: this closes it
auth:
  upstream: true                        # people keep their Nexus logins: regward asks Nexus whether one is good
groups:
  coolteam: [ann, bob]
rules:
  - {subjects: everyone,       repositories: "library/**",  allow: pull}
  - {subjects: group:coolteam, repositories: "coolteam/**", allow: [pull, push, delete]}
tests:                                  # a change that breaks one of these is not loaded
  - {as: anonymous, may: pull, repository: library/alpine}
  - {as: anonymous, may_not: pull, repository: coolteam/app}
  - {as: bob, may: push, repository: coolteam/app}      # bob's groups come from groups:
`,
	"several upstreams": `
hostname: registry.example.com
tls: {cert_file: /etc/regward/tls.crt, key_file: /etc/regward/tls.key}
upstreams:
  - prefix: hub/                        # registry.example.com/hub/alpine is docker.io/library/alpine
    url: https://registry-1.docker.io
    username: acmebot
    password: ${HUB_TOKEN}
    default_namespace: library          # one-part names get it, as Docker Hub clients expect
    token_hosts: [auth.docker.io]       # the only foreign host these credentials may be sent to
  - prefix: ghcr/
    url: https://ghcr.io
  - prefix: ""                          # the rest; the longest prefix wins
    url: http://registry:5000
auth:
  htpasswd: /etc/regward/htpasswd
rules:
  - {subjects: authenticated, repositories: ["hub/**", "ghcr/**"], allow: pull}
  - {subjects: authenticated, repositories: "acme/**",             allow: [pull, push]}
`,
}

func TestContractLoads(t *testing.T) {
	env := map[string]string{"NEXUS_PASSWORD": "hidden", "HUB_TOKEN": "hidden"}
	for name, yaml := range contract {
		c, err := load(t, folder(t), yaml, env)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range c.Warnings {
			if !strings.Contains(w.Msg, "nobody may push to") {
				t.Errorf("%s: unforeseen: %v", name, w)
			}
		}
	}
}

func TestNamesFindTheirUpstreams(t *testing.T) {
	c := static(t, `
hostname: ["registry.example.com:5000", hosted.example.com]
tls: {mode: internal}
upstreams:
  - {prefix: hub, url: "https://registry-1.docker.io", default_namespace: library, token_hosts: auth.docker.io, ns: [Docker.IO, "registry:5000"]}
  - {prefix: keep/this, keep_prefix: true, url: "http://kept:5000"}
  - {hostname: Hosted.example.com, url: "http://nexus:8081"}
  - {name: rest, url: "http://registry:5000"}
`)
	var names []string
	for i := range c.Upstreams {
		names = append(names, c.Upstreams[i].Name)
	}
	if diff := cmp.Diff([]string{"hub", "keep/this", "nexus:8081", "rest"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	want := []auth.Place{
		{Prefix: "hub/", Default: "library", NS: []string{"docker.io", "registry:5000"}},
		{Prefix: "keep/this/", Keep: true},
		{Host: "hosted.example.com"},
		{},
	}
	for i, w := range want {
		if diff := cmp.Diff(w, c.Upstreams[i].Place(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("place %d (-want +got):\n%s", i, diff)
		}
	}
	for _, tt := range []struct{ asked, upstream, known, name string }{
		{"hub/alpine", "hub", "hub/library/alpine", "library/alpine"},
		{"hub/library/alpine", "hub", "hub/library/alpine", "library/alpine"},
		{"hub/grafana/grafana", "hub", "hub/grafana/grafana", "grafana/grafana"},
		{"hub", "rest", "hub", "hub"},
		{"keep/this/app", "keep/this", "keep/this/app", "keep/this/app"},
		{"keep/that", "rest", "keep/that", "keep/that"},
		{"registry.example.com/hub/alpine", "hub", "hub/library/alpine", "library/alpine"},
		{"registry.example.com:5000/hub/alpine", "hub", "hub/library/alpine", "library/alpine"},
		{"hosted.example.com/hub/alpine", "nexus:8081", "hub/alpine", "hub/alpine"},
		{"other.example.com/hub/alpine", "rest", "other.example.com/hub/alpine", "other.example.com/hub/alpine"},
	} {
		f, ok := c.Find(tt.asked)
		if !ok {
			t.Errorf("%s: no upstream", tt.asked)
			continue
		}
		got := [3]string{c.Upstreams[f.Index].Name, f.Repository, f.Name}
		if want := [3]string{tt.upstream, tt.known, tt.name}; got != want {
			t.Errorf("%s: got %q, want %q", tt.asked, got, want)
		}
		if a := c.Access(tt.asked, auth.Pull); a.Repository != tt.known || (a.Full != "") != (tt.upstream == "nexus:8081") {
			t.Errorf("%s: rules are asked about %+v", tt.asked, a)
		}
	}
}

func TestWhoIsAskedAboutLogins(t *testing.T) {
	const head = "hostname: [a.example, b.example]\ntls: {mode: internal}\nupstreams:\n"
	const (
		hub   = "- {prefix: hub, url: 'http://hub'}\n"
		ghcr  = "- {prefix: ghcr, url: 'http://ghcr'}\n"
		rest  = "- {name: rest, url: 'http://rest'}\n"
		bound = "- {name: bound, hostname: b.example, url: 'http://bound'}\n"
	)
	for _, tt := range []struct{ upstreams, asked, want string }{
		{rest, "", ""},
		{rest, "false", ""},
		{rest, "true", "rest"},
		{hub + ghcr, "true", "hub"},            // the first
		{hub + ghcr + rest, "true", "rest"},    // the one without a prefix
		{bound + hub + ghcr, "true", "hub"},    // one for all hostnames comes before
		{hub + bound + rest, "bound", "bound"}, // by name
		{bound, "true", "bound"},
	} {
		yaml := head + tt.upstreams
		if tt.asked != "" {
			yaml += "auth: {upstream: " + tt.asked + "}\n"
		}
		if got := static(t, yaml).Auth.Upstream; got != tt.want {
			t.Errorf("auth.upstream: %s with\n%sgot %q, want %q", tt.asked, tt.upstreams, got, tt.want)
		}
	}
}

// What Static cannot know is no mistake.
func TestUnsetVariablesLeavePlacesOpen(t *testing.T) {
	c := static(t, `
hostname: registry.example.com
tls: {mode: internal}
upstreams:
  - {name: a, prefix: "${A}", url: "http://a"}
  - {name: b, prefix: "${B}", url: "http://b"}
auth: {upstream: "${C}"}
rules: [{subjects: authenticated, repositories: "x/**", allow: [pull, push]}]
tests: [{as: ann, may: pull, repository: x/y}]
`)
	if got := c.Warnings.Only(configs.Warning); len(got) > 0 {
		t.Errorf("warnings:\n%v", got.Error())
	}
	if _, ok := c.Find("x/y"); ok {
		t.Error("an unknown prefix holds x/y")
	}
}

func TestPlacesOfOneUpstream(t *testing.T) {
	c := static(t, small)
	if c.UpstreamPath(0) != "upstream" {
		t.Errorf("path: %s", c.UpstreamPath(0))
	}
	if f, ok := c.Find("team/app"); !ok || f.Name != "team/app" {
		t.Errorf("got %+v, %v", f, ok)
	}
	c = static(t, strings.Replace(small, "upstream: http://127.0.0.1:5000", "upstreams: [{url: 'http://127.0.0.1:5000'}]", 1))
	if c.UpstreamPath(0) != "upstreams[0]" {
		t.Errorf("path: %s", c.UpstreamPath(0))
	}
}

func TestDiffUpstreams(t *testing.T) {
	const head = "hostname: [registry.example.com, hosted.example.com]\ntls: {mode: internal}\n"
	from := static(t, head+`
upstreams:
  - {prefix: hub, url: "https://registry-1.docker.io", token_hosts: auth.docker.io, default_namespace: library}
  - {prefix: ghcr, url: "https://ghcr.io"}
  - {name: nexus, url: "http://nexus:8081", username: regward, password: "${P:-old}"}
  - {prefix: quay/, url: "https://quay.io"}
`)
	to := static(t, head+`
upstreams:
  - {prefix: hub, url: "https://registry-1.docker.io", token_hosts: auth.docker.io}
  - {prefix: ghcr, name: github, url: "https://ghcr.io"}
  - {name: nexus, hostname: hosted.example.com, url: "http://nexus:8081", credentials: passthrough, username: regward, password: "${P:-new}", shared_blobs: true}
  - {name: rest, prefix: acme, url: "http://registry:5000"}
search: true
`)
	want := []string{
		"search: true, was false",
		"upstream hub.default_namespace is no longer set (was library)",
		"upstream github.name: github, was ghcr",
		"upstream nexus holds hosted.example.com/**, was **",
		"upstream nexus.password is another one",
		"upstream nexus: people's own logins go on to it (credentials: passthrough)",
		"upstream nexus: a layer is served only through a repository whose manifests refer to it (shared_blobs: true)",
		"upstream rest is new: acme/** goes to http://registry:5000",
		"upstream quay is gone: quay/** went to https://quay.io",
	}
	if diff := cmp.Diff(want, configs.Diff(from, to)); diff != "" {
		t.Errorf("there (-want +got):\n%s", diff)
	}
	want = []string{
		"search: false, was true",
		"upstream hub.default_namespace is set to library",
		"upstream ghcr.name: ghcr, was github",
		"upstream nexus holds **, was hosted.example.com/**",
		"upstream nexus.password is another one",
		"upstream nexus: people's own logins no longer go on to it (credentials: account)",
		"upstream nexus: a layer is served through any repository that the upstream gives it under (shared_blobs: false)",
		"upstream quay is new: quay/** goes to https://quay.io",
		"upstream rest is gone: acme/** went to http://registry:5000",
	}
	if diff := cmp.Diff(want, configs.Diff(to, from)); diff != "" {
		t.Errorf("and back (-want +got):\n%s", diff)
	}
	if from.Version == to.Version {
		t.Error("the versions are equal")
	}
}

func TestDiffLogins(t *testing.T) {
	yaml := func(upstream string) *configs.Config {
		return static(t, "hostname: a.example\ntls: {mode: internal}\nupstreams: [{name: nexus, url: 'http://a', username: u, password: '${P}'}, {prefix: harbor, url: 'http://b', username: u, password: '${P}'}]\nauth: {upstream: "+upstream+"}\n")
	}
	for _, tt := range []struct{ from, to, want string }{
		{"false", "true", "logins are asked of upstream nexus"},
		{"true", "false", "logins are no longer asked of upstream nexus"},
		{"true", "harbor", "logins are asked of upstream harbor, were of nexus"},
		{"true", "nexus", ""},
	} {
		a, b := yaml(tt.from), yaml(tt.to)
		if got := strings.Join(configs.Diff(a, b), "\n"); got != tt.want {
			t.Errorf("%s to %s: got %q, want %q", tt.from, tt.to, got, tt.want)
		}
		if (a.Version == b.Version) != (tt.want == "") {
			t.Errorf("%s to %s: versions %s and %s", tt.from, tt.to, a.Version, b.Version)
		}
	}
}

// From one upstream to several: the one that stays is known by its URL.
func TestDiffToSeveral(t *testing.T) {
	const head = "hostname: [a.example, b.example]\ntls: {mode: internal}\n"
	from := static(t, head+"upstream: http://nexus:8081\n")
	to := static(t, head+"upstreams: [{url: 'http://registry:5000'}, {name: nexus, hostname: b.example, url: 'http://nexus:8081'}]\n")
	want := []string{
		"upstream registry:5000 is new: ** goes to http://registry:5000",
		"upstream nexus holds b.example/**, was **",
		"upstream nexus.name: nexus, was nexus:8081",
	}
	if diff := cmp.Diff(want, configs.Diff(from, to)); diff != "" {
		t.Errorf("diff (-want +got):\n%s", diff)
	}
}

// Files of two folders that say the same differ in nothing.
func TestDiffUpstreamFiles(t *testing.T) {
	yaml := "hostname: a.example\ntls: {mode: internal}\nupstreams: [{prefix: a, url: 'https://a', ca_file: ca.pem}, {prefix: b, url: 'https://b'}]\n"
	var both []*configs.Config
	for _, dir := range []string{"/one", "/two"} {
		c, err := configs.Parse("regward.yaml", []byte(yaml), configs.Options{Static: true, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, c)
	}
	if got := configs.Diff(both[0], both[1]); len(got) > 0 {
		t.Errorf("differs: %v", got)
	}
}

// TestUpstreamMistakes has one mistake, or none, in each line.
func TestUpstreamMistakes(t *testing.T) {
	for _, tt := range []struct{ upstreams, want string }{
		{`[{prefix: a, url: "http://a"}, {prefix: a/b, url: "http://b"}]`, "warning: upstreams[1].prefix: all below a/b/ goes to a/b: what a has of that name, b/** there, is out of reach"},
		{`[{prefix: a, keep_prefix: true, url: "http://a"}, {prefix: a/b, url: "http://b"}]`, "what a has of that name, a/b/** there, is out of reach"},
		{`[{prefix: a, url: "http://a"}, {prefix: ab, url: "http://b"}]`, ""},
		{`[{prefix: a, url: "http://a"}, {prefix: a, hostname: a.example, name: x, url: "http://b"}]`, ""},
		{`[{prefix: a, ns: x, url: "http://a"}, {prefix: b, ns: x, hostname: a.example, url: "http://b"}]`, ""},
		{`[{name: x, url: "http://a"}, {hostname: a.example, url: "http://b"}]`, "warning: upstreams[0]: out of reach: each hostname has an upstream of its own for all names"},
		{`[{url: "http://a"}, {url: "http://a", prefix: b, name: "a"}]`, `"a" is the name of upstreams[0] already`},
		{`[]`, "upstreams: an empty list"},
		{"\nupstream: [{url: 'http://a'}, {url: 'http://b', prefix: b}]", "upstream: wants one upstream; got a list\n\tfix: write upstreams: for several"},
		{`[{prefix: /, url: "http://a"}]`, `"/" is no beginning of a repository name`},
		{`[{prefix: "a:5000/b", url: "http://a"}]`, `"a:5000/b" is no beginning of a repository name`},
		{`[{prefix: "https://a/b", url: "http://a"}]`, `is a URL`},
		{`[{prefix: docker.io/, url: "http://a"}]`, ""}, // M06: a part may look like a hostname
		{`[{prefix: a.example/b, url: "http://a"}]`, `"a.example" is a hostname: rules mean by it what is there`},
		{`[{prefix: x, ns: a_b, url: "http://a"}]`, `"a_b" is neither a host name nor an IP address`},
		{`[{prefix: x, default_namespace: a/b, url: "http://a"}]`, `"a/b" is no part of a repository name`},
		{`[{url: "http://a", credentials: passthrough}]`, ""},
		{`[{url: "http://a", credentials: passthrough, username: u, password: "${P}"}]`, ""},
		{`[{url: "http://a", credentials: passthrough, password: "${P}"}]`, "username is missing"},
		{`[{url: "http://a", credentials: account}]`, "account, but no username and password"},
		{`[{url: "http://a/repository/x", shared_blobs: true}]`, ""},
		{`[{url: "http://a/repository/x", shared_blobs: false}]`, ""},
		{`[{url: "http://a/repository/x"}]`, "has to be spelled out: this looks like Nexus"},
	} {
		ps := problems(t, "hostname: a.example\ntls: {mode: internal}\nupstreams: "+tt.upstreams+"\nrules: [{subjects: everyone, repositories: \"**\", allow: [pull, push]}]\n", configs.Options{Static: true})
		var said []string
		for _, p := range ps {
			if p.Severity != configs.Note {
				said = append(said, p.String())
			}
		}
		if got := strings.Join(said, "\n"); len(said) > 1 || (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s\ngot  %s\nwant %s", tt.upstreams, got, tt.want)
		}
	}
}

// An example is meant to be copied: what it says to replace is all there is.
func TestExamplesAreShort(t *testing.T) {
	files, err := os.ReadDir("examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile("examples/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(data), "\n"); n > 45 {
			t.Errorf("%s has %d lines", f.Name(), n)
		}
		var ps configs.Problems
		if _, err := configs.Parse(f.Name(), append(data, []byte("\nhostnam: x\n")...), configs.Options{Static: true}); !errors.As(err, &ps) || len(ps.Only(configs.Error)) != 1 {
			t.Errorf("%s: one mistake is not one report: %v", f.Name(), err)
		}
	}
}
