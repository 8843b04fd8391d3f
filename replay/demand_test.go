package replay

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// enough plays a bucket of the rate against events, as x/time/rate does.
func enough(events []time.Time, rate int, r Rate) bool {
	burst := float64(cmp.Or(r.Burst, rate))
	tokens, last := burst, events[0]
	for _, at := range events {
		tokens = min(burst, tokens+at.Sub(last).Seconds()*float64(rate)/r.Per.Seconds())
		last = at
		if tokens+1e-6 < 1 {
			return false
		}
		tokens--
	}
	return true
}

// least tries every rate.
func least(events []time.Time, r Rate) int {
	for n := 1; ; n++ {
		if enough(events, n, r) {
			return n
		}
	}
}

func TestDemandIsTheLowestRateThatRefusesNothing(t *testing.T) {
	start := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		r := Rate{Per: []time.Duration{time.Second, time.Minute, 6 * time.Hour}[round%3], Burst: []int{0, 0, 10, 80}[round/3%4]}
		var d Demand
		var events []time.Time
		at := start
		for range 1 + random.IntN(400) {
			switch random.IntN(4) {
			case 0: // a pause
				at = at.Add(time.Duration(random.Float64() * random.Float64() * float64(r.Per)))
			case 1: // the same moment
			default:
				at = at.Add(time.Duration(random.Float64() * float64(r.Per) / 50))
			}
			events = append(events, at)
			d.Add(at, r)
		}
		got, exact := d.Need()
		if got == NoRate {
			if r.Burst == 0 || enough(events, 1e6, r) {
				t.Fatalf("round %d, %v: no rate is enough, and 1000000 would be", round, r)
			}
			continue
		}
		if want := least(events, r); max(1, got) != want || !exact {
			t.Fatalf("round %d, %v: need %d (exact %v), tried one by one %d", round, r, got, exact, want)
		}
		if len(d.corners) > maxCorners {
			t.Fatalf("%d corners", len(d.corners))
		}
	}
}

func TestDemandOfSteadyTrafficKeepsLittle(t *testing.T) {
	r := Rate{Per: 6 * time.Hour}
	var d Demand
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for range 200_000 {
		at = at.Add(time.Second)
		d.Add(at, r)
	}
	if len(d.corners) > 16 {
		t.Errorf("%d corners of one client that asks once a second", len(d.corners))
	}
	// 200,000 seconds at one a second, with a bucket of R and R back in 6 h.
	if got, _ := d.Need(); got < 19_400 || got > 19_600 {
		t.Errorf("need %d in 6h", got)
	}
}

func TestDemandIsBounded(t *testing.T) {
	r := Rate{Per: 1000 * time.Second, Burst: 1e9} // a bucket that nothing empties: nothing can be trimmed
	var d Demand
	at := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	gap := 1000 * time.Second
	for range 3 * maxCorners { // ever denser
		gap = gap * 9 / 10
		at = at.Add(gap + time.Microsecond)
		d.Add(at, r)
	}
	if _, exact := d.Need(); len(d.corners) > maxCorners || exact {
		t.Errorf("%d corners, exact %v", len(d.corners), exact)
	}
}

// A bucket of a fixed size: a rate that is too low for what comes at once is no
// rate at all, however high.
func TestDemandWithAFixedBurst(t *testing.T) {
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	r := Rate{Per: time.Minute, Burst: 10}
	var d Demand
	for range 10 {
		d.Add(at, r)
	}
	if got, _ := d.Need(); got != 0 || d.AtOnce() != 10 {
		t.Errorf("need %d, at once %d; a full bucket was enough", got, d.AtOnce())
	}
	d.Add(at.Add(20*time.Second), r)
	if got, _ := d.Need(); got != 3 {
		t.Errorf("need %d, want 3 a minute: one more after a third of it", got)
	}
	for range 11 {
		d.Add(at.Add(time.Hour), r)
	}
	if got, _ := d.Need(); got != NoRate || d.AtOnce() != 11 {
		t.Errorf("need %d, at once %d; want that no rate is enough", got, d.AtOnce())
	}
}

func TestNice(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 1, 7: 7, 10: 10, 11: 12, 12: 12, 13: 15, 16: 20, 21: 25, 31: 40, 81: 100, 101: 120, 121: 150, 612: 800, 4001: 5000} {
		if got := Nice(n); got != want {
			t.Errorf("Nice(%d) = %d, want %d", n, got, want)
		}
	}
}

func ExampleDemand() {
	nine := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	var d Demand
	for i := range 120 { // 120 pulls within an hour
		d.Add(nine.Add(time.Duration(i)*30*time.Second), Rate{Per: 6 * time.Hour})
	}
	need, _ := d.Need()
	fmt.Printf("%d/6h\n", Nice(need))
	// Output: 120/6h
}
