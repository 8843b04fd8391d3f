package proxy

import (
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/cors"

	"github.com/regward/regward/auth"
)

// Snapshot is what decides: immutable, made by Prepare, replaced whole.
type Snapshot struct {
	Settings
	sites         map[string][]*site // by name; several if the file has it with several ports
	names         []string
	limits        []Limit // with their counters, as configured
	eased         atomic.Pointer[easing]
	countsPulls   bool
	countsBytes   bool
	countsPlaces  bool // transfers
	places        *auth.Places
	backends      []*backend // in the order of places
	catalogSealer *sealer
	passwords     *provider  // of passwords that are for all upstreams but those in passthrough; nil: none
	cors          *cors.Cors // nil: for no page
	foreign       *http.CrossOriginProtection
	groups        *auth.GroupSet
	others        map[string]*provider // by hostname: who proves names for what is not in passthrough
}

// backend is an upstream as a snapshot uses it.
type backend struct {
	*Upstream
	at      int       // its place
	uploads *sealer   // of upload ids
	pages   *sealer   // of cursors
	quiet   sometimes // its having no catalog is no news
	seconds prometheus.Observer
	safe    safe      // of callers' own credentials (passthrough)
	logins  *provider // in passthrough: the upstream itself; else nil
}

// Prepare builds a whole snapshot, or fails and changes nothing. Connections
// and tokens of an upstream whose settings did not change are kept.
func (h *Handler) Prepare(settings Settings) (*Snapshot, error) {
	s := &Snapshot{Settings: settings, sites: map[string][]*site{}}
	s.Upstreams = slices.Clone(settings.Upstreams)
	for _, name := range settings.Hostnames {
		at := newSite(name)
		s.sites[at.name] = append(s.sites[at.name], at)
		s.names = append(s.names, at.name)
	}
	s.limits = slices.Clone(settings.Limits)
	for i := range s.limits {
		l := &s.limits[i]
		l.allowed = h.metrics.limits.WithLabelValues(l.Name, "allowed")
		s.countsPulls = s.countsPulls || l.Count == Pulls
		s.countsPlaces = s.countsPlaces || l.Count == Transfers
		if l.Count == Bytes {
			s.countsBytes = true
			l.waited = h.metrics.waited.WithLabelValues(l.Name)
		}
	}
	s.prepareGroups()
	if err := s.prepareOrigins(); err != nil {
		return nil, err
	}
	if err := h.prepareUpstreams(s); err != nil {
		return nil, err
	}
	if err := h.prepareLogins(s); err != nil {
		return nil, err
	}
	return s, nil
}

// prepareGroups finds out which groups anything asks about.
func (s *Snapshot) prepareGroups() {
	var subjects []auth.Subject
	var patterns []auth.Pattern
	every := false
	for i := range s.limits {
		l := &s.limits[i]
		subjects = slices.Concat(subjects, l.Subjects, l.ExemptWho)
		patterns = append(patterns, l.Repositories...)
		named := slices.ContainsFunc(l.Subjects, func(one auth.Subject) bool { return one.Kind() == "group" })
		every = every || l.Per == PerGroup && !named // it counts each for itself
	}
	s.groups = s.Policy.Groups(subjects, patterns, every)
}

// prepareUpstreams keeps those of the snapshot in force that are the same.
func (h *Handler) prepareUpstreams(s *Snapshot) (err error) {
	list := make([]auth.Place, len(s.Upstreams))
	urls := make([]string, len(s.Upstreams))
	for i, u := range s.Upstreams {
		list[i], urls[i] = u.Place, u.URL.String()
	}
	if s.places, err = auth.NewPlaces(list); err != nil {
		return err
	}
	s.catalogSealer = newSealer(s.Tokens.Derive("catalog cursor"), strings.Join(urls, " "))
	for i, settings := range s.Upstreams {
		u, err := h.keptUpstream(settings, s.backends)
		if err != nil {
			return err
		}
		s.backends = append(s.backends, &backend{Upstream: u, at: i,
			uploads: newSealer(s.Tokens.Derive("upload id"), urls[i]),
			pages:   newSealer(s.Tokens.Derive("page cursor"), urls[i]),
			safe:    newSafe(s.Tokens.Derive("passthrough credential"), urls[i]),
			seconds: h.metrics.upstream.WithLabelValues(settings.Name),
		})
	}
	return nil
}

// keptUpstream is the one in force with these settings, or a new one beside
// others.
func (h *Handler) keptUpstream(settings UpstreamSettings, others []*backend) (*Upstream, error) {
	old := h.snapshot.Load()
	if old != nil {
		for i, b := range old.backends {
			if reflect.DeepEqual(old.Upstreams[i], settings) {
				return b.Upstream, nil
			}
		}
	}
	u, err := NewUpstream(settings, UpstreamOptions{Log: h.Log, Now: h.Now, notes: h.notes})
	if err == nil && !u.shareGuesses(others) && old != nil {
		u.shareGuesses(old.backends)
	}
	return u, err
}

// uses reports whether the snapshot has the upstream.
func (s *Snapshot) uses(u *Upstream) bool {
	return slices.ContainsFunc(s.backends, func(b *backend) bool { return b.Upstream == u })
}

// fold is how user names are compared.
func (s *Settings) fold(user string) string {
	if s.CaseSensitive {
		return user
	}
	return strings.ToLower(user)
}

// site is one hostname.
type site struct {
	name string // without port; service and audience
	port string // as configured; "" is that of the request
}

// site is what a client dialled, nil if it is not served here: whatever the
// port (P11), but of several entries the one with that port.
func (s *Snapshot) site(name, port string) *site {
	entries := s.sites[name]
	if port == "" {
		port = "443"
	}
	for _, at := range entries {
		if at.port == port {
			return at
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return entries[0]
}

func newSite(host string) *site {
	if ap, err := netip.ParseAddrPort(host); err == nil {
		return &site{name: ap.Addr().String(), port: strconv.Itoa(int(ap.Port()))}
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return &site{name: a.String()}
	}
	name, port, _ := strings.Cut(strings.ToLower(host), ":")
	return &site{name: name, port: port}
}

// address is what clients dial: the name, with the configured port or else
// that of the request.
func (t *site) address(port string) string {
	if t.port != "" {
		port = t.port
	}
	name := t.name
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if port == "" || port == "443" {
		return name
	}
	return name + ":" + port
}
