package tls_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	regtls "github.com/regward/regward/tls"
)

const host = "docker.acme.example"

// source serves a chain of three for host and two addresses; key is RSA or
// ECDSA. The root is what a client needs.
func source(t testing.TB, rsa bool) (*regtls.Source, *x509.Certificate) {
	t.Helper()
	root := newCA(t, "root", nil)
	middle := newCA(t, "middle", root)
	key := ecKey(t)
	if rsa {
		key = rsaKey(t)
	}
	leaf := middle.leaf(t, key, time.Now().AddDate(0, 6, 0), host, "127.0.0.1", "::1")
	s, err := regtls.Files(writePair(t, t.TempDir(), pemOf(leaf, middle.cert), keyPEM(t, key)))
	if err != nil {
		t.Fatal(err)
	}
	return s, root.cert
}

func TestX01_OnlyTLS12AndTLS13(t *testing.T) {
	s, root := source(t, false)
	// The suites alone would keep 1.1 out; it is to be out even if they change.
	for min, want := range map[uint16]uint16{0: tls.VersionTLS12, tls.VersionTLS10: tls.VersionTLS12, tls.VersionTLS13: tls.VersionTLS13} {
		if got := s.Config(min).MinVersion; got != want {
			t.Errorf("Config(%x): at least %x, want %x", min, got, want)
		}
	}
	for _, tt := range []struct {
		name   string
		min    uint16
		client uint16
		ok     bool
	}{
		{"1.0", tls.VersionTLS12, tls.VersionTLS10, false},
		{"1.1", tls.VersionTLS12, tls.VersionTLS11, false},
		{"1.2", tls.VersionTLS12, tls.VersionTLS12, true},
		{"1.3", tls.VersionTLS12, tls.VersionTLS13, true},
		{"1.2 where 1.3 is the least", tls.VersionTLS13, tls.VersionTLS12, false},
		{"1.3 where 1.3 is the least", tls.VersionTLS13, tls.VersionTLS13, true},
		{"1.1 where nothing is set", 0, tls.VersionTLS11, false},
		{"1.0 where 1.0 is asked for", tls.VersionTLS10, tls.VersionTLS10, false},
		{"1.2 where nothing is set", 0, tls.VersionTLS12, true},
	} {
		state, err := shake(listen(t, s.Config(tt.min)), &tls.Config{
			ServerName: host, RootCAs: roots(root), MinVersion: tt.client, MaxVersion: tt.client,
		})
		if (err == nil) != tt.ok || err == nil && state.Version != tt.client {
			t.Errorf("%s: got version %x, %v, want ok %v", tt.name, state.Version, err, tt.ok)
		}
	}
}

func TestX01_TLS12HasAEADSuitesOnly(t *testing.T) {
	for _, key := range []struct {
		name     string
		rsa      bool
		accepted []uint16
	}{
		{"RSA", true, []uint16{
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		}},
		{"ECDSA", false, []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		}},
	} {
		s, root := source(t, key.rsa)
		address := listen(t, s.Config(tls.VersionTLS12))
		wanted := make(map[uint16]bool)
		for _, id := range key.accepted {
			wanted[id] = true
		}
		for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if suite.SupportedVersions[0] == tls.VersionTLS13 {
				continue
			}
			state, err := shake(address, &tls.Config{
				ServerName: host, RootCAs: roots(root), MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID},
			})
			if (err == nil) != wanted[suite.ID] || err == nil && state.CipherSuite != suite.ID {
				t.Errorf("%s, %s: got %x, %v, want accepted %v", key.name, suite.Name, state.CipherSuite, err, wanted[suite.ID])
			}
		}
	}
}

func TestX02_ACertificateWithoutSNI(t *testing.T) {
	s, root := source(t, false)
	config := s.Config(tls.VersionTLS12)
	names := make(chan string, 1)
	certificate := config.GetCertificate
	config.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		names <- h.ServerName
		return certificate(h)
	}
	address := listen(t, config)
	for _, tt := range []struct{ asked, sni string }{
		{host, host},
		{"127.0.0.1", ""}, // an IP literal is never sent
		{"::1", ""},
	} {
		state, err := shake(address, &tls.Config{ServerName: tt.asked, RootCAs: roots(root)})
		if err != nil {
			t.Errorf("%s: %v", tt.asked, err)
			continue
		}
		if got := <-names; got != tt.sni {
			t.Errorf("%s: SNI %q, want %q: this does not try what it says", tt.asked, got, tt.sni)
		}
		if got := len(state.PeerCertificates); got != 2 {
			t.Errorf("%s: a chain of %d, want the whole one, 2", tt.asked, got)
		}
	}
	// A name that is not ours gets the certificate too, and the client says what
	// is wrong with it.
	_, err := shake(address, &tls.Config{ServerName: "else.example", RootCAs: roots(root)})
	<-names
	if want := "tls: failed to verify certificate: x509: certificate is valid for " + host + ", not else.example"; err == nil || err.Error() != want {
		t.Errorf("a wrong name: got %v, want %s", err, want)
	}
}

func TestX02_ALPN(t *testing.T) {
	s, root := source(t, false)
	address := listen(t, s.Config(tls.VersionTLS12))
	for _, tt := range []struct {
		offered []string
		want    string
		ok      bool
	}{
		{[]string{"h2", "http/1.1"}, "h2", true},
		{[]string{"http/1.1", "h2"}, "h2", true},
		{[]string{"http/1.1"}, "http/1.1", true},
		{nil, "", true},
		{[]string{"spdy/3"}, "", false},
	} {
		state, err := shake(address, &tls.Config{ServerName: host, RootCAs: roots(root), NextProtos: tt.offered})
		if (err == nil) != tt.ok || state.NegotiatedProtocol != tt.want {
			t.Errorf("%v: got %q, %v, want %q", tt.offered, state.NegotiatedProtocol, err, tt.want)
		}
	}
}

func TestASecondHandshakeIsResumed(t *testing.T) {
	s, root := source(t, false)
	config := s.Config(tls.VersionTLS12)
	if !config.DynamicRecordSizingDisabled {
		t.Error("records grow slowly")
	}
	address := listen(t, config)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := &tls.Config{ServerName: host, RootCAs: roots(root), MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		for i, want := range []bool{false, true, true} {
			state, err := shake(address, client)
			if err != nil || state.DidResume != want {
				t.Errorf("%x, connection %d: resumed %v, %v, want %v", version, i, state.DidResume, err, want)
			}
		}
	}
}

func TestHandshakesGoOnDuringReloads(t *testing.T) {
	root := newCA(t, "root", nil)
	dir := t.TempDir()
	key := ecKey(t)
	cert, keyFile := writePair(t, dir, pemOf(root.leaf(t, key, time.Now().AddDate(1, 0, 0), host)), keyPEM(t, key))
	s, err := regtls.Files(cert, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	address := listen(t, s.Config(tls.VersionTLS12))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if _, err := shake(address, &tls.Config{ServerName: host, RootCAs: roots(root.cert)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 40 {
			end := time.Now().AddDate(1, 0, i)
			write(t, cert, pemOf(root.leaf(t, key, end, host)))
			if err := s.Reload(); err != nil {
				t.Error(err)
			}
			_, _, _ = s.Expiry(), s.CA(), s.Problems([]string{host}, end)
		}
	})
	wg.Wait()
}

func TestStage(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]int{
		365 * day: -1, 30*day + 1: -1, 30 * day: 30, 14*day + 1: 30, 14 * day: 14, 8 * day: 14,
		7 * day: 7, day + 1: 7, day: 1, 1: 1, 0: 0, -day: 0,
	} {
		if got := regtls.Stage(now.Add(left), now); got != want {
			t.Errorf("%v left: got %d, want %d", left, got, want)
		}
	}
}

func TestExpiry(t *testing.T) {
	root, key := newCA(t, "root", nil), ecKey(t)
	end := time.Now().AddDate(0, 6, 0).Truncate(time.Second).UTC()
	for _, tt := range []struct {
		hosts []string
		want  map[string]time.Time
	}{
		{[]string{host, "*.b.example", "127.0.0.1", "::1"}, map[string]time.Time{host: end, "*.b.example": end, "127.0.0.1": end, "::1": end}},
		{nil, map[string]time.Time{"cn.example": end}},
	} {
		s, err := regtls.Files(writePair(t, t.TempDir(), pemOf(root.leaf(t, key, end, tt.hosts...)), keyPEM(t, key)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, s.Expiry()); diff != "" {
			t.Errorf("%v: -want +got\n%s", tt.hosts, diff)
		}
		if s.CA() != nil {
			t.Error("files have a CA")
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	for name, rsa := range map[string]bool{"ECDSA": false, "RSA": true} {
		s, root := source(b, rsa)
		address := listen(b, s.Config(tls.VersionTLS12))
		for _, resumed := range []bool{false, true} {
			client := &tls.Config{ServerName: host, RootCAs: roots(root), CurvePreferences: []tls.CurveID{tls.X25519}}
			label := name + ", full"
			if resumed {
				client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				label = name + ", resumed"
			}
			b.Run(label, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := shake(address, client); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	// What this package adds to each.
	b.Run("choosing the certificate", func(b *testing.B) {
		s, err := regtls.Internal(b.TempDir(), host)
		if err != nil {
			b.Fatal(err)
		}
		config := s.Config(tls.VersionTLS12)
		hello := &tls.ClientHelloInfo{ServerName: host, Conn: net.Conn(nil)}
		b.ReportAllocs()
		for b.Loop() {
			_, _ = config.GetCertificate(hello)
		}
	})
}
