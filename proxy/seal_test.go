package proxy

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testSealer(keys ...byte) *sealer {
	all := make([][32]byte, len(keys))
	for i, k := range keys {
		all[i][0] = k
	}
	return newSealer(all, "http://registry:5000")
}

func TestR05_UploadIDKeepsTheExactLocation(t *testing.T) {
	s := testSealer(1)
	for _, target := range []string{
		"/v2/team/app/blobs/uploads/0d3c?_state=a%2Fb%3D&x=1;2",
		"https://storage.example/up/%E4?sig=a+b",
		"",
	} {
		want := upload{Repository: "team/app", Principal: "alice", Start: time.Unix(1_800_000_000, 0), Target: target}
		id, err := s.seal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(id) {
			t.Errorf("id %q needs escapes (R03, P04)", id)
		}
		got, err := s.open(id, "team/app", "alice")
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("-want +got:\n%s", d)
		}
	}
}

func TestR07_UploadIsBoundToRepositoryAndPrincipal(t *testing.T) {
	s := testSealer(1)
	id, err := s.seal(upload{Repository: "team/app", Principal: "alice", Start: time.Unix(1, 0), Target: "/v2/x"})
	if err != nil {
		t.Fatal(err)
	}
	anonymous, err := s.seal(upload{Repository: "team/app", Target: "/v2/x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, id, repository, principal string
		s                               *sealer
		ok                              bool
	}{
		{"its own", id, "team/app", "alice", s, true},
		{"anonymous", anonymous, "team/app", "", s, true},
		{"another repository", id, "team/other", "alice", s, false},
		{"another principal", id, "team/app", "bob", s, false},
		{"nobody", id, "team/app", "", s, false},
		{"somebody, of an anonymous one", anonymous, "team/app", "alice", s, false},
		{"moved border of the names", id, "team/appa", "lice", s, false},
		{"another key", id, "team/app", "alice", testSealer(2), false},
		{"an older key still opens", id, "team/app", "alice", testSealer(2, 1), true},
		{"empty", "", "team/app", "alice", s, false},
		{"cut", id[:len(id)-4], "team/app", "alice", s, false},
		{"lengthened", id + "AAAA", "team/app", "alice", s, false},
		{"padded", id + "=", "team/app", "alice", s, false},
		{"line break", id[:8] + "\n" + id[8:], "team/app", "alice", s, false},
		{"an upstream's own", "0d3c5f7e-0000-4000-8000-000000000000", "team/app", "alice", s, false},
		{"very long", strings.Repeat("A", 1<<20), "team/app", "alice", s, false},
	} {
		_, err := tt.s.open(tt.id, tt.repository, tt.principal)
		var refused *httpError
		switch {
		case tt.ok && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case !tt.ok && (!errors.As(err, &refused) || refused.status != 404 || refused.code != "BLOB_UPLOAD_UNKNOWN"):
			t.Errorf("%s: got %v, want 404 BLOB_UPLOAD_UNKNOWN", tt.name, err)
		}
	}
	for i := range id {
		for _, c := range "Aa" {
			changed := id[:i] + string(c) + id[i+1:]
			if _, err := s.open(changed, "team/app", "alice"); err == nil && changed != id {
				t.Fatalf("opens with byte %d changed", i)
			}
		}
	}
}

func TestR07_LocationsThatDoNotFitAreRefused(t *testing.T) {
	_, err := testSealer(1).seal(upload{Target: "/" + strings.Repeat("a", maxUploadID)})
	var refused *httpError
	if !errors.As(err, &refused) || refused.status != 502 {
		t.Errorf("got %v, want 502", err)
	}
}

func FuzzOpenUpload(f *testing.F) {
	s := testSealer(1)
	id, err := s.seal(upload{Repository: "a", Principal: "b", Target: "/c"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(id, "a", "b")
	f.Add("", "", "")
	f.Add("AAAA", "a", "")
	f.Fuzz(func(t *testing.T, made, repository, principal string) {
		up, err := s.open(made, repository, principal)
		if err == nil && (up.Repository != repository || up.Principal != principal) {
			t.Errorf("%q opens as %+v for %q %q", made, up, repository, principal)
		}
		if box, wrong := base64.RawURLEncoding.DecodeString(made); err == nil && (wrong != nil || base64.RawURLEncoding.EncodeToString(box) != made) {
			t.Errorf("%q opens, and so does another spelling", made)
		}
		// What is inside is read without a key, too.
		if up, ok := readUpload([]byte(made)); ok && len(up.Repository)+len(up.Principal)+len(up.Target) > len(made) {
			t.Errorf("%q reads as more than it is: %+v", made, up)
		}
	})
}
