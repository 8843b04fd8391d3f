package auth_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

func mustPlaces(t *testing.T, list ...auth.Place) *auth.Places {
	t.Helper()
	p, err := auth.NewPlaces(list)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEveryNameHasOnePlace(t *testing.T) {
	p := mustPlaces(t,
		auth.Place{Prefix: "hub/", Default: "library", NS: []string{"docker.io"}},
		auth.Place{Prefix: "hub/team/"},
		auth.Place{Prefix: "kept/", Keep: true},
		auth.Place{},
		auth.Place{Host: "b.example"},
		auth.Place{Host: "b.example", Prefix: "hub/"},
	)
	for _, tt := range []struct {
		host, ns, name string
		want           auth.Found
		ok             bool
	}{
		{"a.example", "", "app", auth.Found{Index: 3, Repository: "app", Name: "app"}, true},
		{"a.example", "", "hub", auth.Found{Index: 3, Repository: "hub", Name: "hub"}, true}, // not below hub/
		{"a.example", "", "hubs/x", auth.Found{Index: 3, Repository: "hubs/x", Name: "hubs/x"}, true},
		{"a.example", "", "hub/alpine", auth.Found{Index: 0, Repository: "hub/library/alpine", Name: "library/alpine"}, true},
		{"a.example", "", "hub/library/alpine", auth.Found{Index: 0, Repository: "hub/library/alpine", Name: "library/alpine"}, true},
		{"a.example", "", "hub/team/x", auth.Found{Index: 1, Repository: "hub/team/x", Name: "x"}, true}, // the longest wins
		{"a.example", "", "kept/x", auth.Found{Index: 2, Repository: "kept/x", Name: "kept/x"}, true},
		{"a.example", "docker.io", "library/alpine", auth.Found{Index: 0, Repository: "hub/library/alpine", Name: "library/alpine", ByNS: true}, true},
		{"a.example", "docker.io", "alpine", auth.Found{Index: 0, Repository: "hub/library/alpine", Name: "library/alpine", ByNS: true}, true},
		{"a.example", "docker.io", "hub/library/alpine", auth.Found{Index: 0, Repository: "hub/library/alpine", Name: "library/alpine", ByNS: true}, true}, // M05
		{"a.example", "quay.io", "library/alpine", auth.Found{Index: 3, Repository: "library/alpine", Name: "library/alpine"}, true},                       // nobody's: ignored
		{"b.example", "", "app", auth.Found{Index: 4, Repository: "app", Full: "b.example/app", Name: "app"}, true},
		{"b.example", "", "hub/x", auth.Found{Index: 5, Repository: "hub/x", Full: "b.example/hub/x", Name: "x"}, true},
		{"a.example", "", "b.example/app", auth.Found{}, false}, // rules mean the other hostname's by it
	} {
		got, ok := p.Find(tt.host, tt.ns, tt.name)
		if ok != tt.ok {
			t.Errorf("%s %s ns=%s: got ok=%v", tt.host, tt.name, tt.ns, ok)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s %s ns=%s: %s", tt.host, tt.name, tt.ns, diff)
		}
	}
}

func TestClientNamesLeadBack(t *testing.T) {
	p := mustPlaces(t, auth.Place{Prefix: "hub/", Default: "library"}, auth.Place{Prefix: "hub/team/"}, auth.Place{}, auth.Place{Prefix: "kept/", Keep: true})
	for _, tt := range []struct {
		place        int
		name, client string
		ok           bool
	}{
		{0, "library/alpine", "hub/library/alpine", true},
		{0, "alpine", "hub/alpine", false}, // means library/alpine here
		{0, "team/x", "hub/team/x", false}, // another upstream's by now
		{2, "hub/x", "hub/x", false},
		{2, "app", "app", true},
		{3, "kept/x", "kept/x", true},
		{3, "other/x", "other/x", false},
	} {
		client, ok := p.ClientName("a.example", tt.place, tt.name)
		if ok != tt.ok || ok && client != tt.client {
			t.Errorf("place %d, %s: got %q, %v", tt.place, tt.name, client, ok)
		}
	}
}

func TestPlacesBehindOneOfTheHostnamesOwnHoldNothing(t *testing.T) {
	p := mustPlaces(t,
		auth.Place{Prefix: "hub/"},
		auth.Place{Prefix: "hub/team/"},
		auth.Place{},
		auth.Place{Host: "whole.example"},
		auth.Place{Host: "part.example", Prefix: "hub/"},
		auth.Place{Host: "deep.example", Prefix: "hub/team/x/"},
	)
	for host, want := range map[string][]int{
		"a.example":     {1, 0, 2},
		"whole.example": {3},
		"part.example":  {4, 2},
		"deep.example":  {5, 1, 0, 2},
	} {
		if diff := cmp.Diff(want, p.Holding(host)); diff != "" {
			t.Errorf("%s: %s", host, diff)
		}
	}
}

func TestPlacesThatOverlapAreRefused(t *testing.T) {
	for _, list := range [][]auth.Place{
		{{Prefix: "hub/"}, {Prefix: "hub/"}},
		{{}, {}},
		{{Host: "a"}, {Host: "a"}},
		{{Prefix: "a/", NS: []string{"docker.io"}}, {Prefix: "b/", NS: []string{"docker.io"}}},
		{{Prefix: "hub"}},
		{{Prefix: "Hub/"}},
	} {
		if _, err := auth.NewPlaces(list); err == nil {
			t.Errorf("%v: taken", list)
		}
	}
	mustPlaces(t, auth.Place{Host: "a"}, auth.Place{Host: "b"}, auth.Place{})
}

func TestRulesTellHostnamesApart(t *testing.T) {
	p := mustPlaces(t, auth.Place{}, auth.Place{Host: "b.example"})
	policy := mustPolicy("allow everyone b.example/app pull", "allow user:ann shared/* pull", "allow everyone */odd pull")
	anyone, ann := &auth.Caller{}, &auth.Caller{Identity: auth.Identity{Name: "ann"}}
	for _, tt := range []struct {
		who        *auth.Caller
		host, name string
		want       bool
	}{
		{anyone, "b.example", "app", true},
		{anyone, "a.example", "app", false},
		{ann, "a.example", "shared/x", true}, // without a hostname: on all
		{ann, "b.example", "shared/x", true},
		{anyone, "b.example", "odd", false}, // a hostname is not a part that * means
		{anyone, "b.example", "x/odd", true},
	} {
		f, ok := p.Find(tt.host, "", tt.name)
		d, _ := policy.Explain(tt.who, []auth.Access{f.Access(auth.Pull)})
		got := policy.Decide(tt.who, []auth.Access{f.Access(auth.Pull)})
		if !ok || got.Allowed() != tt.want || d.Allowed() != tt.want {
			t.Errorf("%s/%s: got %v, explained as %v, want %v", tt.host, tt.name, got.Allowed(), d.Allowed(), tt.want)
		}
	}
	if got := p.Access("b.example/app", auth.Pull); got.Full != "b.example/app" || got.Repository != "app" {
		t.Errorf("b.example/app: got %+v", got)
	}
}

// A name that rules know belongs to one upstream, whichever way a client writes
// it: else who may have it at one would have it at the other.
func TestANameIsOfOnePlace(t *testing.T) {
	p := mustPlaces(t,
		auth.Place{Prefix: "hub/", Default: "library", NS: []string{"docker.io"}},
		auth.Place{Prefix: "hub/library/"},
		auth.Place{Prefix: "hub/team/"},
		auth.Place{Host: "own.example", Prefix: "hub/", NS: []string{"quay.io"}},
		auth.Place{Host: "own.example", Prefix: "hub/team/"},
	)
	for _, ask := range []struct{ host, ns, name string }{
		{"a.example", "docker.io", "team/app"},
		{"a.example", "docker.io", "hub/team/app"},
		{"a.example", "docker.io", "library/alpine"},
		{"a.example", "docker.io", "alpine"},
		{"a.example", "", "hub/alpine"},
		{"own.example", "quay.io", "team/app"},
		{"own.example", "docker.io", "team/app"},
	} {
		if f, ok := p.Find(ask.host, ask.ns, ask.name); ok {
			t.Errorf("%+v is %+v", ask, f)
		}
	}
	for _, ask := range []struct {
		host, ns, name string
		place          int
	}{
		{"a.example", "docker.io", "other/app", 0},
		{"own.example", "docker.io", "other/app", 0},
		{"own.example", "quay.io", "other/app", 3},
		{"own.example", "", "hub/team/app", 4},
	} {
		if f, ok := p.Find(ask.host, ask.ns, ask.name); !ok || f.Index != ask.place {
			t.Errorf("%+v is %v %+v", ask, ok, f)
		}
	}
}
