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

// Bounds that tests hit.
const (
	MaxStored = maxStored
	MaxKeys   = maxKeys
)

// AskedTries is how many reloads an hour make it try at once.
const AskedTries = askedTries

// Rest is rest.
func Rest(lifetime time.Duration, soon int) time.Duration { return rest(lifetime, soon) }

// SetLease makes r's locks last for d, in place of 30 seconds.
func (r *Redis) SetLease(d time.Duration) { r.lease = d }

// HoldsUnrenewed makes r forget to renew the lock name, as a process that hangs
// does.
func (r *Redis) HoldsUnrenewed(name string) {
	l, _ := r.locks.take(name)
	l.end()
	l.ended.Wait()
	r.locks.put(name, l)
}

// Tidy is tidy of all that is older than now.
func (f *Folder) Tidy() { f.tidy(time.Now().Add(time.Second)) }

// CertKey is where the certificate of a directory for host is stored.
func CertKey(directory, host string) string { return certKey(issuerName(directory), host) }

// Words is what is said of err after these challenges failed, as "kind: detail",
// and when the next try is.
func (o ACMEOptions) Words(err error, failures int, now time.Time, challenges ...[2]string) (string, time.Duration) {
	m := &manager{o: o}
	try := &attempt{host: o.Hosts[0]}
	for _, c := range challenges {
		try.challenges = append(try.challenges, failedChallenge{c[0], c[1]})
	}
	return try.words(m, err), try.wait(err, failures, now)
}
