package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/regward/regward/auth"
)

const (
	searchPath   = "/v1/search"
	searchPing   = "/v1/_ping"
	searchPrefix = "/v1/"
)

// search serves what is left of the first version of the API: docker search
// and podman search, answered from the filtered catalog (P19). All else below
// /v1/ is nothing here, and so is this unless it is switched on.
func (x *exchange) search() error {
	path := x.r.URL.EscapedPath()
	if !x.s.Search || !x.s.Catalog || path != searchPath && path != searchPing {
		return refuse(http.StatusNotFound, "NAME_UNKNOWN", "nothing is served under this path")
	}
	switch x.r.Method {
	case http.MethodGet:
	case http.MethodOptions:
		return x.options("GET")
	default:
		return refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "a search is asked for with GET").with("Allow", "GET")
	}
	if path == searchPing { // docker asks before it sends a login: it depends on nothing (C18)
		x.w.Header()["Content-Type"] = jsonType
		x.w.Header()["X-Docker-Registry-Standalone"] = []string{"true"}
		x.respond(http.StatusOK, []byte(`{"standalone":true}`))
		return nil
	}
	term, most, err := searchQuery(x.r.URL.RawQuery)
	if err != nil {
		return err
	}
	if err := x.identifySearcher(); err != nil {
		return err
	}
	if err := x.spend([]Count{Requests}); err != nil {
		return err
	}
	names, err := x.found(term, most)
	if err != nil {
		return err
	}
	return x.deliverFound(term, names)
}

// searchQuery reads what is looked for and how many names at most: 25, or as
// many as n says, up to 100.
func searchQuery(raw string) (term string, most int, err error) {
	if len(raw) > maxQuery {
		return "", 0, refuse(http.StatusRequestURITooLong, "UNSUPPORTED", "the query is too long")
	}
	query, err := parseForm(raw)
	if err != nil {
		return "", 0, err
	}
	term, n := query.Get("q"), query.Get("n")
	if len(query["q"]) > 1 || len(query["n"]) > 1 || len(term) > maxParam || !printable(term) {
		return "", 0, errQuery()
	}
	size, ok := pageSize(n)
	if !ok {
		return "", 0, errQuery()
	}
	if most, _ = strconv.Atoi(size); most == 0 {
		most = defaultFound
	}
	return strings.ToLower(strings.Trim(term, " /")), min(most, maxFound), nil
}

// identifySearcher is identify for the one route where no credential is
// anonymous: docker knows no tokens here, and sends its login, if it has one,
// at once.
//
// c/image comes without its login, and goes on to the catalog only if this is
// refused. There it says who it is, and finds what is only theirs: so who
// speaks of the second version of the API is sent there.
func (x *exchange) identifySearcher() error {
	cred, err := auth.ParseAuthorization(x.r.Header["Authorization"])
	if err != nil || cred.Kind != auth.None {
		return x.identify()
	}
	x.credential = "none"
	if len(x.r.Header["Docker-Distribution-Api-Version"]) > 0 {
		return refuse(http.StatusNotFound, "UNSUPPORTED", "search in /v2/_catalog")
	}
	x.call(auth.Identity{})
	return nil
}

// found are up to so many names that have the term in them and that the caller
// may pull. As far as one request reads the catalogs: who gets less than they
// look for can ask for more of the name.
func (x *exchange) found(term string, most int) (names []string, err error) {
	l, err := x.openListing("")
	if err != nil {
		return nil, err
	}
	whole := term // hub/alpine is told as hub/library/alpine
	if f, ok := x.s.places.Find(x.site.name, "", term); ok && validName(term) {
		whole = f.Repository
	}
	l.match = func(name string) bool { return strings.Contains(name, term) || strings.Contains(name, whole) }
	names, _, err = l.page(most)
	return names, err
}

// searchResult has the members of docker's search and of c/image's.
type searchResult struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	StarCount   int    `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	IsAutomated bool   `json:"is_automated"`
	IsTrusted   bool   `json:"is_trusted"`
}

func (x *exchange) deliverFound(term string, names []string) error {
	results := make([]searchResult, len(names))
	for i, name := range names {
		results[i].Name = name
	}
	body, err := json.Marshal(struct {
		NumResults int            `json:"num_results"`
		Query      string         `json:"query"`
		Results    []searchResult `json:"results"`
	}{len(results), term, results})
	if err != nil {
		return err
	}
	x.w.Header()["Content-Type"] = jsonType
	x.w.Header()["Cache-Control"] = []string{"no-store"}
	x.respond(http.StatusOK, append(body, '\n'))
	return nil
}
