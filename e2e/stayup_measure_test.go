package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What is measured is the program as it is released: the race detector makes
// memory and time several times as much. Tests that measure are not parallel,
// so that they have the machine to themselves.

// measured has g run the program without the race detector.
func (g *regward) measured(t testing.TB) *regward {
	t.Helper()
	g.program = filepath.Join(suite.dir, "regward-measured")
	if _, err := os.Stat(g.program); err != nil {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", g.program, "./cmd/regward")
		build.Dir = ".."
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build ./cmd/regward: %v\n%s", err, out)
		}
	}
	return g
}

// startMeasured is startRegward for the program without the race detector.
func startMeasured(t testing.TB, u *upstream, policy string) *regward {
	t.Helper()
	g := newRegward(t, u.config).measured(t)
	g.configure(t, policy)
	g.serve(t)
	return g
}

// resident is what the process holds now, in bytes.
func (g *regward) resident(t testing.TB) int64 {
	t.Helper()
	fields := strings.Fields(readFile(t, fmt.Sprintf("/proc/%d/statm", g.proc.cmd.Process.Pid)))
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// settled is resident once it has stopped falling: what a burst left behind is
// given back.
func (g *regward) settled(t testing.TB) int64 {
	t.Helper()
	least := g.resident(t)
	for still := 0; still < 4; still++ {
		time.Sleep(500 * time.Millisecond)
		if now := g.resident(t); now < least-least/100 {
			least, still = now, -1
		}
	}
	return least
}

// cpu is the processor time that the process has used.
func (g *regward) cpu(t testing.TB) time.Duration {
	t.Helper()
	text := readFile(t, fmt.Sprintf("/proc/%d/stat", g.proc.cmd.Process.Pid))
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// number is a metric without labels as a number.
func (g *regward) number(t testing.TB, name string) float64 {
	t.Helper()
	text, err := g.metric(name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// mayOpen lets this process and those it starts have n files open.
func mayOpen(t testing.TB, n uint64) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if old.Cur >= n {
		return
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: max(n, old.Max)}); err != nil {
		t.Fatalf("%d open files: %v", n, err)
	}
}

// from is a transport whose connections come from an address of loopback.
func from(n int) *http.Transport {
	transport := newTransport()
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: loopback(n)}}).DialContext
	return transport
}

// loopback is the nth address there, from 127.1.0.1 on.
func loopback(n int) net.IP {
	return net.IPv4(127, byte(1+n/62500%200), byte(n/250%250), byte(1+n%250))
}

// percentile of durations; p is of 100.
func percentile(all []time.Duration, p int) time.Duration {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*p/100)]
}

func cores() int { return runtime.NumCPU() }
