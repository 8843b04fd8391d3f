package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// newGitea starts a Gitea or Forgejo: two challenges in one field, one token
// for all that the user may.
func newGitea(t testing.TB) *standin {
	s := newStandin()
	s.public = true
	tokens := tokenService{s: s, whole: true, lifetime: time.Hour}
	registry := s.registry(takes{basic: true, bearer: true}, func(w http.ResponseWriter, r *http.Request, _ asked, _ verdict) {
		root := "https://" + s.host // as configured, not as asked
		w.Header().Set("Www-Authenticate", fmt.Sprintf(
			`Bearer realm="%s/v2/token",service="container_registry",scope="*",Basic realm="%s/v2",service="container_registry",scope="*"`, root, root))
		answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "", nil)
	})
	return s.serve(t, true, "", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/token" {
			tokens.ServeHTTP(w, r)
			return
		}
		registry(w, r)
	})
}
