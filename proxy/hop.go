package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxHead bounds the header of an upstream's answer.
const maxHead = 64 << 10

// hop takes one request to the upstream and brings the answer back, as
// http.RoundTripper does; but it does not take an *http.Request apart that was
// only just put together. Redirects, 401s and retries with another credential
// are not its business.
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
	own    [8]field // set by us, beside header and before it
	owned  int

	body          io.Reader // nil: none
	length        int64     // of body; -1: chunked
	headerTimeout time.Duration
}

type field struct{ name, value string }

// set adds a line of our own, or replaces one. An empty value is no line, but what header says
// under that name goes on then.
func (r *hopRequest) set(name, value string) {
	for i := range r.own[:r.owned] {
		if r.own[i].name == name {
			r.own[i].value = value
			return
		}
	}
	r.own[r.owned] = field{name, value}
	r.owned++
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

// netHop is net/http's Transport as a hop.
type netHop struct {
	scheme    string
	transport *http.Transport
}

func (h netHop) close() { h.transport.CloseIdleConnections() }

func (h netHop) roundTrip(ctx context.Context, r *hopRequest) (*http.Response, error) {
	u, err := url.ParseRequestURI(r.target)
	if err != nil {
		return nil, err
	}
	u.Scheme, u.Host = h.scheme, r.host
	header := r.header.Clone()
	if header == nil {
		header = make(http.Header)
	}
	for _, f := range r.own[:r.owned] {
		if f.value != "" {
			header[f.name] = []string{f.value}
		}
	}
	if _, has := header["User-Agent"]; !has {
		header["User-Agent"] = []string{""}
	}
	q := (&http.Request{Method: r.method, URL: u, Host: r.host, Header: header, ContentLength: r.length}).WithContext(ctx)
	if r.body == nil {
		q.Body = http.NoBody
	} else {
		q.Body = io.NopCloser(sourceReader{r.body})
	}
	resp, err := h.transport.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	resp.Request = nil
	if resp.StatusCode == http.StatusSwitchingProtocols {
		_ = resp.Body.Close()
		return nil, errors.New("upgrade nobody asked for")
	}
	return resp, nil
}

// sourceReader marks the errors of a client's body, so that they are not
// taken for the upstream's.
type sourceReader struct{ io.Reader }

func (s sourceReader) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = errClientBody{err}
	}
	return n, err
}
