package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What an operator does beside a running instance.

func (g *regward) cli(t *testing.T, args ...string) outcome {
	t.Helper()
	return command(t, nil, append([]string{suite.regward, "--config", g.file}, args...)...)
}

func TestTheRequestIDThatDockerShowsLeadsToTheRule(t *testing.T) {
	t.Parallel()
	g := startRegward(t, startUpstream(t, distribution), teamRules)
	shown := newDocker(t, g.host).pull(t, g.host+"/coolteam/app:1").fails(t)
	m := requestID.FindStringSubmatch(shown.out)
	if m == nil {
		t.Fatalf("no request id in %s", shown.out)
	}
	explained := g.cli(t, "explain", "--request-id", m[1])
	explained.says(t, "coolteam/app", "anonymous", "regward.yaml:", "docker/")
	g.cli(t, "explain", "--last", "--repository", "coolteam/app", "--since", "5m").says(t, "coolteam/app", "no credential")
	g.cli(t, "explain", "--request-id", m[1], "--audit", g.audit).says(t, "coolteam/app", "anonymous")
}

func TestTheReloadCommandTellsWhatChanged(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	bigImage(t, u)
	g := startRegward(t, u, teamRules)
	g.configure(t, closed)
	g.cli(t, "reload").works(t)
	if got := g.pullsLibrary(t); got != http.StatusUnauthorized {
		t.Errorf("after the reload library/ answers %d", got)
	}
	g.configure(t, strings.Replace(closed, "rules:", "ruls:", 1))
	g.cli(t, "reload").fails(t, "ruls", "rules")
	g.cli(t, "healthcheck").works(t)
}

// A configuration that breaks at the next start is not the end: the last good
// one is kept.
func TestAfterABadConfigurationTheLastGoodOneStarts(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	bigImage(t, u)
	g := startRegward(t, u, teamRules)
	if err := g.proc.stop(); err != nil {
		t.Fatal(err)
	}
	g.configure(t, strings.Replace(teamRules, "rules:", "ruls:", 1))
	good := filepath.Join(g.dir, "state", "last-good.yaml")
	g.cli(t, "serve").fails(t, "ruls", good)
	g.file = good
	g.serve(t)
	if got := g.pullsLibrary(t); got != http.StatusOK {
		t.Errorf("library/ answers %d", got)
	}
}

func TestTheNameAndTheAddressOfTheServerBothWork(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	u.has(t, "coolteam/app:1", small(t))
	g := startRegward(t, u, teamRules)
	_, port, _ := strings.Cut(g.host, ":")
	for _, k := range clientKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			host := "127.0.0.1:" + port
			c := k.new(t, host)
			c.login(t, "ann", passwords["ann"]).works(t)
			c.pull(t, host+"/coolteam/app:1").works(t)
			c.push(t, host+"/coolteam/by-address-"+k.name+":1", small(t)).works(t)
		})
	}
}

func TestABrowserIsToldHowToLogIn(t *testing.T) {
	t.Parallel()
	g := startRegward(t, startUpstream(t, distribution), teamRules)
	page := g.send(t, http.MethodGet, "/", "", nil).is(t, http.StatusOK)
	for _, word := range []string{"docker login " + g.host, "#platform-help"} {
		if !strings.Contains(page.body, word) {
			t.Errorf("the page has no %q:\n%s", word, page.body)
		}
	}
}

// The certificate is read again when its files change, and a broken pair
// keeps the one in use.
func TestARenewedCertificateIsServedAndABrokenOneIsNot(t *testing.T) {
	t.Parallel()
	g := newRegward(t, "http://127.0.0.1:1")
	cert, key := filepath.Join(g.dir, "tls.crt"), filepath.Join(g.dir, "tls.key")
	replaceFile(t, cert, readFile(t, suite.certs.certFile))
	replaceFile(t, key, readFile(t, suite.certs.keyFile))
	g.frame = strings.NewReplacer(suite.certs.certFile, cert, suite.certs.keyFile, key).Replace(g.frame)
	g.configure(t, teamRules)
	g.serve(t)

	folder := filepath.Join(t.TempDir(), "other")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority(folder)
	if err != nil {
		t.Fatal(err)
	}
	trusted := func(by *authority) error {
		transport := newTransport()
		transport.TLSClientConfig.RootCAs = by.pool
		r, err := (&http.Client{Transport: transport}).Get("https://" + g.host + "/v2/")
		if err != nil {
			return err
		}
		return r.Body.Close()
	}
	replaceFile(t, key, readFile(t, other.keyFile))
	replaceFile(t, cert, readFile(t, other.certFile))
	eventually(t, "the new certificate is served", reloadTime, func() error { return trusted(other) })

	replaceFile(t, cert, readFile(t, suite.certs.certFile)) // its key is missing
	eventually(t, "the log names the broken pair", reloadTime, func() error {
		if !strings.Contains(g.proc.output(), "do not belong together") {
			return errors.New(tail(g.proc.output(), 5))
		}
		return nil
	})
	if err := trusted(other); err != nil {
		t.Errorf("the pair in use is gone: %v", err)
	}
}

// demoLine is a line of the demo to paste.
var demoLine = regexp.MustCompile(`^  ((?:docker|podman|skopeo|crane|curl|echo|export|regward) .*?)\s*(# refused.*)?$`)

func TestWhatTheDemoPrintsToPasteWorks(t *testing.T) {
	t.Parallel()
	daemon, err := suite.docker()
	if err != nil {
		t.Fatal(err)
	}
	env := demoEnvironment(t, daemon)
	demo := start(t, filepath.Join(t.TempDir(), "demo.log"), env,
		suite.regward, "demo", "--listen", fmt.Sprintf("127.0.0.1:%d", freePort(t)))
	eventually(t, "the demo has printed everything", 30*time.Second, func() error {
		if err := demo.gone(); err != nil {
			return err
		}
		if !strings.Contains(demo.output(), "Ctrl-C") {
			return errors.New("not yet")
		}
		return nil
	})
	exports, tried := "", map[string]bool{}
	for line := range strings.SplitSeq(demo.output(), "\n") {
		m := demoLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if strings.HasPrefix(m[1], "export ") {
			exports += m[1] + "\n"
			continue
		}
		tried[strings.Fields(m[1])[0]] = true
		o := command(t, env, "bash", "-c", exports+m[1])
		switch {
		case m[2] == "" && strings.Contains(m[1], "explain --last"):
			o.says(t, "coolteam/app") // its exit code tells that the answer is no
		case m[2] == "":
			o.works(t)
		case !strings.Contains(o.out, "not logged in") && !strings.Contains(o.out, "may not pull"):
			t.Errorf("%s: was to be refused in words:\n%s", o.command, o.out)
		}
	}
	for _, program := range []string{"docker", "podman", "skopeo", "crane", "curl", "regward"} {
		if !tried[program] {
			t.Errorf("nothing to paste for %s in:\n%s", program, demo.output())
		}
	}
	left := regexp.MustCompile(`/\S+/regward-demo-\d+`).FindString(demo.output())
	if err := demo.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); left == "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the demo left %q behind: %v", left, err)
	}
}

// demoEnvironment is a user's: the programs in the path, the daemon of the
// tests, storage of podman's in the test's folder.
func demoEnvironment(t *testing.T, daemon *dockerDaemon) []string {
	t.Helper()
	_, env := home(t)
	dir, err := os.MkdirTemp("", "podman")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	storage := filepath.Join(dir, "storage.conf")
	replaceFile(t, storage, fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "run")))
	containers := filepath.Join(dir, "containers.conf")
	replaceFile(t, containers, "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n")
	paths := []string{filepath.Dir(suite.regward), filepath.Dir(mustProgram(t, "crane")), os.Getenv("PATH")}
	return append(env,
		"SSL_CERT_FILE=", // the lines say what is to be trusted
		"PATH="+strings.Join(paths, ":"),
		"DOCKER_HOST="+daemon.socket,
		"CONTAINERS_STORAGE_CONF="+storage, "CONTAINERS_CONF="+containers,
	)
}

func TestTheDemoWalksItsOwnTour(t *testing.T) {
	t.Parallel()
	_, env := home(t)
	begin := time.Now()
	command(t, env, suite.regward, "demo", "--check").works(t)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}
