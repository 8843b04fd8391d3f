package proxy

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the collectors of a Handler, with bounded labels: never a user
// or a repository.
type Metrics struct {
	requests   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	upstream   *prometheus.HistogramVec
	upstreams  *upstreamCollector
	bytes      *prometheus.CounterVec
	refused    *prometheus.CounterVec
	limits     *prometheus.CounterVec
	waited     *prometheus.CounterVec
	rules      *prometheus.CounterVec
	logins     *prometheus.CounterVec
	tokens     prometheus.Counter
	inFlight   prometheus.Gauge
	cutOff     prometheus.Counter
	bytesIn    prometheus.Counter
	bytesOut   prometheus.Counter
	namespaces *namespaceMetrics
	others     []prometheus.Collector // that look when they are asked
	routeTimes [KindUnknown + 1]prometheus.Observer
	served     [KindUnknown + 1]prometheus.Counter // GET, 200
}

// routeToken and the like are the labels of what is no route under /v2/.
const (
	routeToken  = "token"
	routeSearch = "search"
	routeOther  = "other"
)

// newMetrics makes those of h.
func newMetrics(h *Handler) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "regward", Name: name, Help: help}, labels)
	}
	m := &Metrics{
		requests: counter("requests_total", "Requests answered, by route, method and status.", "route", "method", "status"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "regward", Name: "request_duration_seconds",
			Help: "Time from the request's head to the answer's end, by route.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600}}, []string{"route"}),
		upstream: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "regward", Name: "upstream_header_seconds",
			Help: "Time until the upstream's answer began, by upstream.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60}}, []string{"upstream"}),
		bytes:    counter("bytes_total", "Bytes of bodies, from clients (in) and to clients (out).", "direction"),
		refused:  counter("refusals_total", "Requests refused, by reason.", "reason"),
		limits:   counter("limit_decisions_total", "Decisions of the limits: allowed, throttled, slowed (bytes), would_throttle.", "limit", "result"),
		waited:   counter("limit_wait_seconds_total", "How long limits of bytes held bodies up.", "limit"),
		rules:    counter("rule_decisions_total", "What dry runs of rules would have done: would_deny.", "rule", "result"),
		logins:   counter("logins_total", "Passwords presented: ok, rejected, locked_out, busy, error.", "result"),
		tokens:   prometheus.NewCounter(prometheus.CounterOpts{Namespace: "regward", Name: "tokens_issued_total", Help: "Bearer tokens issued."}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "regward", Name: "requests_in_flight", Help: "Requests being answered."}),
		cutOff:   prometheus.NewCounter(prometheus.CounterOpts{Namespace: "regward", Name: "answers_cut_off_total", Help: "Answers that broke off because the upstream or the client did."}),
	}
	m.upstreams, m.namespaces = newUpstreamCollector(h.Current), newNamespaceMetrics(h.Current)
	m.others = []prometheus.Collector{newOverrideCollector(h), newSharedCollector(h.shared), newBusiestCollector(h)}
	m.bytesIn, m.bytesOut = m.bytes.WithLabelValues("in"), m.bytes.WithLabelValues("out")
	for k := range m.routeTimes {
		m.routeTimes[k] = m.seconds.WithLabelValues(Kind(k).String())
		m.served[k] = m.requests.WithLabelValues(Kind(k).String(), "GET", "200")
	}
	return m
}

// Register adds them to a registry of the caller's own.
func (m *Metrics) Register(r prometheus.Registerer) error {
	all := []prometheus.Collector{m.requests, m.seconds, m.upstream, m.upstreams, m.bytes, m.refused, m.limits, m.waited, m.rules,
		m.logins, m.tokens, m.inFlight, m.cutOff, m.namespaces}
	for _, c := range append(all, m.others...) {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *Metrics) limit(name, result string) { m.limits.WithLabelValues(name, result).Inc() }
func (m *Metrics) login(result string)       { m.logins.WithLabelValues(result).Inc() }
func (m *Metrics) refuse(reason string)      { m.refused.WithLabelValues(reason).Inc() }

func (m *Metrics) wouldDeny(rule string) { m.rules.WithLabelValues(rule, "would_deny").Inc() }

// observe counts an exchange that is over.
func (m *Metrics) observe(x *exchange, took time.Duration) {
	x.tellPace()
	end := x.start.Add(took)
	x.h.talk.note(x, end)
	x.h.noteAddress(x, end)
	m.namespaces.note(x)
	route := x.route()
	if x.status == 200 && x.r.Method == "GET" && x.req.Kind != 0 {
		m.served[x.req.Kind].Inc() // by far the most
	} else {
		m.requests.WithLabelValues(route, methodLabel(x.r.Method), strconv.Itoa(x.status)).Inc()
	}
	if int(x.req.Kind) > 0 && int(x.req.Kind) < len(m.routeTimes) {
		m.routeTimes[x.req.Kind].Observe(took.Seconds())
	} else {
		m.seconds.WithLabelValues(route).Observe(took.Seconds())
	}
	if x.upstream != 0 && x.up != nil {
		x.up.seconds.Observe(x.upstreamTime.Seconds())
	}
	if x.in > 0 {
		m.bytesIn.Add(float64(x.in))
	}
	if x.out > 0 {
		m.bytesOut.Add(float64(x.out))
	}
	if x.aborted {
		m.cutOff.Inc()
	}
}

// methodLabel bounds the label: anybody can invent a method.
func methodLabel(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "other"
}

// route is the request's route as records and metrics name it.
func (x *exchange) route() string {
	switch {
	case x.req.Kind != 0:
		return x.req.Kind.String()
	case x.r.URL.Path == tokenPath:
		return routeToken
	case x.r.URL.Path == searchPath && x.s != nil && x.s.Search:
		return routeSearch
	}
	return routeOther
}

// upstreamCollector tells how the upstreams of the snapshot in force are.
type upstreamCollector struct {
	current                         func() *Snapshot
	up, refused, remaining, allowed *prometheus.Desc
	lookups, cut, digests           *prometheus.Desc // of shared_blobs
}

func newUpstreamCollector(current func() *Snapshot) *upstreamCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("regward_"+name, help, []string{"upstream"}, nil)
	}
	return &upstreamCollector{current,
		desc("upstream_up", "1 if the upstream answered as a registry does when it was last asked, else 0. Absent before."),
		desc("upstream_login_refused", "1 while the upstream turns regward's own login down or has locked it, else 0."),
		desc("upstream_pulls_remaining", "Pulls that the upstream still gives us, as it said last. Absent where it says nothing."),
		desc("upstream_pulls_limit", "Pulls that the upstream gives us in its window. Absent where it says nothing."),
		desc("shared_blobs_lookups_total", "Searches of a repository's manifests for a blob or manifest not known to belong to it."),
		desc("shared_blobs_lookups_cut_short_total", "Such searches that a bound ended before all was looked at."),
		desc("shared_blobs_digests", "Blobs and manifests whose repository is known."),
	}
}

func (c *upstreamCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.up, c.refused, c.remaining, c.allowed, c.lookups, c.cut, c.digests} {
		ch <- desc
	}
}

func (c *upstreamCollector) Collect(ch chan<- prometheus.Metric) {
	snapshot := c.current()
	if snapshot == nil {
		return
	}
	told := map[string]bool{} // two of a name would spoil the whole scrape
	for _, u := range snapshot.Behind() {
		if told[u.Name()] {
			continue
		}
		told[u.Name()] = true
		c.tell(ch, u)
	}
}

func (c *upstreamCollector) tell(ch chan<- prometheus.Metric, u *Upstream) {
	tell := func(desc *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, u.Name())
	}
	count := func(desc *prometheus.Desc, n int64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), u.Name())
	}
	s := u.State()
	if s.Known {
		tell(c.up, oneIf(s.Up))
	}
	tell(c.refused, oneIf(s.Login != ""))
	if s.Budget != nil {
		tell(c.remaining, float64(s.Budget.Remaining))
		if s.Budget.Limit > 0 {
			tell(c.allowed, float64(s.Budget.Limit))
		}
	}
	if u.settings.SharedBlobs != nil && *u.settings.SharedBlobs {
		blobs := u.SharedBlobs()
		count(c.lookups, blobs.Lookups)
		count(c.cut, blobs.Bounded)
		tell(c.digests, float64(blobs.Digests))
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
