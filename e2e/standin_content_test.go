package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

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
