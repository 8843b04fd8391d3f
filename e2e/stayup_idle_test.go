package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// G13: what ten thousand connections that wait for nothing cost, and that they
// are in nobody's way.
func TestG13_IdleConnections(t *testing.T) {
	mayOpen(t, idleConnections+2000)
	u := startSaboteurUpstream(t)
	for _, way := range []struct {
		protocol string
		n        int
		most     int64 // bytes for each
	}{
		{"http/1.1", idleConnections, 36 << 10},
		{"h2", idleByHTTP2, 48 << 10},
	} {
		t.Run(way.protocol, func(t *testing.T) {
			g := startMeasured(t, u, faultRules)
			ann := basicAuth("ann", passwords["ann"])
			c := newCaller(g, "HTTP/1.1", false)
			const target = "/v2/fine/app/manifests/latest"
			c.median(t, 50, target, ann)
			before, alone := g.settled(t), c.median(t, 101, target, ann)
			began := time.Now()
			conns := g.idle(t, way.protocol, way.n)
			opened := time.Since(began)
			held := g.settled(t) - before
			with := c.median(t, 101, target, ann)
			n := alive(conns)
			if n < way.n && time.Since(began) < 55*time.Second || n < way.n/2 { // who idles for a minute may go
				t.Errorf("%d of %d connections are still there", n, way.n)
			}
			each := held / int64(n)
			t.Logf("%d idle connections by %s, opened in %v: %.1f KiB each; a pull takes %v, %v beside them",
				n, way.protocol, opened.Round(time.Millisecond), float64(each)/1024, alone, with)
			if each > way.most {
				t.Errorf("%d bytes for each, want %d at most", each, way.most)
			}
			if with-alone > 100*time.Millisecond {
				t.Errorf("a pull takes %v more", with-alone)
			}
		})
	}
}

// alive counts the connections that nobody has ended.
func alive(conns []net.Conn) (n int) {
	buf := make([]byte, 4096)
	for _, c := range conns {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Control(func(fd uintptr) { // without a wait, as no deadline does it
			for size := 1; size > 0 && err == nil; {
				size, err = syscall.Read(int(fd), buf)
			}
			if err == syscall.EAGAIN {
				n++
			}
		})
	}
	return n
}

// idle opens n connections that have had one request each, and keeps of them
// no more than the socket: this side's memory is nobody's concern.
func (g *regward) idle(t *testing.T, protocol string, n int) []net.Conn {
	t.Helper()
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			c.Close()
		}
	})
	var jobs []func()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}, CurvePreferences: []tls.CurveID{tls.X25519}}
	address := "127.0.0.1" + g.host[len("localhost"):]
	for i := range n {
		jobs = append(jobs, func() {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: loopback(i)}}
			raw, err := dialer.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			conns = append(conns, raw)
			mu.Unlock()
			_ = raw.SetDeadline(time.Now().Add(time.Minute))
			if err := oneRequest(tls.Client(raw, config), g.host, protocol); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	atMost(8, jobs)
	if t.Failed() {
		t.FailNow()
	}
	return conns
}

// oneRequest asks for /v2/ and reads the answer.
func oneRequest(c *tls.Conn, host, protocol string) error {
	if protocol == "http/1.1" {
		if _, err := fmt.Fprintf(c, "GET /v2/ HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
			return err
		}
		_, err := io.ReadAtLeast(c, make([]byte, 4096), len("HTTP/1.1 401"))
		return err
	}
	hello := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, nil)...)
	hello = append(hello, frame(frameHeaders, flagEndHeaders|flagEndStream, 1, requestFields(host, "/v2/", ""))...)
	if _, err := c.Write(hello); err != nil {
		return err
	}
	for {
		kind, flags, stream, _, err := readFrame(c)
		switch {
		case err != nil:
			return err
		case kind == frameSettings && flags&flagAck == 0:
			if _, err := c.Write(frame(frameSettings, flagAck, 0, nil)); err != nil {
				return err
			}
		case stream == 1 && kind <= frameHeaders && flags&flagEndStream != 0:
			return nil
		case kind == frameReset || kind == frameGoAway:
			return fmt.Errorf("frame %d instead of an answer to %s", kind, http.MethodGet)
		}
	}
}
