//go:build unix

// Package filelock lets one process at a time hold a file, on every system: in
// tls certificates, in cmd/regward robots and refresh tokens.
package filelock

import (
	"os"
	"syscall"
)

// Try takes the lock on a file. It ends with the file, and with the process;
// false: somebody else has it.
func Try(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK || err == syscall.EINTR {
		return false, nil
	}
	return err == nil, err
}
