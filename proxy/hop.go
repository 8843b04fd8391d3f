package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxHead        = 64 << 10 // bytes of an answer's header
	maxInterim     = 8        // 1xx answers before the real one
	maxTrailer     = 32       // lines after the last chunk
	maxIdle        = 1024     // connections kept for later
	idleAge        = time.Minute
	wireBuffer     = 8 << 10  // reads of more go past it
	sendBuffer     = 64 << 10 // a body on its way up moves in such pieces
	sendGrace      = 50 * time.Millisecond
	answerGrace    = time.Second // for an answer to what could not be sent to its end
	deadlineSlack  = time.Second // deadlines are moved at most so often (performance.md)
	maxEmptyReads  = 100
	chunkHeadSpace = 10 // eight hex digits and CRLF
)

// hop takes one request to the upstream and brings the answer back, as
// http.RoundTripper does; but it does not take an *http.Request apart that was
// only just put together. Redirects, 401s and other credentials are not its
// business.
//
// The body of an answer ends in io.EOF only if all of it came. A body to be
// sent may still be read from after roundTrip has returned, as with
// http.Transport.
type hop interface {
	roundTrip(ctx context.Context, r *hopRequest) (*http.Response, error)
	close()
}

// hopRequest is a request on the wire, nearly.
type hopRequest struct {
	method string
	target string // path and query, escaped
	host   string
	header http.Header
	own    [8]field // set by us, and stronger than header
	owned  int

	body          io.Reader // nil: none
	length        int64     // of body; -1: chunked
	headerTimeout time.Duration
}

type field struct{ name, value string }

// set adds a line of our own, or replaces one. An empty value is no line; then
// what header says goes on.
func (r *hopRequest) set(name, value string) {
	for i := range r.own[:r.owned] {
		if r.own[i].name == name {
			r.own[i].value = value
			return
		}
	}
	if value != "" {
		r.own[r.owned] = field{name, value}
		r.owned++
	}
}

// ours reports whether a line under that name was set.
func (r *hopRequest) ours(name string) bool {
	for i := range r.own[:r.owned] {
		if r.own[i].name == name && r.own[i].value != "" {
			return true
		}
	}
	return false
}

// repeatable reports whether r may be sent again on another connection (H11).
func (r *hopRequest) repeatable() bool {
	return r.body == nil && (r.method == http.MethodGet || r.method == http.MethodHead || r.method == http.MethodDelete)
}

// appendHead writes the head of r. Everything in it was checked where it came
// from; it is looked at once more, because a line break here would be a second
// request.
func (r *hopRequest) appendHead(b []byte) ([]byte, error) {
	if !plain(r.target) || r.target == "" || r.target[0] != '/' {
		return b, errors.New("request target cannot be sent")
	}
	b = append(b, r.method...)
	b = append(b, ' ')
	b = append(b, r.target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.host...)
	b = append(b, "\r\n"...)
	var ok bool
	for _, f := range r.own[:r.owned] {
		if f.value != "" {
			if b, ok = appendField(b, f.name, f.value); !ok {
				return b, fmt.Errorf("header %s cannot be sent", f.name)
			}
		}
	}
	for name, values := range r.header {
		if r.ours(name) {
			continue
		}
		for _, value := range values {
			if b, ok = appendField(b, name, value); !ok {
				return b, fmt.Errorf("header %s cannot be sent", name)
			}
		}
	}
	switch {
	case r.body != nil && r.length < 0: // H02
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.body != nil || r.method == http.MethodPost || r.method == http.MethodPut || r.method == http.MethodPatch: // H03
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.length, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

func appendField(b []byte, name, value string) (_ []byte, ok bool) {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return b, false
		}
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...), true
}

// plain reports whether s is visible ASCII all through.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

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

// sending is a body on its way up.
type sending struct {
	done chan struct{}
	mu   sync.Mutex
	err  error
}

func (s *sending) fail(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}

func (s *sending) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// send moves the body of r. If the client breaks off, so does the connection:
// the upstream must not take what it has for all.
func (w *wire) send(c *wireConn, r *hopRequest, s *sending) {
	defer close(s.done)
	err := w.copyBody(c, r)
	var client errClientBody
	switch {
	case err == nil:
		c.expectAnswer(r.headerTimeout)
	case errors.As(err, &client):
		s.fail(err)
		_ = c.raw.Close()
	default:
		s.fail(err)
		c.expectAnswer(answerGrace)
	}
}

func (w *wire) copyBody(c *wireConn, r *hopRequest) error {
	buf := w.buffers.Get().(*[sendBuffer]byte)
	defer w.buffers.Put(buf)
	if r.length < 0 {
		return c.copyChunks(buf[:], r.body)
	}
	empty := 0
	for left := r.length; left > 0; {
		n, err := r.body.Read(buf[:min(left, sendBuffer)])
		if n > 0 {
			c.writeWithin(c.idle)
			if _, err := c.Conn.Write(buf[:n]); err != nil {
				return err
			}
			empty = 0
		}
		if left -= int64(n); left == 0 {
			if err == nil { // whoever counts the body wants to see its end
				_, _ = r.body.Read(buf[:1])
			}
			return nil
		}
		if err = stalled(n, err, &empty); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return errClientBody{err}
		}
	}
	return nil
}

// copyChunks sends a body of unknown length, each piece in one write.
func (c *wireConn) copyChunks(buf []byte, body io.Reader) error {
	empty := 0
	for {
		n, err := body.Read(buf[chunkHeadSpace : len(buf)-2])
		if n > 0 {
			size := strconv.AppendUint(nil, uint64(n), 16)
			start := chunkHeadSpace - 2 - len(size)
			copy(buf[start:], size)
			copy(buf[chunkHeadSpace-2:], "\r\n")
			copy(buf[chunkHeadSpace+n:], "\r\n")
			c.writeWithin(c.idle)
			if _, err := c.Conn.Write(buf[start : chunkHeadSpace+n+2]); err != nil {
				return err
			}
			empty = 0
		}
		if err = stalled(n, err, &empty); err == io.EOF {
			c.writeWithin(c.idle)
			_, err := io.WriteString(c.Conn, "0\r\n\r\n")
			return err
		} else if err != nil {
			return errClientBody{err}
		}
	}
}

// stalled turns a reader that gives nothing, again and again, into an error.
func stalled(n int, err error, empty *int) error {
	if n == 0 && err == nil {
		if *empty++; *empty >= maxEmptyReads {
			return io.ErrNoProgress
		}
	}
	return err
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

// wireAnswer is an http.Response and what its body needs, in one piece.
type wireAnswer struct {
	resp http.Response
	body wireBody
}

// read reads the head of the answer to method and gets its body ready.
func (a *wireAnswer) read(method string) error {
	c := a.body.c
	for range maxInterim {
		line, err := c.lines.ReadLine()
		if err != nil {
			return unexpected(err)
		}
		minor, status, err := statusLine(line)
		if err != nil {
			return err
		}
		header, err := c.lines.ReadMIMEHeader()
		if err != nil {
			return unexpected(err)
		}
		if status == http.StatusSwitchingProtocols {
			return errors.New("upstream switches protocols, which nobody asked for")
		}
		if status < 200 {
			continue
		}
		c.setAnswered()
		a.resp = http.Response{
			Status: strings.TrimSpace(line[len("HTTP/1.1 "):]), StatusCode: status,
			Proto: line[:len("HTTP/1.1")], ProtoMajor: 1, ProtoMinor: minor,
			Header: http.Header(header),
		}
		return a.frame(method)
	}
	return errors.New("upstream does not come to an answer")
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// statusLine reads "HTTP/1.x NNN reason".
func statusLine(line string) (minor, status int, err error) {
	const proto = "HTTP/1.x "
	if len(line) < len(proto)+3 || line[:7] != proto[:7] || (line[7] != '1' && line[7] != '0') || line[8] != ' ' ||
		len(line) > len(proto)+3 && line[len(proto)+3] != ' ' {
		return 0, 0, errors.New("upstream's status line is not one of HTTP/1.1")
	}
	for _, d := range []byte(line[len(proto) : len(proto)+3]) {
		if d < '0' || d > '9' {
			return 0, 0, errors.New("upstream's status is not a number")
		}
		status = status*10 + int(d-'0')
	}
	if status < 100 || status > 599 {
		return 0, 0, fmt.Errorf("upstream's status %d does not exist", status)
	}
	return int(line[7] - '0'), status, nil
}

// frame finds out where the body ends (RFC 9112, 6.3). What could be read in
// two ways is an error, and so is a success that ends where the connection
// does: nobody would know half of it from all (G6).
func (a *wireAnswer) frame(method string) error {
	h, b := a.resp.Header, &a.body
	length, err := contentLength(h["Content-Length"])
	if err != nil {
		return err
	}
	chunked := false
	if te, has := h["Transfer-Encoding"]; has {
		if len(te) != 1 || !strings.EqualFold(te[0], "chunked") || length >= 0 || a.resp.ProtoMinor == 0 {
			return errors.New("upstream's transfer encoding is not understood, or stands beside a length")
		}
		chunked = true
		delete(h, "Transfer-Encoding")
	}
	b.keep = a.resp.ProtoMinor == 1 && !hasClose(h["Connection"])
	a.resp.ContentLength = length
	status := a.resp.StatusCode
	switch {
	case method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified || length == 0:
		b.finish(true)
		a.resp.Body = http.NoBody
		return nil
	case chunked:
		a.resp.TransferEncoding = []string{"chunked"}
		b.chunks = httputil.NewChunkedReader(b.c.br)
	case length > 0:
		b.left = length
	case status < 300:
		return errors.New("upstream's answer has no length")
	default:
		b.untilClose, b.keep = true, false
	}
	a.resp.Body = b
	return nil
}

// contentLength reads the one Content-Length; -1 is none.
func contentLength(values []string) (int64, error) {
	if len(values) == 0 {
		return -1, nil
	}
	s := values[0]
	if len(values) > 1 || s == "" || len(s) > 18 {
		return 0, errors.New("upstream's answer has no length to rely on")
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, errors.New("upstream's length is not a number")
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, nil
}

func hasClose(values []string) bool {
	for _, line := range values {
		for _, v := range strings.Split(line, ",") {
			if strings.EqualFold(strings.TrimSpace(v), "close") {
				return true
			}
		}
	}
	return false
}

// wireBody is the body of an answer. When the last byte has been read, the
// connection is free for the next.
type wireBody struct {
	w       *wire
	c       *wireConn
	ctx     context.Context // of the request; only to say why a read failed
	stop    func() bool     // ends the watch on ctx
	sending *sending        // nil: the request had no body
	keep    bool            // the connection may be used again

	left       int64     // with neither of the next two
	chunks     io.Reader // not nil: chunked
	untilClose bool

	over bool
	err  error // what reads give from now on
}

// Read gives io.EOF only when all of the body has come.
func (b *wireBody) Read(p []byte) (n int, err error) {
	if b.over {
		return 0, b.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	switch {
	case b.chunks != nil:
		if n, err = b.chunks.Read(p); err == io.EOF {
			if err = b.trailer(); err == nil {
				err = io.EOF
			}
		}
	case b.untilClose:
		n, err = b.c.br.Read(p)
	default:
		n, err = b.c.br.Read(p[:min(int64(len(p)), b.left)])
		if b.left -= int64(n); b.left == 0 {
			err = io.EOF
		} else if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		err = b.reason(err)
	}
	b.err = err
	b.finish(err == io.EOF)
	return n, err
}

// trailer reads what follows the last chunk. Nobody wants it (H08).
func (b *wireBody) trailer() error {
	for range maxTrailer {
		line, err := b.c.br.ReadSlice('\n')
		if err != nil {
			return unexpected(err)
		}
		if len(line) == 2 && line[0] == '\r' {
			return nil
		}
	}
	return errors.New("upstream's trailer does not end")
}

// Close gives up what has not been read.
func (b *wireBody) Close() error {
	if !b.over {
		b.err = http.ErrBodyReadAfterClose
		b.finish(false)
	}
	return nil
}

// finish hands the connection back, or closes it.
func (b *wireBody) finish(whole bool) {
	if b.over {
		return
	}
	b.over = true
	if b.err == nil {
		b.err = io.EOF
	}
	whole = b.sent() && whole
	if b.stop() && whole && b.keep && b.c.br.Buffered() == 0 {
		b.w.put(b.c)
		return
	}
	_ = b.c.raw.Close()
}

// sent reports whether all of the request has gone up: an answer may come
// before that, and then the connection is of no more use.
func (b *wireBody) sent() bool {
	if b.sending == nil {
		return true
	}
	select {
	case <-b.sending.done:
	default:
		patience := time.NewTimer(sendGrace)
		defer patience.Stop()
		select {
		case <-b.sending.done:
		case <-patience.C:
			return false
		}
	}
	return b.sending.failed() == nil
}

// reason is why a read failed, where the read itself says only that the
// connection was closed under it.
func (b *wireBody) reason(err error) error {
	if cause := b.ctx.Err(); cause != nil {
		return cause
	}
	if b.sending != nil {
		if cause := b.sending.failed(); cause != nil {
			return cause
		}
	}
	if b.c.readErr != nil && isTimeout(b.c.readErr) {
		return b.c.readErr
	}
	return err
}

// sourceReader marks the errors of a client's body, so that they are not
// taken for the upstream's.
type sourceReader struct{ io.Reader }

func (s sourceReader) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = errClientBody{err}
	}
	return n, err
}
