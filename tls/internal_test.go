package tls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	regtls "github.com/regward/regward/tls"
)

func mustInternal(t testing.TB, dir string, hosts ...string) *regtls.Source {
	t.Helper()
	s, err := regtls.Internal(dir, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func trusting(t testing.TB, ca []byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("no CA in %q", ca)
	}
	return pool
}

func listDir(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = info.Mode().String()
	}
	return got
}

func TestX02_InternalServesNamesAndAddresses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state") // made on first use
	s := mustInternal(t, dir, "registry.example.com:8443", "localhost", "127.0.0.1", "[::1]:443", "localhost")
	address := listen(t, s.Config(tls.VersionTLS12))
	pool := trusting(t, s.CA())
	for name, ok := range map[string]bool{
		"registry.example.com": true, "localhost": true, "127.0.0.1": true, "::1": true,
		"else.example": false, "127.0.0.2": false,
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			_, err := shake(address, &tls.Config{ServerName: name, RootCAs: pool, MaxVersion: version})
			if (err == nil) != ok {
				t.Errorf("%s, %x: got %v, want ok %v", name, version, err, ok)
			}
		}
	}
	if diff := cmp.Diff(map[string]string{"internal-ca.key": "-rw-------", "internal-ca.pem": "-rw-r--r--"}, listDir(t, dir)); diff != "" {
		t.Errorf("in state_dir: -want +got\n%s", diff)
	}
	leaf := s.InUse().Leaf
	if life := time.Until(leaf.NotAfter); life > 90*24*time.Hour || life < 89*24*time.Hour {
		t.Errorf("a certificate of %v", life)
	}
	if leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
		t.Errorf("CA %v, usage %v: may do more than serve", leaf.IsCA, leaf.ExtKeyUsage)
	}
	ca, err := x509.ParseCertificate(s.InUse().Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*x509.Certificate{leaf, ca} {
		if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("%s: key is %T, want P-256", c.Subject, c.PublicKey)
		}
	}
	if years := time.Until(ca.NotAfter).Hours() / 24 / 365; !ca.IsCA || !ca.MaxPathLenZero || years < 9.9 || years > 10 {
		t.Errorf("CA %v, no CA below it %v, %v years", ca.IsCA, ca.MaxPathLenZero, years)
	}
}

func TestTheCAStays(t *testing.T) {
	dir := t.TempDir()
	first, second := mustInternal(t, dir, host), mustInternal(t, dir, "other.example")
	if string(first.CA()) != string(second.CA()) {
		t.Error("a restart made another CA")
	}
	if another := mustInternal(t, t.TempDir(), host); string(another.CA()) == string(first.CA()) {
		t.Error("two state_dirs have one CA")
	}
	address := listen(t, second.Config(tls.VersionTLS12))
	if _, err := shake(address, &tls.Config{ServerName: "other.example", RootCAs: trusting(t, first.CA())}); err != nil {
		t.Error(err)
	}
}

func TestManyStartedAtOnceHaveOneCA(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		cas := make([]string, 16)
		begin := make(chan struct{})
		var wg sync.WaitGroup
		for i := range cas {
			wg.Go(func() {
				<-begin
				s, err := regtls.Internal(dir, host)
				if err != nil {
					t.Error(err)
					return
				}
				cas[i] = string(s.CA())
			})
		}
		close(begin)
		wg.Wait()
		slices.Sort(cas)
		if n := len(slices.Compact(cas)); n != 1 {
			t.Errorf("%d CAs", n)
		}
		if got := listDir(t, dir); len(got) != 2 {
			t.Errorf("left behind: %v", got)
		}
	}
}

func TestACrashAfterTheKeyDoesNoHarm(t *testing.T) {
	dir := t.TempDir()
	before := mustInternal(t, dir, host)
	if err := os.Remove(filepath.Join(dir, "internal-ca.pem")); err != nil {
		t.Fatal(err)
	}
	after := mustInternal(t, dir, host)
	// Same key, same name: who trusts the old file trusts the new one.
	address := listen(t, after.Config(tls.VersionTLS12))
	if _, err := shake(address, &tls.Config{ServerName: host, RootCAs: trusting(t, before.CA())}); err != nil {
		t.Error(err)
	}
}

func TestABrokenCAIsNeverReplaced(t *testing.T) {
	other := t.TempDir()
	mustInternal(t, other, host)
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	notCA := newCA(t, "root", nil)
	key := ecKey(t)
	for _, tt := range []struct {
		name  string
		files map[string][]byte // nil: removed
		want  string            // DIR stands for the folder
	}{
		{"key gone", map[string][]byte{"internal-ca.key": nil},
			"DIR/internal-ca.pem is there, but its key internal-ca.key is not; bring the key back, or remove both for a new CA that every client must then trust"},
		{"another's key", map[string][]byte{"internal-ca.key": read("internal-ca.key")},
			"DIR/internal-ca.pem and internal-ca.key do not belong together; bring back the file that belongs to the CA your clients trust"},
		{"another's certificate", map[string][]byte{"internal-ca.pem": read("internal-ca.pem")},
			"DIR/internal-ca.pem and internal-ca.key do not belong together; bring back the file that belongs to the CA your clients trust"},
		{"empty key", map[string][]byte{"internal-ca.key": {}}, "DIR/internal-ca.key is empty"},
		{"half a key", map[string][]byte{"internal-ca.key": read("internal-ca.key")[:100]},
			"DIR/internal-ca.key ends in the middle of a key: is it still being written?"},
		{"RSA key", map[string][]byte{"internal-ca.key": keyPEM(t, rsaKey(t))}, "DIR/internal-ca.key holds a *rsa.PrivateKey, not the ECDSA key of the internal CA"},
		{"empty certificate", map[string][]byte{"internal-ca.pem": {}}, "DIR/internal-ca.pem is empty"},
		{"a certificate of no CA", map[string][]byte{"internal-ca.pem": pemOf(notCA.leaf(t, key, time.Now().AddDate(1, 0, 0), host)), "internal-ca.key": keyPEM(t, key)},
			"DIR/internal-ca.pem is the certificate of no CA"},
	} {
		dir := t.TempDir()
		mustInternal(t, dir, host)
		for name, content := range tt.files {
			path := filepath.Join(dir, name)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if content != nil {
				write(t, path, content)
			}
		}
		before := listDir(t, dir)
		_, err := regtls.Internal(dir, host)
		if want := strings.ReplaceAll(tt.want, "DIR", dir); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", tt.name, err, want)
		}
		if diff := cmp.Diff(before, listDir(t, dir)); diff != "" {
			t.Errorf("%s: the folder changed: -want +got\n%s", tt.name, diff)
		}
		for name, content := range tt.files {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err == nil && string(got) != string(content) {
				t.Errorf("%s: %s was written", tt.name, name)
			}
		}
	}
}

func TestNoPlaceForTheCA(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, nil)
	if _, err := regtls.Internal(filepath.Join(file, "state"), host); err == nil || !strings.HasPrefix(err.Error(), "no place for the internal CA: ") {
		t.Errorf("got %v", err)
	}
	for _, hosts := range [][]string{nil, {""}} {
		if _, err := regtls.Internal(t.TempDir(), hosts...); err == nil || err.Error() != "no hostname to make a certificate for" {
			t.Errorf("%q: got %v", hosts, err)
		}
	}
}

func TestReloadOfInternalTakesNewHosts(t *testing.T) {
	s := mustInternal(t, t.TempDir(), "a.example", "b.example")
	address := listen(t, s.Config(tls.VersionTLS12))
	client := &tls.Config{ServerName: "c.example", RootCAs: trusting(t, s.CA())}
	before := s.InUse()
	for _, same := range [][]string{nil, {"a.example", "b.example"}, {"a.example:443", "b.example"}} {
		if err := s.Reload(same...); err != nil || s.InUse() != before {
			t.Errorf("reload for %q does something (%v)", same, err)
		}
	}
	if got := s.Problems([]string{"a.example", "c.example"}, time.Now()); len(got) != 1 ||
		got[0] != "the certificate of the internal CA does not cover c.example; it is for a.example and b.example" {
		t.Errorf("problems: %q", got)
	}
	if err := s.Reload("a.example", "c.example"); err != nil {
		t.Fatal(err)
	}
	if _, err := shake(address, client); err != nil {
		t.Error(err)
	}
	before = s.InUse()
	if err := s.Reload("d.example", "übel.example"); err == nil || s.InUse() != before ||
		!strings.HasPrefix(err.Error(), "no certificate for d.example and übel.example: ") {
		t.Errorf("a name no certificate can hold: %v", err)
	}
	if got := slices.Sorted(func(yield func(string) bool) {
		for name := range s.Expiry() {
			if !yield(name) {
				return
			}
		}
	}); !slices.Equal(got, []string{"a.example", "c.example"}) {
		t.Errorf("expiry of %q", got)
	}
}

func TestInternalRenewsItself(t *testing.T) {
	const day = 24 * time.Hour
	var mu sync.Mutex
	now := time.Now()
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	pass := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }

	s, err := regtls.InternalAt(clock, t.TempDir(), host, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	address := listen(t, s.Config(tls.VersionTLS12))
	client := &tls.Config{ServerName: host, RootCAs: trusting(t, s.CA()), Time: clock}
	for _, tt := range []struct {
		pass    time.Duration
		renewed bool
	}{
		{0, false}, {59 * day, false}, {2 * day, true}, {time.Minute, false}, {59 * day, false}, {time.Minute + day, true},
		{300 * day, true}, // nobody called for long: not a handshake with an expired one
	} {
		before := s.InUse()
		pass(tt.pass)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if _, err := shake(address, client); err != nil && tt.pass < 90*day {
					t.Errorf("after %v: %v", tt.pass, err)
				}
			})
		}
		wg.Wait()
		if _, err := shake(address, client); err != nil {
			t.Errorf("after %v: %v", tt.pass, err)
		}
		if got := s.InUse() != before; got != tt.renewed {
			t.Errorf("after %v: renewed %v, want %v", tt.pass, got, tt.renewed)
		}
		if got := s.Problems([]string{host}, clock()); got != nil {
			t.Errorf("after %v: %q", tt.pass, got)
		}
	}
}

func TestTheEndOfTheCA(t *testing.T) {
	const day = 24 * time.Hour
	made := time.Now()
	end := made.Add(3650 * day).Truncate(time.Second)
	dir := t.TempDir()
	mustInternal(t, dir, host)
	for _, tt := range []struct {
		left   time.Duration
		cut    bool // the certificate ends with its CA
		stage  string
		begins string
	}{
		{100 * day, false, "", ""},
		{40 * day, true, "", ""},
		{7 * day, true, "the internal CA (", " expires in 7 days, on "},
		{-day, false, "the internal CA (", " expired on "},
	} {
		now := end.Add(-tt.left)
		s, err := regtls.InternalAt(func() time.Time { return now }, dir, host)
		if err != nil {
			t.Errorf("%v left: does not start: %v", tt.left, err)
			continue
		}
		if got := s.InUse().Leaf.NotAfter.Sub(end).Abs() < time.Minute; got != tt.cut {
			t.Errorf("%v left: ends %v, CA %v", tt.left, s.InUse().Leaf.NotAfter, end)
		}
		got := s.Problems([]string{host}, now)
		if tt.stage == "" && got != nil || tt.stage != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.stage) || !strings.Contains(got[0], tt.begins)) {
			t.Errorf("%v left: problems %q", tt.left, got)
		}
		before := s.InUse()
		for range 3 { // not a new one at every handshake
			if _, err := s.Config(0).GetCertificate(nil); err != nil {
				t.Error(err)
			}
		}
		if s.InUse() != before {
			t.Errorf("%v left: renewed at a handshake", tt.left)
		}
	}
}

func TestAKeyOthersMayReadIsToldOf(t *testing.T) {
	dir := t.TempDir()
	s := mustInternal(t, dir, host)
	key := filepath.Join(dir, "internal-ca.key")
	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	want := []string{key + " may be read by others, who can then speak for any host to your clients; run: chmod 600 " + key}
	if diff := cmp.Diff(want, s.Problems([]string{host}, time.Now())); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
