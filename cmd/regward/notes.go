package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/proxy"
	"github.com/regward/regward/ratelimit"
)

// redisNotes are proxy.Shared in Redis: a note is the text at PREFIX:n:KEY, and
// Redis ends it. The breaker is that of the limits: what is known to be down is
// asked by neither.
type redisNotes struct {
	client  redis.UniversalClient
	breaker *ratelimit.Breaker
	prefix  string
	timeout time.Duration // of one call
}

var errNoNote = errors.New("redis: its answer makes no sense: no note is so long, or kept so")

func (r *redisNotes) key(name string) string { return r.prefix + ":n:" + name }

// Read implements proxy.Shared.
func (r *redisNotes) Read(ctx context.Context, keys ...string) ([]proxy.Note, error) {
	texts, left := make([]*redis.StringCmd, len(keys)), make([]*redis.DurationCmd, len(keys))
	err := r.call(ctx, func(ctx context.Context, p redis.Pipeliner) {
		for i, k := range keys {
			texts[i], left[i] = p.Get(ctx, r.key(k)), p.PTTL(ctx, r.key(k))
		}
	})
	if err != nil {
		return nil, err
	}
	notes := make([]proxy.Note, len(keys))
	for i, k := range keys {
		text, ttl := texts[i].Val(), left[i].Val()
		if texts[i].Err() != nil || ttl == -2 { // there is none, or no longer
			continue
		}
		if ttl < 0 || len(text) > proxy.MaxNote {
			return nil, errNoNote
		}
		notes[i] = proxy.Note{Key: k, Text: text, Left: ttl}
	}
	return notes, nil
}

// Write implements proxy.Shared.
func (r *redisNotes) Write(ctx context.Context, notes ...proxy.Note) ([]bool, error) {
	done := make([]redis.Cmder, len(notes))
	err := r.call(ctx, func(ctx context.Context, p redis.Pipeliner) {
		for i, n := range notes {
			key := r.key(n.Key)
			switch {
			case n.Left < time.Millisecond:
				done[i] = p.Del(ctx, key)
			case n.If == proxy.IfAbsent:
				done[i] = p.SetArgs(ctx, key, n.Text, redis.SetArgs{Mode: "NX", TTL: n.Left})
			case n.If == proxy.IfPresent:
				done[i] = p.SetArgs(ctx, key, n.Text, redis.SetArgs{Mode: "XX", TTL: n.Left})
			default:
				done[i] = p.Set(ctx, key, n.Text, n.Left)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	written := make([]bool, len(notes))
	for i, d := range done {
		written[i] = d.Err() == nil
	}
	return written, nil
}

// call sends commands at once. An absent note is no error. What Redis itself
// says against them does not mean that it is down.
func (r *redisNotes) call(ctx context.Context, fill func(context.Context, redis.Pipeliner)) error {
	return r.breaker.Ask(func() error {
		caller := ctx
		ctx, done := context.WithTimeout(ctx, r.timeout)
		defer done()
		cmds, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			fill(ctx, p)
			return nil
		})
		for _, c := range cmds { // the first error of all is that of an absent note, perhaps
			if e := c.Err(); e != nil && !errors.Is(e, redis.Nil) {
				err = e
				break
			}
		}
		var said redis.Error
		switch {
		case err == nil || errors.Is(err, redis.Nil):
			return nil
		case caller.Err() != nil || errors.As(err, &said):
			return fmt.Errorf("redis: %w", err)
		}
		return fmt.Errorf("%w: redis: %w", ratelimit.ErrUnavailable, err)
	})
}
