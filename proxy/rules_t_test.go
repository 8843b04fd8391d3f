package proxy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

// granted is what a token covers, in scope's words.
func (g *gate) granted(token string) string {
	g.Helper()
	id, err := g.settings.Tokens.Verify(token, gateHost)
	if err != nil {
		g.Fatal(err)
	}
	return auth.FormatScope(id.Scope)
}

func (g *gate) wantGranted(token, want string) {
	g.Helper()
	if got := g.granted(token); got != want {
		g.Errorf("granted %q, want %q", got, want)
	}
}

// post is the password grant.
func post(values ...string) []option {
	v := url.Values{"grant_type": {"password"}, "service": {gateHost}, "client_id": {"test"}}
	for i := 0; i < len(values); i += 2 {
		v.Add(values[i], values[i+1])
	}
	return []option{form(v.Encode())}
}

func TestT01_TokenPathAnswersItself(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Hostnames = []string{gateHost, "mirror.acme.example"} })
	for _, host := range []string{gateHost, "mirror.acme.example"} {
		at := func(r *http.Request) { r.Host = host }
		for _, a := range []reply{
			g.get("/token", at),
			g.get("/token", at, who("ann")),
			g.do("POST", "/token", append(post("username", "ann", "password", annPassword), at)...),
		} {
			a.want(t, 200)
			if a.Header.Get("Location") != "" {
				t.Errorf("%s: Location %q", host, a.Header.Get("Location"))
			}
		}
	}
	g.get("/token/").want(t, 404)
	g.do("PUT", "/token").want(t, 405)
	g.up.none(t)
}

func TestT02_GetParametersMayBeAbsent(t *testing.T) {
	g := newGate(t, usual)
	for _, query := range []string{"", "?service=" + gateHost, "?scope=", "?account=ann", "?client_id=docker", "?offline_token=true", "?offline_token=nonsense",
		"?unknown=1&more=2", "?scope=" + pulls("coolteam/app") + "&account=ann&client_id=docker&offline_token=true&service=x&foo=bar"} {
		b := g.get("/token"+query, who("ann")).want(t, 200).token(t)
		want := ""
		if strings.Contains(query, "repository") {
			want = pulls("coolteam/app")
		}
		g.wantGranted(b.Token, want)
	}
}

func TestT03_ScopesMayComeTogether(t *testing.T) {
	g := newGate(t, usual)
	both := pulls("coolteam/app") + " " + pulls("library/alpine")
	for name, query := range map[string]url.Values{
		"two values":         {"scope": {pulls("coolteam/app"), pulls("library/alpine")}},
		"one with a space":   {"scope": {both}},
		"many spaces":        {"scope": {"  " + strings.ReplaceAll(both, " ", "   ") + " "}},
		"with a host inside": {"scope": {both + " repository:example.com:5000/x:pull"}},
	} {
		t.Run(name, func(t *testing.T) {
			g.wantGranted(g.get("/token?"+query.Encode(), who("ann")).want(t, 200).token(t).Token, both)
			g.wantGranted(g.do("POST", "/token", post("username", "ann", "password", annPassword, "scope", strings.Join(query["scope"], " "))...).want(t, 200).token(t).Token, both)
		})
	}
}

func TestT04_PluginsStarsAndUnknownTypes(t *testing.T) {
	g := newGate(t, usual)
	for scope, want := range map[string]string{
		"repository(plugin):coolteam/app:push,pull":            pushes("coolteam/app"),
		"repository:coolteam/app:delete,push,pull":             deletes("coolteam/app"),
		"repository:coolteam/app:*":                            deletes("coolteam/app"),
		"repository:bob/x:*":                                   "",
		"repository:library/alpine:*":                          pulls("library/alpine"),
		"registry:nonsense:*":                                  "",
		"galaxy:coolteam/app:pull":                             "",
		"repository:coolteam/app:pull,fly":                     pulls("coolteam/app"),
		"repository:coolteam/app:":                             "",
		"galaxy:x:pull repository:coolteam/app:fly,pull x:y:z": pulls("coolteam/app"),
	} {
		g.wantGranted(g.token("ann", scope), want)
	}
}

func TestT05_ScopesOfOneRepositoryAreUnited(t *testing.T) {
	g := newGate(t, usual)
	for _, scopes := range [][]string{
		{pulls("coolteam/app"), "repository:coolteam/app:pull,push"},
		{"repository:coolteam/app:pull,push", pulls("coolteam/app")},
		{"repository:coolteam/app:push", pulls("coolteam/app"), "repository:coolteam/app:push"},
		{pulls("coolteam/app") + " repository:coolteam/app:push"},
	} {
		g.wantGranted(g.token("ann", scopes...), pushes("coolteam/app"))
	}
}

func TestT06_ForeignScopesGrantNothingAndAreNoError(t *testing.T) {
	g := newGate(t, usual)
	for _, scope := range []string{pulls("no/such"), pulls("ops/secrets"), pulls("coolteam/vault/key"), pulls("docker.io/library/alpine"), pulls("Upper/Case"), pulls("a//b"), pulls(strings.Repeat("x/", 200) + "x")} {
		g.wantGranted(g.token("ann", scope), "")
		g.wantGranted(g.token("ann", scope, pulls("coolteam/app")), pulls("coolteam/app"))
	}
	g.up.none(t) // and nobody asked the upstream whether they exist
}

func TestT07_LackOfPermissionIsNoError(t *testing.T) {
	g := newGate(t, usual)
	for _, tt := range []struct{ user, scope, granted string }{
		{"", pulls("coolteam/app"), ""},
		{"", pushes("library/alpine"), pulls("library/alpine")},
		{"bob", pushes("coolteam/app"), ""},
		{"bob", deletes("bob/tools"), pushes("bob/tools")},
		{"bob", pushes("shared/base") + " " + pulls("bob/tools"), pulls("shared/base") + " " + pulls("bob/tools")},
		{"ann", deletes("coolteam/app"), deletes("coolteam/app")},
	} {
		a := g.get("/token?"+url.Values{"scope": {tt.scope}}.Encode(), who(tt.user)).want(t, 200)
		g.wantGranted(a.token(t).Token, tt.granted)
	}
}

func TestT08_WrongCredentialsAreNeverAnonymous(t *testing.T) {
	g := newGate(t, usual)
	for name, user := range map[string][2]string{"wrong password": {"ann", "wrong"}, "unknown": {"nobody", "x"}, "another's": {"ann", bobPassword}, "with a space": {"ann", annPassword + " "}} {
		for _, query := range []string{"", "?scope=" + pulls("library/alpine")} {
			a := g.get("/token"+query, basic(user[0], user[1]))
			a.refused(t, 401, "UNAUTHORIZED")
			if strings.Contains(string(a.body), "token\"") {
				t.Errorf("%s: %s", name, a.body)
			}
			g.do("POST", "/token", post("username", user[0], "password", user[1])...).refused(t, 401, "UNAUTHORIZED")
		}
	}
}

func TestT09_NoCredentialsGetAnAnonymousToken(t *testing.T) {
	g := newGate(t, usual)
	g.wantGranted(g.token("", pulls("library/alpine"), pulls("coolteam/app")), pulls("library/alpine"))
	id, err := g.settings.Tokens.Verify(g.token(""), gateHost)
	if err != nil || !id.Anonymous() {
		t.Errorf("got %+v, %v; want an anonymous identity", id, err)
	}
	g.do("POST", "/token", post("scope", pulls("library/alpine"))...).want(t, 200)
}

func TestT10_BodyOfTheAnswer(t *testing.T) {
	g := newGate(t, usual)
	get := g.get("/token?scope="+pulls("coolteam/app"), who("ann")).want(t, 200)
	post := g.do("POST", "/token", post("username", "ann", "password", annPassword, "scope", pushes("coolteam/app")+" "+pulls("ops/secrets"))...).want(t, 200)
	for _, a := range []reply{get, post} {
		b := a.token(t)
		if b.Token == "" || b.Token != b.AccessToken {
			t.Errorf("token %q and access_token %q", b.Token, b.AccessToken)
		}
		if !regexp.MustCompile(`"expires_in":300[,}]`).Match(a.body) {
			t.Errorf("expires_in is no integer of 300: %s", a.body)
		}
		if got := a.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type %q", got)
		}
	}
	if s := post.token(t).Scope; s == nil || *s != pushes("coolteam/app") {
		t.Errorf("POST's scope: %v", s)
	}
	if s := g.do("POST", "/token", form("grant_type=password")).want(t, 200).token(t).Scope; s == nil || *s != "" {
		t.Errorf("POST's empty scope: %v", s)
	}
}

func TestT11_NoIssuedAt(t *testing.T) {
	g := newGate(t, usual)
	if b := g.get("/token", who("ann")).token(t); b.IssuedAt != "" {
		if _, err := time.Parse(time.RFC3339, b.IssuedAt); err != nil {
			t.Errorf("issued_at %q", b.IssuedAt)
		}
	}
}

func TestT12_LifetimeIsWhatWasSet(t *testing.T) {
	for _, ttl := range []time.Duration{time.Minute, 5 * time.Minute, time.Hour} {
		g := newGate(t, usual, func(s *Settings) { s.TokenTTL = ttl })
		b := g.get("/token").token(t)
		if got, ok := b.ExpiresIn.(float64); !ok || got < 60 || got != ttl.Seconds() {
			t.Errorf("%v: expires_in %v", ttl, b.ExpiresIn)
		}
	}
}

func TestT13_TokenIsTakenAMinuteLonger(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	const target = "/v2/coolteam/app/manifests/latest"
	for _, step := range []struct {
		after  time.Duration // of the issue
		status int
	}{{0, 200}, {300 * time.Second, 200}, {301 * time.Second, 200}, {360 * time.Second, 200}, {362 * time.Second, 401}} {
		g.clock.mu.Lock()
		g.clock.now = newClock().now.Add(step.after)
		g.clock.mu.Unlock()
		a := g.get(target, ann).want(t, step.status)
		if step.status == 401 {
			if got := a.challenged(t)["error"]; got != "invalid_token" {
				t.Errorf("error %q", got)
			}
		}
	}
}

func TestT14_LifetimeCanBeAnHour(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.TokenTTL = time.Hour })
	ann := g.as("ann", pulls("coolteam/app"))
	g.clock.pass(59 * time.Minute)
	g.get("/v2/coolteam/app/blobs/"+layerDigest, ann).want(t, 200)
}

func TestT15_ExpiresInIsAlwaysThere(t *testing.T) {
	g := newGate(t, usual)
	for _, a := range []reply{g.get("/token"), g.get("/token", who("ann")), g.get("/token?scope=" + pulls("no/such")), g.do("POST", "/token", post("username", "bob", "password", bobPassword)...)} {
		if b := a.want(t, 200).token(t); b.ExpiresIn == nil {
			t.Errorf("no expires_in in %s", a.body)
		}
	}
}

func TestT16_ExpiryIsCheckedWhenARequestStarts(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	begun, goOn := make(chan bool), make(chan bool)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(layer)))
		_, _ = w.Write(layer[:10])
		w.(http.Flusher).Flush()
		close(begun)
		<-goOn
		_, _ = w.Write(layer[10:])
		return true
	})
	done := make(chan reply)
	go func() { done <- g.get("/v2/coolteam/app/blobs/"+layerDigest, ann) }()
	<-begun
	g.clock.pass(24 * time.Hour)
	close(goOn)
	if a := <-done; a.err != nil || a.StatusCode != 200 || string(a.body) != string(layer) {
		t.Errorf("transfer begun with a good token: %d, %d bytes, %v", a.StatusCode, len(a.body), a.err)
	}
	g.get("/v2/coolteam/app/blobs/"+layerDigest, ann).want(t, 401)
}

func TestT17_UploadIsNotTiedToOneToken(t *testing.T) {
	g := newGate(t, usual)
	// docker: the mount with a token of two scopes, what follows with another of one.
	start := g.do("POST", "/v2/coolteam/app/blobs/uploads/?mount="+absentDigest+"&from=library/alpine",
		g.as("ann", pushes("coolteam/app"), pulls("library/alpine"))).want(t, 202)
	other := g.as("ann", pushes("coolteam/app"))
	next := g.do("PATCH", start.Header.Get("Location"), other, body(layer)).want(t, 202)
	g.do("PUT", next.Header.Get("Location")+"?digest="+layerDigest, who("ann")).want(t, 201)
}

func TestT18_FormsOfThePost(t *testing.T) {
	g := newGate(t, usual)
	login := "username=ann&password=" + url.QueryEscape(annPassword)
	typed := func(contentType string) option {
		return func(r *http.Request) { r.Header.Set("Content-Type", contentType) }
	}
	for name, tt := range map[string]struct {
		form, contentType string
		granted           string
	}{
		"plain":          {"grant_type=password&" + login, "application/x-www-form-urlencoded", ""},
		"charset":        {"grant_type=password&" + login, "application/x-www-form-urlencoded; charset=utf-8", ""},
		"upper case":     {"grant_type=password&" + login, "Application/X-WWW-Form-Urlencoded;charset=UTF-8", ""},
		"space list":     {"grant_type=password&" + login + "&scope=" + url.QueryEscape(pulls("coolteam/app")+" "+pulls("library/alpine")), "application/x-www-form-urlencoded", pulls("coolteam/app") + " " + pulls("library/alpine")},
		"repeated field": {"grant_type=password&" + login + "&scope=" + pulls("coolteam/app") + "&scope=" + pulls("library/alpine"), "application/x-www-form-urlencoded", pulls("coolteam/app") + " " + pulls("library/alpine")},
		"everything":     {"grant_type=password&service=x&client_id=containerd-client&access_type=offline&refresh_token=&" + login, "application/x-www-form-urlencoded", ""},
	} {
		b := g.do("POST", "/token", form(tt.form), typed(tt.contentType)).want(t, 200).token(t)
		if id, err := g.settings.Tokens.Verify(b.Token, gateHost); err != nil || id.Name != "ann" {
			t.Errorf("%s: token of %q, %v", name, id.Name, err)
		}
		g.wantGranted(b.Token, tt.granted)
	}
	// Credentials in the query are none.
	b := g.do("POST", "/token?"+login+"&grant_type=password", form("grant_type=password&scope="+pulls("coolteam/app"))).want(t, 200).token(t)
	g.wantGranted(b.Token, "")
	b = g.get("/token?"+login+"&scope="+pulls("coolteam/app")).want(t, 200).token(t)
	g.wantGranted(b.Token, "")
	if strings.Contains(g.access.String(), url.QueryEscape(annPassword)) {
		t.Error("a password in a query is in the log")
	}
	g.do("POST", "/token", body([]byte(`{"username":"ann"}`)), header("Content-Type", "application/json")).want(t, 415)
}

func TestT19_PasswordGrantWorks(t *testing.T) {
	g := newGate(t, usual)
	b := g.do("POST", "/token", post("username", "ann", "password", annPassword, "scope", pushes("coolteam/app"))...).want(t, 200).token(t)
	g.get("/v2/coolteam/app/manifests/latest", bearer(b.AccessToken)).want(t, 200)
	g.do("POST", "/v2/coolteam/app/blobs/uploads/", bearer(b.AccessToken)).want(t, 202)
}

func TestT20_PostIsSupportedHere(t *testing.T) {
	// 404 is for upstreams whose POST is not: clients fall back then. Ours must not say so.
	g := newGate(t, usual)
	g.do("POST", "/token", post("username", "ann", "password", annPassword)...).want(t, 200)
	// What is not supported is a status that containerd goes on from by GET.
	if a := g.do("POST", "/token", form("grant_type=nonsense")); a.StatusCode != 400 {
		t.Errorf("unknown grant: %d", a.StatusCode)
	}
}

func TestT21_PostAndGetAreOneFailedLogin(t *testing.T) {
	g := newGate(t, usual+"limit logins failed_logins 3/15m per=ip+user")
	fail := func(password string) (post_, get int) {
		p := g.do("POST", "/token", post("username", "ann", "password", password)...)
		q := g.get("/token", basic("ann", password))
		return p.StatusCode, q.StatusCode
	}
	for _, password := range []string{"one", "two", "three"} {
		if p, q := fail(password); p != 401 || q != 401 {
			t.Errorf("%s: POST %d, GET %d, want 401 twice", password, p, q)
		}
	}
	if p, _ := fail("four"); p != 429 {
		t.Errorf("a fourth password: %d, want 429", p)
	}
	// JSON, as everywhere.
	g.do("POST", "/token", post("username", "bob", "password", "wrong")...).refused(t, 401, "UNAUTHORIZED")
}

func TestT22_NoRefreshTokenIsReturned(t *testing.T) {
	g := newGate(t, usual)
	for _, a := range []reply{
		g.get("/token?offline_token=true&account=ann&client_id=docker", who("ann")),
		g.do("POST", "/token", post("username", "ann", "password", annPassword, "access_type", "offline")...),
		g.get("/token", who("ann")),
	} {
		if b := a.want(t, 200).token(t); b.RefreshToken != nil {
			t.Errorf("refresh_token %q", *b.RefreshToken)
		}
	}
}

func TestT22_RefreshTokenIsReturnedWhenAskedFor(t *testing.T) {
	g, store := refreshing(t)
	login := []string{"username", "ann", "password", annPassword}
	for name, tt := range map[string]struct {
		a    reply
		want bool
	}{
		"docker login":              {g.get("/token?offline_token=true&account=ann&client_id=docker", who("ann")), true},
		"with a scope":              {g.get("/token?offline_token=true&scope="+pulls("coolteam/app"), who("ann")), true},
		"POST, access_type=offline": {g.do("POST", "/token", post(append(login, "access_type", "offline")...)...), true},
		"GET without":               {g.get("/token", who("ann")), false},
		"GET, false":                {g.get("/token?offline_token=false", who("ann")), false},
		"POST without":              {g.do("POST", "/token", post(login...)...), false},
		"POST, online":              {g.do("POST", "/token", post(append(login, "access_type", "online")...)...), false},
		"anonymous":                 {g.get("/token?offline_token=true"), false},
		"anonymous POST":            {g.do("POST", "/token", post("access_type", "offline")...), false},
	} {
		b := tt.a.want(t, 200).token(t)
		switch {
		case !tt.want && b.RefreshToken != nil:
			t.Errorf("%s: a refresh token", name)
		case tt.want && (b.RefreshToken == nil || !regexp.MustCompile("^rgr_[0-9A-Za-z]{49}$").MatchString(*b.RefreshToken)):
			t.Errorf("%s: %s", name, tt.a.body)
		}
	}
	if len(store.all) != 3 {
		t.Errorf("%d are kept, want 3", len(store.all))
	}
	for hash, kept := range store.all {
		if kept.User != "ann" || kept.Host != gateHost || kept.Via != "htpasswd" || kept.Client == "" || kept.Addr != "127.0.0.1" || kept.Hash != hash {
			t.Errorf("kept: %+v", kept)
		}
	}
	g.get("/token?offline_token=true", basic("ann", "wrong")).want(t, 401)
	g.get("/token?offline_token=true&account=bob", who("ann")).want(t, 401)
	if len(store.all) != 3 {
		t.Error("a login that was refused left a refresh token")
	}
}

func TestT23_RefreshTokenIsBound(t *testing.T) {
	g, _ := refreshing(t)
	_, refresh := g.keepLogin()
	b := g.renewed(refresh, pushes("coolteam/app")+" "+pulls("ops/secrets")).want(t, 200).token(t)
	g.wantGranted(b.Token, pushes("coolteam/app"))
	id, err := g.settings.Tokens.Verify(b.Token, gateHost)
	if err != nil || id.Name != "ann" {
		t.Errorf("a token of %q, %v", id.Name, err)
	}
	if b.RefreshToken == nil || *b.RefreshToken != refresh || b.AccessToken != b.Token || b.ExpiresIn != float64(300) || b.Scope == nil || *b.Scope != pushes("coolteam/app") {
		t.Errorf("answer %+v", b)
	}
	g.get("/v2/coolteam/app/manifests/latest", bearer(b.Token)).want(t, 200)

	at := func(r *http.Request) { r.Host = "mirror.acme.example" }
	g.renewed(refresh, "", at).refused(t, 401, "UNAUTHORIZED")
	g.renewed(refresh, "").want(t, 200) // which ends it nowhere else
	for name, value := range map[string]string{
		"nothing": "", "made up": "made-up", "cut": refresh[:len(refresh)-1], "longer": refresh + "0", "a token": b.Token,
		"a password": annPassword, "one letter": refresh[:20] + "!" + refresh[21:], "never given": "rgr_" + strings.Repeat("0", 49),
	} {
		if msg := g.renewed(value, "").refused(t, 401, "UNAUTHORIZED"); !strings.Contains(msg, "docker login "+gateHost) {
			t.Errorf("%s: %s", name, msg)
		}
	}
	// It is nothing but that: neither a token nor a password.
	g.get("/v2/", bearer(refresh)).want(t, 401)
	g.get("/token", basic("ann", refresh)).refused(t, 401, "UNAUTHORIZED")
	g.do("POST", "/token", post("username", "ann", "password", refresh)...).refused(t, 401, "UNAUTHORIZED")
	g.do("POST", "/token", post("username", "ann", "password", "wrong", "refresh_token", refresh)...).refused(t, 401, "UNAUTHORIZED")

	// 90 days without a use, and it is gone; each use is a beginning.
	for range 3 {
		g.clock.pass(89 * 24 * time.Hour)
		g.renewed(refresh, "").want(t, 200)
		if err := g.Handler.Refresh.Note(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	g.clock.pass(90 * 24 * time.Hour)
	g.renewed(refresh, "").refused(t, 401, "UNAUTHORIZED")

	// Switched off, it tells the user what to do.
	_, refresh = g.keepLogin()
	next := g.settings
	next.Renew = nil
	g.swap(next)
	g.renewed(refresh, "").refused(t, 401, "UNAUTHORIZED")
}

func TestT23_RefreshTokensAreNotTakenEither(t *testing.T) {
	g := newGate(t, usual)
	for _, value := range []string{"", "made-up", g.token("ann", pulls("coolteam/app"))} {
		a := g.do("POST", "/token", form("grant_type=refresh_token&service="+gateHost+"&refresh_token="+value+"&scope="+pulls("coolteam/app")))
		if a.StatusCode == 200 || a.StatusCode >= 500 || a.StatusCode == 403 {
			t.Errorf("refresh grant: %d %s", a.StatusCode, a.body)
		}
	}
}

func TestT24_TokenIsNoUserName(t *testing.T) {
	g := newGate(t, "allow user:<token> ** *", func(s *Settings) {
		if _, err := auth.ParseHtpasswd("f", []byte(htpasswdLine("<token>", "x")), auth.HtpasswdOptions{}); err == nil {
			t.Error("an htpasswd may have a user <token>")
		}
	})
	g.get("/token", basic("<token>", "x")).refused(t, 401, "UNAUTHORIZED")
	g.get("/v2/", basic("<token>", "x")).refused(t, 401, "UNAUTHORIZED")
	g.do("POST", "/token", post("username", "<token>", "password", "x")...).refused(t, 401, "UNAUTHORIZED")

	g, _ = refreshing(t)
	_, refresh := g.keepLogin()
	g.renewed(refresh, "").want(t, 200)
	for _, a := range []reply{
		g.get("/token", basic("<token>", refresh)),
		g.get("/v2/", basic("<token>", refresh)),
		g.do("POST", "/token", post("username", "<token>", "password", refresh)...),
	} {
		a.refused(t, 401, "UNAUTHORIZED")
	}
}

func TestT25_ReadingBasic(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) {
		setPasswords(t, s, append(gatePasswords(), []byte(htpasswdLine("zoë", "pä:ss:wörd:"))...))
	})
	raw := func(s string) option {
		return header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(s)))
	}
	for _, tt := range []struct {
		pair   string
		status int
		user   string
	}{
		{"ann:" + annPassword, 200, "ann"},
		{"ANN:" + annPassword, 200, "ann"},
		{"zoë:pä:ss:wörd:", 200, "zoë"},
		{":", 200, ""},
		{"ann:", 401, ""},
		{":" + annPassword, 401, ""},
		{"ann", 401, ""},
		{"zo\xeb:p\xe4:ss:w\xf6rd:", 401, ""}, // Latin-1
		{"ann:" + annPassword + "\x00", 401, ""},
		{"ann\n:" + annPassword, 401, ""},
	} {
		a := g.get("/token", raw(tt.pair))
		if a.StatusCode != tt.status {
			t.Errorf("%q: got %d, want %d", tt.pair, a.StatusCode, tt.status)
			continue
		}
		if tt.status != 200 {
			a.refused(t, 401, "UNAUTHORIZED")
			continue
		}
		if id, err := g.settings.Tokens.Verify(a.token(t).Token, gateHost); err != nil || id.Name != tt.user {
			t.Errorf("%q: token of %q, %v; want %q", tt.pair, id.Name, err, tt.user)
		}
	}
	g.do("POST", "/token", post("username", "ann", "password", "")...).refused(t, 401, "UNAUTHORIZED")
	g.do("POST", "/token", post("username", "", "password", "x")...).refused(t, 401, "UNAUTHORIZED")
	g.do("POST", "/token", post("username", "", "password", "")...).want(t, 200)
}

func TestT26_AccountAuthenticatesNothing(t *testing.T) {
	g := newGate(t, usual)
	scope := "&scope=" + pulls("coolteam/app")
	g.wantGranted(g.get("/token?account=ann"+scope).want(t, 200).token(t).Token, "")
	g.wantGranted(g.get("/token?account=ann"+scope, who("ann")).want(t, 200).token(t).Token, pulls("coolteam/app"))
	g.wantGranted(g.get("/token?account=Ann"+scope, who("ann")).want(t, 200).token(t).Token, pulls("coolteam/app"))
	g.get("/token?account=ann"+scope, who("bob")).refused(t, 401, "UNAUTHORIZED")
	g.get("/token?account=bob"+scope, who("ann")).refused(t, 401, "UNAUTHORIZED")
}

func TestT27_AudienceIsTheHostname(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Hostnames = []string{gateHost, "mirror.acme.example"} })
	at := func(host string) option { return func(r *http.Request) { r.Host = host } }
	for _, service := range []string{"", "?service=", "?service=" + gateHost, "?service=mirror.acme.example", "?service=registry.docker.io"} {
		token := g.get("/token"+service, who("ann")).want(t, 200).token(t).Token
		g.get("/v2/", bearer(token)).want(t, 200)
		g.get("/v2/", bearer(token), at(gateHost+":8443")).want(t, 200) // the port is no part of it
		a := g.get("/v2/", bearer(token), at("mirror.acme.example")).want(t, 401)
		if got := a.challenged(t)["error"]; got != "invalid_token" {
			t.Errorf("on another hostname: error %q", got)
		}
	}
}

func TestT28_AnswersAreJSONAndNotStored(t *testing.T) {
	g := newGate(t, usual+"limit logins failed_logins 1/15m per=ip+user")
	g.get("/token", basic("carl", "wrong"))
	for name, tt := range map[string]struct {
		a      reply
		status int
		code   string
	}{
		"good":           {g.get("/token"), 200, ""},
		"login":          {g.get("/token", who("ann")), 200, ""},
		"wrong":          {g.get("/token", basic("bob", "wrong")), 401, "UNAUTHORIZED"},
		"locked out":     {g.get("/token", basic("carl", "wrong again")), 429, "TOOMANYREQUESTS"},
		"bad scope":      {g.get("/token?scope=nonsense"), 400, "UNSUPPORTED"},
		"bad grant":      {g.do("POST", "/token", form("grant_type=x")), 400, "UNSUPPORTED"},
		"bad method":     {g.do("DELETE", "/token"), 405, "UNSUPPORTED"},
		"bad type":       {g.do("POST", "/token", body([]byte("{}"))), 415, "UNSUPPORTED"},
		"bearer":         {g.get("/token", bearer("x")), 401, "UNAUTHORIZED"},
		"malformed":      {g.get("/token", header("Authorization", "Basic !")), 401, "UNAUTHORIZED"},
		"bad escape":     {g.get("/token?scope=%zz"), 400, "UNSUPPORTED"},
		"too much form":  {g.do("POST", "/token", form("grant_type=password&x="+strings.Repeat("x", 100<<10))), 413, "UNSUPPORTED"},
		"too many pairs": {g.get("/token?" + strings.Repeat("a=b&", 1000)), 400, "UNSUPPORTED"},
	} {
		if tt.status == 200 {
			tt.a.want(t, 200)
		} else {
			tt.a.refused(t, tt.status, tt.code)
		}
		if got := tt.a.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %q", name, got)
		}
		if got := tt.a.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control %q", name, got)
		}
	}
}

func TestT29_AnswerDoesNotWaitForTheUpstream(t *testing.T) {
	g := newGate(t, usual)
	release := make(chan bool)
	g.up.answer(func(http.ResponseWriter, *http.Request) bool { <-release; return true })
	defer close(release)
	for _, user := range []string{"", "ann"} {
		g.token(user, pulls("library/alpine"), pushes("coolteam/app"))
	}
	g.up.none(t)
}

func TestT30_TokensAreShortAndScopesBounded(t *testing.T) {
	g := newGate(t, "allow everyone ** *")
	var few, many []string
	for i := range 32 {
		few = append(few, fmt.Sprintf("repository:some/rather/long/name-%s/%d:pull,push", strings.Repeat("x", 200), i))
	}
	for i := range 65 {
		many = append(many, fmt.Sprintf("repository:x/%d:pull", i))
	}
	a := g.get("/token?"+url.Values{"scope": few[:16]}.Encode(), who("ann")).want(t, 200)
	token := a.token(t).Token
	if len(token) >= 4<<10 || !regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`).MatchString(token) {
		t.Errorf("token of %d bytes: %.40s", len(token), token)
	}
	if granted := g.granted(token); !strings.HasPrefix(granted, few[0]) {
		t.Errorf("nothing is left of what was granted: %.60s", granted)
	}
	// At least 32 scopes are taken, however long; what is said to be granted is.
	b := g.do("POST", "/token", post("username", "ann", "password", annPassword, "scope", strings.Join(few, " "))...).want(t, 200).token(t)
	if b.Scope == nil || *b.Scope != g.granted(b.Token) {
		t.Errorf("scope of the answer is not that of the token:\n%v\n%v", len(*b.Scope), len(g.granted(b.Token)))
	}
	g.get("/token?"+url.Values{"scope": many}.Encode(), who("ann")).refused(t, 400, "UNSUPPORTED")
	g.get("/token?"+url.Values{"scope": {strings.Join(many, " ")}}.Encode(), who("ann")).refused(t, 400, "UNSUPPORTED")
}

func TestT31_LoginEndToEnd(t *testing.T) {
	g := newGate(t, usual)
	login := func(query string, user, password string) int {
		c := g.get("/v2/").want(t, 401).challenged(t)
		realm, err := url.Parse(c["realm"])
		if err != nil {
			t.Fatal(err)
		}
		query = strings.ReplaceAll(query, "SERVICE", c["service"])
		a := g.get(realm.Path+"?"+query, basic(user, password))
		if a.StatusCode != 200 {
			return a.StatusCode
		}
		return g.get("/v2/", bearer(a.token(t).Token)).StatusCode
	}
	for name, query := range map[string]string{
		"docker": "account=ann&client_id=docker&offline_token=true&service=SERVICE",
		"podman": "account=ann&service=SERVICE",
	} {
		if got := login(query, "ann", annPassword); got != 200 {
			t.Errorf("%s login: %d", name, got)
		}
		if got := login(query, "ann", "wrong"); got != 401 {
			t.Errorf("%s login with a wrong password: %d", name, got)
		}
	}
	// helm, oras: POST, then GET /v2/.
	b := g.do("POST", "/token", post("username", "ann", "password", annPassword)...).want(t, 200).token(t)
	g.wantGranted(b.AccessToken, "")
	g.get("/v2/", bearer(b.AccessToken)).want(t, 200)
}

func TestT32_MountScopesAreDecidedApart(t *testing.T) {
	g := newGate(t, usual)
	for _, tt := range []struct{ scopes, granted []string }{
		{[]string{"repository:bob/new:push,pull", pulls("library/alpine")}, []string{pushes("bob/new"), pulls("library/alpine")}},
		{[]string{pushes("bob/new"), pulls("coolteam/app")}, []string{pushes("bob/new")}},
		{[]string{pushes("coolteam/app"), pulls("library/alpine")}, []string{pulls("library/alpine")}},
	} {
		g.wantGranted(g.token("bob", tt.scopes...), strings.Join(tt.granted, " "))
	}
}

// A token is an authentication and a ceiling; nothing in it can be changed and
// nothing else is taken for one (G4).
func TestG4_WrongTokensAreNeverTaken(t *testing.T) {
	g := newGate(t, usual)
	const target = "/v2/coolteam/app/manifests/latest"
	good := g.token("ann", pulls("coolteam/app"))
	g.get(target, bearer(good)).want(t, 200)
	g.up.seen()

	parts := strings.Split(good, ".")
	decode := func(s string) map[string]any {
		raw, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	encode := func(m map[string]any) string {
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	with := func(part int, key string, value any) string {
		m := decode(parts[part])
		if value == nil {
			delete(m, key)
		} else {
			m[key] = value
		}
		p := append([]string{}, parts...)
		p[part] = encode(m)
		return strings.Join(p, ".")
	}
	otherKey, err := auth.LoadTokens(t.TempDir()+"/key.pem", true)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(by *auth.Tokens, audience string) string {
		id, _ := g.settings.Tokens.Verify(good, gateHost)
		token, err := by.Issue(id, audience, []auth.Access{{Repository: "coolteam/app", Action: auth.Pull}}, g.clock.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	wrong := map[string]string{
		"no signature":          parts[0] + "." + parts[1] + ".",
		"two parts":             parts[0] + "." + parts[1],
		"alg none":              none + "." + parts[1] + ".",
		"alg none, signed":      none + "." + parts[1] + "." + parts[2],
		"alg HS256":             with(0, "alg", "HS256"),
		"alg lower case":        with(0, "alg", "es256"),
		"alg ES384":             with(0, "alg", "ES384"),
		"another kid":           with(0, "kid", "../../../dev/null"),
		"no kid":                with(0, "kid", nil),
		"jwk":                   with(0, "jwk", map[string]any{"kty": "EC"}),
		"jku":                   with(0, "jku", "https://evil.example/keys"),
		"x5c":                   with(0, "x5c", []string{"MIIB"}),
		"x5u":                   with(0, "x5u", "https://evil.example/cert"),
		"crit":                  with(0, "crit", []string{"exp"}),
		"b64":                   with(0, "b64", false),
		"another subject":       with(1, "sub", "bob"),
		"later expiry":          with(1, "exp", 4e9),
		"no expiry":             with(1, "exp", nil),
		"another audience":      with(1, "aud", "other"),
		"another issuer":        with(1, "iss", "other"),
		"wider access":          with(1, "access", []any{map[string]any{"type": "repository", "name": "ops/secrets", "actions": []string{"pull"}}}),
		"zero signature":        parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"short signature":       parts[0] + "." + parts[1] + "." + parts[2][:80],
		"padded":                good + "=",
		"padded in the middle":  parts[0] + "=." + parts[1] + "." + parts[2],
		"standard base64":       strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+",
		"other last character":  good[:len(good)-1] + string(good[len(good)-1]^1),
		"a line feed within":    parts[0] + "." + parts[1] + ".%0a" + parts[2],
		"four parts":            good + ".",
		"five parts":            good + "..",
		"a foreign key":         issue(otherKey, gateHost),
		"a foreign audience":    issue(g.settings.Tokens, "other.example"),
		"upper-case audience":   issue(g.settings.Tokens, strings.ToUpper(gateHost)),
		"not yet valid":         "",
		"an upload id":          "",
		"a very long token":     good + strings.Repeat("A", 20<<10),
		"a user's password":     annPassword,
		"swapped header":        parts[1] + "." + parts[0] + "." + parts[2],
		"claims of another one": parts[0] + "." + strings.Split(g.token("bob"), ".")[1] + "." + parts[2],
	}
	id, _ := g.settings.Tokens.Verify(good, gateHost)
	wrong["not yet valid"], err = g.settings.Tokens.Issue(id, gateHost, id.Scope, g.clock.Now().Add(time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	start := g.do("POST", "/v2/coolteam/app/blobs/uploads/", who("ann")).want(t, 202)
	g.up.seen()
	wrong["an upload id"] = start.Header.Get("Location")[len("/v2/coolteam/app/blobs/uploads/"):]

	for name, token := range wrong {
		a := g.get(target, bearer(token)).want(t, 401)
		if got := a.challenged(t)["error"]; got != "invalid_token" {
			t.Errorf("%s: error %q", name, got)
		}
		if strings.Contains(g.access.String(), token) || strings.Contains(g.log.String(), token) {
			t.Errorf("%s: the token is in a log", name)
		}
	}
	g.up.none(t)
	g.get(target, bearer(good)).want(t, 200)
}

func TestT30_ATokenCapsAndNeverWidens(t *testing.T) {
	g := newGate(t, usual)
	pull := g.as("ann", pulls("coolteam/app"))
	g.do("PUT", "/v2/coolteam/app/manifests/1", pull, body(image)).refused(t, 401, "DENIED")
	g.get("/v2/coolteam/other/manifests/1", pull).refused(t, 401, "DENIED")
	g.up.none(t)

	// The rules of now decide, not those of when it was issued.
	all := g.as("ann", deletes("coolteam/app"))
	rules, _ := parseText(t, "allow user:ann coolteam/app pull")
	next := g.settings
	policy, err := auth.NewPolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	next.Policy = policy
	g.swap(next)
	g.get("/v2/coolteam/app/manifests/1", all).want(t, 200)
	g.up.seen()
	g.do("PUT", "/v2/coolteam/app/manifests/1", all, body(image)).refused(t, 401, "DENIED")
	g.up.none(t)

	// Who has a new password, or is gone, is out, token and all (G9).
	setPasswords(t, &next, []byte(htpasswdLine("ann", "a new one")))
	g.swap(next)
	a := g.get("/v2/coolteam/app/manifests/1", all).want(t, 401)
	if diff := cmp.Diff("invalid_token", a.challenged(t)["error"]); diff != "" {
		t.Error(diff)
	}
	g.up.none(t)
}
