package auth

import (
	"fmt"
	"strings"
)

// Action is one of the closed set of things a caller may do. It is parsed
// once, where it enters; the zero Action is none.
type Action uint8

// The actions. List is reading the catalog; it has no repository.
const (
	Pull Action = iota + 1
	Push
	Delete
	List
)

// String is the word the scope grammar and the configuration use.
func (a Action) String() string {
	switch a {
	case Pull:
		return "pull"
	case Push:
		return "push"
	case Delete:
		return "delete"
	case List:
		return "list"
	}
	return "none"
}

// Access is one action on one repository, by the name the client uses.
// Tag is set for tag rules only, Full for what only one hostname leads to:
// rules may name that with the hostname in front, or without.
type Access struct {
	Repository string
	Full       string
	Tag        string
	Action     Action
}

// Name is the repository, with its hostname in front where one alone leads there.
func (a *Access) Name() string {
	if a.Full != "" {
		return a.Full
	}
	return a.Repository
}

// Actions is a set of actions, as rules hold them.
type Actions uint8

// Everything is what "*" stands for in a rule and in a scope.
const Everything = Actions(1<<Pull | 1<<Push | 1<<Delete)

// Has reports whether a is in the set.
func (s Actions) Has(a Action) bool { return s&(1<<a) != 0 }

// With is the set with a added.
func (s Actions) With(a Action) Actions { return s | 1<<a }

// String lists the set as a rule would: "pull, push"; "none" when empty.
func (s Actions) String() string {
	words := s.words()
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func (s Actions) words() (words []string) {
	for a := Pull; a <= List; a++ {
		if s.Has(a) {
			words = append(words, a.String())
		}
	}
	return words
}

// ParseActions reads one word of a rule: pull, push, delete or "*" for all
// three. The error is a *SyntaxError.
func ParseActions(word string) (Actions, error) {
	switch word {
	case "pull":
		return Actions(0).With(Pull), nil
	case "push":
		return Actions(0).With(Push), nil
	case "delete":
		return Actions(0).With(Delete), nil
	case "*":
		return Everything, nil
	}
	e := &SyntaxError{
		Msg: fmt.Sprintf("%q is no action", word),
		Fix: `write pull, push, delete or "*"`,
	}
	switch strings.ToLower(word) {
	case "read", "get", "pulls", "download":
		e.Fix = "write pull"
	case "write", "create", "update", "pushes", "upload":
		e.Fix = "write push"
	case "remove", "deletes":
		e.Fix = "write delete"
	case "all", "any", "admin":
		e.Fix = `write "*"`
	case "list", "catalog":
		e.Fix = "leave it out: everybody may ask for the catalog, which shows what the caller may pull"
	}
	return 0, e
}

// ParseScope reads a scope parameter (T03-T05): one or several scopes separated
// by spaces. Accesses of one repository are united, in order of first
// appearance, each with pull before push before delete; "*" is all three;
// registry:catalog:* is List; unknown types and actions are dropped. A scope
// outside the grammar, or more than MaxScopes of them, is an error that wraps
// ErrMalformed. Several scope parameters are read joined with spaces.
func ParseScope(s string) ([]Access, error) {
	var set scopeSet
	n := 0
	for s != "" {
		var one string
		one, s, _ = strings.Cut(s, " ")
		if one == "" {
			continue
		}
		if n++; n > MaxScopes {
			return nil, fmt.Errorf("more than %d scopes: %w", MaxScopes, ErrMalformed)
		}
		if err := set.parse(one); err != nil {
			return nil, err
		}
	}
	return set.accesses(), nil
}

// FormatScope is the inverse of ParseScope, in one stable order.
func FormatScope(access []Access) string {
	var set scopeSet
	for _, a := range access {
		set.add(a.Repository, a.Action)
	}
	var b strings.Builder
	for _, sc := range set {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		if sc.actions.Has(List) {
			b.WriteString("registry:catalog:*")
			continue
		}
		b.WriteString("repository:")
		b.WriteString(sc.name)
		b.WriteByte(':')
		b.WriteString(strings.Join(sc.actions.words(), ","))
	}
	return b.String()
}

// scope is one resource with all that is asked of it. The catalog has no name.
type scope struct {
	name    string
	actions Actions
}

// scopeSet keeps the order of first appearance. It is searched linearly: it
// holds at most MaxScopes, or what one token carries.
type scopeSet []scope

func (s *scopeSet) add(name string, a Action) {
	if a == List {
		name = ""
	} else if name == "" || a < Pull || a > List {
		return
	}
	for i := range *s {
		if (*s)[i].name == name {
			(*s)[i].actions = (*s)[i].actions.With(a)
			return
		}
	}
	*s = append(*s, scope{name, Actions(0).With(a)})
}

func (s scopeSet) accesses() []Access {
	var all []Access
	for _, sc := range s {
		for a := Pull; a <= List; a++ {
			if sc.actions.Has(a) {
				all = append(all, Access{Repository: sc.name, Action: a})
			}
		}
	}
	return all
}

// parse adds one scope. The name lies between the first and the last colon, for
// it may hold a host with its port.
func (s *scopeSet) parse(text string) error {
	kind, rest, ok := strings.Cut(text, ":")
	last := strings.LastIndexByte(rest, ':')
	if !ok || last < 0 || kind == "" {
		return fmt.Errorf("scope %s is not type:name:actions: %w", shorten(text), ErrMalformed)
	}
	name, actions := rest[:last], rest[last+1:]
	if name == "" || len(name) > MaxScopeName || !only(name, scopeNameBytes) {
		return fmt.Errorf("scope %s: no resource has such a name: %w", shorten(text), ErrMalformed)
	}
	switch kind {
	case "repository", "repository(plugin)":
		for action := range strings.SplitSeq(actions, ",") {
			got, err := ParseActions(action)
			if err != nil {
				continue // T04
			}
			for a := Pull; a <= Delete; a++ {
				if got.Has(a) {
					s.add(name, a)
				}
			}
		}
	case "registry":
		if name == "catalog" && actions == "*" {
			s.add("", List)
		}
	}
	return nil
}

// Upper case is in a scope's grammar, though in no repository name: such a
// scope grants nothing (T06).
const scopeNameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:[]"

// shorten quotes what a stranger sent, for an error.
func shorten(s string) string {
	const most = 80
	if len(s) > most {
		return fmt.Sprintf("%q...", s[:most])
	}
	return fmt.Sprintf("%q", s)
}

func only(s, allowed string) bool {
	for i := 0; i < len(s); i++ {
		if strings.IndexByte(allowed, s[i]) < 0 {
			return false
		}
	}
	return true
}
