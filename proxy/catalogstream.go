package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	catalogScope = "registry:catalog:*"
	fullPage     = "1000" // maxPage, as n says it
)

// stream is one upstream's catalog, page by page.
type stream struct {
	b     *backend
	names []string // of the page in hand, in the upstream's words
	skip  int      // of those: done with; before the first page is read: to be skipped on it
	head  string   // client name of names[skip], once it is known that it may be shown
	query string   // of the page in hand
	ahead string   // of the next page, the first one before it is read; "" is none
	read  bool     // a page is in hand
	over  bool     // nothing is left
	none  error    // why the upstream has no catalog to show

	start  string // the name of the upstream's that the client goes on after
	byName bool   // any place in it can be told by the name before
}

// newStream begins after a client's name, "" at the start.
func newStream(s *Snapshot, at int, last string) *stream {
	st := &stream{b: s.backends[at], byName: true}
	st.start, st.over = s.upstreamLast(at, last)
	st.ahead = lastQuery(st.start)
	return st
}

// goOn begins where the stream was left instead.
func (s *stream) goOn(p position) {
	s.over, s.ahead, s.skip, s.start = p.over, p.query, p.skip, ""
	_, s.byName = onlyLast(p.query)
}

// upstreamLast is what a place's upstream is to begin after, for a client that
// goes on after last: "" is its start. It is over if all its names come before.
func (s *Snapshot) upstreamLast(at int, last string) (start string, over bool) {
	p := s.places.Place(at)
	own, below := strings.CutPrefix(last, p.Prefix)
	switch {
	case below && p.Keep:
		return last, false
	case below:
		return own, false
	}
	return "", last > p.Prefix
}

// position is where s is left.
func (s *stream) position() position {
	p := position{at: s.b.at, over: s.over, query: s.ahead, skip: s.skip}
	if s.read {
		p.query = s.query
		if s.skip == len(s.names) {
			p.query, p.skip, p.over = s.ahead, 0, s.over || s.ahead == ""
		}
	}
	return p
}

// read takes the next page of s in hand.
func (x *exchange) read(s *stream) error {
	query := s.ahead
	names, next, err := x.catalogPage(s.b, query)
	var status statusError
	if last, ours := onlyLast(query); ours && errors.As(err, &status) && status == http.StatusBadRequest {
		// It may allow smaller pages only (distribution: catalog.maxentries).
		query = ""
		if last != "" {
			query = "last=" + url.QueryEscape(last)
		}
		names, next, err = x.catalogPage(s.b, query)
	}
	var none unlisted
	switch {
	case errors.As(err, &none):
		s.over, s.none = true, none.error
		return nil
	case errors.As(err, &status):
		return broken(err)
	case err != nil:
		return err
	}
	if sameQuery(next, query) {
		next = "" // a page that leads to itself would never end
	}
	if s.read && len(names) > 0 && slices.Equal(names, s.names) {
		names, next = nil, "" // nor would one that is given again and again
	}
	s.take(names, query, next)
	return nil
}

// take has a page in hand, and passes over what of it is known.
func (s *stream) take(names []string, query, next string) {
	if s.read {
		s.skip = 0
	} else if s.skip = min(s.skip, len(names)); s.start != "" {
		// A registry may give last itself too, or not know last at all.
		s.skip = max(s.skip, slices.Index(names, s.start)+1)
	}
	if last, plain := lastOf(next); next != "" && (!plain || len(names) == 0 || last != names[len(names)-1]) || !slices.IsSorted(names) {
		s.byName = false
	}
	s.names, s.query, s.ahead, s.read = names, query, next, true
}

// statusError is an answer to a request for the catalog that is none.
type statusError int

func (e statusError) Error() string {
	return "upstream answered " + strconv.Itoa(int(e)) + " to a request for its catalog"
}

// unlisted is why an upstream's repositories cannot be listed though nothing
// is wrong: it has no catalog, or none for us or this caller. The others' are.
type unlisted struct{ error }

func (e unlisted) Unwrap() error { return e.error }

func hasNoCatalog(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// catalogPage is one page of an upstream's catalog and the query of the next,
// "" if there is none.
func (x *exchange) catalogPage(b *backend, query string) (names []string, next string, err error) {
	out := &outgoing{
		Method:      http.MethodGet,
		Path:        "/v2/_catalog",
		RawQuery:    query,
		Header:      http.Header{"Accept": jsonType, "X-Forwarded-For": {x.addr.String()}},
		Scope:       catalogScope,
		Hostnames:   x.s.names,
		RequestID:   x.id,
		TraceParent: x.r.Header.Get("Traceparent"),
		User:        x.who.Name,
	}
	resp, err := x.askCatalog(b, out)
	status := 0
	if err == nil {
		defer resp.Body.Close()
		status = resp.StatusCode
		x.upstream = status
	}
	var refused *httpError
	if errors.As(err, &refused) && refused.authErr != "invalid_token" { // that one is for the client to hear
		status = refused.status
	}
	switch {
	case hasNoCatalog(status):
		if out.Credential == "" && !b.settings.Passthrough {
			x.h.tellUnlisted(b, x.start, status)
		}
		return nil, "", unlisted{noCatalog(refused)}
	case err != nil:
		return nil, "", err
	case status == http.StatusTooManyRequests:
		return nil, "", b.limited(resp.Header, out.Credential != "")
	case status >= 500:
		return nil, "", x.checkAnswer(resp)
	case status != http.StatusOK:
		return nil, "", statusError(status)
	}
	body, err := readWhole(resp, maxCatalogBody)
	if err != nil {
		return nil, "", broken(err)
	}
	var page struct {
		Repositories []string `json:"repositories"`
	}
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, "", broken(fmt.Errorf("its catalog is not what it should be: %w", err))
	}
	if next, err = nextQuery(resp.Header); err != nil {
		return nil, "", broken(err)
	}
	return page.Repositories, widen(next), nil
}

// askCatalog asks with the caller's own login where it goes on (passthrough).
func (x *exchange) askCatalog(b *backend, out *outgoing) (*http.Response, error) {
	if err := x.credentialFor(b, out); err != nil {
		return nil, err
	}
	asked := time.Now()
	defer func() { x.upstreamTime += time.Since(asked) }()
	return b.do(x.r.Context(), out)
}

// noCatalog is what the client hears if there is nothing else to show: how to
// come back with another token, or that there is nothing.
func noCatalog(refused *httpError) error {
	if refused != nil && refused.status == http.StatusUnauthorized {
		return refused
	}
	return refuse(http.StatusNotFound, "UNSUPPORTED", "the registry behind this one has no catalog")
}

// widen asks for full pages where the registry has no parameters of its own.
func widen(query string) string {
	if last, plain := lastOf(query); plain {
		return lastQuery(last)
	}
	return query
}

// lastOf is the name after which a page begins, if its query says nothing else
// but how long it is.
func lastOf(query string) (last string, ok bool) {
	values, err := url.ParseQuery(query)
	if err != nil || len(values["last"]) != 1 || len(values) > 2 || len(values) == 2 && !values.Has("n") {
		return "", false
	}
	return values.Get("last"), values.Get("last") != ""
}

// patience takes the deadline of the answer away: several upstreams may be
// asked, several times.
func (x *exchange) patience() {
	if x.r.ProtoMajor > 1 && x.writeTimeout() > 0 {
		x.patient = true
		_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{})
	}
}

// tellUnlisted tells the operator, once in a while, why an upstream's
// repositories are not listed.
func (h *Handler) tellUnlisted(b *backend, now time.Time, status int) {
	b.quiet.do(now, func() {
		h.Log.Info("upstream has no catalog, or shows none to this account: its repositories are not listed",
			zap.String("upstream", b.settings.Name), zap.Int("status", status))
	})
}
