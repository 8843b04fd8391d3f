package auth

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// idToken is an issuer's token, read but not verified.
type idToken struct {
	text   string
	alg    string
	kid    string // "" for none
	claims map[string]json.RawMessage
	issuer string
}

// readToken reads a compact JWS whose payload is an object with an issuer. It
// believes nothing. The error goes on from "the token", and quotes nothing of
// what is no token: that may be a password.
//
// What would let a token choose how it is checked is refused: keys and ways to
// them in the header, extensions, another spelling of the same bytes, members
// that are there twice.
func readToken(text string) (*idToken, error) {
	if len(text) > MaxToken {
		return nil, fmt.Errorf("is longer than %d bytes", MaxToken)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errors.New("is none: an ID token has three parts with dots between them")
	}
	var raw [3][]byte
	for i, part := range parts {
		var err error
		// The decoder passes over line ends.
		raw[i], err = base64.RawURLEncoding.Strict().DecodeString(part)
		if err != nil || part == "" || strings.ContainsAny(part, "\r\n") {
			return nil, errors.New("is none, or was changed on its way: a part of it is not the base64 of tokens")
		}
	}
	t := &idToken{text: text}
	if err := t.readHeader(raw[0]); err != nil {
		return nil, err
	}
	var err error
	if t.claims, err = readObject(raw[1]); err != nil {
		return nil, fmt.Errorf("has claims that cannot be read: what is there %w", err)
	}
	var ok bool
	if t.issuer, ok = textOf(t.claims["iss"]); !ok || t.issuer == "" {
		return nil, errors.New("does not say who issued it (iss)")
	}
	return t, nil
}

func (t *idToken) readHeader(raw []byte) error {
	header, err := readObject(raw)
	if err != nil {
		return fmt.Errorf("has a header that cannot be read: what is there %w", err)
	}
	for _, name := range []string{"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"} {
		if _, there := header[name]; there {
			return fmt.Errorf("has %s in its header, and may not say how it is checked", name)
		}
	}
	var ok bool
	if t.alg, ok = textOf(header["alg"]); !ok {
		return errors.New("does not say how it is signed (alg)")
	}
	if kid, there := header["kid"]; there {
		if t.kid, ok = textOf(kid); !ok || t.kid == "" {
			return errors.New("has a kid that is no name of a key")
		}
	}
	if typ, there := header["typ"]; there {
		// Others are for other ends: logout+jwt is signed by the same keys.
		name, ok := textOf(typ)
		name = strings.TrimPrefix(strings.ToLower(name), "application/")
		if !ok || !slices.Contains([]string{"jwt", "at+jwt"}, name) {
			return fmt.Errorf("is of type %s, and no ID token", shorten(name))
		}
	}
	return nil
}
