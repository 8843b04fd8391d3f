package replay

import (
	"bytes"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// combinedLine reads a line of nginx' combined log, or of Apache's, whatever
// follows the fields it knows:
//
//	192.0.2.7 - ann [22/Nov/2026:05:38:32 +0000] "GET /v2/ HTTP/1.1" 200 2 "-" "curl/8.0"
func (p *parser) combinedLine(line []byte, e *Entry) verdict {
	open := stamp(line)
	if open < 0 {
		return bad
	}
	shut := open + len("[22/Nov/2026:05:38:32 +0000")
	if shut >= len(line) || line[shut] != ']' {
		return bad
	}
	at, ok := p.clfTime(line[open+1 : shut])
	if !ok {
		return bad
	}
	e.Time = at
	front := bytes.Fields(line[:open])
	if len(front) < 3 {
		return bad
	}
	front = front[len(front)-3:] // a virtual host may stand in front
	e.Addr = p.addr(front[0])
	if user := front[2]; string(user) != "-" && string(user) != `""` {
		e.User, e.UserKnown = p.intern(user), true
	}
	rest := fields{b: line[shut+1:]}
	request, _ := rest.next()
	status, _ := rest.next()
	size, ok := rest.next()
	if !ok {
		return bad
	}
	e.Status, e.BytesOut = int(number(status)), number(size)
	if e.Status < 100 || e.Status > 999 {
		return bad
	}
	if !p.request(request, e) {
		return other // "-", or what a TLS client sent to a plain port
	}
	rest.next() // the referer
	agent, _ := rest.next()
	e.UserAgent = p.intern(agent)
	if p.userAt > 0 {
		p.takeUser(nth(line, front, open, shut, p.userAt), e)
	}
	return entry
}

// request reads "GET /v2/ HTTP/1.1".
func (p *parser) request(b []byte, e *Entry) bool {
	method, rest, ok := bytes.Cut(b, []byte(" "))
	if !ok || len(method) == 0 || method[0] < 'A' || method[0] > 'Z' {
		return false
	}
	path, _, _ := bytes.Cut(rest, []byte(" "))
	if len(path) == 0 {
		return false
	}
	e.Method, e.Path = p.intern(method), string(path)
	if path[0] != '/' { // the absolute form
		u, err := url.Parse(e.Path)
		if err != nil || u.Host == "" {
			return false
		}
		e.Path = u.RequestURI()
	}
	return true
}

// takeUser is for --user-from: "-" and nothing are anonymous there.
func (p *parser) takeUser(name []byte, e *Entry) {
	e.UserKnown, e.User = true, ""
	if string(name) != "-" {
		e.User = p.intern(name)
	}
}

// stamp is where "[22/Nov/2026:" begins, -1 if nowhere.
func stamp(line []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(line[from:], '[')
		if i < 0 {
			return -1
		}
		i += from
		if len(line) > i+13 && line[i+3] == '/' && line[i+7] == '/' && line[i+12] == ':' {
			return i
		}
		from = i + 1
	}
}

// clfTime reads "22/Nov/2026:05:38:32 +0000"; lines of one minute share all but
// the seconds.
func (p *parser) clfTime(b []byte) (time.Time, bool) {
	const minute = len("22/Nov/2026:05:38")
	secs := number(b[minute+1 : minute+3])
	zone := b[minute+3:]
	if b[minute] != ':' || secs > 60 {
		return time.Time{}, false
	}
	if string(b[:minute]) == p.clfMinute && string(zone) == p.clfZone {
		return p.clfBase.Add(time.Duration(secs) * time.Second), true
	}
	base, err := time.Parse("02/Jan/2006:15:04 -0700", string(b[:minute])+string(zone))
	if err != nil {
		return time.Time{}, false
	}
	p.clfMinute, p.clfZone, p.clfBase = string(b[:minute]), string(zone), base.UTC()
	return p.clfBase.Add(time.Duration(secs) * time.Second), true
}

// fields are parted by spaces; quotes and brackets hold one together.
type fields struct {
	b  []byte
	at int
}

func (f *fields) next() (field []byte, ok bool) {
	for f.at < len(f.b) && f.b[f.at] == ' ' {
		f.at++
	}
	if f.at == len(f.b) {
		return nil, false
	}
	end := byte(' ')
	switch f.b[f.at] {
	case '"':
		end = '"'
	case '[':
		end = ']'
	}
	start := f.at
	if end != ' ' {
		start++
	}
	for i := start; i < len(f.b); i++ {
		if f.b[i] == '\\' && end == '"' {
			i++
			continue
		}
		if f.b[i] == end {
			f.at = i + 1
			return f.b[start:i], true
		}
	}
	f.at = len(f.b)
	return f.b[start:], end == ' '
}

// nth is field n of the line, counted from 1, the address: the first that
// nginx' own format adds is 10.
func nth(line []byte, front [][]byte, open, shut, n int) []byte {
	switch {
	case n <= 3:
		return front[n-1]
	case n == 4:
		return line[open+1 : shut]
	}
	rest := fields{b: line[shut+1:]}
	for i := 5; ; i++ {
		field, ok := rest.next()
		if !ok || i == n {
			return field
		}
	}
}

// userField is what --user-from means for a combined log: a field's number.
func userField(from string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(from, "$"))
	if err != nil || n < 1 || n > 100 {
		return 0
	}
	return n
}
