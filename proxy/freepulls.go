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
// zero time if it is not. What is not known here, another instance may know.
func (f *freePulls) until(x *exchange, digest string) time.Time {
	if !x.s.countsPulls || !isDigest(digest) {
		return time.Time{}
	}
	t := f.here(x, digest)
	if !x.h.notes.kept() || t.After(x.start) {
		return t
	}
	client := x.buckets.client()
	found, err := x.h.notes.read(x.r.Context(), freeNote(client, x.repository(), digest))
	if err == nil && found[0].Left > 0 {
		t = x.start.Add(min(found[0].Left, freeTime))
		f.known.Add(freeKey{client, strings.Clone(x.repository()), strings.Clone(digest)}, t)
	}
	return t
}

// here is until, of what this instance knows.
func (f *freePulls) here(x *exchange, digest string) time.Time {
	t, _ := f.known.Get(freeKey{x.buckets.client(), x.repository(), digest})
	return t
}

func freeNote(client, repository, digest string) string {
	return about("free pull", client, repository, digest)
}

// pull makes what a counted pull gave free: the manifest itself. It returns
// until when, for what the manifest names.
func (f *freePulls) pull(x *exchange) (until time.Time) {
	until = x.start.Add(freeTime)
	if t := f.here(x, x.req.Reference); t.After(x.start) {
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
	var tell []Note
	for _, d := range digests {
		if !isDigest(d) {
			continue
		}
		if known, ok := f.known.Get(freeKey{client, repository, d}); ok && !t.After(known) {
			continue
		}
		f.known.Add(freeKey{client, repository, strings.Clone(d)}, t)
		if x.h.notes.kept() {
			one := Note{Key: freeNote(client, repository, d), Left: t.Sub(x.start)}
			if x.free { // a later pull may have freed it for longer at another instance
				one.If = IfAbsent
			}
			tell = append(tell, one)
		}
	}
	if len(tell) > 0 { // before the client has the answer: it may ask another instance next
		_, _ = x.h.notes.write(x.r.Context(), tell...) // else it is counted there
	}
}
