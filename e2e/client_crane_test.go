package e2e

import (
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
)

// crane talks HTTP/2, and stores a login without trying it.
type crane struct {
	firstUse
	program string
	host    string
	dir     string
	env     []string
}

func newCrane(t testing.TB, host string) client {
	t.Helper()
	dir, env := home(t)
	return &crane{firstUse: firstUse{host + "/library/hello:1"}, program: mustProgram(t, "crane"), host: host, dir: dir, env: env}
}

func (c *crane) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return command(t, c.env, append([]string{c.program}, args...)...)
}

func (c *crane) login(t testing.TB, user, password string) outcome {
	t.Helper()
	commandWithInput(t, c.env, password, c.program, "auth", "login", "-u", user, "--password-stdin", c.host).works(t)
	return c.run(t, "manifest", c.image)
}

func (c *crane) logout(t testing.TB) outcome { return c.run(t, "auth", "logout", c.host) }

func (c *crane) pull(t testing.TB, ref string) outcome {
	return c.run(t, "pull", ref, filepath.Join(c.dir, "pulled.tar"))
}

func (c *crane) push(t testing.TB, ref string, img v1.Image) outcome {
	t.Helper()
	return c.run(t, "push", saved(t, ref, img), ref)
}

func (c *crane) copy(t testing.TB, from, to string) outcome { return c.run(t, "copy", from, to) }

func (c *crane) tags(t testing.TB, repository string) outcome { return c.run(t, "ls", repository) }

func (c *crane) delete(t testing.TB, ref string) outcome {
	t.Helper()
	// crane deletes what it is given; registries take digests only.
	digest := c.run(t, "digest", "--full-ref", ref).works(t)
	return c.run(t, "delete", firstLine(digest.out))
}
