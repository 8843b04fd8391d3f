package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manager is what a service sees of systemd: a socket to tell it things by.
type manager struct {
	path string
	mu   sync.Mutex
	told []string
}

func startManager(t testing.TB) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify")}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.told = append(m.told, string(b[:n]))
			m.mu.Unlock()
		}
	}()
	return m
}

// hears waits for a message, after the first of those before, that has all of the
// words in it.
func (m *manager) hears(t testing.TB, after int, words ...string) (next int) {
	t.Helper()
	eventually(t, "systemd is told "+strings.Join(words, " "), 30*time.Second, func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i := after; i < len(m.told); i++ {
			all := true
			for _, w := range words {
				all = all && strings.Contains(m.told[i], w)
			}
			if all {
				next = i + 1
				return nil
			}
		}
		return fmt.Errorf("it was told %q", m.told)
	})
	return next
}

// activated starts regward as systemd does that listens in its place. Its own
// listening address becomes that of the socket called https.
func (g *regward) activated(t testing.TB, policy string, fdnames string, listen []string, env ...string) {
	t.Helper()
	_, port, _ := strings.Cut(g.host, ":")
	own := fmt.Sprintf(`listen: "127.0.0.1:%s"`, port)
	if !strings.Contains(g.frame, own) {
		t.Fatalf("no such line: %s", own)
	}
	g.frame = strings.Replace(g.frame, own, `listen: "systemd:https"`, 1)
	g.configure(t, policy)
	argv := []string{mustProgram(t, "systemd-socket-activate"), "--fdname=" + fdnames, "--setenv=PATH", "--setenv=NOTIFY_SOCKET", "--setenv=WATCHDOG_USEC"}
	for _, l := range append([]string{"127.0.0.1:" + port}, listen...) {
		argv = append(argv, "--listen="+l)
	}
	g.proc = start(t, filepath.Join(g.dir, "regward.log"), env, append(argv, suite.regward, "--config", g.file, "serve")...)
	// It starts the program when somebody comes, and who comes waits.
	eventually(t, "somebody waits for regward", 30*time.Second, func() error {
		if err := g.proc.gone(); err != nil {
			return err
		}
		r, err := g.client.Get("https://" + g.host + "/v2/")
		if err != nil {
			return err
		}
		r.Body.Close()
		return nil
	})
}

func TestSocketsOfSystemd(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	g := newRegward(t, u.config)
	more, plain, left := freePort(t), freePort(t), freePort(t)
	g.frame = strings.Replace(g.frame, "tls: {", `tls: {http_listen: "systemd:http", `, 1)
	m := startManager(t)
	g.activated(t, teamRules, "https:https:http:spare", []string{
		fmt.Sprintf("127.0.0.1:%d", more), fmt.Sprintf("127.0.0.1:%d", plain), fmt.Sprintf("127.0.0.1:%d", left),
	}, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=400000")

	heard := m.hears(t, 0, "READY=1", "STATUS=serving, configuration ")
	m.hears(t, 0, "WATCHDOG=1")
	for _, port := range []string{g.host, fmt.Sprintf("localhost:%d", more)} {
		r, err := g.client.Get("https://" + port + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s", port, r.Status)
		}
	}
	r, err := g.client.Get(fmt.Sprintf("http://localhost:%d/v2/", plain))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if got, want := r.Header.Get("Location"), "https://"+g.host+"/v2/"; got != want {
		t.Errorf("plain http goes to %q, want %q", got, want)
	}
	if out := g.proc.output(); strings.Count(out, "systemd passed the socket spare, and nothing in the configuration listens on it") != 1 {
		t.Errorf("nothing is said of the socket that nobody uses:\n%s", out)
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", left)); err == nil {
		c.Close()
		t.Error("whoever connects to the unused socket waits for ever")
	}

	g.reload(t)
	heard = m.hears(t, heard, "RELOADING=1", "MONOTONIC_USEC=")
	heard = m.hears(t, heard, "READY=1")
	g.configure(t, teamRules+"rulez: 1\n")
	heard = m.hears(t, heard, "RELOADING=1")
	heard = m.hears(t, heard, "READY=1", "was not loaded")
	g.configure(t, teamRules)
	heard = m.hears(t, heard, "READY=1")

	// The new process inherits what systemd passed, and is the service then.
	g.proc.signal(t, syscall.SIGUSR2)
	heard = m.hears(t, heard, "MAINPID=")
	up := &upgrades{regward: g}
	up.upgraded(t)
	t.Cleanup(func() { up.end(t) })
	heard = m.hears(t, heard, "WATCHDOG=1")
	token := g.token(t, "", "repository:library/hello:pull")
	g.send(t, "GET", "/v2/library/hello/manifests/1", token, nil).is(t, 200)
	up.signal(t, syscall.SIGTERM)
	m.hears(t, heard, "STOPPING=1")
}

// A plain restart refuses nobody where systemd listens: who comes meanwhile
// waits.
func TestARestartBehindASocketOfSystemdRefusesNobody(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	u.has(t, "library/hello:1", small(t))
	g := newRegward(t, u.config)
	_, port, _ := strings.Cut(g.host, ":")
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	g.frame = strings.Replace(g.frame, fmt.Sprintf(`listen: "127.0.0.1:%s"`, port), `listen: "systemd:https"`, 1)
	g.configure(t, teamRules)
	again := func() {
		t.Helper()
		g.proc = startWith(t, filepath.Join(g.dir, "regward.log"), []*os.File{socket}, asSystemd(g)...)
		eventually(t, "regward is ready", 30*time.Second, func() error { return errors.Join(g.proc.gone(), g.ready()) })
	}
	again()
	tr := newTraffic(t)
	const clients = 4
	for i := range clients {
		c := newCaller(g, "HTTP/1.1", true)
		tr.client(fmt.Sprint("knock ", i), func(ctx context.Context) error {
			_, err := c.must(ctx, http.MethodGet, "/v2/", "", nil, http.StatusUnauthorized)
			return err
		})
	}
	for range 3 {
		before := tr.least(clients)
		eventually(t, "everybody was answered", time.Minute, func() error {
			if tr.least(clients) <= before {
				return errors.New("not yet")
			}
			return nil
		})
		if err := g.proc.stop(); err != nil {
			t.Fatal(err)
		}
		again()
	}
	tr.stop()
	tr.report(t)
}

// Without its socket regward says which one is missing, and what there is.
func TestASocketThatSystemdDidNotPass(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	g := newRegward(t, u.config)
	_, port, _ := strings.Cut(g.host, ":")
	g.frame = strings.Replace(g.frame, fmt.Sprintf(`listen: "127.0.0.1:%s"`, port), `listen: "systemd:https"`, 1)
	g.configure(t, teamRules)
	command(t, nil, suite.regward, "--config", g.file, "serve").
		fails(t, "listen: systemd:https: there is no socket of that name; systemd passed no sockets", "FileDescriptorName=https")
	p := start(t, filepath.Join(g.dir, "activate.log"), nil, mustProgram(t, "systemd-socket-activate"),
		"--fdname=registry", "--listen=127.0.0.1:"+port, suite.regward, "--config", g.file, "serve")
	eventually(t, "it says what was passed", 30*time.Second, func() error {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil { // it starts with the first who comes
			_, _ = io.WriteString(c, "\n")
			c.Close()
		}
		if !strings.Contains(p.output(), "listen: systemd:https: there is no socket of that name; systemd passed registry. A socket's name is what its unit says: FileDescriptorName=https") {
			return errors.New(p.output())
		}
		return nil
	})
}

// Without TLS a socket that others can reach is refused, as an address is. The
// one of this test is bound and does not listen.
func TestASocketOfSystemdWithoutTLS(t *testing.T) {
	t.Parallel()
	u := startUpstream(t, distribution)
	for _, tt := range []struct {
		address [4]byte
		refused bool
	}{{[4]byte{}, true}, {[4]byte{127, 0, 0, 1}, false}} {
		g := newRegward(t, u.config)
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		socket := os.NewFile(uintptr(fd), "socket")
		defer socket.Close()
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: tt.address}); err != nil {
			t.Fatal(err)
		}
		if !tt.refused {
			if err := syscall.Listen(fd, 16); err != nil {
				t.Fatal(err)
			}
		}
		_, port, _ := strings.Cut(g.host, ":")
		g.frame = strings.NewReplacer(fmt.Sprintf(`listen: "127.0.0.1:%s"`, port), `listen: "systemd:https"`,
			fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", suite.certs.certFile, suite.certs.keyFile), "tls: {mode: \"off\"}\n").Replace(g.frame)
		g.configure(t, teamRules)
		p := startWith(t, filepath.Join(g.dir, "regward.log"), []*os.File{socket}, asSystemd(g)...)
		eventually(t, "it serves, or says why not", 30*time.Second, func() error {
			out := p.output()
			if refused := strings.Contains(out, "tls.mode: off, while a socket of systemd's can be reached from other machines"); refused && tt.refused || !tt.refused && g.ready() == nil {
				return nil
			}
			return errors.New(tail(out, 5))
		})
	}
}

// asSystemd starts regward with one socket, called https. LISTEN_PID is the
// shell's, and so that of the program it becomes.
func asSystemd(g *regward) []string {
	return []string{"/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=https exec "$0" "$@"`, suite.regward, "--config", g.file, "serve"}
}

// The units are what systemd understands.
func TestTheUnitsAreValid(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"regward.service", "regward.socket"} {
		replaceFile(t, filepath.Join(dir, name), strings.ReplaceAll(readFile(t, filepath.Join("..", "deploy", name)), "/usr/bin/regward", suite.regward))
	}
	o := command(t, nil, mustProgram(t, "systemd-analyze"), "verify", "--man=no", filepath.Join(dir, "regward.service"), filepath.Join(dir, "regward.socket")).works(t)
	if strings.Contains(o.out, dir) || strings.Contains(o.out, "regward.") {
		t.Errorf("systemd says:\n%s", o.out)
	}
}

// startWith is start with open files for the program, from 3 on.
func startWith(t testing.TB, log string, files []*os.File, argv ...string) *process {
	t.Helper()
	p, err := launchWith(log, nil, files, argv...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("last words of %s:\n%s", p.name, tail(p.output(), 20))
		}
	})
	return p
}
