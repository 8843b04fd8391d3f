package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/regward/regward/configs"
)

// redirect answers on tls.http_listen: GET and HEAD go to https, everything
// else is refused. It never takes a credential (X07): a request that brings
// one has leaked it already and must not seem to work.
func (s *server) redirect(w http.ResponseWriter, r *http.Request) {
	cfg := s.live.Load().cfg
	target, ok := httpsHost(cfg, s.listeners.first, r.Host)
	switch {
	case !ok:
		refusePlain(w, http.StatusMisdirectedRequest, "this name is not served here")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		refusePlain(w, http.StatusMethodNotAllowed, "use https://"+target)
	case len(r.Header.Values("Authorization")) > 0:
		refusePlain(w, http.StatusForbidden, "never send a password over plain http; use https://"+target)
	default:
		to := url.URL{Scheme: "https", Host: target, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
		w.Header().Set("Location", to.String())
		w.WriteHeader(http.StatusPermanentRedirect)
	}
}

// refusePlain answers in the distribution spec's form and ends the connection.
func refusePlain(w http.ResponseWriter, status int, msg string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Connection", "close")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"errors\":[{\"code\":\"DENIED\",\"message\":%q}]}\n", msg)
}

// httpsHost is where https answers for the name a client asked for. Only
// configured names are named, whatever the client sent (K3). at is the first
// listener of clients; nil: its address as configured says all.
func httpsHost(cfg *configs.Config, at net.Addr, host string) (string, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	for _, name := range cfg.Hostname {
		bare := bareHosts([]string{name})[0]
		if bare != host {
			continue
		}
		if bare != name { // it has a port
			return name, true
		}
		if strings.Contains(bare, ":") {
			bare = "[" + bare + "]"
		}
		if port := httpsPort(cfg.Listen[0], at); port != "" && port != "443" {
			return bare + ":" + port, true
		}
		return bare, true
	}
	return "", false
}

// httpsPort is the port of the first listener, "" if it has none: what is in
// front of a unix socket has its own.
func httpsPort(listen string, at net.Addr) string {
	if strings.HasPrefix(listen, fromSystemd) && at != nil {
		listen = at.String()
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil || strings.HasPrefix(listen, "unix:") || strings.HasPrefix(listen, fromSystemd) {
		return ""
	}
	return port
}
