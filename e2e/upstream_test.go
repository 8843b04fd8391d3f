package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// The account regward uses towards upstreams that want a login.
const (
	upstreamUser     = "regward"
	upstreamPassword = "upstream:secret" // a colon is legal in a password (T25)
)

// upstreamAccounts are all that upstreams with a login know: the people too,
// for whoever logs in there.
func upstreamAccounts() map[string]string {
	all := maps.Clone(passwords)
	all[upstreamUser] = upstreamPassword
	return all
}

// kind is a registry people put behind a proxy, and how it asks who comes.
type kind struct {
	program string // the command
	auth    string // "plain", "htpasswd" or "token"
}

func (k kind) String() string {
	program := map[string]string{"registry": "distribution 3", "docker-registry": "docker-registry 2.8"}[k.program]
	return program + map[string]string{
		"plain":    " without a login",
		"htpasswd": " with htpasswd",
		"token":    " with tokens",
	}[k.auth]
}

var (
	distribution         = kind{"registry", "plain"}
	distributionBasic    = kind{"registry", "htpasswd"}
	distributionToken    = kind{"registry", "token"}
	dockerRegistry       = kind{"docker-registry", "plain"}
	dockerRegistryBasic  = kind{"docker-registry", "htpasswd"}
	dockerRegistryToken  = kind{"docker-registry", "token"}
	otherUpstreams       = []kind{distributionBasic, distributionToken, dockerRegistry, dockerRegistryBasic, dockerRegistryToken}
	listeningOn          = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
	registryAccessLogKey = "response completed"
)

// upstream is a registry under test conditions, seen from behind regward.
type upstream struct {
	kind   kind
	url    string
	config string // what regward's file says after `upstream:`
	proc   *process
}

// startUpstream starts a registry with a folder of its own.
func startUpstream(t testing.TB, k kind) *upstream {
	t.Helper()
	dir := t.TempDir()
	u := &upstream{kind: k}
	scheme, auth, front := "http", "", (*front)(nil)
	switch k.auth {
	case "htpasswd":
		file := writeHtpasswd(t, filepath.Join(dir, "htpasswd"), upstreamAccounts())
		auth = fmt.Sprintf("auth: {htpasswd: {realm: upstream, basic: true, path: %q}}\n", file)
	case "token":
		issuer := newIssuer(t, dir)
		issuer.post = k == distributionToken
		var realm string
		if k == distributionToken { // one port for both, as behind somebody's nginx
			front = startFront(t, issuer)
			realm = front.url + "/auth"
		} else { // two hosts, with TLS: token_hosts has to allow the other one
			scheme = "https"
			server := httptest.NewUnstartedServer(issuer)
			server.TLS = &tls.Config{Certificates: []tls.Certificate{suite.certs.pair}}
			server.StartTLS()
			t.Cleanup(server.Close)
			realm = strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/auth"
			u.config = "\n  token_hosts: [localhost]"
		}
		auth = fmt.Sprintf("auth: {token: {realm: %q, service: upstream, issuer: %q, rootcertbundle: %q}}\n",
			realm, issuer.name, issuer.certFile)
	}
	address := runRegistry(t, u, dir, scheme, auth)
	u.url = scheme + "://" + address
	if front != nil {
		front.serveRegistry(t, u.url)
		u.url = front.url
	}
	u.config = u.settings() + u.config
	return u
}

// settings are the lines of regward's file for this upstream.
func (u *upstream) settings() string {
	lines := "\n  url: " + u.url
	if u.kind.auth != "plain" {
		lines += fmt.Sprintf("\n  username: %s\n  password: %q", upstreamUser, upstreamPassword)
	}
	if strings.HasPrefix(u.url, "https:") {
		lines += fmt.Sprintf("\n  ca_file: %q", suite.certs.caFile)
	}
	return lines
}

// runRegistry starts the program and returns the address it chose.
func runRegistry(t testing.TB, u *upstream, dir, scheme, auth string) string {
	t.Helper()
	tlsLines := ""
	if scheme == "https" {
		tlsLines = fmt.Sprintf(", tls: {certificate: %q, key: %q}", suite.certs.certFile, suite.certs.keyFile)
	}
	file := filepath.Join(dir, "registry.yml")
	config := fmt.Sprintf(`version: 0.1
log: {level: info, formatter: json, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {addr: "127.0.0.1:0", secret: end-to-end%s}
%s`, filepath.Join(dir, "storage"), tlsLines, auth)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	u.proc = start(t, filepath.Join(dir, "registry.log"), []string{"OTEL_TRACES_EXPORTER=none"},
		mustProgram(t, u.kind.program), "serve", file)
	var address string
	eventually(t, u.kind.String()+" listens", 20*time.Second, func() error {
		if m := listeningOn.FindStringSubmatch(u.proc.output()); m != nil {
			address = m[1]
			return nil
		}
		if err := u.proc.gone(); err != nil {
			return err
		}
		return errors.New("not yet")
	})
	return address
}

// front is one address for a registry and its token service.
type front struct {
	url string
	mux *http.ServeMux
}

func startFront(t testing.TB, issuer *issuer) *front {
	mux := http.NewServeMux()
	mux.Handle("/auth", issuer)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return &front{url: server.URL, mux: mux}
}

func (f *front) serveRegistry(t testing.TB, registry string) {
	target, err := url.Parse(registry)
	if err != nil {
		t.Fatal(err)
	}
	f.mux.Handle("/v2/", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}})
}

// requests are the requests the upstream has answered, "POST /v2/…".
func (u *upstream) requests() []string {
	var all []string
	for line := range strings.SplitSeq(u.proc.output(), "\n") {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) != nil || entry["msg"] != registryAccessLogKey {
			continue
		}
		all = append(all, fmt.Sprint(entry["http.request.method"], " ", entry["http.request.uri"]))
	}
	return all
}

// mounts are the upload starts that asked the upstream for a mount.
func (u *upstream) mounts() []string {
	var found []string
	for _, r := range u.requests() {
		if strings.HasPrefix(r, "POST ") && (strings.Contains(r, "mount=") || strings.Contains(r, "from=")) {
			found = append(found, r)
		}
	}
	return found
}

// registry is the upstream's own name for direct access.
func (u *upstream) reference(t testing.TB, ref string) name.Reference {
	t.Helper()
	parsed, err := url.Parse(u.url)
	if err != nil {
		t.Fatal(err)
	}
	r, err := name.ParseReference(parsed.Host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// options are those for direct access with the upstream's own account.
func (u *upstream) options() []remote.Option {
	o := []remote.Option{remote.WithTransport(newTransport())}
	if u.kind.auth != "plain" {
		o = append(o, remote.WithAuth(&authn.Basic{Username: upstreamUser, Password: upstreamPassword}))
	}
	return o
}

// has puts an image into the upstream, behind regward's back.
func (u *upstream) has(t testing.TB, ref string, what remote.Taggable) {
	t.Helper()
	var err error
	switch what := what.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(u.reference(t, ref), what, u.options()...)
	case v1.Image:
		err = remote.Write(u.reference(t, ref), what, u.options()...)
	default:
		t.Fatalf("cannot put a %T", what)
	}
	if err != nil {
		t.Fatalf("put %s into the upstream: %v", ref, err)
	}
}

// digestOf is what the upstream itself has under ref, "" for nothing.
func (u *upstream) digestOf(t testing.TB, ref string) string {
	t.Helper()
	d, err := remote.Get(u.reference(t, ref), u.options()...)
	if err != nil {
		return ""
	}
	return d.Digest.String()
}

// An upload that is given up is given up there: distribution wants more than
// the right to push for that.
func TestAnUploadIsGivenUpAtEveryUpstream(t *testing.T) {
	t.Parallel()
	for _, kind := range append([]kind{distribution}, otherUpstreams...) {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			g := startRegward(t, startUpstream(t, kind), teamRules)
			token := g.token(t, "ann", "repository:coolteam/app:pull,push")
			begun := g.send(t, http.MethodPost, "/v2/coolteam/app/blobs/uploads/", token, nil)
			begun.is(t, http.StatusAccepted)
			at := begun.Header.Get("Location")
			g.send(t, http.MethodDelete, at, token, nil).is(t, http.StatusNoContent)
			g.send(t, http.MethodGet, at, token, nil).is(t, http.StatusNotFound)
		})
	}
}
