package main

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// serverMetrics are the registry of the process and the collectors of
// everything but requests. Their names are a promise: docs/metrics.md lists
// them.
type serverMetrics struct {
	server   *server
	registry *prometheus.Registry

	lastOK   prometheus.Gauge
	lastTime prometheus.Gauge
	reloads  *prometheus.CounterVec
}

func newServerMetrics(s *server) *serverMetrics {
	return &serverMetrics{
		server:   s,
		registry: prometheus.NewRegistry(),
		lastOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "regward_config_last_reload_successful",
			Help: "1 if the configuration was loaded when it was last tried, else 0.",
		}),
		lastTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "regward_config_last_reload_timestamp_seconds",
			Help: "When the configuration was last tried to load, in seconds since 1970.",
		}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "regward_config_reloads_total",
			Help: "Loads of the configuration by result: ok or failed. The start is one.",
		}, []string{"result"}),
	}
}

// register adds everything; the handler must be there.
func (m *serverMetrics) register() error {
	b := readBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "regward_build_info",
		Help:        "Always 1; the labels tell what runs.",
		ConstLabels: prometheus.Labels{"version": b.Version, "commit": b.Commit, "go": b.Go},
	})
	info.Set(1)
	m.reloads.WithLabelValues("ok")
	m.reloads.WithLabelValues("failed")
	var errs []error
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		info, m.lastOK, m.lastTime, m.reloads,
		newExpiryCollector(&m.server.certs),
		newCacheCollector(m.server),
		newDroppedCollector(m.server.logs),
		newFleetCollector(m.server),
		newRobotCollector(m.server),
		newRefreshCollector(m.server),
	} {
		errs = append(errs, m.registry.Register(c))
	}
	errs = append(errs, m.server.handler.Metrics().Register(m.registry))
	return errors.Join(errs...)
}

// loaded notes the end of one load.
func (m *serverMetrics) loaded(ok bool, at time.Time) {
	m.lastTime.Set(float64(at.UnixMilli()) / 1000)
	if ok {
		m.lastOK.Set(1)
		m.reloads.WithLabelValues("ok").Inc()
		return
	}
	m.lastOK.Set(0)
	m.reloads.WithLabelValues("failed").Inc()
}

// expiryCollector tells when certificates end, as they are at each scrape.
type expiryCollector struct {
	certs *certificates
	desc  *prometheus.Desc
}

func newExpiryCollector(c *certificates) *expiryCollector {
	return &expiryCollector{c, prometheus.NewDesc("regward_certificate_expiry_timestamp_seconds",
		"When the certificate for a name ends, in seconds since 1970.", []string{"name"}, nil)}
}

func (e *expiryCollector) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

func (e *expiryCollector) Collect(ch chan<- prometheus.Metric) {
	for name, end := range e.certs.expiry() {
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(end.Unix()), name)
	}
}

// cacheCollector tells how the memory of logins and tokens does.
type cacheCollector struct {
	server  *server
	lookups *prometheus.Desc
	entries *prometheus.Desc
	checks  *prometheus.Desc
	stale   *prometheus.Desc
}

func newCacheCollector(s *server) *cacheCollector {
	return &cacheCollector{
		s,
		prometheus.NewDesc("regward_auth_cache_lookups_total", "Logins and tokens whose answer was known (hit) or not (miss).", []string{"result"}, nil),
		prometheus.NewDesc("regward_auth_cache_entries", "Answers remembered, by kind.", []string{"kind"}, nil),
		prometheus.NewDesc("regward_login_checks_total", "What providers said of logins that were not known: right, wrong, not_mine, cannot_say, held_back.", []string{"provider", "result"}, nil),
		prometheus.NewDesc("regward_stale_logins_total", "Logins let in because nobody could say whether they were still good.", nil, nil),
	}
}

func (c *cacheCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.lookups, c.entries, c.checks, c.stale} {
		ch <- desc
	}
}

func (c *cacheCollector) Collect(ch chan<- prometheus.Metric) {
	hits, misses, proven, rejected, tokens := c.server.cache.Stats()
	count := func(result string, n uint64) {
		ch <- prometheus.MustNewConstMetric(c.lookups, prometheus.CounterValue, float64(n), result)
	}
	hold := func(kind string, n int) {
		ch <- prometheus.MustNewConstMetric(c.entries, prometheus.GaugeValue, float64(n), kind)
	}
	count("hit", hits)
	count("miss", misses)
	hold("proven", proven)
	hold("rejected", rejected)
	hold("token", tokens)
	for _, one := range c.server.cache.Checks() {
		ch <- prometheus.MustNewConstMetric(c.checks, prometheus.CounterValue, float64(one.N), one.Provider, one.Outcome.String())
	}
	ch <- prometheus.MustNewConstMetric(c.stale, prometheus.CounterValue, float64(c.server.cache.Stale()))
}

// droppedCollector tells which logs lost lines.
type droppedCollector struct {
	logs *logs
	desc *prometheus.Desc
}

func newDroppedCollector(l *logs) *droppedCollector {
	return &droppedCollector{l, prometheus.NewDesc("regward_log_lines_dropped_total",
		"Lines dropped because what the log is written to took them too slowly, or not at all, by log.", []string{"log"}, nil)}
}

func (d *droppedCollector) Describe(ch chan<- *prometheus.Desc) { ch <- d.desc }

func (d *droppedCollector) Collect(ch chan<- prometheus.Metric) {
	for log, name := range logNames {
		ch <- prometheus.MustNewConstMetric(d.desc, prometheus.CounterValue, float64(d.logs.dropped[log].Load()), name)
	}
}

// fleetCollector tells how it stands with the other instances.
type fleetCollector struct {
	server                         *server
	notShared, unsent, revocations *prometheus.Desc
}

func newFleetCollector(s *server) *fleetCollector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("regward_"+name, help, nil, nil) }
	return &fleetCollector{
		s,
		desc("not_shared_since_timestamp_seconds", "Since when revocations, overrides and reloads are not shared with other instances, in seconds since 1970; 0 while they are."),
		desc("unshared_changes", "Revocations, overrides and reloads of this instance that no other one has been told of."),
		desc("revocations", "Users whose logins and tokens from before a revocation count no more."),
	}
}

func (c *fleetCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.notShared, c.unsent, c.revocations} {
		ch <- desc
	}
}

func (c *fleetCollector) Collect(ch chan<- prometheus.Metric) {
	tell := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64) {
		ch <- prometheus.MustNewConstMetric(desc, kind, value)
	}
	tell(c.revocations, prometheus.GaugeValue, float64(c.server.cache.Revoked()))
	f := c.server.shared.fleet.Load()
	if f == nil {
		return
	}
	state, since := f.State(), 0.0
	if !state.Sharing() {
		since = float64(state.Since.Unix())
	}
	tell(c.notShared, prometheus.GaugeValue, since)
	tell(c.unsent, prometheus.GaugeValue, float64(state.Unsent))
}
