package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// faultRules lets ann do everything everywhere, and gives upstreams two seconds.
const faultRules = faultPolicy + "idle_timeout: 2s\n"

const faultPolicy = `
rules: [{subjects: user:ann, repositories: "**", allow: [pull, push]}]
`

// upstreamPatience is the timeout of every phase in these tests, and
// faultSlack how much later than that a busy machine may notice (G7: 1s).
const (
	upstreamPatience = 2 * time.Second
	faultSlack       = 6 * time.Second
)

func patientUpstream(url string) string {
	return "\n  url: " + url + "\n  header_timeout: 2s\n  connect_timeout: 2s"
}

// startPatient is a regward in front of one who hangs, with short timeouts, and
// one in front of those who break off, with timeouts that no busy machine
// meets first.
func startPatient(t testing.TB, acts []act) (hung, broken *regward) {
	t.Helper()
	url := startSaboteur(t, nil, acts).url
	hung = newRegward(t, patientUpstream(url))
	hung.configure(t, faultRules)
	hung.serve(t)
	broken = newRegward(t, strings.ReplaceAll(patientUpstream(url), "2s", "1m"))
	broken.configure(t, faultPolicy+"idle_timeout: 1m\n")
	broken.serve(t)
	return hung, broken
}

// callersOf are clients of a regward, one for each version of HTTP.
func callersOf(g *regward) []*caller {
	return []*caller{newCaller(g, "HTTP/1.1", false), newCaller(g, "HTTP/2", false)}
}

// sabotages are the bad ends of an answer to a GET: every phase, every ending,
// and answers that are framed wrongly.
func sabotages() (all []act) {
	for framing, whole := range answers() {
		head := strings.Index(whole, "\r\n\r\n") + 4
		for _, phase := range []struct {
			name string
			cut  int
		}{
			{"before the status line", 0},
			{"within the status line", len("HTTP/1.1 2")},
			{"within the header", head / 2},
			{"after the header", head},
			{"within the body", head + (len(whole)-head)/2},
			{"one byte before the end", len(whole) - 1},
		} {
			for _, then := range []ending{closes, resets, halves, hangs} {
				all = append(all, act{name: fmt.Sprintf("%s, by %s: %s", phase.name, framing, then), say: whole[:phase.cut], then: then})
			}
		}
	}
	ok := "HTTP/1.1 200 OK\r\n"
	return append(all,
		act{name: "no HTTP", say: "SSH-2.0-OpenSSH_9.8\r\n\r\n", then: closes},
		act{name: "two lengths", say: ok + "Content-Length: 5\r\nContent-Length: 3\r\n\r\nhello", then: closes},
		act{name: "length and chunks", say: ok + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n", then: closes},
		act{name: "negative length", say: ok + "Content-Length: -5\r\n\r\nhello", then: closes},
		act{name: "no length", say: ok + "\r\nhel", then: closes},
		act{name: "unknown encoding", say: ok + "Transfer-Encoding: gzip\r\n\r\nhello", then: closes},
		act{name: "size that is no number", say: ok + "Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", then: closes},
		act{name: "chunk longer than it says", say: ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", then: closes},
		act{name: "endless header", say: ok + strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 400), then: closes},
	)
}

// early reports whether the act ends before its answer's header does, so that
// regward can still say what happened.
func (a act) early() bool { return !strings.Contains(a.say, "\r\n\r\n") }

// judge says what is wrong about what a client saw of a bad answer, "" for
// nothing. want are the statuses that fit.
func (a act) judge(g got, err error, took time.Duration) string {
	want := http.StatusBadGateway
	if a.then == hangs {
		want = http.StatusGatewayTimeout
	}
	switch {
	case a.then == hangs && took > upstreamPatience+faultSlack:
		return fmt.Sprintf("given up after %v", took)
	case a.then == hangs && took < upstreamPatience/2:
		return fmt.Sprintf("given up after %v already", took)
	case err != nil && a.early():
		return fmt.Sprintf("no answer: %v", err)
	case err != nil:
		return "" // broken off in the middle, and seen to be
	case g.status != want:
		return fmt.Sprintf("answered %d, want %d: %s", g.status, want, g.text)
	case !strings.Contains(g.text, `"UNAVAILABLE"`):
		return fmt.Sprintf("no code of the specification: %s", g.text)
	}
	return ""
}

// atMost runs jobs, so many at a time.
func atMost(n int, jobs []func()) {
	var all sync.WaitGroup
	places := make(chan struct{}, n)
	for _, job := range jobs {
		places <- struct{}{}
		all.Go(func() { job(); <-places })
	}
	all.Wait()
}

// G6 and G7, through the built program: whatever the upstream does within an
// answer, the client never takes half of it for all, nor for a refusal, and
// never waits longer than the timeout.
func TestG6_NoFaultLooksLikeSuccess(t *testing.T) {
	t.Parallel()
	acts := sabotages()
	hung, broken := startPatient(t, acts)
	var mu sync.Mutex
	var jobs []func()
	longest := time.Duration(0)
	ann := basicAuth("ann", passwords["ann"])
	patient := callersOf(broken)
	for v, c := range callersOf(hung) {
		for _, what := range []string{"blobs/" + faultDigest, "manifests/latest"} {
			for i, a := range acts {
				c := c
				if a.then != hangs {
					c = patient[v]
				}
				jobs = append(jobs, func() {
					began := time.Now()
					seen, err := c.do(t.Context(), http.MethodGet, fmt.Sprintf("/v2/sabotage/%d/%s", i, what), ann, nil)
					took := time.Since(began)
					if wrong := a.judge(seen, err, took); wrong != "" {
						t.Errorf("%s, %s, %s: %s", a.name, what, c.name, wrong)
					}
					mu.Lock()
					longest = max(longest, took)
					mu.Unlock()
				})
			}
		}
	}
	atMost(32, jobs)
	t.Logf("%d kinds of faults, each for a blob and a manifest by HTTP/1.1 and HTTP/2; the longest took %v with timeouts of %v", len(acts), longest, upstreamPatience)
	if len(acts) < 45 {
		t.Errorf("%d kinds of faults, want 45", len(acts))
	}
	for _, g := range []*regward{hung, broken} {
		if err := g.ready(); err != nil {
			t.Error(err)
		}
	}
}

// An answer cut anywhere is broken for the client, and a whole one is not.
func TestG6_RandomCuts(t *testing.T) {
	t.Parallel()
	_, g := startPatient(t, nil)
	ann := basicAuth("ann", passwords["ann"])
	ways := callersOf(g)
	var jobs []func()
	for i := range randomCuts {
		jobs = append(jobs, func() {
			framing := []string{"length", "chunks"}[rand.IntN(2)]
			what := []string{"blobs/" + faultDigest, "manifests/latest"}[rand.IntN(2)]
			size := len(answers()[framing])
			cut := rand.IntN(size + 1)
			if i%50 == 0 {
				cut = size
			}
			end := []ending{closes, resets}[rand.IntN(2)]
			if cut == size {
				end = closes // a reset may overtake what was said
			}
			c := ways[i%len(ways)]
			a, err := c.do(t.Context(), http.MethodGet, fmt.Sprintf("/v2/cuts/%s/%s/%d/%s", end, framing, cut, what), ann, nil)
			succeeds := err == nil && a.status == http.StatusOK
			if succeeds && (cut < size || a.digest != faultDigest) || !succeeds && cut == size {
				t.Errorf("%s %s by %s, cut at %d of %d: %d, %d bytes, %v", what, end, framing, cut, size, a.status, a.size, err)
			}
			if err == nil && a.status != http.StatusOK && a.status != http.StatusBadGateway {
				t.Errorf("%s %s by %s, cut at %d of %d: %d: %s", what, end, framing, cut, size, a.status, a.text)
			}
		})
	}
	atMost(8, jobs)
	t.Logf("%d cuts", len(jobs))
}

// uploadSabotages are the bad ends of an upload.
func uploadSabotages() (all []act) {
	created := "HTTP/1.1 201 Created\r\nLocation: /v2/x/blobs/uploads/1\r\nContent-Length: 0\r\n\r\n"
	for _, then := range []ending{closes, resets, halves, hangs} {
		all = append(all,
			act{name: "before the body: " + string(then), then: then},
			act{name: "within the body: " + string(then), take: bigBody / 2, then: then},
			act{name: "after the body: " + string(then), take: -1, then: then},
			act{name: "within the header: " + string(then), take: -1, say: created[:40], then: then},
		)
	}
	return all
}

// The same for what clients send: a chunk of a layer, and a manifest.
func TestG6_NoFaultOfAnUploadLooksLikeSuccess(t *testing.T) {
	t.Parallel()
	acts := uploadSabotages()
	hung, broken := startPatient(t, acts)
	ann := basicAuth("ann", passwords["ann"])
	layer, manifest := noise(3*bigBody), []byte(faultContent+strings.Repeat(" ", 3*bigBody))
	var jobs []func()
	patient := callersOf(broken)
	for v, c := range callersOf(hung) {
		for i, a := range acts {
			c := c
			if a.then != hangs {
				c = patient[v]
			}
			try := func(what string, send func(context.Context) (got, error)) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for last := false; ; last = true {
					began := time.Now()
					seen, err := send(ctx)
					took := time.Since(began)
					if !last && seen.status == http.StatusBadRequest && took >= upstreamPatience && strings.Contains(seen.text, "not sent to its end") {
						continue // idle_timeout: a busy machine left this client without a turn for so long
					}
					if wrong := a.judge(seen, err, took); wrong != "" {
						t.Errorf("%s, %s, %s: %s (after %v)", what, a.name, c.name, wrong, took)
					}
					return
				}
			}
			repository := fmt.Sprintf("/v2/sabotage/%d/", i)
			jobs = append(jobs, func() {
				try("manifest", func(ctx context.Context) (got, error) {
					return c.do(ctx, http.MethodPut, repository+"manifests/1", ann, io.MultiReader(bytes.NewReader(manifest)))
				})
			}, func() {
				start, err := c.must(t.Context(), http.MethodPost, repository+"blobs/uploads/", ann, nil, http.StatusAccepted)
				if err != nil {
					t.Error(err)
					return
				}
				try("layer", func(ctx context.Context) (got, error) {
					return c.do(ctx, http.MethodPatch, start.header.Get("Location"), ann, io.MultiReader(bytes.NewReader(layer)))
				})
			})
		}
	}
	atMost(8, jobs)
	t.Logf("%d uploads", len(jobs))
}

// G7: requests that hang hold up nobody else, on connections of their own or
// on the same one.
func TestG7_HungRequestsDelayNobody(t *testing.T) {
	acts := []act{{then: hangs}}
	g := newRegward(t, strings.Replace(patientUpstream(startSaboteur(t, nil, acts).url), "header_timeout: 2s", "header_timeout: 1m", 1))
	g.configure(t, strings.Replace(faultRules, "idle_timeout: 2s", "idle_timeout: 1m", 1))
	g.serve(t)
	ann := basicAuth("ann", passwords["ann"])
	for _, c := range callersOf(g) {
		t.Run(c.name, func(t *testing.T) {
			one := func() time.Duration { return c.median(t, 21, "/v2/fine/app/manifests/latest", ann) }
			before := one()
			ctx, cancel := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for range 40 {
				all.Go(func() { _, _ = c.do(ctx, http.MethodGet, "/v2/sabotage/0/manifests/latest", ann, nil) })
			}
			eventually(t, "40 hang", time.Minute, func() error { return g.waits(40) })
			with := one()
			cancel()
			all.Wait()
			t.Logf("a pull takes %v, and %v beside 40 that hang", before, with)
			if with-before > 100*time.Millisecond {
				t.Errorf("a pull takes %v more", with-before)
			}
		})
	}
}

// median is how long one of n requests takes.
func (c *caller) median(t testing.TB, n int, target, authorization string) time.Duration {
	t.Helper()
	var all []time.Duration
	for range n {
		began := time.Now()
		if _, err := c.must(t.Context(), http.MethodGet, target, authorization, nil, http.StatusOK); err != nil {
			t.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	slices.Sort(all)
	return all[n/2]
}

// waits is nil once so many requests are being answered.
func (g *regward) waits(n int) error {
	value, err := g.metric("regward_requests_in_flight")
	if err != nil {
		return err
	}
	if value != fmt.Sprint(n) {
		return fmt.Errorf("%s requests are under way, want %d", value, n)
	}
	return nil
}
