package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// What docker keeps in place of a directory's password follows the directory: the
// groups of now, an outage, and the day its user is gone.
func TestRefreshTokensFollowTheDirectory(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	g := startAsking(t, s.auth(), directoryRules+"cache: {ttl: 1s, stale: 10m}\ntoken: {refresh: true}\n")
	keep := func(user string) string {
		t.Helper()
		_, refresh := g.tokenForm(t, "grant_type", "password", "username", user, "password", passwords[strings.ToLower(user)], "access_type", "offline").is(t, 200).kept(t)
		if refresh == "" {
			t.Fatalf("%s gets no refresh token", user)
		}
		return refresh
	}
	ann, bob := keep("Ann"), keep("bob")
	renew := func(refresh string) answer {
		return g.tokenForm(t, "grant_type", "refresh_token", "refresh_token", refresh, "scope", "repository:core/from-docker:pull")
	}
	becomes := func(what string, is func() error) {
		t.Helper()
		eventually(t, what, time.Minute, is)
	}
	pulls := func(status int) func() error {
		return func() error {
			a := g.send(t, "GET", "/v2/core/from-docker/manifests/1", renew(ann).tokenIn(t), nil)
			if a.StatusCode != status {
				return fmt.Errorf("%s %s", a.Status, a.body)
			}
			return nil
		}
	}
	d := newDocker(t, g.host).(*docker)
	d.login(t, "Ann", passwords["ann"]).works(t)
	saved := d.saved(t)[g.host]
	if saved.IdentityToken == "" {
		t.Fatal("docker keeps no refresh token")
	}
	d.push(t, g.host+"/core/from-docker:1", small(t)).works(t)
	if err := pulls(200)(); err != nil {
		t.Error(err)
	}

	s.modify(t, fmt.Sprintf("dn: cn=core,%s\nchangetype: modify\nreplace: member\nmember: %s\n", ldapGroups, dnOf("dave")))
	becomes("ann is in core no more", pulls(401))

	s.kill()
	renew(ann).is(t, 200) // asked about before
	if a := renew(bob).is(t, 503); a.Header.Get("Retry-After") == "" || strings.Contains(a.body, "docker login") {
		t.Errorf("while nobody can say: %v %s", a.Header, a.body)
	}
	s.launch(t)
	becomes("the directory is asked again", func() error {
		if a := renew(bob); a.StatusCode != 200 {
			return errors.New(a.Status)
		}
		return nil
	})

	s.modify(t, fmt.Sprintf("dn: %s\nchangetype: delete\n", dnOf("Ann")))
	becomes("ann is gone", func() error {
		if a := renew(ann); a.StatusCode != 401 || !strings.Contains(a.body, "has ended. Run: docker login localhost") {
			return fmt.Errorf("%s %s", a.Status, a.body)
		}
		return nil
	})
	d.pull(t, g.host+"/library/hello:1").fails(t, "has ended. Run: docker login localhost")
	renew(bob).is(t, 200)
	g.keepsNoSecret(t, ann, bob, saved.IdentityToken, passwords["ann"])
}
