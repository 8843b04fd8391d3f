package proxy

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/ratelimit"
)

// Past is a request as a log tells of it.
type Past struct {
	Time     time.Time
	Host     string // "" where the log has none
	Method   string
	Path     string // with its query, where the log has it
	Status   int
	Addr     netip.Addr
	User     string // "" is anonymous
	KnowUser bool   // false: nobody knows who it was
	Via      string // what proved the user, where the log has it
	Duration time.Duration
	Slowed   time.Duration // of Duration: what limits of bytes held it up
	In, Out  int64         // bytes of the bodies

	// Of regward's own log.
	Own        bool
	Credential string // what came
	Route      string
	Repository string // as rules knew it
	Reference  string
	Reason     string // why it was refused
	KnowFree   bool   // the log says whether the pull was Free
	Free       bool   // it belonged to a pull counted before (L02)
	Repeated   bool   // the same wrong password again
}

// Rehearsal tells what Settings would have made of past requests. It decides by
// the code that decides over real ones: the grammar, the places, the policy,
// the limits. Only the clock is the log's.
//
// What a log cannot tell is decided so:
//   - A request that was answered 401, 403 or 429 counts nothing: who was sent
//     away is not known to come again. One that a limit of regward's own
//     refused is judged all the same: another limit may let it in.
//   - A pull by digest of which the log does not say whether it was free is
//     free for ten minutes after another pull of that client from that
//     repository: the one that it most likely belongs to. Live, only what that
//     pull named is free.
//   - Who was locked out is taken to have come with a wrong password.
//
// What a client does after a refusal that never was cannot be known at all.
type Rehearsal struct {
	h       *Handler
	all     *Snapshot // with all limits
	open    *Snapshot // with those that do not ask who comes
	now     time.Time
	started bool
	host    string
	x       exchange
	holds   bool   // a limit counts transfers
	paces   bool   // a limit counts bytes
	taken   func() // gives back the places of the request being judged
	ends    ends
	out     Outcome
	room    []ask
	spends  [8]ratelimit.Spend
	url     url.URL

	kinds map[string]Kind       // of routes with a repository, by their words
	users map[string]string     // by name: how buckets call them
	addrs map[netip.Addr]string // likewise

	memory   *ratelimit.Memory
	failures *ratelimit.Memory
	begun    *lru.Cache[string, time.Time] // by client and repository: when the last pull began that others may belong to
	good     *lru.Cache[string, time.Time] // by address and user: when a login was last proven
}

const maxRehearsed = 1 << 16 // pulls under way, and logins proven, that are remembered

// Skip says why a request was not judged; "" if it was.
type Skip string

// Why requests are not judged.
const (
	SkipElsewhere Skip = "elsewhere" // nothing that limits or rules are about
	SkipRefused   Skip = "refused"   // turned away then: it counts nothing
	SkipBroken    Skip = "broken"    // outside the grammar of the API, or of no upstream of this configuration
	SkipReadOnly  Skip = "read_only"
)

// Asked is what one bucket of one limit said.
type Asked struct {
	Limit  int           // its place in Settings.Limits
	Client string        // "user:ann", "ip:192.0.2.7"
	Taken  bool          // one event was taken
	Wait   time.Duration // until it may come again; of bytes: by how much it would have been slower
}

// Outcome is what would have become of one request.
type Outcome struct {
	Skip     Skip
	KnowUser bool
	Caller   auth.Caller
	Access   auth.Access   // the repository and what was to be done to it
	Denied   bool          // by the rules; limits were not asked then
	Decision auth.Decision // of the rules, where the user is known
	Asked    []Asked       // all that counted it, those in dry run among them
	Refused  int           // the place in Asked of the limit that refused it; -1: none
	Would    []int         // places in Asked of the dry runs that would have
	Guessed  bool          // it was taken for a part of another pull
	Login    bool          // it was a login that limits of failed logins were asked about
}

// Rehearse makes a Rehearsal of settings; their logins, tokens and upstreams'
// addresses are not looked at.
func Rehearse(settings Settings) (*Rehearsal, error) {
	r := &Rehearsal{kinds: map[string]Kind{}, users: map[string]string{}, addrs: map[netip.Addr]string{}}
	for _, k := range []Kind{KindManifest, KindBlob, KindTags, KindReferrers, KindUploadStart, KindUpload} {
		r.kinds[k.String()] = k
	}
	list := make([]auth.Place, len(settings.Upstreams))
	for i, u := range settings.Upstreams {
		list[i] = u.Place
	}
	places, err := auth.NewPlaces(list)
	if err != nil {
		return nil, err
	}
	r.all = &Snapshot{Settings: settings, limits: slices.Clone(settings.Limits), places: places}
	r.open = &Snapshot{Settings: settings, places: places}
	for _, l := range r.all.limits {
		r.all.countsPulls = r.all.countsPulls || l.Count == Pulls
		r.holds, r.paces = r.holds || l.Count == Transfers, r.paces || l.Count == Bytes
		if !l.NeedsUser() {
			r.open.limits = append(r.open.limits, l)
		}
	}
	if len(settings.Hostnames) > 0 {
		r.host = newSite(settings.Hostnames[0]).name
	}
	if r.begun, err = lru.New[string, time.Time](maxRehearsed); err != nil {
		return nil, err
	}
	r.good, err = lru.New[string, time.Time](maxRehearsed)
	return r, err
}

// begin makes the limits anew, as of a time: they count from there on.
func (r *Rehearsal) begin(at time.Time) {
	r.now = at
	clock := func() time.Time { return r.now }
	r.memory, r.failures = ratelimit.NewMemory(0, clock), ratelimit.NewMemory(0, clock)
	r.h = New(Options{Limiter: r.memory, Failures: r.failures, Now: clock})
}

// NeedsUser reports whether nobody can say what the limit counts, or for whom,
// without knowing who comes.
func (l *Limit) NeedsUser() bool {
	particular := func(s auth.Subject) bool { return s.Kind() != "everyone" }
	switch l.Per {
	case PerUser, PerClient, PerGroup, PerIPUser:
		return true
	}
	return l.Count == FailedLogins || slices.ContainsFunc(l.Subjects, particular) || slices.ContainsFunc(l.ExemptWho, particular) ||
		slices.ContainsFunc(l.Repositories, func(p auth.Pattern) bool { return strings.ContainsAny(p.String(), "{}") })
}

// Overflowed counts the events of clients that found no bucket of their own.
func (r *Rehearsal) Overflowed() uint64 {
	if !r.started {
		return 0
	}
	return r.memory.Overflowed() + r.failures.Overflowed()
}

// Judge tells what would have become of p. Requests come in the order of time;
// one that does not is judged at the latest moment. The Outcome is good until
// the next call.
func (r *Rehearsal) Judge(p *Past) *Outcome {
	if !r.started {
		r.started = true
		r.begin(p.Time)
	} else if p.Time.After(r.now) {
		r.now = p.Time
	}
	r.ends.until(r.now)
	r.out = Outcome{KnowUser: p.KnowUser, Refused: -1, Asked: r.out.Asked[:0], Would: r.out.Would[:0]}
	switch {
	case p.Own && strings.HasPrefix(p.Credential, saidWrong):
		r.failed(p, p.Credential[len(saidWrong):])
	case p.Own && strings.HasPrefix(p.Credential, saidLocked):
		r.failed(p, p.Credential[len(saidLocked):])
	case p.turnedAway():
		r.out.Skip = SkipRefused
	case p.Own && p.Credential == "basic" && p.User != "" && r.shutOut(p):
	default:
		r.judge(p)
	}
	return &r.out
}

const (
	saidWrong  = "wrong password: "
	saidLocked = "locked out: "
)

// turnedAway reports whether a request was refused before limits were asked,
// or, in logs of others, in a way that looks so.
func (p *Past) turnedAway() bool {
	if !p.Own {
		return p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden || p.Status == http.StatusTooManyRequests
	}
	switch p.Credential {
	case "basic", "token", "anonymous token":
	default:
		return true // nobody was asked, or the credential was no good
	}
	switch p.Reason {
	case reasonNotAllowed, reasonNotCovered, reasonReadOnly, reasonBusy:
		return true
	}
	return false
}

// judge takes a request through the gate's own steps.
func (r *Rehearsal) judge(p *Past) {
	x := &r.x
	x.h, x.s, x.start, x.repo, x.free = r.h, r.all, r.now, auth.Access{}, false // the rest is set below, or stays unset
	if !p.KnowUser {
		x.s = r.open
	}
	if !r.parse(p) {
		return
	}
	place, ok := r.locate(p)
	if !ok {
		return
	}
	x.addr = p.Addr
	x.call(auth.Identity{Name: x.s.fold(p.User), Via: p.Via})
	x.buckets.prefix = place.Prefix
	r.name(&x.buckets)
	r.out.Caller = x.who
	q := &x.req
	if q.Kind == KindUnknown { // answered 404, and counted by nothing
		r.out.Skip = SkipElsewhere
		return
	}
	if p.KnowUser {
		r.out.Decision = x.s.Policy.Decide(&x.who, q.Wants)
		if r.out.Denied = !r.out.Decision.Allowed(); r.out.Denied {
			return
		}
	}
	x.free = r.all.countsPulls && q.pulls() && r.free(p)
	if r.holds && !r.hold(p) {
		return
	}
	counts, n := q.costs(x.free)
	if release := r.taken; !r.ask(counts[:n]) {
		if release != nil {
			release()
			r.taken = nil
		}
		return
	}
	if r.taken != nil {
		r.ends.add(p.Time.Add(p.Duration), r.taken)
		r.taken = nil
	}
	if r.paces && q.paced() {
		r.pace(p)
	}
}

// name gives buckets the names of a caller who was there before.
func (r *Rehearsal) name(b *buckets) {
	var ok bool
	if b.user, ok = r.users[b.c.Name]; !ok && !b.c.Anonymous() {
		if len(r.users) >= maxRehearsed {
			clear(r.users)
		}
		r.users[b.c.Name] = b.ofUser()
	}
	if b.addr, ok = r.addrs[b.c.Addr]; !ok {
		if len(r.addrs) >= maxRehearsed {
			clear(r.addrs)
		}
		r.addrs[b.c.Addr] = b.ofAddr()
	}
}

// parse reads what was asked; false: it counts nothing.
func (r *Rehearsal) parse(p *Past) bool {
	if p.Own && p.Repository != "" && r.parsed(p) {
		return true
	}
	path, query, _ := strings.Cut(p.Path, "?")
	if path != "/v2" && !strings.HasPrefix(path, "/v2/") {
		r.out.Skip = SkipElsewhere
		return false
	}
	u := &r.url
	*u = url.URL{Path: path, RawQuery: query}
	if strings.IndexByte(path, '%') >= 0 {
		var err error
		if u, err = url.ParseRequestURI(p.Path); err != nil {
			r.out.Skip = SkipBroken
			return false
		}
	}
	var err error
	if r.x.req, err = ParseRequest(p.Method, u); err != nil {
		r.out.Skip = SkipBroken
		return false
	}
	if r.x.req.Kind == KindPing {
		r.out.Skip = SkipElsewhere
		return false
	}
	return true
}

// parsed takes the parts that regward's own log tells: they were parsed once,
// and the path may have been cut. Its query, and an upload's id, are not in the
// log; no limit depends on them.
func (r *Rehearsal) parsed(p *Past) bool {
	kind, ok := r.kinds[p.Route]
	if !ok || !kind.serves(p.Method) {
		return false
	}
	q := &r.x.req
	*q = Request{Kind: kind, Method: p.Method, Repository: p.Repository, Reference: p.Reference}
	q.Wants = q.wants()
	return true
}

// locate finds the repository's place. The name that rules knew it by, where
// the log has it, is better than the path: an ns= may have led there, which is
// not in the log.
func (r *Rehearsal) locate(p *Past) (place auth.Place, ok bool) {
	x := &r.x
	q := &x.req
	if q.Repository == "" {
		return place, true
	}
	if p.Repository != "" && p.Repository != q.Repository {
		q.Repository = p.Repository
		q.Wants = q.wants()
	}
	host := p.Host
	if host == "" {
		host = r.host
	}
	f, ok := x.s.places.Find(host, q.Query.NS, q.Repository)
	if !ok || len(f.Name) > maxName || len(f.Repository) > maxName {
		r.out.Skip = SkipBroken
		return place, false
	}
	x.repo = auth.Access{Repository: f.Repository, Full: f.Full}
	for i := range q.Wants {
		q.Wants[i].Repository, q.Wants[i].Full = f.Repository, f.Full
	}
	if n := len(q.Wants); n > 0 {
		r.out.Access = q.Wants[n-1]
	}
	if writes(q.Method) && x.s.Upstreams[f.Index].ReadOnly != "" {
		r.out.Skip = SkipReadOnly
		return place, false
	}
	return x.s.places.Place(f.Index), true
}

// free reports whether a pull takes nothing: as the log says, or by guess.
func (r *Rehearsal) free(p *Past) bool {
	if p.KnowFree {
		return p.Free
	}
	x := &r.x
	key := x.buckets.client() + " " + x.repository()
	byDigest := isDigest(x.req.Reference)
	if began, ok := r.begun.Get(key); ok && byDigest && r.now.Sub(began) < freeTime {
		r.out.Guessed = true
		return true
	}
	if p.Status == http.StatusOK || p.Reason == reasonLimit {
		r.begun.Add(key, r.now)
	}
	return false
}

// ask asks the limits as spend does, and tells what each bucket said.
func (r *Rehearsal) ask(counts []Count) bool {
	x := &r.x
	first := len(r.out.Asked)
	r.room = x.asks(counts, r.room[:0])
	for _, a := range r.room {
		r.out.Asked = append(r.out.Asked, Asked{Limit: r.place(a.Limit), Client: a.client, Taken: true})
	}
	at, res, err := take(context.Background(), r.memory, r.room, r.spends[:])
	if err != nil {
		return true // only for a rate that is none, and a configuration has none
	}
	if at >= 0 && r.refused(first+at, res.RetryAfter) {
		return false
	}
	for i, a := range r.room {
		if !a.DryRun {
			continue
		}
		if res, err := r.memory.Take(context.Background(), a.spend()); err == nil && !res.OK {
			r.out.Asked[first+i].Taken, r.out.Asked[first+i].Wait = false, res.RetryAfter
			r.out.Would = append(r.out.Would, first+i)
		}
	}
	return true
}

// refused notes that nothing was taken because of one of those asked; -1: of none.
func (r *Rehearsal) refused(at int, wait time.Duration) bool {
	if at < 0 {
		return false
	}
	for i := range r.out.Asked {
		r.out.Asked[i].Taken = false
	}
	r.out.Refused, r.out.Asked[at].Wait = at, wait
	return true
}

// place is where in the settings a limit stands.
func (r *Rehearsal) place(l *Limit) int {
	return slices.IndexFunc(r.all.limits, func(o Limit) bool { return o.Name == l.Name })
}
