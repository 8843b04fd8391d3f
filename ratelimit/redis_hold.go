package ratelimit

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

const (
	// defaultLease is how long a place is kept for an instance that says nothing.
	defaultLease = 15 * time.Second
	minLease     = 100 * time.Millisecond

	// renewals is how often a lease is renewed before it runs out: one may be lost.
	renewals = 3

	// maxLeases bounds what one instance holds. Each is a transfer in flight, which
	// costs a hundred times as much elsewhere.
	maxLeases = 100_000

	// leasesAtOnce is how many leases one call renews, and renewersAtOnce how many
	// calls are under way.
	leasesAtOnce   = 500
	renewersAtOnce = 4
)

// Hold implements Limiter. A place is a lease, which this process renews while
// it is held: when it dies the place is free again after Lease. One that could
// not be renewed for so long (Redis was cut off, or lost what it knew) is taken
// again as soon as it can be, though others may have been let in meanwhile.
func (r *Redis) Hold(ctx context.Context, holdings ...Holding) (func(), Result, error) {
	all := make([]wanted, 0, len(holdings))
	for i, h := range holdings {
		if err := h.checked(); err != nil {
			return nothing, Result{}, err
		}
		if h.Most > 0 {
			h.Key = h.stored()
			all = append(all, wanted{Holding: h, at: i, key: r.key('h', h.Key)})
		}
	}
	least := Result{OK: true, Index: -1}
	if len(all) == 0 {
		return nothing, least, nil
	}
	if err := r.name(all); err != nil {
		return nothing, Result{}, err
	}
	caller := ctx
	ctx, done := within(ctx, r.timeout)
	defer done()
	groups := r.groups(len(all), func(i int) Key { return all[i].Key })
	for g, group := range groups {
		some := pick(all, group)
		refused, taken, err := r.places(ctx, "hold", some)
		if err != nil || refused >= 0 {
			for _, earlier := range groups[:g] {
				_ = r.leave(caller, pick(all, earlier))
			}
			if err != nil {
				return nothing, Result{}, err
			}
			return nothing, r.firstFull(ctx, some[refused], all, groups[g+1:]), nil
		}
		for i, h := range some {
			if left := h.Most - taken[i]; least.Index < 0 || left < least.Remaining || left == least.Remaining && h.at < least.Index {
				least = Result{OK: true, Index: h.at, Limit: h.Most, Remaining: left}
			}
		}
	}
	r.keep(all)
	return r.release(all), least, nil
}

// wanted is a Holding, where the caller named it, and its lease.
type wanted struct {
	Holding
	at         int
	key, lease string
}

// name gives each of all a lease of its own: INSTANCE.NUMBER/MOST.
func (r *Redis) name(all []wanted) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held+len(all) > r.mostHeld {
		return fmt.Errorf("%w: %d places are held here, no more can be", ErrBusy, r.held)
	}
	for i := range all {
		r.numbered++
		all[i].lease = r.instance + "." + strconv.FormatUint(r.numbered, 36) + "/" + strconv.Itoa(all[i].Most)
	}
	return nil
}

// firstFull is a refusal by h, or by an earlier one of the groups that were not
// asked yet.
func (r *Redis) firstFull(ctx context.Context, h wanted, all []wanted, groups [][]int) Result {
	for _, group := range groups {
		some := pick(all, group)
		refused, _, err := r.places(ctx, "ask", some)
		if err == nil && refused >= 0 && some[refused].at < h.at {
			h = some[refused]
		}
	}
	return Result{Index: h.at, Limit: h.Most}
}

// places runs hold.lua for places of one slot.
func (r *Redis) places(ctx context.Context, mode string, some []wanted) (refused int, taken []int, err error) {
	sec, usec := r.time()
	keys := make([]string, len(some))
	args := []any{mode, sec, usec, r.lease.Seconds()}
	for i, h := range some {
		keys[i] = h.key
		args = append(args, h.Most, h.lease)
	}
	reply, err := r.run(ctx, r.hold, keys, args)
	if err != nil {
		return 0, nil, err
	}
	refused, rest, err := index(reply, len(some))
	if err != nil {
		return 0, nil, err
	}
	for i, v := range rest {
		h := some[max(i, refused)]
		n, ok := v.(int64)
		if !ok || n < 0 || refused < 0 && (n < 1 || n > int64(h.Most)) || refused >= 0 && n < int64(h.Most) {
			return 0, nil, nonsense("%q taken of %d places", clip(fmt.Sprint(v)), h.Most)
		}
		taken = append(taken, int(n))
	}
	return refused, taken, nil
}

// keep has the leases of all renewed from now on.
func (r *Redis) keep(all []wanted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range all {
		if r.leases[h.key] == nil {
			r.leases[h.key] = make(map[string]struct{})
		}
		r.leases[h.key][h.lease] = struct{}{}
		r.held++
	}
	if !r.keeping {
		r.keeping = true
		go r.renewing()
	}
}

// release gives the places of all back, once.
func (r *Redis) release(all []wanted) func() {
	return func() {
		r.mu.Lock()
		mine := all
		all = nil
		for _, h := range mine {
			delete(r.leases[h.key], h.lease)
			if len(r.leases[h.key]) == 0 {
				delete(r.leases, h.key)
			}
			r.held--
		}
		r.mu.Unlock()
		if len(mine) > 0 {
			_ = r.through(func() error { return r.leave(context.Background(), mine) })
		}
	}
}

// leave tells Redis that places are free. If that fails they are so when their
// leases run out.
func (r *Redis) leave(ctx context.Context, some []wanted) error {
	ctx, done := within(context.WithoutCancel(ctx), r.timeout)
	defer done()
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, h := range some {
			p.ZRem(ctx, h.key, h.lease)
		}
		return nil
	})
	return r.failed(ctx, err)
}

// renewing renews what is held here until there is nothing.
func (r *Redis) renewing() {
	tick := time.NewTicker(r.lease / renewals)
	defer tick.Stop()
	for range tick.C {
		r.mu.Lock()
		if len(r.leases) == 0 {
			r.keeping = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		_ = r.renew() // the next tick tries again
	}
}

// renew renews every lease that is held here, and gives up at the first error.
func (r *Redis) renew() error {
	g, ctx := errgroup.WithContext(context.Background())
	g.SetLimit(renewersAtOnce)
	for key, leases := range r.heldHere() {
		for len(leases) > 0 && ctx.Err() == nil {
			some := leases[:min(len(leases), leasesAtOnce)]
			leases = leases[len(some):]
			g.Go(func() error { return r.renewSome(ctx, key, some) })
		}
	}
	return g.Wait()
}

// heldHere is a copy of what is held, by key.
func (r *Redis) heldHere() map[string][]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string][]any, len(r.leases))
	for key, leases := range r.leases {
		for l := range leases {
			all[key] = append(all[key], l)
		}
	}
	return all
}

// renewSome renews leases of one key. What was released meanwhile must not come
// back by that.
func (r *Redis) renewSome(ctx context.Context, key string, leases []any) error {
	ctx, done := within(ctx, patience)
	defer done()
	sec, usec := r.time()
	_, err := r.run(ctx, r.hold, []string{key}, append([]any{"renew", sec, usec, r.lease.Seconds()}, leases...))
	var gone []any
	r.mu.Lock()
	for _, l := range leases {
		if _, ok := r.leases[key][l.(string)]; !ok {
			gone = append(gone, l)
		}
	}
	r.mu.Unlock()
	if len(gone) > 0 {
		_ = r.client.ZRem(ctx, key, gone...).Err()
	}
	return err
}

// mostOf reads the MOST of a lease.
func mostOf(lease string) int {
	_, most, _ := strings.Cut(lease, "/")
	n, err := strconv.Atoi(most)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
