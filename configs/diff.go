package configs

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// Diff says in words what a change from one configuration to the other gives
// and takes: "anonymous gains pull on coolteam/**". Secrets are never shown.
func Diff(from, to *Config) []string {
	var out []string
	out = append(out, diffRights(from, to)...)
	out = append(out, diffDenials(from, to)...)
	out = append(out, diffImmutable(from, to)...)
	out = append(out, diffTried(from, to)...)
	out = append(out, diffGroups(from, to)...)
	out = append(out, diffLimits(from, to)...)
	out = append(out, diffFields(from, to)...)
	out = append(out, diffFiles(from, to)...)
	out = append(out, diffSecrets(from, to)...)
	out = append(out, diffUpstreams(from, to)...)
	return append(out, diffLogins(from, to)...)
}

// NeedRestart names the keys that changed and that only a restart applies.
func NeedRestart(from, to *Config) []string {
	var out []string
	for _, k := range []struct {
		key    string
		differ bool
	}{
		{"listen", !slices.Equal(from.Listen, to.Listen)},
		{"tls.http_listen", !slices.Equal(from.TLS.HTTPListen, to.TLS.HTTPListen)},
		{"health.listen", !slices.Equal(from.Health.Listen, to.Health.Listen)},
		{"admin.listen", !slices.Equal(from.Admin.Listen, to.Admin.Listen)},
		{"state_dir", from.StateDir != to.StateDir},
		{"redis", !from.Redis.same(&to.Redis)},
	} {
		if k.differ {
			out = append(out, k.key)
		}
	}
	return out
}

// right is one thing that one rule allows or denies.
type right struct {
	subject auth.Subject
	pattern auth.Pattern
	action  auth.Action
	from    string // networks, "" for any
	tags    []auth.TagPattern
	deny    bool
}

// rights takes rules apart, in the order of the file.
func rights(rules []Rule, set func(Rule) auth.Actions) []right {
	var out []right
	for _, r := range rules {
		for _, s := range r.Subjects {
			for _, p := range r.Repositories {
				for _, a := range actions(set(r)) {
					out = append(out, right{s, p, a, networks(r.From), r.Tags, r.Deny != 0})
				}
			}
		}
	}
	return out
}

func networks(list []netip.Prefix) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = n.String()
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

func allows(r Rule) auth.Actions { return r.Allow } // dry runs too: they allow
func keeps(r Rule) auth.Actions {
	return only(auth.Actions(0).With(auth.Push), r.Immutable && !r.DryRun)
}
func denies(r Rule) auth.Actions { return only(r.Deny, !r.DryRun) }

// in reports whether one of the others says as much.
func (r right) in(others []right) bool {
	return slices.ContainsFunc(others, func(o right) bool {
		if o.deny && !r.deny && len(o.tags) > 0 && r.action != auth.Delete {
			return false // what names no tag is not denied
		}
		return o.action == r.action && auth.TagsCover(o.tags, r.tags) && (o.from == "" || o.from == r.from) && o.subject.Covers(r.subject) && o.pattern.Contains(r.pattern)
	})
}

func diffRights(from, to *Config) []string {
	before, after := rights(from.Rules, allows), rights(to.Rules, allows)
	denied, deniedNow := rights(from.Rules, denies), rights(to.Rules, denies)
	var gained, lost []right
	for _, r := range after {
		if !r.in(before) && !r.in(deniedNow) {
			gained = append(gained, r)
		}
	}
	for _, r := range before {
		if !r.in(after) && !r.in(denied) {
			lost = append(lost, r)
		}
	}
	return append(sentences(gained, "gains %s on %s"), sentences(lost, "loses %s on %s")...)
}

func diffDenials(from, to *Config) []string {
	before, after := rights(from.Rules, denies), rights(to.Rules, denies)
	var more, fewer []right
	for _, r := range after {
		if !r.in(before) {
			more = append(more, r)
		}
	}
	for _, r := range before {
		if !r.in(after) {
			fewer = append(fewer, r)
		}
	}
	return append(sentences(more, "is now denied %s on %s"), sentences(fewer, "is no longer denied %s on %s")...)
}

// diffImmutable tells who may move tags no more, or again.
func diffImmutable(from, to *Config) []string {
	before, after := rights(from.Rules, keeps), rights(to.Rules, keeps)
	return append(sentences(without(after, before), "can no longer move or delete tags of %[2]s"),
		sentences(without(before, after), "can move and delete tags of %[2]s again, where a rule allows it")...)
}

// diffFiles tells of files that are called as before and hold something else, as
// far as they were read.
func diffFiles(from, to *Config) []string {
	var out []string
	before := map[string]string{}
	for _, f := range from.Show() {
		before[f.Path] = f.Value
	}
	for _, f := range to.Show() {
		a, there := from.origins.sums[f.Path]
		b, still := to.origins.sums[f.Path]
		if there && still && a != b && before[f.Path] == f.Value {
			out = append(out, f.Path+": "+to.written(f.Path, f.Value)+" holds something else")
		}
	}
	return out
}

// diffSecrets tells of secrets, which are not shown.
func diffSecrets(from, to *Config) []string {
	var out []string
	for _, s := range []struct {
		key  string
		a, b Secret
	}{
		{"tls.acme_eab.mac_key", from.TLS.ACMEEAB.MACKey, to.TLS.ACMEEAB.MACKey},
		{"tls.acme_dns.key_secret", from.TLS.ACMEDNS.KeySecret, to.TLS.ACMEDNS.KeySecret},
		{"auth.ldap.bind_password", from.Auth.LDAP.BindPassword, to.Auth.LDAP.BindPassword},
		{"auth.webhook.secret", from.Auth.Webhook.Secret, to.Auth.Webhook.Secret},
		{"redis.password", from.Redis.Password, to.Redis.Password},
		{"redis.sentinel_password", from.Redis.SentinelPassword, to.Redis.SentinelPassword},
	} {
		if s.a.Reveal() != s.b.Reveal() && !s.a.IsZero() && !s.b.IsZero() {
			out = append(out, s.key+" is another one")
		}
	}
	return out
}

// sentences unites the actions of one subject on one pattern.
func sentences(list []right, format string) []string {
	type key struct {
		subject auth.Subject
		pattern string
		from    string
	}
	words := map[key][]string{}
	var order []key
	for _, r := range list {
		k := key{r.subject, tagged(r.pattern, r.tags), r.from}
		if words[k] == nil {
			order = append(order, k)
		}
		if !slices.Contains(words[k], r.action.String()) {
			words[k] = append(words[k], r.action.String())
		}
	}
	var out []string
	for _, k := range order {
		s := k.subject.String() + " " + fmt.Sprintf(format, strings.Join(words[k], ", "), k.pattern)
		if k.from != "" {
			s += " from " + k.from
		}
		out = append(out, s)
	}
	return out
}

func diffGroups(from, to *Config) []string {
	var out []string
	before, after := from.UserGroups(), to.UserGroups()
	names := slices.Collect(maps.Keys(before))
	for name := range after {
		if _, there := before[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, g := range after[name] {
			if !slices.Contains(before[name], g) {
				out = append(out, fmt.Sprintf("user:%s joins group:%s", name, g))
			}
		}
		for _, g := range before[name] {
			if !slices.Contains(after[name], g) {
				out = append(out, fmt.Sprintf("user:%s leaves group:%s", name, g))
			}
		}
	}
	return out
}

// diffLimits compares limits by name, as a reload does.
func diffLimits(from, to *Config) []string {
	var out []string
	find := func(list []Limit, name string) (Limit, bool) {
		i := slices.IndexFunc(list, func(l Limit) bool { return l.Name == name })
		if i < 0 {
			return Limit{}, false
		}
		return list[i], true
	}
	for _, l := range to.Limits {
		old, there := find(from.Limits, l.Name)
		if !there {
			out = append(out, fmt.Sprintf("limit %s is new: %s", l.Name, l.words()))
		} else if a, b := old.words(), l.words(); a != b {
			out = append(out, fmt.Sprintf("limit %s: %s, was %s", l.Name, b, a))
		}
	}
	for _, l := range from.Limits {
		if _, there := find(to.Limits, l.Name); !there {
			out = append(out, fmt.Sprintf("limit %s is gone: %s", l.Name, l.words()))
		}
	}
	return out
}

// words is the limit as a phrase: "100/6h pulls per ip for anonymous, dry run".
func (l Limit) words() string {
	s := fmt.Sprintf("%s %s per %s", rate(l), l.Count, l.Per)
	if l.Count == CountTransfers {
		s = fmt.Sprintf("%d transfers at once per %s", l.Most, l.Per)
	}
	list := func(format string, words []string) {
		if len(words) > 0 {
			s += fmt.Sprintf(format, strings.Join(words, ", "))
		}
	}
	list(" for %s", texts(l.Subjects))
	list(" on %s", texts(l.Repositories))
	list(" from %s", texts(l.From))
	list(" but for %s", append(texts(l.Exempt.Subjects), texts(l.Exempt.Networks)...))
	if l.DryRun {
		s += ", dry run"
	}
	return s
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

// diffFields compares what is left: every plain value, by its key.
func diffFields(from, to *Config) []string {
	fields := func(c *Config) (order []string, values map[string]string) {
		values = map[string]string{}
		for _, f := range c.Show() {
			top, _, _ := strings.Cut(strings.SplitN(f.Path, "[", 2)[0], ".")
			if top == "rules" || top == "limits" || top == "tests" || top == "groups" || top == "upstream" || top == "upstreams" || f.Path == "auth.upstream" {
				continue
			}
			order = append(order, f.Path)
			values[f.Path] = c.written(f.Path, f.Value)
		}
		return order, values
	}
	order, after := fields(to)
	all, before := fields(from)
	for _, path := range all { // an issuer that is not there any more
		if _, ok := after[path]; !ok {
			order = append(order, path)
		}
	}
	out := changes(order, before, after)
	if n, m := len(from.Tests), len(to.Tests); n != m {
		out = append(out, fmt.Sprintf("tests: %d, were %d", m, n))
	}
	return out
}

// changes compares values by their keys.
func changes(order []string, before, after map[string]string) []string {
	var out []string
	for _, path := range order {
		a, b := before[path], after[path]
		switch {
		case a == b:
		case a == "":
			out = append(out, fmt.Sprintf("%s is set to %s", path, b))
		case b == "":
			out = append(out, fmt.Sprintf("%s is no longer set (was %s)", path, a))
		default:
			out = append(out, fmt.Sprintf("%s: %s, was %s", path, b, a))
		}
	}
	return out
}
