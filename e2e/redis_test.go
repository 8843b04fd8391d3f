package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// redisPassword is what a Redis of the tests wants to hear.
const redisPassword = "redis-secret"

// redisServer is a Redis, or a sentinel, of one test.
type redisServer struct {
	at   string // host:port
	log  string
	argv []string
	proc *process
}

// startRedis starts one on loopback that keeps nothing on disk; more are
// options of redis-server.
func startRedis(t testing.TB, more ...string) *redisServer {
	t.Helper()
	return newRedisServer(t, "127.0.0.1", freePort(t), more...).launch(t)
}

func newRedisServer(t testing.TB, address string, port int, more ...string) *redisServer {
	t.Helper()
	dir := t.TempDir()
	r := &redisServer{at: fmt.Sprintf("%s:%d", address, port), log: filepath.Join(dir, "log")}
	r.argv = append([]string{mustProgram(t, "redis-server"), "--bind", address, "--port", fmt.Sprint(port),
		"--dir", dir, "--save", "", "--appendonly", "no", "--requirepass", redisPassword, "--masterauth", redisPassword}, more...)
	return r
}

// launch starts it, or starts it again after it was killed.
func (r *redisServer) launch(t testing.TB) *redisServer {
	t.Helper()
	r.proc = start(t, r.log, nil, r.argv...)
	return r.ready(t)
}

func (r *redisServer) ready(t testing.TB) *redisServer {
	t.Helper()
	eventually(t, "redis-server is ready", 20*time.Second, func() error {
		if err := r.proc.gone(); err != nil {
			return err
		}
		said := strings.ToLower(r.proc.output())
		if !strings.Contains(said, "ready to accept connections") && !strings.Contains(said, "monitor master") {
			return errors.New("it does not say so")
		}
		return nil
	})
	return r
}

// config is the lines of regward's file; more are further ones, with commas. A
// Redis that is there is given all the time there is: an instance that a busy
// machine lets wait too long would count by itself.
func (r *redisServer) config(more string) string {
	if !strings.Contains(more, "timeout: ") {
		more = strings.TrimSuffix("timeout: 5s, "+more, ", ")
	}
	return fmt.Sprintf("redis: {addresses: %q, password: %q, %s}\n", r.at, redisPassword, more)
}

// pullsFrom starts n instances in front of one registry, with a limit of 10
// pulls for all of everybody and lines of the test's own.
func pullsFrom(t testing.TB, n int, lines string) fleet {
	t.Helper()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	return startFleet(t, n, u, teamRules+lines+`
limits:
  - {name: anonymous, subjects: anonymous, count: pulls, rate: 10/1d, per: ip}
`)
}

// fleet are instances with one token key.
type fleet []*regward

// sharedKey is the line that makes instances take each other's tokens.
func sharedKey() string { return fmt.Sprintf("token: {key_file: %q}\n", suite.certs.keyFile) }

func startFleet(t testing.TB, n int, u *upstream, policy string) fleet {
	t.Helper()
	return newFleet(t, n, u, policy, func(*regward) {})
}

// newFleet starts them with the same logins, to the letter: a token is bound to
// the line that proved its user. change is for what comes before the policy.
func newFleet(t testing.TB, n int, u *upstream, policy string, change func(g *regward)) (f fleet) {
	t.Helper()
	for range n {
		g := newRegward(t, u.config)
		if len(f) > 0 {
			g.setLogins(t, fmt.Sprintf("auth: {htpasswd: %q}\n", f[0].passwd))
		}
		change(g)
		g.configure(t, policy+sharedKey())
		g.serve(t)
		f = append(f, g)
	}
	return f
}

// pull asks for a manifest once and says how that ended and how long it took.
func (g *regward) pull(t testing.TB, token string) (status int, took time.Duration) {
	t.Helper()
	begin := time.Now()
	a := g.send(t, http.MethodGet, "/v2/library/hello/manifests/1", token, nil)
	return a.StatusCode, time.Since(begin)
}

// pulls asks the instances in turn, each for the next, and counts the statuses.
func (f fleet) pulls(t testing.TB, n int) map[int]int {
	t.Helper()
	token := f[0].token(t, "", "repository:library/hello:pull")
	got := map[int]int{}
	for i := range n {
		status, _ := f[i%len(f)].pull(t, token)
		got[status]++
	}
	return got
}

// gives demands statuses.
func gives(t testing.TB, got, want map[int]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("statuses: %v, want %v", got, want)
	}
}

func TestInstancesWithOneRedisCountAsOne(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(shortDir(t), "redis.sock")
	for name, redis := range map[string]string{
		"a port":   startRedis(t).config(""),
		"a socket": (&redisServer{at: "unix:" + startRedisAt(t, socket)}).config(""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gives(t, pullsFrom(t, 3, redis).pulls(t, 24), map[int]int{200: 10, 429: 14})
		})
	}
}

func startRedisAt(t testing.TB, socket string) string {
	t.Helper()
	startRedis(t, "--port", "0", "--unixsocket", socket)
	return socket
}

// shortDir is for sockets, whose paths are 100 bytes at most.
func shortDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(suite.dir, fmt.Sprint(freePort(t)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// guess is a login with a wrong password, unlike all before.
func (g *regward) guess(t testing.TB, user string, n int) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "https://"+g.host+"/token?service=localhost", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(user, fmt.Sprint("guess ", n))
	response, err := g.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func TestGuessesAtSeveralInstancesCountTogether(t *testing.T) {
	t.Parallel()
	f := pullsFrom(t, 2, startRedis(t).config(""))
	got := map[int]int{}
	for i := range 14 {
		got[f[i%2].guess(t, "dave", i)]++
	}
	gives(t, got, map[int]int{401: 10, 429: 4})
	f[0].token(t, "bob") // nobody else
}

// outages are the ways Redis goes, and comes back.
var outages = []struct {
	name      string
	out, back func(t testing.TB, r *redisServer)
}{
	{"killed",
		func(_ testing.TB, r *redisServer) { r.proc.kill() },
		func(t testing.TB, r *redisServer) { r.launch(t) }},
	{"paused",
		func(t testing.TB, r *redisServer) { r.proc.signal(t, syscall.SIGSTOP) },
		func(t testing.TB, r *redisServer) { r.proc.signal(t, syscall.SIGCONT) }},
}

// While Redis is gone each instance does what redis.on_error promises, keeps
// nobody waiting, says what is wrong, and comes back by itself.
func TestWhatIsPromisedForARedisThatIsGone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		onError string
		want    map[int]int // of 24 pulls at two instances
	}{
		{"local", map[int]int{200: 20, 429: 4}}, // each its own ten
		{"allow", map[int]int{200: 24}},
		{"deny", map[int]int{503: 24}},
	} {
		for _, outage := range outages {
			t.Run(tt.onError+" while "+outage.name, func(t *testing.T) {
				t.Parallel()
				r := startRedis(t)
				f := pullsFrom(t, 2, r.config("timeout: 1s, on_error: "+tt.onError))
				outage.out(t, r)
				t.Cleanup(func() { _ = r.proc.cmd.Process.Signal(syscall.SIGCONT) })
				gives(t, f.pulls(t, 24), tt.want)
				for _, g := range f {
					g.saysRedisIsGone(t)
				}
				outage.back(t, r)
				for _, g := range f {
					g.findsRedisAgain(t)
				}
				// A paused Redis counts afterwards what it was asked before the instances
				// gave up: one pull of each.
				late := 0
				if outage.name == "paused" {
					late = len(f)
				}
				if got := f.pulls(t, 12); got[200] > 10 || got[200] < 10-late || got[200]+got[429] != 12 {
					t.Errorf("statuses afterwards: %v, want 10 pulls, or up to %d less", got, late)
				}
			})
		}
	}
}

// readyz is the body of an answer that must be 200.
func (g *regward) readyz(t testing.TB) string {
	t.Helper()
	r, err := http.Get(g.health + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Errorf("/readyz answers %s: no balancer may take an instance out for Redis", r.Status)
	}
	return readAll(t, r.Body)
}

func (g *regward) saysRedisIsGone(t testing.TB) {
	t.Helper()
	eventually(t, "the metric says that Redis is gone", 10*time.Second, g.redisUp("0"))
	if body := g.readyz(t); !strings.Contains(strings.ToLower(body), "redis") {
		t.Errorf("/readyz says nothing of Redis: %s", body)
	}
	eventually(t, "status says what is not shared", 20*time.Second, func() error { // instances hear of each other every 5 s
		said := command(t, nil, suite.regward, "--config", g.file, "status").works(t)
		if !strings.Contains(said.out, "redis: limits cannot be asked") || !strings.Contains(said.out, "revocations not shared since") {
			return errors.New(said.out)
		}
		if strings.Contains(said.out+g.proc.output(), redisPassword) {
			t.Error("the password of Redis is shown")
		}
		return nil
	})
	if n := strings.Count(strings.ToLower(g.proc.output()), "redis"); n == 0 || n > 40 {
		t.Errorf("%d lines of the log are about Redis:\n%s", n, tail(g.proc.output(), 40))
	}
}

// findsRedisAgain looks while nobody asks for anything.
func (g *regward) findsRedisAgain(t testing.TB) {
	t.Helper()
	eventually(t, "Redis is found again", 20*time.Second, g.redisUp("1"))
	eventually(t, "/readyz speaks of Redis no more", 20*time.Second, func() error {
		if body := g.readyz(t); strings.Contains(strings.ToLower(body), "redis") {
			return errors.New(body)
		}
		return nil
	})
}

func (g *regward) redisUp(want string) func() error {
	return func() error {
		got, err := g.metric("regward_redis_up")
		if err == nil && got != want {
			err = fmt.Errorf("regward_redis_up is %s", got)
		}
		return err
	}
}

// load is pulls from many clients at once until end is closed.
type load struct {
	mu      sync.Mutex
	slowest time.Duration
	got     map[int]int
}

func (l *load) run(t testing.TB, f fleet, clients int, end <-chan struct{}) (wait func()) {
	t.Helper()
	l.got = map[int]int{}
	token := f[0].token(t, "", "repository:library/hello:pull")
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				status, took := f[i%len(f)].pull(t, token)
				l.mu.Lock()
				l.got[status]++
				l.slowest = max(l.slowest, took)
				l.mu.Unlock()
			}
		})
	}
	return all.Wait
}

// Redis goes and comes under load: nobody waits longer than redis.timeout and
// what a busy machine adds, and nothing but what on_error promises is answered.
func TestUnderLoadARedisThatGoesCostsNobodyHisTime(t *testing.T) {
	for _, outage := range append(outages, struct {
		name      string
		out, back func(t testing.TB, r *redisServer)
	}{"cut off", func(t testing.TB, r *redisServer) { r.cut(t) }, func(testing.TB, *redisServer) {}}) {
		t.Run(outage.name, func(t *testing.T) {
			r := startRedis(t)
			f := pullsFrom(t, 2, r.config("timeout: 100ms"))
			end := make(chan struct{})
			var l load
			wait := l.run(t, f, 8, end)
			for range 3 {
				time.Sleep(500 * time.Millisecond) // of load
				outage.out(t, r)
				time.Sleep(500 * time.Millisecond)
				outage.back(t, r)
			}
			close(end)
			wait()
			for status := range l.got {
				if status != 200 && status != 429 {
					t.Errorf("answered: %v", l.got)
				}
			}
			if l.got[200] < 10 || l.got[429] == 0 {
				t.Errorf("answered: %v", l.got)
			}
			if l.slowest > 100*time.Millisecond+4*time.Second {
				t.Errorf("one waited for %v", l.slowest)
			}
			t.Logf("Redis %s three times under load: %v, the slowest took %v", outage.name, l.got, l.slowest)
			for _, g := range f {
				g.findsRedisAgain(t)
			}
		})
	}
}

// cut ends every connection to it, as a firewall does.
func (r *redisServer) cut(t testing.TB) {
	t.Helper()
	host, port, err := net.SplitHostPort(r.at)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"normal", "pubsub"} {
		command(t, []string{"REDISCLI_AUTH=" + redisPassword}, mustProgram(t, "redis-cli"), "-h", host, "-p", port,
			"client", "kill", "type", kind).works(t)
	}
}

// tlsOptions make a Redis speak nothing but TLS at the port it has.
func tlsOptions(port int) []string {
	return []string{"--port", "0", "--tls-port", fmt.Sprint(port), "--tls-cert-file", suite.certs.certFile, "--tls-key-file", suite.certs.keyFile,
		"--tls-ca-cert-file", suite.certs.caFile, "--tls-auth-clients", "no"}
}

func TestRedisWithTLS(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	r := newRedisServer(t, "127.0.0.1", port, tlsOptions(port)...).launch(t)
	f := pullsFrom(t, 2, r.config(fmt.Sprintf("tls: true, ca_file: %q", suite.certs.caFile)))
	gives(t, f.pulls(t, 12), map[int]int{200: 10, 429: 2})
}

// The master dies, a replica takes its place, and the instances find it.
func TestRedisWithASentinel(t *testing.T) {
	t.Parallel()
	master := startRedis(t)
	_, port, _ := strings.Cut(master.at, ":")
	replica := startRedis(t, "--replicaof", "127.0.0.1", port)
	eventually(t, "the replica has what the master has", 30*time.Second, func() error {
		if !strings.Contains(replica.proc.output(), "Finished with success") {
			return errors.New("not yet")
		}
		return nil
	})
	sentinelPort, file := freePort(t), filepath.Join(t.TempDir(), "sentinel.conf")
	replaceFile(t, file, fmt.Sprintf(`bind 127.0.0.1
port %d
dir %q
sentinel monitor mymaster 127.0.0.1 %s 1
sentinel auth-pass mymaster %s
sentinel down-after-milliseconds mymaster 1000
sentinel failover-timeout mymaster 5000
`, sentinelPort, filepath.Dir(file), port, redisPassword))
	sentinel := &redisServer{at: fmt.Sprintf("127.0.0.1:%d", sentinelPort), log: file + ".log", argv: []string{mustProgram(t, "redis-sentinel"), file}}
	sentinel.launch(t)
	eventually(t, "the sentinel knows the replica", 30*time.Second, func() error {
		if !strings.Contains(sentinel.proc.output(), "+slave") {
			return errors.New("it does not")
		}
		return nil
	})
	f := pullsFrom(t, 2, sentinel.config("mode: sentinel, master_name: mymaster, on_error: deny"))
	gives(t, f.pulls(t, 6), map[int]int{200: 6})
	killed := time.Now()
	master.proc.kill()
	token := f[0].token(t, "", "repository:library/hello:pull")
	for _, g := range f {
		eventually(t, "the new master is asked", time.Minute, func() error {
			if status, _ := g.pull(t, token); status == http.StatusServiceUnavailable {
				return errors.New("not yet")
			}
			return nil
		})
	}
	t.Logf("the replica is asked %v after the master was killed", time.Since(killed).Round(100*time.Millisecond))
	if got := f.pulls(t, 12); got[200] > 4 || got[429] < 8 || got[503] > 0 { // what the replica knew is still spent
		t.Errorf("after the fail-over: %v", got)
	}
}

// cluster starts three nodes with all slots between them.
func cluster(t testing.TB) (nodes []string) {
	t.Helper()
	for range 3 {
		// The bus has the port 10000 above, unless told otherwise.
		nodes = append(nodes, startRedis(t, "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(freePort(t))).at)
	}
	join(t, "", nodes)
	return nodes
}

// join makes nodes a cluster; more are options of redis-cli.
func join(t testing.TB, more string, nodes []string) {
	t.Helper()
	args := append([]string{mustProgram(t, "redis-cli")}, strings.Fields(more)...)
	args = append(append(args, "--cluster", "create"), nodes...)
	command(t, []string{"REDISCLI_AUTH=" + redisPassword}, append(args, "--cluster-yes")...).works(t).says(t, "[OK] All 16384 slots covered")
	for _, node := range nodes { // each finds out for itself, a little later
		host, port, _ := strings.Cut(node, ":")
		info := slices.Concat([]string{mustProgram(t, "redis-cli")}, strings.Fields(more), []string{"-h", host, "-p", port, "cluster", "info"})
		eventually(t, "the cluster is whole at "+node, 30*time.Second, func() error {
			if o := command(t, []string{"REDISCLI_AUTH=" + redisPassword}, info...); !strings.Contains(o.out, "cluster_state:ok") {
				return errors.New(o.out)
			}
			return nil
		})
	}
}

func TestRedisAsACluster(t *testing.T) {
	t.Parallel()
	nodes := strings.Join(cluster(t), ", ")
	f := pullsFrom(t, 2, fmt.Sprintf("redis: {addresses: [%s], mode: cluster, timeout: 5s, password: %q}\n", nodes, redisPassword))
	gives(t, f.pulls(t, 12), map[int]int{200: 10, 429: 2})
}
