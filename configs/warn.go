package configs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// warn adds what may be meant so but seldom is.
func (k *checker) warn() {
	if len(k.Rules) == 0 {
		k.say(Warning, "rules", "rules", "there are none: everything is denied to everybody", `write {subjects: authenticated, repositories: "**", allow: [pull, push]}`)
	}
	for i, r := range k.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if !k.warnDead(i, at, r) {
			k.warnDryAllow(at, r)
			k.warnTags(i, at, r)
		}
		k.warnAnonymous(at, r)
		k.warnPushOnly(at, r)
		k.warnPullOnly(i, at, r)
		k.warnGroups(at+".subjects", r.Subjects)
		k.warnUsers(at+".subjects", r.Subjects)
		k.warnTokens(at+".subjects", r.Subjects)
		k.warnNowhere(at, r.Repositories, "this rule can never decide")
		for j, p := range r.Repositories {
			if strings.Contains(p.String(), "{group}") && !k.anyGroups() {
				k.maybe(k.entry(at+".repositories", j), fmt.Sprintf("%q: nobody is in any group", p), "add them to groups")
			}
		}
	}
	k.warnLogins()
	k.warnRobots()
	k.warnProviders()
	k.warnReplaced()
	for i, l := range k.Limits {
		if l.Where == "built in" {
			continue
		}
		at, before := fmt.Sprintf("limits[%d]", i), len(k.problems)
		k.warnGroups(at+".subjects", l.Subjects)
		k.warnGroups(at+".exempt", l.Exempt.Subjects)
		k.warnUsers(at+".subjects", l.Subjects)
		k.warnUsers(at+".exempt", l.Exempt.Subjects)
		k.warnTokens(at+".subjects", l.Subjects)
		k.warnTokens(at+".exempt", l.Exempt.Subjects)
		k.warnUnreachable(at, l)
		k.warnNowhere(at, l.Repositories, "nobody can reach this limit")
		k.warnAbsurd(at, l)
		if len(k.problems) == before && !k.warnShadowed(i, at, l) {
			k.warnTwice(i, at, l)
		}
	}
	k.warnShortName()
	k.warnRefresh()
	k.warnPlaces()
}

// maybe adds a warning.
func (k *checker) maybe(path, msg, fix string) { k.say(Warning, path, path, msg, fix) }

// actions are those of a set.
func actions(s auth.Actions) []auth.Action {
	var out []auth.Action
	for _, a := range []auth.Action{auth.Pull, auth.Push, auth.Delete} {
		if s.Has(a) {
			out = append(out, a)
		}
	}
	return out
}

// warnDead finds rules that never settle anything: each case of theirs is
// denied, or settled by an earlier rule of the same kind, which is named first.
// Of a dry run there is nothing to tell, where a rule in force says the same.
// It reports whether this is one.
func (k *checker) warnDead(i int, at string, r Rule) bool {
	by := ""
	for _, s := range r.Subjects {
		for _, p := range r.Repositories {
			for _, a := range actions(r.Allow | r.Deny) {
				j := k.settledBy(i, r, s, p, a)
				if j < 0 {
					return false
				}
				if by == "" {
					by = k.Rules[j].Where
				}
			}
		}
	}
	if by != "" {
		k.maybe(at, "this rule can never decide: "+by+" covers all of it", "leave one of the two out")
	}
	return by != ""
}

// warnDryAllow: who reads dry_run as "does nothing yet" opens what was closed.
func (k *checker) warnDryAllow(at string, r Rule) {
	if r.DryRun && r.Allow != 0 {
		k.maybe(at+".dry_run", fmt.Sprintf("this rule allows %s all the same: a dry run of an allow tells what would be denied without it", r.Allow), "leave the rule out, if nobody is to have that yet")
	}
}

// settledBy is the index of another rule that settles a of s on p whenever
// rule i would be named for it, or -1.
func (k *checker) settledBy(i int, r Rule, s auth.Subject, p auth.Pattern, a auth.Action) int {
	for j, o := range k.Rules {
		stronger := o.Deny.Has(a) && !o.DryRun && r.Deny == 0
		same := (o.Allow.Has(a) && r.Allow.Has(a) || o.Deny.Has(a) && r.Deny.Has(a)) && (j < i && o.DryRun == r.DryRun || r.DryRun && !o.DryRun)
		if i != j && (stronger || same) && tagsSettle(o, r, a) && (len(o.From) == 0 || slices.Equal(o.From, r.From)) &&
			covers(o.Subjects, s) && k.contains(o.Repositories, p) {
			return j
		}
	}
	return -1
}

// contains reports whether one of patterns matches all that p matches.
func (c *Config) contains(patterns []auth.Pattern, p auth.Pattern) bool {
	_, bare := c.unhosted(p)
	return slices.ContainsFunc(patterns, func(q auth.Pattern) bool {
		return !apart(p, q) && q.Contains(p) || bare != p && !apart(bare, q) && q.Contains(bare)
	})
}

func covers(subjects []auth.Subject, s auth.Subject) bool {
	return slices.ContainsFunc(subjects, func(o auth.Subject) bool { return o.Covers(s) })
}

// warnAnonymous: who logs in should not lose what was free before.
func (k *checker) warnAnonymous(at string, r Rule) {
	for j, s := range r.Subjects {
		if s.Kind() != "anonymous" || r.Allow == 0 {
			continue
		}
		for _, p := range r.Repositories {
			for _, a := range actions(r.Allow) {
				if !k.covered("authenticated", p, r.Tags, a) {
					k.maybe(k.entry(at+".subjects", j), fmt.Sprintf("anonymous may %s %s and who has logged in may not", a, p), "write everyone instead of anonymous")
					return
				}
			}
		}
	}
}

// covered reports whether a rule without `from` allows a on p, under those tags,
// to all of kind.
func (k *checker) covered(kind string, p auth.Pattern, tags []auth.TagPattern, a auth.Action) bool {
	who, err := auth.ParseSubject(kind)
	return err == nil && slices.ContainsFunc(k.Rules, func(o Rule) bool {
		return o.Allow.Has(a) && len(o.From) == 0 && auth.TagsCover(o.Tags, tags) && covers(o.Subjects, who) &&
			k.contains(o.Repositories, p)
	})
}

// warnPushOnly: docker push asks for both.
func (k *checker) warnPushOnly(at string, r Rule) {
	if !r.Allow.Has(auth.Push) || r.Allow.Has(auth.Pull) {
		return
	}
	for _, s := range r.Subjects {
		for _, p := range r.Repositories {
			if !k.covered(s.String(), p, r.Tags, auth.Pull) {
				k.maybe(at+".allow", fmt.Sprintf("push without pull: docker push needs both on %s", p), "write [pull, push]")
				return
			}
		}
	}
}

// warnPullOnly: right for a mirror, and a surprise everywhere else.
func (k *checker) warnPullOnly(i int, at string, r Rule) {
	if !r.Allow.Has(auth.Pull) || r.Allow.Has(auth.Push) {
		return
	}
	everybody, err := auth.ParseSubject("everyone")
	if err != nil {
		return
	}
	for j, p := range r.Repositories {
		told := slices.ContainsFunc(k.Rules[:i], func(o Rule) bool {
			return o.Allow.Has(auth.Pull) && !o.Allow.Has(auth.Push) && slices.Contains(o.Repositories, p)
		})
		if !told && !k.may(everybody, p, auth.Push) && !k.readOnly(p) {
			k.maybe(k.entry(at+".repositories", j), fmt.Sprintf("nobody may push to %s", p), "add a rule that allows push to somebody, unless that is meant")
		}
	}
}

// readOnly reports whether pushing is refused, in words, wherever p leads to.
func (k *checker) readOnly(p auth.Pattern) bool {
	return !slices.ContainsFunc(k.leadsTo(p), func(u *Upstream) bool { return u.ReadOnly == "" })
}

// warnGroups: neither htpasswd nor an upstream gives groups, so all there are
// stand in groups, unless a directory, a claim or a program gives more.
func (k *checker) warnGroups(path string, subjects []auth.Subject) {
	if k.groupsUnknown() {
		return
	}
	for j, s := range subjects {
		if s.Kind() != "group" {
			continue
		}
		if _, known := k.Groups[s.Name()]; known || slices.ContainsFunc(k.Auth.OIDC, func(o OIDC) bool { return slices.Contains(o.Groups, s.Name()) }) {
			continue
		}
		fix := "add it to groups: " + s.Name() + ": [ann, bob]"
		var names []string
		for name := range k.Groups {
			names = append(names, name)
		}
		slices.Sort(names)
		if best := Nearest(s.Name(), names); best != "" {
			fix = fmt.Sprintf("did you mean group:%s?", best)
		}
		k.maybe(k.entry(path, j), fmt.Sprintf("no login method can give the group %q", s.Name()), fix)
	}
}

// groupsUnknown reports whether somebody else knows more groups than the file.
func (k *checker) groupsUnknown() bool {
	return k.Auth.LDAP.GroupBase != "" || k.Auth.Webhook.URL != "" || slices.ContainsFunc(k.Auth.OIDC, func(o OIDC) bool { return o.GroupsClaim != "" })
}

// anyGroups reports whether anybody can be in a group at all.
func (k *checker) anyGroups() bool {
	return len(k.Groups) > 0 || k.groupsUnknown() || slices.ContainsFunc(k.Auth.OIDC, func(o OIDC) bool { return len(o.Groups) > 0 })
}

// warnUsers: where only a file says who there is, whoever is not in it can never
// come.
func (k *checker) warnUsers(path string, subjects []auth.Subject) {
	k.warnRobotUsers(path, subjects)
	elsewhere := k.Auth.Upstream != "" || k.Auth.LDAP.Set() || k.Auth.Webhook.URL != "" || len(k.Auth.OIDC) > 0 || k.TLS.ClientCAFile != ""
	if k.users == nil || elsewhere || slices.ContainsFunc(k.Upstreams, func(u Upstream) bool { return u.Passthrough() }) {
		return
	}
	for j, s := range subjects {
		name := k.fold(s.Name())
		if s.Kind() != "user" || slices.Contains(k.users, name) || k.isRobot(name) {
			continue
		}
		fix := "add the user to " + k.Auth.Htpasswd + ": regward hash-password --user " + s.Name()
		if best := Nearest(name, k.users); best != "" {
			fix = fmt.Sprintf("did you mean user:%s?", best)
		}
		k.maybe(k.entry(path, j), fmt.Sprintf("nobody can log in as %q: %s does not have the name, and nothing else knows of logins", s.Name(), k.Auth.Htpasswd), fix)
	}
}

// warnLogins: rules for people, and no way to be one.
func (k *checker) warnLogins() {
	if k.Auth.Htpasswd != "" || k.Auth.Upstream != "" || k.TLS.ClientCAFile != "" || k.Auth.LDAP.Set() || len(k.Auth.OIDC) > 0 || k.Auth.Webhook.URL != "" || k.absent("auth.htpasswd") || k.absent("auth.upstream") ||
		slices.ContainsFunc(k.Upstreams, func(u Upstream) bool { return u.Passthrough() }) {
		return
	}
	for i, r := range k.Rules {
		for j, s := range r.Subjects {
			if kind := s.Kind(); r.Allow != 0 && (kind == "authenticated" || kind == "user" || kind == "group") {
				k.maybe(k.entry(fmt.Sprintf("rules[%d].subjects", i), j), "nobody can log in: this rule can never decide", "set auth.htpasswd, auth.ldap or auth.oidc, or auth.upstream: true")
				return
			}
		}
	}
}

// warnUnreachable finds limits that count nobody.
func (k *checker) warnUnreachable(at string, l Limit) {
	who := l.Subjects
	if len(who) == 0 {
		everybody, err := auth.ParseSubject("everyone")
		if err != nil {
			return
		}
		who = []auth.Subject{everybody}
	}
	const never = "nobody can reach this limit: "
	byUser := l.Per == PerUser || l.Per == PerGroup
	switch {
	case byUser && !slices.ContainsFunc(who, func(s auth.Subject) bool { return s.Kind() != "anonymous" }):
		k.maybe(at+".per", fmt.Sprintf("%sanonymous callers have no %s", never, l.Per), "write per: ip")
		return
	case l.Per == PerGroup && !k.anyGroups():
		k.maybe(at+".per", never+"nobody is in any group", "add them to groups")
		return
	case !slices.ContainsFunc(who, func(s auth.Subject) bool { return !covers(l.Exempt.Subjects, s) }):
		k.maybe(at+".exempt", never+"it spares all whom it counts", "leave exempt out, or count somebody else")
		return
	}
	var any []auth.Action
	switch l.Count {
	case CountPulls:
		any = []auth.Action{auth.Pull}
	case CountPushes:
		any = []auth.Action{auth.Push}
	case CountBytes, CountTransfers:
		any = []auth.Action{auth.Pull, auth.Push}
	case CountRequests:
		any = []auth.Action{auth.Pull, auth.Push, auth.Delete}
	default:
		return
	}
	patterns := l.Repositories
	if len(patterns) == 0 {
		all, err := auth.ParsePattern("**")
		if err != nil {
			return
		}
		patterns = []auth.Pattern{all}
	}
	for _, s := range who {
		for _, p := range patterns {
			if slices.ContainsFunc(any, func(a auth.Action) bool { return k.may(s, p, a) }) {
				return
			}
		}
	}
	what := ""
	for i, a := range any {
		what += map[bool]string{true: ", "}[i > 0] + a.String()
	}
	where := ""
	if len(l.Repositories) > 0 {
		where = " on " + strings.Join(texts(l.Repositories), ", ")
	}
	k.maybe(at, fmt.Sprintf("%sno rule allows %s%s to whom it counts", never, what, where), "add a rule, or leave the limit out")
}

// warnTwice finds callers whom two limits count for the same thing, which is
// seldom meant: all limits that match are asked, not the nearest alone. A
// narrower network, a bucket that callers share, or a dry run beside the limit
// that it may replace is taken as meant. A limit is told of once, with all others
// that count the same callers.
func (k *checker) warnTwice(i int, at string, l Limit) {
	first, who, others := -1, "", []string{}
	for j, o := range k.Limits[:i] {
		if o.Count != l.Count || l.Count == CountFailedLogins || o.DryRun != l.DryRun || !slices.Equal(o.From, l.From) || !personal(o.Per) || !personal(l.Per) || !k.overlapAny(o, l) {
			continue
		}
		whom := k.both(o, l)
		switch {
		case whom == "", first >= 0 && whom != who, k.shadows(i, j):
			continue
		case first < 0:
			first, who = j, whom
		}
		others = append(others, fmt.Sprintf("limits[%d] (%s)", j, o.Name))
	}
	if first < 0 {
		return
	}
	fix := fmt.Sprintf("write exempt: %s in limits[%d], if only this one is meant", who, first)
	if who == "everyone" || slices.ContainsFunc(k.Limits[first].Subjects, func(s auth.Subject) bool { return s.String() == who }) {
		fix = "leave one of the two out, unless both are meant"
	}
	if n := len(others) - 1; n > 0 {
		fix = strings.NewReplacer("one of the two", "all but one", "both", "all", fmt.Sprintf("in limits[%d]", first), "in the others").Replace(fix)
		if more := len(others) - namedLimits; more > 0 {
			others = append(others[:namedLimits], fmt.Sprintf("%d more", more))
		}
	}
	k.maybe(at, fmt.Sprintf("%s is counted by %s too: every limit that matches is asked", who, strings.Join(others, ", ")), fix)
}

func personal(p Per) bool { return p == PerClient || p == PerUser || p == PerIP }

func (k *checker) overlapAny(a, b Limit) bool {
	if len(a.Repositories) == 0 || len(b.Repositories) == 0 {
		return true
	}
	return slices.ContainsFunc(a.Repositories, func(p auth.Pattern) bool {
		return slices.ContainsFunc(b.Repositories, func(q auth.Pattern) bool { return overlap(p, q) })
	})
}

// both names a caller that two limits count, or "".
func (k *checker) both(a, b Limit) string {
	all := func(s []auth.Subject) []auth.Subject {
		if e, err := auth.ParseSubject("everyone"); err == nil && len(s) == 0 {
			return []auth.Subject{e}
		}
		return s
	}
	spared := slices.Concat(a.Exempt.Subjects, b.Exempt.Subjects)
	for _, x := range all(a.Subjects) {
		for _, y := range all(b.Subjects) {
			narrow := y
			if y.Covers(x) {
				narrow = x
			}
			anonymousOnly := narrow.Kind() == "anonymous"
			if k.meet(x, y) && !covers(spared, narrow) && !(anonymousOnly && (a.Per == PerUser || b.Per == PerUser)) {
				return narrow.String()
			}
		}
	}
	return ""
}

// warnShortName: docker takes the first part of an image's name for a host only
// if it has a dot or a port in it, or is localhost.
func (k *checker) warnShortName() {
	if !slices.Contains(k.Listen, ":443") {
		return
	}
	for i, h := range k.Hostname {
		if !strings.ContainsAny(h, ".:") && h != "localhost" {
			k.maybe(k.entry("hostname", i), fmt.Sprintf("docker looks for %s/app on Docker Hub: a name without a dot is no registry to it", h), fmt.Sprintf("use a name with a dot in it, or %s:443", h))
		}
	}
}
