package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

var robotNow = time.Date(2026, 11, 22, 15, 0, 0, 0, time.UTC)

// robots is a provider over a file with SECRET0 and so on for fresh hashes.
type robots struct {
	*auth.Robots
	file    *auth.RobotFile
	secrets []string
	uses    *auth.RobotUses
	now     time.Time
}

func mustRobots(t testing.TB, text string) *robots {
	t.Helper()
	x := &robots{now: robotNow}
	for i := 0; strings.Contains(text, fmt.Sprintf("HASH%d", i)); i++ {
		secret, hash := auth.NewRobotSecret()
		x.secrets = append(x.secrets, secret)
		text = strings.ReplaceAll(text, fmt.Sprintf("HASH%d", i), hash.String())
	}
	x.load(t, text)
	return x
}

func (x *robots) load(t testing.TB, text string) {
	t.Helper()
	f, err := auth.ParseRobots("state/tokens.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if x.uses == nil {
		x.uses, _ = auth.NewRobotUses(nil)
	}
	x.file = f
	x.Robots = auth.NewRobots(f, auth.RobotOptions{Key: [32]byte{1}, Now: func() time.Time { return x.now }, Uses: x.uses})
}

func (x *robots) login(user, secret, addr string) (auth.Identity, error) {
	c := auth.NewBasic(user, secret)
	if addr != "" {
		c.Addr = netip.MustParseAddr(addr)
	}
	return x.Authenticate(context.Background(), c)
}

const twoRobots = `robots:
  - name: ci
    owner: coolteam
    repositories: ["coolteam/**", library/alpine]
    allow: [pull, push]
    from: [10.0.0.0/8, "2001:db8::1"]
    expires: 2027-02-20T15:00:00Z
    hashes:
      - {sha256: HASH0}
      - {until: 2026-11-23T15:00:00Z, sha256: HASH1}
  - name: 007
    repositories: "**"
    allow: pull
    hashes: [{sha256: HASH2}]
`

func TestRobotsLogIn(t *testing.T) {
	x := mustRobots(t, twoRobots)
	stranger, _ := auth.NewRobotSecret()
	for _, tt := range []struct {
		why, user, secret, addr string
		after                   time.Duration
		want                    string
	}{
		{"the new secret", "robot-ci", x.secrets[0], "10.1.2.3", 0, ""},
		{"the old one during the overlap", "robot-ci", x.secrets[1], "10.1.2.3", 0, ""},
		{"an address in IPv6", "robot-ci", x.secrets[0], "::ffff:10.1.2.3", 0, ""},
		{"a name in capitals", "Robot-CI", x.secrets[0], "2001:db8::1", 0, ""},
		{"no address is known", "robot-ci", x.secrets[0], "", 0, ""},
		{"a name of digits", "robot-007", x.secrets[2], "192.0.2.1", 0, ""},
		{"from elsewhere", "robot-ci", x.secrets[0], "192.0.2.1", 0, "robot ci from elsewhere"},
		{"the old one when the overlap is over", "robot-ci", x.secrets[1], "10.1.2.3", 24 * time.Hour, "rotated secret of robot ci"},
		{"expired, to the second", "robot-ci", x.secrets[0], "10.1.2.3", 90 * 24 * time.Hour, "expired robot ci"},
		{"a second before", "robot-ci", x.secrets[0], "10.1.2.3", 90*24*time.Hour - time.Second, ""},
		{"without an end", "robot-007", x.secrets[2], "192.0.2.1", 10000 * 24 * time.Hour, ""},
		{"another robot's secret", "robot-ci", x.secrets[2], "10.1.2.3", 0, "robot: a secret that robot ci does not have, or has no more"},
		{"expired and a wrong secret says nothing of the expiry", "robot-ci", stranger, "10.1.2.3", 91 * 24 * time.Hour, "robot: a secret that robot ci does not have, or has no more"},
		{"no such robot", "robot-cd", stranger, "10.1.2.3", 0, `robot: no robot has that login`},
		{"without the prefix", "ci", x.secrets[0], "10.1.2.3", 0, `robot: a robot's secret, and robots log in as robot-NAME`},
		{"a password", "robot-ci", "open sesame", "10.1.2.3", 0, auth.ErrNotMine.Error()},
		{"a cut secret", "robot-ci", x.secrets[0][:len(x.secrets[0])-1], "10.1.2.3", 0, auth.ErrNotMine.Error()},
	} {
		x.now = robotNow.Add(tt.after)
		id, err := x.login(tt.user, tt.secret, tt.addr)
		got := ""
		if err != nil {
			got = err.Error()
		} else if id.Via != "robot" || id.Name != strings.ToLower(tt.user) || !x.Current(&id) {
			t.Errorf("%s: got %+v, current: %v", tt.why, id, x.Current(&id))
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.why, got, tt.want)
		}
		if strings.Contains(got, "rgw_") {
			t.Errorf("%s: a secret in %q", tt.why, got)
		}
	}
	if _, err := x.Authenticate(context.Background(), auth.NewBearer(x.secrets[0])); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("a secret as a bearer token: %v", err)
	}
}

// A login that is remembered is forgotten with what it was proven by, and for
// somebody elsewhere it is another question.
func TestRobotsProofs(t *testing.T) {
	x := mustRobots(t, twoRobots)
	c := auth.NewBasic("robot-ci", x.secrets[0])
	c.Addr = netip.MustParseAddr("10.1.2.3")
	here := string(x.Proof(c))
	c.Addr = netip.MustParseAddr("192.0.2.1")
	if string(x.Proof(c)) == here {
		t.Error("elsewhere: the same proof")
	}
	c.Addr = netip.MustParseAddr("10.1.2.3")
	shorter := x.file.Robots[0]
	shorter.Expires = robotNow
	text, err := auth.SetRobot("tokens.yaml", []byte(fill(t, twoRobots)), shorter)
	if err != nil {
		t.Fatal(err)
	}
	x.load(t, string(text))
	if string(x.Proof(c)) == here {
		t.Error("another end: the same proof")
	}
	if got := x.Proof(auth.NewBasic("robot-ci", "open sesame")); got != nil {
		t.Errorf("of a password: %x", got)
	}
}

// fill puts fresh hashes into a text.
func fill(t testing.TB, text string) string {
	t.Helper()
	for i := 0; strings.Contains(text, fmt.Sprintf("HASH%d", i)); i++ {
		_, hash := auth.NewRobotSecret()
		text = strings.ReplaceAll(text, fmt.Sprintf("HASH%d", i), hash.String())
	}
	return text
}

// Tokens given out end with the secret that proved them: by time, by a
// rotation, or with the robot.
func TestRobotTokensEnd(t *testing.T) {
	x := mustRobots(t, twoRobots)
	fresh, err := x.login("robot-ci", x.secrets[0], "10.1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	old, err := x.login("robot-ci", x.secrets[1], "10.1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if want := robotNow.Add(24 * time.Hour); !old.Expires.Equal(want) {
		t.Errorf("the old secret's identity expires %v, want %v", old.Expires, want)
	}
	current := func(why string, wantFresh, wantOld bool) {
		t.Helper()
		if x.Current(&fresh) != wantFresh || x.Current(&old) != wantOld {
			t.Errorf("%s: fresh %v, old %v, want %v, %v", why, x.Current(&fresh), x.Current(&old), wantFresh, wantOld)
		}
	}
	current("now", true, true)
	if n := testing.AllocsPerRun(100, func() { x.Current(&fresh); _ = x.Admit(&fresh, netip.AddrFrom4([4]byte{10, 1, 2, 3})) }); n != 0 {
		t.Errorf("Current and Admit allocate %v times", n)
	}
	var elsewhere *auth.RobotError
	if err := x.Admit(&fresh, netip.MustParseAddr("192.0.2.1")); !errors.As(err, &elsewhere) || elsewhere.Words() != "robot ci may not log in from 192.0.2.1" {
		t.Errorf("a token from elsewhere: %v", err)
	}
	if err := x.Admit(&auth.Identity{Name: "robot-ci", Via: "htpasswd"}, netip.MustParseAddr("192.0.2.1")); err != nil {
		t.Errorf("a person who is called like a robot: %v", err)
	}
	x.now = robotNow.Add(25 * time.Hour)
	current("after the overlap", true, false)
	x.now = robotNow.Add(91 * 24 * time.Hour)
	current("after the expiry", false, false)
	x.now = robotNow
	keep := x.file.Robots[0]
	keep.Secrets = keep.Secrets[1:]
	keep.Secrets[0].Until = time.Time{}
	text, err := auth.SetRobot("tokens.yaml", nil, keep)
	if err != nil {
		t.Fatal(err)
	}
	x.load(t, string(text))
	current("the new one taken out", false, true)
	x.load(t, "robots: []\n")
	current("revoked", false, false)
	if x.Current(&auth.Identity{Name: "robot-ci", Via: "robot"}) {
		t.Error("an identity without proof is current")
	}
}

func TestRobotsMayWhatTheyWereGiven(t *testing.T) {
	x := mustRobots(t, twoRobots)
	rules := []auth.Rule{
		rule("everyone", "library/**", auth.Pull),
		rule("authenticated", "people/**", auth.Pull),
		rule("token:ci", "extra/**", auth.Pull),
	}
	denied := rule("token:ci", "coolteam/secret/**", auth.Pull)
	denied.Allow, denied.Deny = 0, auth.Everything
	rules = append(rules, denied)
	p, err := auth.NewPolicy(append(rules, x.file.Rules()...))
	if err != nil {
		t.Fatal(err)
	}
	who := func(name, via, addr string) auth.Caller {
		return auth.Caller{Identity: auth.Identity{Name: name, Via: via}, Addr: netip.MustParseAddr(addr)}
	}
	ci, away := who("robot-ci", "robot", "10.1.2.3"), who("robot-ci", "robot", "192.0.2.1")
	all, ann, fake := who("robot-007", "robot", "192.0.2.1"), who("ann", "htpasswd", "10.1.2.3"), who("robot-ci", "htpasswd", "10.1.2.3")
	for _, tt := range []struct {
		who    auth.Caller
		action auth.Action
		repo   string
		want   string
	}{
		{ci, auth.Push, "coolteam/app", "robot ci in tokens.yaml:2 allows token ci to push coolteam/**"},
		{ci, auth.Pull, "library/alpine", "rules[0] allows everyone to pull library/**"},
		{ci, auth.Push, "library/alpine", "robot ci in tokens.yaml:2 allows token ci to push library/alpine"},
		{ci, auth.Pull, "extra/x", "rules[2] allows token ci to pull extra/**"},
		{ci, auth.Pull, "coolteam/secret/x", "rules[3] denies pull of coolteam/secret/** to token ci"},
		{ci, auth.Delete, "coolteam/app", "no rule allows robot-ci to delete coolteam/app; nearest: robot ci in tokens.yaml:2, which allows only pull, push"},
		{ci, auth.Pull, "people/x", "no rule allows robot-ci to pull people/x; nearest: rules[1], for authenticated"},
		{away, auth.Push, "coolteam/app", "no rule allows robot-ci to push coolteam/app; nearest: robot ci in tokens.yaml:2, only from 10.0.0.0/8, 2001:db8::1/128"},
		{all, auth.Pull, "people/x", "robot 007 in tokens.yaml:11 allows token 007 to pull **"},
		{ann, auth.Push, "coolteam/app", "no rule allows ann to push coolteam/app"},
		{fake, auth.Push, "coolteam/app", "no rule allows robot-ci to push coolteam/app"},
		{auth.Caller{}, auth.Push, "coolteam/app", "no rule allows anonymous to push coolteam/app"},
	} {
		wants := []auth.Access{{Repository: tt.repo, Action: tt.action}}
		d := p.Decide(&tt.who, wants)
		if d.String() != tt.want {
			t.Errorf("%s %v %s:\n got %q\nwant %q", tt.who, tt.action, tt.repo, d, tt.want)
		}
		e, steps := p.Explain(&tt.who, wants)
		if e.String() != d.String() {
			t.Errorf("%s %v %s: explained as %q", tt.who, tt.action, tt.repo, e)
		}
		own := 0
		for _, s := range steps {
			if strings.HasPrefix(s.Rule, "robot ") {
				own++
				if want := "robot " + strings.TrimPrefix(tt.who.Name, "robot-") + " "; tt.who.Via != "robot" || !strings.HasPrefix(s.Rule, want) {
					t.Errorf("%s is told %q", tt.who, s.Rule)
				}
			}
		}
		if tt.who.Via == "robot" && own != 1 {
			t.Errorf("%s %v %s: %d steps about what it was given", tt.who, tt.action, tt.repo, own)
		}
	}
	named, err := auth.NewPolicy([]auth.Rule{rule("user:robot-ci", "**", auth.Pull)})
	if err != nil {
		t.Fatal(err)
	}
	if _, steps := named.Explain(&ci, []auth.Access{{Repository: "x", Action: auth.Pull}}); steps[0].Why != "robot-ci is a robot, and no user: token:ci means it" {
		t.Errorf("a rule for a user of the robot's login: %s", steps[0].Why)
	}
	if got := p.Patterns(&ci, auth.Push); !cmp.Equal(got, []string{"coolteam/**", "library/alpine"}) {
		t.Errorf("ci may push to %q", got)
	}
	if got := p.Shadows(); len(got) > 0 {
		t.Errorf("shadows: %+v", got)
	}
}

func rule(subject, pattern string, a auth.Action) auth.Rule {
	s, err := auth.ParseSubject(subject)
	if err != nil {
		panic(err)
	}
	p, err := auth.ParsePattern(pattern)
	if err != nil {
		panic(err)
	}
	return auth.Rule{Subjects: []auth.Subject{s}, Repositories: []auth.Pattern{p}, Allow: auth.Actions(0).With(a)}
}

// failures counts what a guard is told.
type failures struct{ n int }

func (f *failures) Admit(auth.Credential) error { return nil }
func (f *failures) Failed(auth.Credential)      { f.n++ }
func (f *failures) Source() string              { return "10.1.2.3" }

// A job with an expired robot asks again and again: its office is not locked
// out for it, and each time the answer says what is wrong.
func TestAnExpiredRobotGuessesNothing(t *testing.T) {
	x := mustRobots(t, twoRobots)
	k := auth.NewCache(16, func() time.Time { return x.now })
	times, g := auth.CacheTimes{TTL: time.Minute, NegativeTTL: 5 * time.Second}, &failures{}
	c := auth.NewBasic("robot-ci", x.secrets[0])
	if _, _, err := k.Login(t.Context(), auth.NewChain(x), c, times, g); err != nil {
		t.Fatal(err)
	}
	x.now = robotNow.Add(90*24*time.Hour - 30*time.Second)
	if _, _, err := k.Login(t.Context(), auth.NewChain(x), c, times, g); err != nil {
		t.Fatal(err)
	}
	x.now = robotNow.Add(90 * 24 * time.Hour) // within cache.ttl
	for range 3 {
		_, _, err := k.Login(t.Context(), auth.NewChain(x), c, times, g)
		var ended *auth.RobotError
		if !errors.As(err, &ended) || ended.Words() != "robot ci has expired on 2027-02-20 15:00 UTC" {
			t.Errorf("got %v", err)
		}
	}
	if g.n != 0 {
		t.Errorf("counted as a wrong password %d times", g.n)
	}
	wrong, _ := auth.NewRobotSecret()
	for range 2 {
		_, _, err := k.Login(t.Context(), auth.NewChain(x), auth.NewBasic("robot-ci", wrong), times, g)
		var why *auth.Rejection
		if !errors.Is(err, auth.ErrRejected) || !errors.As(err, &why) || why.Via != "robot" {
			t.Errorf("a wrong secret: %v", err)
		}
	}
	if g.n != 1 {
		t.Errorf("a wrong secret counted %d times, want 1", g.n)
	}
}

func TestLastUseIsKeptPerSecret(t *testing.T) {
	x := mustRobots(t, twoRobots)
	ci := x.file.Find("robot-ci")
	last := func(i int) time.Time { return x.uses.Last("ci", ci.Secrets[i].Hash) }
	id, err := x.login("robot-ci", x.secrets[1], "10.1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	_ = x.Admit(&id, netip.MustParseAddr("192.0.2.1")) // turned down: no use
	if !last(0).IsZero() || !last(1).IsZero() {
		t.Errorf("before any use: %v, %v", last(0), last(1))
	}
	x.now = robotNow.Add(time.Hour)
	_ = x.Admit(&id, netip.MustParseAddr("10.1.2.3"))
	if !last(0).IsZero() || !last(1).Equal(x.now) {
		t.Errorf("used the old one: %v, %v, want never, %v", last(0), last(1), x.now)
	}
	saved := x.uses.Save(x.file)
	if strings.Contains(string(saved), ci.Secrets[1].Hash.String()) || !strings.Contains(string(saved), "ci/"+ci.Secrets[1].Hash.ID()) {
		t.Errorf("saved as %s", saved)
	}
	if x.uses, err = auth.NewRobotUses(saved); err != nil || !last(1).Equal(x.now) {
		t.Errorf("after a restart: %v, %v", last(1), err)
	}
	if got := string(x.uses.Save(nil)); strings.Contains(got, "ci/") {
		t.Errorf("a robot that is gone is kept: %s", got)
	}
	if u, err := auth.NewRobotUses([]byte("{half")); err == nil || u == nil {
		t.Errorf("a broken file: %v, %v", u, err)
	}
}

// Thousands of robots may be given one namespace: none costs the others.
func BenchmarkDecideWithRobots(b *testing.B) {
	for _, n := range []int{0, 5000} {
		rules := []auth.Rule{rule("everyone", "library/**", auth.Pull), rule("authenticated", "**", auth.Pull)}
		for i := range n {
			one := rule(fmt.Sprintf("token:ci%d", i), "coolteam/**", auth.Push)
			one.Given = true
			rules = append(rules, one)
		}
		p, err := auth.NewPolicy(rules)
		if err != nil {
			b.Fatal(err)
		}
		for name, c := range map[string]*auth.Caller{
			"person": {Identity: auth.Identity{Name: "ann", Via: "htpasswd"}},
			"robot":  {Identity: auth.Identity{Name: "robot-ci4999", Via: "robot"}},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				wants := []auth.Access{{Repository: "coolteam/app", Action: auth.Push}}
				if name == "person" {
					wants[0].Action = auth.Pull
				}
				for b.Loop() {
					p.Decide(c, wants)
				}
			})
		}
	}
}
