package tls

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// attempt is one try to get a certificate, and what went wrong in it.
type attempt struct {
	host       string
	challenges []failedChallenge // in their order
	private    string            // M17, "" if the name is not private
}

// failedChallenge is one that the CA has tried in vain.
type failedChallenge struct{ kind, detail string }

// storageError is what keeps us from keeping a certificate.
type storageError struct{ error }

func (e *storageError) Unwrap() error { return e.error }

// uselessError is what makes a certificate that was issued one to be thrown away.
type uselessError struct{ error }

func (e *uselessError) Unwrap() error { return e.error }

// maxDetail bounds what a CA says, in bytes.
const maxDetail = 600

// lookWithin bounds the question where a name leads.
const lookWithin = 3 * time.Second

// Unreachable is M17: what to say of a host that has a private address alone, so
// that no public CA can reach it. It is "" for all others, and if nobody knows.
func Unreachable(ctx context.Context, look func(context.Context, string) ([]net.IP, error), host string) string {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	ips := []net.IP{net.ParseIP(host)}
	if ips[0] == nil {
		var err error
		if ips, err = look(ctx, host); err != nil {
			return ""
		}
	}
	for _, ip := range ips {
		if !ip.IsPrivate() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !ip.IsUnspecified() {
			return ""
		}
	}
	if len(ips) == 0 {
		return ""
	}
	return fmt.Sprintf("hostname %s resolves to %s, which Let's Encrypt cannot reach. Set tls.cert_file and tls.key_file, or tls.mode: internal, or tls.acme_directory.", host, ips[0])
}

// words is why there is no certificate, and what to do.
func (try *attempt) words(m *manager, err error) string {
	text := try.cause(m, err)
	if try.private != "" && len(try.challenges) > 0 {
		text += "; " + strings.TrimSuffix(try.private, ".")
	}
	return text
}

func (try *attempt) cause(m *manager, err error) string {
	var storage *storageError
	var server *DNSError
	var problem acme.Problem
	switch {
	case errors.As(err, &storage):
		return fmt.Sprintf("nothing is asked for that could not be kept: %v", storage.error)
	case errors.As(err, &server):
		return "DNS-01: " + server.Error()
	case len(try.challenges) > 0:
		return m.caName() + " could not validate it: " + try.validation(err)
	case errors.As(err, &problem) && strings.HasPrefix(problem.Type, acme.ProblemTypeNamespace):
		return m.refusal(problem)
	case strings.Contains(err.Error(), "no solvers available"):
		return fmt.Sprintf("%s offers no challenge that can be answered here: set tls.http_listen, or tls.acme_dns", m.caName())
	}
	return directoryWords(m.o.Directory, m.roots != nil, err)
}

// validation is each challenge that failed, where the CA came to, and what it met.
func (try *attempt) validation(err error) string {
	var all []string
	for _, c := range try.challenges {
		where := c.kind
		switch c.kind {
		case acme.ChallengeTypeHTTP01:
			where = "HTTP-01 (http://" + try.host + ", port 80)"
		case acme.ChallengeTypeTLSALPN01:
			where = "TLS-ALPN-01 (" + try.host + ", port 443)"
		case acme.ChallengeTypeDNS01:
			where = "DNS-01 (TXT record of _acme-challenge." + try.host + ")"
		}
		all = append(all, where+": "+clean(c.detail))
	}
	// The last order may have failed otherwise than by a challenge.
	var problem acme.Problem
	if errors.As(err, &problem) && problem.Type == acme.ProblemTypeRateLimited {
		all = append(all, "then "+clean(problem.Detail))
	}
	return strings.Join(all, "; ")
}

// refusal is what a CA says no with.
func (m *manager) refusal(p acme.Problem) string {
	said := clean(p.Error())
	if p.Detail != "" {
		said = clean(p.Detail)
		for _, sub := range p.Subproblems {
			said += "; " + clean(sub.Detail)
		}
	}
	ca := m.caName()
	switch p.Type {
	case acme.ProblemTypeRejectedIdentifier, acme.ProblemTypeUnsupportedIdentifier:
		return fmt.Sprintf("%s gives none for this name: %s", ca, said)
	case acme.ProblemTypeRateLimited:
		return fmt.Sprintf("%s was asked too often: %s", ca, said)
	case acme.ProblemTypeExternalAccountRequired:
		return fmt.Sprintf("%s gives certificates to its customers alone (%s): set tls.acme_eab.key_id and mac_key as it gives them", ca, said)
	case acme.ProblemTypeInvalidContact, acme.ProblemTypeUnsupportedContact:
		return fmt.Sprintf("%s does not take tls.acme_email: %s", ca, said)
	case acme.ProblemTypeCAA:
		return fmt.Sprintf("a CAA record of the name does not allow %s: %s", ca, said)
	case acme.ProblemTypeUserActionRequired:
		return fmt.Sprintf("%s wants something of you: %s (%s)", ca, said, p.Instance)
	}
	if m.o.EAB.KeyID != "" && (p.Type == acme.ProblemTypeUnauthorized || p.Type == acme.ProblemTypeMalformed || p.Type == acme.ProblemTypeBadPublicKey) {
		return fmt.Sprintf("%s refuses: %s; if it does not know the account, check tls.acme_eab.key_id and mac_key", ca, said)
	}
	return fmt.Sprintf("%s refuses (%s): %s", ca, strings.TrimPrefix(p.Type, acme.ProblemTypeNamespace), said)
}

// directoryWords is why a directory cannot be asked.
func directoryWords(directory string, ownCA bool, err error) string {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var problem acme.Problem
	var opErr *net.OpError
	var dnsErr *net.DNSError
	switch {
	case errors.As(err, &unknown) && ownCA:
		return fmt.Sprintf("%s shows a certificate that does not come from the CA in tls.acme_ca_file: check that file", directory)
	case errors.As(err, &unknown):
		return fmt.Sprintf("%s shows a certificate of a CA that is not known here: name it in tls.acme_ca_file", directory)
	case errors.As(err, &name), errors.As(err, &invalid):
		return fmt.Sprintf("%s shows a certificate that cannot be used: %s", directory, clean(tail(err)))
	case errors.As(err, &dnsErr):
		return fmt.Sprintf("%s cannot be reached: %v", directory, dnsErr)
	case errors.As(err, &opErr):
		return fmt.Sprintf("%s cannot be reached: %v", directory, opErr)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("%s did not answer in time", directory)
	case errors.As(err, &problem):
		return fmt.Sprintf("%s answers %d and no ACME directory: check tls.acme_directory", directory, problem.Status)
	case strings.Contains(err.Error(), "provisioning client"), strings.Contains(err.Error(), "directory missing"): // as acmez has it
		return fmt.Sprintf("%s does not answer with an ACME directory: check tls.acme_directory", directory)
	}
	return clean(err.Error())
}

// tail is the part of an error about a request that is not the request.
func tail(err error) string {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err.Error()
	}
	return err.Error()
}

// clean is text from elsewhere, on one line and no longer than a log can bear.
func clean(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " ")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, text)
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "") + "…"
	}
	return text
}
