package proxy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// users are what makes of a fakeUpstream a registry with users of its own: by
// tokens of its token service, or by Basic alone.
type users struct {
	up        *fakeUpstream
	basicOnly bool
	realm     string // "": its own
	noPost    int    // status of a POST to the token service; 0: it works
	noExpiry  bool
	lifetime  int // expires_in; 0: 300
	length    int // of a token, at least
	bearer401 string
	anonymous bool // gives tokens to nobody in particular

	mu        sync.Mutex
	passwords map[string]string
	rights    map[string]string       // "ann team/app": actions she has there; absent: all
	asked     []*http.Request         // of the token service, with a login that is a person's
	forms     []url.Values            // in the POSTs among them
	tokens    map[string]issuedScopes // by value
	fail      int                     // status of the token service for people
	spent     bool                    // no token is taken any more
}

type issuedScopes struct {
	user   string
	scopes []string
}

// addUsers makes u a registry of ann's and bob's.
func addUsers(u *fakeUpstream, change ...func(*users)) *users {
	p := &users{up: u, passwords: map[string]string{"ann": annPassword, "bob": bobPassword}, rights: map[string]string{}, tokens: map[string]issuedScopes{}}
	for _, c := range change {
		c(p)
	}
	u.answer(p.answer)
	return p
}

func (p *users) locked(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *users) answer(w http.ResponseWriter, r *http.Request) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.URL.Path == "/auth/token" {
		p.tokenService(w, r)
		return true
	}
	challenge := `Bearer realm="http://` + r.Host + `/auth/token",service="the upstream's own"`
	if p.realm != "" {
		challenge = `Bearer realm="` + p.realm + `",service="x"`
	}
	if p.basicOnly {
		challenge = `BASIC realm="Sonatype Nexus Repository Manager"`
		if user, password, ok := r.BasicAuth(); ok && password != "" && p.passwords[user] == password {
			return false
		}
	} else if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		given, known := p.tokens[token]
		switch {
		case !known || p.spent:
			challenge += `,error="invalid_token"`
		case r.URL.Path == "/v2/" || slices.ContainsFunc(given.scopes, func(s string) bool { return covers(s, r) }) && coversMount(given.scopes, r):
			return false
		default:
			challenge += `,scope="x",error="insufficient_scope"`
			if p.bearer401 != "" {
				distributionError(w, 403, "DENIED")
				return true
			}
		}
	}
	w.Header().Set("Www-Authenticate", challenge)
	distributionError(w, 401, "UNAUTHORIZED")
	return true
}

// covers reports whether a scope is for a request.
func covers(scope string, r *http.Request) bool {
	f := strings.Split(scope, ":")
	if len(f) != 3 {
		return false
	}
	if f[0] == "registry" {
		return r.URL.Path == "/v2/_catalog"
	}
	want := "push"
	switch r.Method {
	case "GET", "HEAD":
		want = "pull"
	case "DELETE":
		want = "delete"
		if strings.Contains(r.URL.Path, "/blobs/uploads/") {
			want = "push"
		}
	}
	return strings.HasPrefix(r.URL.Path, "/v2/"+f[1]+"/") && slices.Contains(strings.Split(f[2], ","), want)
}

func coversMount(scopes []string, r *http.Request) bool {
	from := r.URL.Query().Get("from")
	return from == "" || slices.ContainsFunc(scopes, func(s string) bool { return strings.HasPrefix(s, "repository:"+from+":pull") })
}

func (p *users) tokenService(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	user, password, login := r.BasicAuth()
	if r.Method == "POST" {
		raw, _ := io.ReadAll(r.Body)
		values, _ = url.ParseQuery(string(raw))
		user, password, login = values.Get("username"), values.Get("password"), true
	}
	_, person := p.passwords[user]
	if person {
		p.asked = append(p.asked, r)
		if r.Method == "POST" {
			p.forms = append(p.forms, values)
		}
	}
	switch {
	case r.Method == "POST" && p.noPost != 0:
		distributionError(w, p.noPost, "UNSUPPORTED")
		return
	case !login && !p.anonymous, login && (!person || p.passwords[user] != password):
		distributionError(w, 401, "UNAUTHORIZED")
		return
	case p.fail != 0 && len(values["scope"]) > 0:
		w.Header().Set("Retry-After", "17")
		distributionError(w, p.fail, "UNKNOWN")
		return
	}
	var scopes []string
	for _, scope := range strings.Fields(strings.Join(values["scope"], " ")) {
		f := strings.Split(scope, ":")
		if only, ok := p.rights[user+" "+f[1]]; ok {
			f[2] = only
		}
		scopes = append(scopes, strings.Join(f, ":"))
	}
	value := fmt.Sprintf("upstreamtoken.of-%s.%d", user, len(p.tokens))
	value += strings.Repeat("x", max(0, p.length-len(value)))
	p.tokens[value] = issuedScopes{user, scopes}
	answer := map[string]any{"token": value, "refresh_token": "never-to-be-passed-on"}
	if !p.noExpiry {
		answer["expires_in"] = 300
		if p.lifetime != 0 {
			answer["expires_in"] = p.lifetime
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// last is the last token request for a person, as a query or form.
func (p *users) last(t testing.TB) (method string, values url.Values) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) == 0 {
		t.Fatal("the token service was not asked")
	}
	r := p.asked[len(p.asked)-1]
	if r.Method == "POST" {
		return r.Method, p.forms[len(p.forms)-1]
	}
	return r.Method, r.URL.Query()
}

// secrets are what must be seen nowhere.
func (p *users) secrets() (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for token := range p.tokens {
		all = append(all, token)
	}
	for user, password := range p.passwords {
		all = append(all, password, strings.TrimPrefix(credential{Credential: auth.NewBasic(user, password)}.authorization(), "Basic "))
	}
	return append(all, "never-to-be-passed-on")
}

// passing is a gate whose only upstream is in passthrough.
func passing(t testing.TB, rules string, change ...func(*users)) (*gate, *users) {
	t.Helper()
	g := newGate(t, rules, func(s *Settings) {
		s.Logins, s.Current = nil, nil
		s.Upstreams[0].Passthrough = true
	})
	return g, addUsers(g.up, change...)
}

// two is a gate with a second upstream below other/, that is changed as told.
func two(t testing.TB, rules string, change func(a, b *UpstreamSettings)) (g *gate, second *fakeUpstream) {
	t.Helper()
	second = newFakeUpstream(t)
	g = newGate(t, rules, func(s *Settings) {
		s.Logins, s.Current = nil, nil
		b := s.Upstreams[0]
		b.Name, b.Place = "other", auth.Place{Prefix: "other/"}
		b.URL, _ = url.Parse(second.srv.URL)
		s.Upstreams = append(s.Upstreams, b)
		change(&s.Upstreams[0], &s.Upstreams[1])
	})
	return g, second
}

const passRules = `
	allow authenticated **        pull,push
	allow user:ann      coolteam/** pull,push,delete
	allow everyone      library/** pull
	deny  everyone      coolteam/vault/** *
`

func TestT33_TokenRequestsAreRelayedWithNamesMapped(t *testing.T) {
	g := newGate(t, passRules, func(s *Settings) {
		s.Logins, s.Current = nil, nil
		s.Upstreams[0].Passthrough = true
		s.Upstreams[0].Place = auth.Place{Prefix: "hub/", Default: "library"}
	})
	p := addUsers(g.up)
	scopes := []string{"repository:hub/coolteam/app:push,pull", "repository:hub/alpine:pull"}
	for _, tt := range []struct {
		name    string
		options []option
		method  string
		want    url.Values
	}{
		{"GET", []option{who("ann")}, "GET", url.Values{"account": {"ann"}, "client_id": {"docker"}, "service": {"the upstream's own"},
			"scope": {pushes("coolteam/app"), pulls("library/alpine")}}},
		{"POST", post("username", "ann", "password", annPassword, "scope", strings.Join(scopes, " "), "access_type", "offline"), "POST",
			url.Values{"grant_type": {"password"}, "client_id": {"test"}, "service": {"the upstream's own"}, "username": {"ann"}, "password": {annPassword},
				"scope": {pushes("coolteam/app") + " " + pulls("library/alpine")}}},
	} {
		target := "/token"
		if tt.method == "GET" {
			target += "?" + url.Values{"service": {gateHost}, "scope": scopes, "account": {"ann"}, "client_id": {"docker"}, "offline_token": {"true"}}.Encode()
		}
		a := g.do(tt.method, target, tt.options...).want(t, 200)
		method, values := p.last(t)
		if d := cmp.Diff(tt.want, values); d != "" || method != tt.method {
			t.Errorf("%s: the upstream was asked by %s\n-want +got\n%s", tt.name, method, d)
		}
		b := a.token(t)
		if b.RefreshToken != nil || b.Token != b.AccessToken || b.ExpiresIn != float64(300) {
			t.Errorf("%s: answered %s", tt.name, a.body)
		}
		g.wantGranted(b.Token, pushes("hub/coolteam/app")+" "+pulls("hub/library/alpine"))
		g.up.seen()
		g.get("/v2/hub/coolteam/app/manifests/latest", bearer(b.Token)).want(t, 200)
		if got := g.up.one(t).Target; got != "/v2/coolteam/app/manifests/latest" {
			t.Errorf("%s: asked for %s", tt.name, got)
		}
	}
}

func TestT33_OnlyWhatTheRulesGrantIsRelayed(t *testing.T) {
	g, p := passing(t, usual)
	for _, tt := range []struct{ user, scope, relayed string }{
		{"ann", deletes("coolteam/app"), deletes("coolteam/app")},
		{"ann", pushes("library/alpine"), pulls("library/alpine")},
		{"ann", pulls("coolteam/app") + " " + pulls("ops/secrets") + " " + pulls("coolteam/vault/key"), pulls("coolteam/app")},
	} {
		g.wantGranted(g.token(tt.user, tt.scope), tt.relayed)
		if _, values := p.last(t); strings.Join(values["scope"], " ") != tt.relayed {
			t.Errorf("%s: relayed %q, want %q", tt.scope, values["scope"], tt.relayed)
		}
	}
	p.locked(func() { p.asked = nil })
	g.wantGranted(g.token("ann", pulls("ops/secrets")), "") // nothing to be relayed
	g.get("/v2/", g.as("ann")).want(t, 200)                 // docker login
	if len(p.asked) != 0 {
		t.Errorf("%d token requests for nothing", len(p.asked))
	}
}

func TestT33_FailuresKeepTheirStatus(t *testing.T) {
	for _, tt := range []struct {
		upstream, status int
		code, says       string
	}{
		{401, 401, "UNAUTHORIZED", "does not take this login"},
		{403, 403, "DENIED", "gives ann no token for what was asked"},
		{404, 404, "UNSUPPORTED", "gives no token: it answered 404"},
		{429, 429, "TOOMANYREQUESTS", "upstream registry, not this registry, refuses"},
		{500, 500, "UNAVAILABLE", "it answered 500"},
		{503, 503, "UNAVAILABLE", "it answered 503"},
		{302, 502, "UNAVAILABLE", "answers wrongly"},
	} {
		g, p := passing(t, passRules)
		p.fail = tt.upstream
		a := g.get("/token?scope="+pulls("team/app"), who("ann"))
		if msg := a.refused(t, tt.status, tt.code); !strings.Contains(msg, tt.says) {
			t.Errorf("%d: %s", tt.upstream, msg)
		}
		if got := a.Header.Get("Retry-After"); (tt.upstream == 429 || tt.upstream == 503) && got != "17" {
			t.Errorf("%d: Retry-After %q", tt.upstream, got)
		}
	}
	// What no token comes in.
	for name, body := range map[string]string{"HTML": "<html>", "no token": `{"token":""}`, "a token of two lines": `{"token":"a\nb"}`,
		"too long": `{"token":"` + strings.Repeat("x", maxTokenReply) + `"}`, "too long for ours": `{"token":"` + strings.Repeat("x", 7<<10) + `"}`} {
		g, p := passing(t, passRules)
		g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/auth/token" && r.URL.Query().Has("scope") {
				_, _ = io.WriteString(w, body)
				return true
			}
			return p.answer(w, r)
		})
		if msg := g.get("/token?scope="+pulls("team/app"), who("ann")).refused(t, 502, "UNAVAILABLE"); strings.Contains(msg, "xxx") {
			t.Errorf("%s: %s", name, msg)
		}
	}
}

// Quay's token service reads push, pull and * of repositories, nothing else.
func TestT33_ScopesThatATokenServiceDoesNotRead(t *testing.T) {
	g, p := passing(t, passRules)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if scope := strings.Join(r.URL.Query()["scope"], " "); strings.Contains(scope, "delete") || strings.Contains(scope, "catalog") {
			distributionError(w, 400, "UNSUPPORTED")
			return true
		}
		return p.answer(w, r)
	})
	g.wantGranted(g.token("ann", deletes("coolteam/app"), "registry:catalog:*", pulls("library/alpine")),
		deletes("coolteam/app")+" registry:catalog:* "+pulls("library/alpine"))
	if _, values := p.last(t); strings.Join(values["scope"], " ") != pushes("coolteam/app")+" "+pulls("library/alpine") {
		t.Errorf("relayed %q", values["scope"])
	}
}

func TestT20_WherePostDoesNotWorkTheAnswerIs404(t *testing.T) {
	for _, status := range []int{404, 405, 400, 401, 415} {
		g, p := passing(t, passRules, func(p *users) { p.noPost = status })
		login := post("username", "ann", "password", annPassword, "scope", pulls("team/app"))
		g.do("POST", "/token", login...).refused(t, 404, "UNSUPPORTED")
		g.wantGranted(g.token("ann", pulls("team/app")), pulls("team/app")) // as clients go on
		// It is not tried each time: it may count as a wrong password there.
		g.do("POST", "/token", login...).refused(t, 404, "UNSUPPORTED")
		if len(p.forms) != 1 {
			t.Errorf("%d: %d POSTs, want 1", status, len(p.forms))
		}
		g.clock.pass(noPostTime + time.Second)
		g.do("POST", "/token", login...).refused(t, 404, "UNSUPPORTED")
		if len(p.forms) != 2 {
			t.Errorf("%d: %d POSTs after a while, want 2", status, len(p.forms))
		}
		// A wrong password is one all the same.
		g.do("POST", "/token", post("username", "ann", "password", "wrong")...).refused(t, 401, "UNAUTHORIZED")
	}
	// With Basic alone upstream there is nothing to relay.
	g, _ := passing(t, passRules, func(p *users) { p.basicOnly = true })
	b := g.do("POST", "/token", post("username", "ann", "password", annPassword, "scope", pulls("team/app"))...).want(t, 200).token(t)
	g.get("/v2/team/app/manifests/latest", bearer(b.Token)).want(t, 200)
}

func TestT22_RefreshTokensAreNeverRelayed(t *testing.T) {
	g, p := passing(t, passRules)
	g.do("POST", "/token", form("grant_type=refresh_token&refresh_token=abc&scope="+pulls("team/app"))).refused(t, 400, "UNSUPPORTED")
	if len(p.asked) != 0 {
		t.Error("it reached the token service")
	}
}

func TestT34_LoginsGoToTheUpstreamsOwnRealmOnly(t *testing.T) {
	elsewhere := newFakeUpstream(t)
	foreign := strings.Replace(elsewhere.srv.URL, "127.0.0.1", "localhost", 1)
	for _, realm := range []string{"https://evil.example/token", foreign + "/auth/token", "http://user@127.0.0.1/token", "/auth/token", "ftp://127.0.0.1/x"} {
		g, _ := passing(t, passRules, func(p *users) { p.realm = realm })
		g.get("/token?scope="+pulls("team/app"), who("ann")).refused(t, 503, "UNAVAILABLE")
		g.get("/v2/team/app/manifests/latest", who("ann")).refused(t, 503, "UNAVAILABLE")
		elsewhere.none(t)
	}
	// The line that would change it; the login is proven already here.
	g, p := passing(t, passRules)
	g.token("ann", pulls("team/app"))
	p.locked(func() { p.realm = "https://auth.elsewhere.example/token" })
	g.Current().backends[0].relay.forget()
	g.get("/token?scope="+pulls("team/app"), who("ann")).refused(t, 502, "UNAVAILABLE")
	if log := g.log.String(); !strings.Contains(log, "token_hosts: [auth.elsewhere.example]") {
		t.Errorf("no line to add in %s", log)
	}

	// Redirects are not followed with credentials, wherever they lead.
	g, p = passing(t, passRules)
	g.token("ann", pulls("team/app"))
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/auth/token" {
			http.Redirect(w, r, elsewhere.srv.URL+"/auth/token", http.StatusTemporaryRedirect)
			return true
		}
		return p.answer(w, r)
	})
	g.get("/token?scope="+pulls("team/app"), who("ann")).refused(t, 502, "UNAVAILABLE")
	g.do("POST", "/token", post("username", "ann", "password", annPassword, "scope", pulls("team/app"))...).refused(t, 502, "UNAVAILABLE")
	elsewhere.none(t)

	// Nothing a client sends changes where they go.
	g, p = passing(t, passRules)
	for _, o := range []option{header("X-Forwarded-Host", "evil.example"), header("Forwarded", "host=evil.example"), header("Referer", elsewhere.srv.URL)} {
		g.tokenFor([]option{who("ann"), o}, pulls("team/app"))
	}
	g.get("/token?realm="+url.QueryEscape(elsewhere.srv.URL)+"&service=evil&scope="+pulls("team/app"), who("ann")).want(t, 200)
	if _, values := p.last(t); values.Get("service") != "the upstream's own" || values.Has("realm") {
		t.Errorf("relayed %v", values)
	}
	elsewhere.none(t)
}

func TestT35_ScopesOfSeveralUpstreams(t *testing.T) {
	g, second := two(t, passRules, func(a, b *UpstreamSettings) { a.Passthrough, b.Passthrough = true, true })
	p, q := addUsers(g.up), addUsers(second, func(p *users) { p.passwords["ann"] = "hers at the other" })
	here, there := who("ann"), basic("ann", "hers at the other")
	for _, tt := range []struct {
		name    string
		login   option
		scopes  []string
		asked   *users
		granted string
	}{
		{"the first", here, []string{pulls("team/app"), pulls("other/x")}, p, pulls("team/app")},
		{"the first, of the other", there, []string{pulls("other/x"), pulls("team/app")}, q, pulls("other/x")},
		{"the one with push", there, []string{pulls("team/app"), pushes("other/x"), pulls("other/y")}, q, pushes("other/x") + " " + pulls("other/y")},
		{"the catalog goes with it", there, []string{"registry:catalog:*", pulls("other/x")}, q, "registry:catalog:* " + pulls("other/x")},
		{"the catalog alone", here, []string{"registry:catalog:*"}, p, "registry:catalog:*"},
		{"what nobody could grant does not choose", there, []string{"repository:Upper/Case:push", pulls("other/x")}, q, pulls("other/x")},
	} {
		p.asked, q.asked = nil, nil
		g.wantGranted(g.tokenFor([]option{tt.login}, tt.scopes...), tt.granted)
		for who, people := range map[string]*users{"default": p, "other": q} {
			if asked := len(people.asked) > 0; asked != (people == tt.asked) {
				t.Errorf("%s: %s asked: %v", tt.name, who, asked)
			}
		}
	}
	// A login without scopes: the default upstream's.
	g.get("/token", here).want(t, 200)
	g.get("/token", there).refused(t, 401, "UNAUTHORIZED")
}

func TestT36_ATokenIsForOneUpstreamAndOnePrincipal(t *testing.T) {
	g, second := two(t, passRules, func(a, b *UpstreamSettings) { a.Passthrough, b.Passthrough = true, true })
	addUsers(g.up)
	addUsers(second, func(p *users) { p.passwords["ann"] = "hers at the other" })
	here := g.token("ann", pulls("team/app"))
	there := g.tokenFor([]option{basic("ann", "hers at the other")}, pulls("other/x"))
	g.get("/v2/team/app/manifests/latest", bearer(here)).want(t, 200)
	g.get("/v2/other/x/manifests/latest", bearer(there)).want(t, 200)
	g.up.seen()
	second.seen()
	for target, token := range map[string]string{"/v2/other/x/manifests/latest": here, "/v2/team/app/manifests/latest": there} {
		a := g.get(target, bearer(token))
		a.refused(t, 401, "DENIED")
		if c := a.challenged(t); c["error"] != "insufficient_scope" || c["scope"] == "" {
			t.Errorf("%s: challenge %v", target, c)
		}
	}
	g.up.none(t)
	second.none(t)

	// Whatever else is in a token of ours: the box must be of this upstream and of this name.
	s := g.Current()
	box := s.backends[1].safe.seal(credential{Credential: auth.NewBearer("made up")}, "ann")
	id, err := g.settings.Tokens.Verify(here, gateHost)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*auth.Identity){
		"the other's box":   func(id *auth.Identity) { id.Sealed = box },
		"another name":      func(id *auth.Identity) { id.Name = "bob" },
		"no box":            func(id *auth.Identity) { id.Sealed = auth.Sealed{} },
		"an upload id":      func(id *auth.Identity) { id.Sealed = auth.NewSealed(s.backends[0].uploads.sealBytes(make([]byte, 64))) },
		"a box of nonsense": func(id *auth.Identity) { id.Sealed = auth.NewSealed(make([]byte, 100)) },
	} {
		changed := id
		change(&changed)
		token, err := g.settings.Tokens.Issue(changed, gateHost, id.Scope, g.clock.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		a := g.get("/v2/team/app/manifests/latest", bearer(token))
		a.refused(t, 401, "DENIED")
		if c := a.challenged(t); c["error"] != "insufficient_scope" {
			t.Errorf("%s: challenge %v", name, c)
		}
	}
	g.up.none(t)
}

func TestT36_RulesAndLimitsHoldAllTheSame(t *testing.T) {
	g, p := passing(t, usual+"limit two pulls 2/6h per=user\nlimit wrong failed_logins 3/15m per=ip+user")
	p.rights["ann coolteam/closed"] = ""
	ann := g.as("ann", pulls("coolteam/app"), pulls("coolteam/closed"))
	g.get("/v2/coolteam/app/manifests/latest", ann).want(t, 200)
	g.up.seen()
	g.get("/v2/ops/secrets/manifests/latest", ann).refused(t, 401, "DENIED") // upstream would give it
	g.up.none(t)
	a := g.get("/v2/coolteam/closed/manifests/latest", ann) // the rules would give it
	if msg := a.refused(t, 401, "DENIED"); !strings.Contains(msg, "upstream registry does not allow ann") {
		t.Errorf("%s", msg)
	}
	if c := a.challenged(t); c["error"] != "insufficient_scope" || c["scope"] != pulls("coolteam/closed") {
		t.Errorf("challenge %v", c)
	}
	if msg := g.get("/v2/coolteam/app/manifests/1", ann).refused(t, 429, "TOOMANYREQUESTS"); !strings.Contains(msg, `limit "two"`) {
		t.Errorf("%s", msg)
	}
	for _, password := range []string{"one", "two"} {
		g.get("/token", basic("bob", password)).refused(t, 401, "UNAUTHORIZED")
	}
	g.get("/token", basic("bob", "three")).refused(t, 429, "TOOMANYREQUESTS") // two questions, then none
	if got := g.audit.String(); strings.Count(got, "login_failed") != 2 || !strings.Contains(got, `"via":"upstream"`) {
		t.Errorf("audit: %s", got)
	}
}

func TestT36_BasicOnlyUpstreams(t *testing.T) {
	g, p := passing(t, passRules, func(p *users) { p.basicOnly = true })
	token := g.token("ann", pushes("team/app"))
	g.up.seen()
	a := g.get("/v2/team/app/manifests/latest", bearer(token)).want(t, 200)
	if user, password, _ := (&http.Request{Header: g.up.one(t).Header}).BasicAuth(); user != "ann" || password != annPassword {
		t.Errorf("the upstream was asked as %q", user)
	}
	if got := a.Header.Get("Www-Authenticate"); got != "" {
		t.Errorf("challenge %q", got)
	}
	// A login that is turned down now makes the token a dead one.
	p.locked(func() { p.passwords["ann"] = "a new one" })
	a = g.get("/v2/team/app/manifests/latest", bearer(token))
	a.refused(t, 401, "UNAUTHORIZED")
	if c := a.challenged(t); c["error"] != "invalid_token" {
		t.Errorf("challenge %v", c)
	}
}

func TestT36_WhatTheUpstreamsOwn401Becomes(t *testing.T) {
	g, p := passing(t, passRules)
	token := g.token("ann", pulls("team/app"))
	p.locked(func() { p.spent = true })
	a := g.get("/v2/team/app/manifests/latest", bearer(token))
	a.refused(t, 401, "UNAUTHORIZED")
	wantMembers(t, without(a.challenged(t), "error_description"), "realm", "https://"+gateHost+"/token", "service", gateHost, "scope", pulls("team/app"), "error", "invalid_token")

	g, _ = passing(t, passRules, func(p *users) { p.bearer401 = "403"; p.rights["ann team/app"] = "" })
	if msg := g.get("/v2/team/app/manifests/latest", g.as("ann", pulls("team/app"))).refused(t, 403, "DENIED"); !strings.Contains(msg, "upstream registry does not allow ann") {
		t.Errorf("%s", msg)
	}
}

func without(m map[string]string, key string) map[string]string {
	delete(m, key)
	return m
}

func TestT36_LifetimeIsTheShorterOne(t *testing.T) {
	for _, tt := range []struct {
		ttl    time.Duration
		people func(*users)
		want   float64
	}{
		{5 * time.Minute, func(*users) {}, 300},
		{5 * time.Minute, func(p *users) { p.lifetime = 120 }, 120},
		{5 * time.Minute, func(p *users) { p.lifetime = 10 }, 60}, // T12
		{5 * time.Minute, func(p *users) { p.noExpiry = true }, 60},
		{time.Minute, func(p *users) { p.lifetime = 3600 }, 60},
		{5 * time.Minute, func(p *users) { p.basicOnly = true }, 300},
	} {
		g, _ := passing(t, passRules, tt.people)
		next := g.settings
		next.TokenTTL = tt.ttl
		g.swap(next)
		if b := g.get("/token?scope="+pulls("team/app"), who("ann")).want(t, 200).token(t); b.ExpiresIn != tt.want {
			t.Errorf("expires_in %v, want %v", b.ExpiresIn, tt.want)
		}
	}
}

func TestT30_SealedTokensMayHave8KiB(t *testing.T) {
	g, _ := passing(t, passRules, func(p *users) { p.length = 3500 })
	token := g.token("ann", pulls("team/app"))
	if len(token) <= auth.MaxIssued || len(token) > auth.MaxToken {
		t.Errorf("%d bytes", len(token))
	}
	g.get("/v2/team/app/manifests/latest", bearer(token)).want(t, 200)
}

// Nothing of a login or an upstream's token is seen by anybody but the upstream.
func TestT36_NothingSealedIsEverInTheClear(t *testing.T) {
	for name, change := range map[string]func(*users){"token": func(*users) {}, "login": func(p *users) { p.basicOnly = true }} {
		g, p := passing(t, passRules, change)
		var seen strings.Builder
		note := func(a reply) {
			_ = a.Header.Write(&seen)
			seen.Write(a.body)
		}
		tokens := []string{g.token("ann", pushes("team/app")),
			g.do("POST", "/token", post("username", "ann", "password", annPassword, "scope", pulls("team/app"))...).want(t, 200).token(t).Token}
		for _, token := range tokens {
			seen.WriteString(payloadOf(t, token))
			note(g.get("/v2/team/app/manifests/latest", bearer(token)))
			note(g.do("POST", "/v2/team/app/blobs/uploads/", bearer(token)))
			id, err := g.settings.Tokens.Verify(token, gateHost)
			if err != nil {
				t.Fatal(err)
			}
			own, ok := g.Current().backends[0].safe.open(id.Sealed, "ann")
			if !ok {
				t.Fatal("the box does not open")
			}
			fmt.Fprintf(&seen, "%v %+v %#v %v %+v %#v", id, id, id, own, struct{ own credential }{own}, &own)
		}
		note(g.get("/v2/team/app/manifests/latest", who("ann")))
		p.locked(func() { p.spent, p.fail = true, 500; p.passwords["bob"] = "new" })
		note(g.get("/v2/team/app/manifests/latest", bearer(tokens[0])))
		note(g.get("/token?scope="+pulls("team/app"), who("ann")))
		note(g.get("/token", basic("ann", "wrong")))
		all := seen.String() + g.log.String() + g.access.String() + g.audit.String() + fmt.Sprintf("%+v", g.Refusals(RefusalQuery{}))
		for _, secret := range p.secrets() {
			if secret != "" && strings.Contains(all, secret) {
				t.Errorf("%s: %q is to be seen", name, secret)
			}
		}
	}
}

func payloadOf(t testing.TB, token string) string {
	t.Helper()
	raw, err := strictPart(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Any instance with the keys goes on, in the middle of an upload too.
func TestT36_AnotherInstanceGoesOn(t *testing.T) {
	g, p := passing(t, passRules)
	other := &gate{TB: t, up: g.up, clock: g.clock, log: &lines{}, access: &lines{}, audit: &lines{}, settings: g.settings}
	other.Handler = New(Options{Limiter: ratelimit.NewMemory(1<<10, g.clock.Now), Cache: auth.NewCache(100, g.clock.Now), Log: other.log.logger(), Now: g.clock.Now})
	other.swap(g.settings)
	other.serve()

	ann := g.as("ann", pushes("team/app"))
	asked := len(p.asked)
	start := g.do("POST", "/v2/team/app/blobs/uploads/", ann).want(t, 202)
	next := other.do("PATCH", start.Header.Get("Location"), ann, body(layer)).want(t, 202)
	other.do("PUT", next.Header.Get("Location")+"?digest="+layerDigest, ann).want(t, 201)
	if len(p.asked) != asked {
		t.Error("the other instance asked for a token of its own")
	}
	// T17: what follows may come with another token.
	start = other.do("POST", "/v2/team/app/blobs/uploads/", ann).want(t, 202)
	g.do("PATCH", start.Header.Get("Location"), g.as("ann", pushes("team/app")), body(layer)).want(t, 202)
}

func TestT36_AnOlderKeyStillOpens(t *testing.T) {
	g, _ := passing(t, passRules)
	old, both := keyPair(t)
	next := g.settings
	next.Tokens = old
	g.swap(next)
	token := g.token("ann", pulls("team/app"))
	next.Tokens = both
	g.swap(next)
	g.get("/v2/team/app/manifests/latest", bearer(token)).want(t, 200)
	token = g.token("ann", pulls("team/app"))
	next.Tokens = old
	g.swap(next)
	g.get("/v2/team/app/manifests/latest", bearer(token)).want(t, 401)
}

// curl -u: the login is proven as anywhere, then a token is fetched for it.
func TestT36_BasicDirectlyWorksToo(t *testing.T) {
	g, p := passing(t, passRules)
	g.get("/v2/", who("ann")).want(t, 200)
	g.get("/v2/team/app/manifests/latest", who("ann")).want(t, 200)
	if _, values := p.last(t); values.Get("scope") != pulls("team/app") {
		t.Errorf("asked for %v", values)
	}
	start := g.do("POST", "/v2/team/app/blobs/uploads/", who("ann")).want(t, 202)
	g.do("PUT", start.Header.Get("Location")+"?digest="+layerDigest, who("ann"), body(layer)).want(t, 201)
	g.get("/v2/coolteam/vault/key/manifests/latest", who("ann")).refused(t, 401, "DENIED")
	g.get("/v2/team/app/manifests/latest", basic("ann", "wrong")).refused(t, 401, "UNAUTHORIZED")
	p.locked(func() { p.rights["ann team/app"] = "" })
	a := g.get("/v2/team/app/manifests/latest", who("ann"))
	a.refused(t, 401, "DENIED")
	if c := a.challenged(t); c["error"] != "" {
		t.Errorf("challenge %v of a request without a token", c)
	}
}

func TestT36_AnonymousCallersGoTheUsualWay(t *testing.T) {
	g, p := passing(t, passRules, func(p *users) { p.anonymous = true })
	g.up.seen()
	g.get("/v2/library/alpine/manifests/latest", g.as("", pulls("library/alpine"))).want(t, 200)
	g.get("/v2/team/app/manifests/latest", g.as("", pulls("team/app"))).refused(t, 401, "DENIED")
	if len(p.asked) != 0 {
		t.Error("somebody's login was used")
	}
	// With an account of regward's own they get what it may, and nobody else does.
	next := g.settings
	next.Upstreams = slices.Clone(next.Upstreams)
	next.Upstreams[0].Username, next.Upstreams[0].Password = "bob", bobPassword
	g.swap(next)
	g.get("/v2/library/alpine/manifests/latest", g.as("", pulls("library/alpine"))).want(t, 200)
	p.mu.Lock()
	user, _, _ := p.asked[len(p.asked)-1].BasicAuth()
	p.mu.Unlock()
	if user != "bob" {
		t.Errorf("asked as %q", user)
	}
	p.locked(func() { p.rights["ann team/app"] = "" })
	g.get("/v2/team/app/manifests/latest", g.as("ann", pulls("team/app"))).refused(t, 401, "DENIED")
	g.get("/token", who("bob")).refused(t, 401, "UNAUTHORIZED") // regward's own login is nobody's
}

// What the upstream does not give to anybody it may give to somebody: who has
// no login is told so, and not that nothing is there.
func TestT36_AnonymousCallersAreToldThatALoginMayHelp(t *testing.T) {
	for name, anonymous := range map[string]bool{"no token for anybody": false, "a token good for nothing": true} {
		g, p := passing(t, "allow everyone ** pull,push", func(p *users) { p.anonymous = anonymous })
		p.locked(func() { p.rights[" team/app"] = "" })
		anybody := g.as("", pulls("team/app"))
		for _, method := range []string{"GET", "HEAD"} {
			a := g.do(method, "/v2/team/app/manifests/latest", anybody)
			if a.StatusCode != 401 {
				t.Errorf("%s, %s: %d %s", name, method, a.StatusCode, a.body)
				continue
			}
			if c := a.challenged(t); c["scope"] != pulls("team/app") || c["error"] != "insufficient_scope" {
				t.Errorf("%s: challenge %v", name, c)
			}
			if method == "GET" && !strings.Contains(string(a.body), "you are not logged in: docker login "+gateHost) {
				t.Errorf("%s: %s", name, a.body)
			}
		}
		g.do("POST", "/v2/team/app/blobs/uploads/", g.as("", pushes("team/app"))).refused(t, 401, "DENIED")
	}
}

func TestP14_AMountThatTheUpstreamRefusesBecomesAPlainUpload(t *testing.T) {
	g, p := passing(t, passRules)
	p.rights["ann library/alpine"] = ""
	ann := g.as("ann", pushes("team/app"), pulls("library/alpine"))
	g.up.seen()
	g.do("POST", "/v2/team/app/blobs/uploads/?mount="+layerDigest+"&from=library/alpine", ann).want(t, 202)
	got := g.up.seen()
	if len(got) != 2 || !strings.Contains(got[0].Target, "from=library") || got[1].Target != "/v2/team/app/blobs/uploads/" {
		t.Errorf("the upstream got %v", got)
	}
	// With the right on both it is a mount (T32); a token without the source's scope asks for none (P16).
	p.locked(func() { clear(p.rights) })
	g.do("POST", "/v2/team/app/blobs/uploads/?mount="+layerDigest+"&from=library/alpine", g.as("ann", pushes("team/app"), pulls("library/alpine"))).want(t, 201)
	g.up.seen()
	g.do("POST", "/v2/team/app/blobs/uploads/?mount="+layerDigest+"&from=library/alpine", g.as("ann", pushes("team/app"))).want(t, 202)
	for _, r := range g.up.seen() {
		if strings.Contains(r.Target, "from=") {
			t.Errorf("mounted from where the token does not reach: %s", r.Target)
		}
	}
}

func TestC07_TheChallengeIsTheSameForEveryUpstream(t *testing.T) {
	g, second := two(t, passRules, func(a, b *UpstreamSettings) { a.Passthrough = true })
	addUsers(g.up)
	addUsers(second, func(p *users) { p.basicOnly = true })
	for _, target := range []string{"/v2/", "/v2/team/app/manifests/latest", "/v2/other/x/manifests/latest", "/v2/_catalog"} {
		for _, o := range []option{who(""), bearer("nonsense")} {
			c := g.get(target, o).want(t, 401).challenged(t)
			if c["realm"] != "https://"+gateHost+"/token" || c["service"] != gateHost {
				t.Errorf("%s: %v", target, c)
			}
		}
	}
}

// The credential goes to the upstream's own origin and nowhere else, by
// whatever way a request is led there.
func TestT34_RedirectsElsewhereGoWithout(t *testing.T) {
	storage := newFakeUpstream(t)
	g, p := passing(t, passRules)
	next := g.settings
	next.Upstreams = slices.Clone(next.Upstreams)
	at := strings.Replace(storage.srv.URL, "127.0.0.1", "localhost", 1)
	next.Upstreams[0].RedirectHosts = []string{strings.TrimPrefix(at, "http://")}
	g.swap(next)
	to := at + "/v2/x/blobs/" + layerDigest
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if p.answer(w, r) {
			return true
		}
		if strings.HasPrefix(r.URL.Path, "/v2/team/app/blobs/sha256") {
			w.Header().Set("Location", to)
			w.WriteHeader(307)
			return true
		}
		return false
	})
	g.get("/v2/team/app/blobs/"+layerDigest, g.as("ann", pulls("team/app"))).want(t, 200)
	if got := storage.one(t).Header; got.Get("Authorization") != "" || got.Get("Cookie") != "" {
		t.Errorf("storage got %v", got)
	}
	// An upload that goes on elsewhere.
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if p.answer(w, r) {
			return true
		}
		w.Header().Set("Location", at+"/v2/x/blobs/uploads/1")
		w.WriteHeader(202)
		return true
	})
	ann := g.as("ann", pushes("team/app"))
	start := g.do("POST", "/v2/team/app/blobs/uploads/", ann).want(t, 202)
	g.do("PUT", start.Header.Get("Location")+"?digest="+layerDigest, ann, body(layer)).want(t, 201)
	if got := storage.one(t).Header; got.Get("Authorization") != "" {
		t.Errorf("storage got %v", got)
	}
	// On the upstream's own origin it goes along.
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/storage/blob" {
			_, _ = io.WriteString(w, r.Header.Get("Authorization")[:len("Bearer upstreamtoken.of-ann")])
			return true
		}
		if p.answer(w, r) {
			return true
		}
		http.Redirect(w, r, "/storage/blob", http.StatusFound)
		return true
	})
	if a := g.get("/v2/team/app/blobs/"+layerDigest, g.as("ann", pulls("team/app"))).want(t, 200); string(a.body) != "Bearer upstreamtoken.of-ann" {
		t.Errorf("%s", a.body)
	}
}

// L03: the upstream's limits are the caller's here, and nobody's otherwise.
func TestL03_TheUpstreamsLimitsAreTheCallers(t *testing.T) {
	g, p := passing(t, passRules, func(p *users) { p.anonymous = true })
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("RateLimit-Remaining", "20;w=21600")
		return p.answer(w, r)
	})
	for user, want := range map[string]string{"ann": "20;w=21600", "": ""} {
		a := g.get("/v2/library/alpine/manifests/latest", g.as(user, pulls("library/alpine"))).want(t, 200)
		if got := a.Header.Get("RateLimit-Remaining"); got != want {
			t.Errorf("%q: RateLimit-Remaining %q, want %q", user, got, want)
		}
	}
}

// One upstream takes people's logins, the other regward's account.
func TestT35_PassthroughBesideAnAccount(t *testing.T) {
	g, second := two(t, passRules, func(a, b *UpstreamSettings) {
		a.Passthrough = true
		b.Username, b.Password = "bob", bobPassword
	})
	p, q := addUsers(g.up), addUsers(second, func(p *users) { p.passwords["ann"] = "another ann's" })
	g.wantGranted(g.token("ann", pulls("team/app"), pulls("other/x")), pulls("team/app"))
	token := g.token("ann", pulls("other/x"), pulls("team/app"))
	g.wantGranted(token, pulls("other/x"))
	if strings.Contains(payloadOf(t, token), `"sealed"`) {
		t.Error("a credential is sealed in for nothing")
	}
	g.get("/v2/other/x/manifests/latest", bearer(token)).want(t, 200)
	q.mu.Lock()
	for _, r := range q.asked {
		if user, _, _ := r.BasicAuth(); user != "bob" {
			t.Errorf("the other upstream was asked as %q", user)
		}
	}
	q.mu.Unlock()
	if len(p.asked) == 0 {
		t.Error("ann was proven by nobody")
	}
	// Its own ann is nobody here, and an upload there goes on with tokens of hers.
	g.get("/token?scope="+pulls("other/x"), basic("ann", "another ann's")).refused(t, 401, "UNAUTHORIZED")
	g.do("POST", "/v2/other/x/blobs/uploads/", g.as("ann", pushes("other/x"))).want(t, 202)
	g.get("/v2/other/x/manifests/latest", who("ann")).want(t, 200)
}

// What one upstream says of a name is not believed at another.
func TestT36_ANameIsProvenByItsOwnUpstreamOnly(t *testing.T) {
	g, second := two(t, passRules, func(a, b *UpstreamSettings) { b.Passthrough = true })
	addUsers(g.up, func(p *users) { p.anonymous = true })
	addUsers(second)
	next := g.settings
	setPasswords(t, &next, []byte(htpasswdLine("ann", "hers here")))
	g.swap(next)
	there := g.tokenFor([]option{who("ann")}, pulls("other/x"))
	g.get("/v2/other/x/manifests/latest", bearer(there)).want(t, 200)
	for _, target := range []string{"/v2/team/app/manifests/latest", "/v2/coolteam/app/manifests/latest"} {
		a := g.get(target, bearer(there))
		a.refused(t, 401, "DENIED")
		if c := a.challenged(t); c["error"] != "insufficient_scope" {
			t.Errorf("challenge %v", c)
		}
	}
	// Not with a scope that was another upstream's when it was given, either.
	id, err := g.settings.Tokens.Verify(there, gateHost)
	if err != nil {
		t.Fatal(err)
	}
	token, err := g.settings.Tokens.Issue(id, gateHost, []auth.Access{{Repository: "team/app", Action: auth.Pull}}, g.clock.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	g.up.seen()
	g.get("/v2/team/app/manifests/latest", bearer(token)).refused(t, 401, "DENIED")
	g.up.none(t)
	here := g.tokenFor([]option{basic("ann", "hers here")}, pulls("team/app"), pulls("other/x"))
	g.wantGranted(here, pulls("team/app"))
	g.get("/v2/other/x/manifests/latest", bearer(here)).refused(t, 401, "DENIED")
	g.get("/v2/", bearer(here)).want(t, 200)
	g.get("/v2/", bearer(there)).want(t, 200)
}

func TestT29_RelaysDoNotWaitForEver(t *testing.T) {
	g, p := passing(t, passRules)
	g.token("ann", pulls("team/app"))
	next := g.settings
	next.Upstreams = slices.Clone(next.Upstreams)
	next.Upstreams[0].HeaderTimeout = 500 * time.Millisecond
	g.swap(next)
	release := make(chan bool)
	defer close(release)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/auth/token" && r.URL.Query().Has("scope") {
			<-release
			return true
		}
		return p.answer(w, r)
	})
	g.get("/token?scope="+pulls("team/app"), who("ann")).refused(t, 504, "UNAVAILABLE")
	if authTimeout > 15*time.Second {
		t.Error("clients wait for 15 s")
	}
}

// A named caller's request never goes out with regward's own account.
func TestPassthroughNeverFallsBackToTheAccount(t *testing.T) {
	g, _ := passing(t, passRules)
	up := g.Current().backends[0].Upstream
	g.up.seen()
	if _, err := up.do(t.Context(), &outgoing{Method: "GET", Path: "/v2/x/manifests/1", User: "ann"}); err == nil {
		t.Error("it was asked")
	}
	g.up.none(t)
}

func TestCredentialsStayInTheirSafe(t *testing.T) {
	keys := [][32]byte{{1}, {2}}
	at := newSafe(keys, "https://a.example")
	for _, c := range []credential{
		{auth.NewBearer("a token"), time.Unix(1_800_000_000, 0)},
		{auth.NewBasic("Ann", "pass:word"), time.Time{}},
	} {
		box := at.seal(c, "ann")
		got, ok := at.open(box, "ann")
		if !ok || !got.Equal(c.Credential) || !got.expires.Equal(c.expires) || got.authorization() != c.authorization() {
			t.Errorf("%v came back as %v, %v", c, got, ok)
		}
		for name, tt := range map[string]struct {
			s         safe
			principal string
		}{
			"another upstream": {newSafe(keys, "https://b.example"), "ann"},
			"another name":     {at, "bob"},
			"nobody":           {at, ""},
			"another key":      {newSafe([][32]byte{{2}}, "https://a.example"), "ann"},
			"as an upload":     {safe{newSealer(keys, "https://a.example")}, "ann"},
		} {
			if _, ok := tt.s.open(box, tt.principal); ok {
				t.Errorf("%v opens: %s", c, name)
			}
		}
		if _, ok := newSafe([][32]byte{{3}, {1}}, "https://a.example").open(box, "ann"); !ok {
			t.Errorf("%v: an older key does not open", c)
		}
		if len(box.Box())%padding != 28%padding { // nonce and tag
			t.Errorf("%d bytes tell a length", len(box.Box()))
		}
	}
	if _, ok := at.open(at.seal(credential{Credential: auth.NewBearer("x")}, ""), ""); ok {
		t.Error("nobody has a credential")
	}
}

func FuzzOpenCredential(f *testing.F) {
	s := newSafe([][32]byte{{1}}, "https://a.example")
	for _, c := range []credential{{auth.NewBearer("a token"), time.Unix(1_800_000_000, 0)}, {auth.NewBasic("ann", "pw"), time.Time{}}} {
		box := s.seal(c, "ann").Box()
		plain, _ := s.openBytes([]byte(box))
		f.Add([]byte(box), plain)
	}
	f.Add([]byte{}, make([]byte, padding))
	f.Fuzz(func(t *testing.T, box, plain []byte) {
		// What is inside is read without a key, too; it has one spelling.
		c, principal, ok := readCredential(plain)
		if ok {
			if c.Secret() == "" || len(c.User)+len(c.Secret())+len(principal) > len(plain) {
				t.Fatalf("%q reads as more than it is: %q %q", plain, c.User, c.Secret())
			}
			if again, got := s.open(s.seal(c, principal), principal); principal != "" && (!got || !again.Equal(c.Credential)) {
				t.Fatalf("%q does not come back", plain)
			}
		}
		if _, ok := s.open(auth.NewSealed(box), "bob"); ok {
			t.Fatalf("%x opens for another", box)
		}
	})
}

// strictPart is a segment of a token.
func strictPart(segment string) (string, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	return string(raw), err
}

// keyPair are tokens of one key, and of a new one before it.
func keyPair(t testing.TB) (old, both *auth.Tokens) {
	t.Helper()
	dir := t.TempDir()
	load := func(name string, create bool) *auth.Tokens {
		tokens, err := auth.LoadTokens(filepath.Join(dir, name), create)
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}
	old = load("old.pem", true)
	load("new.pem", true)
	var all []byte
	for _, name := range []string{"new.pem", "old.pem"} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, raw...)
	}
	if err := os.WriteFile(filepath.Join(dir, "both.pem"), all, 0o600); err != nil {
		t.Fatal(err)
	}
	return old, load("both.pem", false)
}

// A registry may lock a name after few wrong passwords. A login that it once
// turned down is not sent there again, however many tokens have it sealed in.
func TestT36_ADeadLoginIsNotRepeated(t *testing.T) {
	for what, basicOnly := range map[string]bool{"Basic alone": true, "a token service": false} {
		g, p := passing(t, passRules, func(p *users) { p.basicOnly = basicOnly })
		token := g.token("ann", pushes("team/app"))
		p.locked(func() { p.passwords["ann"] = "a new one" })
		wrong := func() (n int) {
			for _, r := range g.up.seen() {
				if user, password, ok := (&http.Request{Header: r.Header}).BasicAuth(); ok && user == "ann" && password == annPassword {
					n++
				}
			}
			return n
		}
		g.up.seen()
		for range 10 {
			if basicOnly {
				g.get("/v2/team/app/manifests/latest", bearer(token)).refused(t, 401, "UNAUTHORIZED")
			}
			g.get("/token?scope="+pulls("team/app"), who("ann"))
			g.get("/v2/team/app/tags/list", who("ann")).want(t, 401)
		}
		if n := wrong(); n > 2 {
			t.Errorf("%s: the upstream saw the old password %d times", what, n)
		}
		g.clock.pass(time.Hour)
		p.locked(func() { p.passwords["ann"] = annPassword })
		g.get("/v2/team/app/manifests/latest", g.as("ann", pulls("team/app"))).want(t, 200)
	}
}

// What a registry says to a good login that lacks a right is no word about the
// login.
func TestT36_A401ForWantOfARightIsNoDeadLogin(t *testing.T) {
	g, p := passing(t, passRules, func(p *users) { p.basicOnly = true })
	token := g.token("ann", pushes("team/app"), pushes("secret/app"))
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v2/secret/") {
			w.Header().Set("Www-Authenticate", `Basic realm="r"`)
			distributionError(w, 401, "UNAUTHORIZED")
			return true
		}
		return p.answer(w, r)
	})
	for range 3 {
		g.get("/v2/secret/app/manifests/latest", bearer(token)).want(t, 401)
		g.get("/v2/team/app/manifests/latest", bearer(token)).want(t, 200)
	}
}

// Nexus answers 429 to all that comes with a name it has locked, and each such
// request begins the wait anew.
func TestT36_ALockedNameIsLeftAlone(t *testing.T) {
	g, _ := passing(t, passRules, func(p *users) { p.basicOnly = true })
	token := g.token("ann", pushes("team/app"))
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Server", "Nexus/3.96.0-01 (PRO)")
		w.Header().Set("Retry-After", "30")
		distributionError(w, 429, "TOOMANYREQUESTS")
		return true
	})
	g.up.seen()
	for range 5 {
		g.get("/v2/team/app/manifests/latest", bearer(token)).refused(t, 503, "UNAVAILABLE")
	}
	g.up.one(t)
}

// Nexus has one list of users for all its repositories, and locks a name after
// four wrong passwords: guesses count together, whichever of them they are for.
func TestGuessesCountTogetherAtOneRegistry(t *testing.T) {
	g, _ := two(t, passRules, func(a, b *UpstreamSettings) {
		a.Passthrough, b.Passthrough = true, true
		first, second := *a.URL, *a.URL
		first.Path, second.Path = "/repository/first", "/repository/second"
		a.URL, b.URL = &first, &second
	})
	addUsers(g.up, func(p *users) { p.basicOnly = true })
	guess := func() (asked int) {
		g.up.seen()
		for i := range 6 {
			for _, name := range []string{"team/app", "other/app"} {
				g.get("/token?scope="+pulls(name), basic("ann", fmt.Sprintf("guess %d at %s", i, name)), from("192.0.2."+fmt.Sprint(i)))
			}
		}
		for _, r := range g.up.seen() {
			if user, _, _ := (&http.Request{Header: r.Header}).BasicAuth(); user == "ann" {
				asked++
			}
		}
		return asked
	}
	if n := guess(); n != 2 {
		t.Errorf("the registry was asked %d times", n)
	}
	s := g.Current().Settings // what is known of names outlives a change of the settings
	s.Upstreams = slices.Clone(s.Upstreams)
	for i := range s.Upstreams {
		s.Upstreams[i].ReadOnly = "for a while"
	}
	g.swap(s)
	if n := guess(); n != 0 {
		t.Errorf("after a reload the registry was asked %d times more", n)
	}
}
