package replay

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Format is a kind of access log.
type Format string

// The formats that are read. Detect goes by a file's first lines.
const (
	Detect       Format = ""
	Regward      Format = "regward"
	Nginx        Format = "nginx" // combined, and what begins like it
	Distribution Format = "distribution"
)

// ParseFormat reads the word of a Format; "" is Detect.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Detect, Regward, Nginx, Distribution:
		return f, nil
	case "combined", "apache":
		return Nginx, nil
	}
	return "", fmt.Errorf("%q is no format: regward, nginx or distribution", s)
}

// verdict is what a line turned out to be.
type verdict uint8

const (
	entry verdict = iota + 1
	other         // of another log, or no request
	bad
)

// parser reads the lines of one file.
type parser struct {
	format  Format
	userAt  int    // of --user-from, for combined logs: which field; 0: none
	userKey string // the same for distribution: which member
	words   map[string]string
	escaped map[string]string // by their raw text
	twins   map[twin]int
	addrs   map[string]netip.Addr

	members []member // of regward's own lines
	after   int      // behind the one read last
	rest    member   // any other
	room    []byte

	clfMinute, clfZone string
	clfBase            time.Time
	day                string // the last one read, and when it began
	dayBase            int64
}

func newParser(f Format, userFrom string) *parser {
	p := &parser{format: f, words: map[string]string{}, escaped: map[string]string{}, twins: map[twin]int{}, addrs: map[string]netip.Addr{}}
	switch f {
	case Regward:
		p.members = ownMembers()
	case Nginx:
		p.userAt = userField(userFrom)
	case Distribution:
		p.userKey = userFrom
	}
	return p
}

// line reads one line into e, which must be zero.
func (p *parser) line(line []byte, e *Entry) verdict {
	switch p.format {
	case Regward:
		return p.ownLine(line, e)
	case Distribution:
		return p.distributionLine(line, e)
	}
	return p.combinedLine(line, e)
}

// word is a JSON string that comes again and again.
func (p *parser) word(value []byte) string {
	if len(value) >= 2 && value[0] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return p.intern(value[1 : len(value)-1])
	}
	if len(value) > maxWord {
		return cut(plain(value))
	}
	raw := string(value) // with escapes, as docker's own name has them
	if s, ok := p.escaped[raw]; ok {
		return s
	}
	if len(p.escaped) >= maxWords {
		clear(p.escaped)
	}
	s := string(plain(value))
	p.escaped[raw] = s
	return s
}

// cut is a word as regward's own log has it: no longer than maxWord.
func cut(b []byte) string { return string(b[:min(len(b), maxWord)]) }

// intern makes equal words one string.
func (p *parser) intern(b []byte) string {
	if len(b) > maxWord {
		return cut(b)
	}
	if s, ok := p.words[string(b)]; ok {
		return s
	}
	if len(p.words) >= maxWords {
		clear(p.words)
	}
	s := string(b)
	p.words[s] = s
	return s
}

// addr reads an address, with a port or without; what is none is the zero Addr.
func (p *parser) addr(b []byte) netip.Addr {
	b = b[:min(len(b), maxWord)]
	if a, ok := p.addrs[string(b)]; ok {
		return a
	}
	s := string(b)
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		ap, _ := netip.ParseAddrPort(s)
		a = ap.Addr()
	}
	a = a.Unmap().WithZone("")
	if len(p.addrs) >= maxWords {
		clear(p.addrs)
	}
	p.addrs[s] = a
	return a
}

// time reads RFC 3339. Lines of one day share the date.
func (p *parser) time(b []byte) (time.Time, bool) {
	const date = len("2026-11-22")
	// 2026-11-22T05:38:32.266158871Z
	if len(b) < len("2026-11-22T05:38:32Z") || b[date] != 'T' || b[13] != ':' || b[16] != ':' || b[len(b)-1] != 'Z' {
		t, err := time.Parse(time.RFC3339Nano, string(b))
		return t.UTC(), err == nil
	}
	if string(b[:date]) != p.day {
		t, err := time.Parse(time.DateOnly, string(b[:date]))
		if err != nil {
			return t, false
		}
		p.day, p.dayBase = string(b[:date]), t.Unix()
	}
	h, m, s := two(b[11:]), two(b[14:]), two(b[17:])
	if h > 23 || m > 59 || s > 60 {
		return time.Time{}, false
	}
	var nanos int64
	if frac := b[19 : len(b)-1]; len(frac) > 0 {
		if frac[0] != '.' || len(frac) > 10 {
			return time.Time{}, false
		}
		scale := int64(time.Second)
		for _, c := range frac[1:] {
			if c < '0' || c > '9' {
				return time.Time{}, false
			}
			scale /= 10
			nanos += int64(c-'0') * scale
		}
	}
	return time.Unix(p.dayBase+int64(h)*3600+int64(m)*60+int64(s), nanos).UTC(), true
}

// two are two digits; what is none is more than any part of a time.
func two(b []byte) int {
	if b[0] < '0' || b[0] > '9' || b[1] < '0' || b[1] > '9' {
		return 100
	}
	return int(b[0]-'0')*10 + int(b[1]-'0')
}

// detect tells a log by its first lines: the first of them that only one kind
// of program writes decides.
func detect(first []byte) Format {
	weak := Detect
	for line := range bytes.Lines(first) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		switch {
		case bytes.Contains(line, []byte("http.request.")) || bytes.Contains(line, []byte("go.version")):
			return Distribution
		case bytes.Contains(line, []byte(`"request_id":`)) && bytes.Contains(line, []byte(`"credential":`)):
			return Regward
		case stamp(line) >= 0 && weak == Detect:
			weak = Nginx // distribution writes such lines too, and more below
		case bytes.IndexByte(line, '{') >= 0 && bytes.Contains(line, []byte(`"msg":`)) && weak == Detect:
			weak = Regward // its other logs
		}
	}
	return weak
}
