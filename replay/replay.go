package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// Options are how logs are to be read.
type Options struct {
	Format   Format // Detect: each by its first lines
	UserFrom string // where a log has its user: a field's number in combined logs, a member's name in distribution's
	Since    time.Time
	Until    time.Time // zero: no bound
	Stdin    io.Reader // what "-" is

	// Progress is told now and then how many bytes of how many are read, of
	// compressed files those on the disk; total is 0 where it cannot be known.
	// lines are those of all files.
	Progress func(done, total, lines int64)
}

// Logs is what reading them came to.
type Logs struct {
	Files    []File    `json:"files"`
	Requests int64     `json:"requests"` // within Since and Until
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// ErrNothing reports logs without a single request in them.
var ErrNothing = errors.New("no line could be read as a request")

// ErrTwice reports a file that was named twice: its requests would count twice.
var ErrTwice = errors.New("is named twice")

// Read calls each with the requests of all files, merged by the time they came.
// An entry is good until each returns. What cannot be read is counted, not
// fatal, unless that is all. Memory does not grow with the files.
func Read(ctx context.Context, files []string, o Options, each func(*Entry) error) (logs Logs, err error) {
	if len(files) > maxFiles {
		return logs, fmt.Errorf("%d files are more than the %d that are read at once: join some with zcat", len(files), maxFiles)
	}
	m := merge{o: o, each: each, total: sizeOf(files)}
	defer func() {
		for _, s := range m.all {
			_ = s.close()
		}
	}()
	if err := twice(files); err != nil {
		return logs, err
	}
	for i, name := range files {
		s, err := open(name, i, &o, &m.done)
		if err != nil {
			return logs, err
		}
		s.reuse = m.fresh
		m.all = append(m.all, s)
	}
	err = m.run(ctx)
	for _, s := range m.all {
		logs.Files = append(logs.Files, s.File)
	}
	logs.Requests, logs.First, logs.Last = m.n, m.first, m.emitted
	if err == nil && m.n == 0 {
		err = m.nothing()
	}
	return logs, err
}

// twice is ErrTwice for the first file that comes again, by whatever name.
func twice(files []string) error {
	seen := make([]os.FileInfo, len(files))
	for i, name := range files {
		if name != "-" {
			seen[i], _ = os.Stat(name) // what cannot be found is told when it is opened
		}
		for j, before := range files[:i] {
			switch {
			case name == before:
				return fmt.Errorf("%s %w", name, ErrTwice)
			case seen[i] != nil && seen[j] != nil && seen[i].Mode().IsRegular() && os.SameFile(seen[i], seen[j]):
				return fmt.Errorf("%s %w, as %s too", name, ErrTwice, before)
			}
		}
	}
	return nil
}

// sizeOf is how many bytes there are to read, 0 if that cannot be known.
func sizeOf(files []string) (total int64) {
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || !info.Mode().IsRegular() {
			return 0
		}
		total += info.Size()
	}
	return total
}

// merge brings files together in the order of time. Files are in the order in
// which requests ended, and not quite: entries wait in a window until nothing
// earlier can come.
type merge struct {
	o           Options
	each        func(*Entry) error
	done        atomic.Int64
	total       int64
	all         []*source
	heads       queue // of sources, by the time of their next line
	window      queue // of entries, by the time they came
	held        []*Entry
	free        []int
	spare       []*Entry
	seen, n     int64
	heldBytes   int       // of paths
	latest      time.Time // of lines
	first       time.Time
	emitted     time.Time
	sinceReport int
}

func (m *merge) run(ctx context.Context) error {
	for i, s := range m.all {
		if err := m.step(i, s); err != nil {
			return err
		}
	}
	for len(m.heads) > 0 {
		if m.sinceReport++; m.sinceReport == 1<<13 {
			m.sinceReport = 0
			if err := ctx.Err(); err != nil {
				return err
			}
			m.report()
		}
		i := m.heads.pop().at
		s := m.all[i]
		if err := m.hold(s); err != nil {
			return err
		}
		if err := m.step(i, s); err != nil {
			return err
		}
	}
	for len(m.window) > 0 {
		if err := m.emit(); err != nil {
			return err
		}
	}
	m.report()
	return nil
}

// step reads a source on.
func (m *merge) step(i int, s *source) error {
	if err := s.advance(); err != nil {
		return err
	}
	if s.next != nil {
		m.heads.push(s.next.Time.Add(s.next.Duration).UnixNano(), int64(i), i)
	}
	return nil
}

// hold takes a source's next entry into the window, and lets out what is ripe.
func (m *merge) hold(s *source) error {
	e := s.next
	if end := e.Time.Add(e.Duration); end.Before(s.last.Add(-Window)) {
		s.OutOfOrder++
	} else if end.After(s.last) {
		s.last = end
	}
	if s.last.After(m.latest) {
		m.latest = s.last
	}
	if !m.o.Since.IsZero() && e.Time.Before(m.o.Since) || !m.o.Until.IsZero() && !e.Time.Before(m.o.Until) {
		m.release(e)
		return nil
	}
	at := len(m.held)
	if n := len(m.free); n > 0 {
		at, m.free = m.free[n-1], m.free[:n-1]
		m.held[at] = e
	} else {
		m.held = append(m.held, e)
	}
	m.seen++
	m.window.push(e.Time.UnixNano(), m.seen, at)
	m.heldBytes += e.size()
	for len(m.window) > 0 && (len(m.window) > maxWindow || m.heldBytes > maxHeld || m.window[0].key <= m.latest.Add(-Window).UnixNano()) {
		if err := m.emit(); err != nil {
			return err
		}
	}
	return nil
}

// emit hands on the earliest entry of the window.
func (m *merge) emit() error {
	at := m.window.pop().at
	e := m.held[at]
	m.held[at] = nil
	m.free = append(m.free, at)
	m.heldBytes -= e.size()
	if m.n++; m.n == 1 || e.Time.Before(m.first) {
		m.first = e.Time
	}
	if e.Time.After(m.emitted) {
		m.emitted = e.Time
	}
	err := m.each(e)
	m.release(e)
	return err
}

// release takes an entry back. A long one lets go of what it has: there may be
// many.
func (m *merge) release(e *Entry) {
	if e.size() > maxKept {
		*e = Entry{}
	}
	m.spare = append(m.spare, e)
}

// size is how many bytes belong to the entry alone.
func (e *Entry) size() int { return len(e.Path) + len(e.RequestID) + len(e.Reference) }

// fresh is an entry to read into.
func (m *merge) fresh() *Entry {
	if n := len(m.spare); n > 0 {
		e := m.spare[n-1]
		m.spare = m.spare[:n-1]
		return e
	}
	return new(Entry)
}

func (m *merge) report() {
	if m.o.Progress == nil {
		return
	}
	lines := int64(0)
	for _, s := range m.all {
		lines += s.Lines
	}
	m.o.Progress(m.done.Load(), m.total, lines)
}

// nothing says why there was no request.
func (m *merge) nothing() error {
	read := int64(0)
	for _, s := range m.all {
		read += s.Requests
	}
	if read > 0 {
		return fmt.Errorf("none of the %d requests is within --since and --until", read)
	}
	said, empty := "", true
	for i, s := range m.all {
		empty = empty && s.Lines == 0 && s.BrokenOff == ""
		if i >= maxShown {
			continue
		}
		switch {
		case s.BrokenOff != "":
			said += fmt.Sprintf("\n  %s ends in the middle (%s)", s.Name, s.BrokenOff)
		case s.Lines == 0:
			said += fmt.Sprintf("\n  %s is empty", s.Name)
		}
		if len(s.BadLines) > 0 {
			said += "\n  " + s.Name + ":" + s.BadLines[0]
		}
	}
	if empty {
		return fmt.Errorf("%w:%s", ErrNothing, said)
	}
	return fmt.Errorf("%w; regward's access log, nginx' combined and distribution's log are known, and --format says which%s", ErrNothing, said)
}

// queue is a heap by key, then by seq: what came first of equal ones comes
// first.
type queue []queued

type queued struct {
	key, seq int64
	at       int
}

func (q *queue) push(key, seq int64, at int) {
	*q = append(*q, queued{key, seq, at})
	h := *q
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h[i].less(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (a *queued) less(b *queued) bool { return a.key < b.key || a.key == b.key && a.seq < b.seq }

func (q *queue) pop() queued {
	h := *q
	top := h[0]
	n := len(h) - 1
	h[0] = h[n]
	h = h[:n]
	for i := 0; ; {
		least := 2*i + 1
		if least >= n {
			break
		}
		if r := least + 1; r < n && h[r].less(&h[least]) {
			least = r
		}
		if !h[least].less(&h[i]) {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*q = h
	return top
}
