package doctor

import (
	"encoding/base64"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxWords bounds one sentence of a report, in bytes: servers say things in it.
const maxWords = 1200

// maxQuote bounds what is quoted of an answer.
const maxQuote = 160

// secretsOf makes a function that takes everything secret out of a text: a
// server may echo what it was sent.
func secretsOf(o Options) func(string) string {
	if o.Password == "" {
		return func(s string) string { return s }
	}
	var pairs []string
	for _, secret := range []string{
		base64.StdEncoding.EncodeToString([]byte(o.User + ":" + o.Password)),
		url.QueryEscape(o.Password),
		url.PathEscape(o.Password),
		o.Password,
	} {
		pairs = append(pairs, secret, "***")
	}
	return strings.NewReplacer(pairs...).Replace
}

// clean makes a text fit for one line of a terminal or a log.
func (e *examination) clean(s string) string {
	s = e.hide(s)
	if len(s) > maxWords {
		s = cut(s, maxWords)
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// cut shortens s to at most n bytes and an ellipsis, between runes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// quote is what a server said, in one line.
func (e *examination) quote(s string) string {
	return `"` + cut(strings.Join(strings.Fields(e.hide(s)), " "), maxQuote) + `"`
}

// place is a URL without its query, which may hold what is nobody else's.
func place(u *url.URL) string {
	bare := *u
	bare.User, bare.RawQuery, bare.Fragment = nil, "", ""
	return bare.String()
}
