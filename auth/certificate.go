package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// CertificateOptions are the keys that shape whom certificates speak for.
type CertificateOptions struct {
	User          CertificateUser
	CaseSensitive bool
}

// Certificates says whom the certificates of clients speak for (X05). It is
// immutable.
type Certificates struct {
	o       CertificateOptions
	cas     []*x509.Certificate // all that were named, the revoked ones too
	roots   *x509.CertPool
	anchors map[link]string // those in roots, and their names
	revoked []uint64        // links, sorted
	lists   []revocationList
}

// A link names a certificate in a chain. It is no secret: whoever has a token
// has shown the certificate.
type link uint64

const linkSize = 8

// ParseCertificates reads the CAs that are believed, in PEM. All that is there
// must be whole: a file that somebody is still writing is an error.
func ParseCertificates(cas []byte, o CertificateOptions) (*Certificates, error) {
	c := &Certificates{o: o}
	rest := cas
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s; only certificates belong there", strings.ToLower(block.Type))
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in it cannot be read: %w", len(c.cas)+1, err)
		}
		if c.cas = append(c.cas, one); len(c.cas) > MaxClientCAs {
			return nil, fmt.Errorf("holds more than %d certificates", MaxClientCAs)
		}
	}
	switch {
	case strings.Contains(string(rest), "-----BEGIN"):
		return nil, fmt.Errorf("is cut off after certificate %d", len(c.cas))
	case len(c.cas) == 0:
		return nil, errors.New("holds no certificate in PEM")
	}
	c.trust()
	return c, nil
}

// trust believes the CAs, but for those that are revoked themselves.
func (c *Certificates) trust() {
	c.roots, c.anchors = x509.NewCertPool(), map[link]string{}
	for _, one := range c.cas {
		if !c.isRevoked(linkOf(one)) {
			c.roots.AddCert(one)
			c.anchors[c.anchor(one)] = nameOf(one)
		}
	}
}

// Roots are the CAs that are believed, to tell clients which of their
// certificates to show.
func (c *Certificates) Roots() *x509.CertPool { return c.roots }

// CertificateError is a certificate that proves nobody. It is an ErrRejected.
type CertificateError struct {
	User string // whose it says to be, as far as that can be told; a stranger's word
	Msg  string
}

// Error is for the client too: "the client certificate of ann expired on …".
func (e *CertificateError) Error() string {
	if e.User == "" {
		return "the client certificate " + e.Msg
	}
	return "the client certificate of " + shorten(e.User) + " " + e.Msg
}

// Unwrap makes it an ErrRejected.
func (e *CertificateError) Unwrap() error { return ErrRejected }

// Identify is whom the certificates that a client has shown speak for, its own
// first. Expires is the first end in the chain. The error is a
// *CertificateError.
func (c *Certificates) Identify(shown []*x509.Certificate, now time.Time) (Identity, error) {
	if len(shown) == 0 {
		return Identity{}, &CertificateError{Msg: "is missing"}
	}
	own := shown[0]
	name, nameErr := c.user(own)
	refuse := func(msg string) (Identity, error) {
		e := &CertificateError{User: name, Msg: msg}
		if nameErr != nil {
			e.User = own.Subject.CommonName
		}
		return Identity{}, e
	}
	if len(shown) > MaxShown {
		return refuse(fmt.Sprintf("comes with %d others; at most %d certificates are looked at", len(shown)-1, MaxShown))
	}
	between := x509.NewCertPool()
	for _, one := range shown[1:] {
		between.AddCert(one)
	}
	chains, err := own.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return refuse(c.unverified(own, err, now))
	}
	var bad string
	for _, chain := range chains {
		id := Identity{Name: name, Via: viaCertificate, Expires: chain[0].NotAfter}
		if id.Chain, bad = c.follow(chain); bad != "" {
			continue
		}
		if nameErr != nil {
			return refuse(nameErr.Error())
		}
		for _, one := range chain {
			if one.NotAfter.Before(id.Expires) {
				id.Expires = one.NotAfter
			}
		}
		return id, nil
	}
	return refuse(bad)
}

// follow names the links of a verified chain, its CA first; bad says which
// certificate in it is revoked.
func (c *Certificates) follow(chain []*x509.Certificate) (links, bad string) {
	last := len(chain) - 1
	b := binary.BigEndian.AppendUint64(nil, uint64(c.anchor(chain[last])))
	for i, one := range chain[:last] {
		l := linkOf(one)
		if c.isRevoked(l) {
			if i == 0 {
				return "", fmt.Sprintf("(serial %x) has been revoked", one.SerialNumber)
			}
			return "", fmt.Sprintf("is by %s, whose own certificate has been revoked", nameOf(one))
		}
		b = binary.BigEndian.AppendUint64(b, uint64(l))
	}
	return string(b), ""
}

// unverified says what is wrong with a certificate, and what to do.
func (c *Certificates) unverified(own *x509.Certificate, err error, now time.Time) string {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case now.After(own.NotAfter):
		return "expired on " + instant(own.NotAfter) + "; ask for a new one"
	case now.Before(own.NotBefore):
		return "is not valid before " + instant(own.NotBefore) + "; is a clock wrong?"
	case errors.As(err, &unknown) && slices.ContainsFunc(c.cas, func(ca *x509.Certificate) bool { return string(ca.RawSubject) == string(own.RawIssuer) }):
		return "is by " + shorten(own.Issuer.String()) + "; a CA of that name is known here, but not that one"
	case errors.As(err, &unknown):
		return "is by " + shorten(own.Issuer.String()) + ", which is no CA for logins here"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return "is not made for clients: its extended key usage lacks clientAuth"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return "is by " + nameOf(invalid.Cert) + ", whose own certificate was valid from " + instant(invalid.Cert.NotBefore) + " to " + instant(invalid.Cert.NotAfter)
	}
	return "cannot be verified: " + strings.TrimPrefix(err.Error(), "x509: ")
}

func instant(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// nameOf is a CA in a sentence.
func nameOf(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return shorten(c.Subject.CommonName)
	}
	return shorten(c.Subject.String())
}

// Current reports whether the certificate that proved id is still believed. It
// does not allocate.
func (c *Certificates) Current(id *Identity) bool {
	if c == nil || id.Via != viaCertificate || len(id.Chain) < linkSize || len(id.Chain)%linkSize != 0 {
		return false
	}
	if _, ok := c.anchors[linkAt(id.Chain, 0)]; !ok {
		return false
	}
	for at := linkSize; at < len(id.Chain); at += linkSize {
		if c.isRevoked(linkAt(id.Chain, at)) {
			return false
		}
	}
	return true
}

// ByCertificate reports whether a client certificate proved id.
func (id *Identity) ByCertificate() bool { return id.Via == viaCertificate }

// linkAt reads a link without allocating.
func linkAt(chain string, at int) (l link) {
	for i := range linkSize {
		l = l<<8 | link(chain[at+i])
	}
	return l
}

// anchor names a CA that is believed, and what follows from that: another way to
// find the user unproves who was found by the old one.
func (c *Certificates) anchor(ca *x509.Certificate) link {
	return hashed(fmt.Sprintf("anchor %d %v", c.o.User, c.o.CaseSensitive), ca.Raw, nil)
}

// linkOf names a certificate as revocation lists do.
func linkOf(one *x509.Certificate) link { return linkFor(one.RawIssuer, one.SerialNumber) }

func linkFor(issuer []byte, serial *big.Int) link {
	return hashed("certificate", issuer, serial.Bytes())
}

func hashed(label string, a, b []byte) link {
	all := make([]byte, 0, 512)
	for _, part := range [][]byte{[]byte(label), a, b} {
		all = binary.BigEndian.AppendUint32(all, uint32(len(part)))
		all = append(all, part...)
	}
	sum := sha256.Sum256(all)
	return link(binary.BigEndian.Uint64(sum[:]))
}

// isRevoked reports whether a revocation list has it.
func (c *Certificates) isRevoked(l link) bool {
	_, found := slices.BinarySearch(c.revoked, uint64(l))
	return found
}
