package configs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxBytes and maxNodes bound what is read: a real file has a hundredth of
// either, and aliases of aliases must not grow without end.
const (
	maxBytes = 4 << 20
	maxNodes = 200_000
	maxDepth = 40
)

// insertion is a pair of quotes that repair put around a trap, so that the
// rest of the file can still be checked. Columns behind it are two too high.
type insertion struct{ line, col, end int } // col and end as written

// tree parses data. YAML's own traps are reported as problems and repaired, so
// that one run finds them all; nil means that nothing can be read.
func (r *reader) tree(data []byte) *yaml.Node {
	if len(data) > maxBytes {
		r.report(Problem{Msg: "more than 4 MiB: this is no configuration"})
		return nil
	}
	doc, err := parseYAML(data)
	if err == nil {
		return doc
	}
	fixed, found := r.repair(string(data))
	if doc, again := parseYAML([]byte(fixed)); again == nil {
		return doc
	} else if found {
		err = again
	}
	line, msg := yamlMessage(err, 1+strings.Count(strings.TrimRight(string(data), "\n"), "\n"))
	if !found || !slices.ContainsFunc(r.problems, func(p Problem) bool { return p.Line == line }) {
		r.report(Problem{Line: line, Col: 1, Msg: msg})
	}
	return nil
}

// parseYAML reads exactly one document; an empty one is an empty map.
func parseYAML(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		return nil, fmt.Errorf("yaml: line %d: a second document starts here; one file is one configuration", max(1, second.Line))
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(doc.Content) == 0 {
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1, Column: 1}, nil
	}
	return doc.Content[0], nil
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// yamlMessage takes the line out of an error of the YAML parser. It names none
// on the first line, and its grammar (other than its scanner) counts from zero.
func yamlMessage(err error, last int) (line int, msg string) {
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	text = strings.TrimPrefix(text, "yaml: ")
	if rest, grammar := strings.CutPrefix(text, "did not find expected "); grammar && !strings.HasPrefix(rest, "alphabetic") {
		line++
	}
	return min(max(1, line), last), "not YAML: " + text + yamlHint(text)
}

// yamlHint says what is usually behind an error of the YAML parser.
func yamlHint(text string) string {
	hint := ""
	switch {
	case strings.Contains(text, "mapping values are not allowed"):
		hint = "a value with \": \" in it wants quotes, and keys of one map the same indentation"
	case strings.Contains(text, "did not find expected ',' or"):
		hint = "a comma or a closing bracket is missing"
	case strings.Contains(text, "did not find expected key"), strings.Contains(text, "did not find expected '-'"):
		hint = "look at the indentation, here and in the line above"
	case strings.Contains(text, "could not find expected ':'"):
		hint = "a key wants a colon and a space behind it"
	case strings.Contains(text, "found unexpected end of stream"):
		hint = "a quote is not closed"
	case strings.Contains(text, "cannot start any token"):
		hint = "put the value in quotes"
	case strings.Contains(text, "node content"):
		hint = "a bracket is not closed"
	default:
		return ""
	}
	return "; " + hint
}

// placeholder is {user}, {group}, ${NAME} or ${NAME:-x}: braces that a person
// does not mean as a map.
var (
	placeholder = regexp.MustCompile(`^(\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}\n]*)?\}|\{(user|group)\})`)
	anchorName  = regexp.MustCompile(`&([A-Za-z0-9_-]+)`)
)

// repair reports what YAML reads differently from what was meant - an unquoted
// *, {user}, ${X} in braces, tabs - and returns the text with quotes put in.
func (r *reader) repair(text string) (fixed string, found bool) {
	anchors := map[string]bool{}
	for _, m := range anchorName.FindAllStringSubmatch(text, -1) {
		anchors[m[1]] = true
	}
	s := scanner{r: r, anchors: anchors}
	for i, line := range strings.SplitAfter(text, "\n") {
		s.line(i+1, line)
	}
	return s.out.String(), s.found
}

// scanner walks the text just well enough to know where plain values start
// and whether they are inside of [] or {}.
type scanner struct {
	r       *reader
	anchors map[string]bool
	out     strings.Builder
	depth   int  // of [] and {}
	quote   byte // inside of a quoted value that goes on over the line's end
	found   bool
}

func (s *scanner) line(no int, line string) {
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	if tab := strings.IndexByte(indent, '\t'); tab >= 0 && s.quote == 0 && strings.TrimSpace(line) != "" && strings.TrimSpace(line)[0] != '#' {
		s.trap(no, tab+1, "a tab indents here; YAML wants spaces")
		line = strings.ReplaceAll(indent, "\t", "  ") + line[len(indent):]
	}
	start := true // a value may start here
	for i := 0; i < len(line); {
		c := line[i]
		rest := line[i:]
		switch {
		case s.quote != 0:
			if c == '\\' && s.quote == '"' && i+1 < len(line) {
				s.out.WriteString(line[i : i+2])
				i += 2
				continue
			}
			if c == s.quote {
				s.quote = 0
			}
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			s.out.WriteString(rest)
			return
		case start && (c == '"' || c == '\''):
			s.quote, start = c, false
		case start && c == '-' && s.depth == 0 && len(rest) > 1 && (rest[1] == ' ' || rest[1] == '\n'):
		case start && placeholder.MatchString(rest), start && c == '*', start && s.depth > 0 && !strings.ContainsRune("[]{},", rune(c)), start && (c == '@' || c == '`'):
			i += s.plain(no, line, i)
			start = false
			continue
		case c == '[' && (start || s.depth > 0), c == '{' && (start || s.depth > 0):
			s.depth++
			start = true
			s.out.WriteByte(c)
			i++
			continue
		case (c == ']' || c == '}') && s.depth > 0:
			s.depth--
			start = false
		case c == ',' && s.depth > 0:
			start = true
		case c == ':' && (len(rest) == 1 || strings.ContainsRune(" \t\r\n", rune(rest[1]))):
			start = true
		default:
			start = false
		}
		s.out.WriteByte(c)
		i++
	}
}

// secretBefore is a key of a secret, right before its value.
var secretBefore = regexp.MustCompile(`(password|secret|mac_key)["']?\s*:\s*$`)

// plain copies the plain value that starts there in a line, in quotes if it is a
// trap, and returns its length. What may be a secret is not shown.
func (s *scanner) plain(no int, line string, at int) int {
	rest, end, braces := line[at:], 0, false
	for end < len(rest) {
		if m := placeholder.FindString(rest[end:]); m != "" {
			braces = braces || s.depth > 0 || end == 0 && m[0] == '{'
			end += len(m)
			continue
		}
		c := rest[end]
		if c == '\n' || c == '\r' || (c == ' ' && (s.depth > 0 || strings.HasPrefix(strings.TrimLeft(rest[end:], " "), "#") || strings.TrimSpace(rest[end:]) == "")) {
			break
		}
		if c == ':' && (end+1 == len(rest) || strings.ContainsRune(" \r\n", rune(rest[end+1]))) {
			break
		}
		if s.depth > 0 && strings.IndexByte(",[]{}", c) >= 0 {
			break
		}
		end++
	}
	if end == 0 {
		end = 1
	}
	value := rest[:end]
	quoted := `"` + value + `"`
	shown := quoted
	if secretBefore.MatchString(line[:at]) && (value[0] != '$' || placeholder.FindString(value) != value) {
		shown = "it"
	}
	switch {
	case value[0] == '*' && !s.anchors[value[1:]]:
		s.trap(no, at+1, "* starts a YAML alias here; write %s in quotes", shown)
	case value[0] == '@' || value[0] == '`':
		s.trap(no, at+1, "%c cannot start a value in YAML; write %s in quotes", value[0], shown)
	case braces:
		s.trap(no, at+1, "{ starts a YAML map here; write %s in quotes", shown)
	default:
		s.out.WriteString(value)
		return end
	}
	if strings.ContainsAny(value, `"\`) {
		s.out.WriteString(value)
		return end
	}
	s.out.WriteString(quoted)
	s.r.inserted = append(s.r.inserted, insertion{line: no, col: at + 1, end: at + 1 + end})
	return end
}

func (s *scanner) trap(line, col int, format string, args ...any) {
	s.found = true
	s.r.report(Problem{Line: line, Col: col, Msg: fmt.Sprintf(format, args...)})
}

// column is where n stands in the file as it was written.
func (r *reader) column(n *yaml.Node) int {
	col := n.Column
	here := slices.DeleteFunc(slices.Clone(r.inserted), func(i insertion) bool { return i.line != n.Line })
	slices.SortFunc(here, func(a, b insertion) int { return cmp.Compare(a.col, b.col) })
	for _, i := range here {
		if i.end < col {
			col -= 2
		}
	}
	return max(1, col)
}
