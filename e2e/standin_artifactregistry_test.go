package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// newArtifactRegistry starts a Google Artifact Registry. Its challenge has no
// service, its redirects of blobs are relative, and uploads go on outside
// /v2/. The password is a key file.
func newArtifactRegistry(t testing.TB) *standin {
	s := newStandin()
	s.user = "_json_key"
	s.password = `{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`
	s.public = true
	s.store.redirect = func(r *http.Request, a asked) string {
		if r.Method == http.MethodHead {
			return ""
		}
		return "/artifacts-downloads/namespaces/project/repositories/" + a.repository + "/downloads/" + a.rest + "?sig=a%2Bb"
	}
	s.store.location = func(_ *http.Request, path string) string {
		a, _ := takeApart(path)
		if a.kind != "blobs/uploads" {
			return path
		}
		return "/artifacts-uploads/namespaces/project/repositories/" + a.repository + "/uploads/" + a.rest
	}
	tokens := tokenService{s: s, lifetime: time.Hour, reply: func(string) map[string]any { return map[string]any{"expires_in": 3600} }}
	registry := s.registry(takes{bearer: true}, func(w http.ResponseWriter, r *http.Request, a asked, v verdict) {
		if v == insufficient {
			answerError(w, http.StatusForbidden, "DENIED", "Permission denied", nil)
			return
		}
		challenge := fmt.Sprintf(`Bearer realm="https://%s/v2/token"`, r.Host)
		if scope := a.scope(r.Method); scope != "" {
			challenge += fmt.Sprintf(`,scope="%s"`, scope)
		}
		w.Header().Set("Www-Authenticate", challenge)
		answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication failed", nil)
	})
	return s.serve(t, true, "", func(w http.ResponseWriter, r *http.Request) {
		const downloads, uploads = "/artifacts-downloads/namespaces/project/repositories/", "/artifacts-uploads/namespaces/project/repositories/"
		switch path := r.URL.Path; {
		case path == "/v2/token":
			tokens.ServeHTTP(w, r)
		case strings.HasPrefix(path, downloads):
			s.store.mu.Lock()
			defer s.store.mu.Unlock()
			if r.URL.RawQuery != "sig=a%2Bb" {
				s.fault("registry: a download without its signature: %s", r.RequestURI)
			}
			s.store.send(w, r, path[strings.LastIndex(path, "/")+1:])
		case strings.HasPrefix(path, uploads):
			at := r.Clone(r.Context())
			at.URL.Path = "/v2/" + strings.Replace(path[len(uploads):], "/uploads/", "/blobs/uploads/", 1)
			registry(w, at)
		default:
			registry(w, r)
		}
	})
}
