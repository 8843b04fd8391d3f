package e2e

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// verdict is what a stand-in finds out about a request before it serves it.
type verdict int

const (
	admitted     verdict = iota
	unknownFace          // no credential, or one that counts as none
	wrongLogin           // a Basic login that is wrong
	wrongToken           // a token nobody gave out, or too old
	insufficient         // known, but without the right
	lockedOut            // too many wrong logins
)

// takes says which credentials a registry accepts on /v2/ itself.
type takes struct{ basic, bearer bool }

// asked is a request on /v2/ taken apart.
type asked struct {
	repository string // "" for the ping
	kind       string // manifests, blobs, blobs/uploads, tags; "ping", "_catalog"
	rest       string // tag, digest, upload
}

// Names are read from the right: "blobs" is a legal part of one (P05).
var registryPath = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs/uploads|blobs|tags|referrers)/([^/]*)$`)

func takeApart(path string) (asked, bool) {
	switch path {
	case "/v2/", "/v2":
		return asked{kind: "ping"}, true
	case "/v2/_catalog":
		return asked{kind: "_catalog", repository: "registry:catalog"}, true
	}
	m := registryPath.FindStringSubmatch(path)
	if m == nil {
		return asked{}, false
	}
	return asked{m[1], m[2], m[3]}, true
}

// action is what the request needs, as scopes name it.
func (a asked) action(method string) string {
	switch {
	case a.kind == "ping":
		return ""
	case a.kind == "_catalog":
		return "*"
	case a.kind == "blobs/uploads":
		return "push"
	case method == http.MethodDelete:
		return "delete"
	case method == http.MethodGet, method == http.MethodHead:
		return "pull"
	}
	return "push"
}

// scope is the one a challenge names for the request.
func (a asked) scope(method string) string {
	switch action := a.action(method); {
	case a.kind == "ping":
		return ""
	case a.kind == "_catalog":
		return "registry:catalog:*"
	case action == "push":
		return "repository:" + a.repository + ":pull,push"
	default:
		return "repository:" + a.repository + ":" + action
	}
}

// judge looks at the credential of a request. A mount from where the
// credential may not look becomes a plain upload, as the spec allows.
func (s *standin) judge(r *http.Request, a asked, accepts takes) verdict {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	action := a.action(r.Method)
	switch {
	case accepts.basic && strings.EqualFold(scheme, "Basic"):
		user, password, _ := r.BasicAuth()
		if user+password == "" {
			return unknownFace
		}
		switch status := s.login(user, password); {
		case status == http.StatusTooManyRequests:
			return lockedOut
		case status != http.StatusOK:
			return wrongLogin
		case action != "" && !s.rights(user, a.repository, action):
			return insufficient
		}
		return admitted
	case accepts.bearer && strings.EqualFold(scheme, "Bearer"):
		g, known := s.tokens.find(value)
		switch {
		case !known:
			return wrongToken
		case action != "" && !s.covers(g, a.repository, action):
			return insufficient
		}
		if from := r.URL.Query().Get("from"); from != "" && !s.covers(g, from, "pull") {
			r.URL.RawQuery = ""
		}
		return admitted
	case scheme != "":
		s.fault("registry: takes no %s, and got it: %s %s", scheme, r.Method, r.RequestURI)
	}
	return unknownFace
}

// covers reports whether a token is good for an action.
func (s *standin) covers(g granted, repository, action string) bool {
	if g.access == nil {
		return s.rights(g.user, repository, action)
	}
	return slices.Contains(g.access[repository], action) || slices.Contains(g.access[repository], "*")
}
