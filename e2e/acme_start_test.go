package e2e

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A CA that is gone and one that takes connections and says nothing are
// different to wait for: neither is waited for.
func TestAStartWithAStoredCertificateDoesNotWaitForTheCA(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	was := a.serial(t, theHost)
	for _, tt := range []struct {
		name string
		gone func() (back func())
	}{
		{"silent", func() func() { return ca.silence(t) }},
		{"gone", func() func() { ca.line.cut(); return func() { ca.line.mend(t) } }},
	} {
		for _, crash := range []bool{false, true} {
			back := tt.gone()
			begin := time.Now()
			a.again(t, crash) // and is ready within half a minute
			if now := a.serial(t, theHost); now != was {
				t.Errorf("%s: another certificate", tt.name)
			}
			t.Logf("CA %s, crash %v: serves after %v", tt.name, crash, time.Since(begin).Round(time.Millisecond))
			back()
		}
	}
	if n := ca.orders(); n != 1 {
		t.Errorf("the CA has %d orders, want the first", n)
	}
}

func TestAStartWithoutACertificateSaysSoAndServesOnceItArrives(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	a := newAsking(t, u.config)
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	ca.line.cut()
	a.asks(t, ca, []string{theHost})
	a.begin(t)
	a.says(t, "no certificate for "+theHost+" yet")
	a.says(t, "certificate for "+theHost+" not obtained: ", ca.line.at, "connection refused")
	status, body, err := a.readyz()
	if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, theHost) {
		t.Errorf("/readyz: %d %q, %v; want 503 and the name", status, body, err)
	}
	if r, err := http.Get(a.health + "/healthz"); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %v, %v: it lives", r, err)
	} else {
		r.Body.Close()
	}
	if _, err := a.showsBy(&tls.Config{ServerName: theHost, InsecureSkipVerify: true}); err == nil {
		t.Error("it shows a certificate that it does not have")
	}
	ca.line.mend(t)
	a.has(t, theHost)
	eventually(t, "it is ready", time.Minute, a.ready)
	a.says(t, "certificate for "+theHost+" obtained")
	a.pulls(t, theHost, "library/hello:1", a.transport(t))
}

// G10: whatever kill -9 breaks off, what is on the disk is whole, and the next
// start goes on from there. Until the first certificate is there every start
// asks again; after it none does.
func TestKillsDuringTheFirstIssueLeaveNothingHalf(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	hosts := []string{theHost, "docker.example.test"}
	a.asks(t, ca, hosts)
	const kills = 20
	for i := range kills {
		a.begin(t)
		a.answersHealth(t)
		time.Sleep(time.Duration(rand.Int64N(int64(1500 * time.Millisecond)))) // the moment is the test's subject
		a.proc.kill()
		a.nothingHalf(t, fmt.Sprintf("kill %d", i+1))
	}
	a.issued(t, hosts...)
	a.nothingHalf(t, "in the end")
	if n := ca.orders(); n > len(hosts)*(kills+1) {
		t.Errorf("%d orders of %d starts", n, kills+1)
	} else {
		t.Logf("%d orders, %d accounts of %d starts", n, ca.accounts(), kills+1)
	}
	if n := ca.accounts(); n > 5 {
		t.Errorf("%d accounts", n)
	}
	had := ca.orders()
	a.again(t, true)
	if n := ca.orders(); n != had {
		t.Errorf("a start with certificates ordered %d more", n-had)
	}
}

// Here every start has a certificate to serve and one to write: the CA wants
// each replaced at once.
func TestKillsDuringRenewalsLoseNoCertificate(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	const kills = 20
	for i := range kills {
		shown, err := a.shows(theHost)
		if err != nil {
			t.Fatal(err)
		}
		ca.suggests(t, shown)
		time.Sleep(time.Duration(rand.Int64N(int64(1500 * time.Millisecond)))) // the moment is the test's subject
		a.proc.kill()
		what := fmt.Sprintf("kill %d", i+1)
		a.nothingHalf(t, what)
		a.begin(t)
		eventually(t, what+": it is ready", 30*time.Second, a.ready)
		now, err := a.shows(theHost)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if now.NotAfter.Before(shown.NotAfter) {
			t.Errorf("%s: it shows an older certificate than before", what)
		}
	}
	n := ca.orders()
	t.Logf("%d orders of %d starts", n, kills+1)
	if n < 3 || n > kills+2 {
		t.Errorf("%d orders of %d starts, each of which was to renew", n, kills+1)
	}
}

// A stored certificate that somebody has cut short, or put another's key to, is
// told and replaced.
func TestAStoredCertificateThatIsBrokenIsReplaced(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	was := a.serial(t, theHost)
	file := a.storedFile(t)
	a.proc.kill()
	whole := readFile(t, file)
	replaceFile(t, file, whole[:len(whole)/2])
	a.begin(t)
	a.says(t, "stored certificate for "+theHost+" not used: ", file)
	a.has(t, theHost)
	if a.serial(t, theHost) == was {
		t.Error("it shows what was broken")
	}
	if _, err := tls.LoadX509KeyPair(file, file); err != nil {
		t.Errorf("the file is not replaced: %v", err)
	}
}

// storedFile is where the only certificate is.
func (a *asking) storedFile(t testing.TB) (found string) {
	t.Helper()
	for file := range filesBelow(t, filepath.Join(a.dir, "state")) {
		if strings.Contains(file, "/certificates/") {
			found = file
		}
	}
	if found == "" {
		t.Fatal("no certificate is stored")
	}
	return found
}

// What cannot be kept is served all the same, and the CA is not asked for
// another one.
func TestACertificateThatCannotBeKeptIsServedAndTold(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http})
	a.asks(t, ca, []string{theHost}, "acme_email: ops@example.test")
	folder := filepath.Join(a.dir, "state", "acme")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	replaceFile(t, filepath.Join(folder, "certificates"), "where the folder should be")
	a.issued(t, theHost)
	a.says(t, "certificate for "+theHost, "not kept", "certificates")
	if n := ca.orders(); n > 2 { // the first challenge may have been the one that nobody answers
		t.Errorf("%d orders", n)
	}
}

// answersHealth waits until the program runs, whatever it waits for itself.
func (a *asking) answersHealth(t testing.TB) {
	t.Helper()
	eventually(t, "the program answers probes", 30*time.Second, func() error {
		if err := a.proc.gone(); err != nil {
			return err
		}
		r, err := http.Get(a.health + "/healthz")
		if err == nil {
			r.Body.Close()
		}
		return err
	})
}

// nothingHalf reads all that is kept: PEM to its end, JSON to its end, no key
// that others may read, and pairs that belong together.
func (a *asking) nothingHalf(t testing.TB, when string) {
	t.Helper()
	for file, info := range filesBelow(t, filepath.Join(a.dir, "state")) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		switch filepath.Ext(file) {
		case ".pem", ".crt", ".key":
			block, rest := pem.Decode(b)
			for block != nil && len(rest) > 0 {
				block, rest = pem.Decode(rest)
			}
			if block == nil {
				t.Errorf("%s: %s is half: %d bytes", when, file, len(b))
			}
			if _, err := tls.X509KeyPair(b, b); strings.Contains(file, "/certificates/") && err != nil {
				t.Errorf("%s: %s: %v", when, file, err)
			}
		case ".json":
			if !json.Valid(b) {
				t.Errorf("%s: %s is half: %d bytes", when, file, len(b))
			}
		}
		if filepath.Ext(file) != ".json" && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: others may read %s: %v", when, file, info.Mode())
		}
	}
}

// filesBelow are the files in dir and its folders.
func filesBelow(t testing.TB, dir string) iter.Seq2[string, fs.FileInfo] {
	t.Helper()
	return func(yield func(string, fs.FileInfo) bool) {
		err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if !yield(file, info) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}
