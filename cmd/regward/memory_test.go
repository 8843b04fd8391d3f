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
	const busy = calm * 4
	for _, tt := range []struct {
		live, allocated uint64
		want            int
	}{
		{0, busy, mostPercent},
		{4 << 20, busy, mostPercent},
		{32 << 20, busy, 200},
		{64 << 20, busy, 100},
		{1 << 30, busy, leastPercent},
		{4 << 20, 0, calmPercent}, // a transfer, not a crowd
		{4 << 20, calm - 1, calmPercent},
		{1 << 30, 0, leastPercent},
	} {
		if got := percentFor(tt.live, tt.allocated); got != tt.want {
			t.Errorf("a live heap of %d MiB, %d KiB a look: got %d, want %d", tt.live>>20, tt.allocated>>10, got, tt.want)
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
