package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// quayScope is the only form of scope that Quay reads.
var quayScope = regexp.MustCompile(`^repository:([.a-zA-Z0-9_-]+/)*[.a-zA-Z0-9_-]+:(push|pull|\*)(,(push|pull|\*))*$`)

// newQuay starts a Quay. After burst requests with one credential its nginx
// answers 429 for a while; 0 is no limit.
func newQuay(t testing.TB, burst int) *standin {
	s := newStandin()
	s.public = true
	s.store.from = func(r *http.Request) string {
		page, _ := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("next_page"))
		return strings.TrimPrefix(string(page), "sealed:")
	}
	s.store.link = func(r *http.Request, last string, n int) string {
		page := base64.RawURLEncoding.EncodeToString([]byte("sealed:" + last))
		return fmt.Sprintf(`<https://%s%s?n=%d&next_page=%s>; rel="next"`, r.Host, r.URL.Path, n, page)
	}
	tokens := tokenService{s: s, scope: quayScope, noScope: true, lifetime: time.Hour}
	registry := s.registry(takes{bearer: true}, refuseAsQuay)
	limit := requestLimit{left: map[string]int{}, burst: burst}
	return s.serve(t, true, "", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case burst > 0 && !limit.admits(r.Header.Get("Authorization")):
			w.Header().Set("Server", "nginx")
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, "<html><head><title>429 Too Many Requests</title></head></html>")
		case r.URL.Path == "/v2/auth":
			tokens.ServeHTTP(w, r)
		case r.Method == http.MethodDelete: // needs what a push needs; there is no scope for it
			asPush := r.Clone(r.Context())
			asPush.Method = http.MethodPut
			if a, _ := takeApart(r.URL.Path); s.judge(asPush, a, takes{bearer: true}) != admitted {
				refuseAsQuay(w, asPush, a, insufficient)
			} else {
				s.store.serve(w, r, a)
			}
		case r.URL.Path == "/v2/_catalog": // any token will do, and decides what is listed
			if s.judge(r, asked{kind: "ping"}, takes{bearer: true}) != admitted {
				refuseAsQuay(w, r, asked{kind: "ping"}, unknownFace)
				return
			}
			s.store.serve(w, r, asked{kind: "_catalog"})
		default:
			registry(w, r)
		}
	})
}

func refuseAsQuay(w http.ResponseWriter, r *http.Request, a asked, _ verdict) {
	challenge := fmt.Sprintf(`Bearer realm="https://%s/v2/auth",service="quay.example.com"`, r.Host)
	if scope := a.scope(r.Method); scope != "" {
		challenge += fmt.Sprintf(`,scope="%s"`, scope)
	}
	w.Header().Set("Www-Authenticate", challenge)
	answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "access to the requested resource is not authorized", map[string]any{})
}

// requestLimit is nginx's limit_req by credential, without the leak.
type requestLimit struct {
	mu    sync.Mutex
	burst int
	left  map[string]int
}

func (l *requestLimit) admits(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left[key]++
	return l.left[key] <= l.burst
}
