package replay

import (
	"math"
	"time"
)

// maxCorners bounds what is kept of one client. The corners stand for ever
// shorter and denser spells of its traffic: a handful in practice.
const maxCorners = 64

// maxNeed is the highest rate that a configuration may have.
const maxNeed = 1_000_000_000

// Demand is what one client asked of a limit, as far as it matters for the
// question which rate would have been enough: the lowest number of events in
// Per with which the bucket never runs dry. It keeps a few corners of the
// client's traffic and not its events.
//
// A bucket of b events that fills at r a second is enough if in no spell of s
// seconds more than b + r*s events came. With b fixed, or what comes back in
// Per, that is a slope: of the steepest line from the count before a spell to
// the count after it. Only the lower convex hull of the counts can be where it
// begins.
type Demand struct {
	corners []corner
	need    float64
	n       float64 // events so far
	at      float64 // of the latest, in Per
	here    int     // events at that moment
	atOnce  int     // the most at any
	cut     bool
}

// corner is a moment, in Per since 1970, and the events before it.
type corner struct{ at, n float64 }

// Rate is the shape of a bucket: how long its events take to come back, and how
// many it holds.
type Rate struct {
	Per   time.Duration
	Burst int // 0: as many as come back in Per
}

// NoRate is the need of who asked for more at once than the bucket holds.
const NoRate = math.MaxInt

// Add is one event. Events come in the order of time; one that does not counts
// for the latest moment.
func (d *Demand) Add(at time.Time, r Rate) {
	now := max(d.at, float64(at.Unix())/r.Per.Seconds()+float64(at.Nanosecond())/float64(r.Per))
	if len(d.corners) == 0 || now > d.at {
		d.put(corner{now, d.n})
		d.here = 0
	}
	d.at = now
	d.n++
	d.here++
	d.atOnce = max(d.atOnce, d.here)
	if r.Burst > 0 && d.here > r.Burst {
		d.need = math.Inf(1)
		d.corners = d.corners[len(d.corners)-1:] // nothing is steeper
		return
	}
	d.trim()
	long, full := 1.0, 0.0 // the bucket, as time or as events
	if r.Burst > 0 {
		long, full = 0, float64(r.Burst)
	}
	for _, c := range d.corners { // unimodal: it rises to the steepest, then falls
		slope := (d.n - c.n - full) / (now - c.at + long)
		if !(slope >= d.need) { // nor is there one where no time has passed and nothing is missing
			break
		}
		d.need = slope
	}
}

// put adds the newest corner; those that it leaves above the hull go.
func (d *Demand) put(c corner) {
	for n := len(d.corners); n >= 2 && slope(d.corners[n-2], d.corners[n-1]) >= slope(d.corners[n-1], c); n-- {
		d.corners = d.corners[:n-1]
	}
	if len(d.corners) == maxCorners {
		d.corners = d.corners[:maxCorners-1]
		d.cut = true
	}
	d.corners = append(d.corners, c)
}

// trim drops corners from which no line can be steeper than the need found.
func (d *Demand) trim() {
	i := 0
	for i+1 < len(d.corners) && slope(d.corners[i], d.corners[i+1]) <= d.need {
		i++
	}
	if i > 0 {
		d.corners = d.corners[:copy(d.corners, d.corners[i:])]
	}
}

func slope(a, b corner) float64 { return (b.n - a.n) / (b.at - a.at) }

// Need is the lowest number of events in Per that would have refused nothing,
// NoRate where none would; exact is false where more was to be kept than is
// kept of one client.
func (d *Demand) Need() (events int, exact bool) {
	if d.need > maxNeed {
		return NoRate, !d.cut
	}
	return int(math.Ceil(d.need - 1e-6)), !d.cut
}

// AtOnce is how many events came at one moment, at most.
func (d *Demand) AtOnce() int { return d.atOnce }

// Nice is the next number of at least n that people write: 1 to 10, then 12,
// 15, 20, 25, 30, 40, 50, 60, 80, 100 and so on.
func Nice(n int) int {
	if n <= 10 {
		return max(1, n)
	}
	for scale := 10; ; scale *= 10 {
		for _, tenths := range [...]int{10, 12, 15, 20, 25, 30, 40, 50, 60, 80} {
			if v := scale * tenths / 10; v >= n {
				return v
			}
		}
	}
}
