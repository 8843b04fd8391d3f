package proxy

import (
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Snapshot is what decides: immutable, made by Prepare, replaced whole.
type Snapshot struct {
	Settings
	sites         map[string][]*site // by name; several if the file has it with several ports
	names         []string
	limits        []Limit // with their counters
	countsPulls   bool
	sealer        *sealer
	catalogSealer *sealer
	upstream      *Upstream
}

// Prepare builds a whole snapshot, or fails and changes nothing. Connections
// and tokens of an upstream whose settings did not change are kept.
func (h *Handler) Prepare(settings Settings) (*Snapshot, error) {
	s := &Snapshot{Settings: settings, sites: map[string][]*site{}}
	for _, name := range settings.Hostnames {
		at := newSite(name)
		s.sites[at.name] = append(s.sites[at.name], at)
		s.names = append(s.names, at.name)
	}
	s.limits = slices.Clone(settings.Limits)
	for i := range s.limits {
		s.limits[i].allowed = h.metrics.limits.WithLabelValues(s.limits[i].Name, "allowed")
		s.countsPulls = s.countsPulls || s.limits[i].Count == Pulls
	}
	s.sealer = newSealer(settings.Tokens.Derive("upload id"), settings.Upstream.URL.String())
	s.catalogSealer = newSealer(settings.Tokens.Derive("catalog cursor"), settings.Upstream.URL.String())
	if old := h.snapshot.Load(); old != nil && reflect.DeepEqual(old.Settings.Upstream, settings.Upstream) && reflect.DeepEqual(old.names, s.names) {
		s.upstream = old.upstream
		return s, nil
	}
	u, err := NewUpstream(settings.Upstream, UpstreamOptions{Log: h.Log, Now: h.Now})
	if err != nil {
		return nil, err
	}
	s.upstream = u
	return s, nil
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
