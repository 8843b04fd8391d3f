package replay

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// distributionLine reads what distribution 2.8 and 3 write: "response
// completed", as text or as JSON, and their access lines in Apache's form. A
// request mostly has both, and counts once: the access line is taken where
// log.level keeps the other one back.
func (p *parser) distributionLine(line []byte, e *Entry) verdict {
	if open := stamp(line); open >= 0 && bytes.IndexByte(line[:open], '=') < 0 && bytes.IndexByte(line[:open], '{') < 0 {
		v := p.combinedLine(line, e)
		if v == entry && p.told(e) {
			return other
		}
		return v
	}
	var completed, timed bool
	var at time.Time
	read := func(key, value []byte) bool {
		switch string(key) {
		case "msg", "message":
			completed = bytes.HasPrefix(value, []byte("response completed"))
			return completed
		case "time", "@timestamp":
			at, timed = p.time(value)
		case "http.request.host":
			e.Host = p.intern(value)
		case "http.request.id":
			e.RequestID = string(value)
		case "http.request.method":
			e.Method = p.intern(value)
		case "http.request.remoteaddr":
			e.Addr = p.addr(value)
		case "http.request.uri":
			e.Path = string(value)
		case "http.request.useragent":
			e.UserAgent = p.intern(value)
		case "http.response.status":
			e.Status = int(number(value))
		case "http.response.written":
			e.BytesOut = number(value)
		case "http.response.duration":
			e.Duration, _ = time.ParseDuration(string(value))
		case "auth.user.name":
			if p.userKey == "" && len(value) > 0 {
				e.User, e.UserKnown = p.intern(value), true
			}
		}
		if p.userKey != "" && string(key) == p.userKey {
			p.takeUser(value, e)
		}
		return true
	}
	ok := true
	if object, is := openObject(line); is && bytes.IndexByte(line[:object.at], '=') < 0 {
		for {
			key, value, more := object.next()
			if !more {
				ok = !object.bad
				break
			}
			if !read(key, plain(value)) {
				break
			}
		}
	} else {
		ok = p.logfmt(line, read)
	}
	switch {
	case !ok:
		return bad
	case !completed && detect(line) == Regward:
		return bad
	case !completed || e.Method == "":
		return other
	case !timed || e.Status == 0 || e.Path == "":
		return bad
	}
	if p.userKey != "" {
		e.UserKnown = true
	}
	e.Time = at.Add(-e.Duration)
	p.tell(e)
	return entry
}

// logfmt reads key=value and key="value", until read says that it is enough.
func (p *parser) logfmt(line []byte, read func(key, value []byte) bool) bool {
	for {
		line = bytes.TrimLeft(line, " ")
		if len(line) == 0 {
			return true
		}
		key, rest, ok := bytes.Cut(line, []byte("="))
		if !ok {
			return false
		}
		if i := bytes.LastIndexByte(key, ' '); i >= 0 {
			key = key[i+1:] // what a journal put in front
		}
		if len(rest) == 0 || rest[0] != '"' {
			value, after, _ := bytes.Cut(rest, []byte(" "))
			if !read(key, value) {
				return true
			}
			line = after
			continue
		}
		quoted := object{b: rest}
		value := quoted.text()
		if quoted.bad {
			return false
		}
		if bytes.IndexByte(value, '\\') >= 0 {
			s, err := strconv.Unquote(string(rest[:quoted.at]))
			if err != nil {
				return false
			}
			value = []byte(s)
		}
		if !read(key, value) {
			return true
		}
		line = rest[quoted.at:]
	}
}

// twin is what the two lines of one request have in common.
type twin struct {
	method, path string
	status       int
	written      int64
}

// tell remembers a request whose access line may follow.
func (p *parser) tell(e *Entry) {
	if len(p.twins) >= maxPending {
		clear(p.twins)
	}
	p.twins[twinOf(e)]++
}

// twinOf keeps no more of a path than tells it apart.
func twinOf(e *Entry) twin {
	path := e.Path
	if len(path) > maxKept {
		path = strings.Clone(path[:maxKept])
	}
	return twin{e.Method, path, e.Status, e.BytesOut}
}

// told reports whether the request of an access line has been told already.
func (p *parser) told(e *Entry) bool {
	key := twinOf(e)
	n := p.twins[key]
	switch {
	case n == 0:
		return false
	case n == 1:
		delete(p.twins, key)
	default:
		p.twins[key] = n - 1
	}
	return true
}
