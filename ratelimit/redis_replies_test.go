package ratelimit_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/regward/regward/ratelimit"
)

// reading is a connection from which text comes, byte by byte or at once.
type reading struct {
	net.Conn
	io.Reader
}

func (r reading) Read(p []byte) (int, error) { return r.Reader.Read(p) }

func readAll(t testing.TB, r io.Reader) (string, error) {
	t.Helper()
	dial := ratelimit.BoundedReplies(func(context.Context, string, string) (net.Conn, error) { return reading{Reader: r}, nil })
	c, err := dial(context.Background(), "tcp", "")
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	return string(all), err
}

func TestRepliesThatArePassedOn(t *testing.T) {
	for _, text := range []string{
		"", "+OK\r\n", ":-1\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n", "$0\r\n\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123456789012345678901234567890\r\n",
		"-ERR *99999999999999 is text here\r\n", "$21\r\n*99999999999999\r\n\r\n\r\n\r\n",
		"*2\r\n:-1\r\n$3\r\n4.5\r\n", "%2\r\n+a\r\n*2\r\n:1\r\n:2\r\n+b\r\n~1\r\n$-1\r\n", "=8\r\ntxt:four\r\n", "!3\r\nno!\r\n",
		strings.Repeat(">3\r\n+message\r\n+news\r\n$4\r\nnews\r\n", 300_000), // a subscription lives long
		"*3\r\n$-1\r\n*0\r\n*1\r\n*1\r\n*1\r\n:1\r\n+OK\r\n",
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
			if name != "at once" && len(text) > 1<<20 {
				continue
			}
			if got, err := readAll(t, r); err != nil || got != text {
				t.Errorf("%s: %.80q: %v", name, text, err)
			}
		}
	}
}

func FuzzReplies(f *testing.F) {
	for _, s := range []string{"+OK\r\n*2\r\n$1\r\na\r\n:1\r\n", "*9000000000\r\n", "$9\r\n", "%1\r\n*1\r\n", "*-1\r\n$-1\r\n", "$?\r\n", "|1\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err1 := readAll(t, strings.NewReader(s))
		bytewise, err2 := readAll(t, iotest.OneByteReader(strings.NewReader(s)))
		if (err1 == nil) != (err2 == nil) || err1 == nil && (once != s || bytewise != s) {
			t.Errorf("%q: at once %q, %v; byte by byte %q, %v", s, once, err1, bytewise, err2)
		}
	})
}
