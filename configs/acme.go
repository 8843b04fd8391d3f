package configs

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// ACMEEAB is external account binding: who we are to a CA that knows its
// customers. Both or none.
type ACMEEAB struct {
	KeyID  string `yaml:"key_id"`
	MACKey Secret `yaml:"mac_key"` // base64url, as the CA gives it
}

// ACMEDNS is DNS-01 by RFC 2136: the DNS server that takes updates. All or none;
// then no other challenge is tried.
type ACMEDNS struct {
	Server    string `yaml:"server"` // host:port; port 53 unless written
	Zone      string `yaml:"zone"`   // without dot at the end
	KeyName   string `yaml:"key_name"`
	KeySecret Secret `yaml:"key_secret"` // base64
	Algorithm string `yaml:"algorithm"`  // hmac-sha256 and its kin
}

// Set reports whether DNS-01 was asked for.
func (d *ACMEDNS) Set() bool { return d.Server != "" }

// checkACME looks at what belongs to tls.mode: acme alone.
func (k *checker) checkACME() {
	if k.TLS.Mode != TLSACME {
		k.onlyACME()
		return
	}
	if m := k.TLS.ACMEEmail; m != "" && (strings.Count(m, "@") != 1 || strings.ContainsAny(m, " <>,:") || m[0] == '@' || m[len(m)-1] == '@') {
		k.bad("tls.acme_email", fmt.Sprintf("%q is no mail address", clip(m)), "write it like ops@example.com")
	}
	k.checkDirectory()
	if k.TLS.ACMECAFile != "" && k.TLS.ACMEDirectory == "" && !k.refused("tls.acme_directory") {
		k.bad("tls.acme_ca_file", "is the CA of another directory, and tls.acme_directory is missing", "set tls.acme_directory, or leave it out")
	}
	k.checkEAB()
	k.checkDNS()
	k.warnACMENames()
}

func (k *checker) checkDirectory() {
	const at, fix = "tls.acme_directory", "write it like https://ca.example.com/acme/directory"
	d := k.TLS.ACMEDirectory
	u, err := url.Parse(d)
	switch {
	case d == "":
	case err != nil || u.Hostname() == "" || u.User != nil:
		k.bad(at, "is no URL of a CA's directory", fix)
	case u.Scheme == "http":
		k.bad(at, "http: whoever is in between could give out certificates in the CA's place", "write https://, and its CA in tls.acme_ca_file")
	case u.Scheme != "https":
		k.bad(at, fmt.Sprintf("%q is not https", clip(d)), fix)
	}
}

// onlyACME: keys that say how to get a certificate that nobody asks for.
func (k *checker) onlyACME() {
	t := &k.TLS
	if k.refused("tls.mode") || t.Mode == "" {
		return
	}
	for _, f := range []struct {
		key string
		set bool
	}{
		{"acme_email", t.ACMEEmail != ""},
		{"acme_directory", t.ACMEDirectory != ""},
		{"acme_ca_file", t.ACMECAFile != ""},
		{"acme_eab", t.ACMEEAB.KeyID != "" || !t.ACMEEAB.MACKey.IsZero()},
		{"acme_dns", t.ACMEDNS.Set()},
	} {
		if f.set {
			k.bad("tls."+f.key, fmt.Sprintf("tls.mode is %s: no certificate is asked for", t.Mode), "leave it out, or write tls.mode: acme without cert_file and key_file")
		}
	}
}

func (k *checker) checkEAB() {
	e := &k.TLS.ACMEEAB
	id, key := e.KeyID != "" || k.absent("tls.acme_eab.key_id"), !e.MACKey.IsZero() || k.absent("tls.acme_eab.mac_key")
	switch {
	case id && !key:
		k.bad("tls.acme_eab", "mac_key is missing: the two go together", "set both, as the CA gave them")
	case key && !id:
		k.bad("tls.acme_eab", "key_id is missing: the two go together", "set both, as the CA gave them")
	case key && !e.MACKey.IsZero():
		if _, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(e.MACKey.Reveal(), "=")); err != nil {
			k.bad("tls.acme_eab.mac_key", "is not base64url", "write it as the CA gave it")
		}
	}
}

// dnsAlgorithms are those that sign updates.
var dnsAlgorithms = []string{"hmac-sha256", "hmac-sha512", "hmac-sha384", "hmac-sha224", "hmac-sha1"}

func (k *checker) checkDNS() {
	d := &k.TLS.ACMEDNS
	if !d.Set() && d.Zone == "" && d.KeyName == "" && d.KeySecret.IsZero() || len(k.problemsAt("tls.acme_dns")) > 0 {
		return
	}
	at := "tls.acme_dns"
	k.required(at, "server", d.Server != "", "write the name server that takes updates: 10.0.0.53")
	k.required(at, "zone", d.Zone != "", "write the zone that holds the hostnames: example.com")
	k.required(at, "key_name", d.KeyName != "", "write the name of the TSIG key, as the server has it")
	k.required(at, "key_secret", !d.KeySecret.IsZero(), "write the TSIG key's secret")
	k.word(at+".algorithm", d.Algorithm, dnsAlgorithms...)
	if _, err := base64.StdEncoding.DecodeString(d.KeySecret.Reveal()); err != nil {
		k.bad(at+".key_secret", "is not base64", "write it as tsig-keygen prints it")
	}
	if d.Server != "" {
		if host, err := parseHostname(d.Server); err != nil {
			msg, fix := explain(err)
			k.bad(at+".server", msg, fix)
		} else {
			d.Server = withPort(host, "53")
		}
	}
	for i, host := range k.bareHostnames() {
		if d.Zone != "" && host != d.Zone && !strings.HasSuffix(host, "."+d.Zone) {
			k.bad(k.entry("hostname", i), fmt.Sprintf("%s is not in tls.acme_dns.zone %s: its challenge cannot be written there", host, d.Zone), "name the zone that holds it")
		}
	}
}

// unreachable are top names that no public CA gives certificates for.
var unreachable = []string{"local", "localhost", "internal", "lan", "home", "corp", "intranet", "private", "test", "invalid", "example", "arpa"}

// warnACMENames: a public CA looks each name up and connects to it.
func (k *checker) warnACMENames() {
	if k.TLS.ACMEDirectory != "" || k.absent("tls.acme_directory") {
		return // a CA of one's own may reach anything
	}
	const fix = "set tls.cert_file and tls.key_file, or tls.mode: internal, or tls.acme_directory"
	for i, host := range k.bareHostnames() {
		at := k.entry("hostname", i)
		labels := strings.Split(host, ".")
		if a, err := netip.ParseAddr(host); err == nil {
			if a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() {
				k.maybe(at, fmt.Sprintf("Let's Encrypt gives no certificate for %s: it cannot reach it", host), fix)
			}
			continue
		}
		if len(labels) == 1 || slices.Contains(unreachable, labels[len(labels)-1]) {
			k.maybe(at, fmt.Sprintf("Let's Encrypt gives no certificate for %s: that is no public name", host), fix)
		}
	}
	port := func(list []string, want string) bool {
		return slices.ContainsFunc(list, func(l string) bool { return strings.HasSuffix(l, want) || strings.HasPrefix(l, "systemd:") })
	}
	if !k.TLS.ACMEDNS.Set() && !port(k.Listen, ":443") && !port(k.TLS.HTTPListen, ":80") && len(k.problemsAt("listen")) == 0 {
		k.maybe("tls.mode", "a CA connects to port 80 (HTTP-01) or 443 (TLS-ALPN-01) of the name, and nothing here listens on either", "set tls.http_listen: \":80\", or tls.acme_dns, unless something in front forwards them")
	}
}
