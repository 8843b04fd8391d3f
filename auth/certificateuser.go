package auth

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CertificateUser says which name in a certificate is the user's.
type CertificateUser uint8

// The names: the common name, the DNS name, the URI (SPIFFE). Each has to be there
// once: of several, whoever asked for the certificate would choose.
const (
	ByCommonName CertificateUser = iota
	ByDNSName
	ByURI
)

// user is the name of a certificate's owner. The error ends the sentence that
// begins "the client certificate".
func (c *Certificates) user(cert *x509.Certificate) (name string, err error) {
	switch c.o.User {
	case ByDNSName:
		if len(cert.DNSNames) != 1 {
			return "", fmt.Errorf("names no user: it has %d DNS names, and one is wanted (tls.client_cert.user is san_dns)", len(cert.DNSNames))
		}
		name = strings.ToLower(cert.DNSNames[0])
		if strings.Contains(name, "*") {
			return "", fmt.Errorf("is for %s, which is no one user", shorten(name))
		}
	case ByURI:
		if len(cert.URIs) != 1 {
			return "", fmt.Errorf("names no user: it has %d URIs, and one is wanted (tls.client_cert.user is san_uri)", len(cert.URIs))
		}
		if err := checkURI(cert.URIs[0]); err != nil {
			return "", err
		}
		name = cert.URIs[0].String()
	default:
		if name, err = commonName(cert); err != nil {
			return "", err
		}
	}
	if err := c.checkUser(name); err != nil {
		return "", err
	}
	if !c.o.CaseSensitive {
		name = strings.ToLower(name)
	}
	return name, nil
}

// commonName is the only one there is: of several, programs differ on which
// counts.
func commonName(cert *x509.Certificate) (name string, err error) {
	commonName, found := asn1.ObjectIdentifier{2, 5, 4, 3}, 0
	for _, one := range cert.Subject.Names {
		if one.Type.Equal(commonName) {
			name, _ = one.Value.(string)
			found++
		}
	}
	switch {
	case found > 1:
		return "", errors.New("names several users: it has more than one common name")
	case name == "":
		return "", errors.New("names no user: its common name is empty")
	}
	return name, nil
}

// checkUser refuses what no rule can name, and what would be read as somebody
// else: letters that nobody sees, or that turn to ASCII in lower case.
func (c *Certificates) checkUser(name string) error {
	switch {
	case len(name) > MaxUser:
		return fmt.Errorf("names no user: its name is longer than %d bytes", MaxUser)
	case name == "" || !utf8.ValidString(name) || strings.TrimSpace(name) != name || name == "<token>":
		return fmt.Errorf("names no user: nobody can be called %s", shorten(name))
	case strings.EqualFold(name, "anonymous"):
		return fmt.Errorf("is for %q, which is what rules and logs call nobody in particular", name)
	}
	for _, r := range name {
		unseen := !unicode.IsPrint(r) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
		if unseen || !c.o.CaseSensitive && r > unicode.MaxASCII && unicode.ToLower(r) <= unicode.MaxASCII {
			return fmt.Errorf("names no user: %s has a letter in it that no name may have", shorten(name))
		}
	}
	return nil
}

// checkURI refuses a URI that has more than one spelling, and of SPIFFE what is
// not a workload's.
func checkURI(u *url.URL) error {
	text := u.String()
	if u.Scheme == "" || u.User != nil || u.Fragment != "" || u.RawQuery != "" || u.ForceQuery {
		return fmt.Errorf("names no user: a login, a query or a fragment in %s", shorten(text))
	}
	if u.Scheme != "spiffe" {
		return nil
	}
	const domain = "abcdefghijklmnopqrstuvwxyz0123456789.-_"
	const segment = domain + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	path, ok := strings.CutPrefix(u.EscapedPath(), "/")
	ok = ok && u.Opaque == "" && u.Host != "" && only(u.Host, domain)
	for _, part := range strings.Split(path, "/") {
		ok = ok && part != "" && part != "." && part != ".." && only(part, segment)
	}
	if !ok {
		return fmt.Errorf("names no user: %s is no SPIFFE ID of a workload (spiffe://trust.domain/path)", shorten(text))
	}
	return nil
}
