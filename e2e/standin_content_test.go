package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
)

// sum is the digest of content.
func sum(content []byte) string {
	h := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(h[:])
}

func mediaTypeOf(manifest []byte) string {
	var m struct{ MediaType string }
	_ = json.Unmarshal(manifest, &m) // ours, so it is JSON
	return m.MediaType
}

func (s *store) addLayers(repository string, img v1.Image) error {
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	s.keep(repository, config)
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		packed, err := layer.Compressed()
		if err != nil {
			return err
		}
		content, err := io.ReadAll(packed)
		if err != nil {
			return err
		}
		s.keep(repository, content)
	}
	return nil
}

func (s *store) keep(repository string, content []byte) string {
	digest := sum(content)
	s.blobs[digest] = content
	s.hold(repository, digest)
	return digest
}

func (s *store) hold(repository, digest string) {
	if s.holds[repository] == nil {
		s.holds[repository] = map[string]bool{}
	}
	s.holds[repository][digest] = true
}

func (s *store) gives(repository, digest string) bool {
	_, there := s.blobs[digest]
	return there && (s.shared || s.holds[repository][digest])
}

func (s *store) putManifest(repository, ref string, content []byte, mediaType string) string {
	m := storedManifest{mediaType, sum(content), content}
	if s.manifests[repository] == nil {
		s.manifests[repository] = map[string]storedManifest{}
	}
	s.manifests[repository][m.digest] = m
	s.manifests[repository][ref] = m
	return m.digest
}

func (s *store) digestOf(ref string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	repository, tag, _ := strings.Cut(ref, ":")
	return s.manifests[repository][tag].digest
}

func (s *store) serveManifest(w http.ResponseWriter, r *http.Request, a asked) {
	m, ok := s.manifests[a.repository][a.rest]
	switch {
	case r.Method == http.MethodPut:
		content, err := io.ReadAll(r.Body)
		if err != nil || !s.complete(a.repository, content) {
			answerError(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", nil)
			return
		}
		digest := s.putManifest(a.repository, a.rest, content, r.Header.Get("Content-Type"))
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Location", s.where(r, "/v2/"+a.repository+"/manifests/"+digest))
		w.WriteHeader(http.StatusCreated)
	case !ok:
		answerError(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown", map[string]string{"name": a.repository})
	case r.Method == http.MethodDelete:
		for ref, other := range s.manifests[a.repository] {
			if ref == a.rest || a.rest == m.digest && other.digest == m.digest {
				delete(s.manifests[a.repository], ref)
			}
		}
		w.WriteHeader(http.StatusAccepted)
	case s.manifest != nil && !s.manifest(w, r, a, m.mediaType):
	default:
		w.Header().Set("Content-Type", m.mediaType)
		w.Header().Set("Docker-Content-Digest", m.digest)
		w.Header().Set("Content-Length", strconv.Itoa(len(m.content)))
		if r.Method == http.MethodGet {
			_, _ = w.Write(m.content)
		}
	}
}

// complete reports whether all that a manifest names is there.
func (s *store) complete(repository string, manifest []byte) bool {
	type named struct{ Digest string }
	var m struct {
		Config    *named
		Layers    []named
		Manifests []named
	}
	if json.Unmarshal(manifest, &m) != nil {
		return false
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, layer := range m.Layers {
		if !s.gives(repository, layer.Digest) {
			return false
		}
	}
	for _, child := range m.Manifests {
		if _, ok := s.manifests[repository][child.Digest]; !ok {
			return false
		}
	}
	return true
}

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
