package ratelimit

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Rate is a bucket: Events in Per, Burst at once. It is written "100/6h". The
// zero Rate is no limit, everywhere.
type Rate struct {
	Events int
	Per    time.Duration
	Burst  int // the count of Events unless set; not part of the written form
}

// The edges of what a Rate may be. Beyond them a figure is a slip of the
// finger, or more than a bucket can count exactly.
const (
	maxEvents = 1_000_000_000
	minPer    = time.Second
	maxPer    = 366 * 24 * time.Hour
)

// SyntaxError reports text that is no Rate. Msg quotes what was read, Fix says
// what to write instead.
type SyntaxError struct{ Msg, Fix string }

func (e *SyntaxError) Error() string { return e.Msg + "; " + e.Fix }

// ParseRate reads COUNT/PERIOD: "100/6h", "40/s", "60/m", "1000/24h", "3/7d".
// COUNT is 1 to 1,000,000,000; PERIOD is a unit (s, m, h, d) or a whole number
// with a unit, one second to 366 days. Burst is set to COUNT. An error is a
// *SyntaxError.
func ParseRate(s string) (Rate, error) {
	count, period, slash := strings.Cut(s, "/")
	if !slash {
		if n, err := strconv.Atoi(s); err == nil && n > 0 && n <= maxEvents {
			return Rate{}, bad(s, "has no period", `write "%d/6h" for a bucket of %s that fills in six hours`, n, inWords(n))
		}
		return Rate{}, bad(s, "is not a rate", `write COUNT/PERIOD, such as "100/6h"`)
	}
	events, err := parseCount(s, count)
	if err != nil {
		return Rate{}, err
	}
	per, err := parsePeriod(s, count, period)
	if err != nil {
		return Rate{}, err
	}
	return Rate{Events: events, Per: per, Burst: events}, nil
}

// parseCount reads the part before the slash of s.
func parseCount(s, count string) (int, error) {
	n, err := strconv.Atoi(count)
	switch {
	case errors.Is(err, strconv.ErrRange) && !strings.HasPrefix(count, "-"), n > maxEvents:
		return 0, bad(s, "allows more than 1000000000", "write a smaller count, or leave the limit out")
	case n < 0, errors.Is(err, strconv.ErrRange):
		return 0, bad(s, "has a negative count", `write a whole number above zero, such as "100/6h"`)
	case err != nil, !digits(count):
		return 0, bad(s, "has no whole number before the slash", `write COUNT/PERIOD, such as "100/6h"`)
	case n == 0:
		return 0, bad(s, "allows nothing at all", "write a count above zero; to refuse somebody, write a rule with deny")
	}
	return n, nil
}

// parsePeriod reads the part behind the slash of s.
func parsePeriod(s, count, period string) (time.Duration, error) {
	const units = "the units are s, m, h and d"
	if period == "" {
		return 0, bad(s, "has no period", `write "%s/6h"; %s`, count, units)
	}
	unit, ok := map[byte]time.Duration{
		's': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour,
	}[period[len(period)-1]]
	number := period[:len(period)-1]
	switch {
	case digits(period):
		return 0, bad(s, "has a period without a unit", `write "%s/%ss" if seconds are meant; %s`, count, period, units)
	case !ok, number != "" && !digits(number):
		return 0, bad(s, fmt.Sprintf("has the period %q", period), `write a whole number and a unit, such as "%s/90m"; %s`, count, units)
	case number == "":
		return unit, nil
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case err != nil || n > int64(maxPer/unit):
		return 0, bad(s, "has a period of more than 366 days", "write a shorter one")
	case time.Duration(n)*unit < minPer:
		return 0, bad(s, "has a period of no time", `write one second or more, such as "%s/s"`, count)
	}
	return time.Duration(n) * unit, nil
}

func bad(s, what, fix string, args ...any) error {
	if len(s) > 40 {
		s = s[:40] + "..."
	}
	return &SyntaxError{Msg: fmt.Sprintf("%q %s", s, what), Fix: fmt.Sprintf(fix, args...)}
}

// inWords spells the one count that people write most.
func inWords(n int) string {
	if n == 100 {
		return "a hundred"
	}
	return strconv.Itoa(n)
}

// digits reports whether s is made of ASCII digits alone: no sign, no space, no
// underscore.
func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// String is the written form, without Burst: "100/6h". The zero Rate is "none".
func (r Rate) String() string {
	if r == (Rate{}) {
		return "none"
	}
	return strconv.Itoa(r.Events) + "/" + periodString(r.Per)
}

func periodString(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		switch {
		case d == u.of:
			return u.name
		case d > 0 && d%u.of == 0 && (u.name != "d" || d >= 2*u.of):
			return strconv.FormatInt(int64(d/u.of), 10) + u.name
		}
	}
	return d.String()
}

// MarshalText writes what ParseRate reads. The zero Rate is empty text.
func (r Rate) MarshalText() ([]byte, error) {
	if r == (Rate{}) {
		return nil, nil
	}
	return []byte(r.String()), nil
}

// UnmarshalText is ParseRate; empty text is an error.
func (r *Rate) UnmarshalText(text []byte) error {
	parsed, err := ParseRate(string(text))
	if err != nil {
		return err
	}
	*r = parsed
	return nil
}

// checked gives r with its Burst filled in, and an error if there can be no
// such bucket. The zero Rate stays zero.
func (r Rate) checked() (Rate, error) {
	if r == (Rate{}) {
		return r, nil
	}
	if r.Events < 1 || r.Events > MaxBytes || r.Per < minPer || r.Per > maxPer || r.Burst < 0 || r.Burst > MaxBytes {
		return Rate{}, fmt.Errorf("ratelimit: no rate: %d events in %v, burst %d", r.Events, r.Per, r.Burst)
	}
	if r.Burst == 0 {
		r.Burst = r.Events
	}
	return r, nil
}

// perSecond is how many events come back in a second.
func (r Rate) perSecond() float64 { return float64(r.Events) / r.Per.Seconds() }

// refill is how long events take to come back, rounded up.
func (r Rate) refill(events float64) time.Duration {
	if events <= 0 {
		return 0
	}
	ns := math.Ceil(events / r.perSecond() * float64(time.Second))
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}
