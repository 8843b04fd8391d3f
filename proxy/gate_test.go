package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/crypto/bcrypt"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// The cast. ann is in coolteam, bob in no group, carl in ci.
const (
	gateHost = "docker.acme.example"
	contact  = "Ask #platform-help"

	annPassword  = "ann's pass:word"
	bobPassword  = "bob-secret-2"
	carlPassword = "carl-secret-3"
)

// Repositories of the fake upstream, and what is in them.
var (
	layer        = []byte(strings.Repeat("layer ", 100))
	layerDigest  = digestOf(layer)
	image        = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}`)
	imageDigest  = digestOf(image)
	index        = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"` + imageDigest + `","size":1}]}`)
	indexDigest  = digestOf(index)
	absentDigest = digestOf([]byte("nowhere"))
)

const (
	imageType = "application/vnd.oci.image.manifest.v1+json"
	indexType = "application/vnd.oci.image.index.v1+json"
)

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// usual are the rules most tests want.
const usual = `
	allow everyone       library/**   pull
	allow group:coolteam coolteam/**  pull,push,delete
	allow user:bob       bob/**       pull,push
	allow user:bob       shared/**    pull
	deny  everyone       coolteam/vault/** *
`

// clock is moved by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 11, 20, 15, 37, 50, 0, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// lines collects a log. A line is written when its answer is out, so whoever
// reads waits until no request is under way.
type lines struct {
	mu   sync.Mutex
	b    bytes.Buffer
	busy func() bool // nil: never
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) Sync() error { return nil }

func (l *lines) String() string {
	for end := time.Now().Add(5 * time.Second); l.busy != nil && l.busy() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// all are the lines as maps.
func (l *lines) all(t testing.TB) (out []map[string]any) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		out = append(out, m)
	}
	return out
}

func (l *lines) logger() *zap.Logger {
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"})
	return zap.New(zapcore.NewCore(enc, l, zapcore.DebugLevel))
}

// gate is the handler behind TLS, an upstream that records, clients for both
// versions of HTTP, and a clock.
type gate struct {
	testing.TB
	*Handler
	up       *fakeUpstream
	clock    *clock
	settings Settings
	srv      *httptest.Server
	h1, h2   *http.Client

	log, access, audit *lines
}

// secretKeys are made once: a key per test would be slow.
var gateTokens = sync.OnceValues(func() (*auth.Tokens, error) {
	// The directory of the process's own lifetime; TempDir of a test would go away with it.
	return auth.LoadTokens(filepath.Join(tempDir(), "token.pem"), true)
})

var gatePasswords = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	for _, u := range [][2]string{{"ann", annPassword}, {"bob", bobPassword}, {"carl", carlPassword}} {
		b.WriteString(htpasswdLine(u[0], u[1]))
	}
	return b.Bytes()
})

func htpasswdLine(user, password string) string {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		panic(err)
	}
	return user + ":" + string(hash) + "\n"
}

// newGate starts a gate over the rules and limits in text:
//
//	allow SUBJECTS PATTERNS ACTIONS [from=NETS] [tags=PATTERNS] [immutable]
//	deny  SUBJECTS PATTERNS ACTIONS [tags=PATTERNS] [dry_run]
//	limit NAME COUNT RATE [per=P] [subjects=..] [repositories=..] [from=..] [exempt=..] [burst=N] [dry_run]
func newGate(t testing.TB, text string, change ...func(*Settings)) *gate {
	t.Helper()
	g := &gate{TB: t, clock: newClock(), log: &lines{}, access: &lines{}, audit: &lines{}}
	g.up = newFakeUpstream(t)
	g.settings = g.base(text)
	for _, c := range change {
		c(&g.settings)
	}
	g.Handler = New(Options{
		Limiter: ratelimit.NewMemory(1<<12, g.clock.Now),
		Cache:   auth.NewCache(1000, g.clock.Now),
		Log:     g.log.logger(),
		Access:  g.access.logger(),
		Audit:   &Audit{Log: g.audit.logger()},
		Now:     g.clock.Now,
	})
	busy := func() bool { return testutil.ToFloat64(g.metrics.inFlight) > 0 }
	g.log.busy, g.access.busy, g.audit.busy = busy, busy, busy
	g.swap(g.settings)
	g.serve()
	return g
}

// base is the settings a configuration with these rules would make.
func (g *gate) base(text string) Settings {
	tokens, err := gateTokens()
	if err != nil {
		g.Fatal(err)
	}
	if !strings.Contains(text, " failed_logins ") { // what a configuration without them has
		text += "\nlimit failed_logins failed_logins 10/15m per=ip+user\nlimit failed_logins_ip failed_logins 100/15m per=ip"
	}
	rules, limits := parseText(g, text)
	policy, err := auth.NewPolicy(rules)
	if err != nil {
		g.Fatal(err)
	}
	base, err := url.Parse(g.up.srv.URL)
	if err != nil {
		g.Fatal(err)
	}
	s := Settings{
		Version:   "7c1e",
		Hostnames: []string{gateHost},
		Contact:   contact,
		Policy:    policy,
		Groups:    map[string][]string{"ann": {"coolteam"}, "carl": {"ci"}},
		Tokens:    tokens,
		TokenTTL:  5 * time.Minute,
		Cache:     auth.CacheTimes{TTL: time.Minute, NegativeTTL: 5 * time.Second},
		Lease:     time.Hour,
		Limits:    limits,
		PrefixV4:  32,
		PrefixV6:  64,
		Proxies:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Catalog:   true,
		Upstreams: []UpstreamSettings{{Name: "registry", URL: base, Follow: true, HeaderTimeout: 5 * time.Second,
			ConnectTimeout: time.Second, IdleTimeout: 5 * time.Second}},
		IdleTimeout: 5 * time.Second,
	}
	setPasswords(g, &s, gatePasswords())
	return s
}

func setPasswords(t testing.TB, s *Settings, file []byte) {
	t.Helper()
	passwords, err := auth.ParseHtpasswd("htpasswd", file, auth.HtpasswdOptions{Key: s.Tokens.Derive("htpasswd proof")[0]})
	if err != nil {
		t.Fatal(err)
	}
	s.Logins, s.Current = passwords, passwords.Current
}

// swap puts settings in force, as a reload does.
func (g *gate) swap(s Settings) {
	g.Helper()
	snapshot, err := g.Prepare(s)
	if err != nil {
		g.Fatal(err)
	}
	g.Swap(snapshot)
	g.settings = s
}

func parseText(t testing.TB, text string) (rules []auth.Rule, limits []Limit) {
	t.Helper()
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if f[0] == "limit" {
			limits = append(limits, parseLimit(t, f))
			continue
		}
		r := auth.Rule{Where: fmt.Sprintf("rules[%d] at regward.yaml:%d", len(rules), 10+len(rules))}
		r.Subjects = each(t, f[1], auth.ParseSubject)
		r.Repositories = each(t, f[2], auth.ParsePattern)
		for _, word := range strings.Split(f[3], ",") {
			a, err := auth.ParseActions(word)
			if err != nil {
				t.Fatal(err)
			}
			if f[0] == "allow" {
				r.Allow |= a
			} else {
				r.Deny |= a
			}
		}
		for _, option := range f[4:] {
			switch key, value, _ := strings.Cut(option, "="); key {
			case "dry_run":
				r.DryRun = true
			case "immutable":
				r.Immutable = true
			case "tags":
				r.Tags = each(t, value, auth.ParseTagPattern)
			case "from":
				r.From = each(t, value, netip.ParsePrefix)
			default:
				t.Fatalf("rule %q", f)
			}
		}
		rules = append(rules, r)
	}
	return rules, limits
}

func parseLimit(t testing.TB, f []string) Limit {
	t.Helper()
	l := Limit{Name: f[1], Per: PerClient, Where: "limits"}
	l.Count = map[string]Count{"requests": Requests, "pulls": Pulls, "pushes": Pushes, "failed_logins": FailedLogins,
		"bytes": Bytes, "transfers": Transfers}[f[2]]
	rate, err := ratelimit.ParseRate(f[3])
	switch l.Count {
	case Bytes:
		rate, err = ratelimit.ParseByteRate(f[3])
	case Transfers:
		rate = ratelimit.Rate{}
		l.Most, err = strconv.Atoi(f[3])
	}
	if err != nil {
		t.Fatal(err)
	}
	l.Rate = rate
	for _, option := range f[4:] {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "per":
			l.Per = map[string]Per{"client": PerClient, "user": PerUser, "ip": PerIP, "group": PerGroup, "namespace": PerNamespace,
				"repository": PerRepository, "all": PerAll, "ip+user": PerIPUser}[value]
		case "subjects":
			l.Subjects = each(t, value, auth.ParseSubject)
		case "repositories":
			l.Repositories = each(t, value, auth.ParsePattern)
		case "from":
			l.From = each(t, value, netip.ParsePrefix)
		case "exempt":
			for _, one := range strings.Split(value, ",") {
				if p, err := netip.ParsePrefix(one); err == nil {
					l.ExemptFrom = append(l.ExemptFrom, p)
				} else {
					l.ExemptWho = append(l.ExemptWho, each(t, one, auth.ParseSubject)...)
				}
			}
		case "burst":
			l.Rate.Burst, _ = strconv.Atoi(value)
		case "dry_run":
			l.DryRun = true
		}
	}
	if l.Count == 0 || l.Per == 0 {
		t.Fatalf("limit %q", f)
	}
	return l
}

func each[T any](t testing.TB, list string, parse func(string) (T, error)) (out []T) {
	t.Helper()
	for _, one := range strings.Split(list, ",") {
		v, err := parse(one)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// serve starts the listener as cmd/regward does. Its clients dial it whatever
// host a URL names, and nothing else.
func (g *gate) serve() {
	g.srv = httptest.NewUnstartedServer(g.Handler)
	g.srv.EnableHTTP2 = true
	g.srv.Config.ConnContext = WithConn
	g.srv.Config.MaxHeaderBytes = 64 << 10
	g.srv.Config.DisableGeneralOptionsHandler = true
	g.srv.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	g.srv.StartTLS()
	g.h1, g.h2 = g.client(false), g.client(true)
	g.Cleanup(func() {
		g.h1.CloseIdleConnections()
		g.h2.CloseIdleConnections()
		g.srv.CloseClientConnections()
		g.srv.Close()
		for _, b := range g.Current().backends {
			b.Close()
		}
	})
}

func (g *gate) client(h2 bool) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(g.srv.Certificate())
	tr := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", g.srv.Listener.Addr().String())
		},
		TLSClientConfig:    &tls.Config{RootCAs: roots, ServerName: "example.com"},
		ForceAttemptHTTP2:  h2,
		DisableCompression: true,
	}
	if !h2 {
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	return &http.Client{Transport: tr, Timeout: 2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// reply is a response read to its end.
type reply struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

// option changes a request.
type option func(*http.Request)

// The ways to say who one is.
func basic(user, password string) option {
	return func(r *http.Request) { r.SetBasicAuth(user, password) }
}

func bearer(token string) option { return header("Authorization", "Bearer "+token) }

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

func from(addr string) option { return header("X-Forwarded-For", addr) }

func body(b []byte) option {
	return func(r *http.Request) {
		r.Body, r.ContentLength = http.NoBody, int64(len(b))
		if len(b) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
	}
}

func chunked(b []byte) option {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), -1
	}
}

func form(values string) option {
	return func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		body([]byte(values))(r)
	}
}

func (g *gate) request(method, target string, options ...option) *http.Request {
	g.Helper()
	r, err := http.NewRequest(method, "https://"+gateHost+target, nil)
	if err != nil {
		g.Fatal(err)
	}
	for _, o := range options {
		o(r)
	}
	return r
}

// do sends a request over HTTP/1.1.
func (g *gate) do(method, target string, options ...option) reply {
	g.Helper()
	return g.with(g.h1, method, target, options...)
}

func (g *gate) with(c *http.Client, method, target string, options ...option) reply {
	g.Helper()
	resp, err := c.Do(g.request(method, target, options...))
	if err != nil {
		g.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp, b, err}
}

func (g *gate) get(target string, options ...option) reply {
	g.Helper()
	return g.do("GET", target, options...)
}

// both runs a test over HTTP/1.1 and HTTP/2.
func (g *gate) both(f func(c *http.Client, version string)) {
	f(g.h1, "HTTP/1.1")
	f(g.h2, "HTTP/2.0")
}

// tokenBody is what the token service answers.
type tokenBody struct {
	Token        string  `json:"token"`
	AccessToken  string  `json:"access_token"`
	ExpiresIn    any     `json:"expires_in"`
	IssuedAt     string  `json:"issued_at"`
	Scope        *string `json:"scope"`
	RefreshToken *string `json:"refresh_token"`
}

// who is one of the cast, or nobody.
func who(user string) option {
	switch user {
	case "ann":
		return basic("ann", annPassword)
	case "bob":
		return basic("bob", bobPassword)
	case "carl":
		return basic("carl", carlPassword)
	case "":
		return func(*http.Request) {}
	}
	panic("no such user: " + user)
}

// token asks for a token as user ("" is anonymous) with the given scopes.
func (g *gate) token(user string, scopes ...string) string {
	g.Helper()
	return g.tokenFor([]option{who(user)}, scopes...)
}

func (g *gate) tokenFor(options []option, scopes ...string) string {
	g.Helper()
	a := g.get("/token?"+url.Values{"service": {gateHost}, "scope": scopes}.Encode(), options...)
	a.want(g, 200)
	return a.token(g).Token
}

// as is the credential of user with a token of the given scopes.
func (g *gate) as(user string, scopes ...string) option {
	g.Helper()
	return bearer(g.token(user, scopes...))
}

// pulls and pushes are scopes.
func pulls(repository string) string   { return "repository:" + repository + ":pull" }
func pushes(repository string) string  { return "repository:" + repository + ":pull,push" }
func deletes(repository string) string { return "repository:" + repository + ":pull,push,delete" }

func (a reply) token(t testing.TB) (b tokenBody) {
	t.Helper()
	if err := json.Unmarshal(a.body, &b); err != nil {
		t.Fatalf("token answer %q: %v", a.body, err)
	}
	return b
}

func (a reply) want(t testing.TB, status int) reply {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("%s %s: got %d %s, want %d", a.Request.Method, a.Request.URL.Path, a.StatusCode, a.body, status)
	}
	return a
}

// refused checks status, code and form of a refusal (S01) and returns what it says.
func (a reply) refused(t testing.TB, status int, code string) string {
	t.Helper()
	a.want(t, status)
	if got := a.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type of a refusal: got %q", got)
	}
	if a.Request.Method == "HEAD" {
		return ""
	}
	var e struct {
		Errors []struct {
			Code    string
			Message string
		}
	}
	if err := json.Unmarshal(a.body, &e); err != nil || len(e.Errors) != 1 {
		t.Fatalf("refusal %q: %v, want one entry", a.body, err)
	}
	if e.Errors[0].Code != code {
		t.Errorf("%s %s: code %s, want %s (%s)", a.Request.Method, a.Request.URL, e.Errors[0].Code, code, e.Errors[0].Message)
	}
	return e.Errors[0].Message
}

// challenged returns the one challenge of a 401, its members by name.
func (a reply) challenged(t testing.TB) map[string]string {
	t.Helper()
	fields := a.Header.Values("WWW-Authenticate")
	if len(fields) != 1 {
		t.Fatalf("%s %s: %d WWW-Authenticate fields %q, want 1", a.Request.Method, a.Request.URL.Path, len(fields), fields)
	}
	rest, ok := strings.CutPrefix(fields[0], "Bearer ")
	if !ok {
		t.Fatalf("challenge %q is not Bearer", fields[0])
	}
	members := map[string]string{}
	for rest != "" {
		name, after, _ := strings.Cut(rest, `="`)
		value, more, closed := strings.Cut(after, `"`)
		if !closed || (more != "" && more[0] != ',') {
			t.Fatalf("challenge %q cannot be read", fields[0])
		}
		members[name] = value
		rest = strings.TrimPrefix(more, ",")
	}
	return members
}

// wants fails unless the maps are equal.
func wantMembers(t testing.TB, got map[string]string, want ...string) {
	t.Helper()
	m := map[string]string{}
	for i := 0; i < len(want); i += 2 {
		m[want[i]] = want[i+1]
	}
	for k, v := range m {
		if got[k] != v {
			t.Errorf("challenge has %s=%q, want %q", k, got[k], v)
		}
	}
	for k := range got {
		if _, ok := m[k]; !ok {
			t.Errorf("challenge has %s=%q, want none", k, got[k])
		}
	}
}

// recorded is one request that reached the upstream.
type recorded struct {
	Method, Target, Host string
	Header               http.Header
	Length               int64
	Chunked              bool
	Body                 string // digest of the body; "" for none
	Size                 int64
}

// fakeUpstream behaves as distribution does and writes down what reaches it.
type fakeUpstream struct {
	testing.TB
	srv *httptest.Server

	mu       sync.Mutex
	got      []*recorded
	uploads  int
	override func(w http.ResponseWriter, r *http.Request) bool // true: it has answered

	repositories []string // of the catalog
	blobs        map[string][]byte
}

func newFakeUpstream(t testing.TB) *fakeUpstream {
	u := &fakeUpstream{TB: t,
		repositories: []string{"bob/tools", "coolteam/app", "coolteam/vault/key", "library/alpine", "library/busybox", "ops/secrets", "shared/base"},
		blobs:        map[string][]byte{layerDigest: layer}}
	u.srv = httptest.NewUnstartedServer(u)
	u.srv.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	u.srv.Start()
	t.Cleanup(func() {
		u.srv.CloseClientConnections()
		u.srv.Close()
	})
	return u
}

// answer makes f answer instead, until the test ends or another one does.
func (u *fakeUpstream) answer(f func(w http.ResponseWriter, r *http.Request) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.override = f
}

// seen are the requests that came since the last call, but for the pings by
// which regward learns how to log in.
func (u *fakeUpstream) seen() []*recorded {
	u.mu.Lock()
	defer u.mu.Unlock()
	got := u.got
	u.got = nil
	return slices.DeleteFunc(got, func(r *recorded) bool { return r.Target == "/v2/" })
}

// one is the only request that came since the last call.
func (u *fakeUpstream) one(t testing.TB) *recorded {
	t.Helper()
	got := u.seen()
	if len(got) != 1 {
		t.Fatalf("%d requests reached the upstream, want 1: %v", len(got), got)
	}
	return got[0]
}

// none fails if anything came since the last call.
func (u *fakeUpstream) none(t testing.TB) {
	t.Helper()
	if got := u.seen(); len(got) > 0 {
		t.Errorf("reached the upstream: %s %s", got[0].Method, got[0].Target)
	}
}

func (u *fakeUpstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorded{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header.Clone(), Length: r.ContentLength,
		Chunked: slices.Contains(r.TransferEncoding, "chunked")}
	u.mu.Lock()
	u.got = append(u.got, rec)
	override := u.override
	u.mu.Unlock()
	r.Body = &recordedBody{ReadCloser: r.Body, u: u, rec: rec, sum: sha256.New()}
	if override != nil && override(w, r) {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	u.distribution(w, r)
}

// recordedBody writes down what was read, once all was.
type recordedBody struct {
	io.ReadCloser
	u   *fakeUpstream
	rec *recorded
	sum hash.Hash
	n   int64
}

func (b *recordedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.sum.Write(p[:n])
	b.n += int64(n)
	if err == io.EOF && b.n > 0 {
		b.u.mu.Lock()
		defer b.u.mu.Unlock()
		b.rec.Size, b.rec.Body = b.n, "sha256:"+hex.EncodeToString(b.sum.Sum(nil))
	}
	return n, err
}

// distribution answers as distribution 3 does, where this is of interest.
func (u *fakeUpstream) distribution(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	h := w.Header()
	h.Set("Docker-Distribution-Api-Version", "registry/2.0")
	switch {
	case path == "/v2/":
		_, _ = io.WriteString(w, "{}")
	case path == "/v2/_catalog":
		u.catalog(w, r)
	case strings.HasSuffix(path, "/tags/list"):
		name := strings.TrimSuffix(strings.TrimPrefix(path, "/v2/"), "/tags/list")
		h.Set("Content-Type", "application/json")
		if r.URL.Query().Get("last") == "" && r.URL.Query().Get("n") != "" {
			h.Set("Link", "<"+path+"?last=1.0&n="+r.URL.Query().Get("n")+`>; rel="next"`)
		}
		fmt.Fprintf(w, `{"name":%q,"tags":["1.0","latest"]}`, name)
	case strings.Contains(path, "/referrers/"):
		h.Set("Content-Type", indexType)
		_, _ = io.WriteString(w, `{"schemaVersion":2,"mediaType":"`+indexType+`","manifests":[]}`)
	case strings.Contains(path, "/blobs/uploads/"):
		u.upload(w, r)
	case strings.Contains(path, "/blobs/"):
		u.blob(w, r)
	case strings.Contains(path, "/manifests/"):
		u.manifest(w, r)
	default:
		distributionError(w, 404, "NAME_UNKNOWN")
	}
}

func distributionError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"said the upstream","detail":{"name":"of the upstream"}}]}`+"\n", code)
}

func (u *fakeUpstream) catalog(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil {
		n = 100
	}
	n = min(n, 3) // pages of the upstream's own size
	at, _ := slices.BinarySearch(u.repositories, r.URL.Query().Get("last"))
	if at < len(u.repositories) && u.repositories[at] == r.URL.Query().Get("last") {
		at++
	}
	page := u.repositories[at:min(at+n, len(u.repositories))]
	if at+n < len(u.repositories) {
		w.Header().Set("Link", fmt.Sprintf(`</v2/_catalog?last=%s&n=%d>; rel="next"`, url.QueryEscape(page[len(page)-1]), n))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string][]string{"repositories": page})
}

func (u *fakeUpstream) upload(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/blobs/uploads/")
	query := r.URL.Query()
	next := func() {
		u.mu.Lock()
		u.uploads++
		n := u.uploads
		u.mu.Unlock()
		// As distribution writes it: absolute, with a state that changes.
		h.Set("Location", fmt.Sprintf("http://%s/v2/%s/blobs/uploads/6f1e-uuid?_state=a%%2Bb%d%%3D%%3D", r.Host, name, n))
		h.Set("Docker-Upload-Uuid", "6f1e-uuid")
	}
	created := func(digest string) {
		h.Set("Location", fmt.Sprintf("http://%s/v2/%s/blobs/%s", r.Host, name, digest))
		h.Set("Docker-Content-Digest", digest)
		w.WriteHeader(201)
	}
	switch {
	case r.Method == "POST" && query.Get("mount") != "" && u.blobs[query.Get("mount")] != nil:
		created(query.Get("mount"))
	case r.Method == "POST" && query.Get("digest") != "", r.Method == "PUT":
		created(query.Get("digest"))
	case r.Method == "POST":
		next()
		h.Set("Range", "0-0")
		w.WriteHeader(202)
	case r.Method == "PATCH":
		next()
		h.Set("Range", fmt.Sprintf("0-%d", max(0, r.ContentLength-1)))
		w.WriteHeader(202)
	case r.Method == "GET" || r.Method == "HEAD":
		next()
		h.Set("Range", "0-99")
		w.WriteHeader(204)
	case r.Method == "DELETE":
		w.WriteHeader(204)
	}
}

func (u *fakeUpstream) blob(w http.ResponseWriter, r *http.Request) {
	digest := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	content := u.blobs[digest]
	switch {
	case r.Method == "DELETE":
		w.WriteHeader(202)
	case content == nil:
		distributionError(w, 404, "BLOB_UNKNOWN")
	default:
		h := w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Docker-Content-Digest", digest)
		h.Set("Etag", `"`+digest+`"`)
		h.Set("Cache-Control", "max-age=31536000")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func (u *fakeUpstream) manifest(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	reference := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/manifests/")
	content, kind := image, imageType
	switch reference {
	case "multi", indexDigest:
		content, kind = index, indexType
	case "absent", absentDigest:
		content = nil
	}
	switch {
	case r.Method == "PUT":
		h.Set("Location", fmt.Sprintf("http://%s/v2/%s/manifests/%s", r.Host, name, imageDigest))
		h.Set("Docker-Content-Digest", imageDigest)
		w.WriteHeader(201)
	case r.Method == "DELETE":
		w.WriteHeader(202)
	case content == nil:
		distributionError(w, 404, "MANIFEST_UNKNOWN")
	default:
		h.Set("Content-Type", kind)
		h.Set("Docker-Content-Digest", digestOf(content))
		h.Set("Content-Length", strconv.Itoa(len(content)))
		w.WriteHeader(200)
		if r.Method == "GET" {
			_, _ = w.Write(content)
		}
	}
}
