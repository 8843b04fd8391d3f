package auth

import (
	"fmt"
	"slices"
	"strings"
)

// Place is the part of the name space that one upstream holds.
type Place struct {
	Host    string   // the one hostname it is for, lower case, without port; "" is all
	Prefix  string   // what client names begin with: "hub/"; "" holds the rest
	Keep    bool     // the upstream's own names begin with Prefix too
	Default string   // put before one-part names: "library" (Docker Hub)
	NS      []string // registries that ns= may name (M01)
}

// Places say which of several upstreams a repository is at, and under which
// names. The zero Places has none.
type Places struct {
	list    []Place
	general []int            // those for all hostnames, the longest prefix first
	bound   map[string][]int // by hostname, the longest prefix first
}

// Found is a repository's place.
type Found struct {
	Index      int    // of the place
	Repository string // as rules name it: with prefix and default namespace, whichever way the client wrote it
	Full       string // the same with the hostname in front, where the place is for one alone; else ""
	Name       string // as the upstream names it
	ByNS       bool   // ns= led there
}

// NewPlaces fails where a name would belong to two places, or ns= lead to two.
func NewPlaces(list []Place) (*Places, error) {
	p := &Places{list: list, bound: map[string][]int{}}
	for i, a := range list {
		if a.Prefix != "" && (!strings.HasSuffix(a.Prefix, "/") || !ValidRepository(strings.TrimSuffix(a.Prefix, "/"))) {
			return nil, fmt.Errorf("prefix %q is no beginning of a repository name", a.Prefix)
		}
		for j, b := range list[:i] {
			if a.Host != b.Host {
				continue
			}
			if a.Prefix == b.Prefix {
				return nil, fmt.Errorf("upstreams %d and %d have the same prefix %q", j, i, a.Prefix)
			}
			for _, ns := range a.NS {
				if slices.Contains(b.NS, ns) {
					return nil, fmt.Errorf("upstreams %d and %d have the same ns %q", j, i, ns)
				}
			}
		}
		if a.Host == "" {
			p.general = append(p.general, i)
		} else {
			p.bound[a.Host] = append(p.bound[a.Host], i)
		}
	}
	longestFirst := func(i, j int) int { return len(list[j].Prefix) - len(list[i].Prefix) }
	slices.SortStableFunc(p.general, longestFirst)
	for _, one := range p.bound {
		slices.SortStableFunc(one, longestFirst)
	}
	return p, nil
}

// Default is the place of a login without a scope on host (T35): the one with
// no prefix, else the first; those for this hostname alone come before. -1 if
// there is none.
func (p *Places) Default(host string) int {
	for _, list := range [][]int{p.bound[host], p.general} {
		if len(list) == 0 {
			continue
		}
		if last := list[len(list)-1]; p.list[last].Prefix == "" {
			return last
		}
		return slices.Min(list)
	}
	return -1
}

// On lists the places that can be reached under a hostname, those for it alone
// first.
func (p *Places) On(host string) []int {
	return slices.Concat(p.bound[host], p.general)
}

// Holding lists the places that hold some name on a hostname, those for it
// alone first: of On, all but those that one for it alone stands in front of.
func (p *Places) Holding(host string) []int {
	hidden := func(i int) bool {
		return slices.ContainsFunc(p.bound[host], func(own int) bool {
			return own != i && p.list[i].Host == "" && strings.HasPrefix(p.list[i].Prefix, p.list[own].Prefix)
		})
	}
	return slices.DeleteFunc(p.On(host), hidden)
}

// Find is the place of a repository that a client names on a hostname, with
// the ns= it sent ("": none). It is not ok where no upstream holds the name,
// or rules mean another one's by it, and for a name that begins with a hostname that has upstreams of its own:
// rules mean by it what is there.
func (p *Places) Find(host, ns, name string) (Found, bool) {
	if len(p.bound) > 0 {
		if first, _, deeper := strings.Cut(name, "/"); deeper && p.bound[first] != nil {
			return Found{}, false
		}
	}
	bound := p.bound[host]
	if ns != "" {
		for _, list := range [...][]int{bound, p.general} {
			for _, i := range list {
				if slices.Contains(p.list[i].NS, ns) {
					return p.named(i, name)
				}
			}
		}
	}
	for _, list := range [...][]int{bound, p.general} {
		if i := p.longest(list, name); i >= 0 {
			f := p.at(i, name)
			return f, len(f.Repository) == len(name) || p.sole(&f)
		}
	}
	return Found{}, false
}

// longest is the place in a list that a name belongs to by its prefix, -1 if
// there is none.
func (p *Places) longest(list []int, name string) int {
	for _, i := range list {
		if strings.HasPrefix(name, p.list[i].Prefix) {
			return i
		}
	}
	return -1
}

// sole reports whether the name that rules know is of no other place. Where it
// begins with another's longer prefix, or with a hostname, they mean what is
// there: who may have that must not get something else by a default namespace
// or by ns=.
func (p *Places) sole(f *Found) bool {
	list := p.general
	if host := p.list[f.Index].Host; host != "" {
		list = p.bound[host]
	}
	first, _, deeper := strings.Cut(f.Repository, "/")
	return p.longest(list, f.Repository) == f.Index && (!deeper || p.bound[first] == nil)
}

// named is the place that ns= chose. A client may have been told to put the
// prefix in front as well (M05).
func (p *Places) named(i int, name string) (Found, bool) {
	if prefix := p.list[i].Prefix; prefix != "" && !strings.HasPrefix(name, prefix) {
		name = prefix + name
	}
	f := p.at(i, name)
	f.ByNS = true
	return f, p.sole(&f)
}

// at is a client name, prefix included, in place i.
func (p *Places) at(i int, name string) Found {
	l := &p.list[i]
	own := name[len(l.Prefix):]
	if l.Default != "" && strings.IndexByte(own, '/') < 0 && (!l.Keep || l.Prefix == "") {
		own = l.Default + "/" + own
		name = l.Prefix + own
	}
	if l.Keep {
		own = name
	}
	f := Found{Index: i, Repository: name, Name: own}
	if l.Host != "" {
		f.Full = l.Host + "/" + name
	}
	return f
}

// ClientName is the inverse of Find for a repository of place i on a hostname:
// the one name that rules know it by. It is not ok for what no client can name
// there.
func (p *Places) ClientName(host string, i int, name string) (string, bool) {
	l := &p.list[i]
	client := name
	if !l.Keep {
		client = l.Prefix + name
	}
	if !ValidRepository(client) {
		return "", false
	}
	f, ok := p.Find(host, "", client)
	return client, ok && f.Index == i && f.Name == name
}

// Place is place i.
func (p *Places) Place(i int) Place { return p.list[i] }

// Access is what a and a name as an operator writes it mean: "team/app", or
// "hosted.example.com/team/app" for an upstream that has a hostname of its own.
func (p *Places) Access(repository string, a Action) Access {
	host, rest, deeper := strings.Cut(repository, "/")
	if deeper && p.bound[host] != nil {
		if f, ok := p.Find(host, "", rest); ok {
			return f.Access(a)
		}
		return Access{Repository: repository, Action: a}
	}
	if f, ok := p.Find("", "", repository); ok {
		return f.Access(a)
	}
	return Access{Repository: repository, Action: a}
}

// Access is what rules are asked about.
func (f *Found) Access(a Action) Access {
	return Access{Repository: f.Repository, Full: f.Full, Action: a}
}
