package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// clientBody is the request body as it arrives: counted, and given up when
// nothing comes for idle_timeout (H10). A slow body is not.
//
// Whoever sends it upstream may still be reading when the answer is out and
// the request is over: from end on it touches nothing of the request but the
// body itself, which net/http guards.
type clientBody struct {
	x    *exchange // touched only while there is rc
	h    *Handler
	from io.Reader
	idle time.Duration
	next time.Time // when the deadline is moved again

	pace   *pacer    // nil: as fast as it comes
	seen   *Snapshot // whose limits that is by
	length int64     // -1: not known

	taken  atomic.Int64
	whole  atomic.Bool // it was read to its end
	broken atomic.Bool // the client did not send it to its end

	mu sync.Mutex
	rc *http.ResponseController // nil from end on
}

func newClientBody(x *exchange) *clientBody {
	return &clientBody{x: x, h: x.h, from: x.r.Body, idle: x.s.idle(), rc: http.NewResponseController(x.w), pace: x.pace, seen: x.s, length: x.r.ContentLength}
}

func (b *clientBody) Read(p []byte) (int, error) {
	p, err := b.await(p)
	if err != nil {
		return 0, err
	}
	if now := time.Now(); now.After(b.next) {
		b.deadline(now.Add(b.idle))
		b.next = now.Add(min(time.Second, b.idle/4))
	}
	n, err := b.from.Read(p)
	if b.over() {
		return 0, errOver
	}
	b.taken.Add(int64(n))
	if b.pace != nil {
		b.pace.moved(n)
	}
	switch {
	case err == io.EOF: // the upstream may take its time now; a deadline would look like a client that left
		b.deadline(time.Time{})
		b.whole.Store(true)
	case err != nil:
		b.broken.Store(true)
	}
	return n, err
}

// await waits until limits of bytes let something in, and cuts p to that: what
// was not taken from the client is what it cannot send.
func (b *clientBody) await(p []byte) ([]byte, error) {
	if now := b.h.snapshot.Load(); now != b.seen && b.pace == nil {
		b.reshape(now)
	}
	if b.pace == nil || len(p) == 0 {
		return p, nil
	}
	left := int64(-1)
	if b.length >= 0 {
		left = max(0, b.length-b.taken.Load())
	}
	n, err := b.pace.await(left, b.pause)
	if err != nil {
		b.broken.Store(true)
		return nil, err
	}
	return p[:min(n, len(p))], nil
}

// reshape looks whether a limit has come with a reload.
func (b *clientBody) reshape(now *Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = now
	if b.rc != nil {
		b.pace = b.x.reshape(now)
	}
}

// pause is for a wait of ours, in which the client cannot send: it is not idle.
func (b *clientBody) pause(wait time.Duration) {
	b.deadline(time.Now().Add(wait + b.idle))
	b.next = time.Time{}
}

func (b *clientBody) deadline(t time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rc != nil {
		_ = b.rc.SetReadDeadline(t)
	}
}

// all reports whether the body was read to its end.
func (b *clientBody) all() bool { return b.whole.Load() }

var errOver = errors.New("the request is over")

func (b *clientBody) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rc == nil
}

// end is called when the request is over. It tells the records how much has
// come, and whether the client broke off.
func (b *clientBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rc = nil
	b.x.in = b.taken.Load()
	b.x.pace = b.pace
	b.x.clientGone = b.x.clientGone || b.broken.Load() // who takes no answer is gone as well
}
