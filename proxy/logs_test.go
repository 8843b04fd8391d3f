package proxy

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/regward/regward/auth"
)

// inDocs reads a section of a file in docs: of its tables the words in
// backquotes in the first column, of its text all of them.
func inDocs(t *testing.T, file, section string) (names []string, text string) {
	t.Helper()
	all, err := os.ReadFile("../docs/" + file)
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(all), "\n## "+section+"\n")
	if section == "" {
		text, found = string(all), true
	}
	if !found {
		t.Fatalf("docs/%s has no section %q", file, section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > 3 {
			names = append(names, quoted(cells[1])...)
		}
	}
	return names, text
}

func quoted(s string) (words []string) {
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(s, -1) {
		words = append(words, m[1])
	}
	return words
}

// wantSame fails unless both hold the same names.
func wantSame(t *testing.T, what string, docs []string, program map[string]bool) {
	t.Helper()
	slices.Sort(docs)
	if diff := cmp.Diff(slices.Compact(docs), slices.Sorted(maps.Keys(program))); diff != "" {
		t.Errorf("%s: the docs (-) and the program (+) differ:\n%s", what, diff)
	}
}

// everything makes a gate answer in every way it can, and returns the secrets
// that were used.
func everything(t *testing.T) (*gate, []string) {
	g := newGate(t, usual+`
		limit people pulls 3/h subjects=user:bob
		limit trial  requests 1/h dry_run
		limit line   bytes 1kB/s burst=1 subjects=user:bob
		deny everyone library/busybox pull dry_run`, func(s *Settings) {
		s.Upstreams[0].HeaderTimeout = 500 * time.Millisecond
		s.Upstreams[0].Username, s.Upstreams[0].Password = "regward", "upstream-secret-9"
	})
	g.pause = func(_ context.Context, d time.Duration) error { return nil }
	g.get("/v2/library/busybox/manifests/latest", g.as("", pulls("library/busybox")))
	secrets := []string{annPassword, bobPassword, carlPassword, "upstream-secret-9", "wrong-secret-1", "wrong-secret-2"}
	for i := range 12 {
		g.get("/token", basic("carl", "wrong-secret-1"+strings.Repeat("x", i)))
	}
	for range 2 {
		g.get("/token?scope="+pulls("library/alpine"), basic("bob", "wrong-secret-2"))
	}
	g.do("POST", "/token", post("username", "ann", "password", annPassword)...)
	g.do("POST", "/token?password=wrong-secret-2", post("username", "ann", "password", "wrong-secret-2")...)
	g.get("/token", header("Authorization", "Basic wrong-secret-1"))
	ann, bob, any := g.token("ann", deletes("coolteam/app")), g.token("bob", pulls("shared/base"), pulls("coolteam/app")), g.token("", pulls("library/alpine"))
	secrets = append(secrets, ann, bob, any)
	trace := header("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	g.get("/v2/", bearer(ann))
	g.get("/v2/")
	g.get("/v2/", func(r *http.Request) { r.Host = "evil.example" })
	g.get("/v2/coolteam/app/manifests/latest", bearer(ann), trace)
	g.get("/v2/coolteam/app/manifests/latest", who("ann"))
	g.get("/v2/coolteam/app/manifests/"+imageDigest, bearer(ann))
	g.get("/v2/coolteam/app/manifests/latest", bearer(bob))
	g.get("/v2/coolteam/app/manifests/latest", bearer(any))
	g.get("/v2/coolteam/other/manifests/latest", bearer(ann))
	g.get("/v2/library/alpine/manifests/latest", bearer(any))
	g.get("/v2/library/alpine/manifests/latest?token="+any, bearer(any+"x"))
	for range 5 {
		g.get("/v2/shared/base/manifests/latest", bearer(bob))
	}
	at := g.do("POST", "/v2/coolteam/app/blobs/uploads/", bearer(ann)).Header.Get("Location")
	g.do("PUT", at+"?digest="+layerDigest, bearer(ann), body(layer))
	g.do("PUT", "/v2/coolteam/app/manifests/1", bearer(ann), body(image))
	g.do("DELETE", "/v2/coolteam/app/manifests/"+imageDigest, bearer(ann))
	g.get("/v2/coolteam/app/manifests/absent", bearer(ann))
	g.get("/v2/_catalog", g.as("ann", "registry:catalog:*"))
	g.get("/v2/Upper/manifests/1", bearer(ann))
	g.get("/")
	g.get("/nothing")
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, layerDigest) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(make([]byte, 50000))
		}
		panic(http.ErrAbortHandler)
	})
	g.get("/v2/coolteam/app/manifests/latest", bearer(ann))
	if resp, err := g.h1.Do(g.request("GET", "/v2/coolteam/app/blobs/"+layerDigest, bearer(ann))); err == nil {
		resp.Body.Close()
	}
	next := g.settings
	next.Upstreams[0].ReadOnly = "moving"
	next.Upstreams = append(next.Upstreams, next.Upstreams[0])
	next.Upstreams[1].Name, next.Upstreams[1].Place.Prefix = "hub", "hub/"
	g.swap(next)
	g.do("PUT", "/v2/coolteam/app/manifests/1", bearer(ann), body(image))
	g.clock.pass(time.Hour)
	g.get("/v2/coolteam/app/manifests/latest", bearer(ann))
	setPasswords(t, &next, []byte(htpasswdLine("bob", "another")))
	g.swap(next)
	g.get("/v2/coolteam/app/manifests/latest", bearer(ann))
	return g, secrets
}

func TestAccessFieldsAreThoseOfTheDocs(t *testing.T) {
	g, _ := everything(t)
	docs, _ := inDocs(t, "logs.md", "Access log")
	program := map[string]bool{}
	for _, line := range g.access.all(t) {
		for key := range line {
			if key != "msg" {
				program[key] = true
			}
		}
		if line["msg"] != "request" {
			t.Errorf("an access line says %q", line["msg"])
		}
		for _, always := range []string{"request_id", "method", "path", "route", "user", "credential", "addr", "status", "bytes_in", "bytes_out", "duration_ms", "user_agent"} {
			if _, has := line[always]; !has {
				t.Errorf("a line without %s: %v", always, line)
			}
		}
	}
	wantSame(t, "fields of the access log", docs, program)
}

func TestAuditFieldsAreThoseOfTheDocs(t *testing.T) {
	g, _ := everything(t)
	events, text := inDocs(t, "logs.md", "Audit log")
	ofRequests, _, _ := strings.Cut(text[strings.Index(text, "\nThose of a request"):], ";")
	requestFields := quoted(ofRequests)
	perEvent := map[string][]string{}
	for line := range strings.Lines(text) {
		if cells := strings.Split(line, "|"); len(cells) > 3 && len(quoted(cells[1])) == 1 {
			perEvent[quoted(cells[1])[0]] = quoted(cells[3])
		}
	}
	named := map[string]bool{}
	for _, e := range AuditEvents {
		named[e] = true
	}
	wantSame(t, "audit events", events, named)

	seen, used := map[string]bool{}, map[string]bool{}
	for _, line := range g.audit.all(t) {
		event := line["msg"].(string)
		seen[event] = true
		fields := requestFields
		if event == "login" || event == "login_failed" {
			fields = perEvent[event]
		}
		for key := range line {
			if key != "msg" && !slices.Contains(fields, key) {
				t.Errorf("audit line %s has %s, which the docs do not list", event, key)
			}
			used[key] = true
		}
		if event == "login" || event == "login_failed" {
			for _, key := range fields {
				if _, has := line[key]; !has && key != "refresh_token" {
					t.Errorf("audit line %s lacks %s", event, key)
				}
			}
		}
	}
	for event := range named {
		if ofCommands := []string{"reload", "override", "reset", "revocation"}; !seen[event] && !slices.Contains(ofCommands, event) {
			t.Errorf("no audit line for %s", event)
		}
	}
	for _, key := range requestFields {
		if !used[key] && key != "granted" && key != "would_throttle" && key != "would_deny" {
			t.Errorf("no audit line has %s", key)
		}
	}
}

func TestPullsAreAuditedWithTagAndDigest(t *testing.T) {
	g := newGate(t, usual)
	g.get("/v2/coolteam/app/manifests/1.0", g.as("ann", pulls("coolteam/app"))).want(t, 200)
	g.get("/v2/library/alpine/manifests/"+imageDigest, g.as("", pulls("library/alpine"))).want(t, 200)
	g.get("/v2/library/alpine/blobs/"+layerDigest, g.as("", pulls("library/alpine"))).want(t, 200)
	g.do("HEAD", "/v2/library/alpine/manifests/latest", g.as("", pulls("library/alpine"))).want(t, 200)
	var got [][4]any
	for _, line := range g.audit.all(t) {
		if line["msg"] == "pull" {
			got = append(got, [4]any{line["user"], line["repository"], line["tag"], line["digest"]})
		}
	}
	want := [][4]any{{"ann", "coolteam/app", "1.0", imageDigest}, {"anonymous", "library/alpine", nil, imageDigest}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReasonsAreThoseOfTheDocs(t *testing.T) {
	docs, _ := inDocs(t, "logs.md", "Reasons")
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	program := map[string]bool{"other": true}
	for _, m := range regexp.MustCompile(`(?m)^\treason\w+\s+= "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		program[m[1]] = true
	}
	wantSame(t, "reasons", docs, program)

	g, _ := everything(t)
	for _, line := range g.access.all(t) {
		if reason, has := line["reason"]; has && !program[reason.(string)] {
			t.Errorf("reason %q", reason)
		}
	}
	// Five repairs, five records.
	for _, want := range []string{"no_credential", "wrong_password", "too_many_failed_logins", "not_allowed", "token_does_not_cover", "expired_token", "revoked_token", "invalid_token", "limit", "read_only", "upstream", "bad_request", "not_found", "malformed_credential"} {
		if !strings.Contains(g.access.String(), `"reason":"`+want+`"`) {
			t.Errorf("no line says %s", want)
		}
	}
}

func TestMetricsOfTheHandlerAreInTheDocs(t *testing.T) {
	g, secrets := everything(t)
	all, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{}
	for line := range strings.Lines(string(all)) {
		if cells := strings.Split(line, "|"); len(cells) > 4 && len(quoted(cells[1])) == 1 {
			labels[quoted(cells[1])[0]] = quoted(cells[2])
		}
	}
	registry := prometheus.NewRegistry()
	if err := g.Metrics().Register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) < 8 {
		t.Errorf("%d metrics were used", len(families))
	}
	for _, f := range families {
		want, listed := labels[f.GetName()]
		if !listed {
			t.Errorf("docs/metrics.md does not list %s", f.GetName())
		}
		slices.Sort(want)
		for _, m := range f.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetName())
				for _, secret := range append(secrets, "coolteam", "ann", "127.0.0.1") {
					if strings.Contains(l.GetValue(), secret) {
						t.Errorf("%s{%s=%q}", f.GetName(), l.GetName(), l.GetValue())
					}
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s has labels %q, the docs say %q", f.GetName(), got, want)
			}
		}
	}
}

func TestNoSecretIsEverLogged(t *testing.T) {
	g, secrets := everything(t)
	logs := map[string]string{"access": g.access.String(), "audit": g.audit.String(), "process": g.log.String()}
	if len(logs["access"]) < 1000 || len(logs["audit"]) < 1000 {
		t.Fatal("the logs are empty")
	}
	for name, text := range logs {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				i := strings.Index(text, secret)
				t.Errorf("the %s log holds %q: ...%s", name, secret, text[max(0, i-200):i+len(secret)])
			}
		}
	}
	for _, r := range g.Refusals(RefusalQuery{}) {
		for _, secret := range secrets {
			if strings.Contains(r.Message+r.Decision+r.Credential+r.UserAgent+r.Reference+r.User, secret) {
				t.Errorf("a remembered refusal holds %q: %+v", secret, r)
			}
		}
	}
}

func TestRefusalsAreRemembered(t *testing.T) {
	g := newGate(t, usual)
	a := g.get("/v2/coolteam/app/manifests/1.0", g.as("bob", pulls("coolteam/app")))
	id := a.Header.Get("X-Request-Id")
	got := g.Refusals(RefusalQuery{RequestID: id})
	if len(got) != 1 || got[0].User != "bob" || got[0].Repository != "coolteam/app" || got[0].Reference != "1.0" || got[0].Action != "pull" ||
		got[0].Status != 401 || got[0].Code != "DENIED" || got[0].Reason != "not_allowed" || got[0].Config != "7c1e" ||
		!strings.Contains(got[0].Decision, "nearest: rules[1] at regward.yaml:11") {
		t.Errorf("got %+v", got)
	}
	first := g.get("/v2/coolteam/app/manifests/1.0")
	if got := g.Refusals(RefusalQuery{Repository: "coolteam/app"}); len(got) != 1 {
		t.Errorf("%d refusals, want the one of somebody with a credential", len(got))
	}
	if got := g.Refusals(RefusalQuery{RequestID: first.Header.Get("X-Request-Id")}); len(got) != 1 || got[0].Credential != "none" {
		t.Errorf("got %+v", got)
	}
}

// withHub adds Docker Hub below hub/ and a registry under a name of its own, all
// of them the gate's one.
func withHub(s *Settings) {
	hub, hosted := s.Upstreams[0], s.Upstreams[0]
	hub.Name, hub.Place = "hub", auth.Place{Prefix: "hub/", Default: "library"}
	hosted.Name, hosted.Place = "hosted", auth.Place{Host: "hosted.acme.example"}
	s.Upstreams = append(s.Upstreams, hub, hosted)
	s.Hostnames = append(s.Hostnames, "hosted.acme.example")
}

func TestRecordsNameTheUpstreamWhereThereAreSeveral(t *testing.T) {
	rules := usual + "allow user:bob hub/** pull"
	one, several := newGate(t, rules), newGate(t, rules, withHub)
	for _, g := range []*gate{one, several} {
		bob := g.as("bob", pulls("hub/alpine"), pulls("shared/base"))
		g.get("/v2/shared/base/manifests/1", bob).want(t, 200)
		g.get("/v2/hub/alpine/manifests/1", bob).want(t, 200)
		g.get("/v2/_catalog", bob)
		var got []string
		for _, line := range append(g.access.all(t), g.audit.all(t)...) {
			if line["repository"] != nil || line["upstream"] != nil {
				got = append(got, fmt.Sprint(line["repository"], " ", line["upstream"]))
			}
		}
		want := []string{"shared/base <nil>", "hub/alpine <nil>"}
		if g == several {
			want = []string{"shared/base registry", "hub/library/alpine hub"}
		}
		if diff := cmp.Diff(append(want, want...), got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	}
}

// A question about a refusal may name the repository as clients do, as rules
// do, or with the hostname that an upstream has for itself.
func TestRefusalsAreFoundByEitherName(t *testing.T) {
	g := newGate(t, usual, withHub)
	bob := g.as("bob", pulls("hub/alpine"), pulls("team/app"))
	g.get("/v2/hub/alpine/manifests/1", bob).want(t, 401)
	g.get("/v2/team/app/manifests/1", bob).want(t, 401)
	onHosted := func(r *http.Request) { r.Host = "hosted.acme.example" }
	g.get("/v2/team/app/manifests/1", onHosted, who("bob")).want(t, 401)
	for name, want := range map[string][]string{
		"hub/alpine":                   {gateHost + " hub/library/alpine"},
		"hub/library/alpine":           {gateHost + " hub/library/alpine"},
		"hosted.acme.example/team/app": {"hosted.acme.example team/app"},
		"team/app":                     {"hosted.acme.example team/app", gateHost + " team/app"},
		"alpine":                       nil,
	} {
		var got []string
		for _, r := range g.Refusals(RefusalQuery{Repository: name}) {
			got = append(got, r.Host+" "+r.Repository)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// The log may be a terminal, and strangers write into it.
func TestWhatStrangersWriteDoesNothingToATerminal(t *testing.T) {
	for from, want := range map[string]string{
		"docker/28.5 go/1.26 (linux)":          "docker/28.5 go/1.26 (linux)",
		"Jürgen 李 \u00a9":                      "Jürgen 李 ©",
		"a\x1b[31m\u009b31m\u202e\u2028\x7f\n": "a?[31m?31m????",
		"a\x9bb":                               "a\ufffdb",
		strings.Repeat("x", maxLogged) + "y":   strings.Repeat("x", maxLogged),
	} {
		if got := short(from); got != want {
			t.Errorf("%q: %q, want %q", from, got, want)
		}
	}
}

// A clock that was years ahead when the machine started silences nothing once it
// is right.
func TestAClockSetBackSilencesNothing(t *testing.T) {
	var s sometimes
	told, noon := 0, time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, at := range []time.Time{noon.AddDate(12, 0, 0), noon, noon.Add(59 * time.Second), noon.Add(time.Minute), noon.Add(119 * time.Second)} {
		s.do(at, func() { told++ })
	}
	if told != 3 {
		t.Errorf("told %d times, want 3", told)
	}
}
