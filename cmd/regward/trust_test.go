package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	regtls "github.com/regward/regward/tls"
	"github.com/regward/regward/trust"
)

func trusted(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"trust"}, args...), func(string) string { return "" }, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// showing is a server with a CA of its own, as tls.mode: internal makes it.
func showing(t *testing.T, names ...string) (host string, ca []byte) {
	t.Helper()
	source, err := regtls.Internal(t.TempDir(), names...)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Listener = tls.NewListener(s.Listener, source.Config(tls.VersionTLS12))
	s.Start()
	t.Cleanup(s.Close)
	return strings.Replace(s.Listener.Addr().String(), "127.0.0.1", "localhost", 1), source.CA()
}

func TestTrustIsAskedForInWords(t *testing.T) {
	for line, want := range map[string]string{
		"":                                        "trust: which host",
		"a.example":                               "trust: --for whom? docker, containerd, podman, buildkit, kubernetes, system",
		"a.example --for windows":                 "trust: --for whom?",
		"a.example b.example --for docker":        "trust: which host",
		"http://a.example --for docker":           "plain HTTP",
		"a.example/team/app:1 --for docker":       "write that alone",
		"a.example:x --for docker":                "is no port",
		"a.example --for docker --ca-file x --no": "unknown flag",
	} {
		if code, _, errs := trusted(t, strings.Fields(line)...); code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("trust %s: %d, want %d and %q: %s", line, code, exitUsage, want, errs)
		}
	}
}

// What cannot be found out ends with 1, and says why.
func TestTrustSaysWhyItCannot(t *testing.T) {
	host, _ := showing(t, "other.example.com")
	_, port, _ := strings.Cut(host, ":")
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	short := filepath.Join(t.TempDir(), "short.pem")
	if err := os.WriteFile(short, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), "long.pem")
	if err := os.WriteFile(long, make([]byte, maxCAFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		strings.TrimPrefix(plain.URL, "http://") + " --for docker": "plain HTTP",
		"localhost:1 --for docker":                                 "nobody listens",
		host + " --for docker":                                     "is for other.example.com, not for localhost",
		"127.0.0.1:" + port + " --for docker":                      "is for other.example.com, not for 127.0.0.1",
		host + " --for docker --ca-file /no/such":                  "--ca-file /no/such: no such file",
		host + " --for docker --ca-file " + short:                  "holds no certificate",
		host + " --for docker --ca-file " + long:                   "longer than 4 MB",
	} {
		code, out, errs := trusted(t, strings.Fields(line)...)
		if code != exitFailed || out != "" || !strings.Contains(errs, want) {
			t.Errorf("trust %s: %d, want %d and %q: %s%s", line, code, exitFailed, want, out, errs)
		}
	}
}

// What is printed is shell: the very commands of --output json, and comments.
func TestTrustPrintsWhatCanBePasted(t *testing.T) {
	host, ca := showing(t, "localhost")
	block, _ := pem.Decode(ca)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, client := range trust.Clients() {
		code, text, errs := trusted(t, host, "--for", string(client))
		if code != exitDone || errs != "" {
			t.Fatalf("%s: %d %s", client, code, errs)
		}
		code, out, _ := trusted(t, "https://"+host, "--for", string(client), "--output", "json")
		var answer trustAnswer
		if err := json.Unmarshal([]byte(out), &answer); err != nil || code != exitDone {
			t.Fatalf("%s: %d %v: %s", client, code, err, out)
		}
		if answer.Host != host || !answer.Needed || answer.CA != string(ca) || answer.Fingerprint != trust.Fingerprint(cert) ||
			len(answer.Files) == 0 || len(answer.Commands) == 0 || answer.Restart == "" || len(answer.Notes) == 0 {
			t.Errorf("%s: %s", client, out)
		}
		rest := text
		for _, c := range answer.Commands {
			if !strings.Contains(rest, c) {
				t.Errorf("%s: the text lacks\n%s", client, c)
			}
			rest = strings.Replace(rest, c, "", 1)
		}
		for line := range strings.SplitSeq(rest, "\n") {
			if line != "" && !strings.HasPrefix(line, "#") {
				t.Errorf("%s: %q is neither a command nor a comment", client, line)
			}
		}
		for _, w := range []string{"# " + answer.Fingerprint, "not proved yet", "over another way", "regward internal CA"} {
			if !strings.Contains(rest, w) {
				t.Errorf("%s: does not say %q:\n%s", client, w, rest)
			}
		}
	}
}

// A CA from a file came another way already: there is nothing to compare.
func TestTrustTakesTheCAFromAFile(t *testing.T) {
	host, ca := showing(t, "localhost")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := trusted(t, host, "--for", "podman", "--ca-file", file)
	if code != exitDone || !strings.Contains(out, "the CA of your") || strings.Contains(out, "not proved") || !strings.Contains(out, string(ca)) {
		t.Errorf("%d %s%s", code, out, errs)
	}
	_, other := showing(t, "localhost")
	if err := os.WriteFile(file, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := trusted(t, host, "--for", "podman", "--ca-file", file); code != exitFailed || out != "" || !strings.Contains(errs, "the CA is not shown in that file") {
		t.Errorf("%d %s%s", code, out, errs)
	}
}
