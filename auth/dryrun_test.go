package auth_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

func TestDryRuns(t *testing.T) {
	p := mustPolicy(
		"allow everyone   library/**  pull",
		"allow group:dev  team/**     pull,push",
		"deny  everyone   team/old/** push dry", // tried: nobody pushes there any more
		"allow user:bob   team/**     pull dry", // tried: what is left when it is gone
		"allow everyone   library/**  pull dry", // makes no difference
		"deny  group:dev  team/key    *",
		"deny  group:dev  team/key    pull dry",
		"allow user:bob   shop/**     pull dry",
		"deny  everyone   shop/**     pull dry 10.0.0.0/8",
	)
	alice, bob := caller("alice", "dev"), caller("bob")
	for _, tt := range []struct {
		who   *auth.Caller
		act   auth.Action
		repo  string
		want  auth.Verdict
		rule  string
		would string
	}{
		{alice, auth.Push, "team/app", auth.Allowed, "rules[1] at regward.yaml:10", ""},
		{alice, auth.Pull, "team/old/app", auth.Allowed, "rules[1] at regward.yaml:10", ""},
		{alice, auth.Push, "team/old/app", auth.Allowed, "rules[1] at regward.yaml:10", "rules[2] at regward.yaml:11, a dry run, would deny push of team/old/** to everyone"},
		{bob, auth.Pull, "team/app", auth.Allowed, "rules[3] at regward.yaml:12", "without rules[3] at regward.yaml:12, a dry run, no rule would allow bob to pull team/app"},
		{caller("bob", "dev"), auth.Pull, "team/app", auth.Allowed, "rules[1] at regward.yaml:10", ""}, // another rule allows it
		{bob, auth.Pull, "library/alpine", auth.Allowed, "rules[0] at regward.yaml:9", ""},
		{alice, auth.Pull, "team/key", auth.Denied, "rules[5] at regward.yaml:14", ""}, // denied already
		{bob, auth.Push, "team/old/app", auth.Denied, "", ""},
		{bob, auth.Pull, "shop/app", auth.Allowed, "rules[7] at regward.yaml:16", "without rules[7] at regward.yaml:16, a dry run, no rule would allow bob to pull shop/app"},
		{from(bob, "10.0.0.1"), auth.Pull, "shop/app", auth.Allowed, "rules[7] at regward.yaml:16", "rules[8] at regward.yaml:17, a dry run, would deny pull of shop/** to everyone"},
		{bob, auth.List, "", auth.Allowed, "", ""},
	} {
		got := p.Decide(tt.who, one(tt.act, tt.repo))
		if got.Verdict != tt.want || got.Rule != tt.rule || got.WouldDeny != tt.would {
			t.Errorf("%s %v %s: got %v by %q, would: %q\nwant %v by %q, would: %q", tt.who, tt.act, tt.repo, got.Verdict, got.Rule, got.WouldDeny, tt.want, tt.rule, tt.would)
		}
	}
}

// Of several wants the first that would be denied is told, unless one is.
func TestDryRunsOfSeveralWants(t *testing.T) {
	p := mustPolicy("allow everyone a/**,b/** pull,push", "deny everyone a/** push dry", "deny everyone b/** push dry")
	pull, push, other := auth.Access{Repository: "a/x", Action: auth.Pull}, auth.Access{Repository: "a/x", Action: auth.Push}, auth.Access{Repository: "b/x", Action: auth.Push}
	ann := caller("ann")
	if d := p.Decide(ann, []auth.Access{pull, push, other}); !d.Allowed() || d.WouldDenyRule != "rules[1] at regward.yaml:10" {
		t.Errorf("got %v, would be denied by %q", d, d.WouldDenyRule)
	}
	if d := p.Decide(ann, []auth.Access{push, {Repository: "c/x", Action: auth.Pull}}); d.Allowed() || d.WouldDeny != "" {
		t.Errorf("denied, and would be: %v, %q", d, d.WouldDeny)
	}
	ann.Capped, ann.Scope = true, []auth.Access{pull}
	if d := p.Decide(ann, []auth.Access{push}); d.Verdict != auth.Capped || d.WouldDeny != "" {
		t.Errorf("capped, and would be denied: %v, %q", d.Verdict, d.WouldDeny)
	}
}

func TestExplainNamesDryRuns(t *testing.T) {
	p := mustPolicy(
		"allow everyone team/** pull dry",
		"deny  user:ann team/** pull dry",
		"allow group:a  team/** pull",
		"deny  group:b  team/** pull",
	)
	steps := func(groups ...string) []string {
		_, steps := p.Explain(caller("ann", groups...), one(auth.Pull, "team/app"))
		var out []string
		for _, s := range steps {
			if s.Applies {
				out = append(out, s.Text+": "+s.Why)
			}
		}
		return out
	}
	const first, second = "allow pull on team/** to everyone, dry run: team/app is in team/**, for everyone", "deny pull on team/** to user ann, dry run: team/app is in team/**, for user ann, but it is a dry run and denies nothing yet"
	for _, tt := range []struct{ got, want []string }{
		{steps(), []string{first + ", a dry run: it allows until it is gone", second}},
		{steps("a"), []string{first + ", a dry run; without it rules[2] at regward.yaml:11 allows the same", second, "allow pull on team/** to group a: team/app is in team/**, for group a"}},
		{steps("b"), []string{first + ", but rules[3] at regward.yaml:12 denies it", second, "deny pull on team/** to group b: team/app is in team/**, for group b"}},
	} {
		if d := cmp.Diff(tt.want, tt.got); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	if got := p.Patterns(caller("ann"), auth.Pull); !slices.Equal(got, []string{"team/**"}) {
		t.Errorf("a dry run takes what may be pulled away: %v", got)
	}
}

// TestDryRunsChangeNoVerdict: with its dry denies left out, and its dry allows
// in force, a policy decides the same; and what would be denied is what it
// denies with the denies in force and the allows gone.
func TestDryRunsChangeNoVerdict(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	would := 0
	for range 2000 {
		rules := randomRules(r)
		var now, then []auth.Rule
		for _, rule := range rules {
			dry := rule.DryRun
			rule.DryRun = false
			if !dry || rule.Deny != 0 {
				then = append(then, rule)
			}
			if dry && rule.Immutable { // what it would do to what is deleted
				kept := rule
				kept.Allow, kept.Deny, kept.Immutable = 0, auth.Actions(0).With(auth.Delete), false
				then = append(then, kept)
				rule.Immutable = false
			}
			if !dry || rule.Deny == 0 {
				now = append(now, rule)
			}
		}
		var policies []*auth.Policy
		for _, list := range [][]auth.Rule{rules, now, then} {
			p, err := auth.NewPolicy(list)
			if err != nil {
				t.Fatal(err)
			}
			policies = append(policies, p)
		}
		for range 20 {
			c, wants := randomCaller(r), randomWants(r)
			d := policies[0].Decide(c, wants)
			if want := policies[1].Decide(c, wants); d.Verdict != want.Verdict || d.Access != want.Access {
				t.Fatalf("%v wants %v: %v, without dry runs %v; rules %v", c, wants, d.Verdict, want.Verdict, rules)
			}
			denied := d.Allowed() && !policies[2].Decide(c, wants).Allowed()
			if (d.WouldDeny != "") != denied {
				t.Fatalf("%v wants %v: would be denied %q, is denied once in force: %v; rules %v", c, wants, d.WouldDeny, denied, rules)
			}
			if denied {
				would++
			}
		}
	}
	if would < 200 {
		t.Fatalf("only %d would be denied: nothing was tried", would)
	}
}

func TestDryRunsElsewhereCostNothing(t *testing.T) {
	p := mustPolicy("allow authenticated team/** pull,push", "deny everyone vault/** * dry", "allow everyone shop/** pull dry", "deny everyone team/old/** * dry")
	c, wants := caller("alice"), one(auth.Pull, "team/app")
	if n := testing.AllocsPerRun(100, func() { p.Decide(c, wants) }); n != 0 {
		t.Errorf("an allowed decision allocates %v times beside dry runs", n)
	}
}
