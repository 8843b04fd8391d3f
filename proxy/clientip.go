package proxy

import (
	"net/netip"
	"strings"
)

// clientAddr is the address a request counts for (H14): the peer, or, if the
// peer is a trusted proxy, the right-most X-Forwarded-For entry that is not.
// An entry that is no address ends the search at the last one believed: what
// stands left of it was written by somebody nobody vouches for. remote is as
// http.Request has it; the zero Addr comes back if it is no address.
func clientAddr(remote string, xff []string, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	addr := plainAddr(peer.Addr())
	if len(trusted) == 0 || len(xff) == 0 || !anyContains(trusted, addr) {
		return addr
	}
	looked := 0
	for i := len(xff) - 1; i >= 0; i-- {
		for rest, more := xff[i], true; more; {
			var entry string
			if rest, entry, more = cutLastComma(rest); looked == maxForwarded {
				return addr
			}
			looked++
			next, ok := parseForwarded(entry)
			if !ok {
				return addr
			}
			addr = next
			if !anyContains(trusted, addr) {
				return addr
			}
		}
	}
	return addr
}

// cutLastComma splits a list before its last entry.
func cutLastComma(s string) (rest, last string, more bool) {
	i := strings.LastIndexByte(s, ',')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// parseForwarded reads one entry: an address, with or without brackets and
// port, as proxies differ there.
func parseForwarded(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	if s == "" || len(s) > maxForwardedEntry {
		return netip.Addr{}, false
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return plainAddr(a), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return plainAddr(ap.Addr()), true
	}
	if s[0] == '[' && s[len(s)-1] == ']' {
		if a, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil && a.Is6() {
			return plainAddr(a), true
		}
	}
	return netip.Addr{}, false
}

// plainAddr is a without what would give one client two addresses: a zone, or
// IPv4 written as IPv6.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// inFront reports whether at is this machine, or something that stands in front
// and ends TLS there.
func (s *Snapshot) inFront(at netip.Addr) bool {
	return at.IsLoopback() || inside(s.Proxies, at) || inside(s.Senders, at)
}

func anyContains(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// clientKey names the bucket of an address (L04): "ip:192.0.2.7", or the
// network where the prefix is shorter than the address, "ip:2001:db8::/64".
// All that has no address shares one.
func clientKey(a netip.Addr, v4, v6 int) string {
	if !a.IsValid() {
		return "ip:unknown"
	}
	a = plainAddr(a)
	bits := v6
	if a.Is4() {
		bits = v4
	}
	bits = min(max(bits, 0), a.BitLen())
	var buf [64]byte // on the stack: the string is the one allocation
	key := append(buf[:0], "ip:"...)
	if bits == a.BitLen() {
		return string(a.AppendTo(key))
	}
	network, err := a.Prefix(bits)
	if err != nil {
		return "ip:unknown"
	}
	return string(network.AppendTo(key))
}
