package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"
)

func (s *store) serveBlob(w http.ResponseWriter, r *http.Request, a asked) {
	if !s.gives(a.repository, a.rest) {
		answerError(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry", map[string]string{"digest": a.rest})
		return
	}
	if s.redirect != nil {
		if to := s.redirect(r, a); to != "" {
			status := http.StatusTemporaryRedirect
			if to[0] == '/' { // those that answer with a path do so with 302
				status = http.StatusFound
			}
			w.Header().Set("Location", to)
			w.WriteHeader(status)
			return
		}
	}
	s.send(w, r, a.rest)
}

// send answers with a blob, or the part of it that was asked for.
func (s *store) send(w http.ResponseWriter, r *http.Request, digest string) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Etag", `"`+digest+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.blobs[digest]))
}

func (s *store) serveUpload(w http.ResponseWriter, r *http.Request, a asked) {
	q := r.URL.Query()
	made := func(digest string) {
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Location", s.where(r, "/v2/"+a.repository+"/blobs/"+digest))
		w.WriteHeader(http.StatusCreated)
	}
	goesOn := func(status int, id string) {
		w.Header().Set("Location", s.where(r, "/v2/"+a.repository+"/blobs/uploads/"+id))
		w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, len(s.uploads[id])-1)))
		w.Header().Set("Docker-Upload-Uuid", id)
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(status)
	}
	if r.Method == http.MethodPost {
		if d := q.Get("mount"); d != "" && s.gives(q.Get("from"), d) {
			s.hold(a.repository, d)
			made(d)
			return
		}
		id := newID()
		s.uploads[id] = nil
		goesOn(http.StatusAccepted, id)
		return
	}
	content, known := s.uploads[a.rest]
	if !known {
		answerError(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", nil)
		return
	}
	more, err := io.ReadAll(r.Body)
	if err != nil {
		return // who sent it is gone
	}
	content = append(content, more...)
	s.uploads[a.rest] = content
	switch {
	case r.Method == http.MethodPatch:
		goesOn(http.StatusAccepted, a.rest)
	case r.Method == http.MethodDelete:
		delete(s.uploads, a.rest)
		w.WriteHeader(http.StatusNoContent)
	case r.Method != http.MethodPut:
		goesOn(http.StatusNoContent, a.rest)
	case q.Get("digest") != sum(content):
		answerError(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content", nil)
	default:
		delete(s.uploads, a.rest)
		made(s.keep(a.repository, content))
	}
}
