package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// internet is a few names, each at an address and served by us. What is dialled
// beside them is an error and is remembered.
type internet struct {
	t       testing.TB
	mu      sync.Mutex
	names   map[string]string // host to address
	hosts   map[string]string // address:port to where it is really
	strays  []string
	ca      []byte
	lookups int
}

func newInternet(t testing.TB) *internet {
	return &internet{t: t, names: map[string]string{}, hosts: map[string]string{}}
}

// add serves host:port, which is at an address; with TLS on 443.
func (n *internet) add(host, address, port string, h http.HandlerFunc) {
	n.t.Helper()
	s := httptest.NewUnstartedServer(h)
	if port == "443" {
		// httptest's certificate is for example.com and *.example.com.
		s.StartTLS()
		n.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	} else {
		s.Start()
	}
	n.t.Cleanup(s.Close)
	n.names[host] = address
	n.hosts[net.JoinHostPort(address, port)] = s.Listener.Addr().String()
	n.hosts[net.JoinHostPort(host, port)] = s.Listener.Addr().String()
}

func (n *internet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	at, ok := n.hosts[addr]
	if !ok {
		n.strays = append(n.strays, addr)
	}
	n.mu.Unlock()
	if !ok {
		return nil, errors.New("nobody at " + addr)
	}
	return new(net.Dialer).DialContext(ctx, network, at)
}

func (n *internet) resolve(_ context.Context, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lookups++
	if a, ok := n.names[strings.ToLower(host)]; ok {
		return []netip.Addr{netip.MustParseAddr(a)}, nil
	}
	return nil, errors.New("no such name")
}

func (n *internet) use(s *UpstreamSettings, o *UpstreamOptions) {
	o.Dial, o.Resolve = n.dial, n.resolve
	s.CA = n.ca
}

// redirectCase is one redirect of GET /v2/a/blobs/sha256:x at http://registry:5000
// (or https://reg.example.com), and what becomes of it.
type redirectCase struct {
	name string
	to   string
	pass string // with redirects: pass
	then string // with redirects: follow; "" is the same
}

// world has an upstream, a CDN and some places where nobody should go.
func world(t *testing.T, secure bool, to string, record func(where string, r *http.Request)) (*internet, *UpstreamSettings) {
	t.Helper()
	n := newInternet(t)
	upstream := func(w http.ResponseWriter, r *http.Request) {
		record("upstream", r)
		w.Header().Set("Docker-Content-Digest", "sha256:x")
		switch {
		case r.URL.Path == "/v2/":
			challenged(w, `Basic realm="x"`)
		case r.Header.Get("Authorization") != basicAccount:
			challenged(w, `Basic realm="x"`)
		case r.URL.Path == "/files/x" || r.URL.RawQuery == "again":
			_, _ = io.WriteString(w, "blob")
		case r.URL.Path == "/loop":
			w.Header().Set("Location", "/loop")
			w.WriteHeader(http.StatusFound)
		default:
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusTemporaryRedirect)
		}
	}
	storage := func(w http.ResponseWriter, r *http.Request) {
		record("storage", r)
		w.Header().Set("Set-Cookie", "cdn=1")
		switch r.URL.Path {
		case "/down":
			http.Redirect(w, r, "http://cdn.example.com/blob", http.StatusFound)
		case "/back":
			http.Redirect(w, r, "/blob", http.StatusFound)
		case "/inside":
			http.Redirect(w, r, "https://rebound.example.com/blob", http.StatusFound)
		case "/denied":
			w.WriteHeader(http.StatusForbidden)
		default:
			_, _ = io.WriteString(w, "blob")
		}
	}
	n.add("cdn.example.com", "203.0.113.7", "443", storage)
	n.add("cdn.example.com", "203.0.113.7", "80", storage)
	n.add("ours.example.com", "203.0.113.9", "443", storage)
	n.add("minio", "10.0.0.9", "9000", storage)
	n.add("rebound.example.com", "169.254.169.254", "443", storage)
	at := "http://registry:5000"
	if secure {
		n.add("reg.example.com", "203.0.113.8", "443", upstream)
		at = "https://reg.example.com"
	} else {
		n.add("registry", "10.0.0.5", "5000", upstream)
		n.add("registry", "10.0.0.5", "9000", storage)
	}
	base, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	s := &UpstreamSettings{Name: "test", URL: base, Username: "regward", Password: "secret", ConnectTimeout: time.Second}
	return n, s
}

func TestR18_FollowOrPass(t *testing.T) {
	const toCDN = "passed to https://cdn.example.com/blob?sig=%2B"
	for _, secure := range []bool{false, true} {
		for _, tt := range []redirectCase{
			{"public storage", "https://cdn.example.com/blob?sig=%2B", toCDN, "200 blob"},
			{"relative", "/files/x", "200 blob", ""},
			{"relative to the path", "../../../files/x", "200 blob", ""},
			{"plain http", "http://cdn.example.com/blob", "502 UNAVAILABLE", ""},
			{"internal name", "https://storage/blob", "502 UNAVAILABLE", ""},
			{"internal address", "https://10.0.0.9/blob", "502 UNAVAILABLE", ""},
			{"loopback", "https://127.0.0.1/blob", "502 UNAVAILABLE", ""},
			{"loopback in disguise", "https://[::ffff:127.0.0.1]/blob", "502 UNAVAILABLE", ""},
			{"metadata service", "http://169.254.169.254/latest/meta-data", "502 UNAVAILABLE", ""},
			{"name of the metadata service", "https://rebound.example.com/blob", "502 UNAVAILABLE", ""},
			{"with a login", "https://u:p@cdn.example.com/blob", "502 UNAVAILABLE", ""},
			{"another scheme", "ftp://cdn.example.com/blob", "502 UNAVAILABLE", ""},
			{"nowhere", "", "502 UNAVAILABLE", ""},
			{"nonsense", "https://[::1", "502 UNAVAILABLE", ""},
			{"listed, internal", "http://minio:9000/blob", "200 blob", ""},
			{"another repository's API (R19)", "/v2/secret/blobs/sha256:x", "502 UNAVAILABLE", ""},
			{"the same in disguise (R19)", "/x/../v2/secret/blobs/sha256:x", "502 UNAVAILABLE", ""},
			{"the same, escaped (R19)", "/%76%32/secret/blobs/sha256:x", "502 UNAVAILABLE", ""},
			{"the same, doubled (R19)", "//v2//secret/blobs/sha256:x", "502 UNAVAILABLE", ""},
			{"the same blob (R19)", "/v2/a/blobs/sha256:x?again", "200 blob", ""},
			{"round and round (R19)", "/loop", "502 UNAVAILABLE", ""},
			{"our own name (R20)", "https://ours.example.com/blob", "200 blob", ""},
			{"our own name, other port and case (R20)", "https://OURS.example.com:443/blob", "200 blob", ""},
		} {
			if secure && strings.HasPrefix(tt.to, "http://minio") {
				tt.pass = "502 UNAVAILABLE" // never from https to http (R19)
			}
			for _, follow := range []bool{false, true} {
				n, s := world(t, secure, tt.to, func(where string, r *http.Request) {
					if where == "storage" && (r.Header.Get("Authorization") != "" || r.Header.Get("X-Forwarded-For") != "") {
						t.Errorf("%s: storage saw %v", tt.name, r.Header)
					}
				})
				s.Follow, s.RedirectHosts = follow, []string{"minio:9000"}
				o := UpstreamOptions{}
				n.use(s, &o)
				u, err := NewUpstream(*s, o)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := u.do(t.Context(), &outgoing{Method: "GET", Path: "/v2/a/blobs/sha256:x", Blob: true,
					Hostnames: []string{"ours.example.com:443"}, Header: http.Header{"X-Forwarded-For": {"10.1.1.1"}}})
				got := ""
				switch {
				case err != nil:
					got = outcome(nil, err)
				case redirects(resp.StatusCode):
					got = "passed to " + resp.Header.Get("Location")
					_ = resp.Body.Close()
				default:
					body, err := io.ReadAll(resp.Body)
					got = http.StatusText(resp.StatusCode) + " " + string(body)
					if resp.StatusCode == 200 && err == nil {
						got = "200 " + string(body)
					}
					if resp.Header.Get("Docker-Content-Digest") != "sha256:x" {
						t.Errorf("%s: digest is lost (R10)", tt.name)
					}
					_ = resp.Body.Close()
				}
				want := tt.pass
				if follow && tt.then != "" {
					want = tt.then
				}
				if got != want {
					t.Errorf("%s, https %v, follow %v: got %q (%v), want %q", tt.name, secure, follow, got, err, want)
				}
				if len(n.strays) > 0 {
					t.Errorf("%s: dialled %q", tt.name, n.strays)
				}
				u.Close()
			}
		}
	}
}

func TestR19_WhatStorageIsTold(t *testing.T) {
	for to, want := range map[string]string{
		"https://cdn.example.com/blob":   "200",
		"https://cdn.example.com/back":   "200",
		"https://cdn.example.com/down":   "502 UNAVAILABLE",
		"https://cdn.example.com/inside": "502 UNAVAILABLE",
		"https://cdn.example.com/denied": "502 UNAVAILABLE",
	} {
		var told http.Header
		n, s := world(t, true, to, func(where string, r *http.Request) {
			if where == "storage" {
				told = r.Header.Clone()
			}
		})
		s.Follow, s.AssertUser = true, "X-User"
		var o UpstreamOptions
		n.use(s, &o)
		u, err := NewUpstream(*s, o)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Header{"Range": {"bytes=5-"}, "Accept": {"a", "b"}, "If-Range": {`"e"`}, "User-Agent": {"docker"}, "Accept-Encoding": {"zstd"}}
		header := client.Clone()
		header["X-Forwarded-For"], header["Traceparent"] = []string{"10.1.1.1"}, []string{"00"}
		got := outcome(u.do(t.Context(), &outgoing{Method: "GET", Path: "/v2/a/blobs/sha256:x", Blob: true, Header: header, RequestID: "r", User: "alice"}))
		if got != want {
			t.Errorf("%s: got %s, want %s", to, got, want)
		}
		if d := cmp.Diff(client, told); d != "" {
			t.Errorf("%s: storage was told: -want +got:\n%s", to, d)
		}
		if len(n.strays) > 0 {
			t.Errorf("%s: dialled %q", to, n.strays)
		}
		u.Close()
	}
}

// A name may be public when it is judged and private when it is dialled.
func TestR19_RebindingNames(t *testing.T) {
	n, s := world(t, true, "https://cdn.example.com/blob", func(where string, r *http.Request) {
		if where == "storage" {
			t.Errorf("storage saw %s", r.URL)
		}
	})
	s.Follow = true
	var o UpstreamOptions
	n.use(s, &o)
	o.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		n.lookups++
		if n.lookups == 1 {
			return []netip.Addr{netip.MustParseAddr("203.0.113.7")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	u, err := NewUpstream(*s, o)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if got := outcome(u.do(t.Context(), &outgoing{Method: "GET", Path: "/v2/a/blobs/sha256:x", Blob: true})); got != "502 UNAVAILABLE" || n.lookups != 2 {
		t.Errorf("got %s after %d lookups", got, n.lookups)
	}
}

func TestR19_PublicAddresses(t *testing.T) {
	for a, want := range map[string]bool{
		"203.0.113.7": true, "8.8.8.8": true, "2600::1": true,
		"127.0.0.1": false, "10.0.0.1": false, "172.16.0.1": false, "192.168.0.1": false, "169.254.169.254": false,
		"100.64.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "255.255.255.255": false, "224.0.0.1": false, "240.0.0.1": false,
		"198.18.0.1": false, "192.0.0.1": false, "::": false, "::1": false, "fe80::1": false, "fc00::1": false, "fd00:ec2::254": false, "fec0::1": false,
		"::ffff:127.0.0.1": false, "::ffff:8.8.8.8": true, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "ff02::1": false,
	} {
		if got := public(netip.MustParseAddr(a)); got != want {
			t.Errorf("public(%s) = %v", a, got)
		}
	}
}

func TestR20_OurOwnNamesAreNotPassed(t *testing.T) {
	ours := []string{"reg.example.com", "b.example:8443", "192.0.2.1"}
	for host, want := range map[string]bool{
		"reg.example.com": true, "REG.example.com": true, "reg.example.com.": true, "s3.reg.example.com": true, "b.example": true,
		"example.com": false, "notreg.example.com": false, "192.0.2.1": true, "192.0.2.2": false,
	} {
		if got := isOurs(host, ours); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestR21_WritesAreNotRedirected(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		status       int
		to           string
		body         string
		want         string
	}{
		{"POST without body", "POST", 307, "/moved", "", "202"},
		{"POST without body, 301 keeps the method", "POST", 301, "/moved", "", "202"},
		{"303 would make it a GET", "POST", 303, "/moved", "", "502 UNAVAILABLE"},
		{"DELETE", "DELETE", 308, "/moved", "", "202"},
		{"PUT with body", "PUT", 307, "/moved", "body", "502 UNAVAILABLE"},
		{"PATCH with body", "PATCH", 308, "/moved", "body", "502 UNAVAILABLE"},
		{"POST to a stranger", "POST", 307, "https://cdn.example.com/moved", "", "502 UNAVAILABLE"},
	} {
		f := newFakeRegistry(t, func(_ *fakeRegistry, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/moved" {
				w.Header().Set("Location", "up/1")
				w.WriteHeader(http.StatusAccepted)
				return
			}
			w.Header().Set("Location", tt.to)
			w.WriteHeader(tt.status)
		})
		u := testUpstream(t, f.URL)
		u.login.way.Store(new(way))
		out := &outgoing{Method: tt.method, Path: "/v2/a/blobs/uploads/"}
		if tt.body != "" {
			out.Body, out.Length = strings.NewReader(tt.body), int64(len(tt.body))
		}
		resp, err := u.do(t.Context(), out)
		if err == nil && resp.StatusCode == 202 {
			if at, err := u.resolveLocation(resp.Request.URL, resp.Header.Get("Location")); err != nil || at.Path != "/up/1" {
				t.Errorf("%s: location %v, %v", tt.name, at, err)
			}
		}
		if got := outcome(resp, err); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestR05_WhereAnUploadGoesOn(t *testing.T) {
	const bad = ""
	for _, tt := range []struct{ upstream, loc, want string }{
		{"http://registry:5000", "/v2/a/blobs/uploads/1?_state=x%2Fy", "http://registry:5000/v2/a/blobs/uploads/1?_state=x%2Fy"},
		{"http://registry:5000", "http://registry:5000/v2/a/blobs/uploads/1", "http://registry:5000/v2/a/blobs/uploads/1"},
		{"http://registry:5000", "http://registry/v2/a/blobs/uploads/1", "http://registry:5000/v2/a/blobs/uploads/1"},  // port lost
		{"https://reg.example", "http://reg.example/v2/a/blobs/uploads/1", "https://reg.example/v2/a/blobs/uploads/1"}, // TLS ended before it
		{"https://reg.example", "http://REG.example:80/v2/a/blobs/uploads/1", "https://reg.example/v2/a/blobs/uploads/1"},
		{"https://reg.example", "/artifacts-uploads/namespaces/p?upload_id=A%2BB", "https://reg.example/artifacts-uploads/namespaces/p?upload_id=A%2BB"},
		{"https://reg.example", "2?x", "https://reg.example/v2/a/blobs/uploads/2?x"},
		{"https://reg.example", "?x", "https://reg.example/v2/a/blobs/uploads/?x"},
		{"https://reg.example", "/v2/a/blobs/uploads/%2F%3A", "https://reg.example/v2/a/blobs/uploads/%2F%3A"},
		{"https://reg.example", "https://storage.example/up/1", "https://storage.example/up/1"}, // in redirect_hosts
		{"http://registry:5000", "http://minio:9000/up/1", "http://minio:9000/up/1"},
		{"https://reg.example", "http://storage.example/up/1", bad},
		{"https://reg.example", "https://evil.example/up/1", bad},
		{"https://reg.example", "//evil.example/up/1", bad},
		{"https://reg.example", "https://reg.example@evil.example/up/1", bad},
		{"https://reg.example", "https://u:p@reg.example/up/1", bad},
		{"https://reg.example", "javascript:x", bad},
		{"https://reg.example", "", bad},
		{"https://reg.example", "/" + strings.Repeat("a", maxLocation), bad},
		{"http://nexus:8081/repository/r", "/v2/a/blobs/uploads/1", "http://nexus:8081/repository/r/v2/a/blobs/uploads/1"},
		{"http://nexus:8081/repository/r/", "/v2/a/blobs/uploads/%31?x=%20", "http://nexus:8081/repository/r/v2/a/blobs/uploads/%31?x=%20"},
		{"http://nexus:8081/repository/r", "/repository/r/v2/a/blobs/uploads/1", "http://nexus:8081/repository/r/v2/a/blobs/uploads/1"},
		{"http://nexus:8081/repository/r", "http://nexus:8081/v2/a/blobs/uploads/1", "http://nexus:8081/repository/r/v2/a/blobs/uploads/1"},
		{"http://nexus:8081/v2/r", "/v2/r/v2/a/blobs/uploads/1", "http://nexus:8081/v2/r/v2/a/blobs/uploads/1"},
	} {
		u := testUpstream(t, tt.upstream, func(s *UpstreamSettings, _ *UpstreamOptions) {
			s.RedirectHosts = []string{"storage.example", "minio:9000"}
		})
		got := ""
		to, err := u.resolveLocation(u.at(u.prefix+"/v2/a/blobs/uploads/"), tt.loc)
		if err == nil {
			got = to.String()
		}
		if got != tt.want {
			t.Errorf("%s, %q: got %q (%v), want %q", tt.upstream, tt.loc, got, err, tt.want)
		}
		if err != nil {
			if outcome(nil, err) != "502 UNAVAILABLE" {
				t.Errorf("%q: %v", tt.loc, err)
			}
			continue
		}
		// It comes back from an id as it was, R06.
		for digest, query := range map[string]string{"": to.RawQuery, "sha256:x": strings.TrimPrefix(to.RawQuery+"&digest=sha256%3Ax", "&")} {
			back, err := u.uploadURL(u.uploadTarget(to), digest)
			if err != nil {
				t.Fatal(err)
			}
			want := *to
			want.RawQuery = query
			if back.String() != want.String() {
				t.Errorf("%q: comes back as %q, want %q", tt.loc, back, &want)
			}
		}
	}
}

// An id whose host is no longer allowed is no way out.
func TestR05_StoredLocationIsCheckedAgain(t *testing.T) {
	u := testUpstream(t, "http://registry:5000")
	to, err := u.uploadURL("https://storage.example/up/1", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := outcome(u.do(t.Context(), &outgoing{Method: "PATCH", URL: to, Body: strings.NewReader("x"), Length: 1})); got != "502 UNAVAILABLE" {
		t.Errorf("got %s", got)
	}
}

// An upload elsewhere gets the body and no credential.
func TestR05_UploadOnAnotherHost(t *testing.T) {
	n := newInternet(t)
	var got http.Header
	var body string
	n.add("minio", "10.0.0.9", "9000", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r.Header, string(b)
		w.Header().Set("Location", "/next")
		w.WriteHeader(http.StatusAccepted)
	})
	u := testUpstream(t, "http://registry:5000", account, n.use, func(s *UpstreamSettings, _ *UpstreamOptions) { s.RedirectHosts = []string{"minio"} })
	to, err := u.uploadURL("http://minio:9000/up/1?a=b", "sha256:x")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := u.do(t.Context(), &outgoing{Method: "PATCH", URL: to, Body: strings.NewReader("hello"), Length: -1, Header: http.Header{"Content-Type": {octetStream}}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if body != "hello" || got.Get("Authorization") != "" || got.Get("Content-Type") != octetStream {
		t.Errorf("storage got %q with %v", body, got)
	}
	if next, err := u.resolveLocation(resp.Request.URL, resp.Header.Get("Location")); err != nil || next.String() != "http://minio:9000/next" {
		t.Errorf("goes on at %v, %v", next, err)
	}
}

func TestClientTLS(t *testing.T) {
	n := newInternet(t)
	n.add("reg.example.com", "203.0.113.8", "443", func(http.ResponseWriter, *http.Request) {})
	ours, others, err := clientTLS(UpstreamSettings{CA: n.ca})
	if err != nil {
		t.Fatal(err)
	}
	only := x509.NewCertPool()
	only.AppendCertsFromPEM(n.ca)
	if !ours.RootCAs.Equal(only) {
		t.Error("towards the upstream another CA than ca_file's counts")
	}
	both, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	both.AppendCertsFromPEM(n.ca)
	if !others.RootCAs.Equal(both) {
		t.Error("towards storage not the system's CAs and ca_file's count")
	}
	if ours.MinVersion != tls.VersionTLS12 || ours.InsecureSkipVerify || others.InsecureSkipVerify {
		t.Error("TLS is too kind")
	}
}

func FuzzResolveLocation(f *testing.F) {
	for _, s := range []string{"/v2/a/blobs/uploads/1?_state=x", "http://registry:5000/x", "//evil/x", "https://registry@evil/x", "?x", "", "\\\\evil", "/%2e%2e/x", "http://registry:5000:5000/"} {
		f.Add(s)
	}
	u := testUpstream(f, "http://registry:5000/repository/r", func(s *UpstreamSettings, _ *UpstreamOptions) { s.RedirectHosts = []string{"minio:9000"} })
	from := u.at("/repository/r/v2/a/blobs/uploads/")
	f.Fuzz(func(t *testing.T, loc string) {
		to, err := u.resolveLocation(from, loc)
		if err != nil {
			return
		}
		if to.User != nil || !u.sameOrigin(to) && !strings.EqualFold(to.Hostname(), "minio") {
			t.Errorf("%q leads to %q", loc, to)
		}
		back, err := u.uploadURL(u.uploadTarget(to), "")
		if err != nil || back.Host != to.Host && !strings.EqualFold(back.Host, to.Host) || back.RequestURI() != to.RequestURI() {
			t.Errorf("%q: %q comes back as %q, %v", loc, to, back, err)
		}
	})
}
