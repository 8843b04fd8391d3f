package proxy

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
)

// tagLocks let one push at a time look where an immutable tag is and go on: of
// two that find it absent, the second would move it. They are this process's:
// two instances may both find a new tag absent, and then the later push is the
// one that stays, as without the rule. A tag that was there before is safe
// everywhere.
type tagLocks struct {
	mu   sync.Mutex
	held map[tagKey]*tagLock
}

// tagKey is a tag where it really is, whatever clients call it.
type tagKey struct{ upstream, repository, tag string }

type tagLock struct {
	free  chan struct{} // has one value while nobody is at the tag
	users int           // that hold it or wait for it; guarded by tagLocks.mu
}

var errManyTags = errors.New("pushes of too many immutable tags at once")

// lock waits for all of the tags, which it sorts. It fails when ctx ends, or
// with errManyTags where more are being pushed than are kept.
func (l *tagLocks) lock(ctx context.Context, keys []tagKey) (unlock func(), err error) {
	slices.SortFunc(keys, func(a, b tagKey) int { // in one order, or two pushes would wait for each other
		return cmp.Or(cmp.Compare(a.upstream, b.upstream), cmp.Compare(a.repository, b.repository), cmp.Compare(a.tag, b.tag))
	})
	keys = slices.Compact(keys)
	mine := l.enter(keys)
	if mine == nil {
		return nil, errManyTags
	}
	for i, one := range mine {
		select {
		case <-one.free:
		case <-ctx.Done():
			l.leave(keys, mine, i)
			return nil, ctx.Err()
		}
	}
	return sync.OnceFunc(func() { l.leave(keys, mine, len(mine)) }), nil
}

// enter makes who wants the tags known; nil if there are too many.
func (l *tagLocks) enter(keys []tagKey) []*tagLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.held)+len(keys) > maxTagLocks {
		return nil
	}
	if l.held == nil {
		l.held = map[tagKey]*tagLock{}
	}
	mine := make([]*tagLock, len(keys))
	for i, k := range keys {
		if l.held[k] == nil {
			l.held[k] = &tagLock{free: make(chan struct{}, 1)}
			l.held[k].free <- struct{}{}
		}
		mine[i] = l.held[k]
		mine[i].users++
	}
	return mine
}

// leave gives back the first n, and forgets those nobody waits for.
func (l *tagLocks) leave(keys []tagKey, mine []*tagLock, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, one := range mine {
		if i < n {
			one.free <- struct{}{}
		}
		if one.users--; one.users == 0 {
			delete(l.held, keys[i])
		}
	}
}
