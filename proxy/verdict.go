package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
)

// checkAnswer turns what must not pass as it is into a refusal of ours. What
// goes wrong upstream looks neither like success nor like a refusal.
func (x *exchange) checkAnswer(resp *http.Response) error {
	status := resp.StatusCode
	says := "the registry behind this one answered " + strconv.Itoa(status)
	switch {
	case status < 200 || status == http.StatusUnauthorized || status == http.StatusProxyAuthRequired:
		return broken(errors.New("unexpected status " + strconv.Itoa(status)))
	case status == http.StatusTooManyRequests && x.up != nil: // the catalog, which is of several, sees to its own
		return x.up.limited(resp.Header, x.ownLogin())
	case status >= 500:
		return passWait(resp, refuse(status, "UNAVAILABLE", says+"; try again later").from(errors.New("upstream answered "+resp.Status)))
	case status >= 400 && !isJSON(resp.Header) && status != http.StatusRequestedRangeNotSatisfiable && x.r.Method != http.MethodHead:
		return refuse(status, x.codeFor(status), says).because(reasonNotFound)
	case status == http.StatusOK && x.req.Kind != KindBlob && isPage(resp.Header):
		return broken(errors.New("the answer is a page for a browser, text/html"))
	case status == http.StatusAccepted && x.req.Kind == KindUploadStart && resp.Header.Get("Location") == "":
		return broken(errors.New("an upload was accepted without a Location"))
	}
	return nil
}

// ownLogin reports whether the client's own login went to the upstream.
func (x *exchange) ownLogin() bool {
	return x.up != nil && x.up.settings.Passthrough && !x.who.Anonymous()
}

// passWait lets the upstream's Retry-After through.
func passWait(resp *http.Response, e *httpError) *httpError {
	if wait := resp.Header.Get("Retry-After"); wait != "" {
		e.with("Retry-After", wait)
	}
	return e
}

// isPage reports whether somebody between us and the registry answered, as
// login pages and maintenance pages do, with 200.
func isPage(h http.Header) bool { return strings.HasPrefix(h.Get("Content-Type"), "text/html") }

// codeFor is the code of an upstream's refusal that came without one. A
// registry without referrers must not seem to lack the repository (S05).
func (x *exchange) codeFor(status int) string {
	if status != http.StatusNotFound {
		return "UNSUPPORTED"
	}
	switch x.req.Kind {
	case KindManifest:
		return "MANIFEST_UNKNOWN"
	case KindBlob:
		return "BLOB_UNKNOWN"
	case KindUpload:
		return "BLOB_UPLOAD_UNKNOWN"
	case KindReferrers:
		return "UNSUPPORTED"
	}
	return "NAME_UNKNOWN"
}

func isJSON(h http.Header) bool {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	t = strings.TrimSpace(t)
	return t == "application/json" || strings.HasSuffix(t, "+json")
}
