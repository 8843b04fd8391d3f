package replay

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"
	"time"
)

// File is what reading one file came to.
type File struct {
	Name       string   `json:"name"`
	Format     Format   `json:"format"`
	Lines      int64    `json:"lines"`
	Requests   int64    `json:"requests"`
	Users      int64    `json:"users_known"`  // requests of which it is known who came
	Bad        int64    `json:"bad"`          // lines that could not be read
	BadLines   []string `json:"bad_lines"`    // the first three: "17: ..."
	OutOfOrder int64    `json:"out_of_order"` // requests further from their place than Window
	BrokenOff  string   `json:"broken_off,omitempty"`
}

// source is a file being read.
type source struct {
	File
	at     int // its place in the list
	parser *parser
	r      *bufio.Reader
	close  func() error
	skip   bool // the rest of a line too long

	next  *Entry
	last  time.Time // the latest line's time
	reuse func() *Entry
}

// counting counts what is read of a file as it lies on the disk.
type counting struct {
	io.Reader
	n *atomic.Int64
}

func (c counting) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// openRoom is the buffer of an opened log: many may be open at once.
const openRoom = 64 << 10

// Open opens a log to be read, "-" being stdin: gzip is known by its first
// bytes. An error names the file.
func Open(name string, stdin io.Reader) (r *bufio.Reader, close func() error, err error) {
	in, close, err := openFile(name, stdin)
	if err != nil {
		return nil, nil, err
	}
	r, err = unzipped(in, openRoom)
	if err != nil {
		_ = close()
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, close, nil
}

func openFile(name string, stdin io.Reader) (in io.Reader, close func() error, err error) {
	if name == "-" {
		if stdin == nil {
			stdin = bytes.NewReader(nil)
		}
		return stdin, func() error { return nil }, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		f.Close()
		return nil, nil, fmt.Errorf("%s is a folder: name the logs in it", name)
	}
	return f, f.Close, nil
}

// unzipped has room for a look at so many bytes ahead.
func unzipped(in io.Reader, room int) (*bufio.Reader, error) {
	r := bufio.NewReaderSize(in, room)
	if magic, _ := r.Peek(2); string(magic) != "\x1f\x8b" {
		return r, nil
	}
	plain, err := gzip.NewReader(r)
	if err != nil {
		return nil, err
	}
	return bufio.NewReaderSize(plain, room), nil
}

// open opens a file of a replay; its format is known by the first lines.
func open(name string, at int, o *Options, done *atomic.Int64) (*source, error) {
	s := &source{File: File{Name: name, BadLines: []string{}}, at: at}
	if name == "-" {
		s.Name = "stdin"
	}
	in, end, err := openFile(name, o.Stdin)
	if err != nil {
		return nil, err
	}
	s.close = end
	if s.r, err = unzipped(counting{in, done}, maxLine); err != nil {
		s.BrokenOff = err.Error()
		s.r = bufio.NewReader(bytes.NewReader(nil))
	}
	s.Format = o.Format
	if s.Format == Detect {
		first, _ := s.r.Peek(maxLine)
		s.Format = detect(first)
	}
	s.parser = newParser(s.Format, o.UserFrom)
	return s, nil
}

// advance reads on to the next request; next is nil at the end.
func (s *source) advance() error {
	s.next = nil
	var e *Entry
	for {
		line, err := s.r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if !s.skip {
				s.line()
				s.bad(line, "longer than "+strconv.Itoa(maxLine>>10)+" kB: ")
			}
			s.skip = true
			continue
		}
		whole := !s.skip
		s.skip = false
		line = bytes.TrimRight(line, "\r\n")
		if whole && len(line) > 0 && (err == nil || errors.Is(err, io.EOF)) { // else it is half a line
			s.line()
			if e == nil {
				e = s.reuse()
			}
			*e = Entry{File: s.at}
			switch s.parser.line(line, e) {
			case entry:
				s.Requests++
				if e.UserKnown {
					s.Users++
				}
				s.next = e
				return nil
			case bad:
				s.bad(line, "")
			}
		}
		var corrupt flate.CorruptInputError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &corrupt):
			s.BrokenOff = err.Error() // what is there so far counts
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
}

func (s *source) line() { s.Lines++ }

// bad counts a line that could not be read, and keeps the first ones.
func (s *source) bad(line []byte, why string) {
	if s.Bad++; len(s.BadLines) >= maxShown {
		return
	}
	if f := detect(line); why == "" && f != Detect && f != s.Format {
		why = "looks like " + string(f) + ": "
	}
	s.BadLines = append(s.BadLines, strconv.FormatInt(s.Lines, 10)+": "+why+shown(line))
}

// shown is the beginning of a line, quoted, up to where a secret might stand:
// what cannot be read may be of any log, and behind a question mark or such a
// word anything.
func shown(line []byte) string {
	whole := len(line)
	line = line[:min(whole, maxShow)]
	lower := bytes.ToLower(line)
	for _, word := range [...]string{"?", "://", "authorization", "bearer", "basic", "token", "passw", "secret", "key", "cookie", "eyj"} {
		if i := bytes.Index(lower, []byte(word)); i >= 0 {
			lower = lower[:i+len(word)]
		}
	}
	line = line[:min(len(lower), len(line))]
	s := strconv.QuoteToASCII(string(line))
	if len(s) > maxShow+2 {
		s = s[:maxShow] + `"`
		whole++ // some is left out
	}
	if len(line) < whole {
		s += "..."
	}
	return s
}
