package proxy

import "strings"

// The grammar of P02-P04, byte by byte: nothing is folded, trimmed or decoded.

// validName reports whether s is a repository name (P02).
func validName(s string) bool {
	if len(s) > maxName {
		return false
	}
	for {
		component, rest, more := strings.Cut(s, "/")
		if !validComponent(component) {
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
}

// validComponent reports whether s is `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
func validComponent(s string) bool {
	alnum := false // whether the byte before was a letter or a digit
	for i := 0; i < len(s); i++ {
		if lowerAlnum(s[i]) {
			alnum = true
			continue
		}
		if !alnum { // a separator at the start
			return false
		}
		start := i
		for i+1 < len(s) && s[i+1] == s[start] {
			i++
		}
		switch n := i - start + 1; {
		case s[start] == '-':
		case s[start] == '_' && n <= 2:
		case s[start] == '.' && n == 1:
		default:
			return false
		}
		alnum = false
	}
	return alnum
}

// validTag reports whether s is a tag (P03).
func validTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	return only(s, func(c byte) bool { return alnum(c) || c == '_' || c == '.' || c == '-' })
}

// validDigest reports whether s is a digest (P03). Of the algorithms whose
// length is registered the length is checked as well.
func validDigest(s string) bool {
	algorithm, encoded, ok := strings.Cut(s, ":")
	if !ok || len(s) > maxDigest || encoded == "" {
		return false
	}
	switch algorithm {
	case "sha256":
		return len(encoded) == 64 && lowerHex(encoded)
	case "sha512":
		return len(encoded) == 128 && lowerHex(encoded)
	}
	alnumBefore := false
	for i := 0; i < len(algorithm); i++ {
		switch c := algorithm[i]; {
		case lowerAlnum(c):
			alnumBefore = true
		case alnumBefore && (c == '+' || c == '.' || c == '_' || c == '-'):
			alnumBefore = false
		default:
			return false
		}
	}
	if !alnumBefore {
		return false
	}
	return only(encoded, func(c byte) bool { return alnum(c) || c == '=' || c == '_' || c == '-' })
}

// validUploadID reports whether s can be an upload id of ours (P04).
func validUploadID(s string) bool {
	return s != "" && len(s) <= maxUploadID &&
		only(s, func(c byte) bool { return alnum(c) || c == '_' || c == '.' || c == '=' || c == '-' })
}

// only reports whether all bytes of s are of the kind.
func only(s string, kind func(byte) bool) bool {
	for i := 0; i < len(s); i++ {
		if !kind(s[i]) {
			return false
		}
	}
	return true
}

// printable reports whether s is ASCII without control bytes.
func printable(s string) bool { return only(s, func(c byte) bool { return ' ' <= c && c <= '~' }) }

func lowerHex(s string) bool {
	return only(s, func(c byte) bool { return digit(c) || 'a' <= c && c <= 'f' })
}

func lowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || digit(c) }

func alnum(c byte) bool { return lowerAlnum(c) || 'A' <= c && c <= 'Z' }

func digit(c byte) bool { return '0' <= c && c <= '9' }
