package auth_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/internal/slapdtest"
)

// Whatever an answer is, a login that cannot be checked is no wrong one, and
// waits no longer than it may.
func TestLDAPAnswersThatAreNone(t *testing.T) {
	for what, answer := range map[string]string{
		"nothing":             "",
		"a web page":          "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
		"no message":          "\x30\x00",
		"no operation":        "\x30\x03\x02\x01\x01",
		"no result":           "\x30\x05\x02\x01\x01\x65\x00",
		"no result of a bind": "\x30\x05\x02\x01\x01\x61\x00",
		"an empty entry":      "\x30\x05\x02\x01\x01\x64\x00",
		"an empty referral":   "\x30\x05\x02\x01\x01\x73\x00",
		"nonsense as a code":  "\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\xff\x04\x00\x04\x00",
		"an end of itself":    "\x30\x80\x00\x00",
		"much of nothing":     "\x30\x84\x7f\xff\xff\xff\x02\x01\x01" + strings.Repeat("\x04\x00", auth.MaxLDAPAnswer),
		"a text without end":  "\x04\x84\x7f\xff\xff\xff" + strings.Repeat("x", 2*auth.MaxLDAPAnswer),
		"deep":                strings.Repeat("\x30\x80", 100_000),
		"farewell":            "\x30\x24\x02\x01\x00\x78\x1f\x0a\x01\x34\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20036",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			url, ca := slapdtest.Raw(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1024))
				_, _ = io.Copy(c, strings.NewReader(answer))
				_, _ = io.Copy(io.Discard, c) // until the other one hangs up
			})
			o := ldapOptions()
			o.Servers, o.CA, o.Timeout = []string{url}, ca, 300*time.Millisecond
			for _, bind := range []auth.Credential{o.Bind, {}} {
				o.Bind = bind
				_, err := ldapLogin(mustLDAP(t, o), "ann", "pw")
				if err == nil || errors.Is(err, auth.ErrRejected) || errors.Is(err, auth.ErrNotMine) {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// Before TLS anybody may be in between.
func TestLDAPAnswersBeforeTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make(chan int64, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Read(make([]byte, 100))
		_, _ = c.Write([]byte("\x30\x84\x7f\xff\xff\xff"))
		n, _ := io.Copy(c, bytes.NewReader(bytes.Repeat([]byte("\x04\x00"), 32<<20)))
		sent <- n
	}()
	o := ldapOptions()
	o.Servers, o.StartTLS = []string{"ldap://" + l.Addr().String()}, true
	if _, err := ldapLogin(mustLDAP(t, o), "ann", "pw"); !errors.Is(err, auth.ErrUnavailable) || errors.Is(err, auth.ErrRejected) {
		t.Errorf("got %v", err)
	}
	if n := <-sent; n >= 64<<20 {
		t.Errorf("%d bytes were read", n)
	}
}

// Neither a login nor a server that is gone or hangs leaves anything behind.
func TestLDAPLeavesNothingBehind(t *testing.T) {
	s := slapdtest.Start(t, slapdtest.Options{LDIF: entries()})
	before := runtime.NumGoroutine()
	now := newClock()
	o := ldapOptions(s)
	o.Now, o.Timeout = now.Now, time.Second
	l := mustLDAP(t, o)
	l.SetIdle(time.Millisecond)
	all := func() {
		done := make(chan bool)
		for i := range 20 {
			go func() {
				_, _ = ldapLogin(l, "ann", []string{"Ann's own", "wrong"}[i%2])
				done <- true
			}()
		}
		for range 20 {
			<-done
		}
		now.Advance(auth.LDAPPause)
	}
	all()
	s.Pause()
	all()
	s.Resume()
	all()
	s.Kill()
	all()
	until(t, "all goroutines have ended", func() bool { return l.Idle() == 0 && runtime.NumGoroutine() <= before })
}
