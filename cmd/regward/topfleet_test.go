package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/regward/regward/fleet"
	"github.com/regward/regward/internal/redistest"
	"github.com/regward/regward/proxy"
)

func (r *running) topOf(t *testing.T, line string) (top topAnswer) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.says(t, line, exitDone)), &top); err != nil {
		t.Fatal(err)
	}
	return top
}

// requestsOf is what a table has of one, and how often it has them.
func requestsOf(list []talker, name string) (requests float64, times int) {
	for _, t := range list {
		if t.Name == name {
			requests, times = requests+t.Requests, times+1
		}
	}
	return requests, times
}

// Whichever instance is asked, top adds up what all have seen; --here is one.
func TestTopAddsUpTheInstances(t *testing.T) {
	server := redistest.Start(t)
	one, two := twins(t, server, "")
	for range 3 {
		one.manifest("ann")
		two.manifest("ann")
	}
	for _, r := range []*running{one, two} {
		if err := r.shared.fleet.Load().Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	top := one.topOf(t, "top --output json")
	if n, times := requestsOf(top.Clients, "user:ann"); times != 1 || n < 4 || n > 6 || top.Instances != 2 || top.Heard != 2 {
		t.Errorf("of both: %+v", top)
	}
	if n, times := requestsOf(top.Namespaces, "library"); times != 1 || n < 4 {
		t.Errorf("namespaces of both: %+v", top.Namespaces)
	}
	if len(top.Limits) != 1 || top.Limits[0].Throttled < 3 {
		t.Errorf("two of six pulls pass, so limits of both: %+v", top.Limits)
	}
	top = one.topOf(t, "top --here --output json")
	if n, times := requestsOf(top.Clients, "user:ann"); times != 1 || n < 2 || n > 3 || top.Instances != 2 || top.Heard != 1 {
		t.Errorf("of one: %+v", top)
	}
	one.says(t, "top --once", exitDone, "of 2 instances", "user:ann")
	one.says(t, "top --once --here", exitDone, "of this instance, one of 2", "user:ann")
	if out := one.says(t, "status --output json", exitDone); strings.Contains(out, `"top"`) {
		t.Errorf("status repeats what top is for:\n%s", out)
	}

	// An instance of a version that does not tell is named.
	client := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { client.Close() })
	old := fleet.New(fleet.Options{Client: client, Prefix: one.first.Redis.KeyPrefix,
		Self: func() fleet.Instance { return fleet.Instance{Host: "older", Version: "0.0.1"} }})
	t.Cleanup(old.Close)
	one.says(t, "top --once", exitDone, "of 2 of 3 instances: older (regward 0.0.1) does not tell")

	server.Kill()
	one.says(t, "top --once", exitDone, "of this instance alone: Redis cannot be asked about the others", "user:ann")
}

// What others tell is bounded, whatever the names, and the heaviest stay.
func TestWhatTopTellsTheOthersIsBounded(t *testing.T) {
	for _, letter := range []string{"a", "\x01", "é"} {
		var top proxy.Top
		for i := range 100 {
			one := proxy.Talker{Name: fmt.Sprint(i, strings.Repeat(letter, 90/len(letter))), Amounts: proxy.Amounts{
				Requests: 123456.7, Pulls: 123456.7, Pushes: 1234.5, BytesIn: 1e12, BytesOut: 1e12, Throttled: 1234.5, Would: 1234.5,
			}}
			top.Clients, top.Namespaces, top.Limits = append(top.Clients, one), append(top.Namespaces, one), append(top.Limits, one)
		}
		raw := briefly(top)
		if len(raw) > maxBrief || len(raw) < 100 {
			t.Errorf("%q: %d bytes, want at most %d", letter, len(raw), maxBrief)
		}
		var answer topAnswer
		if !answer.add(raw, topMost) || len(answer.Clients) == 0 || !strings.HasPrefix(answer.Clients[0].Name, "0") {
			t.Errorf("%q: read back: %+v", letter, answer)
		}
	}
	if raw := briefly(proxy.Top{}); string(raw) != "{}" {
		t.Errorf("who has seen nobody says %q", raw)
	}
}

// What is in Redis may be nonsense: it neither breaks the table nor fills it.
func TestTopReadsNonsense(t *testing.T) {
	answer := topAnswer{Clients: []talker{{Name: "user:ann", Requests: 1}}}
	for _, raw := range []string{
		``, `null`, `[]`, `7`, `{"c":7}`,
		`{"c":[{"n":"user:ann","r":1e308},{"n":"user:bob","r":-5},{"n":"","r":5}]}`,
		`{"l":[{"n":"people","t":-1}]}`,
	} {
		answer.add(json.RawMessage(raw), topMost)
	}
	if n, times := requestsOf(answer.Clients, "user:ann"); len(answer.Clients) != 1 || n != 1 || times != 1 || len(answer.Limits) != 0 {
		t.Errorf("%+v", answer)
	}
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, `,{"n":"user:%d","r":5}`, i)
	}
	answer.add(json.RawMessage(`{"c":[`+many.String()[1:]+`]}`), topMost)
	if len(answer.Clients) != topMost {
		t.Errorf("%d clients, want %d", len(answer.Clients), topMost)
	}
	if _, err := json.Marshal(answer); err != nil {
		t.Error(err)
	}
}
