package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
)

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
