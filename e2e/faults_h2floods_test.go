package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// flood is something that a client of HTTP/2 may send without end.
type flood struct {
	name  string
	drain bool // it reads what it is answered
	next  func(stream uint32) []byte
}

// floods are those that have brought servers down (security.md, 2.3).
func floods(host, authorization string) []flood {
	request := func(path string) []byte { return requestFields(host, path, authorization) }
	fine, hung := request("/v2/fine/app/manifests/latest"), request("/v2/sabotage/0/manifests/latest")
	cancel := []byte{0, 0, 0, 8}
	reset := func(block []byte) func(uint32) []byte {
		return func(stream uint32) []byte {
			return append(frame(frameHeaders, flagEndStream|flagEndHeaders, stream, block), frame(frameReset, 0, stream, cancel)...)
		}
	}
	always := func(b []byte) func(uint32) []byte {
		b = bytes.Repeat(b, 1+4096/len(b))
		return func(uint32) []byte { return b }
	}
	return []flood{
		{"requests that are reset at once", true, reset(fine)},
		{"requests that are reset at once, to an upstream that hangs", true, reset(hung)},
		{"requests that the server is made to reset", true, func(stream uint32) []byte { // a window update of nothing is a mistake
			return append(frame(frameHeaders, flagEndStream|flagEndHeaders, stream, fine), frame(frameWindow, 0, stream, make([]byte, 4))...)
		}},
		{"headers without an end", true, func(stream uint32) []byte {
			b := frame(frameHeaders, flagEndStream, stream, fine)
			for range 64 {
				b = append(b, frame(frameContinuation, 0, stream, bytes.Repeat(field("x-a", strings.Repeat("b", 1000)), 15))...)
			}
			return b
		}},
		{"empty continuations", true, func(stream uint32) []byte {
			return append(frame(frameHeaders, flagEndStream, stream, fine), bytes.Repeat(frame(frameContinuation, 0, stream, nil), 1000)...)
		}},
		{"a header list that is too large", true, func(stream uint32) []byte {
			b := frame(frameHeaders, flagEndStream, stream, fine)
			for range 5 {
				b = append(b, frame(frameContinuation, 0, stream, bytes.Repeat(field("x-a", strings.Repeat("b", 1000)), 15))...)
			}
			return append(b, frame(frameContinuation, flagEndHeaders, stream, nil)...)
		}},
		{"settings", false, always(frame(frameSettings, 0, 0, []byte{0, 4, 0, 0, 255, 255}))},
		{"settings, with acknowledgements read", true, always(frame(frameSettings, 0, 0, []byte{0, 4, 0, 0, 255, 255}))},
		{"pings", false, always(frame(framePing, 0, 0, make([]byte, 8)))},
		{"pings, with answers read", true, always(frame(framePing, 0, 0, make([]byte, 8)))},
		{"windows that never open", false, func(stream uint32) []byte { return frame(frameHeaders, flagEndStream|flagEndHeaders, stream, fine) }},
		{"window updates", true, always(frame(frameWindow, 0, 0, binary.BigEndian.AppendUint32(nil, 1)))},
		{"more streams than are allowed", true, func(stream uint32) []byte {
			return frame(frameHeaders, flagEndStream|flagEndHeaders, stream, hung)
		}},
	}
}

// G14: a flood costs memory and processor time within bounds, and others are
// served meanwhile. One after the other, since each is measured.
func TestG14_FloodsByHTTP2(t *testing.T) {
	const (
		conns   = 4
		lasts   = 1500 * time.Millisecond
		most    = 256 << 20
		patient = 2 * time.Second // for one pull on two cores, one of them the attacker's
	)
	s := startSaboteur(t, nil, []act{{then: hangs}})
	g := newRegward(t, strings.Replace(patientUpstream(s.url), "header_timeout: 2s", "header_timeout: 30s", 1)).measured(t)
	g.configure(t, faultRules)
	g.serve(t)
	ann := basicAuth("ann", passwords["ann"])
	c := newCaller(g, "HTTP/1.1", false)
	const target = "/v2/fine/app/manifests/latest"
	c.median(t, 20, target, ann)
	goroutines := g.number(t, "go_goroutines")
	began, used := time.Now(), g.cpu(t)
	for time.Since(began) < time.Second {
		c.median(t, 10, target, ann)
	}
	t.Logf("pulls alone: median %v, %.0f%% of a core, %d MiB resident", c.median(t, 21, target, ann),
		100*float64(g.cpu(t)-used)/float64(time.Since(began)), g.resident(t)>>20)
	for _, f := range floods(g.host, ann) {
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		var sent, opened atomic.Int64
		var all sync.WaitGroup
		for range conns {
			all.Go(func() {
				for ctx.Err() == nil {
					opened.Add(1)
					g.flood(ctx, t, f, &sent)
				}
			})
		}
		used = g.cpu(t)
		var pulls []time.Duration
		peak, inFlight := int64(0), 0.0
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := c.must(t.Context(), http.MethodGet, target, ann, nil, http.StatusOK); err != nil {
				t.Errorf("%s: a pull beside it: %v", f.name, err)
				break
			}
			pulls = append(pulls, time.Since(began))
			peak = max(peak, g.resident(t))
			if len(pulls)%10 == 1 {
				inFlight = max(inFlight, g.number(t, "regward_requests_in_flight"))
			}
		}
		<-ctx.Done()
		cost := g.cpu(t) - used
		cancel()
		all.Wait()
		t.Logf("%s: %d KiB over %d connections cost %v; %d pulls beside it, median %v, p99 %v; %d MiB at most; %.0f requests at once",
			f.name, sent.Load()>>10, opened.Load(), cost, len(pulls), percentile(pulls, 50), percentile(pulls, 99), peak>>20, inFlight)
		if peak > most {
			t.Errorf("%s: %d MiB resident", f.name, peak>>20)
		}
		if percentile(pulls, 50) > patient {
			t.Errorf("%s: a pull takes %v", f.name, percentile(pulls, 50))
		}
		if inFlight > conns*100+10 {
			t.Errorf("%s: %.0f requests at once on %d connections", f.name, inFlight, conns)
		}
		eventually(t, f.name+": nothing of it is left", 20*time.Second, func() error {
			if n := g.number(t, "regward_requests_in_flight"); n > 0 {
				return fmt.Errorf("%.0f requests under way", n)
			}
			if n := g.number(t, "go_goroutines"); n > goroutines+20 {
				return fmt.Errorf("%.0f goroutines, %.0f before", n, goroutines)
			}
			return nil
		})
	}
}

// flood is one connection, until it is closed or ctx ends.
func (g *regward) flood(ctx context.Context, t *testing.T, f flood, sent *atomic.Int64) {
	c := g.dialH2(t)
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.NetConn().Close() })()
	ended := make(chan struct{})
	if f.drain {
		go func() { _, _ = io.Copy(io.Discard, c); close(ended) }()
	}
	for stream := uint32(1); ctx.Err() == nil; stream += 2 {
		n, err := c.Write(f.next(stream))
		sent.Add(int64(n))
		select {
		case <-ended:
			return
		default:
		}
		if err != nil {
			return
		}
	}
}
