package proxy

import (
	"container/list"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// What is kept of an upstream with shared_blobs, and for how long.
const (
	maxKnown  = 500_000 // digests known of one upstream, all repositories together: about 40 MiB
	maxUnread = 200     // manifests of one repository that were seen and not read
	repoCost  = 8       // what a repository itself counts for
	sweepFrom = 1024    // digests of one repository, from which old ones are looked for

	knownFor  = time.Hour        // since a manifest that refers to the blob was last read
	uploadFor = 24 * time.Hour   // until a manifest names it; a push may take long
	readFor   = 5 * time.Minute  // a manifest that passes again is not read again
	unreadFor = 10 * time.Minute // a manifest that was seen is of interest
	lookedFor = 5 * time.Minute  // what was not found is not looked for again
)

// knownBlobs is which blobs belong to which repository of one upstream. It
// remembers and never decides by itself: what it has forgotten is looked up.
type knownBlobs struct {
	most int // digests, and repoCost for each repository

	mu    sync.Mutex
	repos map[string]*list.Element // of *repoBlobs, in one of the two:
	order *list.List               // the one used last in front
	blank *list.List               // the same of those nothing was known of yet: anybody can make them up
	count int                      // of what most bounds

	searches lookups
}

// repoBlobs is what is known of one repository. A manifest's mark and the
// digests it gave live and die together: who forgets takes a new one, so that
// what was learned from an answer that began before is written nowhere.
type repoBlobs struct {
	name      string
	gone      bool
	blank     bool                  // nothing was known yet
	blobs     map[digestKey]int64   // when a manifest that refers to it was read, Unix seconds
	uploads   map[digestKey]arrival // uploaded or mounted, and named by no manifest yet
	manifests map[digestKey]mark
	unread    []unread
	lookup    *lookup // nil: none was needed
	sweepAt   int     // size from which old digests are looked for

	asked   time.Time // when other instances were, last, whether they deleted a manifest
	deleted string    // which deletion of theirs is known
}

// mark is when the upstream last gave a manifest under the repository's name,
// and when it was read; Unix seconds.
type mark struct{ seen, read int64 }

// arrival is a blob that came into a repository through regward.
type arrival struct {
	at     int64 // Unix seconds
	shared bool  // the other instances know of it, and say when it is one no more
}

// unread is a manifest that passed without its body.
type unread struct {
	digest string
	since  time.Time
}

func newKnownBlobs() *knownBlobs {
	return &knownBlobs{most: maxKnown, repos: map[string]*list.Element{}, order: list.New(), blank: list.New(), searches: newLookups()}
}

// digestKey is a digest in few bytes.
type digestKey struct {
	sum   [32]byte
	other bool // of another algorithm: sum is of its text
}

func keyOf(digest string) (k digestKey) {
	const algorithm = "sha256:"
	if len(digest) != len(algorithm)+64 || digest[:len(algorithm)] != algorithm {
		return digestKey{sha256.Sum256([]byte(digest)), true}
	}
	for i := range k.sum {
		k.sum[i] = nibble(digest[len(algorithm)+2*i])<<4 | nibble(digest[len(algorithm)+2*i+1])
	}
	return k
}

// nibble is the value of a lower-case hex digit, which the grammar of digests
// has seen to.
func nibble(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c - 'a' + 10
}

func keysOf(digests []string) []digestKey {
	keys := make([]digestKey, len(digests))
	for i, d := range digests {
		keys[i] = keyOf(d)
	}
	return keys
}

// of is the entry of a repository, made if there is none, and used now.
func (k *knownBlobs) of(name string) *repoBlobs {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.entry(name)
}

func (k *knownBlobs) entry(name string) *repoBlobs {
	if e := k.repos[name]; e != nil {
		k.order.MoveToFront(e) // nothing on the list that it is not on
		k.blank.MoveToFront(e)
		return e.Value.(*repoBlobs)
	}
	r := &repoBlobs{name: strings.Clone(name), blank: true} // not all of the request's line with it
	k.repos[r.name] = k.blank.PushFront(r)
	k.count += repoCost
	k.shrink()
	return r
}

// shrink forgets the repositories that nobody has used for longest, and at
// last one that is too large by itself. Blank ones have a quarter of the room,
// and more only where it is free: who asks for names that do not exist must not
// have the pushes under way forgotten.
func (k *knownBlobs) shrink() {
	for k.count > k.most {
		switch {
		case k.blank.Len() > 0 && (k.order.Len() == 0 || repoCost*k.blank.Len() > k.most/4):
			k.drop(k.blank.Back())
		case k.order.Len() > 0:
			k.drop(k.order.Back())
		default:
			return
		}
	}
}

func (k *knownBlobs) drop(e *list.Element) {
	r := e.Value.(*repoBlobs)
	k.order.Remove(e)
	k.blank.Remove(e)
	delete(k.repos, r.name)
	k.count -= repoCost + r.size()
	r.gone = true
}

func (r *repoBlobs) size() int {
	return len(r.blobs) + len(r.uploads) + len(r.manifests) + len(r.unread)
}

// change does f to a repository that is still known, and keeps count.
func (k *knownBlobs) change(r *repoBlobs, now time.Time, f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if r.gone {
		return
	}
	before := r.size()
	f()
	if r.size() > r.sweepAt {
		r.sweep(now.Unix())
		r.sweepAt = max(sweepFrom, 2*r.size())
	}
	k.count += r.size() - before
	k.filled(r)
	k.shrink()
}

// filled takes a repository of which something is known now from the blank ones.
func (k *knownBlobs) filled(r *repoBlobs) {
	if !r.blank || r.size() == 0 {
		return
	}
	r.blank = false
	k.blank.Remove(k.repos[r.name])
	k.repos[r.name] = k.order.PushFront(r)
}

// sweep drops what is known no more.
func (r *repoBlobs) sweep(now int64) {
	old := func(age time.Duration) func(digestKey, int64) bool {
		return func(_ digestKey, t int64) bool { return now-t >= int64(age/time.Second) }
	}
	maps.DeleteFunc(r.blobs, old(knownFor))
	maps.DeleteFunc(r.uploads, func(_ digestKey, a arrival) bool { return now-a.at >= int64(uploadFor/time.Second) })
	maps.DeleteFunc(r.manifests, func(_ digestKey, m mark) bool { return now-m.seen >= int64(knownFor/time.Second) })
}

// serves reports whether the repository is known to have the blob.
func (k *knownBlobs) serves(r *repoBlobs, blob digestKey, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return r.serves(blob, now.Unix())
}

func (r *repoBlobs) serves(blob digestKey, now int64) bool {
	a, ok := r.uploads[blob]
	return r.named(blob, now) || ok && now-a.at < int64(uploadFor/time.Second)
}

// named reports whether a manifest that refers to the blob was read lately.
func (r *repoBlobs) named(blob digestKey, now int64) bool {
	t, ok := r.blobs[blob]
	return ok && now-t < int64(knownFor/time.Second)
}

// lacks is the place in blobs of the first that the repository is not known to
// have, -1 if there is none.
func (k *knownBlobs) lacks(r *repoBlobs, blobs []digestKey, now time.Time) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.IndexFunc(blobs, func(b digestKey) bool { return !r.serves(b, now.Unix()) })
}

// wasRead reports whether the manifest was read a moment ago: what it names is
// then known.
func (k *knownBlobs) wasRead(r *repoBlobs, manifest string, now time.Time) bool {
	m := keyOf(manifest)
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Unix()-r.manifests[m].read < int64(readFor/time.Second)
}

// hasManifest reports whether the upstream has lately given the manifest under
// the repository's name.
func (k *knownBlobs) hasManifest(r *repoBlobs, manifest string, now time.Time) bool {
	m := keyOf(manifest)
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Unix()-r.manifests[m].seen < int64(knownFor/time.Second)
}

// learn keeps what a manifest of the repository refers to. manifest is its
// digest, "" if nobody knows.
func (k *knownBlobs) learn(r *repoBlobs, manifest string, refs references, now time.Time) {
	blobs, at := keysOf(refs.Blobs), now.Unix()
	k.change(r, now, func() {
		if r.blobs == nil {
			r.blobs = make(map[digestKey]int64, len(blobs))
		}
		for _, b := range blobs {
			r.blobs[b] = at
		}
		if manifest != "" {
			r.mark(keyOf(manifest), mark{at, at})
		}
	})
}

func (r *repoBlobs) mark(manifest digestKey, m mark) {
	if r.manifests == nil {
		r.manifests = map[digestKey]mark{}
	}
	r.manifests[manifest] = m
}

// see notes a manifest that passed without a body to read: who has the rest of
// it from before asks for its blobs next.
func (k *knownBlobs) see(r *repoBlobs, manifest string, now time.Time) {
	if k.wasRead(r, manifest, now) {
		return
	}
	key := keyOf(manifest)
	k.change(r, now, func() {
		m := r.manifests[key]
		m.seen = now.Unix()
		r.mark(key, m)
		r.later(now, manifest)
	})
}

// exists notes a manifest that the upstream gives under the repository's name.
func (k *knownBlobs) exists(r *repoBlobs, manifest string, now time.Time) {
	key := keyOf(manifest)
	k.change(r, now, func() { r.mark(key, mark{now.Unix(), r.manifests[key].read}) })
}

// expect queues what an index lists: who has the index may have the images too,
// and ask for their blobs only.
func (k *knownBlobs) expect(r *repoBlobs, children []string, now time.Time) {
	children = slices.DeleteFunc(slices.Clone(children[:min(len(children), maxUnread)]), func(m string) bool { return k.wasRead(r, m, now) })
	k.change(r, now, func() { r.later(now, children...) })
}

// later puts manifests in the queue of those to be read when a blob is missed.
func (r *repoBlobs) later(since time.Time, manifests ...string) {
	for _, m := range manifests {
		if slices.ContainsFunc(r.unread, func(u unread) bool { return u.digest == m }) {
			continue
		}
		if len(r.unread) == maxUnread {
			r.unread = slices.Delete(r.unread, 0, 1)
		}
		r.unread = append(r.unread, unread{strings.Clone(m), since})
	}
}

// take empties the queue by up to n, without those of long ago.
func (r *repoBlobs) take(n int, now time.Time) (list []unread) {
	taken := 0
	for ; taken < len(r.unread) && len(list) < n; taken++ {
		if u := r.unread[taken]; now.Sub(u.since) < unreadFor {
			list = append(list, u)
		}
	}
	r.unread = slices.Delete(r.unread, 0, taken)
	return list
}

// uploaded notes a blob that came into the repository through us; shared is
// whether the other instances know.
func (k *knownBlobs) uploaded(name, blob string, shared bool, now time.Time) {
	key := keyOf(blob)
	r := k.of(name)
	k.change(r, now, func() { r.arrive(key, arrival{now.Unix(), shared}) })
}

func (r *repoBlobs) arrive(blob digestKey, a arrival) {
	if r.uploads == nil {
		r.uploads = map[digestKey]arrival{}
	}
	r.uploads[blob] = a
}

// named is told when a manifest was pushed: from now on its blobs are there
// because of it, and for as long as it is.
func (k *knownBlobs) named(r *repoBlobs, refs references, now time.Time) {
	blobs := keysOf(refs.Blobs)
	k.change(r, now, func() {
		for _, b := range blobs {
			delete(r.uploads, b)
		}
	})
}

// forget is told when a manifest was deleted: all that manifests said of the
// repository is gone, and what is on the way from them finds no entry. Blobs of
// a push under way stay.
func (k *knownBlobs) forget(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.repos[name]
	if e == nil {
		return
	}
	uploads := e.Value.(*repoBlobs).uploads
	k.drop(e)
	r := k.entry(name)
	if r.gone { // there is no room for it
		return
	}
	r.uploads = uploads
	k.count += len(uploads)
	k.filled(r)
	k.shrink()
}

// SharedBlobs are counts of what shared_blobs costs.
type SharedBlobs struct {
	Repositories int   // of which something is known
	Digests      int   // known, of blobs and manifests
	Lookups      int64 // begun, since the start
	Bounded      int64 // of these, ended by a bound before all was looked at
}

// SharedBlobs are the counts of this upstream; all zero without shared_blobs.
func (u *Upstream) SharedBlobs() SharedBlobs {
	k := u.blobs
	k.mu.Lock()
	defer k.mu.Unlock()
	return SharedBlobs{
		Repositories: len(k.repos),
		Digests:      k.count - repoCost*len(k.repos),
		Lookups:      k.searches.begun.Load(),
		Bounded:      k.searches.bounded.Load(),
	}
}

// lookups bounds the searches of one upstream, and counts them.
type lookups struct {
	slots chan struct{} // one for each that is under way

	manifests int           // read at most, of one repository
	bytes     int           // the same
	time      time.Duration // that one search takes at most
	patience  time.Duration // that a request waits for it at most

	begun, bounded atomic.Int64
	told           sometimes
}

func newLookups() lookups {
	return lookups{slots: make(chan struct{}, maxLookups), manifests: maxLookedAt, bytes: maxLookedBytes, time: lookupTime, patience: lookupPatience}
}
