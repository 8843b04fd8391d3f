package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1"
)

// behindPlain makes instances what they are behind a balancer that ends TLS.
func behindPlain(t testing.TB, n int, u *upstream, policy string) fleet {
	t.Helper()
	files := fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", suite.certs.certFile, suite.certs.keyFile)
	return newFleet(t, n, u, policy, func(g *regward) {
		if !strings.Contains(g.frame, files) {
			t.Fatalf("no such line: %s", files)
		}
		g.frame = strings.Replace(g.frame, files, "tls: {mode: \"off\"}\ntrusted_proxies: 127.0.0.0/8\n", 1)
	})
}

// startHAProxy balances request by request: whatever the connection, each goes
// to the next instance. It takes one out that is not ready, and none that a busy
// machine has answer late.
func startHAProxy(t testing.TB, f fleet) (host string) {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	pem := filepath.Join(dir, "both.pem")
	replaceFile(t, pem, readFile(t, suite.certs.certFile)+readFile(t, suite.certs.keyFile))
	var servers strings.Builder
	for i, g := range f {
		_, at, _ := strings.Cut(g.host, ":")
		health := g.health[strings.LastIndexByte(g.health, ':')+1:]
		fmt.Fprintf(&servers, "  server regward%d 127.0.0.1:%s check port %s inter 500ms fall 1 rise 1\n", i, at, health)
	}
	file := filepath.Join(dir, "haproxy.cfg")
	replaceFile(t, file, fmt.Sprintf(`defaults
  mode http
  timeout connect 5s
  timeout client 5m
  timeout server 5m
  timeout check 10s
  option forwardfor
  option http-server-close
  option redispatch
  retries 3
frontend clients
  bind 127.0.0.1:%d ssl crt %s alpn h2,http/1.1
  default_backend instances
backend instances
  balance roundrobin
  option httpchk GET /readyz
%s`, port, pem, servers.String()))
	p := start(t, filepath.Join(dir, "log"), nil, mustProgram(t, "haproxy"), "-db", "-f", file)
	host = fmt.Sprintf("localhost:%d", port)
	client := &http.Client{Transport: newTransport()}
	eventually(t, "haproxy answers", 20*time.Second, func() error {
		if err := p.gone(); err != nil {
			return err
		}
		r, err := client.Get("https://" + host + "/v2/")
		if err != nil {
			return err
		}
		r.Body.Close()
		if r.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("/v2/: %s", r.Status)
		}
		return nil
	})
	return host
}

// balanced are two instances that share a Redis and a token key, in front of
// one registry, behind haproxy.
func balanced(t testing.TB, more string) (f fleet, host string) {
	t.Helper()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	f = behindPlain(t, 2, u, teamRules+startRedis(t).config("")+more)
	return f, startHAProxy(t, f)
}

// uploads are the requests of pushes that the instance answered, by method.
var uploads = regexp.MustCompile(`"method":"(POST|PATCH|PUT)","path":"[^"]*/blobs/uploads/[^"]*"`)

func TestAPushAndAPullGoThroughBothInstances(t *testing.T) {
	t.Parallel()
	f, host := balanced(t, "")
	for _, k := range []clientKind{kindNamed("docker"), kindNamed("skopeo"), kindNamed("crane"), kindNamed("podman"), kindNamed("regctl"), kindNamed("ctr")} {
		t.Run(k.name, func(t *testing.T) {
			c := k.new(t, host)
			ref := host + "/coolteam/large-" + k.name + ":1"
			c.login(t, "ann", passwords["ann"]).works(t)
			c.push(t, ref, image(t, 48<<20)).works(t)
			c.pull(t, ref).works(t)
		})
	}
	for i, g := range f {
		methods := map[string]int{}
		for _, m := range uploads.FindAllStringSubmatch(g.accessLog(t), -1) {
			methods[m[1]]++
		}
		if methods["POST"] == 0 || methods["PATCH"] == 0 || methods["PUT"] == 0 {
			t.Errorf("instance %d answered of uploads: %v; was it balanced request by request?", i, methods)
		}
		t.Logf("instance %d answered of uploads: %v", i, methods)
	}
}

// pushing is a push on its way over a slow line.
type pushing struct {
	ref  string
	img  v1.Image
	done chan outcome
}

func startPush(t testing.TB, k clientKind, host, name string) (client, pushing) {
	t.Helper()
	c := k.new(t, host)
	c.login(t, "ann", passwords["ann"]).works(t)
	p := pushing{ref: host + "/coolteam/" + name + ":1", img: image(t, 24<<20), done: make(chan outcome, 1)}
	go func() { p.done <- c.push(t, p.ref, p.img) }()
	return c, p
}

// takingIn waits until a layer is on its way, and gives the instance that it
// goes through: haproxy and the client's order decide which.
func (f fleet) takingIn(t testing.TB) (busy *regward) {
	t.Helper()
	eventually(t, "a layer is on its way", time.Minute, func() error {
		for _, g := range f {
			for looks := 0; looks < 2; looks++ { // what is there twice is no small request
				n, err := g.metric("regward_requests_in_flight")
				if err != nil {
					return err
				}
				if n == "0" {
					break
				}
				if looks > 0 {
					busy = g
					return nil
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		return errors.New("none is")
	})
	return busy
}

// again is a restart, as an operator's or a crash.
func (g *regward) again(t testing.TB, crash bool) {
	t.Helper()
	if crash {
		g.proc.kill()
	} else if err := g.proc.stop(); err != nil {
		t.Fatal(err)
	}
	g.serve(t)
}

// One instance is restarted in the middle of pushes. An operator's restart
// waits for what is under way. What a crash breaks off docker sends again by
// itself; skopeo and crane do not repeat what they sent half of, so their user
// has to push once more, and nothing is in the way of that.
func TestAnInstanceIsRestartedInTheMiddleOfPushes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		client       string
		crash, again bool
	}{
		{"docker", false, false}, {"skopeo", false, false}, {"crane", false, false},
		{"docker", true, false}, {"skopeo", true, true}, {"crane", true, true},
	} {
		name := tt.client + " through a restart"
		if tt.crash {
			name = tt.client + " through a crash"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, host := balanced(t, "shutdown_delay: 2s\n")
			slow := throttle(t, strings.Replace(host, "localhost", "127.0.0.1", 1), 8<<20)
			c, p := startPush(t, kindNamed(tt.client), slow, "restarted")
			f.takingIn(t).again(t, tt.crash)
			o := <-p.done
			if o.err != nil && tt.again {
				t.Logf("%s: %v\n%s", name, o.err, tail(o.out, 3))
				o = c.push(t, p.ref, p.img)
			}
			o.works(t)
			c.pull(t, p.ref).works(t)
		})
	}
}
