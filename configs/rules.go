package configs

import (
	"fmt"
	"regexp"

	"github.com/regward/regward/auth"
)

func (k *checker) checkRules() {
	for i, r := range k.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if !k.given(at) {
			continue // it is no map, and that was said
		}
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

func (k *checker) checkTests() {
	for i, t := range k.Tests {
		at := fmt.Sprintf("tests[%d]", i)
		if !k.given(at) {
			continue
		}
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
		if !k.given(at) {
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
		k.checkAudience(at, l)
	}
}

// checkAudience looks at whom a limit counts.
func (k *checker) checkAudience(at string, l Limit) {
	if l.Count == CountFailedLogins {
		if l.Per == PerGroup || l.Per == PerNamespace || l.Per == PerRepository {
			k.bad(at+".per", fmt.Sprintf("%s, but a failed login has none", l.Per), "write client, user, ip or all")
		}
		if len(l.Repositories) > 0 {
			k.bad(at+".repositories", "a failed login is about no repository", "leave it out")
		}
		if len(l.Subjects) > 0 {
			k.bad(at+".subjects", "whose login failed is not known: anybody can type a name", "leave it out, or choose by from")
		}
		if len(l.Exempt.Subjects) > 0 {
			k.bad(at+".exempt", fmt.Sprintf("%s: whose login failed is not known, anybody can type a name", l.Exempt.Subjects[0]), "exempt networks: 10.0.0.0/8")
		}
	}
	for _, key := range []string{"subjects", "repositories", "from"} {
		empty := map[string]bool{"subjects": len(l.Subjects) == 0, "repositories": len(l.Repositories) == 0, "from": len(l.From) == 0}[key]
		if k.given(at+"."+key) && empty && len(k.problemsAt(at+"."+key)) == 0 && !k.absentBelow(at+"."+key) {
			k.bad(at+"."+key, "an empty list", "leave it out")
		}
	}
}
