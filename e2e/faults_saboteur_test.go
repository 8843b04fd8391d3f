package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// saboteur is an upstream that does what the name of the asked repository
// says: sabotage/7 is the seventh of its acts, cuts/reset/chunks/120 breaks off
// after 120 bytes of its answer.
type saboteur struct {
	url  string
	acts []act

	l    net.Listener
	tls  *tls.Config
	all  sync.WaitGroup
	stop context.CancelFunc
	ctx  context.Context
}

// act is something bad that happens to one request.
type act struct {
	name string
	take int    // bytes of the body that are read first; -1: all
	say  string // what is answered
	slow bool   // in small pieces
	then ending
}

// ending is how the upstream's side of a connection goes on after an answer.
type ending string

const (
	closes  ending = "closes"
	resets  ending = "resets"
	halves  ending = "closes its half"
	hangs   ending = "hangs"
	well    ending = "goes on" // the connection is good for the next request
	bigBody        = 1 << 20   // bytes of an upload: more than fits into what is read of it
)

// What the saboteur has: one blob that is a manifest too.
var (
	faultContent = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[],"annotations":{"a":"` + strings.Repeat("0123456789", 300) + `"}}`
	faultDigest  = strings.TrimPrefix(withDigest("", faultContent), "?digest=")
)

// answers are the ways to frame a whole answer.
func answers() map[string]string {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nDocker-Content-Digest: " + faultDigest + "\r\n"
	half := len(faultContent) / 2
	return map[string]string{
		"length": head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(faultContent), faultContent),
		"chunks": head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n",
			half, faultContent[:half], len(faultContent)-half, faultContent[half:]),
	}
}

// startSaboteur listens; config is nil for plain HTTP.
func startSaboteur(t testing.TB, config *tls.Config, acts []act) *saboteur {
	t.Helper()
	s := &saboteur{acts: acts, tls: config}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.open(t, "127.0.0.1:0")
	t.Cleanup(func() { s.close(); s.stop(); s.all.Wait() })
	return s
}

func (s *saboteur) open(t testing.TB, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.l, s.url = l, "http://"+l.Addr().String()
	if s.tls != nil {
		_, port, _ := net.SplitHostPort(l.Addr().String())
		s.url = "https://localhost:" + port
	}
	s.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.all.Go(func() { s.converse(c) })
		}
	})
}

func (s *saboteur) close() { s.l.Close() }

// converse is one connection.
func (s *saboteur) converse(c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(s.ctx, func() { c.Close() })()
	if s.tls != nil {
		c = tls.Server(c, s.tls)
	}
	br := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		a := s.choose(r)
		if a.take < 0 {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
		} else if _, err := io.CopyN(io.Discard, r.Body, int64(a.take)); err != nil && err != io.EOF {
			return
		}
		a.answer(c)
		if a.then != well {
			a.then.happen(c)
			return
		}
	}
}

// answer says what there is to say.
func (a act) answer(c net.Conn) {
	rest := a.say
	for a.slow && len(rest) > 0 {
		n := min(len(rest), 1+len(a.say)/20)
		_, _ = io.WriteString(c, rest[:n])
		rest = rest[n:]
		time.Sleep(50 * time.Millisecond)
	}
	_, _ = io.WriteString(c, rest)
}

func (e ending) happen(c net.Conn) {
	raw := c
	if secure, ok := c.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	switch e {
	case resets:
		_ = raw.(*net.TCPConn).SetLinger(0)
	case halves:
		_ = raw.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	case hangs: // not a byte more is read: what is sent fills buffers
		probe := make([]byte, 1)
		for {
			_ = raw.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := raw.Read(probe); err != nil && !isTimeout(err) {
				return
			}
		}
	}
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// choose is what happens to r.
func (s *saboteur) choose(r *http.Request) act {
	fine := act{take: -1, say: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", then: well}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	switch {
	case r.Method == http.MethodPost: // an upload begins well
		fine.say = "HTTP/1.1 202 Accepted\r\nLocation: " + r.URL.Path + "1\r\nContent-Length: 0\r\n\r\n"
	case parts[0] == "sabotage":
		n, _ := strconv.Atoi(parts[1])
		return s.acts[n]
	case parts[0] == "cuts":
		n, _ := strconv.Atoi(parts[3])
		return act{say: answers()[parts[2]][:n], then: ending(parts[1])}
	case parts[0] == "fine":
		fine.say = answers()["length"]
	}
	return fine
}
