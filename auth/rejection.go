package auth

import "errors"

// ErrUnavailable is in the errors of a provider that cannot be asked: its server
// is down, late or busy. What it said of a login not long ago may then be taken
// for what it would say (CacheTimes.Stale).
var ErrUnavailable = errors.New("cannot be asked")

// Rejection is an ErrRejected whose provider says why. The reason is for the
// audit and the log, never for the client: it would tell a guesser that the
// password was right.
type Rejection struct {
	Via    string // the provider, as Identity.Via has it
	Reason string // "the account is disabled"; no secret is in it
}

func (e *Rejection) Error() string { return e.Via + ": " + e.Reason }

func (e *Rejection) Unwrap() error { return ErrRejected }
