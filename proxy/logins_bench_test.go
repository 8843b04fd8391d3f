package proxy

import "testing"

// BenchmarkUpstreamLogin is a login that the upstream is asked about, on this
// machine, and one remembered.
func BenchmarkUpstreamLogin(b *testing.B) {
	d := newDoor(b, newPeople(b, "ann", "pw"))
	if got := d.login("ann", "pw"); got != "ann" { // who cannot know passwords is tried first
		b.Fatal(got)
	}
	b.Run("uncached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.clock.pass(2 * d.times.TTL)
			if got := d.login("ann", "pw"); got != "ann" {
				b.Fatal(got)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got := d.login("ann", "pw"); got != "ann" {
				b.Fatal(got)
			}
		}
	})
}
