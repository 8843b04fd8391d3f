package e2e

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// tokens are those a stand-in has given out.
type tokens struct {
	mu    sync.Mutex
	given map[string]granted
}

// granted is what a token is good for.
type granted struct {
	user   string
	access map[string][]string // repository to actions; nil: all that the user may
	until  time.Time           // zero: for ever
}

func newTokens() *tokens { return &tokens{given: map[string]granted{}} }

func (k *tokens) keep(token string, g granted) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.given[token] = g
	return token
}

func (k *tokens) find(token string) (granted, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g, ok := k.given[token]
	return g, ok && (g.until.IsZero() || time.Now().Before(g.until))
}

// forgetAll makes every token one the registry does not know.
func (k *tokens) forgetAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.given)
}

// tokenService is how a registry gives tokens out. The zero value answers GET
// only, takes any service and scope, and replies {"token": …} alone.
type tokenService struct {
	s        *standin
	service  string         // another one is 400
	scope    *regexp.Regexp // a scope of another form is 400
	noScope  bool           // a request without login and scope is 401
	onPost   int            // status of a POST; 0 is 405
	lifetime time.Duration
	reply    func(token string) map[string]any // nil: the token alone
	name     func(user string) string          // of the token; nil: a new one each time
	whole    bool                              // the token is for all that the user may, whatever the scope
}

func (ts tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		status := ts.onPost
		if status == 0 {
			status = http.StatusMethodNotAllowed
		}
		answerError(w, status, "UNSUPPORTED", "the operation is unsupported", nil)
		return
	}
	q := r.URL.Query()
	user, password, login := r.BasicAuth()
	if login = login && user+password != ""; login {
		switch ts.s.login(user, password) {
		case http.StatusUnauthorized:
			answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil)
			return
		case http.StatusTooManyRequests:
			tooMany(w)
			return
		}
	}
	if ts.service != "" && q.Get("service") != ts.service {
		ts.s.fault("token service: asked for service %q, and is %q", q.Get("service"), ts.service)
		answerError(w, http.StatusBadRequest, "BAD_REQUEST", "unknown service", nil)
		return
	}
	if !login && (ts.noScope && q.Get("scope") == "" || !ts.s.public) {
		answerError(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil)
		return
	}
	access := map[string][]string{}
	for _, scope := range q["scope"] {
		if ts.scope != nil && !ts.scope.MatchString(scope) {
			answerError(w, http.StatusBadRequest, "INVALID_REQUEST", "Unable to decode repository and actions: "+scope, nil)
			return
		}
		ts.grant(access, user, scope)
	}
	if ts.whole {
		access = nil
	}
	ts.give(w, user, access)
}

// grant adds of a scope what the user may.
func (ts tokenService) grant(access map[string][]string, user, scope string) {
	first, last := strings.Index(scope, ":"), strings.LastIndex(scope, ":")
	if first < 0 || first == last {
		return
	}
	repository := scope[first+1 : last]
	if scope[:first] != "repository" {
		repository = scope[:last]
	}
	for action := range strings.SplitSeq(scope[last+1:], ",") {
		if ts.s.rights(user, repository, action) {
			access[repository] = append(access[repository], action)
		}
	}
}

func (ts tokenService) give(w http.ResponseWriter, user string, access map[string][]string) {
	token := rand.Text() + "." + rand.Text()
	if ts.name != nil {
		token = ts.name(user)
	}
	g := granted{user: user, access: access}
	if ts.lifetime > 0 {
		g.until = time.Now().Add(ts.lifetime)
	}
	reply := map[string]any{"token": ts.s.tokens.keep(token, g)}
	if ts.reply != nil {
		maps.Copy(reply, ts.reply(token))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply)
}
