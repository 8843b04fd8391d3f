package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
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

// shortLock keeps a name out for 1.5 s after a wrong login.
type shortLock struct {
	mu    sync.Mutex
	until map[string]time.Time
}

func (l *shortLock) judge(user string, status int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.until[user]) {
		return http.StatusUnauthorized
	}
	if status != http.StatusOK {
		l.until[user] = time.Now().Add(1500 * time.Millisecond)
	}
	return status
}

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
