package proxy

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// The parameters that may come once (P12).
const (
	paramN = iota
	paramLast
	paramDigest
	paramDigestAlgorithm
	paramMount
	paramFrom
	paramNS
	singleParams
)

// singleParam is the place of a parameter that may come once, or -1.
func singleParam(key string) int {
	switch key {
	case "n":
		return paramN
	case "last":
		return paramLast
	case "digest":
		return paramDigest
	case "digest-algorithm":
		return paramDigestAlgorithm
	case "mount":
		return paramMount
	case "from":
		return paramFrom
	case "ns":
		return paramNS
	}
	return -1
}

// readQuery reads the raw query (P12) with a parser of our own, because
// url.ParseQuery goes on after an error and has no say on repetitions. Every
// known parameter is checked wherever it stands; it is kept only where the
// route reads it, and an empty one counts as absent.
func (q *Request) readQuery(raw string) error {
	if len(raw) > maxQuery {
		return refuse(http.StatusRequestURITooLong, "UNSUPPORTED", "the query is too long")
	}
	for i := 0; i < len(raw); i++ {
		if c := raw[i]; c <= ' ' || c > '~' || c == ';' || c == '#' {
			return errQuery()
		}
	}
	var (
		single [singleParams]string
		seen   [singleParams]bool
		types  []string
		tags   []string
	)
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		if err != nil {
			return errQuery()
		}
		if value, err = url.QueryUnescape(value); err != nil {
			return errQuery()
		}
		switch i := singleParam(key); {
		case i >= 0:
			if seen[i] {
				return errQuery()
			}
			single[i], seen[i] = value, true
		case key == "artifactType" && value != "":
			types = append(types, value)
		case key == "tag" && value != "":
			tags = append(tags, value)
		}
	}
	if len(types) > maxRepeats || len(tags) > maxRepeats {
		return errQuery()
	}
	if err := checkParams(&single, types, tags); err != nil {
		return err
	}
	q.keep(&single, types, tags)
	return nil
}

// checkParams checks the form of each value that is there.
func checkParams(single *[singleParams]string, types, tags []string) error {
	n, ok := pageSize(single[paramN])
	if !ok {
		return errQuery()
	}
	single[paramN] = n
	for _, i := range []int{paramDigest, paramMount} {
		if v := single[i]; v != "" && !validDigest(v) {
			return errDigest()
		}
	}
	if v := single[paramFrom]; v != "" && !validName(v) {
		return errName()
	}
	longest := maxParam
	if strings.HasPrefix(single[paramLast], sealedCursor) {
		longest = maxCursor
	}
	if v := single[paramLast]; len(v) > longest || !printable(v) {
		return errQuery()
	}
	if v := single[paramDigestAlgorithm]; len(v) > maxParam || !only(v, lowerAlnum) {
		return errQuery()
	}
	if v := single[paramNS]; len(v) > maxParam || !only(v, hostByte) {
		return errQuery()
	}
	for _, v := range types {
		if len(v) > maxParam || !printable(v) {
			return errQuery()
		}
	}
	for _, v := range tags {
		if !validTag(v) {
			return errQuery()
		}
	}
	return nil
}

// pageSize is n without leading zeros and at most maxPage: a larger page is
// cut rather than refused, as the client goes on at the Link it gets.
func pageSize(n string) (string, bool) {
	if n == "" {
		return "", true
	}
	if !only(n, digit) {
		return "", false
	}
	n = strings.TrimLeft(n, "0")
	if len(n) > len("1000") {
		return strconv.Itoa(maxPage), true
	}
	size, err := strconv.Atoi("0" + n)
	return strconv.Itoa(min(size, maxPage)), err == nil
}

// hostByte reports whether c may stand in host[:port], as ns has it (M01).
func hostByte(c byte) bool {
	return alnum(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']'
}

// keep takes over what the route reads. A mount without from, or from without
// mount, is nothing (P15).
func (q *Request) keep(single *[singleParams]string, types, tags []string) {
	if q.Kind == KindUnknown {
		return
	}
	q.Query.NS = single[paramNS]
	switch q.Kind {
	case KindTags, KindCatalog:
		q.Query.N, q.Query.Last = single[paramN], single[paramLast]
	case KindReferrers:
		q.Query.N, q.Query.Last = single[paramN], single[paramLast]
		q.Query.ArtifactType = types
	case KindManifest:
		if q.Method == http.MethodPut {
			q.Query.Tag = tags
		}
	case KindUploadStart:
		q.Query.Digest, q.Query.DigestAlgorithm = single[paramDigest], single[paramDigestAlgorithm]
		if single[paramMount] != "" && single[paramFrom] != "" {
			q.Mount, q.From = single[paramMount], single[paramFrom]
		}
	case KindUpload:
		if q.Method == http.MethodPut {
			q.Query.Digest = single[paramDigest]
		}
	}
}

// encodeQuery writes the parameters in one fixed order. The mount goes on only
// with a from. An upstream's own next page is asked for as it named it.
func (q *Request) encodeQuery(from, ns string) string {
	if q.Query.Page != "" {
		return q.Query.Page
	}
	var b strings.Builder
	add := func(key, value string) {
		if value == "" {
			return
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(key)
		b.WriteByte('=')
		writeEscaped(&b, value)
	}
	if q.Mount != "" && from != "" {
		add("mount", q.Mount)
		add("from", from)
	}
	add("digest", q.Query.Digest)
	add("digest-algorithm", q.Query.DigestAlgorithm)
	add("n", q.Query.N)
	add("last", q.Query.Last)
	for _, v := range q.Query.ArtifactType {
		add("artifactType", v)
	}
	for _, v := range q.Query.Tag {
		add("tag", v)
	}
	add("ns", ns)
	return b.String()
}

// writeEscaped escapes all that could be read as anything but a letter of the
// value. Slash and colon stay, as clients write names and digests.
func writeEscaped(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case alnum(c), c == '-', c == '.', c == '_', c == '~', c == ':', c == '/':
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}

func errQuery() error {
	return refuse(http.StatusBadRequest, "UNSUPPORTED", "the query has a parameter twice, or one of a form it cannot have")
}
