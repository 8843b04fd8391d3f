package doctor_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/regward/regward/doctor"
)

// Credentials stay with the registry: an http realm, and one on a host whose
// certificate is not its own, get none.
func TestNoPasswordGoesToAnHTTPRealm(t *testing.T) {
	f, elsewhere := newFake(), newFake()
	elsewhere.leaf = nil
	at := elsewhere.start(t)
	f.challenge = []string{fmt.Sprintf(`Bearer realm="http://127.0.0.1:%s/token",service="registry"`, at.Target.Port)}
	r := examine(t, f)
	if got := wrong(r); len(got) == 0 || got[0] != "problem C05" {
		t.Errorf("got %q, want problem C05", got)
	}
	if seen := elsewhere.requests(); len(seen) > 0 {
		t.Errorf("the http realm was asked: %q", seen)
	}
	noPassword(t, f)
}

func TestARealmElsewhere(t *testing.T) {
	tokens := newFake()
	tokens.start(t)
	_, port, _ := net.SplitHostPort(tokens.host)
	f := newFake()
	f.challenge = []string{`Bearer realm="https://127.0.0.1:` + port + `/token",service="registry"`}
	o := f.start(t)
	// Not trusted: its CA is another one.
	r := doctor.Run(t.Context(), o)
	says(t, r, "certificate has to be trusted", "problem C06", "problem realm")
	noPassword(t, tokens)
	// Trusted: it is used, over https.
	o.CA = append(o.CA, tokens.ca)
	r = doctor.Run(t.Context(), o)
	says(t, r, "a name of an inner network", "problem C06")
	if !has(r, doctor.OK, "login") {
		t.Errorf("no login:\n%s", words(t, r))
	}
	for _, line := range f.requests() {
		if strings.Contains(line, "Basic ") {
			t.Errorf("the registry got the password that is the realm's: %s", line)
		}
	}
}

func TestLoginsThatFail(t *testing.T) {
	tryRows(t, []row{
		{"wrong password", func(f *fake) { f.realm = answer(401) }, "user name or password is wrong", []string{"problem login"}},
		{"no right to log in", func(f *fake) { f.realm = answer(403) }, "may not use this registry", []string{"problem login"}},
		{"locked out", func(f *fake) { f.realm = answer(429, "Retry-After", "30") }, "Retry-After: 30", []string{"problem login"}},
		{"token service is down", func(f *fake) { f.realm = answer(503) }, "this is no wrong password", []string{"problem login"}},
		{"no such realm", func(f *fake) { f.realm = answer(404) }, "location /token", []string{"problem realm"}},
		{"redirected realm", func(f *fake) { f.realm = answer(302, "Location", "/login") }, "follows no redirect", []string{"problem realm"}},
		{"POST is known", func(f *fake) { f.post = http.StatusOK }, "is logged in", []string{}},
		{"POST is forbidden", func(f *fake) { f.post = http.StatusForbidden }, "that by POST is answered 403", []string{"warning T20"}},
		{"POST fails", func(f *fake) { f.post = http.StatusInternalServerError }, "begin with POST", []string{"warning T20"}},
		{"a page", func(f *fake) { f.realm = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") } }, "what is no token", []string{"problem realm"}},
		{"an empty token", func(f *fake) {
			f.realm = func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"token":""}`) }
		}, "no usable token", []string{"problem realm"}},
		{"the token is refused", func(f *fake) {
			f.ping = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+f.host+`/token",service="registry"`)
				w.WriteHeader(401)
			}
		}, "refuses the token", []string{"problem token"}},
		{"the password comes back", func(f *fake) {
			f.realm = func(w http.ResponseWriter, r *http.Request) {
				user, given, _ := r.BasicAuth()
				http.Error(w, "no "+user+" "+given+" "+r.Header.Get("Authorization")+"\x1b[31m", http.StatusUnauthorized)
			}
		}, "***", []string{"problem login"}},
		{"the password comes back in JSON, and cut", func(f *fake) {
			f.realm = func(w http.ResponseWriter, r *http.Request) {
				_, given, _ := r.BasicAuth()
				w.Header().Set("Retry-After", strings.Repeat("9", 30)+given)
				w.WriteHeader(http.StatusTooManyRequests)
				json.NewEncoder(w).Encode(given + "!")
			}
		}, strings.Repeat("9", 30) + "***", []string{"problem login"}},
		{"the token comes back", func(f *fake) {
			f.ping = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+f.host+`/token",service="registry"`)
				w.WriteHeader(401)
				io.WriteString(w, r.Header.Get("Authorization"))
			}
		}, "Bearer ***", []string{"problem token"}},
		{"a realm for the shell", func(f *fake) { f.challenge = []string{`Bearer realm="https://$(id);x/token",service="registry"`} }, "no realm that is a URL", []string{"problem C05"}},
		{"Basic, wrong password", func(f *fake) { f.challenge = []string{`Basic realm="x"`}; f.basic = true; f.ping = basicRefused }, "user name or password is wrong", []string{"warning C02", "problem login"}},
		{"limited ping", func(f *fake) { f.ping = answer(429, "Retry-After", "9") }, "no login problem", []string{"problem rate"}},
		{"registry down", func(f *fake) { f.ping = answer(502) }, "the registry behind it does not", []string{"problem answer"}},
		{"no registry", func(f *fake) { f.ping = answer(404) }, "location /v2/", []string{"problem answer"}},
	})
}

func basicRefused(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
	w.WriteHeader(http.StatusUnauthorized)
}

// A wrong password is tried once: registries count.
func TestAWrongPasswordIsTriedOnce(t *testing.T) {
	f := newFake()
	f.realm = answer(401)
	examine(t, f)
	n := 0
	for _, line := range f.requests() {
		if strings.Contains(line, "Basic ") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestRights(t *testing.T) {
	tryRows(t, []row{
		{"none", func(f *fake) { f.rights = nil }, "asked for pull,push, granted nothing", []string{"problem scope"}},
		{"pull only", func(f *fake) { f.rights = []string{"pull"} }, "may pull coolteam/app and not push", []string{}},
		{"none, opaque token", func(f *fake) { f.rights, f.opaque = nil, true }, "may not pull coolteam/app", []string{"problem scope"}},
		{"pull only, opaque token", func(f *fake) { f.rights, f.opaque = []string{"pull"}, true }, "may not push to coolteam/app", []string{}},
		{"granted and refused", func(f *fake) { f.other = answer(403) }, "the token grants pull", []string{"problem scope"}},
		{"limited", func(f *fake) {
			f.other = answer(429, "ratelimit-limit", "100;w=21600", "ratelimit-remaining", "0;w=21600")
		}, "limit 100;w=21600, remaining 0;w=21600", []string{"problem rate"}},
	})
}

func TestPlainHTTPOnThisMachineGetsALogin(t *testing.T) {
	f := newFake()
	f.leaf = nil
	f.challenge = []string{`Bearer realm="http://HOST/token",service="registry"`}
	r := examine(t, f)
	says(t, r, "nothing is stored")
	if !has(r, doctor.OK, "login") {
		t.Errorf("no login:\n%s", words(t, r))
	}
}
