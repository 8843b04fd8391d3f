package proxy

import (
	"errors"
	"strings"
	"sync"
	"time"
	"unicode"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
)

// rejection is what a provider has against a login, for records only: the client
// hears the same whatever it is.
func rejection(err error) *auth.Rejection {
	wrong := (*auth.Rejection)(nil)
	if !errors.As(err, &wrong) {
		return &auth.Rejection{Reason: "nobody can log in here", Word: auth.UnknownUser}
	}
	if wrong.Word == "" {
		wrong = &auth.Rejection{Via: wrong.Via, Reason: wrong.Reason, Word: auth.WrongPassword}
	}
	return wrong
}

// hidden stands in records for a user name that may be a secret.
const hidden = "(hidden)"

// typed is a name for records that was typed, and is not proven to be anybody's.
// People type their password where the name belongs, and jobs paste their token
// there: what looks like one is not written down, unless a provider knows the
// name.
func typed(user string, known bool) string {
	if !known && (!nameLike(user) || tokenLike(user)) {
		return hidden
	}
	return user
}

// nameLike reports whether there are only letters in it that names are made of.
func nameLike(user string) bool {
	return !strings.ContainsFunc(user, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-@/+\\", r)
	})
}

// tokenLike reports what programs make: long, of all kinds of letters, and no
// address and no name with a domain.
func tokenLike(user string) bool {
	const long = 20
	return len(user) >= long && !strings.ContainsAny(user, "@\\") && strings.ContainsFunc(user, unicode.IsUpper) &&
		strings.ContainsFunc(user, unicode.IsLower) && strings.ContainsFunc(user, unicode.IsDigit)
}

// unsaid is when it was last said of each kind of provider that it cannot be
// asked.
type unsaid struct {
	mu sync.Mutex
	at map[string]time.Time
}

const unsaidPause = time.Minute

// warnUnsaid says, once a minute for each kind of provider, that one could not say
// whether a login is good. It is no failed login, and the audit has nothing of it.
func (h *Handler) warnUnsaid(e *auth.Unsaid) {
	now := h.Now()
	h.unsaid.mu.Lock()
	quiet := within(h.unsaid.at[e.Via], now, unsaidPause)
	if !quiet {
		if h.unsaid.at == nil {
			h.unsaid.at = map[string]time.Time{}
		}
		h.unsaid.at[e.Via] = now
	}
	h.unsaid.mu.Unlock()
	if !quiet {
		h.Log.Warn("logins cannot be checked: who was proven within cache.stale goes on where nothing answers, all others get 503",
			zap.String("provider", e.Via), zap.Error(e.Err))
	}
}
