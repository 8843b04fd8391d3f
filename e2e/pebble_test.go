package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// caOptions are what a pebble of one test is told. Zero values stand for a CA
// that behaves well and reaches nobody.
type caOptions struct {
	http, tls int               // where it looks for HTTP-01 and TLS-ALPN-01; 0: a port that nobody listens on
	validity  time.Duration     // of its certificates; 0: 90 days
	blocked   []string          // names it refuses
	eab       map[string]string // accounts that it knows: key ids and keys; nobody else gets one
	dns       string            // the server it asks, host:port; "": one by which everything is at place
	place     string            // an address; "": 127.0.0.1
	nonces    int               // of 100 good nonces, how many it refuses
	slow      int               // up to how many seconds it waits before it looks; 0: none
}

// pebble is the CA of one test: Let's Encrypt's own server for tests.
type pebble struct {
	directory string // URL, as regward's file has it
	line      *line  // between the directory and the program

	management string // host:port
	dir        string
	argv, env  []string
	proc       *process
	runs       int
	earlier    int    // orders of earlier runs: it keeps all in memory
	known      string // its root, once somebody asked
}

// startPebble starts a CA with a root of its own. Its own certificate is of the
// test run's CA.
func startPebble(t testing.TB, o caOptions) *pebble {
	t.Helper()
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := &pebble{dir: t.TempDir(), management: fmt.Sprintf("127.0.0.1:%d", freePort(t)), line: startLine(t, listen)}
	p.directory = "https://" + p.line.at + "/dir"
	if o.dns == "" {
		o.dns = startNames(t, o.place)
	}
	file := filepath.Join(p.dir, "pebble.json")
	replaceFile(t, file, o.settings(t, listen, p.management))
	p.argv = []string{mustProgram(t, "pebble"), "-config", file, "-dnsserver", o.dns}
	p.env = []string{
		fmt.Sprintf("PEBBLE_WFE_NONCEREJECT=%d", o.nonces),
		"PEBBLE_AUTHZREUSE=0",   // every order is looked at anew
		"PEBBLE_CHAIN_LENGTH=2", // a chain that has to be shown whole
		fmt.Sprintf("PEBBLE_VA_SLEEPTIME=%d", o.slow),
	}
	if o.slow == 0 {
		p.env = append(p.env, "PEBBLE_VA_NOSLEEP=1")
	}
	p.launch(t)
	return p
}

// settings is the program's own file.
func (o caOptions) settings(t testing.TB, listen, management string) string {
	t.Helper()
	for _, port := range []*int{&o.http, &o.tls} {
		if *port == 0 {
			*port = freePort(t)
		}
	}
	if o.validity == 0 {
		o.validity = 90 * 24 * time.Hour
	}
	b, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": management,
		"certificate": suite.certs.certFile, "privateKey": suite.certs.keyFile,
		"httpPort": o.http, "tlsPort": o.tls,
		"domainBlocklist":                o.blocked,
		"externalAccountBindingRequired": len(o.eab) > 0, "externalAccountMACKeys": o.eab,
		"retryAfter":   map[string]int{"authz": 1, "order": 1},
		"keyAlgorithm": "ecdsa",
		"profiles":     map[string]any{"default": map[string]any{"description": "the only one", "validityPeriod": int(o.validity.Seconds())}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// launch starts it, or starts it again: with another root and without a
// memory.
func (p *pebble) launch(t testing.TB) {
	t.Helper()
	p.earlier = p.orders()
	p.known = ""
	p.runs++
	p.proc = start(t, filepath.Join(p.dir, fmt.Sprintf("log%d", p.runs)), p.env, p.argv...)
	eventually(t, "pebble answers", 30*time.Second, func() error {
		if err := p.proc.gone(); err != nil {
			return err
		}
		_, err := p.root()
		return err
	})
}

// root is the root of the certificates it gives out, PEM.
func (p *pebble) root() (string, error) {
	if p.known != "" {
		return p.known, nil
	}
	client := &http.Client{Transport: newTransport(), Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	r, err := client.Get("https://" + p.management + "/roots/0")
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status)
	}
	if err == nil {
		p.known = string(b)
	}
	return p.known, err
}

// suggests makes it tell whoever asks when to renew c: an hour ago. A window of
// seconds would not be believed.
func (p *pebble) suggests(t testing.TB, c *x509.Certificate) {
	t.Helper()
	ago := time.Now().UTC().Add(-time.Hour)
	window := fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`, ago.Format(time.RFC3339), ago.Add(10*time.Minute).Format(time.RFC3339))
	body, err := json.Marshal(map[string]string{
		"Certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})), "ARIResponse": window,
	})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: newTransport(), Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	r, err := client.Post("https://"+p.management+"/set-renewal-info/", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("set-renewal-info: %s", r.Status)
	}
}

// orders is how many it has taken; those it refused for a nonce do not count.
func (p *pebble) orders() int {
	if p.proc == nil {
		return 0
	}
	return p.earlier + strings.Count(p.proc.output(), "Added order ")
}

// silence makes it take connections and say nothing until the returned function
// is called, or the test is over.
func (p *pebble) silence(t testing.TB) (wake func()) {
	t.Helper()
	p.proc.signal(t, syscall.SIGSTOP)
	wake = sync.OnceFunc(func() { _ = p.proc.cmd.Process.Signal(syscall.SIGCONT) })
	t.Cleanup(wake)
	return wake
}

// issued is how many certificates it has given out since it was started.
func (p *pebble) issued() int { return strings.Count(p.proc.output(), "Issued certificate serial") }

// accounts is how many it has made since it was started.
func (p *pebble) accounts() int { return strings.Count(p.proc.output(), "accounts in memory") }

// startNames starts a DNS server by which every name is at address.
func startNames(t testing.TB, address string) (at string) {
	t.Helper()
	if address == "" {
		address = "127.0.0.1"
	}
	at = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, filepath.Join(t.TempDir(), "log"), nil, mustProgram(t, "pebble-challtestsrv"),
		"-dnsserver", at, "-defaultIPv4", address, "-defaultIPv6", "",
		"-management", fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "")
	eventually(t, "pebble-challtestsrv listens", 20*time.Second, func() error {
		if err := p.gone(); err != nil {
			return err
		}
		return dials(at)
	})
	return at
}

func dials(at string) error {
	c, err := net.Dial("tcp", at)
	if err == nil {
		c.Close()
	}
	return err
}
