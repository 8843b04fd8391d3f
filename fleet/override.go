package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Override changes a limit for a while.
type Override struct {
	Limit  string    `json:"limit"` // its name; "" is all
	Rate   string    `json:"rate,omitempty"`
	DryRun bool      `json:"dry_run,omitempty"`
	Until  time.Time `json:"until"` // by our clock
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at"` // by the clock of who made it
}

// ErrTooMany is one override more than MaxOverrides.
var ErrTooMany = errors.New("too many limits are overridden")

// override is one that we know of, or the end of one. Ends are remembered: an
// instance that was cut off meanwhile, or a replica of Redis, may still know what
// is over, and must not bring it back.
type override struct {
	Override
	order  int64     // of two for one limit the larger counts: when it was made, and after what it replaced; Unix milliseconds
	ended  bool      // it is none any more
	keep   time.Time // remembered until then: when all that it replaced would have ended by themselves
	unsent bool
	late   bool // it could not be told at once: one that another instance made since counts

	full *atomic.Bool // there was no room for it; whoever made it looks
}

// holds reports whether it is in force.
func (o override) holds(now time.Time) bool { return !o.ended && now.Before(o.Until) }

// Override sets an override, in place of one of the same limit: here at once,
// whatever Redis says, and on every other instance. It ends by itself, by Redis'
// clock. Errors: ErrTooMany; ErrNotShared says that others do not know yet.
func (f *Fleet) Override(ctx context.Context, o Override) error {
	now := f.o.Now()
	if o.At.IsZero() {
		o.At = now
	}
	o.By = text(o.By)
	switch {
	case !plain(o.Limit) || !plain(o.Rate):
		return fmt.Errorf("override of limit %.32q: its name or rate is no plain text of at most %d bytes", o.Limit, MaxText)
	case o.Rate == "" && !o.DryRun:
		return fmt.Errorf("override of limit %q: it changes neither rate nor dry_run", o.Limit)
	case !now.Before(o.Until):
		return fmt.Errorf("override of limit %q: it would be over at once", o.Limit)
	case o.Until.Sub(now) > MaxOverrideFor:
		return fmt.Errorf("override of limit %q: longer than %v: change the configuration", o.Limit, MaxOverrideFor)
	}
	return f.change(ctx, override{Override: o, order: o.At.UnixMilli(), keep: o.Until})
}

// ClearOverride ends the override of one limit, or, with "", the one of all.
// Errors are as those of Override.
func (f *Fleet) ClearOverride(ctx context.Context, limit string) error {
	now := f.o.Now()
	return f.change(ctx, override{Override: Override{Limit: limit, At: now}, order: now.UnixMilli(), ended: true})
}

// Overrides are those in force now, by the names of the limits.
func (f *Fleet) Overrides() []Override {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, list := f.o.Now(), []Override{}
	for _, limit := range slices.Sorted(maps.Keys(f.overrides)) {
		if o := f.overrides[limit]; o.holds(now) {
			list = append(list, o.Override)
		}
	}
	return list
}

func (f *Fleet) change(ctx context.Context, o override) error {
	o.unsent, o.full = f.o.Client != nil, new(atomic.Bool)
	f.mu.Lock()
	if !f.room(o) {
		f.mu.Unlock()
		return fmt.Errorf("override of limit %q: %w: %d", o.Limit, ErrTooMany, MaxOverrides)
	}
	if had, ok := f.overrides[o.Limit]; ok {
		o.order = max(o.order, had.order+1)
		if had.keep.After(o.keep) {
			o.keep = had.keep
		}
	}
	f.overrides[o.Limit] = o
	if f.o.Client == nil && o.ended {
		delete(f.overrides, o.Limit) // nobody else knows of it
	}
	f.mu.Unlock()
	f.tellOverrides()
	kept := f.save()
	err := f.pass(ctx)
	f.mu.Lock()
	now := f.overrides[o.Limit]
	untold := now.full == o.full && now.unsent
	if untold {
		now.late = true
		f.overrides[o.Limit] = now
	}
	f.mu.Unlock()
	switch {
	case untold:
		return fmt.Errorf("override of limit %q: %w: %s", o.Limit, ErrNotShared, words(err))
	case o.full.Load():
		return fmt.Errorf("override of limit %q: %w: %d", o.Limit, ErrTooMany, MaxOverrides)
	case kept != nil:
		return fmt.Errorf("override of limit %q: a restart would forget it: %w", o.Limit, kept)
	}
	return nil
}

// room reports whether o may be one more of those in force, or of the ends, and
// makes it if it can: the end that is over first goes. f.mu is held.
func (f *Fleet) room(o override) bool {
	now, many := f.o.Now(), 0
	var first *override
	for limit, p := range f.overrides {
		if limit == o.Limit || p.holds(now) == o.ended {
			continue
		}
		many++
		if !p.unsent && (first == nil || p.keep.Before(first.keep)) {
			first = &p
		}
	}
	if many < MaxOverrides {
		return true
	}
	if !o.ended || first == nil {
		return false
	}
	delete(f.overrides, first.Limit)
	return true
}

func (f *Fleet) tellOverrides() {
	if f.o.OnOverrides == nil {
		return
	}
	f.telling.Lock()
	defer f.telling.Unlock()
	f.o.OnOverrides(f.Overrides())
}

// What Redis says to one that is sent.
const (
	tookIt  = "1"
	tooMany = "full" // and "newer": another one counts
)

// sendOverrides tells the others of what they have not been told. back sends
// all that we know of besides: Redis has lost them, or we were away. What is
// there and was made later counts.
func (f *Fleet) sendOverrides(ctx context.Context, back bool) error {
	f.mu.Lock()
	all := maps.Clone(f.overrides)
	f.mu.Unlock()
	for limit, o := range all {
		if !o.unsent && !back {
			continue
		}
		now, value := f.o.Now(), ""
		if o.holds(now) {
			raw, err := json.Marshal(o.Override)
			if err != nil {
				return err
			}
			value = string(raw)
		}
		answer, err := f.call(ctx, overrideScript, f.keys.limits(), f.keys.channel, MaxOverrides, limit,
			o.order, left(o.Until, now), left(o.keep, now), flag(o.late || !o.unsent), value)
		if err != nil {
			return err
		}
		if len(answer) != 4 {
			return errNonsense
		}
		if err := f.tookOverride(o, answer[1:]); err != nil {
			return err
		}
		f.mu.Lock()
		f.head.sequence(answer[0])
		f.mu.Unlock()
	}
	return nil
}

// left is how long it is until then, in whole milliseconds, rounded up; 0 if it
// is over.
func left(until, now time.Time) int64 {
	if !now.Before(until) {
		return 0
	}
	return until.Sub(now).Milliseconds() + 1
}

// tookOverride notes what became of one: the answer, its order, and how long it
// is remembered. Where a newer one counts, that is read next.
func (f *Fleet) tookOverride(sent override, answer []string) error {
	order, err := strconv.ParseInt(answer[1], 10, 64)
	if err != nil || order > maxEpoch {
		return errNonsense
	}
	keep, err := milliseconds(answer[2], 2*MaxOverrideFor)
	if err != nil && answer[2] != "0" {
		return errNonsense
	}
	if answer[0] == tooMany && sent.full != nil {
		sent.full.Store(true)
	}
	f.mu.Lock()
	o, ok := f.overrides[sent.Limit]
	if !ok || o.full != sent.full {
		f.mu.Unlock()
		return nil // there is one more to be sent
	}
	o.unsent, o.late = false, false
	if answer[0] == tookIt {
		o.order = order
	}
	if until := f.o.Now().Add(keep); until.After(o.keep) && !o.keep.Add(skew).After(until) {
		o.keep = until
	}
	f.overrides[sent.Limit] = o
	refused := answer[0] == tooMany
	if refused || keep == 0 {
		delete(f.overrides, sent.Limit)
	}
	f.mu.Unlock()
	if refused {
		f.tellOverrides() // it held until now
	}
	return nil
}

// readOverrides takes over what is shared: it replaces what we know, but what
// the others have not been told. It counts what is new or gone.
func (f *Fleet) readOverrides(ctx context.Context) (changes int, err error) {
	answer, err := f.call(ctx, overridesScript, f.keys.limits(), 2*MaxOverrides, maxValue)
	if err != nil {
		return 0, err
	}
	if len(answer)%5 != 0 {
		return 0, errNonsense
	}
	now, unread := f.o.Now(), 0
	f.mu.Lock()
	next := map[string]override{}
	for ; len(answer) > 0; answer = answer[5:] {
		o, ok := readOverride(answer[:5], now)
		if !ok {
			unread++
			continue
		}
		if had := f.overrides[o.Limit]; had.same(o) {
			o.Until, o.keep = had.Until, had.keep // not moved by what a call takes
		}
		next[o.Limit] = o
	}
	changes = replaces(f.overrides, next, now)
	f.overrides = next
	f.mu.Unlock()
	f.nonsense(unread, "overrides that cannot be read")
	if changes > 0 {
		f.tellOverrides()
	}
	return changes, nil
}

// replaces counts what next changes in old, and keeps in next what is unsent.
func replaces(old, next map[string]override, now time.Time) (changes int) {
	for limit, had := range old {
		if had.unsent {
			next[limit] = had
		} else if had.holds(now) && !had.same(next[limit]) {
			changes++
		}
	}
	for limit, o := range next {
		if o.holds(now) && !old[limit].holds(now) {
			changes++
		}
	}
	return changes
}

// skew is by how much an end moves that is reckoned twice: a call takes a while.
const skew = 2 * time.Second

// same reports whether both are one and the same override, or end.
func (o override) same(p override) bool {
	return o.Limit == p.Limit && o.Rate == p.Rate && o.DryRun == p.DryRun && o.By == p.By && o.At.Equal(p.At) &&
		o.order == p.order && o.ended == p.ended && o.Until.Sub(p.Until).Abs() < skew && o.keep.Sub(p.keep).Abs() < skew
}

// readOverride reads one as it is kept: limit, what is left of it, how long it is
// remembered, order and text. What has no effect that we know is nonsense, or of
// a version that knows more.
func readOverride(kept []string, now time.Time) (override, bool) {
	limit, value := kept[0], kept[4]
	o := override{Override: Override{Limit: limit}}
	keep, err := milliseconds(kept[2], 2*MaxOverrideFor)
	order, orderErr := strconv.ParseInt(kept[3], 10, 64)
	if err != nil || orderErr != nil || order > maxEpoch || !plain(limit) {
		return override{}, false
	}
	o.order, o.keep = order, now.Add(keep)
	if kept[1] == "0" {
		o.ended = true
		return o, true
	}
	ends, err := milliseconds(kept[1], 2*MaxOverrideFor)
	if err != nil || json.Unmarshal([]byte(value), &o.Override) != nil {
		return override{}, false
	}
	if o.Limit != limit || !plain(o.Rate) || !plain(o.By) || o.Rate == "" && !o.DryRun || o.At.IsZero() {
		return override{}, false
	}
	o.Until = now.Add(ends)
	return o, true
}

// plain reports whether s is a short text without control characters.
func plain(s string) bool { return s == text(s) }

// text makes s a short text without control characters.
func text(s string) string {
	if most := 2 * MaxText; len(s) > most { // a stranger's; some of it may go
		s = s[:most]
	}
	s = strings.Map(func(r rune) rune {
		if r < ' ' || 0x7f <= r && r < 0xa0 || r == '\uFFFD' {
			return -1
		}
		return r
	}, s)
	if len(s) > MaxText {
		s = strings.ToValidUTF8(s[:MaxText], "")
	}
	return s
}
