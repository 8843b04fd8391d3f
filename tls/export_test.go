package tls

import (
	"crypto/tls"
	"time"
)

// InternalAt is Internal by a clock of the test's.
func InternalAt(now func() time.Time, dir string, hosts ...string) (*Source, error) {
	return internal(dir, hosts, now)
}

// SetNow gives s the clock of a test, before s is used.
func (s *Source) SetNow(now func() time.Time) { s.now = now }

// InUse is the certificate in use, for comparing.
func (s *Source) InUse() *tls.Certificate { return s.inUse.Load().cert }
