package proxy

import (
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	addressWindow  = 5 * time.Minute
	addressSlots   = 64
	addressEnough  = 1000 // requests in a window that say anything
	addressPercent = 90   // of them from one address are nearly all
)

// oneAddress finds out whether nearly all clients have one address: a load
// balancer that hides theirs, so that limits per address count all as one (M12).
type oneAddress struct {
	mu     sync.Mutex
	start  time.Time // of the window
	total  int
	addrs  [addressSlots]netip.Addr
	counts [addressSlots]int // at most: who took over the place of another has its count
	errs   [addressSlots]int // by how much it may be too high

	last   Busiest // of the last window that said anything
	warned sometimes
}

// Busiest is the address with most requests in five minutes.
type Busiest struct {
	Addr     netip.Addr
	Percent  int // of all requests
	Requests int // of all
}

// note counts a request; where a window ends it returns what was in it.
func (o *oneAddress) note(a netip.Addr, now time.Time) (b Busiest, over bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if passed := now.Sub(o.start); passed >= addressWindow || passed < 0 {
		b, over = o.busiest(), passed >= 0 && o.total >= addressEnough
		if over {
			o.last = b
		}
		o.start, o.total = now, 0
		clear(o.addrs[:])
		clear(o.counts[:])
		clear(o.errs[:])
	}
	o.total++
	lightest := 0
	for i := range o.addrs {
		if o.addrs[i] == a || o.counts[i] == 0 {
			o.addrs[i] = a
			o.counts[i]++
			if i > 0 && o.counts[i] > o.counts[i-1] { // the busiest are found first
				o.swap(i, i-1)
			}
			return b, over
		}
		if o.counts[i] < o.counts[lightest] {
			lightest = i
		}
	}
	o.addrs[lightest], o.errs[lightest] = a, o.counts[lightest]
	o.counts[lightest]++
	return b, over
}

func (o *oneAddress) swap(i, j int) {
	o.addrs[i], o.addrs[j] = o.addrs[j], o.addrs[i]
	o.counts[i], o.counts[j] = o.counts[j], o.counts[i]
	o.errs[i], o.errs[j] = o.errs[j], o.errs[i]
}

// busiest is told with no more than it surely had.
func (o *oneAddress) busiest() (b Busiest) {
	most := 0
	for i := range o.addrs {
		if n := o.counts[i] - o.errs[i]; n > most {
			most, b.Addr = n, o.addrs[i]
		}
	}
	if b.Requests = o.total; o.total > 0 {
		b.Percent = 100 * most / o.total
	}
	return b
}

// Busiest is the address with most requests in the last whole five minutes with
// a thousand requests or more; false if there were none.
func (h *Handler) Busiest() (Busiest, bool) {
	h.one.mu.Lock()
	defer h.one.mu.Unlock()
	return h.one.last, h.one.last.Requests > 0
}

// noteAddress counts the exchange, and says so, once an hour, when nearly all
// came from one address while limits tell clients apart by that.
func (h *Handler) noteAddress(x *exchange, now time.Time) {
	if x.s == nil || !x.addr.IsValid() {
		return
	}
	b, over := h.one.note(x.addr, now)
	if !over || b.Percent < addressPercent || !x.s.tellsApart() {
		return
	}
	h.one.warned.every(now, time.Hour, func() { h.Log.Warn(b.words(x.s)) })
}

func (b *Busiest) words(s *Snapshot) string {
	msg := strconv.Itoa(b.Percent) + " % of " + thousands(b.Requests) + " requests in 5 minutes came from " + b.Addr.String() +
		": is that a load balancer? Limits per ip count all clients as one. "
	switch {
	case inside(s.Proxies, b.Addr):
		return msg + "It is in trusted_proxies but sends no X-Forwarded-For."
	case inside(s.Senders, b.Addr):
		return msg + "It is in proxy_protocol.from but its PROXY headers name no client."
	}
	return msg + "Set proxy_protocol.from or trusted_proxies to [" + b.Addr.String() + "]."
}

// tellsApart reports whether limits tell clients apart by their address.
func (s *Snapshot) tellsApart() bool {
	for i := range s.limits {
		switch s.limits[i].Per {
		case PerIP, PerClient, PerIPUser:
			return true
		}
	}
	return false
}

// thousands writes 12400 as 12,400.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// busiestCollector tells the share, and never the address.
type busiestCollector struct {
	h    *Handler
	desc *prometheus.Desc
}

func newBusiestCollector(h *Handler) *busiestCollector {
	return &busiestCollector{h, prometheus.NewDesc("regward_busiest_address_ratio",
		"Share of the requests of five minutes that came from one address, the busiest. Absent before a thousand came in such a time.", nil, nil)}
}

func (c *busiestCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *busiestCollector) Collect(ch chan<- prometheus.Metric) {
	if b, ok := c.h.Busiest(); ok {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(b.Percent)/100)
	}
}
