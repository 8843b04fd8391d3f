package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pageScript is what a web interface for registries does first: find out where
// to log in, log in, list tags, read a manifest, and read the headers that it
// needs for it. It tells its own server what came of it.
const pageScript = `<!doctype html><title>a page</title><script>
(async () => {
  const found = {origin: location.origin};
  try {
    const ping = await fetch("https://HOST/v2/");
    found.ping = ping.status;
    found.challenge = ping.headers.get("WWW-Authenticate");
    const login = "Basic " + btoa("ann:PASSWORD");
    const asked = await fetch("https://HOST/token?service=localhost&scope=repository:coolteam/app:pull", {headers: {Authorization: login}});
    const token = (await asked.json()).token;
    const wrong = await fetch("https://HOST/token", {headers: {Authorization: "Basic " + btoa("ann:wrong")}});
    found.wrong = wrong.status + " " + (await wrong.json()).errors[0].code;
    const as = {Authorization: "Bearer " + token};
    const tags = await fetch("https://HOST/v2/coolteam/app/tags/list", {headers: as, credentials: "include"});
    found.tags = (await tags.json()).tags;
    const types = {Accept: "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"};
    const manifest = await fetch("https://HOST/v2/coolteam/app/manifests/1", {headers: {...as, ...types}});
    found.manifest = (await manifest.json()).schemaVersion;
    found.digest = manifest.headers.get("Docker-Content-Digest");
    found.request = manifest.headers.get("X-Request-Id");
    const upload = await fetch("https://HOST/v2/coolteam/app/blobs/uploads/", {method: "POST", headers: as});
    found.upload = upload.status + " " + (await upload.json()).errors[0].code;
  } catch (e) {
    found.failed = String(e);
  }
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
})();
</script>`

// pageFound is what the script tells.
type pageFound struct {
	Origin, Challenge, Wrong, Digest, Request, Upload, Failed string
	Ping, Manifest                                            int
	Tags                                                      []string
}

// pageServer serves the page on an origin of its own.
type pageServer struct {
	origin string
	found  chan pageFound
}

func servePage(t testing.TB, host string) *pageServer {
	t.Helper()
	p := &pageServer{found: make(chan pageFound, 4)}
	page := strings.NewReplacer("HOST", host, "PASSWORD", passwords["ann"]).Replace(pageScript)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, page)
		case "/found":
			var f pageFound
			if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&f); err == nil {
				select {
				case p.found <- f:
				default:
				}
			}
		default:
			http.NotFound(w, r)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{suite.certs.pair}}
	server.StartTLS()
	t.Cleanup(server.Close)
	p.origin = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return p
}

// opened is what the page finds in a browser of its own.
func (p *pageServer) opened(t testing.TB) pageFound {
	t.Helper()
	leaf, err := x509.ParseCertificate(suite.certs.pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	dir, err := os.MkdirTemp("", "page") // a process of the browser's may still write when it is gone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = poll(10*time.Second, func() error { return os.RemoveAll(dir) }) })
	browser := start(t, filepath.Join(dir, "chromium.log"), []string{"HOME=" + dir}, mustProgram(t, "chromium"),
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-sync",
		"--user-data-dir="+filepath.Join(dir, "profile"),
		"--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(key[:]), // that of regward and of the page
		p.origin+"/")
	defer browser.kill()
	var f pageFound
	eventually(t, "the page tells what it found", 2*time.Minute, func() error {
		select {
		case f = <-p.found:
			return nil
		default:
		}
		if err := browser.gone(); err != nil {
			return err
		}
		return errors.New("it has not yet")
	})
	return f
}

// A page of an origin that is listed logs in, lists tags and reads a manifest in
// a browser; one of another origin reads nothing. What the registry behind says
// about origins reaches nobody.
func TestR22_APageInABrowser(t *testing.T) {
	t.Parallel()
	storage := t.TempDir()
	u := &upstream{kind: distribution}
	file := filepath.Join(t.TempDir(), "registry.yml")
	replaceFile(t, file, fmt.Sprintf(`version: 0.1
log: {level: info, formatter: json, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http:
  addr: "127.0.0.1:0"
  secret: end-to-end
  headers:
    Access-Control-Allow-Origin: ["*"]
    Access-Control-Allow-Credentials: ["true"]
    Access-Control-Expose-Headers: ["X-Theirs"]
    Access-Control-Allow-Methods: ["TRACE"]
`, storage))
	u.proc = start(t, filepath.Join(storage, "log"), []string{"OTEL_TRACES_EXPORTER=none"}, mustProgram(t, "registry"), "serve", file)
	eventually(t, "the registry listens", 20*time.Second, func() error {
		if m := listeningOn.FindStringSubmatch(u.proc.output()); m != nil {
			u.url = "http://" + m[1]
			return nil
		}
		return errors.Join(u.proc.gone(), errors.New("not yet"))
	})
	img := small(t)
	u.has(t, "coolteam/app:1", img)
	g := newRegward(t, u.settings())
	listed, other := servePage(t, g.host), servePage(t, g.host)
	rules := teamRules + `
cors: {origins: ["` + listed.origin + `"]}
`
	g.configure(t, rules)
	g.serve(t)

	f := listed.opened(t)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if f.Failed != "" || f.Origin != listed.origin || f.Ping != 401 || !strings.HasPrefix(f.Challenge, `Bearer realm="https://`+g.host+`/token"`) ||
		f.Wrong != "401 UNAUTHORIZED" || len(f.Tags) != 1 || f.Tags[0] != "1" || f.Manifest != 2 || f.Digest != digest.String() || len(f.Request) != 10 || f.Upload != "401 DENIED" {
		t.Errorf("the page found %+v", f)
	}
	if f := other.opened(t); f.Failed == "" || f.Ping != 0 {
		t.Errorf("a page that is not listed found %+v", f)
	}

	// Each header comes once, and from here.
	token := g.token(t, "ann", "repository:coolteam/app:pull")
	for _, path := range []string{"/v2/coolteam/app/manifests/1", "/v2/coolteam/app/tags/list", "/v2/coolteam/app/manifests/none", "/v2/coolteam/app/blobs/" + layerDigest(t, img)} {
		a := g.send(t, "GET", path, token, nil, "Origin", listed.origin)
		if got := a.Header["Access-Control-Allow-Origin"]; len(got) != 1 || got[0] != listed.origin || len(a.Header["Access-Control-Allow-Credentials"]) != 1 ||
			strings.Contains(strings.Join(a.Header["Access-Control-Expose-Headers"], " "), "X-Theirs") {
			t.Errorf("%s: %v", path, a.Header)
		}
		a = g.send(t, "GET", path, token, nil, "Origin", other.origin)
		for key := range a.Header {
			if strings.HasPrefix(key, "Access-Control-") {
				t.Errorf("%s: %s: %v", path, key, a.Header[key])
			}
		}
	}

	// A reload lists the other page instead.
	g.configure(t, strings.Replace(rules, listed.origin, other.origin, 1))
	eventually(t, "the other page is listed", 30*time.Second, func() error {
		if a := g.send(t, "GET", "/v2/", "", nil, "Origin", other.origin); a.Header.Get("Access-Control-Allow-Origin") != other.origin {
			return errors.New("it is not")
		}
		return nil
	})
	if f := other.opened(t); f.Failed != "" || f.Digest != digest.String() {
		t.Errorf("the page found %+v", f)
	}
	if f := listed.opened(t); f.Failed == "" {
		t.Errorf("a page that is listed no more found %+v", f)
	}
}
