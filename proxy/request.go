package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/regward/regward/auth"
)

// Kind is the route a request is on; the closed set of P01.
type Kind uint8

// The routes.
const (
	KindPing        Kind = iota + 1 // GET HEAD /v2/
	KindManifest                    // /v2/N/manifests/R
	KindBlob                        // /v2/N/blobs/D
	KindTags                        // /v2/N/tags/list
	KindReferrers                   // /v2/N/referrers/D
	KindUploadStart                 // POST /v2/N/blobs/uploads/
	KindUpload                      // /v2/N/blobs/uploads/U
	KindCatalog                     // /v2/_catalog
	KindUnknown                     // any other /v2/...: 404, but only to who has a token (P20, C21)
)

// String is the route's name in records.
func (k Kind) String() string {
	switch k {
	case KindPing:
		return "ping"
	case KindManifest:
		return "manifest"
	case KindBlob:
		return "blob"
	case KindTags:
		return "tags"
	case KindReferrers:
		return "referrers"
	case KindUploadStart:
		return "upload-start"
	case KindUpload:
		return "upload"
	case KindCatalog:
		return "catalog"
	case KindUnknown:
		return "unknown"
	}
	return "none"
}

// allow lists the methods of a route (P01), as the Allow field has them.
func (k Kind) allow() string {
	switch k {
	case KindPing:
		return "GET, HEAD"
	case KindManifest:
		return "GET, HEAD, PUT, DELETE"
	case KindBlob:
		return "GET, HEAD, DELETE"
	case KindTags, KindReferrers, KindCatalog:
		return "GET"
	case KindUploadStart:
		return "POST"
	case KindUpload:
		return "GET, HEAD, PATCH, PUT, DELETE"
	}
	return ""
}

// serves reports whether the route has the method. An unknown route has them
// all: its answer is 404 whatever is tried.
func (k Kind) serves(method string) bool {
	switch method {
	case http.MethodGet:
		return k != KindUploadStart
	case http.MethodHead:
		return k == KindPing || k == KindManifest || k == KindBlob || k == KindUpload || k == KindUnknown
	case http.MethodPut:
		return k == KindManifest || k == KindUpload || k == KindUnknown
	case http.MethodDelete:
		return k == KindManifest || k == KindBlob || k == KindUpload || k == KindUnknown
	case http.MethodPost:
		return k == KindUploadStart || k == KindUnknown
	case http.MethodPatch:
		return k == KindUpload || k == KindUnknown
	}
	return k == KindUnknown
}

// Request is what was asked, parsed once. What is judged is what is forwarded:
// URL is its inverse.
type Request struct {
	Kind       Kind
	Method     string
	Repository string // client name
	Reference  string // tag, digest or upload id
	Mount      string // POST uploads ?mount=; never without From (P15)
	From       string // POST uploads ?from=, client name
	Query      Query  // the known parameters that go on

	// Wants is what the caller must be allowed, all of it. A mount's source is
	// not in it: see Source. Nil on the ping and on an unknown route.
	Wants []auth.Access
}

// Query holds the known parameters (P12, K1), each of a checked form and only
// on the routes that read it.
type Query struct {
	N               string // decimal, at most 1000; "" if absent
	Last            string
	Digest          string
	DigestAlgorithm string
	NS              string
	ArtifactType    []string
	Tag             []string

	Page string // an upstream's own query, out of a cursor of ours, instead of all others (R15); never read from a request
}

// ParseRequest reads method and target (P01-P12). It is total. u must be as
// the server parsed it; the escaped path is what is looked at. Errors are
// *httpError, ready for the client.
//
// Everything outside /v2/ is 404: the handler serves its own few paths there
// before it asks. What is inside and no route is KindUnknown.
func ParseRequest(method string, u *url.URL) (Request, error) {
	path, colon, err := canonicalPath(u)
	if err != nil {
		return Request{}, err
	}
	q := Request{Method: method}
	q.Kind, q.Repository, q.Reference = route(path)
	if colon && q.Kind != KindManifest && q.Kind != KindBlob && q.Kind != KindReferrers {
		return Request{}, errEscape()
	}
	if err := q.checkParts(); err != nil {
		return Request{}, err
	}
	if !q.Kind.serves(method) {
		e := refuse(http.StatusMethodNotAllowed, "UNSUPPORTED", "this path does not take that method")
		e.header = http.Header{"Allow": {q.Kind.allow()}}
		return Request{}, e
	}
	if u.RawQuery != "" {
		if err := q.readQuery(u.RawQuery); err != nil {
			return Request{}, err
		}
	}
	q.Wants = q.wants()
	return q, nil
}

// canonicalPath is the path below /v2/, without escapes, or why there is none
// (P06, P08). Only a digest's colon may come escaped, and colon says that one
// did; it is for the caller to see that there is a digest.
func canonicalPath(u *url.URL) (path string, colon bool, err error) {
	if u.Opaque != "" || u.User != nil || u.Fragment != "" {
		return "", false, errTarget()
	}
	if u.Scheme != "" && (u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return "", false, errTarget() // "x:/v2/" is an absolute target to net/url
	}
	// Without RawPath the escaped path is Path with its odd bytes escaped, and
	// those are refused below in either spelling.
	path = u.Path
	if u.RawPath != "" {
		path = u.EscapedPath()
	} else if strings.IndexByte(path, '%') >= 0 {
		return "", false, errEscape() // it came as %25: once unescaped is enough
	}
	if len(path) > maxPath {
		return "", false, refuse(http.StatusRequestURITooLong, "UNSUPPORTED", "the path is too long")
	}
	if i := strings.IndexByte(path, '%'); i >= 0 {
		if len(path) < i+3 || !strings.EqualFold(path[i:i+3], "%3A") || strings.IndexByte(path[i:], '/') >= 0 {
			return "", false, errEscape()
		}
		path, colon = path[:i]+":"+path[i+3:], true
	}
	proper, start := true, 1 // where the segment begins
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case !pathByte(c):
			return "", false, errTarget()
		case c == '/':
			proper = proper && (i == 0 || properSegment(path[start:i]))
			start = i + 1
		}
	}
	if path == "/v2" || path == "/v2/" {
		return "", colon, nil // C16
	}
	below, inside := strings.CutPrefix(path, "/v2/")
	if !inside {
		return "", false, refuse(http.StatusNotFound, "NAME_UNKNOWN", "there is nothing at this path")
	}
	if strings.HasSuffix(below, "/blobs/uploads/") {
		below = below[:len(below)-1]
	} else {
		proper = proper && properSegment(path[start:])
	}
	if !proper {
		return "", false, errTarget()
	}
	return below, colon, nil
}

// properSegment reports whether s may stand between slashes.
func properSegment(s string) bool { return s != "" && s != "." && s != ".." }

// pathByte reports whether c may stand in a path unescaped: unreserved and
// sub-delims of RFC 3986 but for ";", and ":", "@", "/".
func pathByte(c byte) bool {
	// A bit for each: this is asked of every byte of every path.
	const (
		low  = (1<<10-1)<<'0' | 1<<'/' | 1<<'-' | 1<<'.' | 1<<':' | 1<<'=' | 1<<'+' | 1<<'!' | 1<<'$' | 1<<'&' | 1<<'\'' | 1<<'(' | 1<<')' | 1<<'*' | 1<<','
		high = ((1<<26-1)<<'A' | (1<<26-1)<<'a' | 1<<'_' | 1<<'~' | 1<<'@') >> 64
	)
	if c < 64 {
		return uint64(low)>>c&1 != 0
	}
	return c < 128 && uint64(high)>>(c-64)&1 != 0
}

// route splits what is below /v2/ from the right (P05): components of a name
// may be called manifests, blobs, tags, uploads or referrers too.
func route(path string) (kind Kind, name, reference string) {
	switch path {
	case "":
		return KindPing, "", ""
	case "_catalog":
		return KindCatalog, "", ""
	}
	name, last, ok := cutLast(path)
	name, operation, ok2 := cutLast(name)
	if !ok || !ok2 {
		return KindUnknown, "", ""
	}
	switch {
	case operation == "manifests":
		kind, reference = KindManifest, last
	case operation == "blobs" && last == "uploads":
		kind = KindUploadStart
	case operation == "blobs":
		kind, reference = KindBlob, last
	case operation == "tags" && last == "list":
		kind = KindTags
	case operation == "referrers":
		kind, reference = KindReferrers, last
	case operation == "uploads" && strings.HasSuffix(name, "/blobs"):
		kind, name, reference = KindUpload, name[:len(name)-len("/blobs")], last
	default:
		return KindUnknown, "", ""
	}
	if name[0] == '_' || strings.Contains(name, "/_") {
		return KindUnknown, "", "" // an extension's route, never a repository (P10)
	}
	return kind, name, reference
}

// cutLast splits s around its last slash.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// checkParts holds name and reference against the grammar (P02-P04).
func (q *Request) checkParts() error {
	switch q.Kind {
	case KindPing, KindCatalog, KindUnknown:
		return nil
	}
	if !validName(q.Repository) {
		return errName()
	}
	switch q.Kind {
	case KindManifest:
		if q.byDigest() {
			if !validDigest(q.Reference) {
				return errDigest()
			}
		} else if !validTag(q.Reference) {
			return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "there can be no such tag: tags have letters, digits, '.', '_' and '-', at most 128")
		}
	case KindBlob, KindReferrers:
		if !validDigest(q.Reference) {
			return errDigest()
		}
	case KindUpload:
		if !validUploadID(q.Reference) {
			return refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
		}
	}
	return nil
}

// byDigest reports whether the reference names content rather than a tag.
func (q *Request) byDigest() bool { return strings.IndexByte(q.Reference, ':') >= 0 }

// wants is the last column of P01.
func (q *Request) wants() []auth.Access {
	tag := ""
	if q.Kind == KindManifest && !q.byDigest() {
		tag = q.Reference
	}
	switch {
	case q.Kind == KindPing, q.Kind == KindUnknown:
		return nil
	case q.Kind == KindCatalog:
		return []auth.Access{{Action: auth.List}}
	case q.Method == http.MethodDelete && q.Kind != KindUpload:
		return []auth.Access{{Repository: q.Repository, Tag: tag, Action: auth.Delete}}
	case q.Kind == KindUploadStart, q.Kind == KindUpload, q.Method == http.MethodPut:
		// An upload is cancelled with the right to push (P17).
		wants := make([]auth.Access, 2, 2+len(q.Query.Tag))
		wants[0] = auth.Access{Repository: q.Repository, Tag: tag, Action: auth.Pull}
		wants[1] = auth.Access{Repository: q.Repository, Tag: tag, Action: auth.Push}
		for _, t := range q.Query.Tag {
			wants = append(wants, auth.Access{Repository: q.Repository, Tag: t, Action: auth.Push})
		}
		return wants
	}
	return []auth.Access{{Repository: q.Repository, Tag: tag, Action: auth.Pull}}
}

// Source is what a mount wants of the repository it takes the blob from. It is
// apart from Wants because its refusal is no refusal of the request: the mount
// is dropped and the upload starts plainly (P14). It is the zero Access if
// nothing is to be mounted.
func (q *Request) Source() auth.Access {
	if q.Mount == "" {
		return auth.Access{}
	}
	return auth.Access{Repository: q.From, Action: auth.Pull}
}

// Path is the path as a client writes it, with nothing escaped.
func (q *Request) Path() string { return q.path("", q.Repository) }

// URL is the inverse of ParseRequest: path and query rebuilt from the parts.
func (q *Request) URL() *url.URL {
	return &url.URL{Path: q.Path(), RawQuery: q.encodeQuery(q.From, q.Query.NS)}
}

// upstream is the request's path and raw query as an upstream gets them (P07):
// prefix is the path of its base URL without a slash at the end, name and from
// are names of its own. An empty from drops the mount (P14); ns stays here
// (M01). A KindUpload goes to the URL sealed in its id instead (R05).
func (q *Request) upstream(prefix, name, from string) (path, query string) {
	return q.path(prefix, name), q.encodeQuery(from, "")
}

func (q *Request) path(prefix, name string) string {
	switch q.Kind {
	case KindPing:
		return prefix + "/v2/"
	case KindManifest:
		return prefix + "/v2/" + name + "/manifests/" + q.Reference
	case KindBlob:
		return prefix + "/v2/" + name + "/blobs/" + q.Reference
	case KindTags:
		return prefix + "/v2/" + name + "/tags/list"
	case KindReferrers:
		return prefix + "/v2/" + name + "/referrers/" + q.Reference
	case KindUploadStart:
		return prefix + "/v2/" + name + "/blobs/uploads/"
	case KindUpload:
		return prefix + "/v2/" + name + "/blobs/uploads/" + q.Reference
	case KindCatalog:
		return prefix + "/v2/_catalog"
	}
	return prefix + "/v2/_" // stands for every path that is no route
}

func errTarget() error {
	return refuse(http.StatusBadRequest, "NAME_INVALID", "this is not a path of the registry API")
}

func errEscape() error {
	return refuse(http.StatusBadRequest, "NAME_INVALID", "nothing in a path may be percent-encoded but the colon of a digest")
}

func errName() error {
	return refuse(http.StatusBadRequest, "NAME_INVALID",
		"repository names are lower-case letters and digits, parted by '.', '_', '-' or '/', at most 255 bytes")
}

func errDigest() error {
	return refuse(http.StatusBadRequest, "DIGEST_INVALID", "this is not a digest: write sha256: and 64 lower-case hex digits")
}
