package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

// docFrame is what docs/upstreams.md leaves out of its pieces.
const docFrame = `hostname: registry.example.com
tls: {mode: internal}
rules: [{subjects: everyone, repositories: "**", allow: "*"}]
`

// What the page tells to write is a configuration, without mistakes and
// without warnings but those about what it leaves out.
func TestUpstreamsPageShowsConfigurations(t *testing.T) {
	blocks := regexp.MustCompile("(?sm)^```yaml\n(.*?)^```").FindAllStringSubmatch(readDoc(t, "docs/upstreams.md"), -1)
	if len(blocks) < 15 {
		t.Fatalf("only %d pieces of configuration", len(blocks))
	}
	for i, b := range blocks {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			text := b[1]
			if !strings.Contains(text, "hostname: [") {
				text += docFrame
			}
			c, err := configs.Parse("upstreams.md", []byte(text), configs.Options{Static: true, Getenv: func(string) string { return "" }})
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			for _, w := range c.Warnings {
				if w.Severity == configs.Warning {
					t.Errorf("%v\n%s", w, text)
				}
			}
		})
	}
}

// Every registry that regward is tried with has its part of the page, with
// what to set there, what to set here and how to check it.
func TestUpstreamsPageHasEveryRegistry(t *testing.T) {
	page := readDoc(t, "docs/upstreams.md")
	for _, name := range []string{"Nexus", "Harbor", "GitLab", "Quay", "Artifactory", "Docker Hub", "GitHub's registry (GHCR)", "Amazon ECR", "Google Artifact Registry", "Gitea, Forgejo", "distribution (`registry`)"} {
		_, part, found := strings.Cut(page, "\n### "+name+"\n")
		part, _, _ = strings.Cut(part, "\n### ")
		part, _, _ = strings.Cut(part, "\n## ")
		for _, want := range []string{"| there |", "```yaml\n", "| check |", "regward validate --online"} {
			if !found || !strings.Contains(part, want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
	}
	// Links within the page lead somewhere.
	anchors := map[string]bool{}
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		a := strings.ReplaceAll(strings.ToLower(h[1]), " ", "-")
		anchors[regexp.MustCompile("[^a-z0-9_-]").ReplaceAllString(a, "")] = true
	}
	for _, l := range regexp.MustCompile(`\]\(#([^)]*)\)`).FindAllStringSubmatch(page, -1) {
		if !anchors[l[1]] {
			t.Errorf("a link to #%s, which is no heading", l[1])
		}
	}
}
