package auth

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	weak "github.com/tg123/go-htpasswd"
	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// hash is the second half of an htpasswd line. Its match always does the whole
// work, for any password.
type hash interface {
	match(password string) bool
	// cost names kind and price: two hashes of one cost take the same time.
	cost() string
	// dummy is a hash of the same cost that nobody's password has.
	dummy() hash
}

// parseHash reads a hash. Errors never hold it, nor a part of it.
func parseHash(text string, allowWeak bool) (hash, error) {
	switch {
	case strings.HasPrefix(text, "$2a$") || strings.HasPrefix(text, "$2b$") || strings.HasPrefix(text, "$2y$"):
		return parseBcrypt(text)
	case strings.HasPrefix(text, "$argon2id$"):
		return parseArgon2(text)
	case strings.HasPrefix(text, "$apr1$"), strings.HasPrefix(text, "{SHA}"), strings.HasPrefix(text, "{SSHA}"):
		if !allowWeak {
			kind, _, _ := strings.Cut(strings.TrimLeft(text, "${"), "$")
			kind, _, _ = strings.Cut(kind, "}")
			return nil, &SyntaxError{
				Msg: fmt.Sprintf("has a weak hash (%s)", kind),
				Fix: "write a new one with `regward hash-password`, or set auth.allow_weak_hashes: true",
			}
		}
		return parseWeak(text)
	case strings.HasPrefix(text, "$argon2"):
		return nil, &SyntaxError{Msg: "has an argon2 hash that is not argon2id", Fix: "write a new one with `regward hash-password`"}
	case text == "":
		return nil, &SyntaxError{Msg: "has no hash", Fix: "`regward hash-password` writes one"}
	}
	return nil, &SyntaxError{
		Msg: "has a hash of unknown kind: bcrypt ($2y$...) and argon2id are read",
		Fix: "write a new one with `regward hash-password`",
	}
}

type bcryptHash struct {
	text []byte
	n    int
}

func parseBcrypt(text string) (hash, error) {
	n, err := bcrypt.Cost([]byte(text))
	if err != nil || len(text) != 60 || !only(text[7:], "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") {
		return nil, &SyntaxError{Msg: "has a bcrypt hash that is cut or broken", Fix: "write a new one with `regward hash-password`"}
	}
	if n > MaxBcryptCost {
		return nil, &SyntaxError{
			Msg: fmt.Sprintf("has a bcrypt hash of cost %d, which takes too long to check; %d is the most", n, MaxBcryptCost),
			Fix: "write a new one with `regward hash-password`",
		}
	}
	return &bcryptHash{[]byte(text), n}, nil
}

// match refuses more than 72 bytes, of which bcrypt would ignore the rest,
// after as much work as for any other.
func (h *bcryptHash) match(password string) bool {
	whole := len(password) <= MaxBcryptPassword
	ok := bcrypt.CompareHashAndPassword(h.text, []byte(password[:min(len(password), MaxBcryptPassword)])) == nil
	return ok && whole
}

func (h *bcryptHash) cost() string { return "bcrypt " + strconv.Itoa(h.n) }
func (h *bcryptHash) dummy() hash  { return dummyBcrypt(h.n) }

// dummyBcrypt is written, not computed: a reload must not cost a hash.
func dummyBcrypt(cost int) hash {
	return &bcryptHash{fmt.Appendf(nil, "$2y$%02d$%s", cost, strings.Repeat(".", 53)), cost}
}

type argon2Hash struct {
	memory, time uint32
	threads      uint8
	salt, sum    []byte
}

func parseArgon2(text string) (hash, error) {
	broken := &SyntaxError{Msg: "has an argon2id hash that is cut or broken", Fix: "write it as $argon2id$v=19$m=65536,t=3,p=4$SALT$HASH"}
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[2] != "v=19" {
		return nil, broken
	}
	numbers := strings.Split(parts[3], ",")
	if len(numbers) != 3 {
		return nil, broken
	}
	var value [3]uint64
	for i, name := range []string{"m=", "t=", "p="} {
		digits, ok := strings.CutPrefix(numbers[i], name)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil {
			return nil, broken
		}
		value[i] = n
	}
	m, t, p := value[0], value[1], value[2]
	if p < 1 || t < 1 || m < 8*p {
		return nil, broken
	}
	if m > MaxArgon2Memory || t > MaxArgon2Time || p > MaxArgon2Threads {
		return nil, &SyntaxError{
			Msg: "has an argon2id hash that takes too much to check",
			Fix: fmt.Sprintf("write one with at most m=%d,t=%d,p=%d", MaxArgon2Memory, MaxArgon2Time, MaxArgon2Threads),
		}
	}
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	sum, err2 := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64 {
		return nil, broken
	}
	return &argon2Hash{uint32(m), uint32(t), uint8(p), salt, sum}, nil
}

func (h *argon2Hash) match(password string) bool {
	sum := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

func (h *argon2Hash) cost() string {
	return fmt.Sprintf("argon2id %d %d %d", h.memory, h.time, h.threads)
}

func (h *argon2Hash) dummy() hash {
	d := *h
	d.sum = make([]byte, len(h.sum))
	return never{&d}
}

type weakHash struct {
	kind string
	weak.EncodedPasswd
}

// parseWeak leaves out what the parsers say: they quote the hash.
func parseWeak(text string) (hash, error) {
	broken := &SyntaxError{Msg: "has a hash that is cut or broken", Fix: "write a new one with `regward hash-password`"}
	parse := weak.AcceptSha
	kind := "{SHA}"
	switch {
	case strings.HasPrefix(text, "$apr1$"):
		salt, sum, ok := strings.Cut(text[len("$apr1$"):], "$")
		if !ok || salt == "" || len(salt) > 8 || len(sum) != 22 {
			return nil, broken
		}
		parse, kind = weak.AcceptMd5, "$apr1$"
	case strings.HasPrefix(text, "{SSHA}"):
		parse, kind = weak.AcceptSsha, "{SSHA}"
	}
	h, err := parse(text)
	if err != nil || h == nil {
		return nil, broken
	}
	return weakHash{kind, h}, nil
}

func (h weakHash) match(password string) bool { return h.MatchesPassword(password) }
func (h weakHash) cost() string               { return h.kind }
func (h weakHash) dummy() hash                { return never{h} }

// never does the work of a hash and rejects whatever comes out.
type never struct{ hash }

func (n never) match(password string) bool {
	n.hash.match(password)
	return false
}

// HashPassword makes a bcrypt line's hash (cost 10) for `regward hash-password`.
func HashPassword(password string) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > MaxBcryptPassword:
		return "", fmt.Errorf("the password is longer than %d bytes, of which bcrypt would ignore the rest", MaxBcryptPassword)
	case hasControl(password):
		return "", errors.New("the password holds a control character")
	}
	sum, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	return string(sum), err
}
