package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What regward trust prints is typed as it stands, on a machine whose folders
// are this test's alone: before, the real clients refuse the certificate, and
// afterwards they pull.

// internalTLS is a registry with a CA of its own, at 443 and at 8443.
const internalTLS = `hostname: registry.internal
listen: [":443", ":8443"]
tls: {mode: internal}
upstream: UPSTREAM
auth: {htpasswd: /etc/regward/htpasswd}
rules: [{subjects: everyone, repositories: "library/**", allow: pull}]
`

// ownCA starts regward with internalTLS; nothing on the machine knows its CA.
func ownCA(t *testing.T, w *world) *regward {
	t.Helper()
	t.Setenv("SSL_CERT_FILE", "") // what else the clients of the tests trust by
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	return w.written(t, "registry.internal", strings.Replace(internalTLS, "UPSTREAM", u.url, 1)+"state_dir: "+t.TempDir()+"\n")
}

// trust is what regward trust prints.
func printedFor(t *testing.T, host, client string, more ...string) string {
	t.Helper()
	return command(t, nil, append([]string{suite.regward, "trust", host, "--for", client}, more...)...).works(t).out
}

// typed is shell that somebody pastes, comments and all.
func typed(t *testing.T, text string) outcome {
	t.Helper()
	return commandWithInput(t, nil, text, "sh", "-eu").works(t)
}

const unknownCA = "certificate signed by unknown authority"

func TestTrustMakesDockerPull(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		ownCA(t, w)
		daemon, err := startDockerWith("trusting", "{}")
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []string{"registry.internal", "registry.internal:8443"} {
			d := dockerAt(t, daemon, host)
			d.pull(t, host+"/library/hello:1").fails(t, unknownCA)
			d.login(t, "ann", passwords["ann"]).fails(t, unknownCA)
			typed(t, printedFor(t, host, "docker"))
			d.pull(t, host+"/library/hello:1").works(t) // without a restart
			d.login(t, "ann", passwords["ann"]).works(t)
		}
	})
}

func TestTrustMakesContainerdPull(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		ownCA(t, w)
		for _, host := range []string{"registry.internal", "registry.internal:8443"} {
			c := newCtr(t, host).(*ctr)
			c.hosts = "/etc/containerd/certs.d"
			c.env = append(c.env, "SSL_CERT_FILE=")
			c.pull(t, host+"/library/hello:1").fails(t, unknownCA)
			// The machine's containerd is not told of the folder yet; what to put
			// where is printed, and then it is.
			printed := printedFor(t, host, "containerd")
			if host == "registry.internal" {
				replaceFile(t, "/etc/containerd/config.toml", "version = 2\n")
				typed(t, printed).says(t, "does not look into /etc/containerd/certs.d yet")
				_, section, _ := strings.Cut(printed, "  [plugins.\"io.containerd.grpc.v1.cri\".registry]\n")
				section, _, _ = strings.Cut(section, "\n\n")
				replaceFile(t, "/etc/containerd/config.toml", "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n"+section+"\n")
			}
			if out := typed(t, printed).out; out != "" {
				t.Errorf("once it is told, nothing is left to say: %q", out)
			}
			c.pull(t, host+"/library/hello:1").works(t)
		}
		// It is hosts.toml that containerd goes by, and not the files beside it.
		stray := "/etc/containerd/certs.d/registry.internal/stray.crt"
		replaceFile(t, stray, "no certificate")
		c := newCtr(t, "registry.internal").(*ctr)
		c.hosts, c.env = "/etc/containerd/certs.d", append(c.env, "SSL_CERT_FILE=")
		c.pull(t, "registry.internal/library/hello:1").works(t)
		replaceFile(t, filepath.Join(filepath.Dir(stray), "hosts.toml"), "")
		c.pull(t, "registry.internal/library/hello:1").fails(t, "unable to load CA cert")

		// The other name of the folder comes first, as the notes say.
		other := "/etc/containerd/certs.d/registry.internal_8443_"
		if err := os.Mkdir(other, 0o755); err != nil {
			t.Fatal(err)
		}
		c = newCtr(t, "registry.internal:8443").(*ctr)
		c.hosts, c.env = "/etc/containerd/certs.d", append(c.env, "SSL_CERT_FILE=")
		c.pull(t, "registry.internal:8443/library/hello:1").fails(t, unknownCA)
	})
}

func TestTrustMakesPodmanPull(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		ownCA(t, w)
		for _, host := range []string{"registry.internal", "registry.internal:8443"} {
			p := newPodman(t, host).(*podman)
			p.env = append(p.env, "SSL_CERT_FILE=")
			p.run(t, "pull", host+"/library/hello:1").fails(t, unknownCA)
			typed(t, printedFor(t, host, "podman"))
			p.run(t, "pull", host+"/library/hello:1").works(t)
		}
	})
}

// The system's store, by update-ca-certificates on a copy of it: crane and
// podman have no folder, and afterwards the command says that nothing is
// needed.
func TestTrustMakesTheSystemBelieve(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		ownCA(t, w)
		mustProgram(t, "update-ca-certificates")
		local := "/usr/local/share/ca-certificates" // the rest of the store is in /etc, which is a copy
		must(t, "mount", "--bind", t.TempDir(), local)
		t.Cleanup(func() { must(t, "umount", local) })

		const host = "registry.internal"
		k, p := newCrane(t, host).(*crane), newPodman(t, host).(*podman)
		k.env, p.env = append(k.env, "SSL_CERT_FILE="), append(p.env, "SSL_CERT_FILE=")
		k.run(t, "manifest", host+"/library/hello:1").fails(t, unknownCA)
		typed(t, printedFor(t, host, "system")).says(t, "1 added")
		k.run(t, "manifest", host+"/library/hello:1").works(t)
		p.run(t, "pull", host+"/library/hello:1").works(t)

		for _, client := range []string{"docker", "containerd", "podman", "buildkit", "kubernetes", "system"} {
			o := command(t, nil, suite.regward, "trust", host, "--for", client).works(t).says(t, "Nothing is needed", "regward internal CA")
			if strings.Contains(o.out, "BEGIN CERTIFICATE") {
				t.Errorf("%s: and yet it prints something to do:\n%s", client, o.out)
			}
		}
		ca := filepath.Join(t.TempDir(), "ca.pem")
		replaceFile(t, ca, readFile(t, filepath.Join(local, host+".crt")))
		command(t, nil, suite.regward, "trust", host, "--for", "buildkit", "--ca-file", ca).works(t).says(t, "BEGIN CERTIFICATE")
	})
}

// What buildkit reads cannot be tried without it. That it is TOML says a
// program that reads TOML.
func TestTrustPrintsTOMLForBuildkit(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		ownCA(t, w)
		var answer struct{ Commands []string }
		if err := json.Unmarshal([]byte(printedFor(t, "registry.internal:8443", "buildkit", "--output", "json")), &answer); err != nil {
			t.Fatal(err)
		}
		for _, c := range answer.Commands[:2] { // the third makes the builder
			typed(t, c)
			typed(t, c)
		}
		containerd := mustProgram(t, "containerd")
		file := "/etc/buildkit/buildkitd.toml"
		command(t, nil, containerd, "--config", file, "config", "dump").works(t)
		if content := readFile(t, file); strings.Count(content, "[registry.") != 1 {
			t.Errorf("not once:\n%s", content)
		}
		replaceFile(t, file, readFile(t, file)+"[registry.\"registry.internal:8443\"\n")
		command(t, nil, containerd, "--config", file, "config", "dump").fails(t)
	})
}

// A server that shows its own certificate alone: the CA has to come from
// elsewhere, and from there it is taken.
func TestTrustAsksForACAThatIsNotShown(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	g := startRegward(t, u, teamRules)
	ask := func(more ...string) outcome {
		return command(t, []string{"SSL_CERT_FILE="}, append([]string{suite.regward, "trust", g.host, "--for", "docker"}, more...)...)
	}
	o := ask().fails(t, "the CA is not shown", `signed by "regward end-to-end tests"`, "regward ca", "--ca-file root.pem")
	if strings.Contains(o.out, "BEGIN CERTIFICATE") {
		t.Errorf("it prints something to do:\n%s", o.out)
	}
	ask("--ca-file", suite.certs.caFile).works(t).says(t, "/etc/docker/certs.d/"+g.host+"/ca.crt", readFile(t, suite.certs.caFile))
	command(t, nil, suite.regward, "trust", strings.Replace(g.host, "localhost", "localhost.localdomain.invalid", 1), "--for", "docker").fails(t, "no host")
}
