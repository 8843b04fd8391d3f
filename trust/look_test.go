package trust

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const dockerd = "usr/bin/dockerd"

// found is a finding as a line.
func found(f Finding) string {
	return fmt.Sprintf("%s %s: %s | %s | %s", f.Client, f.Level, f.What, f.Why, f.Fix)
}

// Each host has one thing wrong, or nothing, and exactly that is found.
func TestLookFindsWhatIsWrongOnAHost(t *testing.T) {
	root := makeCA(t, "Acme Root", nil)
	leaf := makeLeaf(t, root, "registry.example.com")
	right, wrong := PEM(root.Certificate), PEM(makeCA(t, "Old Root", nil).Certificate)
	const docker, containers, containerd = "etc/docker/certs.d/registry.example.com:5000/", "etc/containers/certs.d/registry.example.com:5000/", "etc/containerd/certs.d/registry.example.com:5000/"
	const bundle = "etc/ssl/certs/ca-certificates.crt"
	const told = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\" # here\n"
	const hosts = "server = \"https://registry.example.com:5000\"\nca = \"ca.crt\"\n[host]\n"

	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string // beginnings of findings; words behind "..." somewhere in them
	}{
		{"nothing installed", nil, nil},
		{"a store that has it", map[string]string{bundle: wrong + right}, []string{"system ok: ...ca-certificates.crt"}},
		{"a store that lacks it", map[string]string{bundle: wrong}, []string{"system note: ...lacks the CA...Acme Root...regward trust registry.example.com:5000 --for system"}},
		{"another system's store", map[string]string{"etc/pki/tls/certs/ca-bundle.crt": right}, []string{"system ok: ...ca-bundle.crt"}},
		{"an empty store", map[string]string{bundle: ""}, []string{"system warning: ...cannot be used"}},

		{"docker without", map[string]string{dockerd: ""}, []string{"docker problem: docker does not trust...Acme Root...--for docker"}},
		{"docker with", map[string]string{docker + "ca.crt": right}, []string{"docker ok: docker trusts registry.example.com:5000 by /etc/docker/certs.d/registry.example.com:5000"}},
		{"docker with another name", map[string]string{docker + "any.crt": right}, []string{"docker ok: "}},
		{"docker by the system", map[string]string{dockerd: "", bundle: right}, []string{"system ok: ", "docker ok: ...by the system's store"}},
		{"docker with an old one", map[string]string{docker + "ca.crt": wrong}, []string{"docker problem: ...holds \"Old Root\"...Acme Root...x509"}},
		{"docker with an old one, and the system", map[string]string{docker + "ca.crt": wrong, bundle: right}, []string{"system ok: ", "docker note: ...does no harm", "docker ok: "}},
		{"docker with a PEM under another name", map[string]string{docker + "ca.pem": right}, []string{"docker warning: ...ca.pem is read by nobody...ca.crt", "docker problem: docker does not trust"}},
		{"docker with a text", map[string]string{docker + "ca.crt": "hello"}, []string{"docker problem: ...is no CA", "docker problem: docker does not trust"}},
		{"docker with half a pair", map[string]string{docker + "ca.crt": right, docker + "me.cert": right}, []string{"docker problem: ...me.cert has no me.key...rename it to me.crt", "docker ok: "}},
		{"docker with the other half", map[string]string{docker + "ca.crt": right, docker + "me.key": "x"}, []string{"docker problem: ...me.key has no me.cert", "docker ok: "}},
		{"docker with a pair", map[string]string{docker + "ca.crt": right, docker + "me.key": "x", docker + "me.cert": right}, []string{"docker ok: "}},
		{"docker without the port", map[string]string{"etc/docker/certs.d/registry.example.com/ca.crt": right},
			[]string{"docker problem: ", "docker warning: /etc/docker/certs.d/registry.example.com is there, /etc/docker/certs.d/registry.example.com:5000 is not...part of the folder's name"}},
		{"docker with somebody else's", map[string]string{"etc/docker/certs.d/other.example.com/ca.crt": right}, []string{"docker problem: "}},
		{"docker that checks nothing", map[string]string{dockerd: "", bundle: right, "etc/docker/daemon.json": `{"insecure-registries": ["registry.example.com:5000"]}`},
			[]string{"system ok: ", "docker warning: ...exempts registry.example.com:5000", "docker ok: "}},
		{"docker with containerd's store", map[string]string{docker + "ca.crt": right, "etc/docker/daemon.json": `{"features": {"containerd-snapshotter": true}}`},
			[]string{"docker ok: ", "docker warning: ...X04...--for system"}},

		{"podman without", map[string]string{"usr/bin/podman": ""}, []string{"podman problem: podman does not trust"}},
		{"podman with", map[string]string{containers + "ca.crt": right}, []string{"podman ok: ...by /etc/containers"}},
		{"podman by docker's", map[string]string{docker + "ca.crt": right, "usr/bin/podman": ""}, []string{"docker ok: ", "podman ok: ...by /etc/docker"}},
		{"podman's hides docker's", map[string]string{docker + "ca.crt": right, containers + "ca.crt": wrong}, []string{"docker ok: ", "podman problem: ...Old Root"}},

		{"containerd without", map[string]string{"usr/bin/containerd": ""}, []string{"containerd problem: containerd does not trust"}},
		{"containerd with", map[string]string{containerd + "hosts.toml": hosts, containerd + "ca.crt": right, "etc/containerd/config.toml": told}, []string{"containerd ok: ...hosts.toml"}},
		{"containerd, version 3", map[string]string{containerd + "hosts.toml": hosts, containerd + "ca.crt": right,
			"etc/containerd/config.toml": "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/etc/containerd/certs.d:/etc/docker/certs.d'\n"}, []string{"containerd ok: "}},
		{"containerd, told in conf.d", map[string]string{containerd + "ca.crt": right, "etc/containerd/conf.d/registry.toml": told}, []string{"containerd ok: "}},
		{"containerd not told", map[string]string{containerd + "hosts.toml": hosts, containerd + "ca.crt": right, "etc/containerd/config.toml": "# config_path = \"x\"\n[x]\nconfig_path = \"y\"\n"},
			[]string{"containerd warning: ...names no config_path...containerd config dump...one restart", "containerd ok: "}},
		{"containerd, no hosts.toml", map[string]string{containerd + "ca.crt": right, "etc/containerd/config.toml": told}, []string{"containerd ok: "}},
		{"containerd, no ca in hosts.toml", map[string]string{containerd + "hosts.toml": "server = \"https://registry.example.com:5000\" # ca = \"ca.crt\"\n[host]\n", containerd + "ca.crt": right, "etc/containerd/config.toml": told},
			[]string{"containerd warning: ...names no ca, and a .crt lies beside it", "containerd problem: "}},
		{"containerd, a list", map[string]string{containerd + "hosts.toml": "[host.\"https://registry.example.com:5000\"]\n  ca = [\n    \"old.crt\", # before\n    \"/etc/ca/new.crt\",\n  ]\n",
			containerd + "old.crt": wrong, "etc/ca/new.crt": right, "etc/containerd/config.toml": told}, []string{"containerd ok: "}},
		{"containerd, a file that is gone", map[string]string{containerd + "hosts.toml": hosts, "etc/containerd/config.toml": told},
			[]string{"containerd problem: ...names the CA /etc/containerd/certs.d/registry.example.com:5000/ca.crt, which cannot be read", "containerd problem: "}},
		{"containerd, a file that is none", map[string]string{containerd + "hosts.toml": hosts, containerd + "ca.crt": "x", "etc/containerd/config.toml": told},
			[]string{"containerd problem: ...is no CA", "containerd problem: "}},
		{"containerd, no check", map[string]string{containerd + "hosts.toml": hosts + "skip_verify = true\n", containerd + "ca.crt": right, "etc/containerd/config.toml": told},
			[]string{"containerd warning: line 4 of /etc/containerd/certs.d/registry.example.com:5000/hosts.toml switches the check of certificates off", "containerd ok: "}},
		{"containerd, no section", map[string]string{containerd + "hosts.toml": "server = \"https://registry.example.com:5000\"\n", containerd + "ca.crt": right, "etc/containerd/config.toml": told},
			[]string{"containerd warning: ...has no [host] section...containerd 1", "containerd ok: "}},
		{"containerd, a certificate with its key", map[string]string{containerd + "ca.crt": right, containerd + "x.cert": right + "-----BEGIN PRIVATE KEY-----", "etc/containerd/config.toml": told}, []string{"containerd ok: "}},
		{"containerd, a certificate without", map[string]string{containerd + "ca.crt": right, containerd + "x.cert": right, containerd + "y.key": "", "etc/containerd/config.toml": told},
			[]string{"containerd problem: ...x.cert has no x.key", "containerd ok: "}},
		{"containerd, a text", map[string]string{containerd + "ca.crt": right, containerd + "x.crt": "x", "etc/containerd/config.toml": told},
			[]string{"containerd problem: ...x.crt is no CA...refuses every pull", "containerd ok: "}},
		{"containerd, its other folder first", map[string]string{containerd + "ca.crt": right, "etc/containerd/certs.d/registry.example.com_5000_/ca.crt": wrong, "etc/containerd/config.toml": told},
			[]string{"containerd problem: /etc/containerd/certs.d/registry.example.com_5000_ holds \"Old Root\""}},
		{"containerd, the folder for all", map[string]string{"etc/containerd/certs.d/_default/ca.crt": right, "etc/containerd/config.toml": told}, []string{"containerd ok: ...by /etc/containerd/certs.d/_default"}},
		{"containerd, another folder", map[string]string{"srv/certs/registry.example.com:5000/ca.crt": right, "usr/bin/containerd": "",
			"etc/containerd/config.toml": strings.Replace(told, "/etc/containerd/certs.d", "/srv/certs", 1)}, []string{"containerd ok: ...by /srv/certs"}},
	} {
		got := Look(tree(t, tt.files), "registry.example.com:5000", chainOf(leaf, root))
		ok := len(got) == len(tt.want)
		for i := 0; ok && i < len(got); i++ {
			line := found(got[i])
			for j, words := range strings.Split(tt.want[i], "...") {
				at := strings.Index(line, words)
				ok = ok && at >= 0 && (j > 0 || at == 0)
				line = line[max(at, 0):]
			}
			ok = ok && (got[i].Level == OK) == (got[i].Fix == "") && (got[i].Level == OK) == (got[i].Why == "")
		}
		if !ok {
			t.Errorf("%s: got", tt.name)
			for _, f := range got {
				t.Log("    " + found(f))
			}
			t.Logf("want %q", tt.want)
		}
	}
}

// The port was not typed, so it is in no folder's name (X03).
func TestLookWithoutAPort(t *testing.T) {
	root := makeCA(t, "Acme Root", nil)
	chain := chainOf(makeLeaf(t, root, "registry.example.com"), root)
	for folder, want := range map[string]Level{"registry.example.com": OK, "registry.example.com:443": Problem} {
		got := Look(tree(t, map[string]string{"etc/docker/certs.d/" + folder + "/ca.crt": PEM(root.Certificate)}), "registry.example.com", chain)
		if len(got) == 0 || got[0].Level != want {
			t.Errorf("%s: %+v, want %s first", folder, got, want)
		}
	}
}

// A command that is printed works: what a host does not show, the net does not
// tell.
func TestLookNamesTheFileOfACAThatIsNotShown(t *testing.T) {
	root := makeCA(t, "Acme Root", nil)
	leaf := makeLeaf(t, root, "registry.example.com")
	const without, with = "regward trust registry.example.com --for docker", "regward trust registry.example.com --for docker --ca-file CA.pem (the host does not show its CA)"
	for want, chain := range map[string][]*x509.Certificate{without: chainOf(leaf, root), with: chainOf(leaf)} {
		got := Look(tree(t, map[string]string{dockerd: ""}), "registry.example.com", chain)
		if len(got) != 1 || got[0].Fix != want {
			t.Errorf("%d certificates: %+v, want %s", len(chain), got, want)
		}
	}
}

// docker takes any certificate from loopback, and stumbles over half a pair even
// so.
func TestLookAtLoopback(t *testing.T) {
	root := makeCA(t, "Acme Root", nil)
	chain := chainOf(makeLeaf(t, root, "localhost", "127.0.0.1"), root)
	for _, host := range []string{"localhost:5000", "127.0.0.1:5000"} {
		got := Look(tree(t, map[string]string{dockerd: "", "etc/docker/certs.d/" + host + "/x.key": ""}), host, chain)
		if len(got) != 2 || got[0].Level != Problem || got[1].Level != OK {
			t.Errorf("%s: %+v", host, got)
		}
	}
}

// That a certificate has ended is no question of whom to trust, and another
// check's finding.
func TestLookIsNotAboutDates(t *testing.T) {
	root := makeCA(t, "Acme Root", nil)
	old := *makeLeaf(t, root, "a.example").Certificate
	expired := issue(t, &x509.Certificate{DNSNames: old.DNSNames, NotBefore: old.NotBefore, NotAfter: old.NotBefore.Add(1)}, root)
	got := Look(tree(t, map[string]string{"etc/docker/certs.d/a.example/ca.crt": PEM(root.Certificate)}), "a.example", chainOf(expired))
	if len(got) != 1 || got[0].Level != OK {
		t.Errorf("%+v", got)
	}
}

// Where no handshake came to an end, the folders can be wrong all the same.
func TestLookWithoutAChain(t *testing.T) {
	files := map[string]string{"etc/docker/certs.d/a.example/x.cert": "", "usr/bin/podman": "", "usr/bin/containerd": ""}
	if got := Look(tree(t, files), "a.example", nil); len(got) != 1 || !strings.Contains(got[0].What, "x.cert has no x.key") {
		t.Errorf("%+v", got)
	}
	if got := Look(t.TempDir(), "../../etc", nil); len(got) != 1 || got[0].Level != Note {
		t.Errorf("%+v", got)
	}
}

func TestLookIsBounded(t *testing.T) {
	root := makeCA(t, "Acme Root", nil)
	chain := chainOf(makeLeaf(t, root, "a.example"), root)
	long := strings.Repeat(" ", maxFile) + PEM(root.Certificate)
	const folder = "etc/docker/certs.d/a.example/"
	got := Look(tree(t, map[string]string{folder + "ca.crt": long, "etc/ssl/certs/ca-certificates.crt": long}), "a.example", chain)
	if len(got) != 2 || !strings.Contains(got[0].What, "longer than 4 MB") {
		t.Errorf("%+v", got)
	}

	many := map[string]string{}
	for i := range maxEntries + 10 {
		many[fmt.Sprintf("%s%03d.crt", folder, i)] = PEM(root.Certificate)
	}
	l := &look{root: tree(t, many), host: mustHost(t, "a.example")}
	if f := l.folder(Docker, "/"+folder); len(f.names) != maxEntries || len(f.cas) != maxCAs || len(l.found) != 0 {
		t.Errorf("%d names, %d CAs, %v", len(f.names), len(f.cas), l.found)
	}

	pipe := tree(t, map[string]string{folder + "key": ""})
	if err := os.Symlink("/dev/zero", filepath.Join(pipe, folder, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if got := Look(pipe, "a.example", chain); len(got) != 2 || !strings.Contains(got[0].What, "no file") {
		t.Errorf("%+v", got)
	}

	lists := 0
	keys([]byte("ca = [\n"+strings.Repeat("\"x\",\n", 10*maxArray)), func(_, _ string, values []string, _ string, _ int) { lists = len(values) })
	if lists != maxArray {
		t.Errorf("a list of %d lines, want %d", lists, maxArray)
	}
}

// A hosts.toml is a person's, and still no longer than what is looked at.
func TestHostsTOMLIsBounded(t *testing.T) {
	root := makeCA(t, "Acme Root", nil)
	dir := tree(t, map[string]string{
		"etc/containerd/certs.d/registry.example.com:5000/hosts.toml": strings.Repeat("ca = [\"a.crt\", \"b.crt\"]\nskip_verify = true\n", 10*maxCAs) + "[host]\n",
		"etc/containerd/config.toml":                                  "[plugins.x.registry]\nconfig_path = \"/etc/containerd/certs.d\"\n",
	})
	all := Look(dir, "registry.example.com:5000", chainOf(makeLeaf(t, root, "registry.example.com"), root))
	if len(all) != maxCAs+2 { // one that switches off, and the judgement
		t.Errorf("%d findings", len(all))
	}
	if last := found(all[len(all)-1]); !strings.Contains(last, "does not trust") {
		t.Errorf("the last is %q", last)
	}
}
