package proxy

import (
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// freePulls remembers what a counted pull named: for ten minutes the same
// client gets those digests in that repository without another count, so an
// admitted pull can finish (L02).
type freePulls struct {
	known *lru.Cache[freeKey, time.Time]
}

type freeKey struct{ client, repository, digest string }

func newFreePulls() *freePulls {
	known, err := lru.New[freeKey, time.Time](maxFreePulls)
	if err != nil { // only for a size below one
		panic(err)
	}
	return &freePulls{known: known}
}

// until is when the digest stops being free for the exchange's client; the
// zero time if it is not.
func (f *freePulls) until(x *exchange, digest string) time.Time {
	if !x.s.countsPulls || !isDigest(digest) {
		return time.Time{}
	}
	t, _ := f.known.Get(freeKey{x.buckets.client(), x.repository(), digest})
	return t
}

// pull makes what a counted pull gave free: the manifest itself. It returns
// until when, for what the manifest names.
func (f *freePulls) pull(x *exchange) (until time.Time) {
	until = x.start.Add(freeTime)
	if t := f.until(x, x.req.Reference); t.After(x.start) {
		until = t
	}
	f.add(x, until, x.digest)
	return until
}

// add makes digests free until t, or longer where a later pull has done so
// already. What a free pull names gets the time of the pull that freed it: a
// pull cannot be stretched by repeating it.
func (f *freePulls) add(x *exchange, t time.Time, digests ...string) {
	client, repository := x.buckets.client(), strings.Clone(x.repository()) // not all of the request's line with it
	for _, d := range digests {
		if !isDigest(d) {
			continue
		}
		if known, ok := f.known.Get(freeKey{client, repository, d}); ok && !t.After(known) {
			continue
		}
		f.known.Add(freeKey{client, repository, strings.Clone(d)}, t)
	}
}
