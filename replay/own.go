package replay

import "time"

// ownLine reads a line of regward's access log. Lines of its other logs, which
// may stand between, are other ones.
func (p *parser) ownLine(line []byte, e *Entry) verdict {
	o, ok := openObject(line)
	if !ok {
		return other
	}
	var at time.Time
	request, timed := false, false
	var reference []byte
	for {
		key, value, ok := o.next()
		if !ok {
			break
		}
		switch string(key) {
		case "msg":
			if request = string(value) == `"request"`; !request {
				return other
			}
		case "time":
			at, timed = p.time(plain(value))
		case "request_id":
			e.RequestID = string(plain(value))
		case "host":
			e.Host = p.host.read(p, value)
		case "method":
			e.Method = p.method.read(p, value)
		case "path":
			e.Path = string(plain(value))
		case "route":
			e.Route = p.route.read(p, value)
		case "user":
			e.User = p.word(value)
		case "credential":
			e.Credential = p.credential.read(p, value)
		case "addr":
			e.Addr = p.addr(plain(value))
		case "via":
			e.Via = p.via.read(p, value)
		case "repository":
			e.Repository = p.word(value)
		case "reference":
			reference = plain(value)
		case "limit":
			e.Limit = p.word(value)
		case "would_throttle":
			e.WouldThrottle = list(value)
		case "free_pull":
			e.FreePull = No
			if string(value) == "true" {
				e.FreePull = Yes
			}
		case "repeated":
			e.Repeated = string(value) == "true"
		case "status":
			e.Status = int(number(value))
		case "bytes_in":
			e.BytesIn = number(value)
		case "bytes_out":
			e.BytesOut = number(value)
		case "duration_ms":
			e.Duration = millis(value)
		case "upstream_status":
			e.Upstream = true
		case "reason":
			e.Reason = p.reason.read(p, value)
		case "user_agent":
			e.UserAgent = p.agent.read(p, value)
		}
	}
	if !request && !o.bad {
		return other
	}
	if o.bad || !timed || e.RequestID == "" || e.Method == "" || e.Status == 0 {
		return bad
	}
	e.Own, e.UserKnown = true, true
	if e.User == "anonymous" && e.Credential != "token" && e.Credential != "basic" {
		e.User = ""
	}
	if cut := len(e.Path) - len(reference); cut > 0 && e.Path[cut:] == string(reference) {
		e.Reference = e.Path[cut:]
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
