package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says how bad a Problem is.
type Severity uint8

// The severities. A configuration with an Error is not loaded. A Note is
// something that Static could not look at.
const (
	Error Severity = iota
	Warning
	Note
)

// String is "error", "warning" or "note".
func (s Severity) String() string {
	switch s {
	case Warning:
		return "warning"
	case Note:
		return "note"
	}
	return "error"
}

// MarshalText is String.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote; an unknown word is an Error.
func (s *Severity) UnmarshalText(text []byte) error {
	*s = Error
	for _, known := range []Severity{Warning, Note} {
		if known.String() == string(text) {
			*s = known
		}
	}
	return nil
}

// Problem is one thing that is wrong, or strange, with a configuration.
type Problem struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Line     int      `json:"line"`           // from 1; 0 if the whole file is meant
	Col      int      `json:"column"`         // from 1; 0 if the whole line is meant
	Path     string   `json:"path,omitempty"` // "rules[2].repositories"
	Msg      string   `json:"message"`
	Fix      string   `json:"fix,omitempty"` // what to write or do instead
}

// String is one or two lines:
//
//	regward.yaml:14:19: rules[2].repositories: pattern "team/*/" ends in a slash and can match nothing
//		fix: write "team/*" for one level, "team/**" for all below
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Col > 0 {
			fmt.Fprintf(&b, ":%d", p.Col)
		}
	}
	b.WriteString(": ")
	if p.Severity != Error {
		b.WriteString(p.Severity.String())
		b.WriteString(": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path)
		b.WriteString(": ")
	}
	b.WriteString(p.Msg)
	if p.Fix != "" {
		b.WriteString("\n\tfix: ")
		b.WriteString(p.Fix)
	}
	return b.String()
}

// Problems are all that one run found, sorted by place. As an error it holds
// at least one Problem of severity Error.
type Problems []Problem

// Error is every problem, one after the other.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Only is those of one severity.
func (ps Problems) Only(s Severity) Problems {
	var out Problems
	for _, p := range ps {
		if p.Severity == s {
			out = append(out, p)
		}
	}
	return out
}

// sort brings the problems into the order of the file and drops equal ones.
func (ps Problems) sort() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Severity, b.Severity),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(a.Msg, b.Msg),
		)
	})
	return slices.Compact(ps)
}
