package auth

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// The bounds of somebody's groups. Beyond, nobody can say what they are: one that
// is left out could be one that a rule denies something to.
const (
	MaxLDAPGroups  = 1000 // of one user, those of groups included
	maxLDAPNesting = 16   // groups in groups in groups
	ldapGroupsAsk  = 100  // groups whose groups one question asks for
)

// What Active Directory says of itself, and its rule that follows groups in groups
// (MS-ADTS 3.1.1.3.4.3, 3.1.1.3.4.4.3). It lists its rules nowhere.
const (
	activeDirectory = "1.2.840.113556.1.4.800"
	matchInChain    = "1.2.840.113556.1.4.1941"
)

// memberIs is the part of a filter that the rule can be put into.
var memberIs = regexp.MustCompile(`\(([A-Za-z][A-Za-z0-9-]*)=\{dn\}\)`)

// groups are those of who, sorted: one search for all of them, and where groups
// of groups count one more for each level, unless the directory follows them
// itself.
func (l *LDAP) groups(ctx context.Context, who ldapUser) ([]string, error) {
	if l.o.GroupBase == "" {
		return nil, nil
	}
	seen, names := map[string]bool{}, []string(nil)
	filter, deep := l.o.GroupFilter, l.o.GroupRecursive && strings.Contains(l.o.GroupFilter, "{dn}")
	if deep && memberIs.MatchString(filter) {
		chains, err := l.pool.chains(ctx)
		if err != nil {
			return nil, err
		}
		if chains {
			filter, deep = memberIs.ReplaceAllString(filter, "($1:"+matchInChain+":={dn})"), false
		}
	}
	next := []string{fill(filter, who.name, who.dn)}
	for level := 0; len(next) > 0; level++ {
		if level > maxLDAPNesting {
			return nil, fmt.Errorf("ldap: groups of user %s are nested deeper than %d", shorten(who.name), maxLDAPNesting)
		}
		var found []*ldap.Entry
		for some := range slices.Chunk(next, ldapGroupsAsk) {
			more, err := l.groupsBy(ctx, some, who)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		}
		next = nil
		for _, e := range found {
			key := strings.ToLower(e.DN)
			if seen[key] {
				continue // a group that is in itself, or in two others
			}
			seen[key] = true
			names = append(names, l.groupNames(e)...)
			if deep {
				next = append(next, fill(l.o.GroupFilter, who.name, e.DN))
			}
		}
		if len(seen) > MaxLDAPGroups || len(names) > MaxLDAPGroups {
			return nil, tooManyGroups(who)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if size := len(strings.Join(names, `"",`)); size > MaxGroupBytes {
		return nil, fmt.Errorf("ldap: user %s is in %d groups, with names of %d bytes together, and %d is the most; narrow group_base or group_filter to those that rules speak of",
			shorten(who.name), len(names), size, MaxGroupBytes)
	}
	return names, nil
}

// groupsBy are the groups that any of filters finds.
func (l *LDAP) groupsBy(ctx context.Context, filters []string, who ldapUser) ([]*ldap.Entry, error) {
	filter := filters[0]
	if len(filters) > 1 {
		filter = "(|" + strings.Join(filters, "") + ")"
	}
	found, _, err := l.pool.search(ctx, ldapSearch{
		base: l.o.GroupBase, filter: filter, attributes: []string{l.o.GroupName}, most: MaxLDAPGroups, key: "group_base",
	})
	if errors.Is(err, errTooManyEntries) {
		return nil, tooManyGroups(who)
	}
	return found, err
}

func tooManyGroups(who ldapUser) error {
	return fmt.Errorf("ldap: user %s is in more than %d groups, or in more than the directory tells in one answer; narrow group_base or group_filter", shorten(who.name), MaxLDAPGroups)
}

// groupNames are all names of a group; no rule can have those that are left out.
func (l *LDAP) groupNames(e *ldap.Entry) []string {
	return slices.DeleteFunc(e.GetEqualFoldAttributeValues(l.o.GroupName), func(name string) bool {
		return name == "" || len(name) > MaxGroupName || hasControl(name)
	})
}

// chains reports whether the directory is one that follows groups in groups. It
// is asked once.
func (p *ldapPool) chains(ctx context.Context) (bool, error) {
	p.mu.Lock()
	known := p.follows
	p.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	yes := false
	_, err := p.do(ctx, "group_base", func(c *ldapConn) error {
		root, err := c.Search(&ldap.SearchRequest{
			Scope: ldap.ScopeBaseObject, SizeLimit: 1, EnforceSizeLimit: true, Filter: "(objectClass=*)", Attributes: []string{"supportedCapabilities"},
		})
		if err != nil || len(root.Entries) == 0 {
			if ldap.IsErrorAnyOf(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInsufficientAccessRights) {
				err = nil // it does not show what it is
			}
			return err
		}
		yes = slices.Contains(root.Entries[0].GetEqualFoldAttributeValues("supportedCapabilities"), activeDirectory)
		return nil
	})
	if err != nil {
		return false, err
	}
	p.mu.Lock()
	p.follows = &yes
	p.mu.Unlock()
	return yes, nil
}
