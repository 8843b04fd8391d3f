package configs

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// planned is a key that config.md promises and that does nothing yet. It is
// refused in words rather than ignored, unless it says what is so anyway.
type planned struct {
	neutral []string // values that ask for nothing
	fix     string
}

const (
	fixLogins = "leave it out; logins come from auth.htpasswd or auth.upstream, and groups from groups"
	fixRule   = "leave it out; a rule is about whole repositories and holds at once"
)

// notYet looks a key up by its path, list indices left out: "rules[].tags".
func notYet(path string) (planned, bool) {
	switch path {
	case "auth.ldap", "auth.oidc", "auth.webhook", "auth.tokens_file":
		return planned{fix: fixLogins}, true
	case "rules[].tags":
		return planned{fix: fixRule}, true
	case "rules[].immutable":
		return planned{[]string{"false"}, fixRule}, true
	case "token.refresh":
		return planned{[]string{"false"}, "leave it out; logins are asked for again when a token ends"}, true
	}
	return planned{}, false
}

// planned handles a key that is not in the schema but will be, and reports
// whether it was one.
func (r *reader) planned(path string, key, value *yaml.Node) bool {
	p, ok := notYet(withoutIndices(path))
	if !ok {
		return false
	}
	empty := isNull(value) || value.Kind != yaml.ScalarNode && value.Kind != yaml.AliasNode && len(value.Content) == 0
	if empty || value.Kind == yaml.ScalarNode && slices.Contains(p.neutral, value.Value) {
		return true
	}
	msg := "not there yet"
	if value.Kind == yaml.ScalarNode && len(p.neutral) > 0 && p.neutral[0] == "false" {
		msg = value.Value + " is not there yet"
	}
	r.at(path, key, msg, p.fix)
	return true
}

// withoutIndices turns rules[2].tags into rules[].tags.
func withoutIndices(path string) string {
	var b strings.Builder
	inside := false
	for _, c := range path {
		switch {
		case c == '[':
			inside = true
			b.WriteString("[]")
		case c == ']':
			inside = false
		case !inside:
			b.WriteRune(c)
		}
	}
	return b.String()
}
