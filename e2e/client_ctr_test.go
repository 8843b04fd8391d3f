package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
)

// containerDaemon is the one containerd of the run.
type containerDaemon struct{ socket string }

func startContainerd() (*containerDaemon, error) {
	containerd, err := program("containerd")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(suite.dir, "containerd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	d := &containerDaemon{socket: filepath.Join(dir, "s")}
	file := filepath.Join(dir, "config.toml")
	config := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n"+
		"disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"+
		"[grpc]\n  address = %q\n[ttrpc]\n  address = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), d.socket, d.socket+".ttrpc")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	p, err := launch(filepath.Join(dir, "log"), nil, containerd, "--config", file)
	if err != nil {
		return nil, err
	}
	share(p)
	client, err := program("ctr")
	if err != nil {
		return nil, err
	}
	return d, poll(60*time.Second, daemonAnswers(p, client, "--address", d.socket, "version"))
}

// daemonAnswers asks a daemon something until it is there.
func daemonAnswers(p *process, question ...string) func() error {
	return func() error {
		if err := p.gone(); err != nil {
			return err
		}
		out, err := exec.Command(question[0], question[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

// ctr is containerd's own client. It has no login: the credential goes with
// each command.
type ctr struct {
	firstUse
	program   string
	daemon    *containerDaemon
	namespace string // of containerd, one per test
	host      string
	hosts     string // folder with hosts.toml
	user      string // user:password
	env       []string
}

func newCtr(t testing.TB, host string) client {
	t.Helper()
	daemon, err := suite.containerd()
	if err != nil {
		t.Fatal(err)
	}
	dir, env := home(t)
	hosts := filepath.Join(dir, "hosts")
	if err := os.MkdirAll(filepath.Join(hosts, host), 0o755); err != nil {
		t.Fatal(err)
	}
	toml := fmt.Sprintf("server = \"https://%s\"\n[host.\"https://%s\"]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n  ca = %q\n",
		host, host, suite.certs.caFile)
	if err := os.WriteFile(filepath.Join(hosts, host, "hosts.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	return &ctr{
		firstUse: firstUse{host + "/library/hello:1"},
		program:  mustProgram(t, "ctr"), daemon: daemon, host: host, hosts: hosts, env: env,
		namespace: strings.ReplaceAll(host, ":", "-"),
	}
}

func (c *ctr) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return command(t, c.env, append([]string{c.program, "--address", c.daemon.socket, "--namespace", c.namespace}, args...)...)
}

// remote runs `ctr images pull` or `push` with what talking to a registry
// needs.
func (c *ctr) remote(t testing.TB, what string, args ...string) outcome {
	t.Helper()
	flags := []string{"images", what, "--hosts-dir", c.hosts}
	if c.user != "" {
		flags = append(flags, "--user", c.user)
	}
	if what == "pull" {
		flags = append(flags, "--snapshotter", "native")
	}
	return c.run(t, append(flags, args...)...)
}

// login tries the credential on a public image: there a wrong one shows too
// (T08).
func (c *ctr) login(t testing.TB, user, password string) outcome {
	t.Helper()
	c.user = user + ":" + password
	return c.pull(t, c.image)
}

func (c *ctr) logout(testing.TB) outcome {
	c.user = ""
	return outcome{}
}

func (c *ctr) pull(t testing.TB, ref string) outcome {
	t.Helper()
	o := c.remote(t, "pull", ref)
	// ctr 1.6 ends with 0 when resolving failed in the background.
	if o.err == nil && strings.Contains(o.out, "ctr: failed") {
		o.err = errors.New("it says so")
	}
	return o
}

func (c *ctr) push(t testing.TB, ref string, img v1.Image) outcome {
	t.Helper()
	c.run(t, "images", "import", saved(t, ref, img)).works(t)
	return c.remote(t, "push", ref)
}

func (c *ctr) copy(t testing.TB, from, to string) outcome { return c.pushPulled(t, from, to) }

func (c *ctr) pushPulled(t testing.TB, from, to string) outcome {
	t.Helper()
	c.run(t, "images", "tag", "--force", from, to).works(t)
	return c.remote(t, "push", to)
}
