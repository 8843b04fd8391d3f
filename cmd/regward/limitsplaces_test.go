package main

import (
	"strings"
	"testing"

	"github.com/regward/regward/ratelimit"
)

// A place beyond the limit, of an upload that must go on, leaves what is shown.
func TestLimitsShowTheMostThatIsConfigured(t *testing.T) {
	config := strings.Replace(limited(), "limits:\n", "limits:\n  - {name: blobs, count: transfers, rate: 3, per: user}\n", 1)
	r := begin(t, config, nil, nil)
	release, _, err := r.shared.limits.Hold(t.Context(), ratelimit.Holding{Key: ratelimit.Key{Limit: "blobs", Client: "user:ann"}, Most: ratelimit.AnyPlace})
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	r.says(t, "limits show --limit blobs", exitDone, "user:ann", "1 of 3 used")
	r.says(t, "limits override blobs --rate 2 --for 1h", exitDone)
	r.says(t, "limits show --limit blobs", exitDone, "1 of 2 used")
	r.says(t, "limits override failed_logins --dry-run --for 1h", exitDone, `warning: limit "failed_logins" locks nobody out meanwhile`)
}
