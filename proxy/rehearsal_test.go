package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/regward/regward/ratelimit"
)

// logClock makes a logger go by the gate's clock.
type logClock struct{ *clock }

func (logClock) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

// recording makes the gate's access log tell the time, as the program's does.
func (g *gate) recording() {
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg", TimeKey: "time", EncodeTime: zapcore.RFC3339NanoTimeEncoder})
	g.Access = zap.New(zapcore.NewCore(enc, g.access, zapcore.DebugLevel), zap.WithClock(logClock{g.clock}))
}

// past are the gate's access lines.
func (g *gate) past() (out []Past) {
	g.Helper()
	for _, line := range g.access.all(g) {
		text := func(key string) string { s, _ := line[key].(string); return s }
		p := Past{Host: text("host"), Method: text("method"), Path: text("path"), Status: int(line["status"].(float64)), User: text("user"), KnowUser: true,
			Via: text("via"), Own: true, Route: text("route"), Credential: text("credential"), Repository: text("repository"), Reference: text("reference"), Reason: text("reason")}
		p.Time, _ = time.Parse(time.RFC3339Nano, text("time"))
		p.Addr, _ = netip.ParseAddr(text("addr"))
		p.Free, p.KnowFree = line["free_pull"].(bool)
		p.Repeated, _ = line["repeated"].(bool)
		if p.User == "anonymous" && p.Credential != "basic" && p.Credential != "token" {
			p.User = ""
		}
		out = append(out, p)
	}
	return out
}

// said is what the log or a rehearsal says of one request, to be compared.
func (o *Outcome) said(s *Settings) string {
	switch {
	case o.Skip != "":
		return "let in or counted by nothing"
	case o.Denied:
		return "denied"
	case o.Refused >= 0:
		return "refused by " + s.Limits[o.Asked[o.Refused].Limit].Name
	}
	out := "let in or counted by nothing"
	for _, i := range o.Would {
		out += ", would_throttle " + s.Limits[o.Asked[i].Limit].Name
	}
	return out
}

func happened(line map[string]any) string {
	if limit, _ := line["limit"].(string); limit != "" {
		return "refused by " + limit
	}
	out := "let in or counted by nothing"
	would, _ := line["would_throttle"].([]any)
	for _, name := range would {
		out += fmt.Sprintf(", would_throttle %v", name)
	}
	return out
}

// TestARehearsalOfWhatWasIsWhatWas: traffic of all kinds through a gate, then
// its own log under the limits that it had. Request by request, the same are
// let in and refused, by the same limits.
func TestARehearsalOfWhatWasIsWhatWas(t *testing.T) {
	g := newGate(t, usual+`
		allow everyone hub/** pull
		limit anonymous pulls    3/30m  per=ip subjects=anonymous
		limit people    pulls    9/20m  per=user subjects=authenticated exempt=user:carl
		limit team      pushes   1/20m  per=group subjects=group:coolteam
		limit space     requests 50/20m per=namespace
		limit repo      pulls    5/1h   per=repository repositories=library/** dry_run
		limit trial     requests 20/20m per=client dry_run burst=25
		limit guests    requests 5/20m  per=ip from=10.8.0.0/16
		limit failed    failed_logins 2/20m per=ip+user
		limit failed_ip failed_logins 4/20m per=ip`)
	g.recording()
	random := rand.New(rand.NewPCG(4, 2))
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "GET" && strings.HasSuffix(r.URL.Path, "/manifests/multi") {
			w.Header().Set("Content-Type", indexType)
			w.Header().Set("Docker-Content-Digest", indexDigest)
			_, _ = w.Write(index)
			return true
		}
		if r.Method == "GET" && strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", imageType)
			w.Header().Set("Docker-Content-Digest", imageDigest)
			_, _ = w.Write(image)
			return true
		}
		w.WriteHeader(map[string]int{"POST": 202, "PUT": 201}[r.Method] + map[string]int{"GET": 200, "HEAD": 200, "DELETE": 202}[r.Method])
		return true
	})
	names := []string{"", "ann", "bob", "carl"}
	passwords := map[string]string{"ann": annPassword, "bob": bobPassword, "carl": carlPassword}
	repositories := []string{"library/alpine", "library/redis", "coolteam/app", "bob/app", "shared/base", "coolteam/vault/key"}
	for range 1500 {
		g.clock.pass(time.Duration(random.IntN(4000)) * time.Millisecond)
		name, repository := names[random.IntN(len(names))], repositories[random.IntN(len(repositories))]
		addr := from([]string{"192.0.2.1", "192.0.2.2", "10.8.0.1", "2001:db8::1", "2001:db8::2"}[random.IntN(5)])
		if random.IntN(6) == 0 && name != "" {
			password := []string{"wrong", "wronger", passwords[name]}[random.IntN(3)]
			g.get("/v2/"+repository+"/tags/list", basic(name, password), addr)
			continue
		}
		caller := g.as(name, pulls(repository), pushes(repository))
		if random.IntN(2) == 0 && name != "" {
			caller = basic(name, passwords[name])
		}
		switch random.IntN(9) {
		case 0:
			g.get("/v2/"+repository+"/manifests/latest", caller, addr)
		case 1, 2:
			g.get("/v2/"+repository+"/manifests/multi", caller, addr)
			if random.IntN(3) > 0 {
				g.get("/v2/"+repository+"/manifests/"+imageDigest, caller, addr)
			}
		case 3:
			g.get("/v2/"+repository+"/manifests/"+imageDigest, caller, addr)
		case 4:
			g.do("PUT", "/v2/"+repository+"/manifests/v1", caller, addr, body(image))
		case 5:
			g.do("HEAD", "/v2/"+repository+"/manifests/latest", caller, addr)
		case 6:
			g.get("/v2/"+repository+"/blobs/"+layerDigest, caller, addr)
		case 7:
			g.get("/v2/"+repository+"/tags/list", caller, addr)
		default:
			g.get("/v2/", caller, addr)
			g.get("/v2/"+repository+"/tags/list", addr)
		}
	}
	rehearsal, err := Rehearse(g.settings)
	if err != nil {
		t.Fatal(err)
	}
	lines := g.access.all(t)
	counts := map[string]int{}
	for i, p := range g.past() {
		want := happened(lines[i])
		counts[want]++
		if got := rehearsal.Judge(&p).said(&g.settings); got != want {
			t.Fatalf("line %d: the rehearsal says %q, the log %q\n%v", i, got, want, lines[i])
		}
	}
	t.Log(counts)
	for _, l := range g.settings.Limits { // each of them was met
		word := "refused by "
		if l.DryRun {
			word = "would_throttle "
		}
		met := false
		for said, n := range counts {
			met = met || n > 0 && strings.Contains(said, word+l.Name)
		}
		if !met {
			t.Errorf("nobody met limit %s: the test shows nothing about it", l.Name)
		}
	}
}

// rehearse judges requests under rules and limits in text.
func rehearse(t *testing.T, text string) (*Rehearsal, *Settings) {
	t.Helper()
	g := newGate(t, text)
	r, err := Rehearse(g.settings)
	if err != nil {
		t.Fatal(err)
	}
	return r, &g.settings
}

func TestWhatALogCannotTell(t *testing.T) {
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	get := func(after time.Duration, path string, change ...func(*Past)) Past {
		p := Past{Time: at.Add(after), Method: "GET", Path: path, Status: 200, Addr: netip.MustParseAddr("192.0.2.1"), User: "bob", KnowUser: true}
		for _, c := range change {
			c(&p)
		}
		return p
	}
	nobodyKnows := func(p *Past) { p.User, p.KnowUser = "", false }
	status := func(n int) func(*Past) { return func(p *Past) { p.Status = n } }
	own := func(credential, reason string) func(*Past) {
		return func(p *Past) { p.Own, p.Credential, p.Reason = true, credential, reason }
	}
	const tag, child = "/v2/library/a/manifests/1", "/v2/library/a/manifests/sha256:"
	digest := child + strings.Repeat("a", 64)
	blob, piece := "/v2/library/a/blobs/sha256:"+strings.Repeat("a", 64), "/v2/bob/a/blobs/uploads/x"
	lasting := func(d time.Duration) func(*Past) { return func(p *Past) { p.Duration = d } }
	patch := func(p *Past) { p.Method, p.In = "PATCH", 1000 }
	for _, tt := range []struct {
		why    string
		limits string
		past   []Past
		want   string // one letter each: . let in, x refused, - not judged, d denied
	}{
		{"answered 401, 403, 429: counts nothing", "limit people pulls 1/1h",
			[]Past{get(0, tag, status(401)), get(1, tag, status(403)), get(2, tag, status(429)), get(3, tag), get(4, tag)}, "---.x"},
		{"an upstream's 403 and 429 come after the limits", "limit people pulls 1/1h",
			[]Past{get(0, tag, status(429), own("token", "upstream")), get(1, tag)}, ".x"},
		{"refused by a limit then: tried again", "limit people pulls 1/1h",
			[]Past{get(0, tag, status(429), own("token", "limit")), get(1, tag)}, ".x"},
		{"denied then: not judged", "limit people pulls 1/1h",
			[]Past{get(0, tag, status(401), own("token", "not_allowed")), get(1, tag)}, "-."},
		{"by digest after a pull: taken for a part of it", "limit people pulls 1/1h",
			[]Past{get(0, tag), get(time.Minute, digest), get(9*time.Minute, digest), get(11*time.Minute, digest)}, "...x"},
		{"by digest first: a pull", "limit people pulls 1/1h", []Past{get(0, digest), get(time.Second, tag)}, ".x"},
		{"of another repository", "limit people pulls 1/1h", []Past{get(0, "/v2/library/b/manifests/1"), get(time.Second, digest)}, ".x"},
		{"the log says that it was not free", "limit people pulls 1/1h",
			[]Past{get(0, tag), get(time.Second, digest, func(p *Past) { p.KnowFree = true })}, ".x"},
		{"nobody knows who: what needs users is not tried", "limit people pulls 1/1h",
			[]Past{get(0, tag, nobodyKnows), get(1, tag, nobodyKnows)}, ".."},
		{"nobody knows who: what does not is", "limit addresses pulls 1/1h per=ip",
			[]Past{get(0, tag, nobodyKnows), get(1, tag, nobodyKnows)}, ".x"},
		{"nobody knows who: nobody is denied", "",
			[]Past{get(0, "/v2/coolteam/app/manifests/1", nobodyKnows), get(1, "/v2/coolteam/app/manifests/1")}, ".d"},
		{"what is no request of the API", "limit all requests 1/1h per=all",
			[]Past{get(0, "/"), get(1, "/v2/"), get(2, "/v2/UPPER/tags/list"), get(3, "/v2/library/a/tags/list"), get(4, "/token?scope=x")}, "---.-"},
		{"a path cut by the log", "limit all requests 1/1h per=all",
			[]Past{get(0, ("/v2/library/a/blobs/uploads/" + strings.Repeat("x", 400))[:256], own("token", ""), func(p *Past) {
				p.Method, p.Route, p.Repository, p.User = "PUT", "upload", "bob/a", "bob"
			}), get(1, tag)}, ".."},
		{"a clock that goes back", "limit people pulls 1/1h", []Past{get(2*time.Hour, tag), get(0, tag), get(3*time.Hour, tag)}, ".x."},
		{"locked out: taken for a wrong password", "limit f failed_logins 1/1h per=ip+user",
			[]Past{get(0, "/token", own("wrong password: bob", "wrong_password")), get(1, "/token", own("locked out: bob", ""))}, ".x"},
		{"the same wrong password again", "limit f failed_logins 1/1h per=ip+user",
			[]Past{get(0, "/token", own("wrong password: bob", "wrong_password")), get(1, "/token", own("wrong password: bob", ""), func(p *Past) { p.Repeated = true })}, ".-"},
		{"a good login from where there were too many bad ones", "limit f failed_logins 1/1h per=ip",
			[]Past{get(0, "/token", own("wrong password: ann", "wrong_password")), get(1, "/token", own("basic", ""))}, ".x"},
		{"one proven there before is spared", "limit f failed_logins 1/1h per=ip",
			[]Past{get(0, "/token", own("basic", "")), get(1, "/token", own("wrong password: ann", "wrong_password")), get(2, "/token", own("basic", ""))}, "-.-"},
		{"transfers hold their places for as long as they took", "limit t transfers 1",
			[]Past{get(0, blob, lasting(time.Minute)), get(30*time.Second, blob, lasting(time.Minute)), get(time.Minute, blob, lasting(time.Minute))}, ".x."},
		{"a log without durations has nothing in flight", "limit t transfers 1", []Past{get(0, blob), get(1, blob)}, ".."},
		{"what a limit refuses holds no place", "limit t transfers 1\nlimit all requests 1/1h per=ip\n",
			[]Past{get(0, tag), get(time.Second, blob, lasting(time.Minute)), get(time.Hour+time.Second, blob, lasting(time.Minute))}, ".x."},
		{"a piece of an upload goes on, and takes a place", "limit t transfers 1",
			[]Past{get(0, piece, lasting(time.Minute), patch), get(1, piece, lasting(time.Minute), patch), get(time.Second, "/v2/bob/a/blobs/sha256:"+strings.Repeat("a", 64), lasting(time.Second))}, "..x"},
	} {
		r, _ := rehearse(t, usual+tt.limits)
		got := ""
		for _, p := range tt.past {
			switch o := r.Judge(&p); {
			case o.Skip != "":
				got += "-"
			case o.Denied:
				got += "d"
			case o.Refused >= 0:
				got += "x"
			default:
				got += "."
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.why, got, tt.want)
		}
	}
}

func TestARehearsalForgetsRatherThanGrows(t *testing.T) {
	r, _ := rehearse(t, usual+"limit people pulls 1/1h per=ip")
	p := Past{Time: time.Unix(0, 0), Method: "GET", Path: "/v2/library/a/manifests/1", Status: 200, KnowUser: true}
	for i := range max(maxRehearsed, ratelimit.DefaultKeys) + 1000 {
		p.Addr = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		r.Judge(&p)
	}
	if n := r.begun.Len(); n != maxRehearsed {
		t.Errorf("%d pulls are remembered, want %d", n, maxRehearsed)
	}
	if r.memory.Len() > ratelimit.DefaultKeys || r.Overflowed() == 0 {
		t.Errorf("%d buckets, %d overflowed", r.memory.Len(), r.Overflowed())
	}
}

func TestByHowMuchBodiesWouldBeSlower(t *testing.T) {
	r, s := rehearse(t, usual+"limit slow bytes 10MB/s per=ip dry_run")
	p := Past{Method: "GET", Path: "/v2/library/a/blobs/sha256:" + strings.Repeat("a", 64), Status: 200, KnowUser: true, Out: 1_000_000_000, Duration: 40 * time.Second}
	o := r.Judge(&p)
	if len(o.Asked) != 1 || o.Refused >= 0 || s.Limits[o.Asked[0].Limit].Name != "slow" || o.Asked[0].Wait.Round(time.Second) != 59*time.Second {
		t.Errorf("a gigabyte in 40 s at 10 MB/s, a second's worth at once: %+v, want 59 s more", o.Asked)
	}
	p.Time, p.Out = p.Time.Add(time.Hour), 1000
	if o := r.Judge(&p); o.Asked[0].Wait != 0 {
		t.Errorf("a kilobyte: %+v", o.Asked)
	}
}

func TestPlacesRememberedAreBounded(t *testing.T) {
	var e ends
	ended := 0
	for i := range maxRehearsedPlaces + 5 {
		e.add(time.Unix(int64(i), 0), func() { ended++ })
	}
	if len(e) != maxRehearsedPlaces || ended != 5 {
		t.Errorf("%d in flight, %d ended early", len(e), ended)
	}
}

func BenchmarkJudge(b *testing.B) {
	g := newGate(b, usual+`
		limit anonymous pulls    100/6h  per=ip subjects=anonymous
		limit people    pulls    1000/6h per=user subjects=authenticated
		limit namespace requests 500/s   per=namespace dry_run`)
	r, err := Rehearse(g.settings)
	if err != nil {
		b.Fatal(err)
	}
	p := Past{Time: time.Unix(1e9, 0), Method: "GET", Path: "/v2/library/alpine/manifests/latest", Repository: "library/alpine", Status: 200, User: "bob", KnowUser: true,
		Own: true, Credential: "token", Addr: netip.MustParseAddr("192.0.2.1")}
	b.ReportAllocs()
	for b.Loop() {
		p.Time = p.Time.Add(3 * time.Millisecond)
		r.Judge(&p)
	}
}
