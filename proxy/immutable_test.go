package proxy

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The rules of these tests: carl is in ci, ann in coolteam.
const tagRules = `
	allow group:ci       team/** pull,push,delete tags=v*,dev
	allow group:coolteam team/** pull,push,delete
	deny  group:coolteam team/** push,delete tags=latest
	deny  group:coolteam team/** pull tags=old
	allow everyone       open/** pull tags=v*`

func TestS03_TagRules(t *testing.T) {
	g := newGate(t, tagRules)
	carl, ann := g.as("carl", deletes("team/app")), g.as("ann", deletes("team/app"))
	for _, tt := range []struct {
		method, reference string
		who               option
		status            int
		says              string
	}{
		{"PUT", "v1", carl, 201, ""},
		{"PUT", "latest", carl, 403, "carl may not pull the tag latest of team/app, or it does not exist"}, // a push wants both, pull first
		{"GET", "v1", carl, 200, ""},
		{"HEAD", "v1", carl, 200, ""},
		{"GET", "latest", carl, 403, "carl may not pull the tag latest of team/app, or it does not exist"},
		{"HEAD", "latest", carl, 403, ""},
		{"GET", imageDigest, carl, 200, ""},
		{"PUT", imageDigest, carl, 201, ""},
		{"DELETE", "dev", carl, 202, ""},
		{"DELETE", "latest", carl, 403, "carl may not delete the tag latest of team/app"},
		{"DELETE", imageDigest, carl, 202, ""},
		{"PUT", "latest", ann, 403, "ann may not push the tag latest of team/app; ann may push to team/**"},
		{"PUT", "v1", ann, 201, ""},
		{"GET", "old", ann, 403, "ann may not pull the tag old of team/app, or it does not exist"},
		{"DELETE", "v1", ann, 202, ""},
		{"DELETE", imageDigest, ann, 403, "ann may not delete by digest in team/app: a tag that ann may not delete could name it"},
		{"PUT", imageDigest + "?tag=v1&tag=dev", carl, 201, ""}, // P01
		{"PUT", imageDigest + "?tag=v1&tag=latest", carl, 403, "carl may not push the tag latest of team/app; carl may push to team/** (tags v*, dev)"},
		{"PUT", "v1?tag=latest", ann, 403, "ann may not push the tag latest of team/app; ann may push to team/**"},
	} {
		options := []option{tt.who}
		if tt.method == "PUT" {
			options = append(options, body(image), header("Content-Type", imageType))
		}
		g.up.seen()
		a := g.do(tt.method, "/v2/team/app/manifests/"+tt.reference, options...)
		if tt.status != 403 {
			a.want(t, tt.status)
			g.up.one(t)
			continue
		}
		if msg := a.refused(t, 403, "DENIED"); msg != "" && !strings.HasPrefix(msg, tt.says+". ") {
			t.Errorf("%s %s: got %s\nwant %s", tt.method, tt.reference, msg, tt.says)
		}
		if a.Header.Get("Www-Authenticate") != "" {
			t.Errorf("%s %s: a 403 with a challenge", tt.method, tt.reference)
		}
		g.up.none(t)
	}
	// What names no tag is as before.
	g.get("/v2/team/app/tags/list", carl).want(t, 200)
	g.get("/v2/team/app/blobs/"+layerDigest, carl).want(t, 200)
	g.do("POST", "/v2/team/app/blobs/uploads/", carl).want(t, 202)
	// A login might help who has none; and who may nothing there hears nothing of tags.
	g.get("/v2/open/app/manifests/latest", g.as("", pulls("open/app"))).refused(t, 401, "DENIED")
	g.get("/v2/open/app/manifests/v1", g.as("", pulls("open/app"))).want(t, 200)
	g.get("/v2/team/app/manifests/v1", g.as("bob", pulls("team/app"))).refused(t, 401, "DENIED")
	if got := g.audit.String(); !strings.Contains(got, "rules[2] at regward.yaml:12 denies push of team/** (tags latest) to group coolteam") {
		t.Errorf("the audit log does not say which rule: %s", got)
	}
}

// A token names repositories (T03): it is given where some tag may be had, and
// used for one that may not be, it is a 403 and no 401 (S03).
func TestT03_TokensNameNoTags(t *testing.T) {
	g := newGate(t, tagRules+`
		allow group:coolteam kept/** pull,push,delete immutable`)
	for user, scopes := range map[string]string{
		"carl": "repository:team/app:pull,push,delete",
		"ann":  "repository:team/app:pull,push,delete repository:kept/app:pull,push", // some tags; none
		"bob":  "",
	} {
		a := g.do("POST", "/token", form("grant_type=password&service="+gateHost+"&client_id=t&username="+user+"&password="+map[string]string{"ann": "ann%27s+pass%3Aword", "bob": bobPassword, "carl": carlPassword}[user]+
			"&scope=repository:team/app:pull,push,delete+repository:kept/app:pull,push,delete")).want(t, 200)
		if got := *a.token(t).Scope; got != scopes {
			t.Errorf("%s: got %q, want %q", user, got, scopes)
		}
	}
}

// tagStore is an upstream with tags that can be moved.
type tagStore struct {
	mu       sync.Mutex
	tags     map[string]string // digests
	asks     []string          // "HEAD v1"
	noDigest bool              // the header is left out
	status   int               // of every look at a tag; 0: what is true
	stray    string            // Content-Type of a 404 that is no registry's; "": none
	late     chan struct{}     // every push is done once it is closed; nil: at once
	slow     chan struct{}     // every look waits for it; nil: none
}

func newTagStore(g *gate) *tagStore {
	s := &tagStore{tags: map[string]string{}}
	g.up.answer(s.answer)
	return s
}

func (s *tagStore) answer(w http.ResponseWriter, r *http.Request) bool {
	_, reference, ok := strings.Cut(r.URL.Path, "/manifests/")
	if !ok || r.Method == "DELETE" {
		return false
	}
	content, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks = append(s.asks, r.Method+" "+reference)
	if r.Method == "PUT" {
		if late := s.late; late != nil {
			s.mu.Unlock()
			<-late
			s.mu.Lock()
		}
		digest := digestOf(content)
		if !strings.Contains(reference, ":") {
			s.tags[reference] = digest
		}
		for _, tag := range r.URL.Query()["tag"] {
			s.tags[tag] = digest
		}
		w.Header().Set("Docker-Content-Digest", digest)
		w.WriteHeader(201)
		return true
	}
	if s.slow != nil {
		slow := s.slow
		s.mu.Unlock()
		<-slow
		s.mu.Lock()
	}
	switch digest := s.tags[reference]; {
	case s.status != 0:
		w.WriteHeader(s.status)
	case s.stray != "":
		w.Header().Set("Content-Type", s.stray)
		w.WriteHeader(404)
		_, _ = io.WriteString(w, "404 page not found\n")
	case digest == "":
		distributionError(w, 404, "MANIFEST_UNKNOWN")
	default:
		w.Header().Set("Content-Type", imageType)
		if !s.noDigest {
			w.Header().Set("Docker-Content-Digest", digest)
		}
		if r.Method == "GET" && digest == imageDigest {
			_, _ = w.Write(image)
		}
	}
	return true
}

// asked are the looks and pushes since the last call.
func (s *tagStore) asked() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asks := s.asks
	s.asks = nil
	return strings.Join(asks, ", ")
}

func (s *tagStore) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.asks, ", ")
}

func (s *tagStore) is(tag string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tags[tag]
}

// manifestNo is one of many manifests.
func manifestNo(n int) []byte {
	return []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{},"layers":[],"annotations":{"n":"%d"}}`, imageType, n))
}

const immutableRules = `
	allow group:coolteam team/** pull,push,delete
	allow group:coolteam team/** push tags=v* immutable
	allow user:bob       team/** pull,push,delete`

func TestS03_ImmutableTags(t *testing.T) {
	g := newGate(t, immutableRules)
	s := newTagStore(g)
	ann := g.as("ann", deletes("team/app"))
	put := func(reference string, manifest []byte, who option, how func([]byte) option) reply {
		return g.do("PUT", "/v2/team/app/manifests/"+reference, who, how(manifest), header("Content-Type", imageType))
	}
	other := manifestNo(1)
	for _, tt := range []struct {
		reference string
		manifest  []byte
		how       func([]byte) option
		status    int
		asked     string
	}{
		{"v1", image, body, 201, "HEAD v1, PUT v1"},    // it is new
		{"v1", image, body, 201, "HEAD v1, PUT v1"},    // the same again
		{"v1", image, chunked, 201, "HEAD v1, PUT v1"}, // H02
		{"v1", other, body, 403, "HEAD v1"},
		{"v1", other, chunked, 403, "HEAD v1"},
		{"v1", nil, body, 403, "HEAD v1"},
		{"dev", image, body, 201, "PUT dev"},
		{"dev", other, body, 201, "PUT dev"}, // not one of the tags
		{digestOf(other), other, body, 201, "PUT " + digestOf(other)},
		{digestOf(other) + "?tag=v1", other, body, 403, "HEAD v1"}, // P01
		{digestOf(other) + "?tag=dev&tag=v2&tag=v2", other, body, 201, "HEAD v2, PUT " + digestOf(other)},
		{digestOf(image) + "?tag=v1&tag=v2", image, body, 403, "HEAD v1, HEAD v2"},
		{digestOf(image) + "?tag=v1", other, body, 403, "HEAD v1"}, // what is in the body counts
		{"v2?tag=v2", other, body, 201, "HEAD v2, PUT v2"},
	} {
		a := put(tt.reference, tt.manifest, ann, tt.how)
		if a.StatusCode != tt.status {
			t.Errorf("%s: got %d %s, want %d", tt.reference, a.StatusCode, a.body, tt.status)
		}
		if got := s.asked(); got != tt.asked {
			t.Errorf("%s: the upstream was asked %s, want %s", tt.reference, got, tt.asked)
		}
	}
	if s.is("v1") != imageDigest || s.is("v2") != digestOf(other) {
		t.Error("a tag was moved")
	}
	want := "the tag v1 of team/app is immutable (rules[1]) and names another digest already, " + imageDigest + ": push this one under another tag. " + contact
	if msg := put("v1", other, ann, body).refused(t, 403, "DENIED"); !strings.HasPrefix(msg, want) {
		t.Errorf("got %s\nwant %s", msg, want)
	}
	// Neither is it deleted, nor what may be its digest.
	g.up.seen()
	for target, says := range map[string]string{
		"/v2/team/app/manifests/v1":              "the tag v1 of team/app is immutable (rules[1]) and cannot be deleted. ",
		"/v2/team/app/manifests/" + imageDigest:  "tags of team/app are immutable (rules[1]), and what is deleted by its digest may be one of theirs. ",
		"/v2/team/app/manifests/" + absentDigest: "tags of team/app are immutable (rules[1]), and what is deleted by its digest may be one of theirs. ",
		"/v2/team/app/blobs/" + layerDigest:      "tags of team/app are immutable (rules[1]), and what is deleted by its digest may be one of theirs. ",
	} {
		if msg := g.do("DELETE", target, ann).refused(t, 403, "DENIED"); !strings.HasPrefix(msg, says) {
			t.Errorf("%s: %s", target, msg)
		}
	}
	g.up.none(t)
	g.do("DELETE", "/v2/team/app/manifests/dev", ann).want(t, 202)
	// It is so for those whom the rule means.
	bob := g.as("bob", deletes("team/app"))
	s.asked()
	put("v1", other, bob, body).want(t, 201)
	if got := s.asked(); got != "PUT v1" {
		t.Errorf("asked %s", got)
	}
	if !strings.Contains(g.audit.String(), "rules[1] at regward.yaml:11 makes the tag v1 of team/app immutable for group coolteam") {
		t.Errorf("the audit log does not say why: %s", g.audit)
	}
}

// Who cannot be asked has not said yes (S10).
func TestS10_ImmutableTagsWhereTheUpstreamCannotBeAsked(t *testing.T) {
	g := newGate(t, immutableRules)
	s := newTagStore(g)
	ann := g.as("ann", pushes("team/app"))
	put := func() reply {
		return g.do("PUT", "/v2/team/app/manifests/v1", ann, body(image), header("Content-Type", imageType))
	}
	for _, status := range []int{401, 403, 405, 410, 429, 500, 503} {
		s.status = status
		a := put()
		if msg := a.refused(t, 503, "UNAVAILABLE"); !strings.HasPrefix(msg, "the tag v1 of team/app is immutable, and whether it is there already cannot be found out now; try again later") || a.Header.Get("Retry-After") == "" {
			t.Errorf("%d: %q %s", status, a.Header.Get("Retry-After"), msg)
		}
		if got := s.asked(); strings.Contains(got, "PUT") || got == "" {
			t.Errorf("%d: the upstream was asked %s", status, got)
		}
	}
	s.status = 0
	for _, s.stray = range []string{"text/html", "text/plain; charset=utf-8"} { // of a balancer without its registry
		put().refused(t, 503, "UNAVAILABLE")
		if got := s.asked(); got != "HEAD v1, GET v1" {
			t.Errorf("%s: the upstream was asked %s", s.stray, got)
		}
	}
	s.stray = ""
	// A registry that does not say the digest is read.
	s.noDigest = true
	put().want(t, 201)
	if s.asked(); s.is("v1") != imageDigest {
		t.Fatal("not pushed")
	}
	put().want(t, 201)
	if got := s.asked(); got != "HEAD v1, GET v1, PUT v1" {
		t.Errorf("asked %s", got)
	}
	s.mu.Lock()
	s.tags["v1"] = "unknown" // its body is empty: no manifest
	s.mu.Unlock()
	put().refused(t, 503, "UNAVAILABLE")
	s.mu.Lock()
	s.noDigest, s.tags["v1"] = false, "blake3:"+strings.Repeat("0", 64)
	s.mu.Unlock()
	put().refused(t, 503, "UNAVAILABLE")
	s.mu.Lock()
	h := digestSum("sha512")()
	h.Write(image)
	s.tags["v1"] = "sha512:" + hex.EncodeToString(h.Sum(nil))
	s.mu.Unlock()
	put().want(t, 201) // it is the same
	// One that does not answer in time.
	g.tagPatience = 10 * time.Millisecond
	s.mu.Lock()
	slow := make(chan struct{})
	s.slow = slow
	s.mu.Unlock()
	put().refused(t, 503, "UNAVAILABLE")
	close(slow)
}

// Of two pushes of a new tag one stays, however close they come.
func TestImmutableTagsRace(t *testing.T) {
	g := newGate(t, immutableRules)
	s := newTagStore(g)
	ann := g.as("ann", pushes("team/app"))
	for _, references := range [][]string{{"v1"}, {"DIGEST?tag=v2&tag=v3", "DIGEST?tag=v3&tag=v2"}} {
		var all sync.WaitGroup
		var mu sync.Mutex
		statuses := map[int]int{}
		const pushes = 24
		for n := range pushes {
			all.Go(func() {
				m := manifestNo(n)
				target := "/v2/team/app/manifests/" + strings.Replace(references[n%len(references)], "DIGEST", digestOf(m), 1)
				c := g.h1
				if n%3 == 0 {
					c = g.h2
				}
				a := g.with(c, "PUT", target, ann, body(m), header("Content-Type", imageType))
				mu.Lock()
				defer mu.Unlock()
				statuses[a.StatusCode]++
			})
		}
		all.Wait()
		if statuses[201] != 1 || statuses[403] != pushes-1 {
			t.Errorf("%v: got %v", references, statuses)
		}
	}
	if s.is("v2") != s.is("v3") {
		t.Error("two pushes share what one should have")
	}
	if n := len(g.tagLocks.held); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

// Who gives a push up after the upstream has it does not free the tag: the
// upstream may go on, and the next push would find the tag absent.
func TestAPushThatIsGivenUpKeepsItsTag(t *testing.T) {
	g := newGate(t, immutableRules)
	s := newTagStore(g)
	ann := g.as("ann", pushes("team/app"))
	late := make(chan struct{})
	s.late = late
	push := func(ctx context.Context, m []byte) (int, error) {
		resp, err := g.h1.Do(g.request("PUT", "/v2/team/app/manifests/v1", ann, body(m), header("Content-Type", imageType)).WithContext(ctx))
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal(what)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := push(ctx, manifestNo(0))
		gone <- err
	}()
	until("the push reached the upstream", func() bool { return strings.Contains(s.seen(), "PUT v1") })
	cancel()
	if err := <-gone; err == nil {
		t.Fatal("answered")
	}
	status := make(chan int)
	go func() {
		got, err := push(t.Context(), manifestNo(1))
		if err != nil {
			t.Error(err)
		}
		status <- got
	}()
	until("the next push waits", func() bool {
		g.tagLocks.mu.Lock()
		defer g.tagLocks.mu.Unlock()
		for _, one := range g.tagLocks.held {
			if one.users == 2 {
				return true
			}
		}
		return strings.Count(s.seen(), "HEAD v1") > 1 // it does not
	})
	close(late)
	if got := <-status; got != 403 || s.is("v1") != digestOf(manifestNo(0)) {
		t.Errorf("the next push is answered %d; the upstream was asked %s", got, s.asked())
	}
}

func TestTagLocksAreBounded(t *testing.T) {
	var l tagLocks
	key := func(n int) tagKey { return tagKey{"u", "r", strconv.Itoa(n)} }
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var unlocks []func()
	for n := range maxTagLocks {
		unlock, err := l.lock(ctx, []tagKey{key(n)})
		if err != nil {
			t.Fatal(err)
		}
		unlocks = append(unlocks, unlock)
	}
	if _, err := l.lock(ctx, []tagKey{key(maxTagLocks)}); err != errManyTags {
		t.Errorf("one more: %v", err)
	}
	unlocks[7]()
	unlocks[7]() // it is no matter
	unlocks[8]()
	done := make(chan error)
	go func() {
		_, err := l.lock(ctx, []tagKey{key(7), key(3)}) // 3 first, which is held
		done <- err
	}()
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("got %v", err)
	}
	if unlock, err := l.lock(context.Background(), []tagKey{key(7), key(7)}); err != nil {
		t.Error(err)
	} else {
		unlock()
	}
	for _, unlock := range unlocks {
		unlock()
	}
	if len(l.held) != 0 {
		t.Errorf("%d are left", len(l.held))
	}
}

// A dry run refuses nothing, and tells what it would.
func TestTagRulesOfDryRuns(t *testing.T) {
	g := newGate(t, `
		allow group:coolteam team/** pull,push,delete
		allow group:coolteam team/** push tags=v* immutable dry_run
		deny  group:coolteam team/** push tags=latest dry_run`)
	s := newTagStore(g)
	ann := g.as("ann", deletes("team/app"))
	put := func(tag string, manifest []byte) string {
		g.do("PUT", "/v2/team/app/manifests/"+tag, ann, body(manifest), header("Content-Type", imageType)).want(t, 201)
		lines := g.access.all(t)
		would, _ := lines[len(lines)-1]["would_deny"].(string)
		return would
	}
	for _, tt := range []struct {
		tag      string
		manifest []byte
		want     string
	}{
		{"v1", image, ""},
		{"v1", image, ""},
		{"v1", manifestNo(1), "rules[1] at regward.yaml:11, a dry run, makes the tag v1 of team/app immutable for group coolteam"},
		{"latest", image, "rules[2] at regward.yaml:12, a dry run, would deny push of team/** (tags latest) to group coolteam"},
		{"dev", image, ""},
	} {
		if got := put(tt.tag, tt.manifest); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.tag, got, tt.want)
		}
	}
	s.status = 500
	if got := put("v1", image); got != "" {
		t.Errorf("what nobody knows is told: %s", got)
	}
	g.do("DELETE", "/v2/team/app/manifests/v1", ann).want(t, 202)
}

// With shared_blobs a manifest is judged twice, and read once.
func TestImmutableTagsWithSharedBlobs(t *testing.T) {
	yes := true
	g := newGate(t, immutableRules, func(s *Settings) { s.Upstreams[0].SharedBlobs = &yes })
	s := newTagStore(g)
	ann := g.as("ann", pushes("team/app"))
	put := func(m []byte) reply {
		return g.do("PUT", "/v2/team/app/manifests/v1", ann, body(m), header("Content-Type", imageType))
	}
	put(image).want(t, 201)
	put(manifestNo(1)).refused(t, 403, "DENIED")
	put([]byte("no manifest")).refused(t, 400, "MANIFEST_INVALID")
	if s.is("v1") != imageDigest {
		t.Error("the tag was moved")
	}
}

// A manifest that is too large is not held (P26).
func TestP26_OfImmutableTags(t *testing.T) {
	g := newGate(t, immutableRules)
	s := newTagStore(g)
	ann := g.as("ann", pushes("team/app"))
	for _, how := range []func([]byte) option{body, chunked} {
		g.do("PUT", "/v2/team/app/manifests/v1", ann, how(make([]byte, maxManifest+1))).refused(t, 413, "SIZE_INVALID")
	}
	if got := s.asked(); got != "" {
		t.Errorf("asked %s", got)
	}
}

// In passthrough the look is in the caller's own name, as the push is.
func TestT33_ImmutableTagsAreLookedAtWithTheCallersLogin(t *testing.T) {
	g, p := passing(t, `
		allow authenticated ** pull,push
		allow user:ann      ** push tags=v* immutable`)
	ann := g.as("ann", pushes("team/app"))
	g.up.seen()
	put := func(m []byte) reply {
		return g.do("PUT", "/v2/team/app/manifests/v1", ann, body(m), header("Content-Type", imageType))
	}
	put(image).want(t, 201)
	got := g.up.seen()
	if len(got) != 2 || got[0].Method != "HEAD" || got[1].Method != "PUT" || got[0].Header.Get("Authorization") != got[1].Header.Get("Authorization") || got[0].Header.Get("Authorization") == "" {
		t.Fatalf("the upstream saw %d requests: %+v", len(got), got)
	}
	put(manifestNo(1)).refused(t, 403, "DENIED")
	// Whose login is turned down hears of that, and nothing goes on.
	p.locked(func() { p.spent = true })
	put(image).refused(t, 401, "UNAUTHORIZED")
	for _, r := range g.up.seen() {
		if r.Method == "PUT" {
			t.Error("the push went on")
		}
	}
}
