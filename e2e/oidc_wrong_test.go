package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Every wrong token of security.md, 2.4, by GET, by POST and at /v2/: 401 in the
// same words, nothing reaches the registry, nothing of a token is in a log, and
// the audit log says what was wrong.
func TestG4_WrongIDTokens(t *testing.T) {
	t.Parallel()
	k := startKeyless(t)
	i, key := k.github, k.github.key
	now := time.Now().Unix()
	claims := func(change ...any) map[string]any {
		return i.claims(githubJob("acme/app"), "localhost", change...)
	}
	good := i.token(claims())
	k.logsIn(t, "oidc", good).is(t, http.StatusOK)
	parts := strings.Split(good, ".")
	header := func(format string, args ...any) string {
		return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, format, args...)) + "." + parts[1] + "." + parts[2]
	}
	raw, err := json.Marshal(claims())
	if err != nil {
		t.Fatal(err)
	}
	own := newIDKey(t, "RS256", "key-1") // of the issuer's name
	public, err := json.Marshal(own.Public())
	if err != nil {
		t.Fatal(err)
	}
	published, err := json.Marshal(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	shared := jose.JSONWebKey{Key: published, KeyID: "key-1", Algorithm: "HS256"}
	jku := startIDIssuer(t)
	jku.publish(own)
	for name, token := range map[string]string{
		"alg none":                 header(`{"alg":"none","typ":"JWT"}`)[:len(header(`{"alg":"none","typ":"JWT"}`))-len(parts[2])],
		"alg none, signed":         header(`{"alg":"none","kid":"key-1"}`),
		"HS256 with the public":    signedBy(t, shared, claims()),
		"ES256 by another":         signedBy(t, newIDKey(t, "ES256", "key-1"), claims()),
		"another key of this name": signedBy(t, own, claims()),
		"another issuer's key":     signedBy(t, k.gitlab.key, claims()),
		"another issuer's token":   k.gitlab.token(k.gitlab.claims(githubJob("acme/app"), "localhost")),
		"unknown issuer":           i.token(claims("iss", "https://evil.example.com")),
		"issuer with a slash":      i.token(claims("iss", i.url+"/")),
		"no issuer":                i.token(claims("iss", nil)),
		"other audience":           i.token(claims("aud", "https://github.com/acme")),
		"other audiences":          i.token(claims("aud", []string{"sigstore", "sts.amazonaws.com"})),
		"no audience":              i.token(claims("aud", nil)),
		"expired":                  i.token(claims("exp", now-61)),
		"no end":                   i.token(claims("exp", nil)),
		"not yet":                  i.token(claims("nbf", now+600)),
		"from the future":          i.token(claims("iat", now+600)),
		"other owner":              i.token(claims("repository_owner", "evil")),
		"no owner":                 i.token(claims("repository_owner", nil)),
		"no repository":            i.token(claims("repository", nil)),
		"owner twice":              i.token(strings.TrimSuffix(string(raw), "}") + `,"repository_owner":"acme"}`),
		"issuer twice, escaped":    i.token(strings.TrimSuffix(string(raw), "}") + `,"\u0069ss":"https://evil.example.com"}`),
		"alg twice":                header(`{"alg":"none","alg":"RS256","kid":"key-1"}`),
		"kid is a path":            header(`{"alg":"RS256","kid":"../../../../etc/passwd"}`),
		"kid is SQL":               header(`{"alg":"RS256","kid":"x' UNION SELECT 'key"}`),
		"kid is a list":            header(`{"alg":"RS256","kid":["key-1"]}`),
		"jku":                      signedBy(t, own, claims(), "jku", jku.url+idKeys),
		"x5u":                      signedBy(t, own, claims(), "x5u", jku.url+idKeys),
		"x5c":                      signedBy(t, own, claims(), "x5c", []string{"MIIB"}),
		"jwk":                      signedBy(t, own, claims(), "jwk", json.RawMessage(public)),
		"crit":                     signedBy(t, key, claims(), "crit", []string{"exp"}),
		"changed":                  parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(raw), "acme/app", "acme/bpp", 1))) + "." + parts[2],
		"no signature":             parts[0] + "." + parts[1] + ".",
		"other base64":             good + "=",
		"two parts":                parts[0] + "." + parts[1],
		"a path in the name":       i.token(claims("repository", "acme/app\u202e/x")),
		"a password":               "hunter2",
	} {
		for _, got := range []answer{
			k.logsIn(t, "oidc", token, "repository:acme/app:pull"),
			k.posts(t, "oidc", token, "repository:acme/app:pull"),
			k.send(t, "GET", "/v2/", "", nil, "Authorization", basicAuth("oidc", token)),
			k.send(t, "GET", "/v2/library/hello/manifests/1", "", nil, "Authorization", basicAuth("oidc", token)),
		} {
			if got.StatusCode != http.StatusUnauthorized || !strings.Contains(got.body, "UNAUTHORIZED") || strings.Contains(got.body, "audience") {
				t.Errorf("%s: %s %s: %s %s", name, got.Request.Method, got.Request.URL.Path, got.Status, got.body)
			}
		}
	}
	if jku.fetched() != 0 {
		t.Error("keys were fetched from where a token said")
	}
	k.logsIn(t, "oidc", good).is(t, http.StatusOK)
	k.leavesOut(t, good)
	var log string
	for _, words := range []string{`is signed with "none"`, `and "localhost" is wanted`, "expired at 20", "is a clock wrong?", "which is no issuer here", "has jku in its header"} {
		eventually(t, "the audit log says "+words, 30*time.Second, func() error {
			if log = strings.ReplaceAll(k.auditLog(t), `\"`, `"`); !strings.Contains(log, words) {
				return errors.New(tail(log, 3))
			}
			return nil
		})
	}
	if strings.Contains(log, "hunter2") {
		t.Error("the audit log holds a password")
	}
}
