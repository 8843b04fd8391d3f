package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/regward/regward/auth"
)

// catalog lists what the caller may pull and nothing else (R14): the
// upstream's pages are read until one page of the client's is full. The name
// of a repository the caller may not see is never told, not even as the place
// to go on from.
func (x *exchange) catalog() error {
	if !x.s.Catalog {
		return refuse(http.StatusNotFound, "UNSUPPORTED", "the catalog is off here")
	}
	want := defaultPage
	if x.req.Query.N != "" {
		want, _ = strconv.Atoi(x.req.Query.N) // the grammar let only numbers through
	}
	want = min(max(want, 1), maxPage)
	last, err := x.catalogCursor(x.req.Query.Last)
	if err != nil {
		return err
	}
	page, next, err := x.visiblePage(want, last)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string][]string{"repositories": page})
	if err != nil {
		return err
	}
	h := x.w.Header()
	h["Content-Type"] = jsonType
	if next != "" {
		h["Link"] = []string{"</v2/_catalog?last=" + url.QueryEscape(next) + "&n=" + strconv.Itoa(want) + `>; rel="next"`}
	}
	x.respond(http.StatusOK, append(body, '\n'))
	return nil
}

// visiblePage gathers up to want names that the caller may pull, and where the
// next page goes on: "" at the end.
func (x *exchange) visiblePage(want int, last string) (page []string, next string, err error) {
	page = []string{}
	query := url.Values{"n": {strconv.Itoa(maxPage)}}
	if last != "" {
		query.Set("last", last)
	}
	for range maxCatalogPages {
		names, more, err := x.upstreamPage(query)
		if err != nil {
			return nil, "", err
		}
		for _, name := range names {
			last = name
			if !validName(name) || !x.s.Policy.Decide(x.uncapped(), []auth.Access{{Repository: name, Action: auth.Pull}}).Allowed() {
				continue
			}
			if len(page) == want { // one more than fits: there is a next page
				return page, page[want-1], nil
			}
			page = append(page, name)
		}
		if more == nil {
			return page, "", nil
		}
		query = more
		query.Set("n", strconv.Itoa(maxPage))
	}
	cursor, err := x.hideCursor(last)
	return page, cursor, err
}

// uncapped is the caller without the token's ceiling: a catalog token covers
// the catalog, the rules say what is in it.
func (x *exchange) uncapped() *auth.Caller {
	c := x.who
	c.Capped, c.Scope = false, nil
	return &c
}

// upstreamPage is one page of the upstream's catalog and the query of the next.
func (x *exchange) upstreamPage(query url.Values) (names []string, next url.Values, err error) {
	asked := time.Now()
	resp, err := x.s.backends[0].do(x.r.Context(), &outgoing{
		Method:    http.MethodGet,
		Path:      "/v2/_catalog",
		RawQuery:  query.Encode(),
		Header:    http.Header{"Accept": jsonType},
		Scope:     "registry:catalog:*",
		RequestID: x.id,
		User:      x.who.Name,
	})
	x.upstreamTime += time.Since(asked)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	x.upstream = resp.StatusCode
	if resp.StatusCode != http.StatusOK {
		if err := x.checkAnswer(resp); err != nil {
			return nil, nil, err
		}
		return nil, nil, refuse(http.StatusNotFound, "UNSUPPORTED", "the registry behind this one has no catalog")
	}
	var page struct {
		Repositories []string `json:"repositories"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxCatalogBody)).Decode(&page); err != nil {
		return nil, nil, broken(err)
	}
	next = nextPage(resp.Header)
	if next != nil && next.Get("last") == query.Get("last") {
		next = nil // a page that leads to itself would never end
	}
	return page.Repositories, next, nil
}

// A cursor that would tell the name of a hidden repository is sealed.
const sealedCursor = "~"

func (x *exchange) hideCursor(name string) (string, error) {
	id, err := x.s.catalogSealer.seal(upload{Principal: x.who.Name, Start: x.start, Target: name})
	return sealedCursor + id, err
}

func (x *exchange) catalogCursor(last string) (string, error) {
	id, sealed := strings.CutPrefix(last, sealedCursor)
	if !sealed {
		return last, nil
	}
	up, err := x.s.catalogSealer.open(id, "", x.who.Name)
	if err != nil {
		return "", refuse(http.StatusBadRequest, "UNSUPPORTED", "this page of the catalog is not known here; start at the first")
	}
	return up.Target, nil
}
