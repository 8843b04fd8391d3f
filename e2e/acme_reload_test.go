package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"
)

// stays is a client whose connection must outlive what a test does.
type stays struct {
	client *http.Client
	url    string
}

// connected opens the one connection.
func (a *asking) connected(t testing.TB, host string, transport http.RoundTripper) *stays {
	t.Helper()
	s := &stays{&http.Client{Transport: transport, CheckRedirect: noRedirects}, fmt.Sprintf("https://%s:%d/v2/", host, a.port)}
	s.asks(t, false)
	return s
}

// asks sends a request, over the old connection or a new one.
func (s *stays) asks(t testing.TB, old bool) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused != old {
			t.Errorf("the connection is an old one: %v, want %v", i.Reused, old)
		}
	}}))
	response, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, response.Body) // else HTTP/1.1 gives the connection up
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusUnauthorized {
		t.Fatalf("GET %s: %s", s.url, response.Status)
	}
}

func TestANameThatIsAddedGetsItsCertificateAndNobodyNotices(t *testing.T) {
	t.Parallel()
	const added = "added.example.test"
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	a := newAsking(t, u.config)
	ca := startPebble(t, caOptions{http: a.http, tls: a.port, nonces: 20})
	a.asks(t, ca, []string{theHost})
	a.issued(t, theHost)
	was := a.serial(t, theHost)
	client := a.connected(t, theHost, a.transport(t))

	a.asks(t, ca, []string{theHost, added})
	a.reload(t)
	a.has(t, added)
	a.says(t, "certificate for "+added+" obtained")
	client.asks(t, true)
	if now := a.serial(t, theHost); now != was {
		t.Error("the other name has another certificate")
	}
	transport := a.transport(t)
	a.pulls(t, added, "library/hello:1", transport)
	a.tellsExpiry(t, added)
	if err := a.ready(); err != nil {
		t.Error(err)
	}

	a.asks(t, ca, []string{theHost})
	a.reload(t)
	eventually(t, "the name that was taken away is no longer told of", reloadTime, func() error {
		if value, err := a.expires(added); err == nil {
			return fmt.Errorf("its certificate ends %s", value)
		}
		return nil
	})
	client.asks(t, true)
	if n := ca.orders(); n != 2 {
		t.Errorf("%d orders, want one for each name", n)
	}
}

// From files to a CA and back: what was served is served until there is
// something else.
func TestModesChangeWithoutAnInterruption(t *testing.T) {
	t.Parallel()
	a := newAsking(t, "http://127.0.0.1:1")
	ca := startPebble(t, caOptions{http: a.http, tls: a.port})
	files := fmt.Sprintf("hostname: [localhost, %s]\ntls: {cert_file: %q, key_file: %q}\n", theHost, suite.certs.certFile, suite.certs.keyFile)
	a.ca = ca
	a.frame = files + a.bare
	a.configure(t, teamRules)
	a.serve(t)
	transport := a.transport(t)
	transport.TLSClientConfig.RootCAs, transport.TLSClientConfig.ServerName = suite.certs.pool, "localhost"
	client := a.connected(t, theHost, transport)

	a.asks(t, ca, []string{theHost, "docker.example.test"})
	a.reload(t)
	a.has(t, theHost)
	client.asks(t, true)
	eventually(t, "it is ready", acmeTime, a.ready)

	a.frame = files + a.bare
	a.configure(t, teamRules)
	a.reload(t)
	eventually(t, "the files are served again", reloadTime, func() error {
		_, err := a.showsBy(&tls.Config{RootCAs: suite.certs.pool, ServerName: "localhost"})
		return err
	})
	client.asks(t, true)
}
