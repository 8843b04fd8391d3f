package proxy

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestG3_Matrix compares testdata/matrix.txt with the program, cell by cell.
func TestG3_Matrix(t *testing.T) {
	table, err := os.ReadFile("testdata/matrix.txt")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, `
		allow everyone  library/** pull
		allow user:ann  team/**    pull
		allow user:bob  team/**    pull,push
		allow user:carl team/**    pull,push,delete
		allow user:ann  tags/**    pull             tags=v*
		allow user:bob  tags/**    pull,push        tags=v*
		allow user:carl tags/**    pull,push,delete
		deny  user:carl tags/**    delete           tags=v*`)
	all := []string{"registry:catalog:*"}
	for _, name := range []string{"team/x", "team/y", "team", "team/x/manifests/y", "team/blobs/uploads", "library/x", "library/x/manifests/team", "tags/x"} {
		all = append(all, deletes(name))
	}
	type caller struct {
		name       string
		credential option
		upload     string
	}
	callers := []caller{{"no credential", who(""), ""}, {"made-up token", bearer("made.up.token"), ""}}
	for _, user := range []string{"", "ann", "bob", "carl"} {
		callers = append(callers, caller{"user " + user, g.as(user, all...), ""})
	}
	begin := func(c caller) string {
		at := g.do("POST", "/v2/team/x/blobs/uploads/", c.credential).want(t, 202).Header.Get("Location")
		return at[strings.LastIndexByte(at, '/')+1:]
	}
	callers[4].upload, callers[5].upload = begin(callers[4]), begin(callers[5])
	for i := range callers[:4] {
		callers[i].upload = callers[4].upload // somebody else's
	}
	g.up.seen()

	var methods []string
	cells, endpoints := 0, 0
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "#"):
			continue
		case methods == nil:
			methods = f
			continue
		case len(f) != len(methods)+1:
			t.Fatalf("line %q has %d columns", line, len(f))
		}
		endpoints++
		for i, method := range methods {
			if len(f[i+1]) != len(callers) {
				t.Fatalf("%s %s: cell %q", method, f[0], f[i+1])
			}
			for j, c := range callers {
				cells++
				target := strings.NewReplacer("UPLOAD", c.upload, "sha256%3ALAYERHEX", strings.Replace(layerDigest, ":", "%3A", 1),
					"DIGEST", imageDigest, "LAYER", layerDigest).Replace(f[0])
				if got, want := g.cell(method, target, c.credential), f[i+1][j:j+1]; got != want {
					t.Errorf("%s %s, %s: got %s, the table says %s", method, f[0], c.name, got, want)
				}
			}
		}
	}
	if endpoints < 20 || len(methods) < 9 || len(callers) < 5 {
		t.Errorf("the table is too small: %d x %d x %d", endpoints, len(methods), len(callers))
	}
	t.Logf("%d cells", cells)
}

// cell asks and says in a letter what became of it; what reached the upstream
// though it is not F is told by a word.
func (g *gate) cell(method, target string, credential option) string {
	g.Helper()
	a := g.do(method, target, credential)
	got := g.up.seen()
	letter := map[int]string{401: ".", 403: "D", 404: "N", 405: "M", 400: "B", 415: "S"}[a.StatusCode]
	if a.StatusCode/100 == 2 {
		letter = "L"
	}
	if a.StatusCode/100 == 3 || a.Header.Get("Location") != "" && a.StatusCode/100 > 3 {
		return http.StatusText(a.StatusCode) + " to " + a.Header.Get("Location")
	}
	if len(got) == 0 {
		if letter == "" {
			return a.Status
		}
		return letter
	}
	for _, r := range got {
		if r.Method != method || a.StatusCode/100 != 2 {
			return "leaked " + r.Method + " " + r.Target
		}
	}
	if len(got) > 1 && !strings.HasPrefix(target, "/v2/_catalog") {
		return "forwarded twice"
	}
	return "F"
}
