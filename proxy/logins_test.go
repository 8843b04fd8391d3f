package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

// people is an upstream that knows some, and counts what it is asked: "ping"
// without a login, "made-up", or "user/password".
type people struct {
	*fakeRegistry
	bearer bool // logins are the token service's business

	mu     sync.Mutex
	known  map[string]string
	status map[string]int // instead of the usual answer, to a question; to "ann/*" whatever her password, to "*" always
	asked  []string
	page   string        // media type of the page that a 200 comes with
	gate   chan struct{} // answers to people wait for it
	held   atomic.Int64
}

const nexusRealm = `BASIC realm="Sonatype Nexus Repository Manager"`

func newPeople(t testing.TB, users ...string) *people {
	p := &people{known: map[string]string{}, status: map[string]int{}}
	for i := 0; i < len(users); i += 2 {
		p.known[users[i]] = users[i+1]
	}
	p.fakeRegistry = newFakeRegistry(t, p.serve)
	return p
}

func (p *people) serve(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
	user, password, login := r.BasicAuth()
	question := user + "/" + password
	switch {
	case !login:
		question = "ping"
	case strings.HasPrefix(user, "regward-check-"):
		question = "made-up"
	}
	p.mu.Lock()
	p.asked = append(p.asked, question)
	status, gate := http.StatusUnauthorized, p.gate
	if want, ok := p.known[user]; login && ok && want == password && (!p.bearer || r.URL.Path == "/token") {
		status = http.StatusOK
	}
	for _, pattern := range []string{"*", user + "/*", question} {
		if s := p.status[pattern]; s != 0 {
			status = s
		}
	}
	bearer, page := p.bearer, p.page
	p.mu.Unlock()
	if gate != nil && question != "ping" && question != "made-up" {
		p.held.Add(1)
		<-gate
	}
	switch service := r.URL.Path == "/token"; {
	case service && status == http.StatusOK:
		_, _ = w.Write([]byte(`{"token":"t"}`))
	case status == http.StatusUnauthorized && bearer && !service:
		challenged(w, `Bearer realm="`+p.URL+`/token",service="reg"`)
	case status == http.StatusUnauthorized:
		challenged(w, nexusRealm)
	case status/100 == 3:
		w.Header().Set("Location", "http://elsewhere.example/")
		w.WriteHeader(status)
	case page != "" && status == http.StatusOK:
		w.Header().Set("Content-Type", page)
		_, _ = w.Write([]byte("closed for today"))
	default:
		w.WriteHeader(status)
	}
}

// say sets the answer to a question; 0 is the usual one.
func (p *people) say(question string, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status[question] = status
}

// questions are those since the last call.
func (p *people) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.asked
	p.asked = nil
	return all
}

// door is the cache in front of the provider, as people meet it.
type door struct {
	testing.TB
	*people
	up    *Upstream
	by    *upstreamLogins
	cache *auth.Cache
	clock *clock
	log   *lines
	times auth.CacheTimes
}

func newDoor(t testing.TB, p *people) *door {
	d := &door{TB: t, people: p, clock: newClock(), log: &lines{}, times: auth.CacheTimes{TTL: time.Minute, NegativeTTL: 5 * time.Second}}
	d.up = testUpstream(t, p.URL, account, func(s *UpstreamSettings, o *UpstreamOptions) {
		s.Name, o.Now, o.Log = "Nexus", d.clock.Now, d.log.logger()
	})
	d.by = d.up.logins([]string{"regward", "Hub-Account"}, false, [32]byte{1})
	d.cache = auth.NewCache(1000, d.clock.Now)
	return d
}

// source is a guard that refuses nobody.
type source string

func (source) Admit(auth.Credential) error { return nil }
func (source) Failed(auth.Credential)      {}
func (s source) Source() string            { return string(s) }

// login is "ann", "no", or why it cannot be said.
func (d *door) login(user, password string, from ...string) string {
	id, _, err := d.cache.Login(d.Context(), d.by, auth.NewBasic(user, password), d.times, source(strings.Join(from, "")))
	var refused *httpError
	var cannot *cannotSay
	switch {
	case err == nil:
		return id.Name
	case errors.Is(err, auth.ErrRejected):
		return "no"
	case errors.As(err, &refused):
		return fmt.Sprintf("%d %s", refused.status, refused.msg)
	case errors.As(err, &cannot):
		return "503 " + cannot.msg
	}
	return err.Error()
}

const (
	takesAny  = "503 logins cannot be checked: the upstream takes any login"
	notThere  = "503 logins cannot be checked: the registry that knows them cannot be reached or answers wrongly; try again later"
	firewall  = "503 logins cannot be checked: the upstream answers 403 to all of them"
	annLocked = `503 upstream Nexus has locked the name "ann" for now; not asked again before `
	annTried  = "429 too many wrong passwords for ann; try again in "
)

// visit is one login after another: what comes back, and what the upstream was
// asked for it.
type visit struct {
	what           string
	after          time.Duration
	user, password string
	want           string // what it begins with
	asked          []string
}

func (d *door) walk(visits []visit) {
	d.Helper()
	for _, v := range visits {
		d.clock.pass(v.after)
		if got := d.login(v.user, v.password); !strings.HasPrefix(got, v.want) || v.want == "" {
			d.Errorf("%s: got %q, want %q", v.what, got, v.want)
		}
		if diff := cmp.Diff(v.asked, d.questions()); diff != "" {
			d.Errorf("%s: asked (-want +got):\n%s", v.what, diff)
		}
	}
}

func TestUpstreamLogin(t *testing.T) {
	for _, bearer := range []bool{false, true} {
		t.Run(map[bool]string{false: "basic", true: "bearer"}[bearer], func(t *testing.T) {
			d := newDoor(t, newPeople(t, "ann", "pw", "bob", "pb"))
			d.bearer = bearer
			d.walk([]visit{
				{"nobody is believed before a made-up login is turned down", 0, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}},
				{"remembered", time.Second, "ann", "pw", "ann", nil},
				{"another one", 0, "bob", "pb", "bob", []string{"bob/pb"}},
				{"asked again after cache.ttl", time.Minute, "ann", "pw", "ann", []string{"ann/pw"}},
				{"names are folded, but not to the upstream", 0, "Ann", "pw", "no", []string{"Ann/pw"}},
				{"just before 20 minutes", 18*time.Minute + 58*time.Second, "ann", "pw", "ann", []string{"ann/pw"}},
				{"then a made-up login is tried again", time.Minute + time.Second, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}},
			})
		})
	}
}

// Credentials go to the token service of the upstream's own challenge, with
// these words and no others.
func TestT34_LoginsGoToTheUpstreamsTokenServiceOnly(t *testing.T) {
	elsewhere := newPeople(t)
	var realm string
	f := newFakeRegistry(t, func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		switch user, _, _ := r.BasicAuth(); {
		case user == "ann":
			_, _ = w.Write([]byte(`{"access_token":"t"}`))
		case user == "bob":
			http.Redirect(w, r, elsewhere.URL+"/token", http.StatusTemporaryRedirect)
		case r.URL.Path == "/token":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			challenged(w, `Bearer realm="`+strings.ReplaceAll(realm, "SELF", f.URL)+`",service="a registry",scope="repository:*:pull"`)
		}
	})
	ask := func(user string) error {
		_, err := testUpstream(t, f.URL).logins(nil, false, [32]byte{}).Authenticate(t.Context(), auth.NewBasic(user, "pw"))
		return err
	}
	realm = "SELF/token?of=it&scope=registry:catalog:*"
	if err := ask("ann"); err != nil {
		t.Error(err)
	}
	seen := f.seen()
	if want := "GET /token?account=ann&of=it&service=a+registry " + basicOf("ann", "pw"); seen[len(seen)-1] != want {
		t.Errorf("got %s, want %s", seen[len(seen)-1], want)
	}
	var cannot *cannotSay
	if err := ask("bob"); !errors.As(err, &cannot) {
		t.Errorf("a redirect: got %v", err)
	}
	for _, foreign := range []string{elsewhere.URL + "/token", "http://tokens.example/", "https://tokens.example/token", "ftp://127.0.0.1/", "::"} {
		realm = foreign
		f.seen()
		if err := ask("ann"); !errors.As(err, &cannot) || errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: got %v", realm, err)
		}
		if seen := f.seen(); !slices.Equal(seen, []string{"GET /v2/"}) {
			t.Errorf("%s: asked %q", realm, seen)
		}
	}
	if asked := elsewhere.questions(); len(asked) > 0 {
		t.Errorf("another host was asked %q", asked)
	}
}

func basicOf(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func TestATokenServiceThatGivesNoToken(t *testing.T) {
	f := newFakeRegistry(t, func(f *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		switch user, _, _ := r.BasicAuth(); {
		case user == "ann":
			_, _ = w.Write([]byte(`{"token":""}`))
		case r.URL.Path == "/token":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			challenged(w, `Bearer realm="`+f.URL+`/token"`)
		}
	})
	_, err := testUpstream(t, f.URL).logins(nil, false, [32]byte{}).Authenticate(t.Context(), auth.NewBasic("ann", "pw"))
	if cannot := (*cannotSay)(nil); !errors.As(err, &cannot) {
		t.Errorf("got %v", err)
	}
}

func TestAnUpstreamThatTakesAnybody(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	d.say("*", 200)
	d.walk([]visit{
		{"the right password proves nothing", 0, "ann", "pw", takesAny, []string{"ping", "made-up"}},
		{"not tried again at once", 4 * time.Second, "ann", "pw", takesAny, nil},
		{"for nobody", 0, "bob", "x", takesAny, nil},
		{"but soon", time.Second, "ann", "pw", takesAny, []string{"ping", "made-up"}},
		{"and again", 5 * time.Second, "ann", "pw", takesAny, []string{"ping", "made-up"}},
	})
	if n := strings.Count(d.log.String(), "takes any login"); n != 1 {
		t.Errorf("logged %d times in ten seconds, want once a minute:\n%s", n, d.log)
	}
	d.clock.pass(time.Minute)
	d.login("ann", "pw")
	d.questions()
	if n := strings.Count(d.log.String(), "takes any login"); n != 2 {
		t.Errorf("logged %d times in a minute", n)
	}
	if err := d.up.ProbeLogins(t.Context()); err == nil || !strings.Contains(err.Error(), "takes any login") {
		t.Errorf("ProbeLogins: %v", err)
	}
	d.questions()
	d.say("*", 0)
	d.walk([]visit{{"put right", 5 * time.Second, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}}})
	if err := d.up.ProbeLogins(t.Context()); err != nil {
		t.Errorf("ProbeLogins: %v", err)
	}
}

// It begins to take anybody while it is believed not to: seen within the hour,
// and at once where an answer has to be explained.
func TestAnUpstreamThatBeginsToTakeAnybody(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	d.login("ann", "pw")
	d.questions()
	d.say("*", 200)
	d.say("bob/*", 403)
	d.walk([]visit{
		{"a 403 has to be explained", time.Minute, "bob", "x", takesAny, []string{"bob/x", "ping", "made-up"}},
		{"nobody is let in any more", 0, "ann", "pw", takesAny, nil},
	})
}

func TestAnUpstreamThatIsDownAndComesBack(t *testing.T) {
	for _, tt := range []struct{ question, asked string }{
		{"ping", "ping"},
		{"made-up", "ping made-up"},
	} {
		for _, status := range []int{429, 500, 503, 404, 307} {
			if tt.question == "ping" && (status == 404 || status == 307) {
				continue // hidden from strangers, perhaps; what counts is the made-up login
			}
			d := newDoor(t, newPeople(t, "ann", "pw"))
			d.say(tt.question, status)
			down := strings.Fields(tt.asked)
			d.walk([]visit{
				{"down", 0, "ann", "pw", notThere, down},
				{"not asked again at once", 4 * time.Second, "bob", "pb", notThere, nil},
				{"still down", time.Second, "ann", "pw", notThere, down},
			})
			if err := d.up.ProbeLogins(t.Context()); err == nil {
				t.Errorf("ProbeLogins finds nothing wrong with %d", status)
			}
			d.questions()
			d.say(tt.question, 0)
			d.walk([]visit{
				{"back, but not asked", 4 * time.Second, "ann", "pw", notThere, nil},
				{"back", time.Second, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}},
			})
		}
	}
	d := newDoor(t, newPeople(t))
	d.Close()
	d.walk([]visit{{"gone", 0, "ann", "pw", notThere, nil}})
}

// Down between two made-up logins: who asks next asks whether it is back.
func TestAnUpstreamThatGoesDownWithinTheHour(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw", "bob", "pb"))
	d.login("ann", "pw")
	d.questions()
	d.say("*", 502)
	d.say("bob/pb", 302)
	d.walk([]visit{
		{"down", 2 * time.Minute, "ann", "pw", notThere, []string{"ann/pw"}},
		{"the same login waits", 4 * time.Second, "ann", "pw", notThere, nil},
		{"others make sure first", 0, "bob", "pb", notThere, []string{"ping"}},
		{"and nobody asks for a while", 4 * time.Second, "carl", "pc", notThere, nil},
	})
	d.say("*", 0)
	d.walk([]visit{
		{"it makes no sense of one login", time.Minute, "bob", "pb", notThere, []string{"ping", "made-up", "bob/pb"}},
		{"of others it does", 0, "ann", "pw", "ann", []string{"ann/pw"}}, // a made-up one was turned down a moment ago
		{"and is asked again", 5 * time.Second, "bob", "pb", notThere, []string{"bob/pb"}},
	})
}

func TestAWrongPasswordIsAskedOnce(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	d.times.NegativeTTL = time.Second
	for range 100 {
		if got := d.login("ann", "old"); got != "no" {
			t.Fatalf("got %q", got)
		}
		d.clock.pass(9 * time.Second) // 15 minutes in all
	}
	if diff := cmp.Diff([]string{"ping", "made-up", "ann/old"}, d.questions()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	d.walk([]visit{{"then again", 0, "ann", "old", "no", []string{"ann/old"}}})
}

func TestAThirdWrongPasswordIsNotAsked(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw", "bob", "pb"))
	d.walk([]visit{
		{"one", 0, "ann", "1", "no", []string{"ping", "made-up", "ann/1"}},
		{"another, by another spelling", time.Minute, "ANN", "2", "no", []string{"ANN/2"}},
		{"a third", 0, "ann", "3", annTried + "14 minutes", nil},
		{"nor the right one: nobody knows", 0, "ann", "pw", annTried + "14 minutes", nil},
		{"the first again", 0, "ann", "1", "no", nil},
		{"other people", 0, "bob", "pb", "bob", []string{"bob/pb"}},
		{"just before", 14*time.Minute - time.Second, "ann", "pw", annTried + "a second", nil},
		{"when the first is forgotten", time.Second, "ann", "pw", "ann", []string{"ann/pw"}},
		{"there is one question more", 0, "ann", "4", "no", []string{"ann/4"}},
		{"and no other", 0, "ann", "5", annTried, nil},
	})
	_, _, err := d.cache.Login(t.Context(), d.by, auth.NewBasic("ann", "5"), d.times, nil)
	var e *httpError
	if !errors.As(err, &e) || e.code != "TOOMANYREQUESTS" || e.header.Get("Retry-After") != "60" || e.reason != reasonLockedOut {
		t.Errorf("got %+v", e)
	}
}

func TestWhoWasInBeforeIsNotLockedOutByStrangers(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	for _, step := range []struct{ password, from, want string }{
		{"pw", "home", "ann"},
		{"1", "abroad", "no"},
		{"2", "abroad", "no"},
		{"3", "abroad", annTried},
		{"3", "home", annTried},
		{"pw", "home", "ann"},
		{"pw", "home", "ann"},
	} {
		if step.password == "pw" {
			d.clock.pass(2 * time.Minute) // it is asked about, not remembered
		}
		if got := d.login("ann", step.password, step.from); !strings.HasPrefix(got, step.want) {
			t.Errorf("%s from %s: got %q, want %q", step.password, step.from, got, step.want)
		}
	}
	d.questions()
	d.clock.pass(2 * time.Minute)
	if got := d.login("ann", "pw", "abroad"); !strings.HasPrefix(got, annTried) {
		t.Errorf("from abroad: got %q", got)
	}
	// A password that was good and is not any more is asked once.
	d.known["ann"] = "new"
	for range 3 {
		if got := d.login("ann", "pw", "home"); got != "no" {
			t.Errorf("got %q", got)
		}
		d.clock.pass(6 * time.Second)
	}
	if diff := cmp.Diff([]string{"ann/pw"}, d.questions()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// M16's kind: a lock-out there, and not ours.
func TestANameTheUpstreamHasLocked(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw", "bob", "pb")) // it is 15:37:50
	d.login("bob", "pb")
	d.questions()
	d.say("ann/*", 429)
	d.clock.pass(time.Minute)
	d.walk([]visit{
		{"locked", 0, "ann", "pw", annLocked + "15:53 UTC", []string{"ann/pw", "ping", "made-up"}},
		{"not asked again", 0, "Ann", "x", `503 upstream Nexus has locked the name "Ann" for now; not asked again before 15:53 UTC`, nil},
		{"others are", 0, "bob", "pb", "bob", []string{"bob/pb"}},
	})
	d.say("ann/*", 0)
	d.walk([]visit{
		{"even if it were unlocked", 15*time.Minute - time.Second, "ann", "pw", annLocked + "15:53 UTC", nil},
		{"then", time.Second, "ann", "pw", "ann", []string{"ann/pw"}},
	})
	if n := strings.Count(d.log.String(), "has locked a user name"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	d.say("*", 429)
	d.walk([]visit{
		{"429 for everybody locks nobody", time.Minute, "ann", "pw", notThere, []string{"ann/pw", "ping"}},
	})
	d.say("*", 0)
	d.walk([]visit{
		{"so she is asked about soon", 5 * time.Second, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}},
	})
}

func TestA403(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw", "bob", "pb"))
	d.say("ann/pw", 403)
	d.say("bob/pb", 403)
	d.walk([]visit{
		{"logged in, without rights", 0, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}},
		{"a wrong password is still wrong", 9 * time.Second, "ann", "x", "no", []string{"ann/x"}},
		{"explained a moment ago", 0, "bob", "pb", "bob", []string{"bob/pb"}},
		{"no longer a moment ago", time.Minute, "ann", "pw", "ann", []string{"ann/pw", "ping", "made-up"}},
	})
	d.say("*", 403)
	d.walk([]visit{
		{"a firewall proves nothing", time.Minute, "ann", "pw", firewall, []string{"ann/pw", "ping", "made-up"}},
		{"nor does what it says to others", 0, "carl", "pc", firewall, []string{"carl/pc"}},
	})
	d.say("*", 0)
	d.walk([]visit{
		{"it is gone", 10 * time.Second, "ann", "pw", "ann", []string{"ann/pw", "ping", "made-up"}},
	})
}

// Artifactory answers 403 to a name with wrong passwords, whatever comes next.
func TestA403ElsewhereProvesNothing(t *testing.T) {
	suspended := true
	f := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		switch {
		case user == "ann" && suspended:
			w.WriteHeader(http.StatusForbidden)
		case user == "ann" && password == "pw":
		default:
			challenged(w, `Basic realm="Artifactory Realm"`)
		}
	})
	clock := newClock()
	by := testUpstream(t, f.URL, func(_ *UpstreamSettings, o *UpstreamOptions) { o.Now = clock.Now }).logins(nil, false, [32]byte{})
	ask := func(password string) error {
		_, err := by.Authenticate(t.Context(), auth.NewBasic("ann", password))
		return err
	}
	var cannot *cannotSay
	for _, password := range []string{"wrong", "pw"} {
		if err := ask(password); !errors.As(err, &cannot) || errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: got %v", password, err)
		}
	}
	suspended = false
	clock.pass(nameSuspended)
	if err := ask("pw"); err != nil {
		t.Error(err)
	}
}

func TestOwnAccountsAndNobodysNamesAreNeverAsked(t *testing.T) {
	p := newPeople(t, "regward", "secret", "hub-account", "s", "anonymous", "a", "robot-ci", "r",
		"\u212aarl", "guess", "\u0130van", "guess", "a\u200bnn", "guess", "\uff41nn", "guess")
	d := newDoor(t, p)
	for _, user := range []string{"regward", "Regward", "REGWARD", "regward ", " regward", "hub-account", "HUB-ACCOUNT", "anonymous", "Anonymous",
		"regWard", "reg\u2000", "<token>", "ann ", "a:b",
		"\u212aarl", "\u0130van", "a\u200bnn", "an\u00adn", "\uff41nn", "ann\u0301", "\U0001d41ann", "\ufb01nn"} {
		for _, password := range []string{"secret", "s", "a", "guess"} {
			if got := d.login(user, password); got != "no" {
				t.Errorf("%q: got %q", user, got)
			}
			if proof := d.by.Proof(auth.NewBasic(user, password)); proof != nil {
				t.Errorf("%q has a proof", user)
			}
		}
	}
	if asked := d.questions(); len(asked) > 0 {
		t.Errorf("asked %q", asked)
	}
	for _, name := range []string{"jürgen", "Ирина", "山田", "ศักดิ์"} {
		p.known[name] = "pw"
		if got := d.login(name, "pw"); got != strings.ToLower(name) {
			t.Errorf("%s: got %q", name, got)
		}
	}
	d.questions()
	d.walk([]visit{{"a name like any other here", 0, "robot-ci", "r", "robot-ci", []string{"robot-ci/r"}}})
	for _, c := range []auth.Credential{auth.NewBearer("t"), {}} {
		if _, err := d.by.Authenticate(t.Context(), c); !errors.Is(err, auth.ErrNotMine) {
			t.Errorf("%v: got %v", c, err)
		}
	}
}

// A name that a reload makes an account of regward's is nobody's login any more.
func TestANameThatBecomesAnAccount(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	if got := d.login("ann", "pw"); got != "ann" {
		t.Fatal(got)
	}
	id := &auth.Identity{Name: "ann", Via: "upstream", Proof: d.by.proof}
	if !d.by.Current(id) {
		t.Error("not current")
	}
	d.by = d.up.logins([]string{"Ann"}, false, [32]byte{1})
	if got := d.login("ann", "pw"); got != "no" || d.by.Current(id) {
		t.Errorf("got %q, current %v", got, d.by.Current(id))
	}
}

// What one snapshot has learned, the next one knows.
func TestAReloadAsksNothingAgain(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	d.walk([]visit{
		{"good", 0, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}},
		{"wrong", 0, "ann", "1", "no", []string{"ann/1"}},
		{"wrong", 0, "ann", "2", "no", []string{"ann/2"}},
	})
	d.by = d.up.logins([]string{"regward", "another"}, false, [32]byte{1})
	d.walk([]visit{
		{"good", 0, "ann", "pw", "ann", nil},
		{"wrong", 10 * time.Second, "ann", "1", "no", nil},
		{"a third", 0, "ann", "3", annTried, nil},
	})
}

func TestCurrentIsTheSameUpstream(t *testing.T) {
	key := [32]byte{7}
	at := func(address string, key [32]byte) *upstreamLogins {
		return testUpstream(t, address).logins(nil, false, key)
	}
	by := at("http://nexus.example/repository/docker", key)
	id, other := auth.Identity{Name: "ann", Via: "upstream", Proof: by.proof}, auth.Identity{Name: "ann", Via: "htpasswd", Proof: by.proof}
	for _, tt := range []struct {
		by   *upstreamLogins
		want bool
	}{
		{at("http://nexus.example/repository/docker", key), true}, // made anew
		{at("http://NEXUS.example/repository/docker/", key), true},
		{at("https://nexus.example/repository/docker", key), false},
		{at("http://nexus.example/repository/other", key), false},
		{at("http://nexus.example:8080/repository/docker", key), false},
		{at("http://hub.example", key), false},
		{at("http://nexus.example/repository/docker", [32]byte{8}), false},
	} {
		if got := tt.by.Current(&id); got != tt.want {
			t.Errorf("%s: got %v", tt.by.u.settings.URL, got)
		}
	}
	if by.Current(&other) || by.Current(&auth.Identity{}) {
		t.Error("current for what a file has proven")
	}
	for user, want := range map[string]bool{"bob": true, id.Name: false} { // whom the file has, no upstream vouches for
		file, err := auth.ParseHtpasswd("htpasswd", []byte(htpasswdLine(user, "pw")), auth.HtpasswdOptions{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if file.Current(&id) || auth.NewChain(file, by).Current(&id) != want {
			t.Errorf("a file with %s vouches for its own, a chain for both unless the file has the name", user)
		}
	}
	if n := testing.AllocsPerRun(100, func() { by.Current(&id) }); n > 0 {
		t.Errorf("allocates %v times", n)
	}
}

func TestCaseSensitiveNames(t *testing.T) {
	p := newPeople(t, "Ann", "pw")
	for _, tt := range []struct {
		sensitive bool
		want      string
	}{{false, "ann"}, {true, "Ann"}} {
		id, err := testUpstream(t, p.URL).logins(nil, tt.sensitive, [32]byte{}).Authenticate(t.Context(), auth.NewBasic("Ann", "pw"))
		if err != nil || id.Name != tt.want || id.Via != "upstream" {
			t.Errorf("case_sensitive %v: got %+v, %v", tt.sensitive, id, err)
		}
	}
}

func TestAFileFirstThenTheUpstream(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "at the upstream", "bob", "pb"))
	file, err := auth.ParseHtpasswd("htpasswd", []byte(htpasswdLine("ann", "in the file")), auth.HtpasswdOptions{})
	if err != nil {
		t.Fatal(err)
	}
	chain := auth.NewChain(file, d.by)
	for _, tt := range []struct{ user, password, via string }{
		{"ann", "in the file", "htpasswd"},
		{"ann", "at the upstream", ""}, // she is the file's
		{"bob", "pb", "upstream"},
		{"bob", "no", ""},
		{"regward", "secret", ""},
	} {
		id, _, err := d.cache.Login(t.Context(), chain, auth.NewBasic(tt.user, tt.password), d.times, nil)
		if id.Via != tt.via || (err == nil) != (tt.via != "") || err != nil && !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s %s: got %+v, %v", tt.user, tt.password, id, err)
		}
	}
	if diff := cmp.Diff([]string{"ping", "made-up", "bob/pb", "bob/no"}, d.questions()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestFiftyAtOnceAreOneQuestion(t *testing.T) {
	for _, password := range []string{"pw", "wrong"} {
		d := newDoor(t, newPeople(t, "ann", "pw"))
		d.gate = make(chan struct{})
		var wg sync.WaitGroup
		var good atomic.Int64
		var arrived sync.WaitGroup
		arrived.Add(50)
		for range 50 {
			wg.Go(func() {
				arrived.Done()
				if d.login("ann", password) == "ann" {
					good.Add(1)
				}
			})
		}
		arrived.Wait()
		waitFor(t, "a question", func() bool { return d.held.Load() == 1 })
		close(d.gate)
		wg.Wait()
		if diff := cmp.Diff([]string{"ping", "made-up", "ann/" + password}, d.questions()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if want := map[string]int64{"pw": 50, "wrong": 0}[password]; good.Load() != want {
			t.Errorf("%d were let in, want %d", good.Load(), want)
		}
	}
}

// Different people at once: one made-up login for all, a question for each.
func TestManyPeopleShareTheMadeUpLogin(t *testing.T) {
	p := newPeople(t)
	for i := range 50 {
		p.known[fmt.Sprint("user", i)] = "pw"
	}
	d := newDoor(t, p)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if got, want := d.login(fmt.Sprint("user", i), "pw"), fmt.Sprint("user", i); got != want {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
	count := map[string]int{}
	for _, q := range d.questions() {
		count[q]++
	}
	if count["ping"] != 1 || count["made-up"] != 1 || len(count) != 52 {
		t.Errorf("asked %v", count)
	}
}

// Guesses at one name that come all at once cost it no more than two.
func TestGuessesAtOnce(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			if got := d.login("ann", fmt.Sprint("guess ", i)); got != "no" && !strings.HasPrefix(got, annTried) {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
	if asked := d.questions(); len(asked) != 2+maxWrong {
		t.Errorf("asked %q", asked)
	}
	if n := len(d.up.asked.turns.under); n != 0 {
		t.Errorf("%d names are kept waiting for", n)
	}
}

// Basic until somebody switches tokens on: then a 401 from /v2/ says nothing
// about a password.
func TestTheUpstreamsWayChanges(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw", "bob", "pb"))
	d.login("ann", "pw")
	d.questions()
	d.mu.Lock()
	d.bearer = true
	d.mu.Unlock()
	d.walk([]visit{
		{"a right one, the new way", time.Minute, "ann", "pw", "ann", []string{"ann/pw", "ping", "made-up", "ann/pw"}},
		{"at once the next time", 0, "bob", "x", "no", []string{"bob/x"}},
	})
	d.mu.Lock()
	d.bearer = false
	d.mu.Unlock()
	d.say("carl/pc", 404) // the token service is gone
	d.walk([]visit{
		{"no answer", time.Minute, "carl", "pc", notThere, []string{"carl/pc"}},
		{"so the way is looked up", 0, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}},
	})
}

func TestWhatIsRememberedOfLoginsIsBounded(t *testing.T) {
	d := newDoor(t, newPeople(t))
	m := d.up.asked
	for i := range maxAskedLogins + maxAskedNames {
		key := m.key(fmt.Sprint(i), "")
		m.answers.Add(key, loginAnswer{})
		m.names.Add(key, loginName{})
	}
	if m.answers.Len() != maxAskedLogins || m.names.Len() != maxAskedNames {
		t.Errorf("%d, %d", m.answers.Len(), m.names.Len())
	}
	if m.key("ab", "c") == m.key("a", "bc") || m.key("a", "") == newLoginMemory(d.up).key("a", "") {
		t.Error("keys collide, or are the same in another process")
	}
}

// Nobody waits longer than they want to, and the next one goes on.
func TestAWaitForALoginEnds(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	d.gate = make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := d.login("ann", "pw"); got != "ann" {
			t.Errorf("the first: %q", got)
		}
	})
	waitFor(t, "a question", func() bool { return d.held.Load() == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.by.Authenticate(ctx, auth.NewBasic("ann", "other"))
	if cannot := (*cannotSay)(nil); !errors.As(err, &cannot) {
		t.Errorf("got %v", err)
	}
	close(d.gate)
	wg.Wait()
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestLoginsKeepSecrets(t *testing.T) {
	const good, bad = "right-secret-1", "wrong-secret-2"
	var said strings.Builder
	for _, bearer := range []bool{false, true} {
		for _, status := range []int{0, 200, 204, 302, 401, 403, 404, 429, 500} {
			for _, question := range []string{"*", "ann/*", "made-up", "ping"} {
				d := newDoor(t, newPeople(t, "ann", good))
				d.bearer = bearer
				d.say(question, status)
				for _, password := range []string{good, bad, bad + "x", bad + "y"} {
					_, err := d.by.Authenticate(t.Context(), auth.NewBasic("ann", password))
					fmt.Fprintf(&said, "%v %+v\n", err, err)
				}
				if err := d.up.ProbeLogins(t.Context()); err != nil {
					fmt.Fprintln(&said, err)
				}
				said.WriteString(d.log.String())
			}
		}
	}
	gone := newDoor(t, newPeople(t))
	gone.Close()
	_, err := gone.by.Authenticate(t.Context(), auth.NewBasic("ann", good))
	fmt.Fprintf(&said, "%v %+v %#v\n", err, err, gone.by)
	if !strings.Contains(said.String(), "ann") {
		t.Error("nothing was said")
	}
	for _, password := range []string{good, bad} {
		for _, form := range []string{password, url.QueryEscape(password), strings.TrimPrefix(basicOf("ann", password), "Basic ")} {
			if strings.Contains(said.String(), form) {
				t.Errorf("%q was said", form)
			}
		}
	}
}

// answers is a provider that says one thing.
type answers struct{ err error }

func (a answers) Authenticate(context.Context, auth.Credential) (auth.Identity, error) {
	return auth.Identity{}, a.err
}
func (answers) Proof(auth.Credential) []byte { return nil }

func TestWhatClientsReadOfLoginsUpstream(t *testing.T) {
	cannot := &cannotSay{`Nexus has locked the name "ann" for now; not asked again before 15:45 UTC`, 7 * time.Minute, errors.New("for the log"), auth.ErrHeld}
	for _, tt := range []struct {
		err         error
		path        string
		status      int
		retry, says string
		reason      string
	}{
		{cannot, "/token", 503, "60", cannot.msg, "upstream"},
		{cannot, "/v2/", 503, "60", cannot.msg, "upstream"},
		{unreachable(errors.New("for the log")), "/token", 503, "5", strings.TrimPrefix(notThere, "503 "), "upstream"},
		{errors.New("for the log"), "/token", 503, "5", "logins cannot be checked at the moment", "login_provider"},
		{tooManyGuesses(auth.NewBasic("ann", "x"), 9*time.Minute), "/token", 429, "60", "too many wrong passwords for ann; try again in 9 minutes", "too_many_failed_logins"},
		{tooManyGuesses(auth.NewBasic("ann", "x"), 9*time.Minute), "/v2/", 401, "", "too many wrong passwords for ann; try again in 9 minutes", "too_many_failed_logins"}, // C18
	} {
		g := newGate(t, usual, func(s *Settings) { s.Logins = answers{tt.err} })
		r := g.get(tt.path, basic("ann", annPassword))
		if r.StatusCode != tt.status || r.Header.Get("Retry-After") != tt.retry ||
			!strings.Contains(string(r.body), strings.ReplaceAll(tt.says, `"`, `\"`)) || strings.Contains(string(r.body), "for the log") {
			t.Errorf("%s, %v: got %d, Retry-After %q, %s", tt.path, tt.err, r.StatusCode, r.Header.Get("Retry-After"), r.body)
		}
		lines := g.access.all(t)
		if got := lines[len(lines)-1]["reason"]; got != tt.reason {
			t.Errorf("%s, %v: recorded as %v, want %s", tt.path, tt.err, got, tt.reason)
		}
	}
}

// A page of whoever stands in front of the upstream while it is being upgraded
// is no word of the upstream's, whatever its status: it lets nobody in.
func TestAPageProvesNobody(t *testing.T) {
	for _, kind := range []string{"text/html", "text/html; charset=utf-8", "TEXT/HTML", "text/plain; charset=utf-8", "application/xhtml+xml"} {
		p := newPeople(t, "ann", "pw")
		d := newDoor(t, p)
		d.walk([]visit{{"before", 0, "ann", "pw", "ann", []string{"ping", "made-up", "ann/pw"}}})
		p.mu.Lock()
		p.page = kind
		p.mu.Unlock()
		d.say("*", 200)
		d.clock.pass(time.Minute)
		for _, user := range []string{"ann", "admin"} {
			if got := d.login(user, "anything"); !strings.HasPrefix(got, "503 ") {
				t.Errorf("%s: %s got %q", kind, user, got)
			}
		}
	}
}

// An upstream without a name goes by its address, which is for operators.
func TestALockedNameTellsNoAddress(t *testing.T) {
	d := newDoor(t, newPeople(t, "ann", "pw"))
	d.up.settings.Name = d.up.host
	d.login("bob", "x")
	d.say("ann/*", 429)
	if got := d.login("ann", "pw"); !strings.HasPrefix(got, "503 the registry behind this one has locked") || strings.Contains(got, "127.0.0.1") {
		t.Errorf("got %q", got)
	}
}
