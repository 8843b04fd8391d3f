package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"
)

const (
	headerTime   = 5 * time.Second // for a PROXY header, which is sent at once
	headerBuffer = 256             // a line of v1 has 107 bytes at most and must fit
	headerTalk   = time.Minute     // between two lines of the log about one kind of mistake of one peer
)

// errHeader ends a connection for its PROXY header, or for having none.
var errHeader = errors.New("PROXY header refused")

// fronted is a listener in front of which load balancers may stand. What comes
// from the networks of from begins with a PROXY header, and counts as the client
// that is named there; what comes from elsewhere does not.
//
// Accept never waits for a header. Whoever asks a connection for its address or
// for data first does, and net/http does so in the connection's own goroutine.
type fronted struct {
	net.Listener
	from     func() []netip.Prefix // those of now
	optional bool                  // a header is taken, and not asked for
	within   time.Duration         // for a header
	talk     *headerWords
}

// Accept implements net.Listener.
func (l *fronted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	peer := peerAddr(c)
	for _, network := range l.from() {
		if network.Contains(peer) {
			return &senderConn{Conn: c, l: l, peer: peer}, nil
		}
	}
	return &strangerConn{Conn: c, l: l, peer: peer}, nil
}

// peerAddr is who holds the other end of a socket: this machine, of a unix one.
func peerAddr(c net.Conn) netip.Addr {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// senderConn is a connection that begins with a PROXY header.
type senderConn struct {
	net.Conn
	l    *fronted
	peer netip.Addr

	once   sync.Once
	err    error    // for good: it is closed
	client net.Addr // whom the header names; nil: nobody, the peer speaks for itself
	rest   []byte   // what came together with the header
}

// NetConn is the connection itself, as of a tls.Conn.
func (c *senderConn) NetConn() net.Conn { return c.Conn }

// RemoteAddr implements net.Conn. It waits for the header.
func (c *senderConn) RemoteAddr() net.Addr {
	if c.header() == nil && c.client != nil {
		return c.client
	}
	return c.Conn.RemoteAddr()
}

// Read implements net.Conn. It waits for the header.
func (c *senderConn) Read(p []byte) (int, error) {
	if err := c.header(); err != nil {
		return 0, err
	}
	if len(c.rest) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
	}
	return n, nil
}

// header reads the header, once. net/http sets no deadline before it has asked
// for the address, so none is lost here.
func (c *senderConn) header() error {
	c.once.Do(func() {
		if c.err = c.read(); c.err != nil {
			c.Close()
		}
	})
	return c.err
}

func (c *senderConn) read() error {
	if err := c.SetReadDeadline(time.Now().Add(c.l.within)); err != nil {
		return err
	}
	r := bufio.NewReaderSize(c.Conn, headerBuffer)
	if _, err := r.Peek(1); err != nil {
		return err // whoever only looks whether the port is open says nothing, and is no news
	}
	h, err := proxyproto.Read(r)
	missing := errors.Is(err, proxyproto.ErrNoProxyProtocol)
	switch {
	case missing && c.l.optional:
	case missing:
		c.l.talk.missing(c.peer, c.l.Addr())
		return errHeader
	case err != nil:
		c.l.talk.unreadable(c.peer, c.l.Addr(), err)
		return errHeader
	default:
		c.client = named(h)
	}
	if n := r.Buffered(); n > 0 {
		rest, _ := r.Peek(n)
		c.rest = bytes.Clone(rest)
	}
	return c.SetReadDeadline(time.Time{})
}

// named is the client that a header names. A health check of the proxy's own
// (LOCAL, UNKNOWN) names none, and a path on the proxy's machine is none here.
func named(h *proxyproto.Header) net.Addr {
	if tcp, ok := h.SourceAddr.(*net.TCPAddr); ok && !h.Command.IsLocal() {
		return tcp
	}
	return nil
}

// strangerConn is a connection that must not begin with a PROXY header. What
// begins with one is closed before anybody reads it.
type strangerConn struct {
	net.Conn
	l      *fronted
	peer   netip.Addr
	looked bool
}

// NetConn is the connection itself, as of a tls.Conn.
func (c *strangerConn) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn. A header that comes in pieces goes on to TLS or
// HTTP, which take none either but cannot say what it was.
func (c *strangerConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.looked || n == 0 {
		return n, err
	}
	c.looked = true
	if !bytes.HasPrefix(p[:n], proxyproto.SIGV1) && !bytes.HasPrefix(p[:n], proxyproto.SIGV2) {
		return n, err
	}
	c.l.talk.stranger(c.peer, c.l.Addr())
	c.Close()
	return 0, errHeader
}

// headerWords tell of mistakes around PROXY headers, each kind of each peer once
// in a while: who connects could fill the log with them.
type headerWords struct {
	log *zap.Logger
	now func() time.Time

	mu   sync.Mutex
	told map[headerMistake]time.Time
	more int // since the last line
}

// headerMistake is a kind of mistake, and whose it is.
type headerMistake struct {
	kind int
	peer netip.Addr
}

// maxTold bounds the lines of one headerTalk.
const maxTold = 16

func (w *headerWords) missing(peer netip.Addr, at net.Addr) {
	w.say(headerMistake{0, peer}, at, fmt.Sprintf("no PROXY header came from %s, which is in proxy_protocol.from: connection closed. Have it send one (haproxy: send-proxy-v2, and check-send-proxy; nginx: proxy_protocol on), or take it out of proxy_protocol.from", peer))
}

func (w *headerWords) unreadable(peer netip.Addr, at net.Addr, err error) {
	w.say(headerMistake{1, peer}, at, fmt.Sprintf("the PROXY header from %s (proxy_protocol.from) cannot be read: connection closed: %v", peer, err))
}

func (w *headerWords) stranger(peer netip.Addr, at net.Addr) {
	w.say(headerMistake{2, peer}, at, fmt.Sprintf("a PROXY header came from %s, which is not in proxy_protocol.from: connection closed. If that is your load balancer, name it there: proxy_protocol: {from: %s}; if not, somebody wants to count as another", peer, peer))
}

func (w *headerWords) say(m headerMistake, at net.Addr, words string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	maps.DeleteFunc(w.told, func(_ headerMistake, told time.Time) bool {
		passed := now.Sub(told)
		return passed < 0 || passed >= headerTalk
	})
	if _, told := w.told[m]; told || len(w.told) >= maxTold {
		w.more++
		return
	}
	if w.told == nil {
		w.told = map[headerMistake]time.Time{}
	}
	fields := []zap.Field{zap.Stringer("listener", at)}
	if w.more > 0 {
		fields = append(fields, zap.Int("more_since_last", w.more))
	}
	w.told[m], w.more = now, 0
	w.log.Warn(words, fields...)
}
