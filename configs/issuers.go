package configs

import (
	"fmt"
	"net/url"
	"strings"
)

// openIssuers give tokens to anybody who asks: only a claim that is required
// makes theirs one's own. The value is such a claim.
func openIssuers() map[string]string {
	return map[string]string{
		"token.actions.githubusercontent.com": "{repository_owner: acme}",
		"gitlab.com":                          "{namespace_path: acme}",
		"accounts.google.com":                 "{hd: example.com}",
		"agent.buildkite.com":                 "{organization_slug: acme}",
		"app.terraform.io":                    "{terraform_organization_name: acme}",
	}
}

// checkOwn: an issuer that serves everybody, without a claim that is required,
// would let everybody log in.
func (k *checker) checkOwn(at string, o *OIDC) {
	u, err := url.Parse(o.Issuer)
	if err != nil || len(o.Require) > 0 || k.refused(at+".require") {
		return
	}
	if claim, open := openIssuers()[strings.ToLower(u.Hostname())]; open {
		k.bad(at, fmt.Sprintf("require is missing: %s gives tokens to anybody, and each would be a login here", clip(o.Issuer)), "write require: "+claim)
	}
}

// warnSameNames: two issuers that make names alike can each name the other's
// people.
func (k *checker) warnSameNames() {
	for i := range k.Auth.OIDC {
		for j := range i {
			a, b := &k.Auth.OIDC[j], &k.Auth.OIDC[i]
			fixed := placeholders.ReplaceAllString(b.User, "") != "" // else it has its own warning
			if fixed && a.Issuer != b.Issuer && k.fold(a.User) == k.fold(b.User) {
				k.maybe(fmt.Sprintf("auth.oidc[%d].user", i), fmt.Sprintf("%q is how auth.oidc[%d] names people, too, and that is another issuer: each can name the other's", clip(b.User), j),
					"begin it with something else: "+b.Name+"/…")
				break
			}
		}
	}
}
