package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/regward/regward/proxy"
)

// healthHandler is what probes may see: three pages and nothing else.
func (s *server) healthHandler() http.Handler {
	mux := http.NewServeMux()
	s.addProbes(mux)
	return mux
}

func (s *server) addProbes(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
}

// readyz is 503 only before there is a configuration and a certificate and
// while draining. What is wrong with an upstream or with Redis is named, with 200: taking every
// instance out of service would turn a part of an outage into all of it.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	none := s.certs.ready()
	switch {
	case s.draining.Load():
		plain(w, http.StatusServiceUnavailable, "draining")
	case s.current() == nil:
		plain(w, http.StatusServiceUnavailable, "no configuration yet")
	case none != nil:
		plain(w, http.StatusServiceUnavailable, none.Error())
	default:
		text := "ready"
		for _, u := range s.upstreams(r.Context()) {
			for _, wrong := range u.wrong {
				text += "\nupstream " + u.name + ": " + wrong
			}
		}
		if wrong, since := s.redisWrong(); wrong != "" {
			text += "\nredis: " + wrong + ", since " + clock(since) + " UTC"
		}
		plain(w, http.StatusOK, text)
	}
}

func (s *server) current() *proxy.Snapshot {
	if s.handler == nil {
		return nil
	}
	return s.handler.Current()
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// adminHandler is what operators may see and do.
func (s *server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	s.addProbes(mux)
	mux.HandleFunc("POST /api/v1/reload", func(w http.ResponseWriter, r *http.Request) {
		by := r.URL.Query().Get("by")
		o := s.load("admin API", by)
		if o.OK {
			o.Others = s.askOthers(r.Context(), by)
		}
		status := http.StatusOK
		if !o.OK {
			status = http.StatusUnprocessableEntity
		}
		writeJSON(w, status, o)
	})
	mux.HandleFunc("GET /api/v1/refusals", s.refusals)
	mux.HandleFunc("GET /api/v1/status", s.status)
	mux.HandleFunc("GET /api/v1/limits", s.limits)
	mux.HandleFunc("POST /api/v1/limits/reset", s.resetLimit)
	mux.HandleFunc("GET /api/v1/limits/override", s.overrides)
	mux.HandleFunc("POST /api/v1/limits/override", s.setOverride)
	mux.HandleFunc("DELETE /api/v1/limits/override", s.endOverride)
	mux.HandleFunc("POST /api/v1/revoke", s.revoke)
	mux.HandleFunc("GET /api/v1/top", s.top)
	mux.HandleFunc("GET /api/v1/robots", s.listRobots)
	mux.HandleFunc("GET /api/v1/refresh", s.listRefresh)
	mux.HandleFunc("POST /api/v1/refresh/revoke", s.revokeRefresh)
	mux.HandleFunc("GET /debug/pprof/", s.pprof(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/cmdline", s.pprof(pprof.Cmdline))
	mux.HandleFunc("GET /debug/pprof/profile", s.pprof(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", s.pprof(pprof.Trace))
	return s.guard(s.whileUpgrading(mux))
}

// guard lets in who sits on this machine, and who brings the token of
// admin.token_file. A browser never: not with an Origin, and not under a
// foreign name that DNS rebinding made point here.
func (s *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case len(r.Header.Values("Origin")) > 0:
			plain(w, http.StatusForbidden, "requests of web pages are refused")
		case s.hasAdminToken(r) || isLocal(r):
			r.Body = http.MaxBytesReader(w, r.Body, 1<<16)
			next.ServeHTTP(w, r)
		default:
			plain(w, http.StatusForbidden, "only from this machine, or with the token of admin.token_file")
		}
	})
}

// hasAdminToken compares hashes, so that neither content nor length of the
// token shows in the time it takes.
func (s *server) hasAdminToken(r *http.Request) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	now := s.live.Load()
	if !ok || now == nil || now.admin == "" {
		return false
	}
	want, got := sha256.Sum256([]byte(now.admin)), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// isLocal reports whether a request comes from this machine, and from nobody
// that something on this machine speaks for.
func isLocal(r *http.Request) bool {
	for _, forwarded := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(forwarded)) > 0 {
			return false
		}
	}
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && addr.Network() == "unix" {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback() && isLocalName(r.Host)
}

// isLocalName reports whether a Host field names this machine in a way that
// nobody else's DNS can.
func isLocalName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return strings.EqualFold(host, "localhost")
}

func (s *server) pprof(page http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.live.Load().cfg.Admin.Pprof {
			plain(w, http.StatusNotFound, "admin.pprof is off")
			return
		}
		page(w, r)
	}
}

// refusalsAnswer is the answer of GET /api/v1/refusals.
type refusalsAnswer struct {
	Config   string          `json:"config"` // in force now
	Loaded   time.Time       `json:"loaded"`
	Refusals []proxy.Refusal `json:"refusals"` // newest first
}

func (s *server) refusals(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	q := proxy.RefusalQuery{
		RequestID:  query.Get("request_id"),
		Repository: query.Get("repository"),
		User:       query.Get("user"),
	}
	var err error
	if from := query.Get("from"); from != "" {
		if q.From, err = parseNetwork(from); err != nil {
			plain(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	if since := query.Get("since"); since != "" {
		if q.Since, err = time.Parse(time.RFC3339, since); err != nil {
			plain(w, http.StatusBadRequest, fmt.Sprintf("since: %q is no time as in 2026-11-21T09:02:00Z", since))
			return
		}
	}
	now := s.live.Load()
	found := s.handler.Refusals(q)
	if found == nil {
		found = []proxy.Refusal{}
	}
	writeJSON(w, http.StatusOK, refusalsAnswer{Config: now.cfg.Version, Loaded: now.at, Refusals: found})
}

// parseNetwork reads 10.0.0.0/8 or a single address.
func parseNetwork(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("from: %q is neither an address nor a network", s)
	}
	return p.Masked(), nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // the reader is gone
}

// readJSON reads the body of a request that changes something, or answers why
// it cannot. The guard bounds it.
func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields() // a misspelt "dry_run" must not become a rate
	if err := d.Decode(into); err != nil {
		plain(w, http.StatusBadRequest, "the body is not what is expected here: "+err.Error()+": is the command of another version than the instance?")
		return false
	}
	return true
}

// auditReload writes the audit line of a reload.
func (s *server) auditReload(trigger, by string, o outcome) {
	s.handler.Audit.Write("reload", zap.String("trigger", trigger), byWhom(by), zap.String("config", o.Version), zap.Strings("changes", o.Changes))
}

// byWhom is a log's field for who asked, if anybody is known.
func byWhom(by string) zap.Field {
	if by == "" {
		return zap.Skip()
	}
	return zap.String("by", by)
}
