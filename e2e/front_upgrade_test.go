package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// upgrades is a regward whose program is replaced on the disk and by SIGUSR2.
type upgrades struct {
	*regward
	pid  int // of the process that serves now
	done int
}

// startUpgradable starts regward from a file of its own.
func startUpgradable(t testing.TB, u *upstream, policy string) *upgrades {
	t.Helper()
	g := newRegward(t, u.config)
	g.program = filepath.Join(g.dir, "regward")
	up := &upgrades{regward: g}
	up.install(t, readFile(t, suite.regward))
	g.configure(t, policy)
	g.serve(t)
	up.pid = g.proc.cmd.Process.Pid
	t.Cleanup(func() {
		if up.done > 0 {
			up.end(t)
		}
	})
	return up
}

// install puts another program in the place of the one that runs. Another process
// writes it: a file that is open here for writing may be so for a moment in what a
// test beside this one starts, and is no program then.
func (up *upgrades) install(t testing.TB, program string) {
	t.Helper()
	from := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(from, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, nil, "/bin/sh", "-c", `cp "$0" "$1.new" && mv "$1.new" "$1"`, from, up.program).works(t)
}

func (up *upgrades) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(up.pid, s); err != nil {
		t.Fatalf("signal %v to %d: %v", s, up.pid, err)
	}
}

var upgradedTo = regexp.MustCompile(`"msg":"upgraded: [^"]*","pid":(\d+)`)

// upgraded waits until another process serves.
func (up *upgrades) upgraded(t testing.TB) {
	t.Helper()
	eventually(t, "another process serves", time.Minute, func() error {
		all := upgradedTo.FindAllStringSubmatch(up.proc.output(), -1)
		if len(all) <= up.done {
			return errors.New(tail(up.proc.output(), 5))
		}
		up.done = len(all)
		up.pid, _ = strconv.Atoi(all[len(all)-1][1])
		return nil
	})
}

// says waits for words in the log, n times.
func (up *upgrades) says(t testing.TB, words string, n int) {
	t.Helper()
	eventually(t, "the log says "+words, time.Minute, func() error {
		if got := strings.Count(up.proc.output(), words); got < n {
			return fmt.Errorf("%d times:\n%s", got, tail(up.proc.output(), 5))
		}
		return nil
	})
}

// end ends the process that serves, which is no child of this one.
func (up *upgrades) end(t testing.TB) {
	t.Helper()
	_ = syscall.Kill(up.pid, syscall.SIGTERM)
	if err := poll(30*time.Second, func() error { return up.over(up.pid) }); err != nil {
		_ = syscall.Kill(up.pid, syscall.SIGKILL)
		t.Error(err)
	}
}

// over is nil when the process has ended, and is at most waited for.
func (up *upgrades) over(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		return fmt.Errorf("%d is there", pid)
	}
	return nil
}

// Whoever connects while one program takes over from another is served by one of
// them, and what is under way ends as if nothing had happened.
func TestUpgradesUnderLoadFailNothing(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	layer := medium(t, u)
	up := startUpgradable(t, u, teamRules)
	tr := newTraffic(t)
	content := [][]byte{noise(512 << 10), noise(512 << 10)}
	clients := 0
	client := func(name string, work func(context.Context) error) {
		clients++
		tr.client(name, work)
	}
	// A GOAWAY and a request may cross on their ways. A client of HTTP/2 sends it
	// again, knowing that nobody has seen it (RFC 9113, 6.8); net/http's cannot
	// where it has a body.
	crossed := func(err error) error {
		if err != nil && (strings.Contains(err.Error(), "it took 2 connections") || strings.Contains(err.Error(), "GOAWAY")) {
			return nil
		}
		return err
	}
	pulls, pushes := callers(up.regward), callers(up.regward) // a connection each
	for _, c := range pulls {
		client("pull by "+c.name, func(ctx context.Context) error {
			err := c.pull(ctx, "library/medium", layer)
			if strings.HasPrefix(c.name, "HTTP/2") {
				err = crossed(err)
			}
			return err
		})
	}
	for i, c := range pushes {
		client("push by "+c.name, func(ctx context.Context) error {
			err := c.push(ctx, fmt.Sprintf("coolteam/app%d", i), content[i%2], 10*time.Millisecond)
			if strings.HasPrefix(c.name, "HTTP/2") {
				err = crossed(err)
			}
			return err
		})
	}
	var connections atomic.Int64
	began := time.Now()
	for i := range 2 { // as many as there may be: a handshake and one small answer each
		c := newCaller(up.regward, "HTTP/1.1", true)
		client(fmt.Sprint("knock ", i), func(ctx context.Context) error {
			connections.Add(1)
			_, err := c.must(ctx, http.MethodGet, "/v2/", "", nil, http.StatusUnauthorized)
			return err
		})
		client(fmt.Sprint("probe ", i), func(ctx context.Context) error {
			connections.Add(1)
			_, err := c.must(ctx, http.MethodGet, up.health+"/readyz", "", nil, http.StatusOK)
			return err
		})
	}
	atWork := func() {
		t.Helper()
		before := tr.least(clients)
		eventually(t, "every client has done something", 2*time.Minute, func() error {
			if n := tr.least(clients); n < before+1 {
				return fmt.Errorf("the slowest has done %d", n)
			}
			return nil
		})
	}
	atWork()
	pids := []int{up.pid}
	for range 5 {
		up.install(t, readFile(t, suite.regward))
		up.signal(t, syscall.SIGUSR2)
		up.upgraded(t)
		atWork()
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", up.pid)); err != nil || exe != up.program {
			t.Errorf("what serves is %s (%v), want the file that is there now", exe, err)
		}
		pids = append(pids, up.pid)
	}
	t.Logf("%.0f new connections a second, besides those of pulls and pushes", float64(connections.Load())/time.Since(began).Seconds())
	tr.stop()
	tr.report(t)
	for _, c := range append(pulls, pushes...) { // else they keep connections that nobody uses, for a minute
		if c.http != nil {
			c.http.CloseIdleConnections()
		}
	}
	for _, pid := range pids[:len(pids)-1] {
		eventually(t, "those before have ended", 2*time.Minute, // idle connections end after one
			func() error { return up.over(pid) })
	}
	if out := up.proc.output(); strings.Contains(out, "cut off") {
		t.Errorf("transfers were cut off:\n%s", tail(out, 20))
	}
}

// A program that does not come up changes nothing, and its log says why.
func TestAnUpgradeThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	up := startUpgradable(t, u, teamRules)
	works := func() {
		t.Helper()
		token := up.token(t, "", "repository:library/hello:pull")
		up.send(t, "GET", "/v2/library/hello/manifests/1", token, nil).is(t, 200)
	}
	fails := func(n int, words ...string) {
		t.Helper()
		up.signal(t, syscall.SIGUSR2)
		up.says(t, "upgrade failed: this process goes on as before", n)
		for _, w := range words {
			up.says(t, w, 1)
		}
		works()
		if up.proc.ended() {
			t.Fatal(up.proc.gone())
		}
	}
	up.install(t, "#!/bin/sh\nexit 3\n")
	fails(1, "the new program ended before it served: exit status 3")
	up.install(t, "this is no program")
	fails(2, "exec format error")
	if err := os.Remove(up.program); err != nil {
		t.Fatal(err)
	}
	fails(3, "no such file or directory")
	up.install(t, readFile(t, suite.regward))
	up.configure(t, teamRules+"rulez: 1\n")
	fails(4, "the new program says:", "unknown key")
	up.configure(t, teamRules)

	// While one is under way there is no second, and all else goes on.
	wait := filepath.Join(up.dir, "go")
	up.install(t, fmt.Sprintf("#!/bin/sh\nwhile [ ! -e %s ]; do sleep 0.05; done\nexec %s \"$@\"\n", wait, suite.regward))
	before := up.pid
	up.signal(t, syscall.SIGUSR2)
	up.says(t, "upgrade: starting the program anew", 5)
	up.signal(t, syscall.SIGUSR2)
	up.says(t, "upgrade refused: one is under way", 1)
	up.configure(t, strings.Replace(teamRules, "user:reader", "user:writer", 1))
	up.signal(t, syscall.SIGHUP)
	up.says(t, `"configuration loaded"`, 1)
	refused, err := http.Post(up.admin+"/api/v1/revoke", "application/json", strings.NewReader(`{"user":"ann"}`))
	if err != nil {
		t.Fatal(err)
	}
	refused.Body.Close()
	if refused.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a revocation that the new process would not know of: %s", refused.Status)
	}
	works()
	replaceFile(t, wait, "")
	up.upgraded(t)
	works()
	eventually(t, "the one before has ended", time.Minute, func() error { return up.over(before) })
	works()
}

// A unix socket is handed over like any other, and stays where it is.
func TestAnUpgradeKeepsUnixSockets(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	g := newRegward(t, u.config)
	socket := filepath.Join(g.dir, "public")
	_, port, _ := strings.Cut(g.host, ":")
	g.frame = strings.Replace(g.frame, fmt.Sprintf(`listen: "127.0.0.1:%s"`, port), fmt.Sprintf(`listen: ["127.0.0.1:%s", "unix:%s"]`, port, socket), 1)
	g.program = filepath.Join(g.dir, "regward")
	up := &upgrades{regward: g}
	up.install(t, readFile(t, suite.regward))
	g.configure(t, teamRules)
	g.serve(t)
	up.pid = g.proc.cmd.Process.Pid
	t.Cleanup(func() { up.end(t) })
	answers := func() error {
		d := tls.Dialer{Config: &tls.Config{RootCAs: suite.certs.pool, ServerName: "localhost"}}
		c, err := d.Dial("unix", socket)
		if err != nil {
			return err
		}
		return c.Close()
	}
	for range 2 {
		if err := answers(); err != nil {
			t.Fatal(err)
		}
		before := up.pid
		up.signal(t, syscall.SIGUSR2)
		up.upgraded(t)
		eventually(t, "the one before has ended", time.Minute, func() error { return up.over(before) })
	}
	if err := answers(); err != nil {
		t.Fatal(err)
	}
	up.end(t)
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the last one left its socket behind: %v", err)
	}
	if c, err := net.Dial("tcp", strings.Replace(g.host, "localhost", "127.0.0.1", 1)); err == nil {
		c.Close()
		t.Error("somebody listens still")
	}
}

// Who is taken out of the files after an upgrade is out on a connection from
// before, too: it is closed at once, and not when it has been idle for a minute.
func TestAfterAnUpgradeAChangeEndsConnectionsOfBefore(t *testing.T) {
	t.Parallel()
	up := startUpgradable(t, startUpstream(t, distribution), teamRules)
	kept := newCaller(up.regward, "HTTP/1.1", false)
	if _, err := kept.must(t.Context(), http.MethodGet, "/v2/", "", nil, http.StatusUnauthorized); err != nil {
		t.Fatal(err)
	}
	before := up.pid
	up.signal(t, syscall.SIGUSR2)
	up.upgraded(t)
	if up.over(before) == nil {
		t.Fatal("the process of before did not wait for its connection")
	}
	up.configure(t, teamRules+"\n# changed\n")
	eventually(t, "the process of before closes the connection, and ends", 30*time.Second, func() error { return up.over(before) })
}
