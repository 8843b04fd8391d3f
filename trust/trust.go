// Package trust answers one question: what makes a client on this host believe
// a registry's certificate? It knows the folders and files that docker,
// containerd, podman, buildkit, kubernetes and the system look into, reads
// them, and changes nothing.
package trust

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// Host is a registry as people type it in the names of images. The port is part
// of the name, and so of every folder's name, unless it was not typed (X03).
type Host struct {
	Name string // DNS name or address, without brackets
	Port string // as typed, mostly empty
}

// maxName is the longest DNS name there is (RFC 1035, 2.3.4).
const maxName = 253

// dnsName is what may stand in a path and in a shell's quotes as it is.
var dnsName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// ParseHost reads HOST[:PORT], with https:// before it or without. What cannot
// stand in front of an image's name is an error that says what to write.
func ParseHost(typed string) (Host, error) {
	rest := typed
	if scheme, after, ok := strings.Cut(typed, "://"); ok {
		switch strings.ToLower(scheme) {
		case "https":
			rest = strings.TrimSuffix(after, "/")
		case "http":
			return Host{}, fmt.Errorf("%q is plain HTTP: there is no certificate to trust", typed)
		default:
			return Host{}, fmt.Errorf("%q: write HOST or HOST:PORT, as in registry.example.com:5000", typed)
		}
	}
	if host, path, ok := strings.Cut(rest, "/"); ok {
		return Host{}, fmt.Errorf("%q has the path /%s: a certificate is for all of %s, so write that alone", typed, path, host)
	}
	h, err := splitPort(rest)
	if err != nil {
		return Host{}, fmt.Errorf("%q: %w", typed, err)
	}
	return h, nil
}

func splitPort(text string) (Host, error) {
	h := Host{Name: text}
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		h.Name = strings.TrimSuffix(inner, "]")
	} else if addr, err := netip.ParseAddr(text); err == nil && addr.Is6() {
		return Host{}, fmt.Errorf("an IPv6 address is written in brackets: [%s]", text)
	} else if strings.Contains(text, ":") {
		var err error
		if h.Name, h.Port, err = net.SplitHostPort(text); err != nil {
			return Host{}, errors.New("write HOST or HOST:PORT, as in registry.example.com:5000")
		}
		if n, err := strconv.ParseUint(h.Port, 10, 16); err != nil || n == 0 || h.Port[0] == '0' {
			return Host{}, fmt.Errorf("%q is no port", h.Port)
		}
	}
	addr, err := netip.ParseAddr(h.Name)
	switch {
	case err == nil && addr.Zone() == "":
	case len(h.Name) > maxName || strings.Contains(h.Name, "..") || !dnsName.MatchString(h.Name):
		return Host{}, errors.New("that is no host name; write HOST or HOST:PORT, as in registry.example.com:5000")
	}
	return h, nil
}

// String is the host as it stands in the names of images.
func (h Host) String() string {
	name := h.Name
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if h.Port == "" {
		return name
	}
	return name + ":" + h.Port
}

// Address is where to connect to.
func (h Host) Address() string {
	if h.Port == "" {
		return net.JoinHostPort(h.Name, "443")
	}
	return net.JoinHostPort(h.Name, h.Port)
}

// loopback reports whether the host is this machine itself, by its name. docker
// takes any certificate from there (X07).
func (h Host) loopback() bool {
	addr, err := netip.ParseAddr(h.Name)
	return h.Name == "localhost" || err == nil && addr.Is4() && addr.IsLoopback()
}

// underscored is the other name that containerd has for a folder, and the one it
// looks for first: host_port_. Without a port there is none.
func (h Host) underscored() string {
	if h.Port == "" {
		return ""
	}
	return strings.TrimSuffix(h.String(), ":"+h.Port) + "_" + h.Port + "_"
}

// file is a name for a file that is about the host.
func (h Host) file() string {
	return strings.NewReplacer("[", "", "]", "", ":", "-").Replace(h.String())
}
