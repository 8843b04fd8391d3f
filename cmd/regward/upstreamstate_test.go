package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// longAgo makes what is known of upstreams old.
func (r *running) longAgo() {
	r.upstreamState.mu.Lock()
	defer r.upstreamState.mu.Unlock()
	for _, a := range r.upstreamState.of {
		a.at = time.Time{}
	}
}

// readyz is the body of /readyz, which is 200 whatever upstreams do.
func (r *running) readyz() string {
	r.t.Helper()
	status, body := r.ask("GET", r.probe()+"/readyz", "", "")
	if status != http.StatusOK {
		r.t.Errorf("/readyz is %d, want 200", status)
	}
	return body
}

// statusOf is the list of upstreams in the status.
func (r *running) statusOf() []upstreamStatus {
	r.t.Helper()
	_, body := r.ask("GET", r.admin()+"/api/v1/status", "", "")
	var s status
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		r.t.Fatalf("%s: %v", body, err)
	}
	return s.Upstreams
}

// An upstream that is down is named, and does not take regward out of service.
func TestReadyzNamesAnUpstreamThatIsDown(t *testing.T) {
	var down atomic.Bool
	down.Store(true) // from the start
	r := begin(t, standard, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "{}")
	}), nil)
	if body := r.readyz(); !strings.Contains(body, "cannot be reached") {
		t.Errorf("/readyz says %q while the upstream is down", body)
	}
	down.Store(false)
	r.longAgo()
	if body := r.readyz(); body != "ready\n" {
		t.Errorf("/readyz says %q when the upstream is back", body)
	}
	r.log.await(t, "upstream is well again", 1)
}

// several is standard with a second upstream, OTHER.
var several = strings.Replace(standard, `upstream: "UPSTREAM"`, `upstreams:
  - {name: registry, url: "UPSTREAM"}
  - {name: hub, prefix: hub/, url: "OTHER", shared_blobs: false}`, 1)

// Each upstream is asked on its own: one that is down at the start is named,
// and the other serves.
func TestEachUpstreamIsAskedOnItsOwn(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := closed.Addr().String()
	closed.Close()
	r := begin(t, strings.Replace(several, "OTHER", "http://"+at, 1), nil, nil)
	if body := r.readyz(); body != "ready\nupstream hub: cannot be reached or answers wrongly\n" {
		t.Errorf("/readyz says %q", body)
	}
	if got := r.pull("coolteam/app"); got != 200 {
		t.Errorf("a pull from the other one is answered %d", got)
	}
	want := []upstreamStatus{{Name: "registry", State: "ok"}, {Name: "hub", State: "cannot be reached or answers wrongly"}}
	if diff := cmp.Diff(want, r.statusOf()); diff != "" {
		t.Errorf("status: -want +got\n%s", diff)
	}
	if !r.metric(`regward_upstream_up{upstream="hub"} 0`) || !r.metric(`regward_upstream_up{upstream="registry"} 1`) {
		t.Error("regward_upstream_up does not tell them apart")
	}
}

// Who asks does not wait for an upstream that is slow, and asks it no second time.
func TestReadyzDoesNotWaitForASlowUpstream(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			<-release
		}
		io.WriteString(w, "{}")
	}))
	defer slow.Close()
	r := begin(t, strings.Replace(several, "OTHER", slow.URL, 1), nil, nil)
	for range 2 {
		if body := r.readyz(); body != "ready\n" {
			t.Errorf("/readyz says %q", body)
		}
	}
	if got := r.statusOf()[1].State; got != "unknown" {
		t.Errorf("the status says %q of an upstream that never answered", got)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d questions at a time, want 1", n)
	}
	close(release)
}

func TestReadyzAndStatusSayWhatToDo(t *testing.T) {
	var answer atomic.Value
	answer.Store(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") }))
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { answer.Load().(http.HandlerFunc)(w, q) }))
	defer other.Close()
	config := strings.NewReplacer("OTHER", other.URL, ", shared_blobs: false", ", username: acmebot, password: secret-9, shared_blobs: SHARED",
		"rules:", "rules:\n  - {subjects: everyone, repositories: \"hub/**\", allow: pull}").Replace(several)
	hub := func(f http.HandlerFunc) { answer.Store(f) }
	manifest := func(left string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("RateLimit-Limit", "200;w=21600")
			w.Header().Set("RateLimit-Remaining", left+";w=21600")
			w.Header().Set("Docker-RateLimit-Source", "acmebot")
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, "{}")
		}
	}

	t.Run("budget", func(t *testing.T) {
		hub(manifest("7"))
		r := begin(t, strings.Replace(config, "SHARED", "false", 1), nil, nil)
		if got := r.pull("hub/library/alpine"); got != 200 {
			t.Fatalf("pull: %d", got)
		}
		if body := r.readyz(); body != "ready\nupstream hub: 7 of 200 pulls in 6h left\n" {
			t.Errorf("/readyz says %q", body)
		}
		want := upstreamStatus{Name: "hub", State: "7 of 200 pulls in 6h left", Budget: &budgetStatus{7, 200, 21600, "acmebot"}}
		if diff := cmp.Diff(want, r.statusOf()[1]); diff != "" {
			t.Errorf("status: -want +got\n%s", diff)
		}
		if !r.metric(`regward_upstream_pulls_remaining{upstream="hub"} 7`) || !r.metric(`regward_upstream_pulls_limit{upstream="hub"} 200`) {
			t.Error("the metrics do not tell what is left")
		}
		hub(manifest("150"))
		r.pull("hub/library/alpine")
		if body := r.readyz(); body != "ready\n" {
			t.Errorf("/readyz says %q", body)
		}
	})
	t.Run("foreign realm", func(t *testing.T) {
		hub(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://auth.example.com/token"`)
			w.WriteHeader(401)
		})
		r := begin(t, strings.Replace(config, "SHARED", "false", 1), nil, nil)
		if body := r.readyz(); !strings.HasPrefix(body, "ready\nupstream hub: its tokens come from") || !strings.Contains(body, "add it: token_hosts: [auth.example.com]\n") {
			t.Errorf("/readyz says %q", body)
		}
		r.log.await(t, "add it: token_hosts: [auth.example.com]", 1)
		if got := r.pull("hub/library/alpine"); got != 502 {
			t.Errorf("pull: %d", got)
		}
	})
	t.Run("locked", func(t *testing.T) {
		hub(func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Server", "Nexus/3.96.0-01 (COMMUNITY)")
			if q.Header.Get("Authorization") != "" {
				w.WriteHeader(429)
				return
			}
			w.Header().Set("WWW-Authenticate", `BASIC realm="Sonatype Nexus Repository Manager"`)
			w.WriteHeader(401)
		})
		r := begin(t, strings.Replace(config, ", shared_blobs: SHARED", "", 1), nil, nil)
		body := r.readyz()
		for _, want := range []string{"ready\n", `upstream hub: Nexus has locked the account "acmebot" of this proxy (429, until about `, "upstream hub: is Nexus, which gives any layer", "Spell out `shared_blobs: true`"} {
			if !strings.Contains(body, want) {
				t.Errorf("/readyz says %q, not %q", body, want)
			}
		}
		if strings.Contains(body, "secret-9") {
			t.Error("/readyz tells the password")
		}
		if !r.metric(`regward_upstream_login_refused{upstream="hub"} 1`) || !r.metric(`regward_upstream_login_refused{upstream="registry"} 0`) {
			t.Error("regward_upstream_login_refused does not tell")
		}
		if status, _ := r.ask("GET", r.public()+"/v2/hub/library/alpine/manifests/latest", "ann", "ann-secret"); status != 502 {
			t.Errorf("pull: %d, want 502", status)
		}
	})
}
