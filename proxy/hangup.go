package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// lookTime is how often it is looked whether a client that waits to send more is
// there still.
const lookTime = 250 * time.Millisecond

type connKey struct{}

// WithConn is for http.Server.ConnContext: a request's own connection, to find
// out who holds its other end, and whether they have left, and to look at its
// certificate once. net/http does not look while a body of HTTP/1 is not read to
// its end.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, &clientConn{Conn: c})
}

// sender is the connection of a client that nobody watches while it sends, nil
// if there is none to be known: in HTTP/2 the request's context tells.
func sender(r *http.Request) net.Conn {
	if r.ProtoMajor != 1 {
		return nil
	}
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	return c
}

// bare is the socket below TLS and below whatever of ours is on it.
func bare(c net.Conn) net.Conn {
	for {
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = over.NetConn()
	}
}

// socketPeer is who holds the other end of the request's connection, whatever a
// PROXY header says of it; named, where the connection is not known.
func socketPeer(r *http.Request, named netip.Addr) netip.Addr {
	c, _ := r.Context().Value(connKey{}).(net.Conn)
	if c == nil {
		return plainAddr(named)
	}
	at, err := netip.ParseAddrPort(bare(c).RemoteAddr().String())
	if err != nil { // a unix socket: who can open it is on this machine
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return plainAddr(at.Addr())
}
