package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxChain is the most certificates of a chain that are looked at; registries
// show two or three.
const maxChain = 16

// Shown are the certificates that a host showed. Nothing of them is proved.
type Shown struct {
	Host  Host
	Chain []*x509.Certificate // leaf first
	Proxy string              // HOST:PORT of the proxy in between, if there was one
}

// ErrPlainHTTP reports a port where nobody speaks TLS.
var ErrPlainHTTP = errors.New("answers in plain HTTP: there is no certificate to trust")

// Fetch asks host for its certificates. Proxy says through which proxy, as
// http.ProxyFromEnvironment does; nil is through none. What host answers to the
// request that goes with it does not matter, not even that it wants a client
// certificate. The error says why there are none.
func Fetch(ctx context.Context, host Host, proxy func(*http.Request) (*url.URL, error)) (*Shown, error) {
	s := &Shown{Host: host}
	t := &http.Transport{
		Proxy:               proxy,
		TLSHandshakeTimeout: 15 * time.Second,
		DisableKeepAlives:   true,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS10, // what it speaks is somebody else's question
			// Whom to trust is the question, so nobody is trusted yet. No secret
			// is sent and nothing that comes back is used but the certificates.
			InsecureSkipVerify: true,
			VerifyConnection: func(cs tls.ConnectionState) error {
				s.Chain = cs.PeerCertificates
				return nil
			},
		},
	}
	defer t.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+host.Address()+"/v2/", nil)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		through, err := proxy(request)
		if err != nil {
			return nil, fmt.Errorf("the proxy for %s: %w", host, err)
		}
		if through != nil {
			s.Proxy = through.Host // never its password
		}
	}
	answer, err := t.RoundTrip(request)
	if answer != nil {
		_ = answer.Body.Close()
	}
	if len(s.Chain) > 0 { // even where the request was refused afterwards
		s.Chain = s.Chain[:min(len(s.Chain), maxChain)]
		return s, nil
	}
	return nil, s.unreachable(err)
}

// unreachable says which step failed, and what to look at.
func (s *Shown) unreachable(err error) error {
	var (
		record  tls.RecordHeaderError
		name    *net.DNSError
		op      *net.OpError
		timeout interface{ Timeout() bool }
	)
	at := s.Host.Address()
	if s.Proxy != "" {
		at += " through the proxy " + s.Proxy
	}
	switch {
	case errors.As(err, &record) && strings.HasPrefix(string(record.RecordHeader[:]), "HTTP"),
		err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%s %w; is the port right?", at, ErrPlainHTTP)
	case errors.As(err, &record):
		return fmt.Errorf("%s does not speak TLS; is the port right?", at)
	case errors.As(err, &op) && op.Op == "remote error": // a TLS alert
		return fmt.Errorf("%s refuses the connection before it shows a certificate: %w", at, err)
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Errorf("there is no host %s: the name has no address here; is it spelt right, and this the right network?", s.Host.Name)
	case errors.As(err, &name):
		return fmt.Errorf("the address of %s could not be found out: %w", s.Host.Name, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nobody listens at %s: connection refused; is the port right, and the registry running?", at)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s does not answer in time; is a firewall in between?", at)
	}
	return fmt.Errorf("%s shows no certificate: %w", at, err)
}
