package auth_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

func TestParseScope(t *testing.T) {
	pull := func(r string) auth.Access { return auth.Access{Repository: r, Action: auth.Pull} }
	push := func(r string) auth.Access { return auth.Access{Repository: r, Action: auth.Push} }
	del := func(r string) auth.Access { return auth.Access{Repository: r, Action: auth.Delete} }
	list := auth.Access{Action: auth.List}
	for _, tt := range []struct {
		in   string
		want []auth.Access
	}{
		{"", nil},
		{"   ", nil},
		{"repository:library/alpine:pull", []auth.Access{pull("library/alpine")}},
		{"repository:a:push,pull", []auth.Access{pull("a"), push("a")}},   // one stable order
		{"repository:a:*", []auth.Access{pull("a"), push("a"), del("a")}}, // skopeo delete
		{"repository(plugin):vieux/sshfs:pull", []auth.Access{pull("vieux/sshfs")}},
		{"repository:host.example:5000/a/b:pull", []auth.Access{pull("host.example:5000/a/b")}},
		{"repository:x:pull repository:x:pull,push", []auth.Access{pull("x"), push("x")}}, // containerd
		{"repository:t:push,pull repository:s:pull", []auth.Access{pull("t"), push("t"), pull("s")}},
		{"repository:b:pull repository:a:pull repository:b:push", []auth.Access{pull("b"), push("b"), pull("a")}},
		{"registry:catalog:*", []auth.Access{list}},
		{"registry:catalog:* registry:catalog:*", []auth.Access{list}},
		{"registry:catalog:pull", nil},
		{"registry:other:*", nil},
		{"aws:thing:pull repository:a:pull", []auth.Access{pull("a")}}, // unknown type
		{"repository:a:pull,fly", []auth.Access{pull("a")}},            // unknown action
		{"repository:a:list", nil},
		{"repository:a:", nil},
		{"repository:a:PULL", nil},
		{"  repository:a:pull  ", []auth.Access{pull("a")}},
	} {
		got, err := auth.ParseScope(tt.in)
		if err != nil {
			t.Errorf("%q: %v", tt.in, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%q: -want +got\n%s", tt.in, d)
		}
	}
	for _, in := range []string{
		"repository", "repository:a", ":a:pull", "repository::pull", "foo",
		"repository:a\tb:pull", "repository:\u00e4:pull", `repository:a"b:pull`, "repository:a,b:pull",
		"repository:" + strings.Repeat("a", auth.MaxScopeName+1) + ":pull",
		strings.Repeat("repository:a:pull ", auth.MaxScopes+1), // T30
	} {
		if got, err := auth.ParseScope(in); !errors.Is(err, auth.ErrMalformed) {
			t.Errorf("%.60q: got %v, %v, want ErrMalformed", in, got, err)
		}
	}
	if _, err := auth.ParseScope(strings.Repeat("repository:a:pull ", auth.MaxScopes)); err != nil {
		t.Errorf("the most scopes: %v", err)
	}
}

func TestFormatScope(t *testing.T) {
	for _, tt := range []struct {
		in   []auth.Access
		want string
	}{
		{nil, ""},
		{[]auth.Access{{Repository: "a", Action: auth.Push}, {Repository: "a", Action: auth.Pull}}, "repository:a:pull,push"},
		{[]auth.Access{{Action: auth.List}, {Repository: "a/b", Action: auth.Delete}}, "registry:catalog:* repository:a/b:delete"},
		{[]auth.Access{{Repository: "b", Action: auth.Pull}, {Repository: "a", Action: auth.Pull}}, "repository:b:pull repository:a:pull"},
		{[]auth.Access{{}}, ""},
	} {
		if got := auth.FormatScope(tt.in); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{
		"", "repository:library/alpine:pull", "repository(plugin):a:pull,push", "registry:catalog:*",
		"repository:host:5000/a:*", "repository:x:pull repository:x:pull,push", "a:b:c", "repository::",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := auth.ParseScope(s)
		if err != nil {
			return
		}
		text := auth.FormatScope(got)
		again, err := auth.ParseScope(text)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, text, err)
		}
		if d := cmp.Diff(got, again); d != "" {
			t.Fatalf("%q became %q: -first +again\n%s", s, text, d)
		}
		if text != auth.FormatScope(again) {
			t.Fatalf("%q: not stable", text)
		}
	})
}

func TestParseActions(t *testing.T) {
	for word, want := range map[string]string{"pull": "pull", "push": "push", "delete": "delete", "*": "pull, push, delete"} {
		got, err := auth.ParseActions(word)
		if err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v, want %s", word, got, err, want)
		}
	}
	for _, word := range []string{"", "Pull", "read", "list", "pull,push", "all"} {
		_, err := auth.ParseActions(word)
		var syntax *auth.SyntaxError
		if !errors.As(err, &syntax) || syntax.Fix == "" {
			t.Errorf("%q: got %v, want a *SyntaxError with a fix", word, err)
		}
	}
}

func TestValidRepository(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "library/alpine": true, "a/b/c/d": true, "a.b": true, "a_b": true, "a__b": true, "a-b": true, "a---b": true,
		"manifests/blobs": true, "0": true, strings.Repeat("a", 255): true,
		"": false, "/": false, "a/": false, "/a": false, "a//b": false, "A": false, "a..b": false, "a___b": false, "a._b": false,
		"a-_b": false, "_a": false, "a_": false, "-a": false, "a-": false, ".": false, "..": false, "a/../b": false, "a/./b": false,
		"a b": false, "a:b": false, "a@b": false, "\u00e4": false, "a\x00": false, "a%2fb": false, strings.Repeat("a", 256): false,
	} {
		if got := auth.ValidRepository(name); got != want {
			t.Errorf("%.40q: got %v, want %v", name, got, want)
		}
	}
}
