package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

// several starts a gate with an upstream for each place.
func several(t testing.TB, text string, places []auth.Place, change ...func(*Settings)) (*gate, []*fakeUpstream) {
	t.Helper()
	ups := make([]*fakeUpstream, len(places))
	arrange := func(s *Settings) {
		one := s.Upstreams[0]
		s.Upstreams = nil
		for i, place := range places {
			ups[i] = newFakeUpstream(t)
			at, err := url.Parse(ups[i].srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			one.Name, one.URL, one.Place = "up"+strconv.Itoa(i), at, place
			s.Upstreams = append(s.Upstreams, one)
			if place.Host != "" && !slices.Contains(s.Hostnames, place.Host) {
				s.Hostnames = append(s.Hostnames, place.Host)
			}
		}
	}
	g := newGate(t, text, append([]func(*Settings){arrange}, change...)...)
	g.up = ups[0]
	return g, ups
}

// at dials another of the gate's names.
func at(host string) option { return func(r *http.Request) { r.Host = host } }

// asAt is as, on another hostname.
func (g *gate) asAt(host, user string, scopes ...string) option {
	g.Helper()
	token := g.tokenFor([]option{who(user), at(host)}, scopes...)
	return func(r *http.Request) {
		at(host)(r)
		bearer(token)(r)
	}
}

const allCatalog = "registry:catalog:*"

// styles are the ways in which registries page their catalogs: how a page is
// asked for, and what leads to the next.
var styles = map[string]func(names []string, query url.Values) (page []string, next url.Values){
	"as the spec has it": func(names []string, q url.Values) ([]string, url.Values) {
		from := 0
		for from < len(names) && q.Get("last") != "" && names[from] <= q.Get("last") {
			from++
		}
		page := names[from:min(from+3, len(names))]
		if from+3 >= len(names) {
			return page, nil
		}
		return page, url.Values{"n": {"3"}, "last": {page[2]}}
	},
	"numbered pages": func(names []string, q url.Values) ([]string, url.Values) { // Harbor
		n, _ := strconv.Atoi(q.Get("page"))
		n = max(n, 1)
		from := min((n-1)*3, len(names))
		if from+3 >= len(names) {
			return names[from:], nil
		}
		return names[from : from+3], url.Values{"page": {strconv.Itoa(n + 1)}, "page_size": {"3"}}
	},
	"a token of its own": func(names []string, q url.Values) ([]string, url.Values) { // Quay
		from, _ := strconv.Atoi(strings.TrimPrefix(q.Get("next_page"), "gAAAA+/="))
		if from+2 >= len(names) {
			return names[from:], nil
		}
		return names[from : from+2], url.Values{"n": {"2"}, "next_page": {"gAAAA+/=" + strconv.Itoa(from+2)}}
	},
	"all at once": func(names []string, q url.Values) ([]string, url.Values) { return names, nil },
	"last itself again": func(names []string, q url.Values) ([]string, url.Values) {
		from := max(slices.Index(names, q.Get("last")), 0)
		if from+3 >= len(names) {
			return names[from:], nil
		}
		return names[from : from+3], url.Values{"last": {names[from+2]}}
	},
}

// lists makes the upstream page its catalog in a style. Its links are as bad as
// Nexus': absolute, and elsewhere.
func (u *fakeUpstream) lists(style string, names ...string) {
	u.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/_catalog" {
			return false
		}
		page, next := styles[style](names, r.URL.Query())
		if next != nil {
			w.Header().Set("Link", "<http://nexus.internal:8081/v2/_catalog?"+next.Encode()+`>; rel="next"`)
		}
		_ = json.NewEncoder(w).Encode(map[string][]string{"repositories": page})
		return true
	})
}

func TestR14_CatalogOfSeveralUpstreams(t *testing.T) {
	rules := `
		allow everyone hub/library/**     pull
		allow everyone acme/**            pull
		allow everyone hub/acme/**        pull
		allow everyone mirror/open/**     pull
		allow everyone zz/**              pull
		allow user:ann **                 pull
		deny  everyone acme/vault/**      *`
	places := []auth.Place{
		{Prefix: "hub/", Default: "library"},
		{Prefix: ""},
		{Prefix: "hub/acme/"},
		{Prefix: "mirror/", Keep: true},
	}
	held := [][]string{
		{"acme/hidden", "library/alpine", "library/busybox", "one", "private/x", "somebody/app"}, // hub/acme/ is another's; "one" has no client name
		{"acme/app", "acme/vault/key", "hub/never", "other/x", "zz/a", "zz/b", "zz/c", "zz/d"},
		{"app", "deep/er/app"},
		{"left/out", "mirror/open/a", "mirror/secret/a", "nothing"},
	}
	want := map[string][]string{
		"": {"acme/app", "hub/acme/app", "hub/acme/deep/er/app", "hub/library/alpine", "hub/library/busybox", "mirror/open/a", "zz/a", "zz/b", "zz/c", "zz/d"},
		"ann": {"acme/app", "hub/acme/app", "hub/acme/deep/er/app", "hub/library/alpine", "hub/library/busybox", "hub/private/x", "hub/somebody/app",
			"mirror/open/a", "mirror/secret/a", "other/x", "zz/a", "zz/b", "zz/c", "zz/d"},
	}
	g, ups := several(t, rules, places)
	all := slices.Sorted(maps.Keys(styles))
	for i := range all {
		for j, u := range ups {
			u.lists(all[(i+j)%len(all)], held[j]...)
		}
		for user, names := range want {
			token := g.as(user, allCatalog)
			for _, n := range []string{"", "1", "2", "3", "5", "1000"} {
				got, _ := g.list(token, n)
				if diff := cmp.Diff(names, got); diff != "" {
					t.Errorf("the first is read by %s, %q with n=%s: %s", all[i], user, n, diff)
				}
			}
		}
	}
	// A name that a client writes is a place to go on from, whoever has it.
	for last, from := range map[string]int{"acme/app": 1, "aaa": 0, "hub/library/alpine": 4, "hub/zzz": 5, "mirror/open/a": 6, "mirror/open/b": 6, "zz/d": 10, "zzz": 10} {
		var page struct{ Repositories []string }
		a := g.get("/v2/_catalog?last="+url.QueryEscape(last), g.as("", allCatalog)).want(t, 200)
		if err := json.Unmarshal(a.body, &page); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want[""][from:], append([]string{}, page.Repositories...)); diff != "" {
			t.Errorf("after %s: %s", last, diff)
		}
	}
	// No answer and no place to go on tells what is hidden.
	for target := "/v2/_catalog?n=1"; target != ""; {
		a := g.get(target, g.as("", allCatalog)).want(t, 200)
		link := a.Header.Get("Link")
		for _, hidden := range []string{"private", "somebody", "vault", "secret", "other", "left"} {
			if strings.Contains(string(a.body)+link, hidden) {
				t.Errorf("anonymous learns of %s: %s %s", hidden, a.body, link)
			}
		}
		target, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
	}
}

func TestR14_CatalogIsThatOfTheHostname(t *testing.T) {
	const own = "hosted.acme.example"
	g, ups := several(t, `
		allow everyone library/**               pull
		allow everyone hosted.acme.example/app/** pull
		allow user:ann app/**                   pull`,
		[]auth.Place{{}, {Host: own}, {Host: own, Prefix: "cache/"}})
	ups[0].lists("as the spec has it", "app/general", "library/alpine")
	ups[1].lists("as the spec has it", "app/bound", "cache/not-this", "library/bound")
	ups[2].lists("as the spec has it", "x")
	for _, tt := range []struct {
		host, user string
		want       []string
	}{
		{gateHost, "", []string{"library/alpine"}},
		{gateHost, "ann", []string{"app/general", "library/alpine"}},
		{own, "", []string{"app/bound", "library/bound"}}, // nothing of the general one: its names lead to the other
		{own, "ann", []string{"app/bound", "library/bound"}},
	} {
		for _, n := range []string{"1", ""} {
			got, _ := g.list(g.asAt(tt.host, tt.user, allCatalog), n)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s, %q, n=%s: %s", tt.host, tt.user, n, diff)
			}
		}
	}
	// And the general one is not even asked there: whatever is wrong with it.
	ups[0].seen()
	g.get("/v2/_catalog", g.asAt(own, "ann", allCatalog)).want(t, 200)
	ups[0].none(t)
	// A place to go on from is one hostname's.
	link := g.get("/v2/_catalog?n=1", g.asAt(own, "ann", allCatalog)).want(t, 200).Header.Get("Link")
	target, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	g.get(target, g.asAt(own, "ann", allCatalog)).want(t, 200)
	g.get(target, g.asAt(own, "bob", allCatalog)).refused(t, 400, "UNSUPPORTED")
	g.get(target, g.as("ann", allCatalog)).refused(t, 400, "UNSUPPORTED")
}

func TestR14_NothingIsLostOfAnUnsortedCatalog(t *testing.T) {
	g, ups := several(t, "allow everyone ** pull\ndeny everyone x/hidden/** *", []auth.Place{{Prefix: "x/"}, {}})
	for _, style := range []string{"numbered pages", "a token of its own", "all at once"} {
		one := []string{"m", "hidden/1", "c", "z", "hidden/2", "a", "hidden/3", "k", "b"}
		two := []string{"q", "p", "y/1", "y/0", "a"}
		ups[0].lists(style, one...)
		ups[1].lists(style, two...)
		want := []string{"a", "p", "q", "x/a", "x/b", "x/c", "x/k", "x/m", "x/z", "y/0", "y/1"}
		for _, n := range []string{"1", "2", "4", ""} {
			got, _ := g.list(g.as("", allCatalog), n)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, n=%s: %s", style, n, diff)
			}
		}
	}
	// Nor of one alone.
	alone := newGate(t, "allow everyone ** pull")
	for _, style := range []string{"numbered pages", "a token of its own", "all at once"} {
		alone.up.lists(style, "m", "c", "z", "a", "k", "b")
		for _, n := range []string{"1", "2", "4", ""} {
			got, _ := alone.list(alone.as("", allCatalog), n)
			if diff := cmp.Diff([]string{"m", "c", "z", "a", "k", "b"}, got); diff != "" {
				t.Errorf("one upstream, %s, n=%s: %s", style, n, diff)
			}
		}
	}
}

func TestR14_AnUpstreamWithoutACatalogIsLeftOut(t *testing.T) {
	g, ups := several(t, "allow everyone ** pull", []auth.Place{{Prefix: "hub/"}, {}})
	ups[1].lists("as the spec has it", "a", "b")
	answers := func(status int) {
		ups[0].answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v2/_catalog" {
				return false
			}
			distributionError(w, status, "UNAUTHORIZED")
			return true
		})
	}
	for _, status := range []int{401, 403, 404, 405} {
		answers(status)
		for _, n := range []string{"1", ""} {
			got, _ := g.list(g.as("", allCatalog), n)
			if diff := cmp.Diff([]string{"a", "b"}, got); diff != "" {
				t.Errorf("%d, n=%s: %s", status, n, diff)
			}
		}
	}
	if said := strings.Count(g.log.String(), "has no catalog"); said != 1 {
		t.Errorf("said %d times within a minute that there is no catalog, want once", said)
	}
	if strings.Contains(g.log.String(), "refuses what the rules allow") {
		t.Error("an upstream without a catalog is told as a fault")
	}
	// What is broken or down is no upstream without a catalog.
	for _, status := range []int{500, 503} {
		answers(status)
		g.get("/v2/_catalog", g.as("", allCatalog)).refused(t, status, "UNAVAILABLE")
	}
	for _, status := range []int{204, 400, 418} {
		answers(status)
		g.get("/v2/_catalog", g.as("", allCatalog)).refused(t, 502, "UNAVAILABLE")
	}
	ups[0].srv.Close()
	g.get("/v2/_catalog", g.as("", allCatalog)).refused(t, 502, "UNAVAILABLE")
	lines := g.access.all(t)
	if line := lines[len(lines)-1]; line["upstream"] != "up0" {
		t.Errorf("which upstream failed is not recorded: %v", line)
	}
	lines = g.log.all(t)
	if line := lines[len(lines)-1]; line["msg"] != "request failed" || line["upstream"] != "up0" {
		t.Errorf("which upstream failed is not logged: %v", line)
	}

	// Where nobody has one, there is none.
	none := newGate(t, "allow everyone ** pull")
	none.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/_catalog" {
			distributionError(w, 405, "UNSUPPORTED")
		}
		return r.URL.Path == "/v2/_catalog"
	})
	none.get("/v2/_catalog", none.as("", allCatalog)).refused(t, 404, "UNSUPPORTED")
}

func TestR14_BadCatalogsAreBoundedAndNeverSuccess(t *testing.T) {
	g, ups := several(t, "allow everyone ** pull", []auth.Place{{Prefix: "x/"}, {}})
	ups[1].lists("as the spec has it", "a")
	asked := 0
	token := g.as("", allCatalog)
	for name, tt := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		status int
		names  []string
	}{
		"a page for browsers": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<!doctype html><title>Sign in</title>")
		}, 502, nil},
		"no JSON":    {func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"repositories":["a`) }, 502, nil},
		"other JSON": {func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"repositories":[1,2]}`) }, 502, nil},
		"too large": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, `{"repositories":[%*s]}`, maxCatalogBody, "")
		}, 502, nil},
		"nothing at all": {func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, `{"repositories":null}`) }, 200, []string{"a"}},
		"no names": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, `{"repositories":["","A","../a","a//b","_catalog","a b","%s","ok"]}`, strings.Repeat("n", 300))
		}, 200, []string{"a", "x/ok"}},
		"a name again": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"repositories":["b","b","c","b"]}`)
		}, 200, []string{"a", "x/b", "x/c"}},
		"an unread link": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<http://[>; rel=next")
			_, _ = io.WriteString(w, `{}`)
		}, 502, nil},
		"leads to itself": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<?"+r.URL.RawQuery+">; rel=next")
			_, _ = io.WriteString(w, `{"repositories":["b"]}`)
		}, 200, []string{"a", "x/b"}},
		"always one more": {func(w http.ResponseWriter, r *http.Request) {
			asked++
			w.Header().Set("Link", fmt.Sprintf("<?page=%d>; rel=next", asked))
			_, _ = io.WriteString(w, `{"repositories":["b"]}`)
		}, 200, []string{"a", "x/b"}},
		"encoded unasked": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = io.WriteString(w, `{}`)
		}, 502, nil},
		"breaks off": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"repositories":[]}`)
		}, 502, nil},
		"a link too long": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "<?page="+strings.Repeat("9", maxQuery)+">; rel=next")
			_, _ = io.WriteString(w, `{"repositories":["b"]}`)
		}, 502, nil},
	} {
		ups[0].answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v2/_catalog" {
				return false
			}
			tt.answer(w, r)
			return true
		})
		a := g.get("/v2/_catalog", token)
		if tt.status != 200 {
			a.refused(t, tt.status, "UNAVAILABLE")
			continue
		}
		var page struct{ Repositories []string }
		if err := json.Unmarshal(a.want(t, 200).body, &page); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.names, page.Repositories); diff != "" || a.Header.Get("Link") != "" {
			t.Errorf("%s: %s, Link %q", name, diff, a.Header.Get("Link"))
		}
	}
}

func TestR14_ACatalogWithoutEndIsReadInBoundedSteps(t *testing.T) {
	g, ups := several(t, "allow everyone y/** pull", []auth.Place{{Prefix: "x/"}, {Prefix: "y/"}})
	n := 0
	ups[0].answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/_catalog" {
			return false
		}
		n++
		w.Header().Set("Link", fmt.Sprintf("</v2/_catalog?next=%d>; rel=next", n))
		_, _ = fmt.Fprintf(w, `{"repositories":["hidden%d"]}`, n)
		return true
	})
	ups[1].lists("as the spec has it", "a", "b")
	for target := "/v2/_catalog"; n < 100; {
		before := n
		a := g.get(target, g.as("", allCatalog)).want(t, 200)
		if read := n - before; read < maxCatalogPages/2 || read > maxCatalogPages+2 {
			t.Fatalf("one request read %d pages", read)
		}
		link := a.Header.Get("Link")
		if target, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">"); target == "" {
			t.Fatalf("the list seems to be at its end: %s", a.body)
		}
		if strings.Contains(string(a.body), "hidden") {
			t.Errorf("told: %s", a.body)
		}
	}
}

func TestR14_ARegistryThatAllowsSmallPagesOnly(t *testing.T) {
	g, ups := several(t, "allow everyone ** pull", []auth.Place{{Prefix: "x/"}, {}})
	for _, u := range ups {
		u.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if size, err := strconv.Atoi(r.URL.Query().Get("n")); r.URL.Path == "/v2/_catalog" && err == nil && size > 100 {
				distributionError(w, 400, "PAGINATION_NUMBER_INVALID")
				return true
			}
			return false
		})
	}
	var want []string
	for _, prefix := range []string{"", "x/"} {
		for _, name := range ups[0].repositories {
			want = append(want, prefix+name)
		}
	}
	slices.Sort(want)
	for _, n := range []string{"2", "1000"} {
		got, _ := g.list(g.as("", allCatalog), n)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("n=%s: %s", n, diff)
		}
	}
}

func TestR14_LongNamesOfManyUpstreamsAreGoneOnFrom(t *testing.T) {
	for _, many := range []int{9, 20} { // their places fit into a cursor, and do not
		var places []auth.Place
		for i := range many {
			places = append(places, auth.Place{Prefix: fmt.Sprintf("p%02d/", i)})
		}
		g, ups := several(t, "allow everyone ** pull", places)
		var want []string
		for i, u := range ups {
			var names []string
			for j := range 5 {
				names = append(names, fmt.Sprintf("%d%s", j, strings.Repeat("/long", 49)))
				want = append(want, fmt.Sprintf("p%02d/%s", i, names[j]))
			}
			u.lists("as the spec has it", names...)
		}
		got, pages := g.list(g.as("", allCatalog), "7")
		if diff := cmp.Diff(want, got); diff != "" || pages != (5*many+6)/7 {
			t.Errorf("%d upstreams, %d pages: %s", many, pages, diff)
		}
	}
}

func TestCursorsSpeakOfUpstreamsThatThereCanBe(t *testing.T) {
	for _, list := range [][]position{{{at: maxPlaces + 1, over: true}}, {{query: "a", skip: maxCatalogBody + 1}}} {
		if _, got, err := readPositions(appendPositions(nil, "", list)); err == nil {
			t.Errorf("read %v", got)
		}
	}
}

func TestR14_TagsCarryTheClientsName(t *testing.T) {
	const own = "hosted.acme.example"
	g, ups := several(t, "allow everyone ** pull", []auth.Place{
		{Prefix: "hub/", Default: "library"}, {}, {Prefix: "kept/", Keep: true}, {Prefix: "hub/deep/"}, {Host: own, Prefix: "at/"}})
	for _, tt := range []struct {
		host, name string
		up         int
		upstream   string
	}{
		{gateHost, "hub/alpine", 0, "library/alpine"},
		{gateHost, "hub/library/alpine", 0, "library/alpine"},
		{gateHost, "hub/x/y", 0, "x/y"},
		{gateHost, "acme/app", 1, "acme/app"},
		{gateHost, "kept/app", 2, "kept/app"},
		{gateHost, "hub/deep/app", 3, "app"},
		{own, "at/app", 4, "app"},
	} {
		as := g.asAt(tt.host, "", pulls(tt.name))
		for _, u := range ups {
			u.seen()
		}
		a := g.get("/v2/"+tt.name+"/tags/list?n=1", as).want(t, 200)
		if got, want := string(a.body), `{"name":"`+tt.name+`","tags":["1.0","latest"]}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if a.ContentLength != int64(len(a.body)) && tt.name != tt.upstream {
			t.Errorf("%s: Content-Length %d of %d bytes", tt.name, a.ContentLength, len(a.body))
		}
		if got, want := ups[tt.up].one(t).Target, "/v2/"+tt.upstream+"/tags/list?n=1"; got != want {
			t.Errorf("%s: the upstream got %s, want %s", tt.name, got, want)
		}
		if got, want := a.Header.Get("Link"), "</v2/"+tt.name+`/tags/list?last=1.0&n=1>; rel="next"`; got != want {
			t.Errorf("%s: Link %s, want %s", tt.name, got, want)
		}
	}
}

func TestR14_OnlyTheNameIsChanged(t *testing.T) {
	g, ups := several(t, "allow everyone ** pull", []auth.Place{{Prefix: "hub/"}})
	as := g.as("", pulls("hub/app"))
	var said string
	header := map[string]string{}
	ups[0].answer(func(w http.ResponseWriter, r *http.Request) bool {
		for k, v := range header {
			w.Header().Set(k, v)
		}
		_, _ = io.WriteString(w, said)
		return true
	})
	header["Etag"], header["Content-Type"], header["Last-Modified"] = `"of other bytes"`, "application/json; charset=utf-8", "Fri, 20 Nov 2026 10:00:00 GMT"
	for text, want := range map[string]string{
		` { "tags" : [ "a", "b" ] , "name" : "app" , "more": {"name":"app"}, "n": 1.0e5 } ` + "\n": ` { "tags" : [ "a", "b" ] , "name" : "hub/app" , "more": {"name":"app"}, "n": 1.0e5 } ` + "\n",
		`{"name":null,"tags":null}`:          `{"name":"hub/app","tags":null}`,
		`{"name":7,"tags":["7"],"name":"x"}`: `{"name":"hub/app","tags":["7"],"name":"hub/app"}`,
		`{"tags":["\u00e4\/"]}`:              `{"tags":["\u00e4\/"]}`,
		`{}`:                                 `{}`,
	} {
		said = text
		a := g.get("/v2/hub/app/tags/list", as).want(t, 200)
		if string(a.body) != want || a.Header.Get("Content-Length") != strconv.Itoa(len(want)) {
			t.Errorf("%s:\ngot  %s (%s bytes)\nwant %s", text, a.body, a.Header.Get("Content-Length"), want)
		}
		if a.Header.Get("Etag") != "" || a.Header.Get("Content-Type") != header["Content-Type"] || a.Header.Get("Last-Modified") == "" {
			t.Errorf("header %v", a.Header)
		}
	}
	said = `{"tags":["` + strings.Repeat("t", maxTagsBody-13) + `"]}`
	g.get("/v2/hub/app/tags/list", as).want(t, 200)
	header["Link"] = "</v2/app/tags/list?n=1&last=x>; rel=next"
	for _, text := range []string{said + " ", "", "null", `["app"]`, `{"name":"app"`, `{"name":"app"} {}`, `{"name":}`, "<html>"} {
		said = text
		a := g.get("/v2/hub/app/tags/list", as)
		a.refused(t, 502, "UNAVAILABLE")
		for _, name := range []string{"Etag", "Link", "Last-Modified"} {
			if a.Header.Get(name) != "" {
				t.Errorf("%.20q: the refusal has the upstream's %s", text, name)
			}
		}
	}
	// Nobody asks for other bytes than the whole list, and an encoded one cannot be read.
	ups[0].seen()
	said = `{"name":"app"}`
	g.get("/v2/hub/app/tags/list", as, func(r *http.Request) {
		for _, name := range []string{"Accept-Encoding", "Range", "If-Range", "If-None-Match", "If-Modified-Since"} {
			r.Header.Set(name, "gzip")
		}
	}).want(t, 200)
	for name := range ups[0].one(t).Header {
		if strings.HasPrefix(name, "If-") || name == "Range" || name == "Accept-Encoding" {
			t.Errorf("the upstream got %s", name)
		}
	}
	header["Content-Encoding"] = "gzip"
	a := g.get("/v2/hub/app/tags/list", as)
	a.refused(t, 502, "UNAVAILABLE")
	if a.Header.Get("Content-Encoding") != "" {
		t.Error("the refusal says it is encoded")
	}
}

func TestR15_PagesOfTheUpstreamsOwnWays(t *testing.T) {
	g, ups := several(t, "allow everyone ** pull", []auth.Place{{Prefix: "hub/", Default: "library"}, {}})
	var tags []string
	for i := range 10 {
		tags = append(tags, fmt.Sprintf("v%d", i))
	}
	form := regexp.MustCompile(`^<(/v2/(?:hub/alpine|app)/(?:tags/list|referrers/[^?]+)\?[^>]+)>; rel="next"$`)
	for style, page := range styles {
		var asked []url.Values
		for _, u := range ups {
			u.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/" {
					return false
				}
				asked = append(asked, r.URL.Query())
				part, next := page(tags, r.URL.Query())
				if next != nil {
					w.Header().Set("Link", "<http://nexus.internal:8081"+r.URL.Path+"?"+next.Encode()+`>; rel="next"`)
				}
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(map[string]any{"name": "library/alpine", "tags": part})
				return true
			})
		}
		for _, name := range []string{"hub/alpine", "app"} {
			for _, path := range []string{"/tags/list", "/referrers/" + imageDigest} {
				as := g.as("", pulls(name))
				var got []string
				for target := "/v2/" + name + path; target != "" && len(got) < 100; {
					a := g.get(target+map[bool]string{true: "&", false: "?"}[strings.Contains(target, "?")]+"page=9&next_page=x&page_size=1", as).want(t, 200)
					if page := asked[len(asked)-1].Get("page"); page == "9" || asked[len(asked)-1].Get("next_page") == "x" {
						t.Fatalf("what a client wrote went on: %v", asked)
					}
					var list struct{ Tags []string }
					if err := json.Unmarshal(a.body, &list); err != nil {
						t.Fatal(err)
					}
					got = append(got, list.Tags...)
					link := a.Header.Get("Link")
					target = ""
					if link != "" {
						m := form.FindStringSubmatch(link)
						if m == nil {
							t.Fatalf("%s: Link %q", style, link)
						}
						target = m[1]
						if strings.Contains(target, "page_size") || strings.Contains(target, "gAAAA") {
							t.Errorf("%s: the link has the upstream's own words: %s", style, target)
						}
					}
				}
				if style == "last itself again" {
					got = slices.Compact(got)
				}
				if diff := cmp.Diff(tags, got); diff != "" {
					t.Errorf("%s, %s%s: %s", style, name, path, diff)
				}
			}
		}
	}
}

func TestR15_APageIsOneListsAndOneCallers(t *testing.T) {
	g, ups := several(t, "allow everyone ** pull", []auth.Place{{Prefix: "hub/"}, {}})
	for _, u := range ups {
		u.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/app/") {
				return false
			}
			w.Header().Set("Link", "<?page=2>; rel=next")
			_, _ = io.WriteString(w, `{"name":"app"}`)
			return true
		})
	}
	scopes := []string{pulls("hub/app"), pulls("hub/other"), pulls("app"), allCatalog}
	any, ann := g.as("", scopes...), g.as("ann", scopes...)
	link := g.get("/v2/hub/app/tags/list?n=5", any).want(t, 200).Header.Get("Link")
	target, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !strings.HasPrefix(target, "/v2/hub/app/tags/list?last=~") || !strings.HasSuffix(target, "&n=5") {
		t.Fatalf("Link %q", link)
	}
	for _, u := range ups {
		u.seen()
	}
	g.get(target, any).want(t, 200)
	if got := ups[0].one(t).Target; got != "/v2/app/tags/list?page=2" {
		t.Errorf("the upstream got %s", got)
	}
	_, query, _ := strings.Cut(target, "?")
	id := query[len("last=~"):strings.IndexByte(query, '&')]
	for name, tt := range map[string]struct {
		target string
		as     option
	}{
		"another's":           {target, ann},
		"another repository":  {"/v2/hub/other/tags/list?" + query, any},
		"another upstream":    {"/v2/app/tags/list?" + query, any},
		"another list":        {"/v2/hub/app/referrers/" + imageDigest + "?" + query, any},
		"the catalog":         {"/v2/_catalog?" + query, any},
		"made up":             {"/v2/hub/app/tags/list?last=~cGFnZT0y", any},
		"empty":               {"/v2/hub/app/tags/list?last=~", any},
		"cut":                 {"/v2/hub/app/tags/list?last=~" + id[:len(id)-3], any},
		"in another spelling": {"/v2/hub/app/tags/list?last=~" + id + "%3D", any},
		"too long":            {"/v2/hub/app/tags/list?last=~" + strings.Repeat("A", maxCursor), any},
	} {
		if a := g.get(tt.target, tt.as); a.StatusCode != 400 {
			t.Errorf("%s: %d %s", name, a.StatusCode, a.body)
		}
	}
	for _, u := range ups {
		u.none(t)
	}
	// An upload's id is no page, and a page no upload.
	g.do("PATCH", "/v2/hub/app/blobs/uploads/"+id, any).want(t, 401)
	next := g.settings
	next.Policy = g.base("allow everyone ** pull,push").Policy
	g.swap(next)
	g.do("PATCH", "/v2/hub/app/blobs/uploads/"+id, g.as("", pushes("hub/app"))).refused(t, 404, "BLOB_UPLOAD_UNKNOWN")
}

// linking makes the upstream answer every list with a link, and nothing else.
func (g *gate) linking(link string) {
	g.up.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/" {
			return false
		}
		w.Header().Set("Link", link)
		w.Header().Set("Etag", `"x"`)
		_, _ = io.WriteString(w, "{}")
		return true
	})
}

func TestR15_LinksThatLeadNowhere(t *testing.T) {
	g := newGate(t, usual)
	alpine := g.as("", pulls("library/alpine"))
	const target = "/v2/library/alpine/tags/list"
	for link, want := range map[string]string{
		`<` + target + `?n=2>; rel="next"`:                          "", // itself
		`<` + target + `>; rel="next"`:                              "", // the first page
		`<a?n=1&last=x>; rel=prev, <b?n=1&last=y>; rel="prev next"`: `<` + target + `?last=y&n=1>; rel="next"`,
		`<a?n=1&last=x>; rel="first"; title="next"`:                 "",
		`<a?n=1&last=x,y>; title="a, b; rel=prev"; REL=NEXT`:        `<` + target + `?last=x%2Cy&n=1>; rel="next"`,
		`<a?n=1&last=x>; rel=prev; rel=next`:                        "",
		`nonsense, <a?n=1&last=x>;rel=next`:                         `<` + target + `?last=x&n=1>; rel="next"`,
		`<a?n=1&last=x`:                                             "",
	} {
		g.linking(link)
		if got := g.get(target+"?n=2", alpine).want(t, 200).Header.Get("Link"); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", link, got, want)
		}
	}
	for _, link := range []string{`<http://[/x?n=1>; rel="next"`, `<?page=` + strings.Repeat("1", maxQuery) + `>; rel="next"`,
		`<?page=` + strings.Repeat("1", maxCursor) + `>; rel=next`, `<?a=%zz>; rel=next`, `<?a=b;c=d>; rel=next`, strings.Repeat("<?x=1>; rel=prev,", maxLinks+1)} {
		g.linking(link)
		a := g.get(target, alpine)
		a.refused(t, 502, "UNAVAILABLE")
		if a.Header.Get("Link") != "" || a.Header.Get("Etag") != "" {
			t.Errorf("%.40s: the refusal has %v", link, a.Header)
		}
	}
	// A link on anything but a list is none of the client's.
	g.passing("Link", "<?n=1&last=x>; rel=next")
	for _, path := range []string{"manifests/latest", "blobs/" + layerDigest} {
		if got := g.get("/v2/library/alpine/"+path, alpine).want(t, 200).Header.Get("Link"); got != "" {
			t.Errorf("%s: Link %s", path, got)
		}
	}
}

func TestR23_RefusalsUnderRenamedRepositories(t *testing.T) {
	g, ups := several(t, "allow everyone ** pull,push", []auth.Place{{Prefix: "hub/", Default: "library"}, {}})
	var status int
	var said, kind string
	for _, u := range ups {
		u.answer(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(status)
			if r.Method != "HEAD" {
				_, _ = io.WriteString(w, said)
			}
			return true
		})
	}
	as := g.as("", pushes("hub/alpine"), pulls("hub/library/base"), pulls("app"))
	status, kind = 404, "application/json; charset=utf-8"
	for text, want := range map[string]string{
		`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"name":"library/alpine","Tag":"x"}}]}`: `MANIFEST_UNKNOWN|manifest unknown`,
		`{"errors":[{"code":"NAME_UNKNOWN","message":"repository library/alpine is not known"}]}`:                            `NAME_UNKNOWN|repository hub/alpine is not known`,
		`{"errors":[{"code":"A","message":"library/alpine:latest, \"library/alpine\", (library/alpine). library/alpine."}]}`: `A|hub/alpine:latest, "hub/alpine", (hub/alpine). hub/alpine.`,
		`{"errors":[{"code":"A","message":"library/alpine2 my-library/alpine library/alpine/x /library/alpine"}]}`:           `A|library/alpine2 my-library/alpine library/alpine/x /library/alpine`,
		`{"errors":[{"code":"A","message":"one"},{"code":"B","message":"two","detail":"library/alpine"}],"more":1}`:          `A|one|B|two`,
	} {
		said = text
		a := g.get("/v2/hub/alpine/manifests/x", as).want(t, 404)
		var got struct {
			Errors []struct {
				Code, Message string
				Detail        any
			}
		}
		if err := json.Unmarshal(a.body, &got); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
		var words []string
		for _, e := range got.Errors {
			words = append(words, e.Code, e.Message)
			if e.Detail != nil {
				t.Errorf("detail %v", e.Detail)
			}
		}
		if strings.Join(words, "|") != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, strings.Join(words, "|"), want)
		}
		if a.Header.Get("Etag") != "" || a.Header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
			t.Errorf("header %v", a.Header)
		}
		// The one whose name is its own hears it as it was said.
		if a := g.get("/v2/app/manifests/x", as).want(t, 404); string(a.body) != text {
			t.Errorf("unrenamed: %s", a.body)
		}
	}
	// Both names of a mount.
	status, said = 400, `{"errors":[{"code":"A","message":"no library/base in library/alpine"}]}`
	if got := string(g.do("POST", "/v2/hub/alpine/blobs/uploads/?mount="+layerDigest+"&from=hub/library/base", as).want(t, 400).body); !strings.Contains(got, "no hub/library/base in hub/alpine") {
		t.Error(got)
	}
	// A HEAD has no body, and no length of one that would be another.
	status = 404
	if a := g.do("HEAD", "/v2/hub/alpine/manifests/x", as).want(t, 404); a.Header.Get("Content-Length") != "" {
		t.Errorf("HEAD: Content-Length %s", a.Header.Get("Content-Length"))
	}
	// What cannot be read is said in our own words.
	for _, text := range []string{"", "library/alpine", `{"errors":[]}`, `{"errors":[{"message":"library/alpine"}]}`, `{"error":"library/alpine"}`, `{"errors":"library/alpine"}`,
		`{"errors":[{"code":"A","message":"` + strings.Repeat("library/alpine ", maxErrorBody/10) + `"}]}`,
		`{"errors":[{"code":"A","message":"` + strings.Repeat(".", maxErrorBody-40) + `"}]}`} {
		said = text
		a := g.get("/v2/hub/alpine/manifests/x", as)
		a.refused(t, 404, "MANIFEST_UNKNOWN")
		if strings.Contains(string(a.body), "library") {
			t.Errorf("%.60s: %s", text, a.body)
		}
	}
}

func TestRenameFindsWholeNames(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"a", "team/a"},
		{"a a/b b", "team/a x x"},
		{"aa a_a a-a a.a a/a A", "aa a_a a-a a.a a/a A"},
		{"a. a, a/ a- a", "team/a. team/a, team/a/ team/a- team/a"},
		{"'a' [a] a:1 a@sha256", "'team/a' [team/a] team/a:1 team/a@sha256"},
		{"", ""},
	} {
		if got, ok := rename(tt.text, 1000, "a", "team/a", "a/b", "x", "b", "x"); !ok || got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
	if _, ok := rename(strings.Repeat("a ", 100), 400, "a", strings.Repeat("n", 250)); ok {
		t.Error("a text may grow without a bound")
	}
}

func FuzzLink(f *testing.F) {
	f.Add(`</v2/_catalog?last=a&n=1>; rel="next"`)
	f.Add(`<a>; rel="a\"b"; x=y, <b?c>;rel=next`)
	f.Add(`,,;<>`)
	f.Fuzz(func(t *testing.T, field string) {
		for rest, n := field, 0; rest != ""; n++ {
			_, _, next := cutLink(rest)
			if len(next) >= len(rest) || n > len(field) {
				t.Fatalf("%q: nothing is taken off %q", field, rest)
			}
			rest = next
		}
		query, err := nextQuery(http.Header{"Link": {field}})
		if err == nil && (len(query) > maxQuery || query != "" && !plain(query)) {
			t.Errorf("%q gives %q", field, query)
		}
	})
}

func FuzzPositions(f *testing.F) {
	f.Add(appendPositions(nil, "a/b", []position{{at: 1, query: "page=2&page_size=3", skip: 2}, {at: 3, over: true}, {query: lastQuery("team/app")}, {query: lastQuery("")}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		after, list, err := readPositions(b)
		if err != nil {
			return
		}
		again, same, err := readPositions(appendPositions(nil, after, list))
		if err != nil || again != after || !slices.Equal(same, list) {
			t.Errorf("%x is %q %v, and that is %q %v (%v)", b, after, list, again, same, err)
		}
	})
}

func FuzzSetName(f *testing.F) {
	f.Add([]byte(`{"name":"app","tags":["a"]}`), "team/app")
	f.Add([]byte(` {"a":{"name":1} , "name" : 1e5}`), "x")
	f.Fuzz(func(t *testing.T, body []byte, name string) {
		out, err := setName(body, name)
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		if err := json.Unmarshal(body, &before); err != nil {
			t.Fatalf("%q was taken: %v", body, err)
		}
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%q became %q: %v", body, out, err)
		}
		if _, has := before["name"]; has {
			want, _ := json.Marshal(name)
			before["name"] = want
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%q became %q: %s", body, out, diff)
		}
	})
}
