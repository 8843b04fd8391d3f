package main

import "golang.org/x/sys/unix"

// monotonic is the time since boot as systemd counts it, in microseconds.
func monotonic() (usec int64, ok bool) {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0, false
	}
	return t.Nano() / 1000, true
}
