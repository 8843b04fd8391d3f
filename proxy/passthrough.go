package proxy

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/regward/regward/auth"
)

// credential is a caller's own at one upstream (passthrough): the token that
// its token service gave for their login, or, where it knows Basic only, the
// login. It leaves for that upstream and is otherwise only ever sealed (T36).
type credential struct {
	auth.Credential           // Bearer or Basic
	expires         time.Time // of a token, by the upstream's word
}

// authorization is the value of the header field.
func (c credential) authorization() string {
	if c.Kind == auth.Basic {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+c.Secret()))
	}
	return "Bearer " + c.Secret()
}

// safe is a sealer of credentials of one upstream.
type safe struct{ *sealer }

// credentialLabel is authenticated with every credential: what is sealed for
// one upstream does not open at another.
const credentialLabel = "passthrough credential 1 "

func newSafe(keys [][32]byte, upstream string) safe {
	s := newSealer(keys, upstream)
	s.label = []byte(credentialLabel + upstream)
	return safe{s}
}

// padding rounds lengths up: that of a box shall not tell that of a password.
const padding = 64

// seal makes a box that opens for one principal, at any instance with the keys.
func (s safe) seal(c credential, principal string) auth.Sealed {
	plain := make([]byte, 0, len(c.User)+len(c.Secret())+len(principal)+2*padding)
	plain = append(plain, byte(c.Kind))
	expires := int64(0)
	if !c.expires.IsZero() {
		expires = c.expires.Unix()
	}
	plain = binary.AppendVarint(plain, expires)
	plain = appendString(plain, principal)
	plain = appendString(plain, c.User)
	plain = appendString(plain, c.Secret())
	for len(plain)%padding != 0 {
		plain = append(plain, 0)
	}
	return auth.NewSealed(s.sealBytes(plain))
}

// open is the inverse for the same principal. Whatever is wrong with the box,
// it is not ok.
func (s safe) open(sealed auth.Sealed, principal string) (credential, bool) {
	plain, ok := s.openBytes([]byte(sealed.Box()))
	if !ok {
		return credential{}, false
	}
	c, whose, ok := readCredential(plain)
	return c, ok && whose == principal && principal != ""
}

func readCredential(plain []byte) (c credential, principal string, ok bool) {
	if len(plain) == 0 || len(plain)%padding != 0 {
		return c, "", false
	}
	kind := auth.Kind(plain[0])
	expires, n := binary.Varint(plain[1:])
	if n <= 0 {
		return c, "", false
	}
	var user, secret string
	if principal, plain, ok = cutString(plain[1+n:]); !ok {
		return c, "", false
	}
	if user, plain, ok = cutString(plain); !ok {
		return c, "", false
	}
	if secret, plain, ok = cutString(plain); !ok || secret == "" || len(plain) >= padding {
		return c, "", false
	}
	for _, b := range plain {
		if b != 0 {
			return c, "", false
		}
	}
	switch {
	case kind == auth.Bearer && user == "":
		c.Credential = auth.NewBearer(secret)
	case kind == auth.Basic && user != "":
		c.Credential = auth.NewBasic(user, secret)
	default:
		return c, "", false
	}
	if expires != 0 {
		c.expires = time.Unix(expires, 0)
	}
	return c, principal, true
}

// credentialFor lets the caller's own login at b go on with out, where b wants
// that (passthrough): the login itself if the request came with one, else what
// is sealed in the token. Anonymous callers, and those of any other upstream,
// go the way of regward's own account.
//
// It fails (401, insufficient_scope) where the caller is a name that b did not
// prove, or the token was not given for b. A sealed token is good for what its
// own request asked for and nothing more: who lists a catalog, or looks up
// manifests for a blob, gets what the upstream gives for that.
func (x *exchange) credentialFor(b *backend, out *outgoing) error {
	if x.who.Anonymous() {
		return nil
	}
	if b != x.up && !x.s.proves(x.site.name, b, &x.who.Identity) { // for x.up that was seen before
		return x.notForHere(b)
	}
	if !b.settings.Passthrough {
		return nil
	}
	c, err := x.ownCredential(b, out.Scope)
	if err != nil {
		return err
	}
	out.Credential = c.authorization()
	out.Mount = x.req.Kind == KindUploadStart && x.req.Mount != ""
	out.TurnedAway = func(status int, header http.Header) error { return x.turnedAway(b, c, status, header) }
	return nil
}

func (x *exchange) ownCredential(b *backend, scope string) (credential, error) {
	if x.basic.Kind == auth.Basic { // the relay sees to it that it is still good
		return b.relay.credential(x.r.Context(), relayAsk{cred: x.basic, scopes: scope, addr: x.addr.String(), id: x.id})
	}
	c, ok := b.safe.open(x.who.Sealed, x.who.Name)
	if !ok {
		return c, x.notForHere(b)
	}
	if err := b.asked.barred(c.Credential); err != nil {
		return c, x.barred(b, err)
	}
	return c, nil
}

// barred is what a caller hears whose sealed login is not sent again: Nexus
// locks a name after few wrong passwords, and clients repeat them.
func (x *exchange) barred(b *backend, err error) error {
	if locked := (*cannotSay)(nil); errors.As(err, &locked) {
		return locked.refusal()
	}
	return x.dead(b, err)
}

// notForHere is a good token that another upstream's login, or none, went into.
// Asked for with the scope in the challenge, the next one has the right one (T35).
func (x *exchange) notForHere(b *backend) error {
	e := unauthorized("DENIED", "the token presented was not given for "+b.spoken(), x.askedScope(), "").because(reasonNotCovered)
	if x.who.Capped {
		e.authErr = "insufficient_scope"
	}
	return e
}

// turnedAway is what a caller hears whose own credential the upstream turned
// down: it has run out, it does not cover this, or nothing would.
func (x *exchange) turnedAway(b *backend, c credential, status int, header http.Header) error {
	cause := fmt.Errorf("upstream answered %d to the caller's own credential", status)
	switch {
	case status == http.StatusTooManyRequests:
		return x.barred(b, b.asked.lock(c.Credential, b.asked.key(foldName(c.User), ""), nameLocked))
	case status == http.StatusForbidden:
		return refuse(status, "DENIED", b.spoken()+" does not allow "+x.who.Name+" to do this").because(reasonUpstream).from(cause)
	}
	e := unauthorized("DENIED", b.spoken()+" does not allow "+x.who.Name+" to do this, or it does not exist", x.askedScope(), "insufficient_scope").
		because(reasonUpstream).from(cause)
	if c.Kind == auth.Basic {
		b.relay.forget() // the challenge may have changed
		b.asked.doubted(x.r.Context(), c.Credential, header)
	}
	if c.Kind == auth.Basic || !c.expires.IsZero() && !x.start.Before(c.expires) || saysInvalid(header) {
		return x.dead(b, cause)
	}
	return x.tokenless(e)
}

// dead is the answer to a credential that is no good any more.
func (x *exchange) dead(b *backend, cause error) error {
	return x.tokenless(unauthorized("UNAUTHORIZED", b.spoken()+" no longer takes the login this token was given to: log in again", x.askedScope(), "invalid_token").
		because(reasonRevoked).from(cause))
}

// tokenless takes what is said of a token from the answer to who came without.
func (x *exchange) tokenless(e *httpError) *httpError {
	if !x.who.Capped {
		e.authErr = ""
	}
	return e
}

// saysInvalid reports whether an upstream says that the token is no good at
// all, as against one that does not cover the request (RFC 6750, 3.1).
func saysInvalid(header http.Header) bool {
	for _, c := range parseChallenges(header["Www-Authenticate"]) {
		if c.Error == "invalid_token" {
			return true
		}
	}
	return false
}

// send asks the upstream itself: with the caller's own credential where there
// is one, and then never with ours.
func (u *Upstream) send(ctx context.Context, out *outgoing, req *hopRequest) (*http.Response, error) {
	if out.Credential == "" {
		if u.settings.Passthrough && out.User != "" { // a mistake of ours; our account may see more than they
			return nil, broken(errors.New("a caller with a name came without a credential of theirs"))
		}
		return u.login.send(ctx, out, req)
	}
	req.set("Authorization", out.Credential)
	resp, err := u.hop.roundTrip(ctx, req)
	u.note(ctx, out, resp, err)
	if err == nil && turnedAway(resp.StatusCode) && out.Mount && out.bodyless() && out.URL == nil {
		// The source may be what they have no right on. A plain upload is what
		// every client goes on with (P14).
		drop(resp)
		plain := *out
		plain.RawQuery = ""
		if req, _, err = u.request(&plain); err != nil {
			return nil, err
		}
		req.set("Authorization", out.Credential)
		resp, err = u.hop.roundTrip(ctx, req)
	}
	if err != nil {
		return resp, err
	}
	locked := resp.StatusCode == http.StatusTooManyRequests && out.TurnedAway != nil && strings.HasPrefix(out.Credential, "Basic ") && lockedOut(resp.Header, resp.Body)
	if !locked && !turnedAway(resp.StatusCode) {
		return resp, nil
	}
	drop(resp)
	if out.TurnedAway == nil {
		return nil, broken(errors.New("upstream turns the caller's own credential down"))
	}
	return nil, out.TurnedAway(resp.StatusCode, resp.Header)
}
