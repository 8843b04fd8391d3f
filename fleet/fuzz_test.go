package fleet

import (
	"testing"
	"time"
)

// FuzzKept reads what somebody else may have written into Redis: whatever it is,
// what comes of it is short, without control characters, and ends.
func FuzzKept(f *testing.F) {
	f.Add("people", "60000", "120000", "7", `{"limit":"people","rate":"9/s","by":"joe@vm","at":"2026-11-20T09:00:00Z"}`)
	f.Add("a", "0", "1", "-1", "")
	f.Add("a", "9223372036854775807", "-9223372036854775808", "9223372036854775807", `{"id":"a","host":"\u001b[2J","notes":{"x":"y"},"top":{}}`)
	fl := New(Options{})
	f.Cleanup(fl.Close)
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, name, left, keep, order, value string) {
		if o, ok := readOverride([]string{name, left, keep, order, value}, now); ok {
			if !plain(o.Limit) || !plain(o.Rate) || !plain(o.By) {
				t.Errorf("%+v", o.Override)
			}
			if most := now.Add(2 * MaxOverrideFor); o.keep.After(most) || o.Until.After(most) {
				t.Errorf("it never ends: %v, %v", o.Until, o.keep)
			}
		}
		if i, ok := fl.readInstance(name, value, left); ok && (!plain(i.Host) || !plain(i.Version) || len(i.Notes) > MaxNotes || i.Seen < 0) {
			t.Errorf("%+v", i)
		}
		_, _ = readHead([]string{name, left, keep, order})
	})
}
