//go:build !linux

package main

// monotonic is not known: there is no systemd to tell.
func monotonic() (usec int64, ok bool) { return 0, false }
