package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	maxHead        = 64 << 10 // bytes of an answer's header
	maxInterim     = 8        // 1xx answers before the real one
	maxTrailer     = 32       // lines after the last chunk
	maxIdle        = 1024     // connections kept for later
	idleAge        = time.Minute
	wireBuffer     = 8 << 10  // reads of more go past it
	sendBuffer     = 64 << 10 // a body on its way up moves in such pieces
	sendGrace      = 50 * time.Millisecond
	answerGrace    = time.Second // for an answer to what could not be sent to its end
	deadlineSlack  = time.Second // deadlines are moved at most so often (performance.md)
	maxEmptyReads  = 100
	chunkHeadSpace = 10 // eight hex digits and CRLF
)

// hop takes one request to the upstream and brings the answer back, as
// http.RoundTripper does; but it does not take an *http.Request apart that was
// only just put together. Redirects, 401s and other credentials are not its
// business.
//
// The body of an answer ends in io.EOF only if all of it came. A body to be
// sent may still be read from after roundTrip has returned, as with
// http.Transport.
type hop interface {
	roundTrip(ctx context.Context, r *hopRequest) (*http.Response, error)
	close()
}

// hopRequest is a request on the wire, nearly.
type hopRequest struct {
	method string
	target string // path and query, escaped
	host   string
	header http.Header
	own    [8]field // set by us, and stronger than header
	owned  int

	body          io.Reader // nil: none
	length        int64     // of body; -1: chunked
	headerTimeout time.Duration
}

type field struct{ name, value string }

// set adds a line of our own, or replaces one. An empty value is no line; then
// what header says goes on.
func (r *hopRequest) set(name, value string) {
	for i := range r.own[:r.owned] {
		if r.own[i].name == name {
			r.own[i].value = value
			return
		}
	}
	if value != "" {
		r.own[r.owned] = field{name, value}
		r.owned++
	}
}

// ours reports whether a line under that name was set.
func (r *hopRequest) ours(name string) bool {
	for i := range r.own[:r.owned] {
		if r.own[i].name == name && r.own[i].value != "" {
			return true
		}
	}
	return false
}

// repeatable reports whether r may be sent again on another connection (H11).
func (r *hopRequest) repeatable() bool {
	return r.body == nil && (r.method == http.MethodGet || r.method == http.MethodHead || r.method == http.MethodDelete)
}

// appendHead writes the head of r. Everything in it was checked where it came
// from; it is looked at once more, because a line break here would be a second
// request.
func (r *hopRequest) appendHead(b []byte) ([]byte, error) {
	if !plain(r.target) || r.target == "" || r.target[0] != '/' {
		return b, errors.New("request target cannot be sent")
	}
	b = append(b, r.method...)
	b = append(b, ' ')
	b = append(b, r.target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, r.host...)
	b = append(b, "\r\n"...)
	var ok bool
	for _, f := range r.own[:r.owned] {
		if f.value != "" {
			if b, ok = appendField(b, f.name, f.value); !ok {
				return b, fmt.Errorf("header %s cannot be sent", f.name)
			}
		}
	}
	for name, values := range r.header {
		if r.ours(name) {
			continue
		}
		for _, value := range values {
			if b, ok = appendField(b, name, value); !ok {
				return b, fmt.Errorf("header %s cannot be sent", name)
			}
		}
	}
	switch {
	case r.body != nil && r.length < 0: // H02
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.body != nil || r.method == http.MethodPost || r.method == http.MethodPut || r.method == http.MethodPatch: // H03
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, r.length, 10)
		b = append(b, "\r\n"...)
	}
	return append(b, "\r\n"...), nil
}

func appendField(b []byte, name, value string) (_ []byte, ok bool) {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return b, false
		}
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...), true
}

// plain reports whether s is visible ASCII all through.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}
