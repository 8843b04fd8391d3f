package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// newGHCR starts a GitHub Container Registry. Without a token nobody gets
// anything, public or not, and an index is unknown to who does not list its
// type. Blobs are on another host.
func newGHCR(t testing.TB) *standin {
	s := newStandin()
	s.public = true
	packages := s.storage(t, "localhost")
	s.storedAt(packages)
	s.extra = "\n  redirect_hosts: [" + quoted(strings.TrimPrefix(packages, "https://")) + "]"
	s.store.manifest = func(w http.ResponseWriter, r *http.Request, _ asked, mediaType string) bool {
		if !strings.Contains(mediaType, "index") || strings.Contains(strings.Join(r.Header["Accept"], ","), mediaType) {
			return true
		}
		answerError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "OCI index found, but Accept header does not support OCI indexes", nil)
		return false
	}
	tokens := tokenService{s: s, service: "ghcr.io", lifetime: 5 * time.Minute}
	registry := s.registry(takes{bearer: true}, func(w http.ResponseWriter, r *http.Request, a asked, v verdict) {
		if v == insufficient {
			answerError(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied", nil)
			return
		}
		scope := a.scope(r.Method)
		if scope == "" {
			scope = "repository:user/image:pull" // the ping has one too
		}
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="https://%s/token",service="ghcr.io",scope="%s"`, r.Host, scope))
		answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil)
	})
	return s.serve(t, true, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Github-Request-Id", "0000:0000:0000")
		if r.URL.Path == "/token" {
			tokens.ServeHTTP(w, r)
			return
		}
		registry(w, r)
	})
}
