package configs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/netip"
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
