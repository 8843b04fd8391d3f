package replay

import (
	"bytes"
	"time"
)

// member is a member of regward's access lines, and what it was in the line
// before: most stay the same, and what stays the same is not read again.
type member struct {
	key  string // `"host":`
	id   memberID
	raw  []byte // as it stood there; empty where that is not worth keeping
	text string // what raw says
}

type memberID uint8

// The members that count, and mRest for the others.
const (
	mRest memberID = iota
	mTime
	mMsg
	mRequestID
	mHost
	mMethod
	mPath
	mRoute
	mUser
	mCredential
	mAddr
	mVia
	mRepository
	mReference
	mLimit
	mWouldThrottle
	mFreePull
	mSlowed
	mRepeated
	mStatus
	mBytesIn
	mBytesOut
	mDuration
	mUpstreamStatus
	mReason
	mUserAgent
)

// ownMembers are the members in the order in which regward writes them: who
// looks for each behind the one before finds it at once.
func ownMembers() []member {
	return []member{
		{key: `"time":`, id: mTime}, {key: `"msg":`, id: mMsg}, {key: `"request_id":`, id: mRequestID}, {key: `"host":`, id: mHost},
		{key: `"method":`, id: mMethod}, {key: `"path":`, id: mPath}, {key: `"route":`, id: mRoute}, {key: `"user":`, id: mUser},
		{key: `"credential":`, id: mCredential}, {key: `"addr":`, id: mAddr}, {key: `"via":`, id: mVia}, {key: `"upstream":`},
		{key: `"repository":`, id: mRepository}, {key: `"action":`}, {key: `"reference":`, id: mReference}, {key: `"rule":`},
		{key: `"limit":`, id: mLimit}, {key: `"would_throttle":`, id: mWouldThrottle}, {key: `"free_pull":`, id: mFreePull},
		{key: `"slowed_by":`}, {key: `"slowed_ms":`, id: mSlowed},
		{key: `"repeated":`, id: mRepeated}, {key: `"status":`, id: mStatus}, {key: `"bytes_in":`, id: mBytesIn}, {key: `"bytes_out":`, id: mBytesOut},
		{key: `"duration_ms":`, id: mDuration}, {key: `"upstream_status":`, id: mUpstreamStatus}, {key: `"upstream_ms":`},
		{key: `"reason":`, id: mReason}, {key: `"user_agent":`, id: mUserAgent},
	}
}

// nextOwn is the next member of a line and its value, as next tells them; same
// says that the value is that of m.raw. Those that are none of ownMembers are m.rest.
func (p *parser) nextOwn(o *object) (m *member, value []byte, same, ok bool) {
	at := o.at
	if at < len(o.b) && o.b[at] == ',' {
		at++
	}
	for i := p.after; i < len(p.members); i++ {
		m := &p.members[i]
		if len(o.b)-at <= len(m.key) || string(o.b[at:at+len(m.key)]) != m.key {
			continue
		}
		p.after = i + 1
		at += len(m.key)
		if end := at + len(m.raw); len(m.raw) > 0 && end < len(o.b) && (o.b[end] == ',' || o.b[end] == '}') && string(o.b[at:end]) == string(m.raw) {
			o.at = end
			return m, m.raw, true, true
		}
		o.at = at
		value, ok = o.member()
		return m, value, false, ok
	}
	key, value, ok := o.next()
	if !ok {
		return nil, nil, false, false
	}
	for i := range p.members {
		if k := p.members[i].key; len(key) == len(k)-3 && string(key) == k[1:len(k)-2] {
			p.after = i + 1
			return &p.members[i], value, false, true
		}
	}
	return &p.rest, value, false, true
}

// keep is the text of a value that mostly is the same in the next line.
func (p *parser) keep(m *member, value []byte, same bool) string {
	if !same {
		m.remember(value)
		m.text = p.word(value)
	}
	return m.text
}

// remember makes a value the one to compare with, unless it is a long one.
func (m *member) remember(value []byte) {
	if m.raw = m.raw[:0]; len(value) <= maxKept {
		m.raw = append(m.raw, value...)
	}
}

// ownLine reads a line of regward's access log. Lines of its other logs, which
// may stand between, are other ones.
func (p *parser) ownLine(line []byte, e *Entry) verdict {
	o, ok := openObject(line)
	if !ok {
		return bad
	}
	var at time.Time
	request, timed := false, false
	var id, path, reference []byte
	p.after = 0
	for {
		m, value, same, ok := p.nextOwn(&o)
		if !ok {
			break
		}
		switch m.id {
		case mRest:
			if !same {
				m.remember(value)
			}
		case mMsg:
			if request = p.keep(m, value, same) == "request"; !request {
				return other
			}
		case mTime:
			at, timed = p.time(plain(value))
		case mRequestID:
			id = plain(value)
		case mHost:
			e.Host = p.keep(m, value, same)
		case mMethod:
			e.Method = p.keep(m, value, same)
		case mPath:
			path = plain(value)
		case mRoute:
			e.Route = p.keep(m, value, same)
		case mUser:
			e.User = p.word(value)
		case mCredential:
			e.Credential = p.keep(m, value, same)
		case mAddr:
			e.Addr = p.addr(plain(value))
		case mVia:
			e.Via = p.keep(m, value, same)
		case mRepository:
			e.Repository = p.word(value)
		case mReference:
			reference = plain(value)
		case mLimit:
			e.Limit = p.keep(m, value, same)
		case mWouldThrottle:
			if len(value) <= maxKept {
				e.WouldThrottle = list(value)
			}
		case mFreePull:
			e.FreePull = No
			if string(value) == "true" {
				e.FreePull = Yes
			}
		case mSlowed:
			e.Slowed = millis(value)
		case mRepeated:
			e.Repeated = string(value) == "true"
		case mStatus:
			e.Status = int(number(value))
		case mBytesIn:
			e.BytesIn = number(value)
		case mBytesOut:
			e.BytesOut = number(value)
		case mDuration:
			e.Duration = millis(value)
		case mUpstreamStatus:
			e.Upstream = true
		case mReason:
			e.Reason = p.keep(m, value, same)
		case mUserAgent:
			e.UserAgent = p.keep(m, value, same)
		}
	}
	if !request && !o.bad {
		return other
	}
	if o.bad || !timed || len(id) == 0 || e.Method == "" || e.Status == 0 {
		return bad
	}
	p.room = append(append(p.room[:0], path...), id...)
	both := string(p.room) // one piece of memory for what no other line has
	e.Path, e.RequestID = both[:len(path)], both[len(path):]
	e.Own, e.UserKnown = true, true
	if e.User == "anonymous" && e.Credential != "token" && e.Credential != "basic" {
		e.User = ""
	}
	if bytes.HasSuffix(path, reference) {
		e.Reference = e.Path[len(path)-len(reference):]
	} else {
		e.Reference = string(reference)
	}
	e.Time = at.Add(-e.Duration)
	return entry
}

// number reads a whole number; what is none is 0.
func number(b []byte) (n int64) {
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<58 {
			return 0
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// millis reads "12.345", in milliseconds.
func millis(b []byte) time.Duration {
	var whole, part int64
	scale := int64(time.Millisecond)
	seen := false
	for _, c := range b {
		switch {
		case c == '.' && !seen:
			seen = true
		case c < '0' || c > '9' || whole > 1<<40:
			return 0 // exponents: nothing takes that long
		case !seen:
			whole = whole*10 + int64(c-'0')
		case scale > 1:
			scale /= 10
			part += int64(c-'0') * scale
		}
	}
	return time.Duration(whole*int64(time.Millisecond) + part)
}
