package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

const (
	// paceTime is the time that a chunk of a paced body is worth: often enough to
	// look smooth, seldom enough to cost nothing.
	paceTime = 50 * time.Millisecond

	minChunk = 1 << 10 // bytes

	// longWait is from where on what was written is pushed out before a wait: what
	// the client could have shall not lie here.
	longWait = time.Second
)

// pacer holds a body to the limits of bytes: what a client sends, or what it is
// sent. It pays for a chunk and waits before it moves it, so while it waits it
// holds nothing, and whoever is behind it waits as well.
//
// It has copies of all it needs: whoever sends a body upstream may outlive the
// exchange.
type pacer struct {
	h       *Handler
	ctx     context.Context // ends with the request
	who     auth.Caller
	repo    auth.Access
	buckets buckets
	sender  net.Conn // that must be looked at: ctx does not tell that the client left; nil: it does

	mu     sync.Mutex
	limits []Limit // that asks are of
	asks   []ask
	waits  []wait // by name of the limit
	chunk  int
	paid   int // bytes paid for and not moved yet
}

// wait is how long one limit has held the body up.
type wait struct {
	limit  string
	dryRun bool
	time.Duration
}

// paced reports whether limits of bytes count the body of a request, or of its
// answer.
func (q *Request) paced() bool {
	switch q.Kind {
	case KindBlob, KindManifest:
		return q.Method == http.MethodGet || q.Method == http.MethodPut
	case KindUploadStart, KindUpload:
		return writes(q.Method)
	}
	return false
}

// shape makes the pacer of the exchange, where a limit of bytes counts it.
func (x *exchange) shape() error {
	p := x.pacer(x.s, &x.buckets, x.start)
	if p == nil {
		return nil
	}
	for _, a := range p.asks {
		if !a.DryRun && x.h.denies() { // now or never: nothing is cut off midway
			if _, err := x.h.Limiter.Pace(x.r.Context(), a.spending(0)); err != nil {
				return cannotAsk(err)
			}
		}
	}
	p.count()
	x.pace = p
	return nil
}

// reshape makes the pacer of an exchange under way that had none until s came
// into force.
func (x *exchange) reshape(s *Snapshot) *pacer {
	b := buckets{s: s, c: &x.who, prefix: x.buckets.prefix}
	p := x.pacer(s, &b, x.h.Now())
	if p != nil {
		p.count()
	}
	return p
}

// pacer is one for the limits of s as they hold at a time, nil if none of them
// counts the exchange.
func (x *exchange) pacer(s *Snapshot, b *buckets, at time.Time) *pacer {
	if !s.countsBytes || !x.req.paced() {
		return nil
	}
	var room [4]ask
	limits := s.limitsAt(at)
	asks := b.asks(limits, &x.repo, []Count{Bytes}, room[:0])
	if len(asks) == 0 {
		return nil
	}
	p := &pacer{h: x.h, ctx: x.r.Context(), who: x.who, repo: x.repo, buckets: *b, limits: limits, asks: append([]ask(nil), asks...)}
	p.buckets.c = &p.who
	if writes(x.req.Method) {
		p.sender = sender(x.r)
	}
	p.measure()
	return p
}

// count notes that the limits let the exchange through.
func (p *pacer) count() {
	for _, a := range p.asks {
		a.allowed.Inc()
	}
}

func (a ask) spending(n int) ratelimit.Spend {
	s := a.spend()
	s.N = n
	return s
}

// measure chooses the chunk for the slowest limit.
func (p *pacer) measure() {
	p.chunk = largeBuffer
	for _, a := range p.asks {
		if s := a.Rate.Per.Seconds(); s > 0 {
			p.chunk = min(p.chunk, int(float64(a.Rate.Events)/s*paceTime.Seconds()))
		}
	}
	p.chunk = max(p.chunk, minChunk)
}

// await waits until bytes may move and says how many, 1 at least. left is how
// many there are, -1 if nobody knows; behind the last nothing is paid for.
// before is told of a wait. An error says that the request is over.
func (p *pacer) await(left int64, before func(time.Duration)) (n int, err error) {
	if left == 0 {
		return minChunk, nil
	}
	wait := p.pay(left)
	if wait > 0 {
		before(wait)
		if err := p.sleep(wait); err != nil {
			return 0, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paid, nil
}

var errLeft = errors.New("the client has closed the connection")

// sleep waits, or ends early when the request is over or its client gone.
func (p *pacer) sleep(wait time.Duration) error {
	for p.sender != nil && wait > lookTime {
		if err := p.h.pause(p.ctx, lookTime); err != nil {
			return err
		}
		if hungUp(p.sender) {
			return errLeft
		}
		wait -= lookTime
	}
	return p.h.pause(p.ctx, wait)
}

// pay pays for the next chunk, unless the last one is not used up, and says how
// long to wait for it.
func (p *pacer) pay(left int64) (most time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paid > 0 {
		return 0
	}
	p.renew()
	p.paid = p.chunk
	if left > 0 && left < int64(p.paid) {
		p.paid = int(left)
	}
	slowest := -1
	for i, a := range p.asks {
		d, err := p.h.Limiter.Pace(p.ctx, a.spending(p.paid))
		switch {
		case err != nil || d <= 0: // of what nobody can find out nothing is held up midway
		case a.DryRun: // it was not waited for what came before, so this is all of it
			w := p.wait(a)
			w.Duration = max(w.Duration, d)
		case d > most:
			slowest, most = i, d
		}
	}
	if slowest >= 0 {
		p.asks[slowest].waited.Add(most.Seconds())
		p.wait(p.asks[slowest]).Duration += most
	}
	return most
}

// renew looks whether the limits are others by now: a reload or an override
// holds for what is under way, and one bucket must not be asked at two rates.
func (p *pacer) renew() {
	s := p.h.Current()
	limits := s.limitsAt(p.h.Now())
	if len(limits) > 0 && len(p.limits) > 0 && &limits[0] == &p.limits[0] {
		return
	}
	p.limits, p.buckets.s = limits, s
	p.buckets.addr = "" // by the prefixes of now
	p.asks = p.buckets.asks(limits, &p.repo, []Count{Bytes}, p.asks[:0])
	p.measure()
}

// wait is the entry of a's limit.
func (p *pacer) wait(a ask) *wait {
	for i := range p.waits {
		if p.waits[i].limit == a.Name && p.waits[i].dryRun == a.DryRun {
			return &p.waits[i]
		}
	}
	p.waits = append(p.waits, wait{limit: a.Name, dryRun: a.DryRun})
	return &p.waits[len(p.waits)-1]
}

// moved says that n bytes did.
func (p *pacer) moved(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paid = max(0, p.paid-n)
}

// tellPace notes what limits of bytes did to the exchange, once it is over.
func (x *exchange) tellPace() {
	if x.pace == nil {
		return
	}
	x.pace.mu.Lock()
	defer x.pace.mu.Unlock()
	var most time.Duration
	for _, w := range x.pace.waits {
		switch {
		case w.dryRun:
			x.wouldThrottle = append(x.wouldThrottle, w.limit)
			x.h.metrics.limit(w.limit, "would_throttle")
		default:
			x.h.metrics.limit(w.limit, "slowed")
			x.slowed += w.Duration
			if w.Duration > most {
				most, x.slowedBy = w.Duration, w.limit
			}
		}
	}
}

// sleep waits, or ends early with the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
