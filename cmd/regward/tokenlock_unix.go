//go:build unix

package main

import (
	"os"
	"syscall"
)

const noFollow = syscall.O_NOFOLLOW

// tryLock takes the lock on a file that ends with it, and with the process;
// false: somebody else has it.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK || err == syscall.EINTR {
		return false, nil
	}
	return err == nil, err
}

// giveTo makes a file belong to whom another one, or a folder, belongs to: what
// root writes must be read by who serves.
func giveTo(f *os.File, like os.FileInfo) error {
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
