// Package tls answers one question: with which certificate?
package tls

import (
	"crypto/tls"
	"time"
)

// Source is where certificates come from. The mode is chosen once, by the
// constructor.
type Source struct{}

// Files serves one pair, verified on load; a broken reload keeps the pair in use.
func Files(cert, key string) (*Source, error) { panic("unwritten") }

// Internal serves certificates of a CA of its own, kept in dir (made on first
// use: ca.pem, ca.key), for hosts (names and IP addresses).
func Internal(dir string, hosts ...string) (*Source, error) { panic("unwritten") }

// Config is a server configuration: TLS 1.2 (AEAD suites only) and 1.3 from
// min on, h2 and http/1.1, a certificate also for connections without SNI.
func (s *Source) Config(min uint16) *tls.Config { panic("unwritten") }

// Reload reads the files again, or renews for hosts. On an error what was in
// use stays in use.
func (s *Source) Reload(hosts ...string) error { panic("unwritten") }

// CA is the PEM of the internal CA, nil for Files.
func (s *Source) CA() []byte { panic("unwritten") }

// Expiry is when the certificate for each name ends.
func (s *Source) Expiry() map[string]time.Time { panic("unwritten") }
