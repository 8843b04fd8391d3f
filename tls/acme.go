package tls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// LetsEncrypt is the directory that is asked if no other is named.
const LetsEncrypt = certmagic.LetsEncryptProductionCA

// ACMEOptions say from whom certificates are asked for, for whom, and where they
// are kept.
type ACMEOptions struct {
	Hosts     []string // at least one; names and addresses, a port is cut off; the first is the default
	Directory string   // "": LetsEncrypt
	CA        []byte   // PEM of the directory's own CA; nil: the system's CAs
	Email     string   // of the account; may be ""
	EAB       EAB      // zero for none
	DNS       *DNS01   // nil: HTTP-01 and TLS-ALPN-01; else DNS-01 alone

	Dir     string            // folder of our own; also a copy of what is in Storage
	Storage certmagic.Storage // shared with other instances; nil: Dir alone

	// Meanwhile is the source in use up to now: what it serves is served until the
	// first certificate is there. nil for none.
	Meanwhile *Source
}

// EAB is external account binding: who we are to a CA that knows its customers.
type EAB struct {
	KeyID  string
	MACKey Secret // base64url
}

// CertificateState is how it stands with one certificate.
type CertificateState struct {
	Name    string
	End     time.Time // zero while there is none
	Issuer  string    // "acme-v02.api.letsencrypt.org"; "" in other modes
	Problem string    // why the last try to get or renew it failed, "" if it did not
	Next    time.Time // when the next try is; zero if none is needed
}

// manager is a Source of mode ACME. It asks for certificates by itself, one for
// each host, rather than leave that to certmagic: there one job for a name keeps
// every other one in the process away, that of the source that a reload makes
// too, and what the CA says about when to come again is not heard. Accounts,
// orders and challenges are certmagic's.
type manager struct {
	o       ACMEOptions
	issuer  string // the directory's name in storage
	log     *zap.Logger
	now     func() time.Time
	look    func(ctx context.Context, host string) ([]net.IP, error)
	roots   *x509.CertPool
	folder  *Folder
	certs   []*managed // in the order of the hosts
	byName  map[string]*managed
	unused  []string         // what is stored and of no use, to be told when all can be told
	until   *tls.Certificate // of Meanwhile
	running atomic.Pointer[running]
	closed  atomic.Bool
	guests  chan struct{} // strangers who are being told a challenge's answer
}

// maxGuests bounds them: each may cost a question to Redis.
const maxGuests = 16

// managed is the certificate of one host.
type managed struct {
	host  string
	inUse atomic.Pointer[kept] // nil: none yet
	state atomic.Pointer[CertificateState]
	again chan struct{} // try now
	ari   renewalWindow // of the certificate in use; only the managing goroutine looks
}

// ACME serves certificates from an ACME CA. Those in storage are served at once,
// expired ones too; it asks the CA nothing. Start makes it ask for the others,
// and renew. ctx bounds the look into storage.
//
// It fails only for what no CA could help with: a CA file that holds none, a
// folder that cannot be made.
func ACME(ctx context.Context, o ACMEOptions, log *zap.Logger) (*Source, error) {
	m := &manager{o: o, log: log, now: time.Now, byName: map[string]*managed{}, guests: make(chan struct{}, maxGuests)}
	m.o.Hosts = plain(o.Hosts)
	if len(m.o.Hosts) == 0 {
		return nil, errors.New("no host to get a certificate for")
	}
	if m.o.Directory == "" {
		m.o.Directory = LetsEncrypt
	}
	m.issuer = issuerName(m.o.Directory)
	resolver := &net.Resolver{}
	m.look = func(ctx context.Context, host string) ([]net.IP, error) { return resolver.LookupIP(ctx, "ip", host) }
	if o.CA != nil {
		m.roots = x509.NewCertPool()
		if !m.roots.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("the CA of the directory holds no certificate in PEM form")
		}
	}
	var err error
	if m.folder, err = NewFolder(o.Dir); err != nil {
		return nil, err
	}
	if o.Meanwhile != nil {
		m.until = o.Meanwhile.byDefault()
		m.o.Meanwhile = nil
	}
	for _, host := range m.o.Hosts {
		c := &managed{host: host, again: make(chan struct{}, 1)}
		c.state.Store(&CertificateState{Name: host, Issuer: m.caName()})
		m.certs = append(m.certs, c)
		m.byName[host] = c
		l := m.load(ctx, host, true)
		for _, err := range l.errs {
			m.unused = append(m.unused, "stored certificate for "+host+" not used: "+err.Error())
		}
		m.use(c, l.best)
	}
	return &Source{now: m.now, acme: m}, nil
}

// use serves k if it is better than what is served.
func (m *manager) use(c *managed, k *kept) {
	if old := c.inUse.Load(); k.newer(old, m.issuer) {
		c.inUse.Store(k)
		state := *c.state.Load()
		state.End = k.cert.Leaf.NotAfter
		c.state.Store(&state)
	}
}

// caName is the directory's host, which people know the CA by.
func (m *manager) caName() string {
	if m.o.Directory == LetsEncrypt {
		return "Let's Encrypt"
	}
	rest := strings.TrimPrefix(m.o.Directory, "https://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// running is what there is between Start and Close.
type running struct {
	end    context.CancelFunc
	work   sync.WaitGroup
	config *certmagic.Config
	http   *certmagic.ACMEIssuer // answers HTTP-01
	taken  net.Listener
	cache  *certmagic.Cache
}

// Start begins to get and renew certificates. The listeners must be there: the CA
// connects to them. http01 says whether one is that HTTPHandler answers on. It
// does nothing for other modes, or when called again.
func (s *Source) Start(http01 bool) error {
	m := s.acme
	if m == nil || m.closed.Load() {
		return nil
	}
	ctx, end := context.WithCancel(context.Background())
	r := &running{end: end}
	if err := m.connect(r, http01); err != nil {
		end()
		return err
	}
	r.work.Add(len(m.certs)) // before anybody can wait for them
	if !m.running.CompareAndSwap(nil, r) {
		end()
		r.release()
		return nil
	}
	for _, text := range m.unused {
		m.log.Warn(text)
	}
	for _, c := range m.certs {
		go func() {
			defer r.work.Done()
			m.manage(ctx, c)
		}()
	}
	return nil
}

// Close ends what Start began; certificates are still served. An order under way
// is given up, and its lock given back.
func (s *Source) Close() {
	if s.acme == nil || s.acme.closed.Swap(true) {
		return
	}
	r := s.acme.running.Load()
	if r == nil {
		return
	}
	r.end()
	done := make(chan struct{})
	go func() {
		r.work.Wait()
		r.release()
		close(done)
	}()
	timer := time.NewTimer(closeWithin)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C: // a CA that does not answer keeps nobody
	}
}

const closeWithin = 5 * time.Second

func (r *running) release() {
	r.taken.Close()
	r.cache.Stop()
}

// retry makes all that failed be tried again now.
func (m *manager) retry() {
	for _, c := range m.certs {
		select {
		case c.again <- struct{}{}:
		default:
		}
	}
}

// accounts is where certmagic keeps its own: apart for each binding to an
// account outside, which is made once, when an account is.
func (m *manager) accounts() certmagic.Storage {
	var s certmagic.Storage = m.folder
	if m.o.Storage != nil {
		s = m.o.Storage
	}
	if m.o.EAB.KeyID == "" {
		return s
	}
	return below{s, filepath.ToSlash(filepath.Join("bound", certmagic.StorageKeys.Safe(m.o.EAB.KeyID))) + "/"}
}
