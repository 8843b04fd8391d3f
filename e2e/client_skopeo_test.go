package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
)

// skopeo keeps nothing but its login and, between two copies, where it has
// seen which layer.
type skopeo struct {
	program string
	host    string
	dir     string
	env     []string
}

func newSkopeo(t testing.TB, host string) client {
	t.Helper()
	dir, env := home(t)
	// Root's memory of layers is one for the whole machine; another user's is
	// in the home directory.
	env = append(env, "_CONTAINERS_ROOTLESS_UID=1000")
	return &skopeo{program: mustProgram(t, "skopeo"), host: host, dir: dir, env: env}
}

func (s *skopeo) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return command(t, s.env, append([]string{s.program}, args...)...)
}

func (s *skopeo) login(t testing.TB, user, password string) outcome {
	t.Helper()
	return commandWithInput(t, s.env, password, s.program,
		"login", "--cert-dir", suite.certs.dir, "--username", user, "--password-stdin", s.host)
}

func (s *skopeo) logout(t testing.TB) outcome { return s.run(t, "logout", s.host) }

// folder is where a pulled image lies.
func (s *skopeo) folder(ref string) string {
	return "dir:" + filepath.Join(s.dir, strings.NewReplacer("/", "_", ":", "_").Replace(ref))
}

func (s *skopeo) pull(t testing.TB, ref string) outcome {
	return s.run(t, "copy", "--src-cert-dir", suite.certs.dir, "docker://"+ref, s.folder(ref))
}

func (s *skopeo) push(t testing.TB, ref string, img v1.Image) outcome {
	t.Helper()
	return s.run(t, "copy", "--dest-cert-dir", suite.certs.dir, "docker-archive:"+saved(t, ref, img), "docker://"+ref)
}

func (s *skopeo) copy(t testing.TB, from, to string) outcome {
	return s.run(t, "copy", "--src-cert-dir", suite.certs.dir, "--dest-cert-dir", suite.certs.dir,
		"docker://"+from, "docker://"+to)
}

func (s *skopeo) pushPulled(t testing.TB, from, to string) outcome {
	return s.run(t, "copy", "--dest-cert-dir", suite.certs.dir, s.folder(from), "docker://"+to)
}

func (s *skopeo) tags(t testing.TB, repository string) outcome {
	return s.run(t, "list-tags", "--cert-dir", suite.certs.dir, "docker://"+repository)
}

func (s *skopeo) delete(t testing.TB, ref string) outcome {
	return s.run(t, "delete", "--cert-dir", suite.certs.dir, "docker://"+ref)
}
