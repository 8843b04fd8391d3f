package proxy

import (
	"fmt"
	"net/http"
	"time"

	"github.com/regward/regward/ratelimit"
)

// transferPause is what who finds no place is told to wait: when one will be
// free nobody knows.
const transferPause = 5 * time.Second

// moves reports whether a request moves a blob, and so takes a place of limits
// of transfers: a download, the start of an upload, and each piece of one.
//
// Only starts are refused. An upload that was accepted goes on whatever its
// limit says, as clients cannot send again what they have sent (S09), but its
// pieces take places: while they are too many nothing else starts. A start that
// has no body holds its place only for the moment of its answer, so of many
// uploads begun at once all may go on. A mount is a start, or whoever names one
// would get past the limit.
func (q *Request) moves(r *http.Request) bool {
	switch q.Kind {
	case KindBlob:
		return q.Method == http.MethodGet
	case KindUploadStart:
		return true
	case KindUpload:
		return (q.Method == http.MethodPatch || q.Method == http.MethodPut) && r.ContentLength != 0
	}
	return false
}

// hold takes a place of each limit of transfers, or refuses with nothing taken.
// leave gives them back. It returns the asks of limits in force.
func (x *exchange) hold() (held []ask, err error) {
	if !x.s.countsPlaces || !x.req.moves(x.r) {
		return nil, nil
	}
	var room [4]ask
	var tried []ask
	var holdings []ratelimit.Holding
	for _, a := range x.asks([]Count{Transfers}, room[:0]) {
		if a.DryRun {
			tried = append(tried, a)
			continue
		}
		held = append(held, a)
		holdings = append(holdings, a.holding())
	}
	if len(held) > 0 {
		if err := x.take(held, holdings); err != nil {
			return nil, err
		}
	}
	for _, a := range tried {
		release, res, err := x.h.Limiter.Hold(x.r.Context(), a.holding())
		x.places = append(x.places, release)
		x.tried(a, err == nil && !res.OK)
	}
	return held, nil
}

func (a ask) holding() ratelimit.Holding {
	return ratelimit.Holding{Key: ratelimit.Key{Limit: a.Name, Client: a.client}, Most: a.Most}
}

// take takes a place of each of held.
func (x *exchange) take(held []ask, holdings []ratelimit.Holding) error {
	release, res, err := x.h.Limiter.Hold(x.r.Context(), holdings...)
	started := x.req.Kind == KindUpload
	if started && err == nil && !res.OK {
		for i := range holdings {
			holdings[i].Most = ratelimit.AnyPlace
		}
		release, res, err = x.h.Limiter.Hold(x.r.Context(), holdings...)
	}
	switch {
	case started && (err != nil || !res.OK):
		return nil // it goes on, uncounted
	case err != nil:
		return cannotAsk(err)
	case !res.OK:
		a := held[res.Index]
		x.h.metrics.limit(a.Name, "throttled")
		return x.noPlace(a)
	}
	x.places = append(x.places, release)
	return nil
}

// leave gives all places back; it may be called again. With Redis it is a round
// trip. It comes before the end of what the client is told: a place that is free
// only afterwards would be refused to a client that does one thing after the
// other.
func (x *exchange) leave() {
	for _, release := range x.places {
		release()
	}
	x.places = nil
}

// noPlace refuses a transfer while as many run as may.
func (x *exchange) noPlace(a ask) *httpError {
	plural := "s"
	if a.Most == 1 {
		plural = ""
	}
	e := refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS",
		fmt.Sprintf("limit %q: %d transfer%s at once for %s, and as many are under way; try again when one has ended",
			a.Name, a.Most, plural, clientWords(a.client))).because(reasonLimit)
	e.limit = a.Name
	return e.with("Retry-After", retryAfter(transferPause))
}
