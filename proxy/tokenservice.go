package proxy

import (
	"encoding/json"
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
	if ask.cred.Kind == auth.Basic {
		x.credential = "basic"
		if id, err = x.login(ask.cred, len(ask.scopes) > 0); err != nil {
			return err
		}
		if ask.account != "" && x.s.fold(ask.account) != x.s.fold(ask.cred.User) { // T26
			return unauthorized("UNAUTHORIZED", "the account asked for is not the one that logged in", "", "").because(reasonWrongPassword)
		}
	}
	x.call(id)
	return x.grant(ask)
}

// tokenAsk is a token request, by GET or by POST.
type tokenAsk struct {
	cred    auth.Credential
	account string
	scopes  []auth.Access
	form    bool
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
	ask.account = query.Get("account")
	ask.scopes, err = parseScopes(query["scope"])
	return ask, err
}

// tokenPost reads the form of the password grant (T18, T19).
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
	if grant := form.Get("grant_type"); grant != "password" {
		return ask, refuse(http.StatusBadRequest, "UNSUPPORTED", "only the password grant is supported here: log in with user name and password")
	}
	ask.cred, err = auth.CheckBasic(form.Get("username"), form.Get("password"))
	if err != nil {
		return ask, x.unreadable(err)
	}
	ask.scopes, err = parseScopes(form["scope"])
	return ask, err
}

func (x *exchange) unreadable(err error) error {
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

// grant issues a token for what the rules of now let the caller do of what was asked.
func (x *exchange) grant(ask tokenAsk) error {
	granted := make([]auth.Access, 0, len(ask.scopes))
	for _, want := range ask.scopes {
		if !grantable(want) {
			continue // T06
		}
		if want.Action != auth.List {
			f, ok := x.s.places.Find(x.site.name, "", want.Repository)
			if !ok {
				continue
			}
			want = f.Access(want.Action) // rules and requests know it by that name
		}
		if x.s.Policy.Decide(&x.who, []auth.Access{want}).Allowed() {
			granted = append(granted, want)
		}
	}
	token, err := x.s.Tokens.Issue(x.who.Identity, x.site.name, granted, x.start, x.s.TokenTTL)
	if err != nil {
		return refuse(http.StatusInternalServerError, "UNKNOWN", "no token could be made").from(err)
	}
	// A long list of scopes is cut at its end (T30): then the token knows what is left.
	const longest = 1 << 10 // more than one scope takes in a token
	if len(token) > auth.MaxIssued-longest {
		if id, err := x.s.Tokens.Verify(token, x.site.name); err == nil {
			granted = id.Scope
		}
	}
	x.grantedScopes = auth.FormatScope(granted)
	x.h.metrics.tokens.Inc()
	answer := tokenAnswer{Token: token, AccessToken: token, ExpiresIn: int(x.s.TokenTTL.Seconds())}
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

// grantable reports whether a scope names something this gate could serve.
func grantable(a auth.Access) bool { return a.Action == auth.List || validName(a.Repository) }

// tokenAnswer is T10's body. issued_at is left out on purpose: with it clients
// reckon expiry by a clock that may differ from ours (T11).
type tokenAnswer struct {
	Token       string  `json:"token"`
	AccessToken string  `json:"access_token"`
	ExpiresIn   int     `json:"expires_in"`
	Scope       *string `json:"scope,omitempty"`
}
