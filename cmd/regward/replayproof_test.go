package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/proxy"
	"github.com/regward/regward/replay"
)

// proven is a regward with a log, in front of a registry whose blobs in
// library/held come when they are let go, and elsewhere at once: as many bytes
// as the digest ends with.
type proven struct {
	*running
	held    chan string   // a blob of library/held was asked for
	release chan struct{} // and is let go
	log     string
	total   int // requests sent
}

func prove(t *testing.T, limits string) *proven {
	p := &proven{held: make(chan string), release: make(chan struct{})}
	registry := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost || r.Method == http.MethodPatch {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Location", "/v2/library/held/blobs/uploads/11111111-1111-1111-1111-111111111111")
			w.Header().Set("Range", "0-0")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		n, _ := strconv.Atoi(r.URL.Path[max(0, len(r.URL.Path)-12):])
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(n))
		if strings.HasPrefix(r.URL.Path, "/v2/library/held/") {
			p.held <- r.URL.Path
			<-p.release
		}
		_, _ = w.Write(make([]byte, n))
	})
	config := strings.NewReplacer(`access: "off"`, "access: DIR/access.log").Replace(standard) + limits
	p.running = begin(t, config, registry, nil)
	p.log = filepath.Join(p.dir, "access.log")
	return p
}

// blob is a path to n bytes.
func blob(repository string, n int) string {
	return fmt.Sprintf("/v2/%s/blobs/sha256:%052d%012d", repository, 0, n)
}

// send sends a request as ann and is the status of its answer, read to the end,
// and where the answer sends the client.
func (p *proven) send(method, path string, body []byte) (status int, location string) {
	p.t.Helper()
	p.total++
	if strings.HasPrefix(path, "/") {
		path = p.public() + path
	}
	r, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.SetBasicAuth("ann", "ann-secret")
	a, err := p.client.RoundTrip(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		p.t.Fatal(err)
	}
	return a.StatusCode, a.Header.Get("Location")
}

// holds starts a transfer that lasts until it is let go, and waits until it is
// under way.
func (p *proven) holds() {
	p.t.Helper()
	p.total++
	path := p.public() + blob("library/held", 1000)
	go func() {
		r, _ := http.NewRequest(http.MethodGet, path, nil)
		r.SetBasicAuth("ann", "ann-secret")
		if a, err := p.client.RoundTrip(r); err == nil {
			_, _ = io.Copy(io.Discard, a.Body)
			a.Body.Close()
		}
	}()
	select {
	case <-p.held:
	case <-time.After(patience):
		p.t.Fatal("the transfer does not begin")
	}
}

// logged waits until all that was sent is in the log: only then it is over.
func (p *proven) logged() []byte {
	p.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		text, err := os.ReadFile(p.log)
		if err == nil && bytes.Count(text, []byte("\n")) == p.total {
			return text
		}
		if time.Now().After(end) {
			p.t.Fatalf("%d lines, want %d: %v", bytes.Count(text, []byte("\n")), p.total, err)
		}
	}
}

// verdict is what a line says that became of a request.
type verdict struct {
	Status        int      `json:"status"`
	Limit         string   `json:"limit"`
	WouldThrottle []string `json:"would_throttle"`
	SlowedBy      string   `json:"slowed_by"`
	SlowedMS      float64  `json:"slowed_ms"`

	id   string
	line string
}

// lines are those of the log, and what a rehearsal under the same limits makes
// of each.
func (p *proven) lines() (was, would []verdict) {
	p.t.Helper()
	said := map[string]verdict{}
	for line := range bytes.Lines(p.logged()) {
		var one struct {
			verdict
			RequestID string `json:"request_id"`
		}
		if err := json.Unmarshal(line, &one); err != nil {
			p.t.Fatal(err)
		}
		one.line = string(line)
		said[one.RequestID] = one.verdict
	}
	cfg, err := p.src.load(true)
	if err != nil {
		p.t.Fatal(err)
	}
	settings, err := build(cfg, nil, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	rehearsal, err := proxy.Rehearse(settings)
	if err != nil {
		p.t.Fatal(err)
	}
	var past proxy.Past
	_, err = replay.Read(context.Background(), []string{p.log}, replay.Options{}, func(e *replay.Entry) error {
		toPast(e, &past)
		got := verdict{id: e.RequestID}
		o := rehearsal.Judge(&past)
		if o.Refused >= 0 {
			got.Limit = settings.Limits[o.Asked[o.Refused].Limit].Name
		}
		for i, a := range o.Asked {
			l := &settings.Limits[a.Limit]
			ms := float64(a.Wait) / float64(time.Millisecond)
			switch {
			case slices.Contains(o.Would, i), l.Count == proxy.Bytes && l.DryRun && a.Wait > 0:
				got.WouldThrottle = append(got.WouldThrottle, l.Name)
			case l.Count == proxy.Bytes && ms > got.SlowedMS:
				got.SlowedBy, got.SlowedMS = l.Name, ms
			}
		}
		was, would = append(was, said[e.RequestID]), append(would, got)
		return nil
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return was, would
}

// TestReplayOfTransfersAndBytesIsWhatWas: what limits of transfers and of bytes
// did to real requests, and what replay makes of the log that was written about
// them: request by request the same, and of bytes nearly by as much.
func TestReplayOfTransfersAndBytesIsWhatWas(t *testing.T) {
	p := prove(t, `limits:
  - {name: places, count: transfers, rate: 2, per: repository, repositories: library/held}
  - {name: tried-places, count: transfers, rate: 1, per: repository, repositories: library/held, dry_run: true}
  - {name: slow, count: bytes, rate: 400kB/s, burst: 100kB, per: repository, repositories: library/slow}
  - {name: slower, count: bytes, rate: 200kB/s, burst: 100kB, per: repository, repositories: ["library/slow", "library/never"], dry_run: true}
`)
	want := func(status int, method, path string, body []byte) (location string) {
		t.Helper()
		got, location := p.send(method, path, body)
		if got != status {
			t.Errorf("%s %s is answered %d, want %d", method, path, got, status)
		}
		return location
	}
	want(200, "GET", blob("library/free", 100), nil)
	upload := want(202, "POST", "/v2/library/held/blobs/uploads/", nil)
	for range 2 { // twice: places come back
		p.holds()
		p.holds()
		want(429, "GET", blob("library/held", 1000), nil)
		want(200, "GET", blob("library/free", 1000), nil)
		want(202, "PATCH", upload, []byte("a piece of what was begun"))
		want(429, "GET", blob("library/held", 1000), nil)
		p.release <- struct{}{}
		p.release <- struct{}{}
		p.logged()
	}
	p.holds()
	p.release <- struct{}{}
	p.logged()
	for _, n := range []int{50_000, 350_000, 10_000, 200_000} { // within the burst; three quarters of a second; all is used up
		want(200, "GET", blob("library/slow", n), nil)
		want(200, "GET", blob("library/free", n), nil)
	}
	was, would := p.lines()
	if len(was) != p.total {
		t.Fatalf("%d of %d requests are judged", len(was), p.total)
	}
	counts := map[string]int{}
	for i := range was {
		a, b := &was[i], &would[i]
		slices.Sort(a.WouldThrottle)
		slices.Sort(b.WouldThrottle)
		if a.Limit != b.Limit || !slices.Equal(a.WouldThrottle, b.WouldThrottle) || a.SlowedBy != b.SlowedBy {
			t.Errorf("replay says limit %q, would_throttle %q, slowed_by %q of\n%s", b.Limit, b.WouldThrottle, b.SlowedBy, a.line)
		}
		// On a busy machine a body waits for more than its limit.
		if diff := a.SlowedMS - b.SlowedMS; diff > 100+a.SlowedMS/5 || -diff > 100+a.SlowedMS/5 {
			t.Errorf("replay says slowed by %.0f ms of\n%s", b.SlowedMS, a.line)
		}
		counts[a.Limit]++
		counts[a.SlowedBy]++
		for _, name := range a.WouldThrottle {
			counts["would "+name]++
		}
	}
	t.Log(counts)
	for _, name := range []string{"places", "would tried-places", "slow", "would slower"} {
		if counts[name] == 0 {
			t.Errorf("nobody met %s: the test shows nothing about it\n%s", name, p.logged())
		}
	}
}
