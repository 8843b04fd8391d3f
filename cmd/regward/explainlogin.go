package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/configs"
	"github.com/regward/regward/proxy"
)

// loginSaid is what one provider says about a login, as explain prints it.
type loginSaid struct {
	Provider string   `json:"provider"`
	Said     string   `json:"said"` // right, wrong, not_mine, cannot_say, not_asked
	Why      string   `json:"why,omitempty"`
	User     string   `json:"user,omitempty"`
	Groups   []string `json:"groups,omitempty"`
}

// login logs in for real, with providers made of the configuration for this
// alone: whatever instance runs is not asked, and counts nothing.
func (x *explainer) login(ctx context.Context, a *app, q question) error {
	if !q.passwordStdin {
		return nil
	}
	password, err := a.readPassword()
	if err != nil {
		return err
	}
	said, err := x.ask(ctx, q, password)
	if err != nil {
		return err
	}
	x.logins = []loginSaid{}
	if unread := x.cfg.Auth.RobotsUnread; unread != nil {
		x.logins = append(x.logins, loginSaid{Provider: "robot", Said: "not_asked", Why: fmt.Sprintf("%v: run this as who runs regward serve", unread)})
	}
	for _, s := range said {
		x.logins = append(x.logins, x.told(s, q.user))
	}
	if len(said) == 0 {
		x.provider, x.rejected = "nobody can log in: the configuration names no provider of logins", true
		return nil
	}
	x.settle(said[len(said)-1], q)
	return nil
}

// ask is what each provider says that a client's login would get to.
func (x *explainer) ask(ctx context.Context, q question, password string) (said []auth.Said, err error) {
	settings := x.settings
	if settings.Tokens, err = auth.TokensForNow(); err != nil {
		return nil, err
	}
	host, upstream := x.cfg.Hostname[0], -1
	if f, ok := x.cfg.Find(q.repository); ok && q.repository != "" {
		upstream = f.Index
		if full, _, _ := strings.Cut(f.Full, "/"); full != "" {
			host = full
		}
	}
	c := auth.NewBasic(q.user, password)
	c.Addr = x.caller.Addr
	return proxy.AskLogins(ctx, settings, host, upstream, c)
}

// told is what a provider says, in words. No password is in them, nor what was
// typed in the place of a name.
func (x *explainer) told(s auth.Said, user string) loginSaid {
	outcome := auth.OutcomeOf(s.Err)
	l := loginSaid{Provider: s.Via, Said: outcome.String()}
	if s.Via == "upstream" {
		if u := x.asked(x.repository); u != nil {
			l.Provider = "upstream " + u.Name
		}
	}
	robot, wrong := (*auth.RobotError)(nil), (*auth.Rejection)(nil)
	switch {
	case outcome == auth.SaidRight:
		l.User, l.Groups = s.ID.Name, s.ID.Groups
	case outcome == auth.SaidNotMine:
		l.Why = notMine(s, user)
	case errors.As(s.Err, &robot):
		l.Why = robot.Words()
	case errors.As(s.Err, &wrong):
		l.Why = wrong.Reason
	case outcome == auth.SaidWrong && s.Via == "upstream" && x.ownAccount(user):
		l.Why = fmt.Sprintf("%s is a login of regward's own: it is refused, and no upstream is asked", user)
	case outcome == auth.SaidWrong:
		l.Why = "wrong password"
	default:
		l.Why = s.Err.Error()
	}
	return l
}

// notMine is why a provider passes a login on.
func notMine(s auth.Said, user string) string {
	kind, _, _ := strings.Cut(s.Via, ":")
	switch {
	case kind == "oidc" && s.Err != auth.ErrNotMine:
		return strings.TrimSuffix(s.Err.Error(), ": "+auth.ErrNotMine.Error())
	case kind == "oidc":
		return "tokens come with the user name " + auth.OIDCUser
	case kind == "robot":
		return "the password is no robot's secret"
	}
	return "it does not know " + user
}

// settle is what the last word leads to.
func (x *explainer) settle(last auth.Said, q question) {
	l := x.logins[len(x.logins)-1]
	switch auth.OutcomeOf(last.Err) {
	case auth.SaidRight:
		x.provider = fmt.Sprintf("%s says the password of %s is right", l.Provider, last.ID.Name)
		if strings.HasPrefix(last.Via, "oidc:") {
			x.provider = fmt.Sprintf("%s says the token speaks for %s", l.Provider, last.ID.Name)
		}
		x.caller.Identity = x.identity(last.ID.Name, append(slices.Clone(last.ID.Groups), q.groups...))
		x.caller.Via = last.ID.Via
	case auth.SaidNotMine:
		x.provider, x.rejected = fmt.Sprintf("no provider knows %s: clients get 401", q.user), true
	case auth.SaidWrong:
		x.provider, x.rejected = fmt.Sprintf("%s says: %s: clients get 401", l.Provider, l.Why), true
	default:
		x.provider, x.rejected = fmt.Sprintf("%s cannot say: clients get 503, but for logins proven within cache.stale where nothing answers", l.Provider), true
		x.unsaid = fmt.Errorf("%s cannot say whether the login is good: %s; regward validate --online says what is wrong", l.Provider, l.Why)
	}
}

// end is how the command ends for a login that was not right.
func (x *explainer) end() error {
	switch {
	case x.unsaid != nil:
		return x.unsaid
	case x.rejected:
		return errTold
	}
	return nil
}

// printLogins writes what each provider said, in the order they were asked.
func printLogins(w io.Writer, all []loginSaid) {
	if len(all) == 0 {
		return
	}
	width := 0
	for _, l := range all {
		width = max(width, len(l.Provider))
	}
	fmt.Fprintln(w, "asked:")
	for _, l := range all {
		words := strings.ReplaceAll(l.Said, "_", " ")
		switch {
		case l.User != "" && len(l.Groups) > 0:
			words += ": " + l.User + ", groups " + strings.Join(l.Groups, ", ")
		case l.User != "":
			words += ": " + l.User
		case l.Why != "":
			words += ": " + l.Why
		}
		fmt.Fprintln(w, harmless(fmt.Sprintf("  %-*s  %s", width, l.Provider, words)))
	}
}

// robotFault says why a robot would be turned down though its secret is right; ""
// if it would not, or none has that name.
func robotFault(r *auth.Robot, from netip.Addr) string {
	if r == nil {
		return ""
	}
	if !r.Expires.IsZero() && !time.Now().Before(r.Expires) {
		return (&auth.RobotError{Robot: r.Name, Fault: auth.RobotExpired, At: r.Expires}).Words()
	}
	inside := func(p netip.Prefix) bool { return p.Contains(from.Unmap().WithZone("")) }
	if from.IsValid() && len(r.From) > 0 && !slices.ContainsFunc(r.From, inside) {
		return (&auth.RobotError{Robot: r.Name, Fault: auth.RobotElsewhere, Addr: from}).Words()
	}
	return ""
}

// robot is whom a login name stands for in the file of robots; nil for nobody.
func (x *explainer) robot(login string) *auth.Robot {
	if _, ok := x.cfg.Auth.Robots.Identity(login); !ok {
		return nil
	}
	return x.cfg.Auth.Robots.Find(login)
}

// askedBefore names those who are asked about passwords before an upstream is.
func askedBefore(c *configs.Auth) (names []string) {
	for _, p := range []struct {
		name string
		set  bool
	}{{"htpasswd", c.Htpasswd != ""}, {"ldap", c.LDAP.Set()}, {"webhook", c.Webhook.URL != ""}} {
		if p.set {
			names = append(names, p.name)
		}
	}
	return names
}
