package proxy

import "strings"

// challenge writes our WWW-Authenticate value (C02, C03): one Bearer
// challenge, its members in this order, each quoted, none empty. description
// goes only with errCode and is brought to the form of C11.
func challenge(realm, service, scope, errCode, description string) string {
	var b strings.Builder
	b.Grow(len(`Bearer realm="",service="",scope="",error="",error_description=""`) +
		len(realm) + len(service) + len(scope) + len(errCode) + min(len(description), maxDescription))
	b.WriteString("Bearer ")
	first := true
	add := func(name, value string) {
		if value == "" {
			return
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteString(name)
		b.WriteString(`="`)
		b.WriteString(value)
		b.WriteByte('"')
	}
	add("realm", quotable(realm))
	add("service", quotable(service))
	add("scope", quotable(scope))
	if errCode = quotable(errCode); errCode != "" {
		add("error", errCode)
		add("error_description", describe(description))
	}
	return b.String()
}

// quotable drops what parsers of quoted strings disagree about (C03).
func quotable(s string) string {
	if printable(s) && strings.IndexByte(s, '"') < 0 && strings.IndexByte(s, '\\') < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}

// describe brings a sentence to at most maxDescription bytes of ASCII without
// quote, backslash and comma (C11). What is too long loses the end of the
// sentence, not the request id in parentheses behind it.
func describe(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\':
			return '/'
		case r == ',':
			return ';'
		case r == '\t', r == '\n', r == '\r':
			return ' '
		case r < ' ', r > '~':
			return '?'
		}
		return r
	}, s)
	if len(s) <= maxDescription {
		return s
	}
	tail := ""
	if i := strings.LastIndex(s, " ("); i >= 0 && s[len(s)-1] == ')' && len(s)-i <= maxDescription/2 {
		tail = s[i:]
	}
	return s[:maxDescription-len("...")-len(tail)] + "..." + tail
}

// upstreamChallenge is one challenge of an upstream. What it says is not to be
// trusted: where a realm may lie is decided elsewhere (T34).
type upstreamChallenge struct {
	Scheme  string // lower case
	Realm   string
	Service string
	Scope   string
	Error   string
}

// parseChallenges reads the WWW-Authenticate fields of an upstream, and reads
// them kindly (RFC 9110, 11.6.1, and what is found in the wild): several
// challenges in a field or in several, any case, no space after a comma, bare
// values, escapes, a token68. It is total; what makes no sense is passed over.
// Of a member given twice the first counts.
func parseChallenges(fields []string) []upstreamChallenge {
	var found []upstreamChallenge
	for i, field := range fields {
		if i == maxChallengeFields {
			break
		}
		if len(field) <= maxChallengeField {
			found = appendChallenges(found, field)
		}
	}
	return found
}

func appendChallenges(found []upstreamChallenge, s string) []upstreamChallenge {
	open := false // whether the last of found is of this field and takes members
	for {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return found
		}
		word, rest := cutToken(s)
		if word == "" {
			s = s[1:]
			continue
		}
		after := strings.TrimLeft(rest, " \t")
		if strings.HasPrefix(after, "=") {
			var value string
			value, s = cutValue(strings.TrimLeft(after[1:], " \t"))
			if open {
				found[len(found)-1].set(word, value)
			}
			continue
		}
		if len(found) == maxChallenges {
			return found
		}
		found, open = append(found, upstreamChallenge{Scheme: strings.ToLower(word)}), true
		s = rest
		if after != rest {
			s = skipToken68(after)
		}
	}
}

// set takes one member of the challenge; most are nobody's business here.
func (c *upstreamChallenge) set(name, value string) {
	var member *string
	switch strings.ToLower(name) {
	case "realm":
		member = &c.Realm
	case "service":
		member = &c.Service
	case "scope":
		member = &c.Scope
	case "error":
		member = &c.Error
	default:
		return
	}
	if *member == "" {
		*member = value
	}
}

// cutToken cuts a token (RFC 9110, 5.6.2) from the front of s.
func cutToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && tokenByte(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func tokenByte(c byte) bool {
	return alnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// cutValue cuts a quoted string, or what stands before the next comma or
// space, from the front of s. A quote that never ends, ends with the field.
func cutValue(s string) (value, rest string) {
	if s == "" || s[0] != '"' {
		i := strings.IndexAny(s, " \t,")
		if i < 0 {
			return s, ""
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// skipToken68 passes over a token68 that is all of a challenge, as Negotiate
// has it.
func skipToken68(s string) string {
	i := 0
	for i < len(s) && (alnum(s[i]) || strings.IndexByte("-._~+/", s[i]) >= 0) {
		i++
	}
	if i == 0 {
		return s
	}
	for i < len(s) && s[i] == '=' {
		i++
	}
	if rest := strings.TrimLeft(s[i:], " \t"); rest == "" || rest[0] == ',' {
		return rest
	}
	return s
}
