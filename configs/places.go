package configs

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// Place is the part of the name space that u holds.
func (u *Upstream) Place() auth.Place {
	return auth.Place{Host: u.Hostname, Prefix: u.Prefix, Keep: u.KeepPrefix, Default: u.DefaultNamespace, NS: u.NS}
}

// Places say which of Upstreams a repository is at, in the order of Upstreams;
// nil where Static left open what tells the upstreams apart.
func (c *Config) Places() *auth.Places { return c.places }

// Find is the place of a repository as an operator writes it: team/app, or with
// one of the hostnames in front, as in an image's name.
func (c *Config) Find(repository string) (auth.Found, bool) {
	if c.places == nil {
		return auth.Found{}, false
	}
	first, rest, deeper := strings.Cut(repository, "/")
	if host := bareHost(first); deeper && slices.Contains(c.bareHostnames(), host) {
		return c.places.Find(host, "", rest)
	}
	return c.places.Find("", "", repository)
}

// Access is what rules are asked about a repository as an operator writes it.
func (c *Config) Access(repository string, a auth.Action) auth.Access {
	if f, ok := c.Find(repository); ok {
		return f.Access(a)
	}
	return auth.Access{Repository: repository, Action: a}
}

// bareHostnames are the hostnames without their ports.
func (c *Config) bareHostnames() []string {
	hosts := make([]string, len(c.Hostname))
	for i, h := range c.Hostname {
		hosts[i] = bareHost(h)
	}
	return hosts
}

// bareHost cuts the port off; an IPv6 address is bare already.
func bareHost(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}

// checkPlaces looks at all that tells upstreams apart, and then whether it does.
func (k *checker) checkPlaces() {
	if k.given("upstream") && k.given("upstreams") {
		return // which of the two counts is not known
	}
	names, prefixes, spaces := map[string]int{}, map[string]int{}, map[string]int{}
	for i := range k.Upstreams {
		u, at := &k.Upstreams[i], k.UpstreamPath(i)
		if !k.given(at) {
			continue
		}
		k.checkBound(at, u)
		k.checkPrefix(at, u)
		k.checkDefaultNamespace(at, u)
		k.uniqueHosts(at+".ns", u.NS)
		k.checkName(at, u, names, i)
		if k.refused(at+".hostname") || k.refused(at+".prefix") {
			continue
		}
		if j, taken := prefixes[u.Hostname+"/"+u.Prefix]; taken {
			k.bad(at+".prefix", fmt.Sprintf("%q is the prefix of %s too: which of the two holds such a name?", u.Prefix, k.UpstreamPath(j)), "give each upstream a prefix of its own; one at most has none, and holds the rest")
		} else {
			prefixes[u.Hostname+"/"+u.Prefix] = i
		}
		for n, ns := range u.NS {
			if j, taken := spaces[u.Hostname+"/"+ns]; taken && j != i {
				k.bad(k.entry(at+".ns", n), fmt.Sprintf("%q is in %s.ns too: which of the two is meant?", ns, k.UpstreamPath(j)), "leave it out of one of them")
			} else {
				spaces[u.Hostname+"/"+ns] = i
			}
		}
	}
	list := make([]auth.Place, len(k.Upstreams))
	for i := range k.Upstreams {
		list[i] = k.Upstreams[i].Place()
		if host := list[i].Host; host != "" {
			if k.bound == nil {
				k.bound = map[string]bool{}
			}
			k.bound[host] = true
		}
	}
	if places, err := auth.NewPlaces(list); err == nil && !k.placesUnknown() {
		k.places = places
	}
}

// placesUnknown reports whether an unset variable tells upstreams apart, with Static.
func (k *checker) placesUnknown() bool {
	for i := range k.Upstreams {
		for _, key := range []string{".prefix", ".hostname", ".keep_prefix", ".default_namespace", ".ns"} {
			if k.absentBelow(k.UpstreamPath(i) + key) {
				return true
			}
		}
	}
	return false
}

// checkBound: an upstream may be for one of the hostnames alone.
func (k *checker) checkBound(at string, u *Upstream) {
	path := at + ".hostname"
	if u.Hostname == "" || k.absentBelow("hostname") {
		return
	}
	host, err := parseHostname(u.Hostname)
	if err != nil {
		msg, fix := explain(err)
		k.bad(path, msg, fix)
		return
	}
	u.Hostname = bareHost(host)
	known := k.bareHostnames()
	if slices.Contains(known, u.Hostname) {
		return
	}
	fix := fmt.Sprintf("write hostname: [%s] at the top of the file", strings.Join(append(slices.Clone(k.Hostname), u.Hostname), ", "))
	if best := Nearest(u.Hostname, known); best != "" {
		fix = fmt.Sprintf("did you mean %q?", best)
	}
	k.bad(path, fmt.Sprintf("%q is not one of hostname: nobody comes by that name", u.Hostname), fix)
}

// checkPrefix wants whole parts of a repository's name.
func (k *checker) checkPrefix(at string, u *Upstream) {
	path, prefix := at+".prefix", strings.TrimSuffix(u.Prefix, "/")
	first, _, _ := strings.Cut(prefix, "/")
	asked := fmt.Sprintf("%q ", clip(prefix))
	trimmed := strings.Join(strings.FieldsFunc(prefix, func(c rune) bool { return c == '/' }), "/")
	switch {
	case u.Prefix == "":
		if u.KeepPrefix {
			k.bad(at+".keep_prefix", "true, and there is no prefix to keep", "leave it out")
		}
	case trimmed == "":
		k.bad(path, `"/" is no beginning of a repository name`, `write prefix: "" for all that no other upstream holds`)
	case strings.Contains(prefix, "://"):
		k.bad(path, asked+"is a URL", "a prefix is the first part of a client's image name: hub/")
	case strings.ContainsAny(prefix, "*{"):
		k.bad(path, asked+"is a pattern; a prefix is plain", fmt.Sprintf("write %q", plainPrefix(trimmed)))
	case strings.HasPrefix(prefix, "/") || strings.HasSuffix(prefix, "/"):
		k.bad(path, asked+"has a slash too many", fmt.Sprintf("write %q", trimmed+"/"))
	case strings.Contains(prefix, "//"):
		k.bad(path, asked+"has an empty part, as no repository name does", fmt.Sprintf("write %q", trimmed+"/"))
	case prefix != strings.ToLower(prefix):
		k.bad(path, asked+"has upper case letters, as no repository name does", fmt.Sprintf("write %q", strings.ToLower(prefix)+"/"))
	case !auth.ValidRepository(prefix):
		k.bad(path, asked+"is no beginning of a repository name", "write lower case letters and digits with . _ or - between them: hub/")
	case slices.Contains(k.bareHostnames(), first):
		k.bad(path, fmt.Sprintf("%q is a hostname: rules mean by it what is there", first), "choose another prefix, or write hostname: "+first+" for an upstream that has that name for itself")
	}
}

// plainPrefix is what a pattern begins with, as a prefix.
func plainPrefix(pattern string) string {
	head, _, _ := strings.Cut(pattern, "*")
	head, _, _ = strings.Cut(head, "{")
	if i := strings.LastIndexByte(head, '/'); i > 0 {
		return head[:i+1]
	}
	return "hub/"
}

func (k *checker) checkDefaultNamespace(at string, u *Upstream) {
	d := u.DefaultNamespace
	switch {
	case d == "":
	case !auth.ValidRepository(d) || strings.Contains(d, "/"):
		fix := "write one part of a name, without slashes: library"
		if better := strings.ToLower(strings.Trim(d, "/")); auth.ValidRepository(better) && !strings.Contains(better, "/") {
			fix = "write " + better
		}
		k.bad(at+".default_namespace", fmt.Sprintf("%q is no part of a repository name", clip(d)), fix)
	case u.KeepPrefix && u.Prefix != "":
		k.maybe(at+".default_namespace", "names there have two parts at least, as the prefix is kept: it is never put in", "leave it or keep_prefix out")
	}
}

var upstreamName = regexp.MustCompile(`^[A-Za-z0-9\[][A-Za-z0-9\]._:/-]{0,127}$`)

// checkName: logs, metrics and auth.upstream know an upstream by its name.
func (k *checker) checkName(at string, u *Upstream, names map[string]int, i int) {
	path := at + ".name"
	switch {
	case u.Name == "" || k.refused(path) || !k.given(path) && (k.refused(at+".prefix") || k.refused(at+".url")):
		return
	case k.given(path) && (u.Name == "true" || u.Name == "false"):
		k.bad(path, fmt.Sprintf("%q means something else in auth.upstream", u.Name), "choose another one")
	case k.given(path) && !upstreamName.MatchString(u.Name):
		k.bad(path, fmt.Sprintf("%q is no name for an upstream", clip(u.Name)), "use letters, digits and . _ - : /")
	}
	if j, taken := names[u.Name]; taken {
		fix := "choose another one: logs, metrics and auth.upstream know upstreams by their names"
		if !k.given(path) {
			fix = "give one of them a name of its own, for logs, metrics and auth.upstream: name: nexus"
		}
		k.bad(path, fmt.Sprintf("%q is the name of %s already", u.Name, k.UpstreamPath(j)), fix)
		return
	}
	names[u.Name] = i
}

// holds reports whether some upstream has a repository, as far as is known.
func (k *checker) holds(repository string) bool {
	if k.places == nil {
		return true
	}
	_, ok := k.Find(repository)
	return ok
}

// fixPlace says what names there are.
func (k *checker) fixPlace() string {
	var known []string
	for i := range k.Upstreams {
		u := &k.Upstreams[i]
		name := u.Prefix + "team/app"
		if u.Hostname != "" {
			name = u.Hostname + "/" + name
		}
		known = append(known, name)
	}
	return "names here are like " + orList(known) + `; an upstream with prefix: "" holds the rest`
}

// unhosted takes a hostname that has upstreams of its own off a pattern.
func (c *Config) unhosted(p auth.Pattern) (host string, bare auth.Pattern) {
	if len(c.bound) == 0 {
		return "", p
	}
	first, rest, deeper := strings.Cut(p.String(), "/")
	if deeper && c.bound[first] {
		if q, err := auth.ParsePattern(rest); err == nil {
			return first, q
		}
	}
	return "", p
}

// leadsTo are the upstreams that hold some name which p matches. A pattern that
// begins with the prefix of an upstream for all hostnames is taken to be about
// that, whatever else an upstream of one hostname may have.
func (c *Config) leadsTo(p auth.Pattern) []*Upstream {
	host, bare := c.unhosted(p)
	general := host == "" && slices.ContainsFunc(c.Upstreams, func(u Upstream) bool {
		return u.Hostname == "" && u.Prefix != "" && strings.HasPrefix(bare.String(), u.Prefix)
	})
	var out []*Upstream
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		if (host != "" || general) && u.Hostname != host {
			continue
		}
		deeper := func(o Upstream) bool {
			return o.Hostname == u.Hostname && len(o.Prefix) > len(u.Prefix) && strings.HasPrefix(bare.String(), o.Prefix)
		}
		if overlapParts(partsOf(bare), u.names()) && !slices.ContainsFunc(c.Upstreams, deeper) {
			out = append(out, u)
		}
	}
	return out
}

// names are the parts of the names that rules know u's repositories by.
func (u *Upstream) names() []string {
	var parts []string
	if u.Prefix != "" {
		parts = strings.Split(strings.TrimSuffix(u.Prefix, "/"), "/")
	}
	if u.DefaultNamespace != "" && !u.KeepPrefix {
		parts = append(parts, "*") // no name has one part alone
	}
	return append(parts, "*", "**")
}

// warnNowhere finds patterns for names that no upstream holds.
func (k *checker) warnNowhere(at string, patterns []auth.Pattern, what string) {
	if k.places == nil {
		return
	}
	for j, p := range patterns {
		path := k.entry(at+".repositories", j)
		first, rest, deeper := strings.Cut(p.String(), "/")
		if host, _ := k.unhosted(p); host == "" && deeper && slices.Contains(k.bareHostnames(), first) {
			k.maybe(path, fmt.Sprintf("%s on %s: %s is a hostname, and no upstream is for it alone", what, p, first), fmt.Sprintf("write %q", rest))
			continue
		}
		if len(k.leadsTo(p)) > 0 {
			continue
		}
		fix := k.fixPlace()
		if better := k.withDefault(p); better != "" {
			fix = fmt.Sprintf("write %q: rules know one-part names with their default_namespace", better)
		}
		k.maybe(path, fmt.Sprintf("%s on %s: no upstream holds such a name", what, p), fix)
	}
}

// withDefault is p with the default namespace that its upstream puts in, or "".
func (k *checker) withDefault(p auth.Pattern) string {
	host, bare := k.unhosted(p)
	best := ""
	longest := -1
	for i := range k.Upstreams {
		u := &k.Upstreams[i]
		own, under := strings.CutPrefix(bare.String(), u.Prefix)
		if host != u.Hostname || !under || u.DefaultNamespace == "" || strings.Contains(own, "/") || len(u.Prefix) < longest {
			continue
		}
		longest = len(u.Prefix)
		best = u.Prefix + u.DefaultNamespace + "/" + own
		if host != "" {
			best = host + "/" + best
		}
	}
	return best
}

// warnPlaces finds upstreams of which something is out of reach.
func (k *checker) warnPlaces() {
	for i := range k.Upstreams {
		u, at := &k.Upstreams[i], k.UpstreamPath(i)
		for j := range k.Upstreams {
			o := &k.Upstreams[j]
			if o.Prefix != "" && o.Hostname == u.Hostname && len(u.Prefix) > len(o.Prefix) && strings.HasPrefix(u.Prefix, o.Prefix) {
				k.maybe(at+".prefix", fmt.Sprintf("all below %s goes to %s: what %s has of that name, %s** there, is out of reach", u.Prefix, u.Name, o.Name, k.own(o, u.Prefix)),
					"choose a prefix outside of "+o.Prefix+", unless that is meant")
			}
		}
		if u.Hostname == "" && u.Prefix == "" && len(k.Hostname) > 0 && !k.absentBelow("hostname") && !slices.ContainsFunc(k.bareHostnames(), func(h string) bool {
			return !slices.ContainsFunc(k.Upstreams, func(o Upstream) bool { return o.Hostname == h && o.Prefix == "" })
		}) {
			k.maybe(at, "out of reach: each hostname has an upstream of its own for all names", "add a hostname, or leave it out")
		}
	}
}

// own is what the upstream o calls a client's name.
func (k *checker) own(o *Upstream, name string) string {
	if o.KeepPrefix {
		return name
	}
	return strings.TrimPrefix(name, o.Prefix)
}
