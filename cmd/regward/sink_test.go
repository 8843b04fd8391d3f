package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/regward/regward/configs"
)

// stuck is a destination that takes nothing until it is let.
type stuck struct {
	let  chan struct{}
	mu   sync.Mutex
	text bytes.Buffer
	fail error // instead
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return 0, s.fail
	}
	return s.text.Write(p)
}

func (s *stuck) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// A pipe that nobody reads holds up no request: what there is no room for is
// dropped, counted and told, and what was kept comes out whole.
func TestABlockedPipeHoldsUpNoRequest(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "audit.pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	main := newLines()
	l := newLogs(main)
	set, err := l.open(configs.Log{Level: "info", Format: "json", Access: pipe, Audit: pipe}) // opens with no reader there
	if err != nil {
		t.Fatal(err)
	}
	l.use(set)
	t.Cleanup(l.close)
	long := strings.Repeat("x", 1000)
	begun := time.Now()
	for range 3 * sinkRoom / 1000 {
		l.access.Info(long)
	}
	for range 100 {
		l.audit.Info("pull")
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("logging into a pipe that nobody reads took %v", took)
	}
	access, audit := l.dropped[accessLog].Load(), l.dropped[auditLog].Load()
	if access == 0 {
		t.Error("no line was dropped: is the bound met?")
	}
	if audit != 0 {
		t.Errorf("%d lines of the audit log were dropped: the access log crowded them out", audit)
	}
	main.await(t, "log lines dropped", 1)
	if n := strings.Count(main.String(), "log lines dropped"); n != 1 {
		t.Errorf("told %d times, want once a minute", n)
	}

	reader, err := os.OpenFile(pipe, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	got, kept := newLines(), 3*sinkRoom/1000-int(access)
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := reader.Read(buf)
			got.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	got.await(t, `"msg":"pull"`, 100)
	if n := strings.Count(got.String(), long); n != kept {
		t.Errorf("%d lines came out, want the %d that were not dropped", n, kept)
	}
	l.close() // at the end of all that was dropped, and not of the first line alone
	main.await(t, fmt.Sprintf(`"msg":"log lines dropped since the start, in all","log":"access","dropped":%d`, access), 1)
}

// A reload or an end does not wait for a pipe that nobody reads.
func TestABlockedPipeIsLeftBehind(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "audit.pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := openLogFile(pipe)
	if err != nil {
		t.Fatal(err)
	}
	s := newSink(pipe, file, file)
	s.add(bytes.Repeat([]byte("x"), sinkRoom), sinkRoom, true)
	s.close()
	select {
	case <-s.done:
	case <-time.After(patience):
		t.Error("the goroutine still writes")
	}
	if s.add([]byte("y\n"), sinkRoom, true) {
		t.Error("a closed sink takes lines")
	}
}

// A full disk is tried again, and nothing is written twice or lost meanwhile.
func TestAFullDiskIsTriedAgain(t *testing.T) {
	to := &stuck{let: make(chan struct{}), fail: errors.New("no space left on device")}
	s := newSink("full", to, nil)
	s.add([]byte("one\n"), sinkRoom, true)
	to.let <- struct{}{} // the first attempt fails
	to.mu.Lock()
	to.fail = nil
	to.mu.Unlock()
	s.add([]byte("two\n"), sinkRoom, true)
	close(to.let)
	s.flush()
	s.close()
	if got := to.String(); got != "one\ntwo\n" {
		t.Errorf("written: %q, want one and two, once each", got)
	}
}

func TestTheRoomOfASinkIsBounded(t *testing.T) {
	to := &stuck{let: make(chan struct{})}
	s := newSink("stuck", to, nil)
	defer s.close()
	defer close(to.let)
	line := bytes.Repeat([]byte("x"), 1<<10)
	for s.add(line, sinkRoom, false) {
		s.mu.Lock()
		n := len(s.waiting)
		s.mu.Unlock()
		if n > sinkRoom {
			t.Fatalf("%d bytes wait, more than %d", n, sinkRoom)
		}
	}
}

// logrotate: what waits goes into the old file, what comes then into the new one.
func TestReopenLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	file, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newSink(path, file, file)
	s.add([]byte("before\n"), sinkRoom, false)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := s.reopen(); err != nil {
		t.Fatal(err)
	}
	s.add([]byte("after\n"), sinkRoom, false)
	s.close()
	for name, want := range map[string]string{path + ".1": "before\n", path: "after\n"} {
		if got, err := os.ReadFile(name); string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, want)
		}
	}
}
