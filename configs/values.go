package configs

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time as the file writes it: 30s, 5m, 6h, 7d, 1h30m.
type Duration time.Duration

// maxDuration is ten years: more is a typing error, and far from overflow.
const maxDuration = 10 * 365 * 24 * time.Hour

// ParseDuration reads a Duration. 0 needs no unit.
func ParseDuration(s string) (Duration, error) {
	if s == "0" {
		return 0, nil
	}
	var total time.Duration
	rest := s
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration", s)
		}
		total, rest = time.Duration(n)*24*time.Hour, after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil {
			if _, numErr := strconv.ParseFloat(s, 64); numErr == nil {
				return 0, fmt.Errorf("%q has no unit", s)
			}
			return 0, fmt.Errorf("%q is no duration", s)
		}
		if d < 0 {
			return 0, fmt.Errorf("%q is less than nothing", s)
		}
		total += d
	}
	if s == "" {
		return 0, fmt.Errorf("%q is no duration", s)
	}
	if total < 0 || total > maxDuration {
		return 0, fmt.Errorf("%q is more than ten years", s)
	}
	return Duration(total), nil
}

// String is the shortest form that ParseDuration reads back: "7d", "1h30m".
func (d Duration) String() string {
	t := time.Duration(d)
	if t == 0 {
		return "0"
	}
	const day = 24 * time.Hour
	if t%day == 0 {
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText is String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Secret is a value that prints as *** in every verb and encoding. The zero
// Secret is no secret at all, and prints as nothing.
type Secret struct{ text *string }

// NewSecret hides s; "" is the zero Secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal is the secret itself. Whoever calls it must not print it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// String is "***", or "" for no secret.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return "***"
}

// Format writes String, whatever the verb.
func (s Secret) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, s.String()) }

// MarshalText is String; it covers JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// SecretBytes is the content of a file that holds secrets. It prints as ***.
type SecretBytes []byte

// Format writes "***", or nothing if there is no content.
func (s SecretBytes) Format(w fmt.State, _ rune) {
	if len(s) > 0 {
		_, _ = io.WriteString(w, "***")
	}
}

// MarshalJSON hides the content as Format does.
func (s SecretBytes) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprint(s)) }
