package proxy

import (
	"io"
	"net/http"
	"sync"
	"time"
)

// Bodies move through pooled buffers; the large one is taken only once a body
// proves large (performance.md: worth 7 to 15 % of a download).
const (
	smallBuffer = 16 << 10
	largeBuffer = 256 << 10
)

// buffers pool byte arrays of one size.
type buffers struct{ pool sync.Pool }

func newBuffers(size int) *buffers {
	return &buffers{sync.Pool{New: func() any { b := make([]byte, size); return &b }}}
}

func (b *buffers) get() *[]byte  { return b.pool.Get().(*[]byte) }
func (b *buffers) put(p *[]byte) { b.pool.Put(p) }

// stream writes the answer's status and body. A body that breaks off breaks
// off the client's answer as well: never a clean end (H12).
func (x *exchange) stream(resp *http.Response) error {
	x.status = resp.StatusCode
	x.begin(resp.StatusCode)
	if x.r.Method == http.MethodHead || resp.ContentLength == 0 {
		return nil
	}
	pool := x.h.small
	if resp.ContentLength > largeBuffer {
		pool = x.h.large
	}
	buf := pool.get()
	defer func() { pool.put(buf) }()
	var client deadline
	if resp.ContentLength < 0 || resp.ContentLength > smallBuffer {
		client = deadline{rc: http.NewResponseController(x.w), idle: x.s.idle()}
		_ = client.rc.Flush()    // the head shall not wait for a body that trickles
		if x.r.ProtoMajor == 1 { // in HTTP/2 it is the stream's, which ends here
			defer client.clear()
		}
	}
	for first := true; ; first = false {
		n, err := resp.Body.Read(*buf)
		if n > 0 {
			client.move()
			written, werr := x.w.Write((*buf)[:n])
			x.out += int64(written)
			if werr != nil {
				x.clientGone = true
				x.aborted = true
				return nil
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			x.aborted = true
			x.refusal = broken(err)
			return nil
		}
		if pool == x.h.small && !first && x.out > smallBuffer { // it proves large
			pool.put(buf)
			pool = x.h.large
			buf = pool.get()
		}
	}
}

// deadline gives a client up that takes no byte for the idle time; it is moved
// at most once a second.
type deadline struct {
	rc   *http.ResponseController
	idle time.Duration
	next time.Time
}

func (d *deadline) move() {
	if d.rc == nil {
		return
	}
	now := time.Now()
	if now.Before(d.next) {
		return
	}
	_ = d.rc.SetWriteDeadline(now.Add(d.idle))
	d.next = now.Add(min(time.Second, d.idle/4))
}

// clear ends it: the connection's next answer may be minutes away.
func (d *deadline) clear() { _ = d.rc.SetWriteDeadline(time.Time{}) }

// drain takes a bounded amount of what a refused client still sends (S12).
func drain(body io.Reader) { _, _ = io.CopyN(io.Discard, body, maxDrain) }
