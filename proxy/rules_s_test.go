package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestS01_FormOfARefusal(t *testing.T) {
	g := newGate(t, usual+"limit few pulls 1/h subjects=user:bob", func(s *Settings) { s.Upstreams[0].HeaderTimeout = 500 * time.Millisecond })
	bob := g.as("bob", pulls("shared/base"), pushes("coolteam/app"))
	ann := g.as("ann", pulls("coolteam/app"))
	g.get("/v2/shared/base/manifests/latest", bob)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/broken"):
			panic(http.ErrAbortHandler)
		case strings.HasSuffix(r.URL.Path, "/plain"):
			http.Error(w, "<html>not here</html>", 404)
			return true
		}
		return false
	})
	for _, tt := range []struct {
		method, target string
		options        []option
		status         int
		code           string
	}{
		{"GET", "/v2/", nil, 401, "UNAUTHORIZED"},
		{"GET", "/v2/coolteam/app/manifests/1", nil, 401, "UNAUTHORIZED"},
		{"GET", "/v2/coolteam/app/manifests/1", []option{bob}, 401, "DENIED"},
		{"GET", "/v2/coolteam/app/manifests/broken", []option{ann}, 502, "UNAVAILABLE"},
		{"GET", "/v2/coolteam/app/manifests/plain", []option{ann}, 404, "MANIFEST_UNKNOWN"},
		{"GET", "/v2/shared/base/manifests/1", []option{bob}, 429, "TOOMANYREQUESTS"},
		{"GET", "/v2/Coolteam/app/manifests/1", nil, 400, "NAME_INVALID"},
		{"GET", "/v2/coolteam/app/blobs/sha256:1", nil, 400, "DIGEST_INVALID"},
		{"GET", "/v2/a/manifests/-", nil, 404, "MANIFEST_UNKNOWN"},
		{"POST", "/v2/a/manifests/a", nil, 405, "UNSUPPORTED"},
		{"GET", "/v2/a", []option{ann}, 404, "NAME_UNKNOWN"},
		{"GET", "/nothing", nil, 404, "NAME_UNKNOWN"},
		{"GET", "/v2/", []option{func(r *http.Request) { r.Host = "other" }}, 421, "DENIED"},
	} {
		a := g.do(tt.method, tt.target, tt.options...)
		msg := a.refused(t, tt.status, tt.code)
		id := a.Header.Get("X-Request-Id")
		if id == "" || !strings.HasSuffix(msg, "(request "+id+")") {
			t.Errorf("%s %s: %q does not end in the id %q", tt.method, tt.target, msg, id)
		}
		if !strings.Contains(msg, contact) {
			t.Errorf("%s %s: %q names nobody to ask", tt.method, tt.target, msg)
		}
		if len(a.body) >= 8<<10 {
			t.Errorf("%s %s: %d bytes", tt.method, tt.target, len(a.body))
		}
		if strings.Contains(msg, g.up.srv.Listener.Addr().String()) || strings.Contains(msg, "127.0.0.1") {
			t.Errorf("%s %s: %q names an inside address", tt.method, tt.target, msg)
		}
	}
}

func TestS02_StatusOfARefusal(t *testing.T) {
	g := newGate(t, usual)
	for _, tt := range []struct {
		name       string
		credential option
		code       string
	}{
		{"none", who(""), "UNAUTHORIZED"},
		{"wrong password", basic("bob", "x"), "UNAUTHORIZED"},
		{"bad token", bearer("x"), "UNAUTHORIZED"},
		{"no right", g.as("bob", pulls("coolteam/app")), "DENIED"},
		{"anonymous", g.as("", pulls("coolteam/app")), "DENIED"},
		{"password without right", who("bob"), "DENIED"},
		{"too narrow", g.as("ann", pulls("coolteam/other")), "DENIED"},
	} {
		a := g.get("/v2/coolteam/app/manifests/latest", tt.credential)
		a.refused(t, 401, tt.code)
		a.challenged(t)
	}
	g.up.none(t)
	// Other people's groups and rules are not told.
	a := g.get("/v2/coolteam/app/manifests/latest", g.as("bob", pulls("coolteam/app")))
	for _, word := range []string{"group", "rules[", "regward.yaml"} {
		if strings.Contains(string(a.body), word) || strings.Contains(a.Header.Get("WWW-Authenticate"), word) {
			t.Errorf("the refusal says %q: %s", word, a.body)
		}
	}
	if !strings.Contains(g.access.String(), "group coolteam") {
		t.Error("the record lacks the policy's own sentence")
	}
}

func TestS03_403IsForWhatNoTokenCures(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Upstreams[0].ReadOnly = "moving until 18:00" })
	ann := g.as("ann", deletes("coolteam/app"))
	for _, tt := range [][2]string{
		{"PUT", "/v2/coolteam/app/manifests/1"},
		{"POST", "/v2/coolteam/app/blobs/uploads/"},
		{"DELETE", "/v2/coolteam/app/manifests/" + imageDigest},
		{"DELETE", "/v2/coolteam/app/blobs/" + layerDigest},
	} {
		if msg := g.do(tt[0], tt[1], ann).refused(t, 403, "DENIED"); !strings.Contains(msg, "moving until 18:00") {
			t.Errorf("%s %s: %q", tt[0], tt[1], msg)
		}
	}
	g.up.none(t)
	g.get("/v2/coolteam/app/manifests/1", ann).want(t, 200)
	// Who may not write learns nothing of it.
	g.do("PUT", "/v2/coolteam/app/manifests/1", g.as("bob", pushes("coolteam/app"))).refused(t, 401, "DENIED")
}

func TestS04_ForbiddenLooksTheSameWhetherThereOrNot(t *testing.T) {
	g := newGate(t, usual)
	shape := func(a reply, repository string) string {
		id := a.Header.Get("X-Request-Id")
		var b strings.Builder
		for _, key := range []string{"Content-Type", "Www-Authenticate", "Docker-Distribution-Api-Version", "Content-Length", "Connection"} {
			fmt.Fprintln(&b, key, strings.ReplaceAll(strings.ReplaceAll(a.Header.Get(key), id, "ID"), repository, "NAME"))
		}
		return fmt.Sprint(a.StatusCode, "\n", b.String(), strings.ReplaceAll(strings.ReplaceAll(string(a.body), id, "ID"), repository, "NAME"))
	}
	for name, credential := range map[string]option{"anonymous": g.as(""), "bob": g.as("bob", pulls("ops/secrets"), pulls("ops/nothing")), "none": who("")} {
		for _, target := range []string{"/v2/NAME/manifests/latest", "/v2/NAME/blobs/" + layerDigest, "/v2/NAME/tags/list", "/v2/NAME/referrers/" + imageDigest} {
			there := shape(g.get(strings.Replace(target, "NAME", "ops/secrets", 1), credential), "ops/secrets")
			not := shape(g.get(strings.Replace(target, "NAME", "ops/nothing", 1), credential), "ops/nothing")
			if there != not {
				t.Errorf("%s, %s:\n%s\n%s", name, target, there, not)
			}
		}
	}
	g.up.none(t)
}

func TestS05_Upstream404sPassWithTheirCode(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	g.get("/v2/coolteam/app/manifests/absent", ann).refused(t, 404, "MANIFEST_UNKNOWN")
	g.get("/v2/coolteam/app/blobs/"+absentDigest, ann).refused(t, 404, "BLOB_UNKNOWN")
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		distributionError(w, 404, "NAME_UNKNOWN")
		return true
	})
	g.get("/v2/coolteam/app/tags/list", ann).refused(t, 404, "NAME_UNKNOWN")
	g.get("/v2/coolteam/app/manifests/1", ann).refused(t, 404, "NAME_UNKNOWN")
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "404 page not found", 404)
		return true
	})
	for _, target := range []string{"/v2/coolteam/app/referrers/" + imageDigest, "/v2/coolteam/app/manifests/1", "/v2/coolteam/app/blobs/" + layerDigest, "/v2/coolteam/app/tags/list"} {
		a := g.get(target, ann).want(t, 404)
		if strings.Contains(string(a.body), "page not found") {
			t.Errorf("%s: the upstream's own page: %s", target, a.body)
		}
	}
}

func TestS06_AbsentIs404ToWhoMayPush(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	for _, target := range []string{"/v2/coolteam/app/manifests/absent", "/v2/coolteam/app/manifests/" + absentDigest, "/v2/coolteam/app/blobs/" + absentDigest} {
		for _, method := range []string{"HEAD", "GET"} {
			g.do(method, target, ann).want(t, 404)
		}
	}
}

func TestS07_RetryAfterIsWholeSecondsAndAMinuteAtMost(t *testing.T) {
	for _, tt := range []struct {
		rate       string
		after      time.Duration
		retry      int
		reset      int
		howLong    string
		howLongEnd string
	}{
		{"1/6h", 0, 60, 21600, "(in 6h)", ""},
		{"1/10s", 0, 10, 10, "(in 10s)", ""},
		{"1/10s", 9500 * time.Millisecond, 1, 1, "(in 1s)", ""},
		{"1/90s", 0, 60, 90, "(in 1m 30s)", ""},
		{"1/90s", 80 * time.Second, 10, 10, "(in 10s)", ""},
	} {
		g := newGate(t, usual+"limit people pulls "+tt.rate)
		bob := g.as("bob", pulls("shared/base"))
		g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
		g.clock.pass(tt.after)
		a := g.get("/v2/shared/base/manifests/latest", bob)
		msg := a.refused(t, 429, "TOOMANYREQUESTS")
		if got := a.Header.Get("Retry-After"); got != strconv.Itoa(tt.retry) {
			t.Errorf("%s after %v: Retry-After %q, want %d", tt.rate, tt.after, got, tt.retry)
		}
		if got := a.Header.Get("RateLimit-Reset"); got != strconv.Itoa(tt.reset) {
			t.Errorf("%s after %v: RateLimit-Reset %q, want %d", tt.rate, tt.after, got, tt.reset)
		}
		if !strings.Contains(msg, tt.howLong) {
			t.Errorf("%s after %v: %q does not say %s", tt.rate, tt.after, msg, tt.howLong)
		}
	}
}

func TestS08_RefusedRequestsNeitherCostNorExtend(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 2/m\nlimit many requests 1000/m")
	bob := g.as("bob", pulls("shared/base"))
	pull := func() int { return g.get("/v2/shared/base/manifests/latest", bob).StatusCode }
	for i, want := range []int{200, 200, 429, 429, 429, 429, 429, 429} {
		if got := pull(); got != want {
			t.Fatalf("request %d: %d, want %d", i, got, want)
		}
		g.clock.pass(time.Second)
	}
	// The first two cost 30 s each, the six refusals nothing: 8 s have gone.
	g.clock.pass(21 * time.Second)
	if got := pull(); got != 429 {
		t.Errorf("29 s after: %d, want 429", got)
	}
	g.clock.pass(time.Second)
	if got := pull(); got != 200 {
		t.Errorf("30 s after: %d, want 200", got)
	}
	// And a refusal by one limit takes nothing from another (all or nothing).
	g.clock.pass(24 * time.Hour)
	if got := g.spent("many", "user:bob"); got != 0 {
		t.Errorf("after a day %d of many are spent", got)
	}
}

func TestS09_Where429IsNeverAnswered(t *testing.T) {
	g := newGate(t, usual+"limit uploads requests 2/h subjects=user:bob\nlimit p pulls 1/h subjects=user:ann")
	bob := g.as("bob", pushes("bob/tools"))
	start := g.do("POST", "/v2/bob/tools/blobs/uploads/", bob).want(t, 202)
	g.do("POST", "/v2/bob/tools/blobs/uploads/", bob).want(t, 202)
	g.do("POST", "/v2/bob/tools/blobs/uploads/", bob).want(t, 429)
	// The upload that was let in goes on to its end.
	at := start.Header.Get("Location")
	for range 5 {
		a := g.do("PATCH", at, bob, body(layer)).want(t, 202)
		at = a.Header.Get("Location")
	}
	g.get(at, bob).want(t, 204)
	g.do("PUT", at+"?digest="+layerDigest, bob).want(t, 201)
	g.do("DELETE", at, bob).want(t, 204)
	for range 5 {
		g.get("/v2/", bob).want(t, 200)
		g.token("bob", pulls("bob/tools"))
	}
	// No blob is refused by a limit on pulls.
	ann := g.as("ann", pulls("coolteam/app"))
	g.get("/v2/coolteam/app/manifests/latest", ann).want(t, 200)
	g.get("/v2/coolteam/app/manifests/multi", ann).want(t, 429)
	for range 5 {
		g.get("/v2/coolteam/app/blobs/"+layerDigest, ann).want(t, 200)
		g.do("HEAD", "/v2/coolteam/app/manifests/multi", ann).want(t, 200)
	}
}

func TestS10_UpstreamDownIs502AndSlowIs504(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Upstreams[0].HeaderTimeout = 500 * time.Millisecond })
	ann := g.as("ann", pushes("coolteam/app"))
	const target = "/v2/coolteam/app/manifests/latest"
	g.get(target, ann).want(t, 200)

	release := make(chan bool)
	g.up.answer(func(http.ResponseWriter, *http.Request) bool { <-release; return true })
	g.get(target, ann).refused(t, 504, "UNAVAILABLE")
	close(release)

	g.up.answer(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	g.get(target, ann).refused(t, 502, "UNAVAILABLE")
	g.do("PUT", target, ann, body(image)).refused(t, 502, "UNAVAILABLE")

	g.up.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "7")
		http.Error(w, "down for maintenance at 10.0.0.7", http.StatusServiceUnavailable)
		return true
	})
	a := g.get(target, ann)
	if msg := a.refused(t, 503, "UNAVAILABLE"); strings.Contains(msg, "10.0.0.7") {
		t.Errorf("the upstream's own words pass: %q", msg)
	}
	if got := a.Header.Get("Retry-After"); got != "7" {
		t.Errorf("Retry-After %q", got)
	}

	g.up.srv.CloseClientConnections()
	g.up.srv.Close()
	g.get(target, ann).refused(t, 502, "UNAVAILABLE")

	// Before the first configuration regward is not ready.
	h := New(Options{})
	g.Handler.snapshot.Store(nil)
	if h.Current() != nil {
		t.Error("a handler without settings calls itself fresh")
	}
	a = g.get("/v2/")
	a.refused(t, 503, "UNAVAILABLE")
	if a.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	g.swap(g.settings)
}

func TestS12_RefusalComesBeforeTheBody(t *testing.T) {
	g := newGate(t, usual)
	bob := g.as("bob", pushes("coolteam/app"))
	// A client that sends its body only when it has read the answer.
	for _, tt := range []struct {
		credential option
		method     string
		target     string
	}{
		{who(""), "PUT", "/v2/coolteam/app/manifests/1"},
		{bob, "PATCH", "/v2/coolteam/app/blobs/uploads/abc"},
		{bob, "POST", "/v2/coolteam/app/blobs/uploads/?digest=" + layerDigest},
	} {
		r := g.request(tt.method, tt.target, tt.credential)
		conn, err := tls.Dial("tcp", g.srv.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Length: 3000000\r\n\r\n", tt.method, tt.target, gateHost, r.Header.Get("Authorization"))
		_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(conn), r)
		if err != nil {
			t.Fatalf("%s %s: %v: the answer waits for the body", tt.method, tt.target, err)
		}
		if resp.StatusCode != 401 {
			t.Errorf("%s %s: %d", tt.method, tt.target, resp.StatusCode)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || len(b) == 0 {
			t.Errorf("%s %s: body %q, %v", tt.method, tt.target, b, err)
		}
		// And the rest of a body of bearable size is taken, not reset.
		chunk := make([]byte, 100_000)
		for range 30 {
			if _, err := conn.Write(chunk); err != nil {
				t.Errorf("%s %s: sending the rest: %v", tt.method, tt.target, err)
				break
			}
		}
		_ = conn.Close()
	}
	g.up.none(t)
	g.both(func(c *http.Client, version string) {
		for _, size := range []int{1000, 3 << 20, 20 << 20} {
			began := time.Now()
			a := g.with(c, "PUT", "/v2/coolteam/app/manifests/1", bob, body(make([]byte, size)))
			a.refused(t, 401, "DENIED")
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("%s: a refusal of %d bytes took %v", version, size, took)
			}
		}
	})
	g.up.none(t)
}

func TestS13_UploadIsFinishedWithAnExpiredToken(t *testing.T) {
	g := newGate(t, usual)
	begin := func() (at string, ann option) {
		ann = g.as("ann", pushes("coolteam/app"))
		return g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location"), ann
	}
	at, ann := begin()
	g.clock.pass(40 * time.Minute) // the token has run out long ago
	at = g.do("PATCH", at, ann, body(layer)).want(t, 202).Header.Get("Location")
	g.clock.pass(19 * time.Minute) // an hour since the start, not since the last part
	g.do("PUT", at+"?digest="+layerDigest, ann).want(t, 201)

	// Only uploads, and only writes to them.
	g.get("/v2/coolteam/app/manifests/1", ann).want(t, 401)
	g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 401)
	g.do("PUT", "/v2/coolteam/app/manifests/1", ann, body(image)).want(t, 401)
	g.do("DELETE", at, ann).want(t, 204)

	// Not beyond the grace period.
	at, ann = begin()
	g.clock.pass(61 * time.Minute)
	a := g.do("PATCH", at, ann, body(layer)).want(t, 401)
	if got := a.challenged(t)["error"]; got != "invalid_token" {
		t.Errorf("error %q", got)
	}

	// Not for a session of another's, and not for one made up.
	at, ann = begin()
	bob := g.as("bob", pushes("coolteam/app"))
	g.clock.pass(30 * time.Minute)
	g.do("PATCH", at, bob, body(layer)).want(t, 401)
	g.do("PATCH", "/v2/coolteam/app/blobs/uploads/abcdef", ann, body(layer)).want(t, 401)
	g.do("PATCH", strings.Replace(at, "coolteam/app", "coolteam/other", 1), ann, body(layer)).want(t, 401)
	g.up.seen()

	// No rule is forgiven ...
	rules := g.settings
	rules.Policy = g.base("allow everyone library/** pull").Policy
	g.swap(rules)
	g.do("PATCH", at, ann, body(layer)).refused(t, 401, "DENIED")
	g.up.none(t)
	// ... and no revocation.
	rules.Policy = g.base(usual).Policy
	setPasswords(t, &rules, []byte(htpasswdLine("ann", "changed")))
	g.swap(rules)
	a = g.do("PATCH", at, ann, body(layer)).want(t, 401)
	if got := a.challenged(t)["error"]; got != "invalid_token" {
		t.Errorf("a revoked login: error %q", got)
	}
	g.up.none(t)

	// Zero turns it off.
	off := newGate(t, usual, func(s *Settings) { s.Lease = 0 })
	ann = off.as("ann", pushes("coolteam/app"))
	at = off.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
	off.clock.pass(10 * time.Minute)
	off.do("PATCH", at, ann, body(layer)).want(t, 401)
}

func TestS14_416OfAnUploadPasses(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	at := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PATCH" {
			return false
		}
		w.Header().Set("Location", "/v2/coolteam/app/blobs/uploads/6f1e-uuid?_state=resume")
		w.Header().Set("Range", "0-99")
		w.WriteHeader(416)
		return true
	})
	a := g.do("PATCH", at, ann, header("Content-Range", "500-599"), body(layer)).want(t, 416)
	if got := a.Header.Get("Range"); got != "0-99" {
		t.Errorf("Range %q", got)
	}
	next := a.Header.Get("Location")
	if !strings.HasPrefix(next, "/v2/coolteam/app/blobs/uploads/") || next == at {
		t.Errorf("Location %q", next)
	}
	g.up.seen()
	g.get(next, ann).want(t, 204)
	if got := g.up.one(t).Target; got != "/v2/coolteam/app/blobs/uploads/6f1e-uuid?_state=resume" {
		t.Errorf("resumed at %s", got)
	}
}

func TestS15_SuccessesAreKeptAsTheyAre(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", deletes("coolteam/app"), pulls("library/alpine"))
	const uploads = "/v2/coolteam/app/blobs/uploads/"
	at := func() string { return g.do("POST", uploads, ann).want(t, 202).Header.Get("Location") }
	g.both(func(c *http.Client, version string) {
		g.with(c, "POST", uploads+"?mount="+layerDigest+"&from=library/alpine", ann).want(t, 201)
		g.with(c, "POST", uploads+"?digest="+layerDigest, ann, body(layer)).want(t, 201)
		g.with(c, "PATCH", at(), ann, body(layer)).want(t, 202)
		g.with(c, "PUT", at()+"?digest="+layerDigest, ann, body(layer)).want(t, 201)
		g.with(c, "GET", at(), ann).want(t, 204)
		g.with(c, "DELETE", at(), ann).want(t, 204)
		g.with(c, "PUT", "/v2/coolteam/app/manifests/1", ann, body(image)).want(t, 201)
		g.with(c, "DELETE", "/v2/coolteam/app/manifests/"+imageDigest, ann).want(t, 202)
		g.with(c, "DELETE", "/v2/coolteam/app/blobs/"+layerDigest, ann).want(t, 202)
		g.with(c, "GET", "/v2/coolteam/app/blobs/"+layerDigest, ann, header("Range", "bytes=0-9")).want(t, 206)
		g.with(c, "GET", "/v2/coolteam/app/blobs/"+layerDigest, ann, header("If-None-Match", `"`+layerDigest+`"`)).want(t, 304)
	})
	// Odd ones too.
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "DELETE" {
			return false
		}
		w.WriteHeader(200)
		return true
	})
	g.do("DELETE", "/v2/coolteam/app/manifests/"+imageDigest, ann).want(t, 200)
}

func TestS17_WarningsPass(t *testing.T) {
	g := newGate(t, usual)
	want := []string{`299 - "this image is deprecated"`, `299 - "really, \"it\" is"`}
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header()["Warning"] = want
		return false
	})
	a := g.get("/v2/coolteam/app/manifests/latest", g.as("ann", pulls("coolteam/app"))).want(t, 200)
	if got := a.Header.Values("Warning"); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("Warning %q", got)
	}
	// We make none of our own.
	g.up.answer(nil)
	for _, a := range []reply{g.get("/v2/"), g.get("/token"), g.get("/v2/coolteam/app/manifests/latest", g.as("bob"))} {
		if got := a.Header.Values("Warning"); len(got) > 0 {
			t.Errorf("Warning %q", got)
		}
	}
}

// A login page or a notice of maintenance comes with 200 and is no manifest.
func TestS10_APageForABrowserIsNoAnswer(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	g.up.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<html>please log in</html>")
		return true
	})
	for _, target := range []string{"manifests/latest", "tags/list", "referrers/" + imageDigest} {
		g.get("/v2/coolteam/app/"+target, ann).want(t, http.StatusBadGateway)
	}
}
