package proxy

import (
	"net/http"
	"net/url"
	"strings"
)

// mapLink keeps only the query of the upstream's next page (R15).
func (x *exchange) mapLink(h http.Header, resp *http.Response) {
	if next := nextPage(resp.Header); next != nil {
		h["Link"] = []string{"<" + x.req.Path() + "?" + next.Encode() + `>; rel="next"`}
	}
}

// nextPage is the query of a Link to the next page: of a bad one only what is
// known (K1); nil if there is none.
func nextPage(h http.Header) url.Values {
	for _, field := range h["Link"] {
		target, params, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(field), "<"), ">")
		if !ok || !strings.Contains(params, "next") {
			continue
		}
		u, err := url.Parse(target)
		if err != nil {
			continue
		}
		keep := url.Values{}
		for key, values := range u.Query() {
			switch key {
			case "n", "last", "artifactType":
				keep[key] = values
			}
		}
		if len(keep) > 0 {
			return keep
		}
	}
	return nil
}
