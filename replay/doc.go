// Package replay reads what was: access logs of regward, of nginx and of
// distribution, several at once and merged by time, in bounded memory. It tells
// of requests and judges none.
package replay

import (
	"net/netip"
	"time"
)

// Entry is one request that a log tells of. It is the reader's own: who keeps
// it copies it.
type Entry struct {
	Time     time.Time     // when it came: the line's time less Duration, where the log has one
	Duration time.Duration // until the answer's end; 0 where the log has none
	Method   string
	Path     string // as sent, with the query where the log has it; regward cuts its own at 256 bytes
	Host     string // the hostname dialled, "" where the log has none
	Status   int
	Addr     netip.Addr // the zero Addr for what is none
	BytesIn  int64
	BytesOut int64

	User      string // "" is anonymous
	UserKnown bool   // false: the log does not tell who it was

	UserAgent string
	RequestID string

	// Of regward's own log.
	Own           bool
	Route         string
	Credential    string // what came; "" where nobody asked
	Via           string
	Repository    string // as rules know it
	Reference     string
	Reason        string // why it was refused, or broke off
	Limit         string // that refused it
	WouldThrottle []string
	Slowed        time.Duration // of Duration: what limits of bytes held it up
	Upstream      bool          // the upstream was asked
	FreePull      Known
	Repeated      bool // the same wrong password again

	File int // its place in the list of files
}

// Known is what a log says about a question: yes, no, or nothing.
type Known uint8

// What a log says.
const (
	Unsaid Known = iota
	No
	Yes
)

// What reading logs may take, whatever is in them. Each bound has a test that
// meets it.
const (
	maxFiles   = 1000
	maxLine    = 256 << 10 // bytes of a line; a longer one is bad
	maxShown   = 3         // bad lines shown of a file
	maxShow    = 120       // bytes of each
	maxWord    = 256       // bytes of a user's name, an agent's and such; longer ones are cut
	maxHeld    = 32 << 20  // bytes of paths and the like that are held back; beyond, what is held goes on
	maxWindow  = 1 << 16   // entries held back to put them in order
	maxWords   = 1 << 16   // different words remembered, so that equal ones are one
	maxKept    = 1 << 10   // bytes of a value that is kept to compare the next line's with
	maxPending = 1 << 14   // requests of distribution whose access line is awaited
)

// Window is how far a line may stand from its place by time.
const Window = 5 * time.Minute
