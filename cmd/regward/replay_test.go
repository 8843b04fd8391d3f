package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/auth"
	"github.com/regward/regward/proxy"
	"github.com/regward/regward/ratelimit"
	"github.com/regward/regward/replay"
)

// What a replay remembers is bounded, and what is beyond is said.
func TestATallyIsBounded(t *testing.T) {
	s := &proxy.Settings{Limits: []proxy.Limit{{Name: "people", Count: proxy.Pulls, Per: proxy.PerUser, Rate: ratelimit.Rate{Events: 1, Per: time.Hour, Burst: 1}}}}
	n := newTally(s, true)
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	for i := range maxReplayClients + 5 {
		o := proxy.Outcome{KnowUser: true, Refused: 0, Asked: []proxy.Asked{{Client: fmt.Sprint("user:", i), Wait: time.Minute}}}
		n.count(&proxy.Past{Time: at}, &o)
	}
	for i := range maxReplayDenials + 5 {
		o := proxy.Outcome{KnowUser: true, Refused: -1, Denied: true, Caller: auth.Caller{Identity: auth.Identity{Name: fmt.Sprint(i)}}}
		n.count(&proxy.Past{Time: at}, &o)
	}
	n.overflowed = 3
	r := n.report("candidate.yaml", 0)
	if len(r.Limits[0].Who) != maxReplayClients || r.Limits[0].Throttled != maxReplayClients+5 || len(r.Denials) != maxReplayDenials || r.Denied != maxReplayDenials+5 {
		t.Errorf("%d clients of %d refusals, %d denials of %d", len(r.Limits[0].Who), r.Limits[0].Throttled, len(r.Denials), r.Denied)
	}
	for _, want := range []string{"5 requests of clients beyond the first 100000", "5 denials beyond the first 10000", "3 requests of clients that shared a bucket"} {
		if !strings.Contains(strings.Join(r.Unknown, "\n"), want) {
			t.Errorf("not said: %q in %q", want, r.Unknown)
		}
	}
	var out bytes.Buffer
	if err := r.print(&out); err != nil || !strings.Contains(out.String(), "and 99980 more, whom --output json names") {
		t.Errorf("a list for people that never ends: %d bytes, %v", out.Len(), err)
	}
}

// For how long: the time in which a client could not get in, however often it
// tried meanwhile.
func TestHowLongAClientIsOut(t *testing.T) {
	at := func(minutes int) time.Time {
		return time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)
	}
	var c clientTally
	c.throttle(at(0), 10*time.Minute)
	c.throttle(at(4), 6*time.Minute)
	c.throttle(at(9), time.Minute)
	c.throttle(at(30), 5*time.Minute)
	if c.out != 15*time.Minute || c.longest != 10*time.Minute || c.spells != 2 || c.refused != 4 {
		t.Errorf("out %v, longest %v, %d spells, %d times; want 15m, 10m, 2, 4", c.out, c.longest, c.spells, c.refused)
	}
}

func TestLogsWithoutUsers(t *testing.T) {
	limits := []proxy.Limit{{Name: "people", Per: proxy.PerUser}, {Name: "net", Per: proxy.PerIP}, {Name: "failed_logins", Count: proxy.FailedLogins, Where: builtIn}}
	for _, tt := range []struct {
		files []replay.File
		want  string
	}{
		{[]replay.File{{Name: "a", Requests: 2}}, "a names no user (docker sends bearer tokens): limits per user cannot be tried with it; 1 of 2 limits tried. Log of regward itself, or --user-from FIELD, is needed."},
		{[]replay.File{{Name: "a", Requests: 2}, {Name: "b", Requests: 2, Users: 2}, {Name: "c", Requests: 1}}, "a and c name no user"},
		{[]replay.File{{Name: "a", Requests: 2}, {Name: "b", Requests: 2}, {Name: "c", Requests: 1}}, "a and 2 more name no user"},
		{[]replay.File{{Name: "a", Requests: 2, Users: 1}}, "a names the user of 1 of 2 requests"},
		{[]replay.File{{Name: "a"}, {Name: "b", Requests: 2, Users: 2}}, ""},
	} {
		n := newTally(&proxy.Settings{Limits: limits}, false)
		n.logs.Files = tt.files
		said := ""
		n.withoutUsers(func(format string, args ...any) { said += fmt.Sprintf(format, args...) + "\n" })
		if !strings.HasPrefix(said, tt.want) || tt.want == "" && said != "" {
			t.Errorf("%v: said %q, want %q", tt.files, said, tt.want)
		}
	}
}

func TestSuggestedRatesAreEnough(t *testing.T) {
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		burst int // of 100/h
		share float64
		want  suggestion
		words string
	}{
		{100, 0, suggestion{Rate: "40/h", AtOnce: 40, Need: 40, Exact: true}, "rate: 40/h\tthrottles nobody\tthe busiest client needs 40"},
		{100, 0.25, suggestion{Rate: "30/h", AtOnce: 40, Need: 40, Throttled: 1, Exact: true}, "rate: 30/h\tthrottles 1 of 4 clients\tthe busiest client needs 40"},
		{100, 0.99, suggestion{Rate: "10/h", AtOnce: 40, Need: 40, Throttled: 3, Exact: true}, "rate: 10/h\tthrottles 3 of 4 clients\tthe busiest client needs 40"},
		{200, 0, suggestion{Rate: "1/h", Burst: 200, AtOnce: 40, Exact: true}, "rate: 1/h, burst: 200 as configured\tthrottles nobody\tthe burst alone is enough for the busiest client"},
		{25, 0, suggestion{Burst: 25, AtOnce: 40, Throttled: 2, Exact: true}, "no rate, burst: 25 as configured\t2 of 4 clients came with more than that at once, up to 40: write a burst as large"},
		{25, 0.5, suggestion{Rate: "1/h", Burst: 25, AtOnce: 40, Throttled: 2, Exact: true}, "rate: 1/h, burst: 25 as configured\tthrottles 2 of 4 clients\tthe busiest client came with 40 at once"},
	} {
		rate := ratelimit.Rate{Events: 100, Per: time.Hour, Burst: tt.burst}
		n := newTally(&proxy.Settings{Limits: []proxy.Limit{{Name: "people", Count: proxy.Pulls, Per: proxy.PerUser, Rate: rate}}}, true)
		for i := range 4 { // 10, 20, 30, 40 at once
			for range 10 * (i + 1) {
				n.limits[0].count(at, &proxy.Asked{Client: fmt.Sprint(i)}, false, true)
			}
		}
		got := n.limits[0].lowest(tt.share)
		if *got != tt.want || got.words(4) != tt.words {
			t.Errorf("burst %d, share %v: %+v, want %+v\n%q, want\n%q", tt.burst, tt.share, *got, tt.want, got.words(4), tt.words)
		}
	}
}

// What a limit lets through at once is told wherever its rate is.
func TestWordsOfALimitHaveItsBurst(t *testing.T) {
	for _, tt := range []struct {
		limit proxy.Limit
		want  string
	}{
		{proxy.Limit{Count: proxy.Pulls, Per: proxy.PerUser, Rate: ratelimit.Rate{Events: 40, Per: time.Second, Burst: 4000}}, "40/s burst 4000 pulls per user"},
		{proxy.Limit{Count: proxy.Pulls, Per: proxy.PerUser, Rate: ratelimit.Rate{Events: 40, Per: time.Second, Burst: 40}}, "40/s pulls per user"},
		{proxy.Limit{Count: proxy.Bytes, Per: proxy.PerIP, Rate: ratelimit.Rate{Events: 60e6, Per: time.Minute, Burst: 1e6}}, "60MB/m bytes per ip"},
		{proxy.Limit{Count: proxy.Bytes, Per: proxy.PerIP, Rate: ratelimit.Rate{Events: 60e6, Per: time.Minute, Burst: 5e6}}, "60MB/m burst 5MB bytes per ip"},
		{proxy.Limit{Count: proxy.Transfers, Per: proxy.PerIP, Most: 8}, "8 transfers at once per ip"},
	} {
		if got := rateWords(&tt.limit); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestProgressIsForTerminals(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	p.show(1, 2, 3)
	p.end()
	if out.Len() != 0 {
		t.Errorf("drawn where there is no terminal: %q", out.String())
	}
	now := time.Unix(0, 0)
	p = &progress{w: &out, now: func() time.Time { return now }, begun: now}
	now = now.Add(10 * time.Second)
	p.show(5e8, 2e9, 4e6)
	p.show(6e8, 2e9, 5e6) // too soon
	if got := out.String(); got != "\r\x1b[K[=======                       ] 25% of 2.0 GB, 400000 lines/s, 30s left" {
		t.Errorf("drawn %q", got)
	}
	out.Reset()
	now = now.Add(10 * time.Second)
	p.show(1e9, 0, 8e6) // stdin is among them
	if got := out.String(); got != "\r\x1b[K1.0 GB read, 400000 lines/s" {
		t.Errorf("drawn %q", got)
	}
	out.Reset()
	if p.end(); out.String() != "\r\x1b[K" {
		t.Errorf("left behind: %q", out.String())
	}
}

// replayed runs replay with a candidate and a log, in a folder of their own.
func replayed(t *testing.T, candidate, log string, args ...string) (code int, out, errs string) {
	t.Helper()
	dir := t.TempDir()
	put(t, filepath.Join(dir, "candidate.yaml"), candidate)
	put(t, filepath.Join(dir, "access.log"), log)
	t.Chdir(dir)
	var o, e bytes.Buffer
	code = run(t.Context(), append([]string{"replay", "--config", "candidate.yaml"}, args...), func(string) string { return "" }, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

const replayHead = `
hostname: registry.example.com
tls: {mode: internal}
upstream: http://registry:5000
auth: {htpasswd: users}
`

// pullOf is a line of a pull, a minute after the one before.
func pullOf(i int, user, addr, repository string) string {
	credential := "token"
	if user == "anonymous" {
		credential = "anonymous token"
	}
	return fmt.Sprintf(`{"time":"%s","msg":"request","request_id":"id%d","host":"registry.example.com","method":"GET","path":"/v2/%s/manifests/1","route":"manifest","user":"%s","credential":"%s","addr":"%s","repository":"%[3]s","action":"pull","reference":"1","rule":"","free_pull":false,"status":200,"bytes_in":0,"bytes_out":5000,"duration_ms":1,"user_agent":"crane"}`+"\n",
		benchStart.Add(time.Duration(i)*time.Minute).Format("2006-01-02T15:04:05.000Z"), i, repository, user, credential, addr)
}

// Who would have noticed nothing is named nowhere: not by a limit, a dry run, a
// rule or a suggestion, and neither to people nor to programs.
func TestReplayNamesNobodyElse(t *testing.T) {
	candidate := replayHead + `
rules:
  - {subjects: everyone, repositories: "library/**", allow: pull}
  - {subjects: "user:dryden", repositories: "secret/**", deny: pull, dry_run: true}
  - {subjects: authenticated, repositories: "secret/**", allow: pull}
limits:
  - {name: people, subjects: authenticated, count: pulls, rate: 5/6h, per: user}
  - {name: addresses, subjects: anonymous, count: pulls, rate: 5/6h, per: ip}
  - {name: tried, count: pulls, rate: 6/6h, per: user, dry_run: true, exempt: "user:throttled"}
  - {name: slow, count: bytes, rate: 1kB/s, per: user, from: 10.9.0.0/16}
`
	log, i := "", 0
	for _, who := range []struct {
		user, addr, repository string
		n                      int
	}{
		{"throttled", "10.1.0.1", "library/a", 7}, {"spared", "10.1.0.2", "library/a", 5},
		{"anonymous", "10.1.0.3", "library/a", 7}, {"anonymous", "10.1.0.4", "library/a", 5},
		{"denied", "10.1.0.5", "private/a", 2}, {"allowed", "10.1.0.6", "secret/a", 2}, {"dryden", "10.1.0.7", "secret/a", 2},
		{"slowed", "10.9.0.1", "library/a", 1}, {"quick", "10.1.0.8", "library/a", 1},
	} {
		for range who.n {
			log += pullOf(i, who.user, who.addr, who.repository)
			i++
		}
	}
	for _, more := range [][]string{nil, {"--suggest"}, {"--suggest", "--share", "50%"}, {"--suggest", "--output", "json"}} {
		code, out, errs := replayed(t, candidate, log, append([]string{"access.log"}, more...)...)
		if code != exitDone {
			t.Fatalf("%d %s", code, errs)
		}
		for _, named := range []string{"throttled", "10.1.0.3", "denied", "dryden", "slowed", "private/a"} {
			if !strings.Contains(out, named) {
				t.Errorf("%v: %s is not named\n%s", more, named, out)
			}
		}
		for _, nobody := range []string{"spared", "10.1.0.4", "user allowed", "user:allowed", `"allowed"`, "quick", "10.1.0.6", "10.1.0.8"} {
			if strings.Contains(out, nobody) {
				t.Errorf("%v: %s is named, and would have noticed nothing\n%s", more, nobody, out)
			}
		}
	}
}

// A dry run that would have thrown somebody out names him, and says that it is one.
func TestReplayOfADryRun(t *testing.T) {
	candidate := replayHead + `
rules: [{subjects: everyone, repositories: "**", allow: pull}]
limits: [{name: tried, count: pulls, rate: 2/6h, burst: 3, per: user, dry_run: true}]
`
	log := ""
	for i := range 5 {
		log += pullOf(i, "ann", "10.1.0.1", "library/a")
	}
	log += pullOf(6, "bob", "10.1.0.2", "library/a")
	code, out, errs := replayed(t, candidate, log, "access.log", "--suggest")
	for _, want := range []string{"tried: 2/6h burst 3 pulls per user (dry run), limits[0] at candidate.yaml:8 would have throttled, were it no dry run,\n  user ann  2 (40.0%) of 5 requests",
		"rate: 200/6h, burst: 3 as configured"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("%d %s\nwant %q in\n%s", code, errs, want, out)
		}
	}
	if strings.Contains(out, "bob") {
		t.Errorf("bob is named\n%s", out)
	}
}

// What goes wrong before anything is read, or in what is read: which file, which
// line, and 2 for wrong use.
func TestReplayOfBadInput(t *testing.T) {
	good := replayHead + "rules: [{subjects: everyone, repositories: \"**\", allow: pull}]\n"
	log := pullOf(0, "ann", "10.1.0.1", "library/a") + "what is this\n"
	for _, tt := range []struct {
		candidate, log string
		args           []string
		code           int
		want           string // in what is printed, or said
	}{
		{good, log, []string{"access.log"}, exitDone, "access.log: 1 of 2 lines could not be read:\n      2: \"what is this\""},
		{good, "", []string{"access.log"}, exitFailed, "regward: no line could be read as a request:\n  access.log is empty\n"},
		{good, "\x00\xff junk\n", []string{"access.log"}, exitFailed, "  access.log:1: \"\\x00\\xff junk\"\n"},
		{good, "\x1f\x8b\x08", []string{"access.log"}, exitFailed, "access.log ends in the middle (unexpected EOF)"},
		{good, log, []string{"gone.log"}, exitFailed, "open gone.log: no such file or directory"},
		{good, log, []string{"."}, exitFailed, ". is a folder: name the logs in it"},
		{good, log, []string{"-", "-"}, exitUsage, "- is named twice"},
		{good, log, []string{"access.log", "./access.log"}, exitUsage, "./access.log is named twice, as access.log too"},
		{good, log, nil, exitUsage, "replay: which log?"},
		{good, log, []string{"access.log", "--format", "iis"}, exitUsage, `"iis" is no format`},
		{good + "rulez: 1\n", log, []string{"access.log"}, exitFailed, `candidate.yaml:7:1: unknown key "rulez"`},
		{good, strings.Replace(log, "2026", "2226", 1), []string{"access.log"}, exitDone, "the last request is of 2226-11-20 08:59:59, which is yet to come: was a clock wrong?"},
	} {
		code, out, errs := replayed(t, tt.candidate, tt.log, tt.args...)
		if code != tt.code || !strings.Contains(out+errs, tt.want) {
			t.Errorf("%q: %d, want %d and %q\n%s%s", tt.args, code, tt.code, tt.want, out, errs)
		}
	}
}

// BenchmarkReplay is the whole of it, read, parsed and judged: in lines a second
// on one core with GOMAXPROCS=1. The promise is 300,000 of regward's own log.
func BenchmarkReplay(b *testing.B) {
	const n = 100_000
	for _, kind := range []struct {
		name string
		line func(i int) string
		gzip bool
	}{{"regward", ownBenchLine, false}, {"regward.gz", ownBenchLine, true}, {"nginx", nginxBenchLine, false}} {
		b.Run(kind.name, func(b *testing.B) {
			dir := b.TempDir()
			config, log := filepath.Join(dir, "candidate.yaml"), filepath.Join(dir, "access.log")
			var text bytes.Buffer
			var w io.Writer = &text
			if kind.gzip {
				w = gzip.NewWriter(&text)
			}
			size := 0
			for i := range n {
				wrote, err := io.WriteString(w, kind.line(i))
				if err != nil {
					b.Fatal(err)
				}
				size += wrote
			}
			if z, ok := w.(io.Closer); ok {
				if err := z.Close(); err != nil {
					b.Fatal(err)
				}
			}
			put(b, config, benchCandidate)
			put(b, log, text.String())
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var out, errs bytes.Buffer
				if code := run(b.Context(), []string{"replay", log, "--config", config}, func(string) string { return "" }, strings.NewReader(""), &out, &errs); code != exitDone {
					b.Fatal(errs.String())
				}
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

// benchCandidate has what a company's configuration has: ten rules, groups and
// five limits.
const benchCandidate = `
hostname: registry.example.com
tls: {mode: internal}
upstream: http://registry:5000
auth: {htpasswd: users}
groups: {ci: [user1, user2, user3, user4], ops: [user5, user6], team: [user7, user8, user9, user10]}
rules:
  - {subjects: everyone,      repositories: "library/**",       allow: pull}
  - {subjects: group:ops,     repositories: "**",               allow: [pull, push, delete]}
  - {subjects: group:ci,      repositories: "team*/**",         allow: [pull, push]}
  - {subjects: authenticated, repositories: "users/{user}/**",  allow: [pull, push]}
  - {subjects: group:team,    repositories: "team7/**",         allow: [pull, push]}
  - {subjects: authenticated, repositories: "team1/secret/**",  deny: [pull, push]}
  - {subjects: user:user11,   repositories: "team2/**",         allow: push}
  - {subjects: user:user12,   repositories: ["team3/*", "team4/*"], allow: push}
  - {subjects: authenticated, repositories: "team9/private-*",  deny: pull}
  - {subjects: authenticated, repositories: "**",               allow: pull}
limits:
  - {name: anonymous, subjects: anonymous,     count: pulls,    rate: 100/6h,  per: ip}
  - {name: people,    subjects: authenticated, count: pulls,    rate: 1000/6h, per: user, exempt: "group:ci"}
  - {name: ci,        subjects: group:ci,      count: pulls,    rate: 40/s, burst: 4000, per: user}
  - {name: addresses, subjects: everyone,      count: requests, rate: 200/s,   per: ip}
  - {name: pushes,    subjects: authenticated, count: pushes,   rate: 60/h,    per: user}
`

func benchPath(i int) (path, route, reference string) {
	if i%3 == 0 {
		return "manifests/1.2", "manifest", "1.2"
	}
	reference = fmt.Sprintf("sha256:%064x", i)
	return "blobs/" + reference, "blob", reference
}

var benchStart = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)

func benchAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i % 7), byte(i % 251)}) }

func ownBenchLine(i int) string {
	path, route, reference := benchPath(i)
	free := ""
	if route == "manifest" {
		free = `,"free_pull":false`
	}
	return fmt.Sprintf(`{"time":"%s","msg":"request","request_id":"id%08d","host":"registry.example.com","method":"GET","path":"/v2/team%d/app/%s","route":"%s","user":"user%d","credential":"token","addr":"%s","via":"htpasswd","repository":"team%d/app","action":"pull","reference":"%s","rule":"rules[0] at regward.yaml:7"%s,"status":200,"bytes_in":0,"bytes_out":123456,"duration_ms":12.5,"upstream_status":200,"upstream_ms":1.234,"user_agent":"docker/27.3.1 go/go1.22.7 os/linux arch/amd64 UpstreamClient(Docker-Client/27.3.1 \\(linux\\))"}`+"\n",
		benchStart.Add(time.Duration(i)*20*time.Millisecond).Format("2006-01-02T15:04:05.000Z"), i, i%300, path, route, i%2000, benchAddr(i), i%300, reference, free)
}

func nginxBenchLine(i int) string {
	path, _, _ := benchPath(i)
	return fmt.Sprintf(`%s - - [%s] "GET /v2/team%d/app/%s HTTP/1.1" 200 123456 "-" "docker/27.3.1 go/go1.22.7 os/linux arch/amd64 UpstreamClient(Docker-Client/27.3.1 \\(linux\\))"`+"\n",
		benchAddr(i), benchStart.Add(time.Duration(i)*20*time.Millisecond).Format("02/Jan/2006:15:04:05 +0000"), i%300, path)
}

func put(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
