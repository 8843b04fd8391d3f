package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/regward/regward/auth"
)

func TestUserTemplates(t *testing.T) {
	const claims = `{"sub":"system:serviceaccount:ci:builder","project":"Acme/App","ref":"main","branch":"b/main","dash":"-","id":7}`
	for _, tt := range []struct{ template, name, bad, err string }{
		{template: "{sub}", name: "system:serviceaccount:ci:builder"},
		{template: "gl/{project}", name: "gl/acme/app"},
		{template: "gl/{project}:{ref}", name: "gl/acme/app:main"},
		{template: "gl/{project}:{branch}", name: "gl/acme/app:b/main"},
		{template: "{ref}-of-{project}-x", name: "main-of-acme/app-x"},
		{template: "everybody", name: "everybody"},
		{template: "gl/{project}/{ref}", err: `has a "project" with "/" in it`},
		{template: "{project}PP{ref}", err: `has a "project" with "pp" in it`}, // as it is lower-cased
		{template: "k8s/{id}", err: "empty or no text"},
		{template: "{nobody}", err: `has no "nobody"`},
		{template: "anony{x}", err: `has no "x"`},
		{template: "anonymous", err: "nobody in particular"},
		{template: " {sub}", err: "nobody can be called"},
		{template: "", err: "nobody can be called"},
		{template: "robot-{ref}", err: "only robots are called so"},
		{template: "Robot{dash}ci", err: "only robots are called so"},
		{template: "my-robot-{ref}", name: "my-robot-main"},
		{template: "{sub", bad: "not closed"},
		{template: "sub}", bad: "not open"},
		{template: "{}", bad: "no claim in it"},
		{template: "{{sub}}", bad: "no claim in it"},
		{template: "{sub}}", bad: "not open"},
		{template: "{sub}{ref}", bad: "nothing between {sub} and the next claim"},
		{template: strings.Repeat("{a}/", auth.MaxClaims+1), bad: "more than 8 claims"},
		{template: strings.Repeat("a", auth.MaxUser+1), bad: "longer than"},
		{template: "a\x00{sub}", bad: "letters that no name may have"},
	} {
		name, bad, err := auth.NameBy(tt.template, claims, false)
		if (bad == nil) != (tt.bad == "") || (err == nil) != (tt.err == "") ||
			bad != nil && !strings.Contains(bad.Error(), tt.bad) || err != nil && !strings.Contains(err.Error(), tt.err) || err == nil && name != tt.name {
			t.Errorf("%q: got %q, %v, %v; want %q, %q, %q", tt.template, name, bad, err, tt.name, tt.bad, tt.err)
		}
	}
	if name, _, err := auth.NameBy("GL/{project}", claims, true); name != "GL/Acme/App" || err != nil {
		t.Errorf("case_sensitive: %q, %v", name, err)
	}
	// ann's branch must not make her somebody else.
	if name, _, err := auth.NameBy("{a}:{b}", `{"a":"x:y","b":"z"}`, false); err == nil {
		t.Errorf("got %q, which x with y:z is, too", name)
	}
}

// Whatever template and claims are, a name is one that rules can name, and the
// claims can be told from it.
func FuzzUserTemplate(f *testing.F) {
	f.Add("gha/{repository}", "repository", "acme/app", "x", "y")
	f.Add("{a}:{b}", "a", "x:y", "b", "z")
	f.Add("{a}K{b}", "a", "\u212a", "b", "k")
	f.Add("{a}{b}", "a", "x", "b", "y")
	f.Fuzz(func(t *testing.T, template, first, one, second, two string) {
		claims, err := json.Marshal(map[string]string{first: one, second: two})
		if err != nil {
			t.Fatal(err)
		}
		for _, exactly := range []bool{true, false} {
			name, bad, err := auth.NameBy(template, string(claims), exactly)
			if bad != nil || err != nil {
				if name != "" && bad != nil {
					t.Errorf("%q besides %v", name, bad)
				}
				continue
			}
			switch {
			case name == "" || len(name) > auth.MaxUser || !utf8.ValidString(name) || strings.EqualFold(name, "anonymous") || strings.TrimSpace(name) != name:
				t.Errorf("%q makes %q of %s", template, name, claims)
			case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
				t.Errorf("%q makes %q of %s", template, name, claims)
			case !exactly && name != strings.ToLower(name):
				t.Errorf("%q is not in lower case", name)
			}
		}
	})
}

// The reader of what nobody has verified: total, one spelling for each token.
func FuzzReadToken(f *testing.F) {
	encode := base64.RawURLEncoding.EncodeToString
	for _, header := range []string{`{"alg":"ES256","kid":"one","typ":"JWT"}`, `{"alg":"none"}`, `{"alg":"ES256","alg":"none"}`, `{"alg":"RS256","jwk":{}}`} {
		for _, claims := range []string{`{"iss":"https://x"}`, `{"iss":["x"]}`, `{"iss":"x","\u0069ss":"y"}`, `{}`, "\xff"} {
			f.Add(encode([]byte(header)) + "." + encode([]byte(claims)) + ".AAAA")
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		issuer, err := auth.ReadIssuer(token)
		if err != nil {
			if issuer != "" {
				t.Errorf("%q besides %v", issuer, err)
			}
			return
		}
		parts := strings.Split(token, ".")
		if len(parts) != 3 || len(token) > auth.MaxToken {
			t.Fatalf("%q is a token", token)
		}
		for _, part := range parts {
			raw, err := base64.RawURLEncoding.DecodeString(part)
			if err != nil || encode(raw) != part {
				t.Errorf("%q has another spelling", part)
			}
		}
		raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
		var all map[string]any
		if json.Unmarshal(raw, &all) != nil || all["iss"] != issuer || issuer == "" {
			t.Errorf("%q says %q, others read %v", raw, issuer, all["iss"])
		}
	})
}
