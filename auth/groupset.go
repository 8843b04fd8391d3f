package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
)

// GroupSet is which groups somebody asks about. A directory may put a user into
// hundreds, and a token has no room for them: it carries those of the set.
type GroupSet struct {
	names map[string]bool
	parts bool // also those that {group} of a pattern can be
	every bool // and all others
	mark  string
}

// Groups is the set that the rules ask about, and that further subjects and
// patterns do; every is that somebody counts all groups, whatever their names.
func (p *Policy) Groups(subjects []Subject, patterns []Pattern, every bool) *GroupSet {
	s := &GroupSet{names: map[string]bool{}, every: every}
	s.add(subjects, patterns)
	for i := range p.rules {
		s.add(p.rules[i].Subjects, p.rules[i].Repositories)
	}
	sum := sha256.New()
	_ = binary.Write(sum, binary.BigEndian, []bool{s.parts, s.every})
	for _, name := range slices.Sorted(maps.Keys(s.names)) {
		_ = binary.Write(sum, binary.BigEndian, uint32(len(name)))
		sum.Write([]byte(name))
	}
	s.mark = base64.RawURLEncoding.EncodeToString(sum.Sum(nil)[:8])
	return s
}

func (s *GroupSet) add(subjects []Subject, patterns []Pattern) {
	for _, one := range subjects {
		if one.kind == group {
			s.names[one.name] = true
		}
	}
	for _, p := range patterns {
		s.parts = s.parts || strings.Contains(p.text, "{group}")
	}
}

// Narrow leaves out of an identity with many groups those that nobody asks about,
// and marks it with the set: where another one is asked about, what was left out
// may matter, and Holds is false.
func (s *GroupSet) Narrow(id Identity) Identity {
	size := 0
	for _, g := range id.Groups {
		size += len(g) + len(`"",`)
	}
	if size <= MaxTokenGroups || s.every {
		return id
	}
	var kept []string
	for _, g := range id.Groups {
		if s.names[g] || s.parts && validPart(g) {
			kept = append(kept, g)
		}
	}
	id.Groups, id.Narrowed = kept, s.mark
	return id
}

// Holds reports whether an identity has all its groups that the set asks about.
func (s *GroupSet) Holds(id *Identity) bool { return id.Narrowed == "" || id.Narrowed == s.mark }
