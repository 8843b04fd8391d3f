package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// The bounds of what a Redis may answer. The largest that is asked for has some
// thousand values of some hundred bytes.
const (
	maxValues = 1 << 20  // announced and not yet there
	maxDepth  = 16       // lists in lists
	maxText   = 16 << 20 // bytes of one value
	maxLine   = 64 << 10 // bytes of an error, or of anything else that is not counted

	kinds = "+-:$*_#,(!=%~>|" // of answers, by their first byte
)

// errNonsense is what people are told of an answer that no Redis would give, and
// errReply is that of a connection.
var (
	errNonsense = errors.New("it answers, but not as Redis does")
	errReply    = fmt.Errorf("%w: an answer of no known kind, or out of bounds", errNonsense)
)

// Dial makes a connection, as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// BoundedReplies makes the connections of dial fail when an answer would be too
// large. go-redis makes room for whatever an answer announces: "*9000000000"
// from something that is no Redis ends the process (go-redis v9.23.0,
// internal/proto: readSlice, readStringReply).
func BoundedReplies(dial Dial) Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		b := &boundedConn{Conn: c}
		if s, ok := c.(syscall.Conn); ok {
			return boundedSocket{b, s}, nil
		}
		return b, nil
	}
}

// boundedConn looks at what is read from it. Nothing can be read behind what is
// out of bounds: the client passes over an error that it meets while it looks for
// messages, and would wait for more.
type boundedConn struct {
	net.Conn
	replies
	broken bool
}

// boundedSocket is one that go-redis can ask whether it was closed meanwhile.
type boundedSocket struct {
	*boundedConn
	syscall.Conn
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.broken {
		return 0, errReply
	}
	n, err := c.Conn.Read(p)
	if !c.within(p[:n]) {
		c.broken = true
		return 0, errReply
	}
	return n, err
}

// replies follows the answers on one connection (RESP2 and RESP3), to know where
// each value begins.
type replies struct {
	open   []int // values that each list under way still wants
	wanted int   // the sum of open
	text   int   // bytes left of a counted value, with its line end
	kind   byte  // of the line under way; 0 between lines
	length int   // of that line
	number int   // that it announces
	minus  bool
}

// within takes in what came next, and reports whether it is in bounds.
func (r *replies) within(p []byte) bool {
	for len(p) > 0 {
		if r.text > 0 {
			skip := min(r.text, len(p))
			p = p[skip:]
			if r.text -= skip; r.text == 0 {
				r.ended()
			}
			continue
		}
		c := p[0]
		p = p[1:]
		switch {
		case r.kind == 0:
			if strings.IndexByte(kinds, c) < 0 { // else its end would be waited for
				return false
			}
			r.kind, r.length, r.number, r.minus = c, 0, 0, false
		case c == '\n':
			if !r.line() {
				return false
			}
			r.kind = 0
		case !r.inLine(c):
			return false
		}
	}
	return true
}

// inLine takes a byte behind the first of a line.
func (r *replies) inLine(c byte) bool {
	if r.length++; r.length > maxLine {
		return false
	}
	switch r.kind {
	case '*', '~', '>', '%', '$', '!', '=', '|':
	default:
		return true
	}
	switch {
	case c == '\r':
	case c == '-' && r.length == 1:
		r.minus = true
	case c < '0' || c > '9': // also what announces no number: "$?"
		return false
	default:
		r.number = r.number*10 + int(c-'0')
	}
	return r.number <= max(maxText, maxValues)
}

// line is at the end of a line.
func (r *replies) line() bool {
	n := r.number
	if r.minus && n != 1 {
		return false // -1 is nothing; the client makes room for the others
	}
	switch r.kind {
	case '$', '!', '=':
		if r.minus {
			break
		}
		r.text = n + len("\r\n")
		return n <= maxText
	case '%':
		n *= 2
		fallthrough
	case '*', '~', '>':
		if r.minus || n == 0 {
			break
		}
		r.open, r.wanted = append(r.open, n), r.wanted+n
		return len(r.open) <= maxDepth && r.wanted <= maxValues
	case '|':
		return false // attributes, which nobody asked for
	}
	r.ended()
	return true
}

// ended is at the end of a value, and of the lists that end with it.
func (r *replies) ended() {
	for last := len(r.open) - 1; last >= 0; last-- {
		r.open[last]--
		r.wanted--
		if r.open[last] > 0 {
			return
		}
		r.open = r.open[:last]
	}
}
