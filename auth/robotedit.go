package auth

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// robotsHead begins a new file of robots.
const robotsHead = "Robots of regward: hashes of their secrets, and what each may. No secret is in here.\nWritten by `regward token`; entries may also be pasted from `regward token create --print`."

// SetRobot is the file with r in it: a new entry at the end, or, where there is
// one of that name, its expiry and hashes. What others wrote stays; blank lines
// do not, and comments may move.
func SetRobot(file string, data []byte, r Robot) ([]byte, error) {
	return editRobots(file, data, r.Name, func(seq *yaml.Node) error {
		fresh := robotNode(&r)
		old := robotAt(seq, r.Name)
		if old < 0 {
			if len(seq.Content) >= MaxRobots {
				return fmt.Errorf("%s: has %d robots already, which is the most: revoke those that have expired", file, MaxRobots)
			}
			seq.Content = append(seq.Content, fresh)
			return nil
		}
		for _, key := range []string{"expires", "hashes"} {
			setKey(seq.Content[old], key, valueOf(fresh, key))
		}
		return nil
	})
}

// RemoveRobot is the file without a robot.
func RemoveRobot(file string, data []byte, name string) ([]byte, error) {
	return editRobots(file, data, name, func(seq *yaml.Node) error {
		at := robotAt(seq, name)
		if at < 0 {
			return fmt.Errorf("%s: there is no robot %s", file, name)
		}
		seq.Content = slices.Delete(seq.Content, at, at+1)
		return nil
	})
}

// RobotEntry is r as a file has it, to be pasted below `robots:`.
func RobotEntry(r Robot) string {
	text := encodeRobots(&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{robotNode(&r)}})
	return "  " + strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "\n  ") + "\n"
}

// editRobots changes the list of a file that can be read, and looks at what
// comes out before anybody writes it: all robots but the one that is meant must
// be what they were.
func editRobots(file string, data []byte, name string, change func(seq *yaml.Node) error) ([]byte, error) {
	before, err := ParseRobots(file, data)
	if err != nil {
		return nil, err
	}
	doc, err := decodeRobots(data)
	if err != nil {
		return nil, err
	}
	root := robotRoot(&doc)
	seq := valueOf(root, "robots")
	if seq == nil || seq.Kind != yaml.SequenceNode {
		seq = &yaml.Node{Kind: yaml.SequenceNode}
		setKey(root, "robots", seq)
	}
	if err := change(seq); err != nil {
		return nil, err
	}
	seq.Style = 0
	if len(seq.Content) == 0 {
		seq.Style = yaml.FlowStyle
	}
	text := encodeRobots(doc)
	after, err := ParseRobots(file, text)
	if err != nil {
		return nil, fmt.Errorf("not written, as it could not be read afterwards: %w", err)
	}
	if !reflect.DeepEqual(before.others(name), after.others(name)) {
		return nil, fmt.Errorf("%s: not written, as other robots than %s would have changed: edit it by hand, with the entry of regward token create --print", file, name)
	}
	return text, nil
}

// others are all robots but one, without their lines.
func (f *RobotFile) others(name string) []Robot {
	all := []Robot{}
	for _, r := range f.Robots {
		if r.Line = 0; r.Name != name {
			all = append(all, r)
		}
	}
	return all
}

// robotRoot is the map of a document, made where there is none.
func robotRoot(doc **yaml.Node) *yaml.Node {
	if *doc == nil {
		*doc = &yaml.Node{Kind: yaml.DocumentNode, HeadComment: robotsHead}
	}
	if len((*doc).Content) == 0 || empty((*doc).Content[0]) {
		(*doc).Content = []*yaml.Node{{Kind: yaml.MappingNode}}
	}
	return (*doc).Content[0]
}

func encodeRobots(n *yaml.Node) []byte {
	var text bytes.Buffer
	e := yaml.NewEncoder(&text)
	e.SetIndent(2)
	_ = e.Encode(n) // into memory, of nodes that were read or made here
	_ = e.Close()
	return text.Bytes()
}

func robotAt(seq *yaml.Node, name string) int {
	return slices.IndexFunc(seq.Content, func(n *yaml.Node) bool {
		value := valueOf(n, "name")
		return value != nil && value.Value == name
	})
}

func valueOf(m *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

// setKey puts a value into a map; nil takes the key out.
func setKey(m *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value != key {
			continue
		}
		if value == nil {
			m.Content = slices.Delete(m.Content, i, i+2)
		} else {
			m.Content[i+1] = value
		}
		return
	}
	if value != nil {
		m.Content = append(m.Content, word(key), value)
	}
}

// word is a scalar; the library quotes what would be read as something else.
func word(text string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(text)
	return n
}

func row[T any](list []T, text func(T) string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, v := range list {
		n.Content = append(n.Content, word(text(v)))
	}
	return n
}

func moment(t time.Time) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!timestamp", Value: t.UTC().Truncate(time.Second).Format(time.RFC3339)}
}

// robotNode is an entry. The hashes are last, each in one line with the end of
// the older before its hash: a file that is cut anywhere cannot give a robot
// more than it has.
func robotNode(r *Robot) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	setKey(m, "name", word(r.Name))
	if r.Owner != "" {
		setKey(m, "owner", word(r.Owner))
	}
	repositories := row(r.Repositories, Pattern.String)
	for _, n := range repositories.Content {
		n.Style = yaml.DoubleQuotedStyle
	}
	setKey(m, "repositories", repositories)
	setKey(m, "allow", row(r.Allow.words(), func(s string) string { return s }))
	if len(r.From) > 0 {
		setKey(m, "from", row(r.From, netip.Prefix.String))
	}
	if !r.Expires.IsZero() {
		setKey(m, "expires", moment(r.Expires))
	}
	hashes := &yaml.Node{Kind: yaml.SequenceNode}
	for _, s := range r.Secrets {
		one := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		if !s.Until.IsZero() {
			setKey(one, "until", moment(s.Until))
		}
		setKey(one, "sha256", word(s.Hash.String()))
		hashes.Content = append(hashes.Content, one)
	}
	setKey(m, "hashes", hashes)
	return m
}
