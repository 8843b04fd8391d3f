package auth

import "unicode"

// ValidRepository reports whether name is a repository name in the grammar of
// the distribution spec (P02), at most 255 bytes long.
func ValidRepository(name string) bool {
	if len(name) > MaxRepository {
		return false
	}
	for start := 0; ; {
		end := partEnd(name, start)
		if !validPart(name[start:end]) {
			return false
		}
		if end == len(name) {
			return true
		}
		start = end + 1
	}
}

// validPart: [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, in one pass without a regexp:
// this stands on the path of every request.
func validPart(s string) bool {
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		if alnum(c) {
			continue
		}
		prev := s[i-1]
		switch c {
		case '-':
			if !alnum(prev) && prev != '-' {
				return false
			}
		case '.':
			if !alnum(prev) {
				return false
			}
		case '_':
			// One or two in a row; i >= 2 whenever prev is no letter or digit.
			if !alnum(prev) && (prev != '_' || s[i-2] == '_') {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func alnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// partEnd is where the part that begins at start ends.
func partEnd(s string, start int) int {
	for i := start; i < len(s); i++ {
		if s[i] == '/' {
			return i
		}
	}
	return len(s)
}

// hasControl reports control characters, C1 included: they hide in terminals
// and end strings early elsewhere.
func hasControl(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}
