package auth

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
)

// Outcome is what came of asking a provider about a login.
type Outcome uint8

// The outcomes.
const (
	SaidRight Outcome = iota
	SaidWrong
	SaidNotMine
	CouldNotSay // it was asked in vain
	HeldBack    // it was not asked: see ErrHeld
)

// String is "right", "wrong", "not_mine", "cannot_say" or "held_back".
func (o Outcome) String() string {
	return [...]string{"right", "wrong", "not_mine", "cannot_say", "held_back"}[o]
}

// OutcomeOf reads what Authenticate returned.
func OutcomeOf(err error) Outcome {
	switch robot := (*RobotError)(nil); {
	case err == nil:
		return SaidRight
	case errors.Is(err, ErrNotMine):
		return SaidNotMine
	case errors.Is(err, ErrRejected), errors.Is(err, ErrMalformed), errors.As(err, &robot):
		return SaidWrong
	case errors.Is(err, ErrHeld):
		return HeldBack
	}
	return CouldNotSay
}

// Checked counts questions of one provider that came out alike.
type Checked struct {
	Provider string
	Outcome  Outcome
	N        uint64
}

// checks count what providers said, and tell when one could not say.
type checks struct {
	mu     sync.Mutex
	by     map[string]*[HeldBack + 1]uint64 // as many as there are kinds of providers
	unsaid func(*Unsaid)
}

// note counts, and is err in the words of this package: a *Rejection that names
// the provider, an *Unsaid, or what it was.
func (k *checks) note(via string, err error) error {
	outcome := OutcomeOf(err)
	k.mu.Lock()
	if k.by == nil {
		k.by = map[string]*[HeldBack + 1]uint64{}
	}
	if k.by[via] == nil {
		k.by[via] = new([HeldBack + 1]uint64)
	}
	k.by[via][outcome]++
	unsaid := k.unsaid
	k.mu.Unlock()
	switch outcome {
	case SaidWrong:
		robot, wrong := (*RobotError)(nil), (*Rejection)(nil)
		if errors.As(err, &robot) || errors.As(err, &wrong) {
			return err
		}
		return &Rejection{via, "wrong password", WrongPassword} // not its words: a name may be in them, and be a password
	case CouldNotSay:
		err := &Unsaid{via, err}
		if unsaid != nil && !errors.Is(err, context.Canceled) {
			unsaid(err)
		}
		return err
	}
	return err
}

// Checks are what providers said that were asked, by provider and outcome.
func (k *Cache) Checks() (all []Checked) {
	k.checks.mu.Lock()
	defer k.checks.mu.Unlock()
	for via, counts := range k.checks.by {
		for o, n := range counts {
			all = append(all, Checked{via, Outcome(o), n})
		}
	}
	slices.SortFunc(all, func(a, b Checked) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Outcome, b.Outcome))
	})
	return all
}

// OnUnsaid has f told each time a provider could not say whether a login is good,
// those included that go on by what it said last. f must not block.
func (k *Cache) OnUnsaid(f func(*Unsaid)) {
	k.checks.mu.Lock()
	defer k.checks.mu.Unlock()
	k.checks.unsaid = f
}
