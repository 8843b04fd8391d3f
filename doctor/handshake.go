package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// checkTLS looks at what the server shows. Its answer is why nothing further
// can be done, "" if it can: over a connection that nobody could trust only
// without the password.
func (e *examination) checkTLS(ctx context.Context) string {
	if e.at.Scheme == "http" {
		e.sayPlain()
		return ""
	}
	state, asked, err := e.handshake(ctx, tls.VersionTLS12)
	if err != nil {
		return e.sayNoHandshake(ctx, err)
	}
	e.report.Chain = state.PeerCertificates
	if len(state.PeerCertificates) == 0 {
		e.problem("chain", "the server shows no certificate", "no client goes on", "give it one")
		return "there is no certificate"
	}
	if asked {
		e.note("client-certificate", "the server asks for a client certificate", "if it insists, requests without one fail", e.pairFix())
	}
	e.ok("tls", "speaks "+tls.VersionName(state.Version))
	e.verified = e.checkCertificate(state.PeerCertificates)
	if !e.verified {
		e.net.trustNobody()
	}
	return ""
}

// sayPlain judges plain HTTP, which was asked for.
func (e *examination) sayPlain() {
	e.skip("plain HTTP was asked for", "tls")
	loopback := e.via == nil
	for _, a := range e.addrs {
		loopback = loopback && a.IsLoopback()
	}
	if loopback {
		e.verified = true // nothing leaves this machine
		e.note("plain", "plain HTTP, on this machine", "docker takes that on 127.0.0.0/8 and nowhere else", "")
		return
	}
	e.problem("plain", "plain HTTP: no password is sent there", "docker, podman and containerd refuse it, and everybody on the way reads passwords and layers",
		"put TLS in front (regward, nginx) and use https://")
}

// handshake shows what the server sends, whatever it is worth. asked: it wants
// a client certificate.
func (e *examination) handshake(ctx context.Context, least uint16) (state tls.ConnectionState, asked bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Step)
	defer cancel()
	raw, err := e.tunnel(ctx)
	if err != nil {
		return state, false, err
	}
	defer raw.Close()
	c := tls.Client(raw, &tls.Config{
		ServerName:         e.at.Name,
		InsecureSkipVerify: true, // checkCertificate verifies, one thing after the other
		MinVersion:         least,
		NextProtos:         []string{"http/1.1"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &tls.Certificate{}, nil
		},
	})
	if err := c.HandshakeContext(ctx); err != nil {
		return state, asked, err
	}
	return c.ConnectionState(), asked, nil
}

// alertOf is the server's word for why it ends TLS, "" if it said none
// (RFC 8446, 6.2). crypto/tls has no type for it.
func alertOf(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return strings.TrimPrefix(op.Err.Error(), "tls: ")
	}
	return ""
}

// sayNoHandshake finds out why there is no TLS.
func (e *examination) sayNoHandshake(ctx context.Context, err error) string {
	var record tls.RecordHeaderError
	var refused proxyRefusal
	switch {
	case errors.Is(err, errOtherProxy):
		e.skip(err.Error(), "chain", "name", "expiry")
		e.verified = true // every request verifies by itself
		return ""
	case errors.As(err, &refused):
		e.problem("proxy", fmt.Sprintf("%s when asked for %s", refused, e.at.Address()), "the proxy lets nobody through to the registry",
			fmt.Sprintf("allow CONNECT to %s in the proxy, or NO_PROXY=%s", e.at.Address(), e.at.Name))
		return "the proxy refuses"
	case errors.As(err, &record):
		return e.sayNotTLS(ctx, record)
	case alertOf(err) == "unrecognized name":
		e.problem("name", "the server has no certificate for "+e.at.Name, "no client goes on",
			"add the name to the server's certificate and configuration (nginx: server_name "+e.at.Name+";)")
		return "there is no certificate for the name"
	case !isTimeout(err):
		if state, _, old := e.handshake(ctx, tls.VersionTLS10); old == nil {
			e.problem("tls", "speaks "+tls.VersionName(state.Version)+" at most", "docker, containerd and podman demand TLS 1.2", "nginx: ssl_protocols TLSv1.2 TLSv1.3;")
			return "the server's TLS is too old"
		}
	}
	e.problem("tls", "no TLS handshake: "+reason(err), "something answers on the port and does not finish a handshake: no certificate is configured, ciphers do not match, or a firewall cuts in",
		fmt.Sprintf("openssl s_client -connect %s -servername %s shows more; the server's own log says why", e.at.Address(), e.at.Name))
	return "there is no TLS"
}

// sayNotTLS tells plain HTTP from everything else by asking in plain HTTP.
func (e *examination) sayNotTLS(ctx context.Context, record tls.RecordHeaderError) string {
	first := string(record.RecordHeader[:])
	what := "something that is neither TLS nor HTTP"
	if banner := e.banner(ctx); banner != "" {
		what += ": " + e.quote(banner)
		first += banner
	}
	if strings.HasPrefix(first, "HTTP/") {
		e.problem("port", fmt.Sprintf("port %s speaks plain HTTP, not TLS", e.at.Port), "clients begin with TLS and print: http: server gave HTTP response to HTTPS client",
			fmt.Sprintf("give the listener a certificate (nginx: listen %s ssl;), or use the port that has one; to look at it as it is: regward doctor http://%s", e.at.Port, e.at.Address()))
		return "the port speaks plain HTTP"
	}
	e.problem("port", fmt.Sprintf("on port %s speaks %s", e.at.Port, what), "no registry client can talk to it", fmt.Sprintf("use the registry's port; `ss -ltnp` on the host shows what listens on %s", e.at.Port))
	return "no TLS is spoken there"
}

// banner is what a server says that speaks first, as SSH and SMTP do.
func (e *examination) banner(ctx context.Context) string {
	c, err := e.tunnel(ctx)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(min(time.Second, e.o.Step)))
	b := make([]byte, maxQuote)
	n, _ := c.Read(b)
	return string(b[:n])
}

// certificates names a chain as people do: each by its subject.
func certificates(chain []*x509.Certificate) string {
	var names []string
	for _, c := range chain {
		names = append(names, subject(c))
	}
	return strings.Join(names, " ← ")
}
