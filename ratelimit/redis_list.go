package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// scanAtOnce is how many keys Redis looks at before it lets others in, and
	// maxScans how often List asks for so many of one server: a million keys, of
	// whatever else is kept there too.
	scanAtOnce = 1000
	maxScans   = 1000

	// fewLeases is how many of a key are asked how many there may be.
	fewLeases = 8
)

// List implements Limiter. It goes through the keys of every server, a thousand
// at a time and a million at most: what is behind those is ErrIncomplete.
func (r *Redis) List(ctx context.Context, limit string, most int) ([]Usage, error) {
	l := &listing{r: r, limit: limit, f: fullest{most: most}}
	var err error
	if c, ok := r.client.(*redis.ClusterClient); ok {
		err = c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return l.server(ctx, node) })
	} else {
		err = l.server(ctx, r.client)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !errors.Is(err, ErrIncomplete) && !errors.Is(err, ErrUnavailable) {
		err = r.failed(ctx, err)
	}
	return l.f.list(), err
}

// listing is a List under way, on several servers at once.
type listing struct {
	r     *Redis
	limit string
	mu    sync.Mutex
	f     fullest
}

// pattern matches the keys of a limit, or of all.
func (l *listing) pattern() string {
	escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
	if l.limit == "" {
		return escape.Replace(l.r.prefix) + ":[bh]:{*}:*"
	}
	return escape.Replace(l.r.prefix) + ":[bh]:{*}:" + escape.Replace(l.limit)
}

// server goes through the keys of one server.
func (l *listing) server(ctx context.Context, node redis.Cmdable) error {
	now, err := l.r.serverTime(ctx, node)
	if err != nil {
		return err
	}
	seen := make(map[string]struct{}) // SCAN may name a key twice
	var cursor uint64
	for range maxScans {
		keys, next, err := l.scan(ctx, node, cursor)
		if err != nil {
			return err
		}
		fresh := keys[:0]
		for _, key := range keys {
			if _, ok := seen[key]; !ok {
				seen[key] = struct{}{}
				fresh = append(fresh, key)
			}
		}
		if err := l.look(ctx, node, fresh, now); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: a server has more than %d keys", ErrIncomplete, maxScans*scanAtOnce)
}

func (l *listing) scan(ctx context.Context, node redis.Cmdable, cursor uint64) ([]string, uint64, error) {
	ctx, done := within(ctx, patience)
	defer done()
	keys, next, err := node.Scan(ctx, cursor, l.pattern(), scanAtOnce).Result()
	return keys, next, l.r.failed(ctx, err)
}

// look reads what keys hold and tells f of it.
func (l *listing) look(ctx context.Context, node redis.Cmdable, keys []string, now time.Time) error {
	if len(keys) == 0 {
		return nil
	}
	ctx, done := within(ctx, patience)
	defer done()
	pipe := node.Pipeline()
	reads := make([]func() (Usage, time.Time), 0, len(keys))
	for _, key := range keys {
		kind, k, ok := l.r.parseKey(key)
		if !ok || l.limit != "" && k.Limit != l.limit {
			continue
		}
		if kind == 'b' {
			text := pipe.Get(ctx, key)
			reads = append(reads, func() (Usage, time.Time) { return bucketUsage(k, text.Val(), now) })
			continue
		}
		after := strconv.FormatFloat(float64(now.UnixMicro())/1e6, 'f', 6, 64)
		taken := pipe.ZCount(ctx, key, "("+after, "+inf")
		last := pipe.ZRange(ctx, key, -fewLeases, -1)
		reads = append(reads, func() (Usage, time.Time) {
			u := Usage{Key: k, Used: int(taken.Val())}
			for _, lease := range last.Val() {
				if most := mostOf(lease); most < AnyPlace || u.Size == 0 {
					u.Size = most
				}
			}
			return u, now
		})
	}
	// An error of one key (gone meanwhile, something else) leaves it out; one of
	// the connection is an error of every key.
	cmds, err := pipe.Exec(ctx)
	if err != nil && (ctx.Err() != nil || len(cmds) == 0 || allFailed(cmds)) && !errors.Is(err, redis.Nil) {
		return l.r.failed(ctx, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, read := range reads {
		u, at := read()
		l.f.add(u, float64(at.UnixMicro()))
	}
	return nil
}

func allFailed(cmds []redis.Cmder) bool {
	for _, c := range cmds {
		if c.Err() == nil || errors.Is(c.Err(), redis.Nil) {
			return false
		}
	}
	return true
}

// bucketUsage reads what gcra.lua wrote. Of what is no bucket nothing is used.
func bucketUsage(k Key, text string, now time.Time) (Usage, time.Time) {
	f := strings.Fields(text)
	if len(f) != 6 {
		return Usage{}, now
	}
	var x [5]float64
	for i := range x {
		var err error
		if x[i], err = strconv.ParseFloat(f[i], 64); err != nil {
			return Usage{}, now
		}
	}
	rate, ok := readRate(f[5], x[4])
	if !ok || !(x[0] >= 0 && x[0] <= rate.mostOwed()+1) {
		return Usage{}, now
	}
	at := time.Unix(int64(x[1]), int64(x[2]*1e3))
	spent := max(0, x[0]-max(0, now.Sub(at).Seconds())*rate.perSecond())
	return rate.usage(k, spent), at
}

// serverTime is the time by which a server's buckets are counted.
func (r *Redis) serverTime(ctx context.Context, node redis.Cmdable) (time.Time, error) {
	if r.clock != nil {
		return r.clock(), nil
	}
	ctx, done := within(ctx, patience)
	defer done()
	now, err := node.Time(ctx).Result()
	return now, r.failed(ctx, err)
}

// Reset implements Limiter.
func (r *Redis) Reset(ctx context.Context, k Key) error {
	k = k.stored()
	r.mu.Lock()
	r.loans.Remove(k)
	r.mu.Unlock()
	ctx, done := within(ctx, max(patience, r.timeout))
	defer done()
	n, err := r.client.Del(ctx, r.key('b', k)).Result()
	if err != nil {
		return r.failed(ctx, err)
	}
	if n == 0 {
		return ErrNoBucket
	}
	return nil
}
