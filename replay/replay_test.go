package replay

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// ownLine is a line of regward's access log, at a second of one day.
func ownLine(id string, second float64) string {
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC).Add(time.Duration(second * float64(time.Second)))
	return fmt.Sprintf(`{"time":"%s","msg":"request","request_id":"%s","host":"r.example.com","method":"GET","path":"/v2/team/app/manifests/1","route":"manifest","user":"ann","credential":"token","addr":"192.0.2.1","via":"htpasswd","repository":"team/app","action":"pull","reference":"1","rule":"","free_pull":true,"slowed_by":"c","slowed_ms":2.25,"would_throttle":["a","b"],"status":200,"bytes_in":7,"bytes_out":100,"duration_ms":12.5,"upstream_status":200,"user_agent":"docker/27 (\\(linux\\))"}`,
		at.Format("2006-01-02T15:04:05.000Z"), id)
}

// write puts text into a file.
func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	w.Close()
	return b.String()
}

// read reads files and keeps what they tell.
func read(t testing.TB, o Options, files ...string) (all []Entry, logs Logs) {
	t.Helper()
	logs, err := Read(context.Background(), files, o, func(e *Entry) error {
		all = append(all, *e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, logs
}

func TestLinesOfEachKind(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.7")
	at := time.Date(2026, 11, 22, 5, 38, 32, 0, time.UTC)
	own := &Entry{Time: time.Date(2026, 11, 20, 9, 0, 0, 987_500_000, time.UTC), Duration: 12_500 * time.Microsecond,
		Method: "GET", Path: "/v2/team/app/manifests/1", Host: "r.example.com", Status: 200, Addr: netip.MustParseAddr("192.0.2.1"), BytesIn: 7, BytesOut: 100, User: "ann", UserKnown: true,
		UserAgent: `docker/27 (\(linux\))`, RequestID: "abc", Own: true, Route: "manifest", Credential: "token", Via: "htpasswd", Repository: "team/app", Reference: "1",
		WouldThrottle: []string{"a", "b"}, Upstream: true, FreePull: Yes, Slowed: 2250 * time.Microsecond}
	for _, tt := range []struct {
		why, line string
		format    Format
		userFrom  string
		want      *Entry // nil: no request
	}{
		{why: "regward", line: ownLine("abc", 1), format: Regward, want: own},
		{why: "regward, as jq -c or a collector of logs writes it", line: strings.ReplaceAll(ownLine("abc", 1), `":`, `": `), format: Regward, want: own},
		{why: "behind kubectl logs --prefix", line: "[pod/regward-1] " + ownLine("abc", 1), format: Regward, want: &Entry{}},
		{why: "nginx combined", line: `192.0.2.7 - - [22/Nov/2026:05:38:32 +0000] "GET /v2/team/app/tags/list?n=5 HTTP/1.1" 200 2 "-" "curl/8 \"x\""`, format: Nginx,
			want: &Entry{Time: at, Method: "GET", Path: "/v2/team/app/tags/list?n=5", Status: 200, Addr: addr, BytesOut: 2, UserAgent: `curl/8 \"x\"`}},
		{why: "a user, a virtual host, a zone", line: `r.example.com:443 192.0.2.7 - ann [22/Nov/2026:07:38:32 +0200] "HEAD /v2/ HTTP/2.0" 200 0 "-" "c" "10.1.1.1"`, format: Nginx,
			want: &Entry{Time: at, Method: "HEAD", Path: "/v2/", Status: 200, Addr: addr, User: "ann", UserKnown: true, UserAgent: "c"}},
		{why: "a user in a field of its own", line: `192.0.2.7 - - [22/Nov/2026:05:38:32 +0000] "GET /v2/ HTTP/1.1" 200 0 "-" "c" 0.01 "ann b"`, format: Nginx, userFrom: "11",
			want: &Entry{Time: at, Method: "GET", Path: "/v2/", Status: 200, Addr: addr, User: "ann b", UserKnown: true, UserAgent: "c"}},
		{why: "there, nobody is anonymous", line: `192.0.2.7 - - [22/Nov/2026:05:38:32 +0000] "GET /v2/ HTTP/1.1" 200 0 "-" "c" 0.01 "-"`, format: Nginx, userFrom: "11",
			want: &Entry{Time: at, Method: "GET", Path: "/v2/", Status: 200, Addr: addr, UserKnown: true, UserAgent: "c"}},
		{why: "a TLS client at a plain port", line: `192.0.2.7 - - [22/Nov/2026:05:38:32 +0000] "\x16\x03\x01" 400 157 "-" "-"`, format: Nginx},
		{why: "distribution 3, text", line: `time="2026-11-22T05:38:33.5Z" level=info msg="response completed" go.version=go1.26.8 http.request.host="r:5000" http.request.id=1-2 http.request.method=POST http.request.remoteaddr="192.0.2.7:49956" http.request.uri="/v2/a/blobs/uploads/?x=\"1\"" http.request.useragent=curl http.response.duration=1.5s http.response.status=202 http.response.written=0 vars.name=a`, format: Distribution,
			want: &Entry{Time: at, Duration: 1500 * time.Millisecond, Method: "POST", Path: `/v2/a/blobs/uploads/?x="1"`, Host: "r:5000", Status: 202, Addr: addr, UserAgent: "curl", RequestID: "1-2"}},
		{why: "distribution 3, JSON, with a user", line: `{"auth.user.name":"ann","go.version":"go1.26.8","http.request.id":"1","http.request.method":"GET","http.request.remoteaddr":"192.0.2.7","http.request.uri":"/v2/","http.response.duration":"0s","http.response.status":404,"http.response.written":92,"level":"error","msg":"response completed with error","time":"2026-11-22T05:38:32Z"}`, format: Distribution,
			want: &Entry{Time: at, Method: "GET", Path: "/v2/", Status: 404, Addr: addr, BytesOut: 92, User: "ann", UserKnown: true, RequestID: "1"}},
		{why: "distribution 2.8, logstash", line: `{"@timestamp":"2026-11-22T05:38:32Z","@version":"1","err.detail":{"name":"team/app"},"go.version":"go1.19.8","http.request.method":"GET","http.request.remoteaddr":"192.0.2.7","http.request.uri":"/v2/","http.response.status":404,"message":"response completed with error"}`, format: Distribution,
			want: &Entry{Time: at, Method: "GET", Path: "/v2/", Status: 404, Addr: addr}},
		{why: "another line of distribution's", line: `time="2026-11-22T05:38:30Z" level=info msg="listening on 127.0.0.1:5911" go.version=go1.26.8`, format: Distribution},
	} {
		if got := detect([]byte(tt.line + "\n")); got != tt.format {
			t.Errorf("%s: taken for %q", tt.why, got)
		}
		p := newParser(tt.format, tt.userFrom)
		var e Entry
		v := p.line([]byte(tt.line), &e)
		switch {
		case tt.want == nil:
			if v != other {
				t.Errorf("%s: %v, want no request", tt.why, v)
			}
		case v != entry:
			t.Errorf("%s: %v, want a request", tt.why, v)
		case !cmp.Equal(*tt.want, Entry{}, cmpopts.EquateComparable(netip.Addr{})):
			if diff := cmp.Diff(*tt.want, e, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("%s (- want, + got):\n%s", tt.why, diff)
			}
		}
	}
}

func TestDistributionsTwoLinesAreOneRequest(t *testing.T) {
	const told = `time="2026-11-22T05:38:32Z" level=info msg="response completed" go.version=x http.request.method=GET http.request.uri=/v2/%s http.response.status=200 http.response.written=2` + "\n"
	const access = `127.0.0.1 - - [22/Nov/2026:05:38:32 +0000] "GET /v2/%s HTTP/1.1" 200 2 "" "c"` + "\n"
	log := fmt.Sprintf(told, "a") + fmt.Sprintf(access, "a") + // both
		fmt.Sprintf(told, "b") + fmt.Sprintf(told, "b") + fmt.Sprintf(access, "b") + fmt.Sprintf(access, "b") + // crossing
		fmt.Sprintf(access, "c") + // log.level keeps the other one back
		fmt.Sprintf(told, "d") // log.accesslog.disabled
	all, _ := read(t, Options{}, write(t, log))
	var paths []string
	for _, e := range all {
		paths = append(paths, strings.TrimPrefix(e.Path, "/v2/"))
	}
	if got := strings.Join(paths, ""); got != "abbcd" {
		t.Errorf("requests %s, want abbcd", got)
	}
}

func TestFilesAreMergedByTheTimeRequestsCame(t *testing.T) {
	one := ownLine("a", 0) + "\n" + ownLine("c", 2) + "\n" + ownLine("f", 400) + "\n"
	two := ownLine("d", 3) + "\n" + ownLine("b", 1) + "\n" + ownLine("e", 4) + "\n" // a buffer was written late
	long := strings.Replace(ownLine("A", 30), `"duration_ms":12.5`, `"duration_ms":31000`, 1) + "\n"
	all, logs := read(t, Options{Stdin: strings.NewReader(two)}, write(t, gzipped(one)), "-", write(t, long))
	var ids string
	for _, e := range all {
		ids += e.RequestID
	}
	if ids != "Aabcdef" {
		t.Errorf("order %s, want Aabcdef", ids)
	}
	if logs.Requests != 7 || logs.Files[0].Format != Regward || logs.Files[1].Name != "stdin" || logs.Files[1].OutOfOrder != 0 {
		t.Errorf("%+v", logs)
	}
	_, logs = read(t, Options{}, write(t, ownLine("a", 1000)+"\n"+ownLine("b", 0)+"\n"))
	if logs.Files[0].OutOfOrder != 1 {
		t.Errorf("%d out of order, want 1", logs.Files[0].OutOfOrder)
	}
}

func TestSinceAndUntil(t *testing.T) {
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	var log string
	for i := range 10 {
		log += ownLine(fmt.Sprint(i), float64(i)+0.5) + "\n"
	}
	file := write(t, log)
	all, _ := read(t, Options{Since: at.Add(2 * time.Second), Until: at.Add(5 * time.Second)}, file)
	if len(all) != 3 || all[0].RequestID != "2" {
		t.Errorf("%d requests from %s on", len(all), all[0].RequestID)
	}
	if _, err := Read(context.Background(), []string{file}, Options{Since: at.Add(time.Hour)}, nil); err == nil || !strings.Contains(err.Error(), "none of the 10 requests is within --since") {
		t.Errorf("nothing within: %v", err)
	}
}

func TestBadLinesAreCountedAndTheFirstShown(t *testing.T) {
	log := ownLine("a", 0) + "\n"
	for i := range 5 {
		log += fmt.Sprintf(`{"time":"never","msg":"request","request_id":"%d"}`, i) + "\n"
	}
	log += strings.Repeat("x", 3*maxLine) + "\n" + ownLine("b", 1) + "\n\n" + ownLine("c", 2)[:200]
	all, logs := read(t, Options{Format: Regward}, write(t, log))
	f := logs.Files[0]
	if len(all) != 2 || f.Bad != 7 || len(f.BadLines) != maxShown || !strings.HasPrefix(f.BadLines[0], "2: ") || f.Lines != 9 {
		t.Errorf("%d requests, %+v", len(all), f)
	}
	whole := gzipped(log)
	_, logs = read(t, Options{Format: Regward}, write(t, whole[:len(whole)-10]))
	if logs.Files[0].BrokenOff == "" {
		t.Error("half a gzip file is not told of")
	}
	if _, err := Read(context.Background(), []string{write(t, "what\nis this\n")}, Options{}, nil); !errors.Is(err, ErrNothing) {
		t.Errorf("no log at all: %v", err)
	}
	if _, err := Read(context.Background(), []string{t.TempDir()}, Options{}, nil); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Read(context.Background(), []string{"-", "-"}, Options{Stdin: strings.NewReader("")}, nil); err == nil {
		t.Error("stdin twice")
	}
	if _, err := Read(context.Background(), slices.Repeat([]string{"x"}, maxFiles+1), Options{}, nil); err == nil || !strings.Contains(err.Error(), "read at once") {
		t.Errorf("too many files: %v", err)
	}
}

// What operators have in their folders: each is told by name, and what can be
// read counts.
func TestBadFiles(t *testing.T) {
	good := ""
	for i := range 400 {
		good += ownLine(fmt.Sprint("id", i), float64(i)) + "\n"
	}
	const nginx = `192.0.2.7 - - [20/Nov/2026:09:00:00 +0000] "GET /v2/x/tags/list?token=hush HTTP/1.1" 200 2 "-" "curl"` + "\n"
	packed := gzipped(good)
	corrupt := []byte(packed)
	clear(corrupt[100:120])
	for _, tt := range []struct {
		why, text string
		want      File   // but for name and lines
		bad       string // in the first of the bad lines
		broken    string
		err       string
	}{
		{why: "another format inside", text: good + nginx, want: File{Format: Regward, Requests: 400, Bad: 1}, bad: `401: looks like nginx: "192.0.2.7 - - [20/Nov/2026:09:00:00 +0000] \"GET /v2/x/tags/list?"...`},
		{why: "another format in front", text: nginx + good, want: File{Format: Regward, Requests: 400, Bad: 1}, bad: `1: looks like nginx: `},
		{why: "regward's inside nginx'", text: strings.Repeat(nginx, 3000) + good, want: File{Format: Nginx, Requests: 3000, Bad: 400}, bad: `3001: looks like regward: `},
		{why: "a panic", text: good + "panic: oh no\n", want: File{Format: Regward, Requests: 400, Bad: 1}, bad: `401: "panic: oh no"`},
		{why: "a password", text: good + "user ann password=hunter2\n", want: File{Format: Regward, Requests: 400, Bad: 1}, bad: `401: "user ann passw"...`},
		{why: "terminal escapes", text: good + "\x1b[31mé\n", want: File{Format: Regward, Requests: 400, Bad: 1}, bad: `401: "\x1b[31m\u00e9"`},
		{why: "a gzip file that is not all there", text: packed[:len(packed)-5], want: File{Format: Regward, Requests: 400}, broken: "unexpected EOF"},
		{why: "a broken gzip file", text: string(corrupt), err: "ends in the middle (flate: corrupt input"},
		{why: "the beginning of a gzip file", text: packed[:5], err: "ends in the middle (unexpected EOF)"},
		{why: "nothing", text: "", err: " is empty"},
		{why: "nothing, packed", text: gzipped(""), err: " is empty"},
		{why: "no log", text: "\x00\x01\x02\n\n", err: `:1: "\x00\x01\x02"`},
	} {
		file := write(t, tt.text)
		logs, err := Read(context.Background(), []string{file}, Options{}, func(*Entry) error { return nil })
		if tt.err != "" {
			if !errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), file+tt.err) && !strings.Contains(err.Error(), file+" "+tt.err) {
				t.Errorf("%s: %v, want %q", tt.why, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.why, err)
			continue
		}
		f := logs.Files[0]
		if tt.broken != "" && !strings.Contains(f.BrokenOff, tt.broken) || tt.broken == "" && f.BrokenOff != "" {
			t.Errorf("%s: broken off: %q", tt.why, f.BrokenOff)
		}
		if tt.bad != "" && (len(f.BadLines) == 0 || !strings.HasPrefix(f.BadLines[0], tt.bad)) {
			t.Errorf("%s: shown %q, want %q", tt.why, f.BadLines, tt.bad)
		}
		if tt.want.Format != "" && (f.Format != tt.want.Format || f.Requests != tt.want.Requests || f.Bad != tt.want.Bad) {
			t.Errorf("%s: %+v, want %+v", tt.why, f, tt.want)
		}
		if strings.Contains(fmt.Sprint(f.BadLines), "hush") || strings.Contains(fmt.Sprint(f.BadLines), "hunter2") {
			t.Errorf("%s: a secret is shown: %q", tt.why, f.BadLines)
		}
	}
}

func TestFilesNamedTwice(t *testing.T) {
	file := write(t, ownLine("a", 0)+"\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, files := range [][]string{{"-", "-"}, {file, file}, {file, link}} {
		if _, err := Read(context.Background(), files, Options{Stdin: strings.NewReader("")}, nil); !errors.Is(err, ErrTwice) {
			t.Errorf("%q: %v", files, err)
		}
	}
	if _, err := Read(context.Background(), []string{file, filepath.Join(t.TempDir(), "gone")}, Options{}, nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// generated is a log that is made while it is read.
type generated struct {
	line func(i int) string
	n, i int
	left string
}

func (g *generated) Read(b []byte) (int, error) {
	if g.left == "" {
		if g.i == g.n {
			return 0, io.EOF
		}
		g.left = g.line(g.i)
		g.i++
	}
	n := copy(b, g.left)
	g.left = g.left[n:]
	return n, nil
}

// Lines as long as they may be, each with other words, all within the window:
// what is held of them is bounded in bytes, not only in number.
func TestLongLinesTakeBoundedMemory(t *testing.T) {
	fill := strings.Repeat("x", 60<<10)
	own := ownLine("a", 0)
	for _, tt := range []struct {
		format Format
		line   func(i int) string
	}{
		{Regward, func(i int) string {
			word := fmt.Sprint(i) + fill
			return strings.NewReplacer(`"id":"a"`, `"id":"`+word+`"`, "/1\"", "/"+word+`"`, `"ann"`, `"`+word+`"`, "linux", word[:len(word)/2]).Replace(own) + "\n"
		}},
		{Nginx, func(i int) string {
			word := fmt.Sprint(i) + fill
			return `192.0.2.7 - ` + word + ` [22/Nov/2026:05:38:32 +0000] "GET /v2/` + word + ` HTTP/1.1" 200 2 "-" "` + word + `"` + "\n"
		}},
		{Distribution, func(i int) string {
			word := fmt.Sprint(i) + fill
			return `time="2026-11-22T05:38:32Z" level=info msg="response completed" http.request.id=` + word + ` http.request.method=GET http.request.uri="/v2/` + word + `" http.response.status=200` + "\n"
		}},
		{Regward, func(i int) string { return strings.Repeat("y", 200<<10) }}, // one line without end
	} {
		debug.FreeOSMemory()
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		most := uint64(0)
		n := 700
		in := &generated{n: n, line: func(i int) string {
			if i%500 == 0 {
				runtime.GC()
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapAlloc)
			}
			return tt.line(i)
		}}
		_, err := Read(context.Background(), []string{"-"}, Options{Format: tt.format, Stdin: in}, func(*Entry) error { return nil })
		if err != nil && !errors.Is(err, ErrNothing) {
			t.Fatal(err)
		}
		if grown := int64(most) - int64(before.HeapAlloc); grown > 2*maxHeld {
			t.Errorf("%s: %d MB held", tt.format, grown>>20)
		}
	}
}

// Whatever is in a log, what is remembered of it stays within bounds.
func TestReadingIsBounded(t *testing.T) {
	var log strings.Builder
	line := ownLine("a", 0)
	for i := range maxWindow + maxWords/4 {
		one := strings.Replace(line, `"repository":"team/app"`, fmt.Sprintf(`"repository":"team/app%d"`, i), 1)
		one = strings.Replace(one, "192.0.2.1", fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), 1)
		log.WriteString(strings.Replace(one, "docker/27", fmt.Sprintf("docker/%d", i), 1) + "\n")
	}
	m := merge{each: func(*Entry) error { return nil }}
	s, err := open(write(t, log.String()), 0, &m.o, &m.done)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.reuse = m.fresh
	m.all = []*source{s}
	if err := m.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(m.held) > maxWindow+1 || len(s.parser.words) > maxWords || len(s.parser.escaped) > maxWords || len(s.parser.addrs) > maxWords {
		t.Errorf("held %d, words %d, %d, addresses %d", len(m.held), len(s.parser.words), len(s.parser.escaped), len(s.parser.addrs))
	}
	p := newParser(Distribution, "")
	for i := range 2 * maxPending {
		p.tell(&Entry{Path: fmt.Sprint(i)})
	}
	if len(p.twins) > maxPending {
		t.Errorf("%d requests wait for their access line", len(p.twins))
	}
}

func TestProgressGoesByTheDisk(t *testing.T) {
	text := gzipped(strings.Repeat(ownLine("a", 0)+"\n", 20_000))
	var done, total, lines int64
	read(t, Options{Progress: func(d, n, l int64) { done, total, lines = d, n, l }}, write(t, text))
	if done != int64(len(text)) || total != done || lines != 20_000 {
		t.Errorf("%d of %d, %d lines; the file has %d", done, total, lines, len(text))
	}
}

func FuzzLine(f *testing.F) {
	f.Add(ownLine("a", 0))
	f.Add(`192.0.2.7 - - [22/Nov/2026:05:38:32 +0000] "GET /v2/ HTTP/1.1" 200 2 "-" "c" "x`)
	f.Add(`time="2026-11-22T05:38:32Z" msg="response completed" http.request.method=GET http.request.uri="/v2/\`)
	f.Fuzz(func(t *testing.T, line string) {
		for _, format := range []Format{Regward, Nginx, Distribution} {
			for _, from := range []string{"", "3", "11", "auth.user.name"} {
				var e Entry
				if newParser(format, from).line([]byte(line), &e) == entry && (e.Method == "" || e.Time.IsZero() && !strings.Contains(line, "0001")) {
					t.Errorf("%s: a request without method or time in %q: %+v", format, line, e)
				}
			}
		}
		detect([]byte(line))
	})
}

// BenchmarkRead is regward's own log, from the disk: the figure is lines a
// second on one core.
func BenchmarkRead(b *testing.B) {
	var log strings.Builder
	const n = 50_000
	for i := range n {
		line := strings.Replace(ownLine(fmt.Sprintf("id%08d", i), float64(i)/50), "team/app", fmt.Sprintf("team%d/app%d", i%40, i%300), 2)
		log.WriteString(strings.Replace(line, `"ann"`, fmt.Sprintf(`"user%d"`, i%2000), 1) + "\n")
	}
	file := write(b, log.String())
	b.SetBytes(int64(log.Len()))
	for b.Loop() {
		if _, err := Read(context.Background(), []string{file}, Options{}, func(*Entry) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
