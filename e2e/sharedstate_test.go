package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// The index of an image goes to one instance and its manifest to the other, and
// it is one pull.
func TestAPullThroughBothInstancesIsOnePull(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"crane", "skopeo"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, distribution)
			u.has(t, "library/hello:1", small(t))
			u.has(t, "library/multi:1", multiArch(t))
			f := behindPlain(t, 2, u, teamRules+startRedis(t).config("")+`
limits:
  - {name: anonymous, subjects: anonymous, count: pulls, rate: 2/1d, per: ip}
`)
			host := startHAProxy(t, f)
			kindNamed(name).new(t, host).pull(t, host+"/library/multi:1").works(t)
			balancer := &regward{host: host, client: f[0].client}
			token := balancer.token(t, "", "repository:library/hello:pull")
			for _, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
				balancer.send(t, http.MethodGet, "/v2/library/hello/manifests/1", token, nil).is(t, want)
			}
		})
	}
}

// Layers come in at one instance and the manifest that names them at the other,
// in front of a registry that gives any layer under any name.
func TestAPushThroughBothInstancesWithSharedBlobs(t *testing.T) {
	t.Parallel()
	s, _ := stocked(t, func(t testing.TB) *standin {
		return newNexus(t, nexus{release: "3.96.3-01", route: "path", bearer: true})
	})
	f := behindPlain(t, 2, &upstream{config: s.settings()}, teamRules+startRedis(t).config(""))
	host := startHAProxy(t, f)
	for _, name := range []string{"crane", "skopeo", "regctl"} {
		t.Run(name, func(t *testing.T) {
			c := kindNamed(name).new(t, host)
			c.login(t, "ann", passwords["ann"]).works(t)
			for i := range 3 { // whichever instance has the manifest
				ref := fmt.Sprintf("%s/coolteam/by-%s-%d:1", host, name, i)
				c.push(t, ref, small(t)).works(t)
				c.pull(t, ref).works(t)
			}
		})
	}
	for i, g := range f {
		if n := len(uploads.FindAllString(g.accessLog(t), -1)); n == 0 {
			t.Errorf("instance %d answered no upload; was it balanced request by request?", i)
		}
	}
}

// Three instances ask Nexus about no more wrong passwords of a name than one
// does, so it never locks the name.
func TestGuessesThroughSeveralInstancesLockNoNameAtNexus(t *testing.T) {
	t.Parallel()
	locks := newLockout()
	s := newNexus(t, nexus{release: "3.96.3-01", route: "path", bearer: true, lockout: locks})
	s.users["ann"] = passwords["ann"]
	f := newFleet(t, 3, &upstream{config: s.settings()}, teamRules+startRedis(t).config(""), func(g *regward) {
		before, rest, _ := strings.Cut(g.frame, "auth: {")
		_, after, _ := strings.Cut(rest, "\n")
		g.frame = before + "auth: {upstream: true}\n" + after
	})
	got := map[int]int{}
	for i := range 9 {
		got[f[i%3].guess(t, "ann", i)]++
	}
	gives(t, got, map[int]int{http.StatusUnauthorized: 2, http.StatusTooManyRequests: 7})
	locks.mu.Lock()
	defer locks.mu.Unlock()
	if n := locks.wrong["ann"]; n != 2 {
		t.Errorf("Nexus counted %d wrong passwords; after more than three it locks the name", n)
	}
}
