package auth

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// userTemplate makes a user name of claims: "gha/{repository}".
type userTemplate struct {
	parts         []templatePart
	caseSensitive bool
}

// templatePart is a claim and the fixed text after it; the first has no claim
// where the template begins with text.
type templatePart struct{ claim, text string }

// parseUserTemplate reads fixed text and {claims}. The error goes on from the
// template.
func parseUserTemplate(text string, caseSensitive bool) (u userTemplate, err error) {
	u.caseSensitive = caseSensitive
	if len(text) > MaxUser || !utf8.ValidString(text) || hasControl(text) {
		return u, fmt.Errorf("is longer than %d bytes, or has letters that no name may have", MaxUser)
	}
	fixed, rest, more := strings.Cut(text, "{")
	if fixed != "" || !more {
		u.parts = append(u.parts, templatePart{text: u.fold(fixed)})
	}
	for claims := 1; more; claims++ {
		claim, after, closed := strings.Cut(rest, "}")
		if !closed || claim == "" || strings.Contains(claim, "{") {
			return u, errors.New("has a brace that is not closed, or no claim in it: write it like gha/{repository}")
		}
		fixed, rest, more = strings.Cut(after, "{")
		switch {
		case more && fixed == "":
			return u, fmt.Errorf("has nothing between {%s} and the next claim: two people could get one name", claim)
		case claims > MaxClaims:
			return u, fmt.Errorf("names more than %d claims", MaxClaims)
		}
		u.parts = append(u.parts, templatePart{claim, u.fold(fixed)})
	}
	for _, p := range u.parts {
		if strings.Contains(p.text, "}") {
			return u, errors.New("closes a brace that is not open: write it like gha/{repository}")
		}
	}
	return u, nil
}

func (u userTemplate) fold(s string) string {
	if u.caseSensitive {
		return s
	}
	return strings.ToLower(s)
}

// name is whom the token speaks for. A claim that another one follows must not
// hold what stands between them: a branch `b/c` of `a` would be branch `c` of
// `a/b`. The error goes on from "the token".
func (u userTemplate) name(t *idToken) (string, error) {
	var name strings.Builder
	for i, p := range u.parts {
		if p.claim != "" {
			raw, there := t.claims[p.claim]
			value, ok := textOf(raw)
			switch {
			case !there:
				return "", fmt.Errorf("has no %s, which the user's name is made of", shorten(p.claim))
			case !ok || value == "":
				return "", fmt.Errorf("has a %s that is empty or no text, and the user's name is made of it", shorten(p.claim))
			case len(value) > MaxUser || hasControl(value):
				return "", fmt.Errorf("has a %s that is too long for a user's name or has letters that none may have", shorten(p.claim))
			case i < len(u.parts)-1 && strings.Contains(u.fold(value), p.text):
				return "", fmt.Errorf("has a %s with %q in it, which is where the next claim begins in the user's name", shorten(p.claim), p.text)
			}
			// The letters themselves are looked at before they are lower-cased.
			if err := checkLetters(value, u.caseSensitive); err != nil {
				return "", err
			}
			name.WriteString(u.fold(value))
		}
		name.WriteString(p.text)
	}
	return name.String(), checkPerson(name.String(), u.caseSensitive)
}

// checkPerson is checkUser for names that others make up: none is a robot's, so
// that no log, limit or upload takes one for the other. The error goes on from
// "the token", "its answer".
func checkPerson(name string, caseSensitive bool) error {
	if strings.HasPrefix(strings.ToLower(name), RobotPrefix) {
		return fmt.Errorf("names the user %s, and only robots are called so", shorten(name))
	}
	return checkUser(name, caseSensitive)
}
