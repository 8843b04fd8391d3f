package proxy

import (
	"mime"
	"net/http"
	"strings"
)

const octetStream = "application/octet-stream"

// requestHeader is what of the client's header goes on: a list of what may,
// not of what may not (K1, P22-P24). Lines keep their number and their order.
// The rest - Host, Authorization, X-Forwarded-Proto, the request id, the name of
// who asks - is added by Upstream.do. clientAddr is the address that limits
// count (H14), without a port.
func requestHeader(r *http.Request, q *Request, clientAddr string) http.Header {
	dst := make(http.Header, 8)
	body := takesBody(q)
	for name, values := range r.Header {
		switch name {
		case "Accept", "Accept-Encoding", "Range", "If-Range", "If-None-Match", "If-Match",
			"If-Modified-Since", "If-Unmodified-Since", "User-Agent", "Traceparent":
			dst[name] = values
		case "Content-Range":
			if body {
				dst[name] = values
			}
		case "Content-Type":
			if body {
				dst[name] = uploadType(q, values)
			}
		}
	}
	// A client may take away what is its own, nothing else: ours comes later (H08).
	for _, line := range r.Header["Connection"] {
		if strings.EqualFold(line, "close") || strings.EqualFold(line, "keep-alive") {
			continue
		}
		for _, name := range strings.Split(line, ",") {
			delete(dst, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	dst["X-Forwarded-For"] = []string{clientAddr}
	return dst
}

// takesBody reports whether the body of q goes on: a POST without a digest
// goes without one, whatever the client sends (P13).
func takesBody(q *Request) bool {
	switch q.Method {
	case http.MethodPut, http.MethodPatch:
		return true
	case http.MethodPost:
		return q.Query.Digest != ""
	}
	return false
}

// uploadType is the Content-Type of a body on q. On uploads a form, or what
// somebody might read as one, becomes octets: registries let parameters in a form win
// over those in the query, which are the ones that were judged (P13).
// A manifest's type is kept as it is (P26).
func uploadType(q *Request, values []string) []string {
	if q.Kind != KindUpload && q.Kind != KindUploadStart {
		return values
	}
	if len(values) == 1 {
		switch values[0] {
		case octetStream, "application/json":
			return values
		}
		media, _, err := mime.ParseMediaType(values[0])
		if err == nil && media != "application/x-www-form-urlencoded" && !strings.HasPrefix(media, "multipart/") {
			return values
		}
	}
	return []string{octetStream}
}

// copyResponseHeader copies what may reach the client from an upstream's
// answer (R09-R13, R16). What is not listed stays behind: challenges, cookies,
// CORS, transport policies, the upstream's own limits (R17, L03). Location and
// Link are written by whoever knows client names (R01, R08, R15).
func copyResponseHeader(dst, src http.Header) {
	for name, values := range src {
		switch name {
		case "Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Accept-Ranges", "Range",
			"Etag", "Last-Modified", "Cache-Control", "Retry-After", "Warning",
			"Docker-Content-Digest", "Docker-Upload-Uuid",
			"Oci-Subject", "Oci-Filters-Applied", "Oci-Chunk-Min-Length", "Oci-Tag":
			dst[name] = values
		}
	}
}
