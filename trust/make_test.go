package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issued is a certificate of the tests, with its key.
type issued struct {
	*x509.Certificate
	key *ecdsa.PrivateKey
}

// makeCA makes a CA, signed by parent or by itself.
func makeCA(t testing.TB, name string, parent *issued) *issued {
	return issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, parent)
}

// makeLeaf makes a certificate for names, signed by parent or by itself.
func makeLeaf(t testing.TB, parent *issued, names ...string) *issued {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "a server"}, KeyUsage: x509.KeyUsageDigitalSignature}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	return issue(t, c, parent)
}

func issue(t testing.TB, c *x509.Certificate, parent *issued) *issued {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<60)); err != nil {
		t.Fatal(err)
	}
	if c.NotAfter.IsZero() {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	}
	signer, with := c, key
	if parent != nil {
		signer, with = parent.Certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, signer, &key.PublicKey, with)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{made, key}
}

func chainOf(certs ...*issued) []*x509.Certificate {
	all := make([]*x509.Certificate, 0, len(certs))
	for _, c := range certs {
		all = append(all, c.Certificate)
	}
	return all
}

func mustHost(t testing.TB, typed string) Host {
	t.Helper()
	h, err := ParseHost(typed)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// tree writes files under a new root.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
