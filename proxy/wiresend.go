package proxy

import (
	"errors"
	"io"
	"strconv"
	"sync"
)

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
