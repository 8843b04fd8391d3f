package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// LDAPProbe is what a directory says about the options, before anybody logs in.
type LDAPProbe struct {
	Servers []error // of each in their order: an *LDAPError, or nil

	// Without a server that answers, the rest says nothing.
	Answers bool

	UserBase  error  // an *LDAPError: it cannot be searched
	MadeUp    bool   // user_filter finds somebody for a name that nobody has
	People    bool   // it finds somebody at all
	Named     bool   // who has user_name
	Twice     string // a name for which it finds more than one
	GroupBase error
	Groups    bool // group_filter finds a group with a member at all, or it cannot be told
	Titled    bool // that has group_name
	Chains    bool // groups in groups are followed by the directory itself
}

// Probe asks every server whether it lets regward in, and the first that does for
// what the options say of people and groups.
func (l *LDAP) Probe(ctx context.Context) LDAPProbe {
	var found LDAPProbe
	for i := range l.pool.servers {
		c, err := l.pool.connect(ctx, i)
		if err == nil {
			found.Answers = true
			l.pool.put(c)
		}
		found.Servers = append(found.Servers, err)
	}
	if found.Answers {
		l.probePeople(ctx, &found)
		l.probeGroups(ctx, &found)
	}
	return found
}

func (l *LDAP) probePeople(ctx context.Context, found *LDAPProbe) {
	madeUp, err := l.any(ctx, "user_base", l.o.UserBase, fill(l.o.UserFilter, "nobody-"+strings.ToLower(rand.Text()), ""), l.o.UserName)
	if err != nil {
		found.UserBase = err
		return
	}
	found.MadeUp = madeUp > 0
	somebody, err := l.any(ctx, "user_base", l.o.UserBase, anything(l.o.UserFilter), l.o.UserName)
	found.UserBase = err
	found.People, found.Named = somebody > 0, somebody > 1
	if found.Named && !found.MadeUp {
		found.Twice = l.twice(ctx)
	}
}

// twice is a name that is more than one person's, of a few names that are there.
func (l *LDAP) twice(ctx context.Context) string {
	const some = 5
	s := ldapSearch{
		base: l.o.UserBase, filter: "(&" + anything(l.o.UserFilter) + "(" + l.o.UserName + "=*))",
		attributes: []string{l.o.UserName}, most: some, key: "user_base",
	}
	people, _, _ := l.pool.search(ctx, s) // that it can be asked is known by now
	for _, e := range people {
		name := e.GetEqualFoldAttributeValue(l.o.UserName)
		s.filter, s.most = fill(l.o.UserFilter, name, ""), 1
		if _, _, err := l.pool.search(ctx, s); errors.Is(err, errTooManyEntries) {
			return name
		}
	}
	return ""
}

func (l *LDAP) probeGroups(ctx context.Context, found *LDAPProbe) {
	if l.o.GroupBase == "" {
		return
	}
	some, err := l.any(ctx, "group_base", l.o.GroupBase, anything(l.o.GroupFilter), l.o.GroupName)
	found.GroupBase = err
	found.Groups, found.Titled = some > 0, some > 1
	if err == nil && some == 0 && strings.Contains(l.o.GroupFilter, ":=") { // it can be asked for a value only
		found.Groups, found.Titled = true, true
	}
	if err == nil && l.o.GroupRecursive {
		found.Chains, found.GroupBase = l.pool.chains(ctx)
	}
}

// anything is a filter for any value where it has a placeholder.
func anything(filter string) string {
	return strings.NewReplacer("{user}", "*", "{dn}", "*").Replace(filter)
}

// any is 0 if filter finds nothing, 2 if it finds an entry that has the attribute,
// else 1. Of many entries one is looked at.
func (l *LDAP) any(ctx context.Context, key, base, filter, attribute string) (int, error) {
	s := ldapSearch{base: base, filter: filter, attributes: []string{attribute}, most: 1, key: key}
	found, _, err := l.pool.search(ctx, s)
	if errors.Is(err, errTooManyEntries) {
		s.filter = "(&" + filter + "(" + attribute + "=*))"
		if found, _, err = l.pool.search(ctx, s); errors.Is(err, errTooManyEntries) {
			return 2, nil
		}
		return 1 + min(1, len(found)), err
	}
	switch {
	case err != nil || len(found) == 0:
		return 0, err
	case len(found[0].GetEqualFoldAttributeValues(attribute)) == 0:
		return 1, nil
	}
	return 2, nil
}

// Spelled are those of some groups that the directory has, as it spells them: it
// takes Dev for dev, and rules do not.
func (l *LDAP) Spelled(ctx context.Context, groups []string) (map[string]string, error) {
	as := map[string]string{}
	for some := range slices.Chunk(groups, ldapGroupsAsk) {
		filter := "(|"
		for _, name := range some {
			filter += "(" + l.o.GroupName + "=" + ldap.EscapeFilter(name) + ")"
		}
		filter += ")"
		if !strings.Contains(l.o.GroupFilter, ":=") { // it can be asked for a value only
			filter = "(&" + anything(l.o.GroupFilter) + filter + ")"
		}
		found, _, err := l.pool.search(ctx, ldapSearch{base: l.o.GroupBase, filter: filter, attributes: []string{l.o.GroupName}, most: MaxLDAPGroups, key: "group_base"})
		if err != nil {
			return nil, err
		}
		for _, e := range found {
			for _, spelled := range l.groupNames(e) {
				for _, name := range some {
					if strings.EqualFold(name, spelled) && as[name] != name {
						as[name] = spelled
					}
				}
			}
		}
	}
	return as, nil
}
