package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// clientCA signs certificates of clients, and lists that revoke.
type clientCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newClientCA(t *testing.T, name string) *clientCA {
	t.Helper()
	ca := &clientCA{t: t}
	ca.cert, ca.key = ca.sign(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
	return ca
}

func (ca *clientCA) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	c.NotBefore, c.NotAfter = time.Now().Add(-day), time.Now().Add(day)
	parent, by := ca.cert, ca.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		ca.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.t.Fatal(err)
	}
	return cert, key
}

func (ca *clientCA) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}))
}

// of is somebody's certificate.
func (ca *clientCA) of(name string) tls.Certificate {
	ca.t.Helper()
	cert, key := ca.sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// list is to be replaced at next.
func (ca *clientCA) list(next time.Time) string {
	ca.t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: next.Add(-day), NextUpdate: next}, ca.cert, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func TestValidateLooksIntoWhatJudgesClientCertificates(t *testing.T) {
	people, other := newClientCA(t, "people"), newClientCA(t, "others")
	dir := t.TempDir()
	ca, list, file := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "people.crl"), filepath.Join(dir, "regward.yaml")
	write(t, file, "hostname: docker.acme.example\ntls:\n  mode: internal\n  client_ca_file: "+ca+"\n  client_cert: {crl_file: "+list+"}\n"+
		"upstream: http://127.0.0.1:5000\nrules: [{subjects: \"user:spiffe://acme.example/ns/x\", repositories: \"**\", allow: [pull, push]}]\ngroups: {ci: [\"spiffe://acme.example/ns/x\"]}\n")
	now := time.Now()
	for name, test := range map[string]struct {
		ca, list string
		code     int
		words    string
	}{
		"good":        {people.pem(), people.list(now.Add(day)), exitDone, "is good"},
		"out of date": {people.pem(), people.list(now.Add(-time.Hour)), exitDone, `regward.yaml:4:19: warning: tls.client_ca_file: the revocation list of "people" is out of date`},
		"foreign":     {people.pem(), other.list(now.Add(day)), exitFailed, `regward.yaml:5:27: tls.client_cert.crl_file: ` + list + `: list 1 in it is by "CN=others"`},
		"half":        {people.pem(), people.list(now.Add(day))[:100], exitFailed, `ends in the middle of list 1`},
		"no list":     {people.pem(), people.pem(), exitFailed, `holds a certificate; revocation lists`},
		"half a CA":   {people.pem() + people.pem()[:80], people.list(now.Add(day)), exitFailed, `regward.yaml:4:19: tls.client_ca_file: ` + ca + ` is cut off after certificate 1`},
		"one without": {people.pem() + other.pem(), people.list(now.Add(day)), exitDone, `no list says which certificates of "others" are revoked`},
	} {
		write(t, ca, test.ca)
		write(t, list, test.list)
		var out, errs bytes.Buffer
		code := run(context.Background(), []string{"validate", file}, func(string) string { return "" }, strings.NewReader(""), &out, &errs)
		if said := out.String() + errs.String(); code != test.code || !strings.Contains(said, test.words) {
			t.Errorf("%s: %d\n%s", name, code, said)
		}
	}
}

// A reload may begin to ask for certificates, or stop; every connection is asked
// by what holds as it begins, and none fails for what it shows.
func TestConnectionsAreAskedByTheConfigurationOfNow(t *testing.T) {
	people, other := newClientCA(t, "people"), newClientCA(t, "others")
	r := begin(t, standard, nil, nil)
	ca := filepath.Join(r.dir, "people.crt")
	write(t, ca, people.pem())
	var asked [][]byte
	shown := people.of("ann")
	r.client.TLSClientConfig.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = info.AcceptableCAs
		return &shown, nil
	}
	pull := func() (int, string) {
		asked = nil
		r.client.CloseIdleConnections()
		return r.ask("GET", r.public()+"/v2/coolteam/app/manifests/latest", "", "")
	}
	if status, _ := pull(); status != 401 || asked != nil {
		t.Errorf("before: %d, asked for %d", status, len(asked))
	}
	r.edit("tls: {mode: internal}", "tls: {mode: internal, client_ca_file: "+ca+"}")
	r.reload()
	if status, _ := pull(); status == 401 || len(asked) != 1 || !bytes.Equal(asked[0], people.cert.RawSubject) {
		t.Errorf("ann: %d, asked for %q", status, asked)
	}
	shown = other.of("ann")
	if status, body := pull(); status != 401 || !strings.Contains(body, "is no CA for logins here") {
		t.Errorf("a foreign one: %d %s", status, body)
	}
	if status, _ := r.ask("GET", r.public()+"/v2/coolteam/app/manifests/latest", "ann", "ann-secret"); status == 401 {
		t.Errorf("a foreign one and a password: %d", status)
	}
	// Half a file leaves what was there.
	write(t, ca, people.pem()[:100])
	if status, o := r.reload(); status != 422 && !strings.Contains(o.Error, "tls.client_ca_file") {
		t.Errorf("half a CA: %d %+v", status, o)
	}
	shown = people.of("ann")
	if status, _ := pull(); status == 401 {
		t.Errorf("after half a file: %d", status)
	}
	write(t, ca, people.pem())
	r.edit(", client_ca_file: "+ca, "")
	r.reload()
	if status, _ := pull(); status != 401 || asked != nil {
		t.Errorf("at the end: %d, asked for %d", status, len(asked))
	}
}

func TestAListThatIsOutOfDateIsWarnedOfAndCounts(t *testing.T) {
	people := newClientCA(t, "people")
	dir := t.TempDir()
	ca, list := filepath.Join(dir, "people.crt"), filepath.Join(dir, "people.crl")
	write(t, ca, people.pem())
	write(t, list, people.list(time.Now().Add(-time.Hour)))
	r := begin(t, strings.Replace(standard, "tls: {mode: internal}", "tls: {mode: internal, client_ca_file: "+ca+", client_cert: {crl_file: "+list+"}}", 1), nil, nil)
	r.log.await(t, "is out of date: a newer one was due on", 1)
	r.warnClientCerts()
	r.log.await(t, "is out of date: a newer one was due on", 2)
	write(t, list, people.list(time.Now().Add(day)))
	r.reload()
	if all := r.clientCertProblems(); len(all) > 0 {
		t.Error(all)
	}
}

// What the handshake reads of a certificate stays as long as the connection, and
// nobody has logged in there yet.
func TestCertificatesThatFillTheMemoryEndTheHandshake(t *testing.T) {
	people := newClientCA(t, "people")
	r := begin(t, standard, nil, nil)
	ca := filepath.Join(r.dir, "people.crt")
	write(t, ca, people.pem())
	r.edit("tls: {mode: internal}", "tls: {mode: internal, client_ca_file: "+ca+"}")
	r.reload()
	sized := func(size int) *tls.Certificate {
		cert, key := people.sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ann"},
			ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, size)}}})
		return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	}
	named := func(names int) *tls.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "ann"}}
		for i := range names {
			c.URIs = append(c.URIs, &url.URL{Scheme: "a", Host: fmt.Sprint(i)})
		}
		cert, key := people.sign(c)
		return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for shown, passes := range map[*tls.Certificate]bool{
			sized(auth.MaxShownBytes - 1000): true, sized(auth.MaxShownBytes): false, sized(200 << 10): false,
			named(auth.MaxShownNames): true, named(auth.MaxShownNames + 1): false,
		} {
			r.client.TLSClientConfig.MaxVersion = version
			r.client.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return shown, nil }
			r.client.CloseIdleConnections()
			a, err := r.client.RoundTrip(httptest.NewRequest("GET", r.public()+"/v2/", nil))
			if err == nil {
				a.Body.Close()
			}
			if (err == nil) != passes {
				t.Errorf("%x, %d bytes: %v", version, len(shown.Certificate[0]), err)
			}
		}
	}
}
