package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// newECR starts an Elastic Container Registry: Basic with the user AWS and a
// password of twelve hours, blobs in object storage, its own Host or nothing.
// Another password of AWS, as one that was good, is 400 and not 401.
func newECR(t testing.TB) *standin {
	s := newStandin()
	s.user, s.password = "AWS", "eyJwYXlsb2FkIjoi"+strings.Repeat("QUJD+/", 300)+"In0=" // they are long
	bucket := s.storage(t, "localhost")
	s.storedAt(bucket)
	s.extra = "\n  redirect_hosts: [" + quoted(strings.TrimPrefix(bucket, "https://")) + "]"
	registry := s.registry(takes{basic: true}, func(w http.ResponseWriter, r *http.Request, _ asked, v verdict) {
		if user, _, _ := r.BasicAuth(); v == wrongLogin && user == "AWS" {
			answerError(w, http.StatusBadRequest, "DENIED", "Your Authorization Token is invalid.", nil)
			return
		}
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Basic realm="https://%s/",service="ecr.amazonaws.com"`, r.Host))
		http.Error(w, "Not Authorized", http.StatusUnauthorized)
	})
	return s.serve(t, true, "", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != s.host {
			s.fault("registry: asked by the name of somebody else: %s", r.Host)
			http.Error(w, "Not Found", http.StatusNotFound)
			return
		}
		registry(w, r)
	})
}
