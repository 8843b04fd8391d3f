package tls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
)

// HTTPHandler answers HTTP-01 challenges for the hosts, and leaves all else to
// fallback.
func (s *Source) HTTPHandler(fallback http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.acme == nil || !s.acme.answer(w, r) {
			fallback.ServeHTTP(w, r)
		}
	})
}

func (m *manager) answer(w http.ResponseWriter, r *http.Request) bool {
	now := m.running.Load()
	if now == nil || !certmagic.LooksLikeHTTPChallenge(r) || m.byName[strings.ToLower(bare(r.Host))] == nil {
		return false
	}
	select {
	case m.guests <- struct{}{}:
		defer func() { <-m.guests }()
	default:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	return now.http.HandleHTTPChallenge(w, r)
}

// certificate is the one for the name that is asked for, else the first host's,
// else any: a client that asks for a name no certificate has says so better than
// an alert does.
func (m *manager) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmez.ACMETLS1Protocol {
		return m.challenge(hello)
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	if name == "" && hello.Conn != nil {
		if local, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
			name = local.IP.String()
		}
	}
	if c := m.byName[name]; c != nil {
		if k := c.inUse.Load(); k != nil {
			return k.cert, nil
		}
	}
	if cert := m.byDefault(); cert != nil {
		return cert, nil
	}
	return nil, fmt.Errorf("no certificate for %s yet", m.o.Hosts[0])
}

// byDefault is nil if there is none at all.
func (m *manager) byDefault() *tls.Certificate {
	for _, c := range m.certs {
		if k := c.inUse.Load(); k != nil {
			return k.cert
		}
	}
	return m.until
}

// challenge is the certificate that answers TLS-ALPN-01.
func (m *manager) challenge(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := m.running.Load()
	if now == nil || !m.serves(hello.ServerName) {
		return nil, errors.New("no challenge for that name")
	}
	select {
	case m.guests <- struct{}{}:
		defer func() { <-m.guests }()
	default:
		return nil, errors.New("too many challenges at once")
	}
	return now.config.GetCertificate(hello)
}

// serves reports whether name is one of the hosts; an address is asked for by its
// name in arpa.
func (m *manager) serves(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return m.byName[name] != nil || strings.HasSuffix(name, ".arpa") && slices.ContainsFunc(m.o.Hosts, func(h string) bool { return net.ParseIP(h) != nil })
}
