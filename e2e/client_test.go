package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
)

// client is a program people use with registries. References are written out,
// host and all.
type client interface {
	// login is the client's own; where a client does not ask the registry at
	// login, the first use of the login is part of it.
	login(t testing.TB, user, password string) outcome
	logout(t testing.TB) outcome
	pull(t testing.TB, ref string) outcome
	push(t testing.TB, ref string, img v1.Image) outcome
	// copy brings what was pulled under the name from to the name to, and may
	// ask the registry to mount the layers.
	copy(t testing.TB, from, to string) outcome
}

// Not every client can do these.
type (
	lister interface {
		tags(t testing.TB, repository string) outcome
	}
	deleter interface {
		delete(t testing.TB, ref string) outcome
	}
	// pointer lists what points at an image.
	pointer interface {
		referrers(t testing.TB, ref string) outcome
	}
	// rememberer pushes what it pulled once more and still knows where it
	// pulled it from, so that it asks for a mount.
	rememberer interface {
		pushPulled(t testing.TB, from, to string) outcome
	}
)

// firstUse is for clients that do not ask the registry at login: the public
// image they try it with.
type firstUse struct{ image string }

func (f *firstUse) tries(image string) { f.image = image }

// clientKind is one of the programs and what it tells its user.
type clientKind struct {
	name string
	// speaks: shows the registry's own words, and the request id in them. The
	// others keep them to themselves, whatever a registry does.
	speaks bool
	// refused is what it prints when it may not; empty: the words suffice.
	refused string
	// wrongLogin is what it prints of a wrong password.
	wrongLogin string
	new        func(t testing.TB, host string) client
}

// docker alone shows what the registry says of a wrong password at the login.
// crane finds out with the first pull, so that the login is a saved one by
// then.
var clientKinds = []clientKind{
	{name: "docker", speaks: true, wrongLogin: "wrong user name or password for ", new: newDocker},
	{name: "ctr", refused: "authorization failed", wrongLogin: "401 Unauthorized", new: newCtr},
	{name: "podman", speaks: true, wrongLogin: "invalid username/password", new: newPodman},
	{name: "skopeo", speaks: true, wrongLogin: "invalid username/password", new: newSkopeo},
	{name: "crane", speaks: true, wrongLogin: "(user ann) is no longer valid", new: newCrane},
	{name: "regctl", refused: "unauthorized", wrongLogin: "unauthorized", new: newRegctl},
}

func kindNamed(name string) clientKind {
	for _, k := range clientKinds {
		if k.name == name {
			return k
		}
	}
	panic("no client " + name)
}

// home is an empty home directory and the environment that goes with it.
func home(t testing.TB) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	runtime := filepath.Join(dir, "runtime")
	if err := os.Mkdir(runtime, 0o700); err != nil {
		t.Fatal(err)
	}
	auth := filepath.Join(dir, "auth.json")
	if err := os.WriteFile(auth, []byte("{}"), 0o600); err != nil { // podman wants to find it
		t.Fatal(err)
	}
	return dir, []string{
		"HOME=" + dir,
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
		"XDG_DATA_HOME=" + filepath.Join(dir, "data"),
		"XDG_RUNTIME_DIR=" + runtime,
		"DOCKER_CONFIG=" + dir,
		"REGCTL_CONFIG=" + filepath.Join(dir, "regctl.json"),
		"REGISTRY_AUTH_FILE=" + auth,
		"SSL_CERT_FILE=" + suite.certs.caFile,
	}
}
