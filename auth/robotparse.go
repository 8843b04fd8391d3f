package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// robotKeys are those of one entry, in the order they are written.
func robotKeys() []string {
	return []string{"name", "owner", "repositories", "allow", "from", "expires", "hashes"}
}

// ParseRobots reads the file of robots:
//
//	robots:
//	  - name: ci                         # logs in as robot-ci
//	    owner: coolteam
//	    repositories: ["coolteam/**"]
//	    allow: [pull, push]
//	    from: [10.0.0.0/8]
//	    expires: 2027-02-20T15:00:00Z
//	    hashes:
//	      - {sha256: 2c26…7ae}
//	      - {sha256: 9f86…a08, until: 2026-11-23T15:00:00Z}
//
// All that is wrong with it is reported at once as LineErrors, never with a
// secret. Nothing in it is expanded, and aliases are refused.
func ParseRobots(file string, data []byte) (*RobotFile, error) {
	if len(data) > MaxTokensFile {
		return nil, fmt.Errorf("%s: longer than %d bytes", file, MaxTokensFile)
	}
	f, r := &RobotFile{Name: file, Sum: sha256.Sum256(data), byName: map[string]int{}}, &robotReader{file: file}
	if at := findRobotSecret(data); at >= 0 {
		r.add(1+bytes.Count(data[:at], []byte("\n")), 0, "a secret is written here, and known to all who can read this file", "take it out, and rotate that robot: the file has hashes only")
		return nil, r.bad // the rest may quote it
	}
	root := r.tree(data)
	if root != nil {
		r.root(root, f)
	}
	if len(r.bad) > 0 {
		return nil, r.bad
	}
	return f, nil
}

// robotReader collects what is wrong.
type robotReader struct {
	file   string
	bad    LineErrors
	hashes map[RobotHash]int // to the line of its robot
}

func (r *robotReader) add(line, col int, msg, fix string) {
	if len(r.bad) < MaxLineErrors {
		r.bad = append(r.bad, &LineError{File: r.file, Line: max(1, line), Col: col, Msg: msg, Fix: fix})
	}
}

func (r *robotReader) at(n *yaml.Node, msg, fix string) { r.add(n.Line, n.Column, msg, fix) }

func (r *robotReader) wrong(n *yaml.Node, err error) {
	msg, fix := asSyntax(err)
	r.at(n, msg, fix)
}

// tree is the root of the one document, nil if there is none or it cannot be
// read.
func (r *robotReader) tree(data []byte) *yaml.Node {
	doc, err := decodeRobots(data)
	if err != nil {
		line, msg := yamlProblem(err)
		r.add(line, 0, msg, "is it still being written?")
		return nil
	}
	if doc == nil || len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

// decodeRobots is the document, nil if there is none.
func decodeRobots(data []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	if err := d.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one document")
	}
	return &doc, nil
}

// yamlProblem takes the line out of what the library says.
func yamlProblem(err error) (line int, msg string) {
	msg = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := regexp.MustCompile(`(?s)^line (\d+): (.*)$`).FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1])
		msg = m[2]
	}
	return line, strings.ReplaceAll(msg, "\n", " ")
}

func (r *robotReader) root(n *yaml.Node, f *RobotFile) {
	if empty(n) {
		return
	}
	r.hashes = map[RobotHash]int{}
	for key, val := range r.keys(n, "the file", []string{"robots"}) {
		switch {
		case key != "robots" || empty(val):
		case val.Kind != yaml.SequenceNode:
			r.at(val, "robots wants a list", "write - name: ci below it")
		case len(val.Content) > MaxRobots:
			r.at(val, fmt.Sprintf("%d robots; %d are the most", len(val.Content), MaxRobots), "take those out that have expired")
		default:
			for _, item := range val.Content {
				r.robot(item, f)
			}
		}
	}
}

func empty(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// keys are the known keys of a map with their values, each once.
func (r *robotReader) keys(n *yaml.Node, of string, known []string) func(yield func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		if n.Kind != yaml.MappingNode {
			fix := ""
			if n.Kind == yaml.SequenceNode && len(known) == 1 {
				fix = "write " + known[0] + ": above the first entry"
			}
			r.at(n, of+" wants keys and values: "+strings.Join(known, ", "), fix)
			return
		}
		var seen []string
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, val := n.Content[i], n.Content[i+1]
			switch {
			case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
				r.at(key, fmt.Sprintf("unknown key %s", shorten(key.Value)), "write one of "+strings.Join(known, ", "))
			case slices.Contains(seen, key.Value):
				r.at(key, fmt.Sprintf("%s is there twice", key.Value), "leave one of the two out")
			case val.Kind == yaml.AliasNode:
				r.at(val, "an alias", "write the value out")
			default:
				seen = append(seen, key.Value)
				if !yield(key.Value, val) {
					return
				}
			}
		}
	}
}

func (r *robotReader) robot(n *yaml.Node, f *RobotFile) {
	one, before := Robot{Line: n.Line}, len(r.bad)
	given := map[string]*yaml.Node{}
	for key, val := range r.keys(n, "a robot", robotKeys()) {
		if empty(val) {
			continue
		}
		given[key] = val
		switch key {
		case "name":
			r.name(val, &one, f)
		case "owner":
			one.Owner = r.text(val)
			if len(one.Owner) > MaxUser || hasControl(one.Owner) {
				r.at(val, "owner is no name", "write whom to ask, in one short line")
			}
		case "repositories":
			one.Repositories = list(r, val, ParsePattern, CheckRobotPattern)
		case "allow":
			for _, a := range list(r, val, ParseActions, nil) {
				one.Allow |= a
			}
		case "from":
			one.From = list(r, val, ParseNetwork, nil)
		case "expires":
			one.Expires = r.time(val)
		case "hashes":
			r.secrets(val, &one)
		}
	}
	if len(r.bad) > before {
		return
	}
	for _, need := range []struct{ key, fix string }{
		{"name", "write name: ci; it logs in as robot-ci"},
		{"repositories", `write repositories: ["team/**"]`},
		{"allow", "write allow: [pull]"},
		{"hashes", "regward token create --print writes an entry"},
	} {
		if given[need.key] == nil {
			r.at(n, fmt.Sprintf("a robot without %s", need.key), need.fix)
		}
	}
	if len(r.bad) == before {
		f.byName[one.Name] = len(f.Robots)
		f.Robots = append(f.Robots, one)
	}
}

func (r *robotReader) name(n *yaml.Node, one *Robot, f *RobotFile) {
	one.Name = r.text(n)
	if err := CheckRobotName(one.Name); err != nil {
		r.wrong(n, err)
	} else if i, twice := f.byName[one.Name]; twice {
		r.at(n, fmt.Sprintf("robot %s is in line %d already", one.Name, f.Robots[i].Line), "keep one of the two")
	}
}

// text is a scalar as it is written: what YAML takes for a number is a name as
// well.
func (r *robotReader) text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode {
		r.at(n, "one word is wanted here", "")
		return ""
	}
	return n.Value
}

// list reads a list, or a single value without brackets.
func list[T any](r *robotReader, n *yaml.Node, parse func(string) (T, error), check func(T) error) (all []T) {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) == 0 {
		r.at(n, "an empty list", "leave the key out, or write something into it")
	}
	for _, item := range items {
		if item.Kind != yaml.ScalarNode || empty(item) {
			r.at(item, "one word is wanted here", `quote what begins with *: "**"`)
			continue
		}
		v, err := parse(item.Value)
		if err == nil && check != nil {
			err = check(v)
		}
		if err != nil {
			r.wrong(item, err)
			continue
		}
		all = append(all, v)
	}
	return all
}

func (r *robotReader) time(n *yaml.Node) time.Time {
	text := r.text(n)
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1970 {
			return t.UTC()
		}
	}
	r.at(n, fmt.Sprintf("%s is no time", shorten(text)), "write it like 2027-02-20T15:00:00Z, or 2027-02-20")
	return time.Time{}
}

func (r *robotReader) secrets(n *yaml.Node, one *Robot) {
	switch {
	case n.Kind != yaml.SequenceNode || len(n.Content) == 0:
		r.at(n, "hashes wants a list", "write - {sha256: ...}; regward token create --print writes one")
		return
	case len(n.Content) > MaxRobotSecrets:
		r.at(n, fmt.Sprintf("%d hashes; one is wanted, or two while the robot is rotated", len(n.Content)), "take the oldest out")
		return
	}
	stay := 0
	for _, item := range n.Content {
		s, ok := r.secret(item)
		if !ok {
			return
		}
		if line := r.hashes[s.Hash]; line != 0 {
			r.at(item, fmt.Sprintf("the robot in line %d has the same secret", line), "give each a secret of its own: regward token rotate")
			return
		}
		r.hashes[s.Hash] = one.Line
		if s.Until.IsZero() {
			stay++
		}
		one.Secrets = append(one.Secrets, s)
	}
	if stay > 1 {
		r.at(n, "two hashes, and neither ends", "write until: behind the older one")
	}
}

func (r *robotReader) secret(n *yaml.Node) (s RobotSecret, ok bool) {
	before, found := len(r.bad), false
	for key, val := range r.keys(n, "a hash", []string{"sha256", "until"}) {
		if key == "until" {
			s.Until = r.time(val)
			continue
		}
		raw, err := hex.DecodeString(r.text(val))
		if found = err == nil && len(raw) == len(s.Hash); !found {
			r.at(val, "sha256 is no hash of 64 hex digits", "is it cut? regward token create --print writes one")
			continue
		}
		copy(s.Hash[:], raw)
	}
	if len(r.bad) == before && !found {
		r.at(n, "a hash without sha256", "regward token create --print writes one")
	}
	return s, len(r.bad) == before
}

// contains reports whether addr is in one of the networks; all are in none.
func contains(networks []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return len(networks) == 0 || slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}
