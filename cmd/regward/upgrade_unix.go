//go:build unix

package main

import (
	"net"
	"os"
	"syscall"
)

// upgradeSignals ask for an upgrade.
func upgradeSignals() []os.Signal { return []os.Signal{syscall.SIGUSR2} }

// inheritedFile is an open file that whoever started this process left in its
// place. Programs that this one starts do not get it by themselves.
func inheritedFile(fd int, name string) *os.File {
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// copySocket gives a file that is the same socket. Not by its method File: what
// os/exec makes of that one blocks, and so would the Accept of all processes that
// share the socket.
func copySocket(l net.Listener) (*os.File, error) {
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var failed error
	if err := raw.Control(func(own uintptr) {
		syscall.ForkLock.RLock() // else a program started meanwhile would get it
		defer syscall.ForkLock.RUnlock()
		if fd, failed = syscall.Dup(int(own)); failed == nil {
			syscall.CloseOnExec(fd)
		}
	}); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, os.NewSyscallError("dup", failed)
	}
	return os.NewFile(uintptr(fd), l.Addr().String()), nil
}
