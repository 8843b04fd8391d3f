package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// checkLogin logs in as docker does, once: a password that is wrong counts
// towards a lock-out each time.
func (e *examination) checkLogin(ctx context.Context) {
	switch {
	case e.ping.status == http.StatusOK:
		e.skip("GET /v2/ asks for no login", "login")
	case e.challenge.is("Basic"):
		e.basicLogin(ctx)
	case e.challenge.is("Bearer"):
		e.bearerLogin(ctx)
	default:
		e.skip("there is no challenge that clients understand", "realm", "login")
	}
}

// mayNot is why the password does not go to u, "" if it may. Whoever shows a
// wrong certificate, or sits in a line that is in clear text, could name a
// realm of his own: then it goes nowhere.
func (e *examination) mayNot(u *url.URL) string {
	switch {
	case !e.verified && e.at.Scheme == "http":
		return "no password is sent in clear text, nor where clear text says"
	case !e.verified:
		return "the certificate is not right, and no password is sent to whoever shows it, nor where he says"
	case !e.at.same(u) && u.Scheme != "https":
		return "no password is sent in clear text"
	}
	return ""
}

func (e *examination) basicLogin(ctx context.Context) {
	if e.o.User == "" {
		e.skip("no --user", "login")
		return
	}
	if why := e.mayNot(e.url("/v2/")); why != "" {
		e.skip(why, "login")
		return
	}
	e.basic = true
	r, err := e.ask(ctx, http.MethodGet, e.url("/v2/"), e.credentials(), nil)
	switch {
	case err != nil:
		e.problem("login", "GET /v2/ with the login: "+reason(err), "it could not be found out whether the password is right", "look into the registry's log")
	case r.status == http.StatusOK:
		e.asUser = true
		e.ok("login", e.o.User+" is logged in")
		return
	default:
		e.refusedLogin(r, "GET /v2/")
	}
	e.basic = false
}

func (e *examination) bearerLogin(ctx context.Context) {
	realm := e.realm()
	if realm == nil {
		e.skip("the realm is no URL that a credential may be sent to", "realm", "login")
		return
	}
	if e.o.User == "" {
		e.skip("no --user", "login")
		e.anonymous(ctx, realm)
		return
	}
	if why := e.mayNot(realm); why != "" {
		e.skip(why, "login")
		e.anonymous(ctx, realm)
		return
	}
	token, ok := e.tokenFor(ctx, realm, true, "")
	if !ok {
		return
	}
	e.token, e.asUser = token, true
	if e.tokenWorks(ctx) {
		e.ok("login", e.o.User+" is logged in, and GET /v2/ takes the token")
		e.tryPost(ctx, realm)
	}
}

// tryPost logs in as containerd, buildkit and helm begin to. They go on with
// GET after some refusals (T20), and stop at all others.
func (e *examination) tryPost(ctx context.Context, realm *url.URL) {
	form := url.Values{
		"grant_type": {"password"}, "client_id": {"regward-doctor"}, "service": {e.challenge.params["service"]},
		"username": {e.o.User}, "password": {e.o.Password},
	}
	h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	r, err := e.ask(ctx, http.MethodPost, realm, h, strings.NewReader(form.Encode()))
	switch {
	case err != nil:
		e.warn("T20", "the login by POST at "+place(realm)+": "+reason(err), "containerd, buildkit and helm begin with POST", "let POST through to the realm's path")
	case !r.is(http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed):
		e.warn("T20", fmt.Sprintf("the login by GET works, that by POST is answered %s", e.said(r)), "containerd, buildkit and helm begin with POST, and stop at this answer",
			"let POST through to the realm's path (nginx: no limit_except there), or have it answered 404 where the token service knows GET alone")
	}
}

// anonymous asks for a token without a login: what it may is checkScope's.
func (e *examination) anonymous(ctx context.Context, realm *url.URL) {
	if token, ok := e.tokenFor(ctx, realm, false, e.scope("pull")); ok && token != "" {
		e.token = token
		if e.tokenWorks(ctx) {
			e.ok("anonymous", "a token without a login is given, and GET /v2/ takes it")
		}
	}
}

func (e *examination) scope(actions string) string {
	if e.o.Repository == "" {
		return ""
	}
	return "repository:" + e.o.Repository + ":" + actions
}

// tokenWorks: docker login succeeds only if it does (C17).
func (e *examination) tokenWorks(ctx context.Context) bool {
	r, err := e.ask(ctx, http.MethodGet, e.url("/v2/"), e.credentials(), nil)
	switch {
	case err != nil:
		e.problem("token", "GET /v2/ with the token: "+reason(err), "it could not be found out whether the token is good", "look into the registry's log")
	case r.status == http.StatusOK:
		return true
	case r.status == http.StatusTooManyRequests:
		e.limited("GET /v2/ with the token", r, "wait; the ping should never be limited (C18)")
	default:
		e.problem("token", "GET /v2/ refuses the token that the realm has just given: "+e.said(r), "`docker login` ends with unauthorized, whatever the password",
			"service, issuer and key of registry and token service have to agree (distribution: auth.token.service, issuer, rootcertbundle; regward: one token.key_file for all instances), their clocks too; a proxy has to pass Authorization on (nginx: no auth_basic, no proxy_set_header Authorization)")
	}
	e.token, e.asUser = "", false
	return false
}

// tokenFor asks the realm. ok: it answered as a token service does; the token
// is empty if it gives none to anybody.
func (e *examination) tokenFor(ctx context.Context, realm *url.URL, login bool, scope string) (token string, ok bool) {
	u := *realm
	q := u.Query()
	if service := e.challenge.params["service"]; service != "" {
		q.Set("service", service)
	}
	if scope != "" {
		q.Set("scope", scope)
	}
	h := http.Header{}
	if login {
		q.Set("account", e.o.User)
		q.Set("client_id", "regward-doctor")
		h.Set("Authorization", e.basicAuth())
	}
	u.RawQuery = q.Encode()
	r, err := e.ask(ctx, http.MethodGet, &u, h, nil)
	if err != nil {
		e.sayNoRealm(realm, err)
		return "", false
	}
	switch {
	case r.status == http.StatusOK:
		return e.readToken(realm, r)
	case r.is(http.StatusUnauthorized, http.StatusForbidden) && !login:
		e.ok("realm", place(realm)+" answers")
		e.note("anonymous", "without a login there is no token: "+e.said(r), "everything needs a login here", "")
		return "", true
	case r.is(http.StatusNotFound, http.StatusMethodNotAllowed) || r.status >= 300 && r.status < 400:
		e.problem("realm", fmt.Sprintf("the realm %s is answered %d", place(realm), r.status), "every client gets its token there with GET, and follows no redirect to another place",
			"let the proxy pass the realm's path on as it passes /v2/ (nginx: location "+realm.Path+" { proxy_pass ...; }), or correct the realm (distribution: auth.token.realm)")
	case login:
		e.refusedLogin(r, place(realm))
	case r.status == http.StatusTooManyRequests:
		e.limited("the realm "+place(realm), r, "wait, or log in where limits are per user")
	default:
		e.problem("realm", fmt.Sprintf("the realm %s is answered %s", place(realm), e.said(r)), "clients get no token: no pull, no push", "look into the token service's log")
	}
	return "", false
}

// refusedLogin judges the answer to a login.
func (e *examination) refusedLogin(r reply, at string) {
	what := fmt.Sprintf("the login of %s is answered %s at %s", e.o.User, e.said(r), at)
	switch {
	case r.status == http.StatusUnauthorized:
		e.problem("login", what, "user name or password is wrong, or the account is disabled", "try the same in the registry's own web page; with two-factor or single sign-on an access token takes the password's place. It was tried once: some registries lock accounts out")
	case r.status == http.StatusForbidden:
		e.problem("login", what, "the account is known and may not use this registry, or it is locked", "give the account the right to log in to the registry (Nexus: a role with docker privileges), or unlock it")
	case r.status == http.StatusTooManyRequests:
		e.problem("login", what+e.retryAfter(r), "too many logins failed, or came at all: the account or this address is locked out for a while, whatever the password", "wait, and find who goes on trying with an old password (saved logins, CI); each try prolongs some lock-outs")
	case r.status >= 500:
		e.problem("login", what, "it could not be found out whether the password is right: what keeps the accounts (LDAP, database) does not answer", "look into the token service's log; this is no wrong password")
	default:
		e.problem("login", what, "no client understands it", "look into the token service's log")
	}
}

func (e *examination) sayNoRealm(realm *url.URL, err error) {
	what := fmt.Sprintf("the realm %s cannot be reached: %s", place(realm), reason(err))
	why := "clients find the registry, and get no token"
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e.problem("realm", what, why, "make "+realm.Hostname()+" known in DNS, or serve the realm under "+e.at.Host())
	case isCertificate(err):
		e.problem("realm", what, why, "its certificate has to be trusted as the registry's is: regward trust "+realm.Host+" --for docker; or serve the realm under "+e.at.Host())
	default:
		e.problem("realm", what, why, "open the way to "+realm.Hostname()+" port "+portOf(realm)+", or serve the realm under "+e.at.Host())
	}
}

// readToken is the token of a 200 (T10).
func (e *examination) readToken(realm *url.URL, r reply) (string, bool) {
	var body struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	fix := `answer {"token":"...","access_token":"...","expires_in":300}; a page of HTML there is a login page or another service: correct the realm`
	if err := json.Unmarshal(r.body, &body); err != nil {
		e.problem("realm", "the realm "+place(realm)+" answers 200 with what is no token", "clients fail to read it", fix)
		return "", false
	}
	token := body.Token
	if token == "" {
		token = body.AccessToken
	}
	if token == "" || len(token) > maxHeaders/2 || bytes.ContainsAny([]byte(token), "\r\n\x00") {
		e.problem("realm", "the realm "+place(realm)+" gives no usable token", "docker, containerd and crane fail", fix)
		return "", false
	}
	if len(token) >= minToken {
		e.conceal(token)
	}
	var seconds int64
	if len(body.ExpiresIn) > 0 && json.Unmarshal(body.ExpiresIn, &seconds) != nil {
		e.problem("realm", "expires_in is no whole number: "+e.quote(string(body.ExpiresIn)), "docker cannot read the token", "send whole seconds, as a number")
	}
	e.ok("realm", place(realm)+" gives tokens")
	return token, true
}
