package trust

import (
	"crypto/x509"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Client is what is to trust a registry.
type Client string

// The clients that Make knows.
const (
	Docker     Client = "docker"
	Containerd Client = "containerd"
	Podman     Client = "podman"
	BuildKit   Client = "buildkit"
	Kubernetes Client = "kubernetes"
	System     Client = "system"
)

// Clients are all of them, as --for takes them.
func Clients() []Client {
	return []Client{Docker, Containerd, Podman, BuildKit, Kubernetes, System}
}

// File is one that has to be there.
type File struct {
	Path    string `json:"path"`
	Mode    string `json:"mode"` // octal
	Content string `json:"content"`
	On      string `json:"on,omitempty"` // the systems that want it there, if others want it elsewhere
}

// Step is a piece of shell that can be pasted, and what to know before.
type Step struct {
	Say   string // to people; paragraphs are lines
	Shell string // ends in a line break
}

// Plan makes one kind of client trust one host. Nothing in it is done yet.
type Plan struct {
	Client  Client
	Host    Host
	Files   []File
	Steps   []Step
	Restart string // what has to be restarted, and that nothing has to
	Notes   []string
}

// Make is the plan by which client trusts ca as the CA of host.
func Make(client Client, host Host, ca *x509.Certificate) (*Plan, error) {
	p := &Plan{Client: client, Host: host}
	switch client {
	case Docker:
		p.docker(PEM(ca))
	case Containerd:
		p.containerd(PEM(ca))
	case Podman:
		p.podman(PEM(ca))
	case BuildKit:
		p.buildkit(PEM(ca))
	case Kubernetes:
		p.kubernetes(PEM(ca))
	case System:
		p.system(PEM(ca))
	default:
		return nil, fmt.Errorf("there is no client %q", client)
	}
	if host.Port == "443" && !slices.Contains([]Client{System}, client) {
		p.note("The port is part of the folder's name: this is for images named %s/.... Those named %s/... need the same once more, without the port.", host, Host{Name: host.Name})
	}
	return p, nil
}

func (p *Plan) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

const world = "0644" // certificates are no secret, and rootless clients read them too

// caFile puts the CA at DIR/HOST/ca.crt.
func (p *Plan) caFile(dir, ca string) File {
	f := File{Path: path.Join(dir, p.Host.String(), "ca.crt"), Mode: world, Content: ca}
	p.Files = append(p.Files, f)
	return f
}

// put is the shell that writes f.
func put(f File) string {
	return fmt.Sprintf("install -d -m 0755 '%s'\ncat > '%s' <<'EOF'\n%sEOF\nchmod %s '%[2]s'\n", path.Dir(f.Path), f.Path, f.Content, f.Mode)
}

func (p *Plan) docker(ca string) {
	f := p.caFile("/etc/docker/certs.d", ca)
	p.Steps = []Step{{"On each docker host, as root:", put(f)}}
	p.Restart = "No restart is needed: the daemon reads the folder at each pull, push and login."
	if p.Host.loopback() {
		p.note("A docker daemon takes any certificate from its own machine (127.0.0.0/8): there it needs none of this.")
	}
	p.note("docker 28 and older with the containerd image store (docker info shows io.containerd.snapshotter) fetches tokens by the system's store alone: there --for system is needed too, and a restart of docker.")
	p.note("Rootless docker looks in ~/.config/docker/certs.d/%s.", p.Host)
	p.note("Docker Desktop takes the CAs of the macOS keychain or of the Windows store when it starts: --for system on that machine, then restart Docker Desktop.")
	p.note("Builders that docker buildx made run in a container, which sees none of this: --for buildkit.")
}

func (p *Plan) podman(ca string) {
	f := p.caFile("/etc/containers/certs.d", ca)
	p.Steps = []Step{{"On each host with podman, buildah, skopeo or CRI-O, as root:", put(f)}}
	p.Restart = "No restart is needed: the folder is read at each command, by CRI-O at each pull."
	p.note("Without root, for one person alone: ~/.config/containers/certs.d/%s/ca.crt.", p.Host)
	p.note("Where this folder is there, /etc/docker/certs.d/%s is not looked into any more: a client certificate in it belongs here too.", p.Host)
	p.note("With podman machine (macOS, Windows) the file belongs inside of the machine: podman machine ssh.")
}

// marker is how files that may be replaced are told from those of others.
const marker = "# made by: regward trust\n"

// hostsTOML names no other server and no way around: containerd asks the host
// itself, once, and believes it by the file beside. The empty section is for
// containerd 1, which passes over the whole file without one.
func (p *Plan) hostsTOML() string {
	return marker + fmt.Sprintf("server = \"https://%s\"\nca = \"ca.crt\"\n\n[host]\n", p.Host)
}

const containerdDir = "/etc/containerd/certs.d"

func (p *Plan) containerd(ca string) {
	crt := p.caFile(containerdDir, ca)
	toml := File{Path: path.Join(path.Dir(crt.Path), "hosts.toml"), Mode: world, Content: p.hostsTOML()}
	p.Files = append(p.Files, toml)
	p.Steps = []Step{
		{"On each node with containerd, as root:", put(crt)},
		{
			"A hosts.toml that is there already is left alone, since it may name mirrors:",
			fmt.Sprintf("if [ ! -e '%s' ]; then\ncat > '%[1]s' <<'EOF'\n%sEOF\nchmod %s '%[1]s'\n", toml.Path, toml.Content, toml.Mode) +
				fmt.Sprintf("elif ! grep -Eq '^[[:space:]]*ca[[:space:]]*=.*ca[.]crt' '%s'; then\n"+
					"  echo 'hosts.toml was there already: add the line  ca = \"ca.crt\"  to it, for https://%s' >&2\nfi\n", toml.Path, p.Host),
		},
		{
			"Pulls of kubelet look into that folder only where the configuration of containerd names it, which takes a restart, once:",
			"if ! containerd config dump | grep -Eq '^[[:space:]]*config_path[[:space:]]*=.*/etc/containerd/certs[.]d'; then\n" +
				"cat >&2 <<'EOF'\n" + configPath + "EOF\nfi\n",
		},
	}
	p.Restart = "containerd once per node, and only where its configuration does not name the folder yet (config_path). After that none: the folder is read at each pull."
	if u := p.Host.underscored(); u != "" {
		p.note("containerd looks for the folder %s first, and where that is there, never into this one. This name and that mean the same.", path.Join(containerdDir, u))
	}
	p.note("ctr looks only where it is told: ctr images pull --hosts-dir %s. nerdctl looks there by itself.", containerdDir)
	p.note("k3s and RKE2 write containerd's configuration themselves: there it is configs, %q, tls, ca_file in /etc/rancher/k3s/registries.yaml (or rke2), and a restart of k3s.", p.Host.String())
}

// configPath is what people read whose containerd does not look into the
// folder. It is not written for them: a section that is there twice, or stands
// beside registry.mirrors, keeps containerd from starting.
const configPath = `containerd does not look into /etc/containerd/certs.d yet. In /etc/containerd/config.toml,
with version = 2 (containerd 1.5 and later), put

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"

or with version = 3 (containerd 2)

  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"

in place of the registry section that may be there. registry.mirrors and
registry.configs with tls cannot stand beside config_path: move them to a
hosts.toml first. Then, once: systemctl restart containerd
Containers that run go on running.
`

func (p *Plan) buildkit(ca string) {
	crt := p.caFile("/etc/buildkit/certs.d", ca)
	section := fmt.Sprintf("[registry.\"%s\"]\n  ca = [\"%s\"]\n", p.Host, crt.Path)
	toml := File{Path: "/etc/buildkit/buildkitd.toml", Mode: world, Content: section}
	p.Files = append(p.Files, toml)
	p.Steps = []Step{
		{"On the machine where docker buildx create is typed, or buildkitd runs, as root:", put(crt)},
		{
			"What buildkitd.toml says already stays:",
			fmt.Sprintf("touch '%[1]s'\nif ! grep -Fq '[registry.\"%[2]s\"]' '%[1]s'; then\ncat >> '%[1]s' <<'EOF'\n\n%[3]sEOF\n"+
				"elif ! grep -Fq '%[4]s' '%[1]s'; then\n  echo 'buildkitd.toml has a section for %[2]s already: add the line  ca = [\"%[4]s\"]  to it' >&2\nfi\n",
				toml.Path, p.Host, section, crt.Path) +
				fmt.Sprintf("chmod %s '%s'\n", toml.Mode, toml.Path),
		},
		{
			"A builder in a container takes the file, and the CA that it names, when it is made. So yours is made anew; its name (docker buildx ls) is BUILDER here, and its cache is kept:",
			"BUILDER=${BUILDER:-mybuilder}\ndocker buildx rm --keep-state \"$BUILDER\"\n" +
				"docker buildx create --name \"$BUILDER\" --driver docker-container --buildkitd-config " + toml.Path + " --bootstrap --use\n",
		},
	}
	p.Restart = "The builder is made anew (docker buildx rm, then create); a buildkitd that runs by itself is restarted: systemctl restart buildkit."
	p.note("Before docker buildx had --buildkitd-config, it was --config.")
	p.note("The builder of docker itself (driver docker) believes what the daemon believes: --for docker.")
	p.note("Tokens are fetched by docker buildx, on the machine where the build is typed, not by the builder: where that still says x509, --for system there.")
}

// system is one piece of shell for all that have one, for nobody remembers which
// is which.
func (p *Plan) system(ca string) {
	file := p.Host.file() + ".crt"
	const (
		debian = "/usr/local/share/ca-certificates/"
		redhat = "/etc/pki/ca-trust/source/anchors/"
		suse   = "/etc/pki/trust/anchors/"
		arch   = "/etc/ca-certificates/trust-source/anchors/"
	)
	for _, f := range []struct{ dir, on string }{
		{debian, "Debian, Ubuntu, Alpine"}, {redhat, "Fedora, RHEL and their kin"}, {suse, "SUSE"}, {arch, "Arch"},
	} {
		p.Files = append(p.Files, File{Path: f.dir + file, Mode: world, Content: ca, On: f.on})
	}
	store := func(dir, update string) string {
		return fmt.Sprintf("  install -m %s \"$crt\" '%s' && %s\n", world, dir+file, update)
	}
	p.Steps = []Step{{
		"On Linux or macOS, as root:",
		"crt=$(mktemp)\ncat > \"$crt\" <<'EOF'\n" + ca + "EOF\n" +
			"if [ \"$(uname -s)\" = Darwin ]; then\n" +
			"  security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain \"$crt\"\n" +
			"elif [ -d '" + arch + "' ]; then # Arch\n" + store(arch, "update-ca-trust") +
			"elif command -v update-ca-trust > /dev/null; then # Fedora, RHEL\n" + store(redhat, "update-ca-trust") +
			"elif [ -d '" + suse + "' ]; then # SUSE\n" + store(suse, "update-ca-certificates") +
			"elif command -v update-ca-certificates > /dev/null; then # Debian, Ubuntu, Alpine\n" +
			"  install -d -m 0755 " + debian + "\n" + store(debian, "update-ca-certificates") +
			"else\n  echo 'no update-ca-certificates here: install the package ca-certificates first' >&2\nfi\n" +
			"rm -f \"$crt\"\n",
	}}
	p.Restart = "Programs read the store when they start. docker: systemctl restart docker (which stops containers, unless live-restore is on). containerd: systemctl restart containerd (which stops none). Commands like curl, crane, podman: none."
	p.note("This makes every program on the machine believe that CA, for every name. Where one client is enough, its own folder is narrower: --for docker, podman, containerd.")
	p.note("On Windows: save the certificate above as %s and type, as administrator: certutil -addstore -f Root %[1]s. Docker Desktop is restarted then.", file)
	p.note("Python, Java, Node.js, Firefox and most container images have stores of their own.")
}

// Unneeded are the notes for a client where the system's store has the CA.
func Unneeded(client Client, host Host, root *x509.Certificate) []string {
	notes := []string{fmt.Sprintf("Nothing is needed: the certificate of %s leads to %s, which this system's store has.", host, quoted(Subject(root)))}
	switch client {
	case BuildKit:
		notes = append(notes, "Except where a builder runs in a container: that has a store of its own, with the public CAs alone. If this one is not public, bring it along with --ca-file.")
	case Kubernetes:
		notes = append(notes, "Except that nodes have stores of their own. If theirs lack this CA, bring it along with --ca-file.")
	case System:
	default:
		notes = append(notes, fmt.Sprintf("%s believes that store, here. Hosts whose store lacks this CA need it: bring it along with --ca-file. A daemon that was started before the store had it is restarted.", client))
	}
	return notes
}

// lines breaks text at spaces.
func lines(text string, width int) []string {
	var all []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			all = append(all, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(all, line)
}

// Comment is text as a comment of the shell, so that all that is printed may be
// pasted.
func Comment(text string) string {
	var b strings.Builder
	for paragraph := range strings.SplitSeq(text, "\n") {
		for _, line := range lines(paragraph, 96) {
			b.WriteString(strings.TrimRight("# "+line, " ") + "\n")
		}
	}
	return b.String()
}
