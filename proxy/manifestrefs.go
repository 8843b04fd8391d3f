package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	err = members(body, manifestMembers, func(key string, value json.RawMessage) error {
		to, names, digest := &refs.Blobs, descriptorMembers, "digest"
		switch key {
		case "config":
			return refs.add(to, value, names, digest)
		case "manifests":
			to = &refs.Manifests
		case "fsLayers":
			names, digest = fsLayerMembers, "blobSum"
		}
		return elements(value, func(one json.RawMessage) error { return refs.add(to, one, names, digest) })
	})
	if err != nil {
		return references{}, err
	}
	return refs, nil
}

// add keeps the digest of one descriptor. One without a digest names nothing.
func (refs *references) add(to *[]string, descriptor json.RawMessage, names []string, digest string) error {
	var named string
	var elsewhere []json.RawMessage
	err := members(descriptor, names, func(key string, value json.RawMessage) error {
		if key == digest {
			return json.Unmarshal(value, &named)
		}
		return json.Unmarshal(value, &elsewhere)
	})
	switch {
	case err != nil:
		return err
	case named == "" || len(elsewhere) > 0:
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
func members(object []byte, names []string, f func(key string, value json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errors.New("not a JSON object"), err)
	}
	var seen uint
	var value json.RawMessage
	for n := 0; dec.More(); n++ {
		if n == maxMembers {
			return fmt.Errorf("more than %d members", maxMembers)
		}
		t, err := dec.Token()
		if err != nil {
			return err
		}
		if err := dec.Decode(&value); err != nil {
			return err
		}
		key, _ := t.(string)
		at := slices.IndexFunc(names, func(name string) bool { return strings.EqualFold(name, key) })
		if at < 0 {
			continue
		}
		if names[at] != key || seen&(1<<at) != 0 {
			return fmt.Errorf("%q comes twice or is spelled otherwise", names[at])
		}
		seen |= 1 << at
		if string(value) == "null" {
			continue
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return ended(dec)
}

// elements calls f with each element of an array.
func elements(array []byte, f func(json.RawMessage) error) error {
	dec := json.NewDecoder(bytes.NewReader(array))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return errors.Join(errors.New("not an array"), err)
	}
	var one json.RawMessage
	for n := 0; dec.More(); n++ {
		if n == maxReferences {
			return fmt.Errorf("more than %d descriptors", maxReferences)
		}
		if err := dec.Decode(&one); err != nil {
			return err
		}
		if err := f(one); err != nil {
			return err
		}
	}
	return ended(dec)
}

// ended reads the bracket that closes what dec is in, and that nothing follows.
func ended(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the end")
	}
	return nil
}
