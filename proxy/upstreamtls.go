package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// tlsError is TLS towards an upstream that does not come about. words say what
// to do; anybody may read them.
type tlsError struct {
	words string
	cause error
}

func (e *tlsError) Error() string { return e.words + ": " + e.cause.Error() }

func (e *tlsError) Unwrap() error { return e.cause }

// errPage is a web server's word, in a page, about our client certificate.
type errPage string

func (e errPage) Error() string { return "it answers 400: " + string(e) }

// inWords makes a *tlsError of err, if it is one.
func (u *Upstream) inWords(err error) error {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var plain tls.RecordHeaderError
	var alert *net.OpError
	var page errPage
	words := ""
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		words = "its certificate is by a CA that is not trusted here: name that CA in ca_file"
	case errors.As(err, &name):
		words = "its certificate is not for the name in url: write one that it is for, or have it renewed"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil && u.Now().Before(invalid.Cert.NotBefore):
		words = "its certificate is not valid before " + day(invalid.Cert.NotBefore) + ": is a clock wrong?"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		words = "its certificate expired on " + day(invalid.Cert.NotAfter) + ": renew it there"
	case errors.As(err, &plain):
		words = "it does not speak TLS there: is url right?"
	case errors.As(err, &alert) && alert.Op == "remote error" && aboutUs(alert.Err.Error()), errors.As(err, &page):
		words = "it wants a client certificate: set client_cert_file and client_key_file"
		if len(u.settings.ClientCert) > 0 {
			words = "it does not take the certificate in client_cert_file: is it by the CA that is wanted there, and still good?"
		}
	default:
		return err
	}
	return &tlsError{words, err}
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// aboutUs reports whether an alert is about a certificate of ours, or that we
// have none: servers that want one say so in several ways.
func aboutUs(alert string) bool {
	return strings.Contains(alert, "certificate") || strings.Contains(alert, "handshake failure") ||
		strings.Contains(alert, "access denied") || strings.Contains(alert, "unknown certificate authority")
}

// maxPage400 is how much of a page is looked at.
const maxPage400 = 1 << 10

// aboutCertificate is what nginx and its kin say of our client certificate, nil
// if it is something else: they take any in the handshake, or none, and answer
// every request with a page.
func (u *Upstream) aboutCertificate(status int, header http.Header, body []byte) error {
	if u.scheme != "https" || status != http.StatusBadRequest || !isPage(header) {
		return nil
	}
	title, _, _ := bytes.Cut(body[:min(len(body), maxPage400)], []byte("</title>"))
	_, title, _ = bytes.Cut(title, []byte("<title>"))
	if !bytes.Contains(title, []byte("SSL certificate")) {
		return nil
	}
	return errPage(short(string(title)))
}

// refusedCertificate is aboutCertificate for an answer that nobody has read.
func (u *Upstream) refusedCertificate(resp *http.Response) error {
	if u.scheme != "https" || resp.StatusCode != http.StatusBadRequest || !isPage(resp.Header) {
		return nil
	}
	begin, _ := io.ReadAll(io.LimitReader(resp.Body, maxPage400))
	err := u.aboutCertificate(resp.StatusCode, resp.Header, begin)
	if err != nil {
		drop(resp)
		return err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(begin), resp.Body), resp.Body}
	return nil
}
