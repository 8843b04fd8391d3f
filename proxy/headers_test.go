package proxy

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestP22_AcceptLinesStayAsTheyAre(t *testing.T) {
	for name, lines := range map[string][]string{
		"many":   {"application/json", "application/vnd.oci.image.index.v1+json, */*;q=0.1", "application/json", ""},
		"one":    {"*/*"},
		"absent": nil,
	} {
		r := &http.Request{Header: http.Header{}}
		if lines != nil {
			r.Header["Accept"] = lines
		}
		got := requestHeader(r, &Request{Kind: KindManifest, Method: "GET"}, "10.0.0.1")
		if d := cmp.Diff(lines, got["Accept"]); d != "" {
			t.Errorf("%s: -want +got:\n%s", name, d)
		}
	}
}

func TestP23_WhatPasses(t *testing.T) {
	pass := http.Header{
		"Range": {"bytes=0-1,5-9"}, "If-None-Match": {`"a"`}, "If-Match": {`"b"`}, "If-Range": {`"c"`},
		"Content-Type": {"application/vnd.oci.image.manifest.v1+json; charset=utf-8"}, "Content-Range": {"0-9"},
		"Accept-Encoding": {"zstd, gzip, deflate"}, "User-Agent": {"docker/28"}, "Traceparent": {"00-1-2-01"},
	}
	got := requestHeader(&http.Request{Header: pass}, &Request{Kind: KindManifest, Method: "PUT"}, "10.0.0.1")
	want := pass.Clone()
	want.Set("X-Forwarded-For", "10.0.0.1")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestP24_WhatDoesNotPass(t *testing.T) {
	h := http.Header{}
	for _, name := range []string{"Authorization", "Cookie", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
		"X-Forwarded-User", "X_Forwarded_User", "X-Forwarded-Prefix", "X-Real-Ip", "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override",
		"Proxy-Authorization", "Proxy-Connection", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Expect", "Host", "Content-Length", "Docker-Content-Digest", "Origin", "X-Anything", "Remote-User", "Content-Encoding"} {
		h[name] = []string{"mine"}
	}
	got := requestHeader(&http.Request{Header: h}, &Request{Kind: KindManifest, Method: "PUT"}, "10.0.0.1")
	if d := cmp.Diff(http.Header{"X-Forwarded-For": {"10.0.0.1"}}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestH08_ConnectionTakesAwayOnlyTheClientsOwn(t *testing.T) {
	for connection, want := range map[string]http.Header{
		"close":                           {"Range": {"bytes=0-"}, "Accept": {"a"}, "X-Forwarded-For": {"10.0.0.1"}},
		"keep-alive, range":               {"Accept": {"a"}, "X-Forwarded-For": {"10.0.0.1"}},
		"X-Forwarded-For, Authorization":  {"Range": {"bytes=0-"}, "Accept": {"a"}, "X-Forwarded-For": {"10.0.0.1"}},
		" accept ,x-forwarded-for,,range": {"X-Forwarded-For": {"10.0.0.1"}},
	} {
		r := &http.Request{Header: http.Header{"Connection": {connection}, "Range": {"bytes=0-"}, "Accept": {"a"}}}
		got := requestHeader(r, &Request{Kind: KindBlob, Method: "GET"}, "10.0.0.1")
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Connection: %s: -want +got:\n%s", connection, d)
		}
	}
}

func TestP13_FormsBecomeOctets(t *testing.T) {
	patch := Request{Kind: KindUpload, Method: "PATCH"}
	put := Request{Kind: KindUpload, Method: "PUT", Query: Query{Digest: "sha256:x"}}
	post := Request{Kind: KindUploadStart, Method: "POST"}
	monolithic := Request{Kind: KindUploadStart, Method: "POST", Query: Query{Digest: "sha256:x"}}
	manifest := Request{Kind: KindManifest, Method: "PUT"}
	octets := []string{"application/octet-stream"}
	for _, tt := range []struct {
		q    Request
		is   []string
		want []string
	}{
		{patch, []string{"application/octet-stream"}, octets},
		{patch, []string{"application/json"}, []string{"application/json"}}, // crane
		{patch, []string{"text/plain; charset=utf-8"}, []string{"text/plain; charset=utf-8"}},
		{patch, nil, nil},
		{patch, []string{"application/x-www-form-urlencoded"}, octets},
		{patch, []string{"Application/X-WWW-Form-URLencoded; charset=utf-8"}, octets},
		{patch, []string{"application/x-www-form-urlencoded; =x"}, octets},
		{patch, []string{"application/x-www-form-urlencoded, text/plain"}, octets},
		{patch, []string{"multipart/form-data; boundary=x"}, octets},
		{put, []string{"multipart/mixed; boundary=x"}, octets},
		{put, []string{"application/json", "application/x-www-form-urlencoded"}, octets},
		{put, []string{""}, octets},
		{put, []string{"nonsense;;;"}, octets},
		{monolithic, []string{"application/x-www-form-urlencoded"}, octets},
		{post, []string{"application/x-www-form-urlencoded"}, nil}, // goes without a body, too
		{post, []string{"application/octet-stream"}, nil},
		{manifest, []string{"nonsense;;;"}, []string{"nonsense;;;"}}, // P26
		{Request{Kind: KindBlob, Method: "GET"}, []string{"application/json"}, nil},
	} {
		r := &http.Request{Header: http.Header{}}
		if tt.is != nil {
			r.Header["Content-Type"] = tt.is
		}
		got := requestHeader(r, &tt.q, "10.0.0.1")["Content-Type"]
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s kind %d %q: -want +got:\n%s", tt.q.Method, tt.q.Kind, tt.is, d)
		}
	}
	for _, q := range []Request{patch, put, monolithic, manifest} {
		if !takesBody(&q) {
			t.Errorf("%s kind %d goes without its body", q.Method, q.Kind)
		}
	}
	if takesBody(&post) {
		t.Error("a POST without digest goes with its body")
	}
}

func TestR17_OnlyWhatIsListedReachesTheClient(t *testing.T) {
	listed := http.Header{ // R09-R13, R16
		"Content-Type": {"application/vnd.oci.image.index.v1+json"}, "Content-Length": {"5"}, "Content-Encoding": {"gzip"},
		"Content-Range": {"bytes 0-4/9"}, "Accept-Ranges": {"bytes"}, "Range": {"0-4"}, "Etag": {`"x"`},
		"Last-Modified": {"Sun, 22 Nov 2026 01:00:00 GMT"}, "Cache-Control": {"max-age=1"}, "Retry-After": {"3"},
		"Warning": {`299 - "a"`, `299 - "b"`}, "Docker-Content-Digest": {"sha256:x"}, "Docker-Upload-Uuid": {"u"},
		"Oci-Subject": {"sha256:y"}, "Oci-Filters-Applied": {"artifactType"}, "Oci-Chunk-Min-Length": {"1"}, "Oci-Tag": {"t"},
	}
	all := listed.Clone()
	for _, name := range []string{"Www-Authenticate", "Set-Cookie", "Proxy-Authenticate", "Strict-Transport-Security", "Alt-Svc", "X-Docker-Token",
		"Access-Control-Allow-Origin", "X-Registry-Supports-Signatures", "Server", "Location", "Link", "Connection", "Transfer-Encoding",
		"Keep-Alive", "Trailer", "Upgrade", "Ratelimit-Limit", "Ratelimit-Remaining", "Docker-Ratelimit-Source", "X-Anything", "Authorization",
		"Docker-Distribution-Api-Version", "Date"} {
		all[name] = []string{"theirs"}
	}
	got := http.Header{}
	copyResponseHeader(got, all)
	if d := cmp.Diff(listed, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}
