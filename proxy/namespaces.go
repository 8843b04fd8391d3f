package proxy

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxNamespaces bounds the label of metrics.per_namespace; those that come
	// later are counted together.
	maxNamespaces  = 500
	otherNamespace = "other"
)

// namespaceMetrics are those of metrics.per_namespace. A namespace is known once
// something was given from there or put there: names that somebody makes up
// count as others.
type namespaceMetrics struct {
	current func() *Snapshot
	mu      sync.RWMutex
	known   map[string]*namespaceCounts
	other   namespaceCounts

	requests, pulls, pushes, bytes *prometheus.Desc
}

type namespaceCounts struct{ requests, pulls, pushes, in, out atomic.Int64 }

func newNamespaceMetrics(current func() *Snapshot) *namespaceMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("regward_namespace_"+name, help, append([]string{"namespace"}, labels...), nil)
	}
	return &namespaceMetrics{current: current, known: map[string]*namespaceCounts{},
		requests: desc("requests_total", "Requests that rules allowed, by namespace. Absent without metrics.per_namespace."),
		pulls:    desc("pulls_total", "Pulls that were given, by namespace; what belongs to one counted before is none. Absent without metrics.per_namespace."),
		pushes:   desc("pushes_total", "Manifests that were put, by namespace. Absent without metrics.per_namespace."),
		bytes:    desc("bytes_total", "Bytes of bodies, by namespace. Absent without metrics.per_namespace.", "direction"),
	}
}

// note counts an exchange that is over.
func (m *namespaceMetrics) note(x *exchange) {
	if x.s == nil || !x.s.PerNamespace || !x.decided || !x.decision.Allowed() || x.repo.Repository == "" {
		return
	}
	c := m.of(namespace(&x.repo, x.buckets.prefix), x.refusal == nil && x.status/100 == 2)
	c.requests.Add(1)
	switch {
	case x.event == "pull" && !x.free:
		c.pulls.Add(1)
	case x.event == "push":
		c.pushes.Add(1)
	}
	c.in.Add(x.in)
	c.out.Add(x.out)
}

func (m *namespaceMetrics) of(name string, real bool) *namespaceCounts {
	m.mu.RLock()
	c, ok := m.known[name]
	m.mu.RUnlock()
	if ok || !real {
		if ok {
			return c
		}
		return &m.other
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok = m.known[name]; ok {
		return c
	}
	if len(m.known) >= maxNamespaces || name == otherNamespace {
		return &m.other
	}
	c = &namespaceCounts{}
	m.known[strings.Clone(name)] = c
	return c
}

// Describe implements prometheus.Collector.
func (m *namespaceMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.requests, m.pulls, m.pushes, m.bytes} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *namespaceMetrics) Collect(ch chan<- prometheus.Metric) {
	if s := m.current(); s == nil || !s.PerNamespace {
		return
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for name, c := range m.known {
		m.tell(ch, name, c)
	}
	m.tell(ch, otherNamespace, &m.other)
}

func (m *namespaceMetrics) tell(ch chan<- prometheus.Metric, name string, c *namespaceCounts) {
	count := func(d *prometheus.Desc, n *atomic.Int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n.Load()), append([]string{name}, labels...)...)
	}
	count(m.requests, &c.requests)
	count(m.pulls, &c.pulls)
	count(m.pushes, &c.pushes)
	count(m.bytes, &c.in, "in")
	count(m.bytes, &c.out, "out")
}
