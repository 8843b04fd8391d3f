package auth_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

func mustTag(text string) auth.TagPattern {
	p, err := auth.ParseTagPattern(text)
	if err != nil {
		panic(err)
	}
	return p
}

func randomTag(r *rand.Rand) string {
	return []string{"", "", "v1", "v2", "dev", "latest"}[r.IntN(6)]
}

func tagged(a auth.Action, repo, tag string) []auth.Access {
	return []auth.Access{{Repository: repo, Tag: tag, Action: a}}
}

func TestTagRules(t *testing.T) {
	p := mustPolicy(
		"allow group:dev team/**    pull,push",
		"deny  group:dev team/**    push,delete tags=latest,release-*",
		"allow group:ci  team/**    pull,push,delete tags=v*,dev",
		"deny  user:eve  team/**    pull tags=v1",
		"allow user:eve  team/**    pull tags=v*",
		"allow group:ops team/**    delete",
		"deny  everyone  team/key   pull,delete tags=*",
		"allow group:ci  team/key   pull",
	)
	dev, ci, eve, ops := caller("dan", "dev"), caller("carl", "ci"), caller("eve"), caller("olga", "ops", "dev")
	for _, tt := range []struct {
		who  *auth.Caller
		act  auth.Action
		repo string
		tag  string // "" is a digest, a blob, an upload
		want auth.Verdict
	}{
		{dev, auth.Push, "team/app", "v1", auth.Allowed},
		{dev, auth.Push, "team/app", "latest", auth.Denied},
		{dev, auth.Push, "team/app", "release-1", auth.Denied},
		{dev, auth.Pull, "team/app", "latest", auth.Allowed},
		{dev, auth.Push, "team/app", "", auth.Allowed}, // a deny is about its tags
		{ci, auth.Push, "team/app", "v1", auth.Allowed},
		{ci, auth.Push, "team/app", "dev", auth.Allowed},
		{ci, auth.Push, "team/app", "latest", auth.Denied},
		{ci, auth.Pull, "team/app", "latest", auth.Denied},
		{ci, auth.Pull, "team/app", "", auth.Allowed}, // an allow covers what names no tag
		{ci, auth.Push, "team/app", "", auth.Allowed},
		{ci, auth.Delete, "team/app", "v1", auth.Allowed},
		{ci, auth.Delete, "team/app", "latest", auth.Denied},
		{ci, auth.Delete, "team/app", "", auth.Allowed},
		{ci, auth.Push, "team/app", "V1", auth.Denied}, // tags are not folded
		{eve, auth.Pull, "team/app", "v1", auth.Denied},
		{eve, auth.Pull, "team/app", "v2", auth.Allowed},
		{eve, auth.Pull, "team/app", "", auth.Allowed}, // v1, by its digest: tags keep no secret
		{ops, auth.Delete, "team/app", "v1", auth.Allowed},
		{ops, auth.Delete, "team/app", "latest", auth.Denied},
		{ops, auth.Delete, "team/app", "", auth.Denied}, // it may be latest's
		{caller("otto", "ops"), auth.Delete, "team/app", "", auth.Allowed},
		{ci, auth.Pull, "team/key", "v1", auth.Denied},
		{ci, auth.Pull, "team/key", "", auth.Allowed},
		{ci, auth.Delete, "team/key", "", auth.Denied},
	} {
		want := tagged(tt.act, tt.repo, tt.tag)
		if got := p.Decide(tt.who, want); got.Verdict != tt.want {
			t.Errorf("%s %v %s:%s: got %v (%v)", tt.who, tt.act, tt.repo, tt.tag, got.Verdict, got)
		}
		if got, _ := p.Explain(tt.who, want); got.Verdict != tt.want {
			t.Errorf("Explain: %s %v %s:%s: got %v (%v)", tt.who, tt.act, tt.repo, tt.tag, got.Verdict, got)
		}
	}
	// Of several tags of one push each is judged.
	both := append(tagged(auth.Push, "team/app", "v1"), tagged(auth.Push, "team/app", "latest")...)
	if d := p.Decide(ci, both); d.Allowed() || d.Access.Tag != "latest" {
		t.Errorf("got %v by %v", d.Verdict, d.Access)
	}
}

func TestTagRulesSay(t *testing.T) {
	p := mustPolicy(
		"allow group:ci  team/** pull,push tags=v*,dev",
		"deny  user:eve  team/** push tags=v1",
		"allow user:eve  team/** push",
		"allow user:bob  shop/** push tags=v* immutable",
		"deny  user:bob  shop/** pull tags=old dry",
		"allow user:bob  shop/** pull,delete",
	)
	ci, eve, bob := caller("carl", "ci"), caller("eve"), caller("bob")
	for _, tt := range []struct {
		who       *auth.Caller
		act       auth.Action
		repo, tag string
		want      string
		would     string
	}{
		{ci, auth.Push, "team/app", "v1", "rules[0] at regward.yaml:9 allows group ci to push team/** (tags v*, dev)", ""},
		{ci, auth.Push, "team/app", "latest", "no rule allows carl (ci) to push team/app:latest; nearest: rules[0] at regward.yaml:9, only for tags v*, dev", ""},
		{eve, auth.Push, "team/app", "v1", "rules[1] at regward.yaml:10 denies push of team/** (tags v1) to user eve", ""},
		{bob, auth.Delete, "shop/app", "v1", "rules[3] at regward.yaml:12 makes the tag v1 of shop/app immutable for user bob", ""},
		{bob, auth.Delete, "shop/app", "dev", "rules[5] at regward.yaml:14 allows user bob to delete shop/**", ""},
		{bob, auth.Delete, "shop/app", "", "rules[3] at regward.yaml:12 makes tags of shop/** (tags v*) immutable for user bob, and what is deleted by its digest may be one of theirs", ""},
		{bob, auth.Pull, "shop/app", "old", "rules[5] at regward.yaml:14 allows user bob to pull shop/**", "rules[4] at regward.yaml:13, a dry run, would deny pull of shop/** (tags old) to user bob"},
	} {
		d := p.Decide(tt.who, tagged(tt.act, tt.repo, tt.tag))
		if d.String() != tt.want || d.WouldDeny != tt.would {
			t.Errorf("%s %v %s:%s:\n got %s, would: %q\nwant %s, would: %q", tt.who, tt.act, tt.repo, tt.tag, d, d.WouldDeny, tt.want, tt.would)
		}
	}
	_, steps := p.Explain(ci, tagged(auth.Push, "team/app", "latest"))
	if got, want := steps[0], (auth.Step{Rule: "rules[0] at regward.yaml:9", Text: "allow pull, push on team/** (tags v*, dev) to group ci", Why: "tag latest is not in v*, dev"}); got != want {
		t.Errorf("got %+v", got)
	}
	_, steps = p.Explain(eve, tagged(auth.Push, "team/app", ""))
	if got := steps[1].Why; got != "it is about tags v1, and this names none" {
		t.Errorf("got %s", got)
	}
	_, steps = p.Explain(bob, tagged(auth.Delete, "shop/app", "v1"))
	got := []string{steps[3].Text, steps[3].Why, steps[5].Why}
	want := []string{"allow push on shop/** (tags v*) to user bob, immutable", "shop/app is in shop/** and tag v1 in v*, for user bob: its tags are immutable, and cannot be deleted",
		"shop/app is in shop/**, for user bob, but rules[3] at regward.yaml:12 makes its tags immutable"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestImmutable(t *testing.T) {
	p := mustPolicy(
		"allow everyone  team/**      pull,push,delete",
		"allow group:dev team/**      push tags=v* immutable",
		"allow user:ann  team/**      push tags=rc* immutable 10.0.0.0/8",
		"allow user:bob  team/**      push immutable dry",
		"allow user:zoe  {user}/**    * immutable",
	)
	dev, ann, bob, zoe := caller("dan", "dev"), from(caller("ann"), "10.0.0.1"), caller("bob"), caller("zoe")
	const b = "rules[3] at regward.yaml:12, a dry run, makes the tag v1 of team/app immutable for user bob"
	for _, tt := range []struct {
		who       *auth.Caller
		repo, tag string
		rule      string // "" is: may be moved
		would     string
	}{
		{dev, "team/app", "v1", "rules[1] at regward.yaml:10", ""}, // whatever else allows it
		{dev, "team/app", "dev", "", ""},
		{dev, "team/app", "", "", ""}, // no tag is none
		{dev, "shop/app", "v1", "", ""},
		{caller("eve"), "team/app", "v1", "", ""}, // for whom it is written
		{ann, "team/app", "rc1", "rules[2] at regward.yaml:11", ""},
		{from(ann, "192.0.2.1"), "team/app", "rc1", "", ""},
		{bob, "team/app", "v1", "", b},
		{zoe, "zoe/app", "x", "rules[4] at regward.yaml:13", ""},
		{dev, "team/A", "v1", "", ""},
	} {
		d, is := p.Immutable(tt.who, &auth.Access{Repository: tt.repo, Tag: tt.tag, Action: auth.Push})
		if is != (tt.rule != "" || tt.would != "") || d.Rule != tt.rule || d.WouldDeny != tt.would || is && d.Allowed() != (tt.rule == "") || d.Immutable() != (tt.rule != "") {
			t.Errorf("%s %s:%s: got %v %v by %q, would: %q", tt.who, tt.repo, tt.tag, is, d.Verdict, d.Rule, d.WouldDeny)
		}
	}
	// What is immutable is not deleted.
	for _, tt := range []struct {
		who   *auth.Caller
		tag   string
		want  auth.Verdict
		would bool
	}{
		{dev, "v1", auth.Denied, false}, {dev, "", auth.Denied, false}, {dev, "dev", auth.Allowed, false}, {caller("eve"), "", auth.Allowed, false},
		{bob, "x", auth.Allowed, true}, {bob, "", auth.Allowed, true},
	} {
		if d := p.Decide(tt.who, tagged(auth.Delete, "team/app", tt.tag)); d.Verdict != tt.want || d.Immutable() == d.Allowed() || (d.WouldDeny != "") != tt.would {
			t.Errorf("%s deletes team/app:%s: got %v (%v), would: %s", tt.who, tt.tag, d.Verdict, d, d.WouldDeny)
		}
	}
	if d := mustPolicy("allow everyone a/** pull,push immutable").Decide(dev, tagged(auth.Delete, "a/b", "v1")); d.Allowed() || d.Immutable() {
		t.Errorf("what nothing allows is denied for that: %v", d)
	}
	if _, is := mustPolicy("allow everyone ** *").Immutable(dev, &auth.Access{Repository: "a", Tag: "v1", Action: auth.Push}); is {
		t.Error("a tag is immutable without a rule that says so")
	}
}

// A token names no tags: it is given where some tag may be had.
func TestGrants(t *testing.T) {
	p := mustPolicy(
		"allow group:ci team/**    pull,push,delete tags=v*",
		"deny  group:ci team/**    push,delete tags=v1",
		"allow group:ci all/**     delete",
		"deny  group:ci all/**     delete tags=x,*",
		"allow group:ci kept/**    push,delete immutable",
		"allow group:ci keptv/**   push tags=v* immutable",
		"allow group:ci keptv/**   delete dry",
		"deny  group:ci team/vault *",
	)
	ci := caller("carl", "ci")
	for _, tt := range []struct {
		act  auth.Action
		repo string
		want bool
	}{
		{auth.Pull, "team/app", true}, {auth.Push, "team/app", true}, {auth.Delete, "team/app", true},
		{auth.Delete, "all/app", false}, {auth.Delete, "kept/app", false}, {auth.Delete, "keptv/app", true},
		{auth.Pull, "team/vault", false}, {auth.Delete, "team/vault", false}, {auth.Pull, "other/x", false}, {auth.Delete, "other/x", false},
		{auth.List, "", true}, {auth.Delete, "../x", false},
	} {
		if got := p.Grants(ci, auth.Access{Repository: tt.repo, Action: tt.act}); got != tt.want {
			t.Errorf("%v %s: got %v", tt.act, tt.repo, got)
		}
	}
	ci.Capped, ci.Scope = true, one(auth.Pull, "team/app")
	if !p.Grants(ci, auth.Access{Repository: "team/app", Action: auth.Pull}) || p.Grants(ci, auth.Access{Repository: "team/app", Action: auth.Push}) {
		t.Error("the ceiling does not count")
	}
}

// What may be done to some tag is always granted: else nobody could do it.
func TestGrantsWhateverMayBeDone(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	only := 0
	for range 3000 {
		p, err := auth.NewPolicy(randomRules(r))
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			c, want := randomCaller(r), auth.Access{Repository: randomName(r), Tag: randomTag(r), Action: auth.Action(1 + r.IntN(3))}
			allowed, granted := p.Decide(c, []auth.Access{want}).Allowed(), p.Grants(c, want)
			if allowed && !granted {
				t.Fatalf("%s may %v, and gets no token for it", c, want)
			}
			if granted && !allowed && want.Tag != "" {
				only++
			}
		}
	}
	if only < 100 {
		t.Errorf("only %d are kept by tags alone: nothing was tried", only)
	}
}

// slowly decides as config.md words it, rule by rule.
func slowly(rules []auth.Rule, c *auth.Caller, want auth.Access) (allowed bool) {
	means := func(r *auth.Rule) bool {
		return slices.ContainsFunc(r.Subjects, func(s auth.Subject) bool { return s.Matches(c) }) &&
			slices.ContainsFunc(r.Repositories, func(p auth.Pattern) bool { return p.Means(&want, &c.Identity) }) &&
			(len(r.From) == 0 || r.From[0].Contains(c.Addr))
	}
	hasTag := func(r *auth.Rule) bool {
		return slices.ContainsFunc(r.Tags, func(p auth.TagPattern) bool { return p.Matches(want.Tag) })
	}
	kept := false
	for i := range rules {
		r := &rules[i]
		any, named := len(r.Tags) == 0, want.Tag != ""
		switch {
		case !means(r):
		case r.Deny.Has(want.Action) && !r.DryRun && (any || named && hasTag(r) || !named && want.Action == auth.Delete):
			return false
		case r.Immutable && !r.DryRun && want.Action == auth.Delete && (any || !named || hasTag(r)):
			kept = true
			allowed = allowed || r.Allow.Has(want.Action)
		case r.Allow.Has(want.Action) && (any || !named || hasTag(r)):
			allowed = true
		}
	}
	return allowed && !kept
}

func TestTagRulesAgreeWithTheirWording(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 32))
	seen := map[bool]int{}
	for range 5000 {
		rules := randomRules(r)
		p, err := auth.NewPolicy(rules)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			c, want := randomCaller(r), auth.Access{Repository: randomName(r), Tag: randomTag(r), Action: auth.Action(1 + r.IntN(3))}
			allowed := slowly(rules, c, want)
			if d := p.Decide(c, []auth.Access{want}); d.Allowed() != allowed {
				t.Fatalf("%s, %v: got %v (%v), want allowed %v; rules %v", c, want, d.Verdict, d, allowed, rules)
			}
			seen[allowed]++
		}
	}
	if seen[true] < 2000 || seen[false] < 2000 {
		t.Errorf("too little was tried: %v", seen)
	}
}

func TestPatternsWithTags(t *testing.T) {
	p := mustPolicy(
		"allow everyone team/** push tags=v*",
		"allow everyone team/** push tags=v*,dev",
		"allow everyone shop/** push tags=v*",
		"allow everyone shop/** push",
		"deny  everyone shop/** push tags=latest",
		"allow everyone vault/** push tags=x",
		"deny  everyone vault/** push",
	)
	if d := cmp.Diff([]string{"team/** (tags v*)", "team/** (tags v*, dev)", "shop/**"}, p.Patterns(caller("ann"), auth.Push)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestTagRulesDoNotAllocate(t *testing.T) {
	p := mustPolicy("allow authenticated team/** pull,push,delete tags=v*", "deny everyone team/** push tags=latest", "allow user:bob team/** push tags=v* immutable", "allow user:bob ** push immutable dry")
	c := caller("alice")
	for _, act := range []auth.Action{auth.Pull, auth.Push, auth.Delete} {
		wants := tagged(act, "team/app", "v1")
		if n := testing.AllocsPerRun(100, func() {
			if !p.Decide(c, wants).Allowed() {
				t.Fatal("denied")
			}
			p.Immutable(c, &wants[0])
		}); n != 0 {
			t.Errorf("%v: an allowed decision allocates %v times", act, n)
		}
	}
}

func TestTagPatternsContain(t *testing.T) {
	for _, tt := range []struct {
		outer, inner string
		want         bool
	}{
		{"*", "v*", true}, {"v*", "v1", true}, {"v*", "v1*", true}, {"v1*", "v*", false}, {"*-rc*", "v*-rc1", true}, {"v*1", "v*", false}, {"v1", "v1", true}, {"a*b", "a*c*b", true}, {"a", "*", false},
	} {
		if got := mustTag(tt.outer).Contains(mustTag(tt.inner)); got != tt.want {
			t.Errorf("%s contains %s: got %v", tt.outer, tt.inner, got)
		}
	}
	if mustTag("*").Contains(auth.TagPattern{}) || auth.TagsCover([]auth.TagPattern{mustTag("v*")}, nil) || !auth.TagsCover(nil, nil) {
		t.Error("none is any")
	}
}

// FuzzTagPatternsContain: no text panics, and what contains a pattern matches what it does.
func FuzzTagPatternsContain(f *testing.F) {
	f.Add("v*", "v1*", "v1.0")
	f.Add("*-rc*", "*", "latest")
	f.Fuzz(func(t *testing.T, outer, inner, tag string) {
		p, err := auth.ParseTagPattern(outer)
		if err != nil {
			return
		}
		if auth.ValidTag(outer) && !p.Matches(outer) {
			t.Fatalf("%q does not match itself", outer)
		}
		if q, err := auth.ParseTagPattern(inner); err == nil && p.Contains(q) && q.Matches(tag) && !p.Matches(tag) {
			t.Fatalf("%q contains %q, which matches %q", outer, inner, tag)
		}
	})
}
