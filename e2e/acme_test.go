package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// acmeTime is how long a certificate may take: a busy machine, a CA that
// refuses good nonces, and the minute before what failed is tried again.
const acmeTime = 3 * time.Minute

// theHost is the name that most of these tests want a certificate for.
const theHost = "registry.example.test"

// asking is an instance that gets its certificates from a pebble. Its names
// are at 127.0.0.1 for whoever it asks for them.
type asking struct {
	*regward
	port int // of TLS, and so of TLS-ALPN-01
	http int // of tls.http_listen
	ca   *pebble
	bare string // frame without hostname and tls
}

// newAsking prepares an instance; it can be started once asks was called.
func newAsking(t testing.TB, upstream string) *asking {
	t.Helper()
	g := newRegward(t, upstream)
	_, at, _ := strings.Cut(g.host, ":")
	port, err := strconv.Atoi(at)
	if err != nil {
		t.Fatal(err)
	}
	a := &asking{regward: g, port: port, http: freePort(t)}
	for line := range strings.Lines(g.frame) {
		if !strings.HasPrefix(line, "hostname: ") && !strings.HasPrefix(line, "tls: ") {
			a.bare += line
		}
	}
	return a
}

// asks writes the file. With more, which are further lines of tls, comes what
// the test is about: `http_listen: off`.
func (a *asking) asks(t testing.TB, ca *pebble, hosts []string, more ...string) {
	t.Helper()
	a.ca = ca
	a.host = fmt.Sprintf("%s:%d", hosts[0], a.port)
	lines := fmt.Sprintf("hostname: [%s]\ntls:\n  mode: acme\n  acme_directory: %q\n", strings.Join(hosts, ", "), ca.directory)
	all := strings.Join(more, "\n")
	if !strings.Contains(all, "acme_ca_file:") {
		more = append(more, fmt.Sprintf("acme_ca_file: %q", suite.certs.caFile))
	}
	if !strings.Contains(all, "http_listen:") {
		more = append(more, fmt.Sprintf("http_listen: \"127.0.0.1:%d\"", a.http))
	}
	for _, m := range more {
		lines += "  " + m + "\n"
	}
	a.frame = lines + a.bare
	a.configure(t, teamRules)
}

// issued starts the program and waits for the certificate of each name.
func (a *asking) issued(t testing.TB, hosts ...string) {
	t.Helper()
	a.begin(t)
	a.has(t, hosts...)
	eventually(t, "regward is ready", acmeTime, a.ready)
}

// has waits for the certificate of each name.
func (a *asking) has(t testing.TB, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		eventually(t, "there is a certificate for "+host, acmeTime, func() error {
			if err := a.proc.gone(); err != nil {
				return err
			}
			_, err := a.shows(host)
			return err
		})
	}
}

// says waits until the log has all words, in one line.
func (a *asking) says(t testing.TB, words ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the log says %q", words), acmeTime, func() error {
		if err := a.proc.gone(); err != nil {
			return err
		}
		said := strings.ReplaceAll(a.proc.output(), `\"`, `"`)
		if !anyLineHas(said, words...) {
			return errors.New("it says:\n" + tail(said, 12))
		}
		return nil
	})
}

// readyz is what a probe reads.
func (a *asking) readyz() (status int, body string, err error) {
	r, err := http.Get(a.health + "/readyz")
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

// trusting is what a client needs that believes the CA alone.
func (a *asking) trusting(host string) (*tls.Config, error) {
	root, err := a.ca.root()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(root)) {
		return nil, errors.New("pebble's root is no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: host}, nil
}

// shows is the certificate that a client gets to see, if it believes it.
func (a *asking) shows(host string) (*x509.Certificate, error) {
	config, err := a.trusting(host)
	if err != nil {
		return nil, err
	}
	return a.showsBy(config)
}

func (a *asking) showsBy(config *tls.Config) (*x509.Certificate, error) {
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 20 * time.Second}, Config: config}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", a.port))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// serial is the certificate that is there, whoever believes it.
func (a *asking) serial(t testing.TB, host string) string {
	t.Helper()
	c, err := a.showsBy(&tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return c.SerialNumber.String()
}

// transport is that of a client who believes the CA alone and finds every name
// here.
func (a *asking) transport(t testing.TB) *http.Transport {
	t.Helper()
	config, err := a.trusting("")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", a.port))
	}
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// pulls pulls a public image whole, as crane does and without a login.
func (a *asking) pulls(t testing.TB, host, image string, transport http.RoundTripper) {
	t.Helper()
	if err := a.pull(host, image, transport); err != nil {
		t.Fatal(err)
	}
}

func (a *asking) pull(host, image string, transport http.RoundTripper) error {
	ref, err := name.ParseReference(fmt.Sprintf("%s:%d/%s", host, a.port, image))
	if err != nil {
		return err
	}
	img, err := remote.Image(ref, remote.WithTransport(transport))
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r) // its digest is looked at too
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}

// expires is the metric of one name, in seconds since 1970.
func (a *asking) expires(host string) (string, error) {
	return a.metric(fmt.Sprintf("regward_certificate_expiry_timestamp_seconds{name=%q}", host))
}
