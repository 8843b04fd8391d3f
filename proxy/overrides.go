package proxy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/regward/regward/ratelimit"
)

// maxOverrides bounds those in force at once; there are seldom two.
const maxOverrides = 1000

// Override changes limits until a time, whatever is reloaded meanwhile.
type Override struct {
	Limit  string // its name; "" is all of them but those of failed logins
	Rate   string // as in the configuration of a limit of that count; "" leaves it
	DryRun bool   // false leaves it
	Until  time.Time
}

// covers reports whether o is about l. To count every limit and refuse nobody is
// for guests who get in; who guesses passwords stays locked out, unless the limit
// is named.
func (o *Override) covers(l *Limit) bool {
	return o.Limit == l.Name || o.Limit == "" && l.Count != FailedLogins
}

// overrides are those in force, by the order in which they were made.
type overrides struct {
	mu   sync.Mutex // over list, and over which snapshot is in force
	list []Override
}

// easing are the limits of a snapshot with overrides put over them.
type easing struct {
	limits []Limit
	list   []Override
	until  time.Time // when the first of them ends
}

// limitsAt are the limits as they hold now. It takes no lock, and no memory but
// once when an override has ended.
func (s *Snapshot) limitsAt(now time.Time) []Limit {
	e := s.eased.Load()
	if e == nil {
		return s.limits
	}
	if now.Before(e.until) {
		return e.limits
	}
	next := s.ease(e.list, now)
	s.eased.CompareAndSwap(e, next) // else somebody has changed them meanwhile
	if next == nil {
		return s.limits
	}
	return next.limits
}

// ease puts overrides over the limits, later ones over earlier; nil: none is in
// force.
func (s *Snapshot) ease(list []Override, now time.Time) *easing {
	e := &easing{limits: slices.Clone(s.limits), list: inForce(list, now)}
	if len(e.list) == 0 {
		return nil
	}
	for _, o := range e.list {
		if e.until.IsZero() || o.Until.Before(e.until) {
			e.until = o.Until
		}
		for i := range e.limits {
			if l := &e.limits[i]; o.covers(l) {
				_ = l.override(o) // what does not fit any more after a reload leaves the limit as it is
			}
		}
	}
	return e
}

func inForce(list []Override, now time.Time) (in []Override) {
	for _, o := range list {
		if now.Before(o.Until) {
			in = append(in, o)
		}
	}
	return in
}

// override changes l, or says why it cannot. A burst that l has of its own stays:
// 40/s with a burst of 4000, eased to 200/s, must not let fewer come at once.
func (l *Limit) override(o Override) (err error) {
	rate, most := l.Rate, l.Most
	switch {
	case o.Rate == "":
	case l.Count == Transfers:
		if most, err = strconv.Atoi(o.Rate); err != nil || most <= 0 {
			return fmt.Errorf("limit %s counts transfers: %q is not how many may run at once, as 8", l.Name, short(o.Rate))
		}
	case l.Count == Bytes:
		if rate, err = ratelimit.ParseByteRate(o.Rate); err != nil {
			return fmt.Errorf("limit %s: %w", l.Name, err)
		}
		if usual, err := ratelimit.ParseByteRate(l.Rate.ByteString()); err == nil && usual.Burst != l.Rate.Burst {
			rate.Burst = l.Rate.Burst
		}
	default:
		if rate, err = ratelimit.ParseRate(o.Rate); err != nil {
			return fmt.Errorf("limit %s: %w", l.Name, err)
		}
		if l.Rate.Burst != l.Rate.Events {
			rate.Burst = l.Rate.Burst
		}
	}
	l.Rate, l.Most, l.DryRun = rate, most, l.DryRun || o.DryRun
	return nil
}

// Override changes a limit, or all, from this moment on, in place of an earlier
// override of the same. It ends at its time by itself and survives reloads. An
// error says that there is no such limit, that the rate is none for what it
// counts, or that it would change nothing.
func (h *Handler) Override(o Override) error {
	h.overrides.mu.Lock()
	defer h.overrides.mu.Unlock()
	now := h.Now()
	if err := h.checkOverride(o, now); err != nil {
		return err
	}
	list := slices.DeleteFunc(inForce(h.overrides.list, now), func(old Override) bool { return old.Limit == o.Limit })
	if len(list) >= maxOverrides {
		return fmt.Errorf("%d overrides are in force; no more can be", len(list))
	}
	h.override(append(list, o), now)
	return nil
}

func (h *Handler) checkOverride(o Override, now time.Time) error {
	switch {
	case o.Rate == "" && !o.DryRun:
		return fmt.Errorf("an override changes the rate, or makes a limit a dry run")
	case !now.Before(o.Until):
		return fmt.Errorf("an override until %s would be over", o.Until.UTC().Format(time.RFC3339))
	case o.Limit == "" && o.Rate != "":
		return fmt.Errorf("limits count different things: override the rate of one of them by its name")
	case o.Limit == "":
		return nil
	}
	var names []string
	if s := h.Current(); s != nil {
		for _, l := range s.limits {
			if l.Name == o.Limit {
				return l.override(o)
			}
			names = append(names, l.Name)
		}
	}
	return fmt.Errorf("there is no limit %q; there are %s", short(o.Limit), strings.Join(names, ", "))
}

// SetOverrides puts all overrides in force that are, as other instances tell
// them. What they say of limits that are not here, or by rates that do not fit,
// is kept for a configuration where they do. Those beyond the bound are dropped.
func (h *Handler) SetOverrides(list []Override) {
	h.overrides.mu.Lock()
	defer h.overrides.mu.Unlock()
	now := h.Now()
	list = inForce(list, now)
	h.override(list[:min(len(list), maxOverrides)], now)
}

// ClearOverride ends the override of a limit, "" that of all, before its time.
// It reports whether there was one.
func (h *Handler) ClearOverride(limit string) bool {
	h.overrides.mu.Lock()
	defer h.overrides.mu.Unlock()
	now := h.Now()
	list := inForce(h.overrides.list, now)
	n := len(list)
	h.override(slices.DeleteFunc(list, func(o Override) bool { return o.Limit == limit }), now)
	return len(h.overrides.list) < n
}

// Overrides are those in force now, in the order in which they were made.
func (h *Handler) Overrides() []Override {
	h.overrides.mu.Lock()
	defer h.overrides.mu.Unlock()
	return inForce(h.overrides.list, h.Now())
}

// Limits are the limits of now, overrides put over them; nil before the first
// Swap.
func (h *Handler) Limits() []Limit {
	s := h.Current()
	if s == nil {
		return nil
	}
	return slices.Clone(s.limitsAt(h.Now()))
}

// override puts a list in force; its lock is held.
func (h *Handler) override(list []Override, now time.Time) {
	h.overrides.list = list
	if s := h.snapshot.Load(); s != nil {
		s.eased.Store(s.ease(list, now))
	}
}

// enforce makes s the snapshot in force, its limits with the overrides of now.
func (h *Handler) enforce(s *Snapshot) (old *Snapshot) {
	h.overrides.mu.Lock()
	defer h.overrides.mu.Unlock()
	s.eased.Store(s.ease(h.overrides.list, h.Now()))
	h.notes.use(s.Tokens.Derive("notes"))
	return h.snapshot.Swap(s)
}

// overrideCollector tells until when limits are overridden.
type overrideCollector struct {
	h    *Handler
	desc *prometheus.Desc
}

func newOverrideCollector(h *Handler) *overrideCollector {
	return &overrideCollector{h, prometheus.NewDesc("regward_limit_override_until_timestamp_seconds",
		"When the override of a limit ends, in seconds since 1970. Absent for limits that are as configured.", []string{"limit"}, nil)}
}

func (c *overrideCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

func (c *overrideCollector) Collect(ch chan<- prometheus.Metric) {
	list := c.h.Overrides()
	s := c.h.Current()
	if len(list) == 0 || s == nil {
		return
	}
	for i := range s.limits {
		l := &s.limits[i]
		var until time.Time
		for _, o := range list {
			if o.covers(l) && o.Until.After(until) {
				until = o.Until
			}
		}
		if !until.IsZero() {
			ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(until.Unix()), l.Name)
		}
	}
}
