package e2e

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tsig is the key that may write into the zone.
var tsig = base64.StdEncoding.EncodeToString([]byte("thirty-two bytes that are secret"))

// startNamed starts bind9 as the only server of example.test. By it nothing in
// there has an address.
func startNamed(t testing.TB) (at string) {
	t.Helper()
	at = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	startNamedFor(t, "example.test", at)
	return at
}

// startNamedFor is startNamed for another zone, and another place: host:port.
func startNamedFor(t testing.TB, name, at string) {
	t.Helper()
	dir := t.TempDir()
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	zone, config := filepath.Join(dir, "zone"), filepath.Join(dir, "named.conf")
	replaceFile(t, zone, fmt.Sprintf(`$TTL 60
@ IN SOA ns.%[1]s. ops.%[1]s. 1 3600 600 86400 60
@ IN NS ns.%[1]s.
ns IN A %[2]s
`, name, host))
	replaceFile(t, config, fmt.Sprintf(`options {
  directory %[1]q; pid-file none; session-keyfile none; managed-keys-directory %[1]q;
  listen-on port %[2]s { %[5]s; }; listen-on-v6 { none; };
  recursion no; dnssec-validation no; notify no;
};
controls { };
key "regward" { algorithm hmac-sha256; secret %[3]q; };
zone %[6]q { type master; file %[4]q; update-policy { grant regward zonesub TXT; }; };
`, dir, port, tsig, zone, host, name))
	p := start(t, filepath.Join(dir, "log"), nil, mustProgram(t, "named"), "-g", "-n", "1", "-c", config)
	eventually(t, "named listens", 30*time.Second, func() error {
		if err := p.gone(); err != nil {
			return err
		}
		return dials(at)
	})
}

// byDNS is the line of regward's file.
func byDNS(at, zone, secret string) string {
	return fmt.Sprintf("acme_dns: {server: %q, zone: %s, key_name: regward, key_secret: %q}", at, zone, secret)
}

func TestACertificateForANameBehindAFirewallArrivesByDNS01(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	names := startNamed(t)
	a := newAsking(t, u.config)
	ca := startPebble(t, caOptions{dns: names, nonces: 20})
	hosts := []string{theHost, "example.test"}
	a.asks(t, ca, hosts, byDNS(names, "example.test", tsig), "http_listen: \"off\"")
	a.issued(t, hosts...)
	a.pulls(t, theHost, "library/hello:1", a.transport(t))
	for file := range filesBelow(t, a.dir) {
		if b, err := os.ReadFile(file); err == nil && filepath.Ext(file) != ".yaml" && strings.Contains(string(b), tsig) {
			t.Errorf("the key's secret is in %s", file)
		}
	}
}

func TestWhatADNSServerRefusesIsTold(t *testing.T) {
	t.Parallel()
	names := startNamed(t)
	ca := startPebble(t, caOptions{dns: names})
	wrong := base64.StdEncoding.EncodeToString([]byte("thirty-two bytes that are wrong!"))
	nobody := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	for _, tt := range []struct {
		name, line string
		words      []string
	}{
		{"a wrong secret", byDNS(names, "example.test", wrong), []string{names, "tls.acme_dns.key_secret"}},
		{"another zone", byDNS(names, "test", tsig), []string{names, "zone test", "tls.acme_dns.zone"}},
		{"a key it does not know", strings.Replace(byDNS(names, "example.test", tsig), "key_name: regward", "key_name: other", 1), []string{names, "tls.acme_dns.key_name"}},
		{"nobody there", byDNS(nobody, "example.test", tsig), []string{nobody, "tls.acme_dns.server"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAsking(t, "http://127.0.0.1:1")
			a.asks(t, ca, []string{theHost}, tt.line, "http_listen: \"off\"")
			a.begin(t)
			a.says(t, append([]string{"certificate for " + theHost + " not obtained: ", "DNS-01"}, tt.words...)...)
			if out := a.proc.output(); strings.Contains(out, tsig) || strings.Contains(out, wrong) {
				t.Error("the log has the key's secret")
			}
		})
	}
}
