package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// newArtifactory starts an Artifactory, reached by its native path. It takes
// the login itself, and makes its URLs of a header that only its own proxies
// send; without it, of the Host.
func newArtifactory(t testing.TB) *standin {
	const path = "/artifactory/api/docker/docker-local"
	s := newStandin()
	s.store.location = func(r *http.Request, inner string) string {
		if base := r.Header.Get("X-Jfrog-Override-Base-Url"); base != "" {
			s.fault("registry: somebody else's base URL: %s", base)
			return base + "/api/docker/docker-local" + inner
		}
		return "http://" + r.Host + path + inner
	}
	tokens := tokenService{
		s: s, onPost: http.StatusUnauthorized,
		reply: func(token string) map[string]any { return map[string]any{"access_token": token, "expires_in": 3600} },
	}
	registry := s.registry(takes{basic: true, bearer: true}, func(w http.ResponseWriter, _ *http.Request, _ asked, v verdict) {
		if v == insufficient {
			answerError(w, http.StatusForbidden, "DENIED", "forbidden", nil)
			return
		}
		w.Header().Set("Www-Authenticate", `Basic realm="Artifactory Realm"`)
		answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication is required", nil)
	})
	return s.serve(t, false, path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Artifactory-Id", "0123456789abcdef")
		inner, ok := strings.CutPrefix(r.URL.Path, path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		if inner == "/v2/token" {
			tokens.ServeHTTP(w, r)
			return
		}
		at := r.Clone(r.Context())
		at.URL.Path = inner
		registry(w, at)
	})
}
