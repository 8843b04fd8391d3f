package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/regward/regward/auth"
)

const registry = "registry.example.com"

// issuer is one of ID tokens, with TLS, that does what a test wants.
type issuer struct {
	testing.TB
	*httptest.Server
	now func() time.Time

	mu       sync.Mutex
	keys     []jose.JSONWebKey // published
	handlers map[string]http.HandlerFunc
	asked    map[string]int
}

const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/keys"
)

func newIssuer(t testing.TB, now func() time.Time) *issuer {
	t.Helper()
	i := &issuer{TB: t, now: now, handlers: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	i.Server = quietTLS(t, i)
	return i
}

// quietTLS is a server that does not print who could not shake hands.
func quietTLS(t testing.TB, h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked[r.URL.Path]++
	handler, keys := i.handlers[r.URL.Path], slices.Clone(i.keys)
	i.mu.Unlock()
	switch {
	case handler != nil:
		handler(w, r)
	case r.URL.Path == discoveryPath:
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + keysPath, "id_token_signing_alg_values_supported": []string{"RS256"}})
	case r.URL.Path == keysPath:
		public := []any{map[string]string{"kty": "oct", "kid": "secret", "k": "c2VjcmV0"}, map[string]string{"kty": "NEW", "kid": "unheard of"}}
		for _, k := range keys {
			public = append(public, k.Public())
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": public})
	default:
		http.NotFound(w, r)
	}
}

// answer replaces what is at a path; nil puts it back.
func (i *issuer) answer(path string, h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handlers[path] = h
}

// fetches is how often the keys were asked for.
func (i *issuer) fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.asked[keysPath]
}

func (i *issuer) publish(keys ...jose.JSONWebKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = keys
}

func (i *issuer) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
}

// options are those of an entry for i.
func (i *issuer) options() auth.IssuerOptions {
	return auth.IssuerOptions{Name: "ci", Issuer: i.URL, Audience: []string{registry}, User: "gha/{repository}", CA: i.ca()}
}

// claims are those of a good token, with changes in pairs; nil takes one away.
func (i *issuer) claims(change ...any) map[string]any {
	now := i.now().Unix()
	all := map[string]any{"iss": i.URL, "aud": registry, "sub": "repo:acme/app", "iat": now, "nbf": now, "exp": now + 300,
		"repository": "acme/app", "repository_owner": "acme"}
	for n := 0; n < len(change); n += 2 {
		if all[change[n].(string)] = change[n+1]; change[n+1] == nil {
			delete(all, change[n].(string))
		}
	}
	return all
}

// newIssuerKey is for signing with alg.
func newIssuerKey(t testing.TB, alg, kid string) jose.JSONWebKey {
	t.Helper()
	var key crypto.PrivateKey
	var err error
	switch alg {
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: alg, Use: "sig"}
}

// signToken makes a token of a payload, or of claims.
func signToken(t testing.TB, key jose.JSONWebKey, payload any, header ...string) string {
	t.Helper()
	text, ok := payload.(string)
	if !ok {
		raw, err := json.Marshal(payload)
		if err != nil {
			t.Fatal(err)
		}
		text = string(raw)
	}
	o := (&jose.SignerOptions{}).WithType("JWT")
	for n := 0; n < len(header); n += 2 {
		o = o.WithHeader(jose.HeaderKey(header[n]), header[n+1])
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func mustOIDC(t testing.TB, o auth.OIDCOptions) *auth.OIDC {
	t.Helper()
	n, err := auth.NewOIDC(o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tokenLogin(n *auth.OIDC, token string) (auth.Identity, error) {
	return n.Authenticate(context.Background(), auth.NewBasic("oidc", token))
}

// newCI is an issuer with one key, and a provider that believes it.
func newCI(t testing.TB, change ...func(*auth.IssuerOptions)) (*issuer, jose.JSONWebKey, *auth.OIDC, *clock) {
	t.Helper()
	now := newClock()
	i := newIssuer(t, now.Now)
	key := newIssuerKey(t, "ES256", "one")
	i.publish(key)
	o := i.options()
	for _, c := range change {
		c(&o)
	}
	return i, key, mustOIDC(t, auth.OIDCOptions{Issuers: []auth.IssuerOptions{o}, Now: now.Now}), now
}

func TestATokenIsALogin(t *testing.T) {
	i, key, n, now := newCI(t, func(o *auth.IssuerOptions) {
		o.Require = map[string]string{"repository_owner": "acme", "protected": "true", "run": "17"}
		o.Groups, o.GroupsClaim = []string{"ci"}, "teams"
	})
	token := signToken(t, key, i.claims("teams", []string{"dev", "ci"}, "protected", true, "run", 17, "repository", "Acme/App", "aud", []string{"other", registry}))
	for _, user := range []string{"oidc", "OIDC"} {
		id, err := n.Authenticate(context.Background(), auth.NewBasic(user, token))
		want := auth.Identity{Name: "gha/acme/app", Groups: []string{"ci", "dev"}, Via: "oidc:ci", Expires: now.Now().Add(300 * time.Second).Truncate(time.Second), Proof: id.Proof}
		if diff := cmp.Diff(want, id); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", user, err, diff)
		}
		if !n.Current(&id) || id.Proof == [16]byte{} {
			t.Error("what proved it is no longer there")
		}
		other := id
		other.Proof[0]++
		if n.Current(&other) || n.Current(&auth.Identity{Via: "oidc:other", Proof: id.Proof}) || n.Current(&auth.Identity{}) {
			t.Error("something else is believed")
		}
	}
	foreign := signToken(t, key, i.claims("iss", "https://other.example.com"))
	for _, c := range []auth.Credential{auth.NewBasic("ann", foreign), auth.NewBasic("ann", "eyJ.eyJ.x"), auth.NewBasic("ann", "pw"), auth.NewBearer(token), {}} {
		if _, err := n.Authenticate(context.Background(), c); !errors.Is(err, auth.ErrNotMine) || n.Proof(c) != nil {
			t.Errorf("%v: %v, want ErrNotMine", c, err)
		}
	}
	for _, user := range []string{"ann", "oidc:ci"} { // nobody who is asked later shall see it
		_, err := n.Authenticate(context.Background(), auth.NewBasic(user, token))
		if wrong := (*auth.Rejection)(nil); !errors.As(err, &wrong) || !strings.Contains(wrong.Reason, "those log in as oidc") {
			t.Errorf("%s: %v", user, err)
		}
	}
	if i.fetches() != 1 {
		t.Errorf("keys were fetched %d times", i.fetches())
	}
}

// All that docker sends by Basic comes through, however long the token.
func TestALongTokenIsAPassword(t *testing.T) {
	long := strings.Repeat("x", auth.MaxToken)
	for _, tt := range []struct {
		user, password string
		ok             bool
	}{{"oidc", long, true}, {"oidc", long + "x", false}, {"ann", long, false}, {"ann", long[:auth.MaxPassword], true}} {
		_, err := auth.ParseAuthorization([]string{"Basic " + base64.StdEncoding.EncodeToString([]byte(tt.user+":"+tt.password))})
		if (err == nil) != tt.ok {
			t.Errorf("%s with %d bytes: %v", tt.user, len(tt.password), err)
		}
	}
}

// Wrong tokens of security.md, 2.4: none is accepted (G4), each is refused for its
// own reason, which holds nothing of it that would be a secret.
func TestG4_WrongTokens(t *testing.T) {
	i, key, n, _ := newCI(t, func(o *auth.IssuerOptions) {
		o.Require = map[string]string{"repository_owner": "acme", "protected": "true"}
		o.GroupsClaim = "teams"
	})
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	small := jose.JSONWebKey{Key: weak, KeyID: "small", Algorithm: "RS256"}
	i.publish(key, small, newIssuerKey(t, "ES256", "two"))
	stranger := newIssuerKey(t, "ES256", "one") // the same name, another key
	now := i.now().Unix()
	good := func(change ...any) map[string]any { return i.claims(append([]any{"protected", true}, change...)...) }
	token := signToken(t, key, good())
	if _, err := tokenLogin(n, token); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	parts := strings.Split(token, ".")
	header := func(text string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(text)) + "." + parts[1] + "." + parts[2]
	}
	public, err := json.Marshal(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	secret := jose.JSONWebKey{Key: public, KeyID: "one", Algorithm: "HS256"}
	payload := func(text string) string { return signToken(t, key, text) }
	raw, _ := json.Marshal(good())
	twice := strings.TrimSuffix(string(raw), "}")
	for name, tt := range map[string]struct{ token, says string }{
		"no token":              {"hunter2", "is none"},
		"two parts":             {parts[0] + "." + parts[1], "is none"},
		"four parts":            {token + ".x", "is none"},
		"an empty part":         {parts[0] + "." + parts[1] + ".", "base64"},
		"JSON form":             {`{"payload":"` + parts[1] + `"}`, "is none"},
		"too long":              {token + strings.Repeat("A", auth.MaxToken), "longer than 8192"},
		"alg none":              {header(`{"alg":"none"}`), `is signed with "none"`},
		"alg none, no end":      {base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".", "base64"},
		"alg HS256, public key": {signToken(t, secret, good()), `is signed with "HS256"`},
		"alg of another kind":   {header(`{"alg":"RS256","kid":"one"}`), "a key that the issuer does not have"},
		"alg in lower case":     {header(`{"alg":"es256","kid":"one"}`), "is signed with"},
		"alg not wanted":        {signToken(t, newIssuerKey(t, "ES384", "one"), good()), `is signed with "ES384"`},
		"alg is no text":        {header(`{"alg":["ES256"]}`), "how it is signed"},
		"no alg":                {header(`{"kid":"one"}`), "how it is signed"},
		"weak key":              {signToken(t, small, good()), "a key that the issuer does not have"},
		"jwk":                   {header(`{"alg":"ES256","kid":"one","jwk":` + string(public) + `}`), "has jwk"},
		"jku":                   {signToken(t, key, good(), "jku", i.URL+keysPath), "has jku"},
		"x5u":                   {signToken(t, key, good(), "x5u", i.URL), "has x5u"},
		"x5c":                   {header(`{"alg":"ES256","kid":"one","x5c":[]}`), "has x5c"},
		"crit":                  {header(`{"alg":"ES256","kid":"one","crit":["exp"]}`), "has crit"},
		"b64":                   {header(`{"alg":"ES256","kid":"one","b64":false}`), "has b64"},
		"header twice":          {header(`{"alg":"ES256","kid":"one","kid":"two"}`), `has "kid" twice`},
		"header escaped twice":  {header(`{"alg":"none","\u0061lg":"ES256","kid":"one"}`), `has "alg" twice`},
		"header is a list":      {header(`[]`), "no JSON object"},
		"typ":                   {signToken(t, key, good(), "typ", "logout+jwt"), "logout+jwt"},
		"kid unknown":           {signToken(t, newIssuerKey(t, "ES256", "three"), good()), "a key that the issuer does not have"},
		"kid of another key":    {header(`{"alg":"ES256","kid":"two"}`), "wrong signature"},
		"kid is a path":         {header(`{"alg":"ES256","kid":"../../dev/null"}`), "a key that the issuer does not have"},
		"kid is no text":        {header(`{"alg":"ES256","kid":1}`), "no name of a key"},
		"no kid, two keys":      {header(`{"alg":"ES256"}`), "a key that the issuer does not have"},
		"forged":                {signToken(t, stranger, good()), "wrong signature"},
		"payload changed":       {parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), "acme/app", "evil/app", 1))) + "." + parts[2], "wrong signature"},
		"zero signature":        {parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)), "wrong signature"},
		"short signature":       {parts[0] + "." + parts[1] + "." + parts[2][:40], "wrong signature"},
		"other base64":          {parts[0] + "." + parts[1] + "=." + parts[2], "base64"},
		"line end in it":        {parts[0] + "." + parts[1] + "." + parts[2][:8] + "\n" + parts[2][8:], "base64"},
		"claims are a list":     {payload(`["iss"]`), "no JSON object"},
		"claims are no JSON":    {payload(`{"iss":`), "is no JSON"},
		"claims go on":          {payload(string(raw) + "{}"), "is no JSON"},
		"claims are no UTF-8":   {payload("{\"iss\":\"\xff\"}"), "is no UTF-8"},
		"claims are deep":       {payload(twice + `,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "}"), "nested more than"},
		"claim twice":           {payload(twice + `,"repository":"evil/app"}`), `has "repository" twice`},
		"claim twice, below":    {payload(twice + `,"act":{"sub":1,"sub":2}}`), `has "sub" twice`},
		"claim in other case":   {payload(twice + `,"ISS":"https://evil.example.com"}`), "cannot be verified"},
		"no issuer":             {signToken(t, key, good("iss", nil)), "who issued it"},
		"issuers":               {signToken(t, key, good("iss", []string{i.URL})), "who issued it"},
		"foreign issuer":        {signToken(t, key, good("iss", "https://evil.example.com")), "which is no issuer here"},
		"issuer with a slash":   {signToken(t, key, good("iss", i.URL+"/")), "which is no issuer here"},
		"foreign audience":      {signToken(t, key, good("aud", "https://github.com/acme")), `is for "https://github.com/acme", and "registry.example.com" is wanted`},
		"no audience":           {signToken(t, key, good("aud", nil)), "for nobody in particular"},
		"audience of another":   {signToken(t, key, good("aud", registry+".evil.example.com")), "is wanted"},
		"audience is a number":  {signToken(t, key, good("aud", 1)), "no text"},
		"audience is mixed":     {signToken(t, key, good("aud", []any{registry, 1})), "no text"},
		"many audiences":        {signToken(t, key, good("aud", []string{"a", "b", "c", "d", "e", "f"})), `"d" or 2 more, and`},
		"begin is text":         {signToken(t, key, good("nbf", "now")), "no time in nbf"},
		"expired":               {signToken(t, key, good("exp", now-60)), "expired at 20"},
		"no end":                {signToken(t, key, good("exp", nil)), "never expires"},
		"end is text":           {signToken(t, key, good("exp", "9999999999")), "no time in exp"},
		"end is null":           {payload(strings.Replace(string(raw), fmt.Sprint(now+300), "null", 1)), "no time in exp"},
		"end is far beyond":     {payload(strings.Replace(string(raw), fmt.Sprint(now+300), "1e300", 1)), "no time in exp"},
		"not yet":               {signToken(t, key, good("nbf", now+62)), "is a clock wrong?"},
		"from the future":       {signToken(t, key, good("iat", now+3600)), "is a clock wrong?"},
		"other owner":           {signToken(t, key, good("repository_owner", "evil")), `has "evil" for "repository_owner"`},
		"no owner":              {signToken(t, key, good("repository_owner", nil)), `has no "repository_owner"`},
		"owner is a list":       {signToken(t, key, good("repository_owner", []string{"acme"})), "no text, number"},
		"owner is null":         {payload(strings.Replace(string(raw), `"repository_owner":"acme"`, `"repository_owner":null`, 1)), "no text, number"},
		"false":                 {signToken(t, key, good("protected", false)), `has "false" for "protected"`},
		"no name":               {signToken(t, key, good("repository", nil)), `has no "repository"`},
		"empty name":            {signToken(t, key, good("repository", "")), "empty or no text"},
		"name is a number":      {signToken(t, key, good("repository", 7)), "empty or no text"},
		"name with a line end":  {signToken(t, key, good("repository", "acme/app\n")), "letters that none may have"},
		"name is too long":      {signToken(t, key, good("repository", strings.Repeat("a", auth.MaxUser+1))), "too long"},
		"all of it is too long": {signToken(t, key, good("repository", strings.Repeat("a", auth.MaxUser))), "longer than"},
		"name nobody can read":  {signToken(t, key, good("repository", "acme\u200b/app")), "no name may have"},
		"name turns to ASCII":   {signToken(t, key, good("repository", "\u212aacme/app")), "no name may have"},
		"half a letter":         {payload(strings.Replace(string(raw), "acme/app", `\ud800`, 1)), "no name may have"},
		"groups are a number":   {signToken(t, key, good("teams", 7)), "no list of groups"},
		"groups are mixed":      {signToken(t, key, good("teams", []any{"dev", 7})), "no list of groups"},
		"an empty group":        {signToken(t, key, good("teams", []string{""})), "none can be called that"},
		"too many groups":       {signToken(t, key, good("teams", many(auth.MaxGroupBytes))), "is longer than 8192 bytes"},
		"a long group":          {signToken(t, key, good("teams", strings.Repeat("g", auth.MaxGroupName+1))), "none can be called that"},
	} {
		id, err := tokenLogin(n, tt.token)
		reason := (*auth.Rejection)(nil)
		if !errors.Is(err, auth.ErrRejected) || !errors.As(err, &reason) || id.Name != "" {
			t.Errorf("%s: got %+v, %v", name, id, err)
			continue
		}
		if !strings.Contains(reason.Reason, tt.says) || !strings.HasPrefix(reason.Reason, "the token ") || strings.Contains(reason.Reason, parts[2]) || strings.Contains(reason.Reason, "hunter2") {
			t.Errorf("%s: %s\nwant …%s…", name, reason.Reason, tt.says)
		}
	}
}

// many are group names of n bytes together.
func many(n int) (all []string) {
	for ; n > 0; n -= 20 {
		all = append(all, fmt.Sprintf("group-%014d", n))
	}
	return all
}

// A minute is forgiven, on either side.
func TestClocksDiffer(t *testing.T) {
	i, key, n, now := newCI(t)
	for _, tt := range []struct {
		claim string
		at    int64
		ok    bool
	}{{"exp", -59, true}, {"exp", -60, false}, {"nbf", 60, true}, {"nbf", 61, false}, {"iat", 60, true}, {"iat", 61, false}} {
		_, err := tokenLogin(n, signToken(t, key, i.claims(tt.claim, now.Now().Unix()+tt.at)))
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, auth.ErrRejected) {
			t.Errorf("%s %+d: %v", tt.claim, tt.at, err)
		}
	}
}

// Two entries of one issuer differ by audience or by what they require; what the
// nearest one has against a token is told.
func TestEntriesOfOneIssuer(t *testing.T) {
	now := newClock()
	i := newIssuer(t, now.Now)
	key := newIssuerKey(t, "RS256", "one")
	i.publish(key)
	entry := func(name, audience, owner string) auth.IssuerOptions {
		o := i.options()
		o.Name, o.Audience, o.Require, o.User = name, []string{audience}, map[string]string{"repository_owner": owner}, name+"/{repository}"
		return o
	}
	n := mustOIDC(t, auth.OIDCOptions{Now: now.Now, Issuers: []auth.IssuerOptions{
		entry("a", registry, "acme"), entry("b", registry, "umbrella"), entry("c", "other.example.com", "acme")}})
	for _, tt := range []struct{ audience, owner, want string }{
		{registry, "acme", "a/acme/app"}, {registry, "umbrella", "b/acme/app"}, {"other.example.com", "acme", "c/acme/app"},
		{"other.example.com", "umbrella", "oidc:c: the token has \"umbrella\" for \"repository_owner\", and \"acme\" is required"},
		{"third.example.com", "acme", "oidc:a: the token is for \"third.example.com\""},
	} {
		id, err := tokenLogin(n, signToken(t, key, i.claims("aud", tt.audience, "repository_owner", tt.owner)))
		if got := id.Name + fmt.Sprint(err); !strings.HasPrefix(strings.TrimSuffix(got, "<nil>"), tt.want) {
			t.Errorf("%s of %s: %s, want %s", tt.audience, tt.owner, got, tt.want)
		}
	}
	if i.fetches() != 1 {
		t.Errorf("keys of one issuer were fetched %d times", i.fetches())
	}
}

// Each algorithm that may be chosen works, and only with its own kind of key.
func TestAlgorithms(t *testing.T) {
	for _, alg := range []string{"RS256", "PS256", "ES256", "ES384", "EdDSA"} {
		now := newClock()
		i := newIssuer(t, now.Now)
		key := newIssuerKey(t, alg, "one")
		i.publish(key)
		o := i.options()
		o.Algorithms = []string{alg}
		n := mustOIDC(t, auth.OIDCOptions{Issuers: []auth.IssuerOptions{o}, Now: now.Now})
		if _, err := tokenLogin(n, signToken(t, key, i.claims())); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		p, err := n.Probe(t.Context(), 0)
		if diff := cmp.Diff([]string{alg}, p.Usable); err != nil || diff != "" || p.Date.IsZero() {
			t.Errorf("%s: %v %v %s", alg, err, p, diff)
		}
	}
	// Where the issuer does not say what a key is for, its kind does; one key needs no name.
	i, key, n, _ := newCI(t)
	anonymous := key
	anonymous.KeyID = ""
	i.publish(jose.JSONWebKey{Key: key.Key}, newIssuerKey(t, "RS256", "other"))
	if _, err := tokenLogin(n, signToken(t, anonymous, i.claims())); err != nil {
		t.Error(err)
	}
}

// A change of what an entry decides by ends what it proved; another entry does not.
func TestWhatProvesAToken(t *testing.T) {
	i, key, n, now := newCI(t)
	id, err := tokenLogin(n, signToken(t, key, i.claims()))
	if err != nil {
		t.Fatal(err)
	}
	made := func(change func(*auth.OIDCOptions, *auth.IssuerOptions)) *auth.OIDC {
		o, one := auth.OIDCOptions{Now: now.Now, Previous: n}, i.options()
		change(&o, &one)
		o.Issuers = append(o.Issuers, one)
		return mustOIDC(t, o)
	}
	for name, tt := range map[string]struct {
		change  func(*auth.OIDCOptions, *auth.IssuerOptions)
		current bool
	}{
		"nothing": {func(*auth.OIDCOptions, *auth.IssuerOptions) {}, true},
		"another entry": {func(o *auth.OIDCOptions, _ *auth.IssuerOptions) {
			o.Issuers = append(o.Issuers, auth.IssuerOptions{Name: "x", Issuer: "https://x.example.com", Audience: []string{"x"}})
		}, true},
		"name":         {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.Name = "x" }, false},
		"issuer":       {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.Issuer += "/" }, false},
		"audience":     {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.Audience = append(i.Audience, "x") }, false},
		"require":      {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.Require = map[string]string{"a": "b"} }, false},
		"user":         {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.User = "x/{sub}" }, false},
		"groups":       {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.Groups = []string{"x"} }, false},
		"groups_claim": {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.GroupsClaim = "x" }, false},
		"CA":           {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.CA = append([]byte("\n"), i.CA...) }, false},
		"algorithms":   {func(_ *auth.OIDCOptions, i *auth.IssuerOptions) { i.Algorithms = []string{"ES256"} }, false},
		"case":         {func(o *auth.OIDCOptions, _ *auth.IssuerOptions) { o.CaseSensitive = true }, false},
		"key":          {func(o *auth.OIDCOptions, _ *auth.IssuerOptions) { o.Key[0]++ }, false},
	} {
		after := made(tt.change)
		if got := after.Current(&id); got != tt.current {
			t.Errorf("%s: Current is %v", name, got)
		}
		c := auth.NewBasic("oidc", "x")
		if same := string(after.Proof(c)) == string(n.Proof(c)); same && !tt.current && name != "name" {
			t.Errorf("%s: the cache would not miss", name)
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { n.Current(&id) }); allocs != 0 {
		t.Errorf("Current allocates %v times", allocs)
	}
}

func TestOptionsThatNothingCanBeMadeOf(t *testing.T) {
	good := auth.IssuerOptions{Name: "x", Issuer: "https://x.example.com", Audience: []string{"x"}}
	for want, change := range map[string]func(*auth.IssuerOptions){
		"auth.oidc[1].issuer: \"http":        func(o *auth.IssuerOptions) { o.Issuer = "http://x.example.com" },
		"auth.oidc[1].issuer: \"\"":          func(o *auth.IssuerOptions) { o.Issuer = "" },
		"auth.oidc[1].audience: is empty":    func(o *auth.IssuerOptions) { o.Audience = nil },
		"auth.oidc[1].algorithms: \"HS256\"": func(o *auth.IssuerOptions) { o.Algorithms = []string{"HS256"} },
		"auth.oidc[1].algorithms: \"none\"":  func(o *auth.IssuerOptions) { o.Algorithms = []string{"none"} },
		"auth.oidc[1].user: \"{\"":           func(o *auth.IssuerOptions) { o.User = "{" },
		"auth.oidc[1].groups: names":         func(o *auth.IssuerOptions) { o.Groups = []string{" "} },
		"auth.oidc[1].ca_file: ca_file":      func(o *auth.IssuerOptions) { o.CA = []byte("x") },
	} {
		bad := good
		change(&bad)
		_, err := auth.NewOIDC(auth.OIDCOptions{Issuers: []auth.IssuerOptions{good, bad}, Now: time.Now})
		option := (*auth.OptionError)(nil)
		if !errors.As(err, &option) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
