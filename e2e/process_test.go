package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// errEnded reports a process that was waited for and is gone.
var errEnded = errors.New("the process has ended")

// errKilled reports a process that did not end when it was asked to.
var errKilled = errors.New("killed: it did not end by itself")

// process is one that a test started, and the only kind it ever ends: by its
// id, with the group of processes it made.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string // file with its output
	done chan struct{}
	err  error // of Wait, once done is closed
}

// launch starts a program with its output in the file log.
func launch(log string, env []string, argv ...string) (*process, error) {
	return launchWith(log, env, nil, argv...)
}

// launchWith is launch with open files for the program, from 3 on.
func launchWith(log string, env []string, files []*os.File, argv ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	p := &process{name: argv[0], log: log, done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.ExtraFiles = files
	// A test binary that panics or is killed cleans nothing up; its children
	// are told by the kernel.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// start is launch for one test: the process ends with it, and its last words
// are printed when the test fails.
func start(t testing.TB, log string, env []string, argv ...string) *process {
	t.Helper()
	p, err := launch(log, env, argv...)
	if err != nil {
		t.Fatalf("start %s: %v", argv[0], err)
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

// ended reports whether the process is over.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends a signal to the process alone.
func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %v to %s: %v", s, p.name, err)
	}
}

// stop asks the process to end, and after a minute kills it and its group.
func (p *process) stop() error {
	if p.ended() {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(time.Minute): // more than any test's transfer takes on a busy machine
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT) // a Go program tells what it waits for
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
	}
	p.kill()
	return fmt.Errorf("%s: %w", p.name, errKilled)
}

// kill ends the process and its group at once.
func (p *process) kill() {
	if !p.ended() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// gone is errEnded with the process's last words once it is over.
func (p *process) gone() error {
	if !p.ended() {
		return nil
	}
	return fmt.Errorf("%s: %w: %v\n%s", p.name, errEnded, p.err, tail(p.output(), 20))
}

// output is what the process has printed so far.
func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// tail is the last lines of s, none of them longer than a reader bears.
func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	all = all[max(0, len(all)-lines):]
	for i, line := range all {
		if len(line) > 400 {
			all[i] = line[:400] + "…"
		}
	}
	return strings.Join(all, "\n")
}

// poll asks ok until it returns nil, and reports its last error when that took
// too long. It is the only way these tests wait for somebody else.
func poll(within time.Duration, ok func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := ok()
		if err == nil {
			return nil
		}
		if errors.Is(err, errEnded) {
			return err // no use waiting
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", within, err)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

func eventually(t testing.TB, what string, within time.Duration, ok func() error) {
	t.Helper()
	if err := poll(within, ok); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// nextPort is below the range the system gives out by itself, so that nobody
// but another copy of these tests wants the same one.
var nextPort atomic.Int32

// freePort is a loopback port for a program that must be told one.
func freePort(t testing.TB) int {
	t.Helper()
	nextPort.CompareAndSwap(0, int32(12000+os.Getpid()%150*100))
	for range 1000 {
		port := int(nextPort.Add(1))
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatal("no free port on loopback")
	return 0
}

// outcome is how a client's command ended and all it printed.
type outcome struct {
	command string
	out     string
	err     error
}

// command runs a client to its end, five minutes at most.
func command(t testing.TB, env []string, argv ...string) outcome {
	t.Helper()
	return commandWithInput(t, env, "", argv...)
}

func commandWithInput(t testing.TB, env []string, stdin string, argv ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return outcome{command: strings.Join(argv, " "), out: out.String(), err: err}
}

// works demands success.
func (o outcome) works(t testing.TB) outcome {
	t.Helper()
	if o.err != nil {
		t.Fatalf("%s: %v\n%s", o.command, o.err, o.out)
	}
	return o
}

// fails demands a failure that says all of words.
func (o outcome) fails(t testing.TB, words ...string) outcome {
	t.Helper()
	if o.err == nil {
		t.Fatalf("%s: succeeded, and must not\n%s", o.command, o.out)
	}
	return o.says(t, words...)
}

// says demands words in the output. Some clients print log lines, in which a
// quote is escaped.
func (o outcome) says(t testing.TB, words ...string) outcome {
	t.Helper()
	said := strings.ReplaceAll(o.out, `\"`, `"`)
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%s: does not say %q:\n%s", o.command, w, o.out)
		}
	}
	return o
}
