package main

import (
	"os"

	"golang.org/x/sys/windows"
)

const noFollow = 0

// tryLock takes the lock on a file that ends with it, and with the process;
// false: somebody else has it.
func tryLock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if err == windows.ERROR_LOCK_VIOLATION {
		return false, nil
	}
	return err == nil, err
}

// giveTo leaves a file to the folder's inherited rights.
func giveTo(*os.File, os.FileInfo) error { return nil }
