package auth

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// oidcLeeway is by how much an issuer's clock and ours may differ.
const oidcLeeway = time.Minute

var errTokenExpired = errors.New("expired")

// times reads when the token is valid and when it ends. Errors here and below go
// on from "the token".
func (t *idToken) times(now time.Time) (expires time.Time, err error) {
	if _, there := t.claims["exp"]; !there {
		return expires, errors.New("never expires (it has no exp), and such a one is not taken")
	}
	if expires, err = t.instant("exp"); err != nil {
		return expires, err
	}
	if !now.Before(expires.Add(oidcLeeway)) {
		return expires, fmt.Errorf("%w at %s: ask the issuer for a new one right before the login", errTokenExpired, instant(expires))
	}
	for _, name := range []string{"nbf", "iat"} {
		if _, there := t.claims[name]; !there {
			continue
		}
		from, err := t.instant(name)
		if err != nil {
			return expires, err
		}
		if now.Add(oidcLeeway).Before(from) {
			return expires, fmt.Errorf("is not valid before %s (%s): is a clock wrong?", instant(from), name)
		}
	}
	return expires, nil
}

// instant is a time in seconds since 1970.
func (t *idToken) instant(claim string) (time.Time, error) {
	const year10000 = 253402300800
	var seconds float64
	raw := t.claims[claim]
	if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') || json.Unmarshal(raw, &seconds) != nil ||
		math.IsNaN(seconds) || seconds < 0 || seconds >= year10000 {
		return time.Time{}, fmt.Errorf("has no time in %s", claim)
	}
	return time.Unix(int64(seconds), 0), nil
}

// meantFor is an error unless one of wanted is among the token's audiences.
func (t *idToken) meantFor(wanted []string) (audience string, err error) {
	raw, there := t.claims["aud"]
	if !there {
		return "", fmt.Errorf("is for nobody in particular (it has no aud), and %s is wanted", orWords(wanted))
	}
	has, ok := textsOf(raw)
	if !ok {
		return "", errors.New("has an audience that is no text")
	}
	for _, one := range has {
		if slices.Contains(wanted, one) {
			return one, nil
		}
	}
	return "", fmt.Errorf("is for %s, and %s is wanted: ask the issuer for one with that audience", orWords(has), orWords(wanted))
}

// has is an error unless every claim has the value that is required.
func (t *idToken) has(required map[string]string) error {
	for _, claim := range slices.Sorted(maps.Keys(required)) {
		raw, there := t.claims[claim]
		if !there {
			return fmt.Errorf("has no %s, and %s is required", shorten(claim), shorten(required[claim]))
		}
		text, ok := scalar(raw)
		if !ok {
			return fmt.Errorf("has a %s that is no text, number or truth value", shorten(claim))
		}
		if text != required[claim] {
			return fmt.Errorf("has %s for %s, and %s is required", shorten(text), shorten(claim), shorten(required[claim]))
		}
	}
	return nil
}

// scalar is a claim as `require` compares it: numbers and truth values by the
// letters they are written in.
func scalar(raw json.RawMessage) (text string, ok bool) {
	if text, ok := textOf(raw); ok {
		return text, !strings.ContainsRune(text, '\uFFFD') // two that cannot be read would be equal
	}
	switch raw[0] {
	case '{', '[', 'n': // null is no value
		return "", false
	}
	return string(raw), true
}

// groups are those of a claim; a token without it is in none.
func (t *idToken) groups(claim string) ([]string, error) {
	raw, there := t.claims[claim]
	if claim == "" || !there || string(raw) == "null" {
		return nil, nil
	}
	all, ok := textsOf(raw)
	if !ok {
		return nil, fmt.Errorf("has a %s that is no list of groups", shorten(claim))
	}
	return all, nil
}

// orWords are few of many, in quotes.
func orWords(all []string) string {
	if len(all) == 0 {
		return "nobody"
	}
	const most = 4
	var words []string
	for _, one := range all[:min(len(all), most)] {
		words = append(words, shorten(one))
	}
	if len(all) > most {
		words = append(words, fmt.Sprintf("%d more", len(all)-most))
	}
	return strings.Join(words, " or ")
}
