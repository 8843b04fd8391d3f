package replay

import (
	"bytes"
	"encoding/json"
)

// object walks over the members of one JSON object, as log libraries write
// them: it copies nothing, and what it cannot read ends it. A string without
// escapes is its own bytes.
type object struct {
	b   []byte
	at  int
	bad bool
}

// openObject is the object that begins at the first brace: journals and
// `kubectl logs --prefix` put something in front of a line.
func openObject(line []byte) (object, bool) {
	start := bytes.IndexByte(line, '{')
	if start < 0 {
		return object{}, false
	}
	return object{b: line, at: start + 1}, true
}

// next is the next member; ok is false at the end, and where there is none.
func (o *object) next() (key, value []byte, ok bool) {
	c := byte(0)
	if at := o.at; at+1 < len(o.b) && o.b[at] == ',' && o.b[at+1] == '"' { // as programs write it
		c, o.at = '"', at+1
	} else {
		c = o.skip(',')
	}
	if c == '}' {
		return nil, nil, false
	}
	if c != '"' {
		o.bad = true
		return nil, nil, false
	}
	key = o.text()
	if o.bad || o.skip(0) != ':' {
		o.bad = true
		return nil, nil, false
	}
	o.at++
	value, ok = o.member()
	return key, value, ok
}

// member is the value behind a key and its colon.
func (o *object) member() (value []byte, ok bool) {
	first := o.skip(0)
	start := o.at
	if first == '"' {
		o.text()
	} else {
		o.value()
	}
	if o.bad {
		return nil, false
	}
	return o.b[start:o.at], true
}

// skip goes past white space, and past one comma where that may stand, to what
// it returns; 0 at the end of the line.
func (o *object) skip(comma byte) byte {
	for ; o.at < len(o.b); o.at++ {
		switch c := o.b[o.at]; c {
		case ' ', '\t', '\r', '\n':
		case ',':
			if comma != ',' {
				return c
			}
			comma = 0
		default:
			return c
		}
	}
	return 0
}

// text goes past a string and is what stands between its quotes.
func (o *object) text() []byte {
	start := o.at + 1
	for from := start; ; {
		i := bytes.IndexByte(o.b[from:], '"')
		if i < 0 {
			o.bad = true
			return nil
		}
		end := from + i
		escapes := 0
		for end-1-escapes >= start && o.b[end-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			o.at = end + 1
			return o.b[start:end]
		}
		from = end + 1
	}
}

// value goes past a value of any kind.
func (o *object) value() {
	for depth := 0; o.at < len(o.b); {
		switch o.b[o.at] {
		case '"':
			if o.text(); o.bad {
				return
			}
		case '{', '[':
			depth++
			o.at++
			continue
		case '}', ']':
			if depth == 0 {
				return // the object's own end: there is no value
			}
			depth--
			o.at++
		case ',', ':', ' ':
			o.at++
			continue
		default:
			for o.at < len(o.b) && !endsWord(o.b[o.at]) {
				o.at++
			}
		}
		if depth == 0 {
			return
		}
	}
	o.bad = true
}

func endsWord(c byte) bool {
	switch c {
	case ',', ']', '}', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

// plain is what a JSON string says; of anything else its own text.
func plain(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return value
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return value[1 : len(value)-1]
	}
	return []byte(s)
}

// list are the strings of a JSON array.
func list(value []byte) (out []string) {
	_ = json.Unmarshal(value, &out)
	return out
}
