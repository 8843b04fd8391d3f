package doctor

import (
	"fmt"
	"strings"
)

// challenge is one of a WWW-Authenticate field.
type challenge struct {
	scheme string // as sent
	params map[string]string
	flaws  []string // of its form (C03), in words
}

func (c challenge) is(scheme string) bool { return strings.EqualFold(c.scheme, scheme) }

// maxChallenges bounds what is read of one field.
const maxChallenges = 16

// parseChallenges reads a field more kindly than clients do, and keeps what
// they would stumble over.
func parseChallenges(field string) []challenge {
	var all []challenge
	s := strings.TrimSpace(field)
	for s != "" && len(all) < maxChallenges {
		var c challenge
		c, s = parseChallenge(s)
		all = append(all, c)
	}
	return all
}

// parseChallenge reads the first one of s and returns what follows it.
func parseChallenge(s string) (c challenge, rest string) {
	c.params = map[string]string{}
	c.scheme, s = token(s)
	if c.scheme == "" {
		c.flaw("no scheme at %q", cut(s, 40))
		return c, ""
	}
	after := strings.TrimLeft(s, " \t")
	if s != "" && len(s)-len(after) != 1 && !strings.HasPrefix(after, ",") {
		c.flaw("not one space behind %s", c.scheme)
	}
	for s = after; s != ""; {
		name, behind := token(s)
		trimmed := strings.TrimLeft(behind, " \t")
		if name == "" || !strings.HasPrefix(trimmed, "=") {
			if name != "" && len(c.params) > 0 {
				return c, s // the next challenge
			}
			c.flaw("no parameter at %q", cut(s, 40))
			return c, ""
		}
		if len(trimmed) != len(behind) {
			c.flaw("a space before the = of %s", name)
		}
		var more bool
		if s, more = c.value(name, trimmed[1:]); !more {
			return c, ""
		}
	}
	return c, ""
}

// value reads what is behind name= and the comma after it.
func (c *challenge) value(name, s string) (rest string, more bool) {
	value, behind, closed := "", "", true
	if strings.HasPrefix(s, `"`) {
		value, behind, closed = quoted(s[1:])
		if strings.ContainsAny(value, `"\`) {
			c.flaw("%s has a quote or backslash in it", name)
		}
	} else {
		end := strings.IndexAny(s, ", \t")
		if end < 0 {
			end = len(s)
		}
		value, behind = s[:end], s[end:]
		c.flaw("%s is not quoted", name)
	}
	lower := strings.ToLower(name)
	switch _, twice := c.params[lower]; {
	case !closed:
		c.flaw("the quote of %s does not end", name)
	case value == "" && lower != "service": // C08
		c.flaw("%s is empty", name)
	case twice:
		c.flaw("%s is there twice", name)
	}
	if name != lower {
		c.flaw("%s is not in lower case", name)
	}
	c.params[lower] = value
	trimmed := strings.TrimLeft(behind, " \t")
	if trimmed == "" {
		return "", false
	}
	if !strings.HasPrefix(trimmed, ",") {
		c.flaw("no comma behind %s", name)
		return trimmed, true
	}
	if trimmed != behind {
		c.flaw("a space before the comma behind %s", name)
	}
	rest = strings.TrimLeft(trimmed[1:], " \t")
	if rest == "" {
		c.flaw("a comma at the end")
	}
	return rest, rest != ""
}

func (c *challenge) flaw(format string, args ...any) {
	c.flaws = append(c.flaws, fmt.Sprintf(format, args...))
}

// token is what s begins with.
func token(s string) (t, rest string) {
	end := strings.IndexAny(s, " \t,=\"")
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

// quoted reads up to the closing quote.
func quoted(s string) (value, rest string, closed bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			b.WriteByte('\\')
			if i++; i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), "", false
}
