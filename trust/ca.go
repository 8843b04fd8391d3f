package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
)

// ErrUseless reports a certificate that no trust in any CA makes good.
var ErrUseless = errors.New("trusting its CA will not help")

// ErrNoRoot reports a chain whose top has to come from somewhere else.
var ErrNoRoot = errors.New("the CA is not shown")

// Anchor is what a client has to be given.
type Anchor struct {
	Cert *x509.Certificate // nil if nothing is needed: the system's store has it already
	// System is the CA in the system's store that the chain leads to, where
	// nothing is needed.
	System *x509.Certificate
	Notes  []string
}

// Find works out which certificate a client must trust so that it believes what
// was shown. Given are those of a file that somebody brought, or none: then it
// is the CA that the host shows itself, unless roots, the system's store,
// already know another. It returns ErrUseless or ErrNoRoot, wrapped in what to
// do.
func Find(s *Shown, given []*x509.Certificate, roots *x509.CertPool, now time.Time) (*Anchor, error) {
	leaf := s.Chain[0]
	if err := s.covered(); err != nil {
		return nil, err
	}
	a := &Anchor{}
	// An end that came must not hide who signed it.
	when := now
	switch {
	case now.After(leaf.NotAfter):
		when = leaf.NotAfter
		a.Notes = append(a.Notes, fmt.Sprintf("The certificate of %s expired on %s: clients refuse it, CA or no CA, until it is renewed.", s.Host, day(leaf.NotAfter)))
	case now.Before(leaf.NotBefore):
		when = leaf.NotBefore
		a.Notes = append(a.Notes, fmt.Sprintf("The certificate of %s begins on %s only: clients refuse it until then. Is the clock right, here and there?", s.Host, day(leaf.NotBefore)))
	}
	candidates := given
	if len(given) == 0 {
		if roots != nil {
			if chains, err := leaf.Verify(options(s.Chain, roots, when)); err == nil {
				a.System = chains[0][len(chains[0])-1]
				return a, nil
			}
		}
		candidates = selfSigned(s.Chain)
	}
	var why error
	for _, c := range candidates {
		pool := x509.NewCertPool()
		pool.AddCert(c)
		if _, err := leaf.Verify(options(s.Chain, pool, when)); err != nil {
			why = err
			continue
		}
		a.Cert = c
		a.remark(s, leaf)
		return a, nil
	}
	return nil, s.noRoot(given, candidates, why)
}

// options never ask for the name: covered has, in better words.
func options(chain []*x509.Certificate, roots *x509.CertPool, when time.Time) x509.VerifyOptions {
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	return x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: when}
}

// covered is ErrUseless unless the certificate is for the host's name.
func (s *Shown) covered() error {
	leaf := s.Chain[0]
	if leaf.VerifyHostname(s.Host.Name) == nil {
		return nil
	}
	names := Names(leaf)
	if len(names) == 0 {
		return fmt.Errorf("%w: the certificate of %s names no host at all (it has no subjectAltName; the common name, %s, counts for no client any more). "+
			"It takes a certificate for %s", ErrUseless, s.Host, quoted(leaf.Subject.CommonName), s.Host.Name)
	}
	return fmt.Errorf("%w: the certificate that %s shows is for %s, not for %s. Either use one of those names, or give the registry a certificate for this one (regward: add it to hostname)",
		ErrUseless, s.Host, strings.Join(names, ", "), s.Host.Name)
}

// Names are the names and addresses that a certificate is for, ten at most, fit
// to be printed.
func Names(c *x509.Certificate) []string {
	const most = 10
	var all []string
	for _, n := range c.DNSNames {
		all = append(all, plain(n))
	}
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("%d more", len(all)-most))
	}
	return all
}

// selfSigned are the certificates of chain that are signed with their own key,
// the top first.
func selfSigned(chain []*x509.Certificate) []*x509.Certificate {
	var all []*x509.Certificate
	for _, c := range slices.Backward(chain) {
		if signedItself(c) {
			all = append(all, c)
		}
	}
	return all
}

func signedItself(c *x509.Certificate) bool {
	// CheckSignatureFrom wants a CA, which a certificate made with one command
	// of openssl need not be.
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// remark adds what is worth knowing about the anchor that was found.
func (a *Anchor) remark(s *Shown, leaf *x509.Certificate) {
	switch {
	case a.Cert.Equal(leaf):
		a.Notes = append(a.Notes, fmt.Sprintf("This certificate is signed by itself, by no CA: when %s gets another one, on %s at the latest, every client needs that.", s.Host, day(leaf.NotAfter)))
	case !signedItself(a.Cert):
		a.Notes = append(a.Notes, "This CA is signed by another one. docker, containerd, podman and buildkit take it as it is; programs built on OpenSSL, like curl, want the root.")
	}
	if !a.Cert.Equal(leaf) {
		a.Notes = append(a.Notes, fmt.Sprintf("This CA ends on %s; clients then need its successor.", day(a.Cert.NotAfter)))
	}
}

// noRoot says where the CA is to be had.
func (s *Shown) noRoot(given, candidates []*x509.Certificate, why error) error {
	top := s.Chain[len(s.Chain)-1]
	switch {
	case len(given) > 0:
		return fmt.Errorf("%w in that file: it holds %s, and %s shows a certificate signed by %s (%v)",
			ErrNoRoot, subjects(given), s.Host, quoted(name(top.Issuer.String(), top.Issuer.CommonName)), why)
	case len(candidates) > 0:
		return fmt.Errorf("%w: with %s, which %s shows, its certificate is still refused: %v", ErrUseless, subjects(candidates), s.Host, why)
	}
	where := ""
	if len(top.IssuingCertificateURL) > 0 {
		where = " The certificate itself says that its issuer is to be had at " + plain(top.IssuingCertificateURL[0]) + "."
	}
	return fmt.Errorf("%w: the last certificate that %s shows is %s, signed by %s, which it does not show.%s "+
		"Get the root certificate from whoever runs that CA (in front of regward with tls.mode: internal, regward ca prints it) and say: --ca-file root.pem. "+
		"If that CA is a public one, %s lacks the certificates in between: its own certificate file must hold the full chain",
		ErrNoRoot, s.Host, quoted(Subject(top)), quoted(name(top.Issuer.String(), top.Issuer.CommonName)), where, s.Host)
}

// Subject is what people call a certificate, fit to be printed.
func Subject(c *x509.Certificate) string {
	return plain(name(c.Subject.String(), c.Subject.CommonName))
}

func name(whole, common string) string {
	if common != "" {
		return common
	}
	return whole
}

func subjects(certs []*x509.Certificate) string {
	const most = 3
	var all []string
	for _, c := range certs[:min(len(certs), most)] {
		all = append(all, quoted(Subject(c)))
	}
	if len(certs) > most {
		all = append(all, fmt.Sprintf("%d more", len(certs)-most))
	}
	return strings.Join(all, ", ")
}

// Fingerprint is the SHA-256 of a certificate as openssl and browsers write it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

// PEM is c as clients read it.
func PEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// maxGiven is the most certificates that a file may hold. A system's store has
// about 150.
const maxGiven = 1000

// Certificates reads those of a PEM file, 1000 at most. What else stands in it
// is passed over; none at all is an error.
func Certificates(content []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for len(all) < maxGiven {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of it cannot be read: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	return all, nil
}

// plain is text from a certificate that nobody has proved yet, cut to what does
// nothing in a terminal or in a shell's comment, whatever shell it is pasted
// into.
func plain(text string) string {
	const most = 100
	runes := []rune(text)
	if len(runes) > most {
		runes = append(runes[:most], '.', '.', '.')
	}
	for i, r := range runes {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(" .,_=+@:/-*", r) {
			runes[i] = '?'
		}
	}
	return string(runes)
}

func quoted(text string) string { return `"` + plain(text) + `"` }

func day(t time.Time) string { return t.UTC().Format("2006-01-02") }
