package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A dry run of failed logins is seen where any other is: in the access log and
// by top, as often as the metric counts it.
func TestADryRunOfFailedLoginsIsSeen(t *testing.T) {
	g := newGate(t, usual+"limit trial failed_logins 2/15m per=ip+user dry_run")
	for i := range 5 {
		g.get("/token", basic("ann", fmt.Sprint("guess", i))).want(t, 401)
	}
	g.get("/v2/", basic("ann", "guess")).want(t, 401)
	g.get("/token", basic("ann", annPassword)).want(t, 200) // a stranger's guesses would have kept her out
	var would []string
	for i, line := range g.access.all(t) {
		if line["would_throttle"] != nil {
			would = append(would, fmt.Sprintf("%d%v", i, line["would_throttle"]))
		}
	}
	if got, want := strings.Join(would, " "), "2[trial] 3[trial] 4[trial] 5[trial] 6[trial]"; got != want {
		t.Errorf("lines that say would_throttle: %s, want %s", got, want)
	}
	if got := testutil.ToFloat64(g.metrics.limits.WithLabelValues("trial", "would_throttle")); got != 5 {
		t.Errorf("the metric says %v, want 5", got)
	}
	top := g.Top(10)
	if l := top.Limits; len(l) != 1 || l[0].Name != "trial" || l[0].Would < 4 {
		t.Errorf("top tells of limits %+v", l)
	}
	if c := top.Clients; len(c) != 2 || c[0].Would < 3 || c[1].Name != "user:ann" || c[1].Would == 0 {
		t.Errorf("top tells of clients %+v", c)
	}
}

// Where a lock-out is 401 its record names the limit, as where it is 429.
func TestALockOutNamesItsLimit(t *testing.T) {
	g := newGate(t, usual+"limit l failed_logins 1/15m per=ip+user")
	g.get("/token", basic("ann", "guess")).want(t, 401)
	for path, status := range map[string]int{"/v2/": 401, "/token": 429} {
		g.get(path, basic("ann", "another guess")).want(t, status)
		lines := g.access.all(t)
		if last := lines[len(lines)-1]; last["limit"] != "l" || last["reason"] != "too_many_failed_logins" {
			t.Errorf("%s: limit %v, reason %v", path, last["limit"], last["reason"])
		}
	}
	for _, r := range g.Refusals(RefusalQuery{Since: g.clock.Now().Add(-time.Minute)}) {
		if r.Reason == reasonLockedOut && r.Limit != "l" {
			t.Errorf("remembered without its limit: %+v", r)
		}
	}
}

// Retry-After and the words say the same: 6 is six seconds, and no minute.
func TestM15_WordsAndRetryAfterAgree(t *testing.T) {
	for rate, want := range map[string][2]string{
		"1/1s":  {"1", "in a second."},
		"1/6s":  {"6", "in 6 seconds."},
		"1/60s": {"60", "in a minute."},
		"1/61s": {"60", "in 2 minutes."},
		"1/9m":  {"60", "in 9 minutes."},
	} {
		g := newGate(t, usual+"limit l failed_logins "+rate+" per=ip")
		g.get("/token", basic("ann", "guess")).want(t, 401)
		a := g.get("/token", basic("ann", "another guess")).want(t, 429)
		if got := a.Header.Get("Retry-After"); got != want[0] || !strings.Contains(string(a.body), "try again "+want[1]) {
			t.Errorf("%s: Retry-After %q, %s", rate, got, a.body)
		}
	}
}
