package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestC03_FormOfTheChallenge(t *testing.T) {
	const realm, service = "https://docker.acme.example/token", "docker.acme.example"
	for _, tt := range []struct{ scope, errCode, description, want string }{
		{"", "", "", `Bearer realm="https://docker.acme.example/token",service="docker.acme.example"`},
		{"repository:a/b:pull,push", "", "", `Bearer realm="https://docker.acme.example/token",service="docker.acme.example",scope="repository:a/b:pull,push"`},
		{"repository:a:pull", "insufficient_scope", "you may not (request 7)",
			`Bearer realm="https://docker.acme.example/token",service="docker.acme.example",scope="repository:a:pull",error="insufficient_scope",error_description="you may not (request 7)"`},
		{"", "invalid_token", "", `Bearer realm="https://docker.acme.example/token",service="docker.acme.example",error="invalid_token"`},
		{"", "", "a description needs an error", `Bearer realm="https://docker.acme.example/token",service="docker.acme.example"`},
	} {
		if got := challenge(realm, service, tt.scope, tt.errCode, tt.description); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	got := challenge("https://h/\"t\\oken", "h\n", "r:a\x80é:pull", "", "")
	if want := `Bearer realm="https://h/token",service="h",scope="r:a:pull"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestC04_OneChallengeOnly(t *testing.T) {
	value := challenge(`https://h/t", Basic realm="x`, `h",Digest realm="y`, `a",Basic realm="b`, "invalid_token", `no", Basic realm="z`)
	got := parseChallenges([]string{value})
	if len(got) != 1 || got[0].Scheme != "bearer" {
		t.Errorf("%s\nis read as %+v", value, got)
	}
}

func TestC11_Description(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"you are not logged in: docker login docker.acme.example (request a1)", "you are not logged in: docker login docker.acme.example (request a1)"},
		{`no, "x" \ y`, `no; 'x' / y`},
		{"tab\tnew\r\nline\x00é", "tab new  line??"},
		{strings.Repeat("x", 200), strings.Repeat("x", 200)},
		{strings.Repeat("x", 300) + " (request a1b2)", strings.Repeat("x", 182) + "... (request a1b2)"},
		{strings.Repeat("x", 300), strings.Repeat("x", 197) + "..."},
		{"a (" + strings.Repeat("x", 300) + ")", "a (" + strings.Repeat("x", 194) + "..."},
	} {
		if got := describe(tt.in); got != tt.want || len(got) > maxDescription {
			t.Errorf("%q\n got %q (%d bytes)\nwant %q", tt.in, got, len(got), tt.want)
		}
	}
}

func TestParseChallenges(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields []string
		want   []upstreamChallenge
	}{
		{"nothing", nil, nil},
		{"empty", []string{"", " ,, "}, nil},
		{"distribution", []string{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull",error="invalid_token"`},
			[]upstreamChallenge{{"bearer", "https://auth.docker.io/token", "registry.docker.io", "repository:a:pull", "invalid_token"}}},
		{"gitea: two in one field", []string{`Bearer realm="https://g/v2/token",service="container_registry",scope="*",Basic realm="Gitea Container Registry"`},
			[]upstreamChallenge{{Scheme: "bearer", Realm: "https://g/v2/token", Service: "container_registry", Scope: "*"}, {Scheme: "basic", Realm: "Gitea Container Registry"}}},
		{"nexus: upper case", []string{`BASIC realm="Sonatype Nexus Repository Manager"`}, []upstreamChallenge{{Scheme: "basic", Realm: "Sonatype Nexus Repository Manager"}}},
		{"two fields", []string{`Basic realm="x"`, `Bearer realm="y"`}, []upstreamChallenge{{Scheme: "basic", Realm: "x"}, {Scheme: "bearer", Realm: "y"}}},
		{"spaces, case, escapes", []string{`bearer  Realm = "a\"b\\c" , SERVICE=d ,scope="e,f g=h"`}, []upstreamChallenge{{Scheme: "bearer", Realm: `a"b\c`, Service: "d", Scope: "e,f g=h"}}},
		{"token68", []string{`Negotiate YII/+a==, NTLM, Basic realm="x"`}, []upstreamChallenge{{Scheme: "negotiate"}, {Scheme: "ntlm"}, {Scheme: "basic", Realm: "x"}}},
		{"bare scheme", []string{"Basic"}, []upstreamChallenge{{Scheme: "basic"}}},
		{"quote without end", []string{`Bearer realm="https://x,service="y"`, `Basic realm="x`}, []upstreamChallenge{{Scheme: "bearer", Realm: "https://x,service="}, {Scheme: "y"}, {Scheme: "basic", Realm: "x"}}},
		{"escape at the end", []string{`Basic realm="x\`}, []upstreamChallenge{{Scheme: "basic", Realm: `x\`}}},
		{"the first counts", []string{`Bearer realm="a",realm="b"`}, []upstreamChallenge{{Scheme: "bearer", Realm: "a"}}},
		{"members without a scheme", []string{`realm="x"`}, nil},
		{"members do not cross fields", []string{`Basic`, `realm="x"`}, []upstreamChallenge{{Scheme: "basic"}}},
		{"empty value", []string{`Bearer realm=,service="x"`, `Bearer realm="",service="y"`}, []upstreamChallenge{{Scheme: "bearer", Service: "x"}, {Scheme: "bearer", Service: "y"}}},
		{"garbage", []string{`"" = @@ ]]`, "\x00\xff"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parseChallenges(tt.fields)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestK05_ChallengesAreBounded(t *testing.T) {
	if got := parseChallenges([]string{strings.Repeat("Basic,", 1000)}); len(got) != maxChallenges {
		t.Errorf("%d challenges in one field", len(got))
	}
	var fields []string
	for range 100 {
		fields = append(fields, "Basic")
	}
	if got := parseChallenges(fields); len(got) != maxChallengeFields {
		t.Errorf("%d challenges in 100 fields", len(got))
	}
	if got := parseChallenges([]string{"Basic " + strings.Repeat("x", maxChallengeField)}); got != nil {
		t.Errorf("an endless field: %d challenges", len(got))
	}
}

func FuzzParseChallenges(f *testing.F) {
	for _, field := range []string{
		`Bearer realm="https://a/t",service="s",scope="repository:a:pull",error="invalid_token"`, `Bearer realm="a",Basic realm="b"`,
		`BASIC realm=x`, `Negotiate YII/+a==, NTLM`, `Bearer realm = "\"\\" `, `Bearer realm="`, `=`, `a b c=d`, "Basic\x00",
	} {
		f.Add(field, "Basic")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		got := parseChallenges([]string{a, b})
		if len(got) > maxChallenges {
			t.Fatalf("%d challenges", len(got))
		}
		for _, c := range got {
			if c.Scheme == "" || c.Scheme != strings.ToLower(c.Scheme) {
				t.Fatalf("scheme %q", c.Scheme)
			}
		}
		// Ours is read back as one challenge with what was put in.
		value := challenge(a, b, a, "invalid_token", b)
		want := upstreamChallenge{"bearer", quotable(a), quotable(b), quotable(a), "invalid_token"}
		if len(value) <= maxChallengeField {
			if diff := cmp.Diff([]upstreamChallenge{want}, parseChallenges([]string{value})); diff != "" {
				t.Fatalf("%s\n%s", value, diff)
			}
		}
		if d := describe(a); len(d) > maxDescription || strings.ContainsAny(d, `"\,`) || !printable(d) {
			t.Fatalf("description %q", d)
		}
		h := http.Header{}
		h.Set("WWW-Authenticate", value)
		if strings.ContainsAny(h.Get("WWW-Authenticate"), "\r\n\x00") {
			t.Fatalf("%q", value)
		}
	})
}
