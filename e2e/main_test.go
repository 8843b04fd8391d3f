package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// suite is what all tests share: the built program and the two daemons that
// take too long to start for each test.
var suite struct {
	dir     string // gone after the run
	regward string // the built program
	certs   *authority
	world   *world // of a test that runs inside, else nil

	docker     func() (*dockerDaemon, error)
	containerd func() (*containerDaemon, error)

	mu      sync.Mutex
	running []*process // shared daemons, ended after the last test
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run is TestMain with defers.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "regward-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)

	suite.dir = dir
	suite.docker = sync.OnceValues(startDocker)
	suite.containerd = sync.OnceValues(startContainerd)
	defer endShared()

	if suite.certs, err = newAuthority(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if suite.regward, err = buildRegward(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Most tests wait for clocks and other processes, not for a processor.
	if f := flag.Lookup("test.parallel"); f != nil && !given("test.parallel") {
		_ = f.Value.Set("8")
	}
	return m.Run()
}

// given reports whether the flag was on the command line. go test passes
// -test.timeout and the like, but -test.parallel only when asked to.
func given(name string) bool {
	found := false
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// buildRegward builds the program with the race detector in it. A run without
// (REGWARD_RACE=0) is for looking at speed.
func buildRegward(dir string) (string, error) {
	if built := os.Getenv(builtEnv); built != "" { // by the run that started this one
		return built, nil
	}
	program := filepath.Join(dir, "regward")
	args := []string{"build", "-o", program}
	if os.Getenv("REGWARD_RACE") != "0" {
		args = append(args, "-race")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", append(args, "./cmd/regward")...)
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/regward: %w\n%s", err, out)
	}
	return program, nil
}

// program finds a program the tests start. One that is missing fails the test
// and names the cure.
func program(name string) (string, error) {
	own, err := filepath.Abs(filepath.Join(".tools", "bin", name))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(own); err == nil {
		return own, nil
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s is not installed; run: scripts/install-test-tools", name)
	}
	return found, nil
}

func mustProgram(t testing.TB, name string) string {
	t.Helper()
	p, err := program(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// share keeps p until the last test is over.
func share(p *process) {
	suite.mu.Lock()
	defer suite.mu.Unlock()
	suite.running = append(suite.running, p)
}

func endShared() {
	suite.mu.Lock()
	defer suite.mu.Unlock()
	for _, p := range suite.running {
		if err := p.stop(); err != nil && !errors.Is(err, errKilled) {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}
