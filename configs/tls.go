package configs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// TLS says which certificate is shown, and which ones clients may show.
// CertFile and KeyFile go together, and mean mode files.
type TLS struct {
	Mode string `yaml:"mode"` // TLSACME, TLSFiles, TLSInternal or TLSOff

	ACMEEmail     string  `yaml:"acme_email"`
	ACMEDirectory string  `yaml:"acme_directory"` // "": Let's Encrypt
	ACMECAFile    string  `yaml:"acme_ca_file" is:"file"`
	ACMEEAB       ACMEEAB `yaml:"acme_eab"`
	ACMEDNS       ACMEDNS `yaml:"acme_dns"`

	CertFile   string   `yaml:"cert_file" is:"file"`
	KeyFile    string   `yaml:"key_file" is:"file"`
	MinVersion string   `yaml:"min_version"` // "1.2" or "1.3"; see Min
	HTTPListen []string `yaml:"http_listen"` // plain listeners: HTTP-01 and a redirect; none is off

	ClientCAFile string     `yaml:"client_ca_file" is:"file"` // "": clients are not asked for a certificate
	ClientCert   ClientCert `yaml:"client_cert"`

	ACMECA   []byte `yaml:"-"` // content of ACMECAFile, PEM
	ClientCA []byte `yaml:"-"` // content of ClientCAFile, PEM
}

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

// ClientCert says who the owner of a client's certificate is, and which ones no
// longer count.
type ClientCert struct {
	User    string `yaml:"user"` // ClientCN, ClientSANDNS or ClientSANURI
	CRLFile string `yaml:"crl_file" is:"file"`

	CRL []byte `yaml:"-"` // content of CRLFile
}

// The values of tls.mode.
const (
	TLSACME     = "acme"
	TLSFiles    = "files"
	TLSInternal = "internal"
	TLSOff      = "off"
)

// The values of tls.client_cert.user: the one common name, DNS name, or URI
// (SPIFFE) of the certificate.
const (
	ClientCN     = "cn"
	ClientSANDNS = "san_dns"
	ClientSANURI = "san_uri"
)

// Min is min_version as crypto/tls writes it.
func (t TLS) Min() uint16 {
	if t.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// completeTLS fills in what follows from the mode.
func (k *checker) completeTLS() {
	if k.TLS.Mode == "" && !k.absent("tls.mode") {
		k.TLS.Mode = TLSACME
		if k.given("tls.cert_file") || k.given("tls.key_file") {
			k.TLS.Mode = TLSFiles
		}
	}
	if k.TLS.Mode == TLSACME && !k.given("tls.http_listen") {
		k.TLS.HTTPListen = []string{":80"}
	}
	k.TLS.HTTPListen = orOff(k.TLS.HTTPListen)
	d := &k.TLS.ACMEDNS
	if d.Server != "" {
		if host, err := parseHostname(d.Server); err == nil {
			d.Server = withPort(host, "53")
			if a, err := netip.ParseAddr(host); err == nil {
				d.Server = netip.AddrPortFrom(a, 53).String()
			}
		}
		d.Zone = strings.ToLower(strings.TrimSuffix(d.Zone, "."))
	}
}

func (k *checker) checkTLS() {
	cert, key := k.given("tls.cert_file"), k.given("tls.key_file")
	switch k.TLS.Mode {
	case TLSFiles:
		switch {
		case cert && !key:
			k.bad("tls.cert_file", "tls.key_file is missing: the two go together", "set tls.key_file too")
		case key && !cert:
			k.bad("tls.key_file", "tls.cert_file is missing: the two go together", "set tls.cert_file too")
		case !cert && !key:
			k.bad("tls.mode", "files, but no files are named", "set tls.cert_file and tls.key_file")
		}
	case TLSACME, TLSInternal, TLSOff:
		if cert || key {
			k.bad("tls.mode", k.TLS.Mode+" and tls.cert_file or tls.key_file contradict each other", "leave tls.mode out to use the files")
		}
		if k.TLS.Mode == TLSOff {
			k.checkPlain()
		}
	case "":
	default:
		msg, fix := explain(choice(k.TLS.Mode, TLSACME, TLSFiles, TLSInternal, TLSOff))
		k.bad("tls.mode", msg, fix)
	}
	if v := k.TLS.MinVersion; v != "1.2" && v != "1.3" && !k.absent("tls.min_version") {
		k.bad("tls.min_version", fmt.Sprintf("%q is not allowed", clip(v)), "write 1.2 or 1.3")
	}
	k.checkACME()
	k.checkClientCert()
}

// checkPlain: without TLS, strangers must not be able to connect.
func (k *checker) checkPlain() {
	if len(k.TrustedProxies) > 0 || k.absent("trusted_proxies") || len(k.ProxyProtocol.From) > 0 || k.absentBelow("proxy_protocol") {
		return
	}
	for _, addr := range k.Listen {
		if parseListen(addr) == nil && !loopback(addr) {
			k.bad("tls.mode", fmt.Sprintf("off, while %s can be reached from other machines: passwords would travel in the clear", addr),
				"listen on 127.0.0.1, or name the proxy in front in trusted_proxies, or use tls.mode: internal")
			return
		}
	}
}

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

// checkClientCert: certificates of clients, and who their owners are.
func (k *checker) checkClientCert() {
	t := &k.TLS
	if t.ClientCAFile == "" {
		if (t.ClientCert.User != ClientCN || t.ClientCert.CRLFile != "") && !k.absentBelow("tls") {
			k.bad("tls.client_cert", "tls.client_ca_file is missing: no client is asked for a certificate", "set tls.client_ca_file, or leave it out")
		}
		return
	}
	if t.Mode == TLSOff {
		k.bad("tls.client_ca_file", "tls.mode is off: clients show their certificates to whoever ends TLS in front", "leave it out, or end TLS here")
	}
	k.word("tls.client_cert.user", t.ClientCert.User, ClientCN, ClientSANDNS, ClientSANURI)
}

// readTLSFiles reads the CAs that are believed, and the list of clients' revoked
// certificates.
func (k *checker) readTLSFiles() {
	t := &k.TLS
	for _, f := range []struct {
		path, name string
		to         *[]byte
	}{
		{"tls.acme_ca_file", t.ACMECAFile, &t.ACMECA},
		{"tls.client_ca_file", t.ClientCAFile, &t.ClientCA},
	} {
		data, ok := k.read(f.path, f.name, maxPEM)
		if ok && !x509.NewCertPool().AppendCertsFromPEM(data) {
			k.bad(f.path, f.name+" holds no certificate in PEM", "")
		}
		*f.to = data
	}
	t.ClientCert.CRL, _ = k.read("tls.client_cert.crl_file", t.ClientCert.CRLFile, maxCRL)
}

// maxCRL is a list of some 400,000 revoked certificates.
const maxCRL = 16 << 20
