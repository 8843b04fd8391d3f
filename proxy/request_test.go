package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

const (
	sha256A = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	sha256B = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// parse reads a target as net/http's server does and then as we do.
func parse(t testing.TB, method, target string) (Request, error) {
	t.Helper()
	u, err := url.ParseRequestURI(target)
	if err != nil {
		t.Fatalf("net/http itself refuses %q: %v", target, err)
	}
	return ParseRequest(method, u)
}

func mustParse(t testing.TB, method, target string) Request {
	t.Helper()
	q, err := parse(t, method, target)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return q
}

// wantRefusal checks that a target is refused with this status and code.
func wantRefusal(t *testing.T, method, target string, status int, code string) {
	t.Helper()
	q, err := parse(t, method, target)
	var e *httpError
	if !errors.As(err, &e) {
		t.Errorf("%s %.100s: got %+v, want %d %s", method, target, q, status, code)
		return
	}
	if e.status != status || e.code != code {
		t.Errorf("%s %.100s: got %d %s, want %d %s", method, target, e.status, e.code, status, code)
	}
	if e.msg == "" {
		t.Errorf("%s %.100s: no message", method, target)
	}
}

func wantKind(t *testing.T, method, target string, kind Kind) {
	t.Helper()
	if q, err := parse(t, method, target); err != nil || q.Kind != kind {
		t.Errorf("%s %.100s: got %v, %v; want %v", method, target, q.Kind, err, kind)
	}
}

func TestP01_Routes(t *testing.T) {
	const n = "team/app"
	pull := []auth.Access{{Repository: n, Action: auth.Pull}}
	push := []auth.Access{{Repository: n, Action: auth.Pull}, {Repository: n, Action: auth.Push}}
	del := []auth.Access{{Repository: n, Action: auth.Delete}}
	tag := func(want []auth.Access) []auth.Access {
		tagged := make([]auth.Access, len(want))
		for i, a := range want {
			a.Tag = "v1"
			tagged[i] = a
		}
		return tagged
	}
	for _, tt := range []struct {
		methods, target string
		kind            Kind
		reference       string
		wants           []auth.Access
	}{
		{"GET HEAD", "/v2/", KindPing, "", nil},
		{"GET HEAD", "/v2", KindPing, "", nil}, // C16
		{"GET HEAD", "/v2/team/app/manifests/v1", KindManifest, "v1", tag(pull)},
		{"GET HEAD", "/v2/team/app/manifests/" + sha256A, KindManifest, sha256A, pull},
		{"GET HEAD", "/v2/team/app/blobs/" + sha256A, KindBlob, sha256A, pull},
		{"GET", "/v2/team/app/tags/list", KindTags, "", pull},
		{"GET", "/v2/team/app/referrers/" + sha256A, KindReferrers, sha256A, pull},
		{"PUT", "/v2/team/app/manifests/v1", KindManifest, "v1", tag(push)},
		{"PUT", "/v2/team/app/manifests/" + sha256A, KindManifest, sha256A, push},
		{"POST", "/v2/team/app/blobs/uploads/", KindUploadStart, "", push},
		{"POST", "/v2/team/app/blobs/uploads", KindUploadStart, "", push}, // P08
		{"GET HEAD PATCH PUT DELETE", "/v2/team/app/blobs/uploads/i_D.9=-", KindUpload, "i_D.9=-", push},
		{"DELETE", "/v2/team/app/manifests/v1", KindManifest, "v1", tag(del)},
		{"DELETE", "/v2/team/app/manifests/" + sha256A, KindManifest, sha256A, del},
		{"DELETE", "/v2/team/app/blobs/" + sha256A, KindBlob, sha256A, del},
		{"GET", "/v2/_catalog", KindCatalog, "", []auth.Access{{Action: auth.List}}},
	} {
		for _, method := range strings.Fields(tt.methods) {
			want := Request{Kind: tt.kind, Method: method, Reference: tt.reference, Wants: tt.wants}
			if tt.kind != KindPing && tt.kind != KindCatalog {
				want.Repository = n
			}
			if diff := cmp.Diff(want, mustParse(t, method, tt.target)); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", method, tt.target, diff)
			}
		}
	}
}

func TestP01_TagsOfAPutAreAllWanted(t *testing.T) {
	q := mustParse(t, "PUT", "/v2/a/manifests/"+sha256A+"?tag=v1&tag=latest")
	want := []auth.Access{
		{Repository: "a", Action: auth.Pull},
		{Repository: "a", Action: auth.Push},
		{Repository: "a", Action: auth.Push, Tag: "v1"},
		{Repository: "a", Action: auth.Push, Tag: "latest"},
	}
	if diff := cmp.Diff(want, q.Wants); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if q := mustParse(t, "GET", "/v2/a/manifests/"+sha256A+"?tag=v1"); q.Query.Tag != nil {
		t.Errorf("a GET kept tag=%q", q.Query.Tag)
	}
}

func TestP02_Names(t *testing.T) {
	for _, name := range []string{
		"a", "0", "a/b/c", "a.b", "a_b", "a__b", "a-b", "a---b", "a1/b2-c3", "docker.io/library/x",
		strings.Repeat("a", 255), strings.Repeat("a/", 127) + "a",
	} {
		if q := mustParse(t, "GET", "/v2/"+name+"/tags/list"); q.Repository != name {
			t.Errorf("got repository %q, want %q", q.Repository, name)
		}
	}
	for _, name := range []string{
		"A", "aB", "a..b", "a___b", "a._b", "a_.b", "a-.b", "-a", "a-", ".a", "a.", "a_", "a/-b", "a/b.", "a:b", "a+b",
		"localhost:5000/a", "a@b", "a=b", "a~b", strings.Repeat("a", 256), strings.Repeat("a/", 128) + "a",
	} {
		wantRefusal(t, "GET", "/v2/"+name+"/tags/list", 400, "NAME_INVALID")
	}
}

func TestP03_References(t *testing.T) {
	for _, ref := range []string{
		"latest", "_x", "V1.0-rc_1", "0", strings.Repeat("t", 128), "uploads", "list",
		sha256A, "sha512:" + strings.Repeat("0f", 64), "blake3:abc", "sha256+b64u:LCa0a2j_xo-=", "multihash+base58:QmRZ",
	} {
		if q := mustParse(t, "GET", "/v2/a/manifests/"+ref); q.Reference != ref {
			t.Errorf("got reference %q, want %q", q.Reference, ref)
		}
	}
	for _, tag := range []string{".a", "-a", "a+b", "a@b", "a=b", "a,b", strings.Repeat("t", 129)} {
		wantRefusal(t, "GET", "/v2/a/manifests/"+tag, 404, "MANIFEST_UNKNOWN")
	}
	for _, digest := range []string{
		"sha256:", ":abc", "sha256:abc", sha256A + "0", strings.ToUpper(sha256A), "sha256:" + strings.Repeat("A", 64),
		"sha512:" + strings.Repeat("0", 64), "a+:b", "+a:b", "a++b:c", "SHA256:abc", "a:b:c", "a:b.c", "x:" + strings.Repeat("y", 254),
	} {
		for _, route := range []string{"manifests", "blobs", "referrers"} {
			wantRefusal(t, "GET", "/v2/a/"+route+"/"+digest, 400, "DIGEST_INVALID")
		}
	}
	wantRefusal(t, "GET", "/v2/a/blobs/latest", 400, "DIGEST_INVALID")
	wantRefusal(t, "GET", "/v2/a/referrers/latest", 400, "DIGEST_INVALID")
}

func TestP04_UploadIDs(t *testing.T) {
	long := strings.Repeat("u", maxUploadID)
	if q := mustParse(t, "PATCH", "/v2/a/blobs/uploads/"+long); q.Reference != long {
		t.Error("the longest upload id is not taken")
	}
	for _, id := range []string{"a:b", "a+b", "a,b", "a~b", "a@b", long + "u"} {
		wantRefusal(t, "PATCH", "/v2/a/blobs/uploads/"+id, 404, "BLOB_UPLOAD_UNKNOWN")
	}
	wantKind(t, "PATCH", "/v2/a/blobs/uploads/a/b", KindUnknown) // one segment
}

func TestP05_FromTheRight(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		kind         Kind
		repository   string
	}{
		{"GET", "a/manifests/b/manifests/c", KindManifest, "a/manifests/b"},
		{"GET", "a/blobs/uploads/manifests/b", KindManifest, "a/blobs/uploads"},
		{"GET", "secret/y/blobs/uploads/manifests/z", KindManifest, "secret/y/blobs/uploads"},
		{"GET", "manifests/manifests/manifests", KindManifest, "manifests"},
		{"GET", "a/tags/list/tags/list", KindTags, "a/tags/list"},
		{"GET", "a/blobs/uploads/tags/list", KindTags, "a/blobs/uploads"},
		{"GET", "a/manifests/b/blobs/" + sha256A, KindBlob, "a/manifests/b"},
		{"GET", "a/manifests/b/referrers/" + sha256A, KindReferrers, "a/manifests/b"},
		{"POST", "a/blobs/uploads/blobs/uploads/", KindUploadStart, "a/blobs/uploads"},
		{"POST", "a/manifests/blobs/uploads", KindUploadStart, "a/manifests"},
		{"POST", "blobs/blobs/uploads/", KindUploadStart, "blobs"},
		{"PUT", "a/blobs/uploads/uploads", KindUpload, "a"},
		{"PUT", "a/blobs/uploads/manifests", KindUpload, "a"},
		{"PUT", "uploads/blobs/uploads/blobs", KindUpload, "uploads"},
		{"PUT", "a/blobs/blobs/uploads/x", KindUpload, "a/blobs"},
	} {
		q := mustParse(t, tt.method, "/v2/"+tt.path)
		if q.Kind != tt.kind || q.Repository != tt.repository {
			t.Errorf("%s: got %v of %q, want %v of %q", tt.path, q.Kind, q.Repository, tt.kind, tt.repository)
		}
	}
}

func TestP06_Escapes(t *testing.T) {
	for _, target := range []string{
		"/v2/private%2Fsecret/manifests/x", "/v2/%70rivate/manifests/x", "/v2/pub%2F..%2Fsecret/manifests/x",
		"/v2/a/manifests%2Fx", "/v2/a/manifests/%78", "/v2/a/manifests/x%00", "/v2/a%20b/manifests/x", "/v2/%61/tags/list",
		"/v2%2Fa/tags/list", "/%76%32/a/tags/list", "/v2/a/blobs/uploads/x%3Ay", "/v2/a%3Ab/manifests/x", "/v2/foo%3Abar",
		"/v2/a/blobs/uploads/%2E%2E", "/v2/a/manifests/%252e", "/v2/%C3%A9/tags/list", "/v2/a/tags/list%3A", "/v2/a%5Cb/tags/list",
		"/v2/a/blobs/sha256%3a" + sha256A[7:20] + "%3a", "/v2/%3A",
	} {
		wantRefusal(t, "GET", target, 400, "NAME_INVALID")
	}
	for _, colon := range []string{"%3A", "%3a"} {
		for _, route := range []string{"manifests", "blobs", "referrers"} {
			q := mustParse(t, "GET", "/v2/a/"+route+"/sha256"+colon+sha256A[7:])
			if q.Reference != sha256A {
				t.Errorf("%s: got %q", colon, q.Reference)
			}
			if got := q.URL().String(); got != "/v2/a/"+route+"/"+sha256A {
				t.Errorf("goes on as %q", got)
			}
		}
	}
	wantRefusal(t, "GET", "/v2/a/manifests/-x%3Ay", 400, "DIGEST_INVALID")
}

func TestP08_Spellings(t *testing.T) {
	for _, path := range []string{
		"/v2//", "/v2//secret/manifests/x", "/v2/a//manifests/x", "/v2/a/manifests//x", "/v2/./a/manifests/x", "/v2/a/./manifests/x",
		"/v2/pub/../secret/manifests/x", "/v2/a/manifests/..", "/v2/a/manifests/.", "/v2/..", "/v2/.", "/v2/a/manifests/x/",
		"/v2/a/tags/list/", "/v2/_catalog/", "/v2/a/blobs/" + sha256A + "/", "/v2/a/blobs/uploads//", "/v2/a/blobs/uploads/x/",
		"/v2/a;b/manifests/x", "/v2/a/manifests/x;y", `/v2/a\b/manifests/x`, `/v2/a/..\b/manifests/x`, "/v2/é/manifests/x",
		"/v2/a/manifests/\xff", `/v2/"/tags/list`, "/v2/a/manifests/x#y", "/v2/{a}/tags/list", "/v2/a/blobs/uploads/..",
		"/v2/a/blobs/uploads/.", "/v2/foo/", "/v2/blobs/uploads/", "/v2/foo/../bar", `/v2/a\%2Fb/manifests/x`,
	} {
		wantRefusal(t, "GET", path, 400, "NAME_INVALID")
	}
	for _, target := range []string{"http://user@h/v2/a/manifests/x", "http://u:p@h/v2/", "http:v2/", "http:/v2/", "x:/v2/", "ftp://h/v2/"} {
		wantRefusal(t, "GET", target, 400, "NAME_INVALID")
	}
	// An absolute target is judged by its path alone.
	if q := mustParse(t, "GET", "http://other.example/v2/a/manifests/x"); q.Repository != "a" {
		t.Errorf("got %q", q.Repository)
	}
	for _, target := range []string{"//v2/a/manifests/x", "/", "/v1/search", "/api/v2/a", "/v2x/a/manifests/x", "*", "/../v2/a/tags/list"} {
		wantRefusal(t, "GET", target, 404, "NAME_UNKNOWN")
	}
}

func TestP09_NoFolding(t *testing.T) {
	wantRefusal(t, "GET", "/v2/Team/app/manifests/x", 400, "NAME_INVALID")
	wantRefusal(t, "GET", "/V2/", 404, "NAME_UNKNOWN")
	wantRefusal(t, "GET", "/V2/team/app/manifests/x", 404, "NAME_UNKNOWN")
	wantKind(t, "GET", "/v2/a/Manifests/x", KindUnknown)
	wantKind(t, "GET", "/v2/a/tags/LIST", KindUnknown)
	wantRefusal(t, "get", "/v2/a/tags/list", 405, "UNSUPPORTED")
}

func TestP10_Extensions(t *testing.T) {
	for _, path := range []string{
		"_oci/ext/discover", "_zot/ext/search", "_zot/ext/mgmt", "a/_oci/x/y", "_catalog/tags/list", "_a/manifests/x",
		"a/_b/manifests/x", "a/_b/tags/list", "_a/blobs/uploads/x", "a/_blobs/uploads/x",
	} {
		wantKind(t, "GET", "/v2/"+path, KindUnknown)
	}
}

func TestP12_StrictQuery(t *testing.T) {
	const start = "/v2/a/blobs/uploads/?"
	for _, key := range []string{"mount", "from", "digest", "digest-algorithm", "n", "last", "ns"} {
		for _, second := range []string{key + "=", key + "=&x=y&" + key + "=", strings.Replace(key, key[:1], fmt.Sprintf("%%%02x", key[0]), 1)} {
			wantRefusal(t, "POST", start+key+"=&"+second, 400, "UNSUPPORTED")
		}
	}
	for _, query := range []string{
		"a=b;c=d", "n=1;last=x", ";", "a=%", "a=%4", "a=%zz", "%=a", "x=\xff", "n=-1", "n=+1", "n=1.0", "n=0x1", "n=a", "n=1%00",
		"digest-algorithm=SHA256", "digest-algorithm=sha-256", "ns=a/b", "ns=a%20b", "ns=" + strings.Repeat("n", 256),
		"last=%0a", "last=%c3%a9", "last=" + strings.Repeat("l", 256), "tag=-x", "tag=a/b", "artifactType=%07",
		"artifactType=" + strings.Repeat("t", 256), strings.Repeat("tag=a&", 33), strings.Repeat("artifactType=a&", 33), "a#b",
	} {
		wantRefusal(t, "POST", start+query, 400, "UNSUPPORTED")
	}
	for _, query := range []string{"digest=x", "digest=sha256:abc", "mount=x", "mount=" + sha256A + "0"} {
		wantRefusal(t, "POST", start+query, 400, "DIGEST_INVALID")
	}
	for _, from := range []string{"A", "../x", "a//b", "a/", "a%00", "a%20b", strings.Repeat("a", 256)} {
		wantRefusal(t, "POST", start+"mount="+sha256A+"&from="+from, 400, "NAME_INVALID")
	}
}

func TestP12_KeptAndDropped(t *testing.T) {
	const d, e = sha256A, sha256B
	for _, tt := range []struct{ method, in, out string }{
		{"GET", "/v2/a/tags/list?n=10&last=v%31&x=y&digest=" + d, "/v2/a/tags/list?n=10&last=v1"},
		{"GET", "/v2/a/tags/list?n=&last=", "/v2/a/tags/list"},
		{"GET", "/v2/a/tags/list?&&n=5&", "/v2/a/tags/list?n=5"},
		{"GET", "/v2/a/tags/list?last=a+b%26n%3D1", "/v2/a/tags/list?last=a%20b%26n%3D1"},
		{"GET", "/v2/_catalog?n=1000000000000&last=team/app", "/v2/_catalog?n=1000&last=team/app"},
		{"GET", "/v2/_catalog?n=1001", "/v2/_catalog?n=1000"},
		{"GET", "/v2/_catalog?n=00", "/v2/_catalog?n=0"},
		{"GET", "/v2/_catalog?n=0000000000000007", "/v2/_catalog?n=7"},
		{"GET", "/v2/a/referrers/" + d + "?artifactType=a/b%3Bc%2Bd&artifactType=e", "/v2/a/referrers/" + d + "?artifactType=a/b%3Bc%2Bd&artifactType=e"},
		{"PUT", "/v2/a/manifests/" + d + "?tag=v2&tag=v1&n=3", "/v2/a/manifests/" + d + "?tag=v2&tag=v1"},
		{"POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512&origin=x", "/v2/a/blobs/uploads/?digest-algorithm=sha512"},
		{"POST", "/v2/a/blobs/uploads/?from=x/y&%6dount=" + strings.Replace(d, ":", "%3A", 1), "/v2/a/blobs/uploads/?mount=" + d + "&from=x/y"},
		{"POST", "/v2/a/blobs/uploads?digest=" + e, "/v2/a/blobs/uploads/?digest=" + e},
		{"PUT", "/v2/a/blobs/uploads/u?digest=" + d + "&mount=" + e + "&from=x", "/v2/a/blobs/uploads/u?digest=" + d},
		{"PATCH", "/v2/a/blobs/uploads/u?digest=" + d, "/v2/a/blobs/uploads/u"},
		{"GET", "/v2/a/blobs/" + d + "?ns=docker.io&x=1", "/v2/a/blobs/" + d + "?ns=docker.io"},
		{"GET", "/v2/?n=1", "/v2/"},
	} {
		q := mustParse(t, tt.method, tt.in)
		if got := q.URL().String(); got != tt.out {
			t.Errorf("%s %s\n got %s\nwant %s", tt.method, tt.in, got, tt.out)
		}
	}
}

func TestP07_UpstreamTargetIsRebuilt(t *testing.T) {
	q := mustParse(t, "POST", "/v2/a/blobs/uploads?mount="+sha256A+"&from=b&origin=c&ns=docker.io")
	for _, tt := range []struct{ from, path, query string }{
		{"y/b", "/repository/docker-hosted/v2/x/a/blobs/uploads/", "mount=" + sha256A + "&from=y/b"},
		{"", "/repository/docker-hosted/v2/x/a/blobs/uploads/", ""}, // P14: the mount is dropped
	} {
		path, query := q.upstream("/repository/docker-hosted", "x/a", tt.from)
		if path != tt.path || query != tt.query {
			t.Errorf("from %q: got %s?%s, want %s?%s", tt.from, path, query, tt.path, tt.query)
		}
	}
}

func TestP14_MountsSourceIsAskedApart(t *testing.T) {
	q := mustParse(t, "POST", "/v2/a/blobs/uploads/?mount="+sha256A+"&from=b")
	if want := (auth.Access{Repository: "b", Action: auth.Pull}); q.Source() != want {
		t.Errorf("source: got %v, want %v", q.Source(), want)
	}
	for _, a := range q.Wants {
		if a.Repository != "a" {
			t.Errorf("wants %v", a)
		}
	}
}

func TestP15_MountWithoutFrom(t *testing.T) {
	for _, query := range []string{"mount=" + sha256A, "mount=" + sha256A + "&from=", "from=b", "mount=&from=b"} {
		q := mustParse(t, "POST", "/v2/a/blobs/uploads/?"+query)
		if q.Mount != "" || q.From != "" || q.Source() != (auth.Access{}) || q.URL().RawQuery != "" {
			t.Errorf("%s: kept %q from %q", query, q.Mount, q.From)
		}
	}
}

func TestP16_OtherParametersAreDropped(t *testing.T) {
	q := mustParse(t, "POST", "/v2/a/blobs/uploads/?origin=x&_state=y&mount="+sha256A+"&from=b&origin=z")
	if got, want := q.URL().RawQuery, "mount="+sha256A+"&from=b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestP17_CancellingAnUploadNeedsPush(t *testing.T) {
	q := mustParse(t, "DELETE", "/v2/a/blobs/uploads/u")
	want := []auth.Access{{Repository: "a", Action: auth.Pull}, {Repository: "a", Action: auth.Push}}
	if diff := cmp.Diff(want, q.Wants); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestP20_UnknownPaths(t *testing.T) {
	for _, path := range []string{"x", "a/b", "manifests/x", "blobs/uploads", "blobs/uploads/x", "tags/list", "a/tags/x", "a/uploads/x", "a/manifests"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
			q := mustParse(t, method, "/v2/"+path)
			if diff := cmp.Diff(Request{Kind: KindUnknown, Method: method}, q); diff != "" {
				t.Errorf("%s /v2/%s (-want +got):\n%s", method, path, diff)
			}
		}
	}
	for _, path := range []string{"/gitlab/v1/x", "/extensions/v2/a/signatures/" + sha256A, "/v1/_ping", "/api/v1/reload", "/metrics", ""} {
		_, err := ParseRequest("GET", &url.URL{Path: path})
		var e *httpError
		if !errors.As(err, &e) || e.status != 404 || e.code != "NAME_UNKNOWN" {
			t.Errorf("%q: got %v", path, err)
		}
	}
}

func TestS16_MethodsOfARoute(t *testing.T) {
	routes := []struct{ path, allow string }{
		{"/v2/", "GET, HEAD"},
		{"/v2/a/manifests/x", "GET, HEAD, PUT, DELETE"},
		{"/v2/a/manifests/" + sha256A, "GET, HEAD, PUT, DELETE"},
		{"/v2/a/blobs/" + sha256A, "GET, HEAD, DELETE"},
		{"/v2/a/tags/list", "GET"},
		{"/v2/a/referrers/" + sha256A, "GET"},
		{"/v2/a/blobs/uploads/", "POST"},
		{"/v2/a/blobs/uploads/u", "GET, HEAD, PATCH, PUT, DELETE"},
		{"/v2/_catalog", "GET"},
	}
	for _, route := range routes {
		allowed := strings.Split(route.allow, ", ")
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "", "get"} {
			_, err := parse(t, method, route.path)
			has := false
			for _, m := range allowed {
				has = has || m == method
			}
			if has {
				if err != nil {
					t.Errorf("%s %s: %v", method, route.path, err)
				}
				continue
			}
			var e *httpError
			if !errors.As(err, &e) || e.status != http.StatusMethodNotAllowed || e.code != "UNSUPPORTED" || e.header.Get("Allow") != route.allow {
				t.Errorf("%q %s: got %#v, want 405 with Allow: %s", method, route.path, err, route.allow)
			}
		}
	}
}

func TestK05_TargetIsBounded(t *testing.T) {
	wantKind(t, "GET", "/v2/"+strings.Repeat("x", maxPath-4), KindUnknown)
	wantRefusal(t, "GET", "/v2/"+strings.Repeat("x", maxPath-3), 414, "UNSUPPORTED")
	wantKind(t, "GET", "/v2/?"+strings.Repeat("x", maxQuery), KindPing)
	wantRefusal(t, "GET", "/v2/?"+strings.Repeat("x", maxQuery+1), 414, "UNSUPPORTED")
	// The longest request that has a route passes (H13).
	longest := "/v2/" + strings.Repeat("n", maxName) + "/blobs/uploads/" + strings.Repeat("u", maxUploadID) + "?digest=" + sha256A
	wantKind(t, "PUT", longest, KindUpload)
	if q := mustParse(t, "PUT", "/v2/a/manifests/"+sha256A+"?"+strings.Repeat("tag=a&", maxRepeats)); len(q.Wants) != 2+maxRepeats {
		t.Errorf("%d wants", len(q.Wants))
	}
}

// The grammar of P02-P04 once more, as the specification has it.
const (
	reName   = `[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*`
	reTag    = `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
	reDigest = `(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}|[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+)`
)

// reference finds the repository of a raw path with regular expressions alone.
type reference map[string]*regexp.Regexp // by the marker that has to be there, to save time

func newReference() reference {
	r := reference{}
	for marker, tail := range map[string]string{
		"/manifests/": `(?:` + reTag + `|` + reDigest + `)`, "/blobs/": reDigest, "/tags/list": ``, "/referrers/": reDigest,
		"/blobs/uploads": `/?`, "/blobs/uploads/": `[A-Za-z0-9_.=-]+`,
	} {
		r[marker] = regexp.MustCompile(`^/v2/(` + reName + `)` + marker + tail + `$`)
	}
	return r
}

func (r reference) repository(path string) (string, bool) {
	if i := strings.LastIndex(path, "/"); i >= 0 {
		last := strings.Replace(strings.Replace(path[i:], "%3a", ":", 1), "%3A", ":", 1)
		if strings.Contains(path[i:], "%") && strings.Contains(path[i:], ":") {
			return "", false
		}
		path = path[:i] + last
	}
	_, last, _ := cutLast(path)
	if hex, ok := strings.CutPrefix(last, "sha256:"); ok && (len(hex) != 64 || !lowerHex(hex)) {
		return "", false // the general form would take it
	}
	if strings.HasSuffix(path, "/.") || strings.HasSuffix(path, "/..") {
		return "", false
	}
	for marker, re := range r {
		if !strings.Contains(path, marker) {
			continue
		}
		if m := re.FindStringSubmatch(path); m != nil && len(m[1]) <= maxName {
			return m[1], true
		}
	}
	return "", false
}

// spelling makes a path: a good one that is then spoilt in up to three places.
func spelling(rng *rand.Rand) string {
	pieces := []string{
		"/", "/v2", "/v2/", "a", "b", "team", "secret", "manifests", "blobs", "tags", "uploads", "referrers", "list", "latest",
		"/manifests/", "/blobs/", "/blobs/uploads/", "/tags/list", "/referrers/", "_catalog", "_oci", sha256A, "sha256%3a" + sha256A[7:],
		"sha256%3A" + sha256A[7:], "sha256:", "..", ".", "//", "%2F", "%2f", "%70", "%2e%2e", "%00", "%25", "%3A", ";", "\\", "\x80", "é", "A",
		"-", "_", "__", "___", "=", ":", "@", "+", "~", " ", "x:y", "blake3:abc",
	}
	names := []string{"a", "b", "team", "secret", "manifests", "blobs", "tags", "uploads", "referrers", "list", "a.b", "a__b", "a--b"}
	tails := []string{
		"/manifests/x", "/manifests/" + sha256A, "/manifests/sha256%3A" + sha256A[7:], "/blobs/" + sha256A, "/blobs/blake3:abc",
		"/tags/list", "/referrers/" + sha256A, "/blobs/uploads/", "/blobs/uploads", "/blobs/uploads/x", "/blobs/uploads/a.b=_-",
	}
	path := "/v2"
	for range 1 + rng.IntN(4) {
		path += "/" + names[rng.IntN(len(names))]
	}
	path += tails[rng.IntN(len(tails))]
	for range rng.IntN(4) {
		at := rng.IntN(len(path) + 1)
		if i := strings.IndexByte(path[at:], '/'); i >= 0 && rng.IntN(2) == 0 {
			at += i // at the edge of a segment, where most is to be won
		}
		path = path[:at] + pieces[rng.IntN(len(pieces))] + path[at:]
	}
	return path
}

// Whatever the spelling, the repository that is judged is the one that the
// specification's own grammar finds in the bytes on the wire (K1, G2).
func TestK01_RandomSpellingsNeverChangeTheRepository(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	ref := newReference()
	taken := 0
	for range 100_000 {
		raw := spelling(rng)
		u, err := url.ParseRequestURI(raw)
		if err != nil {
			continue
		}
		want, ok := ref.repository(raw)
		for _, method := range []string{"GET", "PUT", "POST"} {
			q, err := ParseRequest(method, u)
			if err != nil || q.Kind == KindUnknown || q.Kind == KindPing || q.Kind == KindCatalog {
				continue
			}
			taken++
			if !ok || q.Repository != want {
				t.Fatalf("%s %q: got %v of %q, the grammar says %q (%v)", method, raw, q.Kind, q.Repository, want, ok)
			}
		}
		// And nothing the grammar has is turned away, whichever method it takes.
		if ok {
			get, errGet := ParseRequest("GET", u)
			post, errPost := ParseRequest("POST", u)
			if (errGet != nil || get.Repository != want) && (errPost != nil || post.Repository != want) {
				t.Fatalf("%q: refused: %v, %v; the grammar says %q", raw, errGet, errPost, want)
			}
		}
	}
	if taken < 20_000 {
		t.Errorf("only %d spellings were taken: the test tries too little", taken)
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, target := range []string{
		"/v2/", "/v2", "/v2/a/manifests/latest", "/v2/a/blobs/" + sha256A, "/v2/a/blobs/sha256%3a" + sha256A[7:], "/v2/a/blobs/uploads/",
		"/v2/a/blobs/uploads/?mount=" + sha256A + "&from=b&origin=c", "/v2/a/blobs/uploads/u?digest=" + sha256A, "/v2/_catalog?n=9999&last=x",
		"/v2/a/tags/list?n=01&last=%20&ns=docker.io", "/v2/a/referrers/" + sha256A + "?artifactType=a&artifactType=b", "/v2/_oci/x",
		"/v2/a/manifests/" + sha256A + "?tag=x&tag=y", "http://u@h/v2/", "/v2/a/../b/tags/list", "/v2/a%2Fb/tags/list", "*", "http:x",
	} {
		for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
			f.Add(method, target)
		}
	}
	name := regexp.MustCompile(`^` + reName + `$`)
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		q, err := ParseRequest(method, u)
		if err != nil {
			var e *httpError
			if !errors.As(err, &e) || e.status < 400 || e.status > 499 || e.code == "" || e.msg == "" {
				t.Fatalf("%s %q: %#v is no refusal", method, target, err)
			}
			return
		}
		if q.Repository != "" && (!name.MatchString(q.Repository) || len(q.Repository) > 255) {
			t.Fatalf("%q: repository %q", target, q.Repository)
		}
		if (q.Mount == "") != (q.From == "") {
			t.Fatalf("%q: mount %q from %q", target, q.Mount, q.From)
		}
		again, err := ParseRequest(q.Method, q.URL())
		if err != nil {
			t.Fatalf("%q: its own URL %q: %v", target, q.URL(), err)
		}
		if diff := cmp.Diff(q, again); diff != "" {
			t.Fatalf("%q: not the same by its own URL %q:\n%s", target, q.URL(), diff)
		}
		onWire, err := url.ParseRequestURI(q.URL().String())
		if err != nil || onWire.Path != q.Path() || strings.Contains(onWire.EscapedPath(), "%") {
			t.Fatalf("%q: on the wire %q, %v", target, q.URL(), err)
		}
	})
}

func BenchmarkParseRequest(b *testing.B) {
	for _, bb := range []struct{ name, method, target string }{
		{"manifest", "GET", "/v2/library/alpine/manifests/latest"},
		{"blob", "GET", "/v2/library/alpine/blobs/" + sha256A},
		{"mount", "POST", "/v2/team/app/blobs/uploads/?mount=" + sha256A + "&from=library/alpine"},
	} {
		u, err := url.ParseRequestURI(bb.target)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseRequest(bb.method, u); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
