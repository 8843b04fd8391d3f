//go:build unix

package tls

import (
	"os"
	"syscall"
)

// tryLock takes the lock on a file that ends with it, and with the process;
// false: somebody else has it.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK || err == syscall.EINTR {
		return false, nil
	}
	return err == nil, err
}
