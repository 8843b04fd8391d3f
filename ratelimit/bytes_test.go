package ratelimit_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/ratelimit"
)

func TestParseByteRate(t *testing.T) {
	for _, tt := range []struct {
		text string
		want ratelimit.Rate
		says string // its String; text unless set
	}{
		{"20MB/s", ratelimit.Rate{Events: 20e6, Per: time.Second, Burst: 20e6}, ""},
		{"512KiB/s", ratelimit.Rate{Events: 512 << 10, Per: time.Second, Burst: 512 << 10}, ""},
		{"600MB/m", ratelimit.Rate{Events: 600e6, Per: time.Minute, Burst: 10e6}, ""}, // one second's worth
		{"100GB/d", ratelimit.Rate{Events: 100e9, Per: 24 * time.Hour, Burst: 1157408}, ""},
		{"1TB/24h", ratelimit.Rate{Events: 1e12, Per: 24 * time.Hour, Burst: 11574075}, "1TB/d"},
		{"1000kB/s", ratelimit.Rate{Events: 1e6, Per: time.Second, Burst: 1e6}, "1MB/s"},
		{"1B/h", ratelimit.Rate{Events: 1, Per: time.Hour, Burst: 1}, ""}, // never less than one byte
		{"10TB/s", ratelimit.Rate{Events: ratelimit.MaxBytes, Per: time.Second, Burst: ratelimit.MaxBytes}, ""},
	} {
		got, err := ratelimit.ParseByteRate(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%s: got %+v (%v), want %+v", tt.text, got, err, tt.want)
		}
		says := tt.says
		if says == "" {
			says = tt.text
		}
		if got.ByteString() != says {
			t.Errorf("%s says %s, want %s", tt.text, got.ByteString(), says)
		}
	}
	if got := (ratelimit.Rate{}).ByteString(); got != "none" {
		t.Errorf("no rate says %s", got)
	}
}

func TestParseByteRateRefuses(t *testing.T) {
	const units = "the units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB"
	for _, tt := range []struct{ text, msg, fix string }{
		{"0/s", `"0/s" allows nothing at all`, "write a size above zero; to refuse somebody, write a rule with deny"},
		{"20/s", `"20/s" has no unit of size`, `did you mean "20MB/s"? ` + units},
		{"20MB", `"20MB" has no period`, `write "20MB/s" for so much in a second`},
		{"20MB/", `"20MB/" has no period`, `write "20MB/6h"; the units are s, m, h and d`},
		{"20MB/5", `"20MB/5" has a period without a unit`, `write "20MB/5s" if seconds are meant; the units are s, m, h and d`},
		{"20mb/s", `"20mb/s" has the unit "mb"`, `did you mean "20MB/s"? ` + units},
		{"20M/s", `"20M/s" has the unit "M"`, `did you mean "20MB/s"? ` + units},
		{"20 MB/s", `"20 MB/s" has the unit " MB"`, `did you mean "20MB/s"? ` + units},
		{"20kilo/s", `"20kilo/s" has the unit "kilo"`, units},
		{"160Mbit/s", `"160Mbit/s" counts bits`, `write "20MB/s" for as many in bytes`},
		{"1gbit/s", `"1gbit/s" counts bits`, `write "125MB/s" for as many in bytes`},
		{"8Mb/s", `"8Mb/s" has the unit "Mb", which are bits`, `write "8MB/s" if bytes are meant, else "1MB/s"`},
		{"1.5GB/s", `"1.5GB/s" does not begin with a whole number of bytes`, `write a size such as "20MB/s"; ` + units},
		{"-1MB/s", `"-1MB/s" does not begin with a whole number of bytes`, `write a size such as "20MB/s"; ` + units},
		{"", `"" does not begin with a whole number of bytes`, `write a size such as "20MB"; ` + units},
		{"0MB/s", `"0MB/s" allows nothing at all`, "write a size above zero; to refuse somebody, write a rule with deny"},
		{"11TB/s", `"11TB/s" is more than 10TB`, "write a smaller size, or leave the limit out"},
		{"99999999999999999999GB/s", `"99999999999999999999GB/s" is more than 10TB`, "write a smaller size, or leave the limit out"},
	} {
		_, err := ratelimit.ParseByteRate(tt.text)
		var syntax *ratelimit.SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%s: got %v", tt.text, err)
			continue
		}
		if d := cmp.Diff(ratelimit.SyntaxError{Msg: tt.msg, Fix: tt.fix}, *syntax); d != "" {
			t.Errorf("%s: -want +got\n%s", tt.text, d)
		}
	}
}

func TestBytesComeBack(t *testing.T) {
	for _, n := range []int{1, 999, 1000, 1024, 1500, 1e6, 1 << 20, 1 << 30, 5e9, 1e12, 1 << 40, ratelimit.MaxBytes} {
		text := ratelimit.FormatBytes(n)
		if got, err := ratelimit.ParseBytes(text); err != nil || got != n {
			t.Errorf("%d is written %s and read %d (%v)", n, text, got, err)
		}
	}
	if got := ratelimit.FormatBytes(0); got != "0B" {
		t.Errorf("nothing is %s", got)
	}
}

func FuzzParseByteRate(f *testing.F) {
	for _, s := range []string{"20MB/s", "8Mb/s", "20/s", "1.5GB/s", "9223372036854775807TiB/366d", "1B/", "k/s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ratelimit.ParseByteRate(s)
		if err != nil {
			return
		}
		if again, err := ratelimit.ParseByteRate(r.ByteString()); err != nil || again != r {
			t.Fatalf("%q is %+v, written %s and read %+v (%v)", s, r, r.ByteString(), again, err)
		}
		if _, err := ratelimit.NewMemory(1, time.Now).Take(t.Context(), ratelimit.Spend{Rate: r, N: 1}); err != nil {
			t.Fatalf("%q is no bucket: %v", s, err)
		}
	})
}
