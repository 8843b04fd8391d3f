package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// MaxLDAPAnswer is how many bytes one question may bring, TLS included. In memory
// they are up to a hundred times as many, for each has a packet of its own.
const MaxLDAPAnswer = 512 << 10

// maxStartTLS is how many bytes may come before TLS, from whoever is in between.
const maxStartTLS = 4 << 10

// startTLS is the request of RFC 4511, 4.14.1, as message 1.
const startTLS = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"

// ldapServer is one of those that may be asked.
type ldapServer struct {
	url, addr string
	plain     bool // until StartTLS
	tls       *tls.Config
}

func newLDAPServer(text string, o *LDAPOptions, base *tls.Config) (ldapServer, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "ldaps" && u.Scheme != "ldap" {
		return ldapServer{}, fmt.Errorf("ldap: %s is no URL of a directory", shorten(text))
	}
	s := ldapServer{url: u.Scheme + "://" + u.Host, plain: u.Scheme == "ldap", tls: base.Clone()}
	if s.plain && !o.StartTLS {
		return ldapServer{}, fmt.Errorf("ldap: %s without StartTLS would send passwords in the clear", s.url)
	}
	port := u.Port()
	if port == "" {
		port = map[bool]string{true: ldap.DefaultLdapPort, false: ldap.DefaultLdapsPort}[s.plain]
	}
	s.addr, s.tls.ServerName = net.JoinHostPort(u.Hostname(), port), u.Hostname()
	return s, nil
}

// ldapConn is a connection for one question at a time.
type ldapConn struct {
	*ldap.Conn
	wire   *ldapWire
	server int
	expire *time.Timer // while it is not used
}

// dial makes a connection under TLS within timeout.
func (s *ldapServer) dial(ctx context.Context, timeout time.Duration) (*ldapConn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, noAnswer(timeout))
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, s.failed("connect", cause(ctx, err))
	}
	wire := &ldapWire{Conn: raw}
	ended := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer ended()
	if s.plain {
		wire.left.Store(maxStartTLS)
		if err := askForTLS(wire); err != nil {
			_ = raw.Close()
			if errors.Is(err, errLDAPAnswer) { // says nothing about anybody's answers
				err = fmt.Errorf("more than %d bytes before TLS", maxStartTLS)
			}
			return nil, s.failed("starttls", cause(ctx, err))
		}
	}
	wire.left.Store(MaxLDAPAnswer)
	secured := tls.Client(wire, s.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, s.failed("tls", cause(ctx, err))
	}
	c := &ldapConn{Conn: ldap.NewConn(secured, true), wire: wire}
	c.Start()
	return c, nil
}

// askForTLS reads no byte beyond the answer: what came in the clear is not taken
// for what comes under TLS.
func askForTLS(wire *ldapWire) error {
	if _, err := wire.Write([]byte(startTLS)); err != nil {
		return err
	}
	answer, err := ber.ReadPacket(wire)
	if err != nil {
		return err
	}
	return ldap.GetLDAPError(answer)
}

// ask runs f, which asks c something, for at most timeout: then the connection is
// closed under it.
func (c *ldapConn) ask(ctx context.Context, timeout time.Duration, f func() error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, noAnswer(timeout))
	defer cancel()
	c.wire.left.Store(MaxLDAPAnswer)
	ended := context.AfterFunc(ctx, func() { _ = c.wire.Conn.Close() })
	err := f()
	if !ended() && err != nil {
		return cause(ctx, err)
	}
	if c.wire.left.Load() < 0 {
		return errLDAPAnswer
	}
	return err
}

// noAnswer is a timeout in words; it is a context.DeadlineExceeded.
func noAnswer(d time.Duration) error {
	return fmt.Errorf("no answer in %v: %w", d, context.DeadlineExceeded)
}

// cause is why a question ended: its context, if that is over.
func cause(ctx context.Context, err error) error {
	if over := context.Cause(ctx); over != nil {
		return over
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", err, context.DeadlineExceeded)
	}
	return err
}

var errLDAPAnswer = fmt.Errorf("an answer of more than %d bytes", MaxLDAPAnswer)

// ldapWire counts what is read, below TLS.
type ldapWire struct {
	net.Conn
	left atomic.Int64
}

func (w *ldapWire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.left.Add(-int64(n)) < 0 {
		return 0, errLDAPAnswer
	}
	return n, err
}
