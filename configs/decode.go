package configs

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/regward/regward/auth"
)

// reader turns one document into a Config and collects what is wrong with it.
//
// It walks the yaml.Node tree itself: yaml.v3 would name Go types instead of
// keys, forget lines in UnmarshalText and KnownFields in nested decodes.
type reader struct {
	file     string
	opts     Options
	src      *source
	problems Problems
	inserted []insertion
	nodes    int
	upstream Upstream // what an upstream starts from
}

// source is where each value came from, by path.
type source struct {
	file   string
	values map[string]origin
	files  []string          // all that the configuration rests on, its own first
	absent []string          // paths of those that are not known, with Static
	secret bool              // a secret is written into the file
	sums   map[string]string // hashes of the files that paths name, as far as they were read
}

// origin is the place of one value.
type origin struct {
	line, col int
	from      string // "default", "environment NAME", "file NAME"; "" is the file itself
	text      string // of file names: as written, before the folder was put in front
	absent    bool   // an unset variable, with Static
}

// watch adds a file that the configuration rests on.
func (s *source) watch(file string) {
	if !slices.Contains(s.files, file) {
		s.files = append(s.files, file)
	}
}

// fault is why a value is refused, before it is known where it stands.
type fault struct{ msg, fix string }

func (f fault) Error() string { return f.msg }

func (r *reader) report(p Problem) {
	p.File = r.file
	r.problems = append(r.problems, p)
}

// at reports an error at a node.
func (r *reader) at(path string, n *yaml.Node, msg, fix string) {
	r.report(Problem{Line: max(1, n.Line), Col: r.column(n), Path: path, Msg: msg, Fix: fix})
}

// note remembers where path stands.
func (r *reader) note(path string, n *yaml.Node, o origin) {
	o.line, o.col = max(1, n.Line), r.column(n)
	r.src.values[path] = o
	if o.absent {
		r.src.absent = append(r.src.absent, path)
	}
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// value decodes n into v. A key without a value is as if it were not there.
func (r *reader) value(path string, n *yaml.Node, v reflect.Value, isFile bool, depth int) {
	if r.nodes++; r.nodes > maxNodes || depth > maxDepth {
		if r.nodes <= maxNodes+1 || depth == maxDepth+1 {
			r.at(path, n, "aliases or nesting without end", "write the values out")
		}
		r.nodes = max(r.nodes, maxNodes+1)
		return
	}
	if n.Kind == yaml.AliasNode {
		r.value(path, n.Alias, v, isFile, depth+1)
		return
	}
	if isNull(n) {
		return
	}
	switch target := v.Addr().Interface().(type) {
	case *Exempt:
		r.words(path, n, depth, func(at, text string) error { return target.add(text) })
		return
	case *auth.Actions:
		r.words(path, n, depth, func(_, word string) error {
			actions, err := auth.ParseActions(word)
			*target |= actions
			return err
		})
		return
	case *map[string][]string:
		r.groups(path, n, target, depth)
		return
	case *map[string]string:
		r.claims(path, n, target)
		return
	}
	switch {
	case v.Kind() == reflect.Pointer && v.Type().Elem() == reflect.TypeFor[Upstream]():
		u := r.upstream
		r.structure(path, n, reflect.ValueOf(&u).Elem(), depth)
		v.Set(reflect.ValueOf(&u))
	case v.Type() == reflect.TypeFor[[]string](), isLeafList(v.Type()):
		r.list(path, n, v, isFile, depth)
	case v.Kind() == reflect.Slice:
		r.items(path, n, v, depth)
	case isLeaf(v):
		r.leaf(path, n, v, isFile, depth)
	default:
		r.structure(path, n, v, depth)
	}
}

// structure decodes a map of known keys.
func (r *reader) structure(path string, n *yaml.Node, v reflect.Value, depth int) {
	if n.Kind == yaml.ScalarNode && v.Type() == reflect.TypeFor[Upstream]() {
		r.note(path, n, origin{})
		url, _ := fieldOf(v, "url")
		r.leaf(join(path, "url"), n, url.value, false, depth)
		return
	}
	if n.Kind == yaml.SequenceNode && path == "upstream" {
		r.note(path, n, origin{})
		r.at(path, n, "wants one upstream; got a list", "write upstreams: for several")
		return
	}
	if n.Kind != yaml.MappingNode {
		r.wrong(path, n, "a map of keys: "+strings.Join(keysOf(v.Type()), ", "))
		return
	}
	r.note(path, n, origin{})
	if where := v.FieldByName("Where"); where.IsValid() {
		where.SetString(fmt.Sprintf("%s at %s:%d", path, filepath.Base(r.file), n.Line))
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		name := key.Value
		if key.Kind != yaml.ScalarNode {
			r.at(path, key, "a key must be a word", "")
			continue
		}
		if line, twice := first[name]; twice {
			r.at("", key, fmt.Sprintf("duplicate key %q%s; it is on line %d already", name, inside(path), line), "")
			continue
		}
		first[name] = key.Line
		sub := join(path, name)
		field, known := fieldOf(v, name)
		switch {
		case known && isNull(val) && swallowed(key.LineComment):
			text := fmt.Sprintf("%q", clip(key.LineComment))
			if secretPath(sub) {
				text = "it"
			}
			r.at(sub, val, "# starts a YAML comment here", "write "+text+" in quotes; for a comment, a space behind the #")
		case known:
			if val.Kind == yaml.ScalarNode || val.Kind == yaml.AliasNode || !isNull(val) {
				r.value(sub, val, field.value, field.isFile, depth+1)
			}
			if _, noted := r.src.values[sub]; !noted && !isNull(val) {
				r.note(sub, val, origin{})
			}
		default:
			r.unknown(path, key, keysOf(v.Type()))
		}
	}
}

// swallowed reports whether a comment looks like a value that was not quoted:
// `contact: #platform-help`.
func swallowed(comment string) bool {
	return len(comment) > 1 && comment[1] != ' ' && comment[1] != '#' && !strings.Contains(comment, "\n")
}

// unknown reports a key that does not exist, with the nearest that does.
func (r *reader) unknown(path string, key *yaml.Node, known []string) {
	msg, fix := fmt.Sprintf("unknown key %q%s", clip(key.Value), inside(path)), ""
	if best := Nearest(key.Value, known); best != "" {
		msg += fmt.Sprintf("; did you mean %q?", best)
		// It is not missing as well: one mistake, one report.
		r.note(join(path, best), key, origin{absent: true})
	} else if home := homeOf(key.Value); home != "" && home != path && (home != "redis" || path == "") { // its keys have names of everyday use
		msg += fmt.Sprintf("; it belongs in %s", home)
	} else if path != "" {
		fix = "known here: " + strings.Join(known, ", ")
	}
	r.at("", key, msg, fix)
}

// items decodes a list of maps, or a single one.
func (r *reader) items(path string, n *yaml.Node, v reflect.Value, depth int) {
	r.note(path, n, origin{})
	nodes := n.Content
	if n.Kind != yaml.SequenceNode {
		nodes = []*yaml.Node{n}
	}
	list := reflect.MakeSlice(v.Type(), 0, len(nodes))
	for i, item := range nodes {
		one := reflect.New(v.Type().Elem()).Elem()
		if one.Type() == reflect.TypeFor[Upstream]() {
			one.Set(reflect.ValueOf(r.upstream))
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		if isNull(item) {
			r.at(at, item, "an entry without content", "")
		} else {
			r.value(at, item, one, false, depth+1)
		}
		list = reflect.Append(list, one) // bad ones too: what follows keeps its index
	}
	v.Set(list)
}

// list decodes a list of plain values, or a single one without brackets.
func (r *reader) list(path string, n *yaml.Node, v reflect.Value, isFile bool, depth int) {
	list := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	r.each(path, n, depth, func(at string, item *yaml.Node, depth int) {
		one := reflect.New(v.Type().Elem()).Elem()
		if r.leaf(at, item, one, isFile, depth) {
			list = reflect.Append(list, one)
		}
	})
	v.Set(list)
}

// words hands each plain value of a list, or a single one, to take.
func (r *reader) words(path string, n *yaml.Node, depth int, take func(at, text string) error) {
	r.each(path, n, depth, func(at string, item *yaml.Node, _ int) {
		text, ok := r.text(at, item)
		if !ok {
			return
		}
		if err := take(at, text); err != nil {
			r.refuse(at, item, err)
		}
	})
}

// each visits the entries of a list of plain values, or a single one.
func (r *reader) each(path string, n *yaml.Node, depth int, visit func(at string, item *yaml.Node, depth int)) {
	if n.Kind != yaml.SequenceNode {
		visit(path, n, depth)
		return
	}
	r.note(path, n, origin{})
	for i, item := range n.Content {
		if r.nodes++; r.nodes > maxNodes {
			return
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		if item.Kind == yaml.AliasNode {
			item = item.Alias
		}
		if isNull(item) {
			r.at(at, item, "an entry without content", "")
			continue
		}
		visit(at, item, depth+1)
	}
}

// groups decodes a map of lists of words.
func (r *reader) groups(path string, n *yaml.Node, target *map[string][]string, depth int) {
	if n.Kind != yaml.MappingNode {
		r.wrong(path, n, "a map of group names to users: coolteam: [ann, bob]")
		return
	}
	r.note(path, n, origin{})
	out := map[string][]string{}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			r.at(path, key, "a group's name must be a word", "")
			continue
		}
		at := join(path, key.Value)
		if line, twice := lines[key.Value]; twice {
			r.at("", key, fmt.Sprintf("duplicate key %q%s; it is on line %d already", clip(key.Value), inside(path), line), "")
			continue
		}
		lines[key.Value] = key.Line
		if val.Kind == yaml.AliasNode {
			val = val.Alias
		}
		users := []string{}
		if !isNull(val) {
			r.words(at, val, depth, func(_, user string) error {
				users = append(users, user)
				return checkName("user", user)
			})
		}
		if err := checkName("group", key.Value); err != nil {
			r.refuse(path, key, err)
		}
		r.note(at, key, origin{})
		out[key.Value] = users
	}
	*target = out
}

// claims decodes a map of words to words.
func (r *reader) claims(path string, n *yaml.Node, target *map[string]string) {
	if n.Kind != yaml.MappingNode {
		r.wrong(path, n, "a map of claims to what they must be: {repository_owner: acme}")
		return
	}
	r.note(path, n, origin{})
	*target = map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		if _, twice := (*target)[key.Value]; twice || key.Kind != yaml.ScalarNode || key.Value == "" {
			r.at(path, key, "a claim's name is a word, each of them there once", "")
			continue
		}
		if isNull(val) {
			r.at(at, key, "must be what?", "write the value that tokens have, "+key.Value+": acme")
			continue
		}
		text, ok := r.text(at, val)
		if !ok {
			continue
		}
		if err := checkText(text); err != nil {
			r.refuse(at, val, err)
			continue
		}
		r.note(at, key, origin{})
		(*target)[key.Value] = text
	}
}

// text is the expanded text of a plain value; false means that there is none
// and that the reason was reported.
func (r *reader) text(path string, n *yaml.Node) (string, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		r.wrong(path, n, "one value")
		return "", false
	}
	e, err := r.expand(n.Value)
	if err != nil {
		r.refuse(path, n, err)
		return "", false
	}
	r.note(path, n, origin{from: e.from, absent: e.absent != ""})
	if e.absent != "" {
		r.report(Problem{Severity: Note, Line: n.Line, Col: r.column(n), Path: path, Msg: "environment variable " + e.absent + " is not set here; the value was not checked"})
		return "", false
	}
	return e.text, true
}

// leaf decodes one plain value into v and reports whether it was good.
func (r *reader) leaf(path string, n *yaml.Node, v reflect.Value, isFile bool, _ int) bool {
	text, ok := r.text(path, n)
	if !ok {
		return false
	}
	if isFile && text != "" && !filepath.IsAbs(text) {
		o := r.src.values[path]
		o.text = text
		r.src.values[path] = o
		text = filepath.Join(r.opts.Dir, text)
	}
	if err := parseLeaf(text, v); err != nil {
		r.refuse(path, n, err)
		return false
	}
	if _, secret := v.Interface().(Secret); secret && text != "" && r.src.values[path].from == "" {
		r.src.secret = true
		r.report(Problem{
			Severity: Warning, Line: n.Line, Col: r.column(n), Path: path,
			Msg: "a secret is written into the file", Fix: "write ${NAME} and set NAME, or NAME_FILE, in the environment",
		})
	}
	return true
}

// refuse reports err, in whatever form it says what is wrong and what to do.
func (r *reader) refuse(path string, n *yaml.Node, err error) {
	msg, fix := explain(err)
	r.at(path, n, msg, fix)
}

// wrong reports a value of the wrong shape, and the braces and stars that YAML
// read in its own way.
func (r *reader) wrong(path string, n *yaml.Node, want string) {
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 && len(n.Content) == 2 && isNull(n.Content[1]) {
		text := fmt.Sprintf("%q", "{"+n.Content[0].Value+"}")
		if secretPath(path) {
			text = "it"
		}
		r.at("", n, "{ starts a YAML map here; write "+text+" in quotes", "")
		return
	}
	got := "a list"
	switch n.Kind {
	case yaml.MappingNode:
		got = "a map"
	case yaml.ScalarNode:
		got = fmt.Sprintf("%q", clip(n.Value))
		if secretPath(path) {
			got = "one value"
		}
	}
	r.at(path, n, "wants "+want+"; got "+got, "")
}

// secretPath says whether a value of the wrong shape at path may hold secrets.
func secretPath(path string) bool {
	return slices.ContainsFunc([]string{"password", "secret", "mac_key"}, func(end string) bool { return strings.HasSuffix(path, end) })
}

// explain takes an error apart into what is wrong and what to write.
func explain(err error) (msg, fix string) {
	var f fault
	if errors.As(err, &f) {
		return f.msg, f.fix
	}
	if msg, fix, ok := syntax(err); ok {
		return msg, fix
	}
	return err.Error(), ""
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func inside(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

// clip keeps messages short whatever was written.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
