package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"
)

// HtpasswdOptions are the keys of `auth` that shape the file's reading.
type HtpasswdOptions struct {
	AllowWeak     bool
	CaseSensitive bool

	// Key keys the proofs that tokens carry. It must be the same over restarts
	// and on all instances: Tokens.Derive("htpasswd proof")[0].
	Key ProofKey
}

// LineError is one bad line of a file. Msg and Fix never hold a hash.
type LineError struct {
	File     string
	Line     int // from 1
	Col      int // from 1; 0 for the whole line
	Msg, Fix string
}

func (e *LineError) Error() string {
	s := fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
	if e.Col > 0 {
		s = fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
	}
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// LineErrors are all bad lines of a file, in order, at most MaxLineErrors.
type LineErrors []*LineError

// Error is one line for each.
func (e LineErrors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lists them one by one.
func (e LineErrors) Unwrap() []error {
	list := make([]error, len(e))
	for i, one := range e {
		list[i] = one
	}
	return list
}

// Htpasswd is an Authenticator over one reading of a file. It is immutable.
type Htpasswd struct {
	lines map[string]htpasswdLine
	fold  bool // names are compared in lower case
	dummy hash // checked for names the file does not have
}

type htpasswdLine struct {
	hash  hash
	proof [16]byte
}

// ParseHtpasswd reads an htpasswd file: bcrypt and argon2id lines, with
// AllowWeak also $apr1$, {SHA} and {SSHA}; empty lines and those that begin
// with # are skipped. All bad lines are reported at once as LineErrors, never
// with a hash. Without CaseSensitive, names that differ only in case are an
// error.
func ParseHtpasswd(file string, data []byte, o HtpasswdOptions) (*Htpasswd, error) {
	if len(data) > MaxHtpasswd {
		return nil, fmt.Errorf("%s: longer than %d bytes", file, MaxHtpasswd)
	}
	h := &Htpasswd{lines: map[string]htpasswdLine{}, fold: !o.CaseSensitive}
	where := map[string]int{} // name to its line
	var bad LineErrors
	n := 0
	for text := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		n++
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		name, line, err := h.parseLine(text, o)
		if err == nil && where[name] != 0 {
			err = &SyntaxError{
				Msg: fmt.Sprintf("user %q is in line %d already", name, where[name]),
				Fix: "keep one of the two lines",
			}
			if h.fold {
				err.(*SyntaxError).Fix += "; names are compared in lower case unless auth.case_sensitive is set"
			}
		}
		if err != nil {
			if len(bad) < MaxLineErrors {
				bad = append(bad, lineError(file, n, err))
			}
			continue
		}
		where[name], h.lines[name] = n, line
	}
	if len(bad) > 0 {
		return nil, bad
	}
	h.dummy = h.likeMost()
	return h, nil
}

func lineError(file string, n int, err error) *LineError {
	e := &LineError{File: file, Line: n, Msg: err.Error()}
	if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
		e.Fix = syntax.Fix
	}
	return e
}

// parseLine reads one line. The error is a *SyntaxError.
func (h *Htpasswd) parseLine(text string, o HtpasswdOptions) (string, htpasswdLine, error) {
	name, rest, ok := strings.Cut(text, ":")
	switch {
	case !ok:
		// Not quoted: it may be a hash whose name was lost.
		return "", htpasswdLine{}, &SyntaxError{Msg: "is not NAME:HASH", Fix: "`htpasswd -nB NAME` writes such a line"}
	case name == "" || len(name) > MaxUser || hasControl(name) || !utf8.ValidString(name) || name == "<token>":
		return "", htpasswdLine{}, &SyntaxError{Msg: fmt.Sprintf("no user can be named %s", shorten(name))}
	case strings.EqualFold(name, "anonymous"):
		return "", htpasswdLine{}, &SyntaxError{
			Msg: fmt.Sprintf("user %q has the name that rules and logs use for nobody in particular", name),
			Fix: "choose another name",
		}
	}
	sum, err := parseHash(rest, o.AllowWeak)
	if err != nil {
		e := *err.(*SyntaxError)
		e.Msg = fmt.Sprintf("user %q %s", name, e.Msg)
		return "", htpasswdLine{}, &e
	}
	name = h.name(name)
	return name, htpasswdLine{sum, prove(o.Key, name, rest)}, nil
}

func prove(key [32]byte, name, rest string) [16]byte {
	mac := hmac.New(sha256.New, key[:])
	_ = binary.Write(mac, binary.BigEndian, uint32(len(name)))
	mac.Write([]byte(name))
	mac.Write([]byte(rest))
	return [16]byte(mac.Sum(nil))
}

// likeMost is a dummy of the cost that most lines have, so that an unknown
// name takes as long as a known one (G20).
func (h *Htpasswd) likeMost() hash {
	count := map[string]int{}
	var most hash
	for _, name := range h.Names() { // in one order: equal files get equal dummies
		one := h.lines[name].hash
		count[one.cost()]++
		if most == nil || count[one.cost()] > count[most.cost()] {
			most = one
		}
	}
	if most == nil {
		return dummyBcrypt(bcrypt.DefaultCost)
	}
	return most.dummy()
}

func (h *Htpasswd) name(user string) string {
	if h.fold {
		return strings.ToLower(user)
	}
	return user
}

// Authenticate checks a user name and password. A name that the file does not
// have costs a hash as well and is ErrNotMine; so, without one, is what is no
// Basic credential.
func (h *Htpasswd) Authenticate(_ context.Context, c Credential) (Identity, error) {
	if c.Kind != Basic {
		return Identity{}, ErrNotMine
	}
	name := h.name(c.User)
	line, known := h.lines[name]
	if !known {
		h.dummy.match(c.Secret())
		return Identity{}, fmt.Errorf("htpasswd: user %q: %w", c.User, ErrNotMine)
	}
	// Control characters are refused after the work: some hashes end or pad there.
	if !line.hash.match(c.Secret()) || c.Secret() == "" || hasControl(c.Secret()) {
		return Identity{}, fmt.Errorf("htpasswd: user %q: %w", c.User, ErrRejected)
	}
	return Identity{Name: name, Via: viaHtpasswd, Proof: line.proof}, nil
}

// Proof is the keyed hash of the line, or nothing where there is none.
func (h *Htpasswd) Proof(c Credential) []byte {
	line, known := h.lines[h.name(c.User)]
	if !known {
		return nil
	}
	return line.proof[:]
}

// Current reports whether the line that proved id is still there. It does not
// allocate.
func (h *Htpasswd) Current(id *Identity) bool {
	if id.Via != viaHtpasswd {
		return false
	}
	line, known := h.lines[id.Name]
	return known && subtle.ConstantTimeCompare(line.proof[:], id.Proof[:]) == 1
}

// Owns reports whether the file has the name.
func (h *Htpasswd) Owns(name string) bool {
	_, known := h.lines[name]
	return known
}

// Names are all user names, sorted, as identities have them.
func (h *Htpasswd) Names() []string {
	names := make([]string, 0, len(h.lines))
	for name := range h.lines {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Len counts the users.
func (h *Htpasswd) Len() int { return len(h.lines) }
