package auth

import (
	"cmp"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// OIDCUser is the user name that goes with an issuer's token as the password:
// docker login -u oidc --password-stdin.
const OIDCUser = "oidc"

// IssuerOptions are the keys of one entry of auth.oidc.
type IssuerOptions struct {
	Name        string // in Identity.Via and in the log
	Issuer      string // https, as the tokens have it for iss
	Audience    []string
	Require     map[string]string
	User        string // "" is {sub}
	Groups      []string
	GroupsClaim string
	CA          []byte   // PEM; nil: the system's
	Algorithms  []string // none: RS256 and ES256
}

// OIDCOptions shape whom tokens speak for.
type OIDCOptions struct {
	Issuers       []IssuerOptions
	CaseSensitive bool
	Key           ProofKey // proofs are made with it: the same on every instance
	Now           func() time.Time
	Previous      *OIDC // its keys of issuers that are here too go on being used; may be nil
}

// OIDC takes the tokens of issuers as passwords of the user `oidc`. It keeps
// nothing but the issuers' public keys.
//
// A token is good if its iss is that of an entry, letter by letter, it is signed
// by a key of that issuer in one of the entry's algorithms, is for one of its
// audiences, has not expired, and has what it requires. Of several entries with
// one issuer the first whose conditions it meets counts. azp is not looked at;
// `require` can be.
type OIDC struct {
	issuers       []*oidcIssuer
	caseSensitive bool
	now           func() time.Time
	proof         []byte // of all issuers together
}

// oidcIssuer is one entry.
type oidcIssuer struct {
	IssuerOptions
	via   string
	user  userTemplate
	keys  *issuerKeys
	ca    [sha256.Size]byte
	proof [16]byte
}

// OptionError is a key of an entry that nothing can be made of.
type OptionError struct {
	Index int    // of the entry
	Key   string // as in the file
	Err   error
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("auth.oidc[%d].%s: %v", e.Index, e.Key, e.Err)
}

// Unwrap is the cause.
func (e *OptionError) Unwrap() error { return e.Err }

// NewOIDC asks nobody: keys are fetched when they are wanted. The error is an
// *OptionError.
func NewOIDC(o OIDCOptions) (*OIDC, error) {
	all := &OIDC{caseSensitive: o.CaseSensitive, now: o.Now}
	for i, one := range o.Issuers {
		made, err := all.newIssuer(one, o)
		if err != nil {
			err.Index = i
			return nil, err
		}
		all.issuers = append(all.issuers, made)
		all.proof = append(all.proof, made.proof[:]...)
	}
	return all, nil
}

func (n *OIDC) newIssuer(one IssuerOptions, o OIDCOptions) (*oidcIssuer, *OptionError) {
	if len(one.Algorithms) == 0 {
		one.Algorithms = []string{oidc.RS256, oidc.ES256}
	}
	one.User = cmp.Or(one.User, "{sub}")
	i := &oidcIssuer{IssuerOptions: one, via: viaOIDC + one.Name, ca: sha256.Sum256(one.CA)}
	if u, err := url.Parse(one.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, &OptionError{Key: "issuer", Err: fmt.Errorf("%s is no URL of an issuer with https", shorten(one.Issuer))}
	}
	if len(one.Audience) == 0 || slices.Contains(one.Audience, "") {
		return nil, &OptionError{Key: "audience", Err: errors.New("is empty: tokens for anybody would be taken")}
	}
	for _, alg := range one.Algorithms {
		if !slices.Contains(IssuerAlgorithms(), alg) {
			return nil, &OptionError{Key: "algorithms", Err: fmt.Errorf("%s is no signature by the issuer alone", shorten(alg))}
		}
	}
	var err error
	if i.user, err = parseUserTemplate(one.User, o.CaseSensitive); err != nil {
		return nil, &OptionError{Key: "user", Err: fmt.Errorf("%s %w", shorten(one.User), err)}
	}
	if _, err := checkGroups(one.Groups); err != nil {
		return nil, &OptionError{Key: "groups", Err: err}
	}
	if i.keys, err = n.keysFor(i, o); err != nil {
		return nil, &OptionError{Key: "ca_file", Err: err}
	}
	i.proof = i.prove(o)
	return i, nil
}

// IssuerAlgorithms are those signatures that only an issuer can make. A secret that
// others have as well is none.
func IssuerAlgorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}
}

// keysFor are shared by all entries that ask the same issuer in the same way,
// those from before a reload included.
func (n *OIDC) keysFor(i *oidcIssuer, o OIDCOptions) (*issuerKeys, error) {
	known := n.issuers
	if o.Previous != nil {
		known = slices.Concat(known, o.Previous.issuers)
	}
	for _, other := range known {
		if other.Issuer == i.Issuer && other.ca == i.ca {
			return other.keys, nil
		}
	}
	client, err := newIssuerClient(i.CA)
	if err != nil {
		return nil, err
	}
	return &issuerKeys{issuer: i.Issuer, client: client, now: o.Now}, nil
}

// prove is a keyed hash of all that an entry decides by.
func (i *oidcIssuer) prove(o OIDCOptions) [16]byte {
	mac := hmac.New(sha256.New, o.Key[:])
	list := func(all ...string) {
		_ = binary.Write(mac, binary.BigEndian, uint32(len(all)))
		for _, one := range all {
			_ = binary.Write(mac, binary.BigEndian, uint32(len(one)))
			mac.Write([]byte(one))
		}
	}
	list("oidc", i.Issuer, i.User, i.GroupsClaim, string(i.ca[:]), fmt.Sprint(o.CaseSensitive))
	list(i.Audience...)
	list(i.Groups...)
	list(i.Algorithms...)
	for _, claim := range slices.Sorted(maps.Keys(i.Require)) {
		list(claim, i.Require[claim])
	}
	return [16]byte(mac.Sum(nil))
}

// Authenticate says whom the token speaks for, until when. Another user name than
// `oidc` is ErrNotMine, unless the password is a token by one of the issuers:
// nobody else shall see that. What is wrong with a token is a *Rejection. An
// issuer that cannot be asked for its keys could not say, unless the token is
// wrong by itself.
func (n *OIDC) Authenticate(ctx context.Context, c Credential) (Identity, error) {
	if !n.mine(c) {
		return Identity{}, ErrNotMine
	}
	if !n.asUser(c) {
		return Identity{}, &Rejection{strings.TrimSuffix(viaOIDC, ":"), fmt.Sprintf("%s came with an issuer's token, and those log in as %s", shorten(c.User), OIDCUser), WrongToken}
	}
	t, err := readToken(c.Secret())
	if err != nil {
		return Identity{}, &Rejection{strings.TrimSuffix(viaOIDC, ":"), "the token " + err.Error(), WrongToken}
	}
	var best *wrongToken
	var unsaid error
	for _, i := range n.issuers {
		if i.Issuer != t.issuer {
			continue
		}
		id, err := i.identify(ctx, t, n.now())
		if err == nil {
			return id, nil
		}
		wrong := (*wrongToken)(nil)
		if !errors.As(err, &wrong) {
			unsaid = err
		} else if best == nil || wrong.at > best.at {
			best = wrong
		}
	}
	switch {
	case unsaid != nil:
		return Identity{}, unsaid
	case best != nil:
		return Identity{}, best.rejection()
	}
	return Identity{}, &Rejection{strings.TrimSuffix(viaOIDC, ":"), fmt.Sprintf("the token is by %s, which is no issuer here", shorten(t.issuer)), WrongToken}
}

func (n *OIDC) mine(c Credential) bool {
	return c.Kind == Basic && (n.asUser(c) || n.issued(c.Secret()))
}

func (n *OIDC) asUser(c Credential) bool {
	return c.User == OIDCUser || !n.caseSensitive && strings.EqualFold(c.User, OIDCUser)
}

// issued reports whether a password is what one of the issuers may have issued.
func (n *OIDC) issued(password string) bool {
	if !strings.HasPrefix(password, "eyJ") { // a JSON object begins so in base64
		return false
	}
	t, err := readToken(password)
	return err == nil && slices.ContainsFunc(n.issuers, func(i *oidcIssuer) bool { return i.Issuer == t.issuer })
}

// wrongToken is what an entry has against a token. Of several entries' words the
// one that came furthest is told.
type wrongToken struct {
	via string
	at  int
	why error
}

func (e *wrongToken) Error() string { return e.why.Error() }

func (e *wrongToken) rejection() *Rejection {
	word := WrongToken
	switch {
	case errors.Is(e.why, errTokenExpired):
		word = TokenExpired
	case e.at == atAudience:
		word = WrongAudience
	}
	return &Rejection{e.via, "the token " + e.why.Error(), word}
}

// atAudience is how far a token came that is for somebody else.
const atAudience = 1

// identify goes from what costs nothing to what costs a question, and tells what
// it requires only to whom the issuer knows.
func (i *oidcIssuer) identify(ctx context.Context, t *idToken, now time.Time) (Identity, error) {
	at := 0
	wrong := func(err error) (Identity, error) { return Identity{}, &wrongToken{i.via, at, err} }
	if !slices.Contains(i.Algorithms, t.alg) {
		return wrong(fmt.Errorf("is signed with %s, and %s is wanted", shorten(t.alg), orWords(i.Algorithms)))
	}
	expires, err := t.times(now)
	if err != nil {
		return wrong(err)
	}
	at++
	audience, err := t.meantFor(i.Audience)
	if err != nil {
		return wrong(err)
	}
	at++
	keys, err := i.keys.find(ctx, t.alg, t.kid)
	if errors.Is(err, errNoSuchKey) {
		return wrong(fmt.Errorf("is signed by a key that the issuer does not have (kid %s, %s)", shorten(t.kid), t.alg))
	}
	if err != nil {
		return Identity{}, err
	}
	if err := i.verify(ctx, t, keys, audience, now); err != nil {
		return wrong(err)
	}
	at++
	if err := t.has(i.Require); err != nil {
		return wrong(err)
	}
	at++
	name, err := i.user.name(t)
	if err != nil {
		return wrong(err)
	}
	groups, err := t.groups(i.GroupsClaim)
	if err == nil {
		groups, err = checkGroups(slices.Concat(i.Groups, groups))
	}
	if err != nil {
		return wrong(err)
	}
	return Identity{Name: name, Groups: groups, Via: i.via, Expires: expires, Proof: i.proof}, nil
}

// verify has another program's eyes look at signature, issuer, audience and end.
func (i *oidcIssuer) verify(ctx context.Context, t *idToken, keys []crypto.PublicKey, audience string, now time.Time) error {
	verifier := oidc.NewVerifier(i.Issuer, &oidc.StaticKeySet{PublicKeys: keys}, &oidc.Config{
		ClientID:             audience,
		SupportedSigningAlgs: i.Algorithms,
		Now:                  func() time.Time { return now.Add(-oidcLeeway) },
	})
	verified, err := verifier.Verify(ctx, t.text)
	if err != nil {
		return fmt.Errorf("has a wrong signature, or cannot be verified: %s", shorten(err.Error()))
	}
	if verified.Issuer != i.Issuer { // it forgives Google one
		return errors.New("is by another issuer")
	}
	return nil
}

// Proof is what all entries decide by: which of them counts is in the token.
func (n *OIDC) Proof(c Credential) []byte {
	if !n.mine(c) {
		return nil
	}
	return n.proof
}

// Current reports whether the entry that proved id still decides as it did. It
// does not allocate.
func (n *OIDC) Current(id *Identity) bool {
	for _, i := range n.issuers {
		if i.via == id.Via && subtle.ConstantTimeCompare(i.proof[:], id.Proof[:]) == 1 {
			return true
		}
	}
	return false
}

// Remote says that checks wait for issuers, if for anybody.
func (n *OIDC) Remote() bool { return true }
