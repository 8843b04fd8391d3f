package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/regward/regward/configs"
)

// What the pages tell to write is a configuration, without mistakes and
// without warnings.
func TestCertificatesAndProxiesPagesShowConfigurations(t *testing.T) {
	for page, least := range map[string]int{"docs/certificates.md": 5, "docs/proxies.md": 3} {
		blocks := regexp.MustCompile("(?sm)^```yaml\n(.*?)^```").FindAllStringSubmatch(readDoc(t, page), -1)
		if len(blocks) < least {
			t.Errorf("%s has only %d pieces of configuration", page, len(blocks))
		}
		for i, b := range blocks {
			t.Run(fmt.Sprint(page, i), func(t *testing.T) {
				text := b[1]
				for key, line := range map[string]string{
					"hostname": "hostname: registry.example.com\n",
					"upstream": "upstream: http://registry:5000\n",
					"rules":    "rules: [{subjects: everyone, repositories: \"**\", allow: \"*\"}]\n",
				} {
					if !regexp.MustCompile("(?m)^" + key + ":").MatchString(text) {
						text += line
					}
				}
				set := func(string) string { return "aGlkZGVu" }
				c, err := configs.Parse(page, []byte(text), configs.Options{Static: true, Getenv: set})
				if err != nil {
					t.Fatalf("%v\n%s", err, text)
				}
				for _, w := range c.Warnings {
					if w.Severity == configs.Warning && !strings.Contains(w.Msg, "a secret is written") {
						t.Errorf("%v\n%s", w, text)
					}
				}
			})
		}
	}
}
