package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// newHarbor starts a Harbor. Its account is a robot, with the dollar sign such
// names have; whether it is an administrator decides about the catalog.
func newHarbor(t testing.TB, administrator bool) *standin {
	s := newStandin()
	s.user, s.public = "robot$regward", true
	mayAll := s.rights
	s.rights = func(user, repository, action string) bool {
		return mayAll(user, repository, action) && (administrator || repository != "registry:catalog")
	}
	locks := shortLock{until: map[string]time.Time{}}
	s.login = func(user, password string) int { return locks.judge(user, s.check(user, password)) }
	s.store.location = asDistribution
	const minutes = 30
	tokens := tokenService{
		s: s, service: "harbor-registry", lifetime: minutes * time.Minute,
		reply: func(string) map[string]any {
			return map[string]any{"expires_in": minutes * 60, "issued_at": time.Now().UTC().Format(time.RFC3339)}
		},
	}
	registry := s.stateful(s.registry(takes{basic: true, bearer: true}, refuseAsHarbor))
	s.serve(t, true, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "sid="+newID()+"; Path=/; HttpOnly")
		if r.URL.Path == "/service/token" {
			tokens.ServeHTTP(w, r)
			return
		}
		registry(w, r)
	})
	return s
}

// refuseAsHarbor names its token service by the Host it was asked at. To who
// came with a credential, and for the catalog, it speaks Basic all the same.
func refuseAsHarbor(w http.ResponseWriter, r *http.Request, a asked, v verdict) {
	challenge := fmt.Sprintf(`Bearer realm="https://%s/service/token",service="harbor-registry"`, r.Host)
	if scope := a.scope(r.Method); scope != "" {
		challenge += fmt.Sprintf(`,scope="%s"`, scope)
	}
	if a.kind == "_catalog" || r.Header.Get("Authorization") != "" {
		challenge = `Basic realm="harbor"`
	}
	w.Header().Set("Www-Authenticate", challenge)
	answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "unauthorized to access repository: "+a.repository, nil)
}
