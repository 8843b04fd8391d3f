package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// readObject is a JSON object from outside, its members as they are written. Who
// writes a name twice, in whatever depth, is read differently by different
// programs, and is refused.
func readObject(data []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("is no UTF-8")
	}
	if !json.Valid(data) { // the tokens below alone do not show it
		return nil, errors.New("is no JSON")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := distinct(d, 0); err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil || all == nil {
		return nil, errors.New("is no JSON object")
	}
	return all, nil
}

// distinct reads one value, which is valid JSON.
func distinct(d *json.Decoder, depth int) error {
	if depth > MaxJSONDepth {
		return fmt.Errorf("is nested more than %d deep", MaxJSONDepth)
	}
	token, err := d.Token()
	if err != nil {
		return errors.New("is no JSON")
	}
	open, ok := token.(json.Delim)
	if !ok {
		return nil
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				return errors.New("is no JSON")
			}
			text, _ := name.(string)
			if seen[text] {
				return fmt.Errorf("has %s twice", shorten(text))
			}
			seen[text] = true
		}
		if err := distinct(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token() // what closes it
	return err
}

// textOf is a JSON string, and whether raw is one.
func textOf(raw json.RawMessage) (text string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	return text, json.Unmarshal(raw, &text) == nil
}

// textsOf is a list of strings, or one alone.
func textsOf(raw json.RawMessage) (all []string, ok bool) {
	if text, ok := textOf(raw); ok {
		return []string{text}, true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || list == nil {
		return nil, false
	}
	for _, one := range list {
		text, ok := textOf(one)
		if !ok {
			return nil, false
		}
		all = append(all, text)
	}
	return all, true
}
