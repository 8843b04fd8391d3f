package ratelimit_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/ratelimit"
)

func TestARateIsCountAndPeriod(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		text   string
		events int
		per    time.Duration
		back   string // as String writes it, if not the same
	}{
		{text: "100/6h", events: 100, per: 6 * time.Hour},
		{text: "40/s", events: 40, per: time.Second},
		{text: "60/m", events: 60, per: time.Minute},
		{text: "7/h", events: 7, per: time.Hour},
		{text: "7/d", events: 7, per: day},
		{text: "1000/24h", events: 1000, per: day, back: "1000/d"},
		{text: "3/7d", events: 3, per: 7 * day},
		{text: "5/30s", events: 5, per: 30 * time.Second},
		{text: "5/60s", events: 5, per: time.Minute, back: "5/m"},
		{text: "5/90m", events: 5, per: 90 * time.Minute},
		{text: "10/15m", events: 10, per: 15 * time.Minute},
		{text: "1/36h", events: 1, per: 36 * time.Hour},
		{text: "1/366d", events: 1, per: 366 * day},
		{text: "10000000/s", events: 10_000_000, per: time.Second},
		{text: "100000000/h", events: 100_000_000, per: time.Hour},
		{text: "1000000000/s", events: 1_000_000_000, per: time.Second},
	} {
		got, err := ratelimit.ParseRate(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		want := ratelimit.Rate{Events: tt.events, Per: tt.per, Burst: tt.events}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -want +got\n%s", tt.text, diff)
		}
		if tt.back == "" {
			tt.back = tt.text
		}
		if got.String() != tt.back {
			t.Errorf("%q: prints as %q, want %q", tt.text, got, tt.back)
		}
	}
}

func TestAWrongRateSaysWhatToWrite(t *testing.T) {
	for _, tt := range []struct{ text, msg, fix string }{
		{"100", `"100" has no period`, `write "100/6h" for a bucket of a hundred that fills in six hours`},
		{"25", `"25" has no period`, `write "25/6h" for a bucket of 25 that fills in six hours`},
		{"100/", `"100/" has no period`, `write "100/6h"; the units are s, m, h and d`},
		{"", `"" is not a rate`, `write COUNT/PERIOD, such as "100/6h"`},
		{"lots", `"lots" is not a rate`, `write COUNT/PERIOD, such as "100/6h"`},
		{"-5", `"-5" is not a rate`, `write COUNT/PERIOD, such as "100/6h"`},
		{"0/6h", `"0/6h" allows nothing at all`, `write a count above zero; to refuse somebody, write a rule with deny`},
		{"-1/6h", `"-1/6h" has a negative count`, `write a whole number above zero, such as "100/6h"`},
		{"-99999999999999999999/h", `"-99999999999999999999/h" has a negative count`, `write a whole number above zero, such as "100/6h"`},
		{"1000000001/s", `"1000000001/s" allows more than 1000000000`, `write a smaller count, or leave the limit out`},
		{"99999999999999999999/s", `"99999999999999999999/s" allows more than 1000000000`, `write a smaller count, or leave the limit out`},
		{"1.5/s", `"1.5/s" has no whole number before the slash`, `write COUNT/PERIOD, such as "100/6h"`},
		{"+5/s", `"+5/s" has no whole number before the slash`, `write COUNT/PERIOD, such as "100/6h"`},
		{"1_000/s", `"1_000/s" has no whole number before the slash`, `write COUNT/PERIOD, such as "100/6h"`},
		{"20MB/s", `"20MB/s" has no whole number before the slash`, `write COUNT/PERIOD, such as "100/6h"`},
		{"/6h", `"/6h" has no whole number before the slash`, `write COUNT/PERIOD, such as "100/6h"`},
		{"100/6", `"100/6" has a period without a unit`, `write "100/6s" if seconds are meant; the units are s, m, h and d`},
		{"100/week", `"100/week" has the period "week"`, `write a whole number and a unit, such as "100/90m"; the units are s, m, h and d`},
		{"100/1h30m", `"100/1h30m" has the period "1h30m"`, `write a whole number and a unit, such as "100/90m"; the units are s, m, h and d`},
		{"100/1.5h", `"100/1.5h" has the period "1.5h"`, `write a whole number and a unit, such as "100/90m"; the units are s, m, h and d`},
		{"100/500ms", `"100/500ms" has the period "500ms"`, `write a whole number and a unit, such as "100/90m"; the units are s, m, h and d`},
		{"100/-6h", `"100/-6h" has the period "-6h"`, `write a whole number and a unit, such as "100/90m"; the units are s, m, h and d`},
		{"100/6h/2", `"100/6h/2" has the period "6h/2"`, `write a whole number and a unit, such as "100/90m"; the units are s, m, h and d`},
		{"100/ 6h", `"100/ 6h" has the period " 6h"`, `write a whole number and a unit, such as "100/90m"; the units are s, m, h and d`},
		{"100/0s", `"100/0s" has a period of no time`, `write one second or more, such as "100/s"`},
		{"100/367d", `"100/367d" has a period of more than 366 days`, `write a shorter one`},
		{"100/99999999999999999999h", `"100/99999999999999999999h" has a period of more than 366 days`, `write a shorter one`},
	} {
		got, err := ratelimit.ParseRate(tt.text)
		var syntax *ratelimit.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%q: got %v, %v, want a SyntaxError", tt.text, got, err)
			continue
		}
		if diff := cmp.Diff(ratelimit.SyntaxError{Msg: tt.msg, Fix: tt.fix}, *syntax); diff != "" {
			t.Errorf("%q: -want +got\n%s", tt.text, diff)
		}
		if got != (ratelimit.Rate{}) {
			t.Errorf("%q: got %+v beside an error", tt.text, got)
		}
	}
	if _, err := ratelimit.ParseRate(strings.Repeat("9", 1<<20)); len(err.Error()) > 200 {
		t.Errorf("a million digits are repeated in an error of %d bytes", len(err.Error()))
	}
}

func ExampleSyntaxError() {
	_, err := ratelimit.ParseRate("100")
	fmt.Println(err)
	// Output: "100" has no period; write "100/6h" for a bucket of a hundred that fills in six hours
}

func TestTextOfARate(t *testing.T) {
	var r ratelimit.Rate
	if err := r.UnmarshalText([]byte("100/6h")); err != nil {
		t.Fatal(err)
	}
	before := r
	if err := r.UnmarshalText(nil); err == nil {
		t.Error("empty text is read as a rate")
	}
	if r != before {
		t.Errorf("an error changed the rate to %v", r)
	}
	for want, r := range map[string]ratelimit.Rate{"100/6h": r, "": {}} {
		if got, err := r.MarshalText(); err != nil || string(got) != want {
			t.Errorf("%+v: got %q, %v, want %q", r, got, err, want)
		}
	}
	if got := (ratelimit.Rate{}).String(); got != "none" {
		t.Errorf("the zero Rate prints as %q", got)
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"100/6h", "40/s", "3/7d", "100", "0/s", "1/0s", "1/367d", "99999999999999999999/s", "1/", "/", "", "1/s/s", "٣/s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ratelimit.ParseRate(s)
		if err != nil {
			var syntax *ratelimit.SyntaxError
			if !errors.As(err, &syntax) || syntax.Msg == "" || syntax.Fix == "" {
				t.Errorf("%q: error without words: %#v", s, err)
			}
			return
		}
		if r.Events < 1 || r.Burst != r.Events || r.Per < time.Second || r.Per > 366*24*time.Hour || r.Events > math.MaxInt32 {
			t.Errorf("%q: read as %+v", s, r)
		}
		if again, err := ratelimit.ParseRate(r.String()); err != nil || again != r {
			t.Errorf("%q: %v read back as %v, %v", s, r, again, err)
		}
	})
}

// A bucket that nobody has asked since its limit changed is told as the next to ask will find it.
func TestUsageAtTheRateOfNow(t *testing.T) {
	three := ratelimit.Usage{Key: ratelimit.Key{Limit: "people", Client: "user:ann"}, Rate: ratelimit.Rate{Events: 3, Per: time.Hour, Burst: 3}, Size: 3, Used: 3,
		RetryAfter: 20 * time.Minute, Reset: time.Hour}
	places := ratelimit.Usage{Key: ratelimit.Key{Limit: "blobs", Client: "user:ann"}, Size: 2, Used: 2}
	for name, c := range map[string]struct {
		u           ratelimit.Usage
		rate        ratelimit.Rate
		used, size  int
		next, reset time.Duration
	}{
		"the same": {three, three.Rate, 3, 3, 20 * time.Minute, time.Hour},
		"raised":   {three, ratelimit.Rate{Events: 6, Per: time.Minute, Burst: 6}, 3, 6, 0, 30 * time.Second},
		"lowered":  {three, ratelimit.Rate{Events: 2, Per: time.Hour, Burst: 2}, 2, 2, 30 * time.Minute, time.Hour},
		"faster":   {three, ratelimit.Rate{Events: 60, Per: time.Minute, Burst: 3}, 3, 3, time.Second, 3 * time.Second},
		"gone":     {three, ratelimit.Rate{}, 3, 3, 20 * time.Minute, time.Hour},
		"places":   {places, three.Rate, 2, 2, 0, 0},
	} {
		got := c.u.At(c.rate)
		if got.Key != c.u.Key || got.Used != c.used || got.Size != c.size || got.RetryAfter.Round(time.Second) != c.next || got.Reset.Round(time.Second) != c.reset {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
