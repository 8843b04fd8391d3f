package e2e

import (
	"net/http"
	"strings"
)

// asDistribution is the Location of a registry that believes the forwarded
// headers, and of several hosts the first. What an upload is about goes along
// in the query.
func asDistribution(r *http.Request, path string) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if proto := r.Header.Get("X-Forwarded-Proto"); proto != "" {
		scheme = proto
	}
	if forwarded := r.Header.Get("X-Forwarded-Host"); forwarded != "" {
		host, _, _ = strings.Cut(forwarded, ",")
	}
	if strings.Contains(path, "/uploads/") {
		path += "?_state=" + stateOf(path)
	}
	return scheme + "://" + strings.TrimSpace(host) + path
}

// stateOf is a signed state; it has to come back byte for byte.
func stateOf(path string) string { return "Zm9y%2B" + sum([]byte(path))[7:] + "%3D%3D" }

// stateful demands the state of an upload's URL.
func (s *standin) stateful(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if a, ok := takeApart(r.URL.Path); ok && a.kind == "blobs/uploads" && a.rest != "" {
			if want := "_state=" + stateOf(r.URL.Path); !strings.Contains(r.URL.RawQuery, want) {
				s.fault("registry: upload goes on without its state: %s %s", r.Method, r.RequestURI)
			}
		}
		h(w, r)
	}
}
