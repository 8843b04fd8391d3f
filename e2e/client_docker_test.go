package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
)

// dockerDaemon is the one dockerd of the run, with folders of its own and no
// network. It trusts 127.0.0.0/8 by itself.
type dockerDaemon struct{ socket string }

func startDocker() (*dockerDaemon, error) { return startDockerWith("docker", "{}") }

// startDockerWith starts another one, with a daemon.json of its own; name is
// its folder.
func startDockerWith(name, daemonJSON string) (*dockerDaemon, error) {
	dockerd, err := program("dockerd")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(suite.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	d := &dockerDaemon{socket: "unix://" + filepath.Join(dir, "s")}
	settings := filepath.Join(dir, "daemon.json") // instead of the machine's own
	if err := os.WriteFile(settings, []byte(daemonJSON), 0o600); err != nil {
		return nil, err
	}
	p, err := launch(filepath.Join(dir, "log"), nil, dockerd,
		"--config-file", settings, "--host", d.socket,
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"),
		"--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs")
	if err != nil {
		return nil, err
	}
	share(p)
	client, err := program("docker")
	if err != nil {
		return nil, err
	}
	return d, poll(60*time.Second, daemonAnswers(p, client, "--host", d.socket, "version"))
}

type docker struct {
	program string
	daemon  *dockerDaemon
	host    string
	env     []string
}

func newDocker(t testing.TB, host string) client {
	t.Helper()
	daemon, err := suite.docker()
	if err != nil {
		t.Fatal(err)
	}
	return dockerAt(t, daemon, host)
}

func dockerAt(t testing.TB, daemon *dockerDaemon, host string) *docker {
	t.Helper()
	_, env := home(t)
	return &docker{program: mustProgram(t, "docker"), daemon: daemon, host: host, env: env}
}

func (d *docker) run(t testing.TB, args ...string) outcome {
	t.Helper()
	return command(t, d.env, append([]string{d.program, "--host", d.daemon.socket}, args...)...)
}

func (d *docker) login(t testing.TB, user, password string) outcome {
	t.Helper()
	return commandWithInput(t, d.env, password, d.program, "--host", d.daemon.socket,
		"login", "--username", user, "--password-stdin", d.host)
}

func (d *docker) logout(t testing.TB) outcome { return d.run(t, "logout", d.host) }

func (d *docker) pull(t testing.TB, ref string) outcome { return d.run(t, "pull", ref) }

func (d *docker) push(t testing.TB, ref string, img v1.Image) outcome {
	t.Helper()
	d.run(t, "load", "--input", saved(t, ref, img)).works(t)
	return d.run(t, "push", ref)
}

func (d *docker) copy(t testing.TB, from, to string) outcome { return d.pushPulled(t, from, to) }

func (d *docker) pushPulled(t testing.TB, from, to string) outcome {
	t.Helper()
	d.run(t, "tag", from, to).works(t)
	return d.run(t, "push", to)
}
