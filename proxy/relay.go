package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/regward/regward/auth"
)

// relay asks an upstream for credentials in the name of people who have logged
// in (T33). It belongs to the Upstream and keeps nothing of theirs.
type relay struct {
	u      *Upstream
	way    atomic.Pointer[way] // as its challenge to nobody says
	noPost atomic.Int64        // until when POST is known not to work, in Unix seconds
}

// noPostTime is how long an upstream that knows no POST is not asked so again:
// some of them count each as a wrong password.
const noPostTime = 10 * time.Minute

// maxClientID is what of a client_id goes on, in bytes.
const maxClientID = 128

// relayAsk is a login that has been proven, and what is wanted for it.
type relayAsk struct {
	cred    auth.Credential
	account bool   // the client sent account=
	client  string // client_id
	scopes  string // in the upstream's names, with spaces between
	form    bool   // it came by POST
	addr    string // of the client
	id      string // of the request
}

// credential is what the upstream gives for a login: a token for the scopes
// from its token service, or, where it knows none, the login. The caller has
// proven the login. Errors are *httpError with the upstream's own status.
func (r *relay) credential(ctx context.Context, ask relayAsk) (credential, error) {
	ctx, cancel := context.WithTimeout(ctx, authTimeout) // T29
	defer cancel()
	if err := r.u.asked.barred(ask.cred); err != nil {
		return credential{}, r.barred(err)
	}
	w, err := r.find(ctx)
	if err != nil {
		return credential{}, r.u.failed(ctx, err)
	}
	if w.realm == nil {
		return credential{Credential: ask.cred}, nil
	}
	if ask.form {
		return r.byPost(ctx, w, ask)
	}
	status, header, body, err := r.get(ctx, w, ask)
	if err == nil && status == http.StatusBadRequest && plainScopes(ask.scopes) != ask.scopes {
		ask.scopes = plainScopes(ask.scopes)
		status, header, body, err = r.get(ctx, w, ask)
	}
	if err != nil {
		return credential{}, r.u.failed(ctx, err)
	}
	if status == http.StatusUnauthorized {
		r.u.asked.doubted(ctx, ask.cred, header)
	}
	if status != http.StatusOK {
		return credential{}, r.refusal(ask, status, header)
	}
	return r.read(body)
}

// barred is a login that must not be sent there again.
func (r *relay) barred(err error) *httpError {
	if locked := (*cannotSay)(nil); errors.As(err, &locked) {
		return locked.refusal()
	}
	return unauthorized("UNAUTHORIZED", r.u.spoken()+" does not take this login any more", "", "").because(reasonWrongPassword).from(err)
}

// plainScopes is plainer for several scopes, each with several actions.
func plainScopes(scopes string) string {
	var plain []string
	for _, one := range strings.Fields(scopes) {
		one = strings.TrimSuffix(one, ",delete")
		if one = plainer(one); one != "" {
			plain = append(plain, one)
		}
	}
	return strings.Join(plain, " ")
}

// find returns how the upstream wants to be asked. It is what /v2/ says to a
// request without a credential: some registries answer one that has a wrong
// one by another scheme.
func (r *relay) find(ctx context.Context) (way, error) {
	if w := r.way.Load(); w != nil {
		return *w, nil
	}
	v, err := r.u.login.once(ctx, "way of relays", func(ctx context.Context) (any, error) {
		status, header, err := r.u.login.ping(ctx, "")
		if err != nil {
			return nil, err
		}
		w := way{basic: true} // it lets anybody in, or hides the ping
		switch {
		case status == http.StatusUnauthorized:
			w = r.u.login.read(header)
		case status == http.StatusTooManyRequests || status >= 500:
			return nil, fmt.Errorf("upstream answered %d to /v2/", status)
		case status == http.StatusOK && isPage(header) && !fromRegistry(header): // nothing to be believed for long
			return nil, errors.New("upstream answers /v2/ with a page")
		}
		if w.realm == nil && !w.basic {
			if w.refused == nil {
				w.refused = errors.New("its challenge is neither Bearer nor Basic")
			}
			r.tellRefused(w.refused)
			return nil, w.refused
		}
		r.way.Store(&w)
		return w, nil
	})
	if err != nil {
		return way{}, err
	}
	return v.(way), nil
}

// tellRefused says why people's logins go nowhere, with the line that would
// change it.
func (r *relay) tellRefused(err error) {
	fields := []zap.Field{zap.String("upstream", r.u.settings.Name), zap.Error(err)}
	if foreign := (*ForeignRealmError)(nil); errors.As(err, &foreign) {
		fields = append(fields, zap.String("fix", "if logins may go there, add to this upstream: token_hosts: ["+foreign.Host+"]"))
	}
	r.u.Log.Error("people's logins are not passed on: the upstream's challenge cannot be followed", fields...)
}

// forget makes the next one look how the upstream wants to be asked.
func (r *relay) forget() { r.way.Store(nil) }

func (r *relay) get(ctx context.Context, w way, ask relayAsk) (status int, header http.Header, body []byte, err error) {
	at := *w.realm
	query := at.Query()
	if w.service != "" {
		query.Set("service", w.service)
	}
	query.Del("scope")
	for _, one := range strings.Fields(ask.scopes) {
		query.Add("scope", one)
	}
	if ask.account {
		query.Set("account", ask.cred.User)
	}
	if ask.client != "" {
		query.Set("client_id", ask.client)
	}
	at.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return 0, nil, nil, err
	}
	req.SetBasicAuth(ask.cred.User, ask.cred.Secret())
	return r.trip(req, ask)
}

// byPost is the password grant. Where that does not work the client hears 404
// and goes on by GET (T20); the login is good, so 400 and 401 say no more than
// that either.
func (r *relay) byPost(ctx context.Context, w way, ask relayAsk) (credential, error) {
	now := r.u.Now()
	if now.Unix() < r.noPost.Load() {
		return credential{}, noPost()
	}
	client := ask.client
	if client == "" {
		client = "regward" // must be there (RFC 6749, 4.3; distribution's oauth2)
	}
	form := url.Values{"grant_type": {"password"}, "client_id": {client}, "username": {ask.cred.User}, "password": {ask.cred.Secret()}}
	if w.service != "" {
		form.Set("service", w.service)
	}
	if ask.scopes != "" {
		form.Set("scope", ask.scopes)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.realm.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return credential{}, r.u.failed(ctx, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, header, body, err := r.trip(req, ask)
	if err != nil {
		return credential{}, r.u.failed(ctx, err)
	}
	switch status {
	case http.StatusOK:
		return r.read(body)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnauthorized, http.StatusBadRequest,
		http.StatusUnsupportedMediaType, http.StatusNotImplemented:
		r.noPost.Store(now.Add(noPostTime).Unix())
		return credential{}, noPost()
	}
	return credential{}, r.refusal(ask, status, header)
}

func noPost() *httpError {
	return refuse(http.StatusNotFound, "UNSUPPORTED", "the registry behind this one gives tokens by GET only").because(reasonUpstream)
}

// trip is one exchange with the token service, for the client of ask.
func (r *relay) trip(req *http.Request, ask relayAsk) (status int, header http.Header, body []byte, err error) {
	req.Header.Set("X-Request-Id", ask.id)
	if r.u.ownHost(req.URL) {
		req.Header.Set("X-Forwarded-For", ask.addr)
	}
	return r.u.small(req)
}

// read makes a credential of a token service's answer. A refresh token in it is
// nobody's (T22).
func (r *relay) read(body []byte) (credential, error) {
	t, err := readToken(body, r.u.Now())
	if err != nil {
		return credential{}, broken(err)
	}
	return credential{auth.NewBearer(strings.TrimPrefix(t.value, "Bearer ")), t.expires}, nil
}

// refusal passes on that the upstream gives nothing, with its own status (T33).
func (r *relay) refusal(ask relayAsk, status int, header http.Header) *httpError {
	says := r.u.spoken()
	cause := fmt.Errorf("token service answered %d", status)
	var e *httpError
	switch {
	case status == http.StatusTooManyRequests:
		return r.u.limited(header, true).from(cause)
	case status >= 500 && status <= 599:
		e = refuse(status, "UNAVAILABLE", says+" cannot give a token: it answered "+strconv.Itoa(status)+"; try again later")
	case status == http.StatusUnauthorized:
		r.forget()
		e = unauthorized("UNAUTHORIZED", says+" does not take this login, or not for what was asked", "", "").because(reasonUpstream)
	case status == http.StatusForbidden:
		e = refuse(status, "DENIED", says+" gives "+short(ask.cred.User)+" no token for what was asked").because(reasonUpstream)
	case status >= 400 && status <= 499:
		r.forget()
		e = refuse(status, "UNSUPPORTED", says+" gives no token: it answered "+strconv.Itoa(status)).because(reasonUpstream)
	default:
		r.forget()
		return broken(cause)
	}
	if wait, told := readRetryAfter(header, r.u.Now()); told && status == http.StatusServiceUnavailable {
		e.with("Retry-After", retryAfter(wait))
	}
	return e.from(cause)
}
