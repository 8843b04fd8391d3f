package configs

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/regward/regward/auth"
)

// LDAP is a directory of people and groups. Without URLs there is none.
type LDAP struct {
	URL            []string `yaml:"url"` // ldaps://host, or ldap:// with StartTLS; asked in order
	StartTLS       bool     `yaml:"starttls"`
	CAFile         string   `yaml:"ca_file" is:"file"`
	BindDN         string   `yaml:"bind_dn"` // with BindPassword; neither: anonymous searches
	BindPassword   Secret   `yaml:"bind_password"`
	UserBase       string   `yaml:"user_base"`
	UserFilter     string   `yaml:"user_filter"` // {user}
	UserName       string   `yaml:"user_name"`   // attribute: the name as the directory spells it
	GroupBase      string   `yaml:"group_base"`  // "": no groups are looked up
	GroupFilter    string   `yaml:"group_filter"`
	GroupName      string   `yaml:"group_name"` // attribute
	GroupRecursive bool     `yaml:"group_recursive"`
	Timeout        Duration `yaml:"timeout"`
	Pool           int      `yaml:"pool"` // connections for searches

	CA []byte `yaml:"-"` // content of CAFile, PEM
}

// Set reports whether there is a directory.
func (l *LDAP) Set() bool { return len(l.URL) > 0 }

// OIDC is one issuer whose tokens are taken as passwords.
type OIDC struct {
	Name        string            `yaml:"name"` // unique; in logs
	Issuer      string            `yaml:"issuer"`
	Audience    []string          `yaml:"audience"`
	Require     map[string]string `yaml:"require"` // claims that must be equal
	User        string            `yaml:"user"`    // {claim} and fixed text
	Groups      []string          `yaml:"groups"`  // of everybody who comes with such a token
	GroupsClaim string            `yaml:"groups_claim"`
	CAFile      string            `yaml:"ca_file" is:"file"`
	Algorithms  []string          `yaml:"algorithms"`

	CA    []byte `yaml:"-"` // content of CAFile, PEM
	Where string `yaml:"-"`
}

// Webhook asks a program of somebody's own about logins. Without URL there is
// none.
type Webhook struct {
	URL     string   `yaml:"url"`
	Secret  Secret   `yaml:"secret"` // signs what is asked
	CAFile  string   `yaml:"ca_file" is:"file"`
	Timeout Duration `yaml:"timeout"`

	CA []byte `yaml:"-"` // content of CAFile, PEM
}

// The bounds of what providers are given.
const (
	maxLDAPServers = 8
	maxIssuers     = 32
	maxPool        = 64
)

// completeProviders fills in what issues leave out.
func (k *checker) completeProviders() {
	for i := range k.Auth.OIDC {
		o := &k.Auth.OIDC[i]
		at := fmt.Sprintf("auth.oidc[%d]", i)
		if o.User == "" && !k.given(at+".user") {
			o.User = "{sub}"
		}
		if len(o.Algorithms) == 0 && !k.given(at+".algorithms") {
			o.Algorithms = []string{"RS256", "ES256"}
		}
	}
}

func (k *checker) checkProviders() {
	k.checkLDAP()
	k.checkOIDC()
	k.checkWebhook()
	k.checkBesidePassthrough()
}

func (k *checker) checkLDAP() {
	l := &k.Auth.LDAP
	const at = "auth.ldap"
	if !l.Set() {
		if k.anyOf(at+".", "user_base", "user_filter", "bind_dn", "group_base") && !k.refused(at+".url") {
			k.bad(at, "url is missing: where is it?", "write url: ldaps://ldap.example.com")
		}
		return
	}
	if len(l.URL) > maxLDAPServers {
		k.bad(at+".url", fmt.Sprintf("more than %d servers", maxLDAPServers), "name the nearest ones")
	}
	for i, text := range l.URL {
		k.checkLDAPServer(k.entry(at+".url", i), text)
	}
	k.required(at, "user_base", l.UserBase != "", "write where people are: ou=people,dc=example,dc=com")
	k.required(at, "user_filter", l.UserFilter != "", "write (uid={user}), or (sAMAccountName={user})")
	k.checkFilter(at+".user_filter", l.UserFilter, "{user}")
	if l.GroupBase != "" {
		k.required(at, "group_filter", l.GroupFilter != "", "write (member={dn}), or (memberUid={user})")
		k.checkFilter(at+".group_filter", l.GroupFilter, "{dn}", "{user}")
	} else if l.GroupFilter != "" || l.GroupRecursive {
		k.bad(at, "group_base is missing: where are the groups?", "write group_base: ou=groups,dc=example,dc=com")
	}
	if (l.BindDN == "") != (l.BindPassword.IsZero() && !k.refused(at+".bind_password")) {
		k.bad(at, "bind_dn and bind_password go together", "set both, or neither where anybody may search")
	}
	k.positive(at+".timeout", l.Timeout)
	if time.Duration(l.Timeout) > auth.MaxRemoteTime/2 {
		k.maybe(at+".timeout", fmt.Sprintf("a login ends after %v: of two servers that hang, the second would take what is left", auth.MaxRemoteTime), "write 5s, or less")
	}
	k.between(at+".pool", l.Pool, 1, maxPool)
}

func (k *checker) checkLDAPServer(at, text string) {
	u, err := url.Parse(text)
	const fix = "write it like ldaps://ldap.example.com"
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "ldap" && u.Scheme != "ldaps":
		k.bad(at, fmt.Sprintf("%q is no URL of a directory", clip(text)), fix)
	case u.User != nil:
		k.bad(at, "a login inside of a URL ends up in logs", "write bind_dn and bind_password beside url")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "":
		k.bad(at, fmt.Sprintf("%q has more than a host and a port", clip(text)), "write the base in user_base and group_base")
	case u.Scheme == "ldap" && !k.Auth.LDAP.StartTLS && !k.absent("auth.ldap.starttls"):
		k.bad(at, "ldap: passwords would travel in the clear", "write ldaps://, or starttls: true")
	case u.Scheme == "ldaps" && k.Auth.LDAP.StartTLS:
		k.bad(at, "ldaps is TLS from the start, and starttls is true", "write ldap://, or leave starttls out")
	}
}

var placeholders = regexp.MustCompile(`\{[^}]*\}`)

// checkFilter: brackets that match, and no placeholder but the known ones.
func (k *checker) checkFilter(at, filter string, known ...string) {
	if filter == "" || k.refused(at) {
		return
	}
	depth := 0
	for _, c := range filter {
		if c == '(' {
			depth++
		}
		if c == ')' {
			if depth--; depth < 0 {
				break
			}
		}
	}
	found := placeholders.FindAllString(filter, -1)
	switch {
	case filter[0] != '(' || depth != 0:
		k.bad(at, fmt.Sprintf("%q is no filter: its brackets do not match", clip(filter)), "write it like ("+strings.Trim(filter, "()")+")")
	case !slices.ContainsFunc(found, func(p string) bool { return slices.Contains(known, p) }):
		k.bad(at, fmt.Sprintf("%q has no %s in it: it would find everybody", clip(filter), orList(known)), "write it like (uid={user}) or (member={dn})")
	default:
		for _, p := range found {
			if !slices.Contains(known, p) {
				k.bad(at, fmt.Sprintf("%s is not known here", clip(p)), "write "+orList(known))
			}
		}
	}
}

func (k *checker) checkOIDC() {
	if len(k.Auth.OIDC) > maxIssuers {
		k.bad("auth.oidc", fmt.Sprintf("more than %d issuers", maxIssuers), "")
	}
	names, pairs := map[string]bool{}, map[string]bool{}
	for i := range k.Auth.OIDC {
		o, at := &k.Auth.OIDC[i], fmt.Sprintf("auth.oidc[%d]", i)
		if !k.given(at) {
			continue
		}
		k.required(at, "name", o.Name != "", "write name: github, for the log")
		k.required(at, "issuer", o.Issuer != "", "write what the tokens have for iss: https://token.actions.githubusercontent.com")
		k.required(at, "audience", len(o.Audience) > 0, "write what the tokens have for aud, one for this registry alone: registry.example.com")
		if names[o.Name] && o.Name != "" {
			k.bad(at+".name", fmt.Sprintf("%q is there twice", clip(o.Name)), "names tell issuers apart in the log")
		}
		names[o.Name] = true
		if key := fmt.Sprint(o.Issuer, o.Audience, o.Require); pairs[key] && o.Issuer != "" {
			k.bad(at+".issuer", "another entry takes the same tokens", "leave one out, or tell them apart by require")
		} else {
			pairs[key] = true
		}
		k.checkIssuer(at+".issuer", o.Issuer)
		k.checkOwn(at, o)
		k.checkOIDCUser(at+".user", o.User)
		for j, a := range o.Algorithms {
			if strings.HasPrefix(a, "HS") || strings.EqualFold(a, "none") {
				k.bad(k.entry(at+".algorithms", j), fmt.Sprintf("%q is no signature by the issuer alone", clip(a)), "leave algorithms out for RS256 and ES256")
				continue
			}
			k.word(k.entry(at+".algorithms", j), a, auth.IssuerAlgorithms()...)
		}
	}
	k.warnSameNames()
}

func (k *checker) checkIssuer(at, text string) {
	if text == "" || k.refused(at) {
		return
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		k.bad(at, "is no URL of an issuer", "write it as the tokens have it for iss")
	case u.Scheme != "https":
		k.bad(at, fmt.Sprintf("%q is not https: whoever is in between could sign tokens", clip(text)), "write https://, and ca_file where its CA is private")
	}
}

// checkOIDCUser: a user that any issuer's token can name would be everybody.
func (k *checker) checkOIDCUser(at, text string) {
	if text == "" || k.refused(at) {
		return
	}
	claims := placeholders.FindAllString(text, -1)
	switch rest := placeholders.ReplaceAllString(text, ""); {
	case strings.ContainsAny(rest, "{}"):
		k.bad(at, fmt.Sprintf("%q: a brace is not closed", clip(text)), "write gha/{repository}")
	case len(claims) == 0:
		k.maybe(at, fmt.Sprintf("%q has no claim in it: all of the issuer's jobs are one user", clip(text)), "write gha/{repository}")
	case rest == "" && k.otherLogins():
		k.maybe(at, fmt.Sprintf("%q has no fixed part: a token could name a user whom another login method knows", clip(text)), "write gha/"+text)
	}
}

// otherLogins reports whether people have names from elsewhere, too.
func (k *checker) otherLogins() bool {
	return k.Auth.Htpasswd != "" || k.Auth.LDAP.Set() || k.Auth.Upstream != "" || k.Auth.Webhook.URL != "" || k.TLS.ClientCAFile != "" || len(k.Auth.OIDC) > 1
}

func (k *checker) checkWebhook() {
	w := &k.Auth.Webhook
	const at = "auth.webhook"
	if w.URL == "" {
		if k.anyOf(at+".", "secret", "ca_file") && !k.refused(at+".url") {
			k.bad(at, "url is missing: who is asked?", "write url: https://logins.example.com/regward")
		}
		return
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		k.bad(at+".url", "is no URL", "write https://logins.example.com/regward")
	case u.Scheme == "http" && !loopbackHost(u.Hostname()):
		k.bad(at+".url", "http: passwords would travel in the clear", "write https://, and ca_file where its CA is private")
	}
	if w.Secret.IsZero() && !k.absent(at+".secret") {
		k.bad(at, "secret is missing: how would it know that we ask?", "write secret: ${WEBHOOK_SECRET}, and let it check the signature")
	} else if n := len(w.Secret.Reveal()); n > 0 && n < 16 {
		k.bad(at+".secret", "is shorter than 16 characters", "write a long random one: openssl rand -hex 32")
	}
	k.positive(at+".timeout", w.Timeout)
}

// checkBesidePassthrough: with passthrough the password is the upstream's, so no
// other provider of passwords can be.
func (k *checker) checkBesidePassthrough() {
	passes := slices.IndexFunc(k.Upstreams, func(u Upstream) bool { return u.Passthrough() })
	if passes < 0 {
		return
	}
	for _, p := range []struct {
		path string
		set  bool
	}{{"auth.ldap", k.Auth.LDAP.Set()}, {"auth.webhook", k.Auth.Webhook.URL != ""}} {
		if p.set {
			k.bad(p.path, fmt.Sprintf("people log in with their password of %s, which has credentials: passthrough", k.Upstreams[passes].Name), "leave it out, or give regward an account there instead of passthrough")
		}
	}
}

// anyOf reports whether the file has one of keys.
func (k *checker) anyOf(prefix string, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return k.given(prefix + key) })
}

func loopbackHost(host string) bool { return loopback(net.JoinHostPort(host, "80")) }
