package main

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// patient is a listener whose connections wait for a peer that takes nothing no
// longer than idle: there is no limit on a whole answer, and net/http knows no
// other.
type patient struct {
	net.Listener
	idle time.Duration
}

// Accept implements net.Listener.
func (l patient) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.idle <= 0 {
		return c, err
	}
	return &patientConn{Conn: c, idle: l.idle}, nil
}

// patientConn moves the deadline of its writes, once a second at most.
type patientConn struct {
	net.Conn
	idle time.Duration
	next atomic.Int64 // when to move it again, in nanoseconds since 1970
}

// NetConn is the connection itself, as of a tls.Conn.
func (c *patientConn) NetConn() net.Conn { return c.Conn }

// Write implements net.Conn.
func (c *patientConn) Write(p []byte) (int, error) {
	if now := time.Now(); now.UnixNano() >= c.next.Load() {
		_ = c.Conn.SetWriteDeadline(now.Add(c.idle))
		c.next.Store(now.Add(min(time.Second, c.idle/2)).UnixNano())
	}
	return c.Conn.Write(p)
}

// SetWriteDeadline implements net.Conn; what is set holds for the next write.
func (c *patientConn) SetWriteDeadline(t time.Time) error {
	next := int64(0) // a deadline taken away is ours again
	if !t.IsZero() {
		next = time.Now().Add(min(time.Second, c.idle/2)).UnixNano()
	}
	c.next.Store(next)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *patientConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
