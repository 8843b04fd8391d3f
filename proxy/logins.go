package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
)

// How often an upstream is asked about logins, and what is remembered of it.
const (
	wrongWindow    = 15 * time.Minute // a password it turned down is not asked again for so long
	maxWrong       = 2                // such passwords for one name in that time: Nexus 3.96 locks a name after more than three
	nameLocked     = 15 * time.Minute // a name it has locked is left alone: with Nexus each request prolongs that
	nameSuspended  = time.Minute      // the same for a name it suspends, as Artifactory does
	loginPause     = 5 * time.Second  // before a question that found no answer is asked again
	maxAskedLogins = 1 << 14          // logins not to be asked about again
	maxAskedNames  = 1 << 14          // names with wrong passwords, or locked
)

const viaUpstream = "upstream"

// upstreamLogins is the Authenticator and Prover that asks an upstream whether
// a login is good. It belongs to a snapshot; what the upstream said belongs to
// the Upstream and outlives reloads.
type upstreamLogins struct {
	*loginMemory
	accounts      []string
	caseSensitive bool
	proof         [16]byte
}

// logins asks u about people's logins, never about accounts: the user names of
// regward's own logins, at whatever upstream. Whoever guesses at those shall
// not have them locked. key keys the proofs that tokens carry and must be the
// same over restarts and on all instances.
func (u *Upstream) logins(accounts []string, caseSensitive bool, key [32]byte) *upstreamLogins {
	l := &upstreamLogins{loginMemory: u.asked, accounts: slices.Clone(accounts), caseSensitive: caseSensitive}
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(viaUpstream + "\n" + u.scheme + "://" + strings.ToLower(u.host) + u.prefix))
	l.proof = [16]byte(mac.Sum(nil))
	return l
}

// Authenticate asks the upstream, unless the answer is known or must not be
// asked for. What the upstream will not or cannot say is a *cannotSay; a name
// with too many wrong passwords a 429, unless c.Known.
func (l *upstreamLogins) Authenticate(ctx context.Context, c auth.Credential) (auth.Identity, error) {
	if c.Kind != auth.Basic {
		return auth.Identity{}, auth.ErrNotMine
	}
	if l.never(c) {
		return auth.Identity{}, fmt.Errorf("upstream %s: not asked about user %q: %w", l.u.settings.Name, short(c.User), auth.ErrRejected)
	}
	ctx, cancel := context.WithTimeout(ctx, authTimeout)
	defer cancel()
	if err := l.good(ctx, c); err != nil {
		return auth.Identity{}, err
	}
	name := c.User
	if !l.caseSensitive {
		name = strings.ToLower(name)
	}
	return auth.Identity{Name: name, Via: viaUpstream, Proof: l.proof}, nil
}

// Named is what metrics call it.
func (l *upstreamLogins) Named() string { return viaUpstream }

// Remote: it waits, and computes nothing.
func (l *upstreamLogins) Remote() bool { return true }

// Proof is the upstream's, or nothing for a login that is never good: a name
// that becomes an account of regward's own is proven no longer.
func (l *upstreamLogins) Proof(c auth.Credential) []byte {
	if l.never(c) {
		return nil
	}
	return l.proof[:]
}

// Current reports whether the upstream that proved id is still the one to ask.
// It does not allocate.
func (l *upstreamLogins) Current(id *auth.Identity) bool {
	return id.Via == viaUpstream && subtle.ConstantTimeCompare(l.proof[:], id.Proof[:]) == 1 && !l.own(id.Name)
}

// never reports what no upstream is asked about: regward's own accounts, what
// no user can be named (T24), the name rules have for nobody in particular, and
// names that an upstream may take for others than rules do: with spaces around,
// or disguised.
func (l *upstreamLogins) never(c auth.Credential) bool {
	return c.User == "" || c.Secret() == "" || strings.Contains(c.User, ":") || c.User == "<token>" ||
		strings.TrimSpace(c.User) != c.User || auth.Disguised(c.User) || strings.EqualFold(c.User, "anonymous") || l.own(c.User)
}

// own compares as loosely as upstreams do.
func (l *upstreamLogins) own(name string) bool {
	for _, one := range l.accounts {
		if strings.EqualFold(strings.TrimSpace(one), name) {
			return true
		}
	}
	return false
}

// cannotSay is a login that could not be checked. msg is for the client, as
// that of an httpError is; the answer is 503.
type cannotSay struct {
	msg   string
	wait  time.Duration // before another try makes sense
	cause error         // for the log
	kind  error         // auth.ErrUnavailable if nobody could be asked, auth.ErrHeld if the name is left alone; else nil
}

func (e *cannotSay) Error() string {
	if e.cause != nil {
		return e.msg + ": " + e.cause.Error()
	}
	return e.msg
}

// Unwrap has auth.ErrUnavailable in it only where nothing answered: what the
// upstream said last then stands for a while, and no longer where it is there
// and says something else.
func (e *cannotSay) Unwrap() []error { return []error{e.cause, e.kind} }

// refusal is what a client hears.
func (e *cannotSay) refusal() *httpError {
	return refuse(http.StatusServiceUnavailable, "UNAVAILABLE", e.msg).with("Retry-After", retryAfter(e.wait)).from(e).because(reasonUpstream)
}

// good is nil if the upstream takes the login. Questions about one name go one
// after the other, so that the second wrong password is known before a third.
func (m *loginMemory) good(ctx context.Context, c auth.Credential) error {
	name, login := m.key(foldName(c.User), ""), m.key(c.User, c.Secret())
	done, err := m.turns.wait(ctx, name)
	if err != nil {
		return unreachable(err)
	}
	defer done()
	if err := m.known(c, name, login); err != nil {
		return err
	}
	if err := m.turnedDownElsewhere(ctx, c, login); err != nil {
		return err
	}
	t, err := m.turnsDown(ctx, madeUpTTL)
	if err != nil {
		return err
	}
	try, err := m.claim(ctx, c)
	if err != nil {
		return err
	}
	status, err := m.ask(ctx, t, c)
	if err == nil {
		err = m.judge(ctx, c, name, status)
	}
	m.tell(ctx, c, try, err)
	switch {
	case err == nil:
		m.answers.Remove(login)
	case errors.Is(err, auth.ErrRejected):
		m.turned(name, login, err)
	default:
		m.answers.Add(login, loginAnswer{m.u.Now(), loginPause, err})
	}
	return err
}

// known is why the login is not asked about now; nil: it is.
func (m *loginMemory) known(c auth.Credential, name, login loginKey) error {
	now := m.u.Now()
	if a, ok := m.answers.Get(login); ok && within(a.at, now, a.span) {
		return a.err
	}
	past, ok := m.names.Get(name)
	switch {
	case !ok:
	case within(past.locked, now, past.span):
		return m.lockedName(c, past)
	case !c.Known && within(past.wrong[0], now, wrongWindow):
		// Whoever was in before from there is let through: strangers' guesses are
		// no reason to keep them out.
		return tooManyGuesses(c, past.wrong[0].Add(wrongWindow).Sub(now))
	}
	return nil
}

// barred is why a login that was good is not to be sent to the upstream at all:
// it was turned down since, or its name is locked.
func (m *loginMemory) barred(c auth.Credential) error {
	if c.Kind != auth.Basic {
		return nil
	}
	now := m.u.Now()
	if a, ok := m.answers.Get(m.key(c.User, c.Secret())); ok && within(a.at, now, a.span) && errors.Is(a.err, auth.ErrRejected) {
		return a.err
	}
	if past, ok := m.names.Get(m.key(foldName(c.User), "")); ok && within(past.locked, now, past.span) {
		return m.lockedName(c, past)
	}
	return nil
}

// doubted is told that the upstream answered 401 to a login that was good. It
// may be for want of a right: so it is asked, unless it is Nexus, which has
// another word for that and counts.
func (m *loginMemory) doubted(ctx context.Context, c auth.Credential, header http.Header) {
	if !isNexus(way{}, header) {
		_ = m.good(ctx, c) // it keeps the answer
		return
	}
	wrong := m.wrong(c)
	m.turned(m.key(foldName(c.User), ""), m.key(c.User, c.Secret()), wrong)
	c.Known = true // the question is asked already: none is to be refused
	if try, err := m.claim(ctx, c); err == nil {
		m.tell(ctx, c, try, wrong)
	}
}

func (m *loginMemory) wrong(c auth.Credential) error {
	return fmt.Errorf("upstream %s: user %q: %w", m.u.settings.Name, short(c.User), auth.ErrRejected)
}

// turned keeps that a login was turned down.
func (m *loginMemory) turned(name, login loginKey, err error) {
	now := m.u.Now()
	m.answers.Add(login, loginAnswer{now, wrongWindow, err})
	past, _ := m.names.Get(name)
	past.wrong = [maxWrong]time.Time{past.wrong[1], now}
	m.names.Add(name, past)
}

// ask puts the question as the upstream's challenge wants it. If that has
// changed, a 401 says nothing: then it is asked again, once, the new way.
func (m *loginMemory) ask(ctx context.Context, t turnedDown, c auth.Credential) (status int, err error) {
	status, header, err := m.question(ctx, t.way, c.User, c.Secret())
	if err == nil && status == http.StatusUnauthorized && t.way.realm == nil && m.u.login.read(header).realm != nil {
		if t, err = m.turnsDown(ctx, madeUpRecent); err != nil {
			return 0, err
		}
		if t.way.realm != nil {
			status, header, err = m.question(ctx, t.way, c.User, c.Secret())
		}
	}
	if err == nil && status == http.StatusOK && t.way.realm == nil && isPage(header) {
		// It calls itself a registry and answers with a page: would it to anybody?
		if _, err := m.turnsDown(ctx, madeUpRecent); err != nil {
			return 0, err
		}
	}
	if err != nil {
		return 0, m.lost(err)
	}
	return status, nil
}

// judge says what the answer to a person's login means: nil is a good one.
func (m *loginMemory) judge(ctx context.Context, c auth.Credential, name loginKey, status int) error {
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized:
		return m.wrong(c)
	case http.StatusForbidden, http.StatusTooManyRequests:
	default:
		return m.lost(fmt.Errorf("it answers %d", status))
	}
	// Is it about this login, or would anybody be answered so at the moment?
	t, err := m.turnsDown(ctx, madeUpRecent)
	switch {
	case err != nil:
		return err
	case status == http.StatusTooManyRequests:
		return m.lock(c, name, nameLocked)
	case t.status == http.StatusForbidden:
		return &cannotSay{"logins cannot be checked: the upstream answers 403 to all of them", loginPause, nil, nil}
	case !t.nexus:
		// Elsewhere 403 may be what a suspended name gets, whatever the password:
		// Artifactory does so.
		return m.lock(c, name, nameSuspended)
	}
	return nil // logged in, but without a right on what was asked
}

// lock leaves a name alone for a while.
func (m *loginMemory) lock(c auth.Credential, name loginKey, d time.Duration) error {
	past, _ := m.names.Get(name)
	past.locked, past.span = m.u.Now(), d
	m.names.Add(name, past)
	err := m.lockedName(c, past)
	m.u.Log.Warn("an upstream has locked a user name", zap.String("upstream", m.u.settings.Name),
		zap.String("user", short(c.User)), zap.Time("until", past.locked.Add(d)))
	return err
}

// lockedName is not our own lock-out and says so by whose it is.
func (m *loginMemory) lockedName(c auth.Credential, past loginName) *cannotSay {
	until := past.locked.Add(past.span)
	msg := fmt.Sprintf("%s has locked the name %q for now; not asked again before %s",
		m.u.spoken(), short(c.User), until.UTC().Format("15:04 MST"))
	return &cannotSay{msg, until.Sub(m.u.Now()), nil, auth.ErrHeld}
}

// tooManyGuesses keeps a name from being locked upstream (M15).
func tooManyGuesses(c auth.Credential, wait time.Duration) *httpError {
	return refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS",
		fmt.Sprintf("too many wrong passwords for %s; try again in %s. Whoever logged in from the same address before is not affected",
			short(c.User), untilNext(wait))).
		because(reasonLockedOut).with("Retry-After", retryAfter(wait)).from(auth.ErrHeld)
}
