package doctor

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"strings"
	"time"
)

// checkCertificate judges chain, names and time each by itself, so that one
// mistake is one finding. It reports whether all is right.
func (e *examination) checkCertificate(chain []*x509.Certificate) bool {
	leaf := chain[0]
	signed := e.checkChain(chain)
	named := e.checkName(leaf)
	timely := e.checkExpiry(chain)
	return signed && named && timely
}

func (e *examination) checkChain(chain []*x509.Certificate) bool {
	leaf := chain[0]
	err := e.verify(chain, e.pool())
	if err == nil {
		e.checkOrder(chain)
		e.checkSystem(chain)
		return true
	}
	last := chain[len(chain)-1]
	switch {
	case len(chain) == 1 && isSelfSigned(leaf):
		e.problem("chain", fmt.Sprintf("the certificate is self-signed (%s), and nobody here trusts it", subject(leaf)),
			"every client refuses it: x509: certificate signed by unknown authority", e.trustFix())
	case isSelfSigned(last):
		e.problem("chain", fmt.Sprintf("%s comes from the CA %s, which nobody here trusts", subject(leaf), name(last.Subject)),
			"clients without that CA say: x509: certificate signed by unknown authority", e.trustFix())
	case e.knowsName(last.Issuer):
		e.problem("chain", fmt.Sprintf("%s claims to come from %s, but the CA of that name here has another key", subject(last), name(last.Issuer)),
			"the CA was made anew, or the file has the certificate of another one", "get the CA's present certificate")
	case len(last.IssuingCertificateURL) > 0 || len(e.o.CA) > 0 && len(chain) == 1:
		e.problem("chain", fmt.Sprintf("an intermediate certificate is missing: %s was issued by %s, which the server does not send and nobody here trusts", subject(last), name(last.Issuer)),
			"browsers fetch it by themselves; docker, podman and containerd do not", e.orderFix(last))
	default:
		e.problem("chain", fmt.Sprintf("%s was issued by %s, which the server does not send and nobody here trusts", subject(last), name(last.Issuer)),
			"clients say: x509: certificate signed by unknown authority",
			fmt.Sprintf("if %s is your own CA: %s; if it is an intermediate: %s", name(last.Issuer), e.trustFix(), e.orderFix(last)))
	}
	return false
}

// trustFix is the way to a trusted CA, never around it.
func (e *examination) trustFix() string {
	return fmt.Sprintf("regward trust %s --for docker (or containerd, podman, buildkit, kubernetes, system) prints the files each client needs, with --ca-file FILE where the server does not send the CA itself; doctor takes --ca-file too", e.report.Host)
}

func (e *examination) orderFix(last *x509.Certificate) string {
	fix := "the server's certificate file holds its own certificate first, then each intermediate, without the root: cat server.crt intermediate.crt > fullchain.crt (nginx: ssl_certificate fullchain.crt; regward: tls.cert_file)"
	if len(last.IssuingCertificateURL) > 0 {
		fix += "; the missing one is at " + last.IssuingCertificateURL[0]
	}
	return fix
}

// verify asks for the chain alone: a time at which every certificate was
// valid is taken, if there is one, and no name.
func (e *examination) verify(chain []*x509.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	at := e.o.Now()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, c := range chain {
		if at.After(c.NotAfter) {
			at = c.NotAfter
		}
	}
	for _, c := range chain {
		if at.Before(c.NotBefore) {
			at = c.NotBefore
		}
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

// checkOrder: what is sent in the wrong order works for most.
func (e *examination) checkOrder(chain []*x509.Certificate) {
	for i := range chain[:len(chain)-1] {
		if !bytes.Equal(chain[i].RawIssuer, chain[i+1].RawSubject) {
			e.warn("chain", fmt.Sprintf("the certificates are in the wrong order: %s is followed by %s, which did not issue it", subject(chain[i]), subject(chain[i+1])),
				"strict clients stop at the first that does not fit (RFC 5246, 7.4.2)", e.orderFix(chain[i]))
			return
		}
	}
}

// checkSystem says who else has to be given the CA.
func (e *examination) checkSystem(chain []*x509.Certificate) {
	e.ok("chain", certificates(chain)+", issued by "+name(chain[len(chain)-1].Issuer)+": trusted")
	if len(e.o.CA) == 0 {
		return
	}
	if system, err := x509.SystemCertPool(); err == nil && e.verify(chain, system) == nil {
		return
	}
	e.note("trust", "the chain is trusted by --ca-file, not by this system", "every client needs the CA too",
		fmt.Sprintf("regward trust %s --for docker --ca-file FILE (or containerd, podman, buildkit, kubernetes, system)", e.report.Host))
}

func (e *examination) knowsName(issuer pkix.Name) bool {
	for _, c := range e.o.CA {
		if c.Subject.String() == issuer.String() {
			return true
		}
	}
	return false
}

func (e *examination) checkName(leaf *x509.Certificate) bool {
	if leaf.VerifyHostname(bracketed(e.at.Name)) == nil {
		e.ok("name", "the certificate is for "+e.at.Name)
		return true
	}
	names := append([]string{}, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	kind := "DNS:"
	if net.ParseIP(e.at.Name) != nil {
		kind = "IP:"
	}
	if len(names) == 0 {
		e.problem("name", fmt.Sprintf("the certificate has no subject alternative names, only the common name %q", leaf.Subject.CommonName),
			"clients look at the alternative names alone, and print: certificate relies on legacy Common Name field",
			"issue it again with the name: openssl req ... -addext \"subjectAltName="+kind+e.at.Name+"\"")
		return false
	}
	e.problem("name", fmt.Sprintf("the certificate is for %s, not for %s", cut(strings.Join(names, ", "), maxQuote), e.at.Name),
		"every client refuses it: the certificate is valid for other names; or the connection ended up at another server",
		fmt.Sprintf("use one of these names, or issue it again with subjectAltName=%s%s; if it is another site's, the server has no block for this name (nginx: server_name %s;)", kind, e.at.Name, e.at.Name))
	return false
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// soon is when an expiry is warned of: two weeks before, or a fifth of the
// lifetime where that is less.
func soon(c *x509.Certificate) time.Duration {
	return min(14*24*time.Hour, c.NotAfter.Sub(c.NotBefore)/5)
}

func (e *examination) checkExpiry(chain []*x509.Certificate) bool {
	now, right := e.o.Now(), true
	first := chain[0]
	for _, c := range chain {
		when := c.NotAfter.UTC().Format("2006-01-02 15:04 UTC")
		switch {
		case now.After(c.NotAfter):
			e.problem("expiry", fmt.Sprintf("the certificate of %s expired on %s", subject(c), when), "every client refuses it",
				"renew it, and let the server load the new file (nginx -s reload); if the date is right, look at this machine's clock: it is "+now.UTC().Format("2006-01-02 15:04 UTC"))
			right = false
		case now.Before(c.NotBefore):
			e.problem("expiry", fmt.Sprintf("the certificate of %s is not valid before %s", subject(c), c.NotBefore.UTC().Format("2006-01-02 15:04 UTC")), "every client refuses it",
				"set the clock here (it is "+now.UTC().Format("2006-01-02 15:04 UTC")+"), or that of the machine which issued it")
			right = false
		case c.NotAfter.Sub(now) < soon(c) && !isSelfSigned(c):
			e.warn("expiry", fmt.Sprintf("the certificate of %s expires in %s, on %s", subject(c), days(c.NotAfter.Sub(now)), when), "from then on every client refuses it",
				"renew it now, and find out why nothing did so by itself")
		}
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	if right {
		e.ok("expiry", "valid until "+first.NotAfter.UTC().Format("2006-01-02 15:04 UTC"))
	}
	return right
}

func days(d time.Duration) string {
	switch n := int(d.Hours() / 24); {
	case n > 1:
		return fmt.Sprintf("%d days", n)
	case d > 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return d.Round(time.Minute).String()
}

func isSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

func subject(c *x509.Certificate) string { return name(c.Subject) }

func name(n pkix.Name) string {
	if n.CommonName != "" {
		return `"` + n.CommonName + `"`
	}
	if s := n.String(); s != "" {
		return `"` + s + `"`
	}
	return "(no name)"
}
