package proxy

import (
	"context"
	"net"
	"net/http"
	"time"
)

// lookTime is how often it is looked whether a client that waits to send more is
// there still.
const lookTime = 250 * time.Millisecond

type connKey struct{}

// WithConn is for http.Server.ConnContext: a request's own connection, to find
// out whether its client has left. net/http does not look while a body of
// HTTP/1 is not read to its end.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
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
