package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// idCards is a CA that gives certificates to clients, or to servers, and lists
// those that no longer count.
type idCards struct {
	testing.TB
	dir    string
	caFile string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	given  int64
}

// idCard is a pair of files.
type idCard struct {
	cert, key string
	leaf      *x509.Certificate
}

func newIDCards(t testing.TB, name string) *idCards {
	t.Helper()
	ca := &idCards{TB: t, dir: t.TempDir()}
	ca.cert, ca.key = ca.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
	ca.caFile = filepath.Join(ca.dir, "ca.crt")
	ca.write(ca.caFile, "CERTIFICATE", ca.cert.Raw)
	return ca
}

func (ca *idCards) sign(c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	ca.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.Fatal(err)
	}
	ca.given++
	c.SerialNumber = big.NewInt(ca.given)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	c.NotBefore = time.Now().Add(-24 * time.Hour)
	parent, by := ca.cert, ca.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		ca.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		ca.Fatal(err)
	}
	return cert, key
}

func (ca *idCards) write(file, kind string, der []byte) {
	ca.Helper()
	replaceFile(ca, file, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// give writes a pair for name, who is a client and a server alike.
func (ca *idCards) give(name string, change ...func(*x509.Certificate)) idCard {
	ca.Helper()
	c := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}}
	for _, f := range change {
		f(c)
	}
	cert, key := ca.sign(c)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.Fatal(err)
	}
	dir, err := os.MkdirTemp(ca.dir, "pair")
	if err != nil {
		ca.Fatal(err)
	}
	pair := idCard{filepath.Join(dir, "client.cert"), filepath.Join(dir, "client.key"), cert}
	ca.write(pair.cert, "CERTIFICATE", cert.Raw)
	ca.write(pair.key, "PRIVATE KEY", der)
	return pair
}

func expired(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }

// list is a revocation list, in PEM.
func (ca *idCards) list(revoked ...idCard) string {
	ca.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, one := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: one.leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, ca.cert, ca.key)
	if err != nil {
		ca.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// shows makes g's client show a certificate, on connections of its own.
func (g *regward) shows(t testing.TB, card idCard) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(card.cert, card.key)
	if err != nil {
		t.Fatal(err)
	}
	tr := newTransport()
	tr.TLSClientConfig.Certificates = []tls.Certificate{pair}
	g.client.Transport = tr
}
