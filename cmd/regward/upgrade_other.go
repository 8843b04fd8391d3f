//go:build !unix

package main

import (
	"errors"
	"net"
	"os"
)

// upgradeSignals ask for an upgrade: there are none here.
func upgradeSignals() []os.Signal { return nil }

func inheritedFile(fd int, name string) *os.File { return os.NewFile(uintptr(fd), name) }

func copySocket(net.Listener) (*os.File, error) {
	return nil, errors.New("a socket cannot be handed over on this system")
}
