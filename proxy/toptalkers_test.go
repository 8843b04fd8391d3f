package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestTopTellsWhoDoesMost(t *testing.T) {
	g := newGate(t, usual+"limit people pulls 3/h per=user subjects=user:bob")
	ann, bob := g.as("ann", pulls("coolteam/app")), g.as("bob", pulls("shared/base"))
	for range 5 {
		g.get("/v2/shared/base/manifests/latest", bob)
	}
	g.get("/v2/coolteam/app/manifests/latest", ann)
	g.get("/v2/library/alpine/manifests/latest", g.as("", pulls("library/alpine")), from("2001:db8::1:2"))
	_ = g.access.String()
	top := g.Top(10)
	got := map[string]Amounts{}
	for _, c := range top.Clients {
		got[c.Name] = c.Amounts
	}
	if b := got["user:bob"]; top.Clients[0].Name != "user:bob" || b.Requests != 6 || b.Pulls != 3 || b.Throttled != 2 || b.BytesOut < 300 {
		t.Errorf("%+v", top.Clients)
	}
	if got["ip:2001:db8::/64"].Requests != 1 || got["user:ann"].Pulls != 1 {
		t.Errorf("%+v", top.Clients)
	}
	if len(top.Namespaces) != 3 || top.Namespaces[0].Name != "shared" || top.Namespaces[0].Pulls != 3 || len(top.Limits) != 1 || top.Limits[0].Name != "people" || top.Limits[0].Throttled != 2 {
		t.Errorf("%+v\n%+v", top.Namespaces, top.Limits)
	}
	g.clock.pass(time.Minute)
	if b := g.Top(1).Clients; len(b) != 1 || b[0].Requests < 2 || b[0].Requests > 2.5 {
		t.Errorf("a minute later: %+v", b)
	}
	g.clock.pass(15 * time.Minute)
	if top := g.Top(10); len(top.Clients)+len(top.Namespaces)+len(top.Limits) != 0 {
		t.Errorf("long after: %+v", top)
	}
}

// Of 100,000 clients the few that do much are told, in bounded memory.
func TestTopAmongHundredThousand(t *testing.T) {
	s, now := newSketch(clientShares), time.Unix(1e9, 0)
	one := &Amounts{Requests: 1}
	for i := range 400_000 {
		var a [4]byte
		a[0], a[1], a[2], a[3] = 10, byte(i>>16)&1, byte(i>>8), byte(i)
		s.add(talkerKey{prefix: "ip:", addr: netip.PrefixFrom(netip.AddrFrom4(a), 32)}, one, 1, now)
		if i%10 == 0 {
			s.add(talkerKey{prefix: "user:", name: fmt.Sprint("heavy", i/10%10)}, one, 1, now)
		}
	}
	top := s.top(10, now)
	for _, c := range top {
		if !strings.HasPrefix(c.Name, "user:heavy") || c.Requests < 3900 || c.Requests > 4000 {
			t.Errorf("%s with %v", c.Name, c.Requests)
		}
	}
	if all := s.top(1<<20, now); len(all) != clientShares*talkersPerShare {
		t.Errorf("%d are known", len(all))
	}
	s.add(talkerKey{prefix: "user:", name: strings.Repeat("x", 300)}, one, 1e9, now)
	if got := s.top(10000, now); !strings.HasPrefix(longest(got), "user:xxx") || len(longest(got)) != talkerName {
		t.Errorf("%d bytes", len(longest(got)))
	}
}

func longest(all []Talker) (name string) {
	for _, t := range all {
		if len(t.Name) > len(name) {
			name = t.Name
		}
	}
	return name
}

func TestNamespacesAreCountedIfAsked(t *testing.T) {
	g := newGate(t, usual+"allow user:bob ** pull", func(s *Settings) { s.PerNamespace = true })
	bob := g.as("bob", pulls("shared/base"), pulls("made/up"), pulls("ops/secrets"))
	g.get("/v2/shared/base/manifests/latest", bob).want(t, 200)
	g.get("/v2/made/up/manifests/absent", bob).want(t, 404)
	_ = g.access.String()
	if pulls, other, unknown := g.metric(t, "regward_namespace_pulls_total", "shared"), g.metric(t, "regward_namespace_requests_total", otherNamespace), g.metric(t, "regward_namespace_requests_total", "made"); pulls != 1 || other != 1 || unknown != 0 {
		t.Errorf("%v pulls of shared, %v requests of others, %v of what is not there", pulls, other, unknown)
	}
	for i := range 2 * maxNamespaces {
		g.metrics.namespaces.of(fmt.Sprint("n", i), true)
	}
	if n := len(g.metrics.namespaces.known); n != maxNamespaces {
		t.Errorf("%d namespaces are known", n)
	}
	g.settings.PerNamespace = false
	g.swap(g.settings)
	if got := g.metric(t, "regward_namespace_pulls_total", "shared"); got != 0 {
		t.Errorf("not asked for: %v", got)
	}
}

func TestOneAddressForAllIsTold(t *testing.T) {
	for _, tt := range []struct {
		name       string
		from, rest int // requests from one address, and from a thousand others in turn
		want       string
	}{
		{"nearly all", 12028, 372, "97 % of 12,400 requests in 5 minutes came from 10.0.0.5: is that a load balancer? Limits per ip count all clients as one. Set proxy_protocol.from or trusted_proxies to [10.0.0.5]."},
		{"many", 8000, 2000, ""},
		{"too few to say", 900, 0, ""},
	} {
		g := newGate(t, usual)
		x := &exchange{h: g.Handler, s: g.Current()}
		note := func(addr string) {
			x.addr = netip.MustParseAddr(addr)
			g.noteAddress(x, g.clock.Now())
		}
		for range 2 {
			for i := range tt.rest {
				note(fmt.Sprintf("192.0.%d.%d", 2+i/250%4, i%250))
			}
			for range tt.from {
				note("10.0.0.5")
			}
			g.clock.pass(addressWindow)
		}
		note("10.0.0.5")
		log := g.log.String()
		if tt.want == "" && log != "" || tt.want != "" && strings.Count(log, tt.want) != 1 {
			t.Errorf("%s: %s", tt.name, log)
		}
		if got := g.metric(t, "regward_busiest_address_ratio", ""); tt.want != "" && got != 0.97 {
			t.Errorf("%s: the metric says %v", tt.name, got)
		}
	}
	trusted := Busiest{netip.MustParseAddr("127.0.0.1"), 99, 2000}
	g := newGate(t, usual)
	if got := trusted.words(g.Current()); !strings.HasSuffix(got, "It is in trusted_proxies but sends no X-Forwarded-For.") {
		t.Error(got)
	}
	g.settings.Proxies, g.settings.Senders = nil, g.settings.Proxies
	g.swap(g.settings)
	if got := trusted.words(g.Current()); !strings.HasSuffix(got, "It is in proxy_protocol.from but its PROXY headers name no client.") {
		t.Error(got)
	}
}

func TestRulesInDryRunAreTold(t *testing.T) {
	g := newGate(t, usual+"deny everyone library/busybox pull dry_run")
	g.get("/v2/library/busybox/manifests/latest", g.as("", pulls("library/busybox"))).want(t, 200)
	g.get("/v2/library/alpine/manifests/latest", g.as("", pulls("library/alpine"))).want(t, 200)
	if got := testutil.ToFloat64(g.metrics.rules.WithLabelValues("rules[5]", "would_deny")); got != 1 {
		t.Errorf("%v", got)
	}
	if log := g.access.String(); strings.Count(log, `"would_deny":"rules[5] at regward.yaml:15, a dry run, would deny pull`) != 1 {
		t.Error(log)
	}
}

// Whoever fills a catalog, or names the scopes of a token, asks the rules as well:
// those are no requests that would have been refused. What is refused for another
// reason is none either.
func TestOnlyRequestsWouldBeDenied(t *testing.T) {
	g := newGate(t, usual+"deny everyone library/busybox pull dry_run\ndeny everyone coolteam/app push dry_run", func(s *Settings) { s.Upstreams[0].ReadOnly = "closed" })
	target := "/v2/library/busybox/manifests/latest"
	ann := g.as("ann", pulls("library/busybox")) // a token is asked for
	g.get("/v2/_catalog", who("ann")).want(t, 200)
	g.clock.pass(time.Hour)
	g.get(target, ann).want(t, 401) // it has run out
	g.do("PUT", "/v2/coolteam/app/manifests/1", g.as("ann", pushes("coolteam/app")), body(image)).want(t, 403)
	counted := func() (n float64) {
		for _, rule := range []string{"rules[5]", "rules[6]"} {
			n += testutil.ToFloat64(g.metrics.rules.WithLabelValues(rule, "would_deny"))
		}
		return n
	}
	if got, log := counted(), g.access.String(); got != 0 || strings.Contains(log, "would_deny") {
		t.Errorf("%v counted: %s", got, log)
	}
	g.get(target, g.as("ann", pulls("library/busybox"))).want(t, 200)
	if got, log := counted(), g.access.String(); got != 1 || strings.Count(log, "would_deny") != 1 {
		t.Errorf("%v counted: %s", got, log)
	}
}

func BenchmarkTopNote(b *testing.B) {
	g, _ := manifestGate(b)
	x := &exchange{h: g.Handler, s: g.Current(), site: g.Current().sites[gateHost][0], addr: netip.MustParseAddr("192.0.2.7"), out: 500}
	x.repo.Repository, x.decided = "coolteam/app", true
	x.who.Name = "ann"
	for i := range 100_000 { // full of others
		x.h.talk.clients.add(talkerKey{prefix: "user:", name: fmt.Sprint(i)}, &Amounts{Requests: 1}, 1, g.clock.Now())
	}
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			g.talk.note(x, g.clock.Now())
			g.noteAddress(x, g.clock.Now())
		}
	})
	b.Run("newcomer", func(b *testing.B) {
		x.who.Name = ""
		var n uint32
		b.ReportAllocs()
		for b.Loop() {
			n++
			x.addr = netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
			g.talk.note(x, g.clock.Now())
			g.noteAddress(x, g.clock.Now())
		}
	})
}
