package proxy

import (
	"net/http"
	"strings"
	"testing"
)

// slowBlobs makes downloads of the layer stop midway until release is called.
func (g *gate) slowBlobs(t *testing.T) (arrived chan struct{}, release func()) {
	arrived, ended := make(chan struct{}, 100), make(chan struct{})
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "GET" || !strings.Contains(r.URL.Path, "/blobs/sha256:") {
			return false
		}
		w.Header().Set("Content-Length", "2")
		_, _ = w.Write([]byte("a"))
		_ = http.NewResponseController(w).Flush()
		arrived <- struct{}{}
		select {
		case <-ended:
			_, _ = w.Write([]byte("b"))
		case <-r.Context().Done():
		}
		return true
	})
	done := false
	release = func() {
		if !done {
			done = true
			close(ended)
		}
	}
	t.Cleanup(release)
	return arrived, release
}

// held is how many places of a limit are held once no request is being ended.
func (g *gate) held(limit string) int {
	g.Helper()
	_ = g.access.String() // no request is being ended
	return g.heldNow(limit)
}

func TestTransfersAreRefusedBeforeTheFirstByte(t *testing.T) {
	g := newGate(t, usual+"limit blobs transfers 2 per=user\nlimit rate requests 100/h per=user\nlimit trial transfers 1 per=user dry_run")
	arrived, release := g.slowBlobs(t)
	ann := g.as("ann", pushes("coolteam/app"))
	blob := "/v2/coolteam/app/blobs/" + layerDigest
	ends := make(chan reply, 2)
	for range 2 {
		go func() { ends <- g.do("GET", blob, ann) }()
		<-arrived
	}
	before := g.spent("rate", "user:ann")
	g.both(func(c *http.Client, version string) {
		a := g.with(c, "GET", blob, ann)
		msg := a.refused(t, 429, "TOOMANYREQUESTS")
		if !strings.HasPrefix(msg, `limit "blobs": 2 transfers at once for user ann, and as many are under way; try again when one has ended.`) {
			t.Errorf("%s: %q", version, msg)
		}
		if got := a.Header.Get("Retry-After"); got != "5" {
			t.Errorf("Retry-After %q", got)
		}
	})
	g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).refused(t, 429, "TOOMANYREQUESTS")
	if got := g.spent("rate", "user:ann"); got != before {
		t.Errorf("a refusal took %d of another limit", got-before)
	}
	g.do("HEAD", blob, ann).want(t, 200)
	g.get("/v2/coolteam/app/manifests/latest", ann).want(t, 200)
	release()
	for range 2 {
		if a := (<-ends).want(t, 200); a.err != nil || string(a.body) != "ab" {
			t.Errorf("midway: %q, %v", a.body, a.err)
		}
	}
	if n := g.held("blobs"); n != 0 {
		t.Errorf("%d places are held by nobody", n)
	}
	g.up.answer(nil)
	g.get(blob, ann).want(t, 200)
	if !strings.Contains(g.access.String(), `"would_throttle":["trial"]`) {
		t.Error("the dry run says nothing")
	}
}

// An upload that was accepted goes on (S09), and takes its place.
func TestAcceptedUploadsAreNeverRefused(t *testing.T) {
	g := newGate(t, usual+"limit blobs transfers 1 per=user")
	ann := g.as("ann", pushes("coolteam/app"))
	start := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202)
	arrived, release := g.slowBlobs(t)
	end := make(chan reply, 1)
	go func() { end <- g.do("GET", "/v2/coolteam/app/blobs/"+layerDigest, ann) }()
	<-arrived
	next := g.do("PATCH", start.Header.Get("Location"), ann, body(layer)).want(t, 202)
	g.do("PUT", next.Header.Get("Location")+"?digest="+layerDigest, ann, chunked(layer)).want(t, 201)
	g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 429)
	release()
	(<-end).want(t, 200)
	if n := g.held("blobs"); n != 0 {
		t.Errorf("%d places are held by nobody", n)
	}
}

func TestPlacesAreGivenBackWhateverHappens(t *testing.T) {
	g := newGate(t, usual+"limit blobs transfers 1 per=user\nlimit few requests 6/h per=user")
	ann := g.as("ann", pushes("coolteam/app"))
	blob := "/v2/coolteam/app/blobs/" + layerDigest
	for _, answer := range []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { distributionError(w, 404, "BLOB_UNKNOWN") },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("half"))
			panic(http.ErrAbortHandler)
		},
	} {
		g.up.answer(func(w http.ResponseWriter, r *http.Request) bool { answer(w, r); return true })
		if resp, err := g.h1.Do(g.request("GET", blob, ann)); err == nil {
			_ = resp.Body.Close()
		}
		if n := g.held("blobs"); n != 0 {
			t.Fatalf("%d places are held by nobody", n)
		}
	}
	g.up.answer(nil)
	for range 2 {
		g.get(blob, ann).want(t, 200)
	}
	g.get(blob, ann).want(t, 429) // by the other limit
	if n := g.held("blobs"); n != 0 {
		t.Errorf("refused by another limit: %d places are held", n)
	}
}
