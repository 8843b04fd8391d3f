package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// slowReadManifest is readManifest by the standard library's decoder, for
// comparison.
func slowReadManifest(body []byte) (refs references, err error) {
	err = slowMembers(body, manifestMembers, func(key string, value json.RawMessage) error {
		to, names, digest := &refs.Blobs, descriptorMembers, "digest"
		switch key {
		case "config":
			return slowAdd(&refs, to, value, names, digest)
		case "manifests":
			to = &refs.Manifests
		case "fsLayers":
			names, digest = fsLayerMembers, "blobSum"
		}
		return slowElements(value, func(one json.RawMessage) error { return slowAdd(&refs, to, one, names, digest) })
	})
	if err != nil {
		return references{}, err
	}
	return refs, nil
}

// slowAdd keeps the digest of one descriptor.
func slowAdd(refs *references, to *[]string, descriptor json.RawMessage, names []string, digest string) error {
	var named string
	var elsewhere []json.RawMessage
	err := slowMembers(descriptor, names, func(key string, value json.RawMessage) error {
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

func slowMembers(object []byte, names []string, f func(key string, value json.RawMessage) error) error {
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
	return slowEnded(dec)
}

func slowElements(array []byte, f func(json.RawMessage) error) error {
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
	return slowEnded(dec)
}

func slowEnded(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the end")
	}
	return nil
}

func FuzzReadManifest(f *testing.F) {
	for _, seed := range []string{string(image), string(index), `{"layers":[{"digest":"sha256:x"}]}`, `{"config":{"digest":"` + layerDigest + `","urls":["x"]}}`,
		`{"fsLayers":[{"blobSum":"` + layerDigest + `"}]}`, `{"layers":[{}],"Layers":[]}`, `{"x":[[[]]]}`, `{} `, `[`, `{"blobs":null}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		refs, err := readManifest(b)
		slow, slowErr := slowReadManifest(b)
		if diff := cmp.Diff(slow, refs); diff != "" || (err == nil) != (slowErr == nil) {
			t.Fatalf("%q: %v, slowly %v\n%s", b, err, slowErr, diff)
		}
		if err != nil {
			return
		}
		if !json.Valid(b) || bytes.TrimSpace(b)[0] != '{' {
			t.Fatalf("%q is taken for an object", b)
		}
		for _, d := range slices.Concat(refs.Blobs, refs.Manifests) {
			if !validDigest(d) {
				t.Fatalf("%q of %q", d, b)
			}
		}
		// What a client in Go reads, if it reads one thing only.
		var other struct {
			Config   struct{ Digest string }
			Layers   []struct{ Digest string }
			Blobs    []struct{ Digest string }
			FSLayers []struct{ BlobSum string } `json:"fsLayers"`
		}
		if json.Unmarshal(b, &other) != nil || bytes.Contains(b, []byte("urls")) || bytes.Contains(b, []byte(`\u`)) {
			return
		}
		var names []string
		for _, l := range slices.Concat(other.Layers, other.Blobs) {
			names = append(names, l.Digest)
		}
		for _, l := range other.FSLayers {
			names = append(names, l.BlobSum)
		}
		for _, d := range append(names, other.Config.Digest) {
			if d != "" && !slices.Contains(refs.Blobs, d) {
				t.Fatalf("%q is read by others in %q", d, b)
			}
		}
	})
}
