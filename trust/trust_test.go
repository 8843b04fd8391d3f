package trust

import (
	"strings"
	"testing"
)

func TestHostsAreReadAsTheyStandInNamesOfImages(t *testing.T) {
	for typed, want := range map[string][3]string{ // as a folder, where to connect to, containerd's other folder
		"registry.example.com":           {"registry.example.com", "registry.example.com:443", ""},
		"registry.example.com:443":       {"registry.example.com:443", "registry.example.com:443", "registry.example.com_443_"},
		"https://registry.example.com/":  {"registry.example.com", "registry.example.com:443", ""},
		"https://registry.example.com:5": {"registry.example.com:5", "registry.example.com:5", "registry.example.com_5_"},
		"localhost:5000":                 {"localhost:5000", "localhost:5000", "localhost_5000_"},
		"192.0.2.1":                      {"192.0.2.1", "192.0.2.1:443", ""},
		"[2001:db8::1]:5000":             {"[2001:db8::1]:5000", "[2001:db8::1]:5000", "[2001:db8::1]_5000_"},
		"[2001:db8::1]":                  {"[2001:db8::1]", "[2001:db8::1]:443", ""},
	} {
		h, err := ParseHost(typed)
		if got := [3]string{h.String(), h.Address(), h.underscored()}; err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", typed, got, err, want)
		}
	}
}

// What is printed goes into a shell: nothing but a name gets there.
func TestWhatIsNoHostIsRefusedInWords(t *testing.T) {
	for typed, want := range map[string]string{
		"":                               "no host name",
		"http://registry.example.com":    "plain HTTP",
		"ftp://registry.example.com":     "write HOST",
		"registry.example.com/team/app":  "write that alone",
		"https://registry.example.com/x": "has the path",
		"registry.example.com:":          "is no port",
		"registry.example.com:0":         "is no port",
		"registry.example.com:65536":     "is no port",
		"registry.example.com:https":     "is no port",
		"registry.example.com:0443":      "is no port",
		"2001:db8::1":                    "in brackets",
		"a'b":                            "no host name",
		"$(x)":                           "no host name",
		"..":                             "no host name",
		"a..b":                           "no host name",
		"-rf":                            "no host name",
		"[::1%25lo]:5000":                "no host name",
		strings.Repeat("a", maxName+1):   "no host name",
	} {
		if _, err := ParseHost(typed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", typed, err, want)
		}
	}
	if _, err := ParseHost(strings.Repeat("a", maxName)); err != nil {
		t.Error(err)
	}
}
