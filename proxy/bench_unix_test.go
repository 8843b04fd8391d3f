//go:build unix

package proxy

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/regward/regward/auth"
)

// cpuTime is what this process has used so far, the upstream in memory included.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// compare has two gates serve the same request in turns, a few hundred at a
// time, and reports the CPU time that one took of the other's: "x-cpu", the
// median of all turns. Noise of the machine hits both.
func compare(b *testing.B, plain, other *gate, target func(*gate) *http.Request) {
	const turn = 300
	gates := [2]*gate{plain, other}
	requests := [2]*http.Request{target(plain), target(other)}
	var ratios, costs []float64
	for b.Loop() {
		var took [2]time.Duration
		for i, g := range gates {
			began := cpuTime(b)
			for range turn {
				w := &recorder{header: make(http.Header, 16)}
				g.ServeHTTP(w, requests[i])
				if w.status != 200 {
					b.Fatalf("%s: %d", requests[i].URL, w.status)
				}
			}
			took[i] = cpuTime(b) - began
			g.up.seen()
		}
		ratios = append(ratios, float64(took[1])/float64(took[0]))
		costs = append(costs, float64(took[0])/turn)
	}
	slices.Sort(ratios)
	slices.Sort(costs)
	b.ReportMetric(ratios[len(ratios)/2], "x-cpu")
	b.ReportMetric(costs[len(costs)/2], "cpu-ns/request")
}

func served(g *gate, token, path string) *http.Request {
	r := httptest.NewRequest("GET", "https://"+gateHost+path, nil)
	r.RequestURI = path
	r.URL.Scheme, r.URL.Host, r.RemoteAddr = "", "", "127.0.0.1:4000"
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Add("Accept", imageType)
	r.Header.Add("Accept", indexType)
	return r
}

// A manifest of ten layers, as most are, and a small blob of it: whatever is
// larger makes the check look cheaper.
func benchImage() (manifest []byte, layers []string) {
	for i := range byte(10) {
		layers = append(layers, digestOf([]byte{i}))
	}
	return imageOf(digestOf([]byte("config")), layers...), layers
}

func benchGate(b *testing.B, change ...func(*Settings)) (*gate, []string) {
	manifest, layers := benchImage()
	digest := []string{digestOf(manifest)}
	g, _ := manifestGate(b, change...)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		h := w.Header()
		h["Content-Type"], h["Docker-Content-Digest"] = []string{imageType}, digest
		_, _ = w.Write(manifest)
		return true
	})
	return g, layers
}

func withSharedBlobs(s *Settings) {
	on := true
	s.Upstreams[0].SharedBlobs = &on
}

// BenchmarkSharedBlobs is a request at a warm upstream with shared_blobs
// against the same without: at most 1.1 x-cpu.
func BenchmarkSharedBlobs(b *testing.B) {
	plain, layers := benchGate(b)
	shared, _ := benchGate(b, withSharedBlobs)
	token := plain.token("ann", pulls("coolteam/app"))
	for name, path := range map[string]string{"manifest": "/v2/coolteam/app/manifests/latest", "blob": "/v2/coolteam/app/blobs/" + layers[5]} {
		b.Run(name, func(b *testing.B) {
			shared.ServeHTTP(&recorder{header: http.Header{}}, served(shared, token, "/v2/coolteam/app/manifests/latest"))
			compare(b, plain, shared, func(g *gate) *http.Request { return served(g, token, path) })
		})
	}
}

// BenchmarkMappedName is a request for a repository that the upstream knows by
// another name, in front of one that has the same: at most 1.1 x-cpu.
func BenchmarkMappedName(b *testing.B) {
	plain, layers := benchGate(b)
	mapped, _ := benchGate(b, func(s *Settings) {
		s.Upstreams[0].Place = auth.Place{Prefix: "coolteam/"}
	})
	token := plain.token("ann", pulls("coolteam/app"))
	for name, path := range map[string]string{"manifest": "/v2/coolteam/app/manifests/latest", "blob": "/v2/coolteam/app/blobs/" + layers[5]} {
		b.Run(name, func(b *testing.B) {
			compare(b, plain, mapped, func(g *gate) *http.Request { return served(g, token, path) })
		})
	}
}
