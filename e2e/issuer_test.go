package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// issuer is the token service of an upstream that speaks Bearer: everything
// for its accounts, pulls of library/ for everybody.
type issuer struct {
	post     bool // the password grant is known
	name     string
	certFile string // the registry's rootcertbundle
	signer   jose.Signer
}

func newIssuer(t testing.TB, dir string) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "upstream tokens"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{name: "upstream issuer", certFile: filepath.Join(dir, "issuer.crt")}
	if err := os.WriteFile(i.certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	// Both generations of the registry find the key by the chain in the token.
	options := (&jose.SignerOptions{}).WithType("JWT").
		WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(der)})
	if i.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options); err != nil {
		t.Fatal(err)
	}
	return i
}

type grant struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, login := r.BasicAuth()
	asked := r.URL.Query()
	if r.Method == http.MethodPost {
		if !i.post {
			http.NotFound(w, r)
			return
		}
		if err := r.ParseForm(); err != nil || r.PostForm.Get("grant_type") != "password" || r.PostForm.Has("access_type") {
			http.Error(w, `{"errors":[{"code":"UNSUPPORTED","message":"not a password grant"}]}`, http.StatusBadRequest)
			return
		}
		asked = r.PostForm
		user, password, login = asked.Get("username"), asked.Get("password"), true
	}
	if known, ok := upstreamAccounts()[user]; login && (!ok || password != known) {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no such account"}]}`, http.StatusUnauthorized)
		return
	}
	access := []grant{}
	for _, scope := range strings.Fields(strings.Join(asked["scope"], " ")) {
		if g, ok := i.grant(scope, login); ok {
			access = append(access, g)
		}
	}
	token, err := i.sign(user, asked.Get("service"), access)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	name := "token"
	if r.Method == http.MethodPost {
		name = "access_token"
	}
	_ = json.NewEncoder(w).Encode(map[string]any{name: token, "expires_in": 60})
}

func (i *issuer) grant(scope string, login bool) (grant, bool) {
	first, last := strings.Index(scope, ":"), strings.LastIndex(scope, ":")
	if first < 0 || first == last {
		return grant{}, false
	}
	g := grant{Type: scope[:first], Name: scope[first+1 : last], Actions: strings.Split(scope[last+1:], ",")}
	if !login {
		g.Actions = []string{"pull"}
	}
	return g, login || strings.HasPrefix(g.Name, "library/")
}

func (i *issuer) sign(subject, audience string, access []grant) (string, error) {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": i.name, "sub": subject, "aud": audience,
		"iat": now.Unix(), "nbf": now.Add(-time.Second).Unix(), "exp": now.Add(time.Minute).Unix(),
		"jti": fmt.Sprint(now.UnixNano()), "access": access,
	})
	if err != nil {
		return "", err
	}
	signed, err := i.signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}
