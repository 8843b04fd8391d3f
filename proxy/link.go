package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// mapLink writes the place of a list's next page as the client names it (R15).
// Of the upstream's link only the query is used: its host and path may be any.
func (x *exchange) mapLink(h http.Header, resp *http.Response) error {
	if x.req.Kind != KindTags && x.req.Kind != KindReferrers || resp.StatusCode != http.StatusOK {
		return nil
	}
	next, err := nextQuery(resp.Header)
	if err != nil {
		return broken(err)
	}
	if _, asked := x.req.upstream("", x.name, x.from); next == "" || sameQuery(next, asked) {
		return nil // a page that leads to itself would never end
	}
	if next, err = x.clientPage(next); err != nil {
		return err
	}
	h["Link"] = []string{linkTo(x.req.Path(), next)}
	return nil
}

func linkTo(path, query string) string { return "<" + path + "?" + query + `>; rel="next"` }

// nextQuery is the raw query of an answer's link to its next page, "" if there
// is none. A link that cannot be read is an error: without it a list would
// seem to be at its end.
func nextQuery(h http.Header) (string, error) {
	seen := 0
	for _, field := range h["Link"] {
		for field != "" {
			if seen++; seen > maxLinks {
				return "", errors.New("the answer has too many links")
			}
			var target, rel string
			target, rel, field = cutLink(field)
			if !isNext(rel) {
				continue
			}
			u, err := url.Parse(target)
			if err != nil || len(u.RawQuery) > maxQuery || !plain(u.RawQuery) {
				return "", fmt.Errorf("the link to the next page cannot be read: %.80q", target)
			}
			return u.RawQuery, nil
		}
	}
	return "", nil
}

// isNext reports whether one of the relations is "next".
func isNext(rel string) bool {
	for word := range strings.FieldsSeq(rel) {
		if strings.EqualFold(word, "next") {
			return true
		}
	}
	return false
}

// cutLink takes the first link off a Link field (RFC 8288, 3): its target, its
// relations, and what follows. It is total: what is no link has no relations,
// and something is always taken off.
func cutLink(field string) (target, rel, rest string) {
	field = strings.TrimLeft(field, " \t,")
	if !strings.HasPrefix(field, "<") {
		_, rest, _ = strings.Cut(field, ",")
		return "", "", rest
	}
	target, rest, closed := strings.Cut(field[1:], ">")
	if !closed {
		return "", "", ""
	}
	for first := true; ; {
		rest = strings.TrimLeft(rest, " \t")
		if !strings.HasPrefix(rest, ";") {
			break
		}
		var name, value string
		name, value, rest = cutLinkParam(rest[1:])
		if first && strings.EqualFold(name, "rel") { // only the first counts
			rel, first = value, false
		}
	}
	_, rest, _ = strings.Cut(rest, ",")
	return target, rel, rest
}

// cutLinkParam takes a link's parameter off: name, or name=value, or name="value".
func cutLinkParam(s string) (name, value, rest string) {
	i := strings.IndexAny(s, "=;,")
	if i < 0 {
		return strings.Trim(s, " \t"), "", ""
	}
	name, rest = strings.Trim(s[:i], " \t"), s[i:]
	if rest[0] != '=' {
		return name, "", rest
	}
	rest = strings.TrimLeft(rest[1:], " \t")
	if !strings.HasPrefix(rest, `"`) {
		if i = strings.IndexAny(rest, ";,"); i < 0 {
			i = len(rest)
		}
		return name, strings.Trim(rest[:i], " \t"), rest[i:]
	}
	var b strings.Builder
	for i = 1; i < len(rest) && rest[i] != '"'; i++ {
		if rest[i] == '\\' && i+1 < len(rest) {
			i++
		}
		b.WriteByte(rest[i])
	}
	return name, b.String(), rest[min(i+1, len(rest)):]
}

// sameQuery reports whether two raw queries ask for the same.
func sameQuery(a, b string) bool {
	one, err := url.ParseQuery(a)
	two, wrong := url.ParseQuery(b)
	if err != nil || wrong != nil {
		return a == b
	}
	return one.Encode() == two.Encode()
}
