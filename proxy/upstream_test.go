package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// fakeRegistry records what reaches it, one line a request: method, target and
// the Authorization it came with.
type fakeRegistry struct {
	*httptest.Server
	mu    sync.Mutex
	lines []string
}

func newFakeRegistry(t testing.TB, serve func(f *fakeRegistry, w http.ResponseWriter, r *http.Request)) *fakeRegistry {
	t.Helper()
	f := new(fakeRegistry)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.lines = append(f.lines, strings.TrimSpace(r.Method+" "+r.RequestURI+" "+r.Header.Get("Authorization")))
		f.mu.Unlock()
		serve(f, w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeRegistry) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.lines
	f.lines = nil
	return s
}

func challenged(w http.ResponseWriter, value string) {
	w.Header().Set("WWW-Authenticate", value)
	w.WriteHeader(http.StatusUnauthorized)
}

func account(s *UpstreamSettings, _ *UpstreamOptions) { s.Username, s.Password = "regward", "secret" }

const basicAccount = "Basic cmVnd2FyZDpzZWNyZXQ="

func pull(name string) *outgoing {
	return &outgoing{Method: "GET", Path: "/v2/" + name + "/manifests/latest", Scope: "repository:" + name + ":pull", Header: http.Header{}}
}

func push(name string, body io.Reader) *outgoing {
	return &outgoing{Method: "PUT", Path: "/v2/" + name + "/manifests/latest", Scope: "repository:" + name + ":pull,push", Body: body, Length: 4, Header: http.Header{}}
}

// outcome is a status, and for refusals of ours their code.
func outcome(resp *http.Response, err error) string {
	var refused *httpError
	switch {
	case errors.As(err, &refused):
		return fmt.Sprintf("%d %s", refused.status, refused.code)
	case err != nil:
		return "error " + err.Error()
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return fmt.Sprint(resp.StatusCode)
}

// bearerRegistry wants tokens; its token service knows the account's. deny is
// what the service or the registry refuse.
func bearerRegistry(t testing.TB, reply string) *fakeRegistry {
	n := 0
	return newFakeRegistry(t, func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token" && strings.Contains(r.URL.Query().Get("scope"), "forbidden"):
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/token":
			n++
			_, _ = fmt.Fprintf(w, reply, n)
		case strings.Contains(r.URL.Path, "secret"), !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer t"):
			challenged(w, `Bearer realm="`+f.URL+`/token",service="reg"`)
		default:
			_, _ = io.WriteString(w, "ok")
		}
	})
}

func TestS11_Basic(t *testing.T) {
	locked := false
	f := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != basicAccount || locked || strings.Contains(r.URL.Path, "secret") {
			challenged(w, `BASIC realm="Sonatype Nexus Repository Manager"`)
			return
		}
		if strings.Contains(r.URL.Path, "frozen") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
	now := time.Unix(1_800_000_000, 0)
	core, logs := observer.New(zap.WarnLevel)
	u := testUpstream(t, f.URL, account, func(_ *UpstreamSettings, o *UpstreamOptions) {
		o.Now, o.Log = func() time.Time { return now }, zap.New(core)
	})
	step := func(name string, out *outgoing, want string, reached ...string) {
		t.Helper()
		if got := outcome(u.do(t.Context(), out)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if d := cmp.Diff(reached, f.seen()); d != "" {
			t.Errorf("%s: -want +got:\n%s", name, d)
		}
	}
	step("first asks how", pull("a"), "200", "GET /v2/", "GET /v2/a/manifests/latest "+basicAccount)
	step("then knows", pull("a"), "200", "GET /v2/a/manifests/latest "+basicAccount)
	step("login sent before a body", push("a", strings.NewReader("body")), "200", "PUT /v2/a/manifests/latest "+basicAccount)
	step("hidden read", pull("secret"), "404 NAME_UNKNOWN", "GET /v2/secret/manifests/latest "+basicAccount, "GET /v2/ "+basicAccount)
	step("proven a moment ago", pull("secret"), "404 NAME_UNKNOWN", "GET /v2/secret/manifests/latest "+basicAccount)
	step("hidden write", push("secret", strings.NewReader("body")), "403 DENIED", "PUT /v2/secret/manifests/latest "+basicAccount)
	step("forbidden write", push("frozen", strings.NewReader("body")), "403 DENIED", "PUT /v2/frozen/manifests/latest "+basicAccount)
	step("forbidden read", pull("frozen"), "404 NAME_UNKNOWN", "GET /v2/frozen/manifests/latest "+basicAccount)
	if logs.Len() != 5 {
		t.Errorf("%d log lines, want one for each of 5", logs.Len())
	}
	if u.Refused() != "" {
		t.Errorf("refused: %q", u.Refused())
	}

	locked = true
	now = now.Add(time.Minute)
	step("login refused", pull("a"), "502 UNAVAILABLE", "GET /v2/a/manifests/latest "+basicAccount, "GET /v2/ "+basicAccount)
	step("and not tried again", pull("a"), "502 UNAVAILABLE")
	if !strings.Contains(u.Refused(), "regward") || strings.Contains(u.Refused(), "secret") {
		t.Errorf("refused: %q", u.Refused())
	}
	if err := u.check(t.Context()); err == nil {
		t.Error("check finds nothing wrong")
	}
	locked = false
	now = now.Add(31 * time.Second)
	step("but later", pull("a"), "200", "GET /v2/a/manifests/latest "+basicAccount)
	if err := u.check(t.Context()); err != nil {
		t.Error(err)
	}
	if u.Refused() != "" {
		t.Errorf("refused: %q", u.Refused())
	}
}

func TestS11_Bearer(t *testing.T) {
	f := bearerRegistry(t, `{"token":"t%d","expires_in":300}`)
	now := time.Unix(1_800_000_000, 0)
	u := testUpstream(t, f.URL, account, func(_ *UpstreamSettings, o *UpstreamOptions) { o.Now = func() time.Time { return now } })
	token := func(scope string) string {
		return "GET /token?account=regward&scope=" + strings.ReplaceAll(url.QueryEscape(scope), "%26scope%3D", "&scope=") + "&service=reg " + basicAccount
	}
	step := func(name string, out *outgoing, want string, reached ...string) {
		t.Helper()
		if got := outcome(u.do(t.Context(), out)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
		if d := cmp.Diff(reached, f.seen()); d != "" {
			t.Errorf("%s: -want +got:\n%s", name, d)
		}
	}
	step("a token a scope", pull("a"), "200", "GET /v2/", token("repository:a:pull"), "GET /v2/a/manifests/latest Bearer t1")
	step("kept", pull("a"), "200", "GET /v2/a/manifests/latest Bearer t1")
	step("before the body", push("a", strings.NewReader("body")), "200", token("repository:a:pull,push"), "PUT /v2/a/manifests/latest Bearer t2")
	now = now.Add(239 * time.Second)
	step("still good", pull("a"), "200", "GET /v2/a/manifests/latest Bearer t1")
	now = now.Add(2 * time.Second)
	step("renewed with a fifth left", pull("a"), "200", token("repository:a:pull"), "GET /v2/a/manifests/latest Bearer t3")
	step("fresh and refused", pull("secret"), "404 NAME_UNKNOWN", token("repository:secret:pull"), "GET /v2/secret/manifests/latest Bearer t4")
	u.login.tokens.Add("repository:secret:pull", keptToken("told", now))
	step("refreshed once", pull("secret"), "404 NAME_UNKNOWN",
		"GET /v2/secret/manifests/latest Bearer told", token("repository:secret:pull"), "GET /v2/secret/manifests/latest Bearer t5")
	u.login.tokens.Add("repository:a:pull", keptToken("gone", now))
	step("refreshed for good", pull("a"), "200", "GET /v2/a/manifests/latest Bearer gone", token("repository:a:pull"), "GET /v2/a/manifests/latest Bearer t6")
	u.login.tokens.Add("repository:a:pull,push", keptToken("gone", now))
	step("a body goes once", push("a", strings.NewReader("body")), "403 DENIED", "PUT /v2/a/manifests/latest Bearer gone")
	step("and well the next time", push("a", strings.NewReader("body")), "200", token("repository:a:pull,push"), "PUT /v2/a/manifests/latest Bearer t7")
	mount := &outgoing{Method: "POST", Path: "/v2/a/blobs/uploads/", RawQuery: "mount=sha256:x&from=b", Scope: "repository:a:pull,push repository:b:pull"}
	step("a scope each", mount, "200", token("repository:a:pull,push&scope=repository:b:pull"), "POST /v2/a/blobs/uploads/?mount=sha256:x&from=b Bearer t8")
	step("no token, read", pull("forbidden"), "404 NAME_UNKNOWN", token("repository:forbidden:pull"))
	step("no token, write", push("forbidden", strings.NewReader("body")), "403 DENIED", token("repository:forbidden:pull,push"))
	if u.Refused() != "" {
		t.Errorf("refused: %q", u.Refused())
	}
}

func keptToken(value string, now time.Time) token {
	return token{value: "Bearer " + value, renew: now.Add(time.Hour)}
}

func TestS11_LoginRefusedByTheTokenService(t *testing.T) {
	for _, status := range []int{401, 429} {
		f := newFakeRegistry(t, func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				w.WriteHeader(status)
				_, _ = io.WriteString(w, "Too many authentication attempts") // Nexus, where it is 429
				return
			}
			challenged(w, `Bearer realm="`+f.URL+`/token",service="reg"`)
		})
		u := testUpstream(t, f.URL, account)
		for range 3 {
			if got := outcome(u.do(t.Context(), pull("a"))); got != "502 UNAVAILABLE" {
				t.Errorf("%d: got %s, want 502", status, got)
			}
		}
		if seen := f.seen(); len(seen) != 2 { // ping and one try: more may lock the account
			t.Errorf("%d: upstream saw %q", status, seen)
		}
		if u.Refused() == "" {
			t.Errorf("%d: readiness does not name it", status)
		}
		p, err := u.Probe(t.Context())
		if err != nil || p.Open || p.Login == "" {
			t.Errorf("%d: probe %+v, %v", status, p, err)
		}
	}
}

func TestAnonymousBearer(t *testing.T) {
	f := bearerRegistry(t, `{"access_token":"t%d"}`)
	u := testUpstream(t, f.URL)
	if got := outcome(u.do(t.Context(), pull("a"))); got != "200" {
		t.Errorf("got %s", got)
	}
	want := []string{"GET /v2/", "GET /token?scope=repository%3Aa%3Apull&service=reg", "GET /v2/a/manifests/latest Bearer t1"}
	if d := cmp.Diff(want, f.seen()); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// Many who want one token cause one request.
func TestTokenIsFetchedOnceForAll(t *testing.T) {
	f := bearerRegistry(t, `{"token":"t%d"}`)
	u := testUpstream(t, f.URL)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { outcome(u.do(t.Context(), pull("a"))) })
	}
	all.Wait()
	fetched := 0
	for _, line := range f.seen() {
		if strings.HasPrefix(line, "GET /token") {
			fetched++
		}
	}
	if fetched != 1 {
		t.Errorf("%d token requests, want 1", fetched)
	}
}

func TestT34_WhereTokensMayComeFrom(t *testing.T) {
	for _, tt := range []struct {
		upstream, realm string
		ok              bool
	}{
		{"https://reg.example", "https://reg.example/token", true},
		{"https://reg.example", "https://REG.example:8443/token", true},
		{"https://reg.example", "https://auth.example/token", true}, // token_hosts
		{"https://reg.example", "https://auth.example:444/token", true},
		{"https://reg.example", "https://port.example:444/token", true},
		{"https://reg.example", "https://port.example/token", false},
		{"https://reg.example", "https://evil.example/token", false},
		{"https://reg.example", "https://reg.example.evil.example/token", false},
		{"https://reg.example", "https://reg.example@evil.example/token", false},
		{"https://reg.example", "https://evil.example#@reg.example/token", false},
		{"https://reg.example", "https://x:y@reg.example/token", false},
		{"https://reg.example", "http://reg.example/token", false},
		{"https://reg.example", "http://auth.example/token", false},
		{"http://reg:5000", "http://reg:5000/token", true},
		{"http://reg:5000", "https://reg/token", true},
		{"http://reg:5000", "http://reg:5001/token", false},
		{"http://reg:5000", "http://reg/token", false},
		{"http://reg:5000", "http://auth.example/token", false},
		{"http://reg:5000", "/token", false},
		{"http://reg:5000", "//reg:5000/token", false},
		{"http://reg:5000", "", false},
		{"http://reg:5000", "ftp://reg:5000/token", false},
		{"http://reg:5000", "file:///etc/passwd", false},
		{"http://reg:5000", "http://[::1", false},
	} {
		u := testUpstream(t, tt.upstream, func(s *UpstreamSettings, _ *UpstreamOptions) {
			s.TokenHosts = []string{"auth.example", "port.example:444"}
		})
		if _, err := u.realm(tt.realm); (err == nil) != tt.ok {
			t.Errorf("%s, realm %q: %v", tt.upstream, tt.realm, err)
		}
	}
}

func TestT34_CredentialsStayHome(t *testing.T) {
	evil := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"token":"t"}`)
	})
	for name, serve := range map[string]func(f *fakeRegistry, w http.ResponseWriter, r *http.Request){
		"foreign realm in the ping": func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) {
			challenged(w, `Bearer realm="`+evil.URL+`/token"`)
		},
		"foreign realm on a resource": func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				challenged(w, `Bearer realm="`+evil.URL+`/token"`)
			}
		},
		"token service that redirects": func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				http.Redirect(w, r, evil.URL+"/token", http.StatusTemporaryRedirect)
				return
			}
			challenged(w, `Bearer realm="`+f.URL+`/token"`)
		},
	} {
		f := newFakeRegistry(t, serve)
		u := testUpstream(t, f.URL, account)
		if got := outcome(u.do(t.Context(), pull("a"))); got != "502 UNAVAILABLE" {
			t.Errorf("%s: got %s, want 502", name, got)
		}
		if seen := evil.seen(); len(seen) > 0 {
			t.Errorf("%s: a stranger saw %q", name, seen)
		}
	}
}

func TestT34_TokenReplies(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tt := range []struct {
		reply, value string
		ttl          time.Duration // until it is renewed
	}{
		{`{"token":"a","expires_in":300}`, "Bearer a", 240 * time.Second},
		{`{"token":"a","access_token":"b","expires_in":300.0}`, "Bearer a", 240 * time.Second},
		{`{"access_token":"b","expires_in":"300"}`, "Bearer b", 240 * time.Second},
		{`{"token":"","access_token":"b"}`, "Bearer b", 48 * time.Second},
		{`{"token":"a","expires_in":null}`, "Bearer a", 48 * time.Second},
		{`{"token":"a","expires_in":"soon"}`, "Bearer a", 48 * time.Second},
		{`{"token":"a","expires_in":-1}`, "Bearer a", 48 * time.Second},
		{`{"token":"a","expires_in":30}`, "Bearer a", 20 * time.Second},
		{`{"token":"a","expires_in":10}`, "Bearer a", 8 * time.Second},
		{`{"token":"a","expires_in":1e300}`, "Bearer a", maxTokenTTL / 5 * 4},
		{`{"token":"DockerToken.1-2","issued_at":"whenever"}`, "Bearer DockerToken.1-2", 48 * time.Second},
		{`{"token":""}`, "", 0},
		{`{"token":"a\r\nX: y"}`, "", 0},
		{`{"token":"a b"}`, "", 0},
		{`{"token":"` + strings.Repeat("a", maxTokenLength+1) + `"}`, "", 0},
		{`{}`, "", 0},
		{`[]`, "", 0},
		{`<html>`, "", 0},
		{``, "", 0},
	} {
		got, err := readToken([]byte(tt.reply), now)
		if got.value != tt.value || (err == nil) != (tt.value != "") || err == nil && got.renew.Sub(now) != tt.ttl {
			t.Errorf("%.60s: %q for %v, %v", tt.reply, got.value, got.renew.Sub(now), err)
		}
	}
}

func TestH09_WhatTheUpstreamIsTold(t *testing.T) {
	var got http.Header
	var host string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, host = r.Header, r.Host }))
	t.Cleanup(s.Close)
	u := testUpstream(t, s.URL, func(s *UpstreamSettings, _ *UpstreamOptions) { s.AssertUser = "x-forwarded-user" })
	u.login.way.Store(new(way))
	out := pull("a")
	out.Header = requestHeader(&http.Request{Header: http.Header{
		"Traceparent": {"theirs"}, "X-Forwarded-Proto": {"gopher"}, "X-Forwarded-User": {"root"}, "X-Request-Id": {"theirs"},
	}}, &Request{Kind: KindManifest, Method: "GET"}, "2001:db8::1")
	out.RequestID, out.TraceParent, out.User = "r1", "00-a-b-01", "alice"
	if got := outcome(u.do(t.Context(), out)); got != "200" {
		t.Fatal(got)
	}
	want := http.Header{"X-Forwarded-For": {"2001:db8::1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-User": {"alice"},
		"X-Request-Id": {"r1"}, "Traceparent": {"00-a-b-01"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if "http://"+host != s.URL {
		t.Errorf("Host %q, want that of %s", host, s.URL)
	}

	out.User, out.TraceParent = "", "" // anonymous, and nothing of our own to trace
	outcome(u.do(t.Context(), out))
	if d := cmp.Diff([]string{"theirs"}, got["Traceparent"]); d != "" || got["X-Forwarded-User"] != nil {
		t.Errorf("anonymous: %v", got)
	}
}

func TestS10_Statuses(t *testing.T) {
	hung := rawUpstream(t, func(c net.Conn, _ *http.Request) { hang(c) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	for _, tt := range []struct{ name, at, want string }{
		{"nobody there", "http://" + l.Addr().String(), "502 UNAVAILABLE"},
		{"no answer", hung, "504 UNAVAILABLE"},
	} {
		u := testUpstream(t, tt.at, func(s *UpstreamSettings, _ *UpstreamOptions) { s.HeaderTimeout = 50 * time.Millisecond })
		for _, known := range []bool{false, true} {
			if known {
				u.login.way.Store(new(way))
			}
			if got := outcome(u.do(t.Context(), pull("a"))); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
			}
		}
	}
	u := testUpstream(t, hung)
	u.login.way.Store(new(way))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := outcome(u.do(ctx, pull("a"))); got != "400 UNKNOWN" {
		t.Errorf("client gone: got %s", got)
	}
	large := http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("too much")), 2)
	if got := outcome(u.do(t.Context(), push("a", large))); got != "413 SIZE_INVALID" {
		t.Errorf("large body: got %s", got)
	}
}

func TestProbe(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(f *fakeRegistry, w http.ResponseWriter, r *http.Request)
		want  Probe
		err   bool
	}{
		{"open (M3)", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) { w.Header().Set("Server", "Nexus/3.96") }, Probe{Open: true, Server: "Nexus/3.96"}, false},
		{"good account", func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != basicAccount {
				challenged(w, `Basic realm="x"`)
			}
		}, Probe{}, false},
		{"bad account", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) { challenged(w, `Basic realm="x"`) },
			Probe{Login: `/v2/ refuses the login "regward"`}, false},
		{"no registry", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, Probe{}, true},
		{"a web server", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<title>Welcome</title>")
		}, Probe{}, true},
		{"Quay, whose word is true", func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
			_, _ = io.WriteString(w, "true")
		}, Probe{Open: true}, false},
	} {
		f := newFakeRegistry(t, tt.serve)
		got, err := testUpstream(t, f.URL, account).Probe(t.Context())
		if d := cmp.Diff(tt.want, got); d != "" || (err != nil) != tt.err {
			t.Errorf("%s: %v\n%s", tt.name, err, d)
		}
	}
}

func TestNewUpstreamRefuses(t *testing.T) {
	for name, s := range map[string]UpstreamSettings{
		"nothing":       {},
		"another thing": {URL: &url.URL{Scheme: "ftp", Host: "x"}},
		"no host":       {URL: &url.URL{Scheme: "https", Path: "/x"}},
		"CA":            {URL: &url.URL{Scheme: "https", Host: "x"}, CA: []byte("no PEM")},
		"certificate":   {URL: &url.URL{Scheme: "https", Host: "x"}, ClientCert: []byte("no PEM"), ClientKey: []byte("no PEM")},
		"header":        {URL: &url.URL{Scheme: "https", Host: "x"}, AssertUser: "X: y\r\nZ"},
	} {
		if _, err := NewUpstream(s, UpstreamOptions{}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
