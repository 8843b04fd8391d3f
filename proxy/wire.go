package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"sync"
	"syscall"
	"time"
)

// wire is the hop: HTTP/1.1 by hand, on connections that are kept. What is
// hard to parse safely - header lines, chunks - is parsed by the standard
// library.
type wire struct {
	connect     func(ctx context.Context, network, addr string) (net.Conn, error)
	addr        string
	tls         *tls.Config // nil: plain
	handshake   time.Duration
	idleTimeout time.Duration
	buffers     sync.Pool // *[sendBuffer]byte

	mu     sync.Mutex
	idle   []*wireConn // the last one put back is the next one taken
	sweep  *time.Timer // set while there are idle ones
	closed bool
}

func newWire(u *Upstream, config *tls.Config) *wire {
	w := &wire{
		connect:     u.connect,
		addr:        net.JoinHostPort(u.hostname, u.port),
		handshake:   u.settings.ConnectTimeout,
		idleTimeout: u.settings.IdleTimeout,
		buffers:     sync.Pool{New: func() any { return new([sendBuffer]byte) }},
	}
	if u.scheme == "https" {
		w.tls = config.Clone()
		w.tls.ServerName = u.hostname
	}
	return w
}

// close drops the idle connections; those in use are closed when they are
// done.
func (w *wire) close() {
	w.mu.Lock()
	idle := w.idle
	w.idle, w.closed = nil, true
	if w.sweep != nil {
		w.sweep.Stop()
	}
	w.mu.Unlock()
	for _, c := range idle {
		_ = c.raw.Close()
	}
}

// roundTrip sends r. A connection that lay idle may have died since: then
// what can be sent twice is, on a new one, as long as nothing of an answer was
// seen (H11).
func (w *wire) roundTrip(ctx context.Context, r *hopRequest) (*http.Response, error) {
	c := w.take(r.headerTimeout)
	if c == nil {
		return w.freshTrip(ctx, r)
	}
	resp, err := w.exchange(ctx, c, r)
	if err != nil && !c.heard && r.repeatable() && ctx.Err() == nil && !isTimeout(err) {
		return w.freshTrip(ctx, r)
	}
	return resp, err
}

func (w *wire) freshTrip(ctx context.Context, r *hopRequest) (*http.Response, error) {
	c, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	return w.exchange(ctx, c, r)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// take is an idle connection that still lives, or nil.
func (w *wire) take(headerTimeout time.Duration) *wireConn {
	for {
		w.mu.Lock()
		n := len(w.idle)
		if n == 0 {
			w.mu.Unlock()
			return nil
		}
		c := w.idle[n-1]
		w.idle[n-1] = nil
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		// A deadline that has passed meanwhile would look like death.
		c.readWithin(headerTimeout)
		if c.alive() {
			return c
		}
		_ = c.raw.Close()
	}
}

// put keeps a connection for later.
func (w *wire) put(c *wireConn) {
	c.since = time.Now()
	if cap(c.head) > wireBuffer {
		c.head = nil
	}
	w.mu.Lock()
	keep := !w.closed && len(w.idle) < maxIdle
	if keep {
		w.idle = append(w.idle, c)
		if w.sweep == nil {
			w.sweep = time.AfterFunc(idleAge, w.dropOld)
		}
	}
	w.mu.Unlock()
	if !keep {
		_ = c.raw.Close()
	}
}

// dropOld closes what nobody has wanted for a while. The oldest lie in front.
func (w *wire) dropOld() {
	w.mu.Lock()
	n := 0
	for n < len(w.idle) && time.Since(w.idle[n].since) >= idleAge {
		n++
	}
	old := append([]*wireConn(nil), w.idle[:n]...)
	w.idle = append(w.idle[:0], w.idle[n:]...)
	clear(w.idle[len(w.idle) : len(w.idle)+n])
	w.sweep = nil
	if len(w.idle) > 0 && !w.closed {
		w.sweep = time.AfterFunc(idleAge, w.dropOld)
	}
	w.mu.Unlock()
	for _, c := range old {
		_ = c.raw.Close()
	}
}

func (w *wire) dial(ctx context.Context) (*wireConn, error) {
	raw, err := w.connect(ctx, "tcp", w.addr)
	if err != nil {
		return nil, err
	}
	c := &wireConn{Conn: raw, raw: raw, idle: w.idleTimeout}
	if w.tls != nil {
		secure := tls.Client(raw, w.tls)
		ctx, cancel := context.WithTimeout(ctx, w.handshake)
		defer cancel()
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		c.Conn = secure
	}
	if socket, ok := raw.(syscall.Conn); ok {
		c.socket, _ = socket.SyscallConn()
	}
	c.br = bufio.NewReaderSize((*wireReader)(c), wireBuffer)
	c.lines = textproto.NewReader(c.br)
	return c, nil
}

// exchange sends r on c and reads the head of the answer. It owns c: on an
// error c is closed, else the answer's body takes it over.
func (w *wire) exchange(ctx context.Context, c *wireConn, r *hopRequest) (*http.Response, error) {
	var err error
	if c.head, err = r.appendHead(c.head[:0]); err != nil {
		_ = c.raw.Close()
		return nil, err
	}
	c.heard, c.answered, c.headLeft, c.readErr = false, false, maxHead, nil
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	a := &wireAnswer{body: wireBody{w: w, c: c, ctx: ctx, stop: stop}}

	c.writeWithin(w.idleTimeout)
	_, err = c.Conn.Write(c.head)
	if err == nil {
		if r.body == nil {
			c.readWithin(r.headerTimeout)
		} else {
			c.readWithin(0) // from when the body is sent (H10)
			a.body.sending = &sending{done: make(chan struct{})}
			go w.send(c, r, a.body.sending)
		}
		err = a.read(r.method)
	}
	if err != nil {
		err = a.body.reason(err)
		a.body.finish(false)
		return nil, err
	}
	return &a.resp, nil
}

// wireConn is one connection. Only one exchange has it at a time.
type wireConn struct {
	net.Conn                 // TCP, or TLS over it
	raw      net.Conn        // TCP
	socket   syscall.RawConn // nil where it is none
	br       *bufio.Reader   // over wireReader
	lines    *textproto.Reader
	head     []byte // the last head written; scratch
	idle     time.Duration
	since    time.Time // when it was put back

	heard    bool  // whether a byte of the answer came
	readErr  error // what the last read gave; parsers may see only half a line instead
	headLeft int   // bytes the head may still have; not positive: there is no head to come

	mu       sync.Mutex // deadlines are also set from where a body is sent
	answered bool       // the head is there, reads are on idle time
	readBy   time.Time
	writeBy  time.Time
}

// wireReader is a wireConn as its bufio.Reader sees it.
type wireReader wireConn

var errLongHead = errors.New("upstream's header is too long")

func (r *wireReader) Read(p []byte) (int, error) {
	c := (*wireConn)(r)
	if c.answered {
		c.readWithin(c.idle)
	} else {
		if c.headLeft <= 0 {
			return 0, errLongHead
		}
		p = p[:min(len(p), c.headLeft)]
	}
	n, err := c.Conn.Read(p)
	c.readErr = err
	if n > 0 {
		c.heard = true
		c.headLeft -= n
	}
	return n, err
}

// readWithin lets reads fail after d from now, give or take deadlineSlack; 0 is never.
func (c *wireConn) readWithin(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setRead(d)
}

func (c *wireConn) setRead(d time.Duration) {
	var by time.Time
	if d > 0 {
		by = time.Now().Add(d)
	}
	if moved(c.readBy, by, d) {
		c.readBy = by
		_ = c.Conn.SetReadDeadline(by)
	}
}

func (c *wireConn) writeWithin(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := time.Now().Add(d)
	if moved(c.writeBy, by, d) {
		c.writeBy = by
		_ = c.Conn.SetWriteDeadline(by)
	}
}

// moved reports whether a deadline is worth setting: it costs a timer each
// time. Short ones are, always.
func moved(from, to time.Time, d time.Duration) bool {
	if from.IsZero() || to.IsZero() {
		return from != to
	}
	return d < 10*deadlineSlack || to.Sub(from).Abs() > deadlineSlack
}

// expectAnswer starts the time for the head, unless that has come.
func (c *wireConn) expectAnswer(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.answered {
		c.setRead(d)
	}
}

func (c *wireConn) setAnswered() {
	c.mu.Lock()
	c.answered = true
	c.mu.Unlock()
}
