package auth

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Subject is whom a rule or a limit is about: everyone, anonymous,
// authenticated, user:N, group:N, token:N. The zero Subject is nobody.
type Subject struct {
	kind subjectKind
	name string
}

type subjectKind uint8

const (
	nobody subjectKind = iota
	everyone
	anonymous
	authenticated
	user
	group
	token
)

// subjectWords are in the order of the kinds.
func subjectWords() [7]string {
	return [...]string{"nobody", "everyone", "anonymous", "authenticated", "user", "group", "token"}
}

// ParseSubject reads a subject as the configuration writes it. The error is a
// *SyntaxError.
func ParseSubject(text string) (Subject, error) {
	word, name, named := strings.Cut(text, ":")
	words := subjectWords()
	kind := subjectKind(max(0, slices.Index(words[:], word)))
	switch {
	case kind == nobody:
		return Subject{}, unknownSubject(text, word, named)
	case kind < user && named:
		return Subject{}, &SyntaxError{
			Msg: fmt.Sprintf("subject %q: %s takes no name", text, word),
			Fix: fmt.Sprintf("write %s", word),
		}
	case kind >= user && name == "":
		return Subject{}, &SyntaxError{
			Msg: fmt.Sprintf("subject %q names no %s", text, word),
			Fix: fmt.Sprintf("write %s:NAME", word),
		}
	case kind >= user && (len(name) > MaxUser || hasControl(name) || !utf8.ValidString(name) || strings.TrimSpace(name) != name):
		return Subject{}, &SyntaxError{
			Msg: fmt.Sprintf("subject %s: no %s has such a name", shorten(text), word),
		}
	case kind == token && strings.HasPrefix(name, RobotPrefix):
		return Subject{}, &SyntaxError{
			Msg: fmt.Sprintf("subject %q: robots are named without their prefix %s here", text, RobotPrefix),
			Fix: fmt.Sprintf("write token:%s", strings.TrimPrefix(name, RobotPrefix)),
		}
	}
	return Subject{kind, name}, nil
}

func unknownSubject(text, word string, named bool) error {
	e := &SyntaxError{
		Msg: fmt.Sprintf("%s is no subject", shorten(text)),
		Fix: "write everyone, anonymous, authenticated, user:NAME, group:NAME or token:NAME",
	}
	switch lower := strings.ToLower(word); {
	case text == "":
		e.Msg = "a subject is empty"
	case lower == "*" || lower == "all" || lower == "any" || lower == "anyone" || lower == "everybody" || lower == "public":
		e.Fix = "write everyone (with a login or without)"
	case lower == "logged-in" || lower == "users":
		e.Fix = "write authenticated"
	case lower == "guest":
		e.Fix = "write anonymous"
	case strings.HasPrefix(text, "@"):
		e.Fix = "write group:" + text[1:]
	case lower != word && slices.Contains([]string{"everyone", "anonymous", "authenticated", "user", "group", "token"}, lower):
		e.Fix = "write " + lower + text[len(word):]
	case named && (lower == "robot" || lower == "groups" || lower == "team" || lower == "users"):
		kind := map[bool]string{true: "token", false: "group"}[lower == "robot"]
		e.Fix = "write " + kind + text[len(word):]
	case !named:
		e.Fix = fmt.Sprintf("write user:%s or group:%s", text, text)
	}
	return e
}

// String is the spelling ParseSubject reads.
func (s Subject) String() string {
	if s.kind < user {
		return s.Kind()
	}
	return s.Kind() + ":" + s.name
}

// Kind is everyone, anonymous, authenticated, user, group or token.
func (s Subject) Kind() string { return subjectWords()[s.kind] }

// Name is that of the user, group or robot; "" for the other kinds.
func (s Subject) Name() string { return s.name }

// Lower is the subject with a user's name in lower case, as names are compared
// unless auth.case_sensitive is set.
func (s Subject) Lower() Subject {
	if s.kind == user {
		s.name = strings.ToLower(s.name)
	}
	return s
}

// words names the subject within a sentence: "group dev".
func (s Subject) words() string {
	if s.kind < user {
		return s.Kind()
	}
	return s.Kind() + " " + s.name
}

// UnmarshalText is ParseSubject.
func (s *Subject) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSubject(string(text))
	return err
}

// MarshalText is String.
func (s Subject) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Matches reports whether c is one of those the subject means. Robots are
// neither authenticated nor a user nor in a group.
func (s Subject) Matches(c *Caller) bool {
	switch s.kind {
	case everyone:
		return true
	case anonymous:
		return c.Name == ""
	case authenticated:
		return c.Name != "" && !c.robot()
	case user:
		return c.Name == s.name && !c.robot()
	case group:
		return c.Name != "" && !c.robot() && slices.Contains(c.Groups, s.name)
	case token:
		return c.robot() && strings.HasPrefix(c.Name, RobotPrefix) && c.Name[len(RobotPrefix):] == s.name
	}
	return false
}

// Covers reports whether everybody o means, s means as well.
func (s Subject) Covers(o Subject) bool {
	switch s.kind {
	case everyone:
		return o.kind != nobody
	case authenticated:
		return o.kind == authenticated || o.kind == user || o.kind == group
	case nobody:
		return false
	}
	return s == o
}

// named reports whether c could fill in the {user} or {group} of a pattern.
func (s Subject) named() bool { return s.kind != anonymous && s.kind != nobody }
