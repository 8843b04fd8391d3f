package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How the collector is set up. A gate has a small live heap and much garbage:
// letting the garbage grow to several times the heap saves CPU on every
// request, and costs memory only while the heap is small.
const (
	garbage      = 64 << 20  // bytes of it that may pile up
	memoryLimit  = 512 << 20 // soft: above it the collector works harder
	leastPercent = 100
	calmPercent  = 200 // at most, while few requests come: a long transfer alone shall not grow the heap
	mostPercent  = 400

	memoryLook = 500 * time.Millisecond
	calm       = 16 << 20  // bytes allocated between two looks: not many are asking
	quiet      = 512 << 10 // nobody is
	worthwhile = 2 << 20   // bytes of garbage that are worth a collection then
)

// percentFor is GOGC for a live heap of so many bytes and so many allocated
// between two looks.
func percentFor(live, allocated uint64) int {
	percent := min(mostPercent, max(leastPercent, garbage*100/max(live, 1)))
	if allocated < calm {
		percent = min(percent, calmPercent)
	}
	return int(percent)
}

// tendMemory keeps GOGC in step with the live heap, and gives back what a
// burst left behind once it is over: thousands of idle connections shall cost
// what they hold, not what their handshakes took. It ends with ctx.
func tendMemory(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	look := func() (live, allocated uint64) {
		metrics.Read(samples)
		return samples[0].Value.Uint64(), samples[1].Value.Uint64()
	}
	tick := time.NewTicker(memoryLook)
	defer tick.Stop()
	percent := calmPercent
	debug.SetGCPercent(percent)
	_, last := look()
	collected := last
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		live, now := look()
		if want := percentFor(live, now-last); want != percent {
			percent = want
			debug.SetGCPercent(percent)
		}
		if now-last < quiet && now-collected > worthwhile {
			debug.FreeOSMemory()
			_, now = look()
			collected = now
		}
		last = now
	}
}
