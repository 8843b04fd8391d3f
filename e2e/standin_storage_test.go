package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"testing"
)

// storageQuery is what a presigned URL has, in escapes that must come back
// byte for byte.
const storageQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAEXAMPLE%2F20261122%2Feu-west-1%2Fs3%2Faws4_request" +
	"&X-Amz-Expires=1200&X-Amz-SignedHeaders=host&response-content-disposition=attachment%3B+filename%3D%22layer%22"

// storage starts object storage on a host of its own for the blobs of the
// stand-in. It wants a signed URL and a credential by no other way.
func (s *standin) storage(t testing.TB, host string) (base string) {
	t.Helper()
	return s.listen(t, "storage", host, true, s.serveStorage)
}

func (s *standin) serveStorage(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Set-Cookie", "AWSALB=sticky; Path=/")
	w.Header().Set("Server", "AmazonS3")
	for _, name := range []string{"Authorization", "X-Forwarded-For", "X-Request-Id"} {
		if r.Header.Get(name) != "" {
			s.fault("storage got %s: %s %s", name, r.Method, r.RequestURI)
		}
	}
	query, signature, _ := strings.Cut(r.URL.RawQuery, "&X-Amz-Signature=")
	switch {
	case r.Header.Get("Authorization") != "" && signature != "":
		storageError(w, http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed")
	case query != storageQuery || signature != signed(r.Method, r.URL.EscapedPath()):
		s.fault("storage: the signature is not that of %s %s", r.Method, r.RequestURI)
		storageError(w, http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match")
	default:
		s.store.mu.Lock()
		defer s.store.mu.Unlock()
		s.store.send(w, r, path.Base(r.URL.Path))
		return
	}
}

func storageError(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}

// signed is the signature of a URL, good for one method.
func signed(method, escapedPath string) string {
	mac := hmac.New(sha256.New, []byte("storage"))
	fmt.Fprintf(mac, "%s %s?%s", method, escapedPath, storageQuery)
	return hex.EncodeToString(mac.Sum(nil))
}

// presigned is the URL of a blob in storage at base.
func presigned(base, method, repository, digest string) string {
	escaped := "/bucket/" + url.PathEscape(repository) + "/" + digest
	return base + escaped + "?" + storageQuery + "&X-Amz-Signature=" + signed(method, escaped)
}

// storedAt makes the registry redirect blobs to storage at base.
func (s *standin) storedAt(base string) {
	s.store.redirect = func(r *http.Request, a asked) string {
		return presigned(base, r.Method, a.repository, a.rest)
	}
}
