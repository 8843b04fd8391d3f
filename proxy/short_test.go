package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// S10: where nothing of an answer is out, its breaking off is told by a status
// of its own. Without one Go's clients ask again, four times as long.
func TestS10_AShortAnswerThatBreaksOffIsARefusal(t *testing.T) {
	g := newGate(t, usual, func(s *Settings) { s.Upstreams[0].IdleTimeout = 300 * time.Millisecond })
	ann := g.as("ann", pulls("coolteam/app"))
	for _, tt := range []struct {
		name   string
		status int
		then   func(*http.Request)
	}{
		{"it breaks off", 502, func(*http.Request) { panic(http.ErrAbortHandler) }},
		{"it hangs", 504, func(r *http.Request) { <-r.Context().Done() }},
	} {
		asked := 0
		g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			asked++
			w.Header().Set("Content-Length", "5000")
			w.Header().Set("Docker-Content-Digest", layerDigest)
			w.Header().Set("Etag", `"x"`)
			_, _ = io.WriteString(w, strings.Repeat("x", 4999))
			w.(http.Flusher).Flush()
			tt.then(r)
			return true
		})
		for _, target := range []string{"/v2/coolteam/app/blobs/" + layerDigest, "/v2/coolteam/app/manifests/latest"} {
			asked = 0
			g.both(func(c *http.Client, version string) {
				a := g.with(c, "GET", target, ann)
				a.refused(t, tt.status, "UNAVAILABLE")
				if a.Header.Get("Docker-Content-Digest") != "" || a.Header.Get("Etag") != "" {
					t.Errorf("%s, %s: the refusal has what was said of the body: %v", tt.name, version, a.Header)
				}
			})
			if asked != 2 {
				t.Errorf("%s: the upstream was asked %d times for %s, want once by each version", tt.name, asked, target)
			}
		}
	}
}

// H12: who leaves while the upstream is slow is told as that, and not as a fault
// of the upstream.
func TestH12_WhoLeavesInTheMiddleIsNoFaultOfTheUpstream(t *testing.T) {
	g := newGate(t, usual)
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.Header().Set("Content-Length", "500000")
		_, _ = io.WriteString(w, strings.Repeat("x", 100_000))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	})
	ann := g.as("ann", pulls("coolteam/app"))
	g.both(func(c *http.Client, version string) {
		ctx, leave := context.WithCancel(context.Background())
		defer leave()
		resp, err := c.Do(g.request("GET", "/v2/coolteam/app/blobs/"+layerDigest, ann).WithContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(resp.Body, make([]byte, 100_000))
		leave()
		resp.Body.Close()
	})
	for end := time.Now().Add(20 * time.Second); strings.Count(g.access.String(), `"cut_off":true`) < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log does not say that both left: %s", g.access.String())
		}
	}
	if log := g.access.String() + g.log.String(); strings.Contains(log, `"reason":"upstream"`) || strings.Contains(log, "request failed") {
		t.Errorf("the upstream is blamed: %s", log)
	}
}
