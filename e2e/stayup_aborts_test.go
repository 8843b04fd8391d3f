package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// abort asks for a blob and leaves after the first bytes of it.
func (c *caller) abort(ctx context.Context, target, authorization string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.g.host+target, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", authorization)
	client := c.http
	if c.fresh != nil {
		client = c.fresh()
		defer client.CloseIdleConnections()
	}
	response, err := client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	_, err = io.ReadFull(response.Body, make([]byte, 1000))
	return err
}

// G8: pulls that are broken off leave nothing behind.
func TestG8_AbortedPullsLeaveNothingBehind(t *testing.T) {
	u := startUpstream(t, distribution)
	layer := u.hasBlob(t, "library/big", noise(16<<20))
	g := startRegward(t, u, teamRules)
	all := callers(g)
	token, err := all[0].token(t.Context(), "", "repository:library/big:pull")
	if err != nil {
		t.Fatal(err)
	}
	target := "/v2/library/big/blobs/" + layer
	round := func(n int) {
		var jobs []func()
		for i := range n {
			jobs = append(jobs, func() {
				c := all[i%len(all)]
				if err := c.abort(t.Context(), target, token); err != nil {
					t.Errorf("by %s: %v", c.name, err)
				}
			})
		}
		atMost(8, jobs)
		for _, c := range all {
			if c.http != nil {
				c.http.CloseIdleConnections()
			}
		}
		eventually(t, "all have ended", 20*time.Second, func() error { return g.waits(0) })
	}
	round(len(all))
	before := g.number(t, "go_goroutines")
	round(abortedPulls)
	eventually(t, "nothing is left", 20*time.Second, func() error {
		if now := g.number(t, "go_goroutines"); now > before+5 {
			return fmt.Errorf("%.0f goroutines, %.0f before", now, before)
		}
		return nil
	})
	t.Logf("%d pulls broken off: %.0f goroutines before, %.0f now", abortedPulls, before, g.number(t, "go_goroutines"))
}
