package doctor_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/doctor"
)

func TestCertificatesThatAreWrong(t *testing.T) {
	tryRows(t, []row{
		{"expired", func(f *fake) { f.leaf.NotAfter = f.now.Add(-time.Hour) }, "expired on", []string{"problem expiry"}},
		{"not yet valid", func(f *fake) { f.leaf.NotBefore = f.now.Add(time.Hour) }, "not valid before", []string{"problem expiry"}},
		{"soon", func(f *fake) {
			f.leaf.NotAfter = f.now.Add(5*24*time.Hour + time.Minute)
			f.leaf.NotBefore = f.now.Add(-80 * 24 * time.Hour)
		}, "in 5 days", []string{"warning expiry"}},
		{"another name", func(f *fake) { f.leaf.DNSNames = []string{"other.example"} }, "not for " + host, []string{"problem name"}},
		{"common name only", func(f *fake) { f.leaf.DNSNames, f.leaf.IPAddresses = nil, nil }, "only the common name", []string{"problem name"}},
		{"no intermediate", func(f *fake) { f.sent = []int{0} }, "an intermediate certificate is missing", []string{"problem chain"}},
		{"no intermediate, and where it is", func(f *fake) {
			f.sent, f.leaf.IssuingCertificateURL = []int{0}, []string{"http://ca.example/between.crt"}
		}, "http://ca.example/between.crt", []string{"problem chain"}},
		{"wrong order", func(f *fake) { f.sent = []int{0, 2, 1} }, "wrong order", []string{"warning chain"}},
		{"TLS 1.1", func(f *fake) { f.versions = [2]uint16{tls.VersionTLS10, tls.VersionTLS11} }, "TLS 1.1 at most", []string{"problem tls"}},
		{"client certificate", func(f *fake) { f.clients = tls.RequireAnyClientCert }, "insists on a client certificate", []string{"problem client-certificate"}},
	})
}

// A certificate that cannot be trusted ends nothing but the use of the
// password.
func TestNoPasswordGoesToWhoeverShowsAWrongCertificate(t *testing.T) {
	for check, change := range map[string]func(f *fake, o *doctor.Options){
		"chain": func(_ *fake, o *doctor.Options) { o.CA = nil },
		"expiry": func(f *fake, o *doctor.Options) {
			later := f.leaf.NotAfter.Add(time.Hour)
			o.Now = func() time.Time { return later }
		},
		"name": func(_ *fake, o *doctor.Options) { o.Target.Name = "other.example" },
	} {
		f := newFake()
		o := f.start(t)
		change(f, &o)
		r := doctor.Run(t.Context(), o)
		if why := untried(r, "login"); !has(r, doctor.Problem, check) || !strings.Contains(why, "no password is sent") {
			t.Errorf("%s: login not tried: %q\n%s", check, why, words(t, r))
		}
		if !has(r, doctor.OK, "ping") {
			t.Errorf("%s: nothing further was looked at:\n%s", check, words(t, r))
		}
		noPassword(t, f)
	}
}

// Whoever shows a wrong certificate may name a realm whose certificate is
// right.
func TestNoPasswordGoesWhereAnUntrustedRegistrySays(t *testing.T) {
	tokens := newFake()
	o := tokens.start(t)
	f := newFake()
	f.challenge = []string{`Bearer realm="https://127.0.0.1:` + o.Target.Port + `/token",service="registry"`}
	p := f.start(t)
	p.CA = o.CA // the realm's alone
	r := doctor.Run(t.Context(), p)
	if why := untried(r, "login"); !strings.Contains(why, "nor where he says") {
		t.Errorf("login not tried: %q\n%s", why, words(t, r))
	}
	if len(tokens.requests()) == 0 {
		t.Error("the realm was never asked for an anonymous token: this proves nothing")
	}
	noPassword(t, tokens)
	noPassword(t, f)
}

func TestAnUnknownCANamesTheCommandThatHelps(t *testing.T) {
	f := newFake()
	f.sent = []int{0, 1, 2}
	o := f.start(t)
	o.CA = nil
	r := doctor.Run(t.Context(), o)
	says(t, r, "regward trust "+f.host+" --for docker", "problem chain")
	if len(r.Chain) != 3 {
		t.Errorf("%d certificates in the report, want 3", len(r.Chain))
	}
}

func TestClocksThatDiffer(t *testing.T) {
	f := newFake()
	o := f.start(t)
	o.Now = func() time.Time { return f.now.Add(10 * time.Minute) }
	says(t, doctor.Run(t.Context(), o), "10m0s behind ours", "problem clock")
	o.Now = func() time.Time { return f.now.Add(-10 * time.Minute) }
	says(t, doctor.Run(t.Context(), o), "10m0s ahead of ours", "problem clock")
}
