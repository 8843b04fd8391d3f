package configs_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/configs"
)

func TestDuration(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want time.Duration
		out  string // "" is an error
	}{
		{"30s", 30 * time.Second, "30s"},
		{"5m", 5 * time.Minute, "5m"},
		{"60s", time.Minute, "1m"},
		{"6h", 6 * time.Hour, "6h"},
		{"7d", 7 * 24 * time.Hour, "7d"},
		{"1d12h", 36 * time.Hour, "36h"},
		{"1h30m", 90 * time.Minute, "1h30m"},
		{"0", 0, "0"},
		{"0s", 0, "0"},
		{"5", 0, ""},
		{"", 0, ""},
		{"-5m", 0, ""},
		{"d", 0, ""},
		{"4000d", 0, ""},
		{"99999999999h", 0, ""},
		{"5 m", 0, ""},
	} {
		got, err := configs.ParseDuration(tt.in)
		if (err == nil) != (tt.out != "") || time.Duration(got) != tt.want || err == nil && got.String() != tt.out {
			t.Errorf("%q: got %v (%v), want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestSecretPrintsAsStars(t *testing.T) {
	s := configs.NewSecret("hunter2")
	nested := struct {
		Exported configs.Secret
		hidden   configs.Secret
	}{s, s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, s); got != "***" {
			t.Errorf("%s: got %s", verb, got)
		}
		if got := fmt.Sprintf(verb, nested); strings.Contains(got, "hunter2") {
			t.Errorf("%s of a struct: got %s", verb, got)
		}
	}
	if got := fmt.Sprint(configs.Secret{}); got != "" {
		t.Errorf("no secret: got %q", got)
	}
}
