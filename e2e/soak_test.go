//go:build soak

package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// All of it, for `make soak`.
const (
	reloadsUnderLoad = 1000
	randomCuts       = 10_000
	idleConnections  = 10_000
	idleByHTTP2      = 10_000
	abortedPulls     = 10_000
)

// sample is what the process holds at one moment of an hour.
type sample struct {
	resident   int64 // bytes
	goroutines float64
	files      int
}

// TestSoak is an hour of all that clients and operators do, or as long as SOAK
// says: nothing fails that should not, and what the process holds stays flat.
// What is remembered on purpose (logins, tokens, refusals, buckets) grows until
// its bound, so the second quarter is compared with the last, and the bound is
// low enough to be met within minutes.
func TestSoak(t *testing.T) {
	lasts, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		t.Fatalf("SOAK: %v; make soak sets it", err)
	}
	u := startUpstream(t, distribution)
	layer := medium(t, u)
	big := u.hasBlob(t, "library/big", noise(16<<20))
	const rules = teamRules + "cache: {size: 500}\n"
	g := startMeasured(t, u, rules)
	tr := newTraffic(t)
	g.mixedTraffic(tr, layer, big)

	const looks = 60
	var samples []sample
	reloads, pause := 0, lasts/looks
	for began := time.Now(); time.Since(began) < lasts; {
		for next := time.Now().Add(pause); time.Now().Before(next); {
			time.Sleep(min(pause, 2*time.Second))
			g.configure(t, strings.Replace(rules, "user:reader", fmt.Sprintf("user:reader%d", reloads%7), 1))
			if err := g.reloadNow(); err != nil {
				t.Error(err)
			}
			reloads++
		}
		samples = append(samples, g.sample(t))
		for _, file := range []string{g.access, g.audit, u.proc.log} { // an hour of them is not to be kept
			if err := os.Truncate(file, 0); err != nil {
				t.Fatal(err)
			}
		}
		if i := len(samples); i%(looks/12) == 0 {
			t.Logf("%v: %+v", time.Since(began).Round(time.Second), samples[i-1])
		}
	}
	tr.stop()
	tr.report(t)
	quarter := len(samples) / 4
	second, last := middle(samples[quarter:2*quarter]), middle(samples[len(samples)-quarter:])
	t.Logf("%v, %d reloads; second quarter: %d KiB, %.0f goroutines, %d files; last: %d KiB, %.0f, %d; an idle moment later: %d KiB",
		lasts, reloads, second.resident>>10, second.goroutines, second.files, last.resident>>10, last.goroutines, last.files, g.settled(t)>>10)
	if last.resident > second.resident+second.resident/10+8<<20 {
		t.Errorf("memory grows: %d KiB, then %d", second.resident>>10, last.resident>>10)
	}
	if last.goroutines > second.goroutines*1.1+20 {
		t.Errorf("goroutines grow: %.0f, then %.0f", second.goroutines, last.goroutines)
	}
	if last.files > second.files+second.files/10+20 {
		t.Errorf("open files grow: %d, then %d", second.files, last.files)
	}
}

// mixedTraffic starts the clients: nobody at full speed, so that an hour is
// one of many requests rather than of one machine's limits.
func (g *regward) mixedTraffic(tr *traffic, layer, big string) {
	pause := func(ctx context.Context, most time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(most)):
		}
	}
	for i, c := range callers(g) {
		content := noise(256 << 10)
		repository := fmt.Sprintf("coolteam/app%d", i)
		tr.client("pull by "+c.name, func(ctx context.Context) error {
			defer pause(ctx, 100*time.Millisecond)
			return c.pull(ctx, "library/medium", layer)
		})
		tr.client("push by "+c.name, func(ctx context.Context) error {
			defer pause(ctx, 300*time.Millisecond)
			return c.push(ctx, repository, content, 5*time.Millisecond)
		})
		tr.client("broken pull by "+c.name, func(ctx context.Context) error {
			defer pause(ctx, 200*time.Millisecond)
			token, err := c.token(ctx, "", "repository:library/big:pull")
			if err != nil {
				return err
			}
			return c.abort(ctx, "/v2/library/big/blobs/"+big, token)
		})
		tr.client("broken push by "+c.name, func(ctx context.Context) error {
			defer pause(ctx, 2*time.Second)
			return c.brokenPush(ctx, repository)
		})
		tr.client("catalog by "+c.name, func(ctx context.Context) error {
			defer pause(ctx, 200*time.Millisecond)
			token, err := c.token(ctx, "ann", "registry:catalog:*")
			if err == nil {
				_, err = c.must(ctx, http.MethodGet, "/v2/_catalog", token, nil, http.StatusOK)
			}
			return err
		})
	}
	n := 0
	tr.client("wrong password", func(ctx context.Context) error {
		defer pause(ctx, 200*time.Millisecond)
		n++
		// Each source has two buckets of failed logins, 50,000 in all: these are met
		// within minutes, and none fails often enough to be locked out.
		c := &caller{g: g, http: &http.Client{Transport: from(n % 2000)}}
		defer c.http.CloseIdleConnections()
		target := "https://" + strings.Replace(g.host, "localhost", "127.0.0.1", 1) + "/token?service=localhost"
		_, err := c.must(ctx, http.MethodGet, target, basicAuth(fmt.Sprintf("bob%d", n%50), fmt.Sprint("wrong", n)), nil, http.StatusUnauthorized)
		return err
	})
}

// brokenPush sends half of an upload, and leaves.
func (c *caller) brokenPush(ctx context.Context, repository string) error {
	token, err := c.token(ctx, "ann", "repository:"+repository+":pull,push")
	if err != nil {
		return err
	}
	a, err := c.must(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", token, nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	body := io.MultiReader(strings.NewReader(strings.Repeat("x", 20_000)), brokenReader{})
	if seen, err := c.do(ctx, http.MethodPatch, a.header.Get("Location"), token, body); err == nil && seen.status/100 == 2 {
		return fmt.Errorf("half a push is answered %d", seen.status)
	}
	return nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (g *regward) sample(t *testing.T) sample {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.proc.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return sample{g.resident(t), g.number(t, "go_goroutines"), len(files)}
}

// middle is the median of each.
func middle(all []sample) sample {
	pick := func(less func(a, b sample) int) sample {
		all := slices.Clone(all)
		slices.SortFunc(all, less)
		return all[len(all)/2]
	}
	return sample{
		pick(func(a, b sample) int { return int(a.resident - b.resident) }).resident,
		pick(func(a, b sample) int { return int(a.goroutines - b.goroutines) }).goroutines,
		pick(func(a, b sample) int { return a.files - b.files }).files,
	}
}
