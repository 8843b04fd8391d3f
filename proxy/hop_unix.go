//go:build unix

package proxy

import "syscall"

// alive reports whether an idle connection may still be used: nothing waits on
// it, not even its end. A request with a body can go out only once, so it is
// worth a system call to know.
func (c *wireConn) alive() bool {
	if c.socket == nil {
		return true
	}
	quiet := false
	err := c.socket.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && quiet
}
