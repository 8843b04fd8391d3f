package trust

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// bundles are where systems keep the store in one file; the first that is there
// counts, as for crypto/x509.
func bundles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/pki/tls/cacert.pem",                           // OpenELEC
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL
		"/etc/ssl/cert.pem",                                 // Alpine, macOS
	}
}

// system reads the system's store, which all the others believe too.
func (l *look) system() {
	for _, file := range bundles() {
		content, err := l.read(file)
		if err != nil {
			continue
		}
		if l.store, err = Certificates(content); err != nil {
			l.add(System, Warning, fmt.Sprintf("the system's store %s cannot be used: %v", file, err), "no program on this host then trusts anything by it", "update-ca-certificates --fresh, or update-ca-trust")
			return
		}
		l.known = l.verified(l.store)
		switch {
		case l.known:
			l.add(System, OK, fmt.Sprintf("the system's store (%s) has the CA of %s", file, l.host), "", "")
		case len(l.chain) > 0:
			l.add(System, Note, fmt.Sprintf("the system's store (%s) lacks the CA of %s, %s", file, l.host, l.issuer()),
				"curl, crane and other programs without a folder of their own refuse the host; docker, containerd and podman may have it in theirs", l.command(System))
		}
		return
	}
}

const dockerDir, podmanDir = "/etc/docker/certs.d", "/etc/containers/certs.d"

func (l *look) docker() {
	if !l.installed("dockerd", "docker") && !l.isDir(dockerDir) {
		return
	}
	var settings struct {
		Features map[string]bool `json:"features"`
		Unproved []string        `json:"insecure-registries"`
	}
	if content, err := l.read("/etc/docker/daemon.json"); err == nil {
		_ = json.Unmarshal(content, &settings) // dockerd itself says what is wrong with it
	}
	if slices.Contains(settings.Unproved, l.host.String()) {
		l.add(Docker, Warning, fmt.Sprintf("/etc/docker/daemon.json exempts %s from the check of its certificate", l.host),
			"whoever sits in between can be that registry, and read the passwords", "take it out of that list, after: "+l.command(Docker))
	}
	dir := path.Join(dockerDir, l.host.String())
	if l.host.loopback() && len(l.chain) > 0 {
		if l.isDir(dir) {
			l.folder(Docker, dir)
		}
		l.add(Docker, OK, "docker takes any certificate from its own machine", "", "")
		return
	}
	if !l.isDir(dir) {
		l.judge(Docker, dir, nil)
		if !l.known {
			l.otherPorts(Docker, dockerDir)
		}
		return
	}
	f := l.folder(Docker, dir)
	l.judge(Docker, dir, f.cas)
	if settings.Features["containerd-snapshotter"] && !l.known && l.verified(f.cas) {
		l.add(Docker, Warning, fmt.Sprintf("docker's containerd image store is on, and the system's store lacks the CA of %s", l.host),
			"docker 28 and older then fetch tokens by the system's store alone: x509 after the folder was found (X04)", l.command(System))
	}
}

func (l *look) podman() {
	if !l.installed("podman", "crio", "buildah", "skopeo") && !l.isDir(podmanDir) {
		return
	}
	// The first folder that is there is the only one read.
	for _, parent := range []string{podmanDir, dockerDir} {
		dir := path.Join(parent, l.host.String())
		if !l.isDir(dir) {
			continue
		}
		if parent == dockerDir { // its mistakes have been told as docker's
			before := len(l.found)
			f := l.folder(Podman, dir)
			l.found = l.found[:before]
			l.judge(Podman, dir, f.cas)
			return
		}
		l.judge(Podman, dir, l.folder(Podman, dir).cas)
		return
	}
	l.judge(Podman, path.Join(podmanDir, l.host.String()), nil)
	if !l.known {
		l.otherPorts(Podman, podmanDir)
	}
}

// containerd has two ways: hosts.toml, and without one a folder as docker's.
func (l *look) containerd() {
	if !l.installed("containerd") && !l.isDir(containerdDir) {
		return
	}
	parents, config := l.configPath()
	var dir string
	for _, parent := range parents {
		if dir = l.hostDir(parent); dir != "" {
			break
		}
	}
	if dir == "" {
		l.judge(Containerd, containerdDir, nil)
		if !l.known {
			l.otherPorts(Containerd, containerdDir)
		}
		return
	}
	if config == "" {
		l.add(Containerd, Warning, fmt.Sprintf("%s is there, and /etc/containerd/config.toml names no config_path", dir),
			"kubelet's pulls then do not look into it, unless this containerd does so by default (containerd config dump shows it)", l.command(Containerd)+" prints what to put there; it takes one restart")
	}
	l.hosts(dir)
}

// hostDir is the folder that containerd takes for the host, "" if there is none:
// host_port_ comes first.
func (l *look) hostDir(parent string) string {
	for _, name := range []string{l.host.underscored(), l.host.String(), "_default"} {
		if name != "" && l.isDir(path.Join(parent, name)) {
			return path.Join(parent, name)
		}
	}
	return ""
}

var (
	table      = regexp.MustCompile(`^\s*\[+\s*(.*?)\s*\]+\s*(#.*)?$`)
	assignment = regexp.MustCompile(`^\s*([A-Za-z_]+)\s*=\s*(.*?)\s*$`)
	// hostSection begins one of the servers of a hosts.toml, or none.
	hostSection = regexp.MustCompile(`(?m)^\s*\[\s*host\s*[].]`)
	inQuotes    = regexp.MustCompile(`"([^"]*)"|'([^']*)'`)
)

// maxArray is the most lines of a list in a TOML file.
const maxArray = 100

// keys calls f with each line "key = value" of a TOML file, its table and its
// number; a list may have several lines. That is as much of TOML as is needed
// here.
func keys(content []byte, f func(in, key string, values []string, raw string, line int)) {
	in := ""
	all := strings.Split(string(content), "\n")
	for i := 0; i < len(all); i++ {
		m := assignment.FindStringSubmatch(uncommented(all[i]))
		if m == nil {
			if m := table.FindStringSubmatch(all[i]); m != nil {
				in = m[1]
			}
			continue
		}
		first, raw := i, m[2]
		if strings.HasPrefix(raw, "[") {
			for !strings.HasSuffix(raw, "]") && i+1 < len(all) && i-first < maxArray {
				i++
				raw += strings.TrimSpace(uncommented(all[i]))
			}
		}
		var values []string
		for _, v := range inQuotes.FindAllStringSubmatch(raw, -1) {
			values = append(values, v[1]+v[2])
		}
		f(in, m[1], values, raw, first+1)
	}
}

// uncommented is a line of TOML without the comment at its end.
func uncommented(line string) string {
	quote := rune(0)
	for i, r := range line {
		switch {
		case quote == 0 && r == '#':
			return line[:i]
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case r == quote:
			quote = 0
		}
	}
	return line
}

// configPath are the folders that containerd looks into, and the file that says
// so; "" if none does. Then it is the usual one, which ctr and nerdctl use.
func (l *look) configPath() (parents []string, file string) {
	files := []string{"/etc/containerd/config.toml"}
	more, _ := filepath.Glob(filepath.Join(l.root, "/etc/containerd/conf.d/*.toml"))
	for _, m := range more[:min(len(more), maxEntries)] {
		files = append(files, path.Join("/etc/containerd/conf.d", filepath.Base(m)))
	}
	for _, name := range files {
		content, err := l.read(name)
		if err != nil {
			continue
		}
		keys(content, func(in, key string, values []string, _ string, _ int) {
			if key == "config_path" && strings.HasSuffix(in, "registry") && len(values) == 1 && values[0] != "" {
				parents, file = strings.Split(values[0], ":"), name
			}
		})
	}
	if file == "" {
		parents = []string{containerdDir}
	}
	return parents, file
}

// hosts judges the folder that containerd takes.
func (l *look) hosts(dir string) {
	file := path.Join(dir, "hosts.toml")
	content, err := l.read(file)
	if err != nil {
		l.judge(Containerd, dir, l.folder(Containerd, dir).cas)
		return
	}
	var cas []*x509.Certificate
	named, unchecked := 0, false
	keys(content, func(_, key string, values []string, raw string, line int) {
		switch {
		case key == "skip_verify" && strings.HasPrefix(raw, "true") && !unchecked:
			unchecked = true
			l.add(Containerd, Warning, fmt.Sprintf("line %d of %s switches the check of certificates off", line, file),
				"whoever sits in between can be that registry, and read the passwords", "remove the line, and give the CA instead: "+l.command(Containerd))
		case key == "ca":
			for _, ca := range values[:min(len(values), maxCAs-named)] {
				named++
				cas = append(cas, l.named(dir, file, ca)...)
			}
		}
	})
	// Without a section containerd 1 passes over the file, and containerd 2 does
	// not. Which one this is, no file says.
	if !hostSection.Match(content) {
		l.add(Containerd, Warning, fmt.Sprintf("%s has no [host] section", file),
			"containerd 1 then passes over the whole file, and takes the .crt files beside it", "add a line  [host]  at its end")
		l.judge(Containerd, dir, append(cas, l.folder(Containerd, dir).cas...))
		return
	}
	if names, err := l.entries(dir); named == 0 && err == nil && slices.ContainsFunc(names, func(n string) bool { return path.Ext(n) == ".crt" }) {
		l.add(Containerd, Warning, fmt.Sprintf("%s names no ca, and a .crt lies beside it", file),
			"containerd takes a .crt by itself only where there is no hosts.toml", fmt.Sprintf("add the line  ca = \"ca.crt\"  to %s, for https://%s", file, l.host))
	}
	l.judge(Containerd, file, cas)
}

// named reads a CA that a hosts.toml names, relative to its folder.
func (l *look) named(dir, file, ca string) []*x509.Certificate {
	at := ca
	if !path.IsAbs(ca) {
		at = path.Join(dir, ca)
	}
	content, err := l.read(at)
	if err != nil {
		l.add(Containerd, Problem, fmt.Sprintf("%s names the CA %s, which cannot be read: %v", file, at, err), "containerd then refuses every pull from "+l.host.String(), l.command(Containerd))
		return nil
	}
	cas, err := Certificates(content)
	if err != nil {
		l.add(Containerd, Problem, fmt.Sprintf("%s, which %s names, is no CA: %v", at, file, err), "containerd then refuses every pull from "+l.host.String(), l.command(Containerd))
		return nil
	}
	return cas
}
