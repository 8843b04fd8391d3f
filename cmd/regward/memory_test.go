package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestGarbageMayGrowWhileTheHeapIsSmall(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{{0, mostPercent}, {4 << 20, mostPercent}, {32 << 20, 200}, {64 << 20, 100}, {1 << 30, leastPercent}} {
		if got := percentFor(tt.live); got != tt.want {
			t.Errorf("a live heap of %d MiB: got %d, want %d", tt.live>>20, got, tt.want)
		}
	}
}

var burst []byte

// What a burst left behind is given back when nobody asks any more.
func TestABurstIsCollectedOnceItIsOver(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); tendMemory(ctx) }()
		synctest.Wait()
		burst = make([]byte, 8<<20)
		burst = nil
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		time.Sleep(3 * memoryLook)
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if after.NumForcedGC == before.NumForcedGC {
			t.Error("nothing was collected though nobody asks")
		}
		forced := after.NumForcedGC
		time.Sleep(20 * memoryLook)
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if after.NumForcedGC != forced {
			t.Errorf("%d collections with nothing to collect", after.NumForcedGC-forced)
		}
		cancel()
		<-done
	})
}
