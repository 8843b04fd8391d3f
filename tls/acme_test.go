package tls_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/regward/regward/internal/redistest"
	regtls "github.com/regward/regward/tls"
)

// nobody is a directory where nobody listens: these tests are about what is
// stored. Those with a CA are e2e's.
const nobody = "https://127.0.0.1:1/directory"

func acmeIn(dir string, hosts ...string) regtls.ACMEOptions {
	return regtls.ACMEOptions{Dir: dir, Hosts: hosts, Directory: nobody}
}

// stored puts a certificate for host where an earlier start would have.
func stored(t *testing.T, dir, directory, host string, ca *issuer, end time.Time) *x509.Certificate {
	t.Helper()
	key := ecKey(t)
	leaf := ca.leaf(t, key, end, host)
	f, err := regtls.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Store(background, regtls.CertKey(directory, host), append(keyPEM(t, key), pemOf(leaf, ca.cert)...)); err != nil {
		t.Fatal(err)
	}
	return leaf
}

func mustACME(t *testing.T, o regtls.ACMEOptions) (*regtls.Source, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	s, err := regtls.ACME(background, o, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, logs
}

// shown is the certificate that s shows to who asks for name.
func shown(t *testing.T, s *regtls.Source, name string) *x509.Certificate {
	t.Helper()
	cert, err := s.Config(tls.VersionTLS12).GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return cert.Leaf
}

func TestX02_EachNameIsShownItsOwnStoredCertificateAndStrangersTheFirst(t *testing.T) {
	dir, ca, end := t.TempDir(), newCA(t, "ca", nil), time.Now().AddDate(0, 2, 0)
	hosts := []string{"a.example", "b.example:8443", "192.0.2.7"}
	a, b := stored(t, dir, nobody, "a.example", ca, end), stored(t, dir, nobody, "b.example", ca, end)
	ip := stored(t, dir, nobody, "192.0.2.7", ca, end)
	s, _ := mustACME(t, acmeIn(dir, hosts...))
	for name, want := range map[string]*x509.Certificate{"a.example": a, "B.example": b, "b.example.": b, "": a, "stranger.example": a, "192.0.2.7": ip} {
		if got := shown(t, s, name); !got.Equal(want) {
			t.Errorf("%q is shown the certificate for %q", name, got.DNSNames)
		}
	}
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
	if got := len(s.Expiry()); got != 3 {
		t.Errorf("%d certificates end some day", got)
	}
	if got := s.Problems(hosts, time.Now()); got != nil {
		t.Errorf("problems: %q", got)
	}
	for _, chain := range []string{"a.example", "b.example"} {
		if cert, _ := s.Config(0).GetCertificate(&tls.ClientHelloInfo{ServerName: chain}); len(cert.Certificate) != 2 {
			t.Errorf("%s: %d certificates in the chain", chain, len(cert.Certificate))
		}
	}
	address := listen(t, s.Config(tls.VersionTLS12))
	if _, err := shake(address, &tls.Config{ServerName: "b.example", RootCAs: roots(ca.cert)}); err != nil {
		t.Errorf("handshake: %v", err)
	}
	if _, err := shake(address, &tls.Config{ServerName: "a.example", RootCAs: roots(ca.cert), NextProtos: []string{"acme-tls/1"}}); err == nil {
		t.Error("a challenge that nobody asked for was answered")
	}
}

func TestAStartWithoutACertificateSaysSo(t *testing.T) {
	s, _ := mustACME(t, acmeIn(t.TempDir(), "a.example"))
	const want = "no certificate for a.example yet: 127.0.0.1:1 is being asked for one; until it is there, connections fail"
	if err := s.Ready(); err == nil || err.Error() != want {
		t.Errorf("ready: got %v", err)
	}
	if got := s.Problems(nil, time.Now()); !cmp.Equal(got, []string{want}) {
		t.Errorf("problems: got %q", got)
	}
	if _, err := s.Config(0).GetCertificate(&tls.ClientHelloInfo{}); err == nil {
		t.Error("it shows one")
	}
	if got := s.States(); !cmp.Equal(got, []regtls.CertificateState{{Name: "a.example", Issuer: "127.0.0.1:1"}}) || len(s.Expiry()) != 0 {
		t.Errorf("states: %+v, %v", got, s.Expiry())
	}
}

// eventually waits for what happens by itself.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 seconds: %s", what)
		}
	}
}

func TestACAThatIsAwayIsToldAndTriedAgain(t *testing.T) {
	dir := t.TempDir()
	leaf := stored(t, dir, nobody, "old.example", newCA(t, "ca", nil), time.Now().Add(-24*time.Hour))
	s, logs := mustACME(t, acmeIn(dir, "old.example", "new.example"))
	if err := s.Start(true); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(true); err != nil { // a second time changes nothing
		t.Fatal(err)
	}
	said := func(level, start string) bool {
		return slices.ContainsFunc(logs.All(), func(e observer.LoggedEntry) bool {
			return e.Level.String() == level && strings.HasPrefix(e.Message, start) && strings.Contains(e.Message, "https://127.0.0.1:1/directory cannot be reached") &&
				strings.Contains(e.Message, "; trying again in ")
		})
	}
	eventually(t, "both failures are told", func() bool {
		return said("error", "certificate for old.example not renewed: ") && said("error", "certificate for new.example not obtained: ")
	})
	if n := logs.Len(); n > 2 {
		t.Errorf("certmagic speaks too: %v", logs.All())
	}
	if got := shown(t, s, "old.example"); !got.Equal(leaf) {
		t.Error("an expired certificate is not shown")
	}
	problems := strings.Join(s.Problems(nil, time.Now()), "\n")
	for _, want := range []string{
		"certificate for old.example (127.0.0.1:1) expired on ", ", and could not be renewed: https://127.0.0.1:1/directory cannot be reached", ": clients refuse it",
		"no certificate for new.example yet: https://127.0.0.1:1/directory cannot be reached", "; until it is there, another one is shown",
	} {
		if !strings.Contains(problems, want) {
			t.Errorf("problems are %q, want %q", problems, want)
		}
	}
	if state := s.States()[1]; state.Problem == "" || state.Next.Before(time.Now()) {
		t.Errorf("state: %+v", state)
	}
	before := logs.Len()
	if err := s.Reload(); err != nil { // somebody has mended something
		t.Fatal(err)
	}
	eventually(t, "a reload tries again", func() bool { return logs.Len() > before+1 })
	s.Close()
	s.Close()
	if !shown(t, s, "old.example").Equal(leaf) {
		t.Error("after Close nothing is shown")
	}
}

func TestAChangeOfTheDirectoryInterruptsNothing(t *testing.T) {
	dir, ca := t.TempDir(), newCA(t, "ca", nil)
	long := stored(t, dir, "https://other.example/dir", "a.example", ca, time.Now().AddDate(1, 0, 0))
	s, _ := mustACME(t, acmeIn(dir, "a.example"))
	if !shown(t, s, "a.example").Equal(long) {
		t.Error("what another CA gave is not shown")
	}
	if got := s.Problems(nil, time.Now()); len(got) != 1 || !strings.Contains(got[0], "comes from other.example-dir, not from 127.0.0.1:1, which is being asked for one") {
		t.Errorf("problems: %q", got)
	}
	short := stored(t, dir, nobody, "a.example", ca, time.Now().AddDate(0, 1, 0))
	s, _ = mustACME(t, acmeIn(dir, "a.example"))
	if !shown(t, s, "a.example").Equal(short) {
		t.Error("the one of the directory in force is not preferred")
	}
}

// A CA that has revoked what it gave gives another, and may have changed its mind
// about how long it lives.
func TestTheCertificateThatWasIssuedLastIsShown(t *testing.T) {
	server, dir, ca := redistest.Start(t), t.TempDir(), newCA(t, "ca", nil)
	stored(t, dir, nobody, "a.example", ca, time.Now().AddDate(0, 6, 0))
	key := ecKey(t)
	last := sign(t, &x509.Certificate{DNSNames: []string{"a.example"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(0, 0, 6)}, key, ca)
	o := acmeIn(dir, "a.example")
	o.Storage = inRedis(t, server.Addr, randomKey())
	if err := o.Storage.Store(background, regtls.CertKey(nobody, "a.example"), append(keyPEM(t, key), pemOf(last)...)); err != nil {
		t.Fatal(err)
	}
	if s, _ := mustACME(t, o); !shown(t, s, "a.example").Equal(last) {
		t.Error("one that ends later is shown")
	}
}

func TestUntilTheFirstCertificateTheOneOfBeforeIsShown(t *testing.T) {
	internal, err := regtls.Internal(t.TempDir(), "a.example")
	if err != nil {
		t.Fatal(err)
	}
	o := acmeIn(t.TempDir(), "a.example")
	o.Meanwhile = internal
	s, _ := mustACME(t, o)
	if !shown(t, s, "a.example").Equal(internal.InUse().Leaf) || s.Ready() != nil {
		t.Error("it is not")
	}
	o = acmeIn(t.TempDir(), "a.example")
	o.Meanwhile = s // which has none of its own either
	if next, _ := mustACME(t, o); !shown(t, next, "a.example").Equal(internal.InUse().Leaf) {
		t.Error("it is not, after one more reload")
	}
}

func TestWhatIsStoredInvalidIsToldAndReplaced(t *testing.T) {
	dir, ca := t.TempDir(), newCA(t, "ca", nil)
	stored(t, dir, nobody, "a.example", ca, time.Now().AddDate(0, 1, 0))
	file := filepath.Join(dir, filepath.FromSlash(regtls.CertKey(nobody, "a.example")))
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"half":       whole[:len(whole)-100],
		"empty":      {},
		"of another": append(keyPEM(t, ecKey(t)), pemOf(ca.leaf(t, ecKey(t), time.Now(), "a.example"))...),
		"for b.example": func() []byte {
			k := ecKey(t)
			return append(keyPEM(t, k), pemOf(ca.leaf(t, k, time.Now(), "b.example"))...)
		}(),
	} {
		write(t, file, content)
		s, logs := mustACME(t, acmeIn(dir, "a.example"))
		if s.Ready() == nil {
			t.Errorf("%s: it is shown", name)
		}
		if err := s.Start(false); err != nil {
			t.Fatal(err)
		}
		if told := logs.FilterLevelExact(zap.WarnLevel).All(); len(told) != 1 || !strings.HasPrefix(told[0].Message, "stored certificate for a.example not used: ") || !strings.Contains(told[0].Message, file) {
			t.Errorf("%s: %v", name, told)
		}
		s.Close()
	}
}

func TestACopyServesWhileRedisIsAwayAndFillsItAgain(t *testing.T) {
	server, dir, key := redistest.Start(t), t.TempDir(), randomKey()
	ca, host := newCA(t, "ca", nil), "a.example"
	old := stored(t, dir, nobody, host, ca, time.Now().AddDate(0, 2, 0))
	o := acmeIn(dir, host)
	o.Storage = inRedis(t, server.Addr, key)
	s, _ := mustACME(t, o)
	if err := s.Start(false); err != nil {
		t.Fatal(err)
	}
	at := regtls.CertKey(nobody, host)
	eventually(t, "an empty Redis is filled", func() bool { return o.Storage.Exists(background, at) })
	s.Close()

	// Another instance has renewed it.
	fresh := ecKey(t)
	renewed := ca.leaf(t, fresh, time.Now().AddDate(0, 3, 0), host)
	if err := o.Storage.Store(background, at, append(keyPEM(t, fresh), pemOf(renewed)...)); err != nil {
		t.Fatal(err)
	}
	s, _ = mustACME(t, o)
	if !shown(t, s, host).Equal(renewed) {
		t.Error("the newer one in Redis is not shown")
	}
	server.Kill()
	s, logs := mustACME(t, o)
	if !shown(t, s, host).Equal(old) {
		t.Error("the copy is not shown while Redis is away")
	}
	if err := s.Start(false); err != nil {
		t.Fatal(err)
	}
	if told := logs.FilterLevelExact(zap.WarnLevel).All(); len(told) != 1 || !strings.Contains(told[0].Message, "Redis cannot be asked") {
		t.Errorf("the log says %v", told)
	}
}

func TestOtherRequestsAreLeftToTheFallback(t *testing.T) {
	s, _ := mustACME(t, acmeIn(t.TempDir(), "a.example"))
	if err := s.Start(true); err != nil {
		t.Fatal(err)
	}
	h := s.HTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for _, url := range []string{
		"http://a.example/v2/", "http://a.example/.well-known/acme-challenge/unknown",
		"http://stranger.example/.well-known/acme-challenge/x", "http://[::1]:80/.well-known/acme-challenge/x",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil))
		if w.Code != http.StatusTeapot {
			t.Errorf("%s: %d", url, w.Code)
		}
	}
	files, err := regtls.Internal(t.TempDir(), "a.example")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	files.HTTPHandler(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://a.example/.well-known/acme-challenge/x", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("another mode: %d", w.Code)
	}
}

func TestACMERefusesWhatNoCACouldHelpWith(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	for name, o := range map[string]regtls.ACMEOptions{
		"no host": acmeIn(t.TempDir()),
		"no CA":   {Dir: t.TempDir(), Hosts: []string{"a.example"}, Directory: nobody, CA: []byte("x")},
		"no dir":  acmeIn(filepath.Join(file, "acme"), "a.example"),
	} {
		if _, err := regtls.ACME(background, o, zap.NewNop()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
