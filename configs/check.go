package configs

import (
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/regward/regward/auth"
)

// checker looks at a decoded configuration as a whole.
type checker struct {
	*reader
	*Config
}

// given reports whether the file has a value at path, unknown ones included.
func (k *checker) given(path string) bool { _, ok := k.src.values[path]; return ok }

// absent reports whether the value at path is an unset variable.
func (k *checker) absent(path string) bool { return k.src.values[path].absent }

// bad reports an error at path, or at the nearest thing around it that the
// file has.
func (k *checker) bad(path, msg, fix string) { k.say(Error, path, path, msg, fix) }

func (k *checker) say(s Severity, place, path, msg, fix string) {
	o := k.place(place)
	k.report(Problem{Severity: s, Line: o.line, Col: o.col, Path: path, Msg: msg, Fix: fix})
}

func (k *checker) place(path string) origin {
	for ; path != ""; path = parent(path) {
		if o, ok := k.src.values[path]; ok {
			return o
		}
	}
	return origin{line: 1, col: 1}
}

// parent cuts the last key or index off: "rules[2].allow", "rules[2]", "rules".
func parent(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// complete fills in what follows from other fields.
func (k *checker) complete() {
	switch {
	case k.Upstream != nil:
		k.Upstreams = append([]Upstream{*k.Upstream}, k.Upstreams...)
	}
	if k.TLS.Mode == "" && !k.absent("tls.mode") {
		k.TLS.Mode = TLSACME
		if k.given("tls.cert_file") || k.given("tls.key_file") {
			k.TLS.Mode = TLSFiles
		}
	}
	for i := range k.Upstreams {
		u := &k.Upstreams[i]
		if u.Name == "" && u.URL != nil {
			u.Name = u.URL.Host
		}
		if u.Credentials == "" {
			u.Credentials = "none"
			if u.Username != "" {
				u.Credentials = "account"
			}
		}
	}
	k.TLS.HTTPListen = orOff(k.TLS.HTTPListen)
	k.Health.Listen = orOff(k.Health.Listen)
	k.Admin.Listen = orOff(k.Admin.Listen)
	if k.Token.KeyFile == "" {
		k.Token.KeyFile = filepath.Join(k.StateDir, "token.pem")
		k.Token.Create = !k.given("token.key_file")
	}
	for i := range k.Rules {
		k.foldAll(k.Rules[i].Subjects)
	}
	for i := range k.Limits {
		l := &k.Limits[i]
		k.foldAll(l.Subjects)
		k.foldAll(l.Exempt.Subjects)
		if l.Per == "" {
			l.Per = PerClient
		}
		if l.Burst > 0 {
			l.Rate.Burst = l.Burst
		}
	}
	if !slices.ContainsFunc(k.Limits, func(l Limit) bool { return l.Count == CountFailedLogins }) {
		k.Limits = append(k.Limits, builtIn()...)
	}
	for _, name := range []*string{&k.Log.Access, &k.Log.Audit} {
		if *name != "off" && *name != "stdout" && *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(k.opts.Dir, *name)
		}
	}
}

// builtIn are the limits that hold unless the file has its own for failed logins.
func builtIn() []Limit {
	one := Limit{Name: "failed_logins", Count: CountFailedLogins, Per: PerIPUser, Where: "built in"}
	one.Rate.Events, one.Rate.Per, one.Rate.Burst = 10, 15*time.Minute, 10
	all := one
	all.Name, all.Per = "failed_logins_ip", PerIP
	all.Rate.Events, all.Rate.Burst = 100, 100
	return []Limit{one, all}
}

// orOff turns `off` into no listener.
func orOff(listen []string) []string {
	if len(listen) == 1 && listen[0] == "off" {
		return nil
	}
	return listen
}

func (k *checker) check() {
	k.checkHostname()
	k.checkListen()
	k.checkTLS()
	k.checkUpstreams()
	k.checkRules()
	k.checkTests()
	k.checkLimits()
	k.checkNumbers()
	k.checkWords()
}

var hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (k *checker) checkHostname() {
	if len(k.Hostname) == 0 && !k.given("hostname") {
		k.bad("hostname", "required, and missing", "write the name that clients use: hostname: registry.example.com")
	}
	seen := map[string]bool{}
	for i, raw := range k.Hostname {
		at := k.entry("hostname", i)
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
		k.Hostname[i] = host
	}
}

// entry is the path of one entry of a list that may be a single value.
func (k *checker) entry(path string, i int) string {
	if at := fmt.Sprintf("%s[%d]", path, i); k.given(at) {
		return at
	}
	return path
}

// parseHostname gives a name, an IP address (IPv6 bare), or either with a port.
func parseHostname(raw string) (string, error) {
	s := strings.ToLower(raw)
	if after, ok := strings.CutPrefix(strings.TrimPrefix(s, "http://"), "https://"); ok || after != s {
		return "", fault{fmt.Sprintf("%q is a URL", clip(raw)), fmt.Sprintf("write %q", strings.TrimRight(after, "/"))}
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
		return "", fault{fmt.Sprintf("%q has a path in it", clip(raw)), fmt.Sprintf("write %q", strings.SplitN(s, "/", 2)[0])}
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
		return fault{fmt.Sprintf("systemd:%s: socket activation is not there yet", clip(name)), `write an address; AmbientCapabilities=CAP_NET_BIND_SERVICE allows ":443"`}
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

// loopback reports whether only this machine can reach addr.
func loopback(addr string) bool {
	if strings.HasPrefix(addr, "unix:") {
		return true
	}
	host, _, _ := net.SplitHostPort(addr)
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

func (k *checker) checkTLS() {
	cert, key := k.given("tls.cert_file"), k.given("tls.key_file")
	switch k.TLS.Mode {
	case TLSACME:
		place := "tls.mode"
		k.say(Error, place, "tls.mode", "acme is not there yet", fixCertificate)
	case TLSFiles:
		switch {
		case cert && !key:
			k.bad("tls.cert_file", "tls.key_file is missing: the two go together", "set tls.key_file too")
		case key && !cert:
			k.bad("tls.key_file", "tls.cert_file is missing: the two go together", "set tls.cert_file too")
		case !cert && !key:
			k.bad("tls.mode", "files, but no files are named", "set tls.cert_file and tls.key_file")
		}
	case TLSInternal, TLSOff:
		if cert || key {
			k.bad("tls.mode", k.TLS.Mode+" and tls.cert_file or tls.key_file contradict each other", "leave tls.mode out to use the files")
		}
		if k.TLS.Mode == TLSOff {
			k.checkPlain()
		}
	case "":
	default:
		msg, fix := explain(choice(k.TLS.Mode, TLSFiles, TLSInternal, TLSOff))
		k.bad("tls.mode", msg, fix)
	}
	if v := k.TLS.MinVersion; v != "1.2" && v != "1.3" && !k.absent("tls.min_version") {
		k.bad("tls.min_version", fmt.Sprintf("%q is not allowed", clip(v)), "write 1.2 or 1.3")
	}
}

// checkPlain: without TLS, strangers must not be able to connect.
func (k *checker) checkPlain() {
	if len(k.TrustedProxies) > 0 || k.absent("trusted_proxies") {
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
		k.checkUpstream(at, &k.Upstreams[i])
	}
}

func (k *checker) checkUpstream(at string, u *Upstream) {
	if !k.given(at + ".url") {
		k.bad(at+".url", "required, and missing", "write the registry's URL: url: http://127.0.0.1:5000")
	}
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
	k.word(at+".redirects", u.Redirects, "follow", "pass")
	for _, list := range []struct {
		key   string
		hosts []string
	}{{"redirect_hosts", u.RedirectHosts}, {"token_hosts", u.TokenHosts}} {
		for i, h := range list.hosts {
			host, err := parseHostname(h)
			if err != nil {
				msg, fix := explain(err)
				k.bad(k.entry(at+"."+list.key, i), msg, fix)
				continue
			}
			list.hosts[i] = host
		}
	}
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

var headerName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)

// checkShared asks for a decision where an upstream is known to hand out any
// layer under any image name.
func (k *checker) checkShared(at string, u *Upstream) {
	const fix = "shared_blobs: true is not there yet; write false only if everybody who may pull anything here may read every layer"
	switch {
	case u.SharedBlobs != nil && *u.SharedBlobs:
		k.bad(at+".shared_blobs", "true is not there yet", "write false only if everybody who may pull anything here may read every layer")
	case u.SharedBlobs == nil && u.URL != nil && strings.Contains(u.URL.Path+"/", "/repository/") && !k.given(at+".shared_blobs"):
		k.say(Error, at+".url", at+".shared_blobs", "has to be spelled out: this looks like Nexus, which gives any layer under any image name", fix)
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

func (k *checker) checkRules() {
	for i, r := range k.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		k.required(at, "subjects", len(r.Subjects) > 0, "write subjects: everyone, authenticated, user:ann or group:dev")
		k.required(at, "repositories", len(r.Repositories) > 0, `write repositories: "team/**"`)
		allow, deny := k.given(at+".allow"), k.given(at+".deny")
		switch {
		case allow && deny:
			k.bad(at+".deny", "allow is there too", "write two rules; deny beats allow in any order")
		case !allow && !deny:
			k.bad(at, "neither allow nor deny", "write allow: pull, or [pull, push]")
		}
		for _, key := range []string{"allow", "deny"} {
			if k.given(at+"."+key) && r.Allow|r.Deny == 0 && len(k.problemsAt(at+"."+key)) == 0 && !k.absent(at+"."+key) {
				k.bad(at+"."+key, "an empty list", `write pull, push, delete or "*"`)
			}
		}
		if k.given(at+".from") && len(r.From) == 0 && len(k.problemsAt(at+".from")) == 0 && !k.absent(at+".from") {
			k.bad(at+".from", "an empty list", "leave it out for any address")
		}
	}
}

// required reports a key of an entry that is missing or an empty list. What
// was refused already is not reported twice.
func (k *checker) required(at, key string, there bool, fix string) {
	path := at + "." + key
	if there || len(k.problemsAt(path)) > 0 || k.absentBelow(path) {
		return
	}
	if k.given(path) {
		k.bad(path, "is empty", fix)
		return
	}
	k.bad(at, key+" is missing", fix)
}

// problemsAt are those reported for path or below it.
func (k *checker) problemsAt(path string) Problems {
	var out Problems
	for _, p := range k.problems {
		if p.Path == path || strings.HasPrefix(p.Path, path+"[") || p.Path == "" && p.Line == k.place(path).line {
			out = append(out, p)
		}
	}
	return out
}

// absentBelow reports whether something at path or in it is an unset variable.
func (k *checker) absentBelow(path string) bool {
	return slices.ContainsFunc(k.src.absent, func(at string) bool {
		return at == path || strings.HasPrefix(at, path+"[") || strings.HasPrefix(at, path+".")
	})
}

func (k *checker) checkTests() {
	for i, t := range k.Tests {
		at := fmt.Sprintf("tests[%d]", i)
		k.required(at, "as", t.As != "", "write as: anonymous, or a user's name")
		if t.As != "" {
			if err := checkName("user", t.As); err != nil {
				msg, fix := explain(err)
				k.bad(at+".as", msg, fix)
			}
		}
		if t.As == "everyone" || t.As == "authenticated" {
			k.bad(at+".as", fmt.Sprintf("%q is nobody in particular", t.As), "write anonymous, or a user's name")
		}
		if t.As == "anonymous" && len(t.Groups) > 0 {
			k.bad(at+".groups", "anonymous is in no group", "leave groups out, or name a user")
		}
		may, mayNot := k.given(at+".may"), k.given(at+".may_not")
		switch {
		case may && mayNot:
			k.bad(at+".may_not", "may is there too", "write two tests")
		case !may && !mayNot:
			k.bad(at, "neither may nor may_not", "write may: pull, or may_not: push")
		}
		k.required(at, "repository", t.Repository != "", "write repository: team/app")
		if t.Repository != "" && !auth.ValidRepository(t.Repository) {
			k.bad(at+".repository", fmt.Sprintf("%q is no repository name", clip(t.Repository)), "write one repository, without wildcards and tag: team/app")
		}
	}
}

var limitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (k *checker) checkLimits() {
	seen := map[string]string{}
	for i, l := range k.Limits {
		at := fmt.Sprintf("limits[%d]", i)
		if l.Where == "built in" {
			if other, taken := seen[l.Name]; taken {
				k.bad(other+".name", fmt.Sprintf("%q is the name of a built in limit", l.Name), "choose another one")
			}
			continue
		}
		k.required(at, "name", l.Name != "", "give it a name: it is shown in logs and metrics")
		k.required(at, "count", l.Count != "", "write count: pulls, pushes, requests or failed_logins")
		k.required(at, "rate", l.Rate.Events != 0, `write rate: "100/6h"`)
		if l.Name != "" && !limitName.MatchString(l.Name) {
			k.bad(at+".name", fmt.Sprintf("%q is no name for a limit", clip(l.Name)), "use letters, digits and . _ -")
		}
		if other, taken := seen[l.Name]; taken && l.Name != "" {
			k.bad(at+".name", fmt.Sprintf("%q is the name of %s already", l.Name, other), "choose another one: a reload knows limits by their names")
		} else {
			seen[l.Name] = at
		}
		if k.given(at+".burst") && l.Burst < 1 && len(k.problemsAt(at+".burst")) == 0 && !k.absent(at+".burst") {
			k.bad(at+".burst", fmt.Sprintf("%d would let nobody through", l.Burst), "leave it out for the rate's own count")
		}
		if l.Burst > 1_000_000_000 {
			k.bad(at+".burst", "is more than 1000000000", "write a smaller one")
		}
		if l.Count == CountFailedLogins {
			if l.Per == PerGroup || l.Per == PerNamespace || l.Per == PerRepository {
				k.bad(at+".per", fmt.Sprintf("%s, but a failed login has none", l.Per), "write client, user, ip or all")
			}
			if len(l.Repositories) > 0 {
				k.bad(at+".repositories", "a failed login is about no repository", "leave it out")
			}
		}
		for _, key := range []string{"subjects", "repositories", "from"} {
			empty := map[string]bool{"subjects": len(l.Subjects) == 0, "repositories": len(l.Repositories) == 0, "from": len(l.From) == 0}[key]
			if k.given(at+"."+key) && empty && len(k.problemsAt(at+"."+key)) == 0 && !k.absentBelow(at+"."+key) {
				k.bad(at+"."+key, "an empty list", "leave it out")
			}
		}
	}
}

func (k *checker) checkNumbers() {
	k.positive("idle_timeout", k.IdleTimeout)
	k.positive("shutdown_timeout", k.ShutdownTimeout)
	k.positive("cache.ttl", k.Cache.TTL)
	if t := time.Duration(k.Token.TTL); (t < time.Minute || t > time.Hour) && !k.refused("token.ttl") {
		k.bad("token.ttl", fmt.Sprintf("%v is out of bounds", k.Token.TTL), "write 1m to 1h")
	}
	k.between("cache.size", k.Cache.Size, 1, 10_000_000)
	k.between("limit_ip_prefix.v4", k.LimitIPPrefix.V4, 1, 32)
	k.between("limit_ip_prefix.v6", k.LimitIPPrefix.V6, 1, 128)
}

// refused reports whether the value at path has a problem already or is not known.
func (k *checker) refused(path string) bool { return k.absent(path) || len(k.problemsAt(path)) > 0 }

func (k *checker) positive(path string, d Duration) {
	if d <= 0 && !k.refused(path) {
		k.bad(path, "0 would end everything at once", "write a time such as 30s or 5m")
	}
}

func (k *checker) between(path string, n, low, high int) {
	if (n < low || n > high) && !k.refused(path) {
		k.bad(path, fmt.Sprintf("%d is out of bounds", n), fmt.Sprintf("write %d to %d", low, high))
	}
}

func (k *checker) checkWords() {
	k.word("catalog", k.Catalog, "filtered", "off")
	if k.Log.Format != "" {
		k.word("log.format", k.Log.Format, "json", "console")
	}
	k.word("log.level", k.Log.Level, "debug", "info", "warn", "error")
	for i, e := range k.Log.AuditEvents {
		k.word(k.entry("log.audit_events", i), e, "logins", "denials", "pulls", "pushes", "deletes", "revocations", "reloads")
	}
	if len(k.Contact) > 200 {
		k.bad("contact", "is longer than 200 bytes; it ends every refusal", "shorten it")
	}
	for _, p := range k.TrustedProxies {
		if p.Bits() == 0 {
			k.say(Warning, "trusted_proxies", "trusted_proxies", p.String()+" believes everybody: whoever connects may claim any address", "name the networks of the proxies alone")
		}
	}
}

// word refuses what is not one of a closed set.
func (k *checker) word(path, text string, known ...string) {
	if !slices.Contains(known, text) {
		k.refuseWord(path, text, known...)
	}
}

func (k *checker) refuseWord(path, text string, known ...string) {
	if k.refused(path) {
		return
	}
	msg, fix := explain(choice(text, known...))
	k.bad(path, msg, fix)
}
