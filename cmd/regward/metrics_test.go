package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/regward/regward/proxy"
)

// TestTheMetricsAreThoseOfTheDocs keeps names and labels: dashboards live on
// them. Both ways: what is not listed is not promised, what is listed is there.
func TestTheMetricsAreThoseOfTheDocs(t *testing.T) {
	s := newServer(&app{stdout: newLines()}, configSource{})
	s.handler = proxy.New(proxy.Options{Log: zap.NewNop()})
	if err := s.metrics.register(); err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc)
	go func() { s.metrics.registry.Describe(descs); close(descs) }()
	parts := regexp.MustCompile(`fqName: "(regward_\w+)".*variableLabels: \{([\w,]*)\}`)
	var got []string
	for d := range descs {
		if m := parts.FindStringSubmatch(d.String()); m != nil {
			got = append(got, strings.TrimSpace(m[1]+" "+strings.ReplaceAll(m[2], ",", " ")))
		}
	}
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(regward_\\w+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		labels := strings.Fields(strings.NewReplacer("`", "", ",", "", "–", "").Replace(m[2]))
		listed = append(listed, strings.TrimSpace(m[1]+" "+strings.Join(labels, " ")))
	}
	slices.Sort(got)
	slices.Sort(listed)
	for _, m := range got {
		if !slices.Contains(listed, m) {
			t.Errorf("docs/metrics.md does not list %q", m)
		}
	}
	for _, m := range listed {
		if !slices.Contains(got, m) {
			t.Errorf("docs/metrics.md lists %q, which is not there", m)
		}
	}
}
