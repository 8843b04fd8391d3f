package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// uploadLocations are ways in which upstreams name an upload; U is the
// upstream's own address.
var uploadLocations = []struct{ location, next string }{
	{"/v2/coolteam/app/blobs/uploads/u1", "/v2/coolteam/app/blobs/uploads/u1"},
	{"u2?_state=a", "/v2/coolteam/app/blobs/uploads/u2?_state=a"},
	{"http://U/v2/coolteam/app/blobs/uploads/u3?_state=a%2Bb%3D%3D", "/v2/coolteam/app/blobs/uploads/u3?_state=a%2Bb%3D%3D"},
	{"https://U/v2/coolteam/app/blobs/uploads/u4?_state=a+b==&x=%2f", "/v2/coolteam/app/blobs/uploads/u4?_state=a+b==&x=%2f"},
	{"/artifacts-uploads/namespaces/x/repositories/y/uploads/AB-c_d=", "/artifacts-uploads/namespaces/x/repositories/y/uploads/AB-c_d="},
	{"/v2/some/internal/name/blobs/uploads/u%205", "/v2/some/internal/name/blobs/uploads/u%205"},
}

// uploading makes the upstream answer POST, PATCH and GET of uploads with a
// Location.
func (g *gate) uploading(location string) {
	location = strings.ReplaceAll(location, "U", g.up.srv.Listener.Addr().String())
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		status := map[string]int{"POST": 202, "PATCH": 202, "GET": 204, "PUT": 201}[r.Method]
		if status == 0 || r.URL.Path == "/v2/" {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", location)
		w.Header().Set("Range", "0-599")
		w.WriteHeader(status)
		return true
	})
}

func TestR01_UploadLocationIsPathAbsolute(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	form := regexp.MustCompile(`^/v2/coolteam/app/blobs/uploads/[A-Za-z0-9_.=-]+(\?[^#]*)?$`)
	for _, tt := range uploadLocations {
		g.uploading(tt.location)
		at := "/v2/coolteam/app/blobs/uploads/"
		for _, method := range []string{"POST", "PATCH", "GET"} {
			g.up.seen()
			a := g.do(method, at, ann, body(map[string][]byte{"PATCH": layer}[method]))
			got := a.Header.Values("Location")
			if len(got) != 1 || !form.MatchString(got[0]) {
				t.Fatalf("%s of %s: %d, Location %q", method, tt.location, a.StatusCode, got)
			}
			at = got[0]
			if method != "POST" {
				if target := g.up.one(t).Target; target != tt.next {
					t.Errorf("%s after %s: the upstream got %s, want %s", method, tt.location, target, tt.next)
				}
			}
		}
	}
}

func TestR02_UploadLocationIsUnderTheV2ThatWasPinged(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	for _, tt := range uploadLocations {
		g.uploading(tt.location)
		at, err := url.Parse(g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location"))
		if err != nil || at.IsAbs() || at.Host != "" || !strings.HasPrefix(at.Path, "/v2/") {
			t.Errorf("%s: Location %v, %v", tt.location, at, err)
		}
	}
}

func TestR03_UploadLocationNeedsNoEscapes(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	for _, tt := range uploadLocations {
		g.uploading(tt.location)
		location := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
		at, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(location, "?")
		if at.Path != path || (&url.URL{Path: at.Path}).EscapedPath() != path {
			t.Errorf("%s: Location %q is another when rebuilt from its decoded path", tt.location, location)
		}
	}
}

func TestR04_QueryOfAnUploadSurvivesClients(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	for _, tt := range uploadLocations {
		for name, add := range map[string]func(string) string{
			"decoded, sorted and encoded again": func(location string) string {
				u, err := url.Parse(location)
				if err != nil {
					t.Fatal(err)
				}
				q := u.Query()
				q.Set("digest", layerDigest)
				u.RawQuery = q.Encode()
				return u.String()
			},
			"appended": func(location string) string {
				if strings.Contains(location, "?") {
					return location + "&digest=" + layerDigest
				}
				return location + "?digest=" + layerDigest
			},
		} {
			g.uploading(tt.location)
			location := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
			u, err := url.Parse(location)
			if err != nil {
				t.Fatal(err)
			}
			for key, values := range u.Query() {
				if len(values) > 1 || key == "digest" || key == "mount" || key == "from" || key == "ns" {
					t.Errorf("%s: the query has %s=%q", tt.location, key, values)
				}
			}
			g.up.seen()
			g.do("PUT", add(location), ann, body(layer)).want(t, 201)
			want := tt.next + "?digest=" + url.QueryEscape(layerDigest)
			if strings.Contains(tt.next, "?") {
				want = tt.next + "&digest=" + url.QueryEscape(layerDigest)
			}
			if got := g.up.one(t).Target; got != want {
				t.Errorf("%s, %s: the upstream got %s, want %s", tt.location, name, got, want)
			}
		}
	}
}

func TestR06_EachLocationReplacesTheLast(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	n := 0
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "POST" && r.Method != "PATCH" {
			return false
		}
		n++
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", fmt.Sprintf("/v2/coolteam/app/blobs/uploads/u?_state=%d", n))
		w.WriteHeader(202)
		return true
	})
	at := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
	for i := 1; i <= 3; i++ {
		g.up.seen()
		next := g.do("PATCH", at, ann, body(layer)).want(t, 202).Header.Get("Location")
		if got, want := g.up.one(t).Target, fmt.Sprintf("/v2/coolteam/app/blobs/uploads/u?_state=%d", i); got != want {
			t.Errorf("part %d went to %s, want %s", i, got, want)
		}
		if next == at {
			t.Error("the Location did not change")
		}
		at = next
	}
	g.up.seen()
	g.do("PUT", at+"?digest="+layerDigest, ann).want(t, 201)
	if got, want := g.up.one(t).Target, "/v2/coolteam/app/blobs/uploads/u?_state=4&digest="+url.QueryEscape(layerDigest); got != want {
		t.Errorf("the end went to %s, want %s", got, want)
	}
}

func TestR07_UploadIsNobodyElses(t *testing.T) {
	g := newGate(t, "allow authenticated ** pull,push")
	start := g.do("POST", "/v2/one/x/blobs/uploads/", g.as("ann", pushes("one/x"))).want(t, 202)
	at := start.Header.Get("Location")
	id := at[strings.LastIndexByte(at, '/')+1:]
	g.up.seen()
	for _, tt := range []struct {
		name, user, repository, id string
	}{
		{"another user", "bob", "one/x", id},
		{"another repository", "ann", "one/y", id},
		{"made up", "ann", "one/x", "abcdef"},
		{"cut", "ann", "one/x", id[:len(id)-4]},
		{"changed", "ann", "one/x", "A" + id[1:]},
		{"the upstream's own", "ann", "one/x", "6f1e-uuid"},
	} {
		as := g.as(tt.user, pushes(tt.repository))
		for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
			if tt.name == "changed" && id[0] == 'A' {
				continue
			}
			a := g.do(method, "/v2/"+tt.repository+"/blobs/uploads/"+tt.id, as)
			a.refused(t, 404, "BLOB_UPLOAD_UNKNOWN")
		}
	}
	g.up.none(t)
	g.do("PATCH", at, g.as("ann", pushes("one/x")), body(layer)).want(t, 202)
	// It can be gone on with after a reload and on another instance with the same key.
	g.swap(g.base("allow authenticated ** pull,push"))
	g.do("PATCH", at, g.as("ann", pushes("one/x")), body(layer)).want(t, 202)
}

func TestR08_LocationOfWhatWasMade(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"), pulls("library/alpine"))
	const uploads = "/v2/coolteam/app/blobs/uploads/"
	at := func() string { return g.do("POST", uploads, ann).Header.Get("Location") }
	blob := "/v2/coolteam/app/blobs/" + layerDigest
	for _, upstream := range []string{"", "http://nexus.internal:8081/repository/docker/v2/other/name/x", "/elsewhere", "x"} {
		g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if upstream == "" || r.Method == "POST" && r.URL.RawQuery == "" || r.URL.Path == "/v2/" {
				return false
			}
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Location", upstream)
			if strings.Contains(r.URL.Path, "manifests") {
				w.Header().Set("Docker-Content-Digest", imageDigest)
			}
			w.WriteHeader(201)
			return true
		})
		for name, tt := range map[string]struct {
			a    reply
			want []string
		}{
			"blob":       {g.do("PUT", at()+"?digest="+layerDigest, ann), []string{blob}},
			"monolithic": {g.do("POST", uploads+"?digest="+layerDigest, ann, body(layer)), []string{blob}},
			"mount":      {g.do("POST", uploads+"?mount="+layerDigest+"&from=library/alpine", ann), []string{blob}},
			"tag":        {g.do("PUT", "/v2/coolteam/app/manifests/1", ann, body(image)), []string{"/v2/coolteam/app/manifests/1", "/v2/coolteam/app/manifests/" + imageDigest}},
			"digest":     {g.do("PUT", "/v2/coolteam/app/manifests/"+imageDigest, ann, body(image)), []string{"/v2/coolteam/app/manifests/" + imageDigest}},
		} {
			got := tt.a.want(t, 201).Header.Get("Location")
			ok := false
			for _, want := range tt.want {
				ok = ok || got == want
			}
			if !ok {
				t.Errorf("%s (upstream says %q): Location %q, want one of %q", name, upstream, got, tt.want)
			}
		}
	}
}

// passing makes the upstream add fields to every answer.
func (g *gate) passing(fields ...string) {
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		for i := 0; i < len(fields); i += 2 {
			w.Header()[http.CanonicalHeaderKey(fields[i])] = []string{fields[i+1]}
		}
		return false
	})
}

func TestR09_RangeOfUploadsPasses(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	g.both(func(c *http.Client, version string) {
		start := g.with(c, "POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202)
		if got := start.Header.Get("Range"); got != "0-0" {
			t.Errorf("%s: POST: Range %q", version, got)
		}
		next := g.with(c, "PATCH", start.Header.Get("Location"), ann, body(layer)).want(t, 202)
		if got, want := next.Header.Get("Range"), fmt.Sprintf("0-%d", len(layer)-1); got != want {
			t.Errorf("%s: PATCH: Range %q, want %q", version, got, want)
		}
		if got := g.with(c, "GET", next.Header.Get("Location"), ann).want(t, 204).Header.Get("Range"); got != "0-99" {
			t.Errorf("%s: GET: Range %q", version, got)
		}
	})
}

func TestR10_DigestPasses(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"), pulls("library/alpine"))
	for _, tt := range []struct{ method, target, digest string }{
		{"GET", "/v2/coolteam/app/manifests/latest", imageDigest},
		{"HEAD", "/v2/coolteam/app/manifests/latest", imageDigest},
		{"GET", "/v2/coolteam/app/blobs/" + layerDigest, layerDigest},
		{"HEAD", "/v2/coolteam/app/blobs/" + layerDigest, layerDigest},
		{"PUT", "/v2/coolteam/app/manifests/1", imageDigest},
		{"POST", "/v2/coolteam/app/blobs/uploads/?mount=" + layerDigest + "&from=library/alpine", layerDigest},
	} {
		if got := g.do(tt.method, tt.target, ann).Header.Get("Docker-Content-Digest"); got != tt.digest {
			t.Errorf("%s %s: Docker-Content-Digest %q", tt.method, tt.target, got)
		}
	}
	if got := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).Header.Get("Docker-Upload-UUID"); got != "6f1e-uuid" {
		t.Errorf("Docker-Upload-UUID %q", got)
	}
}

func TestR11_ContentLengthPasses(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	g.both(func(c *http.Client, version string) {
		for _, method := range []string{"HEAD", "GET"} {
			for target, want := range map[string]int{"manifests/latest": len(image), "blobs/" + layerDigest: len(layer)} {
				a := g.with(c, method, "/v2/coolteam/app/"+target, ann).want(t, 200)
				if a.ContentLength != int64(want) || a.Header.Get("Content-Length") != fmt.Sprint(want) {
					t.Errorf("%s %s %s: Content-Length %q, want %d", version, method, target, a.Header.Get("Content-Length"), want)
				}
			}
		}
	})
}

func TestR12_ContentTypePassesByteExact(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	for _, contentType := range []string{indexType, "application/vnd.docker.distribution.manifest.v1+prettyjws", "text/plain", "application/json; charset=utf-8", "Application/JSON;q=1", ""} {
		g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header()["Content-Type"] = []string{contentType}
			if contentType == "" {
				w.Header()["Content-Type"] = nil
			}
			_, _ = io.WriteString(w, "<html>{}")
			return true
		})
		for _, target := range []string{"/v2/coolteam/app/referrers/" + imageDigest, "/v2/coolteam/app/manifests/latest", "/v2/coolteam/app/blobs/" + layerDigest} {
			if got := g.get(target, ann).want(t, 200).Header.Get("Content-Type"); got != contentType {
				t.Errorf("%s: Content-Type %q, want %q", target, got, contentType)
			}
		}
	}
}

func TestR13_BodiesAndEncodingsPass(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	const target = "/v2/coolteam/app/blobs/"
	packed := []byte("\x1f\x8b\x08 not really gzip, and nobody is to look")
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Etag", `W/"weak"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(packed)
		return true
	})
	a := g.get(target+layerDigest, ann, header("Accept-Encoding", "zstd, gzip, deflate")).want(t, 200)
	if string(a.body) != string(packed) || a.Header.Get("Content-Encoding") != "gzip" || a.Header.Get("Etag") != `W/"weak"` {
		t.Errorf("got %q, %v", a.body, a.Header)
	}
	got := g.up.seen()
	if enc := got[len(got)-1].Header.Values("Accept-Encoding"); len(enc) != 1 || enc[0] != "zstd, gzip, deflate" {
		t.Errorf("the upstream was asked for %q", enc)
	}
	// Nobody asks for an encoding on a client's behalf.
	g.get(target+layerDigest, ann)
	if enc := g.up.one(t).Header.Values("Accept-Encoding"); len(enc) != 0 {
		t.Errorf("the upstream was asked for %q", enc)
	}
	g.up.answer(nil)
	a = g.get(target+layerDigest, ann, header("Range", "bytes=1-3")).want(t, 206)
	if string(a.body) != "aye" || a.Header.Get("Content-Range") != fmt.Sprintf("bytes 1-3/%d", len(layer)) {
		t.Errorf("206: %q, Content-Range %q", a.body, a.Header.Get("Content-Range"))
	}
	a = g.get(target+layerDigest, ann, header("Range", "bytes=0-1,10-12")).want(t, 206)
	if ct := a.Header.Get("Content-Type"); !strings.HasPrefix(ct, "multipart/byteranges; boundary=") || !strings.Contains(string(a.body), "Content-Range: bytes 10-12/") {
		t.Errorf("multipart: %q, %q", ct, a.body)
	}
}

// list walks the catalog as clients do.
func (g *gate) list(credential option, n string) (names []string, pages int) {
	g.Helper()
	target := "/v2/_catalog"
	if n != "" {
		target += "?n=" + n
	}
	for target != "" && pages < 50 {
		a := g.get(target, credential).want(g, 200)
		pages++
		var page struct{ Repositories []string }
		if err := json.Unmarshal(a.body, &page); err != nil || page.Repositories == nil {
			g.Fatalf("catalog %q: %v", a.body, err)
		}
		names = append(names, page.Repositories...)
		link := a.Header.Get("Link")
		target = ""
		if link != "" {
			m := regexp.MustCompile(`^<(/v2/_catalog\?[^>]+)>; rel="next"$`).FindStringSubmatch(link)
			if m == nil {
				g.Fatalf("Link %q", link)
			}
			target = m[1]
		}
	}
	return names, pages
}

func TestR14_CatalogShowsWhatTheCallerMayPull(t *testing.T) {
	g := newGate(t, usual)
	g.up.repositories = append(g.up.repositories, "zz/hidden/one", "zz/hidden/two")
	for user, want := range map[string][]string{
		"":    {"library/alpine", "library/busybox"},
		"ann": {"coolteam/app", "library/alpine", "library/busybox"},
		"bob": {"bob/tools", "library/alpine", "library/busybox", "shared/base"},
	} {
		for _, n := range []string{"", "1", "2", "3", "1000"} {
			got, pages := g.list(g.as(user, "registry:catalog:*"), n)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q with n=%s: %s", user, n, diff)
			}
			if n == "1" && pages < len(want) {
				t.Errorf("%q with n=1: %d pages", user, pages)
			}
		}
	}
	// No page and no Link tells the name of what is hidden.
	for _, n := range []string{"1", "2"} {
		target := "/v2/_catalog?n=" + n
		for target != "" {
			a := g.get(target, g.as("", "registry:catalog:*"))
			all := string(a.body) + a.Header.Get("Link")
			for _, hidden := range []string{"coolteam", "ops", "zz", "bob", "shared"} {
				if strings.Contains(all, hidden) {
					t.Errorf("anonymous learns of %s: %s", hidden, all)
				}
			}
			target, _, _ = strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
		}
	}
}

func TestR14_AShortOrEmptyPageKeepsItsLink(t *testing.T) {
	g := newGate(t, "allow everyone z/** pull")
	g.up.repositories = nil
	for i := range 100 {
		g.up.repositories = append(g.up.repositories, fmt.Sprintf("hidden/%03d", i))
	}
	g.up.repositories = append(g.up.repositories, "z/a", "z/b")
	got, pages := g.list(g.as("", "registry:catalog:*"), "5")
	if diff := cmp.Diff([]string{"z/a", "z/b"}, got); diff != "" {
		t.Error(diff)
	}
	if pages < 2 {
		t.Errorf("%d page: the upstream's 34 were read at once", pages)
	}
	// Another one's place to go on is nobody else's.
	a := g.get("/v2/_catalog?n=5", g.as("", "registry:catalog:*"))
	link, _, _ := strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"), ">")
	g.get(link, g.as("ann", "registry:catalog:*")).refused(t, 400, "UNSUPPORTED")
}

func TestR14_TagsKeepTheClientsName(t *testing.T) {
	g := newGate(t, usual)
	a := g.get("/v2/library/alpine/tags/list", g.as("", pulls("library/alpine"))).want(t, 200)
	if got := string(a.body); got != `{"name":"library/alpine","tags":["1.0","latest"]}` {
		t.Errorf("got %s", got)
	}
}

func TestR15_LinkIsPathAbsolute(t *testing.T) {
	g := newGate(t, usual)
	alpine := g.as("", pulls("library/alpine"))
	addr := g.up.srv.Listener.Addr().String()
	for upstream, want := range map[string]string{
		`</v2/library/alpine/tags/list?last=1.0&n=1>; rel="next"`:                           `</v2/library/alpine/tags/list?last=1.0&n=1>; rel="next"`,
		`<http://` + addr + `/v2/library/alpine/tags/list?n=1&last=1.0>; rel="next"`:        `</v2/library/alpine/tags/list?last=1.0&n=1>; rel="next"`,
		`<http://nexus:8081/repository/docker/v2/other/tags/list?n=1&last=1.0>; rel="next"`: `</v2/library/alpine/tags/list?last=1.0&n=1>; rel="next"`,
		`<?n=1&last=a%26b%2Fc>; rel=next`:                                                   `</v2/library/alpine/tags/list?last=a%26b%2Fc&n=1>; rel="next"`,
		`</v2/x?last=1.0&n=1&digest=x&mount=y>; rel="next"`:                                 `</v2/library/alpine/tags/list?last=1.0&n=1>; rel="next"`,
		`</v2/library/alpine/tags/list?last=1.0&n=1>; rel="prev"`:                           "",
		``: "",
	} {
		g.passing("Link", upstream)
		got := strings.Join(g.get("/v2/library/alpine/tags/list", alpine).want(t, 200).Header.Values("Link"), "|")
		if got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", upstream, got, want)
		}
	}
	g.passing("Link", `</v2/library/alpine/referrers/`+imageDigest+`?artifactType=application%2Fx&last=q>; rel="next"`)
	got := g.get("/v2/library/alpine/referrers/"+imageDigest+"?artifactType=application/x", alpine).want(t, 200).Header.Get("Link")
	if want := `</v2/library/alpine/referrers/` + imageDigest + `?artifactType=application%2Fx&last=q>; rel="next"`; got != want {
		t.Errorf("referrers:\ngot  %s\nwant %s", got, want)
	}
}

func TestR16_FieldsThatPass(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	fields := []string{"OCI-Subject", imageDigest, "OCI-Filters-Applied", "artifactType", "OCI-Chunk-Min-Length", "1024", "OCI-Tag", "1",
		"Accept-Ranges", "bytes", "Retry-After", "3", "Warning", `299 - "x"`, "Last-Modified", "Fri, 20 Nov 2026 10:00:00 GMT", "Cache-Control", "max-age=60", "Etag", `"x"`}
	g.passing(fields...)
	for _, a := range []reply{
		g.get("/v2/coolteam/app/manifests/latest", ann),
		g.get("/v2/coolteam/app/referrers/"+imageDigest, ann),
		g.do("PUT", "/v2/coolteam/app/manifests/1", ann, body(image)),
		g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann),
	} {
		for i := 0; i < len(fields); i += 2 {
			if got := a.Header.Get(fields[i]); got != fields[i+1] {
				t.Errorf("%s %s: %s %q, want %q", a.Request.Method, a.Request.URL.Path, fields[i], got, fields[i+1])
			}
		}
	}
}

func TestR22_NoCORS(t *testing.T) {
	g := newGate(t, usual)
	g.passing("Access-Control-Allow-Origin", "*", "Access-Control-Allow-Credentials", "true", "Access-Control-Expose-Headers", "Link")
	origin := header("Origin", "https://evil.example")
	ask := header("Access-Control-Request-Method", "GET")
	for _, a := range []reply{
		g.do("OPTIONS", "/v2/", origin, ask),
		g.do("OPTIONS", "/v2/library/alpine/manifests/latest", origin, ask),
		g.do("OPTIONS", "/token", origin, ask),
		g.get("/v2/", origin),
		g.get("/token", origin),
		g.get("/", origin),
		g.get("/v2/library/alpine/manifests/latest", origin, g.as("", pulls("library/alpine"))),
	} {
		for key := range a.Header {
			if strings.HasPrefix(key, "Access-Control-") {
				t.Errorf("%s %s: %s: %s", a.Request.Method, a.Request.URL.Path, key, a.Header.Get(key))
			}
		}
	}
}

func TestR23_DetailOfAnErrorNamesNothingForeign(t *testing.T) {
	// With one upstream and no prefix the names are the client's own, so detail may pass;
	// what is not JSON, and every 5xx, is in our own words.
	g := newGate(t, usual)
	ann := g.as("ann", pulls("coolteam/app"))
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/html"):
			http.Error(w, "no coolteam in /var/nexus/blobs", 404)
		case strings.HasSuffix(r.URL.Path, "/down"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(500)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"Path":"/var/lib/registry/secret"}}]}`)
		default:
			return false
		}
		return true
	})
	for _, tag := range []string{"html", "down"} {
		a := g.get("/v2/coolteam/app/manifests/"+tag, ann)
		for _, word := range []string{"/var/", "nexus", "secret"} {
			if strings.Contains(string(a.body), word) {
				t.Errorf("%s: %s", tag, a.body)
			}
		}
	}
	g.get("/v2/coolteam/app/manifests/absent", ann).refused(t, 404, "MANIFEST_UNKNOWN")
}
