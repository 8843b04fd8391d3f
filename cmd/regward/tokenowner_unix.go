//go:build unix

package main

import (
	"os"
	"syscall"
)

const noFollow = syscall.O_NOFOLLOW

// giveTo makes a file belong to whom another one, or a folder, belongs to: what
// root writes must be read by who serves.
func giveTo(f *os.File, like os.FileInfo) error {
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}
