package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/regward/regward/auth"
)

func basic(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

func TestParseAuthorization(t *testing.T) {
	none := auth.Credential{}
	for _, tt := range []struct {
		in   []string
		want auth.Credential
	}{
		{nil, none},
		{[]string{""}, none},
		{[]string{"Digest x=y"}, none}, // C20: unknown scheme
		{[]string{"Negotiate"}, none},
		{[]string{"Basic Og=="}, none}, // C20: c/image
		{[]string{basic("ann:pw")}, auth.NewBasic("ann", "pw")},
		{[]string{strings.Replace(basic("ann:pw"), "Basic", "bASIC", 1)}, auth.NewBasic("ann", "pw")},
		{[]string{strings.Replace(basic("ann:pw"), " ", "   ", 1)}, auth.NewBasic("ann", "pw")},
		{[]string{basic("ann:p:w:")}, auth.NewBasic("ann", "p:w:")}, // T25
		{[]string{basic("Ann:\u00fc")}, auth.NewBasic("Ann", "\u00fc")},
		{[]string{"Bearer abc.def-_~+/=="}, auth.NewBearer("abc.def-_~+/==")},
		{[]string{"bearer abc"}, auth.NewBearer("abc")}, // C20: GitLab
		{[]string{"Bearer " + strings.Repeat("a", auth.MaxToken)}, auth.NewBearer(strings.Repeat("a", auth.MaxToken))},
		{[]string{basic(strings.Repeat("u", auth.MaxUser) + ":" + strings.Repeat("p", auth.MaxPassword))},
			auth.NewBasic(strings.Repeat("u", auth.MaxUser), strings.Repeat("p", auth.MaxPassword))},
	} {
		got, err := auth.ParseAuthorization(tt.in)
		if err != nil || !got.Equal(tt.want) {
			t.Errorf("%.80q: got %v, %v, want %v", tt.in, got, err, tt.want)
		}
	}
	for _, in := range [][]string{
		{basic("a:b"), basic("a:b")},
		{"", ""},
		{"Basic"}, {"Basic "}, {"Bearer"}, {"Bearer  "},
		{"Basic ???"}, {"Basic " + strings.TrimRight(basic("a:bc")[6:], "=")},
		{basic("ann")}, {basic("ann:")}, {basic(":pw")}, // T25
		{basic("an\x00n:pw")}, {basic("ann:pw\x00")}, {basic("ann:p\nw")}, {basic("ann:\u0085")},
		{basic("ann:\xff")}, {basic("\xff:pw")},
		{basic("<token>:x")}, // T24
		{"Bearer a b"}, {"Bearer a\tb"}, {"Bearer a=b"}, {"Bearer \u00e4"}, {"Bearer a\x7f"},
		{"Bearer " + strings.Repeat("a", auth.MaxToken+1)},
		{basic(strings.Repeat("u", auth.MaxUser+1) + ":p")},
		{basic("u:" + strings.Repeat("p", auth.MaxPassword+1))},
		{"Basic " + strings.Repeat("A", 1<<20)},
		{"Digest \x01"},
	} {
		got, err := auth.ParseAuthorization(in)
		if !errors.Is(err, auth.ErrMalformed) || got.Kind != auth.None {
			t.Errorf("%.60q: got %v, %v, want ErrMalformed", in, got, err)
		}
	}
}

func TestCheckBasic(t *testing.T) {
	if c, err := auth.CheckBasic("", ""); err != nil || c.Kind != auth.None {
		t.Errorf("both empty: got %v, %v, want none", c, err)
	}
	if c, err := auth.CheckBasic("ann", "p:w"); err != nil || !c.Equal(auth.NewBasic("ann", "p:w")) {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := auth.CheckBasic("a:b", "pw"); !errors.Is(err, auth.ErrMalformed) {
		t.Errorf("colon in a user: got %v, want ErrMalformed", err)
	}
}

func TestCredentialNeverPrintsItsSecret(t *testing.T) {
	const secret = "hunter2-s3cret"
	for _, c := range []auth.Credential{auth.NewBasic("alice", secret), auth.NewBearer(secret)} {
		type wrapper struct {
			C auth.Credential
			c auth.Credential // where fmt cannot call methods
			p *auth.Credential
			l []auth.Credential
		}
		w := wrapper{c, c, &c, []auth.Credential{c}}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			for _, v := range []any{c, &c, w, &w, w.l, map[string]auth.Credential{"k": c}, fmt.Errorf("x: %v", c)} {
				out := fmt.Sprintf(verb, v)
				if strings.Contains(out, secret) || strings.Contains(strings.ToLower(out), fmt.Sprintf("%x", secret)) {
					t.Errorf("%s of %T prints the secret: %s", verb, v, out)
				}
			}
		}
		raw, err := json.Marshal(w)
		if err != nil || strings.Contains(string(raw), secret) {
			t.Errorf("JSON: %s, %v", raw, err)
		}
		if c.Secret() != secret {
			t.Error("the secret is lost")
		}
	}
	for _, tt := range []struct {
		c    auth.Credential
		want string
	}{
		{auth.Credential{}, "none"},
		{auth.NewBasic("alice", "x"), "basic alice:***"},
		{auth.NewBearer("x"), "bearer ***"},
		{auth.NewBasic("a\nb", "x"), `basic "a\nb":***`},
	} {
		if got := fmt.Sprint(tt.c); got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
}

func FuzzParseAuthorization(f *testing.F) {
	for _, s := range []string{"", "Basic Og==", basic("ann:pw"), basic("ann:"), "Bearer abc", "bearer", "x \x00", basic("<token>:x")} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := auth.ParseAuthorization([]string{s})
		if err != nil {
			if !errors.Is(err, auth.ErrMalformed) || c.Kind != auth.None {
				t.Fatalf("%q: %v, %v", s, c, err)
			}
			return
		}
		switch c.Kind {
		case auth.None:
			if c.User != "" || c.Secret() != "" {
				t.Fatalf("%q: none with something in it", s)
			}
		case auth.Basic:
			// The same credential comes out of its own spelling.
			again, err := auth.ParseAuthorization([]string{basic(c.User + ":" + c.Secret())})
			if err != nil || !again.Equal(c) || c.User == "" || c.Secret() == "" {
				t.Fatalf("%q: %v, %v", s, again, err)
			}
		case auth.Bearer:
			if c.Secret() == "" || len(c.Secret()) > auth.MaxToken || strings.ContainsAny(c.Secret(), " \t\r\n\x00") {
				t.Fatalf("%q: bad token", s)
			}
		}
	})
}

func TestBearerTakesOnlyTokenBytes(t *testing.T) {
	for c := range 256 {
		_, err := auth.ParseAuthorization([]string{"Bearer a" + string([]byte{byte(c)}) + "a"})
		want := strings.IndexByte("-._~+/0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", byte(c)) >= 0
		if (err == nil) != want {
			t.Errorf("a token with byte %#x: got %v", c, err)
		}
	}
}
