package configs

import (
	"fmt"
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
	case several && len(k.Upstreams) != 1:
		k.bad("upstreams", fmt.Sprintf("%d of them: exactly one is possible yet", len(k.Upstreams)), "run one instance for each registry, each with a hostname of its own")
	}
	for i := range k.Upstreams {
		at := "upstream"
		if several {
			at = fmt.Sprintf("upstreams[%d]", i)
		}
		if one && several {
			return
		}
		if k.given(at) {
			k.checkUpstream(at, &k.Upstreams[i])
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
	case "passthrough":
		k.bad(at+".credentials", "passthrough is not there yet", "set username and password of an account for regward")
	case "account", "none":
		switch {
		case user && !password:
			k.bad(at+".username", "password is missing: the two go together", "set password too")
		case password && !user:
			k.bad(at+".password", "username is missing: the two go together", "set username too")
		case u.Credentials == "account" && !user && !k.absent(at+".credentials"):
			k.bad(at+".credentials", "account, but no username and password", "set both")
		case u.Credentials == "none" && user && k.given(at+".credentials"):
			k.bad(at+".credentials", "none, but there is a username", "leave username and password out, or credentials")
		}
		if strings.Contains(u.Username, ":") {
			k.bad(at+".username", "a user name has no colon", "")
		}
		if password && u.Password.IsZero() && !k.absent(at+".password") && len(k.problemsAt(at+".password")) == 0 {
			k.bad(at+".password", "is empty", "")
		}
	default:
		k.refuseWord(at+".credentials", u.Credentials, "none", "account")
	}
}

// checkHosts brings a list of hosts into the form they are compared in.
func (k *checker) checkHosts(path string, hosts []string) {
	for i, h := range hosts {
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
	const fix = "write false only if everybody who may pull anything here may read every layer"
	switch {
	case u.SharedBlobs != nil && *u.SharedBlobs:
		k.bad(at+".shared_blobs", "true is not there yet", fix)
	case u.SharedBlobs == nil && u.URL != nil && strings.Contains(u.URL.Path+"/", "/repository/") && !k.given(at+".shared_blobs"):
		k.say(Error, at+".url", at+".shared_blobs", "has to be spelled out: this looks like Nexus, which gives any layer under any image name", "true, which closes that, is not there yet; "+fix)
	}
}

// reservedHeader are headers that mean something to HTTP or to regward itself.
func reservedHeader(h string) bool {
	switch textproto.CanonicalMIMEHeaderKey(h) {
	case "Authorization", "Host", "Connection", "Content-Length", "Content-Type", "Content-Range", "Transfer-Encoding",
		"Accept", "Accept-Encoding", "Range", "Te", "Trailer", "Upgrade", "Cookie", "User-Agent", "Expect", "Via", "X-Forwarded-For", "Proxy-Authorization":
		return true
	}
	return false
}
