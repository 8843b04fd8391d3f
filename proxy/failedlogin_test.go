package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

func TestWhatATypedNameMayBe(t *testing.T) {
	secret, _ := auth.NewRobotSecret()
	for name, want := range map[string]bool{
		"ann": true, "ann.smith@example.com": true, `CORP\Ann.Smith-Administrator01`: true, "müller": true, "gha/acme/app": true, "robot-ci": true,
		"eve+test": true, "0b9f7f6e-3a52-4b0e-9d0e-8a1d5c2f7a10": true,
		"Tr0ub4dor&3": false, "correct horse": false, "pa$$word": false, "hunter2!": false,
		secret: false, "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJYIn0.c2ln": false, "ghp_16C7e42F292c6912E7710c838347Ae178B4a": false,
	} {
		if got := typed(name, false); (got == name) != want || !want && got != hidden {
			t.Errorf("%s: %s", name, got)
		}
		if got := typed(name, true); got != name {
			t.Errorf("%s, which a provider knows: %s", name, got)
		}
	}
}

// Each failed login is one line with who said what, and none has a secret in it.
func TestFailedLoginsAreToldOfOnce(t *testing.T) {
	const password = "secret-of-ann"
	for _, tt := range []struct {
		err                            error
		user                           string
		reason, via, detail, as, whole string
	}{
		{&auth.Rejection{Via: "ldap", Reason: "the account is disabled", Word: auth.Barred}, "ann", "account_barred", "ldap", "the account is disabled", "ann", "ldap: the account is disabled"},
		{&auth.Rejection{Via: "oidc:gh", Reason: "the token expired", Word: auth.TokenExpired}, "oidc", "token_expired", "oidc:gh", "the token expired", "oidc", "oidc:gh: the token expired"},
		{fmt.Errorf("asked of %q: %w", password, auth.ErrRejected), "ann", "wrong_password", "", "wrong password", "ann", "wrong password"},
		{auth.ErrNotMine, "nobody", "unknown_user", "", "no provider knows the name", "nobody", "no provider knows the name"},
		{auth.ErrNotMine, "S3cret!", "unknown_user", "", "no provider knows the name", hidden, "no provider knows the name"},
		{&auth.RobotError{Robot: "ci", Fault: auth.RobotExpired, At: time.Unix(0, 0)}, "robot-ci", "expired_robot", "robot", "robot ci has expired on 1970-01-01 00:00 UTC", "robot-ci", "expired robot ci"},
	} {
		g := newGate(t, usual, func(s *Settings) { s.Logins = answers{tt.err} })
		r := g.get("/token", basic(tt.user, password))
		if r.StatusCode != 401 {
			t.Errorf("%v: %d", tt.err, r.StatusCode)
		}
		if tt.via != "robot" { // it says so itself
			for _, word := range []string{"disabled", "the token", "no provider"} {
				if strings.Contains(string(r.body), word) {
					t.Errorf("%v: the client hears %s", tt.err, r.body)
				}
			}
		}
		lines := g.audit.all(t)
		if len(lines) != 1 {
			t.Errorf("%v: %d lines", tt.err, len(lines))
			continue
		}
		via, _ := lines[0]["via"].(string)
		if l := lines[0]; l["msg"] != "login_failed" || l["reason"] != tt.reason || via != tt.via || l["detail"] != tt.detail || l["user"] != tt.as {
			t.Errorf("%v: %v", tt.err, l)
		}
		access := g.access.all(t)
		if got := access[len(access)-1]["error"]; got != tt.whole {
			t.Errorf("%v: the access log says %v, want %s", tt.err, got, tt.whole)
		}
		for _, text := range []string{g.audit.String(), g.access.String()} {
			if strings.Contains(text, password) || strings.Contains(text, "S3cret!") {
				t.Errorf("%v: a secret in %s", tt.err, text)
			}
		}
		refused := g.Refusals(RefusalQuery{})
		if tt.via == "robot" {
			continue
		}
		if len(refused) != 1 || refused[0].Reason != tt.reason || refused[0].Detail != tt.whole {
			t.Errorf("%v: remembered as %+v", tt.err, refused)
		}
	}
}

// The same wrong password by many at once is one check, one line and one penalty.
func TestSixteenWrongAtOnceAreOneLine(t *testing.T) {
	gate := make(chan struct{})
	g := newGate(t, usual, func(s *Settings) { s.Logins = waits{gate} })
	done := make(chan int, 16)
	for range cap(done) {
		go func() { done <- g.get("/token", basic("ann", "wrong")).StatusCode }()
	}
	close(gate)
	for range cap(done) {
		if status := <-done; status != 401 {
			t.Errorf("got %d", status)
		}
	}
	if lines := g.audit.all(t); len(lines) != 1 {
		t.Errorf("%d lines", len(lines))
	}
}

type waits struct{ gate chan struct{} }

func (w waits) Authenticate(context.Context, auth.Credential) (auth.Identity, error) {
	<-w.gate
	return auth.Identity{}, auth.ErrRejected
}
func (waits) Proof(auth.Credential) []byte { return nil }

// An outage is told of once a minute, not for each who meets it, and is nobody's
// failed login.
func TestOutagesOfProvidersAreToldOfOnceAMinute(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Logins = answers{errors.New("ldap: it is down")} })
	for i := range 5 {
		if r := g.get("/token", basic("ann", fmt.Sprint(i))); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
			t.Errorf("got %d", r.StatusCode)
		}
	}
	if l := g.log.all(t); len(l) != 1 || !strings.HasPrefix(l[0]["msg"].(string), "logins cannot be checked") || l[0]["error"] != "ldap: it is down" {
		t.Errorf("told: %v", l)
	}
	if lines := g.audit.all(t); len(lines) != 0 {
		t.Errorf("audited: %v", lines)
	}
	g.clock.pass(unsaidPause)
	g.get("/token", basic("ann", "again"))
	if l := g.log.all(t); len(l) != 2 {
		t.Errorf("a minute later: %v", l)
	}
}

// Who was proven by an upstream goes on while it is away, and not where it is
// there and says something else.
func TestProvenUpstreamLoginsOutliveAnOutage(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		on   bool
	}{
		{"away", unreachable(errors.New("refused")), true},
		{"locked", &cannotSay{"locked", time.Minute, nil, auth.ErrHeld}, false},
		{"takes any", &cannotSay{"takes any", time.Minute, errTakesAny, nil}, false},
		{"guessed at", tooManyGuesses(auth.NewBasic("ann", "x"), time.Minute), false},
	} {
		said := &changing{}
		clock := newClock()
		k := auth.NewCache(10, clock.Now)
		times := auth.CacheTimes{TTL: time.Minute, NegativeTTL: time.Second, Stale: time.Hour}
		login := func() error {
			_, _, err := k.Login(context.Background(), said, auth.NewBasic("ann", "pw"), times, nil)
			return err
		}
		if err := login(); err != nil {
			t.Fatal(err)
		}
		clock.pass(2 * time.Minute)
		said.err = tt.err
		if err := login(); (err == nil) != tt.on || k.Stale() != map[bool]uint64{true: 1}[tt.on] {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

type changing struct{ err error }

func (c *changing) Authenticate(context.Context, auth.Credential) (auth.Identity, error) {
	return auth.Identity{Name: "ann", Via: viaUpstream}, c.err
}
func (*changing) Proof(auth.Credential) []byte { return nil }
