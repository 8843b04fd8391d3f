package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Tokens signs and verifies regward's own bearer tokens: ES256, one header
// spelling, keys by kid from its own set only.
type Tokens struct {
	keys   []*tokenKey
	header map[string]*tokenKey // by the header segment we write for it
	set    [sha256.Size]byte    // names the set, for the cache
}

type tokenKey struct {
	private *ecdsa.PrivateKey
	secret  []byte // its bytes, for Derive
	kid     string
	signer  jose.Signer
}

// ForeignKey is a token made as ours are, by a key that is not among ours (M14).
// It is an ErrRejected.
type ForeignKey struct{ Kid, Audience string }

// Error is for the log.
func (e *ForeignKey) Error() string {
	return fmt.Sprintf("a token for %s was signed by a key this instance does not have (kid %s): do several instances run without one token.key_file?", e.Audience, e.Kid)
}

// Unwrap makes it an ErrRejected.
func (e *ForeignKey) Unwrap() error { return ErrRejected }

// ErrTooLong is an identity that fits into no token.
var ErrTooLong = errors.New("longer than a token may be")

// errSignature is kept apart because finding it out is what costs.
var errSignature = fmt.Errorf("token: wrong signature: %w", ErrRejected)

// newTokens makes a set of keys, the first of which signs.
func newTokens(keys []*ecdsa.PrivateKey) (*Tokens, error) {
	t := &Tokens{header: map[string]*tokenKey{}}
	sum := sha256.New()
	for _, private := range keys {
		k, err := newTokenKey(private)
		if err != nil {
			return nil, err
		}
		head := headerSegment(k.kid)
		if t.header[head] != nil {
			return nil, errors.New("holds one key twice")
		}
		t.header[head] = k
		t.keys = append(t.keys, k)
		sum.Write(k.secret)
	}
	sum.Sum(t.set[:0])
	return t, nil
}

func newTokenKey(private *ecdsa.PrivateKey) (*tokenKey, error) {
	secret, err := private.Bytes()
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(public)
	kid := hex.EncodeToString(sum[:8])
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: kid}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, err
	}
	return &tokenKey{private, secret, kid, signer}, nil
}

// headerSegment is the one header we write for a key: alg, kid and typ, nothing
// else. A token with any other chooses how it is checked (security.md, 2.1).
func headerSegment(kid string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"` + kid + `","typ":"JWT"}`))
}

// claims is the payload. Its spelling is the order of its fields.
type claims struct {
	Issuer    string        `json:"iss"`
	Subject   string        `json:"sub"`
	Audience  string        `json:"aud"`
	Expires   int64         `json:"exp"`
	NotBefore int64         `json:"nbf"`
	IssuedAt  int64         `json:"iat"`
	ID        string        `json:"jti"`
	Access    []claimAccess `json:"access"`
	Groups    []string      `json:"groups,omitempty"`
	Narrowed  string        `json:"narrowed,omitempty"`
	Via       string        `json:"via,omitempty"`
	Proof     string        `json:"proof,omitempty"`
	Sealed    string        `json:"sealed,omitempty"`
	Epoch     Epoch         `json:"epoch,omitempty"`
	Chain     string        `json:"chain,omitempty"`
}

// claimAccess is distribution's form of an access.
type claimAccess struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// Issue signs a token for id, capped at scope, for one audience (a hostname).
// Repositories at the end of scope that would make it longer than 4 KiB, or
// 8 KiB with a credential sealed in, are left out (T07, T30); an identity that
// alone is too long is an error.
func (t *Tokens) Issue(id Identity, audience string, scope []Access, now time.Time, ttl time.Duration) (string, error) {
	c := claims{
		Issuer: audience, Audience: audience,
		Subject:   id.Name,
		IssuedAt:  now.Unix(),
		NotBefore: now.Unix(),
		Expires:   now.Add(ttl).Unix(),
		ID:        rand.Text(),
		Access:    toClaims(scope),
		Groups:    id.Groups,
		Narrowed:  id.Narrowed,
		Via:       id.Via,
		Epoch:     id.Epoch,
		Chain:     base64.RawURLEncoding.EncodeToString([]byte(id.Chain)),
	}
	if id.Proof != [16]byte{} {
		c.Proof = base64.RawURLEncoding.EncodeToString(id.Proof[:])
	}
	most := MaxIssued
	if box := id.Sealed.Box(); box != "" {
		if id.Anonymous() {
			return "", errors.New("nobody has a credential to be sealed in")
		}
		c.Sealed, most = base64.RawURLEncoding.EncodeToString([]byte(box)), MaxToken
	}
	k := t.keys[0]
	for {
		payload, err := json.Marshal(c)
		if err != nil {
			return "", err
		}
		const signature = 86 // and two dots
		over := len(headerSegment(k.kid)) + base64.RawURLEncoding.EncodedLen(len(payload)) + signature + 2 - most
		if over <= 0 {
			return k.sign(payload)
		}
		if len(c.Access) == 0 {
			return "", fmt.Errorf("user %q: a token with %d groups and %d sealed bytes: %w (%d bytes)", id.Name, len(id.Groups), len(id.Sealed.Box()), ErrTooLong, most)
		}
		c.Access = c.Access[:len(c.Access)-1]
	}
}

func (k *tokenKey) sign(payload []byte) (string, error) {
	signed, err := k.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return signed.CompactSerialize()
}

func toClaims(scope []Access) []claimAccess {
	var set scopeSet
	for _, a := range scope {
		set.add(a.Repository, a.Action)
	}
	list := make([]claimAccess, 0, len(set)) // never null
	for _, sc := range set {
		if sc.actions.Has(List) {
			list = append(list, claimAccess{"registry", "catalog", []string{"*"}})
			continue
		}
		list = append(list, claimAccess{"repository", sc.name, sc.actions.words()})
	}
	return list
}

func fromClaims(list []claimAccess) ([]Access, error) {
	var set scopeSet
	for _, a := range list {
		if a.Type == "registry" && a.Name == "catalog" && len(a.Actions) == 1 && a.Actions[0] == "*" {
			set.add("", List)
			continue
		}
		if a.Type != "repository" || a.Name == "" || len(a.Actions) == 0 {
			return nil, rejected("an access that we do not write")
		}
		for _, word := range a.Actions {
			actions, err := ParseActions(word)
			if err != nil || word == "*" {
				return nil, rejected("an action that we do not write")
			}
			for one := Pull; one <= Delete; one++ {
				if actions.Has(one) {
					set.add(a.Name, one)
				}
			}
		}
	}
	return set.accesses(), nil
}

func rejected(what string) error { return fmt.Errorf("token: %s: %w", what, ErrRejected) }

// Verify checks a token for one audience. An expired one still yields its
// Identity, Expires in the past: callers look at it. Anything wrong with it
// wraps ErrRejected; signed by a key that is not ours, it is a *ForeignKey (M14).
//
// Verify has no clock: that a token is not valid yet is seen by Cache.Bearer.
func (t *Tokens) Verify(token, audience string) (Identity, error) {
	id, _, err := t.verify(token, audience)
	return id, err
}

func (t *Tokens) verify(token, audience string) (id Identity, notBefore time.Time, err error) {
	if len(token) > MaxToken {
		return id, notBefore, rejected("too long")
	}
	head, body, ok := strings.Cut(token, ".")
	k := t.header[head]
	if !ok || k == nil {
		return id, notBefore, unknownHeader(head, audience)
	}
	body, signature, _ := strings.Cut(body, ".")
	payload, err := strictBase64(body)
	if err != nil {
		return id, notBefore, rejected("payload is no base64url in its one spelling")
	}
	if raw, err := strictBase64(signature); err != nil || len(raw) != 64 {
		return id, notBefore, rejected("signature is no base64url of 64 bytes in its one spelling")
	}
	parsed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return id, notBefore, rejected("not a signed token")
	}
	if got, err := parsed.Verify(&k.private.PublicKey); err != nil || !bytes.Equal(got, payload) {
		return id, notBefore, errSignature
	}
	return readClaims(payload, audience)
}

func readClaims(payload []byte, audience string) (id Identity, notBefore time.Time, err error) {
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return id, notBefore, rejected("claims are not what we write")
	}
	// One spelling here too: no key twice, none unknown, none in another case.
	if again, err := json.Marshal(c); err != nil || !bytes.Equal(again, payload) {
		return id, notBefore, rejected("claims are not spelled as we write them")
	}
	switch {
	case c.Audience != audience:
		return id, notBefore, rejected("made for another hostname")
	case c.Issuer != audience:
		return id, notBefore, rejected("made by another issuer")
	case c.ID == "" || c.Expires <= 0 || c.Expires < c.NotBefore || c.Access == nil || c.Epoch < 0:
		return id, notBefore, rejected("claims are missing")
	}
	scope, err := fromClaims(c.Access)
	if err != nil {
		return id, notBefore, err
	}
	id = Identity{
		Name: c.Subject, Groups: c.Groups, Narrowed: c.Narrowed, Via: c.Via, ID: c.ID,
		Expires: time.Unix(c.Expires, 0), Issued: time.Unix(c.IssuedAt, 0), Epoch: c.Epoch,
		Capped: true, Scope: scope,
	}
	if c.Proof != "" {
		proof, err := strictBase64(c.Proof)
		if err != nil || len(proof) != len(id.Proof) {
			return Identity{}, notBefore, rejected("a proof that we do not write")
		}
		copy(id.Proof[:], proof)
	}
	if c.Chain != "" {
		chain, err := strictBase64(c.Chain)
		if err != nil || len(chain)%linkSize != 0 {
			return Identity{}, notBefore, rejected("a chain that we do not write")
		}
		id.Chain = string(chain)
	}
	if c.Sealed != "" {
		box, err := strictBase64(c.Sealed)
		if err != nil || len(box) == 0 || c.Subject == "" {
			return Identity{}, notBefore, rejected("a sealed credential that we do not write")
		}
		id.Sealed = NewSealed(box)
	}
	return id, time.Unix(c.NotBefore, 0), nil
}

// unknownHeader tells a token that another instance made from any other.
func unknownHeader(head, audience string) error {
	raw, err := strictBase64(head)
	if err != nil || len(raw) > 256 {
		return rejected("not one of ours")
	}
	var h struct {
		Kid string `json:"kid"`
	}
	if json.Unmarshal(raw, &h) == nil && len(h.Kid) == 16 && only(h.Kid, "0123456789abcdef") && headerSegment(h.Kid) == head {
		return &ForeignKey{Kid: h.Kid, Audience: audience}
	}
	return rejected("not one of ours")
}

// strictBase64 refuses all but the one spelling: Go's decoder skips line ends
// even when it is strict, and a token with two spellings evades whatever is
// keyed on its text.
func strictBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line end in base64")
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// Derive makes a 32 byte key for label, the same on every instance with the
// same first key. All derives from every key, the first first (for opening
// what an older key sealed).
func (t *Tokens) Derive(label string) (all [][32]byte) {
	for _, k := range t.keys {
		// Fails only for more than 255 hashes' worth of bytes.
		raw, err := hkdf.Key(sha256.New, k.secret, nil, "regward: "+label, 32)
		if err != nil {
			panic(err)
		}
		all = append(all, [32]byte(raw))
	}
	return all
}
