package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The CA is as awkward as CAs are: it refuses good nonces, takes its time, and
// looks at every name anew.
func TestAFirstCertificateArrivesByEachChallenge(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	several := []string{theHost, "docker.example.test", "mirror.other.test"}
	for _, tt := range []struct {
		name      string
		http, tls bool // the CA reaches it
		hosts     []string
		more      []string
	}{
		{"HTTP-01, since nobody reaches the main port", true, false, several[:1], nil},
		{"TLS-ALPN-01, since there is no plain listener", false, true, several[:1], []string{"http_listen: \"off\""}},
		{"TLS-ALPN-01, since nobody reaches the plain listener", false, true, several[:1], nil},
		{"HTTP-01, for an address", true, false, []string{"127.0.0.1"}, nil},
		{"TLS-ALPN-01, for an address", false, true, []string{"127.0.0.1"}, []string{"http_listen: \"off\""}},
		{"either, for several names", true, true, several, []string{"acme_email: ops@example.test"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAsking(t, u.config)
			o := caOptions{nonces: 30, slow: 2}
			if tt.http {
				o.http = a.http
			}
			if tt.tls {
				o.tls = a.port
			}
			ca := startPebble(t, o)
			a.asks(t, ca, tt.hosts, tt.more...)
			a.issued(t, tt.hosts...)
			transport := a.transport(t)
			for _, host := range tt.hosts {
				a.says(t, "certificate for "+host+" obtained")
				a.pulls(t, host, "library/hello:1", transport)
				a.tellsExpiry(t, host)
			}
			if n := ca.accounts(); n != 1 {
				t.Errorf("the CA has %d accounts of one instance", n)
			}
		})
	}
}

// tellsExpiry demands the metric of what is shown.
func (a *asking) tellsExpiry(t testing.TB, host string) {
	t.Helper()
	c, err := a.shows(host)
	if err != nil {
		t.Fatal(err)
	}
	said, err := a.expires(host)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := strconv.ParseFloat(said, 64); err != nil || int64(got) != c.NotAfter.Unix() {
		t.Errorf("the metric says %s (%v), and the certificate ends %d", said, err, c.NotAfter.Unix())
	}
}

// shortest is a file that leaves all it can to the defaults: ports 443 and 80,
// the state's folder, the challenges.
func shortest(u *upstream, ca *pebble) string {
	return fmt.Sprintf("hostname: registry.example.com\nupstream: %s\n"+
		"tls: {acme_directory: %q, acme_ca_file: %q}\n"+
		"rules:\n  - {subjects: everyone, repositories: \"library/**\", allow: pull}\n",
		u.config, ca.directory, suite.certs.caFile)
}

func TestTheShortestFileServesEveryClientWithACertificateTheyTrust(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		ca := startPebble(t, caOptions{http: 80, tls: 443, place: "192.0.2.11", nonces: 20})
		g := w.written(t, "registry.example.com", shortest(u, ca))
		root, err := ca.root()
		if err != nil {
			t.Fatal(err)
		}
		w.trust(t, root) // before the daemons start, which read it once
		for _, client := range []string{"docker", "crane", "podman", "skopeo"} {
			t.Run(client, func(t *testing.T) {
				kindNamed(client).new(t, g.host).pull(t, g.host+"/library/hello:1").works(t)
			})
		}
		file := filepath.Join(t.TempDir(), "root.pem")
		replaceFile(t, file, root)
		curl := func(url string) outcome {
			return command(t, nil, "curl", "-sS", "-o", "/dev/null", "--cacert", file, "-w", "%{http_code} %{redirect_url}", url)
		}
		curl("https://"+g.host+"/v2/").works(t).says(t, "401 ")
		curl("http://"+g.host+"/v2/").works(t).says(t, "https://"+g.host+"/v2/")
	})
}

// M1, to the letter: a port 80 that somebody else has is no reason not to
// start.
func TestM1_WherePort80IsTakenTLSALPN01Serves(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		w.here(t, "0.0.0.0:80", http.NotFoundHandler())
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		ca := startPebble(t, caOptions{http: 80, tls: 443, place: "192.0.2.11"})
		file := filepath.Join(t.TempDir(), "regward.yaml")
		replaceFile(t, file, shortest(u, ca))
		g := w.regward(t, file, "registry.example.com")
		const m1 = "tls.http_listen: cannot listen on :80 (address already in use): HTTP-01 is off; TLS-ALPN-01 on :443 still works. Set tls.http_listen: off to silence this."
		if !strings.Contains(g.proc.output(), m1) {
			t.Errorf("does not say %q:\n%s", m1, tail(g.proc.output(), 20))
		}
		root, err := ca.root()
		if err != nil {
			t.Fatal(err)
		}
		w.trust(t, root)
		kindNamed("crane").new(t, g.host).pull(t, g.host+"/library/hello:1").works(t)
	})
}
