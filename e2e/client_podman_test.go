package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
)

// podman keeps images in a folder of the test.
type podman struct {
	program string
	host    string
	dir     string
	env     []string
}

func newPodman(t testing.TB, host string) client {
	t.Helper()
	_, env := home(t)
	dir, err := os.MkdirTemp("", "podman") // podman wants paths of 50 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &podman{program: mustProgram(t, "podman"), host: host, dir: dir, env: env}
}

func (p *podman) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return commandWithInput(t, p.env, "", p.words(args)...)
}

func (p *podman) words(args []string) []string {
	return append([]string{
		p.program, "--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"),
		"--storage-driver", "vfs", "--events-backend", "file", "--cgroup-manager", "cgroupfs",
	}, args...)
}

func (p *podman) login(t testing.TB, user, password string) outcome {
	t.Helper()
	return commandWithInput(t, p.env, password,
		p.words([]string{"login", "--cert-dir", suite.certs.dir, "--username", user, "--password-stdin", p.host})...)
}

func (p *podman) logout(t testing.TB) outcome { return p.run(t, "logout", p.host) }

func (p *podman) pull(t testing.TB, ref string) outcome {
	return p.run(t, "pull", "--cert-dir", suite.certs.dir, ref)
}

func (p *podman) push(t testing.TB, ref string, img v1.Image) outcome {
	t.Helper()
	p.run(t, "load", "--input", saved(t, ref, img)).works(t)
	return p.run(t, "push", "--cert-dir", suite.certs.dir, ref)
}

func (p *podman) copy(t testing.TB, from, to string) outcome { return p.pushPulled(t, from, to) }

func (p *podman) pushPulled(t testing.TB, from, to string) outcome {
	t.Helper()
	p.run(t, "tag", from, to).works(t)
	return p.run(t, "push", "--cert-dir", suite.certs.dir, to)
}

func (p *podman) tags(t testing.TB, repository string) outcome {
	return p.run(t, "search", "--list-tags", repository)
}
