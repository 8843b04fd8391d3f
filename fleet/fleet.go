// Package fleet lets the instances of regward that share a Redis know of each
// other: who is there, whom a revocation has put out, which limits are
// overridden for a while, and when all shall load their files again. Without a
// Redis it is a fleet of one, with the same API.
//
// What is shared is kept in Redis, and a message only says that there is
// something new to be read. So nothing depends on a message that arrives: after
// a cut, a restart or lost data every instance reads what is kept, and puts back
// what only it still knows. Ends are told by Redis' clock, so that instances
// whose clocks differ agree when one comes.
package fleet

import (
	"context"
	"crypto/rand"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// Options say how a Fleet is made.
type Options struct {
	// Client reaches Redis: single, sentinel or cluster. Its
	// ContextTimeoutEnabled must be set, or Timeout bounds nothing. nil is a
	// fleet of one. It belongs to the caller.
	Client redis.UniversalClient
	Prefix string // of every key and of the channel, without the colon behind it

	Timeout time.Duration // of each call to Redis; 0 is DefaultTimeout: nobody's request waits for them
	Every   time.Duration // between looks at what no message told of; 0 is DefaultEvery
	Keep    time.Duration // of a revocation: as long as a token or a lease can live; 0 is DefaultKeep
	File    string        // where revocations and overrides survive a restart; "" is nowhere

	ID   string          // of this instance, unlike all others; "" makes one up
	Self func() Instance // what the others shall know of this instance now; nil is nothing but its ID and host

	Log *zap.Logger      // nil is none
	Now func() time.Time // nil is time.Now

	// What others, or we ourselves, did. They must not call what changes the
	// Fleet. OnRevoked gets what is new, OnOverrides all that are in force
	// after each change, OnReload each request of another instance, several at
	// once as one. The first two are called before New and whoever changed
	// something return; OnReload in a goroutine of its own.
	OnRevoked   func([]Revocation)
	OnOverrides func([]Override)
	OnReload    func(Reload)
}

// Defaults of Options.
const (
	DefaultTimeout = time.Second
	DefaultEvery   = 5 * time.Second
	DefaultKeep    = 25 * time.Hour
)

// What others may make an instance hold or read. Each bound has a test that
// meets it.
const (
	MaxInstances   = 1000
	MaxRevocations = 10_000 // users; of more, the newcomers put out everybody
	MaxOverrides   = 100    // in force, and as many ends that are remembered
	MaxOverrideFor = 30 * 24 * time.Hour
	MaxText        = 256 // bytes of a name or text
	MaxNotes       = 16  // texts of an instance besides

	maxValue = 12 << 10 // bytes of one value in Redis; more is not read
	maxFile  = 8 << 20  // bytes of Options.File

	fullEvery = 12                     // every so many looks everything is read, whether or not it changed
	hearGap   = 50 * time.Millisecond  // between readings that messages ask for
	redialMin = 100 * time.Millisecond // between attempts to subscribe
	redialMax = 5 * time.Second
	logEvery  = time.Minute // between lines about nonsense
)

// Fleet is this instance among the others. All its methods may be called at
// once.
type Fleet struct {
	o    Options
	keys keys

	talk    chan struct{} // holds one while somebody talks to Redis
	wake    chan struct{}
	reloads chan Reload
	saving  sync.Mutex // one writing of Options.File after the other
	telling sync.Mutex // one OnOverrides after the other, so that the last one told is the last state

	close  sync.Once
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu        sync.Mutex
	revoked   map[string]revocation // by user
	overrides map[string]override   // by limit
	asked     *Reload               // by us, and not told yet
	head      head                  // as last read
	looks     int
	clock     time.Duration // ours is ahead of Redis' by so much
	link      link
}

// New makes a Fleet, reads what is shared, and follows it until Close. A Redis
// that cannot be reached is no reason not to start: State tells.
func New(o Options) *Fleet {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	if o.Keep <= 0 {
		o.Keep = DefaultKeep
	}
	if o.ID == "" {
		o.ID = rand.Text()
	}
	if o.Self == nil {
		host, _ := os.Hostname() // "" says as much
		o.Self = func() Instance { return Instance{Host: host} }
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &Fleet{
		o:         o,
		keys:      newKeys(o.Prefix),
		talk:      make(chan struct{}, 1),
		wake:      make(chan struct{}, 1),
		reloads:   make(chan Reload, 1),
		revoked:   map[string]revocation{},
		overrides: map[string]override{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.load()
	_ = f.pass(ctx) // State tells
	f.work.Go(func() { f.run(ctx) })
	if o.Client != nil {
		f.work.Go(func() { f.listen(ctx) })
		f.work.Go(func() { f.reloading(ctx) })
	}
	return f
}

// Close says goodbye to the others and ends every goroutine. The client stays
// open.
func (f *Fleet) Close() {
	f.close.Do(func() {
		f.cancel()
		f.work.Wait()
		if f.o.Client != nil {
			_, _ = f.call(context.Background(), leaveScript, f.keys.instances(), f.o.ID) // else it is gone by itself
		}
	})
}

// run looks for what no message told of, and ends what is over.
func (f *Fleet) run(ctx context.Context) {
	tick := time.NewTicker(f.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = f.Beat(ctx) // State tells
		case <-f.wake:
			_ = f.pass(ctx)
			pause(ctx, hearGap)
		}
	}
}

// Beat does at once what is done every Options.Every: it tells the others how
// this instance is, tells them what they could not be told before, and reads
// what they did. The error is Redis'.
func (f *Fleet) Beat(ctx context.Context) error {
	f.expire()
	return f.pass(ctx)
}

// Look has what others did read soon, without a message: Redis is back, or gone.
func (f *Fleet) Look() {
	if f.o.Client != nil {
		f.poke()
	}
}

// poke has run read what is new.
func (f *Fleet) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// expire drops what is over.
func (f *Fleet) expire() {
	f.mu.Lock()
	now, changed := f.o.Now(), false
	for limit, o := range f.overrides {
		if !o.ended && !o.holds(now) {
			o.ended, o.unsent, changed = true, false, true
			f.overrides[limit] = o
		}
		if !o.unsent && !now.Before(o.keep) {
			delete(f.overrides, limit)
		}
	}
	for user, r := range f.revoked {
		if !now.Before(r.until) {
			delete(f.revoked, user)
		}
	}
	f.mu.Unlock()
	if changed {
		f.tellOverrides()
		_ = f.save()
	}
}
