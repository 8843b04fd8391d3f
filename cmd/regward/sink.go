package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What a destination that takes nothing may cost. Beyond it lines are dropped
// and counted: no request waits for a disk, a pipe or whoever reads it.
const (
	sinkRoom   = 4 << 20         // bytes that wait to be written, of all logs that go there
	accessRoom = sinkRoom / 2    // of them for the access log, so that it never crowds out the others
	sinkEager  = 64 << 10        // bytes that are written without waiting for more
	sinkKeep   = 256 << 10       // bytes of buffers kept when nothing waits
	logFlush   = time.Second     // how long a line of the access or the audit log waits at most
	sinkRetry  = time.Second     // between attempts at a destination that failed: a full disk
	sinkLast   = 2 * time.Second // for what still waits when a destination is closed or reopened
)

// sink is one destination of lines: stdout, or a file. A goroutine of its own
// writes, whoever has a line to log only copies it.
type sink struct {
	name string
	to   io.Writer
	file *logFile // nil for stdout

	mu      sync.Mutex
	waiting []byte        // whole lines
	closed  bool          // nothing comes any more
	writing bool          // the goroutine has a batch
	idle    chan struct{} // closed when nothing waits; nil if nobody wants to know

	wake chan struct{}
	done chan struct{} // the goroutine has ended
	stop chan struct{} // give up what still waits
}

func newSink(name string, to io.Writer, file *logFile) *sink {
	s := &sink{name: name, to: to, file: file,
		wake: make(chan struct{}, 1), done: make(chan struct{}), stop: make(chan struct{})}
	go s.run()
	return s
}

// add takes one line, or reports that there is no room for it among `room`
// bytes. prompt has it written at once.
func (s *sink) add(line []byte, room int, prompt bool) bool {
	s.mu.Lock()
	if s.closed || len(s.waiting)+len(line) > room {
		s.mu.Unlock()
		return false
	}
	s.waiting = append(s.waiting, line...)
	prompt = prompt || len(s.waiting) >= sinkEager
	s.mu.Unlock()
	if prompt {
		s.poke()
	}
	return true
}

func (s *sink) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run writes what waits until the sink is closed.
func (s *sink) run() {
	defer close(s.done)
	tick := time.NewTicker(logFlush)
	defer tick.Stop()
	var batch []byte
	for {
		select {
		case <-s.wake:
		case <-tick.C:
		case <-s.stop:
			return
		}
		for {
			var ended bool
			if batch, ended = s.take(batch); ended {
				return
			}
			if len(batch) == 0 {
				break
			}
			if !s.write(batch) {
				return
			}
		}
	}
}

// take swaps what waits for the buffer that was written. ended says that there
// is nothing, and nothing to come.
func (s *sink) take(written []byte) (batch []byte, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cap(written) > sinkKeep {
		written = nil // of a burst that is over
	}
	batch, s.waiting = s.waiting, written[:0]
	if s.writing = len(batch) > 0; !s.writing && s.idle != nil {
		close(s.idle)
		s.idle = nil
	}
	return batch, s.closed && !s.writing
}

// write writes all of batch, however often it takes; false if it was told to
// give up. What a full disk took of a line is not written twice.
func (s *sink) write(batch []byte) bool {
	for {
		n, err := s.to.Write(batch)
		if batch = batch[min(max(n, 0), len(batch)):]; len(batch) == 0 {
			return true
		}
		if errors.Is(err, fs.ErrClosed) { // reopened meanwhile, or closed for good
			select {
			case <-s.stop:
				return false
			case <-time.After(time.Millisecond):
				continue
			}
		}
		select {
		case <-s.stop:
			return false
		case <-time.After(sinkRetry):
		}
	}
}

// flush waits until what waits now is written, for sinkLast at most.
func (s *sink) flush() {
	s.mu.Lock()
	if len(s.waiting) == 0 && !s.writing {
		s.mu.Unlock()
		return
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.mu.Unlock()
	s.poke()
	timer := time.NewTimer(sinkLast)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	case <-s.done:
	}
}

// reopen opens a file again, by name, after logrotate moved it. What waits
// belongs into the old one, but not at any price.
func (s *sink) reopen() error {
	if s.file == nil {
		return nil
	}
	s.flush()
	return s.file.reopen()
}

// close writes what waits, as far as it can be written, and ends the goroutine.
func (s *sink) close() {
	s.mu.Lock()
	already := s.closed
	s.closed = true
	s.mu.Unlock()
	if already {
		return
	}
	s.poke()
	timer := time.NewTimer(sinkLast)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
	}
	close(s.stop)
	if s.file != nil {
		s.file.close() // and whoever is stuck writing to it gets away
	}
}

// door is the way of one log into a sink. It counts what the sink had no room
// for.
type door struct {
	*sink
	room    int
	prompt  bool
	dropped *atomic.Uint64
	told    func(dest string) // of each line dropped
}

// Write takes one line. It never waits, and never fails: what is dropped is
// counted.
func (d *door) Write(p []byte) (int, error) {
	if !d.add(p, d.room, d.prompt) {
		d.dropped.Add(1)
		d.told(d.name)
	}
	return len(p), nil
}

// Sync does nothing: an fsync a second is a load that nobody asked for, and
// what the kernel has survives the process.
func (d *door) Sync() error { return nil }

// logFile is a file that can be opened again under its name.
type logFile struct {
	path string
	f    atomic.Pointer[os.File]
}

// openLog opens a log to append to. A named pipe is opened for reading too:
// else opening waits for a reader, and the reader's end would end the log.
func openLog(path string) (*os.File, error) {
	mode := os.O_APPEND | os.O_CREATE | os.O_WRONLY
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		mode = os.O_RDWR | syscall.O_NONBLOCK
	}
	return os.OpenFile(path, mode, 0o640)
}

func openLogFile(path string) (*logFile, error) {
	f, err := openLog(path)
	if err != nil {
		return nil, err
	}
	l := &logFile{path: path}
	l.f.Store(f)
	return l, nil
}

// Write writes to the file of now; fs.ErrClosed if it was reopened meanwhile.
func (l *logFile) Write(p []byte) (int, error) { return l.f.Load().Write(p) }

func (l *logFile) reopen() error {
	f, err := openLog(l.path)
	if err != nil {
		return err
	}
	return l.f.Swap(f).Close()
}

func (l *logFile) close() { _ = l.f.Load().Close() }
