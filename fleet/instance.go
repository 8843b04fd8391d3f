package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
)

// Instance is what an instance says of itself. Options.Self fills in what it
// knows; what it says ID to Seen are, the Fleet fills in.
type Instance struct {
	Host     string            `json:"host"`
	Version  string            `json:"version,omitempty"` // of regward
	Config   string            `json:"config,omitempty"`  // version of its configuration
	Loaded   time.Time         `json:"loaded,omitzero"`   // when that was loaded
	Started  time.Time         `json:"started,omitzero"`
	Address  string            `json:"address,omitempty"`
	Draining bool              `json:"draining,omitempty"`
	Notes    map[string]string `json:"notes,omitempty"` // whatever else it wants to say, at most MaxNotes
	Top      json.RawMessage   `json:"top,omitempty"`   // who does most there; left out where there is no room for it

	ID        string        `json:"id"`
	NotShared time.Time     `json:"not_shared_since,omitzero"` // zero: it shares
	Missed    string        `json:"missed,omitempty"`          // what came while it could not share, the last time
	Clock     time.Duration `json:"clock,omitempty"`           // ahead of Redis' by so much, in nanoseconds
	Seen      time.Duration `json:"seen"`                      // since it was heard of, in nanoseconds
	Self      bool          `json:"self,omitempty"`            // this one
}

// lives is for how long an instance is known that is heard of no more: long
// enough that Seen tells of one that died.
func (f *Fleet) lives() time.Duration { return 12*f.o.Every + f.o.Timeout }

// self is what this instance says now, short enough to be kept.
func (f *Fleet) self() Instance {
	i := f.o.Self()
	s := f.State()
	i.ID, i.Self = f.o.ID, true
	i.NotShared = s.Since
	if s.Cut != nil {
		i.Missed = s.Cut.String()
	}
	f.mu.Lock()
	i.Clock = f.clock
	f.mu.Unlock()
	i.Seen = 0
	return i.short()
}

// short cuts what is too long, and leaves out notes of which there are too many.
func (i Instance) short() Instance {
	for _, s := range []*string{&i.Host, &i.Version, &i.Config, &i.Address, &i.ID, &i.Missed} {
		*s = text(*s)
	}
	if len(i.Notes) == 0 {
		i.Notes = nil
		return i
	}
	notes := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(i.Notes))[:min(MaxNotes, len(i.Notes))] {
		notes[text(name)] = text(i.Notes[name])
	}
	i.Notes = notes
	return i
}

// Instances are those that were heard of lately, this one among them, by host.
// Where Redis cannot be asked it is this one alone, and the error.
func (f *Fleet) Instances(ctx context.Context) ([]Instance, error) {
	list := []Instance{f.self()}
	if f.o.Client == nil {
		return list, nil
	}
	answer, err := f.call(ctx, instancesScript, f.keys.instances(), MaxInstances, maxValue)
	if err == nil && len(answer)%3 != 0 {
		err = errNonsense
	}
	if err != nil {
		return list, err
	}
	for ; len(answer) > 0; answer = answer[3:] {
		i, ok := f.readInstance(answer[0], answer[1], answer[2])
		if !ok {
			f.nonsense(1, "an instance that cannot be read")
		} else if i.ID != f.o.ID {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b Instance) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// readInstance reads one as it is kept, with what is left of its time.
func (f *Fleet) readInstance(id, value, left string) (Instance, bool) {
	var i Instance
	if json.Unmarshal([]byte(value), &i) != nil || i.ID != id {
		return i, false
	}
	ms, err := strconv.ParseInt(left, 10, 64)
	if err != nil {
		return i, false
	}
	i.Self = false
	i.Seen = max(0, f.lives()-time.Duration(min(ms, f.lives().Milliseconds()))*time.Millisecond)
	return i.short(), true
}

// beat says that this instance is there, and answers what has changed.
func (f *Fleet) beat(ctx context.Context) (head, error) {
	self := f.self()
	raw, err := json.Marshal(self)
	if len(raw) > maxValue { // nobody would read it
		self.Top = nil
		raw, err = json.Marshal(self)
	}
	if err != nil {
		return head{}, err
	}
	before := f.o.Now()
	answer, err := f.call(ctx, beatScript, f.keys.instances(),
		f.o.ID, string(raw), f.lives().Milliseconds(), MaxInstances, freshGeneration())
	if err != nil {
		return head{}, err
	}
	if len(answer) != 6 {
		return head{}, errNonsense
	}
	if answer[1] == "0" {
		f.nonsense(1, "too many instances: this one is not listed")
	}
	if ms, err := strconv.ParseInt(answer[0], 10, 64); err == nil {
		took := f.o.Now().Sub(before)
		f.mu.Lock()
		f.clock = before.Add(took / 2).Sub(time.UnixMilli(ms)).Round(time.Millisecond)
		f.mu.Unlock()
	}
	return readHead(answer[2:])
}
