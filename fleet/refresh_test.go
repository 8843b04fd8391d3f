package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/fleet"
)

func newRefresh(c redis.UniversalClient, change ...func(*fleet.RefreshOptions)) *fleet.Refresh {
	o := fleet.RefreshOptions{
		Client: c, Prefix: "test", Life: time.Hour, Idle: time.Minute, Most: 1000, MostUser: 10,
		Ask: func(ctx context.Context, call func(context.Context) error) error { return call(ctx) },
	}
	for _, f := range change {
		f(&o)
	}
	return fleet.NewRefresh(o)
}

func hashed(n int) string { return fmt.Sprintf("%064x", n) }

func addRefresh(t *testing.T, r *fleet.Refresh, n int, user string) error {
	t.Helper()
	return r.Add(t.Context(), fleet.RefreshRecord{Hash: hashed(n), User: user, Text: fmt.Sprintf(`{"n":%d}`, n)})
}

func listed(t *testing.T, r *fleet.Refresh, user string) (hashes []string) {
	t.Helper()
	all, err := r.Of(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range all {
		hashes = append(hashes, one.Hash)
	}
	slices.Sort(hashes)
	return hashes
}

// age moves the last use of a token back, as time would.
func age(t *testing.T, c redis.UniversalClient, n int, by time.Duration) {
	t.Helper()
	if err := c.ZIncrBy(t.Context(), "test:{fleet}:refresh-used", -float64(by.Milliseconds()), hashed(n)).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestRefreshIsSharedByAll(t *testing.T) {
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			client := start(t)
			one, other := newRefresh(client()), newRefresh(client())
			if err := addRefresh(t, one, 1, "ann"); err != nil {
				t.Fatal(err)
			}
			got, err := other.Get(t.Context(), hashed(1))
			if err != nil || got.Idle < 0 || got.Idle > time.Minute {
				t.Fatalf("%+v, %v", got, err)
			}
			got.Idle = 0
			if d := cmp.Diff(fleet.RefreshRecord{Hash: hashed(1), User: "ann", Text: `{"n":1}`}, got); d != "" {
				t.Error(d)
			}
			if _, err := other.Get(t.Context(), hashed(2)); !errors.Is(err, fleet.ErrNoRefresh) {
				t.Errorf("one that is not there: %v", err)
			}
			if n, err := other.Delete(t.Context(), hashed(1), hashed(7)); n != 1 || err != nil {
				t.Errorf("%d deleted, %v", n, err)
			}
			if _, err := one.Get(t.Context(), hashed(1)); !errors.Is(err, fleet.ErrNoRefresh) {
				t.Errorf("one that another instance has ended: %v", err)
			}
			if left, err := one.Sweep(t.Context()); left != 0 || err != nil {
				t.Errorf("%d left, %v", left, err)
			}
			keys, err := client().Keys(t.Context(), "*refresh*").Result()
			if len(keys) > 0 || err != nil {
				t.Errorf("left in Redis: %v, %v", keys, err)
			}
		})
	}
}

func TestRefreshIsListedByUser(t *testing.T) {
	c := newServer(t).client(t)
	r := newRefresh(c, func(o *fleet.RefreshOptions) { o.Most, o.MostUser = 5000, 2000 })
	users := []string{"ann", "an", "anna", "ann x", "ann{}", "zoë"}
	want := map[string][]string{}
	for i := range 1500 { // more than are told at once
		user := users[i%len(users)]
		if err := addRefresh(t, r, i, user); err != nil {
			t.Fatal(err)
		}
		want[user], want[""] = append(want[user], hashed(i)), append(want[""], hashed(i))
	}
	for _, user := range append(users, "") {
		slices.Sort(want[user])
		if d := cmp.Diff(want[user], listed(t, r, user)); d != "" {
			t.Errorf("%q: %s", user, d)
		}
	}
	for _, user := range []string{"bob", "ann\n", "ann\x00"} {
		if got := listed(t, r, user); len(got) > 0 {
			t.Errorf("%q has %d", user, len(got))
		}
	}
	if n, err := r.Delete(t.Context(), want["ann"]...); n != len(want["ann"]) || err != nil {
		t.Errorf("%d deleted, %v", n, err)
	}
	if got := listed(t, r, "ann"); len(got) > 0 {
		t.Errorf("ann has %d", len(got))
	}
	if got := listed(t, r, "anna"); len(got) != len(want["anna"]) {
		t.Errorf("anna has %d", len(got))
	}
}

func TestRefreshEndsForWantOfUse(t *testing.T) {
	c := newServer(t).client(t)
	r := newRefresh(c)
	for i := range 3 {
		if err := addRefresh(t, r, i, "ann"); err != nil {
			t.Fatal(err)
		}
		age(t, c, i, 59*time.Minute)
	}
	if err := r.Use(t.Context(), map[string]time.Duration{hashed(1): 10 * time.Minute, hashed(2): 2 * time.Hour, hashed(9): 0}); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Get(t.Context(), hashed(1)); err != nil || got.Idle.Round(time.Minute) != 10*time.Minute {
		t.Errorf("used 10 minutes ago: %v, %v", got.Idle, err)
	}
	if got, err := r.Get(t.Context(), hashed(2)); err != nil || got.Idle.Round(time.Minute) != 59*time.Minute {
		t.Errorf("an older use changes nothing: %v, %v", got.Idle, err)
	}
	for i := range 3 {
		age(t, c, i, 2*time.Minute)
	}
	if _, err := r.Get(t.Context(), hashed(0)); !errors.Is(err, fleet.ErrNoRefresh) {
		t.Errorf("not used for an hour: %v", err)
	}
	if left, err := r.Sweep(t.Context()); left != 1 || err != nil {
		t.Errorf("%d left, %v", left, err)
	}
	if d := cmp.Diff([]string{hashed(1)}, listed(t, r, "")); d != "" {
		t.Error(d)
	}
	for _, key := range []string{"", "-used", "-users"} {
		if ttl := c.PTTL(t.Context(), "test:{fleet}:refresh"+key).Val(); ttl < time.Hour || ttl > 25*time.Hour {
			t.Errorf("key%s stays for %v", key, ttl)
		}
	}
}

func TestRefreshIsBounded(t *testing.T) {
	c := newServer(t).client(t)
	r := newRefresh(c, func(o *fleet.RefreshOptions) { o.Most, o.MostUser = 7, 5 })
	for i := range 5 {
		if err := addRefresh(t, r, i, "ann"); err != nil {
			t.Fatal(err)
		}
	}
	if err := addRefresh(t, r, 5, "ann"); !errors.Is(err, fleet.ErrRefreshFull) {
		t.Errorf("one more than a user may have: %v", err)
	}
	age(t, c, 3, 2*time.Minute)
	age(t, c, 4, 90*time.Second)
	if err := addRefresh(t, r, 5, "ann"); err != nil { // 3 makes room
		t.Error(err)
	}
	if d := cmp.Diff([]string{hashed(0), hashed(1), hashed(2), hashed(4), hashed(5)}, listed(t, r, "ann")); d != "" {
		t.Error(d)
	}
	for i := range 2 {
		if err := addRefresh(t, r, 10+i, "bob"); err != nil {
			t.Fatal(err)
		}
	}
	if err := addRefresh(t, r, 20, "carl"); err != nil { // 4 makes room
		t.Error(err)
	}
	if err := addRefresh(t, r, 21, "carl"); !errors.Is(err, fleet.ErrRefreshFull) {
		t.Errorf("one more than there may be: %v", err)
	}
	if got := listed(t, r, ""); len(got) != 7 || slices.Contains(got, hashed(4)) {
		t.Errorf("there are %v", got)
	}
	for name, one := range map[string]fleet.RefreshRecord{
		"no name":   {Hash: hashed(30)},
		"line end":  {Hash: hashed(30), User: "ann\nbob"},
		"long name": {Hash: hashed(30), User: strings.Repeat("x", 300)},
		"long text": {Hash: hashed(30), User: "ann", Text: strings.Repeat("x", 5000)},
	} {
		if err := r.Add(t.Context(), one); err == nil || errors.Is(err, fleet.ErrRefreshFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Who adds, ends, uses and lists at once leaves lists that agree.
func TestRefreshAtOnce(t *testing.T) {
	c := newServer(t).client(t)
	r := newRefresh(c, func(o *fleet.RefreshOptions) { o.Most, o.MostUser = 10000, 10000 })
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 50 {
				n := w*1000 + i
				if err := addRefresh(t, r, n, fmt.Sprint("user", i%3)); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if got, err := r.Delete(t.Context(), hashed(n)); got != 1 || err != nil {
						t.Errorf("%d, %v", got, err)
					}
					continue
				}
				if err := r.Use(t.Context(), map[string]time.Duration{hashed(n): 0}); err != nil {
					t.Error(err)
				}
				if _, err := r.Get(t.Context(), hashed(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	sum := 0
	for i := range 3 {
		sum += len(listed(t, r, fmt.Sprint("user", i)))
	}
	if left, err := r.Sweep(t.Context()); left != 200 || sum != 200 || len(listed(t, r, "")) != 200 || err != nil {
		t.Errorf("%d left, %d of users, %d in all, %v; want 200", left, sum, len(listed(t, r, "")), err)
	}
}

// What is in Redis is not believed: it may be another program's.
func TestRefreshNonsenseInRedis(t *testing.T) {
	c := newServer(t).client(t)
	r := newRefresh(c)
	ctx := t.Context()
	c.HSet(ctx, "test:{fleet}:refresh", hashed(1), "no user", hashed(2), "ann\n"+strings.Repeat("x", 5000), hashed(3), "ann\nok", hashed(4), "ann\nno use")
	for i := 1; i < 4; i++ {
		c.ZAdd(ctx, "test:{fleet}:refresh-used", redis.Z{Score: float64(time.Now().UnixMilli()), Member: hashed(i)})
		c.ZAdd(ctx, "test:{fleet}:refresh-users", redis.Z{Member: "ann\x00" + hashed(i)})
	}
	for _, n := range []int{1, 2, 4} {
		if _, err := r.Get(ctx, hashed(n)); !errors.Is(err, fleet.ErrNoRefresh) {
			t.Errorf("%d: %v", n, err)
		}
	}
	want := []string{hashed(3)}
	if d := cmp.Diff([][]string{want, want}, [][]string{listed(t, r, "ann"), listed(t, r, "")}); d != "" {
		t.Error(d)
	}
	if n, err := r.Delete(ctx, hashed(1), hashed(2), hashed(3), hashed(4)); n != 4 || err != nil {
		t.Errorf("%d deleted, %v", n, err)
	}
	c.Set(ctx, "test:{fleet}:refresh-used", "a text", 0)
	if _, err := r.Get(ctx, hashed(1)); err == nil || errors.Is(err, fleet.ErrNoRefresh) {
		t.Errorf("a key of another kind: %v", err)
	}
}

func TestRefreshWithoutRedis(t *testing.T) {
	s := newServer(t)
	r := newRefresh(s.client(t), func(o *fleet.RefreshOptions) {
		o.Ask = func(ctx context.Context, call func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return call(ctx)
		}
	})
	if err := addRefresh(t, r, 1, "ann"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	_, get := r.Get(t.Context(), hashed(1))
	_, del := r.Delete(t.Context(), hashed(1))
	_, of := r.Of(t.Context(), "ann")
	_, all := r.Of(t.Context(), "")
	_, sweep := r.Sweep(t.Context())
	for i, err := range []error{get, del, of, all, sweep, addRefresh(t, r, 2, "ann"), r.Use(t.Context(), map[string]time.Duration{hashed(1): 0})} {
		if err == nil || errors.Is(err, fleet.ErrNoRefresh) {
			t.Errorf("%d: %v", i, err)
		}
	}
}
