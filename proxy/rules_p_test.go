package proxy

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestP01_EachRouteNeedsItsRight(t *testing.T) {
	const up = "/v2/team/x/blobs/uploads/"
	rules := `
		allow user:ann team/** pull
		allow user:bob team/** pull,push
		allow user:carl team/** pull,push,delete`
	for _, tt := range []struct {
		method, target string
		body           []byte
		may            string // who, by the first letter of the right: 1 pull, 2 push, 3 delete
	}{
		{"GET", "/v2/team/x/manifests/latest", nil, "pull"},
		{"HEAD", "/v2/team/x/manifests/latest", nil, "pull"},
		{"GET", "/v2/team/x/manifests/" + imageDigest, nil, "pull"},
		{"GET", "/v2/team/x/blobs/" + layerDigest, nil, "pull"},
		{"HEAD", "/v2/team/x/blobs/" + layerDigest, nil, "pull"},
		{"GET", "/v2/team/x/tags/list", nil, "pull"},
		{"GET", "/v2/team/x/referrers/" + imageDigest, nil, "pull"},
		{"PUT", "/v2/team/x/manifests/1", image, "push"},
		{"PUT", "/v2/team/x/manifests/" + imageDigest + "?tag=a&tag=b", image, "push"},
		{"POST", up, nil, "push"},
		{"POST", up + "?digest=" + layerDigest, layer, "push"},
		{"POST", up + "?mount=" + layerDigest + "&from=team/y", nil, "push"},
		{"DELETE", "/v2/team/x/manifests/" + imageDigest, nil, "delete"},
		{"DELETE", "/v2/team/x/manifests/latest", nil, "delete"},
		{"DELETE", "/v2/team/x/blobs/" + layerDigest, nil, "delete"},
	} {
		rank := map[string]int{"pull": 1, "push": 2, "delete": 3}[tt.may]
		for i, user := range []string{"", "ann", "bob", "carl"} {
			g := newGate(t, rules)
			options := []option{g.as(user, deletes("team/x"), pulls("team/y"))}
			if tt.body != nil {
				options = append(options, body(tt.body))
			}
			a := g.do(tt.method, tt.target, options...)
			if i >= rank {
				if a.StatusCode/100 != 2 {
					t.Errorf("%s %s as %q: %d %s", tt.method, tt.target, user, a.StatusCode, a.body)
				}
				if got := g.up.one(t); got.Method != tt.method {
					t.Errorf("%s %s: the upstream got %s", tt.method, tt.target, got.Method)
				}
				continue
			}
			a.want(t, 401)
			g.up.none(t)
		}
	}
}

func TestP01_PushMeansPullToo(t *testing.T) {
	g := newGate(t, "allow user:bob drop/** push\nallow user:ann drop/** pull,push")
	bob := g.as("bob", pushes("drop/x"))
	for _, tt := range [][2]string{{"PUT", "/v2/drop/x/manifests/1"}, {"POST", "/v2/drop/x/blobs/uploads/"}} {
		g.do(tt[0], tt[1], bob).want(t, 401)
	}
	g.up.none(t)
	g.do("POST", "/v2/drop/x/blobs/uploads/", g.as("ann", pushes("drop/x"))).want(t, 202)
}

func TestP14_MountFromWhereThereIsNoRight(t *testing.T) {
	g := newGate(t, usual)
	start := func(query string, scopes ...string) (reply, *recorded) {
		a := g.do("POST", "/v2/coolteam/app/blobs/uploads/"+query, g.as("ann", append(scopes, pushes("coolteam/app"))...))
		return a, g.up.one(t)
	}
	mount := "?mount=" + layerDigest + "&from="
	for _, from := range []string{"bob/tools", "ops/secrets", "coolteam/vault/key", "no/such"} {
		a, got := start(mount+from, pulls(from))
		a.want(t, 202)
		if got.Target != "/v2/coolteam/app/blobs/uploads/" {
			t.Errorf("from %s: the upstream got %s", from, got.Target)
		}
		if at := a.Header.Get("Location"); !strings.HasPrefix(at, "/v2/coolteam/app/blobs/uploads/") {
			t.Errorf("from %s: Location %q", from, at)
		}
	}
	// The rules let ann pull there, but the token in hand does not cover it.
	a, got := start(mount + "library/alpine")
	a.want(t, 202)
	if strings.Contains(got.Target, "mount") {
		t.Errorf("a token without the source: the upstream got %s", got.Target)
	}
	a, got = start(mount+"library/alpine", pulls("library/alpine"))
	a.want(t, 201)
	if want := "/v2/coolteam/app/blobs/uploads/" + mount + "library/alpine"; got.Target != want {
		t.Errorf("the upstream got %s, want %s", got.Target, want)
	}
	if at := a.Header.Get("Location"); at != "/v2/coolteam/app/blobs/"+layerDigest {
		t.Errorf("Location %q of a mount", at)
	}
	// Whether the source exists makes no difference.
	one, _ := start(mount+"ops/secrets", pulls("ops/secrets"))
	two, _ := start(mount+"ops/nothing", pulls("ops/nothing"))
	if one.StatusCode != two.StatusCode || len(one.body) != len(two.body) {
		t.Errorf("a hidden source answers %d, an absent one %d", one.StatusCode, two.StatusCode)
	}
	// And who may not push gets no 202.
	g.do("POST", "/v2/coolteam/app/blobs/uploads/"+mount+"library/alpine", g.as("bob", pushes("coolteam/app"))).want(t, 401)
	g.up.none(t)
}

func TestP18_CatalogScopeIsLearnedFromTheChallenge(t *testing.T) {
	g := newGate(t, usual)
	for _, user := range []string{"", "bob"} {
		c := g.get("/v2/_catalog", g.as(user)).want(t, 401).challenged(t)
		wantMembers(t, c, "realm", "https://"+gateHost+"/token", "service", gateHost, "scope", "registry:catalog:*",
			"error", "insufficient_scope", "error_description", c["error_description"])
		g.up.none(t)
		token := g.token(user, c["scope"])
		g.wantGranted(token, "registry:catalog:*")
		g.get("/v2/_catalog", bearer(token)).want(t, 200)
		g.up.seen()
	}
	// A token for the catalog is for nothing else.
	g.get("/v2/library/alpine/manifests/latest", g.as("", "registry:catalog:*")).want(t, 401)
	g.up.none(t)
	off := newGate(t, usual, func(s *Settings) { s.Catalog = false })
	off.get("/v2/_catalog", off.as("ann", "registry:catalog:*")).refused(t, 404, "UNSUPPORTED")
	off.up.none(t)
}

func TestP19_SearchIs404(t *testing.T) {
	g := newGate(t, usual)
	for _, target := range []string{"/v1/_ping", "/v1/search?q=alpine&n=25", "/v1/search"} {
		for _, credential := range []option{who(""), who("ann"), header("X-Docker-Token", "true")} {
			g.get(target, credential).refused(t, 404, "NAME_UNKNOWN")
		}
	}
	g.up.none(t)
}

func TestP20_EverythingElseIsDenied(t *testing.T) {
	g := newGate(t, "allow everyone ** *")
	ann := g.as("ann")
	for _, target := range []string{"/v2/_oci/ext/discover", "/v2/library/alpine/_oci/ext/discover", "/v2/_zot/ext/search", "/v2/_zot/ext/mgmt", "/v2/_zot/ext/userprefs",
		"/v2/library/alpine/unknown/x", "/v2/library/alpine", "/v2/library/alpine/manifests", "/v2/library/alpine/tags"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH"} {
			g.do(method, target).refused(t, 401, "UNAUTHORIZED")
			g.do(method, target, ann).refused(t, 404, "NAME_UNKNOWN")
		}
	}
	for _, target := range []string{"/gitlab/v1/repositories/x", "/extensions/v2/library/alpine/signatures/" + imageDigest, "/v1/users/", "/api/v2.0/projects", "/V2/", "/ui", "/favicon.ico", "/service/rest/v1/status", "/metrics", "/healthz", "/debug/pprof/", "/api/v1/reload"} {
		for _, method := range []string{"GET", "POST"} {
			g.do(method, target).refused(t, 404, "NAME_UNKNOWN")
		}
	}
	g.up.none(t)
}

func TestP21_OptionsIsAnsweredHere(t *testing.T) {
	g := newGate(t, usual)
	for _, target := range []string{"/v2/", "/v2/library/alpine/manifests/latest", "/v2/coolteam/app/blobs/" + layerDigest, "/token"} {
		for _, credential := range []option{who(""), who("ann"), header("Origin", "https://evil.example")} {
			a := g.do("OPTIONS", target, credential).want(t, 204)
			if a.Header.Get("Allow") == "" {
				t.Errorf("%s: no Allow", target)
			}
		}
	}
	g.up.none(t)
}

func TestP25_ContentRangeOfUploadsPassesAsItIs(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	at := g.do("POST", "/v2/coolteam/app/blobs/uploads/", ann).want(t, 202).Header.Get("Location")
	g.up.seen()
	for _, method := range []string{"PATCH", "PUT"} {
		target := at
		if method == "PUT" {
			target += "?digest=" + layerDigest
		}
		g.do(method, target, ann, header("Content-Range", "100-699"), body(layer))
		if got := g.up.one(t).Header.Values("Content-Range"); len(got) != 1 || got[0] != "100-699" {
			t.Errorf("%s: Content-Range %q", method, got)
		}
	}
}

func TestP26_ManifestBodies(t *testing.T) {
	g := newGate(t, usual)
	ann := g.as("ann", pushes("coolteam/app"))
	const target = "/v2/coolteam/app/manifests/1"
	big := bytes.Repeat([]byte("{ \n\t}"), (4<<20)/5) // just below 4 MiB
	for _, content := range [][]byte{image, []byte("{ \"odd\" :\r\n 1.0}\n\n"), big} {
		for name, send := range map[string]option{"length": body(content), "chunked": chunked(content)} {
			g.do("PUT", target, ann, send, header("Content-Type", "Application/Vnd.Custom+JSON; odd=1")).want(t, 201)
			got := g.up.one(t)
			if got.Body != digestOf(content) {
				t.Errorf("%s: %d bytes became %d", name, len(content), got.Size)
			}
			if ct := got.Header.Get("Content-Type"); ct != "Application/Vnd.Custom+JSON; odd=1" {
				t.Errorf("%s: Content-Type %q", name, ct)
			}
		}
	}
	huge := make([]byte, 4<<20+1)
	g.both(func(c *http.Client, version string) {
		g.with(c, "PUT", target, ann, body(huge)).refused(t, 413, "SIZE_INVALID")
	})
	g.up.none(t)
	g.both(func(c *http.Client, version string) {
		g.with(c, "PUT", target, ann, chunked(huge)).refused(t, 413, "SIZE_INVALID")
	})
	for _, got := range g.up.seen() {
		if got.Body != "" {
			t.Errorf("a manifest of %d bytes reached the upstream whole", got.Size)
		}
	}
}
