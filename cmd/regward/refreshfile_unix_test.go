//go:build unix

package main

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/regward/regward/auth"
)

// To open a pipe waits until somebody writes into it.
func TestRefreshFileThatIsAPipe(t *testing.T) {
	now := refreshClock()
	path := filepath.Join(t.TempDir(), refreshName)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f := refreshIn(path, &now)
	if _, err := f.Get(t.Context(), auth.HashRefresh("1")); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	if err := f.Add(t.Context(), refreshToken(1, "ann")); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("written: %v", err)
	}
}
