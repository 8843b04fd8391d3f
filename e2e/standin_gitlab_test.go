package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// newGitLab starts a GitLab: the token service is on another host than the
// registry, and a refusal tells the path of the project.
func newGitLab(t testing.TB) *standin {
	s := newStandin()
	s.public = true
	s.store.location = asDistribution
	tokens := tokenService{s: s, service: "container_registry", lifetime: 5 * time.Minute}
	gitlab := s.listen(t, "tokens", "localhost", true, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/jwt/auth" {
			http.NotFound(w, r)
			return
		}
		tokens.ServeHTTP(w, r)
	})
	s.extra = "\n  token_hosts: [localhost]"
	return s.serve(t, true, "", s.stateful(s.registry(takes{bearer: true},
		func(w http.ResponseWriter, r *http.Request, a asked, v verdict) {
			challenge := fmt.Sprintf(`Bearer realm="%s/jwt/auth",service="container_registry"`, gitlab)
			var detail any
			if scope := a.scope(r.Method); scope != "" {
				challenge += fmt.Sprintf(`,scope="%s"`, scope)
				detail = []map[string]string{{
					"Type": "repository", "Class": "", "Name": a.repository, "ProjectPath": a.repository, "Action": a.action(r.Method),
				}}
			}
			switch v {
			case wrongToken:
				challenge += `,error="invalid_token"`
			case insufficient:
				challenge += `,error="insufficient_scope"`
			}
			w.Header().Set("Www-Authenticate", challenge)
			answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", detail)
		})))
}
