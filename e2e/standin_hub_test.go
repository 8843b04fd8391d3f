package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// newHub starts a Docker Hub for an account with so many pulls left; below 0
// it has no limit. Tokens come from another host, blobs from a third, and
// official images are known below library/ only.
func newHub(t testing.TB, pulls int) *standin {
	s := newStandin()
	s.public = true
	cdn := s.storage(t, "localhost")
	s.storedAt(cdn)
	everything := s.rights
	s.rights = func(user, repository, action string) bool {
		return strings.Contains(repository, "/") && action != "delete" && everything(user, repository, action)
	}
	tokens := tokenService{
		s: s, service: "registry.docker.io", lifetime: 5 * time.Minute,
		reply: func(token string) map[string]any {
			return map[string]any{"access_token": token, "expires_in": 300, "issued_at": time.Now().UTC().Format(time.RFC3339Nano)}
		},
	}
	realm := s.listen(t, "tokens", "localhost", true, tokens.ServeHTTP) + "/token"
	s.extra = "\n  token_hosts: [localhost]\n  redirect_hosts: [" + quoted(strings.TrimPrefix(cdn, "https://")) + "]"
	budget := hubBudget{left: pulls}
	registry := s.registry(takes{bearer: true}, func(w http.ResponseWriter, r *http.Request, a asked, v verdict) {
		challenge := fmt.Sprintf(`Bearer realm="%s",service="registry.docker.io"`, realm)
		if scope := a.scope(r.Method); scope != "" {
			challenge += fmt.Sprintf(`,scope="%s"`, scope)
		}
		if v == insufficient {
			challenge += `,error="insufficient_scope"`
		}
		w.Header().Set("Www-Authenticate", challenge)
		answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil)
	})
	s.store.manifest = func(w http.ResponseWriter, r *http.Request, _ asked, _ string) bool { return budget.take(w, r) }
	return s.serve(t, true, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
		if r.URL.Path == "/v2/_catalog" {
			http.NotFound(w, r)
			return
		}
		registry(w, r)
	})
}

// hubBudget counts GETs of manifests. A HEAD tells what is left and costs
// nothing.
type hubBudget struct {
	mu   sync.Mutex
	left int
}

func (b *hubBudget) take(w http.ResponseWriter, r *http.Request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 0 {
		return true // no limit: none of the headers
	}
	enough := b.left > 0 || r.Method == http.MethodHead
	if r.Method == http.MethodGet && b.left > 0 {
		b.left--
	}
	h := w.Header()
	h["ratelimit-limit"] = []string{"100;w=21600"}
	h["ratelimit-remaining"] = []string{fmt.Sprintf("%d;w=21600", b.left)}
	h["docker-ratelimit-source"] = []string{"203.0.113.9"}
	if !enough {
		answerError(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "You have reached your pull rate limit. "+
			"You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit", nil)
	}
	return enough
}
