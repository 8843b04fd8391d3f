// Package filelock lets one process at a time hold a file, on every system: in
// tls certificates, in cmd/regward robots and refresh tokens.
package filelock

import (
	"os"

	"golang.org/x/sys/windows"
)

// Try takes the lock on a file. It ends with the file, and with the process;
// false: somebody else has it.
func Try(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if err == windows.ERROR_LOCK_VIOLATION {
		return false, nil
	}
	return err == nil, err
}
