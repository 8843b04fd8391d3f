package configs

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/regward/regward/auth"
)

// warnProviders is about logins that one provider takes from another.
func (k *checker) warnProviders() {
	if len(k.Auth.OIDC) > 0 && slices.Contains(k.users, k.fold(auth.OIDCUser)) {
		k.maybe("auth.htpasswd", fmt.Sprintf("user %s can never log in: with auth.oidc that name is for issuers' tokens", auth.OIDCUser), "give that user another name")
	}
	k.warnLostRobots()
	k.warnGroupFilter()
}

// What a group's members are called in: by their DNs, or by their names.
var (
	namesForDNs = regexp.MustCompile(`(?i)\((member|uniqueMember)(:[0-9.]+:)?=\{user\}\)`)
	dnsForNames = regexp.MustCompile(`(?i)\(memberUid=\{dn\}\)`)
)

// warnGroupFilter is about a filter that directories take, and that finds nobody's
// groups: validate --online cannot tell it from one that does.
func (k *checker) warnGroupFilter() {
	const at = "auth.ldap.group_filter"
	if f := k.Auth.LDAP.GroupFilter; k.refused(at) {
		return
	} else if m := namesForDNs.FindStringSubmatch(f); m != nil {
		k.maybe(at, fmt.Sprintf("%s has DNs, and {user} is a name: it finds no groups", m[1]), fmt.Sprintf("write (%s={dn})", m[1]))
	} else if m := dnsForNames.FindString(f); m != "" {
		k.maybe(at, "memberUid has names, and {dn} is a DN: it finds no groups", "write (memberUid={user})")
	}
}

// warnTokens: a rule for a robot that there is not. Before the first one is made
// there is no file, and nothing to compare with.
func (k *checker) warnTokens(path string, subjects []auth.Subject) {
	if k.Auth.Robots == nil || k.refused("auth.tokens_file") {
		return
	}
	for j, s := range subjects {
		if s.Kind() != "token" || k.Auth.Robots.Find(s.Name()) != nil {
			continue
		}
		fix := fmt.Sprintf("make it: regward token create %s --repository NAME --allow pull --expires 90d", s.Name())
		var names []string
		for i := range k.Auth.Robots.Robots {
			names = append(names, k.Auth.Robots.Robots[i].Name)
		}
		if best := Nearest(s.Name(), names); best != "" {
			fix = fmt.Sprintf("did you mean token:%s?", best)
		}
		k.maybe(k.entry(path, j), fmt.Sprintf("there is no robot %q", s.Name()), fix)
	}
}

// warnLostRobots: an upstream in passthrough checks logins itself, and knows no
// robot.
func (k *checker) warnLostRobots() {
	if k.Auth.Robots == nil {
		return
	}
	var lost []string
	for i := range k.Auth.Robots.Robots {
		r := &k.Auth.Robots.Robots[i]
		if !slices.ContainsFunc(r.Repositories, func(p auth.Pattern) bool {
			to := k.leadsTo(p)
			return len(to) == 0 || slices.ContainsFunc(to, func(u *Upstream) bool { return !u.Passthrough() })
		}) {
			lost = append(lost, r.Login())
		}
	}
	if len(lost) == 0 {
		return
	}
	who := lost[0]
	if n := len(lost) - 1; n > 0 {
		who = fmt.Sprintf("%s and %d more", who, n)
	}
	k.maybe("auth.tokens_file", who+" can use nothing of what was given: it is at upstreams with credentials: passthrough, which check logins themselves and know no robots",
		"make an account for the job there, or give regward one instead of passthrough")
}
