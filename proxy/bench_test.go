package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// manifestGate is a gate as in daily use: a token, rules and limits, no access
// log, and an upstream in memory.
func manifestGate(b *testing.B, change ...func(*Settings)) (g *gate, token string) {
	g = newGate(b, usual+`
		limit people    pulls    1000000/s per=user
		limit namespace requests 1000000/s per=namespace`, change...)
	g.Access, g.Audit = nil, nil
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		h := w.Header()
		h["Content-Type"] = []string{imageType}
		h["Docker-Content-Digest"] = []string{imageDigest}
		_, _ = w.Write(image)
		return true
	})
	return g, g.token("ann", pulls("coolteam/app"))
}

// BenchmarkServeManifest is one manifest GET through the handler alone: no
// client, no TLS, the upstream over loopback.
func BenchmarkServeManifest(b *testing.B) {
	g, token := manifestGate(b)
	r := httptest.NewRequest("GET", "https://"+gateHost+"/v2/coolteam/app/manifests/latest", nil)
	r.RequestURI = "/v2/coolteam/app/manifests/latest"
	r.URL.Scheme, r.URL.Host, r.RemoteAddr = "", "", "127.0.0.1:4000"
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Add("Accept", imageType)
	r.Header.Add("Accept", indexType)
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		w := &recorder{header: make(http.Header, 16)}
		g.ServeHTTP(w, r)
		if w.status != 200 || w.n != len(image) {
			b.Fatalf("%d, %d bytes", w.status, w.n)
		}
	}
	b.StopTimer()
	g.up.seen()
}

// BenchmarkRefuse is a request that the rules refuse: no upstream.
func BenchmarkRefuse(b *testing.B) {
	g, token := manifestGate(b)
	r := httptest.NewRequest("GET", "https://"+gateHost+"/v2/ops/secrets/manifests/latest", nil)
	r.URL.Scheme, r.URL.Host, r.RemoteAddr = "", "", "127.0.0.1:4000"
	r.Header.Set("Authorization", "Bearer "+token)
	b.ReportAllocs()
	for b.Loop() {
		w := &recorder{header: make(http.Header, 16)}
		g.ServeHTTP(w, r)
		if w.status != 401 {
			b.Fatal(w.status)
		}
	}
}

// BenchmarkManifest is the same with a client over plain HTTP on loopback.
func BenchmarkManifest(b *testing.B) {
	g, token := manifestGate(b)
	srv := httptest.NewServer(g.Handler)
	defer srv.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
	}}}
	defer client.CloseIdleConnections()
	r, err := http.NewRequest("GET", "http://"+gateHost+"/v2/coolteam/app/manifests/latest", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 {
			b.Fatal(resp.Status)
		}
	}
	b.StopTimer()
	g.up.seen()
}

// BenchmarkReadManifest is what the first GET of a manifest in five minutes
// costs more where the upstream has shared_blobs: ten layers.
func BenchmarkReadManifest(b *testing.B) {
	layers := make([]string, 10)
	for i := range layers {
		layers[i] = digestOf([]byte{byte(i)})
	}
	manifest := imageOf(digestOf([]byte("config")), layers...)
	b.ReportAllocs()
	for b.Loop() {
		if refs, err := readManifest(manifest); err != nil || len(refs.Blobs) != 11 {
			b.Fatal(refs, err)
		}
	}
}
