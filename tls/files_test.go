package tls_test

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	regtls "github.com/regward/regward/tls"
)

func TestABrokenPairIsRefusedInWords(t *testing.T) {
	root, key, other := newCA(t, "root", nil), ecKey(t), ecKey(t)
	end := time.Date(2126, 11, 28, 12, 0, 0, 0, time.UTC)
	leaf := root.leaf(t, key, end, host)
	cert, pk := pemOf(leaf), keyPEM(t, key)
	locked := []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
	damaged := bytes.Replace(pemOf(leaf), []byte("\nMII"), []byte("\nAAA"), 1)
	for _, tt := range []struct {
		name      string
		cert, key []byte // nil: no such file
		want      string // DIR stands for the folder
	}{
		{"another key", cert, keyPEM(t, other), "DIR/tls.crt and tls.key do not belong together"},
		{"another kind of key", cert, keyPEM(t, rsaKey(t)), "DIR/tls.crt and tls.key do not belong together"},
		{"no certificate file", nil, pk, "DIR/tls.crt cannot be read: no such file or directory"},
		{"no key file", cert, nil, "DIR/tls.key cannot be read: no such file or directory"},
		{"empty certificate", []byte{}, pk, "DIR/tls.crt is empty"},
		{"empty key", cert, []byte("\n"), "DIR/tls.key is empty"},
		{"half a certificate", cert[:len(cert)/2], pk, "DIR/tls.crt ends in the middle of a certificate: is it still being written?"},
		{"a chain and a half", append(pemOf(leaf), pemOf(root.cert)[:300]...), pk, "DIR/tls.crt ends in the middle of a certificate: is it still being written?"},
		{"half a key", cert, pk[:len(pk)/2], "DIR/tls.key ends in the middle of a key: is it still being written?"},
		{"DER", leaf.Raw, pk, `DIR/tls.crt holds no certificate in PEM form ("-----BEGIN CERTIFICATE-----")`},
		{"text for a key", cert, []byte("hunter2\n"), `DIR/tls.key holds no private key in PEM form ("-----BEGIN PRIVATE KEY-----")`},
		{"swapped", pk, cert, "DIR/tls.crt holds a private key and no certificate: are the two files swapped?"},
		{"certificate twice", cert, cert, "DIR/tls.key holds a certificate and no private key: are the two files swapped?"},
		{"locked key", cert, locked, "DIR/tls.key is locked with a passphrase: write it without one, readable by regward alone"},
		{"CA first", append(pemOf(root.cert), cert...), pk, "DIR/tls.crt begins with the certificate of root, and the one for the key is number 2 in it: put that first"},
		{"no key in the key", cert, []byte("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"), "DIR/tls.key holds no private key that can be used: "},
		{"damaged", damaged, pk, "DIR/tls.crt: certificate number 1 in it is damaged: "},
		{"huge", bytes.Repeat([]byte("x"), 1<<20+1), pk, "DIR/tls.crt is larger than 1 MiB: that is no certificate and no key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			certFile, keyFile := writePair(t, dir, cert, pk)
			s, err := regtls.Files(certFile, keyFile)
			if err != nil {
				t.Fatal(err)
			}
			before := s.InUse()
			for path, content := range map[string][]byte{certFile: tt.cert, keyFile: tt.key} {
				if content == nil {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
					continue
				}
				write(t, path, content)
			}
			want := strings.ReplaceAll(tt.want, "DIR", dir)

			if _, err := regtls.Files(certFile, keyFile); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("at the start: got %v, want %s", err, want)
			}
			const still = "; still serving the certificate that expires 2126-11-28" // M5
			err = s.Reload()
			if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), still) {
				t.Fatalf("reload: got %v, want %s%s", err, want, still)
			}
			if len(tt.key) > 100 && strings.Contains(err.Error(), string(tt.key[40:60])) {
				t.Errorf("the error repeats the key: %v", err)
			}
			if s.InUse() != before {
				t.Error("the pair in use changed")
			}
			if _, err := shake(listen(t, s.Config(tls.VersionTLS12)), &tls.Config{ServerName: host, RootCAs: roots(root.cert)}); err != nil {
				t.Errorf("no handshake after a broken reload: %v", err)
			}
			if got := s.Problems([]string{host}, time.Now()); !cmp.Equal(got, []string{err.Error()}) {
				t.Errorf("problems: got %q, want the error of the reload", got)
			}
			writePair(t, dir, cert, pk)
			if err := s.Reload(); err != nil {
				t.Errorf("repaired: %v", err)
			}
			if got := s.Problems([]string{host}, time.Now()); got != nil {
				t.Errorf("repaired: still %q", got)
			}
		})
	}
}

func TestM5_FilesInTwoFoldersAreToldWhole(t *testing.T) {
	root, a, b := newCA(t, "root", nil), t.TempDir(), t.TempDir()
	cert, key := filepath.Join(a, "x.pem"), filepath.Join(b, "y.pem")
	write(t, cert, pemOf(root.leaf(t, ecKey(t), time.Now(), host)))
	write(t, key, keyPEM(t, ecKey(t)))
	if _, err := regtls.Files(cert, key); err == nil || err.Error() != cert+" and "+key+" do not belong together" {
		t.Errorf("got %v", err)
	}
}

func TestOtherFormsOfAPair(t *testing.T) {
	root, key := newCA(t, "root", nil), ecKey(t)
	cert := pemOf(root.leaf(t, key, time.Now().AddDate(1, 0, 0), host))
	params := []byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n")
	for name, pair := range map[string][2][]byte{
		"words around it":        {append([]byte("subject=CN=x\n"), cert...), append([]byte("# key\n"), keyPEM(t, key)...)},
		"parameters first":       {cert, append(params, keyPEM(t, key)...)},
		"both files hold it all": {append(keyPEM(t, key), cert...), append(keyPEM(t, key), cert...)},
		"CRLF":                   {bytes.ReplaceAll(cert, []byte("\n"), []byte("\r\n")), keyPEM(t, key)},
	} {
		if _, err := regtls.Files(writePair(t, t.TempDir(), pair[0], pair[1])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReloadServesTheNewPair(t *testing.T) {
	root, dir, key := newCA(t, "root", nil), t.TempDir(), ecKey(t)
	first := root.leaf(t, key, time.Now().AddDate(0, 1, 0), host)
	s, err := regtls.Files(writePair(t, dir, pemOf(first), keyPEM(t, key)))
	if err != nil {
		t.Fatal(err)
	}
	address := listen(t, s.Config(tls.VersionTLS12))
	client := &tls.Config{ServerName: host, RootCAs: roots(root.cert)}

	before := s.InUse()
	writePair(t, dir, pemOf(first), keyPEM(t, key)) // touched, with the same content
	if err := s.Reload(); err != nil || s.InUse() != before {
		t.Errorf("nothing changed: reload does something (%v)", err)
	}

	key = rsaKey(t) // of another kind, even
	second := root.leaf(t, key, time.Now().AddDate(1, 0, 0), host)
	writePair(t, dir, pemOf(second), keyPEM(t, key))
	if err := s.Reload("ignored.example"); err != nil {
		t.Fatal(err)
	}
	state, err := shake(address, client)
	if err != nil || !state.PeerCertificates[0].Equal(second) {
		t.Errorf("a listener from before serves the old pair (%v)", err)
	}
	if got := s.Expiry()[host]; !got.Equal(second.NotAfter) {
		t.Errorf("expiry: got %v, want %v", got, second.NotAfter)
	}
}

// Kubernetes mounts a Secret as links into a folder behind a link, and swaps
// that one.
func TestAFolderSwappedByALink(t *testing.T) {
	root, mount := newCA(t, "root", nil), t.TempDir()
	version := func(name string, end time.Time) {
		dir := filepath.Join(mount, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		key := ecKey(t)
		writePair(t, dir, pemOf(root.leaf(t, key, end, host)), keyPEM(t, key))
		temp := filepath.Join(mount, "..data_tmp")
		if err := os.Symlink(name, temp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, filepath.Join(mount, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	end := time.Now().AddDate(0, 1, 0).Truncate(time.Second)
	version("..v1", end)
	for _, f := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", f), filepath.Join(mount, f)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := regtls.Files(filepath.Join(mount, "tls.crt"), filepath.Join(mount, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"..v2", "..v3"} {
		end = end.AddDate(i+1, 0, 0)
		version(name, end)
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := s.Expiry()[host]; !got.Equal(end) {
			t.Errorf("%s: expiry %v, want %v", name, got, end)
		}
	}
}

func TestM4_ProblemsOfAPair(t *testing.T) {
	const day = 24 * time.Hour
	end := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	root, key, dir := newCA(t, "root", nil), ecKey(t), t.TempDir()
	cert, keyFile := writePair(t, dir, pemOf(root.leaf(t, key, end, host, "*.hub.example", "10.1.2.3")), keyPEM(t, key))
	written := time.Date(2025, 11, 28, 9, 0, 0, 0, time.UTC)
	for _, f := range []string{cert, keyFile} {
		if err := os.Chtimes(f, written, written); err != nil {
			t.Fatal(err)
		}
	}
	s, err := regtls.Files(cert, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	of := "certificate for " + host + " (" + cert + ") "
	unchanged := ", and its file has not changed since 2025-11-28"
	cover := "the certificate in " + cert + " does not cover "
	for _, tt := range []struct {
		left  time.Duration
		hosts []string
		want  []string
	}{
		{31 * day, []string{host}, nil},
		{30 * day, []string{host}, []string{of + "expires in 30 days, on 2026-11-28 12:00 UTC" + unchanged}},
		{7 * day, []string{host}, []string{of + "expires in 7 days, on 2026-11-28 12:00 UTC" + unchanged}},
		{7*day - time.Minute, []string{host}, []string{of + "expires in 7 days, on 2026-11-28 12:00 UTC" + unchanged}},
		{day, []string{host}, []string{of + "expires in 1 day, on 2026-11-28 12:00 UTC" + unchanged}},
		{time.Hour, []string{host}, []string{of + "expires today, on 2026-11-28 12:00 UTC" + unchanged}},
		{-time.Hour, []string{host}, []string{of + "expired on 2026-11-28 12:00 UTC" + unchanged + ": clients refuse it"}},
		{400 * day, []string{host}, []string{of + "is not valid before 2025-11-28 12:00 UTC: is the clock right?"}},
		{99 * day, []string{"a.hub.example:8443", "10.1.2.3", "[10.1.2.3]:443"}, nil},
		{99 * day, []string{"registry.example.com", host, "x.a.hub.example", "10.1.2.4"}, []string{
			cover + "registry.example.com, x.a.hub.example and 10.1.2.4; it is for docker.acme.example, *.hub.example and 10.1.2.3",
		}},
	} {
		if diff := cmp.Diff(tt.want, s.Problems(tt.hosts, end.Add(-tt.left))); diff != "" {
			t.Errorf("%v before, %v: -want +got\n%s", tt.left, tt.hosts, diff)
		}
	}
}

func TestAnExpiredPairIsServed(t *testing.T) {
	root, key := newCA(t, "root", nil), ecKey(t)
	dir := t.TempDir()
	s, err := regtls.Files(writePair(t, dir, pemOf(root.leaf(t, key, time.Now().Add(-time.Hour), host)), keyPEM(t, key)))
	if err != nil {
		t.Fatalf("a restart with an expired pair does not start: %v", err)
	}
	if got := s.Problems([]string{host}, time.Now()); len(got) != 1 || !strings.Contains(got[0], " expired on ") {
		t.Errorf("got %q, want a loud one", got)
	}
	if _, err := shake(listen(t, s.Config(tls.VersionTLS12)), &tls.Config{ServerName: host, InsecureSkipVerify: true}); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(dir, "tls.key"), nil)
	if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "still serving the certificate that expired ") {
		t.Errorf("got %v", err)
	}
}

func TestProblemsOfAChain(t *testing.T) {
	root := newCA(t, "root", nil)
	middle, key := newCA(t, "middle", root), ecKey(t)
	leaf := middle.leaf(t, key, time.Now().AddDate(1, 0, 0), host)
	bare := root.leaf(t, key, time.Now().AddDate(1, 0, 0))
	for _, tt := range []struct {
		name, want string // FILE stands for the certificate's
		chain      []byte
	}{
		{"leaf alone", "", pemOf(leaf)},
		{"with its issuer", "", pemOf(leaf, middle.cert)},
		{"up to the root", "", pemOf(leaf, middle.cert, root.cert)},
		{"out of order", "FILE: certificate number 2 did not issue number 1: many clients refuse such a chain", pemOf(leaf, root.cert, middle.cert)},
		{"a stranger in it", "FILE: certificate number 3 did not issue number 2: many clients refuse such a chain",
			pemOf(leaf, middle.cert, newCA(t, "root", nil).cert)},
		{"no names", "the certificate in FILE does not cover docker.acme.example; it is for no host at all (clients do not look at the common name)", pemOf(bare)},
	} {
		cert, keyFile := writePair(t, t.TempDir(), tt.chain, keyPEM(t, key))
		s, err := regtls.Files(cert, keyFile)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var want []string
		if tt.want != "" {
			want = []string{strings.ReplaceAll(tt.want, "FILE", cert)}
		}
		if diff := cmp.Diff(want, s.Problems([]string{host}, time.Now())); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
	}
}

// Whatever the files hold: an error in words, or a pair that serves.
func FuzzParsePair(f *testing.F) {
	root, key := newCA(f, "root", nil), ecKey(f)
	cert, pk := pemOf(root.leaf(f, key, time.Now().AddDate(1, 0, 0), host)), keyPEM(f, key)
	f.Add(cert, pk)
	f.Add(cert[:len(cert)/2], pk)
	f.Add(pk, cert)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), pk)
	f.Add(cert, []byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		got, err := regtls.ParsePair(cert, key)
		switch {
		case err != nil && !strings.HasPrefix(err.Error(), "tls.crt") && !strings.HasPrefix(err.Error(), "tls.key"):
			t.Errorf("an error that names no file: %v", err)
		case err == nil && (got.Leaf == nil || got.PrivateKey == nil):
			t.Error("no error and no pair")
		}
	})
}
