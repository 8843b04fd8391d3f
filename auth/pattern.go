package auth

import (
	"fmt"
	"strings"
)

// Pattern matches repository names: "*" within one part, "**" any number of
// whole parts (at the end at least one), {user} and {group} one part put in
// literally. It is compiled once, matches without allocating, and compares
// with ==. The zero Pattern matches nothing.
type Pattern struct {
	text  string
	shape shape
	lit   uint16 // bytes before the "**" of a below
}

// shape lets the patterns people mostly write skip the general matcher.
type shape uint8

const (
	nothing shape = iota
	exact         // team/app
	below         // team/**
	all           // **
	general       // team/*/x, {user}/**, **/x
	grouped       // the same with {group}
)

// ParsePattern compiles a pattern. The error is a *SyntaxError.
func ParsePattern(text string) (Pattern, error) {
	if err := checkPattern(text); err != nil {
		return Pattern{}, err
	}
	p := Pattern{text: text, shape: general}
	head, atEnd := strings.CutSuffix(text, "/**")
	switch {
	case text == "**":
		p.shape = all
	case strings.Contains(text, "{group}"):
		p.shape = grouped
	case !strings.ContainsAny(text, "*{"):
		p.shape = exact
	case atEnd && !strings.ContainsAny(head, "*{"):
		p.shape, p.lit = below, uint16(len(head)+1)
	}
	return p, nil
}

func checkPattern(text string) error {
	bad := func(fix, format string, args ...any) error {
		return &SyntaxError{Msg: "pattern " + shorten(text) + " " + fmt.Sprintf(format, args...), Fix: fix}
	}
	trimmed := strings.Trim(text, "/")
	switch {
	case text == "":
		return &SyntaxError{Msg: "a pattern is empty", Fix: `write "**" for all repositories`}
	case len(text) > MaxPattern:
		return bad("", "is longer than %d bytes", MaxPattern)
	case trimmed == "":
		return bad(`write "**" for all repositories`, "holds nothing but slashes")
	case strings.HasPrefix(text, "/"):
		return bad(fmt.Sprintf("write %q", trimmed), "starts with a slash and can match nothing")
	case strings.HasSuffix(text, "/"):
		base := strings.TrimSuffix(strings.TrimSuffix(trimmed, "/**"), "/*")
		return bad(fmt.Sprintf(`write "%s/*" for one level, "%s/**" for all below`, base, base),
			"ends in a slash and can match nothing")
	case strings.Contains(text, "//"):
		return bad("", "has an empty part and can match nothing")
	case strings.ContainsAny(text, "@"):
		return bad(fmt.Sprintf("write %q", text[:strings.IndexByte(text, '@')]), "holds a digest; rules are about repositories")
	case strings.Contains(text, ":"):
		return bad("write the repository alone, without host, port or tag", "holds a colon; no repository name does")
	}
	before := ""
	for part := range strings.SplitSeq(text, "/") {
		if part == "**" && before == "**" {
			return bad(`write "**" once`, "has ** twice in a row")
		}
		if why, fix := checkPart(part); why != "" {
			return bad(fix, "%s", why)
		}
		before = part
	}
	return nil
}

// checkPart says what is wrong with one part, and what to write instead.
func checkPart(part string) (why, fix string) {
	switch {
	case part == "*" || part == "**" || part == "{user}" || part == "{group}":
		return "", ""
	case strings.ContainsAny(part, "{}"):
		if strings.Contains(part, "{user}") || strings.Contains(part, "{group}") {
			return fmt.Sprintf("has %q: a name is put in for a whole part only", part), "write {user} or {group} between slashes"
		}
		return fmt.Sprintf("has %q", part), "only {user} and {group} are put in; list several patterns for several names"
	case strings.Contains(part, "**"):
		return fmt.Sprintf("has %q: ** stands for whole parts", part), fmt.Sprintf(`write %q for this part, or "**" on its own`, strings.ReplaceAll(part, "**", "*"))
	case part != strings.ToLower(part):
		return "has upper case letters and can match nothing", fmt.Sprintf("write %q for this part", strings.ToLower(part))
	case strings.ContainsAny(part, "?[]^$()+\\|"):
		return fmt.Sprintf("has %q, which no repository name holds", part), "only * and ** are wild here; this is no regular expression"
	case !strings.Contains(part, "*"):
		if !validPart(part) {
			return fmt.Sprintf("has %q, which is no part of a repository name, and can match nothing", part), ""
		}
	case !only(part, "abcdefghijklmnopqrstuvwxyz0123456789._-*"):
		return fmt.Sprintf("has %q, which no repository name holds", part), ""
	}
	return "", ""
}

// String is the spelling ParsePattern reads.
func (p Pattern) String() string { return p.text }

// UnmarshalText is ParsePattern.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

// MarshalText is String.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// Means reports whether the pattern is about what is wanted: its name, or, for
// a pattern that begins with a hostname, the name behind that hostname.
func (p Pattern) Means(want *Access, id *Identity) bool {
	if p.Match(want.Repository, id) {
		return true
	}
	if want.Full == "" {
		return false
	}
	host, ok := p.first()
	return ok && host == want.Full[:partEnd(want.Full, 0)] && p.Match(want.Full, id)
}

// Match reports whether repository, which must be a valid name, is one of those
// the pattern means to id. A user or group whose name is no legal part of a
// repository name is put in nowhere.
func (p Pattern) Match(repository string, id *Identity) bool {
	switch p.shape {
	case exact:
		return repository == p.text
	case all:
		return repository != ""
	case below:
		n := int(p.lit)
		return len(repository) > n && repository[:n] == p.text[:n]
	case general:
		return repository != "" && matchParts(p.text, repository, id.Name, "")
	case grouped:
		if id.Name == "" || id.robot() { // neither is in a group, whatever Groups says
			return false
		}
		for _, g := range id.Groups {
			if repository != "" && matchParts(p.text, repository, id.Name, g) {
				return true
			}
		}
	}
	return false
}

// matchParts walks both part by part and, where that fails, lets the last "**"
// take one part more. Earlier ones need no second try: the last one can take
// whatever they could.
func matchParts(pattern, name, user, group string) bool {
	p, n := 0, 0         // where the next parts begin; beyond the end: no more
	retry, took := -1, 0 // after the last "**", and where it stopped taking
	for {
		done := false
		if p > len(pattern) {
			if n > len(name) {
				return true
			}
		} else {
			end := partEnd(pattern, p)
			part := pattern[p:end]
			if part == "**" {
				if end == len(pattern) {
					return n <= len(name)
				}
				p, retry, took = end+1, end+1, n
				continue
			}
			if n <= len(name) {
				stop := partEnd(name, n)
				if matchPart(part, name[n:stop], user, group) {
					p, n, done = end+1, stop+1, true
				}
			}
		}
		if done {
			continue
		}
		if retry < 0 || took > len(name) {
			return false
		}
		took = partEnd(name, took) + 1
		p, n = retry, took
	}
}

func matchPart(pattern, part, user, group string) bool {
	switch pattern {
	case "*":
		return true
	case "{user}":
		return part == user && validPart(user)
	case "{group}":
		return part == group && validPart(group)
	}
	return glob(pattern, part)
}

// glob matches one part; "*" is any run of bytes, none included.
func glob(pattern, s string) bool {
	p, i, star, took := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, took = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			took++
			p, i = star+1, took
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// first is the literal first part; ok is false if many names can stand there.
func (p Pattern) first() (part string, ok bool) {
	part = p.text[:partEnd(p.text, 0)]
	return part, !strings.ContainsAny(part, "*{")
}

// literal is the parts that each name it matches begins with, "" for none.
func (p Pattern) literal() string {
	end := 0
	for start := 0; start < len(p.text); {
		stop := partEnd(p.text, start)
		if strings.ContainsAny(p.text[start:stop], "*{") {
			break
		}
		end, start = stop, stop+1
	}
	return p.text[:end]
}

// placeholders reports whether a name has to be put in.
func (p Pattern) placeholders() bool { return strings.Contains(p.text, "{") }

// fill lists the pattern with the names of id put in: none of them if a name is
// missing or no legal part, one for each group if it asks for groups.
func (p Pattern) fill(id *Identity) []Pattern {
	if !p.placeholders() {
		return []Pattern{p}
	}
	texts := []string{p.text}
	if strings.Contains(p.text, "{group}") {
		texts = nil
		for _, g := range id.Groups {
			if validPart(g) && id.Name != "" && !id.robot() {
				texts = append(texts, strings.ReplaceAll(p.text, "{group}", g))
			}
		}
	}
	var filled []Pattern
	for _, text := range texts {
		if strings.Contains(text, "{user}") && !validPart(id.Name) {
			continue
		}
		// Cannot fail but for its length; then it can match nothing either.
		if q, err := ParsePattern(strings.ReplaceAll(text, "{user}", id.Name)); err == nil {
			filled = append(filled, q)
		}
	}
	return filled
}

// Contains reports that p matches whatever q matches, for every caller. False
// may also mean that this is not certain.
func (p Pattern) Contains(q Pattern) bool {
	switch {
	case p.shape == nothing || q.shape == nothing:
		return false
	case p.text == q.text || p.shape == all:
		return true
	case p.shape == exact:
		return false
	case p.shape == below:
		return strings.HasPrefix(q.text, p.text[:p.lit])
	case q.shape == exact && !p.placeholders():
		return p.Match(q.text, &Identity{})
	case p.differs(q):
		return false
	}
	ps, qs := p.symbols(), q.symbols()
	// covered[j] after row i: ps[i:] contains qs[j:]. From the ends backwards.
	below := make([]bool, len(qs)+1)
	below[len(qs)] = true
	for i := len(ps) - 1; i >= 0; i-- {
		row := make([]bool, len(qs)+1)
		for j := len(qs); j >= 0; j-- {
			switch {
			case ps[i] == "**":
				row[j] = below[j] || j < len(qs) && row[j+1]
			case j == len(qs):
				row[j] = false
			case qs[j] == "**":
				// No part at all, or one and then any number again.
				row[j] = row[j+1] && ps[i] == "*" && below[j]
			default:
				row[j] = below[j+1] && partContains(ps[i], qs[j])
			}
		}
		below = row
	}
	return below[0]
}

// differs reports that some part of q before any "**" is not in p's at that
// place: of thousands of patterns that are compared with each other nearly all
// differ so, and the rest of Contains is dear.
func (p Pattern) differs(q Pattern) bool {
	for i, j := 0, 0; i < len(p.text) && j < len(q.text); {
		end, stop := partEnd(p.text, i), partEnd(q.text, j)
		mine, its := p.text[i:end], q.text[j:stop]
		if mine == "**" || its == "**" {
			return false
		}
		if !partContains(mine, its) {
			return true
		}
		i, j = end+1, stop+1
	}
	return false
}

// symbols are the parts, with "**" always for none or more: the one at the end
// wants a "*" before it.
func (p Pattern) symbols() []string {
	parts := strings.Split(p.text, "/")
	if last := len(parts) - 1; parts[last] == "**" {
		parts = append(parts[:last], "*", "**")
	}
	return parts
}

// partContains takes a "*" in q for a byte that only a "*" in p matches.
func partContains(p, q string) bool {
	if p == q || p == "*" {
		return true
	}
	return !strings.Contains(p, "{") && !strings.Contains(q, "{") && glob(p, q)
}
