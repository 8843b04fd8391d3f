package e2e

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// Frames of HTTP/2 (RFC 9113, 6), as few as these tests need.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
)

// frame is one as it goes over the wire.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags}
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// field is one header field, by its literal name and value without indexing
// (RFC 7541, 6.2.2).
func field(name, value string) []byte {
	return append(literal(append([]byte{}, 0), name), literal(nil, value)...)
}

func literal(b []byte, s string) []byte {
	n := len(s)
	if n < 127 {
		return append(append(b, byte(n)), s...)
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(append(b, byte(n)), s...)
}

// requestFields are the header block of a GET.
func requestFields(host, path, authorization string) []byte {
	var b []byte
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", host}, {":path", path}, {"authorization", authorization}} {
		if f[1] != "" {
			b = append(b, field(f[0], f[1])...)
		}
	}
	return b
}

// dialTLS is a bare connection, TLS done.
func (g *regward) dialTLS(t testing.TB, protocol string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", g.host, &tls.Config{RootCAs: suite.certs.pool, NextProtos: []string{protocol}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if got := c.ConnectionState().NegotiatedProtocol; got != protocol {
		t.Fatalf("the protocol is %q, want %q", got, protocol)
	}
	return c
}

// dialH2 is a bare connection by HTTP/2, after the preface.
func (g *regward) dialH2(t testing.TB) *tls.Conn {
	t.Helper()
	c := g.dialTLS(t, "h2")
	hello := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, nil)...)
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	return c
}

// readFrame is the next frame.
func readFrame(c net.Conn) (kind, flags byte, stream uint32, payload []byte, err error) {
	var head [9]byte
	if _, err = io.ReadFull(c, head[:]); err != nil {
		return 0, 0, 0, nil, err
	}
	payload = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	_, err = io.ReadFull(c, payload)
	return head[3], head[4], binary.BigEndian.Uint32(head[5:]) & (1<<31 - 1), payload, err
}

// closedWithin demands that the other side ends the connection, and says when.
func closedWithin(c net.Conn, limit time.Duration) (time.Duration, bool) {
	began := time.Now()
	_ = c.SetReadDeadline(began.Add(limit))
	_, err := io.Copy(io.Discard, c)
	return time.Since(began), !isTimeout(err)
}
