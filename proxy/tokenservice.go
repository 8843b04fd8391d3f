package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/regward/regward/auth"
)

// token is the token service (T01-T31): it says who the caller is and what a
// token of theirs covers. Lack of permission is never an error here (T07).
func (x *exchange) token() error {
	x.w.Header()["Cache-Control"] = []string{"no-store"}
	if x.r.Method == http.MethodOptions {
		return x.options("GET, POST")
	}
	ask, err := x.tokenRequest()
	if err != nil {
		return err
	}
	var id auth.Identity
	x.credential = "none"
	up := x.asksFor(ask.scopes)
	if ask.cred.Kind == auth.None {
		if id, _, err = x.certificate(up); err != nil {
			return err
		}
	}
	switch ask.cred.Kind {
	case auth.Refresh:
		if id, err = x.renew(ask, up); err != nil {
			return err
		}
	case auth.Basic:
		if up != nil && up.logins != nil && x.s.knows(ask.cred) {
			up = nil
		}
		x.credential, x.offline = "basic", x.mayKeep(ask, up)
		if id, err = x.login(ask.cred, x.s.checks(x.site.name, up, ask.cred), len(ask.scopes) > 0); err != nil {
			return err
		}
		if ask.account != "" && x.s.fold(ask.account) != x.s.fold(ask.cred.User) { // T26
			x.auditKept(&id, "")
			return unauthorized("UNAUTHORIZED", "the account asked for is not the one that logged in", "", "").because(reasonWrongPassword)
		}
		ask.refresh = x.keep(ask, &id)
	}
	x.call(id)
	if err = x.grant(ask, up); err != nil {
		x.unkeep(ask)
	}
	return err
}

// asksFor is the upstream a token request is about (T35): that of the first
// scope with push, else of the first, else the one for logins. nil is none.
func (x *exchange) asksFor(scopes []auth.Access) (up *backend) {
	for _, want := range scopes {
		if want.Action == auth.List || !grantable(want) {
			continue
		}
		f, ok := x.s.places.Find(x.site.name, "", want.Repository)
		if !ok {
			continue
		}
		if want.Action == auth.Push {
			return x.s.backends[f.Index]
		}
		if up == nil {
			up = x.s.backends[f.Index]
		}
	}
	if at := x.s.places.Default(x.site.name); up == nil && at >= 0 {
		up = x.s.backends[at]
	}
	return up
}

// tokenAsk is a token request, by GET or by POST.
type tokenAsk struct {
	cred    auth.Credential
	account string
	client  string // client_id
	scopes  []auth.Access
	form    bool
	offline bool // a refresh token is asked for (T22)

	refresh string // the refresh token to answer with, "" for none
}

func (x *exchange) tokenRequest() (ask tokenAsk, err error) {
	switch x.r.Method {
	case http.MethodGet:
		return x.tokenGet()
	case http.MethodPost:
		return x.tokenPost()
	}
	return ask, refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "the token service answers GET and POST").with("Allow", "GET, POST")
}

func (x *exchange) tokenGet() (ask tokenAsk, err error) {
	query, err := parseForm(x.r.URL.RawQuery)
	if err != nil {
		return ask, err
	}
	ask.cred, err = auth.ParseAuthorization(x.r.Header["Authorization"])
	if err != nil || ask.cred.Kind == auth.Bearer {
		return ask, x.unreadable(err)
	}
	ask.account, ask.client, ask.offline = query.Get("account"), clientID(query), query.Get("offline_token") == "true"
	ask.scopes, err = parseScopes(query["scope"])
	return ask, err
}

// tokenPost reads the form of the password grant and of the refresh grant (T18,
// T19, T23).
func (x *exchange) tokenPost() (ask tokenAsk, err error) {
	ask.form = true
	kind, _, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if kind != "application/x-www-form-urlencoded" {
		return ask, refuse(http.StatusUnsupportedMediaType, "UNSUPPORTED", "a token is asked for with a form: application/x-www-form-urlencoded")
	}
	rc := http.NewResponseController(x.w)
	_ = rc.SetReadDeadline(time.Now().Add(formTime))
	body, err := io.ReadAll(io.LimitReader(x.r.Body, maxForm+1))
	_ = rc.SetReadDeadline(time.Time{})
	if err != nil {
		return ask, refuse(http.StatusBadRequest, "UNSUPPORTED", "the form could not be read").from(err)
	}
	if len(body) > maxForm {
		return ask, refuse(http.StatusRequestEntityTooLarge, "UNSUPPORTED", "the form is too large")
	}
	x.bodyRead = true
	form, err := parseForm(string(body))
	if err != nil {
		return ask, err
	}
	switch form.Get("grant_type") {
	case "password":
		if ask.cred, err = auth.CheckBasic(form.Get("username"), form.Get("password")); err != nil {
			return ask, x.unreadable(err)
		}
		ask.offline = form.Get("access_type") == "offline"
	case "refresh_token":
		ask.refresh = form.Get("refresh_token")
		if x.s.Renew == nil && !auth.IsRefreshToken(ask.refresh) {
			return ask, onlyPasswords()
		}
		ask.cred = auth.NewRefresh(ask.refresh)
	default:
		return ask, onlyPasswords()
	}
	ask.client = clientID(form)
	ask.scopes, err = parseScopes(form["scope"])
	return ask, err
}

func onlyPasswords() *httpError {
	return refuse(http.StatusBadRequest, "UNSUPPORTED", "only the password grant is supported here: log in with user name and password")
}

// clientID is the name of a program; what can be none is dropped.
func clientID(form url.Values) string {
	id := form.Get("client_id")
	if len(id) > maxClientID || !plain(id) {
		return ""
	}
	return id
}

func (x *exchange) unreadable(err error) error {
	if errors.Is(err, auth.ErrRefreshAsPassword) {
		x.credential = "refresh token"
		return x.loginAgain(err)
	}
	x.credential = "malformed"
	return unauthorized("UNAUTHORIZED", "give a user name and a password, or nothing at all", "", "").from(err).because(reasonMalformed)
}

// parseForm is url.ParseQuery, bounded and in words.
func parseForm(raw string) (url.Values, error) {
	if strings.Count(raw, "&") > maxFormFields {
		return nil, refuse(http.StatusBadRequest, "UNSUPPORTED", "too many parameters")
	}
	form, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "UNSUPPORTED", "the parameters cannot be read").from(err)
	}
	return form, nil
}

// parseScopes unites all scope parameters (T03-T05).
func parseScopes(params []string) ([]auth.Access, error) {
	access, err := auth.ParseScope(strings.Join(params, " "))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "UNSUPPORTED", "the scope cannot be read: "+strings.TrimSuffix(err.Error(), ": "+auth.ErrMalformed.Error()))
	}
	return access, nil
}

// grant issues a token for what the rules of now let the caller do of what was
// asked. In passthrough the credential that up gives for it is sealed in (T36).
func (x *exchange) grant(ask tokenAsk, up *backend) error {
	granted, there := x.granted(ask.scopes, up)
	id, ttl, most := x.who.Identity, x.s.TokenTTL, auth.MaxIssued
	if up != nil && up.settings.Passthrough && !id.Anonymous() && len(granted) > 0 {
		own, err := x.relayed(ask, up, there)
		if err != nil {
			return err
		}
		id.Sealed, most = up.safe.seal(own, id.Name), auth.MaxToken
		if !own.expires.IsZero() { // 60 s at least (T12); then the upstream itself says that it has run out
			ttl = max(time.Minute, min(ttl, own.expires.Sub(x.h.Now()).Truncate(time.Second)))
		}
	}
	if !id.Expires.IsZero() { // no longer than what proved it; 60 s at least (T12)
		ttl = max(time.Minute, min(ttl, id.Expires.Sub(x.h.Now()).Truncate(time.Second)))
	}
	token, err := x.s.Tokens.Issue(x.s.groups.Narrow(id), x.site.name, granted, x.start, ttl)
	if errors.Is(err, auth.ErrTooLong) && most == auth.MaxToken {
		return broken(fmt.Errorf("what upstream %s gives is too long to be sealed into a token: %w", up.settings.Name, err))
	}
	if errors.Is(err, auth.ErrTooLong) {
		return refuse(http.StatusForbidden, "DENIED", fmt.Sprintf("%s is in %d groups that rules or limits ask about, more than a login can carry: have them be fewer", id.Name, len(id.Groups))).
			from(err).because(reasonGroups)
	}
	if err != nil {
		return refuse(http.StatusInternalServerError, "UNKNOWN", "no token could be made").from(err)
	}
	// A long list of scopes is cut at its end (T30): then the token knows what is left.
	const longest = 1 << 10 // more than one scope takes in a token
	if len(token) > most-longest {
		if id, err := x.s.Tokens.Verify(token, x.site.name); err == nil {
			granted = id.Scope
		}
	}
	x.grantedScopes = auth.FormatScope(granted)
	x.h.metrics.tokens.Inc()
	return x.answerToken(token, ttl, ask)
}

func (x *exchange) answerToken(token string, ttl time.Duration, ask tokenAsk) error {
	answer := tokenAnswer{Token: token, AccessToken: token, ExpiresIn: int(ttl.Seconds()), RefreshToken: ask.refresh}
	if ask.form {
		answer.Scope = &x.grantedScopes
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return refuse(http.StatusInternalServerError, "UNKNOWN", "no token could be made").from(err)
	}
	x.w.Header()["Content-Type"] = jsonType
	x.respond(http.StatusOK, body)
	return nil
}

// granted is what the rules let the caller do of what was asked, by the names
// that rules know, and the same by up's. A name that one upstream proved is
// nobody's at another: where people's own logins go on, up's scopes alone count
// (T35).
func (x *exchange) granted(scopes []auth.Access, up *backend) (granted, there []auth.Access) {
	granted = make([]auth.Access, 0, len(scopes))
	for _, want := range scopes {
		if !grantable(want) {
			continue // T06
		}
		name := want
		if want.Action != auth.List {
			f, ok := x.s.places.Find(x.site.name, "", want.Repository)
			if !ok {
				continue
			}
			b := x.s.backends[f.Index]
			if !x.who.Anonymous() && b != up && (b.settings.Passthrough || up != nil && up.settings.Passthrough) {
				continue
			}
			want = f.Access(want.Action) // rules and requests know it by that name
			name.Repository = f.Name
		}
		if x.s.Policy.Grants(&x.who, want) {
			granted, there = append(granted, want), append(there, name)
		}
	}
	return granted, there
}

// relayed asks up in the caller's name, and for no more than the rules grant.
func (x *exchange) relayed(ask tokenAsk, up *backend, there []auth.Access) (credential, error) {
	asked := time.Now()
	own, err := up.relay.credential(x.r.Context(), relayAsk{
		cred: ask.cred, account: ask.account != "", client: ask.client,
		scopes: auth.FormatScope(there), form: ask.form, addr: x.addr.String(), id: x.id,
	})
	x.upstreamTime += time.Since(asked)
	return own, err
}

// grantable reports whether a scope names something this gate could serve.
func grantable(a auth.Access) bool { return a.Action == auth.List || validName(a.Repository) }

// tokenAnswer is T10's body. issued_at is left out on purpose: with it clients
// reckon expiry by a clock that may differ from ours (T11).
type tokenAnswer struct {
	Token       string  `json:"token"`
	AccessToken string  `json:"access_token"`
	ExpiresIn   int     `json:"expires_in"`
	Scope       *string `json:"scope,omitempty"`

	RefreshToken string `json:"refresh_token,omitempty"`
}
