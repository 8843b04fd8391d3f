package proxy

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
)

// tokenLeeway is how long a token is taken after it ran out: docker, c/image
// and regclient do not recover from a 401 on a token they believe valid (T13).
const tokenLeeway = 60 * time.Second

// identify finds out who asks. A request without credential is challenged,
// public repositories included: anonymity is a token as well (C19).
func (x *exchange) identify() error {
	fields := x.r.Header["Authorization"]
	cred, err := auth.ParseAuthorization(fields)
	switch {
	case err != nil:
		x.credential = "malformed"
		e := unauthorized("UNAUTHORIZED", "the Authorization header cannot be read", x.askedScope(), "").from(err).because(reasonMalformed)
		if isBearer(fields) {
			e.authErr = "invalid_token"
		}
		return e
	case cred.Kind == auth.None:
		if id, ok, err := x.certificate(x.up); ok {
			x.call(id)
			return err
		}
		x.credential = "none"
		return unauthorized("UNAUTHORIZED", "authentication required: docker login "+x.host(), x.askedScope(), "").because(reasonNoCredential)
	case cred.Kind == auth.Bearer:
		return x.identifyBearer(cred)
	}
	x.credential = "basic"
	id, err := x.login(cred, x.s.checks(x.site.name, x.up, cred), x.req.Kind != KindPing)
	if err != nil {
		return err
	}
	x.basic = cred
	x.call(id)
	if x.up != nil && x.up.logins != nil && x.s.knows(cred) {
		return x.notForHere(x.up)
	}
	return nil
}

// askedScope is the scope a challenge names (C09, C10).
func (x *exchange) askedScope() string { return scopeOf(x.req.Wants) }

func isBearer(fields []string) bool {
	const scheme = "bearer"
	return len(fields) == 1 && len(fields[0]) >= len(scheme) && strings.EqualFold(fields[0][:len(scheme)], scheme)
}

func (x *exchange) identifyBearer(cred auth.Credential) error {
	x.credential = "token"
	id, err := x.h.Cache.Bearer(x.s.Tokens, cred.Secret(), x.site.name)
	if err != nil {
		return x.badToken(err)
	}
	if err := x.s.Robots.Admit(id, x.addr); err != nil {
		return x.badToken(err)
	}
	if !x.s.groups.Holds(id) { // rules ask about other groups now
		return x.badToken(errRevoked)
	}
	here := true // the rules know nobody else by that name
	if id.Anonymous() {
		x.credential = "anonymous token"
	} else if here = x.s.proves(x.site.name, x.up, id); !here && !x.s.provesAnywhere(id) {
		return x.badToken(errRevoked)
	}
	x.expired = id.Expires.Add(tokenLeeway).Before(x.start)
	x.call(*id)
	if x.expired && x.req.Kind != KindUpload {
		return x.badToken(errExpired)
	}
	if !here && x.up != nil {
		return x.notForHere(x.up)
	}
	return nil
}

var errRevoked = errors.New("what the token was proven by has changed or is gone")

// badToken is C11's invalid_token: the client shall get a new one.
func (x *exchange) badToken(err error) error {
	e := unauthorized("UNAUTHORIZED", "the token presented is not valid here: log in again", x.askedScope(), "invalid_token").from(err).because(reasonBadToken)
	var foreign *auth.ForeignKey
	var robot *auth.RobotError
	switch {
	case errors.As(err, &robot):
		x.credential = robot.Error()
		e.msg, e.reason = robot.Words(), robotReason(robot)
	case errors.Is(err, errExpired):
		x.credential = "expired token"
		e.msg, e.reason = "the token presented has expired", reasonExpired
	case errors.Is(err, errRevoked), errors.Is(err, auth.ErrRevoked):
		x.credential = "revoked token"
		e.msg, e.reason = "the login this token was given to has changed: log in again", reasonRevoked
	case errors.As(err, &foreign):
		x.credential = "foreign token"
		x.h.foreign.do(x.start, func() {
			x.h.Log.Warn("a token for "+x.site.name+" was signed by a key this instance does not have (kid "+foreign.Kid+"): do several instances run without one token.key_file?", zap.String("request_id", x.id))
		})
	default:
		x.credential = "invalid token"
	}
	return e
}

// call makes the caller of this request: who was proven, the groups of now,
// the address of now.
func (x *exchange) call(id auth.Identity) {
	x.who = auth.Caller{Identity: id, Addr: x.addr}
	x.buckets = buckets{s: x.s, c: &x.who}
	if x.up != nil {
		x.buckets.prefix = x.up.settings.Place.Prefix
	}
	x.loginVia = id.Via
	fixed := x.s.Groups[id.Name]
	if id.Anonymous() || len(fixed) == 0 {
		return
	}
	if len(id.Groups) == 0 {
		x.who.Groups = fixed
		return
	}
	all := slices.Concat(id.Groups, fixed)
	slices.Sort(all)
	x.who.Groups = slices.Compact(all)
}

// login checks a name and a password by what p says; nil: nobody can log in.
// saved says that the client uses a login
// it keeps, so the advice is another one (M6, M8).
func (x *exchange) login(cred auth.Credential, p *provider, saved bool) (auth.Identity, error) {
	user := x.s.fold(cred.User)
	x.who = auth.Caller{Addr: x.addr}
	var id auth.Identity
	var hit bool
	err := auth.ErrRejected
	if p != nil {
		g := &guard{h: x.h, s: x.s, addr: x.addr}
		cred.Addr, cred.Host = x.addr, x.site.name // for a provider that asks somebody who wants to know
		id, hit, err = x.h.Cache.Login(x.r.Context(), p.Authenticator, cred, x.s.Cache, g)
		x.wouldThrottle = append(x.wouldThrottle, g.found()...)
	}
	if err == nil {
		err = x.s.Robots.Admit(&id, x.addr) // the answer may be remembered from another address
	}
	var robot *auth.RobotError
	var locked *httpError
	switch {
	case err == nil:
		x.h.metrics.login("ok")
		if x.fresh = !hit; x.fresh && !x.offline {
			x.auditLogin(id)
		}
		return id, nil
	case errors.As(err, &locked):
		x.credential = "locked out: " + typed(user, false)
		x.h.metrics.login("locked_out")
		if x.req.Kind == KindPing { // never 429 there: clients go on without a login, or give up (C18, S09)
			e := unauthorized("UNAUTHORIZED", locked.msg, "", "").because(locked.reason)
			e.limit = locked.limit
			return id, e
		}
		return id, locked
	case errors.As(err, &robot):
		x.credential = robot.Error()
		x.h.metrics.login("rejected")
		x.auditRobot(user, robot)
		return auth.Identity{}, unauthorized("UNAUTHORIZED", robot.Words(), x.askedScope(), "").from(err).because(robotReason(robot))
	case errors.Is(err, auth.ErrRejected), errors.Is(err, auth.ErrNotMine), errors.Is(err, auth.ErrMalformed):
		x.wrong = rejection(err)
		x.credential, x.repeated = "wrong password: "+typed(user, x.wrong.Word != auth.UnknownUser), hit
		x.h.metrics.login("rejected")
		if !hit { // a repetition that was known to be wrong is no news
			x.auditWrongLogin(user)
		}
		msg := "wrong user name or password for " + x.host()
		if saved {
			msg = "the login saved for " + x.host() + " (user " + user + ") is no longer valid. Run: docker login " + x.host() +
				" - or docker logout " + x.host() + ": public images need no login"
		}
		return id, unauthorized("UNAUTHORIZED", msg, x.askedScope(), "").from(x.wrong).because(reasonWrongPassword)
	case errors.Is(err, auth.ErrBusy):
		x.h.metrics.login("busy")
		return id, refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "too many logins are being checked; try again in a moment").
			with("Retry-After", "5").from(err).because(reasonBusy)
	}
	x.h.metrics.login("error")
	if cannot := (*cannotSay)(nil); errors.As(err, &cannot) {
		return id, cannot.refusal().from(err)
	}
	return id, refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "logins cannot be checked at the moment").
		with("Retry-After", retryAfter(loginPause)).from(err).because(reasonProvider)
}

// robotReason is the word for a robot that is turned down though its secret is
// right.
func robotReason(e *auth.RobotError) string {
	switch e.Fault {
	case auth.RobotExpired:
		return reasonRobotExpired
	case auth.RobotRotated:
		return reasonRobotRotated
	}
	return reasonRobotAway
}

// leased reports whether an upload begun in time may be finished with a token
// that has run out meanwhile. Only the expiry is forgiven (S13).
func (x *exchange) leased() bool {
	if x.s.Lease <= 0 || x.req.Kind != KindUpload || !writes(x.req.Method) {
		return false
	}
	if x.up == nil {
		return false
	}
	up, err := x.up.uploads.open(x.req.Reference, x.repo.Name(), x.who.Name)
	if err != nil {
		return false
	}
	return x.start.Sub(up.Start) <= x.s.Lease
}
