package tls

import (
	"crypto/tls"
	"time"
)

// InternalAt is Internal by a clock of the test's.
func InternalAt(now func() time.Time, dir string, hosts ...string) (*Source, error) {
	return internal(dir, hosts, now)
}

// InUse is the certificate in use, for comparing.
func (s *Source) InUse() *tls.Certificate { return s.inUse.Load().cert }

// ParsePair parses the contents of tls.crt and tls.key.
func ParsePair(chain, key []byte) (*tls.Certificate, error) {
	return pair{"tls.crt", "tls.key"}.parse(chain, key)
}
