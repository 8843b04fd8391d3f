package auth

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
// Tag is set for tag rules only.
type Access struct {
	Repository string
	Tag        string
	Action     Action
}

// Actions is a set of actions, as rules hold them.
type Actions uint8

// Has reports whether a is in the set.
func (s Actions) Has(a Action) bool { return s&(1<<a) != 0 }

// With is the set with a added.
func (s Actions) With(a Action) Actions { return s | 1<<a }

// ParseActions reads one word of a rule: pull, push, delete or "*" for all three.
func ParseActions(word string) (Actions, error) { panic("unwritten") }

// ParseScope reads a scope parameter (T03-T05): one or several scopes separated
// by spaces. Accesses of one repository are united, in order of first
// appearance; "*" is pull, push and delete; registry:catalog:* is List;
// unknown types and actions are dropped. A scope outside the grammar is an error.
func ParseScope(s string) ([]Access, error) { panic("unwritten") }

// FormatScope is the inverse of ParseScope, in one stable order.
func FormatScope(access []Access) string { panic("unwritten") }
