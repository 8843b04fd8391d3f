package auth_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

// T36: what is sealed in comes back, in tokens of up to 8 KiB (T30).
func TestTokensCarryWhatIsSealed(t *testing.T) {
	tokens := newTokens(t)
	box := make([]byte, 3500) // an upstream's token
	for i := range box {
		box[i] = byte(i)
	}
	want := auth.Identity{Name: "ann", Groups: []string{"dev"}, Via: "upstream", Proof: [16]byte{1}, Sealed: auth.NewSealed(box)}
	token := issue(t, tokens, want, one(auth.Pull, "a/b")...)
	got, err := tokens.Verify(token, host)
	if err != nil {
		t.Fatal(err)
	}
	want.Capped, want.Scope, want.Expires, want.ID = true, one(auth.Pull, "a/b"), time.Unix(1_800_000_300, 0), got.ID
	want.Issued = time.Unix(1_800_000_000, 0)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if got.Sealed.Box() != string(box) {
		t.Error("another box came back")
	}
	if len(token) > auth.MaxToken {
		t.Errorf("%d bytes", len(token))
	}

	// Scopes give way, down to none; then it is too long.
	var scope []auth.Access
	for i := range auth.MaxScopes {
		scope = append(scope, auth.Access{Repository: fmt.Sprintf("%s/%d", strings.Repeat("a", 200), i), Action: auth.Pull})
	}
	token = issue(t, tokens, want, scope...)
	if got, err := tokens.Verify(token, host); err != nil || len(token) > auth.MaxToken || len(got.Scope) == 0 || len(got.Scope) == len(scope) {
		t.Errorf("%d bytes, %d scopes, %v", len(token), len(got.Scope), err)
	}
	want.Sealed = auth.NewSealed(make([]byte, auth.MaxToken*3/4))
	if _, err := tokens.Issue(want, host, nil, time.Now(), time.Minute); !errors.Is(err, auth.ErrTooLong) {
		t.Errorf("too long a box: %v", err)
	}
	if _, err := tokens.Issue(auth.Identity{Sealed: auth.NewSealed(box)}, host, nil, time.Now(), time.Minute); err == nil {
		t.Error("nobody's credential was sealed in")
	}
}

// One spelling here as well: a token signed by us, but not as we write it, is none.
func TestSealedClaimsHaveOneSpelling(t *testing.T) {
	tokens := newTokens(t)
	good := issue(t, tokens, auth.Identity{Name: "ann", Sealed: auth.NewSealed([]byte{1, 2, 3, 4})})
	payload := payloadOf(t, good)
	if !strings.Contains(payload, `,"sealed":"AQIDBA"}`) {
		t.Fatalf("payload %s", payload)
	}
	for name, claim := range map[string]string{
		"padded":          `"sealed":"AQIDBA=="`,
		"other last bits": `"sealed":"AQIDBB"`,
		"line end":        `"sealed":"AQID\nBA"`,
		"standard base64": `"sealed":"+/8"`,
		"empty":           `"sealed":""`,
		"null":            `"sealed":null`,
		"a list":          `"sealed":["AQIDBA"]`,
		"twice":           `"sealed":"AQIDBA","sealed":"AQIDBA"`,
		"other case":      `"Sealed":"AQIDBA"`,
		"before others":   "",
	} {
		changed := strings.Replace(payload, `"sealed":"AQIDBA"`, claim, 1)
		if claim == "" {
			changed = strings.Replace(strings.Replace(payload, `,"sealed":"AQIDBA"`, "", 1), `"iss":`, `"sealed":"AQIDBA","iss":`, 1)
		}
		token, err := tokens.SignRaw(changed)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := tokens.Verify(token, host); !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: got %+v, %v", name, id, err)
		}
	}
	nobody, err := tokens.SignRaw(strings.Replace(payload, `"sub":"ann"`, `"sub":""`, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokens.Verify(nobody, host); !errors.Is(err, auth.ErrRejected) {
		t.Errorf("nobody's: %v", err)
	}
}

func TestSealedNeverPrints(t *testing.T) {
	sealed := auth.NewSealed([]byte("SECRET"))
	id := auth.Identity{Name: "ann", Sealed: sealed}
	hidden := struct{ id auth.Identity }{id}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		for _, what := range []any{sealed, &sealed, id, &id, auth.Caller{Identity: id}, hidden, &hidden} {
			fmt.Fprintf(&out, verb, what)
		}
	}
	for _, what := range []any{sealed, id, auth.Caller{Identity: id}} {
		raw, err := json.Marshal(what)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(raw)
	}
	for _, leak := range []string{"SECRET", fmt.Sprintf("%x", "SECRET"), fmt.Sprintf("%X", "SECRET"), base64.StdEncoding.EncodeToString([]byte("SECRET"))} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%s is in %s", leak, out.String())
		}
	}
	if (auth.Sealed{}).String() != "none" || sealed.String() != "sealed ***" || sealed.Equal(auth.Sealed{}) || !sealed.Equal(auth.NewSealed([]byte("SECRET"))) {
		t.Error("a Sealed is not what it says")
	}
}

func payloadOf(t testing.TB, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// Whatever stands in the claim: it is taken in its one spelling, or not at all.
func FuzzSealedClaim(f *testing.F) {
	tokens := newTokens(f)
	payload := payloadOf(f, issue(f, tokens, auth.Identity{Name: "ann", Sealed: auth.NewSealed([]byte{1, 2, 3, 4})}))
	for _, seed := range []string{`"AQIDBA"`, `"AQIDBB"`, `""`, `null`, `"AQID\u0042A"`, `{}`, `"A"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, claim string) {
		token, err := tokens.SignRaw(strings.Replace(payload, `"AQIDBA"`, claim, 1))
		if err != nil {
			return
		}
		id, err := tokens.Verify(token, host)
		if err != nil {
			if !errors.Is(err, auth.ErrRejected) {
				t.Fatalf("%q: %v", claim, err)
			}
			return
		}
		if want := `"` + base64.RawURLEncoding.EncodeToString([]byte(id.Sealed.Box())) + `"`; claim != want {
			t.Fatalf("%q is taken for %q", claim, want)
		}
	})
}
