package tls_test

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	regtls "github.com/regward/regward/tls"
)

// wilfulCA is a CA that validates nothing and gives out what it likes.
type wilfulCA struct {
	*httptest.Server
	gives  func(*x509.CertificateRequest) []byte // a chain; nil: it refuses who comes
	asked  atomic.Int32                          // for an account
	orders atomic.Int32
	chain  atomic.Pointer[[]byte]
}

func newWilfulCA(t *testing.T, gives func(*x509.CertificateRequest) []byte) *wilfulCA {
	t.Helper()
	ca := &wilfulCA{gives: gives}
	ca.Server = httptest.NewTLSServer(ca)
	t.Cleanup(ca.Close)
	return ca
}

func (ca *wilfulCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Replay-Nonce", fmt.Sprintf("nonce%d", time.Now().UnixNano()))
	w.Header().Set("Content-Type", "application/json")
	order := func(status string) {
		w.Header().Set("Location", ca.URL+"/order/1")
		fmt.Fprintf(w, `{"status":%q,"identifiers":[{"type":"dns","value":"a.example"}],"authorizations":[%q],"finalize":%q,"certificate":%q}`,
			status, ca.URL+"/authorization", ca.URL+"/finalize", ca.URL+"/certificate")
	}
	switch r.URL.Path {
	case "/directory":
		fmt.Fprintf(w, `{"newNonce":%q,"newAccount":%q,"newOrder":%q}`, ca.URL+"/nonce", ca.URL+"/account", ca.URL+"/orders")
	case "/account":
		ca.asked.Add(1)
		if ca.gives == nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:unauthorized","detail":"not you","status":403}`)
			return
		}
		w.Header().Set("Location", ca.URL+"/account/1")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"status":"valid"}`)
	case "/orders":
		ca.orders.Add(1)
		w.WriteHeader(http.StatusCreated)
		order("pending")
	case "/authorization":
		fmt.Fprint(w, `{"status":"valid","identifier":{"type":"dns","value":"a.example"},"challenges":[]}`)
	case "/finalize":
		var body, claims map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		payload, _ := base64.RawURLEncoding.DecodeString(body["payload"].(string))
		_ = json.Unmarshal(payload, &claims)
		der, _ := base64.RawURLEncoding.DecodeString(claims["csr"].(string))
		request, err := x509.ParseCertificateRequest(der)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		chain := ca.gives(request)
		ca.chain.Store(&chain)
		order("valid")
	case "/certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, _ = w.Write(*ca.chain.Load())
	}
}

// asks starts a source that asks ca for a.example.
func (ca *wilfulCA) asks(t *testing.T) (*regtls.Source, *observer.ObservedLogs) {
	t.Helper()
	return ca.asksFrom(t, t.TempDir())
}

func (ca *wilfulCA) asksFrom(t *testing.T, dir string) (*regtls.Source, *observer.ObservedLogs) {
	t.Helper()
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate().Raw})
	s, logs := mustACME(t, regtls.ACMEOptions{Dir: dir, Hosts: []string{"a.example"}, Directory: ca.URL + "/directory", CA: root})
	if err := s.Start(true); err != nil {
		t.Fatal(err)
	}
	return s, logs
}

// A certificate that cannot be served is not, and a CA that gives out such is
// left alone like one that refuses: each one counts there.
func TestACertificateThatIsOfNoUseIsNotServedNorAskedForInHaste(t *testing.T) {
	issuing := newCA(t, "ca", nil)
	own := func(hosts ...string) func(*x509.CertificateRequest) []byte {
		return func(r *x509.CertificateRequest) []byte {
			return pemOf(sign(t, &x509.Certificate{
				NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 90), DNSNames: hosts,
			}, requested{public: r.PublicKey}, issuing))
		}
	}
	for name, tt := range map[string]struct {
		gives func(*x509.CertificateRequest) []byte
		want  string
	}{
		"another name": {own("b.example"), "is not for a.example"},
		"another key": {func(*x509.CertificateRequest) []byte {
			return pemOf(issuing.leaf(t, ecKey(t), time.Now().AddDate(0, 0, 90), "a.example"))
		}, "belong together"},
		"no name":       {own(), "is not for a.example"},
		"no PEM at all": {func(*x509.CertificateRequest) []byte { return []byte("sorry") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ca := newWilfulCA(t, tt.gives)
			s, _ := ca.asks(t)
			eventually(t, "the failure is told", func() bool { return s.States()[0].Problem != "" })
			state := s.States()[0]
			if !strings.Contains(state.Problem, tt.want) || s.Ready() == nil || ca.orders.Load() != 1 {
				t.Errorf("%+v after %d orders, want %q", state, ca.orders.Load(), tt.want)
			}
			if in := time.Until(state.Next); in < 30*time.Second {
				t.Errorf("asked again in %v", in)
			}
		})
	}
	ca, dir := newWilfulCA(t, own("a.example")), t.TempDir()
	s, _ := ca.asksFrom(t, dir)
	eventually(t, "one that is of use is served", func() bool { return s.Ready() == nil })
	// Whether it can be kept was found out with as much as a certificate takes.
	kept, err := os.Stat(filepath.Join(dir, regtls.CertKey(ca.URL+"/directory", "a.example")))
	if err != nil {
		t.Fatal(err)
	}
	if probe, err := os.Stat(filepath.Join(dir, "writable")); err != nil || probe.Size() < 2*kept.Size() {
		t.Errorf("tried with %v (%v), and a certificate takes %d bytes", probe, err, kept.Size())
	}
}

// requested is the key of a request, to sign a certificate for.
type requested struct {
	crypto.Signer
	public crypto.PublicKey
}

func (r requested) Public() crypto.PublicKey { return r.public }

// Whoever reloads again and again for other reasons does not use up what a CA
// allows to be tried in vain.
func TestReloadsDoNotHammerACAThatRefuses(t *testing.T) {
	ca := newWilfulCA(t, nil)
	s, logs := ca.asks(t)
	eventually(t, "the refusal is told", func() bool { return s.States()[0].Problem != "" })
	for range 20 {
		before := logs.Len()
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(200 * time.Millisecond); logs.Len() == before && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
	}
	if n := ca.asked.Load(); n < 2 || n > 1+regtls.AskedTries {
		t.Errorf("asked %d times, want once and for %d of the reloads", n, regtls.AskedTries)
	}
	if next := s.States()[0].Next; !next.After(time.Now()) {
		t.Errorf("the next try of its own accord is at %v", next)
	}
}

// A certificate that is due for renewal as it arrives, for a clock that is wrong
// or a CA that suggests so, is not renewed every minute.
func TestWhatIsDueAsItArrivesIsRenewedLessAndLessOften(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		lifetime time.Duration
		soon     int
		want     time.Duration
	}{
		{90 * day, 0, 0},
		{90 * day, 1, time.Minute},
		{90 * day, 2, 5 * time.Minute},
		{90 * day, 70, 6 * time.Hour},
		{16 * time.Second, 3, 2 * time.Second},
	} {
		if got := regtls.Rest(tt.lifetime, tt.soon); got != tt.want {
			t.Errorf("%v, after %d: rests %v, want %v", tt.lifetime, tt.soon, got, tt.want)
		}
	}
}

// Short ones of a CA that gives them out at their end come less and less often.
func TestAShortCertificateThatIsDueAsItArrivesIsTold(t *testing.T) {
	issuing := newCA(t, "ca", nil)
	ca := newWilfulCA(t, func(r *x509.CertificateRequest) []byte {
		return pemOf(sign(t, &x509.Certificate{
			NotBefore: time.Now().Add(-2 * time.Second), NotAfter: time.Now(), DNSNames: []string{"a.example"},
		}, requested{public: r.PublicKey}, issuing))
	})
	_, logs := ca.asks(t)
	eventually(t, "it is told", func() bool {
		return logs.FilterMessageSnippet("certificate for a.example is due for renewal as it arrives, again and again: is the clock here right").Len() > 0
	})
}
