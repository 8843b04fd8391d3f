package proxy

import (
	"net"
	"syscall"
)

// hungUp reports whether the other side of a connection has closed it. That may
// lie behind data that nobody has read yet, so a read would not tell. What is
// more than our kernel keeps hides it: then it shows when that has been read.
func hungUp(c net.Conn) bool {
	socket, ok := bare(c).(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	gone := false
	err = raw.Control(func(fd uintptr) { gone = ended(int(fd)) })
	return err == nil && gone
}

// ended asks for the one event that only a poll tells. The package syscall has
// no other poll that knows it.
func ended(fd int) bool {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	defer func() { _ = syscall.Close(poll) }()
	if syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLRDHUP}) != nil {
		return false
	}
	var events [1]syscall.EpollEvent
	n, err := syscall.EpollWait(poll, events[:], 0)
	return err == nil && n > 0
}
