package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// authorization is the value to send: "" for nothing. fresh reports a token
// that was fetched just now.
func (l *login) authorization(ctx context.Context, w way, scope string) (value string, fresh bool, err error) {
	switch {
	case w.realm != nil:
		return l.bearer(ctx, w, scope)
	case w.basic && l.basic != "":
		return l.basic, false, nil
	case w.refused != nil:
		return "", false, w.refused
	}
	return "", false, nil
}

func (l *login) bearer(ctx context.Context, w way, scope string) (value string, fresh bool, err error) {
	if t, ok := l.tokens.Get(scope); ok && l.u.Now().Before(t.renew) {
		return t.value, false, nil
	}
	v, err := l.once(ctx, "token "+scope, func(ctx context.Context) (any, error) {
		t, err := l.fetch(ctx, w, scope)
		if err == nil {
			l.tokens.Add(scope, t)
		}
		return t, err
	})
	if err != nil {
		return "", false, err
	}
	return v.(token).value, true, nil
}

// forget drops a token that was turned down, unless it is another by now.
func (l *login) forget(scope, value string) {
	if t, ok := l.tokens.Peek(scope); ok && t.value == value {
		l.tokens.Remove(scope)
	}
}

// once runs f for all who ask for key now. It outlives who asked first, but
// not authTimeout.
func (l *login) once(ctx context.Context, key string, f func(context.Context) (any, error)) (any, error) {
	done := l.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), authTimeout)
		defer cancel()
		return f(ctx)
	})
	select {
	case r := <-done:
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch asks the token service. It is asked by GET, which all of them know.
func (l *login) fetch(ctx context.Context, w way, scope string) (token, error) {
	if wait := l.heldFor(); wait > 0 {
		return token{}, l.u.limited(http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(wait.Seconds())))}}, false)
	}
	at := *w.realm
	query := at.Query()
	if w.service != "" {
		query.Set("service", w.service)
	}
	for _, one := range strings.Fields(scope) { // a mount has two; registries differ in how they read them in one
		query.Add("scope", one)
	}
	if l.basic != "" {
		query.Set("account", l.u.settings.Username)
	}
	at.RawQuery = query.Encode()

	status, header, body, err := l.get(ctx, &at, l.basic)
	if err != nil {
		return token{}, fmt.Errorf("token service: %w", err)
	}
	switch {
	case status == http.StatusOK:
	case status == http.StatusUnauthorized && l.basic != "":
		return token{}, l.down("the token service", header).refuse()
	case status == http.StatusTooManyRequests:
		return token{}, l.hold(header, body)
	case status == http.StatusBadRequest && plainer(scope) != scope:
		return l.fetch(ctx, w, plainer(scope))
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusBadRequest, status == http.StatusNotFound:
		return token{}, fmt.Errorf("%w: %s: it answered %d", errNoAccess, scope, status)
	default:
		return token{}, fmt.Errorf("token service answered %d", status)
	}
	if isPage(header) {
		return token{}, errors.New("token service: its answer is a page for a browser, text/html")
	}
	t, err := readToken(body, l.u.Now())
	if err == nil {
		l.up()
	}
	return t, err
}

// plainer is a scope for token services that know pull and push of
// repositories only, as Quay's: there a push includes deleting, and the catalog
// needs a token and no right.
func plainer(scope string) string {
	if scope == "registry:catalog:*" {
		return ""
	}
	if name, ok := strings.CutSuffix(scope, ":delete"); ok && !strings.Contains(scope, " ") {
		return name + ":pull,push"
	}
	return strings.TrimSuffix(scope, ",delete")
}

// tokenPause is how long a token service is left alone that had too many
// requests and does not say for how long. The tokens in hand go on.
const tokenPause = 30 * time.Second

// hold answers a 429 of the token service: it is not asked for a while.
func (l *login) hold(header http.Header, body []byte) *httpError {
	e := l.tooMany(header, body)
	now := l.u.Now()
	wait, told := readRetryAfter(header, now)
	if !told {
		wait = tokenPause
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = now.Add(min(wait, maxPause))
	return e
}

// heldFor is how long the token service is not to be asked.
func (l *login) heldFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held.Sub(l.u.Now())
}

// readToken reads a token service's answer, whichever of its spellings.
func readToken(body []byte, now time.Time) (token, error) {
	var reply struct {
		Token       string          `json:"token"`
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return token{}, errors.New("token service: its answer is not what tokens come in")
	}
	value := reply.Token
	if value == "" {
		value = reply.AccessToken
	}
	if value == "" || len(value) > maxTokenLength || strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return token{}, errors.New("token service: its answer holds no token")
	}
	ttl := tokenTTL(string(reply.ExpiresIn))
	early := ttl / 5
	if ttl > 20*time.Second {
		early = max(early, 10*time.Second)
	}
	return token{value: "Bearer " + value, renew: now.Add(ttl - early), expires: now.Add(ttl)}, nil
}

// tokenTTL reads expires_in: an integer by the book; a float or a string in
// the wild.
func tokenTTL(s string) time.Duration {
	secs, err := strconv.ParseFloat(strings.Trim(s, `"`), 64)
	if err != nil || math.IsNaN(secs) || secs <= 0 {
		return defaultTokenTTL
	}
	if secs >= maxTokenTTL.Seconds() {
		return maxTokenTTL
	}
	return time.Duration(secs * float64(time.Second))
}

// ping asks /v2/.
func (l *login) ping(ctx context.Context, authorization string) (status int, header http.Header, err error) {
	status, header, _, err = l.get(ctx, l.u.at(l.u.prefix+"/v2/"), authorization)
	return status, header, err
}

// get is a small request of our own.
func (l *login) get(ctx context.Context, at *url.URL, authorization string) (status int, header http.Header, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, authTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return 0, nil, nil, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return l.u.small(req)
}

// small is a small exchange with the upstream or a token service of its, whose
// host was checked before (T34). Redirects are not followed.
func (u *Upstream) small(req *http.Request) (status int, header http.Header, body []byte, err error) {
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "regward")
	transport := u.tokenService
	if u.ownHost(req.URL) {
		transport = u.own
		req.Header.Set("X-Forwarded-Proto", u.scheme)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxTokenReply+1))
	if err != nil {
		return 0, nil, nil, err
	}
	if len(body) > maxTokenReply {
		return 0, nil, nil, errors.New("the answer is too long")
	}
	if u.ownHost(req.URL) {
		err = u.aboutCertificate(resp.StatusCode, resp.Header, body)
	}
	return resp.StatusCode, resp.Header, body, err
}
