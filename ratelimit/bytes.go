package ratelimit

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// MaxBytes is the largest size in a rate of bytes, and its largest burst: ten
// terabytes, which a float64 still counts to a hundredth of a byte.
const MaxBytes = 10_000_000_000_000

// unit is one way to write a size.
type unit struct {
	name string
	of   int
}

// units are in the order in which FormatBytes tries them.
func units() [9]unit {
	return [...]unit{
		{"TB", 1e12}, {"TiB", 1 << 40}, {"GB", 1e9}, {"GiB", 1 << 30}, {"MB", 1e6}, {"MiB", 1 << 20}, {"kB", 1e3}, {"KiB", 1 << 10}, {"B", 1},
	}
}

const sizeUnits = "the units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB"

// ParseByteRate reads SIZE/PERIOD: "20MB/s", "100GB/d", "512KiB/s". SIZE is a
// whole number with a unit, up to MaxBytes; PERIOD is as in ParseRate. Events
// are bytes, and Burst is one second's worth of them. An error is a
// *SyntaxError.
func ParseByteRate(s string) (Rate, error) {
	size, period, slash := strings.Cut(s, "/")
	n, err := parseBytes(s, size, slash)
	if err != nil {
		return Rate{}, err
	}
	if !slash {
		return Rate{}, bad(s, "has no period", `write "%s/s" for so much in a second`, size)
	}
	per, err := parsePeriod(s, size, period)
	if err != nil {
		return Rate{}, err
	}
	oneSecond := int(math.Ceil(float64(n) / per.Seconds()))
	return Rate{Events: n, Per: per, Burst: max(1, oneSecond)}, nil
}

// ParseBytes reads a size: "20MB", "64KiB", "1500B". An error is a *SyntaxError.
func ParseBytes(s string) (int, error) { return parseBytes(s, s, false) }

// parseBytes reads the size that is s, or the part of s before its slash.
func parseBytes(s, size string, rate bool) (int, error) {
	behind := ""
	if rate {
		_, period, _ := strings.Cut(s, "/")
		behind = "/" + period
	}
	digitsEnd := strings.IndexFunc(size, func(r rune) bool { return r < '0' || r > '9' })
	if digitsEnd < 0 {
		digitsEnd = len(size)
	}
	number, name := size[:digitsEnd], size[digitsEnd:]
	of := 0
	for _, u := range units() {
		if u.name == name {
			of = u.of
		}
	}
	n, err := strconv.Atoi(number)
	switch {
	case number == "" || strings.HasPrefix(name, "."):
		return 0, bad(s, "does not begin with a whole number of bytes", `write a size such as "20MB%s"; %s`, behind, sizeUnits)
	case n == 0:
		return 0, bad(s, "allows nothing at all", "write a size above zero; to refuse somebody, write a rule with deny")
	case name == "":
		return 0, bad(s, "has no unit of size", `did you mean "%sMB%s"? %s`, number, behind, sizeUnits)
	case of == 0:
		return 0, unknownUnit(s, number, name, behind)
	case errors.Is(err, strconv.ErrRange) || n > MaxBytes/of:
		return 0, bad(s, "is more than 10TB", "write a smaller size, or leave the limit out")
	}
	return n * of, nil
}

// unknownUnit says what a unit was probably meant to be. Mbit counts bits, and
// Mb may.
func unknownUnit(s, number, name, behind string) error {
	trimmed := strings.TrimSpace(name)
	for prefix, of := range map[string]int{"k": 1e3, "m": 1e6, "g": 1e9} {
		n, err := strconv.Atoi(number)
		if err != nil || n > MaxBytes/of || n*of%8 != 0 {
			continue
		}
		as := FormatBytes(n*of/8) + behind
		switch {
		case strings.HasPrefix(strings.ToLower(trimmed), prefix+"bit"):
			return bad(s, "counts bits", `write "%s" for as many in bytes`, as)
		case prefix != "k" && trimmed == strings.ToUpper(prefix)+"b":
			return bad(s, fmt.Sprintf("has the unit %q, which are bits", name), `write "%s%sB%s" if bytes are meant, else "%s"`, number, strings.ToUpper(prefix), behind, as)
		}
	}
	lower := strings.ToLower(trimmed)
	for _, u := range units() {
		short := strings.TrimSuffix(strings.ToLower(u.name), "b")
		if lower == strings.ToLower(u.name) || lower == short || lower == short+"byte" || lower == short+"bytes" {
			return bad(s, fmt.Sprintf("has the unit %q", name), `did you mean "%s%s%s"? %s`, number, u.name, behind, sizeUnits)
		}
	}
	return bad(s, fmt.Sprintf("has the unit %q", name), sizeUnits)
}

// FormatBytes is n in the largest unit that holds it whole: "20MB", "64KiB".
func FormatBytes(n int) string {
	for _, u := range units() {
		if n != 0 && n%u.of == 0 {
			return strconv.Itoa(n/u.of) + u.name
		}
	}
	return strconv.Itoa(n) + "B"
}

// ByteString is the written form of a rate of bytes, without Burst: "20MB/s".
// The zero Rate is "none".
func (r Rate) ByteString() string {
	if r == (Rate{}) {
		return "none"
	}
	return FormatBytes(r.Events) + "/" + periodString(r.Per)
}
