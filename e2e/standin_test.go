package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// standin is a registry with the habits of one that people put behind regward,
// in this process. It keeps what it was asked; what the real one would not put
// up with, and what must not reach it, is a fault that fails the test.
type standin struct {
	user, password string            // the account regward has there
	users          map[string]string // everybody with a login, the account too
	// rights is what a login may: all. Without a login ("") it is pulls of
	// library/, where the registry has anonymous access at all.
	rights func(user, repository, action string) bool
	public bool

	url    string // as regward's file has it
	host   string // with port, of url
	extra  string // further lines of regward's file
	store  *store
	tokens *tokens
	login  func(user, password string) (status int) // 200, 401, or 429 where logins are counted

	// redirectUploads says where a request of an upload is sent on to; nil or
	// "": nowhere.
	redirectUploads func(r *http.Request) (to string)

	mu     sync.Mutex
	heard  []heard
	faults []string
}

// heard is a request that reached a stand-in.
type heard struct {
	at     string // which of its hosts: registry, tokens, storage
	method string
	target string // path and query, as sent
	host   string
	scheme string // of Authorization, "" for none
	header http.Header
}

func (h heard) String() string {
	return fmt.Sprintf("%s: %s %s (%s) at %s", h.at, h.method, h.target, h.scheme, h.host)
}

// token is the bearer token of the request, "" without one.
func (h heard) token() string {
	scheme, token, _ := strings.Cut(h.header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

func newStandin() *standin {
	s := &standin{
		user: upstreamUser, password: upstreamPassword,
		store: newStore(), tokens: newTokens(),
	}
	s.users = map[string]string{}
	s.rights = func(user, repository, action string) bool {
		return user != "" || s.public && action == "pull" && strings.HasPrefix(repository, "library/")
	}
	s.login = s.check
	return s
}

// check is a login by the list of users.
func (s *standin) check(user, password string) int {
	if want, known := s.users[user]; known && want == password {
		return http.StatusOK
	}
	return http.StatusUnauthorized
}

// listen serves one more host of the stand-in and returns its URL. There are
// two names on loopback, localhost and 127.0.0.1: for regward two hosts.
func (s *standin) listen(t testing.TB, at, host string, secure bool, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewUnstartedServer(s.hear(at, h))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	placed := ""
	if suite.world != nil {
		server.Listener, placed = suite.world.settle(t, at, server.Listener)
	}
	if secure {
		server.TLS = &tls.Config{Certificates: []tls.Certificate{suite.certs.pair}}
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	if placed != "" {
		scheme, _, _ := strings.Cut(server.URL, "://")
		return scheme + "://" + placed
	}
	return strings.Replace(server.URL, "127.0.0.1", host, 1)
}

// serve starts the registry itself; path is what its URL has behind the host.
func (s *standin) serve(t testing.TB, secure bool, path string, h http.HandlerFunc) *standin {
	t.Helper()
	s.users[s.user] = s.password
	base := s.listen(t, "registry", "127.0.0.1", secure, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		h(w, r)
	})
	_, s.host, _ = strings.Cut(base, "://")
	s.url = base + path
	t.Cleanup(func() {
		for _, fault := range s.allFaults() {
			t.Error(fault)
		}
	})
	return s
}

// hear keeps every request.
func (s *standin) hear(at string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		s.mu.Lock()
		s.heard = append(s.heard, heard{at, r.Method, r.RequestURI, r.Host, scheme, r.Header.Clone()})
		s.mu.Unlock()
		if r.Header.Get("Cookie") != "" {
			s.fault("%s got a cookie: %s %s", at, r.Method, r.RequestURI)
		}
		h(w, r)
	}
}

// requests are those that reached the host at, of which want says yes.
func (s *standin) requests(at string, want func(heard) bool) []heard {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.heard), func(h heard) bool { return h.at != at || want != nil && !want(h) })
}

func (s *standin) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

func (s *standin) allFaults() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// settings are the lines of regward's file for the stand-in.
func (s *standin) settings() string {
	lines := "\n  url: " + s.url
	if s.user != "" {
		lines += fmt.Sprintf("\n  username: %s\n  password: %s", quoted(s.user), quoted(s.password))
	}
	if strings.HasPrefix(s.url, "https:") {
		lines += "\n  ca_file: " + quoted(suite.certs.caFile)
	}
	return lines + s.extra
}

// quoted is a value for the file: in it a dollar sign is written twice.
func quoted(value string) string {
	b, _ := json.Marshal(strings.ReplaceAll(value, "$", "$$")) // a string always can
	return string(b)
}

// front starts a regward in front of the stand-in.
func (s *standin) front(t testing.TB, policy string) *regward {
	t.Helper()
	g := newRegward(t, s.settings())
	g.configure(t, policy)
	g.serve(t)
	return g
}

// answerError is an error in the form of registries.
func answerError(w http.ResponseWriter, status int, code, message string, detail any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"errors": []any{map[string]any{"code": code, "message": message, "detail": detail}},
	})
}

// tooMany is what a registry says that has counted too many wrong logins.
func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "30")
	http.Error(w, "Too many authentication attempts", http.StatusTooManyRequests)
}

// registry serves what the credential is good for, and leaves the rest to
// refuse.
func (s *standin) registry(accepts takes, refuse func(http.ResponseWriter, *http.Request, asked, verdict)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a, ok := takeApart(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		switch v := s.judge(r, a, accepts); v {
		case admitted:
			if s.redirectUploads != nil && a.kind == "blobs/uploads" {
				if to := s.redirectUploads(r); to != "" {
					w.Header().Set("Location", to)
					w.WriteHeader(http.StatusTemporaryRedirect)
					return
				}
			}
			s.store.serve(w, r, a)
		case lockedOut:
			tooMany(w)
		default:
			refuse(w, r, a, v)
		}
	}
}
