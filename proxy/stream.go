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
	if n := resp.ContentLength; n > 0 && n < smallBuffer && x.r.Method != http.MethodHead && (x.pace == nil || writes(x.req.Method)) {
		return x.streamShort(resp)
	}
	x.status = resp.StatusCode
	if writes(x.req.Method) {
		x.leave() // who hears that a piece has arrived sends the next one
	}
	x.begin(resp.StatusCode)
	if x.r.Method == http.MethodHead || resp.ContentLength == 0 {
		return nil
	}
	var client deadline
	paced := x.pace != nil && !writes(x.req.Method)
	if resp.ContentLength < 0 || resp.ContentLength > smallBuffer || paced {
		client = deadline{rc: http.NewResponseController(x.w), idle: x.s.idle()}
		if resp.ContentLength < 0 || resp.ContentLength > smallBuffer {
			_ = client.rc.Flush() // the head shall not wait for a body that trickles
		}
		if x.r.ProtoMajor == 1 { // in HTTP/2 it is the stream's, which ends here
			defer client.clear()
		}
	}
	if paced || x.streamFree(resp, &client) {
		x.streamPaced(resp, &client)
	}
	return nil
}

// streamShort has all of a short body before it says anything: what breaks off
// can still be told from success, where an answer that ends before its first
// byte is one that clients ask for again, and wait for again (S10).
func (x *exchange) streamShort(resp *http.Response) error {
	buf := x.h.small.get()
	defer x.h.small.put(buf)
	n, err := 0, error(nil)
	for n <= int(resp.ContentLength) && err == nil { // to its end, not only its last byte: the connection is free then
		var m int
		m, err = resp.Body.Read((*buf)[n : resp.ContentLength+1])
		n += m
	}
	if err != io.EOF {
		h := x.w.Header()
		dropEntity(h)
		delete(h, "Docker-Content-Digest")
		delete(h, "Location")
		x.digest, x.event = "", ""
		return x.up.failed(x.r.Context(), err)
	}
	x.status = resp.StatusCode
	if writes(x.req.Method) {
		x.leave()
	}
	x.begin(resp.StatusCode)
	if x.write((*buf)[:n], true) != nil {
		x.clientGone, x.aborted = true, true
	}
	return nil
}

// streamFree moves the answer's body as fast as it goes, unless a reload brings
// a limit of bytes that counts it: then it reports true, and the rest is left.
func (x *exchange) streamFree(resp *http.Response, client *deadline) (limited bool) {
	pool := x.h.small
	if resp.ContentLength > largeBuffer {
		pool = x.h.large
	}
	buf := pool.get()
	defer func() { pool.put(buf) }()
	seen := x.s
	for first := true; ; first = false {
		if now := x.h.snapshot.Load(); now != seen && client.rc != nil && !writes(x.req.Method) {
			seen = now
			if x.pace = x.reshape(now); x.pace != nil {
				return true
			}
		}
		if _, over := x.piece(resp, *buf, client); over {
			return false
		}
		if pool == x.h.small && !first && x.out > smallBuffer { // it proves large
			pool.put(buf)
			pool = x.h.large
			buf = pool.get()
		}
	}
}

// piece moves what there is of the answer's body, a bufferful at most.
func (x *exchange) piece(resp *http.Response, buf []byte, client *deadline) (n int, over bool) {
	n, err := resp.Body.Read(buf)
	if n > 0 {
		client.move()
		if x.write(buf[:n], err == io.EOF || x.out+int64(n) == resp.ContentLength) != nil {
			x.clientGone, x.aborted = true, true
			return n, true
		}
	}
	switch {
	case err == nil || err == io.EOF:
	case x.r.Context().Err() != nil: // who leaves ends the question to the upstream, too
		x.clientGone, x.aborted = true, true
	default:
		x.aborted = true
		x.refusal = broken(err)
	}
	return n, err != nil
}

// write sends the client a piece of the answer's body. Who has the last byte may
// ask for the next blob at once, before anything else happens here: the places
// of this one are free by then.
func (x *exchange) write(p []byte, last bool) error {
	if last && len(x.places) > 0 {
		n, err := x.w.Write(p[:len(p)-1])
		x.out += int64(n)
		x.leave()
		if err != nil {
			return err
		}
		p = p[len(p)-1:]
	}
	n, err := x.w.Write(p)
	x.out += int64(n)
	return err
}

// streamPaced moves the answer's body as fast as limits of bytes let it. There
// is a buffer only while something moves: who waits costs no more than a
// connection.
func (x *exchange) streamPaced(resp *http.Response, client *deadline) {
	left := resp.ContentLength
	if left > 0 {
		left -= x.out
	}
	for {
		n, err := x.pace.await(left, client.pause)
		if err != nil {
			x.clientGone, x.aborted = true, true
			return
		}
		pool, size := x.h.small, smallBuffer
		if n > smallBuffer {
			pool, size = x.h.large, largeBuffer
		}
		buf := pool.get()
		moved, over := x.piece(resp, (*buf)[:min(n, size)], client)
		pool.put(buf)
		if over {
			return
		}
		x.pace.moved(moved)
		if left > 0 {
			left -= int64(moved)
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

// pause is for a wait of ours, in which the client can take nothing: it is not
// idle. What it could have goes out before a long one.
func (d *deadline) pause(wait time.Duration) {
	if wait >= longWait {
		_ = d.rc.Flush()
	}
	_ = d.rc.SetWriteDeadline(time.Now().Add(wait + d.idle))
	d.next = time.Time{}
}

// clear ends it: the connection's next answer may be minutes away.
func (d *deadline) clear() { _ = d.rc.SetWriteDeadline(time.Time{}) }

// drain takes a bounded amount of what a refused client still sends (S12).
func drain(body io.Reader) { _, _ = io.CopyN(io.Discard, body, maxDrain) }
