package auth

// Kind says what a Credential is.
type Kind uint8

// The kinds of credential.
const (
	None Kind = iota
	Basic
	Bearer
)

// Credential is what a request said about its sender. It prints, in every
// verb, as `none`, `basic alice:***` or `bearer ***`.
type Credential struct {
	Kind   Kind
	User   string // basic: the user name as sent (not yet lower-cased)
	secret string // basic: the password; bearer: the token
}

// NewBasic is a user name and a password.
func NewBasic(user, password string) Credential {
	return Credential{Kind: Basic, User: user, secret: password}
}

// NewBearer is a bearer token.
func NewBearer(token string) Credential { return Credential{Kind: Bearer, secret: token} }

// Secret is the password or the token.
func (c Credential) Secret() string { return c.secret }

// ParseAuthorization reads the Authorization fields of a request (C20, T25).
// It is total: no field, an unknown scheme and `Basic Og==` are None; two
// fields, control bytes or an empty user xor password are errors that wrap
// ErrMalformed.
func ParseAuthorization(values []string) (Credential, error) { panic("unwritten") }
