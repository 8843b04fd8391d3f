package auth

import (
	"errors"
	"strings"
)

// ErrUnavailable is in the errors of a provider that cannot be asked: its server
// is down, late or busy. What it said of a login not long ago may then be taken
// for what it would say (CacheTimes.Stale).
var ErrUnavailable = errors.New("cannot be asked")

// ErrHeld is in the errors of a provider that is there and not asked about one
// name for a while, lest the name be locked, or because it is.
var ErrHeld = errors.New("not asked about this name for now")

// Rejection is an ErrRejected whose provider says why. The reason is for the
// audit and the log, never for the client: it would tell a guesser that the
// password was right.
type Rejection struct {
	Via    string // the provider, as Identity.Via has it; "" where none knows the name
	Reason string // "the account is disabled"; no secret is in it
	Word   Word   // the kind of Reason
}

func (e *Rejection) Error() string {
	if e.Via == "" {
		return e.Reason
	}
	return e.Via + ": " + e.Reason
}

func (e *Rejection) Unwrap() error { return ErrRejected }

// Word is the kind of a Rejection, of few.
type Word string

// The words. "" is WrongPassword.
const (
	WrongPassword Word = "wrong_password"
	UnknownUser   Word = "unknown_user"   // no provider knows the name
	Barred        Word = "account_barred" // the password may be right: disabled, locked, expired
	TokenExpired  Word = "token_expired"
	WrongAudience Word = "wrong_audience" // a token for somebody else
	WrongToken    Word = "wrong_token"    // any other thing about a token
)

// unknown is a credential that every provider passes on. What comes with a robot's
// name and not with the look of its secret is one that was cut, or another's.
func unknown(c Credential) *Rejection {
	why := "no provider knows the name"
	if strings.HasPrefix(c.User, RobotPrefix) && !isRobotSecret(c.Secret()) {
		why += " with such a password: a robot's secret begins with " + secretPrefix + " and is whole"
	}
	return &Rejection{Reason: why, Word: UnknownUser}
}

// Unsaid is why a provider could not say whether a credential is good. It is no
// refusal.
type Unsaid struct {
	Via string // the provider, as Named has it
	Err error
}

func (e *Unsaid) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *Unsaid) Unwrap() error { return e.Err }
