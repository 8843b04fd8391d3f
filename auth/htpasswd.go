package auth

// HtpasswdOptions are the keys of `auth` that shape the file's reading.
type HtpasswdOptions struct {
	AllowWeak     bool
	CaseSensitive bool
}

// ParseHtpasswd reads an htpasswd file: bcrypt and argon2id lines, with
// AllowWeak also $apr1$, {SHA} and {SSHA}. All bad lines are reported at once,
// as "file:line: ...", never with a hash. Without CaseSensitive, names that
// differ only in case are an error.
func ParseHtpasswd(file string, data []byte, o HtpasswdOptions) (*Htpasswd, error) {
	panic("unwritten")
}

// Htpasswd is an Authenticator over one reading of a file. It is immutable.
type Htpasswd struct{}

// HashPassword makes a bcrypt line's hash (cost 10) for `regward hash-password`.
func HashPassword(password string) (string, error) { panic("unwritten") }
