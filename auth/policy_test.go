package auth_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

// rulesOf reads "allow|deny SUBJECT[,SUBJECT] PATTERN[,PATTERN] ACTION[,ACTION]
// [NET] [tags=PATTERN,PATTERN] [immutable] [dry]".
func rulesOf(lines ...string) []auth.Rule {
	var rules []auth.Rule
	for i, line := range lines {
		f := strings.Fields(line)
		r := auth.Rule{Where: fmt.Sprintf("rules[%d] at regward.yaml:%d", i, 9+i)}
		for _, s := range strings.Split(f[1], ",") {
			subject, err := auth.ParseSubject(s)
			if err != nil {
				panic(err)
			}
			r.Subjects = append(r.Subjects, subject)
		}
		for _, p := range strings.Split(f[2], ",") {
			r.Repositories = append(r.Repositories, mustPattern(p))
		}
		var actions auth.Actions
		for _, w := range strings.Split(f[3], ",") {
			a, err := auth.ParseActions(w)
			if err != nil {
				panic(err)
			}
			actions |= a
		}
		if f[0] == "deny" {
			r.Deny = actions
		} else {
			r.Allow = actions
		}
		for _, n := range f[4:] {
			if n == "dry" || n == "immutable" {
				r.DryRun, r.Immutable = r.DryRun || n == "dry", r.Immutable || n == "immutable"
				continue
			}
			if list, ok := strings.CutPrefix(n, "tags="); ok {
				for _, tag := range strings.Split(list, ",") {
					r.Tags = append(r.Tags, mustTag(tag))
				}
				continue
			}
			r.From = append(r.From, netip.MustParsePrefix(n))
		}
		rules = append(rules, r)
	}
	return rules
}

func mustPolicy(lines ...string) *auth.Policy {
	p, err := auth.NewPolicy(rulesOf(lines...))
	if err != nil {
		panic(err)
	}
	return p
}

func caller(name string, groups ...string) *auth.Caller {
	return &auth.Caller{
		Identity: auth.Identity{Name: name, Groups: groups, Via: "htpasswd"},
		Addr:     netip.MustParseAddr("192.0.2.7"),
	}
}

func from(c *auth.Caller, addr string) *auth.Caller {
	d := *c
	d.Addr = netip.MustParseAddr(addr)
	return &d
}

func one(a auth.Action, repo string) []auth.Access {
	return []auth.Access{{Repository: repo, Action: a}}
}

type row struct {
	who  *auth.Caller
	act  auth.Action
	repo string
	want auth.Verdict
}

func allow(who *auth.Caller, a auth.Action, repo string) row { return row{who, a, repo, auth.Allowed} }
func deny(who *auth.Caller, a auth.Action, repo string) row  { return row{who, a, repo, auth.Denied} }

func TestDecide(t *testing.T) {
	anyone, alice := &auth.Caller{}, caller("alice", "dev")
	bob, robot := caller("bob"), caller("robot-ci", "dev")
	robot.Via = "robot"
	fake := caller("robot-ci") // somebody who is merely called so
	p := mustPolicy(
		"allow everyone            library/**    pull",
		"deny  group:dev           team/vault/** *", // before the allow or after it: no matter
		"allow group:dev           team/**       pull,push",
		"allow authenticated       {user}/**     *",
		"allow group:dev           {group}/tools pull",
		"allow user:bob            net/**        pull 10.0.0.0/8 2001:db8::/32",
		"deny  everyone            library/old   pull,push,delete",
		"allow token:ci            ci/**         push",
		"allow anonymous           guest/**      pull",
		"allow authenticated,token:ci people/**  pull",
	)
	for _, tt := range []row{
		allow(anyone, auth.Pull, "library/alpine"),
		deny(anyone, auth.Pull, "library"), // the namespace itself is not inside it
		deny(anyone, auth.Push, "library/alpine"),
		allow(alice, auth.Pull, "library/alpine"), // everyone is not anonymous only
		deny(alice, auth.Pull, "library/old"),
		deny(anyone, auth.Pull, "library/old"),
		allow(alice, auth.Push, "team/app"),
		deny(alice, auth.Pull, "team/vault/key"),
		deny(alice, auth.Pull, "teams/app"), // a prefix of letters is not a prefix of segments
		deny(bob, auth.Pull, "team/app"),
		allow(bob, auth.Delete, "bob/x"),
		deny(bob, auth.Pull, "alice/x"),
		deny(bob, auth.Pull, "bob"),
		allow(alice, auth.Pull, "dev/tools"),
		deny(bob, auth.Pull, "dev/tools"),
		deny(bob, auth.Pull, "net/x"),
		allow(from(bob, "10.1.2.3"), auth.Pull, "net/x"),
		allow(from(bob, "::ffff:10.1.2.3"), auth.Pull, "net/x"), // the same address
		allow(from(bob, "2001:db8::1%eth0"), auth.Pull, "net/x"),
		deny(from(alice, "10.1.2.3"), auth.Pull, "net/x"),
		deny(&auth.Caller{Identity: bob.Identity}, auth.Pull, "net/x"), // no address is in no network
		allow(robot, auth.Push, "ci/x"),
		deny(fake, auth.Push, "ci/x"),
		deny(robot, auth.Pull, "team/app"), // robots are in no group
		allow(robot, auth.Pull, "people/x"),
		allow(robot, auth.Pull, "library/alpine"),
		deny(robot, auth.Pull, "robot-ci/x"), // nor authenticated
		allow(anyone, auth.Pull, "guest/x"),
		deny(bob, auth.Pull, "guest/x"),
		deny(anyone, auth.Pull, "people/x"),
		allow(bob, auth.Pull, "people/x"),
		allow(anyone, auth.List, ""), // P18
		// What is no repository name, whatever the patterns.
		deny(anyone, auth.Pull, ""),
		deny(anyone, auth.Pull, "library/"),
		deny(anyone, auth.Pull, "library/../team/app"),
		deny(anyone, auth.Pull, "library/A"),
		deny(anyone, auth.Pull, "/library/a"),
		deny(anyone, 0, "library/a"),
		deny(anyone, 9, "library/a"),
	} {
		if got := p.Decide(tt.who, one(tt.act, tt.repo)); got.Verdict != tt.want {
			t.Errorf("%q %v %q: got %v (%v), want %v", tt.who.Name, tt.act, tt.repo, got.Verdict, got, tt.want)
		}
	}
}

func TestDecideSeveralWants(t *testing.T) {
	p := mustPolicy("allow everyone a/** pull,push", "allow everyone b/** pull")
	c := caller("ann")
	pull := func(r string) auth.Access { return auth.Access{Repository: r, Action: auth.Pull} }
	push := func(r string) auth.Access { return auth.Access{Repository: r, Action: auth.Push} }
	for _, tt := range []struct {
		wants   []auth.Access
		verdict auth.Verdict
		settled auth.Access
	}{
		{nil, auth.Allowed, auth.Access{}},
		{[]auth.Access{pull("a/x"), push("a/x")}, auth.Allowed, push("a/x")},
		{[]auth.Access{pull("b/x"), push("b/x"), pull("c/x")}, auth.Denied, push("b/x")},
	} {
		got := p.Decide(c, tt.wants)
		if got.Verdict != tt.verdict || got.Access != tt.settled {
			t.Errorf("%v: got %v %v", tt.wants, got.Verdict, got.Access)
		}
	}
	capped := caller("ann")
	capped.Capped, capped.Scope = true, []auth.Access{pull("a/x"), push("b/x")}
	for _, tt := range []struct {
		want    auth.Access
		verdict auth.Verdict
		says    string
	}{
		{pull("a/x"), auth.Allowed, "rules[0] at regward.yaml:9 allows everyone to pull a/**"},
		{push("a/x"), auth.Capped, "the token presented does not cover push of a/x"},
		{push("b/x"), auth.Denied, "no rule allows ann to push b/x; nearest: rules[1] at regward.yaml:10, which allows only pull"}, // a token gives nothing
		{auth.Access{Action: auth.List}, auth.Capped, "the token presented does not cover the catalog"},
	} {
		got := p.Decide(capped, []auth.Access{tt.want})
		if got.Verdict != tt.verdict || got.String() != tt.says {
			t.Errorf("%v: got %v: %s", tt.want, got.Verdict, got)
		}
	}
	if d := p.Decide(capped, nil); !d.Allowed() {
		t.Errorf("a token of nothing for nothing (T31): %v", d)
	}
}

func TestDecisionSays(t *testing.T) {
	p := mustPolicy(
		"allow everyone    library/**  pull",
		"allow group:dev   team/**     pull,push",
		"deny  group:dev   team/key    *",
		"allow user:bob    own/**      pull 10.0.0.0/8",
		"allow group:ops   ops/**      pull",
		"allow group:ops   net/**      pull 10.0.0.0/8",
	)
	alice := caller("alice", "dev")
	for _, tt := range []struct {
		who  *auth.Caller
		act  auth.Action
		repo string
		want string
	}{
		{&auth.Caller{}, auth.Pull, "library/alpine", "rules[0] at regward.yaml:9 allows everyone to pull library/**"},
		{alice, auth.Push, "team/app", "rules[1] at regward.yaml:10 allows group dev to push team/**"},
		{alice, auth.Push, "team/key", "rules[2] at regward.yaml:11 denies push of team/key to group dev"},
		{alice, auth.Pull, "ops/secrets", "no rule allows alice (dev) to pull ops/secrets; nearest: rules[4] at regward.yaml:13, for group ops"},
		{alice, auth.Pull, "net/x", "no rule allows alice (dev) to pull net/x; nearest: rules[5] at regward.yaml:14, for group ops from 10.0.0.0/8"},
		{caller("bob"), auth.Pull, "own/x", "no rule allows bob to pull own/x; nearest: rules[3] at regward.yaml:12, only from 10.0.0.0/8"},
		{alice, auth.Delete, "team/app", "no rule allows alice (dev) to delete team/app; nearest: rules[1] at regward.yaml:10, which allows only pull, push"},
		{alice, auth.Push, "elsewhere/x", "no rule allows alice (dev) to push elsewhere/x; nearest: rules[1] at regward.yaml:10, for team/**"},
		{&auth.Caller{}, auth.Pull, "team/app", "no rule allows anonymous to pull team/app; nearest: rules[1] at regward.yaml:10, for group dev"},
		{&auth.Caller{}, auth.Push, "elsewhere/x", "no rule allows anonymous to push elsewhere/x"},
		{alice, auth.Pull, "Team/x", `"Team/x" is no repository name`},
		{alice, auth.List, "", "everybody may ask for the catalog; it shows what the caller may pull"},
	} {
		if got := p.Decide(tt.who, one(tt.act, tt.repo)).String(); got != tt.want {
			t.Errorf("%s %v %s:\n got %s\nwant %s", tt.who, tt.act, tt.repo, got, tt.want)
		}
	}
	if got := (auth.Decision{}).String(); got != "nothing was decided" {
		t.Errorf("the zero decision says %q", got)
	}
	if got := p.Decide(alice, nil).String(); got != "no rule is needed" {
		t.Errorf("nothing wanted: %q", got)
	}
}

func TestCallerString(t *testing.T) {
	many := make([]string, auth.MaxGroupsShown+3)
	for i := range many {
		many[i] = "g"
	}
	for _, tt := range []struct {
		c    *auth.Caller
		want string
	}{
		{&auth.Caller{}, "anonymous"}, {caller("ann"), "ann"}, {caller("ann", "coolteam", "dev"), "ann (coolteam, dev)"},
		{caller("a\nb"), `"a\nb"`}, {caller("ann", many...), "ann (g, g, g, g, g, g, g, g and 3 more)"},
	} {
		if got := tt.c.String(); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func TestExplain(t *testing.T) {
	p := mustPolicy(
		"allow everyone    library/**  pull",
		"allow group:dev   team/**     pull,push",
		"deny  user:alice  team/key    *",
		"allow everyone    team/**     pull 10.0.0.0/8",
		"allow group:ops   team/**     pull",
		"allow everyone    team/**     delete",
	)
	d, steps := p.Explain(caller("alice", "dev"), one(auth.Pull, "team/key"))
	if d.Allowed() || d.Rule != "rules[2] at regward.yaml:11" {
		t.Errorf("got %v by %s", d.Verdict, d.Rule)
	}
	want := []auth.Step{
		{"rules[0] at regward.yaml:9", "allow pull on library/** to everyone", false, "team/key is not in library/**"},
		{"rules[1] at regward.yaml:10", "allow pull, push on team/** to group dev", true, "team/key is in team/**, for group dev, but rules[2] at regward.yaml:11 denies it"},
		{"rules[2] at regward.yaml:11", "deny pull, push, delete on team/key to user alice", true, "team/key is in team/key, for user alice"},
		{"rules[3] at regward.yaml:12", "allow pull on team/** to everyone from 10.0.0.0/8", false, "192.0.2.7 is not in 10.0.0.0/8"},
		{"rules[4] at regward.yaml:13", "allow pull on team/** to group ops", false, "alice is not in group ops"},
		{"rules[5] at regward.yaml:14", "allow delete on team/** to everyone", false, "it is about delete, not pull"},
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// randomRules mixes everything a rule can hold.
func randomRules(r *rand.Rand) []auth.Rule {
	subjects := []string{"everyone", "anonymous", "authenticated", "user:a", "user:b", "group:a", "group:b", "token:a"}
	n := 1 + r.IntN(12)
	if r.IntN(10) == 0 {
		n *= 8 // so that many begin alike
	}
	rules := make([]auth.Rule, n)
	for i := range rules {
		rules[i].Where = fmt.Sprintf("rules[%d]", i)
		for range 1 + r.IntN(2) {
			s, _ := auth.ParseSubject(subjects[r.IntN(len(subjects))])
			rules[i].Subjects = append(rules[i].Subjects, s)
		}
		for range 1 + r.IntN(3) {
			rules[i].Repositories = append(rules[i].Repositories, randomPattern(r, true))
		}
		actions := auth.Actions(1+r.IntN(7)) << 1
		if r.IntN(4) == 0 {
			rules[i].Deny = actions
		} else {
			rules[i].Allow = actions
		}
		if r.IntN(5) == 0 {
			rules[i].From = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		}
		for range max(0, r.IntN(4)-1) {
			rules[i].Tags = append(rules[i].Tags, mustTag([]string{"v*", "v1", "*", "*1", "dev"}[r.IntN(5)]))
		}
		rules[i].Immutable = rules[i].Allow.Has(auth.Push) && r.IntN(4) == 0
		rules[i].DryRun = r.IntN(4) == 0
	}
	return rules
}

func randomCaller(r *rand.Rand) *auth.Caller {
	c := &auth.Caller{Addr: netip.MustParseAddr([]string{"10.0.0.1", "192.0.2.1"}[r.IntN(2)])}
	c.Name = []string{"", "a", "b", "robot-a", "X"}[r.IntN(5)]
	c.Groups = [][]string{nil, {"a"}, {"b", "a"}, {"X"}}[r.IntN(4)]
	if c.Name == "robot-a" {
		c.Via = "robot"
	}
	return c
}

func randomWants(r *rand.Rand) []auth.Access {
	wants := make([]auth.Access, r.IntN(3))
	for i := range wants {
		wants[i] = auth.Access{Repository: randomName(r), Tag: randomTag(r), Action: auth.Action(r.IntN(6))}
	}
	return wants
}

func TestExplainAgreesWithDecide(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	seen := map[auth.Verdict]int{}
	would := 0
	for range 3000 {
		p, err := auth.NewPolicy(randomRules(r))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			c, wants := randomCaller(r), randomWants(r)
			if r.IntN(3) == 0 {
				c.Capped, c.Scope = true, randomWants(r)
				if r.IntN(2) == 0 {
					c.Scope = append(c.Scope, wants...)
				}
			}
			d := p.Decide(c, wants)
			e, steps := p.Explain(c, wants)
			if d.Verdict != e.Verdict || d.Access != e.Access || d.Rule != e.Rule || d.String() != e.String() || d.WouldDeny != e.WouldDeny || d.WouldDenyRule != e.WouldDenyRule {
				t.Fatalf("%v wants %v:\nDecide:  %v %s (%s)\nExplain: %v %s (%s)", c, wants, d.Verdict, d, d.WouldDeny, e.Verdict, e, e.WouldDeny)
			}
			if d.Nearest() != d.NearestOfAll() {
				t.Fatalf("%v wants %v: nearest is %q, of all rules %q", c, wants, d.Nearest(), d.NearestOfAll())
			}
			if d.WouldDeny != "" {
				would++
			}
			// The steps tell the same: a deny that applies, else an allow, else a dry
			// run of one. Of several wants they are about the one that would be denied.
			if d.Verdict != auth.Capped && len(steps) > 0 && (len(wants) == 1 || d.WouldDeny == "") {
				want := ""
				for _, kind := range []string{"dry allow", "allow", "immutable", "deny"} {
					for i := len(steps) - 1; i >= 0; i-- {
						is := steps[i].Text[:strings.IndexByte(steps[i].Text, ' ')]
						if strings.Contains(steps[i].Why, "its tags are immutable, ") {
							if steps[i].Applies && kind == "immutable" && !strings.HasSuffix(steps[i].Text, ", dry run") {
								want = steps[i].Rule
							}
							if kind == "immutable" && want != "" && d.Rule == "" {
								want = "" // nothing allows it anyhow
							}
							allows, _, _ := strings.Cut(steps[i].Text, " on ")
							if !strings.Contains(allows, "delete") {
								continue // it applies to keep a tag, and allows nothing here
							}
						}
						if strings.HasSuffix(steps[i].Text, ", dry run") {
							is = "dry " + is
						}
						if steps[i].Applies && is == kind {
							want = steps[i].Rule
						}
					}
				}
				if want != d.Rule {
					t.Fatalf("%v wants %v: the steps settle on %q, the decision on %q", c, wants, want, d.Rule)
				}
			}
			seen[d.Verdict]++
		}
	}
	for _, v := range []auth.Verdict{auth.Allowed, auth.Denied, auth.Capped} {
		if seen[v] < 500 {
			t.Errorf("only %d %v: nothing was tried", seen[v], v)
		}
	}
	if would < 200 {
		t.Errorf("only %d would be denied: nothing was tried", would)
	}
}

func TestPatterns(t *testing.T) {
	p := mustPolicy(
		"allow everyone       library/**            pull",
		"allow group:coolteam coolteam/**           pull,push",
		"allow authenticated  {user}/**             *",
		"allow authenticated  {group}/**            push",
		"deny  everyone       secret/**             push",
		"allow authenticated  secret/a/*,open/**    push",
		"allow user:ann       net/**                push 10.0.0.0/8",
		"allow group:other    other/**              push",
		"deny  authenticated  {user}/locked         push",
	)
	for _, tt := range []struct {
		who  *auth.Caller
		a    auth.Action
		want []string
	}{
		{&auth.Caller{}, auth.Push, nil},
		{&auth.Caller{}, auth.Pull, []string{"library/**"}},
		{caller("ann", "coolteam", "Odd", "dev"), auth.Push, []string{"coolteam/**", "ann/**", "dev/**", "open/**"}},
		{from(caller("ann"), "10.1.1.1"), auth.Push, []string{"ann/**", "open/**", "net/**"}},
		{caller("a@b"), auth.Push, []string{"open/**"}},
		{caller("ann"), auth.List, nil},
	} {
		if d := cmp.Diff(tt.want, p.Patterns(tt.who, tt.a)); d != "" {
			t.Errorf("%s %v: -want +got\n%s", tt.who, tt.a, d)
		}
	}
}

func TestNewPolicyRefuses(t *testing.T) {
	good := rulesOf("allow everyone a pull")[0]
	for name, change := range map[string]func(*auth.Rule){
		"both":            func(r *auth.Rule) { r.Deny = r.Allow },
		"neither":         func(r *auth.Rule) { r.Allow = 0 },
		"list":            func(r *auth.Rule) { r.Allow = r.Allow.With(auth.List) },
		"no subjects":     func(r *auth.Rule) { r.Subjects = nil },
		"zero subject":    func(r *auth.Rule) { r.Subjects = []auth.Subject{{}} },
		"no repositories": func(r *auth.Rule) { r.Repositories = nil },
		"zero pattern":    func(r *auth.Rule) { r.Repositories = []auth.Pattern{{}} },
		"zero network":    func(r *auth.Rule) { r.From = []netip.Prefix{{}} },
		"zero tag":        func(r *auth.Rule) { r.Tags = []auth.TagPattern{{}} },
		"immutable":       func(r *auth.Rule) { r.Immutable = true }, // and allows no push
	} {
		bad := good
		change(&bad)
		if _, err := auth.NewPolicy([]auth.Rule{good, bad}); err == nil || !strings.HasPrefix(err.Error(), "rules[0] at regward.yaml:9: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestShadows(t *testing.T) {
	for _, tt := range []struct {
		rules []string
		want  []auth.Shadow
	}{
		{[]string{"allow everyone library/** pull", "allow authenticated ** pull,push"}, nil},
		{[]string{"allow everyone ** pull", "allow user:bob x/** pull"}, []auth.Shadow{{Rule: 1, By: []int{0}}}},
		{[]string{"allow user:bob x/** pull", "allow everyone ** pull"}, nil}, // it is named first
		{[]string{"allow user:bob x/** pull", "deny everyone x/** *"}, []auth.Shadow{{Rule: 0, By: []int{1}, Deny: true}}},
		{[]string{"allow user:bob x/** pull,push", "deny everyone x/** pull"}, nil},
		{[]string{"allow user:bob x/** pull,push", "deny everyone x/** pull", "deny everyone ** push"}, []auth.Shadow{{Rule: 0, By: []int{1, 2}, Deny: true}}},
		{[]string{"allow user:bob x/** pull", "deny everyone x/** * 10.0.0.0/8"}, nil},
		{[]string{"allow user:bob x/** pull 10.1.0.0/16", "deny everyone x/** * 10.0.0.0/8"}, []auth.Shadow{{Rule: 0, By: []int{1}, Deny: true}}},
		{[]string{"allow anonymous x/** pull", "deny authenticated x/** *"}, nil},
		{[]string{"allow anonymous {user}/** pull"}, []auth.Shadow{{Rule: 0}}},
		{[]string{"allow anonymous,authenticated {user}/** pull"}, nil},
		{[]string{"deny everyone x/** *", "deny user:a x/y pull"}, []auth.Shadow{{Rule: 1, By: []int{0}}}},
		{[]string{"allow token:a x/** pull", "deny authenticated x/** *"}, nil},
		{[]string{"allow everyone x/** pull", "allow everyone x/** pull"}, []auth.Shadow{{Rule: 1, By: []int{0}}}},
		// A dry run keeps nothing from deciding but a later one, and has nothing to
		// tell where a rule in force says the same.
		{[]string{"allow user:bob x/** pull", "deny everyone x/** * dry"}, nil},
		{[]string{"allow everyone x/** pull dry", "allow everyone x/** pull"}, []auth.Shadow{{Rule: 0, By: []int{1}}}},
		{[]string{"deny everyone x/** * dry", "deny everyone x/** *"}, []auth.Shadow{{Rule: 0, By: []int{1}}}},
		{[]string{"deny everyone x/** * dry", "deny user:bob x/y pull dry"}, []auth.Shadow{{Rule: 1, By: []int{0}}}},
		// Tags: what names none is covered by an allow with tags, and not by a deny.
		{[]string{"allow everyone x/** pull", "allow user:bob x/** pull tags=v*"}, []auth.Shadow{{Rule: 1, By: []int{0}}}},
		{[]string{"allow everyone x/** pull tags=v*", "allow user:bob x/** pull"}, nil},
		{[]string{"allow everyone x/** pull tags=v*,dev", "allow user:bob x/** pull tags=v1*,dev"}, []auth.Shadow{{Rule: 1, By: []int{0}}}},
		{[]string{"allow everyone x/** pull tags=v1*", "allow user:bob x/** pull tags=v*"}, nil},
		{[]string{"allow user:bob x/** push tags=v*", "deny everyone x/** push tags=v*"}, nil},
		{[]string{"allow user:bob x/** delete tags=v1*", "deny everyone x/** delete tags=v*"}, []auth.Shadow{{Rule: 0, By: []int{1}, Deny: true}}},
		{[]string{"allow user:bob x/** push tags=v*", "deny everyone x/** push"}, []auth.Shadow{{Rule: 0, By: []int{1}, Deny: true}}},
		{[]string{"deny everyone x/** * tags=v*", "deny user:a x/y pull tags=v2"}, []auth.Shadow{{Rule: 1, By: []int{0}}}},
		// An immutable rule does more than to allow.
		{[]string{"allow everyone x/** pull,push", "allow everyone x/** push tags=v* immutable"}, nil},
		{[]string{"allow everyone x/** pull,push immutable", "allow user:bob x/** push tags=v* immutable"}, []auth.Shadow{{Rule: 1, By: []int{0}}}},
		{[]string{"allow user:bob x/** pull dry", "deny everyone x/** *"}, []auth.Shadow{{Rule: 0, By: []int{1}, Deny: true}}},
	} {
		if d := cmp.Diff(tt.want, mustPolicy(tt.rules...).Shadows()); d != "" {
			t.Errorf("%q: -want +got\n%s", tt.rules, d)
		}
	}
}

func TestShadowsAreNeverWrong(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	found := 0
	for range 3000 {
		rules := randomRules(r)
		p, _ := auth.NewPolicy(rules)
		for _, s := range p.Shadows() {
			found++
			for range 30 {
				c, want := randomCaller(r), one(auth.Action(1+r.IntN(3)), randomName(r))
				want[0].Tag = randomTag(r)
				if d, is := p.Immutable(c, &want[0]); is && (d.Rule == rules[s.Rule].Where || d.WouldDenyRule == rules[s.Rule].Where) {
					t.Fatalf("%s (%v) is said never to decide, but makes tags immutable for %v, %v; rules %v", d.Rule, s, c, want, rules)
				}
				if d := p.Decide(c, want); d.Rule == rules[s.Rule].Where || d.WouldDenyRule == rules[s.Rule].Where {
					t.Fatalf("%s (%v) is said never to decide, but does for %v, %v; rules %v", d.Rule, s, c, want, rules)
				}
			}
		}
	}
	if found < 100 {
		t.Fatalf("only %d shadows: nothing was tried", found)
	}
}

func TestSubjects(t *testing.T) {
	for _, text := range []string{"everyone", "anonymous", "authenticated", "user:ann", "group:dev", "token:ci", "user:a:b"} {
		s, err := auth.ParseSubject(text)
		if err != nil || s.String() != text {
			t.Errorf("%q: got %v, %v", text, s, err)
		}
		var again auth.Subject
		if err := again.UnmarshalText([]byte(text)); err != nil || again != s {
			t.Errorf("%q does not come back: %v", text, err)
		}
	}
	for text, fix := range map[string]string{
		"":               "write everyone, anonymous, authenticated, user:NAME, group:NAME or token:NAME",
		"bob":            "write user:bob or group:bob",
		"all":            "write everyone (with a login or without)",
		"Everyone":       "write everyone",
		"User:bob":       "write user:bob",
		"groups:dev":     "write group:dev",
		"@dev":           "write group:dev",
		"user:":          "write user:NAME",
		"user":           "write user:NAME",
		"everyone:x":     "write everyone",
		"token:robot-ci": "write token:ci",
		"user: bob":      "",
		"nobody":         "write user:nobody or group:nobody",
	} {
		_, err := auth.ParseSubject(text)
		syntax, ok := err.(*auth.SyntaxError)
		if !ok || syntax.Fix != fix {
			t.Errorf("%q: got %#v, want fix %q", text, err, fix)
		}
	}
	s, _ := auth.ParseSubject("user:Ann")
	if s.Kind() != "user" || s.Name() != "Ann" || s.Lower().Name() != "ann" {
		t.Errorf("got %s %s %s", s.Kind(), s.Name(), s.Lower())
	}
}

func FuzzParseSubject(f *testing.F) {
	for _, s := range []string{"everyone", "user:ann", "Group:x", "token:robot-a", "@x", "\x00", "users:a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := auth.ParseSubject(text)
		if err == nil && s.String() != text {
			t.Fatalf("%q became %q", text, s)
		}
	})
}

func TestDecideDoesNotAllocate(t *testing.T) {
	p, c, wants := benchPolicy(20)
	if n := testing.AllocsPerRun(100, func() { p.Decide(c, wants) }); n != 0 {
		t.Errorf("an allowed decision allocates %v times", n)
	}
}

func benchPolicy(n int) (*auth.Policy, *auth.Caller, []auth.Access) {
	lines := []string{"allow everyone library/** pull", "allow authenticated {user}/** *", "allow group:dev {group}/** pull,push", "deny group:dev vault/** *"}
	for i := len(lines); i < n; i++ {
		lines = append(lines, fmt.Sprintf("allow group:g%d team%d/** pull,push", i, i))
	}
	c := caller("alice", "dev", "ops", fmt.Sprintf("g%d", n-1))
	repo := fmt.Sprintf("team%d/some/application", n-1)
	return mustPolicy(lines...), c, []auth.Access{{Repository: repo, Action: auth.Pull}, {Repository: repo, Action: auth.Push}}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{20, 1000, 5000} {
		p, c, wants := benchPolicy(n)
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(c, wants[:1]).Allowed() {
					b.Fatal("denied")
				}
			}
		})
	}
}
