package configs

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// socketName is what FileDescriptorName= may be here.
var socketName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

var hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (k *checker) checkHostname() {
	if len(k.Hostname) == 0 && !k.given("hostname") {
		k.bad("hostname", "required, and missing", "write the name that clients use: hostname: registry.example.com")
	}
	k.uniqueHosts("hostname", k.Hostname)
}

// uniqueHosts brings a list of hosts into the form they are compared in, each
// of them there once.
func (k *checker) uniqueHosts(path string, hosts []string) {
	seen := map[string]bool{}
	for i, raw := range hosts {
		at := k.entry(path, i)
		host, err := parseHostname(raw)
		if err != nil {
			msg, fix := explain(err)
			k.bad(at, msg, fix)
			continue
		}
		if seen[host] {
			k.bad(at, fmt.Sprintf("%q is there twice", host), "leave one out")
		}
		seen[host] = true
		hosts[i] = host
	}
}

// parseHostname gives a name, an IP address (IPv6 bare), or either with a port.
func parseHostname(raw string) (string, error) {
	s := strings.ToLower(raw)
	if after, ok := strings.CutPrefix(strings.TrimPrefix(s, "http://"), "https://"); ok || after != s {
		return "", fault{fmt.Sprintf("%q is a URL", clip(raw)), fmt.Sprintf("write %q", beforeSlash(after))}
	}
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil && a.Zone() == "" {
		return a.Unmap().String(), nil
	}
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 || port != strconv.Itoa(n) {
			return "", fault{fmt.Sprintf("%q: %q is no port", clip(raw), clip(port)), ""}
		}
		if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err == nil && a.Zone() == "" {
			return net.JoinHostPort(a.Unmap().String(), port), nil
		}
	}
	switch {
	case strings.Contains(s, "/"):
		return "", fault{fmt.Sprintf("%q has a path in it", clip(raw)), fmt.Sprintf("write %q", beforeSlash(s))}
	case strings.Contains(s, "*"):
		return "", fault{fmt.Sprintf("%q: no wildcards here", clip(raw)), "list every name that clients use"}
	case len(host) > 253:
		return "", fault{fmt.Sprintf("%q is longer than 253 letters", clip(raw)), ""}
	}
	for _, label := range strings.Split(host, ".") {
		if !hostLabel.MatchString(label) {
			return "", fault{fmt.Sprintf("%q is neither a host name nor an IP address", clip(raw)), ""}
		}
	}
	if port != "" {
		return host + ":" + port, nil
	}
	return host, nil
}

// beforeSlash is the host of a URL without its scheme.
func beforeSlash(s string) string {
	host, _, _ := strings.Cut(s, "/")
	return host
}

// checkListen looks at all listeners together: no two want one address.
func (k *checker) checkListen() {
	seen := map[string]string{}
	check := func(path string, list []string) {
		for i, addr := range list {
			at := k.entry(path, i)
			if err := parseListen(addr); err != nil {
				msg, fix := explain(err)
				k.bad(at, msg, fix)
				continue
			}
			if other, taken := seen[addr]; taken && !strings.HasSuffix(addr, ":0") {
				if !k.given(at) {
					at, other = other, at
				}
				k.bad(at, fmt.Sprintf("%s is taken by %s already", addr, other), "")
			}
			seen[addr] = at
		}
	}
	if len(k.Listen) == 0 && !k.absent("listen") {
		k.bad("listen", "an empty list: nobody could connect", `leave it out for ":443"`)
	}
	check("listen", k.Listen)
	check("tls.http_listen", k.TLS.HTTPListen)
	check("health.listen", k.Health.Listen)
	check("admin.listen", k.Admin.Listen)
}

func parseListen(addr string) error {
	if name, ok := strings.CutPrefix(addr, "systemd:"); ok {
		if !socketName.MatchString(name) {
			return fault{fmt.Sprintf("%q: a socket of systemd has a name of letters, digits and . _ -", clip(addr)), "write systemd:https, and FileDescriptorName=https in regward.socket"}
		}
		return nil
	}
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		if !filepath.IsAbs(path) || len(path) > 100 {
			return fault{fmt.Sprintf("%q: a socket wants an absolute path of at most 100 bytes", clip(addr)), "write unix:/run/regward.sock"}
		}
		return nil
	}
	if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
		return fault{fmt.Sprintf("%q is only a port", addr), fmt.Sprintf("write %q for all addresses", ":"+addr)}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fault{fmt.Sprintf("%q is no address to listen on", clip(addr)), `write it like ":443", "10.0.0.7:443" or unix:/run/regward.sock`}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fault{fmt.Sprintf("%q: %q is no port", clip(addr), clip(port)), ""}
	}
	if host == "" || host == "localhost" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fault{fmt.Sprintf("%q: %q is no IP address of this machine", clip(addr), clip(host)), fmt.Sprintf("write %q for all addresses", ":"+port)}
	}
	return nil
}

// loopback reports whether only this machine can reach addr. Of a socket of
// systemd's that is known when it is passed, and looked at then.
func loopback(addr string) bool {
	if strings.HasPrefix(addr, "unix:") || strings.HasPrefix(addr, "systemd:") {
		return true
	}
	host, _, _ := net.SplitHostPort(addr)
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
