package e2e

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const eabKey = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

func TestACAThatKnowsItsCustomersGetsToKnowThisOne(t *testing.T) {
	t.Parallel()
	other := "b10lLJs8l1GPIzsLP0s6pMt8O0XVGnfTaCeROxQM0BIt2XrJMDHJZBM5NuQmQJQH"
	for _, tt := range []struct {
		name, line string
		words      []string // none: it gets one
	}{
		{"the right key", "acme_eab: {key_id: kid-1, mac_key: " + eabKey + "}", nil},
		{"a wrong key", "acme_eab: {key_id: kid-1, mac_key: " + other + "}", []string{"external account binding", "tls.acme_eab"}},
		{"an unknown id", "acme_eab: {key_id: kid-9, mac_key: " + eabKey + "}", []string{"not known to the ACME server", "tls.acme_eab"}},
		{"none", "acme_email: ops@example.test", []string{"externalAccountBinding", "tls.acme_eab"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAsking(t, "http://127.0.0.1:1")
			ca := startPebble(t, caOptions{http: a.http, tls: a.port, eab: map[string]string{"kid-1": eabKey}})
			a.asks(t, ca, []string{theHost}, tt.line)
			if tt.words == nil {
				a.issued(t, theHost)
				return
			}
			a.begin(t)
			a.says(t, append([]string{"certificate for " + theHost + " not obtained: "}, tt.words...)...)
			if out := a.proc.output(); strings.Contains(out, eabKey) || strings.Contains(out, other) {
				t.Error("the log has the key")
			}
		})
	}
}

func TestADirectoryWithACertificateOfAnUnknownCAIsTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, err := newAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	a.asks(t, ca, []string{theHost}, "acme_ca_file: "+other.caFile)
	a.begin(t)
	a.says(t, "certificate for "+theHost+" not obtained: ", "does not come from the CA in tls.acme_ca_file")
	// Put right, a reload is enough.
	a.asks(t, ca, []string{theHost})
	a.reload(t)
	a.has(t, theHost)
}

func TestADirectoryThatIsNoneIsTold(t *testing.T) {
	t.Parallel()
	page := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<!doctype html><title>It works!</title>")
	}))
	page.TLS = &tls.Config{Certificates: []tls.Certificate{suite.certs.pair}}
	page.StartTLS()
	t.Cleanup(page.Close)
	ca := startPebble(t, caOptions{})
	for name, directory := range map[string]string{
		"nothing there": strings.TrimSuffix(ca.directory, "dir") + "directory",
		"a page":        page.URL + "/dir",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAsking(t, "http://127.0.0.1:1")
			a.asks(t, &pebble{directory: directory}, []string{theHost})
			command(t, nil, suite.regward, "validate", "--online", a.file).fails(t, "tls.acme_directory", directory)
			a.begin(t)
			a.says(t, "certificate for "+theHost+" not obtained: ", directory, "ACME directory", "check tls.acme_directory")
		})
	}
}

// A CA that has lost its memory knows no account of ours and none of what it
// gave out.
func TestACAThatForgotEverythingIsIntroducedAgain(t *testing.T) {
	t.Parallel()
	const added = "added.example.test"
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	was := a.serial(t, theHost)
	if err := ca.proc.stop(); err != nil {
		t.Fatal(err)
	}
	ca.launch(t)
	a.asks(t, ca, []string{theHost, added})
	a.reload(t)
	a.has(t, added) // its root is another one now
	if now := a.serial(t, theHost); now != was {
		t.Error("the other name has another certificate")
	}
}

func TestANameThatTheCARefusesKeepsNoOtherFromItsCertificate(t *testing.T) {
	t.Parallel()
	const refused = "refused.example.test"
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	a := newAsking(t, u.config)
	ca := startPebble(t, caOptions{http: a.http, tls: a.port, blocked: []string{refused}})
	a.asks(t, ca, []string{refused, theHost})
	a.begin(t)
	a.has(t, theHost)
	a.says(t, "certificate for "+refused+" not obtained: ", "forbidden by policy")
	a.pulls(t, theHost, "library/hello:1", a.transport(t))
	if _, err := a.shows(refused); err == nil {
		t.Error("there is a certificate for a name that the CA refuses")
	}
}

// Nobody reaches either port: the log says which were tried, and what the CA
// said of each.
func TestPortsThatTheCADoesNotReachAreTold(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{})
	a.asks(t, ca, []string{theHost})
	a.begin(t)
	a.says(t, "certificate for "+theHost+" not obtained: ", "HTTP-01", "refused")
	a.says(t, "certificate for "+theHost+" not obtained: ", "TLS-ALPN-01")
}
