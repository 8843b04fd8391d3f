package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regward/regward/configs"
)

// byACME is standard with a CA that is not there.
var byACME = strings.Replace(standard, "{mode: internal}", `{mode: acme, acme_directory: "https://127.0.0.1:1/dir", http_listen: "127.0.0.1:0"}`, 1)

func TestAStartWithoutACertificateRunsAndIsNotReady(t *testing.T) {
	t.Parallel()
	r := begin(t, byACME, nil, nil)
	r.log.await(t, `"warn"`, 1)
	r.log.await(t, "no certificate for localhost yet: 127.0.0.1:1 is being asked for one; until it is there, connections fail", 1)
	r.log.await(t, "certificate for localhost not obtained: https://127.0.0.1:1/dir cannot be reached", 1)
	status, body := r.ask("GET", r.probe()+"/readyz", "", "")
	if status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "no certificate for localhost yet: https://127.0.0.1:1/dir cannot be reached") {
		t.Errorf("readyz: %d %s", status, body)
	}
	if status, _ := r.ask("GET", r.probe()+"/healthz", "", ""); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	told := r.certs.status()["localhost"]
	if told.Mode != configs.TLSACME || told.Issuer != "127.0.0.1:1" || told.Problem == "" || told.Next.IsZero() || !told.Ends.IsZero() {
		t.Errorf("status: %+v", told)
	}
	if notes := r.self().Notes; notes["certificate localhost"] != "none yet" {
		t.Errorf("the other instances are told %q", notes)
	}
}

// A reload may change the mode: what was shown is shown until there is something
// else, and a CA is asked by nobody but the source in use.
func TestModesChangeAtAReload(t *testing.T) {
	t.Parallel()
	r := begin(t, standard, nil, nil)
	file := filepath.Join(r.dir, "regward.yaml")
	before := r.certs.current.Load()
	filled := func(config string) string {
		return strings.NewReplacer("DIR", r.dir, "UPSTREAM", "http://127.0.0.1:1").Replace(config)
	}
	load := func(config string) *certificate {
		t.Helper()
		write(t, file, filled(config))
		if o := r.load("test", ""); !o.OK {
			t.Fatalf("%+v", o)
		}
		return r.certs.current.Load()
	}
	acme := load(byACME)
	if acme == before || acme.source.Ready() != nil {
		t.Errorf("from internal to acme: %v", acme.source.Ready())
	}
	if status, body := r.ask("GET", r.probe()+"/readyz", "", ""); status != http.StatusOK {
		t.Errorf("readyz: %d %s", status, body)
	}
	if load(byACME+"search: true\n") != acme {
		t.Error("another key changed, and there is another source")
	}
	for what, config := range map[string]string{
		"hostname":  strings.Replace(byACME, "[localhost, ", "[localhost, more.example, ", 1),
		"email":     strings.Replace(byACME, "mode: acme,", "mode: acme, acme_email: ops@example.com,", 1),
		"directory": strings.Replace(byACME, "1/dir", "1/other", 1),
		"eab":       strings.Replace(byACME, "mode: acme,", "mode: acme, acme_eab: {key_id: a, mac_key: AAAA},", 1),
	} {
		last := r.certs.current.Load()
		if next := load(config); next == last || next.source == last.source || next.source.Ready() != nil {
			t.Errorf("%s changed: the same source, or none that shows a certificate", what)
		}
	}
	if back := load(standard); back.source.Ready() != nil || back.mode != configs.TLSInternal {
		t.Error("back to internal")
	}
}

func TestM1_APlainListenerThatCannotOpenIsToldByWhatItWasFor(t *testing.T) {
	err := &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}
	cfg := &configs.Config{Listen: []string{":443"}}
	cfg.TLS.Mode = configs.TLSACME
	const m1 = "tls.http_listen: cannot listen on :80 (address already in use): HTTP-01 is off; TLS-ALPN-01 on :443 still works. Set tls.http_listen: off to silence this."
	if got := httpListenFailed(cfg, ":80", err); got != m1 {
		t.Errorf("got %s", got)
	}
	cfg.Listen = []string{"127.0.0.1:8443"}
	if got, want := httpListenFailed(cfg, ":80", err), "TLS-ALPN-01 on 127.0.0.1:8443 still works, if port 443 of the name leads there."; !strings.Contains(got, want) {
		t.Errorf("on another port: got %s, want %q in it", got, want)
	}
	cfg.TLS.ACMEDNS.Server = "10.0.0.53:53"
	if got := httpListenFailed(cfg, ":80", err); strings.Contains(got, "HTTP-01") {
		t.Errorf("with DNS-01: got %s", got)
	}
}

func TestCertificatesAreToldWithWhatIsWrong(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	for want, c := range map[string]certificateStatus{
		"certificate a.example: ends 2026-12-22 08:00 UTC (in 30d), files": {Mode: "files", Ends: now.Add(30 * day)},
		"certificate a.example: none yet, acme by Let's Encrypt: not obtained: it said no; trying again at 09:00 UTC": {
			Mode: "acme", Issuer: "Let's Encrypt", Problem: "it said no", Next: now.Add(time.Hour)},
		"certificate a.example: ends 2026-12-22 08:00 UTC (in 30d), acme by Let's Encrypt: not renewed: it said?no": {
			Mode: "acme", Issuer: "Let's Encrypt", Ends: now.Add(30 * day), Problem: "it said\x1bno"},
	} {
		if got := c.words("a.example", now); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// A directory is asked, and the hosts are looked up where that says something.
func TestOnlineAsksTheCA(t *testing.T) {
	ca := httptest.NewTLSServer(http.NotFoundHandler())
	defer ca.Close()
	cfg := &configs.Config{Hostname: []string{"127.0.0.2:8443"}, StateDir: t.TempDir()}
	cfg.TLS.Mode, cfg.TLS.ACMEDirectory = configs.TLSACME, ca.URL
	var said []string
	say := func(_ configs.Severity, path, msg, _ string) { said = append(said, path+": "+msg) }
	checkACME(t.Context(), cfg, say)
	if len(said) != 1 || said[0] != fmt.Sprintf("tls.acme_directory: %s shows a certificate of a CA that is not known here: name it in tls.acme_ca_file", ca.URL) {
		t.Errorf("got %q", said)
	}
	said = nil
	cfg.TLS.Mode = configs.TLSFiles
	if checkACME(t.Context(), cfg, say); said != nil {
		t.Errorf("another mode: got %q", said)
	}
}
