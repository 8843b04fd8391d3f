package ratelimit

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/redis/go-redis/v9"
)

const (
	// redisTimeout bounds a call unless told otherwise: whoever pulls waits for it.
	redisTimeout = 50 * time.Millisecond

	// patience bounds a call that no request waits for.
	patience = time.Second

	// afterUse is how much longer a key lives than it takes to be full again: the
	// clock that ends it is not quite the one that counts.
	afterUse = time.Second
)

//go:embed gcra.lua
var gcraSource string

//go:embed hold.lua
var holdSource string

// RedisOptions are what a Redis can be told.
type RedisOptions struct {
	Prefix  string        // of every key, without the colon behind it; "regward" unless set
	Timeout time.Duration // of each call; 50 ms unless set
	Lease   time.Duration // how long a place outlives an instance that died holding it; 15 s unless set
}

// Redis is a Limiter for several processes that share a Redis or a Valkey: a
// script there decides exactly as Memory does, by the clock of the server. A
// bucket takes some 250 bytes there, and its key ends when it is full again.
//
// In a cluster the buckets of one client share a slot. A call about several
// clients asks them in turn and gives back what it took when a later one refuses
// or cannot be asked; until then, two round trips, others find it gone.
//
// Every call ends within Timeout, that of several slots at most within twice as
// much. A call that did not come back may still have taken what it asked for.
type Redis struct {
	client  redis.UniversalClient
	cluster bool
	prefix  string
	timeout time.Duration
	lease   time.Duration
	margin  time.Duration
	gcra    *redis.Script
	hold    *redis.Script

	through func(call func() error) error // asks Redis when a place is released
	probes  atomic.Uint64

	now   func() time.Time // for loans and renewals
	clock func() time.Time // in place of the server's; nil but in tests

	mu       sync.Mutex
	loans    *simplelru.LRU[Key, *loan]
	leases   map[string]map[string]struct{} // what is held here, by key
	held     int                            // leases in all
	mostHeld int
	instance string // the beginning of every lease of this process
	numbered uint64 // leases ever
	keeping  bool   // somebody renews
}

var _ Limiter = (*Redis)(nil)

// NewRedis gives a Limiter on client, which stays the caller's to close. The
// client must obey the deadlines of contexts (ContextTimeoutEnabled), and should
// not repeat a call that failed (MaxRetries: -1), lest it spend twice.
func NewRedis(client redis.UniversalClient, o RedisOptions) (*Redis, error) {
	obeys, cluster := false, false
	switch c := client.(type) {
	case *redis.Client:
		obeys = c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		obeys, cluster = c.Options().ContextTimeoutEnabled, true
	}
	switch {
	case !obeys:
		return nil, fmt.Errorf("ratelimit: a %T without ContextTimeoutEnabled cannot be held to a timeout", client)
	case strings.ContainsAny(o.Prefix, "{}"):
		return nil, fmt.Errorf("ratelimit: key prefix %q: braces would move every key into one slot", o.Prefix)
	case o.Timeout < 0 || o.Lease < 0 || o.Lease > 0 && o.Lease < minLease:
		return nil, fmt.Errorf("ratelimit: timeout %v, lease %v: cannot be so short", o.Timeout, o.Lease)
	}
	r := &Redis{
		client: client, cluster: cluster,
		prefix: orElse(o.Prefix, "regward"), timeout: orElse(o.Timeout, redisTimeout), lease: orElse(o.Lease, defaultLease),
		margin: afterUse, gcra: redis.NewScript(gcraSource), hold: redis.NewScript(holdSource),
		now: time.Now, leases: make(map[string]map[string]struct{}), mostHeld: maxLeases, instance: rand.Text()[:10],
	}
	r.through = func(call func() error) error { return call() }
	loans, err := simplelru.NewLRU[Key, *loan](maxLoans, nil)
	r.loans = loans
	return r, err
}

func orElse[T comparable](v, unset T) T {
	var zero T
	if v == zero {
		return unset
	}
	return v
}

// Take implements Limiter.
func (r *Redis) Take(ctx context.Context, spends ...Spend) (Result, error) {
	all, err := checkedSpends(spends)
	if err != nil {
		return Result{}, err
	}
	ctx, done := within(ctx, r.timeout)
	defer done()
	least := Result{OK: true, Index: -1}
	groups := r.groups(len(all), func(i int) Key { return all[i].Key })
	for g, group := range groups {
		some := pick(all, group)
		refused, left, err := r.count(ctx, "take", some)
		if err != nil || refused >= 0 {
			r.giveBack(ctx, all, groups[:g])
		}
		if err != nil {
			return Result{}, err
		}
		if refused >= 0 {
			return r.firstRefusal(ctx, some[refused].refusal(left[0]), all, groups[g+1:]), nil
		}
		for i, s := range some {
			if res := s.Rate.result(left[i], s.at, 0, true); least.Index < 0 || res.Remaining < least.Remaining || res.Remaining == least.Remaining && res.Index < least.Index {
				least = res
			}
		}
	}
	return least, nil
}

// placed is a Spend with a checked rate, and where the caller named it.
type placed struct {
	Spend
	at int
}

func (s *placed) refusal(left float64) Result {
	return s.Rate.result(left, s.at, max(1, s.N), false)
}

// checkedSpends leaves out those without a limit.
func checkedSpends(spends []Spend) ([]placed, error) {
	all := make([]placed, 0, len(spends))
	for i, s := range spends {
		rate, err := s.checked()
		if err != nil {
			return nil, err
		}
		if rate != (Rate{}) {
			s.Rate, s.Key = rate, s.stored()
			all = append(all, placed{s, i})
		}
	}
	return all, nil
}

func pick[T any](all []T, which []int) []T {
	some := make([]T, len(which))
	for i, j := range which {
		some[i] = all[j]
	}
	return some
}

// groups are which of n keys one script may see: all of them, but in a cluster
// those of one client. The order is that of their first.
func (r *Redis) groups(n int, key func(int) Key) [][]int {
	var groups [][]int
	for i := range n {
		g := slices.IndexFunc(groups, func(g []int) bool { return !r.cluster || key(g[0]).Client == key(i).Client })
		if g < 0 {
			groups, g = append(groups, nil), len(groups)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// firstRefusal is res, or the refusal of an earlier spend in one of the groups
// that were not asked yet: which slot a key is in shall not decide who is told
// of. They hear of a changed rate, too.
func (r *Redis) firstRefusal(ctx context.Context, res Result, all []placed, groups [][]int) Result {
	for _, group := range groups {
		some := pick(all, group)
		refused, left, err := r.count(ctx, "ask", some)
		if err == nil && refused >= 0 && some[refused].at < res.Index {
			res = some[refused].refusal(left[0])
		}
	}
	return res
}

// giveBack returns what was taken from groups, as far as that is possible.
func (r *Redis) giveBack(ctx context.Context, all []placed, groups [][]int) {
	if len(groups) == 0 {
		return
	}
	ctx, done := within(context.WithoutCancel(ctx), r.timeout)
	defer done()
	for _, group := range groups {
		_, _, _ = r.count(ctx, "back", pick(all, group))
	}
}

// count runs gcra.lua for spends of one slot. It gives the place in spends of
// the one that refused, or -1, and what is left in that one or in all.
func (r *Redis) count(ctx context.Context, mode string, spends []placed) (refused int, left []float64, err error) {
	keys := make([]string, len(spends))
	sec, usec := r.time()
	args := append(make([]any, 0, 5+4*len(spends)), mode, sec, usec, r.margin.Milliseconds(), maxWait.Seconds())
	for i, s := range spends {
		keys[i] = r.key('b', s.Key)
		args = append(args, float(s.Rate.perSecond()), s.Rate.Burst, s.Rate.kept(), s.N)
	}
	reply, err := r.run(ctx, r.gcra, keys, args)
	if err != nil {
		return 0, nil, err
	}
	refused, rest, err := index(reply, len(spends))
	if err != nil {
		return 0, nil, err
	}
	if refused >= 0 && mode != "take" && mode != "ask" {
		return 0, nil, nonsense("a refusal of what cannot be refused")
	}
	for i, v := range rest {
		s := spends[max(i, refused)]
		text, _ := v.(string)
		x, err := strconv.ParseFloat(text, 64)
		full, deepest := float64(s.Rate.Burst), float64(s.Rate.Burst)-s.Rate.mostOwed()
		if err != nil || !(x <= full+slack && x >= deepest-slack-full*slack) || refused >= 0 && x+slack >= float64(max(1, s.N)) {
			return 0, nil, nonsense("%q left of a bucket of %v, %d at once", clip(fmt.Sprint(v)), s.Rate, s.Rate.Burst)
		}
		left = append(left, x)
	}
	return refused, left, nil
}

// index reads the first of a script's answers and gives the others: as many as
// were asked for, or that of the one that refused.
func index(reply []any, asked int) (refused int, rest []any, err error) {
	if len(reply) > 0 {
		if i, ok := reply[0].(int64); ok && (i == -1 && len(reply) == 1+asked || i >= 0 && i < int64(asked) && len(reply) == 2) {
			return int(i), reply[1:], nil
		}
	}
	return 0, nil, nonsense("%d values where %d were asked for", len(reply), 1+asked)
}

// run runs a script and gives the list that it answers with.
func (r *Redis) run(ctx context.Context, s *redis.Script, keys []string, args []any) (reply []any, err error) {
	defer func() {
		if recover() != nil { // the client was written for servers that mean well
			reply, err = nil, nonsense("reading it panicked")
		}
	}()
	reply, err = s.Run(ctx, r.client, keys, args...).Slice()
	return reply, r.failed(ctx, err)
}

// Probe spends from a bucket of its own, first with patience, for there may be
// servers to be found and connections to be made, and then once more within
// Timeout. In a cluster the bucket is another one each time, so that every server
// has its turn, and all are connected to.
//
// It does what requests do: it writes, which a replica refuses, and it logs in,
// as whoever needs one more connection has to: those that are made stay good when
// the password is changed.
//
// An error is one of Take.
func (r *Redis) Probe(ctx context.Context) error {
	patient, done := within(ctx, patience)
	defer done()
	if err := r.login(patient); err != nil {
		return err
	}
	const clients = 64
	key := r.key('p', Key{Limit: "probe", Client: strconv.FormatUint(r.probes.Add(1)%clients, 10)})
	sec, usec := r.time()
	args := []any{"take", sec, usec, r.margin.Milliseconds(), maxWait.Seconds(), 1000.0, 1000, "1000/1000000000", 1}
	ask := func(ctx context.Context) error {
		reply, err := r.run(ctx, r.gcra, []string{key}, args)
		if err == nil {
			_, _, err = index(reply, 1)
		}
		return err
	}
	if err := ask(patient); err != nil {
		return err
	}
	ctx, done = within(ctx, r.timeout)
	defer done()
	return ask(ctx)
}

// login asks each server whether the login that connections are made with is
// good. All else that may be wrong the calls of Probe tell.
func (r *Redis) login(ctx context.Context) (err error) {
	ask := func(ctx context.Context, node *redis.Client) error {
		defer func() { _ = recover() }() // as in run
		o := node.Options()
		if o.Password == "" {
			return node.Ping(ctx).Err()
		}
		return node.Do(ctx, "AUTH", orElse(o.Username, "default"), o.Password).Err()
	}
	switch c := r.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, ask)
	case *redis.Client:
		if c.Options().Password != "" {
			err = ask(ctx, c)
		}
	}
	if redis.HasErrorPrefix(err, "WRONGPASS") || redis.HasErrorPrefix(err, "NOAUTH") {
		return r.failed(ctx, err)
	}
	return nil
}

// askThrough has every release ask Redis, or not, as ask says.
func (r *Redis) askThrough(ask func(call func() error) error) { r.through = ask }

// slowError ends a call that Redis did not answer in time.
type slowError time.Duration

func (e slowError) Error() string { return fmt.Sprintf("no answer within %v", time.Duration(e)) }

func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, slowError(d))
}

// failed makes err one of a Limiter: ErrUnavailable, unless it was the caller
// who did not want to wait any longer.
func (r *Redis) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		if _, slow := cause.(slowError); !slow {
			return fmt.Errorf("ratelimit: redis: %w", cause)
		}
		return fmt.Errorf("%w: redis: %w", ErrUnavailable, cause)
	}
	if waitedFor(err) { // by a bound of the client's own
		return fmt.Errorf("%w: redis: %w", ErrUnavailable, slowError(r.timeout))
	}
	said := clip(err.Error())
	if unread(err) {
		return nonsense("%s", strings.TrimPrefix(said, "redis: "))
	}
	return fmt.Errorf("%w: redis: %s", ErrUnavailable, said)
}

// nonsense is something there that answers, and so is neither gone nor slow.
func nonsense(format string, args ...any) error {
	return fmt.Errorf("%w: redis: %w: %s", ErrUnavailable, errNonsense, fmt.Sprintf(format, args...))
}

// unread reports whether err is one of an answer that the client could not read.
// It has no type for those (go-redis v9.23.0, internal/proto: reader.go).
func unread(err error) bool {
	text := err.Error()
	for _, words := range []string{"redis: can't parse", "redis: invalid", "redis: the length of", "redis: RESP3"} {
		if strings.HasPrefix(text, words) {
			return true
		}
	}
	return false
}

// clip makes what a server said fit for a log.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '\uFFFD' {
			return '?'
		}
		return c
	}, s)
}

// time is what a script is told of the time.
func (r *Redis) time() (sec, usec any) {
	if r.clock == nil {
		return "", ""
	}
	now := r.clock()
	return now.Unix(), float(float64(now.Nanosecond()) / 1e3)
}

// float writes x so that it is read as x.
func float(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// kept is r as a bucket remembers it, apart from its burst.
func (r Rate) kept() string {
	return strconv.Itoa(r.Events) + "/" + strconv.FormatInt(int64(r.Per), 10)
}

// readRate is the rate that kept wrote, with its burst.
func readRate(kept string, burst float64) (Rate, bool) {
	events, per, _ := strings.Cut(kept, "/")
	n, err1 := strconv.Atoi(events)
	d, err2 := strconv.ParseInt(per, 10, 64)
	if err1 != nil || err2 != nil || !(burst >= 1 && burst <= MaxBytes) || burst != math.Trunc(burst) {
		return Rate{}, false
	}
	r, err := Rate{Events: n, Per: time.Duration(d), Burst: int(burst)}.checked()
	return r, err == nil && r != (Rate{})
}

// key is where k is kept: prefix:b:{client}:limit for a bucket, prefix:h:... for
// places. What is between the braces decides the slot; there is always
// something, and nothing that ends it early.
func (r *Redis) key(kind byte, k Key) string {
	var b strings.Builder
	b.Grow(len(r.prefix) + len(k.Client) + len(k.Limit) + 8)
	b.WriteString(r.prefix)
	b.WriteByte(':')
	b.WriteByte(kind)
	b.WriteString(":{")
	for i := range len(k.Client) {
		if c := k.Client[i]; c <= ' ' || c == 0x7f || c == '%' || c == '{' || c == '}' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	if k.Client == "" {
		b.WriteByte('%')
	}
	b.WriteString("}:")
	b.WriteString(k.Limit)
	return b.String()
}

// parseKey reads what key wrote.
func (r *Redis) parseKey(s string) (kind byte, k Key, ok bool) {
	s, ok = strings.CutPrefix(s, r.prefix+":")
	if !ok || len(s) < len("b:{%}:") || s[1:3] != ":{" {
		return 0, Key{}, false
	}
	client, limit, ok := strings.Cut(s[3:], "}:")
	if !ok {
		return 0, Key{}, false
	}
	var b strings.Builder
	for i := 0; i < len(client) && client != "%"; i++ {
		if client[i] != '%' {
			b.WriteByte(client[i])
			continue
		}
		if i+3 > len(client) {
			return 0, Key{}, false
		}
		c, err := strconv.ParseUint(client[i+1:i+3], 16, 8)
		if err != nil {
			return 0, Key{}, false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return s[0], Key{Limit: limit, Client: b.String()}, true
}
