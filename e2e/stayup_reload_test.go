package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// reloadNow has the file loaded, and returns when it is in force.
func (g *regward) reloadNow() error {
	r, err := http.Post(g.admin+"/api/v1/reload", "", nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var o struct{ OK bool }
	if err := json.Unmarshal(b, &o); err != nil || !o.OK {
		return fmt.Errorf("reload: %s: %s", r.Status, b)
	}
	return nil
}

// G11: a reload is nothing that a client notices, whether it comes between two
// requests or within one, by either version of HTTP.
func TestG11_ReloadsUnderLoadFailNothing(t *testing.T) {
	u := startUpstream(t, distribution)
	layer := medium(t, u)
	g := startRegward(t, u, teamRules)
	tr := newTraffic(t)
	content := [][]byte{noise(512 << 10), noise(512 << 10)}
	const clients = 8
	for i, c := range callers(g) {
		tr.client("pull by "+c.name, func(ctx context.Context) error { return c.pull(ctx, "library/medium", layer) })
		tr.client("push by "+c.name, func(ctx context.Context) error {
			return c.push(ctx, fmt.Sprintf("coolteam/app%d", i), content[i%2], 10*time.Millisecond)
		})
	}
	atWork := func() {
		before := tr.least(clients)
		eventually(t, "every client has done something", 2*time.Minute, func() error {
			if tr.least(clients) == before {
				return fmt.Errorf("the slowest has done %d", before)
			}
			return nil
		})
	}
	atWork()
	for i := range reloadsUnderLoad {
		// Each changes something: rules, limits, the pair, what is said.
		policy := strings.Replace(teamRules, "user:reader", fmt.Sprintf("user:reader%d", i), 1)
		if i%2 == 0 {
			policy += "limits: [{name: plenty, count: requests, rate: 1000000/1s, per: ip}]\n"
		}
		g.configure(t, policy)
		if err := g.reloadNow(); err != nil {
			t.Fatal(err)
		}
		if reloadsUnderLoad <= 10 && i%3 == 0 || i%100 == 0 {
			atWork() // else within milliseconds of the one before
		}
	}
	atWork()
	tr.stop()
	tr.report(t)
	t.Logf("%d reloads", reloadsUnderLoad)
}
