package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// limited starts a regward with one limit on anonymous pulls, and images
// library/one:1 to library/three:1 and library/multi:1 behind it. Different
// images, because what a counted pull has given is free for a while (L02).
func limited(t *testing.T, rate string) *regward {
	t.Helper()
	u := startUpstream(t, distribution)
	for _, name := range []string{"hello", "one", "two", "three"} {
		u.has(t, "library/"+name+":1", small(t))
	}
	u.has(t, "library/multi:1", multiArch(t))
	return startRegward(t, u, teamRules+fmt.Sprintf(`
limits:
  - {name: anonymous, subjects: anonymous, count: pulls, rate: %s, per: ip}
`, rate))
}

// skopeo is the patient one: it waits four times as long as Retry-After says,
// a minute at most, before it shows anything. So this takes four minutes.
func TestAUsedUpLimitSaysSoInTheClientsOwnOutput(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"docker", "skopeo", "crane"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := limited(t, "2/1d")
			c := kindNamed(name).new(t, g.host)
			c.pull(t, g.host+"/library/one:1").works(t)
			c.pull(t, g.host+"/library/two:1").works(t)
			refused := c.pull(t, g.host+"/library/three:1").fails(t,
				`limit "anonymous": 2 pulls in 1d are used up for`, "next pull possible at", "ask #platform-help")
			g.recordsWhatWasShown(t, refused)
		})
	}
}

func TestAPullOfSeveralPlatformsIsOnePull(t *testing.T) {
	t.Parallel()
	for _, k := range clientKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			g := limited(t, "1/1d")
			c := k.new(t, g.host)
			c.pull(t, g.host+"/library/multi:1").works(t)
			token := g.token(t, "", "repository:library/one:pull")
			g.send(t, http.MethodGet, "/v2/library/one/manifests/1", token, nil).is(t, http.StatusTooManyRequests)
		})
	}
}

// containerd 1.6 repeats a 429 six times at once; the repetitions must not
// keep it out (S08).
func TestContainerdsRepetitionsNeitherCostNorProlong(t *testing.T) {
	t.Parallel()
	g := limited(t, "1/20s")
	c := newCtr(t, g.host)
	c.pull(t, g.host+"/library/one:1").works(t)
	c.pull(t, g.host+"/library/two:1").fails(t)
	eventually(t, "the second pull is let in", 60*time.Second, func() error {
		return c.pull(t, g.host+"/library/two:1").err
	})
}

func TestSkopeoWaitsAsLongAsItIsToldAndSucceeds(t *testing.T) {
	t.Parallel()
	g := limited(t, "1/15s")
	c := newSkopeo(t, g.host)
	c.pull(t, g.host+"/library/one:1").works(t)
	c.pull(t, g.host+"/library/two:1").works(t)
	c.pull(t, g.host+"/library/three:1").works(t)
	if throttled := strings.Count(g.accessLog(t), `"status":429`); throttled == 0 {
		t.Errorf("nothing was ever refused:\n%s", g.accessLog(t))
	}
}

func TestPingLoginAndUploadsAreNeverLimited(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	g := startRegward(t, u, teamRules+`
limits:
  - {name: everything, count: requests, rate: 1/1d, per: all}
`)
	token := g.token(t, "ann", "repository:coolteam/app:push,pull")
	start := g.send(t, http.MethodPost, "/v2/coolteam/app/blobs/uploads/", token, nil).is(t, http.StatusAccepted)
	g.send(t, http.MethodHead, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusTooManyRequests)
	g.send(t, http.MethodGet, "/v2/", token, nil).is(t, http.StatusOK)
	g.token(t, "bob")
	location := start.Header.Get("Location")
	next := g.send(t, http.MethodPatch, location, token, strings.NewReader("hello")).is(t, http.StatusAccepted)
	g.send(t, http.MethodPut, withDigest(next.Header.Get("Location"), "hello"), token, nil).is(t, http.StatusCreated)
}

func TestTheRateLimitHeadersAreReadByRegctl(t *testing.T) {
	t.Parallel()
	g := limited(t, "5/6h")
	c := newRegctl(t, g.host).(*regctl)
	c.pull(t, g.host+"/library/one:1").works(t)
	c.run(t, "image", "ratelimit", g.host+"/library/two:1", "--format", "{{.Remain}} of {{.Limit}}").
		works(t).says(t, "4 of 5")
}

func TestGuessesLockOutTheGuesserAndNobodyElse(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	g := startRegward(t, u, teamRules)
	guess := func(user, password string) answer {
		r, err := http.NewRequest(http.MethodGet, "https://"+g.host+"/token?service=localhost", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, password)
		response, err := g.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		return answer{Response: response, body: readAll(t, response.Body)}
	}
	for i := range 10 {
		guess("dave", fmt.Sprint("guess", i)).is(t, http.StatusUnauthorized)
	}
	locked := guess("dave", "one more").is(t, http.StatusTooManyRequests)
	if !strings.Contains(locked.body, "too many wrong passwords for dave") {
		t.Errorf("the refusal says %s", locked.body)
	}
	guess("bob", passwords["bob"]).is(t, http.StatusOK)

	// docker shows what happened, too.
	c := newDocker(t, g.host)
	c.login(t, "dave", "another guess").fails(t, "too many wrong passwords for dave")
	c.login(t, "ann", passwords["ann"]).works(t)
}

func TestALoginProvenBeforeIsNeverLockedOut(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	g := startRegward(t, u, teamRules+"cache: {ttl: 10m}\n")
	g.token(t, "ann")
	for i := range 30 {
		if err := g.rejects("ann", fmt.Sprint("guess", i)); err != nil && !strings.Contains(err.Error(), "429") {
			t.Fatal(err)
		}
	}
	g.token(t, "ann")
}
