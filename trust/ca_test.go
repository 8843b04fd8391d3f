package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestTheCAOfAHostIsFound(t *testing.T) {
	root := makeCA(t, "Acme Root", nil)
	between := makeCA(t, "Acme Issuing 1", root)
	other := makeCA(t, "Other Root", nil)
	leaf := makeLeaf(t, between, "registry.example.com", "192.0.2.1")
	alone := makeLeaf(t, nil, "registry.example.com")
	bare := makeLeaf(t, root)
	expired := issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "old"}, DNSNames: []string{"registry.example.com"},
		NotBefore: time.Now().Add(-30 * time.Minute), NotAfter: time.Now().Add(-time.Minute),
	}, root)
	store := x509.NewCertPool()
	store.AddCert(root.Certificate)
	hinted := issue(t, &x509.Certificate{DNSNames: []string{"registry.example.com"}, IssuingCertificateURL: []string{"http://pki.example.com/`a`.crt"}}, between)

	for _, tt := range []struct {
		name   string
		host   string
		chain  []*x509.Certificate
		given  []*x509.Certificate
		roots  *x509.CertPool
		want   *issued // nil: an error, or nothing needed
		err    error
		system bool
		says   []string
	}{
		{name: "root shown", chain: chainOf(leaf, between, root), want: root, says: []string{"This CA ends on"}},
		{name: "root shown, in disorder", chain: chainOf(leaf, root, between), want: root},
		{name: "by address", host: "192.0.2.1:5000", chain: chainOf(leaf, between, root), want: root},
		{name: "signed by itself, without being a CA", chain: chainOf(alone), want: alone, says: []string{"signed by itself"}},
		{name: "a stranger's root among them", chain: chainOf(leaf, between, root, other), want: root},
		{name: "no root", chain: chainOf(leaf, between), err: ErrNoRoot,
			says: []string{`"Acme Issuing 1", signed by "Acme Root"`, "--ca-file root.pem", "regward ca", "full chain"}},
		{name: "where the issuer says it is", chain: chainOf(hinted), err: ErrNoRoot, says: []string{"http://pki.example.com/?a?.crt"}},
		{name: "a stranger's root alone", chain: chainOf(leaf, other), err: ErrUseless, says: []string{"Other Root"}},
		{name: "root from a file", chain: chainOf(leaf, between), given: chainOf(other, root), want: root},
		{name: "issuer from a file", chain: chainOf(leaf, between), given: chainOf(between), want: between, says: []string{"signed by another one", "OpenSSL"}},
		{name: "wrong file", chain: chainOf(leaf, between), given: chainOf(other), err: ErrNoRoot, says: []string{"Other Root", "Acme Root"}},
		{name: "in the store", chain: chainOf(leaf, between), roots: store, system: true},
		{name: "in the store, and a file", chain: chainOf(leaf, between), roots: store, given: chainOf(root), want: root},
		{name: "not in the store", chain: chainOf(alone), roots: store, want: alone},
		{name: "another name", host: "other.example.com", chain: chainOf(leaf, between, root), err: ErrUseless,
			says: []string{"registry.example.com, 192.0.2.1", "not for other.example.com", "hostname"}},
		{name: "no name at all", chain: chainOf(bare, root), err: ErrUseless, says: []string{"subjectAltName"}},
		{name: "expired", chain: chainOf(expired, root), want: root, says: []string{"expired on", "until it is renewed"}},
	} {
		host := tt.host
		if host == "" {
			host = "registry.example.com"
		}
		a, err := Find(&Shown{Host: mustHost(t, host), Chain: tt.chain}, tt.given, tt.roots, time.Now())
		if !errors.Is(err, tt.err) || (err != nil) != (tt.err != nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.err)
			continue
		}
		said := ""
		if err != nil {
			said = err.Error()
		} else {
			said = strings.Join(a.Notes, "\n")
			if (a.Cert == nil) != (tt.want == nil) || tt.want != nil && !a.Cert.Equal(tt.want.Certificate) {
				t.Errorf("%s: found %v", tt.name, a.Cert)
			}
			if (a.System != nil) != tt.system {
				t.Errorf("%s: in the store: %v, want %v", tt.name, a.System != nil, tt.system)
			}
		}
		for _, w := range tt.says {
			if !strings.Contains(said, w) {
				t.Errorf("%s: does not say %q: %s", tt.name, w, said)
			}
		}
	}
}

func TestCertificatesAreReadFromWhatPeopleHave(t *testing.T) {
	ca := makeCA(t, "Acme Root", nil)
	text := "subject=Acme\n" + PEM(ca.Certificate) + "\r\n# and once more\n" + PEM(ca.Certificate)
	if got, err := Certificates([]byte(text)); err != nil || len(got) != 2 {
		t.Errorf("%d certificates, %v; want 2", len(got), err)
	}
	for content, want := range map[string]string{
		"":             "no certificate in PEM",
		string(ca.Raw): "no certificate in PEM",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "certificate 1",
	} {
		if _, err := Certificates([]byte(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %q", content, err, want)
		}
	}
	if got, err := Certificates([]byte(strings.Repeat(PEM(ca.Certificate), maxGiven+1))); err != nil || len(got) != maxGiven {
		t.Errorf("%d certificates, %v; want %d", len(got), err, maxGiven)
	}
}

// Who made the certificate up chose the text in it.
func TestTextOfStrangersIsHarmless(t *testing.T) {
	ca := makeCA(t, "Acme `id`\n\x1b[2J$(id);>x|&'\"\\", nil)
	if got := Subject(ca.Certificate); strings.ContainsAny(got, "`$;|&<>'\"\\\n\x1b(") || !strings.Contains(got, "Acme") {
		t.Errorf("%q", got)
	}
	if got := plain(strings.Repeat("x", 1000)); len(got) > 110 {
		t.Errorf("%d bytes", len(got))
	}
	many := &x509.Certificate{DNSNames: strings.Fields(strings.Repeat("a.example.com ", 100))}
	if got := Names(many); len(got) != 11 || got[10] != "90 more" {
		t.Errorf("%q", got)
	}
}
