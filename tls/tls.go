// Package tls answers one question: with which certificate?
package tls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
)

// Source is where certificates come from. The mode is chosen once, by the
// constructor. Only that of ACME has something to Start and to Close; all methods
// may be called at once.
type Source struct {
	now    func() time.Time
	acme   *manager // of mode ACME, which has none of the rest
	mode   mode
	inUse  atomic.Pointer[served]
	mu     sync.Mutex // one Reload or renewal at a time; handshakes never wait for it
	failed atomic.Pointer[error]
}

// mode is what the constructors differ in.
type mode struct {
	// load makes the next certificate, told which one is in use (nil at first)
	// and for whom (nil: as before). It returns in itself if nothing changed.
	load func(in *served, hosts []string) (*served, error)
	// problems are those of this mode alone.
	problems func(in *served, hosts []string, now time.Time) []string
	ca       []byte // PEM
}

// served is a certificate in use; it does not change.
type served struct {
	cert    *tls.Certificate // with its Leaf
	hosts   []string         // Internal: what it was made for
	renewAt time.Time        // Internal: when to make the next one; zero for never
	files   files            // Files: what was read
}

func start(m mode, hosts []string) (*Source, error) {
	s := &Source{now: time.Now, mode: m}
	first, err := m.load(nil, hosts)
	if err != nil {
		return nil, err
	}
	s.inUse.Store(first)
	return s, nil
}

// Config is a server configuration: TLS 1.2 (AEAD suites only) and 1.3 from
// min on, h2 and http/1.1, a certificate also for connections without SNI (X01,
// X02). A min below TLS 1.2 is TLS 1.2. It serves what is in use at each
// handshake, so a Reload needs no new Config.
//
// Session tickets are on: a resumed handshake costs three quarters of a full
// one. Records have their full size from the first on; ramping them up costs
// more than it gives a client that downloads layers.
func (s *Source) Config(min uint16) *tls.Config {
	protocols := []string{"h2", "http/1.1"}
	if s.acme != nil {
		protocols = append(protocols, acmez.ACMETLS1Protocol) // TLS-ALPN-01
	}
	return &tls.Config{
		MinVersion: max(min, tls.VersionTLS12),
		// For TLS 1.2; the suites of 1.3 are all AEAD and cannot be chosen. Go's
		// own default still accepts CBC. Go chooses the order.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos:                  protocols,
		DynamicRecordSizingDisabled: true,
		GetCertificate:              s.certificate,
	}
}

// byDefault is what is served to a client that names no host; nil if there is
// nothing yet.
func (s *Source) byDefault() *tls.Certificate {
	if s.acme != nil {
		return s.acme.byDefault()
	}
	return s.inUse.Load().cert
}

// certificate is, but for ACME, the one answer to every name and to none: a client that asks
// for a name the certificate does not have says so better than an alert does.
func (s *Source) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s.acme != nil {
		return s.acme.certificate(hello)
	}
	in := s.inUse.Load()
	// A renewal takes a tenth of a millisecond; whoever finds it due does it,
	// and all others are served what is there.
	if !in.renewAt.IsZero() && !s.now().Before(in.renewAt) && s.mu.TryLock() {
		_ = s.reload(nil) // told by Problems; what is in use is good for weeks
		s.mu.Unlock()
		in = s.inUse.Load()
	}
	return in.cert, nil
}

// Reload reads the files again, or renews for hosts (none: the same as before).
// On an error what was in use stays in use, and the error says until when that
// is good. Nothing happens if nothing changed. With ACME what failed is tried
// again at once; other hosts take another Source.
func (s *Source) Reload(hosts ...string) error {
	if s.acme != nil {
		s.acme.retry()
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reload(hosts)
}

func (s *Source) reload(hosts []string) error {
	in := s.inUse.Load()
	next, err := s.mode.load(in, hosts)
	if err != nil {
		err = fmt.Errorf("%w; still serving the certificate that %s %s", err,
			verb(in.cert.Leaf.NotAfter, s.now(), "expires", "expired"), in.cert.Leaf.NotAfter.UTC().Format(time.DateOnly))
		s.failed.Store(&err)
		return err
	}
	s.inUse.Store(next)
	s.failed.Store(nil)
	return nil
}

// Ready is nil once there is a certificate to serve, and else says why there is
// none. Only with ACME there may be none.
func (s *Source) Ready() error {
	if s.acme != nil {
		return s.acme.ready()
	}
	return nil
}

// States tells of each certificate, by name. Only with ACME there is more to tell
// than when it ends.
func (s *Source) States() []CertificateState {
	var all []CertificateState
	if s.acme != nil {
		for _, c := range s.acme.certs {
			all = append(all, *c.state.Load())
		}
		return all
	}
	ends := s.Expiry()
	for _, name := range slices.Sorted(maps.Keys(ends)) {
		all = append(all, CertificateState{Name: name, End: ends[name]})
	}
	return all
}

// CA is the PEM of the internal CA, nil for the others.
func (s *Source) CA() []byte { return slices.Clone(s.mode.ca) }

// Expiry is when the certificate for each name ends, by the names and addresses
// in it. One that is not there yet is left out.
func (s *Source) Expiry() map[string]time.Time {
	if s.acme != nil {
		ends := make(map[string]time.Time)
		for _, state := range s.States() {
			if !state.End.IsZero() {
				ends[state.Name] = state.End
			}
		}
		return ends
	}
	leaf := s.inUse.Load().cert.Leaf
	ends := make(map[string]time.Time)
	for _, name := range names(leaf) {
		ends[name] = leaf.NotAfter
	}
	if len(ends) == 0 {
		ends[leaf.Subject.CommonName] = leaf.NotAfter
	}
	return ends
}

// Problems are sentences for the operator about what is in use: a name of hosts
// that it does not cover, an end that is near or past, a reload that failed. It
// is empty when all is well. Ask after each load and, when Stage changes, again.
func (s *Source) Problems(hosts []string, now time.Time) []string {
	if s.acme != nil {
		return s.acme.problems(now)
	}
	in := s.inUse.Load()
	var all []string
	if err := s.failed.Load(); err != nil {
		all = append(all, (*err).Error())
	}
	return append(all, s.mode.problems(in, hosts, now)...)
}

// Stage is how near the end is: 30, 14, 7 or 1 for "within so many days", 0 for
// past, -1 for none of these. To warn once at each, warn when it changes.
func Stage(end, now time.Time) int {
	left := end.Sub(now)
	if left <= 0 {
		return 0
	}
	for _, days := range []int{1, 7, 14, 30} {
		if left <= time.Duration(days)*24*time.Hour {
			return days
		}
	}
	return -1
}

const minute = "2006-01-02 15:04 UTC"

// inDays says when end is: "in 7 days, on 2026-11-28 12:00 UTC".
func inDays(end, now time.Time) string {
	on := end.UTC().Format(minute)
	switch days := int(end.Sub(now).Round(time.Hour) / (24 * time.Hour)); days {
	case 0:
		return "today, on " + on
	case 1:
		return "in 1 day, on " + on
	default:
		return fmt.Sprintf("in %d days, on %s", days, on)
	}
}

func verb(end, now time.Time, future, past string) string {
	if end.After(now) {
		return future
	}
	return past
}

// names are those a client compares the host it wants with: never the common
// name.
func names(leaf *x509.Certificate) []string {
	all := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}

// split gives the hosts that leaf covers and those it does not, both without
// port.
func split(leaf *x509.Certificate, hosts []string) (covered, missing []string) {
	for _, h := range hosts {
		h = bare(h)
		if leaf.VerifyHostname(h) == nil {
			covered = append(covered, h)
		} else {
			missing = append(missing, h)
		}
	}
	return covered, missing
}

// bare is a host without port and brackets.
func bare(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

// list reads "a, b and c".
func list(s []string) string {
	if len(s) < 2 {
		return strings.Join(s, "")
	}
	return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
}

// cause is the last word of an error about a file: its path is told beside it.
func cause(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
