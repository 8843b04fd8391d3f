package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/regward/regward/proxy"
	"github.com/regward/regward/ratelimit"
	"github.com/regward/regward/replay"
)

// What a replay holds, whatever is in the logs.
const (
	maxReplayClients = 100_000 // of each limit
	maxReplayDenials = 10_000  // different ones
)

// tally adds up what a rehearsal says.
type tally struct {
	settings   *proxy.Settings
	suggest    bool
	now        time.Time
	logs       replay.Logs
	limits     []*limitTally
	denials    map[denialKey]*denialCount
	denied     int64
	wouldDeny  int64
	missed     int64 // denials beyond maxReplayDenials
	judged     int64
	users      int64 // of those, with a known user
	logins     int64
	own        int64
	lasting    bool // some log tells how long requests took
	skipped    map[proxy.Skip]int64
	guessed    int64
	throttled  int64 // requests, by any limit in force
	overflowed uint64
}

// limitTally is one limit.
type limitTally struct {
	*proxy.Limit
	rate    replay.Rate
	asked   int64
	refused int64
	first   time.Time
	clients map[string]*clientTally
	missed  int64 // events of clients beyond maxReplayClients
}

// clientTally is one client of one limit.
type clientTally struct {
	asked, refused int64
	first, last    time.Time
	until          time.Time // it cannot get in before
	spell          time.Duration
	out, longest   time.Duration
	spells         int64
	demand         replay.Demand
}

type denialKey struct{ rule, who, action, repository string }

type denialCount struct {
	n     int64
	first time.Time
	dry   bool
	why   string
}

func newTally(s *proxy.Settings, suggest bool) *tally {
	t := &tally{settings: s, suggest: suggest, denials: map[denialKey]*denialCount{}, skipped: map[proxy.Skip]int64{}}
	for i := range s.Limits {
		l := &limitTally{Limit: &s.Limits[i], clients: map[string]*clientTally{}}
		l.rate = replay.Rate{Per: l.Rate.Per}
		if l.Rate.Burst != l.Rate.Events { // one of its own, which --suggest leaves as it is
			l.rate.Burst = l.Rate.Burst
		}
		t.limits = append(t.limits, l)
	}
	return t
}

// count adds one request.
func (t *tally) count(p *proxy.Past, o *proxy.Outcome) {
	if p.Own {
		t.own++
	}
	t.lasting = t.lasting || p.Duration > 0
	if o.Skip != "" {
		t.skipped[o.Skip]++
		return
	}
	t.judged++
	if o.KnowUser {
		t.users++
	}
	if o.Login {
		t.logins++
	}
	if o.Guessed {
		t.guessed++
	}
	if o.Denied {
		t.denied++
		t.deny(p, o, o.Decision.Rule, false)
		return
	}
	if o.Decision.WouldDeny != "" {
		t.wouldDeny++
		t.deny(p, o, o.Decision.WouldDenyRule, true)
	}
	if o.Refused >= 0 {
		t.throttled++
	}
	for i := range o.Asked {
		l := t.limits[o.Asked[i].Limit]
		refused := i == o.Refused || o.Refused < 0 && slices.Contains(o.Would, i) || l.Count == proxy.Bytes && o.Asked[i].Wait > 0
		l.count(p.Time, &o.Asked[i], refused, t.suggest)
	}
}

// deny counts a denial; equal ones are one.
func (t *tally) deny(p *proxy.Past, o *proxy.Outcome, rule string, dry bool) {
	who := "user " + o.Caller.Name
	if o.Caller.Anonymous() {
		who = "anonymous at " + p.Addr.String()
	}
	key := denialKey{rule, who, o.Access.Action.String(), o.Access.Name()}
	d := t.denials[key]
	if d == nil {
		if len(t.denials) >= maxReplayDenials {
			t.missed++
			return
		}
		d = &denialCount{first: p.Time, dry: dry, why: o.Decision.String()}
		if dry {
			d.why = o.Decision.WouldDeny
		}
		t.denials[key] = d
	}
	d.n++
}

func (l *limitTally) count(at time.Time, a *proxy.Asked, refused, suggest bool) {
	l.asked++
	if refused {
		if l.refused == 0 {
			l.first = at
		}
		l.refused++
	}
	c := l.clients[a.Client]
	if c == nil {
		if len(l.clients) >= maxReplayClients {
			l.missed++
			return
		}
		c = new(clientTally)
		l.clients[a.Client] = c
	}
	c.asked++
	if suggest && l.suggests() {
		c.demand.Add(at, l.rate)
	}
	if refused {
		c.throttle(at, a.Wait)
	}
}

// throttle notes a refusal: until the wait is over the client stays out.
func (c *clientTally) throttle(at time.Time, wait time.Duration) {
	if c.refused == 0 {
		c.first = at
	}
	c.refused++
	c.last = at
	from := at
	if at.Before(c.until) {
		from = c.until
	} else {
		c.spells++
		c.spell = 0
	}
	if end := at.Add(wait); end.After(from) {
		c.out += end.Sub(from)
		c.spell += end.Sub(from)
		c.until = end
	}
	c.longest = max(c.longest, c.spell)
}

// suggestion is the lowest rate that is enough.
type suggestion struct {
	Rate      string `json:"rate"`                 // "": none is, as more came at once than the burst
	Burst     int    `json:"burst,omitempty"`      // as configured, where the limit has one of its own
	AtOnce    int    `json:"most_at_once"`         // of any client, at one moment
	Throttled int    `json:"clients_throttled"`    // with that rate
	Need      int    `json:"busiest_client_needs"` // events in the period; 0 where no rate is enough for it
	Exact     bool   `json:"exact"`                // false: more was to be remembered of a client than is
}

// suggests reports whether the limit counts events in a time: of bytes and of
// what is in flight no rate is suggested.
func (l *limitTally) suggests() bool {
	return l.Rate.Per > 0 && l.Count != proxy.Bytes && l.Count != proxy.Transfers
}

// noRate says why no rate of what is counted is suggested, and how to find one.
func noRate(c proxy.Count) string {
	if c == proxy.Transfers {
		return "none: how many run at once hangs on the limit itself, for who is refused comes again later; try 16, 8, 4, and take the lowest that throttles nobody above"
	}
	return "none: it refuses nobody, and any rate is fast enough for somebody; take a share of the line, such as a quarter, and look above whom it slows down, and for how long"
}

// lowest is the rate with which no more than share of the clients would have
// been throttled; nil where none came.
func (l *limitTally) lowest(share float64) *suggestion {
	if len(l.clients) == 0 || !l.suggests() {
		return nil
	}
	needs := make([]int, 0, len(l.clients))
	s := &suggestion{Exact: l.missed == 0, Burst: l.rate.Burst}
	for _, c := range l.clients {
		n, exact := c.demand.Need()
		needs = append(needs, n)
		s.Exact = s.Exact && exact
		s.AtOnce = max(s.AtOnce, c.demand.AtOnce())
	}
	slices.SortFunc(needs, func(a, b int) int { return cmp.Compare(b, a) })
	if needs[0] != replay.NoRate {
		s.Need = needs[0]
	}
	enough := needs[int(share*float64(len(needs)))]
	if enough != replay.NoRate {
		enough = replay.Nice(enough)
		s.Rate = ratelimit.Rate{Events: enough, Per: l.Rate.Per}.String()
	}
	for s.Throttled < len(needs) && (needs[s.Throttled] > enough || needs[s.Throttled] == replay.NoRate) {
		s.Throttled++
	}
	return s
}

// findings are what replay prints as JSON.
type findings struct {
	Config    string               `json:"config"`
	Logs      replay.Logs          `json:"logs"`
	Judged    int64                `json:"judged"`
	Skipped   map[proxy.Skip]int64 `json:"skipped"`
	Throttled int64                `json:"throttled"`
	Limits    []limitReport        `json:"limits"`
	Denied    int64                `json:"denied"`
	WouldDeny int64                `json:"would_deny"`
	Denials   []denialReport       `json:"denials"`
	Unknown   []string             `json:"unknown"`

	suggest bool
}

type limitReport struct {
	Name       string         `json:"name"`
	Limit      string         `json:"limit"` // in words
	DryRun     bool           `json:"dry_run"`
	NotTried   string         `json:"not_tried,omitempty"` // why
	Asked      int64          `json:"asked"`               // requests that it counts
	Throttled  int64          `json:"throttled"`
	Slows      bool           `json:"slows_down,omitempty"` // it refuses nobody: throttled are those that would have been slower
	Clients    int            `json:"clients"`
	First      *time.Time     `json:"first,omitempty"`
	Who        []clientReport `json:"who"` // who would have been throttled, the most often first
	Suggestion *suggestion    `json:"suggestion,omitempty"`

	what, none string
}

type clientReport struct {
	Client    string    `json:"client"`
	Asked     int64     `json:"asked"`
	Throttled int64     `json:"throttled"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Times     int64     `json:"times"` // that it was shut out
	Seconds   float64   `json:"seconds"`
	Longest   float64   `json:"longest_seconds"`
}

type denialReport struct {
	Rule       string    `json:"rule"` // "": no rule allows it
	DryRun     bool      `json:"dry_run"`
	Why        string    `json:"why"`
	Who        string    `json:"who"`
	Action     string    `json:"action"`
	Repository string    `json:"repository"`
	Requests   int64     `json:"requests"`
	First      time.Time `json:"first"`
}

func (t *tally) report(config string, share float64) *findings {
	r := &findings{Config: config, Logs: t.logs, Judged: t.judged, Skipped: t.skipped, Throttled: t.throttled, Denied: t.denied, WouldDeny: t.wouldDeny,
		Limits: []limitReport{}, Denials: []denialReport{}, Unknown: []string{}, suggest: t.suggest}
	for _, l := range t.limits {
		r.Limits = append(r.Limits, t.limitReport(l, share))
	}
	for key, d := range t.denials {
		r.Denials = append(r.Denials, denialReport{Rule: key.rule, DryRun: d.dry, Why: d.why, Who: key.who, Action: key.action, Repository: key.repository, Requests: d.n, First: d.first})
	}
	slices.SortFunc(r.Denials, func(a, b denialReport) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Who, b.Who), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Action, b.Action))
	})
	t.unknown(r)
	return r
}

func (t *tally) limitReport(l *limitTally, share float64) limitReport {
	out := limitReport{Name: l.Name, Limit: limitWords(*l.Limit), what: rateWords(l.Limit), DryRun: l.DryRun, Asked: l.asked, Throttled: l.refused, Clients: len(l.clients), Who: []clientReport{}}
	switch {
	case l.Count == proxy.FailedLogins && t.own == 0:
		out.NotTried = "only regward's own log tells failed logins"
	case l.Count != proxy.FailedLogins && l.NeedsUser() && t.users == 0:
		out.NotTried = "no log names users"
	}
	if l.Count == proxy.Transfers && out.NotTried == "" && !t.lasting {
		out.NotTried = "no log tells how long transfers took"
	}
	if out.NotTried != "" {
		return out
	}
	out.Slows, out.none = l.Count == proxy.Bytes, "none: nobody came"
	if !l.suggests() {
		out.none = noRate(l.Count)
	}
	if l.refused > 0 {
		out.First = &l.first
	}
	for name, c := range l.clients {
		if c.refused > 0 {
			out.Who = append(out.Who, clientReport{Client: name, Asked: c.asked, Throttled: c.refused, First: c.first, Last: c.last,
				Times: c.spells, Seconds: c.out.Seconds(), Longest: c.longest.Seconds()})
		}
	}
	slices.SortFunc(out.Who, func(a, b clientReport) int {
		return cmp.Or(cmp.Compare(b.Throttled, a.Throttled), cmp.Compare(a.Client, b.Client))
	})
	if t.suggest {
		out.Suggestion = l.lowest(share)
	}
	return out
}

// unknown says what cannot be known, or was not read.
func (t *tally) unknown(r *findings) {
	say := func(format string, args ...any) { r.Unknown = append(r.Unknown, fmt.Sprintf(format, args...)) }
	t.withoutUsers(say)
	for _, f := range t.logs.Files {
		if f.Bad > 0 {
			say("%s: %d of %s could not be read:%s", f.Name, f.Bad, plural(int(f.Lines), "line"), indented(f.BadLines))
		}
		if f.BrokenOff != "" {
			say("%s ends in the middle (%s): what was read so far counts", f.Name, f.BrokenOff)
		}
		if f.OutOfOrder > 0 {
			say("%s: %s more than %v from their place by time: judged where they stood", f.Name, plural(int(f.OutOfOrder), "request"), replay.Window)
		}
	}
	if late := t.logs.Last.Sub(t.now); !t.now.IsZero() && late > time.Minute {
		say("the last request is of %s, which is yet to come: was a clock wrong?", moment(t.logs.Last))
	}
	if n := t.skipped[proxy.SkipRefused]; n > 0 {
		say("%s answered 401, 403 or 429 then: they count nothing, and whether their clients would have come again is not in a log", plural(int(n), "request"))
	}
	if n := t.skipped[proxy.SkipBroken]; n > 0 {
		say("%s of a path that is none of the API, or at no upstream of this configuration: they count nothing", plural(int(n), "request"))
	}
	if n := t.skipped[proxy.SkipReadOnly]; n > 0 {
		say("%s would write where read_only is set: they count nothing", plural(int(n), "request"))
	}
	if t.guessed > 0 {
		say("%s by digest, within ten minutes of another by the same client from the same repository: taken for a part of it, and not counted; the log does not say", plural(int(t.guessed), "pull"))
	}
	if slices.ContainsFunc(t.limits, func(l *limitTally) bool { return l.Count == proxy.Bytes && l.refused > 0 }) {
		say("how clients that are slowed down share a limit of bytes: the times are estimates, each body by itself")
	}
	if t.overflowed > 0 {
		say("%s of clients that shared a bucket: there are more than %d at once", plural(int(t.overflowed), "request"), ratelimit.DefaultKeys)
	}
	for _, l := range t.limits {
		if l.missed > 0 {
			say("limit %q: %s of clients beyond the first %d, who are neither named nor in a suggestion", l.Name, plural(int(l.missed), "request"), maxReplayClients)
		}
	}
	if t.missed > 0 {
		say("%s beyond the first %d different ones are counted, and not named", plural(int(t.missed), "denial"), maxReplayDenials)
	}
	if t.throttled > 0 || t.denied > 0 {
		say("what a client does after a refusal that never was: it may come again at once, or not at all")
	}
	say("what was used up before %s: every limit begins unused", moment(t.logs.First))
}

// withoutUsers is M11: logs that name nobody.
func (t *tally) withoutUsers(say func(string, ...any)) {
	var nobody []string
	for _, f := range t.logs.Files {
		switch {
		case f.Requests == 0:
		case f.Users == 0:
			nobody = append(nobody, f.Name)
		case f.Users < f.Requests:
			say("%s names the user of %d of %d requests: limits per user, and rules, are tried with those alone", f.Name, f.Users, f.Requests)
		}
	}
	if len(nobody) == 0 {
		return
	}
	all, tried := 0, 0
	for _, l := range t.limits {
		if l.Where == builtIn {
			continue
		}
		all++
		if !l.NeedsUser() {
			tried++
		}
	}
	name, verb, it := nobody[0], "names", "it"
	switch n := len(nobody); {
	case n == 2:
		name, verb, it = name+" and "+nobody[1], "name", "them"
	case n > 2:
		name, verb, it = fmt.Sprintf("%s and %d more", name, n-1), "name", "them"
	}
	say("%s %s no user (docker sends bearer tokens): limits per user cannot be tried with %s; %d of %d limits tried. Log of regward itself, or --user-from FIELD, is needed.",
		name, verb, it, tried, all)
	say("who would have been denied cannot be told without users either: rules were not tried with %s", it)
}

// builtIn is where a limit stands that the file does not have.
const builtIn = "built in"
