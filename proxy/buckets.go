package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/regward/regward/auth"
)

// counts reports whether l counts what c does to a repository. Whose failed
// logins they are cannot be known, so subjects do not narrow those.
func (l *Limit) counts(c *auth.Caller, repository *auth.Access) bool {
	if l.Count != FailedLogins {
		if len(l.Subjects) > 0 && !anySubject(l.Subjects, c) {
			return false
		}
		if len(l.Repositories) > 0 && !anyPattern(l.Repositories, repository, &c.Identity) {
			return false
		}
		if anySubject(l.ExemptWho, c) {
			return false
		}
	}
	if len(l.From) > 0 && !inside(l.From, c.Addr) {
		return false
	}
	return !inside(l.ExemptFrom, c.Addr)
}

func anySubject(subjects []auth.Subject, c *auth.Caller) bool {
	for i := range subjects {
		if subjects[i].Matches(c) {
			return true
		}
	}
	return false
}

func anyPattern(patterns []auth.Pattern, repository *auth.Access, id *auth.Identity) bool {
	for i := range patterns {
		if patterns[i].Means(repository, id) {
			return true
		}
	}
	return false
}

func inside(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// buckets names the buckets of one caller. What several limits ask for is
// written once.
type buckets struct {
	s          *Snapshot
	c          *auth.Caller
	prefix     string // of the upstream
	user, addr string
}

// namespace is a repository's upstream prefix and first part.
func namespace(repository *auth.Access, prefix string) string {
	name := repository.Name()
	start := len(name) - len(repository.Repository) + len(prefix)
	if i := strings.IndexByte(name[start:], '/'); i >= 0 {
		return name[:start+i]
	}
	return name
}

// of are the buckets of l that an access falls into: none where l counts by
// what the caller does not have, several for groups.
func (b *buckets) of(l *Limit, repository *auth.Access, buf []string) []string {
	switch l.Per {
	case PerUser:
		if !b.c.Anonymous() {
			buf = append(buf, b.ofUser())
		}
	case PerIP:
		buf = append(buf, b.ofAddr())
	case PerIPUser:
		buf = append(buf, b.ofAddr()+" user:"+b.c.Name)
	case PerGroup:
		buf = append(buf, groupClients(l, b.c)...)
	case PerNamespace:
		if repository.Repository != "" {
			buf = append(buf, "namespace:"+namespace(repository, b.prefix))
		}
	case PerRepository:
		if repository.Repository != "" {
			buf = append(buf, "repository:"+repository.Name())
		}
	case PerAll:
		buf = append(buf, "all")
	default:
		buf = append(buf, b.client())
	}
	return buf
}

// client is who a client is (L04): the user, or the address if anonymous.
func (b *buckets) client() string {
	if b.c.Anonymous() {
		return b.ofAddr()
	}
	return b.ofUser()
}

func (b *buckets) ofUser() string {
	if b.user == "" {
		b.user = "user:" + b.c.Name
	}
	return b.user
}

func (b *buckets) ofAddr() string {
	if b.addr == "" {
		b.addr = b.s.addrKey(b.c.Addr)
	}
	return b.addr
}

// groupClients are the caller's groups that the limit's subjects name, else all.
func groupClients(l *Limit, c *auth.Caller) (out []string) {
	var named []string
	for i := range l.Subjects {
		if l.Subjects[i].Kind() == "group" {
			named = append(named, l.Subjects[i].Name())
		}
	}
	for _, g := range c.Groups {
		if len(named) == 0 || slices.Contains(named, g) {
			out = append(out, "group:"+g)
		}
	}
	return out
}

func (s *Snapshot) addrKey(a netip.Addr) string { return clientKey(a, s.PrefixV4, s.PrefixV6) }
