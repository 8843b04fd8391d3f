package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Shared is what several instances remember together: short notes that end by
// themselves. Every call ends soon, and at once while nobody would answer; its
// error says that it could not be asked. A note may be lost at any time.
type Shared interface {
	// Read gives the note under each key, in their order; its Left is 0 where
	// there is none.
	Read(ctx context.Context, keys ...string) ([]Note, error)

	// Write says of each note whether it was written: If may forbid it.
	Write(ctx context.Context, notes ...Note) (written []bool, err error)
}

// Note is something that one instance knows and others shall.
type Note struct {
	Key  string        // letters, digits, - and _, which say nothing
	Text string        // at most MaxNote bytes
	Left time.Duration // how long it is kept; 0 takes it away
	If   NoteIf
}

// NoteIf says when a note is written.
type NoteIf uint8

// When a note is written: always, unless told otherwise.
const (
	IfAbsent  NoteIf = iota + 1 // where there is none
	IfPresent                   // where there is one
)

// MaxNote is how long the text of a note may be: as a digest.
const MaxNote = maxDigest

const (
	notesAtOnce = 500    // keys of one call
	maxOwed     = 10_000 // notes that could not be written and must be
)

// notes are the notes of this process: what they are about is hidden in their
// keys, which nobody can make or guess who does not have token.key_file. So
// whoever reads Redis learns nothing from them, and whoever writes it can repeat
// what was said, but say nothing new. A nil one is that of a single instance:
// nothing is asked.
type notes struct {
	shared Shared
	keys   atomic.Pointer[[][32]byte] // the first is written with, all are read with

	mu   sync.Mutex
	owed []Note // with their own keys already
}

func newNotes(s Shared) *notes {
	if s == nil {
		return nil
	}
	return &notes{shared: s}
}

// use has keys hide what notes are about from now on.
func (n *notes) use(keys [][32]byte) {
	if n != nil {
		n.keys.Store(&keys)
	}
}

// kept reports whether there is anybody to share with.
func (n *notes) kept() bool { return n != nil && n.keys.Load() != nil }

// about is what a note says something about: different words, different text.
func about(words ...string) string {
	var b []byte
	for _, w := range words {
		b = binary.AppendUvarint(b, uint64(len(w)))
		b = append(b, w...)
	}
	return string(b)
}

func hide(key *[32]byte, what string) string {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte(what))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// read is what is noted about each of what, in their order; a Note without Left
// is none. Notes written with an older key count, too.
func (n *notes) read(ctx context.Context, what ...string) ([]Note, error) {
	all := make([]Note, len(what))
	if !n.kept() {
		return all, nil
	}
	if err := n.settle(ctx); err != nil {
		return nil, err
	}
	for _, key := range *n.keys.Load() {
		for i := 0; i < len(what); i += notesAtOnce {
			some := what[i:min(len(what), i+notesAtOnce)]
			hidden := make([]string, len(some))
			for j, w := range some {
				hidden[j] = hide(&key, w)
			}
			found, err := n.shared.Read(ctx, hidden...)
			if err != nil {
				return nil, err
			}
			for j, one := range found[:min(len(found), len(some))] {
				if all[i+j].Left <= 0 && one.Left > 0 {
					all[i+j] = one
				}
			}
		}
	}
	return all, nil
}

// write writes notes whose Key is what they are about, and says of each whether
// it was written.
func (n *notes) write(ctx context.Context, list ...Note) (written []bool, err error) {
	if !n.kept() {
		return make([]bool, len(list)), nil
	}
	if err := n.settle(ctx); err != nil {
		return nil, err
	}
	return n.send(ctx, hiddenBy(&(*n.keys.Load())[0], list))
}

func hiddenBy(key *[32]byte, list []Note) []Note {
	hidden := slices.Clone(list)
	for i := range hidden {
		hidden[i].Key = hide(key, list[i].Key)
	}
	return hidden
}

func (n *notes) send(ctx context.Context, hidden []Note) (written []bool, err error) {
	for len(hidden) > 0 {
		some := hidden[:min(len(hidden), notesAtOnce)]
		hidden = hidden[len(some):]
		done, err := n.shared.Write(ctx, some...)
		if err != nil {
			return nil, err
		}
		written = append(written, done...)
	}
	return written, nil
}

// owe writes what takes a right away. What cannot be written now is written
// before anything else is asked, as far as there is room for it.
func (n *notes) owe(ctx context.Context, list ...Note) {
	if !n.kept() || len(list) == 0 {
		return
	}
	var hidden []Note
	for _, key := range *n.keys.Load() { // it may have been given with an older one
		hidden = append(hidden, hiddenBy(&key, list)...)
	}
	err := n.settle(ctx)
	if err == nil {
		_, err = n.send(ctx, hidden)
	}
	if err == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owed = append(n.owed, hidden[:min(len(hidden), maxOwed-len(n.owed))]...)
}

// settle writes what could not be written before.
func (n *notes) settle(ctx context.Context) error {
	n.mu.Lock()
	owed := n.owed
	n.owed = nil
	n.mu.Unlock()
	if len(owed) == 0 {
		return nil
	}
	_, err := n.send(ctx, owed)
	if err != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.owed = append(owed, n.owed...)
		n.owed = n.owed[:min(len(n.owed), maxOwed)]
	}
	return err
}
