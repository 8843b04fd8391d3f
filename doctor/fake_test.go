package doctor_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regward/regward/doctor"
)

// host is the registry of the tests. It is found at loopback.
const host = "registry.example"

const password = `pass word+"secret"`

// fake is a registry with a token service that is right in every way, until a
// test breaks one thing.
type fake struct {
	now      time.Time
	leaf     *x509.Certificate // template; nil: plain HTTP
	sent     []int             // which of leaf, intermediate, root are sent
	versions [2]uint16
	clients  tls.ClientAuthType

	challenge []string // fields; HOST becomes host:port
	ping      http.HandlerFunc
	realm     http.HandlerFunc
	upload    http.HandlerFunc // of POST
	patch     http.HandlerFunc
	post      int              // the realm's answer to POST; 0: 404
	other     http.HandlerFunc // all paths but the ping, before a token is asked for
	rights    []string
	opaque    bool
	basic     bool
	deletes   bool // cancelling an upload needs the right to delete, as at distribution

	mu   sync.Mutex
	seen []string // METHOD PATH AUTHORIZATION
	host string   // host:port
	ca   *x509.Certificate
}

func newFake() *fake {
	now := time.Now().Truncate(time.Second) // as a Date has it
	return &fake{
		now: now, sent: []int{0, 1}, rights: []string{"pull", "push", "delete"},
		leaf: &x509.Certificate{
			SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			NotBefore:   now.Add(-24 * time.Hour), NotAfter: now.Add(90 * 24 * time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		},
		challenge: []string{`Bearer realm="https://HOST/token",service="registry"`},
	}
}

func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.seen)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
	f.mu.Unlock()
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if w.Header().Get("Date") == "" {
		w.Header().Set("Date", f.now.UTC().Format(http.TimeFormat))
	}
	switch {
	case r.URL.Path == "/token" && r.Method == http.MethodPost:
		w.WriteHeader(cmp.Or(f.post, http.StatusNotFound))
	case r.URL.Path == "/token" && f.realm != nil:
		f.realm(w, r)
	case r.URL.Path == "/token":
		f.giveToken(w, r)
	case r.URL.Path == "/v2/" && f.ping != nil:
		f.ping(w, r)
	case f.other != nil && r.URL.Path != "/v2/":
		f.other(w, r)
	case !f.knows(r):
		for _, c := range f.challenge {
			w.Header().Add("Www-Authenticate", strings.ReplaceAll(c, "HOST", f.host))
		}
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == "/v2/":
		io.WriteString(w, "{}")
	default:
		f.serve(w, r)
	}
}

func (f *fake) knows(r *http.Request) bool {
	user, given, ok := r.BasicAuth()
	if f.basic && ok {
		return user == "ann" && given == password
	}
	return strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ")
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	const place = "/v2/coolteam/app/blobs/uploads/"
	switch {
	case strings.HasSuffix(r.URL.Path, "/tags/list"):
		if !slices.Contains(f.rights, "pull") {
			w.WriteHeader(http.StatusForbidden)
		}
	case r.Method == http.MethodPost && f.upload != nil:
		f.upload(w, r)
	case r.Method == http.MethodPost && !slices.Contains(f.rights, "push"):
		w.WriteHeader(http.StatusForbidden)
	case r.Method == http.MethodPost:
		w.Header().Set("Location", place+"1?_state=x")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPatch && f.patch != nil:
		f.patch(w, r)
	case r.Method == http.MethodPatch:
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", place+"1?_state=y")
		w.Header().Set("Range", fmt.Sprintf("0-%d", n-1))
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodDelete && f.deletes && !mayDelete(r):
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func mayDelete(r *http.Request) bool {
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), ".")
	payload, _, _ := strings.Cut(token, ".")
	claims, _ := base64.RawURLEncoding.DecodeString(payload)
	return bytes.Contains(claims, []byte(`"delete"`))
}

func (f *fake) giveToken(w http.ResponseWriter, r *http.Request) {
	if user, given, ok := r.BasicAuth(); ok && (user != "ann" || given != password) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	access := []map[string]any{}
	if scope := strings.Split(r.URL.Query().Get("scope"), ":"); len(scope) == 3 && len(f.rights) > 0 {
		asked := strings.Split(scope[2], ",")
		actions := slices.DeleteFunc(slices.Clone(f.rights), func(a string) bool { return !slices.Contains(asked, a) })
		access = append(access, map[string]any{"type": scope[0], "name": scope[1], "actions": actions})
	}
	claims, _ := json.Marshal(map[string]any{"access": access})
	token := "h." + base64.RawURLEncoding.EncodeToString(claims) + ".s"
	if f.opaque {
		token = "opaque"
	}
	json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
}

// start serves f on loopback and returns options that find it.
func (f *fake) start(t testing.TB) doctor.Options {
	t.Helper()
	server := httptest.NewUnstartedServer(f)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	scheme := "http"
	if f.leaf != nil {
		scheme = "https"
		server.TLS = &tls.Config{Certificates: []tls.Certificate{f.certificate(t)}, MinVersion: f.versions[0], MaxVersion: f.versions[1], ClientAuth: f.clients}
		server.StartTLS()
	} else {
		server.Start()
	}
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	f.host = host + ":" + port
	return f.options(t, scheme+"://"+f.host)
}

func (f *fake) options(t testing.TB, url string) doctor.Options {
	t.Helper()
	target, err := doctor.ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	o := doctor.Options{
		Target: target, User: "ann", Password: password, Repository: "coolteam/app",
		Now:  func() time.Time { return f.now },
		Step: time.Minute, Transfer: time.Minute, // the machine is busy
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
	}
	if f.ca != nil {
		o.CA = []*x509.Certificate{f.ca}
	}
	return o
}

// certificate makes root, intermediate and leaf.
func (f *fake) certificate(t testing.TB) tls.Certificate {
	t.Helper()
	var chain [3][]byte
	var keys [3]*ecdsa.PrivateKey
	authority := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: f.now.Add(-1000 * time.Hour), NotAfter: f.now.Add(10000 * time.Hour),
		}
	}
	templates := [3]*x509.Certificate{f.leaf, authority("between", 2), authority("root", 1)}
	for i := 2; i >= 0; i-- {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = key
		parent := min(i+1, 2)
		if chain[i], err = x509.CreateCertificate(rand.Reader, templates[i], templates[parent], &key.PublicKey, keys[parent]); err != nil {
			t.Fatal(err)
		}
	}
	root, err := x509.ParseCertificate(chain[2])
	if err != nil {
		t.Fatal(err)
	}
	f.ca = root
	pair := tls.Certificate{PrivateKey: keys[0]}
	for _, i := range f.sent {
		pair.Certificate = append(pair.Certificate, chain[i])
	}
	return pair
}

// wrong are the problems and warnings of a report, as "problem C05".
func wrong(r doctor.Report) []string {
	found := []string{}
	for _, f := range r.Findings {
		if f.Level == doctor.Problem || f.Level == doctor.Warning {
			found = append(found, string(f.Level)+" "+f.Check)
		}
	}
	return found
}

// words is a report as its reader has it.
func words(t testing.TB, r doctor.Report) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// says demands exactly these problems and warnings, each with a reason and a
// cure, and this text among them.
func says(t testing.TB, r doctor.Report, text string, want ...string) {
	t.Helper()
	all := words(t, r)
	if got := wrong(r); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q:\n%s", got, want, all)
	}
	for _, f := range r.Findings {
		if (f.Level == doctor.Problem || f.Level == doctor.Warning) && (f.What == "" || f.Why == "" || f.Fix == "") {
			t.Errorf("a finding that does not say what, why and what to do: %+v", f)
		}
	}
	plain := strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(all)
	if !strings.Contains(plain, text) {
		t.Errorf("it does not say %q:\n%s", text, all)
	}
	for _, secret := range []string{password, "pass+word", "pass word", base64.StdEncoding.EncodeToString([]byte("ann:" + password))} {
		if strings.Contains(all, secret) {
			t.Errorf("the report has the password:\n%s", all)
		}
	}
}
