package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const hookSecret = "0123456789abcdef0123456789abcdef"

// loginProgram is a program of somebody's own that knows about logins, under a CA
// of its own. It checks signatures as the documentation tells it to.
type loginProgram struct {
	testing.TB
	url    string
	caFile string
	secret string // what it believes

	mu      sync.Mutex
	asked   []hookQuestion
	answers map[string]string // a user's body
	instead http.HandlerFunc  // for everybody
	forged  int               // questions with a wrong signature
}

type hookQuestion struct{ User, Password, Addr, Hostname string }

// startLoginProgram knows the people of the tests.
func startLoginProgram(t testing.TB) *loginProgram {
	t.Helper()
	ca := newIDCards(t, "programs")
	pair, err := tls.LoadX509KeyPair(filesOf(ca.give("logins")))
	if err != nil {
		t.Fatal(err)
	}
	p := &loginProgram{TB: t, caFile: ca.caFile, secret: hookSecret, answers: map[string]string{}}
	s := httptest.NewUnstartedServer(p)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	p.url = strings.Replace(s.URL, "127.0.0.1", "localhost", 1) + "/regward"
	return p
}

func (p *loginProgram) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var q hookQuestion
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/regward" {
		http.NotFound(w, r)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.signed(r.Header.Get("X-Regward-Signature"), body) || json.Unmarshal(body, &q) != nil {
		p.forged++
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.asked = append(p.asked, q)
	if p.instead != nil {
		p.instead(w, r)
		return
	}
	password, known := passwords[q.User]
	switch {
	case !known:
		w.WriteHeader(http.StatusNotFound)
	case q.Password != password:
		w.WriteHeader(http.StatusUnauthorized)
	default:
		answer, ok := p.answers[q.User]
		if !ok {
			answer = "{}"
		}
		_, _ = io.WriteString(w, answer)
	}
}

// signed checks `t=SECONDS,v1=HEX`, and that it is not an old one sent again.
func (p *loginProgram) signed(header string, body []byte) bool {
	at, sum, _ := strings.Cut(strings.TrimPrefix(header, "t="), ",v1=")
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, []byte(p.secret))
	fmt.Fprintf(mac, "%d.%s", seconds, body)
	given, err := hex.DecodeString(sum)
	return err == nil && hmac.Equal(given, mac.Sum(nil))
}

// says makes it answer so to user's right password.
func (p *loginProgram) says(user, answer string) *loginProgram {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers[user] = answer
	return p
}

// misbehaves answers so to everybody, until nil.
func (p *loginProgram) misbehaves(h http.HandlerFunc) *loginProgram {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = h
	return p
}

// all are the questions so far.
func (p *loginProgram) all() []hookQuestion {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// heard are those about user.
func (p *loginProgram) heard(user string) (all []hookQuestion) {
	for _, q := range p.all() {
		if q.User == user {
			all = append(all, q)
		}
	}
	return all
}

// auth is a configuration that asks it; more are lines of it.
func (p *loginProgram) auth(more ...string) string {
	return fmt.Sprintf("auth:\n  webhook:\n    url: %s\n    secret: %s\n    ca_file: %q\n", p.url, hookSecret, p.caFile) + indented(more)
}

func indented(lines []string) (text string) {
	for _, one := range lines {
		text += "    " + one + "\n"
	}
	return text
}
