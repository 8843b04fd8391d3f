package main

import (
	"strings"
	"testing"
	"time"

	"github.com/regward/regward/fleet"
)

// Several instances on one host are told apart, and one that is heard of no
// more is not said to be well.
func TestStatusTellsInstancesApart(t *testing.T) {
	now := time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)
	st := status{Instances: []fleet.Instance{
		{Host: "vm", Address: "10.0.0.1:443", Config: "aa", Loaded: now, Self: true},
		{Host: "vm", Address: "10.0.0.2:443", Config: "aa", Loaded: now, Seen: 2*fleet.DefaultEvery + time.Second},
		{Host: "other", Address: "10.0.0.3:443", Config: "aa", Loaded: now, Seen: 2 * fleet.DefaultEvery},
	}}
	var b strings.Builder
	st.print(&b, now)
	lines := strings.Split(b.String(), "\n")
	for i, want := range []struct{ begins, ends string }{
		{"3 instances", "3 instances"},
		{"vm 10.0.0.1:443 (asked)  ", "  ok"},
		{"vm 10.0.0.2:443  ", "  last heard 11s ago"},
		{"other  ", "  ok"},
	} {
		if !strings.HasPrefix(lines[i], want.begins) || !strings.HasSuffix(lines[i], want.ends) {
			t.Errorf("line %d is %q, want %q to %q", i, lines[i], want.begins, want.ends)
		}
	}
}

// Bytes are read by people in status and limits show, and are exact in JSON.
func TestBytesOfLimitsAreSizes(t *testing.T) {
	now := time.Now()
	used := usageState{Client: "ip:192.0.2.7", Used: 22_810_220, Size: 20_000_000}
	var b strings.Builder
	(&limitsAnswer{Limits: []limitStatus{{Name: "flow", Count: "bytes", Rate: "20MB/s", Per: "ip", Used: []usageState{used}},
		{Name: "parallel", Count: "transfers", Rate: "2", Per: "user"}}}).print(&b, now)
	(&status{NearEnd: []nearEndStatus{{"flow", "bytes", used}}}).print(&b, now)
	if n := strings.Count(b.String(), "22.8 MB of 20 MB used"); n != 2 {
		t.Errorf("said %d times, want twice:\n%s", n, b.String())
	}
	if !strings.Contains(b.String(), "parallel: 2 transfers at once per user") {
		t.Error(b.String())
	}
}
