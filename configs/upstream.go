package configs

import (
	"fmt"
	"net/netip"
	"net/textproto"
	"regexp"
	"strings"
)

func (k *checker) checkUpstreams() {
	one, several := k.given("upstream"), k.given("upstreams")
	switch {
	case one && several:
		k.bad("upstreams", "upstream is there too", "keep one of the two")
	case !one && !several:
		k.bad("upstream", "required, and missing", "write the registry's URL: upstream: http://127.0.0.1:5000")
	case several && len(k.Upstreams) == 0 && !k.absent("upstreams"):
		k.bad("upstreams", "an empty list", "write one entry at least: {url: http://127.0.0.1:5000}")
	}
	if one && several {
		return
	}
	for i := range k.Upstreams {
		if at := k.UpstreamPath(i); k.given(at) && !k.refused(at) {
			k.checkUpstream(at, &k.Upstreams[i])
		}
	}
}

// UpstreamPath is where upstream i stands in the file: upstream, or upstreams[i].
func (c *Config) UpstreamPath(i int) string {
	if c.Upstream != nil {
		return "upstream"
	}
	return fmt.Sprintf("upstreams[%d]", i)
}

// complete fills in what follows from other fields.
func (u *Upstream) complete() {
	u.Hostname = strings.ToLower(u.Hostname)
	if u.Prefix != "" && !strings.HasSuffix(u.Prefix, "/") {
		u.Prefix += "/"
	}
	if u.Name == "" {
		u.Name = strings.TrimSuffix(u.Prefix, "/")
	}
	if u.Name == "" && u.URL != nil {
		u.Name = u.URL.Host
	}
	if u.Credentials == "" {
		u.Credentials = CredentialsNone
		if u.Username != "" {
			u.Credentials = CredentialsAccount
		}
	}
}

func (k *checker) checkUpstream(at string, u *Upstream) {
	if !k.given(at + ".url") {
		k.bad(at+".url", "required, and missing", "write the registry's URL: url: http://127.0.0.1:5000")
	}
	k.checkCredentials(at, u)
	k.word(at+".redirects", u.Redirects, "follow", "pass")
	k.checkHosts(at+".redirect_hosts", u.RedirectHosts)
	k.checkHosts(at+".token_hosts", u.TokenHosts)
	k.checkShared(at, u)
	k.checkReadOnly(at, u)
	k.checkKnown(at, u)
	if h := u.AssertUser; h != "" && (!headerName.MatchString(h) || reservedHeader(h)) {
		k.bad(at+".assert_user", fmt.Sprintf("%q cannot carry a user name", clip(h)), "write the header that the upstream reads, such as X-Forwarded-User")
	}
	if (u.ClientCertFile == "") != (u.ClientKeyFile == "") {
		k.bad(at, "client_cert_file and client_key_file go together", "set both, or none")
	}
	if u.URL != nil && u.URL.Scheme == "http" && (u.CAFile != "" || u.ClientCertFile != "") {
		k.bad(at+".url", "http, but ca_file or client_cert_file are about TLS", "write https, or leave them out")
	}
	k.positive(at+".connect_timeout", u.ConnectTimeout)
	k.positive(at+".header_timeout", u.HeaderTimeout)
}

// checkCredentials: who has a user name has a password, and the other way round.
func (k *checker) checkCredentials(at string, u *Upstream) {
	user, password := k.given(at+".username"), k.given(at+".password")
	switch u.Credentials {
	case CredentialsAccount, CredentialsNone, CredentialsPassthrough:
		switch {
		case user && !password:
			k.bad(at+".username", "password is missing: the two go together", "set password too")
		case password && !user:
			k.bad(at+".password", "username is missing: the two go together", "set username too")
		case u.Credentials == CredentialsAccount && !user && !k.absent(at+".credentials"):
			k.bad(at+".credentials", "account, but no username and password", "set both")
		case u.Credentials == CredentialsNone && user && k.given(at+".credentials"):
			k.bad(at+".credentials", "none, but there is a username", "leave username and password out, or credentials")
		}
		if u.Passthrough() && u.AssertUser != "" {
			k.bad(at+".assert_user", "passthrough says who asks already, by the login itself", "leave one of the two out")
		}
		if strings.Contains(u.Username, ":") {
			k.bad(at+".username", "a user name has no colon", "")
		}
		if password && u.Password.IsZero() && !k.absent(at+".password") && len(k.problemsAt(at+".password")) == 0 {
			k.bad(at+".password", "is empty", "")
		}
	default:
		k.refuseWord(at+".credentials", u.Credentials, CredentialsNone, CredentialsAccount, CredentialsPassthrough)
	}
}

// checkHosts brings a list of hosts into the form they are compared in.
func (k *checker) checkHosts(path string, hosts []string) {
	for i, h := range hosts {
		if _, err := netip.ParsePrefix(h); err == nil || strings.Contains(h, "*") {
			k.bad(k.entry(path, i), fmt.Sprintf("%q is more than one host", clip(h)), "name each host, with its port if it has one: minio:9000")
			continue
		}
		host, err := parseHostname(h)
		if err != nil {
			msg, fix := explain(err)
			k.bad(k.entry(path, i), msg, fix)
			continue
		}
		hosts[i] = host
	}
}

var headerName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)

// checkShared asks for a decision where an upstream is known to hand out any
// layer under any image name.
func (k *checker) checkShared(at string, u *Upstream) {
	if u.SharedBlobs == nil && u.URL != nil && strings.Contains(u.URL.Path+"/", "/repository/") && !k.given(at+".shared_blobs") {
		k.say(Error, at+".url", at+".shared_blobs", "has to be spelled out: this looks like Nexus, which gives any layer under any image name", FixSharedBlobs)
	}
}

// checkReadOnly: what clients are told is a sentence. A false taken for one
// would refuse each push to whoever meant to allow them.
func (k *checker) checkReadOnly(at string, u *Upstream) {
	switch strings.ToLower(u.ReadOnly) {
	case "true", "yes", "on":
		k.bad(at+".read_only", fmt.Sprintf("%q is all that clients would be told", u.ReadOnly), `write why, and until when: read_only: "the registry is upgraded until 18:00"`)
	case "false", "no", "off":
		k.bad(at+".read_only", fmt.Sprintf("%q would be told to clients, and each push be refused", u.ReadOnly), "leave it out where pushes are allowed")
	}
}

// FixSharedBlobs is what to do about an upstream that may hand out any layer
// under any image name.
const FixSharedBlobs = "write shared_blobs: true, which closes that; false only if everybody who may pull anything here may read every layer"

// reservedHeader are headers that mean something to HTTP or to regward itself.
func reservedHeader(h string) bool {
	switch textproto.CanonicalMIMEHeaderKey(h) {
	case "Authorization", "Host", "Connection", "Content-Length", "Content-Type", "Content-Range", "Transfer-Encoding",
		"Accept", "Accept-Encoding", "Range", "Te", "Trailer", "Upgrade", "Cookie", "User-Agent", "Expect", "Via", "X-Forwarded-For", "Proxy-Authorization":
		return true
	}
	return false
}
