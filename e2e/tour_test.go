package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
)

// Every client lives the day of somebody who knows nothing but that client
// (walkthrough: day 2), in front of one registry.
func TestEveryClientLivesItsDayThroughRegward(t *testing.T) {
	t.Parallel()
	for _, k := range clientKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			newTour(t, k, distribution, way{}).wholeDay(t)
		})
	}
}

// The same day where the registry is one of two behind the hostname and its
// names begin with a prefix that it knows nothing of.
func TestEveryClientLivesItsDayUnderAPrefix(t *testing.T) {
	t.Parallel()
	for _, k := range clientKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			newTour(t, k, distribution, way{prefix: "hub/"}).wholeDay(t)
		})
	}
}

// The other upstreams differ in how they ask regward to log in, and in what
// they answer: the two most different clients try each.
func TestEveryUpstreamServesDockerAndSkopeoThroughRegward(t *testing.T) {
	t.Parallel()
	for _, up := range otherUpstreams {
		for _, k := range []clientKind{kindNamed("docker"), kindNamed("skopeo"), kindNamed("crane")} {
			t.Run(k.name+" in front of "+up.String(), func(t *testing.T) {
				t.Parallel()
				newTour(t, k, up, way{}).shortDay(t)
			})
		}
	}
}

// People keep the logins they have at the registry: regward asks there whether
// one is good, or passes it on.
func TestLoginsOfTheUpstreamServeEveryClient(t *testing.T) {
	t.Parallel()
	for _, up := range []kind{distributionBasic, distributionToken, dockerRegistryToken} {
		for name, w := range map[string]way{"asked": {logins: "auth: {upstream: true}\n"}, "passed on": {passthrough: true}} {
			for _, k := range clientKinds {
				t.Run(k.name+" "+name+" at "+up.String(), func(t *testing.T) {
					t.Parallel()
					newTour(t, k, up, w).loginDay(t)
				})
			}
		}
	}
}

// way is how regward stands in front of the registry.
type way struct {
	prefix      string // of the names clients use; the upstream's are without
	logins      string // instead of auth.htpasswd
	passthrough bool
}

// tour is one client, one regward and one registry with these in it:
// library/hello:1, library/multi:1, coolteam/app:1, coolteam/dark:1 and
// vault/secret:1.
type tour struct {
	clientKind
	upstream *upstream
	regward  *regward
	client   client
	way

	hello, app, secret v1.Image
}

func newTour(t *testing.T, k clientKind, up kind, w way) *tour {
	u := startUpstream(t, up)
	rules := teamRules
	if prefix := w.prefix; prefix != "" {
		other := startUpstream(t, distribution)
		u.config = "\n  - prefix: " + prefix + strings.ReplaceAll(u.config, "\n", "\n  ") +
			"\n  - prefix: \"\"" + strings.ReplaceAll(other.config, "\n", "\n  ")
		rules = strings.ReplaceAll(rules, `repositories: "`, `repositories: "`+prefix)
	}
	g := newRegward(t, u.config)
	switch {
	case w.passthrough: // regward's own account serves anonymous callers
		g.setLogins(t, "")
		g.frame = strings.Replace(g.frame, "\n  url: ", "\n  credentials: passthrough\n  url: ", 1)
	case w.logins != "":
		g.setLogins(t, w.logins)
	}
	g.configure(t, rules)
	g.serve(t)
	s := &tour{
		clientKind: k, upstream: u, regward: g, client: k.new(t, g.host), way: w,
		hello: small(t), app: small(t), secret: small(t),
	}
	if c, ok := s.client.(interface{ tries(image string) }); ok {
		c.tries(s.ref("library/hello:1"))
	}
	u.has(t, "library/hello:1", s.hello)
	u.has(t, "library/multi:1", multiArch(t))
	u.has(t, "coolteam/app:1", s.app)
	u.has(t, "vault/secret:1", s.secret)
	return s
}

func (s *tour) ref(r string) string { return s.regward.host + "/" + s.prefix + r }

// step is one promise. A broken one does not keep the later ones from being
// looked at.
type step struct {
	promise string
	keep    func(t *testing.T)
}

func walk(t *testing.T, steps []step) {
	for _, st := range steps {
		t.Run(st.promise, st.keep)
	}
}

func (s *tour) shortDay(t *testing.T) {
	walk(t, []step{
		{"pulls a public image without a login", s.pullsPublic},
		{"is refused a private image in words", s.isRefusedPrivate},
		{"logs in", s.logsIn},
		{"pulls a private image", s.pullsPrivate},
		{"pushes", s.pushes},
		{"mounts from a repository it may pull", s.mounts},
	})
}

func (s *tour) loginDay(t *testing.T) {
	walk(t, []step{
		{"pulls a public image without a login", s.pullsPublic},
		{"is refused a private image in words", s.isRefusedPrivate},
		{"is told that the password is wrong", s.wrongPassword},
		{"still reaches public images after a wrong login was undone", s.afterWrongPassword},
		{"is told that a login without the right is not enough", s.loggedInWithoutRight},
		{"logs in", s.logsIn},
		{"pulls a private image", s.pullsPrivate},
		{"pushes", s.pushes},
		{"mounts from a repository it may pull", s.mounts},
		{"is refused a push when it may only read", s.readerMayNotPush},
		{"is refused again after logout", s.logsOut},
	})
}

func (s *tour) wholeDay(t *testing.T) {
	walk(t, []step{
		{"pulls a public image without a login", s.pullsPublic},
		{"pulls a public image of several platforms", s.pullsIndex},
		{"is refused a private image in words", s.isRefusedPrivate},
		{"is told that the password is wrong", s.wrongPassword},
		{"still reaches public images after a wrong login was undone", s.afterWrongPassword},
		{"is told that a login without the right is not enough", s.loggedInWithoutRight},
		{"logs in", s.logsIn},
		{"pulls a private image", s.pullsPrivate},
		{"pushes", s.pushes},
		{"mounts from a repository it may pull", s.mounts},
		{"leaves its pulls and pushes in the audit log", s.isAudited},
		{"lists tags", s.listsTags},
		{"lists what refers to an image", s.listsReferrers},
		{"deletes", s.deletes},
		{"uploads in full what it may not mount", s.uploadsWhatItMayNotMount},
		{"is refused a push when it may only read", s.readerMayNotPush},
		{"is refused again after logout", s.logsOut},
		{"is told when the login it saved is no longer valid", s.staleLogin},
	})
}

func (s *tour) pullsPublic(t *testing.T) {
	s.client.pull(t, s.ref("library/hello:1")).works(t)
}

func (s *tour) pullsIndex(t *testing.T) {
	s.client.pull(t, s.ref("library/multi:1")).works(t)
}

// refused demands the words where the client shows any, and that their id
// leads to the access log.
func (s *tour) refused(t *testing.T, o outcome, words ...string) {
	t.Helper()
	o.fails(t, s.clientKind.refused)
	if s.speaks {
		o.says(t, words...)
		s.regward.recordsWhatWasShown(t, o)
	}
}

func (s *tour) isRefusedPrivate(t *testing.T) {
	s.refused(t, s.client.pull(t, s.ref("coolteam/app:1")), "not logged in", "docker login "+s.regward.host)
}

func (s *tour) wrongPassword(t *testing.T) {
	o := s.client.login(t, "ann", "guess").fails(t, s.wrongLogin)
	if s.name == "docker" || s.name == "crane" {
		o.says(t, s.regward.host, "ask #platform-help")
		s.regward.recordsWhatWasShown(t, o)
	}
}

func (s *tour) afterWrongPassword(t *testing.T) {
	s.client.logout(t)
	s.client.pull(t, s.ref("library/hello:1")).works(t)
}

func (s *tour) loggedInWithoutRight(t *testing.T) {
	s.client.login(t, "dave", passwords["dave"]).works(t)
	s.refused(t, s.client.pull(t, s.ref("coolteam/app:1")), "dave is logged in but may not pull "+s.prefix+"coolteam/app")
	s.client.logout(t)
}

func (s *tour) logsIn(t *testing.T) {
	s.client.login(t, "ann", passwords["ann"]).works(t)
}

func (s *tour) pullsPrivate(t *testing.T) {
	s.client.pull(t, s.ref("coolteam/app:1")).works(t)
}

func (s *tour) pushes(t *testing.T) {
	s.client.push(t, s.ref("coolteam/new:1"), small(t)).works(t)
	if s.upstream.digestOf(t, "coolteam/new:1") == "" {
		t.Error("the upstream does not have it")
	}
}

func (s *tour) mounts(t *testing.T) {
	before := len(s.upstream.mounts())
	s.client.copy(t, s.ref("coolteam/app:1"), s.ref("coolteam/other:1")).works(t)
	if s.upstream.digestOf(t, "coolteam/other:1") == "" {
		t.Error("the upstream does not have it")
	}
	mounted := s.upstream.mounts()[before:]
	for _, m := range mounted {
		if !strings.Contains(m, "from=coolteam%2Fapp") && !strings.Contains(m, "from=coolteam/app") {
			t.Errorf("the upstream was asked for %s", m)
		}
	}
	if len(mounted) == 0 {
		t.Errorf("the upstream was never asked for a mount:\n%s", strings.Join(s.upstream.requests(), "\n"))
	}
}

func (s *tour) isAudited(t *testing.T) {
	eventually(t, "who pulled and pushed what can be read", 5*time.Second, func() error {
		log := s.regward.auditLog(t)
		for _, want := range [][]string{
			{`"ann"`, `"` + s.prefix + "coolteam/app", descriptor(t, s.app).Digest.String(), "pull"},
			{`"ann"`, `"` + s.prefix + "coolteam/new", `"1"`, s.upstream.digestOf(t, "coolteam/new:1"), "push"},
		} {
			if !anyLineHas(log, want...) {
				return fmt.Errorf("no line has %q in:\n%s", want, log)
			}
		}
		return nil
	})
}

func anyLineHas(text string, words ...string) bool {
	for line := range strings.Lines(text) {
		missing := func(word string) bool { return !strings.Contains(line, word) }
		if !slices.ContainsFunc(words, missing) {
			return true
		}
	}
	return false
}

func (s *tour) listsTags(t *testing.T) {
	c, ok := s.client.(lister)
	if !ok {
		return // docker and ctr cannot
	}
	c.tags(t, s.ref("coolteam/app")).works(t).says(t, "1")
	c.tags(t, s.ref("vault/secret")).works(t) // ann's own
}

func (s *tour) listsReferrers(t *testing.T) {
	c, ok := s.client.(pointer)
	if !ok {
		return // only regctl can
	}
	note := artifact(t, descriptor(t, s.app))
	subject := descriptor(t, s.app).Digest
	s.upstream.has(t, "coolteam/app@"+descriptor(t, note).Digest.String(), note)
	c.referrers(t, s.ref("coolteam/app@"+subject.String())).works(t).
		says(t, descriptor(t, note).Digest.String())
}

func (s *tour) deletes(t *testing.T) {
	c, ok := s.client.(deleter)
	if !ok {
		return // docker, ctr and podman cannot
	}
	doomed := small(t)
	s.upstream.has(t, "coolteam/doomed:1", doomed)
	c.delete(t, s.ref("coolteam/doomed:1")).works(t)
	if s.upstream.digestOf(t, "coolteam/doomed:1") != "" {
		t.Error("the upstream still has it")
	}
	s.upstream.has(t, "vault/kept:1", doomed)
	c.delete(t, s.ref("vault/kept:1")).fails(t) // ann may push there, not delete
	if s.upstream.digestOf(t, "vault/kept:1") == "" {
		t.Error("the upstream has lost it")
	}
}

// The client still knows from ann where the layers are, and asks for a mount
// from there as bob, who may not look into vault/ (P14).
func (s *tour) uploadsWhatItMayNotMount(t *testing.T) {
	c, ok := s.client.(rememberer)
	if !ok {
		return // crane and regctl remember nothing
	}
	s.client.login(t, "ann", passwords["ann"]).works(t)
	s.client.pull(t, s.ref("vault/secret:1")).works(t)
	s.client.login(t, "bob", passwords["bob"]).works(t)
	before := len(s.upstream.mounts())
	c.pushPulled(t, s.ref("vault/secret:1"), s.ref("coolteam/mine:1")).works(t)
	for _, m := range s.upstream.mounts()[before:] {
		if strings.Contains(m, "vault") {
			t.Errorf("the upstream was asked for %s", m)
		}
	}
	if s.upstream.digestOf(t, "coolteam/mine:1") == "" {
		t.Error("the upstream does not have it")
	}
}

func (s *tour) readerMayNotPush(t *testing.T) {
	s.client.login(t, "reader", passwords["reader"]).works(t)
	s.client.pull(t, s.ref("coolteam/app:1")).works(t)
	s.refused(t, s.client.push(t, s.ref("coolteam/app:2"), small(t)), "reader may not push to "+s.prefix+"coolteam/app")
	if s.upstream.digestOf(t, "coolteam/app:2") != "" {
		t.Error("the upstream has it")
	}
}

func (s *tour) logsOut(t *testing.T) {
	s.client.logout(t).works(t)
	s.client.pull(t, s.ref("coolteam/app:1")).fails(t)
	s.client.pull(t, s.ref("library/hello:1")).works(t)
}

// As on Docker Hub a stale login keeps even public images away (T08), so the
// words have to say what to do.
func (s *tour) staleLogin(t *testing.T) {
	s.client.login(t, "ann", passwords["ann"]).works(t)
	changed := map[string]string{"ann": "another", "bob": passwords["bob"]}
	writeHtpasswd(t, s.regward.passwd, changed)
	old := s.regward
	eventually(t, "the new password file is in force", reloadTime, func() error {
		return old.rejects("ann", passwords["ann"])
	})
	o := s.client.pull(t, s.ref("library/hello:1")).fails(t)
	if !s.speaks {
		o.says(t, s.wrongLogin)
		return
	}
	o.says(t, "the login saved for "+s.regward.host+" (user ann) is no longer valid", "docker logout "+s.regward.host)
	s.regward.recordsWhatWasShown(t, o)
}
