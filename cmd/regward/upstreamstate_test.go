package main

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An upstream that is down is named, and does not take regward out of service.
func TestReadyzNamesAnUpstreamThatIsDown(t *testing.T) {
	var down atomic.Bool
	down.Store(true) // from the start
	r := begin(t, standard, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "{}")
	}), nil)
	ask := func() string {
		r.upstreamState.mu.Lock()
		r.upstreamState.at = time.Time{} // long ago
		r.upstreamState.mu.Unlock()
		status, body := r.ask("GET", r.probe()+"/readyz", "", "")
		if status != http.StatusOK {
			t.Errorf("/readyz is %d, want 200", status)
		}
		return body
	}
	if body := ask(); !strings.Contains(body, "cannot be reached") {
		t.Errorf("/readyz says %q while the upstream is down", body)
	}
	down.Store(false)
	if body := ask(); body != "ready\n" {
		t.Errorf("/readyz says %q when the upstream is back", body)
	}
	r.log.await(t, "upstream is well again", 1)
}
