package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestH14_ClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	list := func(fields ...string) []string { return fields }
	for _, tt := range []struct {
		why, remote string
		xff         []string
		want        string
	}{
		{"the peer", "192.0.2.7:1234", nil, "192.0.2.7"},
		{"an untrusted peer says what it likes", "192.0.2.7:1234", list("198.51.100.1"), "192.0.2.7"},
		{"a trusted peer without the field", "10.0.0.1:1", nil, "10.0.0.1"},
		{"a trusted peer", "10.0.0.1:1", list("198.51.100.1"), "198.51.100.1"},
		{"the right-most untrusted, not the first", "10.0.0.1:1", list("1.1.1.1, 198.51.100.1, 10.9.9.9"), "198.51.100.1"},
		{"several fields are one list", "10.0.0.1:1", list("1.1.1.1", "198.51.100.1", "10.9.9.9,10.8.8.8"), "198.51.100.1"},
		{"all trusted: the farthest", "10.0.0.1:1", list("10.3.3.3, 10.2.2.2"), "10.3.3.3"},
		{"garbage ends the search at the last good one", "10.0.0.1:1", list("198.51.100.1, unknown, 10.2.2.2"), "10.2.2.2"},
		{"garbage at once: the peer", "10.0.0.1:1", list("198.51.100.1, "), "10.0.0.1"},
		{"an empty field", "10.0.0.1:1", list("198.51.100.1", ""), "10.0.0.1"},
		{"with ports and brackets", "10.0.0.1:1", list("[2001:db8::5]:443, [2001:db8:ffff::1], 10.2.2.2:99"), "2001:db8::5"},
		{"IPv6 peer", "[2001:db8:ffff::1]:1", list("2001:db8::9"), "2001:db8::9"},
		{"IPv4 written as IPv6", "[::ffff:10.0.0.1]:1", list("::ffff:198.51.100.1"), "198.51.100.1"},
		{"zones go", "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"zones go in entries too", "10.0.0.1:1", list("fe80::2%eth0"), "fe80::2"},
		{"an endless entry", "10.0.0.1:1", list("198.51.100.1" + strings.Repeat("0", 100)), "10.0.0.1"},
		{"no address: a socket", "@", list("198.51.100.1"), "invalid IP"},
	} {
		if got := clientAddr(tt.remote, tt.xff, trusted); got.String() != tt.want {
			t.Errorf("%s: %s %q: got %v, want %s", tt.why, tt.remote, tt.xff, got, tt.want)
		}
	}
	if got := clientAddr("10.0.0.1:1", []string{"198.51.100.1"}, nil); got.String() != "10.0.0.1" {
		t.Errorf("nobody is trusted: got %v", got)
	}
}

func TestK05_ForwardedIsBounded(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	hops := strings.Repeat(",10.2.2.2", maxForwarded-1)
	if got := clientAddr("10.0.0.1:1", []string{"198.51.100.1" + hops}, trusted); got.String() != "198.51.100.1" {
		t.Errorf("within the bound: got %v", got)
	}
	if got := clientAddr("10.0.0.1:1", []string{"198.51.100.1,10.2.2.2" + hops}, trusted); got.String() != "10.2.2.2" {
		t.Errorf("beyond the bound: got %v", got)
	}
}

func TestL04_AddressKey(t *testing.T) {
	for _, tt := range []struct {
		addr   string
		v4, v6 int
		want   string
	}{
		{"192.0.2.7", 32, 64, "ip:192.0.2.7"},
		{"192.0.2.7", 24, 64, "ip:192.0.2.0/24"},
		{"::ffff:192.0.2.7", 32, 64, "ip:192.0.2.7"},
		{"2001:db8::1", 32, 64, "ip:2001:db8::/64"},
		{"2001:db8:0:0:ffff::2", 32, 64, "ip:2001:db8::/64"},
		{"2001:db8::1", 32, 128, "ip:2001:db8::1"},
		{"fe80::1%eth0", 32, 128, "ip:fe80::1"},
		{"192.0.2.7", 99, 64, "ip:192.0.2.7"},
		{"192.0.2.7", -1, 64, "ip:0.0.0.0/0"},
	} {
		if got := clientKey(netip.MustParseAddr(tt.addr), tt.v4, tt.v6); got != tt.want {
			t.Errorf("%s %d %d: got %q, want %q", tt.addr, tt.v4, tt.v6, got, tt.want)
		}
	}
	if got := clientKey(netip.Addr{}, 32, 64); got != "ip:unknown" {
		t.Errorf("no address: got %q", got)
	}
}

func FuzzClientAddr(f *testing.F) {
	f.Add("10.0.0.1:1", "198.51.100.1, 10.2.2.2", "unknown")
	f.Add("192.0.2.1:1", "198.51.100.1", "")
	f.Add("[::ffff:10.0.0.1]:1", "[fe80::1%x]:1,,", "1.2.3.4:5")
	f.Add("@", "", "")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, remote, a, b string) {
		got := clientAddr(remote, []string{a, b}, trusted)
		peer, err := netip.ParseAddrPort(remote)
		if got.IsValid() != (err == nil) {
			t.Fatalf("%q: got %v", remote, got)
		}
		if err != nil {
			return
		}
		if got.Is4In6() || got.Zone() != "" {
			t.Fatalf("%q %q %q: got %v", remote, a, b, got)
		}
		if !trusted[0].Contains(plainAddr(peer.Addr())) && got != plainAddr(peer.Addr()) {
			t.Fatalf("%q is not trusted and became %v", remote, got)
		}
		// What a client puts in front of the list changes nothing.
		if last := plainAddr(got); !trusted[0].Contains(last) {
			if forged := clientAddr(remote, []string{"1.1.1.1, 10.1.1.1", a, b}, trusted); forged != got {
				t.Fatalf("forged from %v to %v", got, forged)
			}
		}
		if key := clientKey(got, 32, 64); !strings.HasPrefix(key, "ip:") {
			t.Fatalf("key %q", key)
		}
	})
}

func BenchmarkClientKey(b *testing.B) {
	for _, s := range []string{"192.0.2.7", "2001:db8::1"} {
		a := netip.MustParseAddr(s)
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				clientKey(a, 32, 64)
			}
		})
	}
}
