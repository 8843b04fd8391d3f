package auth_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

// Whoever is in 2,000 groups gets a token all the same: with those that anybody
// asks about.
func TestTokensOfManyGroups(t *testing.T) {
	var groups []string
	for i := range 2000 {
		groups = append(groups, fmt.Sprintf("Team %04d", i))
	}
	groups = append(groups, "dev", "ops")
	ann := auth.Identity{Name: "ann", Groups: groups, Via: "ldap"}
	tokens, now := newTokens(t), time.Now()
	issued := func(set *auth.GroupSet, id auth.Identity) auth.Identity {
		t.Helper()
		text, err := tokens.Issue(set.Narrow(id), host, nil, now, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tokens.Verify(text, host)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	set := mustPolicy("allow group:dev team/** *", "deny group:secret-club x/** pull").Groups(nil, nil, false)
	got := issued(set, ann)
	if diff := cmp.Diff([]string{"dev"}, got.Groups); diff != "" || !set.Holds(&got) {
		t.Errorf("-want +got:\n%s", diff)
	}
	one, err := auth.ParseSubject("group:Team 0007")
	if err != nil {
		t.Fatal(err)
	}
	more := mustPolicy("allow group:dev team/** *", "allow authenticated {group}/** pull").Groups([]auth.Subject{one}, nil, false)
	if got := issued(more, ann); cmp.Diff([]string{"Team 0007", "dev", "ops"}, got.Groups) != "" || !more.Holds(&got) || set.Holds(&got) {
		t.Errorf("with {group} and a limit: %q", got.Groups)
	}
	// Rules that ask about another group do not take what may lack it.
	if more.Holds(&got) {
		t.Error("a token for other rules is taken: a deny may not see its group")
	}
	few := auth.Identity{Name: "bob", Groups: []string{"nobody asks"}}
	if got := issued(set, few); len(got.Groups) != 1 || got.Narrowed != "" || !more.Holds(&got) {
		t.Errorf("of few groups: %+v", got)
	}
	every := mustPolicy("allow group:dev team/** *").Groups(nil, nil, true)
	if _, err := tokens.Issue(every.Narrow(ann), host, nil, now, time.Minute); !errors.Is(err, auth.ErrTooLong) {
		t.Errorf("where each counts: %v", err)
	}
	if every.Holds(&got) {
		t.Error("where each counts, some are enough")
	}
}
