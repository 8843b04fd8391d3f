//go:build !linux

package proxy

import "net"

// hungUp does not know: a client that left shows when it is read from.
func hungUp(net.Conn) bool { return false }
