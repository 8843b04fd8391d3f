package proxy

import (
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/regward/regward/auth"
)

// clientConn is a client's connection and what its certificate proves.
type clientConn struct {
	net.Conn
	looking sync.Mutex // streams that come at once wait for one look: a long chain takes milliseconds
	shown   *shown
}

// NetConn is the connection itself, as of a tls.Conn.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// recheck is how long a certificate that proves nobody is not looked at again on
// its connection.
const recheck = time.Minute

// shown is what the certificate of a connection proves, by one configuration.
type shown struct {
	by    *auth.Certificates
	until time.Time
	id    auth.Identity
	err   error
}

// certificate is whom the connection's client certificate speaks for, where no
// other credential came: who brings a password or a token is judged by that,
// whatever their machine shows besides. ok is false where there is none, or none
// that counts for b: there as if it had not been shown.
//
// The handshake lets every certificate pass, so that one which proves nobody is
// refused here, in words (X05). Nothing is taken over from a resumed session but
// the certificate itself.
func (x *exchange) certificate(b *backend) (id auth.Identity, ok bool, err error) {
	if x.s.Certificates == nil || x.r.TLS == nil || len(x.r.TLS.PeerCertificates) == 0 || !x.s.certified(b) {
		return id, false, nil
	}
	if x.req.Kind == KindPing { // challenged whatever is shown: logins are not withheld (C01)
		return id, false, nil
	}
	if x.forAnotherPage() {
		return id, false, nil
	}
	found := x.proven()
	if found.err != nil {
		return id, true, x.badCertificate(found.err)
	}
	x.credential = "certificate"
	x.h.metrics.login("ok")
	// What somebody pushed is opened by a browser as a page of this host, and
	// that page would have the certificate.
	x.w.Header()["Content-Security-Policy"] = []string{"sandbox"}
	x.w.Header()["X-Content-Type-Options"] = []string{"nosniff"}
	id = found.id
	id.Epoch = x.h.Cache.Epoch(id.Name)
	return id, true, nil
}

// forAnotherPage reports a browser that asks for a page of some other site: it
// shows the certificate for any. A login that nobody typed there must not write
// in a stranger's name, nor tell that page by success and failure what its owner
// may read, nor use up limits.
func (x *exchange) forAnotherPage() bool {
	if x.s.foreign.Check(x.r) != nil {
		return true
	}
	site := x.r.Header.Get("Sec-Fetch-Site")
	return (site == "cross-site" || site == "same-site") && !slices.Contains(x.s.Origins, x.r.Header.Get("Origin"))
}

// certified reports whether certificates count at b: an upstream that checks its
// own people's logins knows no others, and its ann is not the certificate's.
func (s *Snapshot) certified(b *backend) bool {
	return s.Certificates != nil && (b == nil || b.logins == nil)
}

// proven looks at the certificate, once for a connection and a configuration.
func (x *exchange) proven() *shown {
	now := x.h.Now()
	conn, _ := x.r.Context().Value(connKey{}).(*clientConn)
	if conn != nil {
		conn.looking.Lock()
		defer conn.looking.Unlock()
		if known := conn.shown; known != nil && known.by == x.s.Certificates && now.Before(known.until) {
			return known
		}
	}
	found := &shown{by: x.s.Certificates}
	found.id, found.err = x.s.Certificates.Identify(x.r.TLS.PeerCertificates, now)
	found.until = found.id.Expires
	if found.err != nil {
		found.until = now.Add(recheck)
		x.auditFailedLogin(claimed(found.err), reasonBadCert, "certificate", found.err.Error())
	} else {
		x.auditLogin(found.id)
	}
	if conn != nil {
		conn.shown = found
	}
	return found
}

// badCertificate is not a wrong password: it locks nobody out, for nobody can
// guess at certificates.
func (x *exchange) badCertificate(err error) error {
	x.credential = "bad certificate"
	if user := claimed(err); user != "" {
		x.credential += ": " + short(user)
	}
	x.h.metrics.login("rejected")
	return unauthorized("UNAUTHORIZED", short(err.Error())+". Or: docker login "+x.host(), x.askedScope(), "").from(err).because(reasonBadCert)
}

// claimed is whose a bad certificate says to be.
func claimed(err error) string {
	var e *auth.CertificateError
	if errors.As(err, &e) {
		return e.User
	}
	return ""
}
