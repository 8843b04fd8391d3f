package proxy

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestBudgetsAreReadAsDockerHubWritesThem(t *testing.T) {
	const name = "ratelimit-remaining"
	for _, tt := range []struct {
		lines []string // "name: value"
		want  *Budget
	}{
		{[]string{"ratelimit-limit: 100;w=21600", "ratelimit-remaining: 20;w=21600", "docker-ratelimit-source: 192.0.2.7"}, &Budget{100, 20, 6 * time.Hour, "192.0.2.7"}},
		{[]string{"ratelimit-limit: 200;w=21600", "ratelimit-remaining: 0;w=21600", "docker-ratelimit-source: acmebot"}, &Budget{200, 0, 6 * time.Hour, "acmebot"}},
		{[]string{name + ": 7;w=21600"}, &Budget{0, 7, 6 * time.Hour, ""}},
		{[]string{"ratelimit-limit: 100;w=60", name + ": 7"}, &Budget{100, 7, time.Minute, ""}},
		{[]string{"ratelimit-limit: many", name + ": 7; w=60"}, &Budget{0, 7, time.Minute, ""}},
		{[]string{"ratelimit-limit: 100;w=21600"}, nil},
		{[]string{name + ": 59"}, nil}, // another registry's, of requests: without a window
		{[]string{name + ": -1;w=60"}, nil},
		{[]string{name + ": 1000000001;w=60"}, nil},
		{[]string{name + ": 99999999999999999999;w=60"}, nil},
		{[]string{name + ": 7;w=0"}, nil},
		{[]string{name + ": 7;w=2678401"}, nil}, // more than 31 days
		{[]string{name + ": 7;w=soon"}, nil},
		{[]string{name + ": 7;w=60", name + ": 8;w=60"}, nil},
		{[]string{name + ": ;w=60"}, nil},
		{[]string{name + ": 7;w=60", "docker-ratelimit-source: a b"}, &Budget{0, 7, time.Minute, ""}},
		{[]string{name + ": 7;w=60", "docker-ratelimit-source: " + strings.Repeat("a", maxBudgetSource+1)}, &Budget{0, 7, time.Minute, ""}},
		{nil, nil},
	} {
		h := http.Header{}
		for _, line := range tt.lines {
			key, value, _ := strings.Cut(line, ": ")
			h.Add(key, value)
		}
		var got *Budget
		if b, ok := readBudget(h); ok {
			got = &b
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", tt.lines, diff)
		}
	}
}

func FuzzBudget(f *testing.F) {
	f.Add("100;w=21600", "20;w=21600", "acmebot", "3600")
	f.Add("0", ";w=", "", "Fri, 20 Nov 2026 16:05:00 GMT")
	u := testUpstream(f, "https://registry-1.docker.io")
	f.Fuzz(func(t *testing.T, limit, remaining, source, retry string) {
		h := http.Header{"Ratelimit-Limit": {limit}, "Ratelimit-Remaining": {remaining}, "Docker-Ratelimit-Source": {source}, "Retry-After": {retry}}
		if b, ok := readBudget(h); ok && (b.Limit < 0 || b.Remaining < 0 || b.Limit > maxBudget || b.Window <= 0 || b.Window > maxBudgetWindow || len(b.Source) > maxBudgetSource) {
			t.Errorf("%q: %+v", h, b)
		}
		e := u.limited(h, false)
		if e.status != 429 || len(e.header.Get("Retry-After")) > 2 || len(e.msg) > 400 || strings.ContainsAny(e.msg, "\r\n") {
			t.Errorf("%q: %+v", h, e)
		}
	})
}

// hubLike answers every manifest with what is left of 200 pulls.
func hubLike(t testing.TB, left *int) *fakeRegistry {
	return newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") && *left >= 0 {
			h := w.Header()
			h.Set("RateLimit-Limit", "200;w=21600")
			h.Set("RateLimit-Remaining", strconv.Itoa(*left)+";w=21600")
			h.Set("Docker-RateLimit-Source", "acmebot")
			if *left == 0 {
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
		}
		_, _ = io.WriteString(w, "ok")
	})
}

func TestBudgetIsWarnedAboutOnceAStepAndAgainAfterItRecovered(t *testing.T) {
	left := 200
	f := hubLike(t, &left)
	now := time.Unix(1_800_000_000, 0)
	core, logs := observer.New(zap.WarnLevel)
	u := testUpstream(t, f.URL, account, func(_ *UpstreamSettings, o *UpstreamOptions) {
		o.Now, o.Log = func() time.Time { return now }, zap.New(core)
	})
	for _, tt := range []struct {
		left      int
		warned    string // "" is not
		attention bool
	}{
		{200, "", false},
		{40, "", false}, // a fifth is not less than one
		{39, "39 of 200 pulls in 6h left", false},
		{38, "", false},
		{41, "", false}, // out of order
		{38, "", false},
		{10, "", false},
		{9, "9 of 200 pulls in 6h left", true},
		{8, "", true},
		{0, "", true}, // told already
		{45, "", false},
		{30, "", false}, // it had not recovered
		{51, "", false},
		{30, "30 of 200 pulls in 6h left", false},
		{200, "", false},
		{0, "200 pulls in 6h are used up", true},
	} {
		left = tt.left
		now = now.Add(2 * time.Minute)
		outcome(u.do(t.Context(), pull("a")))
		var said []string
		for _, line := range logs.TakeAll() {
			said = append(said, strings.TrimPrefix(line.Message, "upstream gives few pulls more: "))
		}
		if got := strings.Join(said, "; "); got != tt.warned {
			t.Errorf("%d left: the log says %q, want %q", tt.left, got, tt.warned)
		}
		s := u.State()
		if s.Budget == nil || s.Budget.Remaining != tt.left || s.Budget.Source != "acmebot" {
			t.Errorf("%d left: %+v", tt.left, s.Budget)
		}
		if got := len(s.Attention) > 0; got != tt.attention {
			t.Errorf("%d left: attention %q", tt.left, s.Attention)
		}
	}
	now = now.Add(6*time.Hour + time.Second)
	if s := u.State(); s.Budget != nil || len(s.Attention) > 0 {
		t.Errorf("after its window: %+v", s)
	}
}

func TestBudgetIsOurOwnAndOfManifestsOnly(t *testing.T) {
	f := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("RateLimit-Remaining", "7;w=60")
		_, _ = io.WriteString(w, "ok")
	})
	for name, out := range map[string]*outgoing{
		"a blob":               {Method: "GET", Path: "/v2/a/blobs/" + layerDigest, Header: http.Header{}},
		"tags":                 {Method: "GET", Path: "/v2/a/tags/list", Header: http.Header{}},
		"a push":               push("a", strings.NewReader("body")),
		"somebody's own login": {Method: "GET", Path: "/v2/a/manifests/1", Header: http.Header{}, Credential: "Basic eDp5"},
	} {
		u := testUpstream(t, f.URL)
		outcome(u.do(t.Context(), out))
		if b := u.State().Budget; b != nil {
			t.Errorf("%s: %+v", name, b)
		}
	}
	for _, method := range []string{"GET", "HEAD"} {
		u := testUpstream(t, f.URL)
		outcome(u.do(t.Context(), &outgoing{Method: method, Path: "/v2/a/manifests/1", Header: http.Header{}}))
		if b := u.State().Budget; b == nil || b.Remaining != 7 {
			t.Errorf("%s: %+v", method, b)
		}
	}
}

// On the way of every pull: nothing new costs no memory.
func TestBudgetThatIsNotNewAllocatesNothing(t *testing.T) {
	u := testUpstream(t, "https://registry-1.docker.io")
	out := pull("a")
	resp := &http.Response{StatusCode: 200, Header: http.Header{"Ratelimit-Limit": {"200;w=21600"}, "Ratelimit-Remaining": {"100;w=21600"}, "Docker-Ratelimit-Source": {"acmebot"}}}
	none := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {imageType}}}
	ctx := t.Context()
	u.note(ctx, out, resp, nil)
	if n := testing.AllocsPerRun(100, func() { u.note(ctx, out, resp, nil); u.note(ctx, out, none, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestM13_WhoseLimitItIs(t *testing.T) {
	at := time.Date(2026, 11, 20, 15, 37, 50, 0, time.UTC)
	hub := func(left, source, retry string) http.Header {
		h := http.Header{}
		for key, value := range map[string]string{"RateLimit-Remaining": left, "Docker-RateLimit-Source": source, "Retry-After": retry} {
			if value != "" {
				h.Set(key, value)
			}
		}
		if left != "" {
			h.Set("RateLimit-Limit", "200;w=21600")
		}
		return h
	}
	for _, tt := range []struct {
		url, name, user string
		theirs          bool
		header          http.Header
		want, retry     string
	}{
		{"https://registry-1.docker.io", "hub", "acmebot", false, hub("0;w=21600", "acmebot", "1630"),
			"Docker Hub, not this registry, refuses: account acmebot has used its 200 pulls in 6h (source: acmebot); free again about 16:05 UTC", "60"},
		{"https://registry-1.docker.io", "hub", "acmebot", false, hub("0;w=21600", "acmebot", "Fri, 20 Nov 2026 15:38:10 GMT"),
			"Docker Hub, not this registry, refuses: account acmebot has used its 200 pulls in 6h (source: acmebot); free again about 15:38 UTC", "20"},
		{"https://registry-1.docker.io", "hub", "acmebot", false, hub("0;w=21600", "", ""),
			"Docker Hub, not this registry, refuses: account acmebot has used its 200 pulls in 6h; free again within 6h", "60"},
		// An address is nothing for clients.
		{"https://REGISTRY-1.DOCKER.IO:443", "hub", "", false, hub("0;w=21600", "192.0.2.7", ""),
			"Docker Hub, not this registry, refuses: the address of this registry has used its 200 pulls in 6h; free again within 6h", "60"},
		{"https://registry-1.docker.io", "hub", "acmebot", true, hub("0;w=21600", "ann", "90000"),
			"Docker Hub, not this registry, refuses: your account there has used its 200 pulls in 6h (source: ann); free again about 2026-11-21 16:37 UTC", "60"},
		// Not the pulls: its limit of requests.
		{"https://registry-1.docker.io", "hub", "acmebot", false, hub("", "", ""), "Docker Hub, not this registry, refuses for now: too many requests there", "10"},
		{"https://hub.docker.com", "hub", "acmebot", false, hub("77;w=21600", "acmebot", "3"),
			"Docker Hub, not this registry, refuses for now: too many requests there; free again about 15:37 UTC", "3"},
		{"https://quay.io", "quay", "", false, hub("", "", "-5"), "upstream quay, not this registry, refuses for now: too many requests there", "10"},
		{"https://quay.io", "quay", "", false, hub("", "", "9999999"), "upstream quay, not this registry, refuses for now: too many requests there", "10"},
		{"https://evildocker.io", "mirror", "", false, hub("", "", "soon"), "upstream mirror, not this registry, refuses for now: too many requests there", "10"},
		// A name that is an address of ours stays inside.
		{"http://10.0.0.5:8081", "10.0.0.5:8081", "", false, hub("", "", ""), "the registry behind this one, not this registry, refuses for now: too many requests there", "10"},
	} {
		u := testUpstream(t, tt.url, func(s *UpstreamSettings, o *UpstreamOptions) {
			s.Name, s.Username, o.Now = tt.name, tt.user, func() time.Time { return at }
		})
		e := u.limited(tt.header, tt.theirs)
		if e.msg != tt.want {
			t.Errorf("\ngot  %s\nwant %s", e.msg, tt.want)
		}
		if got := e.header.Get("Retry-After"); got != tt.retry {
			t.Errorf("%s: Retry-After %q, want %q", tt.want, got, tt.retry)
		}
		if got := e.header.Get("RateLimit-Remaining") != ""; got != tt.theirs {
			t.Errorf("%s: RateLimit fields are there: %v (L03)", tt.want, got)
		}
		if e.status != 429 || e.code != "TOOMANYREQUESTS" || e.reason != reasonUpstream {
			t.Errorf("%s: %d %s %s", tt.want, e.status, e.code, e.reason)
		}
	}
}

func TestM13_ThroughTheGate(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 10/6h per=user", func(s *Settings) {
		s.Upstreams[0].Name, s.Upstreams[0].Username, s.Upstreams[0].Password = "hub", "acmebot", "secret"
	})
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		h := w.Header()
		h.Set("RateLimit-Limit", "200;w=21600")
		h.Set("RateLimit-Remaining", "0;w=21600")
		h.Set("Docker-RateLimit-Source", "acmebot")
		distributionError(w, 429, "TOOMANYREQUESTS")
		return true
	})
	a := g.get("/v2/shared/base/manifests/latest", g.as("bob", pulls("shared/base")))
	const want = "upstream hub, not this registry, refuses: account acmebot has used its 200 pulls in 6h (source: acmebot); free again within 6h. Ask #platform-help (request ID)"
	if got := g.said(a, 429, "TOOMANYREQUESTS"); got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
	if got := a.Header.Get("Retry-After"); got != "60" {
		t.Errorf("Retry-After %q", got)
	}
	// Ours tell of ours, and what was taken from it stays taken.
	if got := a.Header.Get("RateLimit-Remaining"); got != "9;w=21600" {
		t.Errorf("RateLimit-Remaining %q", got)
	}
	g.up.one(t) // and asked once
	if line := g.access.all(t)[1]; line["reason"] != "upstream" || line["upstream_status"] != 429.0 || line["limit"] != nil {
		t.Errorf("access line %v", line)
	}
	for name, want := range map[string]float64{"regward_upstream_pulls_remaining": 0, "regward_upstream_pulls_limit": 200, "regward_upstream_up": 1, "regward_upstream_login_refused": 0} {
		if got, has := g.gauge(name, "hub"); !has || got != want {
			t.Errorf("%s is %v, %v; want %v", name, got, has, want)
		}
	}
}

// L03: the upstream's limits are the caller's where their own login went there,
// unless ours tell of less (L01).
func TestL03_OfTwoLimitsTheOneWithLessLeftIsTold(t *testing.T) {
	for _, tt := range []struct{ ours, theirs, want, source string }{
		{"", "20;w=21600", "20;w=21600", "ann at the upstream's"},
		{"100/6h", "20;w=21600", "20;w=21600", "ann at the upstream's"},
		{"10/6h", "20;w=21600", "9;w=21600", "ann"},
		{"10/6h", "", "9;w=21600", "ann"},
	} {
		limit := ""
		if tt.ours != "" {
			limit = "limit people pulls " + tt.ours + " per=user"
		}
		g, p := passing(t, passRules+limit)
		g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if tt.theirs != "" {
				w.Header().Set("RateLimit-Limit", "200;w=21600")
				w.Header().Set("RateLimit-Remaining", tt.theirs)
				w.Header().Set("Docker-RateLimit-Source", "ann at the upstream's")
			}
			return p.answer(w, r)
		})
		a := g.get("/v2/library/alpine/manifests/latest", g.as("ann", pulls("library/alpine"))).want(t, 200)
		if got := a.Header.Get("RateLimit-Remaining"); got != tt.want {
			t.Errorf("ours %q, theirs %q: RateLimit-Remaining %q, want %q", tt.ours, tt.theirs, got, tt.want)
		}
		if got := a.Header.Get("Docker-RateLimit-Source"); got != tt.source {
			t.Errorf("ours %q, theirs %q: source %q, want %q", tt.ours, tt.theirs, got, tt.source)
		}
		if _, has := g.gauge("regward_upstream_pulls_remaining", "registry"); has {
			t.Error("what ann has left is told as what regward has")
		}
	}
}

func TestM13_ToACallerWithTheirOwnLogin(t *testing.T) {
	g, p := passing(t, passRules)
	ann := g.as("ann", pulls("library/alpine"))
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("RateLimit-Limit", "200;w=21600")
			w.Header().Set("RateLimit-Remaining", "0;w=21600")
			w.Header().Set("Docker-RateLimit-Source", "ann")
			w.Header().Set("Retry-After", "1630")
			w.WriteHeader(429)
			return true
		}
		return p.answer(w, r)
	})
	a := g.get("/v2/library/alpine/manifests/latest", ann)
	const want = "upstream registry, not this registry, refuses: your account there has used its 200 pulls in 6h (source: ann); free again about 16:05 UTC. Ask #platform-help (request ID)"
	if got := g.said(a, 429, "TOOMANYREQUESTS"); got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
	if got := a.Header.Get("RateLimit-Remaining"); got != "0;w=21600" {
		t.Errorf("RateLimit-Remaining %q", got)
	}
}

// gauge is the value of a gauge, or of a counter, for an upstream.
func (g *gate) gauge(name, upstream string) (value float64, has bool) {
	g.Helper()
	registry := prometheus.NewRegistry()
	if err := g.Metrics().Register(registry); err != nil {
		g.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		g.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && len(m.GetLabel()) == 1 && m.GetLabel()[0].GetValue() == upstream {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
			}
		}
	}
	return 0, false
}

func TestUpstreamMetricsAreAbsentBeforeAnythingIsKnown(t *testing.T) {
	g := newGate(t, usual)
	for name, want := range map[string]bool{"regward_upstream_pulls_remaining": false, "regward_upstream_pulls_limit": false, "regward_upstream_up": false, "regward_upstream_login_refused": true} {
		if _, has := g.gauge(name, "registry"); has != want {
			t.Errorf("%s is there: %v", name, has)
		}
	}
	get := func() { g.get("/v2/shared/base/manifests/latest", g.as("bob", pulls("shared/base"))) }
	up := func(want float64) {
		t.Helper()
		if got, has := g.gauge("regward_upstream_up", "registry"); !has || got != want {
			t.Errorf("regward_upstream_up is %v, want %v", got, want)
		}
	}
	get()
	up(1)
	g.up.answer(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	get()
	up(0)
	g.up.answer(nil)
	get()
	up(1)
	g.up.answer(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true })
	get()
	up(0)
	g.up.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		distributionError(w, 404, "MANIFEST_UNKNOWN")
		return true
	})
	get()
	up(1)
}

func TestSharedBlobsAreCountedWhereTheyAreOn(t *testing.T) {
	names := []string{"regward_shared_blobs_lookups_total", "regward_shared_blobs_lookups_cut_short_total", "regward_shared_blobs_digests"}
	for _, on := range []bool{true, false} {
		g := newGate(t, usual, func(s *Settings) { s.Upstreams[0].SharedBlobs = &on })
		g.get("/v2/coolteam/app/blobs/"+absentDigest, g.as("ann", pulls("coolteam/app"))).want(t, 404)
		for _, name := range names {
			if _, has := g.gauge(name, "registry"); has != on {
				t.Errorf("shared_blobs %v: %s is there: %v", on, name, has)
			}
		}
		if n, _ := g.gauge(names[0], "registry"); on && n != 1 {
			t.Errorf("%v lookups, want 1", n)
		}
	}
}
