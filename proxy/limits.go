package proxy

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// LimitsFor lists the limits that would count an access of c, for explain.
func (s *Settings) LimitsFor(c *auth.Caller, a auth.Access) (out []Limit) {
	for _, l := range s.Limits {
		moves := a.Action == auth.Pull || a.Action == auth.Push
		counts := map[Count]bool{Requests: true, Pulls: a.Action == auth.Pull, Pushes: a.Action == auth.Push, Bytes: moves, Transfers: moves}
		if counts[l.Count] && l.counts(c, &a) {
			out = append(out, l)
		}
	}
	return out
}

// limit spends what the request costs, or refuses it (L01-L04, S07-S09): all
// that it is counted by, or nothing. Places are taken first, as only those can
// be given back.
func (x *exchange) limit() error {
	q := &x.req
	x.free = q.pulls() && x.h.free.until(x, q.Reference).After(x.start)
	held, err := x.hold()
	if err != nil {
		return err
	}
	counts, n := q.costs(x.free)
	if err := x.spend(counts[:n]); err != nil {
		x.leave()
		return err
	}
	for _, a := range held {
		a.allowed.Inc()
	}
	if err := x.shape(); err != nil {
		return err
	}
	if q.Kind == KindManifest && (q.Method == http.MethodGet || q.Method == http.MethodHead) {
		x.showPulls()
	}
	return nil
}

// pulls reports whether the request is one that a limit of pulls counts, unless
// it is free.
func (q *Request) pulls() bool { return q.Kind == KindManifest && q.Method == http.MethodGet }

// costs are the n counts that one event is taken from; free is a pull that
// belongs to one counted before (L02).
func (q *Request) costs(free bool) (counts [3]Count, n int) {
	if q.Kind != KindPing && q.Kind != KindUpload { // C18, S09
		counts[n] = Requests
		n++
	}
	if q.pulls() && !free {
		counts[n] = Pulls
		n++
	}
	if q.Kind == KindManifest && q.Method == http.MethodPut && (!isDigest(q.Reference) || len(q.Query.Tag) > 0) {
		counts[n] = Pushes
		n++
	}
	return counts, n
}

// ask is one event asked of one bucket of a limit.
type ask struct {
	*Limit
	client string
}

func (a ask) spend() ratelimit.Spend {
	return ratelimit.Spend{Key: ratelimit.Key{Limit: a.Name, Client: a.client}, Rate: a.Rate, N: 1}
}

// asks adds to dst what a request of the given counts asks of which limits,
// dry runs among them.
func (x *exchange) asks(counts []Count, dst []ask) []ask {
	return x.buckets.asks(x.s.limitsAt(x.start), &x.repo, counts, dst)
}

func (b *buckets) asks(limits []Limit, repository *auth.Access, counts []Count, dst []ask) []ask {
	var names [4]string
	for i := range limits {
		l := &limits[i]
		if !slices.Contains(counts, l.Count) || !l.counts(b.c, repository) {
			continue
		}
		for _, c := range b.of(l, repository, names[:0]) {
			dst = append(dst, ask{l, c})
		}
	}
	return dst
}

// take takes all that is asked of limits in force, or nothing. at is the one
// that refused, -1 if none did. room is for it to write in.
func take(ctx context.Context, from ratelimit.Limiter, asks []ask, room []ratelimit.Spend) (at int, res ratelimit.Result, err error) {
	spends := room[:0]
	for _, a := range asks {
		if !a.DryRun {
			spends = append(spends, a.spend())
		}
	}
	if len(spends) == 0 {
		return -1, res, nil
	}
	if res, err = from.Take(ctx, spends...); err != nil || res.OK {
		return -1, res, err
	}
	for i, left := 0, res.Index; ; i++ {
		if asks[i].DryRun {
			continue
		}
		if left == 0 {
			return i, res, nil
		}
		left--
	}
}

// spend takes one event from every limit of the given counts, all or nothing;
// dry runs are asked one by one afterwards and never refuse.
func (x *exchange) spend(counts []Count) error {
	var room [8]ask
	asks := x.asks(counts, room[:0])
	at, res, err := take(x.r.Context(), x.h.Limiter, asks, make([]ratelimit.Spend, 0, len(asks)))
	if err != nil {
		return cannotAsk(err)
	}
	if at >= 0 {
		x.h.metrics.limit(asks[at].Name, "throttled")
		return x.tooMany(asks[at].Limit, asks[at].client, res)
	}
	for _, a := range asks {
		if a.DryRun {
			x.dryRun(a)
		} else {
			a.allowed.Inc()
		}
	}
	return nil
}

// cannotAsk is the refusal where redis.on_error is deny and Redis is down.
func cannotAsk(err error) *httpError {
	return refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "the rate limits cannot be looked up").
		with("Retry-After", retryAfter(limiterPause)).from(err).because(reasonBusy)
}

func (x *exchange) dryRun(a ask) {
	res, err := x.h.Limiter.Take(x.r.Context(), a.spend())
	x.tried(a, err == nil && !res.OK)
}

// tried notes what a dry run would have done.
func (x *exchange) tried(a ask, throttled bool) {
	if !throttled {
		a.allowed.Inc()
		return
	}
	x.wouldThrottle = append(x.wouldThrottle, a.Name)
	x.h.metrics.limit(a.Name, "would_throttle")
}

// showPulls sets the L01 fields from the pulls limit with least left, taking nothing.
func (x *exchange) showPulls() {
	if !x.s.countsPulls {
		return
	}
	var best ratelimit.Result
	var whose string
	var at *Limit
	limits := x.s.limitsAt(x.start)
	for i := range limits {
		l := &limits[i]
		if l.Count != Pulls || l.DryRun || !l.counts(&x.who, &x.repo) {
			continue
		}
		var names [4]string
		for _, c := range x.buckets.of(l, &x.repo, names[:0]) {
			res, err := x.h.Limiter.Take(x.r.Context(), ratelimit.Spend{Key: ratelimit.Key{Limit: l.Name, Client: c}, Rate: l.Rate})
			if err == nil && res.Index >= 0 && (at == nil || res.Remaining < best.Remaining) {
				best, at, whose = res, l, c
			}
		}
	}
	if at != nil {
		setRateHeaders(x.w.Header(), at, best, whose)
	}
}

// setRateHeaders writes Docker Hub's fields (L01).
func setRateHeaders(h http.Header, l *Limit, res ratelimit.Result, client string) {
	window := l.Rate.Per
	if l.Rate.Burst != l.Rate.Events && l.Rate.Events > 0 {
		window = time.Duration(float64(l.Rate.Per) * float64(l.Rate.Burst) / float64(l.Rate.Events))
	}
	reset := res.Reset
	if !res.OK {
		reset = res.RetryAfter
	}
	w := max(1, int(window.Seconds()))
	// One piece of memory for the four values and one for the lines: this is on
	// the way of every pull.
	var room [64]byte
	b := appendWindow(room[:0], res.Limit, w)
	limit := len(b)
	b = appendWindow(b, max(0, res.Remaining), w)
	left := len(b)
	b = strconv.AppendInt(b, int64(math.Ceil(reset.Seconds())), 10)
	all := string(b)
	lines := []string{all[:limit], all[limit:left], all[left:], client[strings.IndexByte(client, ':')+1:]}
	h["Ratelimit-Limit"] = lines[0:1:1]
	h["Ratelimit-Remaining"] = lines[1:2:2]
	h["Ratelimit-Reset"] = lines[2:3:3]
	h["Docker-Ratelimit-Source"] = lines[3:4:4]
}

// appendWindow is "100;w=21600".
func appendWindow(b []byte, n, seconds int) []byte {
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ";w="...)
	return strconv.AppendInt(b, int64(seconds), 10)
}

// tooMany refuses a client until the limit lets it in again. Retry-After
// counts whole seconds (RFC 9110, 10.2.3), rounded up, and says 60 at most:
// some clients obey it without a bound (S07). The message tells the whole wait.
func (x *exchange) tooMany(l *Limit, client string, res ratelimit.Result) *httpError {
	what := map[Count]string{Requests: "request", Pulls: "pull", Pushes: "push"}[l.Count]
	plural := map[Count]string{Requests: "requests", Pulls: "pulls", Pushes: "pushes"}[l.Count]
	e := refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS",
		fmt.Sprintf("limit %q: %d %s in %s are used up for %s; next %s possible at %s (in %s)",
			l.Name, l.Rate.Events, plural, spell(l.Rate.Per), clientWords(client), what,
			x.start.Add(res.RetryAfter).UTC().Format("15:04 MST"), spell(res.RetryAfter))).because(reasonLimit)
	e.limit = l.Name
	e.with("Retry-After", retryAfter(res.RetryAfter))
	if l.Count == Pulls {
		setRateHeaders(e.header, l, res, client)
	}
	return e
}

func retryAfter(wait time.Duration) string {
	return strconv.Itoa(min(60, max(1, int(math.Ceil(wait.Seconds())))))
}

// clientWords names a bucket's owner as a person would.
func clientWords(client string) string {
	kind, name, _ := strings.Cut(client, ":")
	switch kind {
	case "ip":
		return "address " + name
	case "all":
		return "everybody"
	}
	return kind + " " + name
}

// spell writes a duration as people do: 6h, 15m, 4m 10s, 2d.
func spell(d time.Duration) string {
	secs := int64(math.Ceil(d.Seconds()))
	if secs <= 0 {
		return "0s"
	}
	var parts []string
	for _, u := range []struct {
		secs int64
		name string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}} {
		if n := secs / u.secs; n > 0 {
			parts = append(parts, strconv.FormatInt(n, 10)+u.name)
			secs -= n * u.secs
		}
		if len(parts) == 2 {
			break
		}
	}
	return strings.Join(parts, " ")
}
