package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
)

// regctl reads challenges by the letter and asks for a mount at every upload.
type regctl struct {
	firstUse
	program string
	host    string
	dir     string
	env     []string
}

func newRegctl(t testing.TB, host string) client {
	t.Helper()
	dir, env := home(t)
	return &regctl{firstUse: firstUse{host + "/library/hello:1"}, program: mustProgram(t, "regctl"), host: host, dir: dir, env: env}
}

func (r *regctl) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return command(t, r.env, append([]string{r.program}, args...)...)
}

// login also uses the login once: the client stores one that was refused, and
// only warns.
func (r *regctl) login(t testing.TB, user, password string) outcome {
	t.Helper()
	o := commandWithInput(t, r.env, password, r.program, "registry", "login", r.host, "--user", user, "--pass-stdin")
	if o.err != nil {
		return o
	}
	return r.run(t, "manifest", "head", r.image)
}

func (r *regctl) logout(t testing.TB) outcome { return r.run(t, "registry", "logout", r.host) }

func (r *regctl) pull(t testing.TB, ref string) outcome {
	return r.run(t, "image", "copy", ref, "ocidir://"+filepath.Join(r.dir, "pulled")+":1")
}

func (r *regctl) push(t testing.TB, ref string, img v1.Image) outcome {
	t.Helper()
	return r.run(t, "image", "import", ref, saved(t, ref, img))
}

func (r *regctl) copy(t testing.TB, from, to string) outcome {
	return r.run(t, "image", "copy", from, to)
}

func (r *regctl) tags(t testing.TB, repository string) outcome {
	return r.run(t, "tag", "ls", repository)
}

func (r *regctl) delete(t testing.TB, ref string) outcome {
	t.Helper()
	digest := r.run(t, "manifest", "head", ref).works(t)
	repository := ref[:strings.LastIndex(ref, ":")]
	return r.run(t, "manifest", "delete", repository+"@"+firstLine(digest.out))
}

func (r *regctl) referrers(t testing.TB, ref string) outcome {
	return r.run(t, "artifact", "list", ref)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}
