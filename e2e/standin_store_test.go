package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1"
)

// store is a registry in memory: what the distribution spec demands, and the
// places where registries differ as settings.
type store struct {
	shared   bool                                                                         // any blob under any name
	location func(r *http.Request, path string) string                                    // nil: the path alone
	redirect func(r *http.Request, a asked) (to string)                                   // of a blob; nil or "": it is here
	link     func(r *http.Request, last string, n int) string                             // of the next page; nil: as distribution's
	most     int                                                                          // names of a page; 0: as many as asked for
	from     func(r *http.Request) string                                                 // where a page begins; nil: ?last=
	manifest func(w http.ResponseWriter, r *http.Request, a asked, mediaType string) bool // nil or true: go on

	mu        sync.Mutex
	blobs     map[string][]byte
	holds     map[string]map[string]bool // repository to digests of its blobs
	manifests map[string]map[string]storedManifest
	uploads   map[string][]byte
}

type storedManifest struct {
	mediaType string
	digest    string
	content   []byte
}

func newStore() *store {
	return &store{
		blobs: map[string][]byte{}, holds: map[string]map[string]bool{},
		manifests: map[string]map[string]storedManifest{}, uploads: map[string][]byte{},
	}
}

// serve answers a request that may be answered. The path begins with /v2/.
func (s *store) serve(w http.ResponseWriter, r *http.Request, a asked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch a.kind {
	case "ping":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	case "_catalog":
		s.list(w, r, "repositories", "", slices.Collect(keysOf(s.manifests)))
	case "tags":
		s.tags(w, r, a)
	case "manifests":
		s.serveManifest(w, r, a)
	case "blobs":
		s.serveBlob(w, r, a)
	case "blobs/uploads":
		s.serveUpload(w, r, a)
	default:
		http.NotFound(w, r)
	}
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (s *store) tags(w http.ResponseWriter, r *http.Request, a asked) {
	known, ok := s.manifests[a.repository]
	if !ok {
		answerError(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry", nil)
		return
	}
	tags := slices.DeleteFunc(slices.Collect(keysOf(known)), func(ref string) bool { return strings.Contains(ref, ":") })
	s.list(w, r, "tags", a.repository, tags)
}

// list answers a page of names and says where the next one begins.
func (s *store) list(w http.ResponseWriter, r *http.Request, member, name string, names []string) {
	slices.Sort(names)
	last := r.URL.Query().Get("last")
	if s.from != nil {
		last = s.from(r)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return last != "" && n <= last })
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil || n < 1 || s.most > 0 && n > s.most {
		n = s.most
	}
	if n > 0 && n < len(names) {
		names = names[:n]
		link := fmt.Sprintf(`<%s?last=%s&n=%d>; rel="next"`, r.URL.Path, names[n-1], n)
		if s.link != nil {
			link = s.link(r, names[n-1], n)
		}
		w.Header().Set("Link", link)
	}
	page := map[string]any{member: names}
	if name != "" {
		page["name"] = name
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(page)
}

// where is the Location of a path.
func (s *store) where(r *http.Request, path string) string {
	if s.location != nil {
		return s.location(r, path)
	}
	return path
}

// newID is one for an upload.
func newID() string { return strings.ToLower(rand.Text()) }

// has puts an image or an index into the store.
func (s *store) has(ref string, what any) error {
	repository, tag, _ := strings.Cut(ref, ":")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.add(repository, tag, what)
}

func (s *store) add(repository, tag string, what any) error {
	switch what := what.(type) {
	case v1.ImageIndex:
		index, err := what.IndexManifest()
		if err != nil {
			return err
		}
		for _, d := range index.Manifests {
			img, err := what.Image(d.Digest)
			if err != nil {
				return err
			}
			if err := s.add(repository, d.Digest.String(), img); err != nil {
				return err
			}
		}
	case v1.Image:
		if err := s.addLayers(repository, what); err != nil {
			return err
		}
	}
	m, ok := what.(interface{ RawManifest() ([]byte, error) })
	if !ok {
		return fmt.Errorf("cannot put a %T", what)
	}
	content, err := m.RawManifest()
	if err != nil {
		return err
	}
	s.putManifest(repository, tag, content, mediaTypeOf(content))
	return nil
}
