package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// M5 for a start: nothing is served instead of a pair that cannot be.
func TestAPairThatCannotBeServedIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "other")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority(folder)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := readFile(t, suite.certs.certFile), readFile(t, suite.certs.keyFile)
	for _, tt := range []struct{ name, cert, key, words string }{
		{"half-written", cert[:len(cert)/2], key, "tls.crt"},
		{"half a key", cert, key[:len(key)/2], "tls.key"},
		{"mismatched", cert, readFile(t, other.keyFile), "do not belong together"},
		{"unreadable", cert, "", "tls.key is no file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newRegward(t, "http://127.0.0.1:1")
			certFile, keyFile := filepath.Join(g.dir, "tls.crt"), filepath.Join(g.dir, "tls.key")
			replaceFile(t, certFile, tt.cert)
			if tt.key == "" { // root may read whatever has no mode
				if err := os.Mkdir(keyFile, 0o700); err != nil {
					t.Fatal(err)
				}
			} else {
				replaceFile(t, keyFile, tt.key)
			}
			g.frame = strings.NewReplacer(suite.certs.certFile, certFile, suite.certs.keyFile, keyFile).Replace(g.frame)
			g.configure(t, teamRules)
			o := command(t, nil, suite.regward, "--config", g.file, "serve").fails(t, tt.words)
			if strings.Contains(o.out, "PRIVATE KEY-----\n") {
				t.Error("it prints the key")
			}
		})
	}
}

// An expired certificate can be looked at and waited for; no connection at all
// cannot.
func TestAStartWithAnExpiredPairServesAndSaysSo(t *testing.T) {
	t.Parallel()
	g := newRegward(t, "http://127.0.0.1:1")
	certFile, keyFile := expiredPair(t, g.dir)
	g.frame = strings.NewReplacer(suite.certs.certFile, certFile, suite.certs.keyFile, keyFile).Replace(g.frame)
	g.configure(t, teamRules)
	g.serve(t)
	transport := newTransport()
	transport.TLSClientConfig.InsecureSkipVerify = true
	r, err := (&http.Client{Transport: transport}).Get("https://" + g.host + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	var invalid x509.CertificateInvalidError
	if _, err := g.client.Get("https://" + g.host + "/v2/"); err == nil || !errors.As(err, &invalid) || invalid.Reason != x509.Expired {
		t.Errorf("a client that looks says %v, want that it is expired", err)
	}
	if out := g.proc.output(); !strings.Contains(out, certFile) || !strings.Contains(out, "expired on ") {
		t.Errorf("it does not say so:\n%s", out)
	}
}

// expiredPair writes a pair for localhost that ended an hour ago.
func expiredPair(t testing.TB, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "old.crt"), filepath.Join(dir, "old.key")
	replaceFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	replaceFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return certFile, keyFile
}
