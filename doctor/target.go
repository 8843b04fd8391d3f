package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Target is where a registry is to be found.
type Target struct {
	Scheme string // https or http
	Name   string // host name or address, without brackets
	Port   string // always set
	Path   string // "" or what is before /v2/
}

// ParseTarget reads https://host:port, http://host or a bare host[:port], as
// people type it. A trailing /v2/ is no matter.
func ParseTarget(s string) (Target, error) {
	text := s
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Target{}, fmt.Errorf("%q is no URL: write https://HOST[:PORT]", s)
	case u.Scheme != "https" && u.Scheme != "http":
		return Target{}, fmt.Errorf("%q: registries are reached by https or http", s)
	case u.Hostname() == "":
		return Target{}, fmt.Errorf("%q names no host: write https://HOST[:PORT]", s)
	case u.User != nil:
		return Target{}, errors.New("no login in the URL, where others can see it: --user NAME --password-stdin")
	case u.RawQuery != "" || u.Fragment != "":
		return Target{}, fmt.Errorf("%q: only scheme, host and port of a registry are asked for", s)
	}
	t := Target{Scheme: u.Scheme, Name: strings.ToLower(u.Hostname()), Port: u.Port()}
	if !isHost(t.Name) {
		return Target{}, fmt.Errorf("%q is no host: letters, digits, hyphens and dots (a name in other letters begins with xn--), or an address", cut(t.Name, maxQuote))
	}
	if t.Port == "" {
		t.Port = defaultPort(u.Scheme)
	}
	if n, err := strconv.ParseUint(t.Port, 10, 16); err != nil || n == 0 {
		return Target{}, fmt.Errorf("%q is no port", cut(t.Port, maxQuote))
	}
	path := strings.TrimRight(u.EscapedPath(), "/")
	t.Path = strings.TrimRight(strings.TrimSuffix(path, "/v2"), "/")
	return t, nil
}

func defaultPort(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

// Host is the target as it stands in image names: without the scheme's own
// port.
func (t Target) Host() string {
	if t.Port == defaultPort(t.Scheme) {
		if strings.Contains(t.Name, ":") {
			return "[" + t.Name + "]"
		}
		return t.Name
	}
	return t.Address()
}

// Address is host:port, to dial.
func (t Target) Address() string { return net.JoinHostPort(t.Name, t.Port) }

// Origin is the target without its path.
func (t Target) Origin() string { return t.Scheme + "://" + t.Host() }

func (t Target) String() string { return t.Origin() + t.Path }

// same reports whether u has the target's scheme, host and port.
func (t Target) same(u *url.URL) bool {
	return u.Scheme == t.Scheme && strings.EqualFold(u.Hostname(), t.Name) && portOf(u) == t.Port
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return defaultPort(u.Scheme)
}

// isLocal reports whether a host name or address is one that only this machine
// or this network knows.
func isLocal(name string) bool {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
	}
	return !strings.Contains(name, ".") || strings.HasSuffix(name, ".localhost")
}

// hostName is what may stand in a command that is printed for people to type.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?$`)

// isHost reports whether name can be a host's: an address or a DNS name.
func isHost(name string) bool {
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Zone() == "" || hostName.MatchString(name) && !strings.Contains(name, "..")
}

var repositoryName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

var tagName = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// CheckRepository says what is wrong with the name of a repository (P02).
func CheckRepository(name string) error {
	if len(name) > 255 || !repositoryName.MatchString(name) {
		return fmt.Errorf("%q is no name of a repository: lower case, without host and tag, as in coolteam/app", name)
	}
	return nil
}
