package main

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/regward/regward/configs"
)

// quietTLS is a server that does not print who could not shake hands, and the CA
// it is known by.
func quietTLS(t *testing.T, h http.HandlerFunc) (url string, ca []byte) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// problemsOf collects what is said of a configuration.
func problemsOf(check func(say reporter)) (got configs.Problems) {
	check(func(s configs.Severity, path, msg, fix string) {
		got = append(got, configs.Problem{Severity: s, File: "f", Path: path, Msg: msg, Fix: fix})
	})
	return got
}

// expectTold wants one problem, or none where path is empty.
func expectTold(t *testing.T, name string, got configs.Problems, path, says, fix string) {
	t.Helper()
	switch {
	case path == "" && len(got) == 0:
	case path == "" || len(got) != 1:
		t.Errorf("%s: %v", name, got.Error())
	case got[0].Severity != configs.Error || got[0].Path != path || !strings.Contains(got[0].Msg, says) || !strings.Contains(got[0].Fix, fix):
		t.Errorf("%s: got %v\nwant %s: …%s… fix: …%s…", name, got[0], path, says, fix)
	}
}

// Each way to get an issuer wrong is named, with what to write instead.
func TestOnlineAsksIssuers(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	document := func(issuer, signs string) string {
		return `{"issuer":"` + issuer + `","jwks_uri":"HERE/keys","id_token_signing_alg_values_supported":[` + signs + `]}`
	}
	good := document("HERE", `"RS256","ES256"`)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, tt := range map[string]struct {
		document, keys  string
		status          int
		clock           time.Duration
		change          func(*configs.OIDC)
		path, says, fix string
	}{
		"good":            {document: good},
		"says nothing":    {document: `{"issuer":"HERE","jwks_uri":"HERE/keys"}`},
		"half a minute":   {document: good, clock: 30 * time.Second},
		"an hour behind":  {document: good, clock: time.Hour, path: ".issuer", says: "clock is 1h0m0s behind that of HERE", fix: "set this machine's clock"},
		"an hour ahead":   {document: good, clock: -time.Hour, path: ".issuer", says: "clock is 1h0m0s ahead of that of HERE", fix: "set this machine's clock"},
		"another issuer":  {document: document("https://other.example.com", ""), path: ".issuer", says: `describes the issuer "https://other.example.com"`, fix: "write issuer: https://other.example.com, letter"},
		"a slash":         {document: document("HERE/", ""), path: ".issuer", says: "rather than", fix: "write issuer: HERE/, letter"},
		"not found":       {status: 404, path: ".issuer", says: "answers 404", fix: "write what its tokens have for iss"},
		"asks for login":  {status: 401, path: ".issuer", says: "answers 401", fix: "service-account-issuer-discovery"},
		"broken":          {status: 500, path: ".issuer", says: "answers 500"},
		"a page":          {document: "<html>", path: ".issuer", says: "no discovery document"},
		"no keys":         {document: good, keys: `{"keys":[]}`, path: ".issuer", says: "has no key that checks a signature"},
		"gone":            {change: func(o *configs.OIDC) { o.Issuer = strings.Replace(gone.URL, "http", "https", 1) }, path: ".issuer", says: "connection refused", fix: "is it running"},
		"the system's CA": {document: good, change: func(o *configs.OIDC) { o.CA = nil }, path: ".ca_file", says: "unknown authority", fix: "name the CA"},
		"no CA at all":    {document: good, change: func(o *configs.OIDC) { o.CA = []byte("x") }, path: ".ca_file", says: "no certificate"},
		"other name":      {document: good, change: func(o *configs.OIDC) { o.Issuer = strings.Replace(o.Issuer, "127.0.0.1", "localhost", 1) }, path: ".issuer", says: "certificate", fix: "a name that the certificate has"},
		"no such keys":    {document: document("HERE", ""), change: func(o *configs.OIDC) { o.Algorithms = []string{"RS256"} }, path: ".algorithms", says: "has no key for RS256", fix: "tokens have for alg"},
		"other algorithm": {document: document("HERE", `"ES384","ES256K"`), path: ".algorithms", says: "signs with ES384, ES256K, and tokens signed with RS256, ES256 are taken", fix: "write algorithms: [ES384]"},
		"shared secret":   {document: document("HERE", `"HS256"`), path: ".algorithms", says: "signs with HS256", fix: "a key of its own"},
	} {
		if tt.keys == "" {
			tt.keys = string(keys)
		}
		url, ca := quietTLS(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", time.Now().Add(tt.clock).UTC().Format(http.TimeFormat))
			if tt.status != 0 {
				w.WriteHeader(tt.status)
				return
			}
			body := map[string]string{"/.well-known/openid-configuration": tt.document, "/keys": tt.keys}[r.URL.Path]
			_, _ = io.WriteString(w, strings.ReplaceAll(body, "HERE", "https://"+r.Host))
		})
		cfg := &configs.Config{Hostname: []string{"registry.example.com"}}
		cfg.Auth.OIDC = []configs.OIDC{{Name: "ci", Issuer: url, Audience: []string{"registry.example.com"}, User: "gha/{sub}", Algorithms: []string{"RS256", "ES256"}, CA: ca}}
		if tt.change != nil {
			tt.change(&cfg.Auth.OIDC[0])
		}
		got := problemsOf(func(say reporter) { checkOIDC(t.Context(), cfg, say) })
		for i := range got { // a second may pass
			got[i].Msg = strings.NewReplacer("59m59s", "1h0m0s", "1h0m1s", "1h0m0s").Replace(got[i].Msg)
		}
		if tt.path != "" {
			tt.path = "auth.oidc[0]" + tt.path
		}
		expectTold(t, name, got, tt.path, strings.ReplaceAll(tt.says, "HERE", url), strings.ReplaceAll(tt.fix, "HERE", url))
	}
}

// Each way to get a webhook wrong is named; the secret is not.
func TestOnlineAsksTheWebhook(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	hangsUp := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })) // as TLS of python does
	defer hangsUp.Close()
	for name, tt := range map[string]struct {
		status, forged  int // forged: what is signed with another secret; 400 if 0
		body            string
		ahead           time.Duration // its clock
		change          func(*configs.Webhook)
		warns           bool
		path, says, fix string
	}{
		"wrong":           {status: 401},
		"forbidden":       {status: 403, body: "no"},
		"unknown":         {status: 404},
		"unknown by 204":  {status: 204},
		"403 for forged":  {status: 401, forged: 403},
		"takes any":       {status: 200, body: "{}", path: ".url", says: "takes a made-up login", fix: "answer 401"},
		"takes forged":    {status: 401, forged: 200, path: ".secret", says: "signed with another secret", fix: "compare the signature before"},
		"no signature":    {status: 401, forged: 401, warns: true, path: ".secret", says: "401 is the answer, even to", fix: "the same secret"},
		"wrong path":      {status: 404, forged: 404, path: ".url", says: "nothing is at that URL", fix: "check the path"},
		"another secret":  {status: 400, path: ".secret", says: "answers 400", fix: "the same secret"},
		"clock off":       {status: 400, ahead: time.Hour, path: ".url", says: "behind that of the program", fix: "timedatectl set-ntp true"},
		"clock behind":    {status: 400, ahead: -time.Hour, path: ".url", says: "ahead of that of the program", fix: "timedatectl set-ntp true"},
		"takes no POST":   {status: 405, path: ".url", says: "answers 405", fix: "takes no POST"},
		"nonsense":        {status: 200, body: "<html>", path: ".url", says: "is no JSON", fix: "401, or 404"},
		"huge":            {status: 200, body: strings.Repeat(" ", 64<<10+1), path: ".url", says: "is longer than", fix: "401, or 404"},
		"a login page":    {status: 302, path: ".url", says: "answers 302", fix: "a redirect is not followed"},
		"broken":          {status: 500, path: ".url", says: "answers 500", fix: "own log"},
		"slow":            {status: -1, change: func(w *configs.Webhook) { w.Timeout = configs.Duration(50 * time.Millisecond) }, path: ".url", says: "does not answer within 50ms", fix: "is it running"},
		"gone":            {change: func(w *configs.Webhook) { w.URL = gone.URL }, path: ".url", says: "connection refused", fix: "is it running"},
		"no CA":           {status: 401, change: func(w *configs.Webhook) { w.CA = nil }, path: ".ca_file", says: "unknown authority", fix: "name the CA"},
		"another name":    {status: 401, change: func(w *configs.Webhook) { w.URL = strings.Replace(w.URL, "127.0.0.1", "localhost", 1) }, path: ".url", says: "certificate", fix: "a name that the certificate has"},
		"no TLS over TLS": {status: 401, change: func(w *configs.Webhook) { w.URL = strings.Replace(w.URL, "https", "http", 1) }, path: ".url", says: "answers 400", fix: "https"},
		"hangs up":        {change: func(w *configs.Webhook) { w.URL = hangsUp.URL }, path: ".url", says: "cannot be asked", fix: "If it speaks TLS, write https://"},
		"CA is none":      {status: 401, change: func(w *configs.Webhook) { w.CA = []byte("x") }, path: "", says: "no certificate"},
		"http":            {change: func(w *configs.Webhook) { w.URL = "http://logins.example.com" }, path: "", says: "not https"},
	} {
		url, ca := quietTLS(t, func(w http.ResponseWriter, r *http.Request) {
			status := tt.status
			if !signed(r, "a secret of the webhook") {
				status = cmp.Or(tt.forged, http.StatusBadRequest)
			}
			if status < 0 {
				<-r.Context().Done()
				return
			}
			w.Header().Set("Date", time.Now().Add(tt.ahead).UTC().Format(http.TimeFormat))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, tt.body)
		})
		cfg := &configs.Config{Hostname: []string{"registry.example.com"}}
		cfg.Auth.Webhook = configs.Webhook{URL: url, Timeout: configs.Duration(5 * time.Second), CA: ca, Secret: configs.NewSecret("a secret of the webhook")}
		if tt.change != nil {
			tt.change(&cfg.Auth.Webhook)
		}
		path := "auth.webhook" + tt.path
		if tt.says == "" {
			path = ""
		}
		got := problemsOf(func(say reporter) { checkWebhook(t.Context(), cfg, say) })
		if tt.warns && len(got) == 1 && got[0].Severity == configs.Warning {
			got[0].Severity = configs.Error
		}
		expectTold(t, name, got, path, tt.says, tt.fix)
		if strings.Contains(got.Error(), "a secret of") {
			t.Errorf("%s: the secret is told: %v", name, got.Error())
		}
	}
}

// signed reports whether a question to a webhook is signed with secret.
func signed(r *http.Request, secret string) bool {
	body, _ := io.ReadAll(r.Body)
	at, sum, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("X-Regward-Signature"), "t="), ",v1=")
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte(at + "." + string(body)))
	return sum == hex.EncodeToString(mac.Sum(nil))
}
