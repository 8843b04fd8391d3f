package auth

import (
	"fmt"
	"strings"
)

// TagPattern matches tags: "*" any run of characters, everything else itself. It
// compares with ==. The zero TagPattern matches nothing.
type TagPattern struct{ text string }

// ParseTagPattern reads a pattern. The error is a *SyntaxError.
func ParseTagPattern(text string) (TagPattern, error) {
	switch {
	case text == "":
		return TagPattern{}, &SyntaxError{Msg: "a tag pattern is empty", Fix: `write "*" for every tag, or leave tags out`}
	case len(text) > MaxTag:
		return TagPattern{}, &SyntaxError{Msg: fmt.Sprintf("tag pattern %s is longer than %d bytes", shorten(text), MaxTag)}
	case strings.Contains(text, "**"):
		return TagPattern{}, &SyntaxError{Msg: fmt.Sprintf("tag pattern %q has ** in it: a tag has no parts", text), Fix: fmt.Sprintf("write %q", strings.ReplaceAll(text, "**", "*"))}
	case strings.HasPrefix(text, "sha256:"):
		return TagPattern{}, &SyntaxError{Msg: fmt.Sprintf("%s is a digest, and no tag", shorten(text)), Fix: "leave it out: what names no tag is covered by every allow"}
	case text[0] == '.' || text[0] == '-' || strings.Trim(text, "*"+tagLetters) != "":
		return TagPattern{}, &SyntaxError{Msg: fmt.Sprintf("tag pattern %s can match no tag", shorten(text)), Fix: "tags have letters, digits and . _ -"}
	}
	return TagPattern{text}, nil
}

const tagLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// String is the spelling ParseTagPattern reads.
func (p TagPattern) String() string { return p.text }

// Matches reports whether tag is one of those the pattern means. It does not
// allocate.
func (p TagPattern) Matches(tag string) bool {
	if p.text == "" {
		return false
	}
	pattern, star, mark := p.text, -1, 0
	i, j := 0, 0
	for j < len(tag) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && pattern[i] == tag[j]:
			i++
			j++
		case star >= 0: // let the last star take one letter more
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// Contains reports whether every tag that q matches is one of p's. It may say
// no where that is not certain.
func (p TagPattern) Contains(q TagPattern) bool {
	return q.text != "" && p.Matches(q.text) // a star of q's can only be within one of p's
}

// ValidTag reports whether s can be a tag.
func ValidTag(s string) bool {
	return s != "" && len(s) <= MaxTag && s[0] != '.' && s[0] != '-' && only(s, tagLetters)
}

// UnmarshalText is ParseTagPattern.
func (p *TagPattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParseTagPattern(string(text))
	return err
}

// MarshalText is String.
func (p TagPattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }
