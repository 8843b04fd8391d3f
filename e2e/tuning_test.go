package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// docs/tuning.md is a walk, and this test goes it: it writes the files that the
// page shows, types its lines as they stand, and compares what they print.
func TestTheTuningPageFromItsFirstLineToItsLast(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		p := newTuner(t, w)
		for _, b := range blocks(readFile(t, filepath.Join("..", "docs", "tuning.md"))) {
			switch b.kind {
			case "yaml":
				p.write(t, b.text)
			case "console":
				p.types(t, b.text)
			case "meanwhile":
				p.meanwhile(t, b.text)
			}
		}
		if p.typed < 20 {
			t.Errorf("only %d lines were typed: is the pattern still right?", p.typed)
		}
	})
}

// block is a piece of a page that does something.
type block struct{ kind, text string }

func blocks(page string) (all []block) {
	for _, m := range regexp.MustCompile("(?s)```(yaml|console)\n(.*?)```|<!-- (meanwhile): (.*?) -->").FindAllStringSubmatch(page, -1) {
		all = append(all, block{m[1] + m[3], m[2] + m[4]})
	}
	return all
}

// tuner is the operator, in a folder of his own, with three replicas.
type tuner struct {
	dir      string
	env      []string
	redis    *redisServer
	w        *world
	replicas fleet
	typed    int
	last     string // what the first replica's file held
}

func newTuner(t *testing.T, w *world) *tuner {
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	u.has(t, "coolteam/app:1", small(t))
	u.has(t, "coolteam/web:1", small(t))
	w.serve(t, "registry:5000", to(t, u.url))
	p := &tuner{dir: t.TempDir(), w: w}
	t.Setenv("REDIS_PASSWORD", redisPassword)
	p.redis = w.redis(t, "redis", 6379)
	people := maps.Clone(passwords)
	people["ci-app"], people["ci-web"] = "app-secret", "web-secret"
	writeHtpasswd(t, "/etc/regward/htpasswd", people)
	replaceFile(t, "/etc/regward/token.pem", readFile(t, suite.certs.keyFile))
	replaceFile(t, filepath.Join(p.dir, "ann-password"), passwords["ann"])
	p.yesterday(t)
	bin := filepath.Join(p.dir, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o700), os.Symlink(suite.regward, filepath.Join(bin, "regward"))); err != nil {
		t.Fatal(err)
	}
	daemon, err := suite.docker()
	if err != nil {
		t.Fatal(err)
	}
	_, env := home(t)
	p.env = append(env, "PATH="+bin+":"+os.Getenv("PATH"), "DOCKER_HOST="+daemon.socket)
	return p
}

// redis starts one at one of places; more are options of redis-server.
func (w *world) redis(t *testing.T, name string, port int, more ...string) *redisServer {
	t.Helper()
	address := ""
	for _, p := range places {
		if p.names == name {
			address = p.address
		}
	}
	r := newRedisServer(t, address, port, more...)
	w.launch(t, r)
	return r
}

// launch starts it in the network of the registries.
func (w *world) launch(t *testing.T, r *redisServer) {
	t.Helper()
	w.do(func() { r.proc = start(t, r.log, nil, r.argv...) })
	r.ready(t)
}

// write puts a file into the folder. The first regward.yaml starts the replicas.
// They have more time for Redis than the page gives them: the page tells how many
// pulls are counted there, and on a busy machine some would not be.
func (p *tuner) write(t *testing.T, text string) {
	t.Helper()
	name, _, _ := strings.Cut(strings.TrimPrefix(text, "# "), "\n")
	text = strings.Replace(text, `"${REDIS_PASSWORD}"}`, `"${REDIS_PASSWORD}", timeout: 5s}`, 1)
	replaceFile(t, filepath.Join(p.dir, name), text)
	if name != "regward.yaml" || p.replicas != nil {
		return
	}
	for i := range 3 {
		file := filepath.Join(p.dir, name)
		if i > 0 {
			file = filepath.Join(p.dir, fmt.Sprintf("replica-%d.yaml", i+1))
		}
		p.replicas = append(p.replicas, &regward{file: file})
	}
	p.copies(t)
	for i, g := range p.replicas {
		g.host, g.health, g.dir = "registry.example.com", "http://127.0.0.1:9781", t.TempDir()
		if i > 0 {
			g.host, g.health = fmt.Sprintf("localhost:%d", 8443+i), fmt.Sprintf("http://127.0.0.1:%d", 9781+10*i)
		}
		g.client = &http.Client{Transport: newTransport(), CheckRedirect: noRedirects}
		g.serve(t)
	}
}

// copies gives the other replicas the file of the first, with what two on one
// machine cannot share.
func (p *tuner) copies(t *testing.T) {
	t.Helper()
	text := readFile(t, p.replicas[0].file)
	for i, g := range p.replicas[1:] {
		own := strings.NewReplacer("registry.example.com\n", "[registry.example.com, localhost]\n", "access: access.log", "access: access-"+fmt.Sprint(i+2)+".log").Replace(text) +
			fmt.Sprintf("listen: 127.0.0.1:%d\nadmin: {listen: \"off\"}\nhealth: {listen: 127.0.0.1:%d}\nstate_dir: %q\nshutdown_delay: 0s\n",
				8444+i, 9791+10*i, filepath.Join(p.dir, fmt.Sprintf("state-%d", i+2)))
		replaceFile(t, g.file, own)
	}
}

// types runs the lines after "$ " of a block, and compares what they print
// with what is below them. "! exit 1" is for one that has to fail.
func (p *tuner) types(t *testing.T, text string) {
	t.Helper()
	for _, part := range strings.Split("\n"+text, "\n$ ")[1:] {
		line, shown, _ := strings.Cut(part, "\n")
		shown, fails := strings.CutSuffix(strings.TrimSpace(shown), "! exit 1")
		before := readFile(t, p.replicas[0].file)
		loaded := p.loaded()
		o := command(t, p.env, "bash", "-c", "cd "+p.dir+"\n"+line)
		if p.typed++; (o.err != nil) != fails {
			t.Fatalf("$ %s: %v\n%s", line, o.err, o.out)
		}
		if !looksLike(o.out, shown) {
			t.Errorf("$ %s\nthe page shows\n%s\nit prints\n%s", line, shown, o.out)
		}
		if changed := readFile(t, p.replicas[0].file); changed != p.last {
			p.last = changed
			p.copies(t)
			if changed != before {
				p.takesTheChange(t, loaded)
			}
		}
	}
}

// loaded is how often the first replica has loaded its file since it started.
func (p *tuner) loaded() int {
	return strings.Count(p.replicas[0].proc.output(), `"msg":"configuration loaded"`)
}

// takesTheChange waits, as long as somebody who types does, until the first
// replica has found that its file changed.
func (p *tuner) takesTheChange(t *testing.T, loaded int) {
	t.Helper()
	eventually(t, "the changed file is loaded", 20*time.Second, func() error {
		if p.loaded() == loaded {
			return errors.New(tail(p.replicas[0].proc.output(), 5))
		}
		return nil
	})
}

// looksLike compares line by line; … stands for anything in a line, and alone
// in one for any number of lines. Spaces at the end of a line do not count.
func looksLike(got, shown string) bool {
	pattern := "(?s)^"
	for line := range strings.SplitSeq(strings.TrimSpace(shown), "\n") {
		if line = strings.TrimRight(line, " "); line == "…" {
			pattern += "(?:[^\n]*\n)*?"
			continue
		}
		pattern += strings.ReplaceAll(regexp.QuoteMeta(line), "…", "[^\n]*") + "[ ]*\n"
	}
	return regexp.MustCompile(pattern + "$").MatchString(strings.TrimSpace(got) + "\n")
}

// meanwhile is what others do to the operator's registry.
func (p *tuner) meanwhile(t *testing.T, what string) {
	t.Helper()
	token := ""
	switch what {
	case "ann pulls 1005 times":
		r, err := http.NewRequest(http.MethodGet, "https://registry.example.com/token?service=registry.example.com&scope=repository:coolteam/app:pull", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ann", passwords["ann"])
		a, err := p.replicas[0].client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		var got struct{ Token string }
		if err := json.NewDecoder(a.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		token = got.Token
		for range 1005 {
			p.replicas[0].send(t, http.MethodGet, "/v2/coolteam/app/manifests/1", token, nil).is(t, http.StatusOK)
		}
	case "Redis dies":
		p.redis.proc.kill()
		p.untilStatus(t, "revocations not shared since", "redis: limits cannot be asked")
	case "Redis is back":
		p.w.launch(t, p.redis)
		p.untilStatus(t, "redis: ok")
	default:
		t.Fatalf("nobody can do %q", what)
	}
}

// untilStatus waits while somebody logs in and pulls now and then.
func (p *tuner) untilStatus(t *testing.T, words ...string) {
	t.Helper()
	g := p.replicas[0]
	eventually(t, "status says so", 30*time.Second, func() error {
		for range 5 {
			a := g.send(t, http.MethodGet, "/token?service=registry.example.com&scope=repository:library/hello:pull", "", nil)
			var got struct{ Token string }
			if err := json.Unmarshal([]byte(a.body), &got); err != nil {
				return err
			}
			g.send(t, http.MethodHead, "/v2/library/hello/manifests/1", got.Token, nil)
		}
		said := command(t, p.env, "bash", "-c", "cd "+p.dir+" && regward status")
		for _, word := range words {
			if !strings.Contains(said.out, word) {
				return errors.New(said.out)
			}
		}
		return said.err
	})
}

// yesterday writes the logs that are replayed: people, somebody without a login,
// and two projects' CI, one of which pulls 1600 times in an hour.
func (p *tuner) yesterday(t *testing.T) {
	t.Helper()
	type pull struct {
		at                     time.Time
		user, addr, repository string
	}
	var all []pull
	for _, who := range []struct {
		user, addr, repository string
		start, n, every        int // seconds after eight, pulls, seconds between
	}{
		{"ann", "192.0.2.30", "coolteam/app", 600, 40, 300},
		{"bob", "192.0.2.31", "coolteam/app", 900, 25, 600},
		{"anonymous", "192.0.2.40", "library/hello", 0, 120, 150},
		{"ci-app", "10.8.0.5", "coolteam/app", 3600, 1600, 2},
		{"ci-web", "10.8.0.6", "coolteam/web", 3600, 400, 9},
	} {
		for i := range who.n {
			at := time.Date(2026, 11, 20, 8, 0, who.start+i*who.every, 0, time.UTC)
			all = append(all, pull{at, who.user, who.addr, who.repository})
		}
	}
	slices.SortStableFunc(all, func(a, b pull) int { return a.at.Compare(b.at) })
	var logs [3]strings.Builder
	for i, e := range all {
		fmt.Fprintf(&logs[i%3], `{"time":%q,"msg":"request","request_id":"r%09d","host":"registry.example.com","method":"GET","path":"/v2/%s/manifests/1",`+
			`"route":"manifest","user":%q,"credential":%q,"addr":%q,"repository":%q,"action":"pull","reference":"1","status":200,"bytes_in":0,"bytes_out":585,"duration_ms":2,"user_agent":"docker/27.0"}`+"\n",
			e.at.Format("2006-01-02T15:04:05.000Z"), i, e.repository, e.user, map[bool]string{true: "anonymous token", false: "token"}[e.user == "anonymous"], e.addr, e.repository)
	}
	for i := range logs {
		folder := filepath.Join(p.dir, fmt.Sprintf("r%d", i+1))
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if i < 2 {
			replaceFile(t, filepath.Join(folder, "access.log"), logs[i].String())
			continue
		}
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		if _, err := z.Write([]byte(logs[i].String())); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		replaceFile(t, filepath.Join(folder, "access.log.gz"), packed.String())
	}
	replaceFile(t, filepath.Join(p.dir, "nginx.log"), `10.0.0.5 - - [20/Nov/2026:09:00:00 +0000] "GET /v2/library/hello/manifests/1 HTTP/1.1" 200 585 "-" "docker/27.0"`+"\n")
}

// configs/examples/redis.yaml: a cluster of three, with TLS and a password, and
// a balancer that ends no TLS in front.
func TestExampleRedis(t *testing.T) {
	inside(t, func(t *testing.T, w *world) {
		u := startUpstream(t, distribution)
		u.has(t, "library/hello:1", small(t))
		w.serve(t, "registry:5000", to(t, u.url))
		replaceFile(t, "/etc/regward/token.pem", readFile(t, suite.certs.keyFile))
		var nodes []string
		for i := range 3 {
			name := fmt.Sprintf("redis-%d", i)
			more := append(tlsOptions(6379), "--tls-cluster", "yes", "--cluster-enabled", "yes", "--cluster-port", "16379",
				"--cluster-announce-ip", fmt.Sprint("198.51.100.", 20+i), // all of places are on one machine
				"--cluster-announce-hostname", name, "--cluster-preferred-endpoint-type", "hostname")
			nodes = append(nodes, w.redis(t, name, 6379, more...).at)
		}
		join(t, "--tls --cacert "+suite.certs.caFile, nodes)
		g := w.example(t, "redis.yaml", "registry.example.com", "REDIS_PASSWORD="+redisPassword)
		k := newCrane(t, g.host).(*crane)
		k.login(t, "bob", passwords["bob"]).works(t)
		// The first questions meet connections that have to be made yet, and may
		// take longer than redis.timeout: this instance answers them by itself.
		eventually(t, "a pull is counted in Redis", 20*time.Second, func() error {
			k.pull(t, g.host+"/library/hello:1").works(t)
			if err := g.redisUp("1")(); err != nil {
				said := g.cli(t, "status")
				return fmt.Errorf("%w\n%s", err, said.out)
			}
			if said := g.cli(t, "limits", "show", "--user", "bob").works(t); !strings.Contains(said.out, "user:bob") || !strings.Contains(said.out, "of 1000 used") {
				return errors.New(said.out)
			}
			return nil
		})
	})
}
