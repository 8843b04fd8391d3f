package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// everyPath is one target of each route a token is needed for.
var everyPath = []string{
	"/v2/library/alpine/manifests/latest",
	"/v2/library/alpine/manifests/" + imageDigest,
	"/v2/library/alpine/blobs/" + layerDigest,
	"/v2/library/alpine/tags/list",
	"/v2/library/alpine/referrers/" + imageDigest,
	"/v2/coolteam/app/manifests/latest",
	"/v2/_catalog",
	"/v2/_oci/ext/discover",
}

func TestC01_PingWithoutCredentialIsChallenged(t *testing.T) {
	g := newGate(t, "allow everyone ** *") // even where everything is allowed
	for name, credential := range map[string]option{
		"none":           who(""),
		"wrong password": basic("ann", "nonsense"),
		"unknown user":   basic("nobody", "nonsense"),
		"empty basic":    header("Authorization", "Basic Og=="),
		"made up token":  bearer("abc"),
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := g.do(method, "/v2/", credential)
			a.refused(t, 401, "UNAUTHORIZED")
			if c := a.challenged(t); c["realm"] == "" {
				t.Errorf("%s: %s /v2/: no realm in %v", name, method, c)
			}
		}
	}
	g.up.none(t)
}

func TestC02_OneBearerChallengeAndNoBasic(t *testing.T) {
	g := newGate(t, usual)
	for _, target := range append([]string{"/v2/"}, everyPath...) {
		for name, credential := range map[string]option{"none": who(""), "basic": basic("ann", "wrong"), "bearer": bearer("wrong"), "no right": g.as("bob")} {
			a := g.get(target, credential)
			if a.StatusCode == 401 {
				a.challenged(t) // fails unless there is one field with one challenge
			} else if name != "no right" {
				t.Errorf("%s with %s: got %d, want 401", target, name, a.StatusCode)
			}
			if all := strings.Join(a.Header.Values("WWW-Authenticate"), " "); strings.Contains(strings.ToLower(all), "basic") {
				t.Errorf("%s with %s: Basic is offered: %s", target, name, all)
			}
		}
	}
}

func TestC05_RealmIsAbsoluteHTTPS(t *testing.T) {
	g := newGate(t, usual)
	for _, target := range append([]string{"/v2/", "/v2"}, everyPath...) {
		if realm := g.get(target).challenged(t)["realm"]; realm != "https://"+gateHost+"/token" {
			t.Errorf("%s: realm %q", target, realm)
		}
	}
}

func TestC06_RealmIsTheNameDialled(t *testing.T) {
	for _, tt := range []struct {
		configured, host string // as written; as the client says
		realm            string // "" if the name is not served
	}{
		{"docker.acme.example", "docker.acme.example", "https://docker.acme.example/token"},
		{"docker.acme.example", "DOCKER.acme.example.", "https://docker.acme.example/token"},
		{"docker.acme.example", "docker.acme.example:8443", "https://docker.acme.example:8443/token"},
		{"docker.acme.example:5443", "docker.acme.example", "https://docker.acme.example:5443/token"}, // behind a forwarded port
		{"docker.acme.example", "docker.acme.example:443", "https://docker.acme.example/token"},
		{"192.0.2.7", "192.0.2.7:5000", "https://192.0.2.7:5000/token"},
		{"docker.acme.example:443 docker.acme.example:8082", "docker.acme.example:8082", "https://docker.acme.example:8082/token"},
		{"docker.acme.example:8082 docker.acme.example:443", "docker.acme.example", "https://docker.acme.example/token"},
		{"2001:db8::7", "[2001:db8:0::7]:5000", "https://[2001:db8::7]:5000/token"},
		{"docker.acme.example", "evil.example", ""},
		{"docker.acme.example", "docker.acme.example.evil.example", ""},
		{"docker.acme.example", "registry:5000", ""},
	} {
		g := newGate(t, usual, func(s *Settings) { s.Hostnames = strings.Fields(tt.configured) })
		a := g.get("/v2/", func(r *http.Request) { r.Host = tt.host })
		if tt.realm == "" {
			a.want(t, 421)
			if got := a.Header.Get("WWW-Authenticate"); got != "" {
				t.Errorf("%s for %s: challenge %q, want none", tt.host, tt.configured, got)
			}
			continue
		}
		if got := a.want(t, 401).challenged(t)["realm"]; got != tt.realm {
			t.Errorf("%s for %s: realm %q, want %q", tt.host, tt.configured, got, tt.realm)
		}
	}
	// What a client or a proxy says in other fields changes nothing.
	g := newGate(t, usual)
	a := g.get("/v2/", header("X-Forwarded-Host", "evil.example"), header("X-Forwarded-Proto", "http"), header("Forwarded", "host=evil.example;proto=http"), header("X-Forwarded-Port", "1"))
	if got := a.challenged(t)["realm"]; got != "https://"+gateHost+"/token" {
		t.Errorf("realm %q of a forwarded request", got)
	}
}

func TestC07_RealmAndServiceAreConstant(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Hostnames = []string{gateHost, "mirror.acme.example"} })
	check := func(when string) {
		for _, host := range []string{gateHost, "mirror.acme.example"} {
			for _, target := range append([]string{"/v2/"}, everyPath...) {
				for _, credential := range []option{who(""), bearer("x"), basic("ann", "wrong")} {
					c := g.get(target, credential, func(r *http.Request) { r.Host = host }).challenged(t)
					if c["realm"] != "https://"+host+"/token" || c["service"] != host {
						t.Errorf("%s: %s%s: realm %q, service %q", when, host, target, c["realm"], c["service"])
					}
				}
			}
		}
	}
	check("at start")
	g.clock.pass(300 * 24 * 3600e9)
	g.up.answer(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true })
	next := g.settings
	next.Version, next.Contact = "8d2f", "somebody else"
	g.swap(next)
	check("later, after a reload")
}

func TestC08_ServiceIsTheHostnameWithoutPort(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Hostnames = []string{gateHost + ":5443"} })
	for _, target := range append([]string{"/v2/"}, everyPath...) {
		if got := g.get(target, func(r *http.Request) { r.Host = gateHost + ":5443" }).challenged(t)["service"]; got != gateHost {
			t.Errorf("%s: service %q", target, got)
		}
	}
}

func TestC09_ChallengeOfThePingHasNoScope(t *testing.T) {
	g := newGate(t, usual)
	for _, credential := range []option{who(""), bearer("x"), basic("ann", "wrong")} {
		if scope, has := g.get("/v2/", credential).challenged(t)["scope"]; has {
			t.Errorf("scope %q", scope)
		}
	}
}

func TestC10_ChallengeCarriesTheScopeNeeded(t *testing.T) {
	g := newGate(t, usual)
	bob := g.as("bob")
	for _, tt := range []struct{ method, target, scope string }{
		{"GET", "/v2/coolteam/app/manifests/latest", pulls("coolteam/app")},
		{"HEAD", "/v2/coolteam/app/manifests/latest", pulls("coolteam/app")},
		{"GET", "/v2/coolteam/app/blobs/" + layerDigest, pulls("coolteam/app")},
		{"GET", "/v2/coolteam/app/tags/list", pulls("coolteam/app")},
		{"GET", "/v2/coolteam/app/referrers/" + imageDigest, pulls("coolteam/app")},
		{"PUT", "/v2/coolteam/app/manifests/latest", pushes("coolteam/app")},
		{"POST", "/v2/coolteam/app/blobs/uploads/", pushes("coolteam/app")},
		{"POST", "/v2/coolteam/app/blobs/uploads/?mount=" + layerDigest + "&from=library/alpine", pushes("coolteam/app")},
		{"PATCH", "/v2/coolteam/app/blobs/uploads/id", pushes("coolteam/app")},
		{"DELETE", "/v2/coolteam/app/blobs/uploads/id", pushes("coolteam/app")},
		{"DELETE", "/v2/coolteam/app/manifests/" + imageDigest, "repository:coolteam/app:delete"},
		{"GET", "/v2/_catalog", "registry:catalog:*"},
		{"GET", "/v2/a/b/c/manifests/1", pulls("a/b/c")},
	} {
		for name, credential := range map[string]option{"nothing": who(""), "a bad token": bearer("x"), "a token without the right": bob} {
			a := g.do(tt.method, tt.target, credential).want(t, 401)
			got := a.challenged(t)["scope"]
			if got != tt.scope {
				t.Errorf("%s %s with %s: scope %q, want %q", tt.method, tt.target, name, got, tt.scope)
			}
			if strings.Contains(got, " ") || strings.Count(got, ":") != 2 {
				t.Errorf("%s %s: scope %q is not one that splits in three", tt.method, tt.target, got)
			}
		}
	}
	g.up.none(t)
}

func TestC11_ErrorOfTheChallenge(t *testing.T) {
	g := newGate(t, usual)
	const target = "/v2/coolteam/app/manifests/latest"
	expired := g.token("ann", pulls("coolteam/app"))
	foreign := newGate(t, usual, func(s *Settings) { s.Hostnames = []string{"other.example"} }).foreignToken()
	g.clock.pass(10 * 60e9)
	good := g.token("bob", pulls("coolteam/app"))
	uncovered := g.token("ann", pulls("library/alpine"))
	for _, tt := range []struct {
		name       string
		credential option
		error      string
	}{
		{"nothing", who(""), ""},
		{"a wrong password", basic("ann", "wrong"), ""},
		{"a password without the right", basic("bob", bobPassword), ""},
		{"an unknown scheme", header("Authorization", "Negotiate abc"), ""},
		{"a malformed token", bearer("no,token"), "invalid_token"},
		{"a made up token", bearer("abc.def.ghi"), "invalid_token"},
		{"an empty token", header("Authorization", "Bearer "), "invalid_token"},
		{"an expired token", bearer(expired), "invalid_token"},
		{"another host's token", bearer(foreign), "invalid_token"},
		{"a token without the right", bearer(good), "insufficient_scope"},
		{"a token that does not cover it", bearer(uncovered), "insufficient_scope"},
	} {
		a := g.get(target, tt.credential).want(t, 401)
		c := a.challenged(t)
		if got, has := c["error"]; got != tt.error || has != (tt.error != "") {
			t.Errorf("%s: error %q, want %q", tt.name, got, tt.error)
		}
		description, has := c["error_description"]
		if has != (tt.error != "") {
			t.Errorf("%s: error_description %q", tt.name, description)
		}
		if tt.error == "" {
			continue
		}
		if len(description) > 200 || strings.ContainsAny(description, `"\,`) || !printable(description) {
			t.Errorf("%s: error_description %q", tt.name, description)
		}
		// It is the sentence of the body, as far as a challenge can hold it (S01).
		if id := "(request " + a.Header.Get("X-Request-Id") + ")"; !strings.HasSuffix(description, id) {
			t.Errorf("%s: error_description %q does not end in %s", tt.name, description, id)
		}
		msg := a.refused(t, 401, map[string]string{"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}[tt.error])
		if want := strings.NewReplacer(",", ";", `"`, "'").Replace(msg); description != want {
			t.Errorf("%s: error_description %q, body says %q", tt.name, description, msg)
		}
	}
	g.up.none(t)
}

// foreignToken is a good token of another hostname.
func (g *gate) foreignToken() string {
	g.Helper()
	a := g.get("/token?scope="+pulls("coolteam/app"), who("ann"), func(r *http.Request) { r.Host = g.settings.Hostnames[0] })
	return a.want(g, 200).token(g).Token
}

func TestC12_ClientsCanRecoverFromA401(t *testing.T) {
	g := newGate(t, usual)
	const target = "/v2/coolteam/app/manifests/latest"

	// containerd: a token that ran out is dropped since error is there, a new one works.
	old := g.as("ann", pulls("coolteam/app"))
	g.clock.pass(10 * 60e9)
	c := g.get(target, old).want(t, 401).challenged(t)
	if c["error"] != "invalid_token" {
		t.Fatalf("error %q: containerd would repeat the old token", c["error"])
	}
	g.get(target, g.as("ann", c["scope"])).want(t, 200)

	// c/image, buildkit: a token without the right is exchanged for one with the scope asked for.
	c = g.get(target, g.as("ann")).want(t, 401).challenged(t)
	if c["error"] != "insufficient_scope" {
		t.Fatalf("error %q: c/image would not ask again", c["error"])
	}
	g.get(target, g.as("ann", c["scope"])).want(t, 200)
}

func TestC13_HeadIsChallengedLikeGet(t *testing.T) {
	g := newGate(t, usual)
	for _, target := range []string{"/v2/", "/v2/coolteam/app/manifests/latest", "/v2/coolteam/app/blobs/" + layerDigest} {
		for name, credential := range map[string]option{"nothing": who(""), "a bad token": bearer("x"), "no right": g.as("bob")} {
			get, head := g.get(target, credential), g.do("HEAD", target, credential)
			if get.StatusCode != head.StatusCode {
				t.Errorf("%s with %s: GET %d, HEAD %d", target, name, get.StatusCode, head.StatusCode)
			}
			for key := range get.Header {
				a := strings.ReplaceAll(get.Header.Get(key), get.Header.Get("X-Request-Id"), "ID")
				b := strings.ReplaceAll(head.Header.Get(key), head.Header.Get("X-Request-Id"), "ID")
				if a != b && key != "Date" {
					t.Errorf("%s with %s: %s: GET %q, HEAD %q", target, name, key, a, b)
				}
			}
			if len(head.body) > 0 {
				t.Errorf("%s: HEAD has a body", target)
			}
		}
	}
}

func TestC14_NoChallengeButOn401(t *testing.T) {
	g := newGate(t, usual+"limit few pulls 1/h subjects=user:bob", func(s *Settings) { s.Upstreams[0].ReadOnly = "moving" })
	// The upstream offers one with everything.
	g.up.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Basic realm="upstream"`)
		return false
	})
	ann := g.as("ann", deletes("coolteam/app"), pulls("library/alpine"))
	bob := g.as("bob", pulls("shared/base"))
	g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	for _, tt := range []struct {
		method, target string
		credential     option
		status         int
	}{
		{"GET", "/v2/", ann, 200},
		{"GET", "/v2/coolteam/app/manifests/latest", ann, 200},
		{"GET", "/v2/coolteam/app/manifests/absent", ann, 404},
		{"GET", "/v2/coolteam/app/nothing", ann, 404},
		{"GET", "/v2/Coolteam/app/tags/list", ann, 400},
		{"PUT", "/v2/coolteam/app/manifests/latest", ann, 403},
		{"PATCH", "/v2/coolteam/app/manifests/latest", ann, 405},
		{"GET", "/v2/shared/base/manifests/latest", bob, 429},
		{"GET", "/elsewhere", who(""), 404},
		{"OPTIONS", "/v2/", who(""), 204},
	} {
		a := g.do(tt.method, tt.target, tt.credential).want(t, tt.status)
		if got := a.Header.Values("WWW-Authenticate"); len(got) > 0 {
			t.Errorf("%s %s: %d with WWW-Authenticate %q", tt.method, tt.target, a.StatusCode, got)
		}
	}
}

func TestC15_EveryAnswerSaysTheAPIVersion(t *testing.T) {
	g := newGate(t, usual+"limit few pulls 1/h subjects=user:bob")
	bob := g.as("bob", pulls("shared/base"))
	g.get("/v2/shared/base/manifests/latest", bob)
	for _, tt := range []struct {
		method, target string
		options        []option
		status         int
	}{
		{"GET", "/v2/", nil, 401},
		{"GET", "/v2", nil, 401},
		{"GET", "/v2/", []option{bob}, 200},
		{"GET", "/v2/shared/base/manifests/absent", []option{bob}, 429},
		{"HEAD", "/v2/shared/base/manifests/absent", []option{bob}, 404},
		{"GET", "/v2/shared/base/tags/list", []option{bob}, 200},
		{"GET", "/v2/Shared/base/tags/list", []option{bob}, 400},
		{"POST", "/v2/shared/base/tags/list", []option{bob}, 405},
		{"GET", "/v2/nothing", []option{bob}, 404},
		{"OPTIONS", "/v2/", nil, 204},
		{"GET", "/v2/", []option{func(r *http.Request) { r.Host = "evil.example" }}, 421},
	} {
		a := g.do(tt.method, tt.target, tt.options...).want(t, tt.status)
		if got := a.Header.Values("Docker-Distribution-Api-Version"); len(got) != 1 || got[0] != "registry/2.0" {
			t.Errorf("%s %s (%d): Docker-Distribution-Api-Version %q", tt.method, tt.target, a.StatusCode, got)
		}
	}
}

func TestC16_PingIsNeverRedirected(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann")
	g.both(func(c *http.Client, version string) {
		for _, target := range []string{"/v2", "/v2/"} {
			if a := g.with(c, "GET", target); a.StatusCode != 401 || a.Header.Get("Location") != "" {
				t.Errorf("%s %s: %d, Location %q", version, target, a.StatusCode, a.Header.Get("Location"))
			}
			if a := g.with(c, "GET", target, ann); a.StatusCode != 200 || string(a.body) != "{}" {
				t.Errorf("%s %s with a token: %d %q", version, target, a.StatusCode, a.body)
			}
		}
	})
}

func TestC17_PingWithAnyValidToken(t *testing.T) {
	g := newGate(t, usual)
	for name, credential := range map[string]option{
		"no scope":        g.as("ann"),
		"anonymous":       g.as(""),
		"nothing granted": g.as("bob", pulls("ops/secrets")),
		"a right":         g.as("ann", pulls("coolteam/app")),
		"a password":      who("ann"),
	} {
		a := g.get("/v2/", credential).want(t, 200)
		if string(a.body) != "{}" || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %q as %s", name, a.body, a.Header.Get("Content-Type"))
		}
	}
}

func TestC18_PingDependsOnNothing(t *testing.T) {
	g := newGate(t, usual+"limit all requests 1/h per=all\nlimit none pulls 1/h per=all")
	g.up.srv.Close() // no upstream
	ann := g.as("ann", pulls("coolteam/app"))
	for range 20 {
		g.get("/v2/").want(t, 401)
		g.get("/v2/", ann).want(t, 200)
	}
	// A client locked out of logging in is turned away, but as by a ping.
	for i := range 15 {
		a := g.get("/v2/", basic("ann", "wrong"+string(rune('a'+i))))
		a.want(t, 401).challenged(t)
	}
}

func TestC19_PublicRepositoriesAreChallengedToo(t *testing.T) {
	g := newGate(t, "allow everyone ** pull")
	for _, target := range everyPath {
		g.get(target).refused(t, 401, "UNAUTHORIZED")
	}
	g.up.none(t)
	g.get("/v2/library/alpine/manifests/latest", g.as("", pulls("library/alpine"))).want(t, 200)
	g.up.one(t)
}

func TestC20_AuthorizationIsReadAsClientsWriteIt(t *testing.T) {
	g := newGate(t, usual)
	const target = "/v2/coolteam/app/manifests/latest"
	token := g.token("ann", pulls("coolteam/app"))
	r := g.request("GET", "/", who("ann"))
	pair := strings.TrimPrefix(r.Header.Get("Authorization"), "Basic ")
	for _, tt := range []struct {
		value  string
		status int
		error  string
	}{
		{"Bearer " + token, 200, ""},
		{"bearer " + token, 200, ""},
		{"BEARER " + token, 200, ""},
		{"basic " + pair, 200, ""},
		{"BASIC " + pair, 200, ""},
		{"Digest " + pair, 401, ""},
		{token, 401, ""},
		{"Basic Og==", 401, ""},
		{"Basic ", 401, ""},
		{"Bearer " + token + "x", 401, "invalid_token"},
	} {
		a := g.get(target, header("Authorization", tt.value)).want(t, tt.status)
		if tt.status == 401 {
			if c := a.challenged(t); c["error"] != tt.error {
				t.Errorf("%.20s: error %q, want %q", tt.value, c["error"], tt.error)
			}
		}
	}
	if strings.Contains(g.access.String(), `"user":":"`) {
		t.Error("Basic Og== became a user")
	}
	// Two fields are two answers to one question.
	g.up.seen()
	g.get(target, header("Authorization", "Bearer "+token), header("Authorization", "Basic "+pair)).want(t, 401)
	g.up.none(t)
}

func TestC21_NoExistenceOracleBeforeAuthentication(t *testing.T) {
	g := newGate(t, usual)
	for _, target := range []string{"/v2/no/such/manifests/1", "/v2/_oci/ext/discover", "/v2/_zot/ext/search", "/v2/nonsense", "/v2/a/b/c/d/e", "/v2/library/alpine/_x", "/v2/_catalog"} {
		for _, method := range []string{"GET", "HEAD"} {
			if target == "/v2/_catalog" && method == "HEAD" {
				continue // a method no token makes good
			}
			g.do(method, target).refused(t, 401, "UNAUTHORIZED")
		}
	}
	g.get("/v2/nonsense", g.as("")).refused(t, 404, "NAME_UNKNOWN")
	g.up.none(t)
}
