package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// idIssuer gives ID tokens to jobs, as GitHub Actions, GitLab CI and Kubernetes
// do, under a CA of its own, and misbehaves on demand.
type idIssuer struct {
	testing.TB
	url    string // as its tokens have it for iss
	caFile string
	key    jose.JSONWebKey // signs

	mu        sync.Mutex
	published []jose.JSONWebKey
	instead   map[string]http.HandlerFunc // by path
	clock     time.Duration               // by which its clock is ahead
	fetches   int                         // of keys
}

const (
	idDiscovery = "/.well-known/openid-configuration"
	idKeys      = "/.well-known/jwks"
)

// newIDIssuer is one that is not reached by anybody yet.
func newIDIssuer(t testing.TB, url string) *idIssuer {
	t.Helper()
	i := &idIssuer{TB: t, url: url, caFile: suite.certs.caFile, key: newIDKey(t, "RS256", "key-1"), instead: map[string]http.HandlerFunc{}}
	i.publish(i.key)
	return i
}

// startIDIssuer is one at a port of loopback, with a CA that nobody else knows.
func startIDIssuer(t testing.TB) *idIssuer {
	t.Helper()
	ca := newIDCards(t, "issuers")
	pair, err := tls.LoadX509KeyPair(filesOf(ca.give("issuer")))
	if err != nil {
		t.Fatal(err)
	}
	i := newIDIssuer(t, "")
	s := httptest.NewUnstartedServer(i)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	i.url = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	i.caFile = ca.caFile
	return i
}

func filesOf(card idCard) (cert, key string) { return card.cert, card.key }

func newIDKey(t testing.TB, alg, kid string) jose.JSONWebKey {
	t.Helper()
	var key crypto.PrivateKey
	var err error
	if alg == "RS256" {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: kid, Algorithm: alg, Use: "sig"}
}

func (i *idIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	instead, keys := i.instead[r.URL.Path], i.published
	if r.URL.Path == idKeys {
		i.fetches++
	}
	w.Header().Set("Date", time.Now().Add(i.clock).UTC().Format(http.TimeFormat))
	i.mu.Unlock()
	switch {
	case instead != nil:
		instead(w, r)
	case r.URL.Path == idDiscovery:
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.url, "jwks_uri": i.url + idKeys, "subject_types_supported": []string{"public"},
			"response_types_supported": []string{"id_token"}, "id_token_signing_alg_values_supported": []string{"RS256", "ES256"}})
	case r.URL.Path == idKeys:
		public := jose.JSONWebKeySet{}
		for _, k := range keys {
			public.Keys = append(public.Keys, k.Public())
		}
		_ = json.NewEncoder(w).Encode(public)
	default:
		http.NotFound(w, r)
	}
}

// publish replaces what is at its jwks_uri.
func (i *idIssuer) publish(keys ...jose.JSONWebKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.published = keys
}

// answers replaces what is at a path; nil puts it back.
func (i *idIssuer) answers(path string, h http.HandlerFunc) *idIssuer {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.instead[path] = h
	return i
}

// ahead sets its clock.
func (i *idIssuer) ahead(by time.Duration) *idIssuer {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clock = by
	return i
}

func (i *idIssuer) fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func prints(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// stalls answers once the other side has given up.
func stalls(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// claims are these and the times of a token that is good now, for audience.
// change comes in pairs; nil takes one away.
func (i *idIssuer) claims(own map[string]any, audience any, change ...any) map[string]any {
	now := time.Now().Unix()
	all := map[string]any{"iss": i.url, "aud": audience, "iat": now, "nbf": now - 5, "exp": now + 300, "jti": fmt.Sprint(time.Now().UnixNano())}
	maps.Copy(all, own)
	for n := 0; n < len(change); n += 2 {
		if all[change[n].(string)] = change[n+1]; change[n+1] == nil {
			delete(all, change[n].(string))
		}
	}
	return all
}

// token signs claims, or a payload as it stands; header comes in pairs, nil takes
// one away.
func (i *idIssuer) token(payload any, header ...any) string {
	i.Helper()
	return signedBy(i, i.key, payload, header...)
}

func signedBy(t testing.TB, key jose.JSONWebKey, payload any, header ...any) string {
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
		if name := jose.HeaderKey(header[n].(string)); header[n+1] == nil {
			delete(o.ExtraHeaders, name)
		} else {
			o = o.WithHeader(name, header[n+1])
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// What the tokens of the three hold, names and types as they are.

func githubJob(repository string) map[string]any {
	owner, _, _ := strings.Cut(repository, "/")
	workflow := repository + "/.github/workflows/release.yml@refs/heads/main"
	return map[string]any{
		"sub": "repo:" + repository + ":ref:refs/heads/main", "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true",
		"sha": "f1d2d2f924e986ac86fdf7b36c94bcdf32beec15", "repository": repository, "repository_owner": owner, "repository_id": "74", "repository_owner_id": "65",
		"repository_visibility": "private", "run_id": "30433642", "run_number": "10", "run_attempt": "1", "actor": "octocat", "actor_id": "12",
		"workflow": "release", "workflow_ref": workflow, "workflow_sha": "f1d2d2f924e986ac86fdf7b36c94bcdf32beec15", "job_workflow_ref": workflow,
		"job_workflow_sha": "f1d2d2f924e986ac86fdf7b36c94bcdf32beec15", "head_ref": "", "base_ref": "", "event_name": "push", "environment": "production",
		"runner_environment": "github-hosted", "enterprise": "acme", "enterprise_id": "3",
	}
}

func gitlabJob(project string) map[string]any {
	namespace := project[:strings.LastIndex(project, "/")]
	return map[string]any{
		"sub": "project_path:" + project + ":ref_type:branch:ref:main", "namespace_id": "72", "namespace_path": namespace, "project_id": "20", "project_path": project,
		"user_id": "1", "user_login": "ann", "user_email": "ann@example.com", "user_access_level": "developer", "user_identities": []any{map[string]string{"provider": "ldap", "extern_uid": "ann"}},
		"pipeline_id": "574", "pipeline_source": "push", "job_id": "302", "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
		"groups_direct": []string{"builders", "acme/platform"}, "runner_id": 1, "runner_environment": "self-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
		"project_visibility": "internal", "ci_config_ref_uri": "gitlab.example.com/" + project + "//.gitlab-ci.yml@refs/heads/main",
		"ci_config_sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
	}
}

func serviceAccount(namespace, name string) map[string]any {
	return map[string]any{
		"sub": "system:serviceaccount:" + namespace + ":" + name,
		"kubernetes.io": map[string]any{
			"namespace":      namespace,
			"node":           map[string]string{"name": "node-1", "uid": "0b8a2d3f-6c3e-4e1f-9f0e-2f1c3b4a5d6e"},
			"pod":            map[string]string{"name": name + "-7d9f", "uid": "1b8a2d3f-6c3e-4e1f-9f0e-2f1c3b4a5d6e"},
			"serviceaccount": map[string]string{"name": name, "uid": "2b8a2d3f-6c3e-4e1f-9f0e-2f1c3b4a5d6e"},
			"warnafter":      time.Now().Add(time.Hour).Unix(),
		},
	}
}

// entry is one of auth.oidc; more are lines of it.
func (i *idIssuer) entry(name string, more ...string) string {
	return fmt.Sprintf("    - name: %s\n      issuer: %s\n      ca_file: %q\n      audience: localhost\n      %s\n", name, i.url, i.caFile, strings.Join(more, "\n      "))
}

// oidcAuth is auth of these entries, beside the people in a file.
func oidcAuth(t testing.TB, entries ...string) string {
	t.Helper()
	return fmt.Sprintf("auth:\n  htpasswd: %q\n  oidc:\n%s", writeHtpasswd(t, t.TempDir()+"/htpasswd", passwords), strings.Join(entries, ""))
}
