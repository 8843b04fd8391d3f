package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

const webhookSecret = "a secret of the webhook"

// webhook is a program that answers as h does, and a provider that asks it.
func webhook(t testing.TB, now *clock, h http.HandlerFunc, change ...func(*auth.WebhookOptions)) *auth.Webhook {
	t.Helper()
	s := quietTLS(t, h)
	o := auth.WebhookOptions{
		URL: s.URL + "/logins?of=regward", Secret: webhookSecret, Timeout: 10 * time.Second, Now: now.Now,
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
	}
	for _, c := range change {
		c(&o)
	}
	return mustWebhook(t, o)
}

func mustWebhook(t testing.TB, o auth.WebhookOptions) *auth.Webhook {
	t.Helper()
	w, err := auth.NewWebhook(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// loginFrom is a login as the handler hands it on.
func loginFrom(addr, host, user, password string) auth.Credential {
	c := auth.NewBasic(user, password)
	c.Host = host
	if addr != "" {
		c.Addr = netip.MustParseAddr(addr)
	}
	return c
}

// What is asked, and that it can be told from what others ask.
func TestAWebhookIsAsked(t *testing.T) {
	now := newClock()
	type seen struct {
		Method, Path, Type, Signature string
		Body                          map[string]any
	}
	asked := make(chan seen, 1)
	w := webhook(t, now, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s := seen{Method: r.Method, Path: r.URL.String(), Type: r.Header.Get("Content-Type")}
		mac := hmac.New(sha256.New, []byte(webhookSecret))
		fmt.Fprintf(mac, "%d.%s", now.Now().Unix(), body)
		if want := fmt.Sprintf("t=%d,v1=%s", now.Now().Unix(), hex.EncodeToString(mac.Sum(nil))); r.Header.Get("X-Regward-Signature") != want {
			s.Signature = r.Header.Get("X-Regward-Signature") + " rather than " + want
		}
		if r.Header["Idempotency-Key"] != nil || r.Header["Authorization"] != nil {
			s.Signature += " and more"
		}
		_ = json.Unmarshal(body, &s.Body)
		asked <- s
		says(200, `{"user":"Ann","groups":["ops","dev","dev"],"ttl":90,"more":{"unknown":1}}`)(w, r)
	})
	id, err := w.Authenticate(context.Background(), loginFrom("::ffff:192.0.2.7", registry, "ANN", `p"ä<&>`))
	want := auth.Identity{Name: "ann", Groups: []string{"dev", "ops"}, Via: "webhook", Expires: now.Now().Add(90 * time.Second), Proof: id.Proof}
	if diff := cmp.Diff(want, id); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if diff := cmp.Diff(seen{"POST", "/logins?of=regward", "application/json", "",
		map[string]any{"user": "ANN", "password": `p"ä<&>`, "addr": "192.0.2.7", "hostname": registry}}, <-asked); diff != "" {
		t.Error(diff)
	}
	other := id
	other.Proof[0]++
	if !w.Current(&id) || w.Current(&other) || w.Current(&auth.Identity{Proof: id.Proof}) {
		t.Error("Current is wrong")
	}
	if allocs := testing.AllocsPerRun(100, func() { w.Current(&id) }); allocs != 0 {
		t.Errorf("Current allocates %v times", allocs)
	}
	if _, err := w.Authenticate(context.Background(), auth.NewBearer("x")); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("a bearer token: %v", err)
	}
}

// Yes, no, not mine, and what is none of them: nothing but a 200 in the right form
// is a login, and nothing but 401 and 403 is a refusal.
func TestWhatAWebhookMayAnswer(t *testing.T) {
	const yes, no, notMine = "yes", "no", "not mine"
	const pw = "the password of ann"
	many, _ := json.Marshal(map[string]any{"groups": many(auth.MaxGroupBytes)})
	for _, tt := range []struct {
		status int
		body   string
		want   string // else a part of the error
	}{
		{200, `{}`, yes}, {200, `{"user":""}`, yes}, {200, `{"user":null,"groups":null,"ttl":null}`, yes}, {200, ` {"groups":"dev"} `, yes},
		{200, `{"ttl":0}`, yes}, {200, `{"ttl":1e300}`, yes}, {200, `{"ttl":0.5}`, yes},
		{401, `{}`, no}, {403, `<html>`, no}, {404, ``, notMine}, {204, ``, notMine},
		{200, ``, "is no JSON"}, {200, `null`, "no JSON object"}, {200, `true`, "no JSON object"}, {200, `["ann"]`, "no JSON object"},
		{200, `<html>`, "is no JSON"}, {200, `{} {}`, "is no JSON"}, {200, `{"user":"bob","user":"ann"}`, "twice"},
		{200, `{"user":7}`, "no text"}, {200, `{"user":"anonymous"}`, "nobody in particular"}, {200, `{"user":"a\u0000"}`, "no name may have"},
		{200, `{"user":" ann"}`, "nobody can be called"}, {200, `{"user":"` + strings.Repeat("a", auth.MaxUser+1) + `"}`, "longer than"},
		{200, `{"user":"<token>"}`, "nobody can be called"}, {200, `{"user":"Robot-ci"}`, "only robots are called so"}, {200, `{"user":"\ud800"}`, "no name may have"},
		{200, `{"groups":7}`, "no list"}, {200, `{"groups":[7]}`, "no list"}, {200, `{"groups":[null]}`, "no list"}, {200, `{"groups":{}}`, "no list"}, {200, `{"groups":["a\n"]}`, "none can be called that"},
		{200, string(many), "is the most"},
		{200, `{"ttl":-1}`, "no number of seconds"}, {200, `{"ttl":"60"}`, "no number of seconds"}, {200, `{"ttl":1e999}`, "no number of seconds"},
		{200, strings.Repeat("[", 40) + strings.Repeat("]", 40), "nested"}, {200, "{\"user\":\"\xff\"}", "no UTF-8"},
		{200, strings.Repeat(" ", auth.MaxAnswer+1), "longer than 65536"},
		{201, `{}`, "answers 201"}, {302, ``, "answers 302"}, {307, ``, "answers 307"}, {400, ``, "answers 400"}, {429, ``, "answers 429"}, {500, ``, "answers 500"}, {503, ``, "answers 503"},
	} {
		var calls atomic.Int64
		w := webhook(t, newClock(), func(rw http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			rw.Header().Set("Location", "/elsewhere")
			says(tt.status, tt.body)(rw, r)
		})
		id, err := w.Authenticate(context.Background(), loginFrom("", "", "ann", pw))
		got := map[bool]string{true: yes, false: fmt.Sprint(err)}[err == nil]
		if errors.Is(err, auth.ErrRejected) {
			got = no
		} else if errors.Is(err, auth.ErrNotMine) {
			got = notMine
		}
		if ok := got == tt.want || saysNothing(err) && !slices.Contains([]string{yes, no, notMine}, tt.want) && strings.Contains(got, tt.want); !ok || (err == nil) != (id.Name == "ann") {
			t.Errorf("%d %.40s: %s (%q), want %s", tt.status, tt.body, got, id.Name, tt.want)
		}
		if calls.Load() != 1 || err != nil && (strings.Contains(err.Error(), pw) || strings.Contains(err.Error(), "of=regward")) {
			t.Errorf("%d: asked %d times; %v", tt.status, calls.Load(), err)
		}
	}
}

// It hangs, is gone, breaks off, has another CA: nobody can say.
func TestAWebhookThatIsDown(t *testing.T) {
	gate := make(chan struct{})
	defer close(gate)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, tt := range map[string]struct {
		h      http.HandlerFunc
		change func(*auth.WebhookOptions)
		says   string
	}{
		"hangs":      {func(http.ResponseWriter, *http.Request) { <-gate }, func(o *auth.WebhookOptions) { o.Timeout = 30 * time.Millisecond }, "does not answer within 30ms"},
		"trickles":   {func(w http.ResponseWriter, _ *http.Request) { _ = http.NewResponseController(w).Flush(); <-gate }, func(o *auth.WebhookOptions) { o.Timeout = 100 * time.Millisecond }, "does not answer within 100ms"},
		"gone":       {nil, func(o *auth.WebhookOptions) { o.URL = gone.URL }, "connection refused"},
		"breaks off": {broken, func(*auth.WebhookOptions) {}, "unexpected EOF"},
		"hangs up":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, func(*auth.WebhookOptions) {}, "EOF"},
		"no CA":      {says(200, "{}"), func(o *auth.WebhookOptions) { o.CA = nil }, "unknown authority"},
		"another CA": {says(200, "{}"), func(o *auth.WebhookOptions) { o.CA = otherCA(t) }, "unknown authority"},
		"no TLS":     {says(200, "{}"), func(o *auth.WebhookOptions) { o.URL = strings.Replace(o.URL, "https", "http", 1) }, "answers 400"},
	} {
		w := webhook(t, newClock(), tt.h, tt.change)
		_, err := w.Authenticate(context.Background(), auth.NewBasic("ann", "hunter2"))
		if !saysNothing(err) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want …%s…", name, err, tt.says)
		}
	}
}

// Who was let in a moment ago still is while the program is down, for as long as
// cache.stale says and no longer than its ttl; nobody is whom it turns down, or
// whose answer makes no sense.
func TestAWebhookThatIsDownAndProvenLogins(t *testing.T) {
	for _, tt := range []struct {
		name   string
		h      http.HandlerFunc // from then on
		body   string           // before
		passes bool
	}{
		{"500", says(500, "oops"), `{}`, true},
		{"502 of a proxy", says(502, "<html>"), `{}`, true},
		{"429", says(429, ""), `{}`, true},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, `{}`, true},
		{"breaks off", broken, `{}`, true},
		{"500 after its ttl", says(500, "oops"), `{"ttl":30}`, false},
		{"nonsense", says(200, "<html>"), `{}`, false},
		{"huge", says(200, strings.Repeat(" ", auth.MaxAnswer+1)), `{}`, false},
		{"a redirect", says(302, ""), `{}`, false},
		{"does not take the signature", says(400, ""), `{}`, false},
	} {
		now := newClock()
		var h atomic.Pointer[http.HandlerFunc]
		answer := func(f http.HandlerFunc) { h.Store(&f) }
		answer(says(200, tt.body))
		w := webhook(t, now, func(rw http.ResponseWriter, r *http.Request) { (*h.Load())(rw, r) })
		k := auth.NewCache(100, now.Now)
		login := func(password string) error {
			stale := times()
			stale.Stale = 10 * time.Minute
			_, _, err := k.Login(context.Background(), w, auth.NewBasic("ann", password), stale, nil)
			return err
		}
		if err := login("pw"); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		answer(tt.h)
		now.Advance(2 * time.Minute)
		if err := login("pw"); (err == nil) != tt.passes || err != nil && !saysNothing(err) {
			t.Errorf("%s: a proven login: %v", tt.name, err)
		}
		if err := login("another"); !saysNothing(err) {
			t.Errorf("%s: one that nobody has seen: %v", tt.name, err)
		}
		now.Advance(9 * time.Minute)
		if err := login("pw"); !saysNothing(err) {
			t.Errorf("%s: after cache.stale: %v", tt.name, err)
		}
		answer(says(401, ""))
		now.Advance(time.Minute)
		if err := login("pw"); !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: and turned down at last: %v", tt.name, err)
		}
	}
}

// The answer may depend on where a login comes from: it is remembered for there,
// and for no longer than the program says.
func TestAWebhookInTheCache(t *testing.T) {
	now := newClock()
	var calls atomic.Int64
	w := webhook(t, now, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), `"addr":"192.0.2.66"`):
			w.WriteHeader(http.StatusForbidden)
		case strings.Contains(string(body), `"user":"bob"`):
			says(200, `{}`)(w, r)
		default:
			says(200, `{"ttl":20}`)(w, r)
		}
	})
	k := auth.NewCache(100, now.Now)
	login := func(c auth.Credential) error {
		_, _, err := k.Login(context.Background(), w, c, times(), nil)
		return err
	}
	ann := loginFrom("192.0.2.7", registry, "ann", "pw")
	for i, tt := range []struct {
		after time.Duration
		c     auth.Credential
		calls int64
		no    bool
	}{
		{0, ann, 1, false}, {0, ann, 1, false},
		{0, loginFrom("192.0.2.8", registry, "ann", "pw"), 2, false},
		{0, loginFrom("192.0.2.66", registry, "ann", "pw"), 3, true},
		{0, loginFrom("192.0.2.7", "other.example.com", "ann", "pw"), 4, false},
		{19 * time.Second, ann, 4, false}, {time.Second, ann, 5, false}, // ttl
		{0, loginFrom("", "", "bob", "pw"), 6, false}, {59 * time.Second, loginFrom("", "", "bob", "pw"), 6, false}, {time.Second, loginFrom("", "", "bob", "pw"), 7, false}, // cache.ttl
	} {
		now.Advance(tt.after)
		if err := login(tt.c); errors.Is(err, auth.ErrRejected) != tt.no || !tt.no && err != nil || calls.Load() != tt.calls {
			t.Errorf("%d: %v, %d calls, want %d", i, err, calls.Load(), tt.calls)
		}
	}
}

func TestAWebhooksOptions(t *testing.T) {
	good := auth.WebhookOptions{URL: "https://x.example.com/", Secret: "s3cret-of-it", Timeout: time.Second, Now: time.Now}
	for want, change := range map[string]func(*auth.WebhookOptions){
		"url is no URL":                func(o *auth.WebhookOptions) { o.URL = "x.example.com" },
		"url is no URL: ":              func(o *auth.WebhookOptions) { o.URL = "https://ann:pw@x.example.com" },
		"url is not https":             func(o *auth.WebhookOptions) { o.URL = "http://x.example.com" },
		"secret is missing":            func(o *auth.WebhookOptions) { o.Secret = "" },
		"timeout is not positive":      func(o *auth.WebhookOptions) { o.Timeout = 0 },
		"ca_file holds no certificate": func(o *auth.WebhookOptions) { o.CA = []byte("x") },
	} {
		bad := good
		change(&bad)
		if _, err := auth.NewWebhook(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, url := range []string{"http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost/"} {
		ok := good
		ok.URL = url
		mustWebhook(t, ok)
	}
	w := mustWebhook(t, good)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if text := fmt.Sprintf(verb+verb+verb, good, w, &good); strings.Contains(text, "s3cret") || strings.Contains(text, hex.EncodeToString([]byte("s3cret"))) {
			t.Errorf("%s prints the secret: %s", verb, text)
		}
	}
	id := auth.Identity{Via: "webhook", Proof: [16]byte(w.Proof(auth.NewBasic("ann", "pw"))[:16])}
	if !w.Current(&id) {
		t.Fatal("the proof is not the one of its identities")
	}
	for name, change := range map[string]func(*auth.WebhookOptions){
		"url": func(o *auth.WebhookOptions) { o.URL += "x" }, "secret": func(o *auth.WebhookOptions) { o.Secret += "x" },
		"CA": func(o *auth.WebhookOptions) { o.CA = otherCA(t) }, "case": func(o *auth.WebhookOptions) { o.CaseSensitive = true }, "key": func(o *auth.WebhookOptions) { o.Key[0]++ },
	} {
		other := good
		change(&other)
		if mustWebhook(t, other).Current(&id) {
			t.Errorf("another %s proves it, too", name)
		}
	}
	good.Timeout = time.Hour
	if !mustWebhook(t, good).Current(&id) {
		t.Error("another timeout unproves everybody")
	}
}

// A connection that was kept, and that the program has closed meanwhile, is no
// reason to say nothing.
func TestAWebhookThatClosesConnections(t *testing.T) {
	s := httptest.NewServer(says(200, `{}`))
	t.Cleanup(s.Close)
	w := mustWebhook(t, auth.WebhookOptions{URL: s.URL, Secret: "s", Timeout: 10 * time.Second, Now: time.Now})
	for range 20 {
		if _, err := w.Authenticate(context.Background(), auth.NewBasic("ann", "pw")); err != nil {
			t.Fatal(err)
		}
		s.CloseClientConnections()
	}
}

func FuzzWebhookAnswer(f *testing.F) {
	for _, text := range []string{`{"user":"ann","groups":["dev"],"ttl":60}`, `{}`, `{"user":"\ud800"}`, `{"ttl":1e308}`, `{"groups":"x"}`, `[]`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		user, groups, ttl, err := auth.ReadAnswer(body, "ann")
		if err != nil {
			return
		}
		if user == "" || len(user) > auth.MaxUser || !utf8.ValidString(user) || user != strings.ToLower(user) || strings.ContainsFunc(user, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q: user %q", body, user)
		}
		if !slices.IsSorted(groups) || slices.Contains(groups, "") || len(strings.Join(groups, "")) > auth.MaxGroupBytes {
			t.Errorf("%q: groups %q", body, groups)
		}
		if ttl < 0 || ttl > 24*time.Hour {
			t.Errorf("%q: ttl %v", body, ttl)
		}
		var exact map[string]json.RawMessage
		if json.Unmarshal(body, &exact) != nil {
			t.Errorf("%q is read", body)
		}
		if _, there := exact["user"]; !there && user != "ann" {
			t.Errorf("%q: %q out of nowhere", body, user)
		}
	})
}
