package doctor

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxWords bounds one sentence of a report, in bytes: servers say things in it.
const maxWords = 1200

// maxQuote bounds what is quoted of an answer.
const maxQuote = 160

// minToken is the shortest token that is hidden: a shorter one is no secret, and
// without it the report would have holes.
const minToken = 16

// conceal hides a secret from now on, in each way that servers write it.
func (e *examination) conceal(secret string) {
	e.secrets = append(e.secrets, url.QueryEscape(secret), "***", url.PathEscape(secret), "***")
	if quoted, err := json.Marshal(secret); err == nil {
		e.secrets = append(e.secrets, string(quoted[1:len(quoted)-1]), "***")
	}
	e.secrets = append(e.secrets, secret, "***")
}

// concealLogin hides what is sent to log in.
func (e *examination) concealLogin() {
	if e.o.Password != "" {
		e.conceal(base64.StdEncoding.EncodeToString([]byte(e.o.User + ":" + e.o.Password)))
		e.conceal(e.o.Password)
	}
}

// hide takes everything secret out of a text: a server may echo what it was
// sent.
func (e *examination) hide(s string) string { return strings.NewReplacer(e.secrets...).Replace(s) }

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
