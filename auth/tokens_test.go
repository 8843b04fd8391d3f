package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

const host = "registry.example.com"

func newTokens(t testing.TB) *auth.Tokens {
	t.Helper()
	tokens, err := auth.LoadTokens(filepath.Join(t.TempDir(), "token.pem"), true)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func issue(t testing.TB, tokens *auth.Tokens, id auth.Identity, scope ...auth.Access) string {
	t.Helper()
	token, err := tokens.Issue(id, host, scope, time.Unix(1_800_000_000, 0), 5*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokensComeBack(t *testing.T) {
	tokens := newTokens(t)
	for _, tt := range []struct {
		id    auth.Identity
		scope []auth.Access
	}{
		{auth.Identity{}, nil}, // anonymous, nothing (T09, T31)
		{auth.Identity{Name: "ann", Groups: []string{"dev", "<ops>&"}, Via: "htpasswd", Proof: [16]byte{1, 2}},
			[]auth.Access{{Repository: "a/b", Action: auth.Pull}, {Repository: "a/b", Action: auth.Push}, {Action: auth.List}, {Repository: "c", Action: auth.Delete}}},
		{auth.Identity{Name: "bob", Epoch: 1_799_999_999_123}, nil},
		{auth.Identity{Name: "\u00fc<>"}, []auth.Access{{Repository: "host:5000/x", Action: auth.Pull}}},
	} {
		token := issue(t, tokens, tt.id, tt.scope...)
		if !regexp.MustCompile(`^[A-Za-z0-9._~+/-]+=*$`).MatchString(token) || len(token) >= 4<<10 { // T30
			t.Errorf("%q is no short b64token", token)
		}
		got, err := tokens.Verify(token, host)
		if err != nil {
			t.Fatal(err)
		}
		want := tt.id
		want.Capped, want.Scope, want.Expires, want.ID = true, tt.scope, time.Unix(1_800_000_300, 0), got.ID
		want.Issued = time.Unix(1_800_000_000, 0)
		if d := cmp.Diff(want, got); d != "" || got.ID == "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	a, _ := tokens.Verify(issue(t, tokens, auth.Identity{}), host)
	b, _ := tokens.Verify(issue(t, tokens, auth.Identity{}), host)
	if a.ID == b.ID {
		t.Error("two tokens, one jti")
	}
}

func TestAnExpiredTokenStillYieldsItsIdentity(t *testing.T) {
	tokens := newTokens(t)
	token, err := tokens.Issue(auth.Identity{Name: "ann"}, host, nil, time.Unix(1000, 0), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := tokens.Verify(token, host); err != nil || id.Name != "ann" || !id.Expires.Equal(time.Unix(1060, 0)) {
		t.Errorf("got %+v, %v", id, err)
	}
}

// T30, T07: what would make a token too long is left out.
func TestTokensStayBelow4KiB(t *testing.T) {
	tokens := newTokens(t)
	var scope []auth.Access
	for i := range auth.MaxScopes {
		scope = append(scope, auth.Access{Repository: fmt.Sprintf("%s/%d", strings.Repeat("a", 200), i), Action: auth.Pull})
	}
	token := issue(t, tokens, auth.Identity{Name: "ann"}, scope...)
	id, err := tokens.Verify(token, host)
	if err != nil {
		t.Fatal(err)
	}
	if len(token) >= 4<<10 || len(id.Scope) == 0 || len(id.Scope) >= len(scope) || id.Scope[0] != scope[0] {
		t.Errorf("%d bytes, %d of %d scopes", len(token), len(id.Scope), len(scope))
	}
	_, err = tokens.Issue(auth.Identity{Name: "ann", Groups: make([]string, 2000)}, host, nil, time.Now(), time.Minute)
	if err == nil { // groups are never left out: a deny may be about one
		t.Error("an identity too long for a token got one")
	}
}

// G4, security.md 2.4.
func TestWrongTokens(t *testing.T) {
	tokens, other := newTokens(t), newTokens(t)
	good := issue(t, tokens, auth.Identity{Name: "ann", Proof: [16]byte{1}}, auth.Access{Repository: "a", Action: auth.Pull})
	part := strings.Split(good, ".")
	raw := func(s string) string { b, _ := base64.RawURLEncoding.DecodeString(s); return string(b) }
	b64 := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	payload := raw(part[1])

	// resign signs any header and payload with the right key.
	resign := func(header, payload string) string {
		signing := b64(header) + "." + b64(payload)
		sum := sha256.Sum256([]byte(signing))
		r, s, err := ecdsa.Sign(rand.Reader, tokens.PrivateKey(), sum[:])
		if err != nil {
			t.Fatal(err)
		}
		sig := make([]byte, 64)
		r.FillBytes(sig[:32])
		s.FillBytes(sig[32:])
		return signing + "." + b64(string(sig))
	}
	sign := func(payload string) string {
		token, err := tokens.SignRaw(payload)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	header := raw(part[0])
	if _, err := tokens.Verify(resign(header, payload), host); err != nil {
		t.Fatalf("the signing of this test is wrong: %v", err)
	}
	swap := func(old, new string) string {
		if !strings.Contains(payload, old) {
			t.Fatalf("%s is not in %s", old, payload)
		}
		return strings.Replace(payload, old, new, 1)
	}
	flipped := func(s string) string { // another spelling of the same bytes
		const abc = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		i := strings.IndexByte(abc, s[len(s)-1])
		return s[:len(s)-1] + string(abc[i^1])
	}
	for name, token := range map[string]string{
		"empty":              "",
		"dots":               "..",
		"two segments":       part[0] + "." + part[1],
		"four segments":      good + ".x",
		"no signature":       part[0] + "." + part[1] + ".",
		"zero signature":     part[0] + "." + part[1] + "." + b64(strings.Repeat("\x00", 64)),
		"short signature":    part[0] + "." + part[1] + "." + part[2][:84],
		"other spelling":     part[0] + "." + part[1] + "." + flipped(part[2]),
		"line end":           part[0] + "." + part[1] + "." + part[2][:40] + "\n" + part[2][40:],
		"padding":            good + "==",
		"space":              " " + good,
		"too long":           good + strings.Repeat("A", auth.MaxToken),
		"alg none":           b64(`{"alg":"none","typ":"JWT"}`) + "." + part[1] + ".",
		"alg none, our kid":  resign(strings.Replace(header, "ES256", "none", 1), payload),
		"alg HS256":          resign(strings.Replace(header, "ES256", "HS256", 1), payload),
		"alg twice":          resign(strings.Replace(header, `{`, `{"alg":"ES256",`, 1), payload),
		"jwk":                resign(strings.Replace(header, `}`, `,"jwk":{}}`, 1), payload),
		"jku":                resign(strings.Replace(header, `}`, `,"jku":"https://evil"}`, 1), payload),
		"x5c":                resign(strings.Replace(header, `}`, `,"x5c":["x"]}`, 1), payload),
		"crit":               resign(strings.Replace(header, `}`, `,"crit":["exp"]}`, 1), payload),
		"header with spaces": resign(strings.Replace(header, `,`, `, `, 1), payload),
		"no kid":             resign(`{"alg":"ES256","typ":"JWT"}`, payload),
		"other key, our kid": part[0] + "." + part[1] + "." + strings.Split(issue(t, other, auth.Identity{Name: "ann"}), ".")[2],
		"widened":            part[0] + "." + b64(swap(`"pull"`, `"push"`)) + "." + part[2],
		"foreign audience":   sign(swap(`"aud":"`+host, `"aud":"other`)),
		"foreign issuer":     sign(swap(`"iss":"`+host, `"iss":"other`)),
		"audience list":      sign(swap(`"aud":"`+host+`"`, `"aud":["`+host+`"]`)),
		"key twice":          sign(swap(`"sub":`, `"sub":"root","sub":`)),
		"key in other case":  sign(swap(`"sub":`, `"SUB":`)),
		"unknown key":        sign(swap(`"sub":`, `"admin":true,"sub":`)),
		"no jti":             sign(regexp.MustCompile(`"jti":"[^"]+"`).ReplaceAllString(payload, `"jti":""`)),
		"no access":          sign(regexp.MustCompile(`"access":\[.*\],"proof`).ReplaceAllString(payload, `"access":null,"proof`)),
		"no expiry":          sign(regexp.MustCompile(`"exp":\d+`).ReplaceAllString(payload, `"exp":0`)),
		"unknown action":     sign(swap(`"pull"`, `"fly"`)),
		"star action":        sign(swap(`"pull"`, `"*"`)),
		"unknown type":       sign(swap(`"repository"`, `"registry"`)),
		"short proof":        sign(regexp.MustCompile(`"proof":"[^"]+"`).ReplaceAllString(payload, `"proof":"AQ"`)),
		"trailing":           sign(payload + "{}"),
		"no JSON":            sign("x"),
	} {
		id, err := tokens.Verify(token, host)
		if !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s: got %+v, %v, want ErrRejected", name, id, err)
		}
		if foreign := (*auth.ForeignKey)(nil); errors.As(err, &foreign) {
			t.Errorf("%s: taken for another instance's", name)
		}
		if err != nil && strings.Contains(err.Error(), part[2]) {
			t.Errorf("%s: the error holds the signature", name)
		}
	}
	if _, err := tokens.Verify(good, "other.example.com"); !errors.Is(err, auth.ErrRejected) { // T27
		t.Errorf("another hostname: got %v", err)
	}
	// M14
	_, err := tokens.Verify(issue(t, other, auth.Identity{Name: "ann"}), host)
	foreign := (*auth.ForeignKey)(nil)
	if !errors.As(err, &foreign) || !errors.Is(err, auth.ErrRejected) || foreign.Kid != other.Kid() {
		t.Fatalf("another instance's token: got %v", err)
	}
	want := "a token for registry.example.com was signed by a key this instance does not have (kid " + other.Kid() + "): do several instances run without one token.key_file?"
	if err.Error() != want {
		t.Errorf("got %s\nwant %s", err, want)
	}
}

func TestChangedTokensAreRejected(t *testing.T) { // G2, in small
	tokens := newTokens(t)
	good := []byte(issue(t, tokens, auth.Identity{Name: "ann"}, auth.Access{Repository: "a", Action: auth.Pull}))
	for i := range good {
		for _, c := range []byte{'A', '_', '.', good[i] ^ 1, good[i] ^ 0x20} {
			if c == good[i] {
				continue
			}
			bad := append([]byte{}, good...)
			bad[i] = c
			if id, err := tokens.Verify(string(bad), host); !errors.Is(err, auth.ErrRejected) {
				t.Fatalf("byte %d as %q: got %+v, %v", i, c, id, err)
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	tokens := newTokens(f)
	good := issue(f, tokens, auth.Identity{Name: "ann"}, auth.Access{Repository: "a", Action: auth.Pull})
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := tokens.Verify(token, host); token != good && !errors.Is(err, auth.ErrRejected) {
			t.Fatalf("%q: %v", token, err)
		}
	})
}

func pemOf(t *testing.T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func TestLoadTokens(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "token.pem")
	if _, err := auth.LoadTokens(path, false); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("absent: got %v", err)
	}
	first, err := auth.LoadTokens(path, true)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".token-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	again, err := auth.LoadTokens(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Verify(issue(t, first, auth.Identity{}), host); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if first.Derive("a")[0] != again.Derive("a")[0] || first.Derive("a")[0] == first.Derive("b")[0] {
		t.Error("Derive differs where it should not, or does not where it should")
	}

	// A new key in front: it signs, the old one is still accepted.
	old, _ := os.ReadFile(path)
	sec1, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.MarshalECPrivateKey(sec1)
	rotated := filepath.Join(dir, "rotated.pem")
	params := string(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}}))
	if err := os.WriteFile(rotated, []byte(params+pemOf(t, "EC PRIVATE KEY", der, err)+string(old)), 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := auth.LoadTokens(rotated, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := both.Verify(issue(t, first, auth.Identity{}), host); err != nil {
		t.Errorf("the old key: %v", err)
	}
	if _, err := first.Verify(issue(t, both, auth.Identity{}), host); !errors.As(err, new(*auth.ForeignKey)) {
		t.Errorf("the new key does not sign: %v", err)
	}
	if all := both.Derive("a"); len(all) != 2 || all[1] != first.Derive("a")[0] || all[0] == all[1] {
		t.Error("Derive does not go on with the old key")
	}
}

func TestLoadTokensRefuses(t *testing.T) {
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	der384, err384 := x509.MarshalECPrivateKey(p384)
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	derRSA, errRSA := x509.MarshalPKCS8PrivateKey(rsaKey)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der256, err256 := x509.MarshalPKCS8PrivateKey(p256)
	good := pemOf(t, "PRIVATE KEY", der256, err256)
	for name, tt := range map[string]struct{ data, says string }{
		"empty":       {"", "holds no PEM private key"},
		"text":        {"hello", "holds no PEM private key"},
		"P-384":       {pemOf(t, "EC PRIVATE KEY", der384, err384), "is on curve P-384; P-256 (prime256v1) is wanted"},
		"RSA":         {pemOf(t, "PRIVATE KEY", derRSA, errRSA), "is no EC key"},
		"certificate": {pemOf(t, "CERTIFICATE", []byte{1}, nil), `is a PEM block of type "CERTIFICATE"`},
		"broken":      {pemOf(t, "PRIVATE KEY", der256[:50], nil), "cannot be read as an EC private key"},
		"encrypted":   {pemOf(t, "ENCRYPTED PRIVATE KEY", []byte{1}, nil), "is encrypted"},
		"second bad":  {good + pemOf(t, "EC PRIVATE KEY", der384, err384), "key 2: is on curve P-384"},
		"twice":       {good + good, "holds one key twice"},
		"too long":    {strings.Repeat("x", auth.MaxKeyFile+1), "longer than"},
		"too many":    {strings.Repeat(good, auth.MaxKeys+1), "more than 16 keys"},
	} {
		path := filepath.Join(t.TempDir(), "token.pem")
		if err := os.WriteFile(path, []byte(tt.data), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := auth.LoadTokens(path, true)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %q", name, err, tt.says)
		}
		if now, _ := os.ReadFile(path); string(now) != tt.data {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := auth.LoadTokens(filepath.Join(t.TempDir(), "no", "such", "token.pem"), true); err == nil {
		t.Error("made a key in a folder that is not there")
	}
}

func TestTwoFirstStartsGetOneKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.pem")
	var kids sync.Map
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tokens, err := auth.LoadTokens(path, true)
			if err != nil {
				t.Error(err)
				return
			}
			kids.Store(tokens.Kid(), true)
		})
	}
	wg.Wait()
	n := 0
	kids.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d keys", n)
	}
}

func TestTheHeaderIsTheOneSpelling(t *testing.T) {
	tokens := newTokens(t)
	head, _, _ := strings.Cut(issue(t, tokens, auth.Identity{}), ".")
	raw, _ := base64.RawURLEncoding.DecodeString(head)
	var h map[string]string
	if err := json.Unmarshal(raw, &h); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"alg": "ES256", "typ": "JWT", "kid": tokens.Kid()}, h); d != "" {
		t.Error(d)
	}
}

func BenchmarkIssue(b *testing.B) {
	tokens := newTokens(b)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = tokens.Issue(auth.Identity{Name: "ann"}, host, one(auth.Pull, "a/b"), now, time.Minute)
	}
}

func BenchmarkVerify(b *testing.B) {
	tokens := newTokens(b)
	token := issue(b, tokens, auth.Identity{Name: "ann"}, one(auth.Pull, "a/b")...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tokens.Verify(token, host); err != nil {
			b.Fatal(err)
		}
	}
}
