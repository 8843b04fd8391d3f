package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// lockedNexus answers the account as Nexus 3.96 does once it is locked; server
// and words are how that can be known.
type lockedNexus struct {
	*fakeRegistry
	locked        atomic.Bool
	bearer        bool
	server, words string
}

func newLockedNexus(t testing.TB, n *lockedNexus) *lockedNexus {
	n.fakeRegistry = newFakeRegistry(t, func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		if n.server != "" {
			w.Header().Set("Server", n.server)
		}
		login := r.Header.Get("Authorization")
		switch {
		case n.locked.Load() && login != "" && !strings.HasPrefix(login, "Basic YW5u"): // ann is somebody else
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, n.words)
		case r.URL.Path == "/token":
			_, _ = io.WriteString(w, `{"token":"DockerToken.1"}`)
		case login == "" && n.bearer:
			challenged(w, `Bearer realm="`+f.URL+`/token",service="`+f.URL+`/token"`)
		case login == "":
			challenged(w, `BASIC realm="Sonatype Nexus Repository Manager"`)
		default:
			_, _ = io.WriteString(w, "ok")
		}
	})
	return n
}

func TestM16_NexusLocksOurAccount(t *testing.T) {
	for name, n := range map[string]*lockedNexus{
		"known by its name":    {server: "Nexus/3.96.0-01 (COMMUNITY)"},
		"behind a proxy":       {server: "nginx", words: "<p>Too many authentication attempts</p>"},
		"no words within 4 KB": {server: "Nexus/3.96.0-01 (PRO)", words: strings.Repeat("x", 10*maxLockWords)},
		"tokens":               {server: "Nexus/3.96.0-01 (PRO)", bearer: true},
	} {
		t.Run(name, func(t *testing.T) {
			newLockedNexus(t, n)
			now := time.Date(2026, 11, 20, 15, 29, 0, 0, time.UTC)
			core, logs := observer.New(zap.InfoLevel)
			open := false
			u := testUpstream(t, n.URL, account, func(s *UpstreamSettings, o *UpstreamOptions) {
				s.SharedBlobs = &open
				o.Now, o.Log = func() time.Time { return now }, zap.New(core)
			})
			if got := outcome(u.do(t.Context(), pull("a"))); got != "200" {
				t.Fatalf("before: %s", got)
			}
			n.locked.Store(true)
			n.seen()
			_, err := u.do(t.Context(), pull("a"))
			if got := outcome(nil, err); got != "502 UNAVAILABLE" {
				t.Fatalf("locked: %s", got)
			}
			refused := err.(*httpError)
			if !strings.Contains(refused.msg, "has locked the account that this registry has there, until about 15:45 UTC") ||
				strings.Contains(refused.msg, "secret") || strings.Contains(refused.msg, `"regward"`) {
				t.Errorf("clients read %q", refused.msg)
			}
			const sentence = `Nexus has locked the account "regward" of this proxy (429, until about 15:45 UTC); no pull can work until then. Not a limit of regward.`
			if all := logs.FilterLevelExact(zapcore.ErrorLevel).AllUntimed(); len(all) != 1 || all[0].Message != sentence {
				t.Errorf("the log says %v", all)
			}
			if got := u.State().Login; got != sentence {
				t.Errorf("status: %q", got)
			}
			if p, err := u.Probe(t.Context()); err != nil || p.Login != sentence {
				t.Errorf("probe: %+v, %v", p, err)
			}
			n.seen()

			// Each request would prolong it: nobody asks with our login, until the quiet time is over.
			for range 3 {
				now = now.Add(5 * time.Minute)
				if got := outcome(u.do(t.Context(), pull("a"))); got != "502 UNAVAILABLE" {
					t.Errorf("quiet: %s", got)
				}
			}
			if seen := n.seen(); len(seen) > 0 {
				t.Errorf("asked meanwhile: %q", seen)
			}
			now = now.Add(time.Minute + time.Second)
			var all sync.WaitGroup
			for range 8 { // one question for all, and the lock goes on
				all.Go(func() {
					if got := outcome(u.do(t.Context(), pull("a"))); got != "502 UNAVAILABLE" {
						t.Errorf("still locked: %s", got)
					}
				})
			}
			all.Wait()
			if diff := cmp.Diff([]string{"GET /v2/ " + basicAccount}, n.seen()); diff != "" {
				t.Errorf("after 16 minutes: -want +got\n%s", diff)
			}
			n.locked.Store(false)
			now = now.Add(lockPause + time.Second)
			if got := outcome(u.do(t.Context(), pull("a"))); got != "200" || u.Refused() != "" {
				t.Errorf("free again: %s, %q", got, u.Refused())
			}
		})
	}
}

// Whose limit it is matters: a limiter in front of a registry stops nobody but
// who asked.
func TestM16_APlain429PausesNobody(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter){
		"a limiting proxy": func(w http.ResponseWriter) { http.Error(w, "429 Too Many Requests", http.StatusTooManyRequests) },
		"Hub-like": func(w http.ResponseWriter) {
			w.Header().Set("Server", "Nexus/3.96.0-01 (PRO)") // which passes on what a proxy repository got
			w.Header().Set("RateLimit-Remaining", "0;w=21600")
			w.WriteHeader(429)
		},
		"words too far in": func(w http.ResponseWriter) {
			w.WriteHeader(429)
			_, _ = io.WriteString(w, strings.Repeat(" ", maxLockWords)+"Too many authentication attempts")
		},
	} {
		limit := atomic.Bool{}
		f := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Header.Get("Authorization") == "":
				challenged(w, `Basic realm="registry"`)
			case limit.Load():
				answer(w)
			}
		})
		u := testUpstream(t, f.URL, account)
		limit.Store(true)
		resp, err := u.do(t.Context(), pull("a"))
		if got := outcome(resp, err); got != "429" { // checkAnswer says the rest
			t.Errorf("%s: %s", name, got)
		}
		if u.Refused() != "" {
			t.Errorf("%s: %s", name, u.Refused())
		}
		if p, _ := u.Probe(t.Context()); p.Login != "" || p.Wrong != "refuses for now: too many requests there (429)" {
			t.Errorf("%s: probe %+v", name, p)
		}
		limit.Store(false)
		if got := outcome(u.do(t.Context(), pull("b"))); got != "200" {
			t.Errorf("%s: the next is answered %s", name, got)
		}
	}
}

func TestM16_PassthroughGoesOnMeanwhile(t *testing.T) {
	n := newLockedNexus(t, &lockedNexus{server: "Nexus/3.96.0-01 (PRO)"})
	core, logs := observer.New(zap.ErrorLevel)
	open := false
	u := testUpstream(t, n.URL, account, func(s *UpstreamSettings, o *UpstreamOptions) {
		s.Passthrough, s.SharedBlobs, o.Log = true, &open, zap.New(core)
	})
	n.locked.Store(true)
	if got := outcome(u.do(t.Context(), pull("a"))); got != "502 UNAVAILABLE" {
		t.Errorf("anonymous: %s", got)
	}
	if !strings.Contains(logs.All()[0].Message, "no anonymous pull can work until then") {
		t.Errorf("the log says %q", logs.All()[0].Message)
	}
	own := pull("a")
	own.User, own.Credential = "ann", "Basic YW5uOnB3"
	if got := outcome(u.do(t.Context(), own)); got != "200" {
		t.Errorf("ann: %s", got)
	}
	if s := u.State(); !s.Up {
		t.Error("an upstream that answers ann is down")
	}
	// And what is said to others is not said to us.
	other := pull("a")
	other.User, other.Credential = "bob", "Basic Ym9iOnB3"
	if got := outcome(u.do(t.Context(), other)); got != "429" {
		t.Errorf("bob: %s", got)
	}
}

func TestNexusWithoutSharedBlobsIsAskedAboutOnceAnHour(t *testing.T) {
	f := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Server", "Nexus/3.96.0-01 (COMMUNITY)")
		_, _ = io.WriteString(w, "ok")
	})
	yes, no := true, false
	for name, shared := range map[string]*bool{"left out": nil, "true": &yes, "false": &no} {
		now := time.Unix(1_800_000_000, 0)
		core, logs := observer.New(zap.ErrorLevel)
		u := testUpstream(t, f.URL, func(s *UpstreamSettings, o *UpstreamOptions) {
			s.SharedBlobs, o.Now, o.Log = shared, func() time.Time { return now }, zap.New(core)
		})
		for range 13 { // an hour
			outcome(u.do(t.Context(), pull("a")))
			now = now.Add(5 * time.Minute)
		}
		want := 0
		if shared == nil {
			want = 2
		}
		if got := logs.FilterMessageSnippet("`shared_blobs: true`").Len(); got != want {
			t.Errorf("%s: %d lines in an hour, want %d", name, got, want)
		}
		if got := len(u.State().Attention) > 0; got != (shared == nil) {
			t.Errorf("%s: %q", name, u.State().Attention)
		}
	}
}

func TestTokenServicesThatDoNotMakeSense(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		cause  string
		status int
	}{
		{"a page", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<html>log in</html>")
		}, "token service: its answer is a page for a browser", 502},
		{"broken JSON", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"token":`) }, "token service: its answer is not what tokens come in", 502},
		{"no token", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) }, "token service: its answer holds no token", 502},
		{"huge headers", func(w http.ResponseWriter) { w.Header().Set("X-Huge", strings.Repeat("x", 2*maxHead)) }, "headers exceeded", 502},
		{"huge body", func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, maxTokenReply+1)) }, "the answer is too long", 502},
		{"an error", func(w http.ResponseWriter) { w.WriteHeader(500) }, "token service answered 500", 502},
		{"too many", func(w http.ResponseWriter) { w.WriteHeader(429) }, "", 429},
	} {
		asked := 0
		f := newFakeRegistry(t, func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				asked++
				tt.answer(w)
				return
			}
			challenged(w, `Bearer realm="`+f.URL+`/token"`)
		})
		now := time.Unix(1_800_000_000, 0)
		u := testUpstream(t, f.URL, account, func(_ *UpstreamSettings, o *UpstreamOptions) { o.Now = func() time.Time { return now } })
		_, err := u.do(t.Context(), pull("a"))
		e, ok := err.(*httpError)
		if !ok || e.status != tt.status || !strings.Contains(err.Error(), tt.cause) {
			t.Errorf("%s: %v, want %d %s", tt.name, err, tt.status, tt.cause)
		}
		if u.Refused() != "" {
			t.Errorf("%s: %s", tt.name, u.Refused())
		}
		if tt.status != 429 {
			continue
		}
		for _, scope := range []string{"b", "c"} { // and not asked again at once
			if got := outcome(u.do(t.Context(), pull(scope))); got != "429 TOOMANYREQUESTS" {
				t.Errorf("%s: then %s", tt.name, got)
			}
		}
		if asked != 1 {
			t.Errorf("%s: asked %d times", tt.name, asked)
		}
		now = now.Add(tokenPause + time.Second)
		if outcome(u.do(t.Context(), pull("a"))); asked != 2 {
			t.Errorf("%s: asked %d times, want again after the pause", tt.name, asked)
		}
	}
}

// A realm on a foreign host is refused with the line to add, and the upstream
// is not asked for it at every request.
func TestT34_TheLineToAdd(t *testing.T) {
	for realm, want := range map[string]string{
		"https://auth.example.com/token":      "if that is right, add it: token_hosts: [auth.example.com]",
		"https://AUTH.example.com:8443/token": `if that is right, add it: token_hosts: ["auth.example.com:8443"]`,
		"http://auth.example.com/token":       `its tokens come from "http://auth.example.com/token", which is not https; set it to https there`,
	} {
		f := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, _ *http.Request) {
			challenged(w, `Bearer realm="`+realm+`"`)
		})
		now := time.Unix(1_800_000_000, 0)
		core, logs := observer.New(zap.ErrorLevel)
		u := testUpstream(t, f.URL, account, func(_ *UpstreamSettings, o *UpstreamOptions) {
			o.Now, o.Log = func() time.Time { return now }, zap.New(core)
		})
		for range 3 {
			_, err := u.do(t.Context(), pull("a"))
			if got := outcome(nil, err); got != "502 UNAVAILABLE" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", realm, err)
			}
			if strings.Contains(err.(*httpError).msg, "example.com") {
				t.Errorf("clients read %q", err.(*httpError).msg)
			}
		}
		if seen := f.seen(); len(seen) != 1 || logs.Len() != 1 {
			t.Errorf("%s: asked %q, %d lines", realm, seen, logs.Len())
		}
		if p, err := u.Probe(t.Context()); err == nil || !strings.Contains(p.Wrong, want) {
			t.Errorf("%s: probe %+v, %v", realm, p, err)
		}
		f.seen()
		now = now.Add(askRefusedAgain)
		if outcome(u.do(t.Context(), pull("a"))); len(f.seen()) != 1 {
			t.Errorf("%s: never asked again", realm)
		}
	}
}
