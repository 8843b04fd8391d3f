package tls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"
)

const (
	attemptWithin = 10 * time.Minute // one try, waiting for another instance's included
	pollWithin    = 3 * time.Minute  // for the CA to validate, and to issue
	lookAgain     = 6 * time.Hour    // at what the CA suggests, and what others have stored
	askWithin     = 30 * time.Second // for what the CA suggests
	room          = 16 << 10         // more than a certificate takes; a full disk still makes empty files
)

// renewalWindow is when the CA suggests to renew (ARI, RFC 9773).
type renewalWindow struct {
	of     *kept     // the certificate it is about
	at     time.Time // zero: the CA suggests nothing
	expiry time.Time // of the suggestion
	start  time.Time // of the window it was chosen in, and its end
	end    time.Time
}

// manage gets the certificate of one host and renews it, until ctx ends.
func (m *manager) manage(ctx context.Context, c *managed) {
	failures, soon := 0, 0
	var early earlyTries
	var last *kept // what has just been obtained
	m.heal(ctx, c)
	for ctx.Err() == nil {
		due := m.due(ctx, c)
		if m.now().Before(due) {
			failures, soon, last = 0, 0, nil
			m.wait(ctx, c, min(due.Sub(m.now()), lookAgain))
			if k := m.load(ctx, c.host, false).best; k.newer(c.inUse.Load(), m.issuer) { // another instance was first
				m.obtained(ctx, c, k, c.inUse.Load())
			}
			m.heal(ctx, c)
			continue
		}
		had := c.inUse.Load()
		if last != nil && had == last { // it was due as it arrived
			if pause := rest(had.lifetime(), soon); pause > 0 {
				m.log.Warn(fmt.Sprintf("certificate for %s is due for renewal as it arrives, again and again: is the clock here right, which says %s? %s is asked again in %v",
					c.host, m.now().UTC().Format(minute), m.caName(), pause))
				for end := m.now().Add(pause); m.wait(ctx, c, end.Sub(m.now())); { // whoever asks
				}
			}
			soon++
		}
		try, cancel := context.WithTimeout(ctx, attemptWithin)
		tried := &attempt{host: c.host}
		k, err := m.obtain(try, tried, c)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			m.obtained(ctx, c, k, had)
			m.wait(ctx, c, min(time.Minute, k.lifetime()/8)) // whatever the CA suggests
			last = k
			continue
		}
		failures++
		next := m.now().Add(tried.wait(err, failures, m.now()))
		renewal := had != nil && had.issuer == m.issuer
		m.failed(c, renewal, tried.words(m, err), next)
		for m.wait(ctx, c, next.Sub(m.now())) {
			if !tried.counts(err) || early.grant(m.now()) {
				failures = 0 // somebody has changed something
				break
			}
		}
	}
}

// wait returns after d, or when asked to try now, which it reports.
func (m *manager) wait(ctx context.Context, c *managed, d time.Duration) (asked bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-c.again:
		return true
	}
	return false
}

// due is when to ask for the next certificate: when two thirds of its life are
// over (half of a short one), or when the CA suggests, but no later than when a
// sixth is left.
func (m *manager) due(ctx context.Context, c *managed) time.Time {
	k := c.inUse.Load()
	if k == nil || k.issuer != m.issuer {
		return time.Time{}
	}
	left := k.lifetime() / 3
	if k.lifetime() < 10*24*time.Hour {
		left = k.lifetime() / 2
	}
	at := k.cert.Leaf.NotAfter.Add(-left)
	m.suggested(ctx, c, k)
	if !c.ari.at.IsZero() {
		at = c.ari.at
		if last := k.cert.Leaf.NotAfter.Add(-k.lifetime() / 6); at.After(last) {
			at = last
		}
	}
	return at
}

// suggested asks the CA when to renew k, if it has not said so lately.
func (m *manager) suggested(ctx context.Context, c *managed, k *kept) {
	if c.ari.of == k && m.now().Before(c.ari.expiry) {
		return
	}
	if c.ari.of != k {
		c.ari = renewalWindow{of: k}
	}
	c.ari.expiry = m.now().Add(lookAgain)
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	info, err := m.running.Load().http.GetRenewalInfo(ctx, certmagic.Certificate{Certificate: tls.Certificate{Leaf: k.cert.Leaf}})
	if err != nil || !info.HasWindow() {
		return // a CA that knows no ARI, or is away: what it said before holds
	}
	// Chosen once for one window: who throws dice every few hours renews early.
	if w := info.SuggestedWindow; !w.Start.Equal(c.ari.start) || !w.End.Equal(c.ari.end) {
		c.ari.at, c.ari.start, c.ari.end = info.SelectedTime, w.Start, w.End
	}
}

// obtain asks the CA for a certificate, unless another instance was first.
func (m *manager) obtain(ctx context.Context, try *attempt, c *managed) (*kept, error) {
	r := m.running.Load()
	// A CA counts what it gave out, and nobody gets back what could not be kept.
	if err := m.folder.Store(ctx, "writable", make([]byte, room)); err != nil {
		return nil, &storageError{err}
	}
	storage := m.accounts()
	lock := "certificate_" + m.issuer + "_" + c.host
	if err := storage.Lock(ctx, lock); err != nil {
		return nil, &storageError{err}
	}
	defer func() {
		if err := storage.Unlock(ctx, lock); err != nil {
			m.log.Warn("ACME: " + err.Error())
		}
	}()
	m.use(c, m.load(ctx, c.host, false).best)
	if k := c.inUse.Load(); k != nil && k.issuer == m.issuer && m.now().Before(m.due(ctx, c)) {
		return k, nil
	}
	m.warnPrivate(ctx, try)
	log := zap.New(quietCore{m.log.Core()}.telling(try))
	issuer := m.newIssuer(r, !r.http.DisableHTTPChallenge, m.profile(c.host), log)
	if m.o.Email != "" { // else certmagic would take one that it has seen elsewhere in the process
		if err := issuer.PreCheck(ctx, []string{c.host}, false); err != nil {
			return nil, err
		}
	} else if m.o.Directory == LetsEncrypt && !certmagic.SubjectQualifiesForPublicCert(c.host) {
		return nil, errors.New("that is no public name")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := csr(c.host, key)
	if err != nil {
		return nil, err
	}
	issued, err := issuer.Issue(ctx, request)
	var problem acme.Problem
	if errors.As(err, &problem) && problem.Type == acme.ProblemTypeAccountDoesNotExist {
		issued, err = issuer.Issue(ctx, request) // with the account that has been made since
	}
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	k, err := parseKept("what "+m.caName()+" has issued", m.issuer, c.host, bundle(keyPEMOf(der), issued.Certificate))
	if err != nil {
		return nil, &uselessError{err}
	}
	k.at = ""
	if err := m.save(ctx, c.host, k); err != nil {
		m.log.Error(fmt.Sprintf("certificate for %s is in use and not kept: %v", c.host, err))
	}
	return k, nil
}

// profile is one that gives certificates to addresses: at Let's Encrypt those
// that live six days.
func (m *manager) profile(host string) string {
	if net.ParseIP(host) != nil && m.o.Directory == LetsEncrypt {
		return "shortlived"
	}
	return ""
}

func csr(host string, key *ecdsa.PrivateKey) (*x509.CertificateRequest, error) {
	template := &x509.CertificateRequest{}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificateRequest(der)
}

// obtained puts k in use.
func (m *manager) obtained(ctx context.Context, c *managed, k, had *kept) {
	c.inUse.Store(k)
	state := CertificateState{Name: c.host, Issuer: m.caName(), End: c.inUse.Load().cert.Leaf.NotAfter}
	c.state.Store(&state)
	verb := "obtained"
	if had != nil && had.issuer == m.issuer {
		verb = "renewed"
	}
	fields := []zap.Field{zap.String("ca", m.caName()), zap.Time("expires", state.End)}
	if k.at != "" {
		fields = append(fields, zap.String("by", "another instance"))
	}
	m.log.Info("certificate for "+c.host+" "+verb, fields...)
	m.heal(ctx, c)
}

// failed tells why, and when the next try is.
func (m *manager) failed(c *managed, renewal bool, why string, next time.Time) {
	state := *c.state.Load()
	state.Problem, state.Next = why, next
	c.state.Store(&state)
	verb := "obtained"
	if renewal {
		verb = "renewed"
	}
	m.log.Error(fmt.Sprintf("certificate for %s not %s: %s%s", c.host, verb, why, nextTry(next, m.now())))
}

// heal stores what is in use where it is missing: Redis may have been emptied, and
// the disk full.
func (m *manager) heal(ctx context.Context, c *managed) {
	k := c.inUse.Load()
	if k == nil || k.issuer != m.issuer {
		return
	}
	for _, s := range m.places() {
		stored, err := read(ctx, s, k.issuer, c.host)
		if (err == nil || errors.Is(err, ErrSealed)) && k.newer(stored, m.issuer) {
			if err := s.Store(ctx, certKey(k.issuer, c.host), k.pem); err != nil {
				m.log.Warn(fmt.Sprintf("certificate for %s not kept: %v", c.host, err))
			}
		}
	}
}

// warnPrivate is M17: Let's Encrypt cannot reach what only we can.
func (m *manager) warnPrivate(ctx context.Context, try *attempt) {
	if m.o.Directory != LetsEncrypt || m.o.DNS != nil {
		return
	}
	if try.private = Unreachable(ctx, m.look, try.host); try.private != "" {
		m.log.Warn(try.private)
	}
}
