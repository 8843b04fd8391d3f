package proxy

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestOverrideHoldsAtOnceAndEndsByItself(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 2/24h per=user")
	bob := func() option { return g.as("bob", pulls("shared/base")) }
	pull := func() reply { return g.get("/v2/shared/base/manifests/latest", bob()) }
	pull().want(t, 200)
	pull().want(t, 200)
	pull().want(t, 429)
	until := g.clock.Now().Add(2 * time.Hour)
	if err := g.Override(Override{Limit: "people", Rate: "4/24h", Until: until}); err != nil {
		t.Fatal(err)
	}
	pull().want(t, 200)
	g.swap(g.settings) // a reload
	pull().want(t, 200)
	if msg := pull().refused(t, 429, "TOOMANYREQUESTS"); !strings.Contains(msg, "4 pulls in 1d") {
		t.Errorf("the refusal tells another rate: %q", msg)
	}
	if got := g.metric(t, "regward_limit_override_until_timestamp_seconds", "people"); got != float64(until.Unix()) {
		t.Errorf("the metric says %v", got)
	}
	if err := g.Override(Override{Limit: "people", DryRun: true, Until: until}); err != nil {
		t.Fatal(err)
	}
	pull().want(t, 200)
	if got := g.Overrides(); len(got) != 1 || !got[0].DryRun || got[0].Rate != "" {
		t.Errorf("in place of the first: %v", got)
	}
	g.clock.pass(2 * time.Hour)
	pull().want(t, 429)
	if got := g.Overrides(); len(got) != 0 {
		t.Errorf("it is over: %v", got)
	}
	if s := g.Current(); s.eased.Load() != nil {
		t.Error("what is over was not cleared away")
	}
	if got := g.metric(t, "regward_limit_override_until_timestamp_seconds", "people"); got != 0 {
		t.Errorf("the metric says %v", got)
	}
}

// Eased, a limit must not throw out the wave that its burst was made for.
func TestOverrideLeavesABurstAsItIs(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 3/24h per=user burst=6\nlimit usual pulls 9/h per=ip\nlimit line bytes 1MB/s burst=7000000\nlimit lane bytes 1MB/s")
	pull := func() reply { return g.get("/v2/shared/base/manifests/latest", g.as("bob", pulls("shared/base"))) }
	for range 4 {
		pull().want(t, 200)
	}
	until := g.clock.Now().Add(time.Hour)
	for limit, rate := range map[string]string{"people": "2/h", "usual": "20/h", "line": "5MB/s", "lane": "5MB/s"} {
		if err := g.Override(Override{Limit: limit, Rate: rate, Until: until}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]int{"people": 6, "usual": 20, "line": 7_000_000, "lane": 5_000_000}
	for _, l := range g.Limits() {
		if n := want[l.Name]; n > 0 && l.Rate.Burst != n {
			t.Errorf("%s: burst %d, want %d", l.Name, l.Rate.Burst, n)
		}
	}
	pull().want(t, 200)
	pull().want(t, 200)
	pull().want(t, 429)
}

// metric is the value with that one label, 0 if there is none.
func (g *gate) metric(t *testing.T, name, label string) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := g.Metrics().Register(r); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" && len(m.GetLabel()) == 0 || len(m.GetLabel()) > 0 && m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

func TestOverridesOfSeveral(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 1/24h per=user\nlimit line bytes 1kB/s\nlimit blobs transfers 1")
	hour, two := g.clock.Now().Add(time.Hour), g.clock.Now().Add(2*time.Hour)
	for _, o := range []Override{{DryRun: true, Until: hour}, {Limit: "people", Rate: "9/h", Until: two}, {Limit: "line", Rate: "5MB/s", Until: two}, {Limit: "blobs", Rate: "7", Until: two}} {
		if err := g.Override(o); err != nil {
			t.Fatal(err)
		}
	}
	now := func() string {
		var b strings.Builder
		for _, l := range g.Limits() {
			if l.Count == FailedLogins {
				continue
			}
			if l.DryRun {
				b.WriteString("dry ")
			}
			b.WriteString(l.Name + " " + l.Rate.String() + " ")
			b.WriteString(strings.Repeat("o", l.Most) + "; ")
		}
		return b.String()
	}
	all := now()
	if strings.Count(all, "dry ") != 3 || !strings.Contains(all, "people 9/h") || !strings.Contains(all, "ooooooo;") {
		t.Error(all)
	}
	g.clock.pass(time.Hour)
	if later := now(); strings.Contains(later, "dry ") || !strings.Contains(later, "people 9/h") {
		t.Error(later)
	}
	if !g.ClearOverride("people") || g.ClearOverride("people") || !strings.Contains(now(), "people 1/") {
		t.Error(now())
	}
	g.SetOverrides([]Override{{Limit: "gone", Rate: "1/s", Until: two}, {Limit: "blobs", Rate: "no number", Until: two}, {Limit: "line", DryRun: true, Until: two}, {DryRun: true, Until: hour}})
	if got := now(); strings.Count(got, "dry ") != 1 || !strings.Contains(got, "dry line") || !strings.Contains(got, " o;") {
		t.Error(got)
	}
}

func TestOverridesThatMakeNoSense(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 1/24h\nlimit line bytes 1kB/s\nlimit blobs transfers 1")
	hour := g.clock.Now().Add(time.Hour)
	for want, o := range map[string]Override{
		`there is no limit "peopel"; there are people, line, blobs, failed_logins, failed_logins_ip`: {Limit: "peopel", DryRun: true, Until: hour},
		"changes the rate":         {Limit: "people", Until: hour},
		"would be over":            {Limit: "people", DryRun: true, Until: g.clock.Now()},
		"count different things":   {Rate: "5/s", Until: hour},
		"limit line":               {Limit: "line", Rate: "5/s", Until: hour},
		"limit people":             {Limit: "people", Rate: "5MB/s", Until: hour},
		"limit blobs counts trans": {Limit: "blobs", Rate: "0", Until: hour},
	} {
		if err := g.Override(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
	many := make([]Override, maxOverrides+5)
	for i := range many {
		many[i] = Override{Limit: "x", DryRun: true, Until: hour}
	}
	g.SetOverrides(many)
	if n := len(g.Overrides()); n != maxOverrides {
		t.Errorf("%d are kept", n)
	}
	many[0].Limit = "y"
	g.SetOverrides(many[:maxOverrides])
	if err := g.Override(Override{Limit: "people", DryRun: true, Until: hour}); err == nil {
		t.Error("one more than the bound")
	}
}

// Whoever guesses passwords stays locked out while all limits are a dry run; a
// limit of failed logins that is named is one.
func TestOverrideOfAllSparesFailedLogins(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 1/24h per=user\nlimit guesses failed_logins 2/15m per=ip+user")
	until := g.clock.Now().Add(time.Hour)
	if err := g.Override(Override{DryRun: true, Until: until}); err != nil {
		t.Fatal(err)
	}
	guess := func(n int) reply { return g.get("/token?service="+gateHost, basic("carl", "wrong"+strconv.Itoa(n))) }
	guess(1).want(t, 401)
	guess(2).want(t, 401)
	guess(3).want(t, 429)
	bob := g.as("bob", pulls("shared/base"))
	for range 2 {
		g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	}
	for limit, want := range map[string]float64{"people": float64(until.Unix()), "guesses": 0} {
		if got := g.metric(t, "regward_limit_override_until_timestamp_seconds", limit); got != want {
			t.Errorf("%s: the metric says %v", limit, got)
		}
	}
	if err := g.Override(Override{Limit: "guesses", DryRun: true, Until: until}); err != nil {
		t.Fatal(err)
	}
	guess(4).want(t, 401)
}
