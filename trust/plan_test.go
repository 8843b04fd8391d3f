package trust

import (
	"crypto/x509"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// text is all of a plan, as people and their scripts get it.
func (p *Plan) text() string {
	all := []string{p.Restart}
	for _, s := range p.Steps {
		all = append(all, s.Say, s.Shell)
	}
	for _, f := range p.Files {
		all = append(all, f.Path, f.Content)
	}
	return strings.Join(append(all, p.Notes...), "\n")
}

func mustPlan(t testing.TB, c Client, host string, ca *issued) *Plan {
	t.Helper()
	p, err := Make(c, mustHost(t, host), ca.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// X04: docker's containerd store fetches tokens by the system's CAs alone. Who
// prepares a host is told so, and who looks at one that has docker's folder only.
func TestX04_DockersContainerdStoreWantsTheSystemsStoreToo(t *testing.T) {
	ca := makeCA(t, "Acme Root", nil)
	if text := mustPlan(t, Docker, "registry.example.com", ca).text(); !strings.Contains(text, "containerd image store") || !strings.Contains(text, "--for system is needed too") {
		t.Errorf("the plan for docker does not tell of it:\n%s", text)
	}
	leaf := makeLeaf(t, ca, "registry.example.com")
	for feature, want := range map[string]bool{"true": true, "false": false} {
		root := t.TempDir()
		for name, content := range map[string]string{
			"etc/docker/certs.d/registry.example.com/ca.crt": PEM(ca.Certificate),
			"etc/docker/daemon.json":                         `{"features": {"containerd-snapshotter": ` + feature + `}}`,
		} {
			file := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		told := slices.ContainsFunc(Look(root, "registry.example.com", []*x509.Certificate{leaf.Certificate}), func(f Finding) bool {
			return f.Client == string(Docker) && f.Level == Warning && strings.Contains(f.Fix, "--for system")
		})
		if told != want {
			t.Errorf("containerd-snapshotter %s: warned: %v", feature, told)
		}
	}
}

// Whatever the client: the files are named after the host as it is typed, the
// certificate is whole in them, a restart is spoken of, and nothing is said of
// doing without.
func TestEveryPlanIsWhole(t *testing.T) {
	ca := makeCA(t, "Acme Root", nil)
	without := regexp.MustCompile(`(?i)insecure|skip[-_]?verify|--tls-verify|http://`)
	for client, file := range map[Client]string{
		Docker:     "/etc/docker/certs.d/registry.example.com:5000/ca.crt",
		Containerd: "/etc/containerd/certs.d/registry.example.com:5000/ca.crt",
		Podman:     "/etc/containers/certs.d/registry.example.com:5000/ca.crt",
		BuildKit:   "/etc/buildkit/certs.d/registry.example.com:5000/ca.crt",
		Kubernetes: "trust-registry-example-com-5000.yaml",
		System:     "/usr/local/share/ca-certificates/registry.example.com-5000.crt",
	} {
		p := mustPlan(t, client, "registry.example.com:5000", ca)
		at := slices.IndexFunc(p.Files, func(f File) bool { return f.Path == file })
		if at < 0 || client != Kubernetes && p.Files[at].Content != PEM(ca.Certificate) {
			t.Errorf("%s: no %s with the CA in it: %v", client, file, p.Files)
		}
		if p.Restart == "" || len(p.Steps) == 0 || len(p.Notes) == 0 {
			t.Errorf("%s: %+v", client, p)
		}
		if found := without.FindString(p.text()); found != "" {
			t.Errorf("%s says %q", client, found)
		}
		if strings.Contains(p.text(), "%!") {
			t.Errorf("%s: a verb is left over: %s", client, p.text())
		}
		for _, s := range p.Steps {
			if out, err := exec.Command("sh", "-nc", s.Shell).CombinedOutput(); err != nil || !strings.HasSuffix(s.Shell, "\n") {
				t.Errorf("%s: no shell: %v\n%s\n%s", client, err, out, s.Shell)
			}
			// Where comments are pasted, an odd quote would wait for its other half.
			if strings.ContainsAny(s.Say, "'\"`$") {
				t.Errorf("%s: %q does not belong into a comment", client, s.Say)
			}
		}
		for _, n := range append(p.Notes, p.Restart) {
			if strings.Count(n, `"`)%2 != 0 || strings.ContainsAny(n, "`$<>") {
				t.Errorf("%s: %q does not belong into a comment", client, n)
			}
		}
	}
	if len(Clients()) != 6 {
		t.Error("a client is not in this test")
	}
	if _, err := Make("windows", mustHost(t, "a.example"), ca.Certificate); err == nil {
		t.Error("there is a plan for a client that there is not")
	}
}

func TestAPortThatWasTypedIsSpokenOf(t *testing.T) {
	ca := makeCA(t, "Acme Root", nil)
	for host, want := range map[string]bool{"a.example": false, "a.example:443": true, "a.example:5000": false} {
		if got := strings.Contains(mustPlan(t, Docker, host, ca).text(), "without the port"); got != want {
			t.Errorf("%s: %v, want %v", host, got, want)
		}
	}
	if got := mustPlan(t, Containerd, "a.example:5000", ca).text(); !strings.Contains(got, "/a.example_5000_ first") {
		t.Error("containerd's other folder is not spoken of")
	}
}

// elsewhere is shell with the folders that it writes to moved below dir.
func elsewhere(t testing.TB, dir, shell string) {
	t.Helper()
	out, err := exec.Command("sh", "-euc", strings.ReplaceAll(shell, "/etc/", dir+"/etc/")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// What is there already stays, and a second run changes nothing.
func TestShellLeavesAloneWhatOthersWrote(t *testing.T) {
	ca := makeCA(t, "Acme Root", nil)
	root := tree(t, map[string]string{
		"etc/containerd/certs.d/mine.example/hosts.toml": "server = \"https://mirror.example\"\n",
		"etc/buildkit/buildkitd.toml":                    "debug = true\n",
	})
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	for range 2 {
		for _, host := range []string{"mine.example", "registry.example:5000"} {
			for _, c := range []Client{Docker, Podman, Containerd, BuildKit} {
				p := mustPlan(t, c, host, ca)
				for i, s := range p.Steps {
					if i < 2 { // the third tells a daemon
						elsewhere(t, root, s.Shell)
					}
				}
				for _, f := range p.Files {
					if path.Base(f.Path) == "ca.crt" && read(f.Path) != f.Content {
						t.Errorf("%s: %s is not what was printed", c, f.Path)
					}
				}
			}
		}
	}
	if got := read("etc/containerd/certs.d/mine.example/hosts.toml"); got != "server = \"https://mirror.example\"\n" {
		t.Errorf("hosts.toml of others: %q", got)
	}
	if got, want := read("etc/containerd/certs.d/registry.example:5000/hosts.toml"), "# made by: regward trust\nserver = \"https://registry.example:5000\"\nca = \"ca.crt\"\n\n[host]\n"; got != want {
		t.Errorf("hosts.toml: %q, want %q", got, want)
	}
	want := "debug = true\n\n[registry.\"mine.example\"]\n  ca = [\"" + root + "/etc/buildkit/certs.d/mine.example/ca.crt\"]\n" +
		"\n[registry.\"registry.example:5000\"]\n  ca = [\"" + root + "/etc/buildkit/certs.d/registry.example:5000/ca.crt\"]\n"
	if got := read("etc/buildkit/buildkitd.toml"); got != want {
		t.Errorf("buildkitd.toml:\n%s\nwant\n%s", got, want)
	}
}

// daemonSetOf are the objects that are applied, as kubernetes reads them.
func daemonSetOf(t testing.TB, p *Plan) (data map[string]string, script string, env map[string]string) {
	t.Helper()
	decoder := yaml.NewDecoder(strings.NewReader(p.Files[0].Content))
	decoder.KnownFields(false)
	var config struct {
		Kind     string
		Metadata struct{ Name, Namespace string }
		Data     map[string]string
	}
	if err := decoder.Decode(&config); err != nil || config.Kind != "ConfigMap" {
		t.Fatalf("%+v, %v", config, err)
	}
	var set struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					Containers []struct {
						Command, Args []string
						Env           []struct{ Name, Value string }
						Mounts        []struct{ Name string } `yaml:"volumeMounts"`
					}
					Volumes []struct {
						Name      string
						ConfigMap struct{ Name string } `yaml:"configMap"`
					}
				}
			}
		}
	}
	if err := decoder.Decode(&set); err != nil || set.Kind != "DaemonSet" || len(set.Spec.Template.Spec.Containers) != 1 {
		t.Fatalf("%+v, %v", set, err)
	}
	pod := set.Spec.Template.Spec
	if pod.Volumes[0].ConfigMap.Name != config.Metadata.Name || set.Spec.Selector.MatchLabels["app"] != set.Spec.Template.Metadata.Labels["app"] {
		t.Errorf("the objects do not belong together: %+v %+v", config, set)
	}
	for _, m := range pod.Containers[0].Mounts {
		if !slices.ContainsFunc(pod.Volumes, func(v struct {
			Name      string
			ConfigMap struct{ Name string } `yaml:"configMap"`
		}) bool {
			return v.Name == m.Name
		}) {
			t.Errorf("no volume %s", m.Name)
		}
	}
	env = map[string]string{}
	for _, e := range pod.Containers[0].Env {
		env[e.Name] = e.Value
	}
	return config.Data, pod.Containers[0].Args[0], env
}

// The shell of the DaemonSet, run on a folder that stands for a node.
func TestTheDaemonSetKeepsTheFilesOfANode(t *testing.T) {
	ca := makeCA(t, "Acme Root", nil)
	data, script, env := daemonSetOf(t, mustPlan(t, Kubernetes, "registry.example.com:5000", ca))
	if data["ca.crt"] != PEM(ca.Certificate) || env["REGISTRY"] != "registry.example.com:5000" {
		t.Errorf("%q %q", data, env)
	}
	const mine = "server = \"https://mirror.example\"\n"
	for name, tt := range map[string]struct {
		node map[string]string
		toml string
		says []string
	}{
		"new":             {nil, data["hosts.toml"], []string{"wrote ca.crt", "wrote hosts.toml"}},
		"older of ours":   {map[string]string{"containerd/certs.d/registry.example.com:5000/hosts.toml": marker + "old"}, data["hosts.toml"], []string{"wrote hosts.toml"}},
		"somebody else's": {map[string]string{"containerd/certs.d/registry.example.com:5000/hosts.toml": mine}, mine, []string{"left alone"}},
		"containerd not told": {map[string]string{"containerd/config.toml": "version = 2\n# config_path = \"/etc/containerd/certs.d\"\n"}, data["hosts.toml"],
			[]string{"names no config_path"}},
		"containerd told": {map[string]string{"containerd/config.toml": "version = 2\n[a]\n  config_path = \"/etc/containerd/certs.d\"\n"}, data["hosts.toml"], []string{"wrote hosts.toml"}},
	} {
		node := tree(t, tt.node)
		log, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		c := exec.Command("sh", "-c", script)
		c.Env = []string{"PATH=" + os.Getenv("PATH"), "TRUST=" + tree(t, data), "NODE=" + node, "REGISTRY=" + env["REGISTRY"]}
		c.Stdout, c.Stderr = log, log
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(node, "containerd/certs.d/registry.example.com:5000")
		done := func() (missing string) {
			said, _ := os.ReadFile(log.Name())
			for _, w := range tt.says {
				if !strings.Contains(string(said), w) {
					return "said " + w + " in " + string(said)
				}
			}
			for file, want := range map[string]string{
				filepath.Join(dir, "ca.crt"): data["ca.crt"], filepath.Join(dir, "hosts.toml"): tt.toml,
				filepath.Join(node, "containers/certs.d/registry.example.com:5000/ca.crt"): data["ca.crt"],
			} {
				if got, _ := os.ReadFile(file); string(got) != want {
					return file
				}
			}
			if told := strings.Contains(string(said), "config_path"); told != strings.Contains(name, "not told") {
				return "the right word on config_path"
			}
			return ""
		}
		missing := "all"
		for deadline := time.Now().Add(30 * time.Second); missing != "" && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			missing = done()
		}
		if missing != "" {
			t.Errorf("%s: no %s", name, missing)
		}
		// It ends when it is asked to, and keeps no node's drain waiting.
		_ = c.Process.Signal(syscall.SIGTERM)
		if err := c.Wait(); err != nil {
			t.Errorf("%s: at SIGTERM: %v", name, err)
		}
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // the sleep, which would end with the container
	}
}

func TestObjectsOfHostsHaveNamesOfTheirOwn(t *testing.T) {
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	seen := map[string]string{}
	for _, host := range []string{
		"a.example", "a.example:5000", "[2001:db8::1]:5000", "A_B.example", strings.Repeat("long.", 40) + "example", strings.Repeat("long.", 40) + "examples",
	} {
		name := objectName(mustHost(t, host))
		if !label.MatchString(name) || len(name) > 50 {
			t.Errorf("%s: %q is no label", host, name)
		}
		if seen[name] != "" {
			t.Errorf("%s and %s are both %s", host, seen[name], name)
		}
		seen[name] = host
	}
}

func TestCommentsAreCommentsThroughout(t *testing.T) {
	for _, line := range strings.Split(strings.TrimSuffix(Comment("one\n\ntwo "+strings.Repeat("words ", 100)), "\n"), "\n") {
		if !strings.HasPrefix(line, "#") || len(line) > 100 {
			t.Errorf("%q", line)
		}
	}
}
