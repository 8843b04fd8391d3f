package proxy

import (
	"cmp"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	talkersPerShare = 64 // counters of one share of a sketch
	talkerName      = 96 // bytes of a name that are kept

	clientShares    = 8 // 512 clients
	namespaceShares = 2
	limitShares     = 2

	// talkTime is what amounts fade by: what is told is as much as came in a
	// minute, smoothed over one.
	talkTime = time.Minute
	fadeStep = time.Second

	// talkBytes is how many bytes weigh as much as a request: who moves much with
	// few requests shall be seen as well.
	talkBytes = 1 << 20
)

// Amounts are what somebody did in a minute, the last ones smoothed. A value
// that fades is never quite zero.
type Amounts struct {
	Requests  float64
	Pulls     float64 // as limits count them
	Pushes    float64
	BytesIn   float64
	BytesOut  float64
	Throttled float64 // refused by a limit, locked out, or slowed down
	Would     float64 // what dry runs would have throttled
}

// Talker is a client ("user:ann", "ip:192.0.2.7"), a namespace or a limit.
type Talker struct {
	Name string
	Amounts
}

// Top is who does most. Nobody is told to have done more than they did; who came
// lately among very many may have done more.
type Top struct {
	Clients    []Talker
	Namespaces []Talker
	Limits     []Talker // Throttled and Would
}

// Top tells of n clients, namespaces and limits at most, the busiest first. 512
// clients, 128 namespaces and as many limits are known at once, however many
// there are: the busiest.
func (h *Handler) Top(n int) Top {
	now := h.Now()
	return Top{h.talk.clients.top(n, now), h.talk.namespaces.top(n, now), h.talk.limits.top(n, now)}
}

// talk is what Top knows, some 260 KiB whoever comes.
type talk struct {
	clients, namespaces, limits *sketch
}

func newTalk() talk {
	return talk{newSketch(clientShares), newSketch(namespaceShares), newSketch(limitShares)}
}

// note counts an exchange that is over.
func (t *talk) note(x *exchange, now time.Time) {
	if x.s == nil || x.site == nil {
		return
	}
	a := Amounts{Requests: 1, BytesIn: float64(x.in), BytesOut: float64(x.out), Would: oneIf(len(x.wouldThrottle) > 0)}
	passed := x.refusal == nil && x.decided
	if passed && !x.free && x.req.pulls() {
		a.Pulls = 1
	}
	if passed && x.event == "push" {
		a.Pushes = 1
	}
	limit := x.limitName
	if limit == "" {
		limit = x.slowedBy
	}
	if limit != "" {
		a.Throttled = 1
		t.limits.add(talkerKey{name: limit}, &Amounts{Throttled: 1}, 1, now)
	}
	for _, name := range x.wouldThrottle {
		t.limits.add(talkerKey{name: name}, &Amounts{Would: 1}, 1, now)
	}
	weight := 1 + (a.BytesIn+a.BytesOut)/talkBytes
	key := talkerKey{prefix: "user:", name: x.who.Name}
	if x.who.Anonymous() {
		key = talkerKey{prefix: "ip:", addr: x.s.clientNet(x.addr)}
	}
	t.clients.add(key, &a, weight, now)
	if x.decided && x.decision.Allowed() && x.repo.Repository != "" {
		t.namespaces.add(talkerKey{name: namespace(&x.repo, x.buckets.prefix)}, &a, weight, now)
	}
}

// clientNet is how far limits tell addresses apart.
func (s *Snapshot) clientNet(a netip.Addr) netip.Prefix {
	a = plainAddr(a)
	bits := s.PrefixV6
	if a.Is4() {
		bits = s.PrefixV4
	}
	p, err := a.Prefix(min(max(bits, 0), a.BitLen()))
	if err != nil { // no address
		return netip.Prefix{}
	}
	return p
}

// talkerKey names one without making a string of it.
type talkerKey struct {
	prefix, name string
	addr         netip.Prefix // in place of name
}

func (k *talkerKey) hash(seed maphash.Seed) uint64 {
	if k.name != "" || !k.addr.IsValid() {
		return maphash.String(seed, k.name)
	}
	b := k.addr.Addr().As16()
	return maphash.Bytes(seed, b[:])
}

func (k *talkerKey) appendTo(b []byte) []byte {
	b = append(b, k.prefix...)
	switch {
	case k.name != "":
		b = append(b, k.name[:min(len(k.name), talkerName-len(k.prefix))]...)
	case !k.addr.IsValid():
		b = append(b, "unknown"...)
	case k.addr.IsSingleIP():
		b = k.addr.Addr().AppendTo(b)
	default:
		b = k.addr.AppendTo(b)
	}
	return b
}

// sketch counts the heaviest of very many in fixed memory ("space saving"): who
// is not known takes the place of the lightest, and its weight. Shares part the
// keys among them, so that a core seldom waits for another.
type sketch struct {
	seed   maphash.Seed
	shares []share
}

// share is a part of a sketch. Hashes and weights stand apart from the rest, as
// they are all that is looked through.
type share struct {
	mu      sync.Mutex
	used    int
	faded   time.Time // weights and amounts are as of then
	hashes  [talkersPerShare]uint64
	weights [talkersPerShare]float64
	talkers [talkersPerShare]talker
}

type talker struct {
	Amounts
	size uint8
	name [talkerName]byte
}

func newSketch(shares int) *sketch {
	return &sketch{maphash.MakeSeed(), make([]share, shares)}
}

// add takes no memory.
func (s *sketch) add(k talkerKey, a *Amounts, weight float64, now time.Time) {
	hash := k.hash(s.seed)
	sh := &s.shares[hash%uint64(len(s.shares))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.fade(now)
	i := sh.find(hash)
	if sh.hashes[i] != hash || i >= sh.used {
		if i >= sh.used {
			sh.used++
			sh.weights[i] = 0
		}
		t := &sh.talkers[i]
		sh.hashes[i], t.Amounts = hash, Amounts{}
		t.size = uint8(len(k.appendTo(t.name[:0])))
	}
	sh.weights[i] += weight
	sh.talkers[i].add(a)
}

// find is where hash is, or else is to be: behind those used, or in place of the
// lightest.
func (sh *share) find(hash uint64) int {
	lightest, least := 0, math.Inf(1)
	for i, h := range sh.hashes[:sh.used] {
		if h == hash {
			return i
		}
		if w := sh.weights[i]; w < least {
			lightest, least = i, w
		}
	}
	if sh.used < talkersPerShare {
		return sh.used
	}
	return lightest
}

// fade makes everything smaller by the time that has passed.
func (sh *share) fade(now time.Time) {
	passed := now.Sub(sh.faded)
	if passed < fadeStep {
		return
	}
	sh.faded = now
	f := math.Exp(-passed.Seconds() / talkTime.Seconds())
	for i := range sh.used {
		sh.weights[i] *= f
		sh.talkers[i].scale(f)
	}
}

func (a *Amounts) add(b *Amounts) {
	a.Requests += b.Requests
	a.Pulls += b.Pulls
	a.Pushes += b.Pushes
	a.BytesIn += b.BytesIn
	a.BytesOut += b.BytesOut
	a.Throttled += b.Throttled
	a.Would += b.Would
}

func (a *Amounts) scale(f float64) {
	a.Requests *= f
	a.Pulls *= f
	a.Pushes *= f
	a.BytesIn *= f
	a.BytesOut *= f
	a.Throttled *= f
	a.Would *= f
}

// weight is by what talkers are put in order.
func (a *Amounts) weight() float64 {
	return a.Requests + a.Throttled + a.Would + (a.BytesIn+a.BytesOut)/talkBytes
}

// quiet is the weight below which somebody is not told of: gone for minutes.
const quiet = 0.01

func (s *sketch) top(n int, now time.Time) []Talker {
	all := []Talker{}
	for i := range s.shares {
		sh := &s.shares[i]
		sh.mu.Lock()
		sh.fade(now)
		for j := range sh.used {
			if t := &sh.talkers[j]; t.weight() >= quiet {
				all = append(all, Talker{string(t.name[:t.size]), t.Amounts})
			}
		}
		sh.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Talker) int {
		return cmp.Or(cmp.Compare(b.weight(), a.weight()), strings.Compare(a.Name, b.Name))
	})
	return all[:min(len(all), max(0, n))]
}
