package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/fleet"
	"github.com/regward/regward/ratelimit"
)

// refreshRedis is the auth.RefreshStore of several instances: Redis has the
// tokens of all.
type refreshRedis struct {
	kept *fleet.Refresh
	now  func() time.Time
}

// newRefreshRedis asks Redis no more while the limiter knows it to be down.
func newRefreshRedis(client redis.UniversalClient, breaker *ratelimit.Breaker, cfg *configs.Redis, now func() time.Time) *refreshRedis {
	timeout := time.Duration(cfg.Timeout)
	return &refreshRedis{fleet.NewRefresh(fleet.RefreshOptions{
		Client: client,
		Prefix: cfg.KeyPrefix,
		Ask: func(ctx context.Context, call func(context.Context) error) error {
			return breaker.Ask(func() error {
				short, done := context.WithTimeout(ctx, timeout)
				defer done()
				err := call(short)
				var said redis.Error
				if err == nil || ctx.Err() != nil || errors.As(err, &said) {
					return err
				}
				return fmt.Errorf("%w: redis: %w", ratelimit.ErrUnavailable, err)
			})
		},
		Life: auth.RefreshLife, Idle: auth.RefreshIdle, Most: auth.MaxRefreshTokens, MostUser: auth.MaxRefreshUser,
	}), now}
}

// said has errors mean to auth what they mean here.
func said(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fleet.ErrNoRefresh):
		return auth.ErrRejected
	case errors.Is(err, fleet.ErrRefreshFull):
		return auth.ErrTooManyRefresh
	}
	return fmt.Errorf("%w: %w", auth.ErrUnavailable, err)
}

func (r *refreshRedis) token(one fleet.RefreshRecord) (auth.RefreshToken, error) {
	t, err := auth.ParseRefresh([]byte(one.Text))
	if err == nil && (t.Hash.String() != one.Hash || t.User != one.User) {
		err = errors.New("it is kept in another's place")
	}
	t.Used = r.now().Add(-one.Idle).UTC().Truncate(time.Second)
	return t, err
}

// Get implements auth.RefreshStore.
func (r *refreshRedis) Get(ctx context.Context, hash auth.RefreshHash) (auth.RefreshToken, error) {
	one, err := r.kept.Get(ctx, hash.String())
	if err != nil {
		return auth.RefreshToken{}, said(err)
	}
	t, err := r.token(one)
	if err != nil {
		return auth.RefreshToken{}, fmt.Errorf("refresh token %s in redis cannot be read: %w", hash.ID(), err)
	}
	return t, nil
}

// Add implements auth.RefreshStore.
func (r *refreshRedis) Add(ctx context.Context, t auth.RefreshToken) error {
	return said(r.kept.Add(ctx, fleet.RefreshRecord{Hash: t.Hash.String(), User: t.User, Text: string(auth.FormatRefresh(t))}))
}

// Use implements auth.RefreshStore.
func (r *refreshRedis) Use(ctx context.Context, uses map[auth.RefreshHash]time.Time) error {
	idle := make(map[string]time.Duration, len(uses))
	for hash, at := range uses {
		idle[hash.String()] = r.now().Sub(at)
	}
	return said(r.kept.Use(ctx, idle))
}

// Delete implements auth.RefreshStore.
func (r *refreshRedis) Delete(ctx context.Context, hashes ...auth.RefreshHash) (int, error) {
	texts := make([]string, len(hashes))
	for i, hash := range hashes {
		texts[i] = hash.String()
	}
	n, err := r.kept.Delete(ctx, texts...)
	return n, said(err)
}

// Of implements auth.RefreshStore. What cannot be read is none that would be
// taken.
func (r *refreshRedis) Of(ctx context.Context, user string) ([]auth.RefreshToken, error) {
	all, err := r.kept.Of(ctx, user)
	if err != nil {
		return nil, said(err)
	}
	var some []auth.RefreshToken
	for _, one := range all {
		if t, err := r.token(one); err == nil {
			some = append(some, t)
		}
	}
	return some, nil
}

// Sweep implements auth.RefreshStore.
func (r *refreshRedis) Sweep(ctx context.Context) (int, error) {
	left, err := r.kept.Sweep(ctx)
	return left, said(err)
}
