package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"path/filepath"
	"testing"
	"time"
)

// madeChain is a root, an intermediate and a server's certificate, in which one
// thing may be wrong.
type madeChain struct {
	ends  time.Duration // from now; 0: in three months
	name  string        // "": localhost; "-": no alternative names
	send  []int         // which, by age: 0 the server's, 1 the intermediate, 2 the root
	alone bool          // the server's is its own issuer
}

// write makes it and returns the root's file, and those for the server.
func (m madeChain) write(t testing.TB) (ca string, pair [2]string) {
	t.Helper()
	now := time.Now()
	if m.ends == 0 {
		m.ends = 90 * 24 * time.Hour
	}
	if m.send == nil {
		m.send = []int{0, 1}
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(13), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-100 * 24 * time.Hour), NotAfter: now.Add(m.ends), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	switch m.name {
	case "":
	case "-":
		server.DNSNames = nil
	default:
		server.DNSNames = []string{m.name}
	}
	authority := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-300 * 24 * time.Hour), NotAfter: now.Add(300 * 24 * time.Hour),
		}
	}
	templates := [3]*x509.Certificate{server, authority("the middle one", 12), authority("the root", 11)}
	var keys [3]*ecdsa.PrivateKey
	var made [3][]byte
	for i := 2; i >= 0; i-- {
		issuer := min(i+1, 2)
		if i == 0 && m.alone {
			issuer, m.send = 0, []int{0}
		}
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, templates[i], templates[issuer], &keys[i].PublicKey, keys[issuer])
		if err != nil {
			t.Fatal(err)
		}
		made[i] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	var sent []byte
	for _, i := range m.send {
		sent = append(sent, made[i]...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		replaceFile(t, path, string(content))
		return path
	}
	return file("ca.crt", made[2]), [2]string{file("tls.crt", sent), file("tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))}
}
