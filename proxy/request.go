package proxy

import (
	"net/url"

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
)

// Request is what was asked, parsed once. What is judged is what is forwarded:
// URL is its inverse.
type Request struct {
	Kind       Kind
	Method     string
	Repository string // client name
	Reference  string // tag, digest or upload id
	Mount      string // POST uploads ?mount=
	From       string // POST uploads ?from=, client name
	Query      Query  // the known parameters that go on
	Wants      []auth.Access
}

// Query holds the known parameters (P12, K1), each of a checked form.
type Query struct {
	N               string // decimal; "" if absent
	Last            string
	Digest          string
	DigestAlgorithm string
	NS              string
	ArtifactType    []string
	Tag             []string
}

// ParseRequest reads method and target (P01-P12). It is total. u must be as
// the server parsed it; the escaped path is what is looked at. Errors are
// *httpError, ready for the client.
func ParseRequest(method string, u *url.URL) (Request, error) { panic("unwritten") }

// URL is the inverse of ParseRequest: path and query rebuilt from the parts.
func (q *Request) URL() *url.URL { panic("unwritten") }
