package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/regward/regward/configs"
)

const root = "../../"

func readDoc(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The file that the README shows is the example that the end-to-end tests use.
func TestReadmeShowsTheMinimalExample(t *testing.T) {
	fence := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	shown := fence.FindStringSubmatch(readDoc(t, "README.md"))
	if shown == nil {
		t.Fatal("the README shows no configuration")
	}
	var readme, example any
	if err := yaml.Unmarshal([]byte(shown[1]), &readme); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(readDoc(t, "configs/examples/minimal.yaml")), &example); err != nil {
		t.Fatal(err)
	}
	one, _ := yaml.Marshal(readme)
	two, _ := yaml.Marshal(example)
	if !bytes.Equal(one, two) {
		t.Errorf("the README shows\n%s\nconfigs/examples/minimal.yaml has\n%s", one, two)
	}
}

// A command that a page tells to type is one that regward takes, flags and all.
func TestDocumentedCommandsExist(t *testing.T) {
	pages, err := filepath.Glob(root + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	typed := regexp.MustCompile("(?m)(?:`|^|\\s)(?:bin/)?regward ((?:--)?[a-z][a-z-]*(?: [^`\n#|>]*)?)")
	found := 0
	for _, page := range append(pages, root+"README.md") {
		text := readDoc(t, strings.TrimPrefix(page, root))
		code := regexp.MustCompile("(?s)```sh\n.*?```|`[^`\n]+`").FindAllString(text, -1)
		for _, line := range typed.FindAllStringSubmatch(strings.Join(code, "\n"), -1) {
			args := append(strings.Fields(strings.TrimSuffix(line[1], "`")), "--help")
			found++
			var out, errs bytes.Buffer
			if code := run(context.Background(), args, func(string) string { return "" }, strings.NewReader(""), &out, &errs); code != exitDone {
				t.Errorf("%s: regward %s: exit code %d\n%s", page, line[1], code, errs.String())
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands were found: is the pattern still right?", found)
	}
}

// What the page about logins shows of a configuration is taken as it stands.
func TestConfigurationsOfTheLoginsPageLoad(t *testing.T) {
	shown := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readDoc(t, "docs/logins.md"), -1)
	for _, block := range shown {
		text := "hostname: registry.example.com\ntls: {mode: internal}\nupstream: http://registry:5000\n" + block[1]
		if !strings.Contains(text, "\nrules:") {
			text += "rules: [{subjects: everyone, repositories: \"**\", allow: pull}]\n"
		}
		if _, err := configs.Parse("regward.yaml", []byte(text), configs.Options{Static: true, Getenv: func(string) string { return "" }}); err != nil {
			t.Errorf("%s\n%v", text, err)
		}
	}
	if len(shown) < 5 {
		t.Errorf("only %d configurations were found: is the pattern still right?", len(shown))
	}
}

// The configuration inside the Kubernetes manifest is one, and its probes ask
// the port that it opens.
func TestKubernetesManifestHoldsAConfiguration(t *testing.T) {
	decoder := yaml.NewDecoder(strings.NewReader(readDoc(t, "deploy/kubernetes.yaml")))
	var kinds []string
	for {
		var doc struct {
			Kind string            `yaml:"kind"`
			Data map[string]string `yaml:"data"`
		}
		if decoder.Decode(&doc) != nil {
			break
		}
		kinds = append(kinds, doc.Kind)
		if doc.Kind != "ConfigMap" {
			continue
		}
		c, err := configs.Parse("regward.yaml", []byte(doc.Data["regward.yaml"]), configs.Options{Static: true, Getenv: func(string) string { return "" }})
		if err != nil {
			t.Fatalf("the ConfigMap does not load:\n%v", err)
		}
		if !slices.Contains(c.Health.Listen, ":9781") {
			t.Errorf("the probes ask port 9781, health.listen is %v", c.Health.Listen)
		}
	}
	if !slices.Equal(kinds, []string{"ConfigMap", "Deployment", "Service"}) {
		t.Errorf("the manifest holds %v", kinds)
	}
}

// A link leads to a file of the repository that is there, and to a heading in it.
func TestLinksOfThePagesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob(root + "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile("(?m)^#+ (.*)$")
	anchors := func(page string) (all []string) {
		for _, m := range heading.FindAllStringSubmatch(readDoc(t, page), -1) {
			name := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(m[1]), "")
			all = append(all, strings.ReplaceAll(name, " ", "-"))
		}
		return all
	}
	found := 0
	for _, page := range append(pages, root+"README.md", root+"CHANGELOG.md") {
		page = strings.TrimPrefix(page, root)
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(readDoc(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			found++
			file, anchor, _ := strings.Cut(m[1], "#")
			to := page
			if file != "" {
				to = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(root + to); err != nil {
				t.Errorf("%s: %s leads nowhere", page, m[1])
			} else if anchor != "" && !slices.Contains(anchors(to), anchor) {
				t.Errorf("%s: %s has no heading for %s", page, to, m[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d links were found: is the pattern still right?", found)
	}
}
