package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// G15: whoever guesses passwords, from however many addresses, takes half of
// the cores at most, and nobody's pull waits for it.
func TestG15_AStormOfWrongPasswords(t *testing.T) {
	const most = 250 * time.Millisecond
	u := startSaboteurUpstream(t)
	g := newRegward(t, u.config).measured(t)
	// A hash as `regward hash-password` would have it, which takes its time.
	hash, err := bcrypt.GenerateFromPassword([]byte(passwords["ann"]), bcrypt.DefaultCost)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, g.passwd, "ann:"+string(hash)+"\n")
	g.configure(t, "rules: [{subjects: everyone, repositories: \"**\", allow: pull}]\n")
	g.serve(t)
	c := newCaller(g, "HTTP/1.1", false)
	token, err := c.token(t.Context(), "", "repository:fine/app:pull")
	if err != nil {
		t.Fatal(err)
	}
	pulls := func(n int) (all []time.Duration) {
		for range n {
			began := time.Now()
			if _, err := c.must(t.Context(), http.MethodGet, "/v2/fine/app/manifests/latest", token, nil, http.StatusOK); err != nil {
				t.Fatal(err)
			}
			all = append(all, time.Since(began))
		}
		return all
	}
	alone := pulls(200)

	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	var refused, busy, other atomic.Int64
	for i := range 64 {
		all.Go(func() {
			for n := i; ctx.Err() == nil; n += 64 { // an address of its own for every few guesses: no lock-out helps
				g.guessFrom(ctx, n, &refused, &busy, &other)
			}
		})
	}
	eventually(t, "the storm has begun", time.Minute, func() error {
		if refused.Load() < 20 {
			return fmt.Errorf("%d guesses", refused.Load())
		}
		return nil
	})
	used, began := g.cpu(t), time.Now()
	time.Sleep(2 * time.Second)
	share := float64(g.cpu(t)-used) / float64(time.Since(began)) / float64(cores())
	if half := max(1, cores()/2); share > float64(half)/float64(cores())+0.15 { // and what the requests cost
		t.Errorf("guesses use %.0f%% of all cores", share*100)
	}
	var with []time.Duration
	for try := range 3 { // one look may fall into what else the machine does
		for began := time.Now(); time.Since(began) < 3*time.Second; {
			with = append(with, pulls(50)...)
		}
		if percentile(with, 99) < most || try == 2 {
			break
		}
		with = nil
	}
	cancel()
	all.Wait()
	t.Logf("%d guesses refused, %d put off, of 64 at once; anonymous pulls: p99 %v (median %v) beside them, %v (%v) alone; guesses alone use %.0f%% of all cores",
		refused.Load(), busy.Load(), percentile(with, 99), percentile(with, 50), percentile(alone, 99), percentile(alone, 50), share*100)
	if p99 := percentile(with, 99); p99 >= most {
		t.Errorf("p99 of anonymous pulls is %v, want less than %v", p99, most)
	}
	if other.Load() > 0 {
		t.Errorf("%d guesses were answered neither 401, 429 nor 503", other.Load())
	}
}

// guessFrom tries three passwords from one address.
func (g *regward) guessFrom(ctx context.Context, n int, refused, busy, other *atomic.Int64) {
	client := &http.Client{Transport: from(n), CheckRedirect: noRedirects}
	defer client.CloseIdleConnections()
	for k := range 3 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+strings.Replace(g.host, "localhost", "127.0.0.1", 1)+"/token?service=localhost", nil)
		if err != nil {
			return
		}
		r.SetBasicAuth("ann", fmt.Sprintf("wrong-%d-%d", n, k))
		response, err := client.Do(r)
		if err != nil {
			if ctx.Err() == nil {
				other.Add(1)
			}
			return
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		switch response.StatusCode {
		case http.StatusUnauthorized:
			refused.Add(1)
		case http.StatusServiceUnavailable, http.StatusTooManyRequests:
			busy.Add(1)
			time.Sleep(50 * time.Millisecond) // less than it was asked to
		default:
			other.Add(1)
		}
	}
}
