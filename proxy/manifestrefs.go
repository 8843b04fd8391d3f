package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const (
	maxReferences = 10_000 // digests in one manifest
	maxMembers    = 100    // of a manifest or a descriptor
)

// references are the digests a manifest names: what has to be there with it,
// and what may be had through its repository. A descriptor with urls is not
// among them, nor is the subject: their content may be anywhere.
type references struct {
	Blobs     []string // config, layers, blobs (of ORAS artifacts), fsLayers (of schema 1)
	Manifests []string // the children of an index or manifest list
}

// The members that are read; all others are passed over.
var (
	manifestMembers   = []string{"config", "layers", "blobs", "manifests", "fsLayers"}
	descriptorMembers = []string{"digest", "urls"}
	fsLayerMembers    = []string{"blobSum"}
)

// readManifest reads what a manifest names, whatever its media type says. What
// is pushed is judged by it and what is pulled is believed by it, so nothing
// can be one thing to the first and another to the second. What might be read
// in two ways is an error: a member that comes twice or in other letters, bytes
// after the end. More than anybody needs is one too.
func readManifest(body []byte) (refs references, err error) {
	if !json.Valid(body) {
		return references{}, errors.New("not JSON")
	}
	err = members(body, manifestMembers, func(key string, value []byte) error {
		to, names := &refs.Blobs, descriptorMembers
		switch key {
		case "config":
			return refs.add(to, value, names)
		case "manifests":
			to = &refs.Manifests
		case "fsLayers":
			names = fsLayerMembers
		}
		return elements(value, func(one []byte) error { return refs.add(to, one, names) })
	})
	if err != nil {
		return references{}, err
	}
	return refs, nil
}

// add keeps the digest of one descriptor. One without a digest names nothing.
func (refs *references) add(to *[]string, descriptor []byte, names []string) error {
	var named string
	elsewhere := false
	err := members(descriptor, names, func(key string, value []byte) (err error) {
		if key == "urls" {
			return elements(value, func([]byte) error {
				elsewhere = true
				return nil
			})
		}
		named, err = unquote(value)
		return err
	})
	switch {
	case err != nil:
		return err
	case named == "" || elsewhere:
		return nil
	case !validDigest(named):
		return fmt.Errorf("%q is no digest", short(named))
	case len(refs.Blobs)+len(refs.Manifests) == maxReferences:
		return fmt.Errorf("more than %d digests", maxReferences)
	}
	*to = append(*to, named)
	return nil
}

// members calls f with each member of an object that is in names and not null.
func members(object []byte, names []string, f func(key string, value []byte) error) error {
	c := cursor{b: object}
	if !c.open('{') {
		return errors.New("not a JSON object")
	}
	var seen uint
	for n := 0; c.more('}'); n++ {
		if n == maxMembers {
			return fmt.Errorf("more than %d members", maxMembers)
		}
		quoted := c.value()
		c.more('}') // past the colon
		value := c.value()
		key := quoted[1 : len(quoted)-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			plain, err := unquote(quoted)
			if err != nil {
				return err
			}
			key = []byte(plain)
		}
		at := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, string(key)) })
		if at < 0 {
			continue
		}
		if names[at] != string(key) || seen&(1<<at) != 0 {
			return fmt.Errorf("%q comes twice or is spelled otherwise", names[at])
		}
		seen |= 1 << at
		if string(value) == "null" {
			continue
		}
		if err := f(names[at], value); err != nil {
			return err
		}
	}
	return nil
}

// elements calls f with each element of an array.
func elements(array []byte, f func([]byte) error) error {
	c := cursor{b: array}
	if !c.open('[') {
		return errors.New("not an array")
	}
	for n := 0; c.more(']'); n++ {
		if n == maxReferences {
			return fmt.Errorf("more than %d elements", maxReferences)
		}
		if err := f(c.value()); err != nil {
			return err
		}
	}
	return nil
}

// unquote is what a JSON string says; anything else is an error.
func unquote(value []byte) (s string, err error) {
	if value[0] == '"' && bytes.IndexByte(value, '\\') < 0 { // bytes that are no UTF-8 are in no digest
		return string(value[1 : len(value)-1]), nil
	}
	err = json.Unmarshal(value, &s)
	return s, err
}

// cursor walks over JSON that is known to be valid, and copies nothing.
type cursor struct {
	b  []byte
	at int
}

// open goes into an object or array, if this is one.
func (c *cursor) open(bracket byte) bool {
	c.space()
	ok := c.b[c.at] == bracket
	c.at++
	return ok
}

// more goes to the next value, past the comma or colon; false at the end.
func (c *cursor) more(end byte) bool {
	c.space()
	if c.b[c.at] == ',' || c.b[c.at] == ':' {
		c.at++
		c.space()
	}
	return c.b[c.at] != end
}

func (c *cursor) space() {
	for c.b[c.at] == ' ' || c.b[c.at] == '\t' || c.b[c.at] == '\n' || c.b[c.at] == '\r' {
		c.at++
	}
}

// value goes past the value that begins here, and is its text.
func (c *cursor) value() []byte {
	start := c.at
	for depth := 0; ; {
		switch c.b[c.at] {
		case '"':
			c.quoted()
		case '{', '[':
			depth++
			c.at++
		case '}', ']':
			depth--
			c.at++
		default: // a number, a literal, what parts values
			c.at++
			if depth == 0 && !c.atEnd() {
				continue
			}
		}
		if depth == 0 {
			return c.b[start:c.at]
		}
	}
}

// atEnd reports whether a number or a literal is over.
func (c *cursor) atEnd() bool {
	return c.at == len(c.b) || strings.IndexByte(",:]} \t\n\r", c.b[c.at]) >= 0
}

func (c *cursor) quoted() {
	for c.at++; c.b[c.at] != '"'; c.at++ {
		if c.b[c.at] == '\\' {
			c.at++
		}
	}
	c.at++
}
