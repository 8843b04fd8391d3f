package e2e

import (
	"strings"
	"testing"
)

// Each searcher looks for a word in the names of a registry's repositories.
var searchers = map[string]func(t *testing.T, g *regward, user, word string) outcome{
	"docker": func(t *testing.T, g *regward, user, word string) outcome {
		c := newDocker(t, g.host).(*docker)
		if user != "" {
			c.login(t, user, passwords[user]).works(t)
		}
		return c.run(t, "search", "--no-trunc", g.host+"/"+word)
	},
	"podman": func(t *testing.T, g *regward, user, word string) outcome {
		c := newPodman(t, g.host).(*podman)
		if user != "" {
			c.login(t, user, passwords[user]).works(t)
		}
		return c.run(t, "search", "--no-trunc", g.host+"/"+word)
	},
}

// What is found is what the one who asks may pull, of all upstreams, under the
// names it can be pulled by.
func TestSearchFindsWhatTheCallerMayPull(t *testing.T) {
	t.Parallel()
	own, hub := startUpstream(t, distribution), startUpstream(t, distribution)
	own.has(t, "library/hello:1", small(t))
	own.has(t, "coolteam/hello-app:1", small(t))
	own.has(t, "vault/hello-secret:1", small(t))
	hub.has(t, "library/hello-hub:1", small(t))
	nested := func(u *upstream) string { return strings.ReplaceAll(u.config, "\n", "\n  ") }
	g := newRegward(t, "\n  - prefix: hub/"+nested(hub)+"\n  - prefix: \"\""+nested(own))
	g.configure(t, strings.Replace(teamRules, "rules:\n", "rules:\n  - {subjects: everyone, repositories: \"hub/**\", allow: pull}\n", 1)+"search: true\n")
	g.serve(t)
	for name, search := range searchers {
		for user, want := range map[string][]string{
			"":     {"hub/library/hello-hub", "library/hello"},
			"bob":  {"coolteam/hello-app", "hub/library/hello-hub", "library/hello"},
			"ann":  {"coolteam/hello-app", "hub/library/hello-hub", "library/hello", "vault/hello-secret"},
			"dave": {"hub/library/hello-hub", "library/hello"},
		} {
			shown := search(t, g, user, "hello").works(t).says(t, want...)
			for _, secret := range []string{"coolteam", "vault"} {
				if strings.Contains(shown.out, secret) && !strings.Contains(strings.Join(want, " "), secret) {
					t.Errorf("%s: %q finds %s:\n%s", name, user, secret, shown.out)
				}
			}
		}
		search(t, g, "ann", "hello-s").works(t).says(t, "vault/hello-secret")
	}
}

func TestSearchIsOffByItself(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	g := startRegward(t, u, teamRules)
	searchers["docker"](t, g, "", "hello").fails(t, "404")
	searchers["podman"](t, g, "", "hello").works(t).says(t, "library/hello") // it goes on to the catalog by itself
}
