package proxy

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// oneStore is an upstream that has one store of layers for all names, as Nexus
// is taken to have: manifests and tags are a repository's own, a blob is had
// under any name by who knows its digest.
type oneStore struct {
	mu        sync.Mutex
	blobs     map[string][]byte
	manifests map[string]map[string][]byte // by repository and digest
	tags      map[string]map[string]string // by repository and tag
	fails     map[string]int               // status by path, instead of an answer
	uploads   map[string][]byte
	deduped   bool // POST ?digest= is 201 for whatever is in the store, sent or not
	pages     int  // tags on a page
	hold      chan struct{}
}

// sharedGate is a gate in front of such an upstream. Anonymous callers may
// pull library/**, ann may do all in coolteam/**, bob all in bob/**.
func sharedGate(t testing.TB, change ...func(*Settings)) (*gate, *oneStore) {
	t.Helper()
	on := true
	change = append([]func(*Settings){func(s *Settings) { s.Upstreams[0].SharedBlobs, s.TokenTTL = &on, 100*time.Hour }}, change...)
	g := newGate(t, `
		allow everyone       library/**  pull
		allow group:coolteam coolteam/** pull,push,delete
		allow user:bob       bob/**      pull,push,delete
		allow user:bob       shared/**   pull`, change...)
	s := newOneStore()
	g.up.answer(s.serve)
	return g, s
}

func newOneStore() *oneStore {
	return &oneStore{blobs: map[string][]byte{}, manifests: map[string]map[string][]byte{}, tags: map[string]map[string]string{},
		fails: map[string]int{}, uploads: map[string][]byte{}, pages: 100}
}

// blob puts one into the store and returns its digest.
func (s *oneStore) blob(content string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := digestOf([]byte(content))
	s.blobs[d] = []byte(content)
	return d
}

// image puts a manifest with these layers into a repository, with a config of
// its own, past regward.
func (s *oneStore) image(name, tag string, layers ...string) (digest string) {
	m := imageOf(s.blob("config of "+name+":"+tag), layers...)
	s.put(name, tag, m)
	return digestOf(m)
}

func (s *oneStore) put(name, tag string, manifest []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.manifests[name] == nil {
		s.manifests[name], s.tags[name] = map[string][]byte{}, map[string]string{}
	}
	s.manifests[name][digestOf(manifest)] = manifest
	if tag != "" {
		s.tags[name][tag] = digestOf(manifest)
	}
}

func (s *oneStore) fail(path string, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails[path] = status
}

func imageOf(config string, layers ...string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/json","digest":%q,"size":1},"layers":[%s]}`,
		imageType, config, descriptors("application/vnd.oci.image.layer.v1.tar+gzip", layers))
}

func indexOf(children ...string) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, indexType, descriptors(imageType, children))
}

func descriptors(kind string, digests []string) []byte {
	var list [][]byte
	for _, d := range digests {
		list = append(list, fmt.Appendf(nil, `{"mediaType":%q,"digest":%q,"size":1}`, kind, d))
	}
	return bytes.Join(list, []byte(","))
}

func (s *oneStore) serve(w http.ResponseWriter, r *http.Request) bool {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold != nil {
		<-hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if status := s.fails[r.URL.Path]; status != 0 {
		distributionError(w, status, "UNKNOWN")
		return true
	}
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	switch {
	case path == "":
		return false
	case strings.HasSuffix(path, "/tags/list"):
		s.list(w, r, strings.TrimSuffix(path, "/tags/list"))
	case strings.Contains(path, "/blobs/uploads/"):
		s.upload(w, r, path, body)
	case strings.Contains(path, "/blobs/"):
		_, digest, _ := strings.Cut(path, "/blobs/")
		s.blobOf(w, r, digest)
	case strings.Contains(path, "/manifests/"):
		name, reference, _ := strings.Cut(path, "/manifests/")
		s.manifest(w, r, name, reference, body)
	}
	return true
}

func (s *oneStore) list(w http.ResponseWriter, r *http.Request, name string) {
	if s.manifests[name] == nil {
		distributionError(w, 404, "NAME_UNKNOWN")
		return
	}
	var tags []string
	for tag := range s.tags[name] {
		if tag > r.URL.Query().Get("last") {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	if len(tags) > s.pages {
		tags = tags[:s.pages]
		w.Header().Set("Link", fmt.Sprintf(`</v2/%s/tags/list?last=%s&n=1000>; rel="next"`, name, tags[len(tags)-1]))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"name": name, "tags": tags})
}

func (s *oneStore) upload(w http.ResponseWriter, r *http.Request, path string, body []byte) {
	name, id, _ := strings.Cut(path, "/blobs/uploads/")
	q := r.URL.Query()
	made := func(digest string) {
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Location", "/v2/"+name+"/blobs/"+digest)
		w.WriteHeader(201)
	}
	take := func(content []byte) {
		if s.blobs[q.Get("digest")] == nil && sumAs(q.Get("digest"), content) != q.Get("digest") {
			distributionError(w, 400, "DIGEST_INVALID")
			return
		}
		s.blobs[q.Get("digest")] = content
		made(q.Get("digest"))
	}
	switch {
	case r.Method == "POST" && s.blobs[q.Get("mount")] != nil:
		made(q.Get("mount"))
	case r.Method == "POST" && q.Get("digest") != "" && s.deduped && s.blobs[q.Get("digest")] != nil:
		made(q.Get("digest"))
	case r.Method == "POST" && q.Get("digest") != "" && len(body) > 0:
		take(body)
	case r.Method == "POST":
		id = strconv.Itoa(len(s.uploads) + 1)
		s.uploads[id] = nil
		w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
		w.WriteHeader(202)
	case r.Method == "PATCH":
		s.uploads[id] = append(s.uploads[id], body...)
		w.Header().Set("Location", "/v2/"+name+"/blobs/uploads/"+id)
		w.WriteHeader(202)
	case r.Method == "PUT":
		content := append(s.uploads[id], body...)
		if sumAs(q.Get("digest"), content) != q.Get("digest") {
			distributionError(w, 400, "DIGEST_INVALID")
			return
		}
		take(content)
	}
}

func sumAs(digest string, content []byte) string {
	if strings.HasPrefix(digest, "sha512:") {
		return sha512Of(content)
	}
	return digestOf(content)
}

func sha512Of(content []byte) string {
	sum := sha512.Sum512(content)
	return "sha512:" + hex.EncodeToString(sum[:])
}

// blobOf is the flaw: no name is asked for.
func (s *oneStore) blobOf(w http.ResponseWriter, r *http.Request, digest string) {
	content := s.blobs[digest]
	if strings.HasPrefix(digest, "sha512:") {
		for _, c := range s.blobs {
			if sha512Of(c) == digest {
				content = c
			}
		}
	}
	switch {
	case content == nil:
		distributionError(w, 404, "BLOB_UNKNOWN")
	case r.Method == "DELETE":
		delete(s.blobs, digest)
		w.WriteHeader(202)
	default:
		w.Header().Set("Content-Type", octetStream)
		w.Header().Set("Docker-Content-Digest", digest)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

func (s *oneStore) manifest(w http.ResponseWriter, r *http.Request, name, reference string, body []byte) {
	digest := reference
	if !isDigest(reference) {
		digest = s.tags[name][reference]
	}
	content := s.manifests[name][digest]
	h := w.Header()
	switch {
	case r.Method == "PUT":
		tag := reference
		if isDigest(reference) {
			tag = ""
		}
		s.mu.Unlock()
		s.put(name, tag, body)
		s.mu.Lock()
		h.Set("Docker-Content-Digest", digestOf(body))
		w.WriteHeader(201)
	case content == nil:
		distributionError(w, 404, "MANIFEST_UNKNOWN")
	case r.Method == "DELETE":
		delete(s.manifests[name], digest)
		for tag, d := range s.tags[name] {
			if d == digest {
				delete(s.tags[name], tag)
			}
		}
		w.WriteHeader(202)
	default:
		h.Set("Content-Type", imageType)
		if bytes.Contains(content, []byte(`"manifests"`)) {
			h.Set("Content-Type", indexType)
		}
		h.Set("Docker-Content-Digest", digest)
		h.Set("Content-Length", strconv.Itoa(len(content)))
		w.WriteHeader(200)
		if r.Method == "GET" {
			_, _ = w.Write(content)
		}
	}
}

// asked are the paths that reached the upstream since the last call, with the
// method in front.
func (g *gate) asked() (list []string) {
	for _, r := range g.up.seen() {
		path, _, _ := strings.Cut(r.Target, "?")
		list = append(list, r.Method+" "+strings.TrimPrefix(path, "/v2/"))
	}
	return list
}

// asksFor fails if the upstream was asked for anything that has text in it.
func (g *gate) neverAsked(text string) {
	g.Helper()
	for _, one := range g.asked() {
		if strings.Contains(one, text) {
			g.Errorf("reached the upstream: %s", one)
		}
	}
}

// upload pushes a blob as docker does.
func (g *gate) upload(name, content string, who option) {
	g.Helper()
	start := g.do("POST", "/v2/"+name+"/blobs/uploads/", who).want(g, 202)
	patched := g.do("PATCH", start.Header.Get("Location"), who, chunked([]byte(content))).want(g, 202)
	g.do("PUT", patched.Header.Get("Location")+"?digest="+digestOf([]byte(content)), who).want(g, 201)
}

func manifestBody(kind string, content []byte) option {
	return func(r *http.Request) {
		body(content)(r)
		r.Header.Set("Content-Type", kind)
	}
}

// The forum thread's wish: library is free, coolteam is not, and who knows the
// digest of a private layer gets no byte of it through library.
func TestSharedBlobs_ABlobIsServedOnlyWhereAManifestRefersToIt(t *testing.T) {
	g, s := sharedGate(t)
	private, public := s.blob("private layer"), s.blob("public layer")
	s.image("coolteam/app", "latest", private)
	s.image("library/alpine", "latest", public)
	anonymous := g.as("", pulls("library/alpine"))
	pull := func(name, layer string, who option) {
		t.Helper()
		g.get("/v2/"+name+"/manifests/latest", who).want(t, 200)
		g.get("/v2/"+name+"/blobs/"+layer, who).want(t, 200)
	}
	pull("library/alpine", public, anonymous)
	pull("coolteam/app", private, g.as("ann", pulls("coolteam/app"))) // somebody else pulls the private image
	g.up.seen()

	for _, tt := range []struct {
		method, path string
		options      []option
	}{
		{"GET", "/v2/library/alpine/blobs/" + private, nil},
		{"HEAD", "/v2/library/alpine/blobs/" + private, nil},
		{"GET", "/v2/library/alpine/blobs/" + private, []option{header("Range", "bytes=0-3")}},
		{"GET", "/v2/library/alpine/blobs/sha256%3A" + private[7:], nil},
		{"GET", "/v2/library/alpine/blobs/" + private + "?ns=x", nil},
		{"GET", "/v2/library/nothing-here/blobs/" + private, nil},
		{"GET", "/v2/library/alpine/blobs/" + sha512Of([]byte("private layer")), nil},
		{"GET", "/v2/library/alpine/blobs/" + sha512Of([]byte("public layer")), nil}, // not the name that was given
	} {
		asks := append(tt.options, g.as("", pulls(strings.Split(tt.path, "/blobs/")[0][4:])))
		a := g.do(tt.method, tt.path, asks...)
		a.refused(t, 404, "BLOB_UNKNOWN")
		if bytes.Contains(a.body, []byte("private layer")) {
			t.Errorf("%s %s: the layer's bytes", tt.method, tt.path)
		}
	}
	g.neverAsked("/blobs/")
	// Whether the digest is anywhere makes no difference.
	want := g.get("/v2/library/alpine/blobs/"+absentDigest, anonymous)
	got := g.get("/v2/library/alpine/blobs/"+private, anonymous)
	strip := func(a reply) string {
		return strings.ReplaceAll(string(a.body), a.Header.Get("X-Request-Id"), "") + fmt.Sprint(a.StatusCode, len(a.Header))
	}
	if strip(got) != strip(want) {
		t.Errorf("a blob of others: %s, no blob at all: %s", strip(got), strip(want))
	}
	g.neverAsked("/blobs/")
}

func TestSharedBlobs_DeleteAndMountAskTheSame(t *testing.T) {
	g, s := sharedGate(t)
	private, own := s.blob("private layer"), s.blob("bob's layer")
	s.image("coolteam/app", "latest", private)
	s.image("bob/tools", "latest", own)
	s.image("shared/base", "latest", own)
	bob := g.as("bob", deletes("bob/tools"), pulls("shared/base"), pulls("coolteam/app"))
	g.do("DELETE", "/v2/bob/tools/blobs/"+private, bob).refused(t, 404, "BLOB_UNKNOWN")
	g.neverAsked("/blobs/")

	const start = "/v2/bob/tools/blobs/uploads/"
	for _, tt := range []struct {
		query  string
		mounts bool
	}{
		{"?mount=" + own + "&from=shared/base", true},
		{"?mount=" + private + "&from=shared/base", false},  // not there
		{"?mount=" + private + "&from=bob/tools", false},    // nor here
		{"?mount=" + private + "&from=coolteam/app", false}, // there, and no right on it
		{"?mount=" + private, false},
		{"?mount=" + private + "&from=bob/nothing", false},
		{"?mount=" + sha512Of([]byte("bob's layer")) + "&from=shared/base", false},
	} {
		a := g.do("POST", start+tt.query, bob)
		if want := map[bool]int{true: 201, false: 202}[tt.mounts]; a.StatusCode != want {
			t.Errorf("%s: %d, want %d", tt.query, a.StatusCode, want)
		}
		for _, r := range g.up.seen() {
			if got := strings.Contains(r.Target, "mount="); r.Method == "POST" && got != tt.mounts {
				t.Errorf("%s: reached the upstream as %s", tt.query, r.Target)
			}
		}
	}
	g.do("HEAD", "/v2/bob/tools/blobs/"+private, bob).want(t, 404)
	// What was mounted is there for its uploader, before any manifest.
	mounted := s.blob("another layer")
	s.image("shared/base", "other", mounted)
	g.clock.pass(lookedFor)
	g.do("POST", start+"?mount="+mounted+"&from=shared/base", bob).want(t, 201)
	g.do("HEAD", "/v2/bob/tools/blobs/"+mounted, bob).want(t, 200)
	// An upstream that cannot say leaves the plain upload.
	s.fail("/v2/shared/base/tags/list", 500)
	g.clock.pass(knownFor)
	g.do("POST", start+"?mount="+mounted+"&from=shared/base", bob).want(t, 202)
}

func TestSharedBlobs_APushedManifestGivesNothingAway(t *testing.T) {
	g, s := sharedGate(t)
	private := s.blob("private layer")
	privateImage := s.image("coolteam/app", "latest", private)
	foreignIndex := digestOf(indexOf(privateImage))
	s.put("coolteam/app", "multi", indexOf(privateImage))
	own := s.blob("bob's layer")
	ownImage := s.image("bob/tools", "latest", own)
	bob := g.as("bob", pushes("bob/tools"))
	config := digestOf([]byte("config of bob/tools:latest"))

	descriptor := `{"digest":"` + private + `","size":1}`
	for name, m := range map[string]string{
		"layer":                 string(imageOf(config, own, private)),
		"config":                string(imageOf(private, own)),
		"blobs of an artifact":  `{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[` + descriptor + `]}`,
		"schema 1":              `{"schemaVersion":1,"fsLayers":[{"blobSum":"` + private + `"}]}`,
		"index with layers":     `{"mediaType":"` + indexType + `","manifests":[],"layers":[` + descriptor + `]}`,
		"no media type":         `{"layers":[` + descriptor + `]}`,
		"another media type":    `{"mediaType":"text/plain","layers":[` + descriptor + `]}`,
		"urls that are empty":   `{"layers":[{"digest":"` + private + `","urls":[]}]}`,
		"urls that are null":    `{"layers":[{"digest":"` + private + `","urls":null}]}`,
		"escapes":               `{"\u006cayers":[{"dig\u0065st":"` + private[:6] + `\u003a` + private[7:] + `"}]}`,
		"child of another":      string(indexOf(ownImage, privateImage)),
		"index of another":      string(indexOf(foreignIndex)),
		"blob as a child":       string(indexOf(private)),
		"other algorithm":       `{"layers":[{"digest":"` + sha512Of([]byte("private layer")) + `"}]}`,
		"subject does not help": `{"subject":` + descriptor + `,"layers":[` + descriptor + `]}`,
	} {
		for _, reference := range []string{"evil", digestOf([]byte(m))} {
			for _, kind := range []string{imageType, "text/html", ""} {
				a := g.do("PUT", "/v2/bob/tools/manifests/"+reference, bob, manifestBody(kind, []byte(m)))
				if a.StatusCode != 400 || !strings.Contains(string(a.body), "MANIFEST_BLOB_UNKNOWN") || !strings.Contains(string(a.body), "which is not in bob/tools: push ") {
					t.Errorf("%s as %s: %d %s", name, reference, a.StatusCode, a.body)
				}
			}
		}
	}
	for name, m := range map[string]string{
		"twice":              `{"layers":[],"layers":[` + descriptor + `]}`,
		"twice, other order": `{"layers":[` + descriptor + `],"layers":[]}`,
		"digest twice":       `{"layers":[{"digest":"` + own + `","digest":"` + private + `"}]}`,
		"urls twice":         `{"layers":[{"urls":["http://x"],"digest":"` + private + `","urls":[]}]}`,
		"other letters":      `{"Layers":[` + descriptor + `]}`,
		"digest in others":   `{"layers":[{"Digest":"` + private + `"}]}`,
		"folded letters":     `{"layerſ":[` + descriptor + `]}`,
		"more after it":      `{"layers":[]}{"layers":[` + descriptor + `]}`,
		"cut off":            `{"layers":[` + descriptor,
		"empty":              ``,
		"array":              `[` + descriptor + `]`,
		"null":               `null`,
		"byte order mark":    "\ufeff" + `{"layers":[` + descriptor + `]}`,
		"no digest":          `{"layers":[{"digest":"../../x"}]}`,
		"no descriptor":      `{"layers":["` + private + `"]}`,
		"no list":            `{"layers":` + descriptor + `}`,
	} {
		a := g.do("PUT", "/v2/bob/tools/manifests/evil", bob, manifestBody(imageType, []byte(m)))
		if a.StatusCode != 400 || !strings.Contains(string(a.body), "MANIFEST_INVALID") {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	for _, one := range g.asked() {
		if strings.HasPrefix(one, "PUT") {
			t.Errorf("reached the upstream: %s", one)
		}
	}
	// What may be named though it is elsewhere opens nothing.
	for name, m := range map[string]string{
		"foreign layer": `{"layers":[{"digest":"` + private + `","urls":["https://example.com/x"]}]}`,
		"subject":       `{"subject":` + descriptor + `}`,
		"annotation":    `{"annotations":{"x":"` + private + `"}}`,
		"unknown":       `{"layer":[` + descriptor + `],"fslayer":[{"blobSum":"` + private + `"}]}`,
		"nothing":       `{"layers":null,"config":{},"manifests":[]}`,
		"no digests":    `{"layers":[{"digest":null},{"digest":""},{}]}`,
	} {
		g.do("PUT", "/v2/bob/tools/manifests/evil", bob, manifestBody(imageType, []byte(m))).want(t, 201)
		g.get("/v2/bob/tools/manifests/evil", bob).want(t, 200)
		if a := g.get("/v2/bob/tools/blobs/"+private, bob); a.StatusCode != 404 {
			t.Errorf("%s: then the blob is %d", name, a.StatusCode)
		}
	}
	g.neverAsked("/blobs/" + private)
}

func TestSharedBlobs_APushGoesThrough(t *testing.T) {
	g, s := sharedGate(t)
	bob := g.as("bob", pushes("bob/tools"), pulls("shared/base"))
	base := s.blob("base layer")
	s.image("shared/base", "latest", base)
	const name = "bob/tools"
	g.both(func(c *http.Client, version string) {
		content := "layer by " + version
		layer, config := digestOf([]byte(content)), digestOf([]byte("config by "+version))
		g.do("HEAD", "/v2/"+name+"/blobs/"+layer, bob).want(t, 404)
		g.upload(name, content, bob)
		g.do("HEAD", "/v2/"+name+"/blobs/"+layer, bob).want(t, 200) // its uploader looks at once
		g.do("POST", "/v2/"+name+"/blobs/uploads/?digest="+config, bob, body([]byte("config by "+version))).want(t, 201)
		g.do("POST", "/v2/"+name+"/blobs/uploads/?mount="+base+"&from=shared/base", bob).want(t, 201)
		m := imageOf(config, layer, base)
		g.up.seen()
		// A body of any framing goes on as the bytes that were judged.
		for _, send := range []option{body(m), chunked(m)} {
			g.with(c, "PUT", "/v2/"+name+"/manifests/v1", bob, send, header("Content-Type", imageType)).want(t, 201)
			if r := g.up.one(t); r.Body != digestOf(m) || r.Length != int64(len(m)) || r.Chunked || r.Header.Get("Content-Type") != imageType {
				t.Errorf("%s: %+v", version, r)
			}
		}
		multi := indexOf(digestOf(m))
		g.with(c, "PUT", "/v2/"+name+"/manifests/multi", bob, manifestBody(indexType, multi)).want(t, 201)
		for _, one := range []string{layer, config, base} {
			g.with(c, "GET", "/v2/"+name+"/blobs/"+one, bob).want(t, 200)
		}
	})
	// An index whose images were pushed past us.
	child := s.image(name, "", s.blob("x"))
	g.do("PUT", "/v2/"+name+"/manifests/other", bob, manifestBody(indexType, indexOf(child))).want(t, 201)
	// Too large, with and without saying so.
	large := append([]byte(`{"x":"`), bytes.Repeat([]byte("x"), maxManifest)...)
	for _, send := range []option{body(large), chunked(large)} {
		g.do("PUT", "/v2/"+name+"/manifests/large", bob, send).refused(t, 413, "SIZE_INVALID")
	}
	for _, many := range []string{
		string(imageOf(absentDigest, slices.Repeat([]string{absentDigest}, maxReferences)...)),
		`{"layers":[{}` + strings.Repeat(",{}", maxReferences) + `]}`,
		`{"":0` + strings.Repeat(`,"":0`, maxMembers) + `}`,
		`{"layers":[{"":0` + strings.Repeat(`,"":0`, maxMembers) + `}]}`,
		`{"layers":` + strings.Repeat("[", maxManifest/2),
	} {
		g.do("PUT", "/v2/"+name+"/manifests/many", bob, body([]byte(many))).refused(t, 400, "MANIFEST_INVALID")
	}
}

// A registry that has the blob may answer 201 to a POST whatever comes with it.
func TestSharedBlobs_ADigestIsNoProof(t *testing.T) {
	g, s := sharedGate(t)
	s.deduped = true
	private := s.blob("private layer")
	s.image("coolteam/app", "latest", private)
	bob := g.as("bob", pushes("bob/tools"))
	const start = "/v2/bob/tools/blobs/uploads/?digest="
	for _, content := range []string{"", "x", "private laye"} {
		g.do("POST", start+private, bob, body([]byte(content))).want(t, 201)
		g.do("HEAD", "/v2/bob/tools/blobs/"+private, bob).want(t, 404)
	}
	g.do("POST", start+private, bob, body([]byte("private layer"))).want(t, 201) // who has it, has it
	g.do("HEAD", "/v2/bob/tools/blobs/"+private, bob).want(t, 200)
	long := sha512Of([]byte("private layer"))
	g.do("POST", start+long, bob, chunked([]byte("private layer"))).want(t, 201)
	g.do("HEAD", "/v2/bob/tools/blobs/"+long, bob).want(t, 200)
}

// After a restart a client that has the manifest already asks for a layer only.
func TestSharedBlobs_WhatIsNotKnownIsLookedUp(t *testing.T) {
	g, s := sharedGate(t)
	ann := g.as("ann", pulls("coolteam/app"))
	get := func(blob string, status int) {
		t.Helper()
		g.get("/v2/coolteam/app/blobs/"+blob, ann).want(t, status)
	}
	byTag, below := s.blob("by tag"), s.blob("below an index")
	s.image("coolteam/app", "v1", byTag)
	child := s.image("coolteam/app", "", below)
	grand := digestOf(indexOf(child))
	s.put("coolteam/app", "", indexOf(child))
	s.put("coolteam/app", "w", indexOf(grand))
	s.pages = 1
	get(byTag, 200)
	get(below, 200)
	get(absentDigest, 404)
	asked := g.asked()
	// What was looked at is not looked at again.
	for range 3 {
		get(absentDigest, 404)
	}
	g.up.none(t)
	for _, want := range []string{"GET coolteam/app/manifests/v1", "GET coolteam/app/manifests/w", "GET coolteam/app/manifests/" + child} {
		if n := count(asked, want); n != 1 {
			t.Errorf("%s: asked %d times: %q", want, n, asked)
		}
	}
	// A digest without a tag, whose manifest passed without its body.
	untagged := s.blob("untagged")
	image := s.image("coolteam/app", "", untagged)
	s.put("coolteam/app", "", indexOf(image))
	get(untagged, 404)
	g.up.seen()
	g.do("HEAD", "/v2/coolteam/app/manifests/"+digestOf(indexOf(image)), ann).want(t, 200)
	get(untagged, 200)
	if got := g.asked(); count(got, "GET coolteam/app/tags/list") != 0 || len(got) != 4 {
		t.Errorf("asked %q", got)
	}
	// After a while what is new is found.
	later := s.blob("later")
	s.image("coolteam/app", "z", later)
	get(later, 404)
	g.clock.pass(lookedFor)
	get(later, 200)
	// What is gone upstream is gone here an hour later.
	delete(s.manifests["coolteam/app"], s.tags["coolteam/app"]["z"])
	g.clock.pass(knownFor - time.Minute)
	get(later, 200)
	g.clock.pass(time.Minute)
	get(later, 404)
}

func count(list []string, one string) (n int) {
	for _, s := range list {
		if s == one {
			n++
		}
	}
	return n
}

func TestSharedBlobs_APassingManifestIsReadOnce(t *testing.T) {
	g, s := sharedGate(t)
	l := s.blob("layer")
	s.image("library/alpine", "latest", l)
	anonymous := g.as("", pulls("library/alpine"))
	known := g.Current().backends[0].blobs
	when := func() int64 { return known.of("library/alpine").blobs[keyOf(l)] }
	g.get("/v2/library/alpine/manifests/latest", anonymous).want(t, 200)
	first := when()
	g.clock.pass(readFor - time.Second)
	g.get("/v2/library/alpine/manifests/latest", anonymous).want(t, 200)
	if when() != first {
		t.Error("read again at once")
	}
	g.clock.pass(time.Second)
	g.get("/v2/library/alpine/manifests/latest", anonymous).want(t, 200)
	if when() == first {
		t.Error("what passes is not known for longer")
	}
	g.up.seen()
	g.get("/v2/library/alpine/blobs/"+l, anonymous).want(t, 200)
	if got := g.asked(); len(got) != 1 {
		t.Errorf("asked %q", got)
	}
}

// CVE-2026-35172: what is deleted stays deleted, whatever else comes by.
func TestSharedBlobs_WhatIsDeletedIsForgotten(t *testing.T) {
	g, s := sharedGate(t)
	l, other := s.blob("layer"), s.blob("other layer")
	image := s.image("coolteam/app", "latest", l)
	s.image("coolteam/app", "other", other)
	ann := g.as("ann", deletes("coolteam/app"))
	const repo = "/v2/coolteam/app/"
	g.get(repo+"manifests/latest", ann).want(t, 200)
	g.get(repo+"blobs/"+l, ann).want(t, 200)
	// Somebody pushes meanwhile: what was uploaded stays.
	g.upload("coolteam/app", "a new layer", ann)
	stale := g.Current().backends[0].blobs.of("coolteam/app")
	g.do("DELETE", repo+"manifests/"+image, ann).want(t, 202)
	g.get(repo+"blobs/"+l, ann).want(t, 404)
	g.get(repo+"blobs/"+other, ann).want(t, 200)
	g.get(repo+"blobs/"+digestOf([]byte("a new layer")), ann).want(t, 200)
	// An answer that was on its way says nothing any more.
	g.Current().backends[0].blobs.learn(stale, image, references{Blobs: []string{l}}, g.clock.Now())
	g.get(repo+"blobs/"+l, ann).want(t, 404)
	// Nor does the same blob in another repository.
	s.image("coolteam/two", "latest", l)
	g.get("/v2/coolteam/two/manifests/latest", g.as("ann", pulls("coolteam/two"))).want(t, 200)
	g.get(repo+"blobs/"+l, ann).want(t, 404)

	// A blob: other repositories may need it.
	g.do("DELETE", repo+"blobs/"+other, ann).refused(t, 405, "UNSUPPORTED")
	g.do("DELETE", repo+"blobs/"+absentDigest, ann).refused(t, 404, "BLOB_UNKNOWN")
	// Even where nobody knows whether it was deleted.
	s.image("coolteam/app", "third", l)
	g.get(repo+"manifests/third", ann).want(t, 200)
	s.fail("/v2/coolteam/app/manifests/third", 500)
	g.do("DELETE", repo+"manifests/third", ann).want(t, 500)
	g.get(repo+"blobs/"+l, ann).want(t, 503)
}

// A push holds what it uploaded until a manifest names it, and no longer.
func TestSharedBlobs_AnUploadIsHeldUntilAManifestNamesIt(t *testing.T) {
	g, s := sharedGate(t)
	g.upload("bob/tools", "one", g.as("bob", pushes("bob/tools")))
	g.clock.pass(uploadFor - time.Hour) // a long push
	bob := g.as("bob", deletes("bob/tools"))
	g.upload("bob/tools", "config", bob)
	one := digestOf([]byte("one"))
	m := imageOf(digestOf([]byte("config")), one)
	g.do("PUT", "/v2/bob/tools/manifests/v1", bob, body(m)).want(t, 201)
	g.do("DELETE", "/v2/bob/tools/manifests/"+digestOf(m), bob).want(t, 202)
	g.do("HEAD", "/v2/bob/tools/blobs/"+one, bob).want(t, 404)

	g.upload("bob/tools", "two", bob)
	g.clock.pass(uploadFor)
	g.do("HEAD", "/v2/bob/tools/blobs/"+digestOf([]byte("two")), g.as("bob", pushes("bob/tools"))).want(t, 404)
	_ = s
}

func TestSharedBlobs_KnowledgeIsBounded(t *testing.T) {
	g, s := sharedGate(t)
	k := g.Current().backends[0].blobs
	k.most = 10 * repoCost
	l := s.blob("layer")
	for i := range 30 {
		name := fmt.Sprintf("library/a%d", i)
		s.image(name, "latest", l)
		who := g.as("", pulls(name))
		g.get("/v2/"+name+"/manifests/latest", who).want(t, 200)
		g.get("/v2/"+name+"/blobs/"+l, who).want(t, 200)
		g.get("/v2/library/b"+strconv.Itoa(i)+"/blobs/"+l, g.as("", pulls("library/b"+strconv.Itoa(i)))).want(t, 404)
	}
	stats := g.Current().Behind()[0].SharedBlobs()
	if k.count > k.most || k.count != stats.Digests+repoCost*stats.Repositories || stats.Repositories == 0 || len(k.repos) != stats.Repositories {
		t.Errorf("%d kept of %d: %+v", k.count, k.most, stats)
	}
	sum := 0
	for _, e := range k.repos {
		sum += repoCost + e.Value.(*repoBlobs).size()
	}
	if sum != k.count {
		t.Errorf("counted %d, there are %d", k.count, sum)
	}
	// The first was forgotten long ago: it is looked up.
	g.get("/v2/library/a0/blobs/"+l, g.as("", pulls("library/a0"))).want(t, 200)
	// One that does not fit at all is not kept, and does no harm.
	var layers []string
	for i := range 100 {
		layers = append(layers, s.blob(fmt.Sprint("layer ", i)))
	}
	s.image("library/huge", "latest", layers...)
	g.get("/v2/library/huge/manifests/latest", g.as("", pulls("library/huge"))).want(t, 200)
	if k.count > k.most {
		t.Errorf("%d kept of %d", k.count, k.most)
	}
	// Old digests go before they push others out.
	k.most = maxKnown
	r := k.of("library/old")
	for range 3 {
		var refs references
		for i := range sweepFrom {
			refs.Blobs = append(refs.Blobs, digestOf([]byte(fmt.Sprint(g.clock.Now(), i))))
		}
		k.learn(r, "", refs, g.clock.Now())
		g.clock.pass(knownFor)
	}
	if r.size() > 2*sweepFrom {
		t.Errorf("%d digests of one repository, of which %d are old", r.size(), r.size()-sweepFrom)
	}
	for i := range 2 * maxUnread {
		k.see(r, digestOf([]byte(fmt.Sprint("m", i))), g.clock.Now())
	}
	if len(r.unread) != maxUnread {
		t.Errorf("%d manifests wait to be read", len(r.unread))
	}
}

// Who asks for names that nobody has must not have a push under way forgotten.
func TestSharedBlobs_MadeUpNamesPushNothingOut(t *testing.T) {
	g, _ := sharedGate(t)
	k := g.Current().backends[0].blobs
	k.most = 40 * repoCost
	ann := g.as("ann", pushes("coolteam/app"))
	layer, config := digestOf([]byte("layer")), digestOf([]byte("config"))
	g.upload("coolteam/app", "layer", ann)
	g.upload("coolteam/app", "config", ann)
	for i := range 100 {
		name := "library/made-up" + strconv.Itoa(i)
		g.get("/v2/"+name+"/blobs/"+layer, g.as("", pulls(name))).want(t, 404)
	}
	if k.count > k.most || k.blank.Len()+k.order.Len() != len(k.repos) {
		t.Errorf("%d kept of %d; %d and %d of %d repositories", k.count, k.most, k.blank.Len(), k.order.Len(), len(k.repos))
	}
	g.do("PUT", "/v2/coolteam/app/manifests/latest", ann, manifestBody(imageType, imageOf(config, layer))).want(t, 201)
}

func TestSharedBlobs_LookupsAreBounded(t *testing.T) {
	g, s := sharedGate(t)
	up := g.Current().Behind()[0]
	up.blobs.searches.manifests = 10
	for i := range 40 {
		s.image("library/many", fmt.Sprintf("v%02d", i), s.blob(fmt.Sprint("layer ", i)))
	}
	anonymous := g.as("", pulls("library/many"))
	g.get("/v2/library/many/blobs/"+s.blob("layer 39"), anonymous).want(t, 404)
	if n := len(g.asked()); n > 10+lookupParallel+1 {
		t.Errorf("%d requests for one blob", n)
	}
	g.get("/v2/library/many/blobs/"+s.blob("layer 38"), anonymous).want(t, 404)
	g.up.none(t)
	if got := up.SharedBlobs(); got.Lookups != 1 || got.Bounded != 1 {
		t.Errorf("%+v", got)
	}
	if n := strings.Count(g.log.String(), "more manifests than are looked at"); n != 1 {
		t.Errorf("told %d times", n)
	}
	// Its pull finds it all the same.
	g.do("HEAD", "/v2/library/many/manifests/v39", anonymous).want(t, 200)
	g.get("/v2/library/many/blobs/"+s.blob("layer 39"), anonymous).want(t, 200)

	// Bytes count too.
	up.blobs.searches.manifests, up.blobs.searches.bytes = 1000, 100
	g.get("/v2/library/more/blobs/"+absentDigest, g.as("", pulls("library/more"))).want(t, 404)
	g.clock.pass(lookedFor)
	g.up.seen()
	g.get("/v2/library/many/blobs/"+absentDigest, g.as("", pulls("library/many"))).want(t, 404)
	if n := len(g.asked()); n > 1+lookupParallel {
		t.Errorf("%d requests", n)
	}
	// A list of tags without end.
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/tags/list") {
			return s.serve(w, r)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Link", `</v2/x/tags/list?last=x>; rel="next"`)
		_, _ = io.WriteString(w, `{"tags":["x","../y"]}`)
		return true
	})
	g.get("/v2/library/endless/blobs/"+absentDigest, g.as("", pulls("library/endless"))).want(t, 404)
	if got := g.asked(); len(got) != 4 {
		t.Errorf("asked %q", got)
	}
}

// "No" and "could not find out" are different.
func TestSharedBlobs_AFaultIsNoAnswer(t *testing.T) {
	g, s := sharedGate(t)
	l := s.blob("layer")
	s.image("library/alpine", "a", s.blob("x"))
	s.image("library/alpine", "latest", l)
	anonymous := g.as("", pulls("library/alpine"))
	ask := func(blob string, status int) {
		t.Helper()
		g.get("/v2/library/alpine/blobs/"+blob, anonymous).want(t, status)
	}
	for _, status := range []int{500, 502, 503} {
		s.fail("/v2/library/alpine/tags/list", status)
		ask(l, 503)
	}
	s.fail("/v2/library/alpine/tags/list", 429) // whose limit it is, is told (M13)
	ask(l, 429)
	s.fail("/v2/library/alpine/tags/list", 0)
	s.fail("/v2/library/alpine/manifests/latest", 500)
	ask(l, 503)
	ask(s.blob("x"), 200) // the others are found
	ask(l, 503)
	s.fail("/v2/library/alpine/manifests/latest", 0)
	ask(l, 200)
	// A manifest that passed and cannot be read any more.
	untagged := s.blob("untagged")
	image := s.image("library/alpine", "", untagged)
	g.do("HEAD", "/v2/library/alpine/manifests/"+image, anonymous).want(t, 200)
	s.fail("/v2/library/alpine/manifests/"+image, 500)
	ask(untagged, 503)
	ask(untagged, 503)
	s.fail("/v2/library/alpine/manifests/"+image, 0)
	ask(untagged, 200)
	// One that fails at everything is left alone, and nothing is forgotten.
	for i := range 10 * maxLookupFaults {
		s.image("library/broken", fmt.Sprintf("v%02d", i), s.blob(fmt.Sprint("of ", i)))
		s.fail(fmt.Sprintf("/v2/library/broken/manifests/v%02d", i), 500)
	}
	g.up.seen()
	broken := g.as("", pulls("library/broken"))
	last := s.blob(fmt.Sprint("of ", 10*maxLookupFaults-1))
	g.get("/v2/library/broken/blobs/"+last, broken).want(t, 503)
	if n := len(g.asked()); n > 1+maxLookupFaults+lookupParallel {
		t.Errorf("%d requests to one that is broken", n)
	}
	for i := range 10 * maxLookupFaults {
		s.fail(fmt.Sprintf("/v2/library/broken/manifests/v%02d", i), 0)
	}
	g.get("/v2/library/broken/blobs/"+last, broken).want(t, 200)
	// A page for a browser, and nobody there.
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "maintenance")
		return true
	})
	g.get("/v2/library/html/blobs/"+l, g.as("", pulls("library/html"))).want(t, 503)
	g.up.srv.CloseClientConnections()
	g.up.srv.Close()
	g.get("/v2/library/down/blobs/"+l, g.as("", pulls("library/down"))).want(t, 502)
}

// Many who miss a blob wait for one search; who waits too long hears so.
func TestSharedBlobs_OneSearchForAll(t *testing.T) {
	g, s := sharedGate(t)
	up := g.Current().Behind()[0]
	l := s.blob("layer")
	s.image("library/alpine", "latest", l)
	anonymous := g.as("", pulls("library/alpine"))
	hold := make(chan struct{})
	s.hold = hold
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { g.get("/v2/library/alpine/blobs/"+l, anonymous).want(t, 200) })
		all.Go(func() { g.get("/v2/library/alpine/blobs/"+absentDigest, anonymous).want(t, 404) })
	}
	for up.SharedBlobs().Lookups == 0 {
		time.Sleep(time.Millisecond)
	}
	s.mu.Lock()
	s.hold = nil
	s.mu.Unlock()
	close(hold)
	all.Wait()
	asked := g.asked()
	if n := count(asked, "GET library/alpine/tags/list"); n != 1 {
		t.Errorf("tags asked for %d times", n)
	}
	if n := count(asked, "GET library/alpine/manifests/latest"); n != 1 {
		t.Errorf("the manifest asked for %d times", n)
	}

	up.blobs.searches.patience = time.Millisecond
	hold = make(chan struct{})
	s.mu.Lock()
	s.hold = hold
	s.mu.Unlock()
	a := g.get("/v2/library/slow/blobs/"+l, g.as("", pulls("library/slow")))
	a.refused(t, 503, "UNAVAILABLE")
	if a.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	// No more than a few at a time, whoever asks.
	up.blobs.searches.time = 20 * time.Millisecond
	up.blobs.searches.patience = time.Minute
	for i := range 2 * maxLookups {
		name := fmt.Sprintf("library/slow%d", i)
		all.Go(func() { g.get("/v2/"+name+"/blobs/"+l, g.as("", pulls(name))).want(t, 503) })
	}
	all.Wait()
	close(hold)
}

// Two instances, and one that starts anew: pulls go on anywhere.
func TestSharedBlobs_AnyInstanceServes(t *testing.T) {
	g, s := sharedGate(t)
	bob := g.as("bob", pushes("bob/tools"))
	g.upload("bob/tools", "layer", bob)
	g.upload("bob/tools", "config", bob)
	l, private := digestOf([]byte("layer")), s.blob("private")
	s.image("coolteam/app", "latest", private)
	m := imageOf(digestOf([]byte("config")), l)
	g.do("PUT", "/v2/bob/tools/manifests/v1", bob, body(m)).want(t, 201)

	second := New(g.Options)
	snapshot, err := second.Prepare(g.settings)
	if err != nil {
		t.Fatal(err)
	}
	second.Swap(snapshot)
	first := g.srv.Config.Handler
	g.srv.Config.Handler = second
	defer func() { g.srv.Config.Handler = first }()
	g.get("/v2/bob/tools/blobs/"+l, bob).want(t, 200)
	g.get("/v2/bob/tools/blobs/"+private, bob).want(t, 404)
	// A reload that leaves the upstream as it is keeps what is known.
	g.upload("bob/tools", "another layer", bob)
	again, err := second.Prepare(g.settings)
	if err != nil {
		t.Fatal(err)
	}
	second.Swap(again)
	g.do("HEAD", "/v2/bob/tools/blobs/"+digestOf([]byte("another layer")), bob).want(t, 200)
}

// An answer that the client wanted encoded cannot be read in passing.
func TestSharedBlobs_AnEncodedManifestIsReadPlainly(t *testing.T) {
	g, s := sharedGate(t)
	l := s.blob("layer")
	image := s.image("library/alpine", "", l)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Accept-Encoding") != "gzip" {
			return s.serve(w, r)
		}
		w.Header().Set("Content-Type", imageType)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("\x1f\x8b and so on"))
		return true
	})
	anonymous := g.as("", pulls("library/alpine"))
	a := g.get("/v2/library/alpine/manifests/"+image, anonymous, header("Accept-Encoding", "gzip")).want(t, 200)
	if a.Header.Get("Content-Encoding") != "gzip" || string(a.body) != "\x1f\x8b and so on" {
		t.Errorf("%v %q", a.Header, a.body)
	}
	g.get("/v2/library/alpine/blobs/"+l, anonymous).want(t, 200)
}

// A manifest that breaks off breaks off for the client too, and is not believed.
func TestSharedBlobs_HalfAManifestIsNone(t *testing.T) {
	g, s := sharedGate(t)
	l := s.blob("layer")
	m := append(imageOf(s.blob("config"), l), bytes.Repeat([]byte(" "), 1<<20)...)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return s.serve(w, r)
		}
		w.Header().Set("Content-Type", imageType)
		w.Header().Set("Content-Length", strconv.Itoa(len(m)))
		_, _ = w.Write(m[:len(m)-1])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	anonymous := g.as("", pulls("library/alpine"))
	if a := g.get("/v2/library/alpine/manifests/latest", anonymous); a.err == nil || len(a.body) == len(m) {
		t.Errorf("%d, %d bytes, %v", a.StatusCode, len(a.body), a.err)
	}
	g.get("/v2/library/alpine/blobs/"+l, anonymous).want(t, 404)
	// One too large to be looked into goes on whole.
	m = append(m, bytes.Repeat([]byte(" "), maxManifest)...)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return s.serve(w, r)
		}
		w.Header().Set("Content-Type", imageType)
		_, _ = w.Write(m)
		return true
	})
	if a := g.get("/v2/library/alpine/manifests/latest", anonymous).want(t, 200); !bytes.Equal(a.body, m) {
		t.Errorf("%d bytes of %d", len(a.body), len(m))
	}
}

// Without shared_blobs nothing of this happens.
func TestSharedBlobs_OffByDefault(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	g.get("/v2/coolteam/app/blobs/"+layerDigest, ann).want(t, 200)
	g.do("PUT", "/v2/coolteam/app/manifests/x", ann, body([]byte("no manifest"))).want(t, 201)
	if got := g.Current().Behind()[0].SharedBlobs(); got != (SharedBlobs{}) {
		t.Errorf("%+v", got)
	}
}

// Who asks makes a difference where the upstream knows who asks.
func TestSharedBlobs_OnesSightIsNotAnothers(t *testing.T) {
	g, s := sharedGate(t, func(s *Settings) { s.Upstreams[0].AssertUser = "X-Forwarded-User" })
	l := s.blob("layer")
	s.image("library/alpine", "latest", l)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/v2/library/") && r.Header.Get("X-Forwarded-User") != "ann" {
			distributionError(w, 404, "NAME_UNKNOWN")
			return true
		}
		return s.serve(w, r)
	})
	g.get("/v2/library/alpine/blobs/"+l, g.as("", pulls("library/alpine"))).want(t, 404)
	g.get("/v2/library/alpine/blobs/"+l, g.as("ann", pulls("library/alpine"))).want(t, 200)
}

// In passthrough a repository is looked through with the caller's own login, and
// what one was shown is no answer for another.
func TestSharedBlobs_PassthroughLooksWithTheCallersOwnLogin(t *testing.T) {
	g, p := passing(t, "allow everyone team/** pull")
	s := newOneStore()
	var mu sync.Mutex
	seen := map[string]bool{}
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		seen[r.Header.Get("Authorization")] = true
		mu.Unlock()
		if p.answer(w, r) {
			return true
		}
		return s.serve(w, r)
	})
	on := true
	settings := g.settings
	settings.Upstreams = slices.Clone(settings.Upstreams)
	settings.Upstreams[0].SharedBlobs = &on
	g.swap(settings)
	l, other := s.blob("layer"), s.blob("other")
	s.image("team/app", "latest", l)
	p.locked(func() { p.rights["bob team/app"] = "none" })
	bob, ann := g.as("bob", pulls("team/app")), g.as("ann", pulls("team/app"))
	clear(seen)
	g.get("/v2/team/app/blobs/"+l, bob).want(t, 401) // the upstream's no, as for any other request
	g.get("/v2/team/app/blobs/"+l, ann).want(t, 200)
	g.get("/v2/team/app/blobs/"+other, ann).want(t, 404)
	g.get("/v2/team/app/blobs/"+l, bob).want(t, 401) // known by now, and the upstream still says no
	for authorization := range seen {
		if !strings.HasPrefix(authorization, "Bearer ") {
			t.Errorf("asked as %q", authorization)
		}
	}
}

// What an index lists is where its images' blobs are looked for first.
func TestSharedBlobs_WhatAnIndexListsIsLookedAtFirst(t *testing.T) {
	g, s := sharedGate(t)
	l := s.blob("layer")
	child := s.image("library/alpine", "", l)
	multi := indexOf(child)
	s.put("library/alpine", "", multi)
	anonymous := g.as("", pulls("library/alpine"))
	g.get("/v2/library/alpine/manifests/"+digestOf(multi), anonymous).want(t, 200)
	g.up.seen()
	g.get("/v2/library/alpine/blobs/"+l, anonymous).want(t, 200) // the image was had from before
	if got := g.asked(); len(got) != 2 || got[0] != "GET library/alpine/manifests/"+child {
		t.Errorf("asked %q", got)
	}
}

// An index of many images that nobody has seen is not asked about for ever.
func TestSharedBlobs_ChildrenAreAskedForInBounds(t *testing.T) {
	g, s := sharedGate(t)
	up := g.Current().Behind()[0]
	child := s.image("bob/tools", "", s.blob("x"))
	bob := g.as("bob", pushes("bob/tools"))
	up.blobs.searches.patience = 10 * time.Millisecond
	hold := make(chan struct{})
	s.hold = hold
	put := func(status int) {
		t.Helper()
		g.do("PUT", "/v2/bob/tools/manifests/multi", bob, manifestBody(indexType, indexOf(child))).want(t, status)
	}
	put(503)
	s.mu.Lock()
	s.hold = nil
	s.mu.Unlock()
	close(hold)
	up.blobs.searches.patience = time.Minute
	s.fail("/v2/bob/tools/manifests/"+child, 500)
	put(503)
	s.fail("/v2/bob/tools/manifests/"+child, 0)
	put(201)
}

// Two instances that share nothing: a layer and its manifest must come by the
// same one, and whoever pushes is told what to do.
func TestSharedBlobs_AnUploadIsKnownWhereItCameBy(t *testing.T) {
	g, _ := sharedGate(t)
	bob := g.as("bob", pushes("bob/tools"))
	g.upload("bob/tools", "layer", bob)
	other := New(g.Options)
	snapshot, err := other.Prepare(g.settings)
	if err != nil {
		t.Fatal(err)
	}
	other.Swap(snapshot)
	first := g.srv.Config.Handler
	g.srv.Config.Handler = other
	defer func() { g.srv.Config.Handler = first }()
	m := imageOf(digestOf([]byte("layer")))
	g.do("PUT", "/v2/bob/tools/manifests/v1", bob, body(m)).refused(t, 400, "MANIFEST_BLOB_UNKNOWN")
	// Pushed again, as clients do, it goes through.
	g.do("HEAD", "/v2/bob/tools/blobs/"+digestOf([]byte("layer")), bob).want(t, 404)
	g.upload("bob/tools", "layer", bob)
	g.do("PUT", "/v2/bob/tools/manifests/v1", bob, body(m)).want(t, 201)
}

func TestKeyOfADigest(t *testing.T) {
	plain := keyOf(layerDigest)
	if plain.other || hex.EncodeToString(plain.sum[:]) != layerDigest[7:] {
		t.Errorf("%+v", plain)
	}
	// A blob whose content is the text of another's digest is not that other.
	other := sha512Of(layer)
	if keyOf(other) == keyOf(digestOf([]byte(other))) {
		t.Error("two digests, one key")
	}
}
