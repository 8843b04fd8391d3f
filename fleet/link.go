package fleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// State tells whether this instance and the others know of each other's
// changes.
type State struct {
	Alone      bool      `json:"alone,omitempty"`    // there is no Redis, nobody to share with
	Since      time.Time `json:"since,omitzero"`     // not sharing since then; zero: sharing, or alone
	Error      string    `json:"error,omitempty"`    // why not, in words, without secrets
	Unsent     int       `json:"unsent,omitempty"`   // changes made here that nobody else knows of
	Cut        *Cut      `json:"last_cut,omitempty"` // the last time it was not sharing, if it is over
	Subscribed bool      `json:"subscribed"`         // changes come at once, else within Options.Every
	Nonsense   int       `json:"nonsense,omitempty"` // things in Redis that could not be read and were ignored
}

// Sharing reports whether changes reach the others.
func (s State) Sharing() bool { return s.Since.IsZero() }

// Cut is a time in which nothing was shared, and what came meanwhile.
type Cut struct {
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	Revocations int       `json:"revocations"`
	Overrides   int       `json:"overrides"`         // set, changed or gone
	Reloads     int       `json:"reloads"`           // 0 or 1: several are one
	Pending     bool      `json:"pending,omitempty"` // others may not have told yet what they could not
}

// Missed reports whether anything came.
func (c Cut) Missed() bool { return c.Revocations+c.Overrides+c.Reloads > 0 }

// String is `2 revocations and 1 change of overrides came while Redis was away
// (14:10 to 14:31 UTC)`.
func (c Cut) String() string {
	var parts []string
	count := func(n int, one, many string) {
		switch {
		case n == 1:
			parts = append(parts, "1 "+one)
		case n > 1:
			parts = append(parts, strconv.Itoa(n)+" "+many)
		}
	}
	count(c.Revocations, "revocation", "revocations")
	count(c.Overrides, "change of overrides", "changes of overrides")
	count(c.Reloads, "reload", "reloads")
	what := "nothing"
	if n := len(parts); n > 0 {
		what = strings.Join(parts[max(0, n-2):], " and ")
		if n > 2 {
			what = parts[0] + ", " + what
		}
	}
	const clock = "15:04"
	said := fmt.Sprintf("%s came while Redis was away (%s to %s UTC)", what, c.From.UTC().Format(clock), c.To.UTC().Format(clock))
	if c.Pending {
		said += ", so far"
	}
	return said
}

// and is c with what came since.
func (c Cut) and(more Cut) *Cut {
	c.Revocations += more.Revocations
	c.Overrides += more.Overrides
	c.Reloads = max(c.Reloads, more.Reloads)
	return &c
}

// link is how it stands with Redis.
type link struct {
	since      time.Time
	err        error
	cut        *Cut
	rest       time.Time // when a cut that is pending is not any more
	subscribed bool
	nonsense   int
	logged     time.Time // when nonsense was, last
}

// State tells how it stands now.
func (f *Fleet) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := State{
		Alone: f.o.Client == nil, Since: f.link.since, Error: words(f.link.err), Cut: f.link.cut,
		Subscribed: f.link.subscribed, Nonsense: f.link.nonsense,
	}
	for _, r := range f.revoked {
		if r.unsent {
			s.Unsent++
		}
	}
	for _, o := range f.overrides {
		if o.unsent {
			s.Unsent++
		}
	}
	if f.asked != nil {
		s.Unsent++
	}
	return s
}

// head says what has changed in Redis.
type head struct {
	gen    string // another one: Redis has lost what it knew
	seq    int64  // counts changes
	reload int64  // counts requests to reload
	asked  string // the last of them
}

func freshGeneration() string { return rand.Text() }

func readHead(answer []string) (h head, err error) {
	h.gen, h.asked = answer[0], answer[3]
	if h.seq, err = strconv.ParseInt(answer[1], 10, 64); err != nil {
		return h, errNonsense
	}
	if answer[2] != "" {
		if h.reload, err = strconv.ParseInt(answer[2], 10, 64); err != nil {
			return h, errNonsense
		}
	}
	return h, nil
}

// sequence notes a change of our own: the next one is to be read only if it is
// not this one.
func (h *head) sequence(text string) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n == h.seq+1 {
		h.seq = n
	}
}

// pass tells Redis what it does not know and reads what we do not. One at a
// time does.
func (f *Fleet) pass(ctx context.Context) error {
	if f.o.Client == nil {
		return nil
	}
	select {
	case f.talk <- struct{}{}:
		defer func() { <-f.talk }()
	case <-ctx.Done():
		return ctx.Err()
	}
	learned, err := f.exchange(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // whoever asked is gone: that says nothing about Redis
	}
	f.note(learned, err)
	return err
}

// exchange is a pass. learned is what others did.
//
// Revocations go first, both ways: nothing that is wrong with the rest may keep
// them.
func (f *Fleet) exchange(ctx context.Context) (learned Cut, err error) {
	now, err := f.beat(ctx)
	if err != nil {
		return learned, err
	}
	f.mu.Lock()
	known := f.head
	was := known
	first := known.gen == ""
	lost := !first && (now.gen != known.gen || now.seq < known.seq)
	all := first || lost || now.seq != known.seq || f.looks%fullEvery == 0
	f.looks++
	if lost {
		known = head{gen: now.gen}
	}
	f.head = head{gen: now.gen, seq: now.seq, reload: known.reload}
	f.mu.Unlock()
	defer func() {
		if err != nil { // not read to the end: once more
			f.mu.Lock()
			f.head.gen, f.head.seq = was.gen, was.seq
			f.mu.Unlock()
		}
		if learned.Missed() {
			_ = f.save() // logged
		}
	}()
	if lost {
		f.o.Log.Warn("redis has lost what was shared: putting back what is known here")
	}
	if err := f.sendRevocations(ctx, f.unsentRevocations(), true); err != nil {
		return learned, err
	}
	if all {
		if learned.Revocations, err = f.readRevocations(ctx); err != nil {
			return learned, err
		}
	}
	if err := f.sendOverrides(ctx, first || lost); err != nil {
		return learned, err
	}
	if all {
		if learned.Overrides, err = f.readOverrides(ctx); err != nil {
			return learned, err
		}
	}
	return learned, f.exchangeReload(ctx, first, known.reload, now, &learned)
}

// exchangeReload hears what others asked for and passes on what we were asked.
// Files were loaded at the start: what was asked for before is done, if we start
// now.
func (f *Fleet) exchangeReload(ctx context.Context, first bool, known int64, now head, learned *Cut) error {
	f.mu.Lock()
	starting := first && f.link.since.IsZero()
	f.head.reload = now.reload
	f.mu.Unlock()
	if !starting && f.hearReload(known, now) {
		learned.Reloads = 1
	}
	return f.sendReload(ctx)
}

// note keeps how a pass went, and says so when that changes. What came during a
// cut is told when the others had the time to find out that it is over: nobody
// else knows what they did.
func (f *Fleet) note(learned Cut, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, was := f.o.Now(), f.link.since
	f.link.err = err
	switch {
	case err != nil && was.IsZero():
		f.tellCut()
		f.link.since = now
		f.o.Log.Error("nothing is shared with other instances: revocations, overrides and reloads do not travel",
			zap.String("error", words(err)))
	case err == nil && !was.IsZero():
		learned.From, learned.To, learned.Pending = was, now, true
		wait := f.o.Every + f.o.Timeout // for their next look, however slow that is
		f.link.since, f.link.cut, f.link.rest = time.Time{}, &learned, now.Add(wait)
		f.o.Log.Warn("shared with other instances again: what they changed meanwhile comes with their next sign of life",
			zap.Time("since", now), zap.Duration("within", wait))
	case err == nil && f.link.cut != nil && f.link.cut.Pending:
		f.link.cut = f.link.cut.and(learned)
		if !now.Before(f.link.rest) {
			f.tellCut()
		}
	}
}

// tellCut says what came during a cut, once. The caller holds mu.
func (f *Fleet) tellCut() {
	if f.link.cut == nil || !f.link.cut.Pending {
		return
	}
	c := *f.link.cut
	c.Pending = false
	f.link.cut = &c
	f.o.Log.Warn("back since "+c.To.UTC().Format("15:04:05")+" UTC: "+c.String(),
		zap.Int("revocations", c.Revocations), zap.Int("overrides", c.Overrides), zap.Int("reloads", c.Reloads))
}

// nonsense counts what cannot be read, and logs some of it.
func (f *Fleet) nonsense(n int, what string) {
	if n == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.link.nonsense += n
	if now := f.o.Now(); now.Sub(f.link.logged).Abs() >= logEvery {
		f.link.logged = now
		f.o.Log.Warn("ignored in redis: "+what, zap.Int("ignored", f.link.nonsense))
	}
}

// words is an error for people: short, one line.
func words(err error) string {
	if err == nil {
		return ""
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return "redis does not answer in time"
	}
	if said, ok := strings.CutPrefix(err.Error(), "redis: can't parse"); ok { // the client has no type for it
		return text("redis answers, but not as Redis does: cannot parse" + said)
	}
	return text(err.Error())
}
