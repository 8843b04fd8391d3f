package auth

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
)

// Sealed is what an identity carries for an upstream: a credential that only
// the gate can open (T36). Nothing here knows how. It prints, in every verb, as
// `none` or `sealed ***`; the zero Sealed is none.
type Sealed struct {
	box *string // a pointer, for the reason Credential has one
}

// NewSealed is a sealed box of bytes; an empty one is none.
func NewSealed(box []byte) Sealed {
	if len(box) == 0 {
		return Sealed{}
	}
	text := string(box)
	return Sealed{&text}
}

// Box is what NewSealed was given, "" for none.
func (s Sealed) Box() string {
	if s.box == nil {
		return ""
	}
	return *s.box
}

// Equal reports whether both hold the same, in constant time.
func (s Sealed) Equal(o Sealed) bool {
	return subtle.ConstantTimeCompare([]byte(s.Box()), []byte(o.Box())) == 1
}

// String never holds the box.
func (s Sealed) String() string {
	if s.box == nil {
		return "none"
	}
	return "sealed ***"
}

// Format prints String whatever the verb, %#v and %x included.
func (s Sealed) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON is String as a JSON string.
func (s Sealed) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }
