package configs

import (
	"fmt"

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
		if k.given(at+".tags") && len(r.Tags) == 0 && len(k.problemsAt(at+".tags")) == 0 && !k.absent(at+".tags") {
			k.bad(at+".tags", "an empty list", "leave it out for any tag")
		}
		if r.Immutable && !r.Allow.Has(auth.Push) && len(k.problemsAt(at)) == 0 {
			k.bad(at+".immutable", "is about tags that are pushed, and this rule allows no push", "write it where push is allowed")
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
