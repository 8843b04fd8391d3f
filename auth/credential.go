package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Kind says what a Credential is.
type Kind uint8

// The kinds of credential.
const (
	None Kind = iota
	Basic
	Bearer
	Refresh
)

// Credential is what a request said about its sender. It prints, in every
// verb, as `none`, `basic alice:***`, `bearer ***` or `refresh ***`. Two are compared with
// Equal.
type Credential struct {
	Kind Kind
	User string // basic: the user name as sent (not yet lower-cased)

	// Where it came from and the hostname it was meant for, for a provider that
	// asks somebody who wants to know. No comparison looks at them, and no key
	// but through the Proof of such a provider.
	Addr netip.Addr
	Host string

	// Known is set by a Cache for the provider it asks: this very login was
	// proven good before, from where it comes now. No key and no comparison
	// looks at it.
	Known bool

	// The password or the token. A pointer, because fmt cannot call Format on a
	// Credential in an unexported field of something else and would print what
	// it finds there: so it finds an address.
	secret *string
}

// NewBasic is a user name and a password.
func NewBasic(user, password string) Credential {
	return Credential{Kind: Basic, User: user, secret: &password}
}

// NewBearer is a bearer token.
func NewBearer(token string) Credential { return Credential{Kind: Bearer, secret: &token} }

// NewRefresh is a refresh token. It has the name that limits of failed logins
// know guesses of one by, and that no user can have (T24).
func NewRefresh(token string) Credential {
	return Credential{Kind: Refresh, User: refreshUser, secret: &token}
}

// Secret is the password or the token.
func (c Credential) Secret() string {
	if c.secret == nil {
		return ""
	}
	return *c.secret
}

// Equal reports whether both say the same, in constant time for the secret.
func (c Credential) Equal(o Credential) bool {
	return c.Kind == o.Kind && c.User == o.User &&
		subtle.ConstantTimeCompare([]byte(c.Secret()), []byte(o.Secret())) == 1
}

// String never holds the secret.
func (c Credential) String() string {
	switch c.Kind {
	case None:
		return "none"
	case Bearer:
		return "bearer ***"
	case Refresh:
		return "refresh ***"
	}
	user := c.User
	if hasControl(user) || !utf8.ValidString(user) {
		user = fmt.Sprintf("%q", user)
	}
	return "basic " + user + ":***"
}

// Format prints String whatever the verb, %#v and %x included.
func (c Credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// MarshalJSON is String as a JSON string.
func (c Credential) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// CheckBasic is a user name and password as strangers send them, in a header or
// in a form (T19, T25). Both empty are None. An empty one beside a full one,
// control characters, what is no UTF-8 or too long, and names that can never be
// a user's (`<token>`: T24; one with a colon, which Basic could not say) are
// errors that wrap ErrMalformed.
func CheckBasic(user, password string) (Credential, error) {
	switch {
	case user == "" && password == "":
		return Credential{}, nil
	case IsRefreshToken(password): // under any name: no directory and no program shall see one
		return Credential{}, ErrRefreshAsPassword
	case user == "":
		return Credential{}, fmt.Errorf("password without a user name: %w", ErrMalformed)
	case password == "":
		return Credential{}, fmt.Errorf("user name without a password: %w", ErrMalformed)
	case len(user) > MaxUser || len(password) > longestPassword(user):
		return Credential{}, fmt.Errorf("user name or password too long: %w", ErrMalformed)
	case !utf8.ValidString(user) || !utf8.ValidString(password):
		return Credential{}, fmt.Errorf("user name or password is no UTF-8: %w", ErrMalformed)
	case hasControl(user) || hasControl(password):
		return Credential{}, fmt.Errorf("control character in user name or password: %w", ErrMalformed)
	case user == refreshUser:
		return Credential{}, fmt.Errorf("<token> is no user name: %w", ErrMalformed)
	case strings.Contains(user, ":"):
		return Credential{}, fmt.Errorf("colon in a user name: %w", ErrMalformed)
	}
	return NewBasic(user, password), nil
}

// ErrRefreshAsPassword is what clients send that hold a refresh token which was
// not taken. It is an ErrMalformed.
var ErrRefreshAsPassword = fmt.Errorf("a refresh token is no password: %w", ErrMalformed)

// longestPassword is more where the password is an issuer's token.
func longestPassword(user string) int {
	if strings.EqualFold(user, OIDCUser) {
		return MaxToken
	}
	return MaxPassword
}

// ParseAuthorization reads the Authorization fields of a request (C20, T25).
// It is total: no field, an unknown scheme and `Basic Og==` are None; two
// fields, control bytes, an empty user xor password, an empty or oversized
// token and the rest of CheckBasic are errors that wrap ErrMalformed.
func ParseAuthorization(values []string) (Credential, error) {
	if len(values) == 0 {
		return Credential{}, nil
	}
	if len(values) > 1 {
		return Credential{}, fmt.Errorf("several Authorization fields: %w", ErrMalformed)
	}
	value := values[0]
	for i := 0; i < len(value); i++ {
		if value[i] < ' ' || value[i] == 0x7f {
			return Credential{}, fmt.Errorf("control byte in Authorization: %w", ErrMalformed)
		}
	}
	scheme, rest, _ := strings.Cut(value, " ")
	rest = strings.Trim(rest, " ")
	switch {
	case strings.EqualFold(scheme, "basic"):
		return parseBasic(rest)
	case strings.EqualFold(scheme, "bearer"):
		return parseBearer(rest)
	}
	return Credential{}, nil
}

func parseBasic(text string) (Credential, error) {
	if len(text) > base64.StdEncoding.EncodedLen(MaxUser+1+MaxToken) {
		return Credential{}, fmt.Errorf("basic credential too long: %w", ErrMalformed)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		// The cause is left out: it can quote a byte of the password.
		return Credential{}, fmt.Errorf("basic credential is no base64: %w", ErrMalformed)
	}
	user, password, ok := strings.Cut(string(raw), ":")
	if !ok {
		return Credential{}, fmt.Errorf("basic credential without a colon: %w", ErrMalformed)
	}
	return CheckBasic(user, password)
}

func parseBearer(token string) (Credential, error) {
	if token == "" {
		return Credential{}, fmt.Errorf("bearer without a token: %w", ErrMalformed)
	}
	if len(token) > MaxToken {
		return Credential{}, fmt.Errorf("bearer token too long: %w", ErrMalformed)
	}
	// b64token of RFC 6750, 2.1.
	for i, body := 0, strings.TrimRight(token, "="); i < len(body); i++ {
		if !tokenBytes[body[i]] {
			return Credential{}, fmt.Errorf("bearer token with bytes no token has: %w", ErrMalformed)
		}
	}
	return NewBearer(token), nil
}

// tokenBytes is a table, not a chain of comparisons: every request has hundreds
// of such bytes.
var tokenBytes = func() (table [256]bool) {
	for _, c := range []byte("-._~+/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		table[c] = true
	}
	return table
}()
