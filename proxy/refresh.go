package proxy

import (
	"cmp"
	"errors"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
)

// mayKeep reports whether the client asks for a refresh token and could get one
// (T22). Where an upstream takes people's own logins nobody does: the passwords
// are wanted there.
func (x *exchange) mayKeep(ask tokenAsk, up *backend) bool {
	return ask.offline && x.refreshes(up)
}

// refreshes reports whether refresh tokens are for up here.
func (x *exchange) refreshes(up *backend) bool {
	if x.s.Renew == nil || x.h.Refresh == nil || up != nil && up.settings.Passthrough {
		return false
	}
	return !slices.ContainsFunc(x.s.places.On(x.site.name), func(at int) bool { return x.s.backends[at].settings.Passthrough })
}

// keep is a refresh token for who has just logged in, "" for none: who gets none
// keeps the password.
func (x *exchange) keep(ask tokenAsk, id *auth.Identity) string {
	if !x.offline {
		return ""
	}
	if !x.s.Renew.Current(id) { // a robot, or who proved it cannot tell when the user goes
		x.auditKept(id, "")
		return ""
	}
	client := cmp.Or(ask.client, short(x.r.UserAgent()))
	secret, hash, err := x.h.Refresh.Give(x.r.Context(), x.s.Renew, id, auth.RefreshToken{Host: x.site.name, Client: client, Addr: x.addr.String()})
	if err != nil {
		x.h.noRefresh.do(x.start, func() {
			x.h.Log.Warn("no refresh token was given: the client keeps the password", zap.String("user", id.Name), zap.String("request_id", x.id), zap.Error(err))
		})
		x.auditKept(id, "")
		return ""
	}
	x.auditKept(id, hash.ID())
	return secret
}

// unkeep ends the refresh token of a login that came to nothing: no client has it.
func (x *exchange) unkeep(ask tokenAsk) {
	if x.offline && ask.refresh != "" {
		_, _ = x.h.Refresh.End(x.r.Context(), auth.HashRefresh(ask.refresh)) // else it ends for want of use
	}
}

// auditKept tells of a login that a refresh token was asked for: with the one that
// was given, or as of any other login.
func (x *exchange) auditKept(id *auth.Identity, given string) {
	switch {
	case given != "":
		x.auditLogin(*id, zap.String("refresh_token", given))
	case x.offline && x.fresh:
		x.auditLogin(*id)
	}
}

// renew is whom a refresh token stands for (T23): its user with the groups of
// now, if up is one whose users have them.
func (x *exchange) renew(ask tokenAsk, up *backend) (id auth.Identity, err error) {
	x.credential = "refresh token"
	x.who = auth.Caller{Addr: x.addr}
	if !x.refreshes(up) {
		return id, x.loginAgain(errors.New("no refresh tokens are taken here"))
	}
	g := &guard{h: x.h, s: x.s, addr: x.addr}
	cred := ask.cred
	cred.Addr, cred.Host = x.addr, x.site.name
	// To look a token up costs nothing, so that one that is good never meets the
	// limits: only who guesses does.
	locked := g.Admit(cred)
	id, hit, err := x.h.Refresh.Login(x.r.Context(), x.s.Renew, cred, x.s.Cache, ungated{g})
	hash := auth.HashRefresh(cred.Secret())
	switch {
	case err == nil:
		x.h.metrics.login("ok")
		if !hit {
			x.auditLogin(id, zap.String("refresh_token", hash.ID()))
		}
		return id, nil
	case errors.Is(err, auth.ErrRejected):
		x.wouldThrottle = append(x.wouldThrottle, g.found()...)
		if refused := (*httpError)(nil); errors.As(locked, &refused) {
			x.h.metrics.login("locked_out")
			return id, refused
		}
		x.h.metrics.login("rejected")
		if x.repeated = hit; !hit {
			x.auditEndedLogin(err, hash)
		}
		return id, x.loginAgain(err)
	}
	result, why := "error", reasonProvider
	if errors.Is(err, auth.ErrBusy) {
		result, why = "busy", reasonBusy
	}
	x.h.metrics.login(result)
	return id, refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "whether the login saved for "+x.host()+" is still good cannot be found out at the moment; try again").
		with("Retry-After", retryAfter(loginPause)).from(err).because(why)
}

// loginAgain is what docker prints (T28): a new login is all that helps.
func (x *exchange) loginAgain(err error) *httpError {
	return unauthorized("UNAUTHORIZED", "the login saved for "+x.host()+" has ended. Run: docker login "+x.host()+
		" - or docker logout "+x.host()+": public images need no login", "", "").from(err).because(reasonRefresh)
}

func (x *exchange) auditEndedLogin(err error, hash auth.RefreshHash) {
	why := rejection(err)
	x.h.Audit.Write("login_failed", zap.String("request_id", x.id), zap.String("user", ""), zap.String("reason", reasonRefresh),
		zap.String("via", why.Via), zap.String("detail", short(why.Reason)), zap.String("refresh_token", hash.ID()),
		zap.String("addr", x.addr.String()), zap.String("user_agent", short(x.r.UserAgent())))
}

// ungated is a guard of what costs no more than to look it up: it counts what is
// guessed, and refuses nothing.
type ungated struct{ *guard }

// Admit lets in.
func (ungated) Admit(auth.Credential) error { return nil }

// Failed counts guesses, and not what has the form of a token: hundreds of machines
// behind one address bring theirs again after it was revoked, and a login anew is
// all that helps them.
func (g ungated) Failed(c auth.Credential) {
	if !auth.IsRefreshToken(c.Secret()) {
		g.guard.Failed(c)
	}
}
