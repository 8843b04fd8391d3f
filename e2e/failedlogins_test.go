package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// everyLogin is one instance that all providers are set up for, and what they
// are asked.
type everyLogin struct {
	*regward
	slapd   *slapd
	program *loginProgram
	issuer  *idIssuer
	robot   robotMade
	guesses []string // all that was tried and is wrong
	failed  map[failure]int
}

// failure is one that was proven wrong, as the audit log has it.
type failure struct{ user, reason string }

// startEveryLogin: fay is in the file, ann and bob in the directory, reader is
// known to the program alone. Nothing that is good is remembered, so each login
// is asked about; what is wrong is, for as long as a test takes.
func startEveryLogin(t *testing.T, more ...string) *everyLogin {
	t.Helper()
	e := &everyLogin{slapd: startSlapd(t), program: startLoginProgram(t), issuer: startIDIssuer(t), failed: map[failure]int{}}
	u := startUpstream(t, distribution)
	e.regward = newRegward(t, u.config)
	passwd := writeHtpasswd(t, filepath.Join(e.dir, "people"), map[string]string{"fay": "fay-secret"})
	e.setLogins(t, e.slapd.auth()+fmt.Sprintf("  htpasswd: %q\n  webhook: {url: %q, ca_file: %q, secret: %q, timeout: 10s}\n  oidc:\n%s",
		passwd, e.program.url, e.program.caFile, hookSecret, e.issuer.entry("ci", "user: ci/{sub}")))
	e.configure(t, teamRules+"cache: {ttl: 1ms, stale: 0s, negative_ttl: 10m}\ntoken: {refresh: true}\n"+strings.Join(more, ""))
	e.serve(t)
	e.robot = e.regward.robot(t, "create", "builder", "--repository", "coolteam/**", "--allow", "pull", "--expires", "90d")
	return e
}

// from is the same instance for a client at an address of its own.
func (g *regward) from(addr string) *regward {
	there := *g
	tr := newTransport()
	tr.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}).DialContext
	there.client = &http.Client{Transport: tr, CheckRedirect: noRedirects}
	return &there
}

// wrong tries a login that is not good; it must get status.
func (e *everyLogin) wrong(t *testing.T, at *regward, user, password string, status int, reason string) {
	t.Helper()
	e.guesses = append(e.guesses, password)
	if at.guessed(t, user, password).is(t, status).StatusCode == http.StatusUnauthorized {
		e.failed[failure{strings.ToLower(user), reason}]++
	}
}

// jobToken is one of the issuer's that nobody has shown before.
func (e *everyLogin) jobToken(t *testing.T, change ...any) string {
	t.Helper()
	return e.issuer.token(e.issuer.claims(map[string]any{"sub": "job"}, "localhost", change...))
}

// Whoever guesses is turned down before anybody hashes, searches or is asked,
// where he comes from and for the name he tries; who has the login is not, where
// he was before, and not where nobody guessed.
func TestGuessesOverAllProviders(t *testing.T) {
	t.Parallel()
	e := startEveryLogin(t)
	const most = 10 // per address and name, as built in
	none := func() int { return 0 }
	for i, tt := range []struct {
		user   string
		secret func() string
		asked  func() int // how often somebody was asked about the password
		reason string
	}{
		{"fay", func() string { return "fay-secret" }, none, "wrong_password"},
		{"Ann", func() string { return passwords["ann"] }, func() int { return e.slapd.binds(t, dnOf("Ann")) }, "wrong_password"},
		{"reader", func() string { return passwords["reader"] }, func() int { return len(e.program.heard("reader")) }, "wrong_password"},
		{e.robot.Name, func() string { return e.robot.Secret }, none, "unknown_user"}, // what has not the form of a secret is nobody's
		{"oidc", func() string { return e.jobToken(t) }, none, "wrong_token"},
	} {
		good := tt.secret()
		home, stranger, abroad := e.from(fmt.Sprintf("127.1.%d.1", i)), e.from(fmt.Sprintf("127.1.%d.2", i)), e.from(fmt.Sprintf("127.1.%d.3", i))
		guesses := func(at *regward, who string) {
			before := tt.asked()
			for n := range most {
				e.wrong(t, at, tt.user, fmt.Sprintf("%s %s no %d", who, tt.user, n), http.StatusUnauthorized, tt.reason)
			}
			if n := tt.asked() - before; tt.asked() > 0 && n != most {
				t.Errorf("%s: asked about %d of %d guesses", tt.user, n, most)
			}
			before = tt.asked()
			for n := range 5 {
				e.wrong(t, at, tt.user, fmt.Sprintf("%s %s locked %d", who, tt.user, n), http.StatusTooManyRequests, "")
			}
			if n := tt.asked() - before; n != 0 {
				t.Errorf("%s: asked %d times about who is locked out", tt.user, n)
			}
		}
		home.guessed(t, tt.user, good).is(t, 200)
		guesses(stranger, "stranger")
		abroad.guessed(t, tt.user, tt.secret()).is(t, 200)
		guesses(home, "neighbour")
		home.guessed(t, tt.user, good).is(t, 200) // proven good before
		// A neighbour's guesses of another name are his own affair.
		home.guessed(t, "bob", passwords["bob"]).is(t, 200)
	}
	e.checkRecords(t)
}

// What nobody can guess is no guess: jobs with old tokens behind one address do
// not keep out the next one that has a good token.
func TestOldTokensOfJobsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	e := startEveryLogin(t)
	jobs := e.from("127.3.0.1")
	past := time.Now().Add(-time.Hour).Unix()
	for n := range 15 {
		old := e.jobToken(t, "exp", past, "jti", fmt.Sprint("old ", n))
		a := jobs.guessed(t, "oidc", old)
		if a.StatusCode != 401 && a.StatusCode != 429 {
			t.Fatalf("an old token: %s", a.Status)
		}
	}
	jobs.guessed(t, "oidc", e.jobToken(t)).is(t, 200)
	for n := range 15 {
		jobs.guessed(t, e.robot.Name, fmt.Sprint("an old secret ", n))
	}
	jobs.guessed(t, e.robot.Name, e.robot.Secret).is(t, 200)
}

// Many names from one address are turned down as well, and nobody is asked.
func TestGuessesOfManyNames(t *testing.T) {
	t.Parallel()
	const most = 100 // per address, as built in, but that none comes back while a busy machine takes its time
	e := startEveryLogin(t, "limits: [{name: guesses, count: failed_logins, rate: 100/10d, per: ip}]\n")
	at, other := e.from("127.2.0.1"), e.from("127.2.0.2")
	at.guessed(t, "bob", passwords["bob"]).is(t, 200)
	for n := range most {
		e.wrong(t, at, fmt.Sprint("name", n%25), fmt.Sprint("spray no ", n), http.StatusUnauthorized, "unknown_user")
	}
	searches, questions, binds := e.slapd.asked(t, " SRCH base="), e.program.questions(), e.slapd.asked(t, " BIND dn=")
	for _, user := range []string{"name7", "fresh", "ann", "reader", "fay"} {
		e.wrong(t, at, user, "spray of "+user, http.StatusTooManyRequests, "")
	}
	if s, q, b := e.slapd.asked(t, " SRCH base="), e.program.questions(), e.slapd.asked(t, " BIND dn="); s != searches || q != questions || b != binds {
		t.Errorf("who is locked out: %d searches, %d binds, %d questions", s-searches, b-binds, q-questions)
	}
	at.guessed(t, "bob", passwords["bob"]).is(t, 200)
	other.guessed(t, "ann", passwords["ann"]).is(t, 200)

	// Refresh tokens are guessed in vain, and one that is good goes on.
	keeper := e.from("127.2.0.4")
	form := []string{"grant_type", "password", "username", "bob", "password", passwords["bob"], "access_type", "offline"}
	_, refresh := keeper.tokenForm(t, form...).is(t, 200).kept(t)
	if refresh == "" {
		t.Fatal("no refresh token")
	}
	status := 0
	for n := 0; n <= most && status != http.StatusTooManyRequests; n++ {
		made := refresh[:len(refresh)-4] + fmt.Sprintf("%04d", n)
		e.guesses = append(e.guesses, made)
		if status = keeper.renewed(t, made).StatusCode; status == http.StatusUnauthorized {
			e.failed[failure{"", "ended_login"}]++
		}
	}
	if status != http.StatusTooManyRequests || e.failed[failure{"", "ended_login"}] < 5 {
		t.Errorf("after %d made-up refresh tokens: %d", e.failed[failure{"", "ended_login"}], status)
	}
	keeper.renewed(t, refresh).is(t, 200)
	e.guesses = append(e.guesses, refresh)
	e.checkRecords(t)
}

// A client that tries by POST and then by GET has tried once (T21).
func TestT21_PostAndGetAreOneFailure(t *testing.T) {
	t.Parallel()
	e := startEveryLogin(t)
	pair := e.from("127.2.0.3")
	for n := range 10 {
		password := fmt.Sprint("pair no ", n)
		pair.posts(t, "ann", password, "repository:coolteam/app:pull").is(t, http.StatusUnauthorized)
		e.wrong(t, pair, "ann", password, http.StatusUnauthorized, "wrong_password")
	}
	e.wrong(t, pair, "ann", "pair of one too many", http.StatusTooManyRequests, "")
	e.checkRecords(t)
}

// questions is how often it was asked, about anybody.
func (p *loginProgram) questions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

// checkRecords demands one audit line for each failure, with a reason, and no
// secret anywhere.
func (e *everyLogin) checkRecords(t *testing.T) {
	t.Helper()
	if err := e.proc.stop(); err != nil {
		t.Error(err)
	}
	got := map[failure]int{}
	for line := range strings.Lines(e.auditLog(t)) {
		var a struct{ Msg, User, Reason, Addr, Via string }
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		if a.Msg != "login_failed" {
			continue
		}
		got[failure{a.User, a.Reason}]++
		if a.Reason == "" || a.Addr == "" {
			t.Errorf("a failure without reason or address: %s", line)
		}
	}
	for what, n := range e.failed {
		if got[what] != n {
			t.Errorf("%q failed %d times, and the audit log has %d lines", what, n, got[what])
		}
		delete(got, what)
	}
	if len(got) > 0 {
		t.Errorf("more failures than there were: %v", got)
	}
	secrets := append(e.guesses, "fay-secret", passwords["ann"], passwords["bob"], passwords["reader"], e.robot.Secret)
	e.keepsNoSecret(t, secrets...)
}
