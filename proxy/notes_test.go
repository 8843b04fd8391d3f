package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// board is a Shared in memory.
type board struct {
	now func() time.Time

	mu    sync.Mutex
	notes map[string]pinned
	down  bool
	calls int
	most  int // keys of one call
}

type pinned struct {
	text  string
	until time.Time
}

func newBoard(now func() time.Time) *board { return &board{now: now, notes: map[string]pinned{}} }

func (b *board) Read(_ context.Context, keys ...string) ([]Note, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls, b.most = b.calls+1, max(b.most, len(keys))
	if b.down {
		return nil, errors.New("nobody answers")
	}
	list := make([]Note, len(keys))
	for i, k := range keys {
		if n, ok := b.notes[k]; ok && b.now().Before(n.until) {
			list[i] = Note{Key: k, Text: n.text, Left: n.until.Sub(b.now())}
		}
	}
	return list, nil
}

func (b *board) Write(_ context.Context, list ...Note) ([]bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls, b.most = b.calls+1, max(b.most, len(list))
	if b.down {
		return nil, errors.New("nobody answers")
	}
	written := make([]bool, len(list))
	for i, n := range list {
		old, there := b.notes[n.Key]
		there = there && b.now().Before(old.until)
		if n.If == IfAbsent && there || n.If == IfPresent && !there {
			continue
		}
		b.notes[n.Key], written[i] = pinned{n.Text, b.now().Add(n.Left)}, true
	}
	return written, nil
}

func (b *board) goes(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

// instances are several regwards in front of one upstream, with one limiter and
// one board, at one address.
type instances struct {
	*gate
	board *board
	all   []*Handler
	at    atomic.Int32
}

func twins(g *gate, n int) *instances {
	g.Helper()
	p := &instances{gate: g, board: newBoard(g.clock.Now)}
	for range n {
		o := g.Options
		o.Shared = p.board
		h := New(o)
		snapshot, err := h.Prepare(g.settings)
		if err != nil {
			g.Fatal(err)
		}
		h.Swap(snapshot)
		p.all = append(p.all, h)
		g.Cleanup(func() {
			for _, b := range h.Current().backends {
				b.Close()
			}
		})
	}
	g.srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.all[p.at.Load()].ServeHTTP(w, r) })
	return p
}

// to has the following requests go to the nth instance.
func (p *instances) to(n int32) *gate {
	p.at.Store(n)
	return p.gate
}

func TestL02_APullMayGoThroughSeveralInstances(t *testing.T) {
	const repo = "/v2/coolteam/app/manifests/"
	for _, tt := range []struct {
		name  string
		steps string // INSTANCE REFERENCE, +TIME, down, up; commas between
		cost  int
	}{
		{"an index here, its image there", "0 multi, 1 " + imageDigest + ", 1 " + indexDigest + ", 0 " + imageDigest, 1},
		{"a tag here, its digest there", "0 latest, 1 " + imageDigest, 1},
		{"for ten minutes", "0 multi, +9m59s, 1 " + imageDigest, 1},
		{"and no longer", "0 multi, +10m1s, 1 " + imageDigest, 2},
		{"free pulls there do not prolong it", "0 multi, +9m, 1 " + indexDigest + ", +2m, 0 " + imageDigest, 2},
		{"nor shorten what a later pull gave", "0 multi, +5m, 1 latest, +1m, 0 " + indexDigest + ", +5m, 1 " + imageDigest, 2},
		{"two tags are two", "0 latest, 1 1.0", 2},
		{"a tag again is another", "0 latest, 1 latest", 2},
		{"absent frees nothing", "0 " + absentDigest + ", 1 " + absentDigest, 2},
		{"each for itself while they cannot talk", "down, 0 multi, up, 1 " + imageDigest + ", 0 " + imageDigest, 2},
		{"nor while one cannot listen", "0 multi, down, 1 " + imageDigest + ", 0 " + imageDigest, 2},
	} {
		p := twins(newGate(t, usual+"limit people pulls 100/6d\n"), 2)
		for step := range strings.SplitSeq(tt.steps, ", ") {
			var instance int32
			var reference string
			switch n, _ := fmt.Sscanf(step, "%d %s", &instance, &reference); {
			case step == "down" || step == "up":
				p.board.goes(step == "down")
			case step[0] == '+':
				d, err := time.ParseDuration(step[1:])
				if err != nil {
					t.Fatal(err)
				}
				p.clock.pass(d)
			case n == 2:
				p.to(instance).get(repo+reference, p.as("ann", pulls("coolteam/app")))
			default:
				t.Fatalf("%s: %q", tt.name, step)
			}
		}
		if got := p.spent("people", "user:ann"); got != tt.cost {
			t.Errorf("%s: %d counted, want %d", tt.name, got, tt.cost)
		}
	}
}

func TestL02_FreeElsewhereIsForTheSameClientAndRepository(t *testing.T) {
	p := twins(newGate(t, "allow everyone ** pull\nlimit people pulls 1/6h"), 2)
	p.to(0).get("/v2/one/x/manifests/multi", p.as("ann", pulls("one/x"))).want(t, 200)
	p.to(1).get("/v2/one/x/manifests/"+imageDigest, p.as("ann", pulls("one/x"))).want(t, 200)
	p.get("/v2/two/x/manifests/"+imageDigest, p.as("ann", pulls("two/x"))).want(t, 429)
	p.get("/v2/one/x/manifests/"+imageDigest, p.as("bob", pulls("one/x"))).want(t, 200)
	if got := p.spent("people", "user:bob"); got != 1 {
		t.Errorf("bob's pull cost %d", got)
	}
}

// sharedInstances are two in front of one store, and what bob pushes with.
func sharedInstances(t testing.TB, change ...func(*Settings)) (p *instances, s *oneStore, bob option) {
	t.Helper()
	g, s := sharedGate(t, change...)
	return twins(g, 2), s, g.as("bob", deletes("bob/tools"))
}

// put pushes a manifest with a reference.
func (g *gate) put(reference, kind string, m []byte, who option) reply {
	g.Helper()
	return g.do("PUT", "/v2/bob/tools/manifests/"+reference, who, manifestBody(kind, m))
}

func (g *gate) blob(digest string, who option) reply {
	g.Helper()
	return g.do("HEAD", "/v2/bob/tools/blobs/"+digest, who)
}

func TestSharedBlobs_APushMayGoThroughSeveralInstances(t *testing.T) {
	p, s, bob := sharedInstances(t)
	base := s.blob("base layer")
	s.image("bob/base", "latest", base)
	mounter := p.as("bob", pushes("bob/tools"), pulls("bob/base"))
	for here, there := range []int32{1, 0} {
		here := int32(here)
		content, configText := fmt.Sprint("layer by ", here), fmt.Sprint("config by ", here)
		layer, config := digestOf([]byte(content)), digestOf([]byte(configText))
		p.to(there).blob(layer, bob).want(t, 404)
		p.to(here).upload("bob/tools", content, bob)
		p.to(there).blob(layer, bob).want(t, 200)
		p.to(here).do("POST", "/v2/bob/tools/blobs/uploads/?digest="+config, bob, body([]byte(configText))).want(t, 201)
		p.to(here).do("POST", "/v2/bob/tools/blobs/uploads/?mount="+base+"&from=bob/base", mounter).want(t, 201)
		m := imageOf(config, layer, base)
		p.to(there).put(fmt.Sprint("v", here), imageType, m, bob).want(t, 201)
		// The next image has a layer of that one, which has no tag where others look.
		p.to(here).upload("bob/tools", content+" on top", bob)
		more := imageOf(config, layer, digestOf([]byte(content+" on top")))
		p.to(here).put(digestOf(more), imageType, more, bob).want(t, 201)
		p.to(there).put("multi", indexType, indexOf(digestOf(m), digestOf(more)), bob).want(t, 201)
		for _, at := range []int32{0, 1} {
			p.to(at).blob(layer, bob).want(t, 200)
		}
	}
}

// What an image pushed by its digest alone refers to is found where another
// instance was told of it, for no tag leads there.
func TestSharedBlobs_AnUntaggedImageLendsItsLayersElsewhere(t *testing.T) {
	p, _, bob := sharedInstances(t)
	p.to(0).upload("bob/tools", "layer", bob)
	p.to(0).upload("bob/tools", "config", bob)
	layer, config := digestOf([]byte("layer")), digestOf([]byte("config"))
	m := imageOf(config, layer)
	p.to(0).put(digestOf(m), imageType, m, bob).want(t, 201)
	p.to(1).blob(layer, bob).want(t, 200)
	if !slices.Contains(p.asked(), "GET bob/tools/manifests/"+digestOf(m)) {
		t.Error("the upstream was not asked: it is for what it says that a blob is served")
	}
}

// What another instance says opens one blob in one repository.
func TestSharedBlobs_WhatCameInElsewhereIsServedThereOnly(t *testing.T) {
	p, _, bob := sharedInstances(t)
	p.to(0).upload("bob/tools", "layer", bob)
	layer := digestOf([]byte("layer"))
	p.to(1).do("HEAD", "/v2/coolteam/app/blobs/"+layer, p.as("ann", pulls("coolteam/app"))).want(t, 404)
	p.do("HEAD", "/v2/library/app/blobs/"+layer, p.as("", pulls("library/app"))).want(t, 404)
	p.do("HEAD", "/v2/bob/tool/blobs/"+layer, p.as("bob", pulls("bob/tool"))).want(t, 404)
	p.blob(absentDigest, bob).want(t, 404)
	p.clock.pass(uploadFor)
	p.blob(layer, p.as("bob", deletes("bob/tools"))).want(t, 404)
}

// A layer's right to be served goes with the manifest that named it, wherever
// it came in, was named, was read and was deleted (CVE-2026-35172).
func TestSharedBlobs_WhatIsDeletedIsGoneForAllInstances(t *testing.T) {
	for uploaded := range int32(2) {
		for named := range int32(2) {
			for deleted := range int32(2) {
				for _, tell := range []string{"at once", "after Redis was away"} {
					p, _, bob := sharedInstances(t)
					p.to(uploaded).upload("bob/tools", "layer", bob)
					p.to(uploaded).upload("bob/tools", "config", bob)
					layer := digestOf([]byte("layer"))
					m := imageOf(digestOf([]byte("config")), layer)
					p.to(named).blob(layer, bob).want(t, 200)
					p.blob(digestOf([]byte("config")), bob).want(t, 200)
					p.board.goes(tell != "at once")
					p.to(named).put("v1", imageType, m, bob).want(t, 201)
					for _, at := range []int32{0, 1} {
						p.to(at).blob(layer, bob).want(t, 200)
					}
					p.to(deleted).do("DELETE", "/v2/bob/tools/manifests/"+digestOf(m), bob).want(t, 202)
					p.board.goes(false)
					p.to(named).blob(absentDigest, bob).want(t, 404) // it talks again
					p.to(deleted).blob(absentDigest, bob).want(t, 404)
					p.clock.pass(deletionsEvery)
					for _, at := range []int32{0, 1} {
						if got := p.to(at).blob(layer, bob).StatusCode; got != 404 {
							t.Errorf("uploaded at %d, named at %d, deleted at %d, told %s: %d serves it: %d", uploaded, named, deleted, tell, at, got)
						}
					}
				}
			}
		}
	}
}

// Whoever deleted while Redis was away may be asked nothing for hours: the others
// hear of it when Redis is back, not when somebody comes.
func TestSharedBlobs_WhatIsDeletedIsToldWhenRedisIsBack(t *testing.T) {
	p, _, bob := sharedInstances(t)
	p.to(0).upload("bob/tools", "layer", bob)
	p.to(0).upload("bob/tools", "config", bob)
	layer := digestOf([]byte("layer"))
	m := imageOf(digestOf([]byte("config")), layer)
	p.to(1).blob(layer, bob).want(t, 200)
	p.board.goes(true)
	p.to(0).put("v1", imageType, m, bob).want(t, 201)
	p.do("DELETE", "/v2/bob/tools/manifests/"+digestOf(m), bob).want(t, 202)
	p.all[0].LimiterIs(true, errors.New("gone"))
	p.board.goes(false)
	p.all[0].LimiterIs(false, nil)
	p.to(1)
	for tries := 0; p.blob(layer, bob).StatusCode != 404; tries++ {
		if p.clock.pass(deletionsEvery); tries == 1000 {
			t.Fatal("another instance serves it still")
		}
		time.Sleep(time.Millisecond) // it is told behind everybody's back
	}
}

func TestSharedBlobs_APushGoesThroughOneInstanceWhileNothingIsShared(t *testing.T) {
	p, _, bob := sharedInstances(t)
	layer, config := digestOf([]byte("layer")), digestOf([]byte("config"))
	m := imageOf(config, layer)
	p.to(0).upload("bob/tools", "layer", bob)
	p.board.goes(true)
	p.upload("bob/tools", "config", bob)
	p.to(1).blob(layer, bob).want(t, 404)
	p.put("v1", imageType, m, bob).refused(t, 400, "MANIFEST_BLOB_UNKNOWN")
	p.to(0).blob(layer, bob).want(t, 200)
	p.board.goes(false) // what nobody could be told of is still known
	p.put("v1", imageType, m, bob).want(t, 201)
}

// Whoever can write to Redis can say nothing: keys cannot be made without
// token.key_file, and no text is taken for more than a digest to look at.
func TestNotesOfOthersSayNothing(t *testing.T) {
	p, s, bob := sharedInstances(t)
	private := s.blob("private")
	foreign := newNotes(p.board)
	foreign.use([][32]byte{{1}})
	up := p.all[0].Current().backends[0].Upstream
	if _, err := foreign.write(t.Context(), Note{Key: up.blobNote("bob/tools", private), Left: uploadFor}); err != nil {
		t.Fatal(err)
	}
	p.to(0).blob(private, bob).want(t, 404)
	p.upload("bob/tools", "layer", bob)
	p.board.mu.Lock()
	for k, n := range p.board.notes {
		p.board.notes[k] = pinned{"../../v2/coolteam/app/manifests/latest", n.until}
	}
	p.board.mu.Unlock()
	p.to(1).blob(digestOf([]byte("layer")), bob).want(t, 404)
	p.neverAsked("coolteam")
	p.board.mu.Lock()
	defer p.board.mu.Unlock()
	for k := range p.board.notes {
		if strings.Contains(k, "bob") || strings.Contains(k, "sha256") || len(k) != 43 {
			t.Errorf("key %q", k)
		}
	}
}

func TestNotesOutliveAChangeOfKeys(t *testing.T) {
	b := newBoard(time.Now)
	old, both := newNotes(b), newNotes(b)
	old.use([][32]byte{{1}})
	both.use([][32]byte{{2}, {1}})
	if _, err := old.write(t.Context(), Note{Key: "what", Left: time.Hour}); err != nil {
		t.Fatal(err)
	}
	found, err := both.read(t.Context(), "else", "what")
	if err != nil || len(found) != 2 || found[0].Left > 0 || found[1].Left <= 0 {
		t.Errorf("read %v, %v", found, err)
	}
	both.owe(t.Context(), Note{Key: "what", If: IfPresent, Text: "taken", Left: time.Hour})
	if found, err := old.read(t.Context(), "what"); err != nil || found[0].Text != "taken" {
		t.Errorf("read %v, %v", found, err)
	}
}

func TestWhatNotesAreAboutCannotBeConfused(t *testing.T) {
	seen := map[string][]string{}
	for _, words := range [][]string{{"ab", "c"}, {"a", "bc"}, {"abc"}, {"ab", "", "c"}, {"ab", "c", ""}, {}, {""}} {
		key := about(words...)
		if old, ok := seen[key]; ok {
			t.Errorf("%q and %q", old, words)
		}
		seen[key] = words
	}
}

func TestNotesAreBounded(t *testing.T) {
	b := newBoard(time.Now)
	n := newNotes(b)
	n.use([][32]byte{{1}})
	var list []Note
	var keys []string
	for i := range maxOwed + 5 {
		keys = append(keys, fmt.Sprint(i))
		list = append(list, Note{Key: keys[i], Text: "x", Left: time.Hour})
	}
	b.goes(true)
	for range 3 {
		n.owe(t.Context(), list...)
	}
	if len(n.owed) != maxOwed {
		t.Errorf("%d are owed", len(n.owed))
	}
	if _, err := n.read(t.Context(), keys...); err == nil || len(n.owed) != maxOwed {
		t.Errorf("%d are owed after a failure: %v", len(n.owed), err)
	}
	b.goes(false)
	if found, err := n.read(t.Context(), keys...); err != nil || len(n.owed) != 0 || found[maxOwed-1].Text != "x" || found[maxOwed].Left > 0 {
		t.Errorf("%d are owed: %v", len(n.owed), err)
	}
	if b.most > notesAtOnce {
		t.Errorf("%d keys in one call", b.most)
	}
}

// doors are what several instances ask one upstream with.
func doors(t testing.TB, p *people, n int) (list []*door, b *board) {
	t.Helper()
	for range n {
		d := newDoor(t, p)
		if b == nil {
			b = newBoard(d.clock.Now)
		} else {
			d.clock = list[0].clock
			d.up.Now = d.clock.Now
		}
		d.up.notes = newNotes(b)
		d.up.notes.use([][32]byte{{1}})
		list = append(list, d)
	}
	return list, b
}

func TestWrongPasswordsAreCountedByAllInstancesTogether(t *testing.T) {
	p := newPeople(t, "ann", "pw", "bob", "pb")
	d, b := doors(t, p, 3)
	for _, v := range []struct {
		what           string
		at             int
		after          time.Duration
		user, password string
		want           string
		asked          []string // beside pings and made-up logins
	}{
		{"one", 0, 0, "ann", "1", "no", []string{"ann/1"}},
		{"the same elsewhere", 1, 0, "ann", "1", "no", nil},
		{"the right one", 2, time.Minute, "ann", "pw", "ann", []string{"ann/pw"}},
		{"another, elsewhere", 1, 0, "ANN", "2", "no", []string{"ANN/2"}},
		{"a third", 0, 0, "ann", "3", annTried + "14 minutes", nil},
		{"anywhere", 2, 0, "ann", "4", annTried + "14 minutes", nil},
		{"nor the right one: nobody knows", 0, 0, "ann", "pw", annTried + "14 minutes", nil},
		{"the second where it was not asked", 2, 0, "ANN", "2", "no", nil},
		{"other people", 0, 0, "bob", "pb", "bob", []string{"bob/pb"}},
		{"just before", 2, 14*time.Minute - time.Second, "ann", "5", annTried + "a second", nil},
		{"when the first is forgotten", 0, time.Second, "ann", "pw", "ann", []string{"ann/pw"}},
		{"there is one question more", 2, 0, "ann", "6", "no", []string{"ann/6"}},
		{"and no other", 0, 0, "ann", "7", annTried, nil},
	} {
		d[0].clock.pass(v.after)
		if got := d[v.at].login(v.user, v.password); !strings.HasPrefix(got, v.want) {
			t.Errorf("%s: got %q, want %q", v.what, got, v.want)
		}
		asked := slices.DeleteFunc(p.questions(), func(q string) bool { return q == "ping" || q == "made-up" })
		if diff := cmp.Diff(v.asked, asked, cmp.Transformer("nil", func(s []string) string { return strings.Join(s, " ") })); diff != "" {
			t.Errorf("%s: asked (-want +got):\n%s", v.what, diff)
		}
	}
	for k := range b.notes {
		if len(k) != 43 {
			t.Errorf("key %q", k)
		}
	}
	b.goes(true) // each for itself, as without Redis
	if got := d[1].login("bob", "1") + " " + d[2].login("bob", "1"); got != "no no" {
		t.Errorf("while nothing is shared: got %q", got)
	}
}

func TestGuessesAtSeveralInstancesAtOnce(t *testing.T) {
	p := newPeople(t, "ann", "pw")
	d, _ := doors(t, p, 4)
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			if got := d[i%4].login("ann", fmt.Sprint("guess ", i)); got != "no" && !strings.HasPrefix(got, annTried) {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
	if n := countPrefix(p.questions(), "ann/"); n != maxWrong {
		t.Errorf("asked %d times about ann", n)
	}
}

func countPrefix(list []string, prefix string) (n int) {
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// A right password is never taken for a wrong one because others ask about it
// at the same time.
func TestOnePasswordAtManyInstancesAtOnce(t *testing.T) {
	p := newPeople(t, "ann", "pw")
	p.gate = make(chan struct{})
	d, _ := doors(t, p, 6)
	var wg sync.WaitGroup
	for i := range d {
		wg.Go(func() {
			if got := d[i].login("ann", "pw"); got != "ann" {
				t.Errorf("got %q", got)
			}
		})
	}
	waitFor(t, "as many questions as may be", func() bool { return p.held.Load() >= maxWrong })
	close(p.gate)
	wg.Wait()
}

// Whoever was in before is let through though strangers have used up the tries,
// and waits for nobody.
func TestWhoWasInBeforeIsNotLockedOutByStrangersElsewhere(t *testing.T) {
	p := newPeople(t, "ann", "pw")
	d, _ := doors(t, p, 2)
	if got := d[0].login("ann", "pw", "home"); got != "ann" {
		t.Fatal(got)
	}
	for _, guess := range []string{"1", "2"} {
		if got := d[1].login("ann", guess, "abroad"); got != "no" {
			t.Fatal(got)
		}
	}
	d[0].clock.pass(2 * time.Minute)
	if got := d[0].login("ann", "pw", "home"); got != "ann" {
		t.Errorf("got %q", got)
	}
}
