package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// What one search may cost the upstream.
const (
	maxLookups      = 4    // searches under way at one upstream
	maxLookedAt     = 1000 // manifests read of one repository
	maxTodo         = 2 * maxLookedAt
	maxLookedBytes  = 64 << 20 // bytes of them
	maxLookupFaults = 8        // manifests the upstream fails to give, until it is left alone
	lookupParallel  = 4        // requests at a time

	lookupTime     = 30 * time.Second
	lookupPatience = 20 * time.Second // containerd waits 30 s for an answer's head (H10)
)

// asker is on whose behalf an upstream is asked; the fields are outgoing's.
type asker struct {
	Credential string
	TurnedAway func(status int, header http.Header) error
	User       string
	RequestID  string
}

// sight is who sees the same of the upstream as a: everybody, unless it knows
// who asks.
func (u *Upstream) sight(a asker) string {
	if u.settings.Passthrough || u.settings.AssertUser != "" {
		return a.User
	}
	return ""
}

// lookup is the way through all manifests of a repository: those its tags name
// and those below them. It rests where what was wanted was found, and goes on
// from there for whoever misses a blob next.
type lookup struct {
	as     string // whose sight it is
	began  time.Time
	todo   []string // tags and digests to be read
	failed []string // what the upstream failed to give: to be tried again
	page   string   // query of the next page of tags; "": there is none
	read   int      // manifests
	bytes  int
	over   bool    // nothing is left, or a bound was reached
	search *search // under way; nil: it rests
}

// search is a piece of that way.
type search struct {
	as    string
	seen  int      // manifests read because they had passed
	again []unread // of these, what the upstream failed to give
	cause error    // the last such failure
	done  chan struct{}
	fault error // why it ended, if not for want of manifests; to be read once done is closed
}

// findBlobs looks for blobs in a repository: in what is known of it, then in
// the manifests that lately passed, then in all it has. missing is the first
// that none refers to, "" if there is none. Errors are *httpError: 502, 503 or
// 504 where nobody can tell.
func (u *Upstream) findBlobs(ctx context.Context, name string, blobs []string, who asker) (missing string, err error) {
	k, keys, as := u.blobs, keysOf(blobs), u.sight(who)
	var patience <-chan time.Time
	for {
		r := k.of(name)
		at := k.lacks(r, keys, u.Now())
		if at < 0 {
			return "", nil
		}
		one := u.joinSearch(ctx, r, keys, who, as)
		if one == nil {
			return blobs[at], nil
		}
		if patience == nil {
			timer := time.NewTimer(k.searches.patience)
			defer timer.Stop()
			patience = timer.C
		}
		select {
		case <-one.done:
		case <-ctx.Done():
			return "", u.failed(ctx, ctx.Err())
		case <-patience:
			return "", stillLooking(errors.New("a search for a blob takes longer than a request waits"))
		}
		if one.fault != nil && one.as == as && k.lacks(r, keys, u.Now()) >= 0 {
			return "", one.fault
		}
	}
}

// stillLooking is for who may come again when the search has gone on.
func stillLooking(cause error) *httpError {
	return refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "it takes long to look up which blobs belong to this repository; try again in a moment").
		with("Retry-After", "5").from(cause)
}

// joinSearch is the search under way in a repository, or a new one; nil if all
// of it was looked at.
func (u *Upstream) joinSearch(ctx context.Context, r *repoBlobs, blobs []digestKey, who asker, as string) *search {
	k, now := u.blobs, u.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	l := r.lookup
	if l != nil && l.search != nil {
		return l.search
	}
	if l == nil || l.as != as || now.Sub(l.began) >= lookedFor {
		l = &lookup{as: as, began: now, page: "n=1000"}
		r.lookup = l
	}
	if l.over && len(r.unread) == 0 {
		return nil
	}
	l.search = &search{as: as, done: make(chan struct{})}
	go u.look(context.WithoutCancel(ctx), r, l, l.search, blobs, who)
	return l.search
}

// look goes on with l until the blobs are found or nothing is left. Until it
// ends, l is its own but for search.
func (u *Upstream) look(ctx context.Context, r *repoBlobs, l *lookup, one *search, blobs []digestKey, who asker) {
	k := u.blobs
	defer func() {
		k.change(r, u.Now(), func() {
			for _, f := range one.again {
				r.later(f.since, f.digest)
			}
		})
		k.mu.Lock()
		l.search = nil
		k.mu.Unlock()
		close(one.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, k.searches.time)
	defer cancel()
	select {
	case k.searches.slots <- struct{}{}:
		defer func() { <-k.searches.slots }()
	case <-ctx.Done():
		one.fault = stillLooking(errors.New("too many searches for blobs at once"))
		return
	}
	k.searches.begun.Add(1)
	for more := true; more && one.fault == nil && k.lacks(r, blobs, u.Now()) >= 0; {
		more, one.fault = u.lookFurther(ctx, r, l, one, who)
		if end, _ := ctx.Deadline(); ctx.Err() != nil || !time.Now().Before(end) { // a connection's deadline may come before the context's
			one.fault = stillLooking(context.DeadlineExceeded)
		}
	}
}

// lookFurther reads the next few manifests, or the next page of tags. more is
// whether anything is left to read.
func (u *Upstream) lookFurther(ctx context.Context, r *repoBlobs, l *lookup, one *search, who asker) (more bool, fault error) {
	s := &u.blobs.searches
	var seen []unread
	u.blobs.change(r, u.Now(), func() {
		if one.seen >= s.manifests {
			r.unread = nil
		}
		seen = r.take(lookupParallel, u.Now())
	})
	switch {
	case len(seen) > 0:
		u.readSeen(ctx, r, one, seen, who)
	case l.over:
		return false, one.cause
	case len(l.todo) > 0 && (l.read >= s.manifests || l.bytes >= s.bytes):
		l.over = true
		u.tellBound(r, l)
	case len(l.todo) > 0:
		return true, u.readTodo(ctx, r, l, one, who)
	case l.page != "":
		return true, u.readTags(ctx, r, l, who)
	case len(l.failed) > 0: // they are asked for again by the next search
		l.todo, l.failed = l.failed, nil
		return false, one.cause
	default:
		l.over = true
	}
	return true, nil
}

func (u *Upstream) tellBound(r *repoBlobs, l *lookup) {
	s := &u.blobs.searches
	s.bounded.Add(1)
	s.told.do(u.Now(), func() {
		u.Log.Warn("a repository has more manifests than are looked at for a blob: what only the others refer to is not found",
			zap.String("upstream", u.settings.Name), zap.String("repository", r.name), zap.Int("manifests", l.read), zap.Int("bytes", l.bytes))
	})
}

// looked is a manifest that was asked for, or why there is none.
type looked struct {
	digest string // "" if nobody knows
	refs   references
	size   int
	absent bool
	err    error // the upstream's fault
}

// readSeen reads manifests that passed a moment ago, and what is below them.
func (u *Upstream) readSeen(ctx context.Context, r *repoBlobs, one *search, seen []unread, who asker) {
	digests := make([]string, len(seen))
	for i := range seen {
		digests[i] = seen[i].digest
	}
	for i, m := range u.readManifests(ctx, r, digests, who) {
		if m.err != nil {
			one.again, one.cause = append(one.again, seen[i]), m.err
			continue
		}
		u.blobs.change(r, u.Now(), func() { r.later(seen[i].since, m.refs.Manifests...) })
	}
	one.seen += len(seen)
}

// readTodo reads what tags name, and what is below. The error is a fault that
// ends the search.
func (u *Upstream) readTodo(ctx context.Context, r *repoBlobs, l *lookup, one *search, who asker) error {
	n := min(lookupParallel, len(l.todo))
	batch := slices.Clone(l.todo[:n])
	l.todo = l.todo[n:]
	for i, m := range u.readManifests(ctx, r, batch, who) {
		if m.err != nil {
			l.failed, one.cause = append(l.failed, batch[i]), m.err
			continue
		}
		l.read++
		l.bytes += m.size
		below := slices.DeleteFunc(m.refs.Manifests, func(child string) bool { return u.blobs.wasRead(r, child, u.Now()) })
		l.todo = slices.Concat(below, l.todo) // a large repository is not all tags
		l.todo = l.todo[:min(len(l.todo), maxTodo)]
	}
	if ctx.Err() == nil && len(l.failed) < maxLookupFaults {
		return nil // the others may have what is wanted
	}
	l.todo, l.failed = slices.Concat(l.failed, l.todo), nil
	return one.cause
}

// readManifests asks for several at a time, and learns from them.
func (u *Upstream) readManifests(ctx context.Context, r *repoBlobs, references []string, who asker) []looked {
	list := make([]looked, len(references))
	var all sync.WaitGroup
	for i, reference := range references {
		all.Go(func() { list[i] = u.readOne(ctx, r, reference, who) })
	}
	all.Wait()
	for _, one := range list {
		if one.err == nil && !one.absent {
			u.blobs.learn(r, one.digest, one.refs, u.Now())
		}
	}
	return list
}

// manifestTypes is what a search accepts: as much as anybody's client does.
var manifestTypes = []string{
	"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.oci.artifact.manifest.v1+json", "application/vnd.cncf.oras.artifact.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.v1+prettyjws", "application/vnd.docker.distribution.manifest.v1+json", "*/*",
}

func (u *Upstream) readOne(ctx context.Context, r *repoBlobs, reference string, who asker) (m looked) {
	resp, err := u.lookAt(ctx, http.MethodGet, r.name, "/manifests/"+reference, "", who)
	if err != nil || resp == nil {
		return looked{err: err, absent: resp == nil}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return looked{err: u.failed(ctx, err)}
	}
	m.size, m.digest = len(body), manifestDigest(resp.Header, reference)
	if len(body) <= maxManifest {
		m.refs, _ = readManifest(body) // what cannot be understood refers to nothing
	}
	return m
}

// manifestDigest is what an answer with a manifest says of it, or what was
// asked for if that is a digest; "" if nobody knows.
func manifestDigest(h http.Header, reference string) string {
	if d := h["Docker-Content-Digest"]; len(d) == 1 && validDigest(d[0]) {
		return d[0]
	}
	if isDigest(reference) {
		return reference
	}
	return ""
}

// readTags reads one page of tags.
func (u *Upstream) readTags(ctx context.Context, r *repoBlobs, l *lookup, who asker) error {
	resp, err := u.lookAt(ctx, http.MethodGet, r.name, "/tags/list", l.page, who)
	if err != nil {
		return err
	}
	if resp == nil { // there is no such repository
		l.page = ""
		return nil
	}
	defer resp.Body.Close()
	var list struct{ Tags []string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxCatalogBody)).Decode(&list); err != nil {
		return u.failed(ctx, err)
	}
	for _, tag := range list.Tags {
		if validTag(tag) && len(l.todo) < maxTodo {
			l.todo = append(l.todo, tag)
		}
	}
	next, err := nextQuery(resp.Header)
	if err != nil {
		return broken(err)
	}
	if sameQuery(next, l.page) || len(list.Tags) == 0 { // a page that leads to itself would never end
		next = ""
	}
	l.page = next
	return nil
}

// lookAt asks for something of a repository. No answer and no error is: not
// there, or not for us.
func (u *Upstream) lookAt(ctx context.Context, method, name, path, query string, who asker) (*http.Response, error) {
	resp, err := u.do(ctx, &outgoing{
		Method:     method,
		Path:       "/v2/" + name + path,
		RawQuery:   query,
		Header:     http.Header{"Accept": manifestTypes},
		Scope:      "repository:" + name + ":pull",
		Credential: who.Credential,
		TurnedAway: who.TurnedAway,
		User:       who.User,
		RequestID:  who.RequestID,
	})
	var ours *httpError
	if errors.As(err, &ours) && hides(ours.status) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch status := resp.StatusCode; {
	case status == http.StatusOK && !isPage(resp.Header):
		return resp, nil
	case hides(status):
		err = nil
	case status == http.StatusTooManyRequests:
		err = u.limited(resp.Header, who.Credential != "")
	default:
		err = refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "the registry behind this one fails to show which blobs belong to this repository; try again later").
			with("Retry-After", "5").from(fmt.Errorf("upstream answered %s to %s %s", resp.Status, method, path))
	}
	drop(resp)
	return nil, err
}

// hides reports whether a status says that there is nothing, or nothing for us.
func hides(status int) bool {
	return status == http.StatusNotFound || status == http.StatusForbidden || status == http.StatusGone
}

// lacksManifest is the first of the manifests that the upstream does not give
// under the repository's name, "" if there is none. Errors as findBlobs.
func (u *Upstream) lacksManifest(ctx context.Context, r *repoBlobs, manifests []string, who asker) (string, error) {
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, u.blobs.searches.patience)
	defer cancel()
	for _, m := range manifests {
		if u.blobs.hasManifest(r, m, u.Now()) {
			continue
		}
		resp, err := u.lookAt(ctx, http.MethodHead, r.name, "/manifests/"+m, "", who)
		switch {
		case ctx.Err() != nil && whole.Err() == nil: // what was found is known when they come again
			return "", stillLooking(ctx.Err())
		case err != nil:
			return "", err
		case resp == nil:
			return m, nil
		}
		_ = resp.Body.Close()
		u.blobs.exists(r, m, u.Now())
	}
	return "", nil
}
