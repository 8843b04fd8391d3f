package auth

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkUser refuses a name that a certificate, a token or an answer from
// elsewhere gives: one no rule can name, and one that would be read as somebody
// else, with letters that nobody sees or that turn to ASCII in lower case. The
// error goes on from "the token", "the client certificate", ….
func checkUser(name string, caseSensitive bool) error {
	switch {
	case len(name) > MaxUser:
		return fmt.Errorf("names no user: its name is longer than %d bytes", MaxUser)
	case name == "" || !utf8.ValidString(name) || strings.TrimSpace(name) != name || name == "<token>":
		return fmt.Errorf("names no user: nobody can be called %s", shorten(name))
	case strings.EqualFold(name, "anonymous"):
		return fmt.Errorf("is for %q, which is what rules and logs call nobody in particular", name)
	}
	return checkLetters(name, caseSensitive)
}

func checkLetters(name string, caseSensitive bool) error {
	for _, r := range name {
		if unseen(r) || !caseSensitive && r > unicode.MaxASCII && unicode.ToLower(r) <= unicode.MaxASCII {
			return fmt.Errorf("names no user: %s has a letter in it that no name may have", shorten(name))
		}
	}
	return nil
}

// unseen is a letter that is printed as nothing, and U+FFFD, which stands for
// whatever could not be read: two names become one.
func unseen(r rune) bool {
	return !unicode.IsPrint(r) || r == utf8.RuneError || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// checkGroups sorts the groups that a provider gives and leaves doubles out. It
// refuses names that nobody can read, and more than is kept: to leave some out
// could be to leave out whom a rule denies. The error goes on from "the token",
// "the answer".
func checkGroups(groups []string) ([]string, error) {
	if len(groups) == 0 {
		return nil, nil
	}
	all, size := slices.Clone(groups), 0
	slices.Sort(all)
	all = slices.Compact(all)
	for _, name := range all {
		size += len(name) + len(`"",`)
		if name == "" || len(name) > MaxGroupName || !utf8.ValidString(name) || strings.TrimSpace(name) != name ||
			strings.ContainsFunc(name, unseen) {
			return nil, fmt.Errorf("names a group %s, and none can be called that", shorten(name))
		}
	}
	if size > MaxGroupBytes {
		return nil, fmt.Errorf("names %d groups of %d bytes together, and %d is the most", len(all), size, MaxGroupBytes)
	}
	return all, nil
}
