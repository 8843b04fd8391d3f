package proxy

import (
	"container/heap"
	"context"
	"net/http"
	"time"

	"github.com/regward/regward/ratelimit"
)

// maxRehearsedPlaces bounds the transfers in flight that a Rehearsal remembers;
// beyond it the one that would end first ends early.
const maxRehearsedPlaces = 1 << 17

// hold takes the places of a transfer for as long as it took. Where the log has
// no durations nothing is known to be in flight. One that began before the
// requests already judged, because its line came late, holds its places from
// now on.
func (r *Rehearsal) hold(p *Past) bool {
	x := &r.x
	if p.Duration <= 0 || !x.req.moves(&http.Request{ContentLength: p.In}) {
		return true
	}
	var holdings []ratelimit.Holding
	r.room = x.asks([]Count{Transfers}, r.room[:0])
	for _, a := range r.room {
		r.out.Asked = append(r.out.Asked, Asked{Limit: r.place(a.Limit), Client: a.client, Taken: true})
		if !a.DryRun {
			holdings = append(holdings, a.holding())
		}
	}
	if len(holdings) > 0 {
		release, res, err := r.memory.Hold(context.Background(), holdings...)
		if err == nil && !res.OK && x.req.Kind == KindUpload { // what was begun goes on
			for i := range holdings {
				holdings[i].Most = ratelimit.AnyPlace
			}
			release, res, err = r.memory.Hold(context.Background(), holdings...)
		}
		if err == nil && !res.OK {
			at := -1
			for left := res.Index; left >= 0; {
				if at++; !r.room[at].DryRun {
					left--
				}
			}
			r.refused(at, transferPause)
			return false
		}
		r.taken = release
	}
	for i, a := range r.room {
		if !a.DryRun {
			continue
		}
		release, res, err := r.memory.Hold(context.Background(), a.holding())
		if err != nil || res.OK {
			r.ends.add(p.Time.Add(p.Duration), release)
			continue
		}
		r.out.Asked[i].Taken, r.out.Asked[i].Wait = false, transferPause
		r.out.Would = append(r.out.Would, i)
	}
	return true
}

// pace tells by how much limits of bytes would have slowed a body down: its
// bytes are paid for at its beginning, and what was taken longer anyhow is no
// loss; what limits held it up then is not anyhow. Live it is paid for piece by
// piece, so this is an estimate.
func (r *Rehearsal) pace(p *Past) {
	x := &r.x
	alone := max(0, p.Duration-p.Slowed)
	r.room = x.asks([]Count{Bytes}, r.room[:0])
	for _, a := range r.room {
		out := Asked{Limit: r.place(a.Limit), Client: a.client, Taken: true}
		n := int(p.In + p.Out)
		wait, err := r.memory.Pace(context.Background(), a.spending(n))
		if over := float64(n - a.Rate.Burst); over > 0 && a.Rate.Events > 0 { // one Pace is for a chunk, and waits no longer than chunks do
			wait = max(wait, time.Duration(over/float64(a.Rate.Events)*float64(a.Rate.Per)))
		}
		if err == nil && wait > alone {
			out.Wait = wait - alone
		}
		r.out.Asked = append(r.out.Asked, out)
	}
}

// ends are the transfers in flight, by when they end.
type ends []end

type end struct {
	at      time.Time
	release func()
}

func (e *ends) add(at time.Time, release func()) {
	if release == nil {
		return
	}
	heap.Push(e, end{at, release})
	if len(*e) > maxRehearsedPlaces {
		e.next()
	}
}

// until ends what has ended by now.
func (e *ends) until(now time.Time) {
	for len(*e) > 0 && !(*e)[0].at.After(now) {
		e.next()
	}
}

func (e *ends) next() { heap.Pop(e).(end).release() }

// Len, Less, Swap, Push and Pop are for container/heap.
func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	last := len(*e) - 1
	out := (*e)[last]
	(*e)[last] = end{}
	*e = (*e)[:last]
	return out
}
