package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
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

// override is one that we know of, or one that was cleared and not told yet.
type override struct {
	Override
	cleared bool
	unsent  bool
	late    bool // it could not be told at once: one that another instance made since counts

	full *atomic.Bool // there was no room for it; whoever made it looks
}

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
	return f.change(ctx, override{Override: o})
}

// ClearOverride ends the override of one limit, or, with "", the one of all.
// Errors are as those of Override.
func (f *Fleet) ClearOverride(ctx context.Context, limit string) error {
	now := f.o.Now()
	return f.change(ctx, override{
		Override: Override{Limit: limit, At: now, Until: now.Add(MaxOverrideFor)},
		cleared:  true,
	})
}

// Overrides are those in force now, by the names of the limits.
func (f *Fleet) Overrides() []Override {
	f.mu.Lock()
	defer f.mu.Unlock()
	now, list := f.o.Now(), []Override{}
	for _, limit := range slices.Sorted(maps.Keys(f.overrides)) {
		if o := f.overrides[limit]; !o.cleared && now.Before(o.Until) {
			list = append(list, o.Override)
		}
	}
	return list
}

func (f *Fleet) change(ctx context.Context, o override) error {
	o.unsent, o.full = f.o.Client != nil, new(atomic.Bool)
	f.mu.Lock()
	if _, ok := f.overrides[o.Limit]; !ok && len(f.overrides) >= MaxOverrides {
		f.mu.Unlock()
		return fmt.Errorf("override of limit %q: %w: %d", o.Limit, ErrTooMany, MaxOverrides)
	}
	f.overrides[o.Limit] = o
	if o.cleared && !o.unsent {
		delete(f.overrides, o.Limit)
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
// all that are in force besides, where there is none: Redis has lost them.
func (f *Fleet) sendOverrides(ctx context.Context, back bool) error {
	f.mu.Lock()
	all := maps.Clone(f.overrides)
	f.mu.Unlock()
	for limit, o := range all {
		left := o.Until.Sub(f.o.Now())
		if !o.unsent && !back || left <= 0 {
			continue
		}
		value := ""
		if !o.cleared {
			raw, err := json.Marshal(o.Override)
			if err != nil {
				return err
			}
			value = string(raw)
		}
		answer, err := f.call(ctx, overrideScript, f.keys.limits(), f.keys.channel, MaxOverrides, limit,
			o.At.UnixMilli(), left.Milliseconds()+1, flag(o.late), flag(!o.unsent), value)
		if err != nil {
			return err
		}
		if len(answer) != 2 {
			return errNonsense
		}
		f.tookOverride(o, answer[1])
		f.mu.Lock()
		f.head.sequence(answer[0])
		f.mu.Unlock()
	}
	return nil
}

// tookOverride notes what became of one. What was refused is forgotten: what
// holds instead is read next.
func (f *Fleet) tookOverride(sent override, answer string) {
	if answer == tooMany && sent.full != nil {
		sent.full.Store(true)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.overrides[sent.Limit]
	if !ok || o.full != sent.full {
		return // there is one more to be sent
	}
	o.unsent, o.late = false, false
	f.overrides[sent.Limit] = o
	if o.cleared || answer != tookIt {
		delete(f.overrides, sent.Limit)
	}
}

// readOverrides takes over what is shared: it replaces what we know, but what
// the others have not been told. It counts what is new or gone.
func (f *Fleet) readOverrides(ctx context.Context) (changes int, err error) {
	answer, err := f.call(ctx, overridesScript, f.keys.limits(), 2*MaxOverrides, maxValue)
	if err != nil {
		return 0, err
	}
	if len(answer)%3 != 0 {
		return 0, errNonsense
	}
	now, unread := f.o.Now(), 0
	f.mu.Lock()
	next := map[string]override{}
	for ; len(answer) > 0; answer = answer[3:] {
		o, ok := readOverride(answer[0], answer[1], answer[2], now)
		if !ok {
			unread++
		} else if len(next) < MaxOverrides {
			if had := f.overrides[o.Limit]; had.same(o) {
				o.Until = had.Until // not moved by what a call takes
			}
			next[o.Limit] = o
		}
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
		switch o, ok := next[limit]; {
		case had.unsent:
			next[limit] = had
		case !ok && now.Before(had.Until), ok && !o.same(had):
			changes++
		}
	}
	for limit := range next {
		if _, ok := old[limit]; !ok {
			changes++
		}
	}
	return changes
}

// same reports whether both are one and the same override.
func (o override) same(p override) bool {
	between := o.Until.Sub(p.Until).Abs()
	return o.Limit == p.Limit && o.Rate == p.Rate && o.DryRun == p.DryRun && o.By == p.By &&
		o.At.Equal(p.At) && o.cleared == p.cleared && between < 2*time.Second
}

// readOverride reads one as it is kept. What has no effect that we know is
// nonsense, or of a version that knows more.
func readOverride(limit, left, value string, now time.Time) (override, bool) {
	var o Override
	ends, err := milliseconds(left, 2*MaxOverrideFor)
	if err != nil || json.Unmarshal([]byte(value), &o) != nil {
		return override{}, false
	}
	if o.Limit != limit || !plain(o.Limit) || !plain(o.Rate) || !plain(o.By) || o.Rate == "" && !o.DryRun || o.At.IsZero() {
		return override{}, false
	}
	o.Until = now.Add(ends)
	return override{Override: o}, true
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
