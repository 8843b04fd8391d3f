package proxy

import (
	"net/http"
	"net/netip"
	"strings"
)

// authority is the host a request names, lower case, without the dot at the
// end and without the brackets of IPv6, and the port if it has one (P11). It
// is "" where the client named none, as HTTP/1.0 may. Errors are *httpError.
//
// net/http makes r.Host of an absolute target or :authority and else of the
// Host field. A target in :path, and Host beside :authority, stay visible in
// HTTP/2 and must agree. In HTTP/1.1 a Host field beside an absolute target is
// gone before a handler sees it (RFC 9112, 3.2.2, asks for just that), and of
// two Host fields net/http itself makes a 400.
func authority(r *http.Request) (host, port string, err error) {
	host, port, ok := splitAuthority(r.Host)
	if !ok {
		return "", "", errAuthority()
	}
	others := r.Header["Host"]
	if r.URL.Host != "" && r.URL.Host != r.Host {
		others = append(others[:len(others):len(others)], r.URL.Host)
	}
	for _, other := range others {
		h, p, ok := splitAuthority(other)
		if !ok || h != host || p != port {
			return "", "", errAuthority()
		}
	}
	return host, port, nil
}

// splitAuthority splits host[:port] and brings the host to its one form.
func splitAuthority(s string) (host, port string, ok bool) {
	if s == "" {
		return "", "", true
	}
	if len(s) > maxAuthority {
		return "", "", false
	}
	if s[0] == '[' {
		literal, rest, closed := strings.Cut(s[1:], "]")
		a, err := netip.ParseAddr(literal)
		if !closed || err != nil || !a.Is6() || a.Zone() != "" {
			return "", "", false
		}
		port, ok = cutPort(rest)
		return a.String(), port, ok
	}
	host, rest := s, ""
	if i := strings.IndexByte(s, ':'); i >= 0 {
		host, rest = s[:i], s[i:]
	}
	if port, ok = cutPort(rest); !ok {
		return "", "", false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" {
		return "", "", false
	}
	ok = only(host, func(c byte) bool { return lowerAlnum(c) || c == '.' || c == '-' || c == '_' })
	return host, port, ok
}

// cutPort reads "" or ":digits".
func cutPort(s string) (port string, ok bool) {
	if s == "" {
		return "", true
	}
	port = s[1:]
	if s[0] != ':' || port == "" || len(port) > 5 {
		return "", false
	}
	return port, only(port, digit)
}

func errAuthority() error {
	return refuse(http.StatusBadRequest, "UNSUPPORTED", "the request does not name one host")
}
