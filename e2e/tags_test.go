package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1"
)

// The team releases v*, which stays; reader sees what is released, dave may push
// his own dev-*.
const tagRules = `
groups: {coolteam: [ann, bob]}
rules:
  - {subjects: group:coolteam, repositories: "coolteam/**", allow: [pull, push, delete]}
  - {subjects: group:coolteam, repositories: "coolteam/**", allow: [pull, push], tags: "v*", immutable: true}
  - {subjects: user:bob,       repositories: "coolteam/**", deny: push, tags: latest}
  - {subjects: user:reader,    repositories: "coolteam/**", allow: pull, tags: "v*"}
  - {subjects: user:dave,      repositories: "coolteam/**", allow: [pull, push, delete], tags: "dev-*"}
  - {subjects: user:ann,       repositories: "free/**",     allow: [pull, push, delete]}
`

func TestTagRulesWithRealClients(t *testing.T) {
	t.Parallel()
	for _, kind := range []kind{distribution, dockerRegistry} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, kind)
			u.has(t, "free/many:1", multiArch(t))
			u.has(t, "free/many:2", multiArch(t))
			g := startRegward(t, u, tagRules)
			for _, name := range []string{"docker", "podman", "crane", "regctl"} {
				releases(t, g, u, kindNamed(name))
			}
			indexes(t, g, u)
			guidesByTag(t, g, u)
			byHand(t, g, u)
		})
	}
}

// releases is what a client sees of tags that stay.
func releases(t *testing.T, g *regward, u *upstream, k clientKind) {
	t.Helper()
	c := k.new(t, g.host)
	if f, ok := c.(interface{ tries(string) }); ok { // some are only believed once they pull
		u.has(t, "coolteam/first:1", small(t))
		f.tries(g.host + "/coolteam/first:1")
	}
	c.login(t, "ann", passwords["ann"]).works(t)
	repository := "coolteam/" + k.name
	release := g.host + "/" + repository + ":v1"
	first := small(t)
	c.push(t, release, first).works(t)
	is := u.digestOf(t, repository+":v1")
	c.push(t, release, first).works(t)
	refused := c.push(t, release, small(t)).fails(t)
	if k.speaks {
		refused.says(t, "the tag v1 of "+repository+" is immutable (rules[1]) and names another digest already, "+is)
		g.recordsWhatWasShown(t, refused)
	}
	if now := u.digestOf(t, repository+":v1"); now != is || now == "" {
		t.Errorf("%s moved v1 from %s to %s", k.name, is, now)
	}
	c.pull(t, release).works(t)
	moving := g.host + "/" + repository + ":latest"
	c.push(t, moving, first).works(t)
	c.push(t, moving, small(t)).works(t)
	if d, ok := c.(deleter); ok {
		d.delete(t, release).fails(t)
		if l, ok := c.(lister); ok {
			l.tags(t, g.host+"/"+repository).works(t).says(t, "v1", "latest")
		}
	}
	if r, ok := c.(*regctl); ok { // where a tag cannot be deleted it moves it, and deletes what it moved it to
		r.run(t, "tag", "rm", release).fails(t)
	}
	if now := u.digestOf(t, repository+":v1"); now != is {
		t.Errorf("%s deleted v1, or moved it to %q", k.name, now)
	}
}

// indexes are of several platforms: what stays is the index.
func indexes(t *testing.T, g *regward, u *upstream) {
	t.Helper()
	r := newRegctl(t, g.host).(*regctl)
	r.tries(g.host + "/free/many:1")
	r.login(t, "ann", passwords["ann"]).works(t)
	to := g.host + "/coolteam/many:v1"
	r.copy(t, g.host+"/free/many:1", to).works(t)
	r.copy(t, g.host+"/free/many:1", to).works(t)
	r.copy(t, g.host+"/free/many:2", to).fails(t)
	if is, want := u.digestOf(t, "coolteam/many:v1"), u.digestOf(t, "free/many:1"); is != want {
		t.Errorf("v1 is %s, want %s", is, want)
	}
	// One of its platforms is another digest, too.
	c := newCrane(t, g.host).(*crane)
	c.tries(g.host + "/free/many:1")
	c.login(t, "ann", passwords["ann"]).works(t)
	c.run(t, "copy", "--platform", "linux/amd64", g.host+"/free/many:1", to).fails(t, "the tag v1 of coolteam/many is immutable")
	c.run(t, "tag", g.host+"/coolteam/many:v1", "v2").works(t)
	c.run(t, "tag", g.host+"/coolteam/many:v1", "v1").works(t)
}

// guidesByTag is about rules that name tags and keep nothing.
func guidesByTag(t *testing.T, g *regward, u *upstream) {
	t.Helper()
	const released, moving = "coolteam/docker:v1", "coolteam/docker:latest"
	c := newDocker(t, g.host)
	ref := func(r string) string { return g.host + "/" + r }
	c.login(t, "reader", passwords["reader"]).works(t)
	c.pull(t, ref(released)).works(t)
	c.pull(t, ref(moving)).fails(t, "reader may not pull the tag latest of coolteam/docker, or it does not exist")
	c.pull(t, ref("coolteam/docker@"+u.digestOf(t, moving))).works(t) // what names no tag
	c.push(t, ref("coolteam/docker:v2"), small(t)).fails(t)

	p := newPodman(t, g.host)
	p.login(t, "dave", passwords["dave"]).works(t)
	p.push(t, ref("coolteam/docker:dev-1"), small(t)).works(t)
	p.push(t, ref("coolteam/docker:dev-1"), small(t)).works(t)
	p.push(t, ref("coolteam/docker:v9"), small(t)).fails(t, "dave may not pull the tag v9 of coolteam/docker")
	p.login(t, "bob", passwords["bob"]).works(t)
	p.push(t, ref(moving), small(t)).fails(t, "bob may not push the tag latest of coolteam/docker")
	p.pull(t, ref(moving)).works(t)

	g.cli(t, "explain", "--user", "reader", "--repository", "coolteam/docker", "--action", "pull", "--tag", "v1").works(t).says(t, "rules[3]")
	g.cli(t, "explain", "--user", "reader", "--repository", "coolteam/docker", "--action", "pull", "--tag", "latest").fails(t)
	g.cli(t, "explain", "--user", "ann", "--repository", "coolteam/docker", "--action", "push", "--tag", "v1").works(t).
		says(t, "rules[1]", "makes the tag v1 of coolteam/docker immutable for group coolteam: once it is there, the same digest may be pushed to it, and no other")
	g.cli(t, "explain", "--user", "ann", "--repository", "coolteam/docker", "--action", "delete", "--tag", "v1").fails(t, "immutable")
}

// byHand is what no client sends.
func byHand(t *testing.T, g *regward, u *upstream) {
	t.Helper()
	const repository = "coolteam/crane"
	m := otherManifests(t, u, repository, 1)[0]
	is := u.digestOf(t, repository+":v1")
	ann := g.token(t, "ann", "repository:"+repository+":pull,push,delete")
	put := func(reference string) answer {
		return g.send(t, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, ann, strings.NewReader(m.text), "Content-Type", m.mediaType)
	}
	for reference, want := range map[string]int{
		"v1":                          403,
		"v1?tag=dev":                  403,
		"dev?tag=v1":                  403,
		m.digest + "?tag=v1":          403,
		m.digest + "?tag=dev&tag=v1":  403,
		m.digest + "?%74ag=v1":        403,
		m.digest + "?tag=%761":        403,
		is + "?tag=v1":                403, // the body counts
		m.digest + "?tag=v1%00":       400,
		m.digest + "?tag=../other/v1": 400,
		"%761":                        400,
		"v1%3A":                       400,
		"v1/":                         400,
		m.digest:                      201,
		"V1":                          201, // another tag
	} {
		if a := put(reference); a.StatusCode != want {
			t.Errorf("PUT %s: got %s, want %d: %s", reference, a.Status, want, a.body)
		}
	}
	for _, reference := range []string{"v1", is, "v1%3A", "sha256:" + strings.Repeat("0", 64)} {
		if a := g.send(t, http.MethodDelete, "/v2/"+repository+"/manifests/"+reference, ann, nil); a.StatusCode != 403 && a.StatusCode != 400 {
			t.Errorf("DELETE %s: %s", reference, a.Status)
		}
	}
	if now := u.digestOf(t, repository+":v1"); now != is {
		t.Errorf("v1 is %s now, was %s", now, is)
	}
}

// manifest is one to be pushed by hand.
type manifest struct{ text, mediaType, digest string }

// otherManifests are n different ones whose layers are in a repository.
func otherManifests(t testing.TB, u *upstream, repository string, n int) (all []manifest) {
	t.Helper()
	img := small(t)
	u.has(t, repository+":layers", img)
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	media, err := img.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		var m map[string]any
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		m["annotations"] = map[string]string{"no": fmt.Sprint(i)}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		digest, _, err := v1.SHA256(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, manifest{string(text), string(media), digest.String()})
	}
	return all
}

// pushAll pushes all of them to one tag at once, by turns through the instances,
// and returns the digests that were taken.
func pushAll(t *testing.T, f fleet, repository, tag string, all []manifest) (taken []string) {
	t.Helper()
	var pushes sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for i, m := range all {
		g := f[i%len(f)]
		ann := g.token(t, "ann", "repository:"+repository+":pull,push")
		r, err := http.NewRequest(http.MethodPut, "https://"+g.host+"/v2/"+repository+"/manifests/"+tag, strings.NewReader(m.text))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+ann)
		r.Header.Set("Content-Type", m.mediaType)
		transport := newTransport()
		transport.ForceAttemptHTTP2 = i%2 == 0
		t.Cleanup(transport.CloseIdleConnections)
		pushes.Go(func() {
			<-start
			a, err := transport.RoundTrip(r)
			if err != nil {
				t.Errorf("push %d: %v", i, err)
				return
			}
			a.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			switch a.StatusCode {
			case http.StatusCreated:
				taken = append(taken, m.digest)
			case http.StatusForbidden:
			default:
				t.Errorf("push %d: %s", i, a.Status)
			}
		})
	}
	close(start)
	pushes.Wait()
	return taken
}

// Of many pushes to one new tag that comes to stay, one does.
func TestOnePushOfAnImmutableTagStays(t *testing.T) {
	t.Parallel()
	for _, kind := range []kind{distribution, dockerRegistry} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			u := startUpstream(t, kind)
			g := startRegward(t, u, tagRules)
			all := otherManifests(t, u, "coolteam/app", 20)
			for round := range 3 {
				tag := fmt.Sprintf("v%d", round)
				taken := pushAll(t, fleet{g}, "coolteam/app", tag, all)
				if is := u.digestOf(t, "coolteam/app:"+tag); len(taken) != 1 || taken[0] != is {
					t.Errorf("%s: taken %v, it is %s", tag, taken, is)
				}
			}
			// A registry that cannot be asked is not one that said there is none.
			ann := g.token(t, "ann", "repository:coolteam/app:pull,push")
			if err := u.proc.stop(); err != nil {
				t.Fatal(err)
			}
			a := g.send(t, http.MethodPut, "/v2/coolteam/app/manifests/v1", ann, strings.NewReader(all[0].text), "Content-Type", all[0].mediaType).is(t, http.StatusServiceUnavailable)
			if !strings.Contains(a.body, "the tag v1 of coolteam/app is immutable, and whether it is there already cannot be found out now") || a.Header.Get("Retry-After") == "" {
				t.Errorf("got %s", a.body)
			}
		})
	}
}

// Instances do not wait for each other: of pushes to a new tag each may take
// one, and the last stays. What is there is kept by all of them.
func TestInstancesKeepImmutableTags(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	r := startRedis(t)
	f := startFleet(t, 2, u, tagRules+r.config(""))
	all := otherManifests(t, u, "coolteam/app", 20)
	taken := pushAll(t, f, "coolteam/app", "v1", all)
	is := u.digestOf(t, "coolteam/app:v1")
	stays := false
	for _, digest := range taken {
		stays = stays || digest == is
	}
	if len(taken) == 0 || len(taken) > len(f) || !stays {
		t.Errorf("taken %v, it is %s", taken, is)
	}
	for _, digest := range pushAll(t, f, "coolteam/app", "v1", all) {
		if digest != is {
			t.Errorf("moved to %s", digest)
		}
	}
	if now := u.digestOf(t, "coolteam/app:v1"); now != is {
		t.Errorf("v1 is %s, was %s", now, is)
	}
}
