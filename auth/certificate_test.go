package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Everything of these tests happens around then.
var certDay = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// signer is a CA, or somebody with a certificate.
type certSigner struct {
	testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

// newCA is a CA of its own.
func newCA(t testing.TB, name string, change ...func(*x509.Certificate)) *certSigner {
	t.Helper()
	return (*certSigner)(nil).sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, change...)
}

// below is a CA whose certificate s signed.
func (s *certSigner) below(name string) *certSigner {
	return s.sign(s, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
}

// client is somebody's certificate.
func (s *certSigner) client(name string, change ...func(*x509.Certificate)) *certSigner {
	return s.sign(s, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, change...)
}

func (s *certSigner) sign(t testing.TB, c *x509.Certificate, change ...func(*x509.Certificate)) *certSigner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), certDay.AddDate(-1, 0, 0), certDay.AddDate(1, 0, 0)
	if s != nil {
		s.next++
		c.SerialNumber = big.NewInt(0x5ca1ab1e00 + s.next)
	}
	for _, f := range change {
		f(c)
	}
	parent, by := c, key
	if s != nil {
		parent, by = s.cert, s.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certSigner{TB: t, cert: cert, key: key}
}

// revokes is a list of s's.
func (s *certSigner) revokes(change func(*x509.RevocationList), some ...*certSigner) []byte {
	s.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: certDay.Add(-time.Hour), NextUpdate: certDay.Add(time.Hour)}
	for _, one := range some {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: one.cert.SerialNumber, RevocationTime: certDay.Add(-2 * time.Hour)})
	}
	if change != nil {
		change(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, s.cert, s.key)
	if err != nil {
		s.Fatal(err)
	}
	return der
}

func certPEM(some ...*certSigner) (all []byte) {
	for _, one := range some {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one.cert.Raw})...)
	}
	return all
}

func crlPEM(lists ...[]byte) (all []byte) {
	for _, der := range lists {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return all
}

func believing(t testing.TB, o CertificateOptions, cas ...*certSigner) *Certificates {
	t.Helper()
	c, err := ParseCertificates(certPEM(cas...), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func revoking(t testing.TB, c *Certificates, lists ...[]byte) *Certificates {
	t.Helper()
	next, err := c.Revoking(crlPEM(lists...))
	if err != nil {
		t.Fatal(err)
	}
	return next
}

func chainOf(some ...*certSigner) (chain []*x509.Certificate) {
	for _, one := range some {
		chain = append(chain, one.cert)
	}
	return chain
}

func withURI(t testing.TB, texts ...string) func(*x509.Certificate) {
	t.Helper()
	return func(c *x509.Certificate) {
		for _, text := range texts {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

func TestWhoACertificateIs(t *testing.T) {
	ca := newCA(t, "people")
	between := ca.below("people of the west")
	dns := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames = names }
	}
	twice := func(c *x509.Certificate) {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "ann"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "root"}}
	}
	cn, name, uri := CertificateOptions{}, CertificateOptions{User: ByDNSName}, CertificateOptions{User: ByURI}
	exactly := CertificateOptions{CaseSensitive: true}
	for _, test := range []struct {
		o     CertificateOptions
		shown []*certSigner
		user  string
		words string // of the refusal
	}{
		{cn, []*certSigner{ca.client("Ann")}, "ann", ""},
		{exactly, []*certSigner{ca.client("Ann")}, "Ann", ""},
		{cn, []*certSigner{between.client("bob"), between}, "bob", ""},
		{cn, []*certSigner{between.client("bob")}, "", "is by \"CN=people of the west\", which is no CA for logins here"},
		{cn, []*certSigner{ca.client("system:node:worker-7")}, "system:node:worker-7", ""},
		{cn, []*certSigner{ca.client("")}, "", "its common name is empty"},
		{cn, []*certSigner{ca.client("", twice)}, "", "more than one common name"},
		{cn, []*certSigner{ca.client("Anonymous")}, "", "nobody in particular"},
		{cn, []*certSigner{ca.client("ann\u3164")}, "", "a letter in it that no name may have"},
		{cn, []*certSigner{ca.client("ann\ufe0f")}, "", "a letter in it that no name may have"},
		{cn, []*certSigner{ca.client(" ann")}, "", "nobody can be called"},
		{cn, []*certSigner{ca.client("an\tn")}, "", "has a letter in it"},
		{cn, []*certSigner{ca.client("ann\u200b")}, "", "has a letter in it"},
		{cn, []*certSigner{ca.client("\u212aim")}, "", "has a letter in it"},
		{exactly, []*certSigner{ca.client("\u212aim")}, "\u212aim", ""},
		{cn, []*certSigner{ca.client("<token>")}, "", "nobody can be called"},
		{cn, []*certSigner{ca.client(strings.Repeat("a", MaxUser))}, strings.Repeat("a", MaxUser), ""},
		{cn, []*certSigner{ca.client(strings.Repeat("a", MaxUser+1))}, "", "longer than 256 bytes"},
		{name, []*certSigner{ca.client("x", dns("Worker.acme.example"))}, "worker.acme.example", ""},
		{name, []*certSigner{ca.client("x")}, "", "it has 0 DNS names"},
		{name, []*certSigner{ca.client("x", dns("worker.acme.example", "root"))}, "", "it has 2 DNS names"},
		{name, []*certSigner{ca.client("x", dns("*.acme.example"))}, "", "which is no one user"},
		{uri, []*certSigner{ca.client("x", withURI(t, "spiffe://acme.example/ns/x/sa/y"))}, "spiffe://acme.example/ns/x/sa/y", ""},
		{uri, []*certSigner{ca.client("x", withURI(t, "urn:acme:robot"))}, "urn:acme:robot", ""},
		{uri, []*certSigner{ca.client("x")}, "", "it has 0 URIs, and one is wanted"},
		{uri, []*certSigner{ca.client("x", withURI(t, "spiffe://acme.example/a", "spiffe://acme.example/b"))}, "", "it has 2 URIs"},
		{uri, []*certSigner{ca.client("x", withURI(t, "spiffe://acme.example"))}, "", "no SPIFFE ID"},
		{uri, []*certSigner{ca.client("x", withURI(t, "spiffe://acme.example/a//b"))}, "", "no SPIFFE ID"},
		{uri, []*certSigner{ca.client("x", withURI(t, "spiffe://acme.example/a/../b"))}, "", "no SPIFFE ID"},
		{uri, []*certSigner{ca.client("x", withURI(t, "spiffe://acme.example/a%2fb"))}, "", "no SPIFFE ID"},
		{uri, []*certSigner{ca.client("x", withURI(t, "spiffe://acme.example:443/a"))}, "", "no SPIFFE ID"},
		{uri, []*certSigner{ca.client("x", withURI(t, "spiffe://acme.example/a?b"))}, "", "a query"},
		{uri, []*certSigner{ca.client("x", withURI(t, "https://ann@acme.example/a"))}, "", "a login"},
		{cn, []*certSigner{ca.client("ann", func(c *x509.Certificate) { c.NotAfter = certDay.Add(-time.Hour) })}, "", `of "ann" expired on 2026-11-20 11:00 UTC`},
		{cn, []*certSigner{ca.client("ann", func(c *x509.Certificate) { c.NotBefore = certDay.Add(time.Hour) })}, "", "is not valid before 2026-11-20 13:00 UTC; is a clock wrong?"},
		{cn, []*certSigner{ca.client("ann", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, "", "lacks clientAuth"},
		{cn, []*certSigner{newCA(t, "people").client("ann")}, "", "a CA of that name is known here, but not that one"}, // the name of a CA proves nothing
		{cn, []*certSigner{newCA(t, "strangers").client("ann")}, "", "which is no CA for logins here"},
		{cn, nil, "", "is missing"},
		{cn, slices.Repeat([]*certSigner{ca.client("ann")}, MaxShown+1), "", "at most 10 certificates"},
		{cn, slices.Repeat([]*certSigner{ca.client("ann")}, MaxShown), "ann", ""},
	} {
		c := believing(t, test.o, ca)
		id, err := c.Identify(chainOf(test.shown...), certDay)
		if test.words == "" {
			if err != nil || id.Name != test.user || id.Via != "certificate" || !c.Current(&id) || !id.ByCertificate() {
				t.Errorf("%q: %+v, %v", test.user, id, err)
			}
			if _, err := ParseSubject("user:" + id.Name); err != nil {
				t.Errorf("no rule can name %q: %v", id.Name, err)
			}
			continue
		}
		if bad := (*CertificateError)(nil); !errors.As(err, &bad) || !errors.Is(err, ErrRejected) || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", test.words, err)
		}
	}
}

func TestExpiresIsTheFirstEndInTheChain(t *testing.T) {
	ca := newCA(t, "people")
	soon := ca.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "between"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign},
		func(c *x509.Certificate) { c.NotAfter = certDay.Add(time.Hour) })
	id, err := believing(t, CertificateOptions{}, ca).Identify(chainOf(soon.client("ann"), soon), certDay)
	if err != nil || !id.Expires.Equal(certDay.Add(time.Hour)) {
		t.Errorf("%v, %v", id.Expires, err)
	}
	_, err = believing(t, CertificateOptions{}, ca).Identify(chainOf(soon.client("ann"), soon), certDay.Add(2*time.Hour))
	if err == nil || !strings.Contains(err.Error(), `is by "between", whose own certificate was valid`) {
		t.Error(err)
	}
}

// K4: what a token carries ends with what proved it.
func TestAChainEndsWithItsCAItsListAndTheWayNamesAreFound(t *testing.T) {
	ca, other := newCA(t, "people"), newCA(t, "robots")
	between := ca.below("west")
	ann, bob := between.client("ann"), between.client("bob")
	c := believing(t, CertificateOptions{}, ca, between)
	token := func(one *certSigner) Identity {
		id, err := c.Identify(chainOf(one, between), certDay)
		if err != nil {
			t.Fatal(err)
		}
		tokens, err := LoadTokens(filepath.Join(t.TempDir(), "token.pem"), true)
		if err != nil {
			t.Fatal(err)
		}
		text, err := tokens.Issue(id, "docker.acme.example", nil, certDay, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		back, err := tokens.Verify(text, "docker.acme.example")
		if err != nil || back.Chain != id.Chain || back.Chain == "" {
			t.Fatalf("%+v, %v", back, err)
		}
		return back
	}
	a, b := token(ann), token(bob)
	for name, test := range map[string]struct {
		c        *Certificates
		ann, bob bool
	}{
		"the same":                  {believing(t, CertificateOptions{}, ca, between), true, true},
		"another CA beside":         {believing(t, CertificateOptions{}, other, between, ca), true, true},
		"another CA":                {believing(t, CertificateOptions{}, other), false, false},
		"other names":               {believing(t, CertificateOptions{User: ByURI}, ca, between), false, false},
		"other case":                {believing(t, CertificateOptions{CaseSensitive: true}, ca, between), false, false},
		"an empty list":             {revoking(t, c, between.revokes(nil)), true, true},
		"ann's certificate":         {revoking(t, c, between.revokes(nil, ann)), false, true},
		"both, two lists":           {revoking(t, c, between.revokes(nil, ann), between.revokes(nil, bob)), false, false},
		"the CA in between":         {revoking(t, c, ca.revokes(nil, between)), false, false},
		"nothing asked for":         {nil, false, false},
		"its serial, of another CA": {revoking(t, c, ca.revokes(nil, bob)), true, true},
	} {
		if test.c.Current(&a) != test.ann || test.c.Current(&b) != test.bob {
			t.Errorf("%s: ann %v, bob %v", name, test.c.Current(&a), test.c.Current(&b))
		}
		if test.c == nil {
			continue
		}
		_, err := test.c.Identify(chainOf(ann, between), certDay)
		if name != "other names" && name != "other case" && (err == nil) != test.ann {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, chain := range []string{"", "short", "12345678x", strings.Repeat("x", 16)} {
		if c.Current(&Identity{Name: "ann", Via: "certificate", Chain: chain}) {
			t.Errorf("chain %q is believed", chain)
		}
	}
	if n := testing.AllocsPerRun(100, func() { c.Current(&a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRevocationListsInWords(t *testing.T) {
	ca, other := newCA(t, "people"), newCA(t, "strangers")
	quiet := newCA(t, "quiet", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	ann, bob := ca.client("ann"), ca.client("bob")
	c := believing(t, CertificateOptions{}, ca)
	good := ca.revokes(nil, ann)
	indirect, err := asn1.Marshal(struct {
		Indirect bool `asn1:"optional,tag:4"`
	}{true})
	if err != nil {
		t.Fatal(err)
	}
	users, err := asn1.Marshal(struct {
		Users bool `asn1:"optional,tag:1"`
	}{true})
	if err != nil {
		t.Fatal(err)
	}
	attributes, err := asn1.Marshal(struct {
		Others bool `asn1:"optional,tag:5"`
	}{true})
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := asn1.Marshal(struct {
		Reasons asn1.BitString `asn1:"optional,tag:3"`
	}{asn1.BitString{Bytes: []byte{0x40}, BitLength: 2}})
	if err != nil {
		t.Fatal(err)
	}
	extension := func(id asn1.ObjectIdentifier, value []byte) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: id, Critical: true, Value: value}}
		}
	}
	broken := slices.Clone(good)
	broken[len(broken)-1] ^= 1
	flipped := bytes.Replace(good, ann.cert.SerialNumber.Bytes(), bob.cert.SerialNumber.Bytes(), 1)
	for name, test := range map[string]struct {
		data  []byte
		words string // "": it is good, and revokes ann
	}{
		"PEM":                    {crlPEM(good), ""},
		"DER":                    {good, ""},
		"two in PEM":             {crlPEM(ca.revokes(nil, bob), good), ""},
		"two in DER":             {slices.Concat(ca.revokes(nil, bob), good), ""},
		"text around":            {slices.Concat([]byte("Certificate Revocation List (CRL):\n"), crlPEM(good)), ""},
		"out of date":            {ca.revokes(func(l *x509.RevocationList) { l.NextUpdate = certDay.Add(-time.Minute) }, ann), ""},
		"of users only":          {ca.revokes(extension(asn1.ObjectIdentifier{2, 5, 29, 28}, users), ann), ""},
		"foreign":                {crlPEM(other.revokes(nil, ann)), `list 1 in it is by "CN=strangers", whose certificate is not in tls.client_ca_file; add it there`},
		"second foreign":         {crlPEM(good, other.revokes(nil)), "list 2 in it is by"},
		"not its key":            {newCA(t, "people").revokes(nil, ann), `is not signed by "CN=people" as it says`},
		"changed":                {broken, "is not signed by"},
		"changed serial":         {flipped, "is not signed by"},
		"half in PEM":            {crlPEM(good)[:150], "ends in the middle of list 1"},
		"half the second":        {slices.Concat(crlPEM(good), crlPEM(good)[:150]), "ends in the middle of list 2"},
		"half in DER":            {good[:len(good)/2], "is no revocation list, or is cut off"},
		"half the second in DER": {slices.Concat(good, good[:9]), "ends in the middle of list 2"},
		"a certificate":          {certPEM(ca), "holds a certificate; revocation lists (X509 CRL) belong there"},
		"no list":                {[]byte{0x30, 0}, "list 1 in it cannot be read"},
		"nothing":                {nil, "is empty"},
		"text":                   {[]byte("ann\nbob\n"), "is no revocation list"},
		"delta":                  {ca.revokes(extension(asn1.ObjectIdentifier{2, 5, 29, 27}, []byte{2, 1, 1}), ann), "is a delta"},
		"indirect":               {ca.revokes(extension(asn1.ObjectIdentifier{2, 5, 29, 28}, indirect), ann), "an indirect list"},
		"of attributes":          {ca.revokes(extension(asn1.ObjectIdentifier{2, 5, 29, 28}, attributes)), "attribute certificates alone"},
		"of some reasons":        {ca.revokes(extension(asn1.ObjectIdentifier{2, 5, 29, 28}, reasons), ann), "for some reasons alone"},
		"unknown":                {ca.revokes(extension(asn1.ObjectIdentifier{1, 2, 3}, []byte{5, 0}), ann), "critical extension (1.2.3)"},
		"many":                   {crlPEM(slices.Repeat([][]byte{good}, MaxListsOfCRL)...), ""},
		"too many":               {crlPEM(slices.Repeat([][]byte{good}, MaxListsOfCRL+1)...), "more than 64 lists"},
		"too many in DER":        {bytes.Repeat(good, MaxListsOfCRL+1), "more than 64 lists"},
		"too long":               {make([]byte, MaxCRL+1), "longer than"},
	} {
		next, err := c.Revoking(test.data)
		if test.words != "" {
			if err == nil || !strings.Contains(err.Error(), test.words) {
				t.Errorf("%s: %v, want %s", name, err, test.words)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, err = next.Identify(chainOf(ann), certDay)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf(`the client certificate of "ann" (serial %x) has been revoked`, ann.cert.SerialNumber)) {
			t.Errorf("%s: %v", name, err)
		}
		if next.Revoked() < 1 {
			t.Errorf("%s: %d revoked", name, next.Revoked())
		}
	}
	// A CA that may sign certificates only, by its certificate.
	loud := *quiet
	loud.cert = newCA(t, "quiet").cert
	may := *loud.cert
	may.PublicKey = quiet.key.Public()
	loud.cert = &may
	if _, err := believing(t, CertificateOptions{}, quiet).Revoking(loud.revokes(nil)); err == nil || !strings.Contains(err.Error(), "cRLSign") {
		t.Error(err)
	}
}

func TestFilesOfClientCAsInWords(t *testing.T) {
	ca := newCA(t, "people")
	whole := certPEM(ca)
	for name, test := range map[string]struct {
		data  []byte
		words string
	}{
		"one":       {whole, ""},
		"many":      {bytes.Repeat(whole, MaxClientCAs), ""},
		"too many":  {bytes.Repeat(whole, MaxClientCAs+1), "more than 256"},
		"none":      {[]byte("nothing"), "holds no certificate in PEM"},
		"half":      {whole[:100], "is cut off after certificate 0"},
		"half more": {slices.Concat(whole, whole[:100]), "is cut off after certificate 1"},
		"a key":     {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "holds a private key"},
		"garbage":   {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), "certificate 1 in it cannot be read"},
	} {
		_, err := ParseCertificates(test.data, CertificateOptions{})
		if (err == nil) != (test.words == "") || err != nil && !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProblemsOfClientCAs(t *testing.T) {
	ca, other := newCA(t, "people"), newCA(t, "robots")
	old := newCA(t, "old", func(c *x509.Certificate) { c.NotAfter = certDay.Add(-time.Hour) })
	c := believing(t, CertificateOptions{}, ca)
	if all := c.Problems(certDay); len(all) > 0 {
		t.Error(all)
	}
	c = revoking(t, believing(t, CertificateOptions{}, ca, other, old), ca.revokes(nil), old.revokes(nil))
	want := []string{
		`no list says which certificates of "robots" are revoked`,
		`the CA "old" expired on 2026-11-20 11:00 UTC: nobody with a certificate of its can log in`,
	}
	if all := c.Problems(certDay); !slices.Equal(all, want) {
		t.Error(all)
	}
	late := c.Problems(certDay.Add(2 * time.Hour))
	if len(late) != 4 || !strings.Contains(late[0], `the revocation list of "people" is out of date: a newer one was due on 2026-11-20 13:00 UTC`) {
		t.Error(late)
	}
}

// No name that a certificate can hold breaks out of what names may be.
func FuzzCertificateUser(f *testing.F) {
	for _, one := range []string{"ann", "Ann", "anonymous", "a b", " ", "ann\n", "spiffe://acme.example/ns/x", "spiffe://acme.example/%2e%2e/x", "../..", "*", "\u212a", "{user}"} {
		f.Add(one, uint8(0), false)
		f.Add(one, uint8(1), true)
		f.Add(one, uint8(2), false)
	}
	f.Fuzz(func(t *testing.T, text string, by uint8, exactly bool) {
		c := &Certificates{o: CertificateOptions{User: CertificateUser(by % 3), CaseSensitive: exactly}}
		cert := &x509.Certificate{DNSNames: []string{text}}
		cert.Subject.Names = []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: text}}
		if u, err := url.Parse(text); err == nil {
			cert.URIs = []*url.URL{u}
		}
		name, err := c.user(cert)
		if err != nil {
			if name != "" {
				t.Errorf("%q and %v", name, err)
			}
			return
		}
		if name == "" || len(name) > 2*MaxUser || hasControl(name) || strings.EqualFold(name, "anonymous") {
			t.Errorf("%q is a user", name)
		}
		if s, err := ParseSubject("user:" + name); err != nil || !s.Matches(&Caller{Identity: Identity{Name: name}}) {
			t.Errorf("no rule can be for %q: %v", name, err)
		}
		if !exactly && c.o.User == ByCommonName && strings.ToLower(text) != name {
			t.Errorf("%q became %q", text, name)
		}
	})
}

// Whatever lies in place of a list, only one that its CA signed revokes.
func FuzzRevoking(f *testing.F) {
	ca := newCA(f, "people")
	ann := ca.client("ann")
	c := believing(f, CertificateOptions{}, ca)
	f.Add(ca.revokes(nil, ann))
	f.Add(crlPEM(ca.revokes(nil, ann), ca.revokes(nil)))
	f.Add(certPEM(ca))
	f.Add([]byte("-----BEGIN X509 CRL-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		next, err := c.Revoking(data)
		if err != nil {
			if next != nil || err.Error() == "" {
				t.Errorf("%v and %v", next, err)
			}
			return
		}
		if next.Revoked() > 1 || len(next.lists) == 0 {
			t.Errorf("%d revoked by %d lists", next.Revoked(), len(next.lists))
		}
	})
}
