package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/internal/redistest"
	"github.com/regward/regward/ratelimit"
)

// limited is a configuration with a limit that is used up by two pulls.
func limited() string {
	return strings.Replace(sockets(), "log:", `limits:
  - {name: people, count: pulls, rate: 2/h, per: user}
  - {name: flow, count: bytes, rate: 100MB/s, per: ip}
  - {name: wave, count: pushes, rate: 9/s, burst: 900, per: user}
log:`, 1)
}

// says runs a command and reports what its words lack.
func (r *running) says(t *testing.T, line string, code int, want ...string) string {
	t.Helper()
	got, out, errs := r.command(strings.Fields(line)...)
	if got != code {
		t.Errorf("regward %s: exit code %d, want %d\n%s%s", line, got, code, out, errs)
	}
	for _, w := range want {
		if !strings.Contains(out+errs, w) {
			t.Errorf("regward %s does not say %q:\n%s%s", line, w, out, errs)
		}
	}
	return out
}

func (r *running) manifest(user string) int {
	r.t.Helper()
	status, _ := r.ask("GET", r.public()+"/v2/library/app/manifests/v1", user, user+"-secret")
	return status
}

// TestLimitsAreShownResetAndOverridden is day 3 of an operator: who uses what,
// give it back, ease it for a while.
func TestLimitsAreShownResetAndOverridden(t *testing.T) {
	config := strings.Replace(limited(), `audit: "off"`, "audit: DIR/audit.log", 1)
	r := begin(t, config, nil, nil)
	out := r.says(t, "limits show", exitDone, "people: 2/h pulls per user", "nothing is used up", "flow: 100MB/s bytes per ip", "wave: 9/s burst 900 pushes per user", "failed_logins: 10/15m failed_logins per ip and user", "counted by this instance alone")
	if strings.Contains(out, "user:ann") {
		t.Errorf("somebody uses what nobody asked for:\n%s", out)
	}
	for range 2 {
		r.pullOf("ann", 200)
	}
	r.pullOf("ann", 429)
	r.says(t, "limits show --user Ann --limit people", exitDone, "user:ann", "2 of 2 used", "next at", "all back at")
	r.says(t, "limits show --user bob", exitDone, "nothing is used up")
	r.says(t, "limits show --limit nobody", exitFailed, `no limit is called "nobody"; there are: people, flow`)
	r.says(t, "status", exitDone, "limits near their end", "user:ann", "2 of 2 used")

	r.says(t, "limits reset people user:bob", exitFailed, `nothing is used up of limit "people" for "user:bob"`)
	r.says(t, "limits reset people user:ann", exitDone, "has all of it again")
	r.pullOf("ann", 200)

	r.says(t, "limits override people --rate 2MB/s --for 2h", exitFailed, "rate:")
	r.says(t, "limits override people --rate 100/h --for 2h", exitDone, `limit "people": 100/h until`)
	r.says(t, "limits show --limit people", exitDone, "user:ann", "1 of 100 used") // before anybody asks again
	for range 5 {
		r.pullOf("ann", 200)
	}
	for _, shown := range []string{"limits show", "limits show --limit people", "status"} {
		r.says(t, shown, exitDone, `override of limit "people": 100/h until`, ", by ")
	}
	r.says(t, "limits override people --end", exitDone, "has ended")
	r.says(t, "limits override people --end", exitFailed, "there is no override of limit \"people\"")
	r.pullOf("ann", 429)
	r.says(t, "limits override --all --dry-run --for 1h", exitDone, "all limits: dry run until", "wrong passwords lock out as before")
	r.says(t, "explain --user ann --repository coolteam/app --action pull", exitDone, ", overridden: dry run until ")
	r.pullOf("ann", 200)
	r.says(t, "limits show", exitDone, "override of all limits: dry run until")
	r.says(t, "limits override --all --end", exitDone, "the override of all limits has ended")
	r.says(t, "reload", exitDone)

	if err := r.logs.reopen(); err != nil { // writes what waits
		t.Fatal(err)
	}
	audit, err := os.ReadFile(filepath.Join(r.dir, "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	for want, n := range map[string]int{`"msg":"reset"`: 1, `"msg":"override"`: 4, `"ended":true`: 2, `"rate":"100/h"`: 2, `"msg":"throttled"`: 2,
		`"trigger":"admin API","by":"regward@` + hostname(): 1} {
		if got := strings.Count(string(audit), want); got != n {
			t.Errorf("the audit log has %d times %s, want %d:\n%s", got, want, n, audit)
		}
	}
}

// Who eases a limit of failed logins is told what that lets in.
func TestEasingALockOutIsWarnedOf(t *testing.T) {
	r := begin(t, limited(), nil, nil)
	r.says(t, "limits override failed_logins --rate 1000/s --for 1h", exitDone, "warning: passwords may be guessed at 1000/s meanwhile")
	if out := r.says(t, "limits override failed_logins --rate 1/h --for 1h", exitDone); strings.Contains(out, "warning") {
		t.Errorf("a stricter limit is warned of:\n%s", out)
	}
	r.says(t, "limits override failed_logins --end", exitDone)
}

// pullOf pulls as a user and compares the status.
func (r *running) pullOf(user string, want int) {
	r.t.Helper()
	if got := r.manifest(user); got != want {
		r.t.Errorf("a pull of %s is answered %d, want %d", user, got, want)
	}
}

// A user who is revoked has to log in anew; the token from before is worth
// nothing.
func TestRevokeEndsATokenAtOnce(t *testing.T) {
	r := begin(t, strings.Replace(sockets(), `audit: "off"`, "audit: stdout", 1), nil, nil)
	_, body := r.ask("GET", r.public()+"/token?service=localhost&scope=repository:coolteam/app:pull", "ann", "ann-secret")
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(body), &token); err != nil || token.Token == "" {
		t.Fatalf("no token: %s", body)
	}
	use := func() int {
		req, err := http.NewRequest("GET", r.public()+"/v2/coolteam/app/manifests/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token.Token)
		res, err := r.client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := use(); got != http.StatusOK {
		t.Fatalf("with the token: %d, want 200", got)
	}
	r.says(t, "revoke --user Ann", exitDone, "is put out", "may log in again")
	if got := use(); got != http.StatusUnauthorized {
		t.Errorf("with the token from before the revocation: %d, want 401", got)
	}
	if status, _ := r.ask("GET", r.public()+"/v2/coolteam/app/manifests/v1", "ann", "ann-secret"); status != http.StatusOK {
		t.Errorf("with the password: %d, want 200", status)
	}
	r.log.await(t, `"msg":"revocation"`, 1)
}

// Everybody can be put out at once: what was proven of whomever counts no more.
// Who is meant has to be said, and only in one way.
func TestRevokeEverybody(t *testing.T) {
	one, two := twins(t, redistest.Start(t), "")
	token := func(r *running, user string) string {
		_, body := r.ask("GET", r.public()+"/token?service=localhost&scope=repository:library/app:pull", user, user+"-secret")
		var token struct{ Token string }
		if err := json.Unmarshal([]byte(body), &token); err != nil || token.Token == "" {
			t.Fatalf("no token for %s: %s", user, body)
		}
		return token.Token
	}
	here, there := token(one, "ann"), token(two, "ann") // each has a user file of its own, so a token of one is none of the other
	use := func(r *running, token string) int {
		req, err := http.NewRequest("GET", r.public()+"/v2/library/app/tags/list", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := r.client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := []int{use(one, here), use(two, there)}; got[0] != http.StatusOK || got[1] != http.StatusOK {
		t.Fatalf("with the tokens: %d, want 200 twice", got)
	}
	one.says(t, "revoke", exitUsage, "whom? --user NAME, or --everybody")
	one.says(t, "revoke --user ann --everybody", exitUsage, "one of the two: --user NAME, or --everybody")
	one.says(t, "revoke --everybody", exitDone, "everybody is put out", "may log in again")
	if got := use(one, here); got != http.StatusUnauthorized {
		t.Errorf("with a token from before: %d, want 401", got)
	}
	soon(t, "it reaches the other instance", func() bool { return use(two, there) == http.StatusUnauthorized })
	if got := use(one, token(one, "ann")); got != http.StatusOK {
		t.Errorf("with a token from after: %d, want 200", got)
	}

	client := &instance{addresses: []string{"unix:" + one.dir + "/admin.sock"}, what: "admin.listen"}
	for body, want := range map[string]int{
		`{"everybody":false}`:              400,
		`{"user":"ann","everybody":true}`:  400,
		`{"everybody":true,"by":"a test"}`: 200,
		`{"user":"ann\nbob"}`:              400,
	} {
		if status, text, err := client.send(t.Context(), "POST", "/api/v1/revoke", []byte(body)); err != nil || status != want {
			t.Errorf("%s: %d %s (%v), want %d", body, status, text, err, want)
		}
	}
}

// A revocation and an override outlive a restart.
func TestWhatWasChangedOutlivesARestart(t *testing.T) {
	r := begin(t, limited(), nil, nil)
	r.says(t, "revoke --user ann", exitDone)
	r.says(t, "limits override people --rate 100/h --for 2h", exitDone)
	again := newServer(&app{getenv: r.app.getenv, stdout: newLines(), stderr: newLines()}, configSource{path: r.src.path, getenv: r.app.getenv})
	r.listeners.close()
	if err := again.start(); err != nil {
		t.Fatal(err)
	}
	defer again.stop()
	if n := again.cache.Revoked(); n != 1 {
		t.Errorf("%d revocations after the restart, want 1", n)
	}
	if o := again.handler.Overrides(); len(o) != 1 || o[0].Limit != "people" || o[0].Rate != "100/h" {
		t.Errorf("overrides after the restart: %v", o)
	}
}

func TestStatusTellsOfTheInstance(t *testing.T) {
	r := begin(t, sockets(), nil, nil)
	r.says(t, "status", exitDone, "1 instance\n", hostname()+" (asked)", "config "+r.live.Load().cfg.Version, "loaded ", "redis: none", "upstream", "certificate localhost: ends", "no limit is near its end")
	var st status
	out := r.says(t, "status --output json", exitDone)
	if err := json.Unmarshal([]byte(out), &st); err != nil || len(st.Instances) != 1 || !st.Instances[0].Self || st.Redis != nil || !st.Shared.Alone {
		t.Errorf("status --output json: %v\n%s", err, out)
	}
}

func TestTopTellsWhoDoesMost(t *testing.T) {
	r := begin(t, limited(), nil, nil)
	for range 2 {
		r.pullOf("ann", 200)
	}
	r.pullOf("ann", 429)
	r.says(t, "top --once", exitDone, "CLIENT", "user:ann", "NAMESPACE", "library", "LIMIT", "people")
	var top topAnswer
	out := r.says(t, "top --output json", exitDone)
	if err := json.Unmarshal([]byte(out), &top); err != nil || len(top.Clients) != 1 || top.Clients[0].Name != "user:ann" {
		t.Errorf("top --output json: %v\n%s", err, out)
	}
}

// Those who share a bucket are not one client whose name is a star.
func TestWhoSharesABucketIsExplained(t *testing.T) {
	var out strings.Builder
	used := []usageState{{Client: ratelimit.Shared, Used: 5, Size: 5}, {Client: "ip:10.0.0.1", Used: 1, Size: 5}}
	(&limitsAnswer{Limits: []limitStatus{{Name: "perip", Used: used}, {Name: "people", Used: used[1:]}}}).print(&out, time.Now())
	if n := strings.Count(out.String(), "* are all who came when the 100000 clients that can be told apart were there already"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &out)
	}
}

// A screen is filled and never scrolled, and no name reaches it as it came.
func TestTopFitsTheScreen(t *testing.T) {
	answer := topAnswer{Host: "here", At: time.Unix(0, 0)}
	for range 100 {
		answer.Clients = append(answer.Clients, talker{Name: "user:\x1b[2Jevil" + strings.Repeat("x", 300), Requests: 12})
		answer.Namespaces = append(answer.Namespaces, talker{Name: "library", BytesOut: 5e9})
		answer.Limits = append(answer.Limits, topLimit{Name: "people", Throttled: 3})
	}
	for _, size := range [][2]int{{80, 24}, {20, 5}, {200, 60}, {1, 1}} {
		frame := string(answer.frame(size[0], size[1]))
		lines := strings.Split(strings.TrimSuffix(strings.TrimPrefix(frame, ansiHome), ansiBelow), "\r\n")
		if len(lines) > size[1] {
			t.Errorf("%v: %d lines", size, len(lines))
		}
		for _, line := range lines {
			line = strings.TrimSuffix(line, ansiRest)
			if len([]rune(line)) > size[0] || strings.Contains(line, "\x1b") {
				t.Errorf("%v: line %q", size, line)
			}
		}
	}
	keys := make(chan struct{})
	go quitKey(strings.NewReader("xyq"), func() { close(keys) })
	<-keys
}

// Every command says so in words where no instance runs, and which file to look
// into.
func TestCommandsWithoutAnInstance(t *testing.T) {
	r := begin(t, limited(), nil, nil)
	r.listeners.close()
	for _, line := range []string{
		"limits show", "limits reset people user:ann", "limits override people --rate 3/s --for 1h", "limits override people --end",
		"status", "top", "top --once", "revoke --user ann", "reload",
	} {
		r.says(t, line, exitFailed, "no running instance at unix:", "is `regward serve` running, with this configuration?")
	}
	r.edit(`admin: {listen: "unix:`, `admin: {listen: off, token_file: "`)
	r.says(t, "status", exitFailed, "admin.listen is off in")
}

func TestWrongUseOfLimits(t *testing.T) {
	r := begin(t, limited(), nil, nil)
	for line, want := range map[string]string{
		"limits":                                    "choose show, reset or override",
		"limits override":                           "name a limit, or --all",
		"limits override people --all --dry-run":    "name a limit, or --all",
		"limits override people --for 2h":           "what shall change",
		"limits override people --rate 3/s":         "for how long",
		"limits override --all --rate 3/s --for 1h": "one rate does not fit all limits",
		"limits override people --end --rate 3/s":   "--end goes with nothing else",
		"limits show --most 0":                      "--most is a number",
		"limits reset people":                       "of which limit, and whose?",
		"revoke":                                    "whom? --user NAME, or --everybody",
		"top --every 1ms":                           "--every is 200ms to 1h",
		"audit":                                     "audit: which log? as in: regward audit audit.log",
		"audit --since yesterday x":                 `"yesterday" is no day`,
		"audit --repository /x/ x":                  "--repository",
		"audit --events pulls x":                    `no event is called "pulls"`,
	} {
		r.says(t, line, exitUsage, want)
	}
}

// Who mistypes is told what was probably meant, and what to write.
func TestMistypedLimits(t *testing.T) {
	r := begin(t, limited(), nil, nil)
	r.pullOf("ann", 200)
	for line, want := range map[string]string{
		"limits show --limit peopel":                        `no limit is called "peopel"; did you mean "people"? there are: people, flow`,
		"limits reset peopl user:ann":                       `did you mean "people"?`,
		"limits override Flow --dry-run --for 1h":           `did you mean "flow"?`,
		"limits override floww --end":                       `did you mean "flow"?`,
		"limits override zzzzzzzz --rate 3/s --for 1h":      `no limit is called "zzzzzzzz"; there are: people, flow`,
		"limits override people --end":                      `there is no override of limit "people"; regward status lists those in force`,
		"limits reset people ann":                           `nothing is used up of limit "people" for "ann"; did you mean user:ann?`,
		"limits reset people 192.0.2.7":                     `did you mean ip:192.0.2.7?`,
		"limits reset people user:bob":                      "`regward limits show --limit people` names those who have",
		"limits override people --rate fast --for 1h":       `"fast" is not a rate; write COUNT/PERIOD`,
		"limits override people --rate 100 --for 1h":        `"100" has no period`,
		"limits override flow --rate 3/s --for 1h":          `did you mean "3MB/s"?`,
		"limits override people --rate 0/s --for 1h":        "allows nothing at all",
		"limits override failed_logins --rate x/y --for 1h": "no whole number",
	} {
		r.says(t, line, exitFailed, want)
	}
	for line, want := range map[string]string{
		"limits shwo":        `limits: there is no "shwo"; choose show, reset or override`,
		"limits show people": "limits show: --limit people?",
		"limits override people --rate 3/s --for 0":     `--for: "0" is over at once; write as in 2h, 90m or 7d`,
		"limits override people --rate 3/s --for 0s":    "is over at once",
		"limits override people --rate 3/s --for -2h":   `--for: "-2h" is less than nothing; write as in 2h, 90m or 7d`,
		"limits override people --rate 3/s --for 2":     `--for: "2" has no unit; write as in 2h, 90m or 7d`,
		"limits override people --rate 3/s --for soon":  `--for: "soon" is no duration; write as in 2h, 90m or 7d`,
		"limits override people --rate 3/s --for 1000d": `--for: "1000d" is longer than 30d: change the configuration`,
		"limits override people flow --end":             "limits override: one limit at a time, or --all",
		"limits reset people user:ann user:bob":         "limits reset: of which limit, and whose? as in: regward limits reset people user:ann",
		"revoke ann":                                    "revoke: --user ann?",
		"audit --since 2h --until 3h x":                 "audit: --until is before --since",
		"top --once everything":                         `top: takes no "everything"`,
		"status everything":                             "everything",
	} {
		r.says(t, line, exitUsage, want)
	}
	r.says(t, "limits reset people user:ANN", exitDone, "has all of it again") // names are compared so
	out := r.says(t, "limits override people --dry-run --for 2d --output json", exitDone, `"dry_run": true`)
	if !strings.Contains(out, `"until"`) {
		t.Error(out)
	}
	r.says(t, "status", exitDone, "dry run until "+time.Now().UTC().Add(48*time.Hour).Format("2006-01-02 ")) // the time alone would be today's

	client := &instance{addresses: []string{"unix:" + r.dir + "/admin.sock"}, what: "admin.listen"}
	for _, length := range []string{"0s", "-1h", "1000d", "", "2"} {
		status, body, err := client.send(t.Context(), "POST", "/api/v1/limits/override", []byte(`{"limit":"people","rate":"1/s","for":"`+length+`"}`))
		if err != nil || status != 400 || !strings.HasPrefix(string(body), "for: ") {
			t.Errorf("for %q: %d %s (%v)", length, status, body, err)
		}
	}
}

// What changes something is as guarded as a reload, and takes no field that it
// does not know.
func TestTheAdminAPIRefusesWhatItDoesNotUnderstand(t *testing.T) {
	r := begin(t, limited(), nil, nil)
	client := &instance{addresses: []string{"unix:" + r.dir + "/admin.sock"}, what: "admin.listen"}
	// A command of a later version asks for what this one does not know.
	if _, text, err := client.send(t.Context(), "POST", "/api/v1/revoke", []byte(`{"everyone":true}`)); err != nil || !strings.Contains(string(text), `unknown field "everyone"`) || !strings.Contains(string(text), "of another version than the instance?") {
		t.Errorf("%s (%v)", text, err)
	}
	for _, tt := range []struct {
		method, target, body string
		want                 int
	}{
		{"POST", "/api/v1/limits/override", `{"limit":"people","dryrun":true,"for":"1h"}`, 400}, // misspelt
		{"POST", "/api/v1/limits/override", `{"limit":"people","for":"1h"}`, 400},
		{"POST", "/api/v1/limits/override", `{"limit":"x","rate":"1/s","for":"1h"}`, 404},
		{"POST", "/api/v1/limits/override", `{"limit":"people","all":true,"dry_run":true,"for":"1h"}`, 400},
		{"POST", "/api/v1/limits/override", strings.Repeat("x", 1<<17), 400},
		{"DELETE", "/api/v1/limits/override", "", 400},
		{"POST", "/api/v1/limits/reset", `{"limit":"people"}`, 400},
		{"POST", "/api/v1/limits/reset", `{"limit":"x","client":"user:ann"}`, 404},
		{"POST", "/api/v1/revoke", `{"user":""}`, 400},
		{"POST", "/api/v1/revoke", `{"user":"` + strings.Repeat("x", 300) + `"}`, 400},
		{"GET", "/api/v1/revoke", "", 405},
		{"GET", "/api/v1/limits?most=1000000", "", 400},
		{"GET", "/api/v1/top?most=0", "", 400},
		{"GET", "/api/v1/limits/override", "", 200},
	} {
		status, body, err := client.send(t.Context(), tt.method, tt.target, []byte(tt.body))
		if err != nil && len(tt.body) > 1<<16 { // it hangs up before it has read all that
			continue
		}
		if err != nil || status != tt.want {
			t.Errorf("%s %s %.80s: %d %s (%v), want %d", tt.method, tt.target, tt.body, status, body, err, tt.want)
		}
	}
}

// What is left of a limit that a reload took away is nobody's concern.
func TestStatusForgetsLimitsThatAreGone(t *testing.T) {
	r := begin(t, limited(), nil, nil)
	r.pullOf("ann", 200)
	r.pullOf("ann", 200)
	r.says(t, "status", exitDone, "limits near their end:\n  people")
	r.watcher.close()
	r.edit("{name: people, count: pulls, rate: 2/h,", "{name: folk, count: pulls, rate: 2/h,")
	r.says(t, "reload", exitDone, "limit people is gone")
	r.says(t, "status", exitDone, "no limit is near its end")
}
