package proxy

import (
	"bufio"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestP11_Authority(t *testing.T) {
	for _, tt := range []struct{ in, host, port string }{
		{"docker.acme.example", "docker.acme.example", ""},
		{"Docker.ACME.example.:8443", "docker.acme.example", "8443"},
		{"192.0.2.7:5000", "192.0.2.7", "5000"},
		{"[::1]", "::1", ""},
		{"[0:0:0:0:0:0:0:1]:443", "::1", "443"},
		{"[2001:DB8::1]:443", "2001:db8::1", "443"},
		{"", "", ""}, // HTTP/1.0; the handler knows no such name
	} {
		host, port, err := authority(&http.Request{Host: tt.in, URL: &url.URL{Path: "/v2/"}})
		if err != nil || host != tt.host || port != tt.port {
			t.Errorf("%q: got %q %q %v, want %q %q", tt.in, host, port, err, tt.host, tt.port)
		}
	}
	for _, in := range []string{
		"a:", "a:b", "a:123456", "a:1:2", "::1", "[::1", "[::1]x", "[fe80::1%25eth0]", "[1.2.3.4]", "u@h", "a b", "a,b", "é", ".", ":80",
		"a/b", "a\x00", strings.Repeat("a", 262),
	} {
		_, _, err := authority(&http.Request{Host: in, URL: &url.URL{Path: "/v2/"}})
		var e *httpError
		if !errors.As(err, &e) || e.status != 400 {
			t.Errorf("%q: got %v, want 400", in, err)
		}
	}
}

func TestP11_TwoAuthorities(t *testing.T) {
	for _, tt := range []struct {
		why, host, target string
		field             []string
		ok                bool
	}{
		{"one value", "a.example", "", nil, true},
		{"HTTP/2: Host beside :authority, the same", "a.example", "", []string{"A.example."}, true},
		{"HTTP/2: Host beside :authority, another", "a.example", "", []string{"b.example"}, false},
		{"HTTP/2: another port", "a.example", "", []string{"a.example:444"}, false},
		{"HTTP/2: two Hosts", "a.example", "", []string{"a.example", "b.example"}, false},
		{"HTTP/2: an absolute :path, another", "a.example", "b.example", nil, false},
		{"an absolute target, the same", "a.example", "A.example", nil, true},
		{"an empty Host", "a.example", "", []string{""}, false},
	} {
		r := &http.Request{Host: tt.host, URL: &url.URL{Host: tt.target, Path: "/v2/"}, Header: http.Header{}}
		if tt.field != nil {
			r.Header["Host"] = tt.field
		}
		if _, _, err := authority(r); (err == nil) != tt.ok {
			t.Errorf("%s: got %v", tt.why, err)
		}
	}
}

// net/http lets an absolute target win over Host and drops the field; should a
// release of Go change that, authority has to be looked at again.
func TestP11_AbsoluteTargetWins(t *testing.T) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET http://a.example/v2/ HTTP/1.1\r\nHost: b.example\r\n\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	if host, _, err := authority(r); err != nil || host != "a.example" {
		t.Errorf("got %q, %v", host, err)
	}
	if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"))); err == nil {
		t.Error("two Host fields are taken")
	}
}

func FuzzAuthority(f *testing.F) {
	for _, s := range []string{"a.example:443", "[::1]:5000", "A.", "[", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, ok := splitAuthority(s)
		if !ok {
			return
		}
		if host != strings.ToLower(host) || strings.ContainsAny(host, "[]/@ ") {
			t.Fatalf("%q: host %q", s, host)
		}
		if host == "" || strings.HasSuffix(host, ".") {
			return // no host, or one of several dots: a name that nobody can configure
		}
		again := host
		if strings.Contains(host, ":") {
			again = "[" + host + "]"
		}
		if port != "" {
			again += ":" + port
		}
		if h, p, ok := splitAuthority(again); !ok || h != host || p != port {
			t.Fatalf("%q: %q %q, then %q %q %v", s, host, port, h, p, ok)
		}
	})
}
