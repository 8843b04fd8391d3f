package e2e

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// diagnosis is what `regward doctor --output json` prints.
type diagnosis struct {
	Findings []struct{ Check, Level, What, Why, Fix string }
	NotTried []struct{ Check, Why string } `json:"not_tried"`

	code int
	all  string
}

// login is who doctor logs in as.
type login struct{ user, password string }

// doctor runs the command at url; nothing of this host's trust folders is
// looked at.
func doctor(t testing.TB, url string, as login, args ...string) diagnosis {
	t.Helper()
	argv := append([]string{suite.regward, "doctor", url, "--output", "json", "--root", t.TempDir()}, args...)
	if as.user != "" {
		argv = append(argv, "--user", as.user, "--password-stdin")
	}
	o := commandWithInput(t, []string{"SSL_CERT_FILE="}, as.password+"\n", argv...)
	d := diagnosis{all: o.out}
	var exit *exec.ExitError
	if errors.As(o.err, &exit) {
		d.code = exit.ExitCode()
	} else if o.err != nil {
		t.Fatalf("%s: %v\n%s", o.command, o.err, o.out)
	}
	if err := json.Unmarshal([]byte(o.out), &d); err != nil {
		t.Fatalf("%s: %v\n%s", o.command, err, o.out)
	}
	if as.password != "" && strings.Contains(o.out, as.password) {
		t.Errorf("the password of %s is in the report:\n%s", as.user, o.out)
	}
	return d
}

// wrong are the problems and warnings, as "problem C05".
func (d diagnosis) wrong() []string {
	found := []string{}
	for _, f := range d.Findings {
		if f.Level == "problem" || f.Level == "warning" {
			found = append(found, f.Level+" "+f.Check)
		}
	}
	return found
}

// is demands exactly these problems and warnings, this text among them, and
// the exit code that goes with them.
func (d diagnosis) is(t testing.TB, text string, want ...string) diagnosis {
	t.Helper()
	if got := d.wrong(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q:\n%s", got, want, d.all)
	}
	d.says(t, text)
	code := 0
	if strings.Contains(strings.Join(want, "\n"), "problem ") {
		code = 1
	}
	if d.code != code {
		t.Errorf("exit code %d, want %d", d.code, code)
	}
	for _, f := range d.Findings {
		if (f.Level == "problem" || f.Level == "warning") && (f.What == "" || f.Why == "" || f.Fix == "") {
			t.Errorf("a finding that does not say what, why and what to do: %+v", f)
		}
	}
	return d
}

func (d diagnosis) says(t testing.TB, text string) {
	t.Helper()
	if !strings.Contains(strings.ReplaceAll(d.all, `\"`, `"`), text) {
		t.Errorf("it does not say %q:\n%s", text, d.all)
	}
}

// inOrder demands that each of these checks was done and found right.
func (d diagnosis) inOrder(t testing.TB, checks ...string) diagnosis {
	t.Helper()
	for _, c := range checks {
		if !slices.ContainsFunc(d.Findings, func(f struct{ Check, Level, What, Why, Fix string }) bool {
			return f.Check == c && f.Level == "ok"
		}) {
			t.Errorf("%s is not in order:\n%s", c, d.all)
		}
	}
	return d
}

func as(user string) login { return login{user, passwords[user]} }

func TestDoctorFindsNothingWrongWithRegward(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	u.has(t, "coolteam/app:1", small(t))
	stocked := len(u.requests())
	g := startRegward(t, u, teamRules)
	ca := []string{"--ca-file", suite.certs.caFile, "--repository"}

	doctor(t, g.host, as("ann"), append(ca, "coolteam/app")...).
		is(t, "ann may pull,push coolteam/app").
		inOrder(t, "port", "tls", "chain", "name", "expiry", "ping", "clock", "challenge", "realm", "login", "scope", "location", "body", "upload")
	for _, r := range u.requests()[stocked:] {
		if strings.HasPrefix(r, "PUT ") {
			t.Errorf("doctor has stored something: %s", r)
		}
	}
	doctor(t, g.host, login{}, append(ca, "library/hello")...).is(t, "everybody may pull library/hello").inOrder(t, "anonymous", "scope")
	doctor(t, g.host, login{}, append(ca, "coolteam/app")...).is(t, "coolteam/app needs a login")
	doctor(t, g.host, as("reader"), append(ca, "coolteam/app")...).is(t, "reader may pull coolteam/app and not push")
	doctor(t, g.host, as("dave"), append(ca, "coolteam/app")...).is(t, "a permission is missing", "problem scope")
	doctor(t, g.host, login{"ann", "not-hers"}, append(ca, "coolteam/app")...).is(t, "user name or password is wrong", "problem login")

	doctor(t, g.host, as("bob"), "--repository", "coolteam/app").is(t, "regward trust "+g.host+" --for docker", "problem chain")
	if seen := g.accessLog(t); strings.Contains(seen, `"user":"bob"`) {
		t.Errorf("bob logged in over a connection that nobody can trust:\n%s", seen)
	}
	doctor(t, "http://"+g.host, as("ann")).is(t, "the port speaks TLS", "problem port")
}

func TestDoctorPrintsForPeople(t *testing.T) {
	t.Parallel()
	g := startRegward(t, startUpstream(t, distribution), teamRules)
	o := commandWithInput(t, []string{"SSL_CERT_FILE="}, "wrong\n", suite.regward, "doctor", g.host, "--ca-file", suite.certs.caFile,
		"--user", "ann", "--password-stdin", "--root", t.TempDir())
	o.fails(t, "problem    login", "why", "fix", "not tried  ", "https://"+g.host+": 1 problem, 0 warnings")
	if !strings.HasPrefix(o.out, "problem ") {
		t.Errorf("problems do not come first:\n%s", o.out)
	}
}

// A registry is looked at as it is, without a proxy and without TLS.
func TestDoctorLooksAtRegistriesThemselves(t *testing.T) {
	t.Parallel()
	account := login{upstreamUser, upstreamPassword}
	for _, tt := range []struct {
		kind kind
		as   login
		want []string
	}{
		{distribution, login{}, []string{"warning C01"}},
		{dockerRegistry, login{}, []string{"warning C01"}},
		{distribution, account, []string{"problem C01"}},
		{distributionBasic, account, []string{"warning C02"}},
		{dockerRegistryBasic, account, []string{"warning C02"}},
		{distributionBasic, login{upstreamUser, "wrong"}, []string{"warning C02", "problem login"}},
		{distributionToken, account, []string{}},
		{dockerRegistryToken, account, []string{"warning C06"}},
	} {
		t.Run(tt.kind.String()+" as "+tt.as.user, func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, tt.kind)
			u.has(t, "coolteam/app:1", small(t))
			d := doctor(t, u.url, tt.as, "--ca-file", suite.certs.caFile, "--repository", "coolteam/app").is(t, "", tt.want...)
			if tt.kind.auth != "plain" && tt.as == account {
				d.inOrder(t, "login", "scope", "location", "body", "upload")
			}
		})
	}
}
