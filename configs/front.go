package configs

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// ProxyProtocol names the networks that must send a PROXY header; from
// everybody else one is refused.
type ProxyProtocol struct {
	From []netip.Prefix `yaml:"from"`
}

// CORS names the pages that may ask this registry from a browser.
type CORS struct {
	Origins []string `yaml:"origins"` // https://ui.example.com: as browsers send it, lower case
}

// checkFront looks at what stands between clients and us.
func (k *checker) checkFront() {
	for _, list := range []struct {
		path     string
		networks []netip.Prefix
	}{{"trusted_proxies", k.TrustedProxies}, {"proxy_protocol.from", k.ProxyProtocol.From}} {
		for _, p := range list.networks {
			if p.Bits() == 0 {
				k.maybe(list.path, p.String()+" believes everybody: whoever connects may claim any address", "name the networks of the proxies alone")
			}
		}
	}
	if k.given("proxy_protocol") && !k.given("proxy_protocol.from") && !k.refused("proxy_protocol") {
		k.bad("proxy_protocol", "from is missing: which networks send a PROXY header?", "write proxy_protocol: {from: 10.0.0.7}")
	}
	seen := map[string]bool{}
	for i, origin := range k.CORS.Origins {
		at := k.entry("cors.origins", i)
		plain, err := parseOrigin(origin)
		if err != nil {
			msg, fix := explain(err)
			k.bad(at, msg, fix)
			continue
		}
		if seen[plain] {
			k.bad(at, fmt.Sprintf("%q is there twice", plain), "leave one out")
		}
		seen[plain] = true
		k.CORS.Origins[i] = plain
	}
}

// parseOrigin gives an origin as browsers send it.
func parseOrigin(text string) (string, error) {
	const fix = "write it like https://ui.example.com"
	switch {
	case text == "*":
		return "", fault{"* lets every page in the world use the logins that people have here", "name the origins: https://ui.example.com"}
	case strings.Contains(text, "*"):
		return "", fault{fmt.Sprintf("%q: no wildcards here", clip(text)), "list every origin"}
	case text == "null":
		return "", fault{"null is the origin of any page without one", fix}
	}
	u, err := url.Parse(strings.ToLower(text))
	if err != nil || u.User != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		if u != nil && u.User != nil {
			return "", fault{"an origin has no login in it", fix}
		}
		return "", fault{fmt.Sprintf("%q is no origin", clip(text)), fix}
	}
	host := u.Host
	if p := u.Port(); p == "443" && u.Scheme == "https" || p == "80" && u.Scheme == "http" { // browsers leave it out
		host, _, _ = net.SplitHostPort(host)
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	}
	plain := u.Scheme + "://" + host
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(u.Host, ":") {
		return "", fault{fmt.Sprintf("%q is more than an origin", clip(text)), fmt.Sprintf("write %q", strings.TrimSuffix(plain, ":"))}
	}
	return plain, nil
}
